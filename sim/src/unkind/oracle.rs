//! The oracle: the end of a rollout, held against the truth.

use bellwether_core::ids::Weight;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;

use super::agenda::{MINUTE, Ms};
use super::gateway::Manners;
use super::row::Row;
use super::version::Fault;
use super::world::{World, workload};

/// The sums of a rollout.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ledger {
    /// The requests that failed or were not answered, beyond those that fail anyway.
    pub extra_failed: f64,
    /// The requests that reached no pod, because the version that they were sent to had no ready one.
    pub unserved: f64,
    /// The seconds in which the canary had traffic and no ready pod, from 2 s after the watch told, while the daemon
    /// could act.
    pub unready_secs: f64,
    /// The seconds in which the canary had traffic and answered none of it, while the daemon could count and act.
    pub unanswered_secs: f64,
    /// Whether the weight rose, or the version was promoted, on a verdict whose newest block was stale.
    pub rose_stale: bool,
}

/// The end of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It was promoted.
    Promoted,
    /// It was rolled back.
    RolledBack,
    /// It was given up.
    GivenUp,
    /// It ended in another way.
    Other,
    /// It had not ended within the horizon.
    Unended,
}

/// The outcome of one rollout.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The row of its world.
    pub row: Row,
    /// Whether its version was good.
    pub good: bool,
    /// The seed of its world.
    pub seed: u64,
    /// The version's fault.
    pub fault: Option<Fault>,
    /// The end of the rollout.
    pub end: End,
    /// Whether the version is quarantined.
    pub quarantined: bool,
    /// Whether a promotion is possible in its world: the canary gets traffic, and the stable keeps pods during it.
    pub feasible: bool,
    /// Whether the version was ever written into the stable.
    pub reached_stable: bool,
    /// Whether the version still has traffic.
    pub serves: bool,
    /// Whether the stable runs neither the version nor the one that ran before.
    pub misplaced: bool,
    /// The requests that failed or were not answered, beyond those that fail anyway.
    pub extra_failed: f64,
    /// The requests that reached no pod.
    pub unserved: f64,
    /// The seconds in which the canary had traffic and no ready pod although the daemon was told and could act.
    pub unready_secs: f64,
    /// The seconds in which the canary had traffic and answered none of it, while the daemon could count and act.
    pub unanswered_secs: f64,
    /// Whether the weight rose, or the version was promoted, on a verdict whose newest block was stale.
    pub rose_stale: bool,
    /// The minutes from the request to the end, or to the horizon.
    pub minutes: f64,
    /// The reason of the last decision that led to the end.
    pub why: String,
}

impl Outcome {
    /// Returns whether the outcome is right: a good version is promoted, or given up or refused without blame where a
    /// promotion is not possible; a bad one is not promoted and has no traffic.
    pub fn is_right(&self) -> bool {
        let is_undecided = !self.feasible && !self.is_blamed();
        let is_decided = if self.good { self.end == End::Promoted || is_undecided } else { !self.serves };
        is_decided && self.end != End::Unended && !self.misplaced
    }

    /// Returns whether the version is good and was blamed.
    pub fn is_blamed(&self) -> bool {
        self.good && (self.end == End::RolledBack || self.quarantined)
    }
}

impl World {
    /// Returns the outcome.
    pub(super) fn outcome(&self) -> Outcome {
        let state = self.engine.state(&workload());
        let rollout = state.and_then(|state| state.rollout.as_ref());
        let end = match rollout.and_then(|rollout| rollout.ending()) {
            Some(Ending::Promoted) => End::Promoted,
            Some(Ending::RolledBack) => End::RolledBack,
            Some(Ending::GivenUp) => End::GivenUp,
            Some(Ending::Aborted | Ending::Superseded | Ending::Refused | Ending::Unchanged) => End::Other,
            None => End::Unended,
        };
        let conclusion = rollout.and_then(|rollout| rollout.conclusion.as_ref());
        let why = match conclusion {
            Some(conclusion) => conclusion.reason.to_string(),
            None => rollout.map_or_else(String::new, |rollout| format!("{}: {}", rollout.phase(), rollout.reason)),
        };
        let written = self.gateway.written.unwrap_or(Weight::ZERO);
        let is_routed = self.canary.is_some() && (self.gateway.share > 0.0 || written > Weight::ZERO);
        Outcome {
            row: self.row,
            good: self.good,
            seed: self.seed,
            fault: self.versions[1].fault,
            end,
            quarantined: state.is_some_and(|state| !state.quarantine.is_empty()),
            feasible: self.setting.manners != Manners::Lying(None) && !self.setting.rollover.recreates,
            reached_stable: self.entries.contains(&Phase::Promoting),
            serves: self.stable.version == 1 || is_routed,
            misplaced: self.stable.version != 1 && self.stable.version != self.before,
            extra_failed: self.ledger.extra_failed,
            unserved: self.ledger.unserved,
            unready_secs: self.ledger.unready_secs,
            unanswered_secs: self.ledger.unanswered_secs,
            rose_stale: self.ledger.rose_stale,
            minutes: self.ended.unwrap_or(self.now) as f64 / MINUTE as f64,
            why,
        }
    }

    /// Returns the story so far.
    pub(super) fn story(&mut self) -> Vec<String> {
        self.log.take().unwrap_or_default()
    }

    /// Adds a line to the story, if there is one.
    pub(super) fn tell_story(&mut self, line: impl FnOnce(&World) -> String) {
        if self.log.is_some() {
            let line = format!("{} {}", clock(self.now), line(self));
            self.log.iter_mut().for_each(|log| log.push(line.clone()));
        }
    }
}

/// Returns a time as minutes and seconds after the request.
fn clock(at: Ms) -> String {
    let sign = if at < 0 { "-" } else { "" };
    format!("{sign}{:>3}:{:02}", at.abs() / MINUTE, at.abs() / 1000 % 60)
}
