//! The versions of a world: their behaviour is the truth that the oracle knows.

use bellwether_core::dice::Random;
use bellwether_core::ids::{Images, TemplateHash};
use bellwether_core::rollout::phase::Phase;

use super::agenda::Ms;
use super::row::Row;
use crate::model::template_of;

/// The error rate of a healthy version.
pub(super) const ERRORS: f64 = 0.002;
/// The share of requests of a healthy version that take longer than the limit, without load.
pub(super) const SLOW: f64 = 0.008;

/// The way in which a version is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Three times the stable's errors: beyond the floor, within the limit.
    Errors,
    /// Five times the stable's slow requests, within the limit.
    Slow,
    /// Each process answers its first 100 requests and no other; readiness and metrics go on.
    Deadlock,
    /// Each process ends after about five minutes.
    Crashes,
    /// No request is answered.
    BlackHole,
    /// All pods become unready when the canary has half of the traffic.
    Unready,
    /// Every request fails, from a moment after the start.
    Broken,
}

impl Fault {
    /// All faults, those of every row first.
    pub const ALL: [Fault; 7] =
        [Fault::Errors, Fault::Slow, Fault::Deadlock, Fault::Crashes, Fault::BlackHole, Fault::Unready, Fault::Broken];
    /// The number of faults, the first of [`Fault::ALL`], that a candidate has by itself in every row.
    pub(super) const COMMON: usize = 6;

    /// Returns the fault's name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Errors => "3x errors",
            Fault::Slow => "5x slow",
            Fault::Deadlock => "deadlock",
            Fault::Crashes => "crashes",
            Fault::BlackHole => "black hole",
            Fault::Unready => "unready at 50 %",
            Fault::Broken => "broken later",
        }
    }
}

/// A version of the workload.
#[derive(Debug, Clone)]
pub(super) struct Version {
    /// The image's tag.
    pub tag: &'static str,
    /// The share of requests that fail.
    pub errors: f64,
    /// The share of requests that take longer than the limit, without load.
    pub slow: f64,
    /// The fault; `None` for a good version.
    pub fault: Option<Fault>,
    /// The time from which the fault shows.
    pub bad_from: Ms,
}

impl Version {
    /// Returns a healthy version.
    pub(super) fn healthy(tag: &'static str) -> Version {
        Version { tag, errors: ERRORS, slow: SLOW, fault: None, bad_from: Ms::MIN }
    }

    /// Returns this version with a fault.
    pub(super) fn with(self, fault: Fault) -> Version {
        Version { fault: Some(fault), ..self }
    }

    /// Returns whether the version has a fault that shows at a time.
    pub(super) fn shows(&self, fault: Fault, now: Ms) -> bool {
        self.fault == Some(fault) && now >= self.bad_from
    }

    /// Returns the share of requests that fail at a time.
    pub(super) fn errors_at(&self, now: Ms) -> f64 {
        if self.shows(Fault::Broken, now) {
            return 1.0;
        }
        if self.shows(Fault::Errors, now) { self.errors * 3.0 } else { self.errors }
    }

    /// Returns the share of requests that are slow at a time, without load.
    pub(super) fn slow_at(&self, now: Ms) -> f64 {
        if self.shows(Fault::Slow, now) { self.slow * 5.0 } else { self.slow }
    }

    /// Returns the images as the request names them.
    pub(super) fn requested(&self) -> Images {
        Images::from_iter([("app".to_owned(), format!("registry.test/shop/web:{}", self.tag))])
    }

    /// Returns the images as the API server keeps them: admission may add a digest.
    pub(super) fn admitted(&self, digests: bool) -> Images {
        let mut images = self.requested();
        if digests {
            let digit = self.tag.bytes().last().map_or(0, |byte| byte % 10);
            images
                .iter_mut()
                .for_each(|(_, image)| image.push_str(&format!("@sha256:{}", digit.to_string().repeat(64))));
        }
        images
    }

    /// Returns the hash of its template.
    pub(super) fn template(&self, digests: bool) -> TemplateHash {
        template_of(&self.admitted(digests))
    }
}

/// Returns the versions of a row, and the phase at whose entry the candidate's fault begins to show.
pub(super) fn versions(row: Row, good: bool, dice: &mut Random) -> (Vec<Version>, Option<Phase>) {
    let (mut stable, mut candidate) = (Version::healthy("v1"), Version::healthy("v2"));
    if row == Row::BrokenStable {
        stable.errors = 0.05;
        candidate.errors = if good { 0.015 } else { 0.05 };
    }
    if row == Row::Hotfix {
        stable.errors = 0.1;
    }
    let mut late_from = None;
    if !good {
        let fault = Fault::ALL[dice.below(Fault::COMMON)];
        let killed = matches!(row, Row::DaemonAway | Row::DaemonAwayPromoting) && dice.below(2) == 0;
        let fault = if row == Row::BrokenStable {
            Fault::Errors
        } else if row == Row::Hotfix || killed {
            Fault::Broken
        } else {
            fault
        };
        if row == Row::Hotfix {
            late_from = Some(Phase::Guarding);
        }
        candidate = candidate.with(fault);
        if late_from.is_some() || fault == Fault::Broken {
            candidate.bad_from = Ms::MAX;
        }
    }
    (vec![stable, candidate, Version::healthy("v3")], late_from)
}
