//! The reward of an A/B test: which of two versions gets more of what is wanted, or that nobody can tell.
//!
//! Two claims are weighed at every block, each at half of the test's level: that the canary's share of rewarded requests is
//! above the stable's, and that it is below. Both are held against their nearest null with equal shares
//! ([`Null::Ratio`]), which is exact for requests of any share and valid at every look; so a winner may be declared as soon as
//! there is one. Rewards of one user come together: how they cluster is learnt from the stable's pods like that of errors,
//! and divides the evidence.
//!
//! A test without a winner at its end is a draw. That is a result and not a failure: the policy says who stays.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::judge::sequential::odds;
use crate::measure::block::{Block, Reading};
use crate::measure::calibration::History;
use crate::measure::metric::Unit;
use crate::measure::window::{Arm, reading};
use crate::policy::Ab;
use crate::stats::dispersion::Dispersion;
use crate::stats::mixture::Onset;
use crate::stats::tally::{Pair, Tally};
use crate::stats::two_sample::{Effects, EffectsState, Null};

/// The odds of a reward may be so many times the other version's. Rewards differ by less than errors do.
const LIFTS: [f64; 8] = [1.02, 1.05, 1.1, 1.2, 1.35, 1.6, 2.0, 3.0];

/// What has been seen of an A/B test.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reward {
    canary: RewardCounts,
    stable: RewardCounts,
    above: EffectsState,
    below: EffectsState,
    dispersion: Dispersion,
}

/// Requests of one arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RewardCounts {
    /// Rewarded.
    pub hits: u64,
    /// All of them.
    pub n: u64,
}

/// Who is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leader {
    /// The canary has won.
    Canary,
    /// The stable has.
    Stable,
    /// Nobody has, yet.
    Nobody,
}

/// How a test stands: what its reasons rest on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Score {
    /// The metric.
    pub reward: String,
    /// Who is ahead.
    pub ahead: Leader,
    /// The canary's requests.
    pub canary: RewardCounts,
    /// The stable's.
    pub stable: RewardCounts,
    /// How much there is, in nats, for the canary …
    pub for_canary: f64,
    /// … and for the stable.
    pub for_stable: f64,
    /// The test's error rate, both ways together.
    pub level: f64,
    /// Whether it is known how rewards cluster.
    pub calibrated: bool,
}

impl Reward {
    /// Before the first block, with what the past has taught.
    pub fn new(past: &History) -> Reward {
        Reward { dispersion: past.dispersion, ..Reward::default() }
    }

    /// Takes a block in; what is not counted in both arms says nothing.
    pub fn absorb(&mut self, block: &Block, metric: &str) {
        let Some(sample) = block.metrics.get(metric) else { return };
        let of = |side| reading(sample, side).and_then(seen);
        let (Some(canary), Some(stable)) = (of(Arm::Canary), of(Arm::Stable)) else { return };
        let (Some(canary_tally), Some(stable_tally)) = (canary.tally(), stable.tally()) else { return };
        let (phi, Some(lift)) = (self.dispersion.phi(), lift()) else { return };
        let forth = Pair { canary: canary_tally, stable: stable_tally };
        let back = Pair { canary: stable_tally, stable: canary_tally };
        // Neither can fail: the counts are counts, and the states are this test's own.
        let _ = lift.absorb(&mut self.above, forth, phi);
        let _ = lift.absorb(&mut self.below, back, phi);
        self.canary.add(canary);
        self.stable.add(stable);
        let pods = block.processes.get(metric).into_iter().flatten();
        self.dispersion.absorb(&pods.filter_map(|pod| seen(pod)?.tally()).collect::<Vec<_>>());
    }

    /// How it stands by the rules of `test`.
    pub fn score(&self, test: &Ab) -> Score {
        let lift = lift();
        let ln_e = |state| lift.as_ref().map_or(0.0, |lift| lift.ln_e(state));
        let (above, below) = (ln_e(&self.above), ln_e(&self.below));
        let (for_canary, for_stable) = if test.less { (below, above) } else { (above, below) };
        let needed = -libm::log(test.level / 2.0);
        let ahead = if for_canary >= needed {
            Leader::Canary
        } else if for_stable >= needed {
            Leader::Stable
        } else {
            Leader::Nobody
        };
        Score {
            reward: test.reward.clone(),
            ahead,
            canary: self.canary,
            stable: self.stable,
            for_canary,
            for_stable,
            level: test.level,
            calibrated: self.dispersion.phi().calibrated,
        }
    }
}

/// One arm above the other, by any lift.
fn lift() -> Option<Effects> {
    Effects::among(Null::Ratio(1.0), Onset::First, &LIFTS).ok()
}

fn seen(reading: &Reading) -> Option<RewardCounts> {
    match reading {
        Reading::Ratio { hits, total } => Some(RewardCounts { hits: *hits, n: *total }),
        Reading::Histogram { .. } | Reading::Count(_) | Reading::Value(_) => None,
    }
}

impl RewardCounts {
    fn tally(self) -> Option<Tally> {
        Tally::of(self.hits, self.n).ok()
    }

    fn add(&mut self, other: RewardCounts) {
        self.hits = self.hits.saturating_add(other.hits);
        self.n = self.n.saturating_add(other.n);
    }

    fn share(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.hits as f64 / self.n as f64 }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |seen: RewardCounts| Unit::Percent.show(seen.share());
        let doubt = if self.calibrated { "" } else { ", not calibrated" };
        write!(
            f,
            "{} {} against the stable's {} ({} of {} requests against {} of {}; evidence {} for it and {} for the stable, \
             needs {:.0} at {}{doubt})",
            self.reward,
            share(self.canary),
            share(self.stable),
            self.canary.hits,
            self.canary.n,
            self.stable.hits,
            self.stable.n,
            odds(self.for_canary),
            odds(self.for_stable),
            2.0 / self.level,
            Unit::Percent.show(self.level),
        )
    }
}
