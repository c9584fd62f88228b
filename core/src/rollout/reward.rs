//! The judge of an A/B test: it decides which version has the higher share of rewarded requests, if there is evidence
//! for one.
//!
//! Two claims are tested after every block, each at half of the test's level: the canary's share of rewarded requests
//! is above the stable's, and it is below. Each is tested against the nearest null with equal shares ([`Null::Ratio`]),
//! which is exact for any share and valid at every look, so a winner can be declared as soon as there is one. The
//! rewards of one pod are clustered; their dispersion is learned from the stable's pods, as for errors, and the
//! evidence is divided by it.
//!
//! The unit of a test is the user, who stays with one version. The rewards of one user's `m` requests are alike, which the pods
//! don't show, because a user's requests go to all of them. With an intraclass correlation `ρ` they carry the evidence of
//! `m / (1 + (m - 1) ρ)` independent ones (the design effect of equal clusters: Kish 1965, "Survey Sampling", §5.4). The policy
//! states that factor ([`AbTest::design_effect`]). Pods and users add to the variance independently, so the evidence is divided
//! by one and the sum of what both exceed 1. A reward that counts users, each once, needs no such factor.
//!
//! A test without a winner at its end is a draw, and the policy decides which version stays. A draw is not a failure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::judge::sequential::odds;
use crate::measure::block::{Block, Reading};
use crate::measure::calibration::History;
use crate::measure::metric::Unit;
use crate::measure::window::{Arm, reading};
use crate::policy::AbTest;
use crate::stats::dispersion::Dispersion;
use crate::stats::mixture::Onset;
use crate::stats::tally::{Pair, Tally};
use crate::stats::two_sample::{Effects, EffectsState, Null};

/// The alternatives of the test: the ratios of one version's odds of a reward to the other's. They are closer to 1 than
/// those of errors, because rewards differ less.
const LIFTS: [f64; 8] = [1.02, 1.05, 1.1, 1.2, 1.35, 1.6, 2.0, 3.0];

/// The evidence of an A/B test so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reward {
    canary: RewardCounts,
    stable: RewardCounts,
    /// The test of the claim that the canary's share is above the stable's.
    above: EffectsState,
    /// The test of the claim that the canary's share is below the stable's.
    below: EffectsState,
    dispersion: Dispersion,
}

/// The counts of one arm in an A/B test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RewardCounts {
    /// The number of rewarded requests, at most `n`.
    pub hits: u64,
    /// The number of all requests.
    pub n: u64,
}

/// The winner of an A/B test, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leader {
    /// The canary has won.
    Canary,
    /// The stable has won.
    Stable,
    /// Neither version has won yet.
    None,
}

/// The score of an A/B test, as evidence for its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Score {
    /// The name of the rewarded metric.
    pub reward: String,
    /// The winner, if there is one.
    pub ahead: Leader,
    /// The canary's counts.
    pub canary: RewardCounts,
    /// The stable's counts.
    pub stable: RewardCounts,
    /// The evidence that the canary is better, as the logarithm of an e-value, in nats.
    pub for_canary: f64,
    /// The evidence that the stable is better, in nats.
    pub for_stable: f64,
    /// The test's error rate for both claims together, above 0 and below 0.5.
    pub level: f64,
    /// Whether the dispersion of rewards was learned from the stable's pods.
    pub calibrated: bool,
    /// The design effect that the policy states, at least 1; `None` if it states none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design_effect: Option<f64>,
}

impl Reward {
    /// Returns the evidence before the first block, with the dispersion of the rewards in `history`.
    pub fn new(history: &History) -> Reward {
        Reward { dispersion: history.dispersion, ..Reward::default() }
    }

    /// Adds a block. It has no effect if the rewarded metric is not counted in both arms.
    pub fn absorb(&mut self, block: &Block, test: &AbTest) {
        let Some(sample) = block.metrics.get(&test.reward) else { return };
        let counts_of = |side| reading(sample, side).and_then(reward_counts);
        let (Some(canary), Some(stable)) = (counts_of(Arm::Canary), counts_of(Arm::Stable)) else { return };
        let (Some(canary_tally), Some(stable_tally)) = (canary.tally(), stable.tally()) else { return };
        let (phi, Some(lift)) = (self.dispersion.phi(), lift_test()) else { return };
        let phi = phi.with_design_effect(test.design_effect.unwrap_or(1.0));
        let pair = Pair { canary: canary_tally, stable: stable_tally };
        let swapped = Pair { canary: stable_tally, stable: canary_tally };
        // Neither call can fail, because the tallies are valid and the states belong to this test.
        let _ = lift.absorb(&mut self.above, pair, phi);
        let _ = lift.absorb(&mut self.below, swapped, phi);
        self.canary.add(canary);
        self.stable.add(stable);
        let pods = block.processes.get(&test.reward).into_iter().flatten();
        self.dispersion.absorb(&pods.filter_map(|pod| reward_counts(pod)?.tally()).collect::<Vec<_>>());
    }

    /// Returns the score by the rules of `test`.
    pub fn score(&self, test: &AbTest) -> Score {
        let lift = lift_test();
        let ln_e = |state| lift.as_ref().map_or(0.0, |lift| lift.ln_e(state));
        let (above, below) = (ln_e(&self.above), ln_e(&self.below));
        let (for_canary, for_stable) = if test.less { (below, above) } else { (above, below) };
        let needed = -libm::log(test.level / 2.0);
        let ahead = if for_canary >= needed {
            Leader::Canary
        } else if for_stable >= needed {
            Leader::Stable
        } else {
            Leader::None
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
            design_effect: test.design_effect,
        }
    }
}

/// Returns the test of the claim that the first arm's share is above the second's by one of [`LIFTS`].
fn lift_test() -> Option<Effects> {
    Effects::among(Null::Ratio(1.0), Onset::First, &LIFTS).ok()
}

/// Returns the counts of a ratio; `None` for other readings.
fn reward_counts(reading: &Reading) -> Option<RewardCounts> {
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
        let share = |counts: RewardCounts| Unit::Percent.show(counts.share());
        let mut note = if self.calibrated { "" } else { ", not calibrated" }.to_owned();
        self.design_effect.iter().for_each(|effect| note.push_str(&format!(", design effect {effect}")));
        write!(
            f,
            "{} {} against the stable's {} ({} of {} requests against {} of {}; evidence {} for it and {} for the stable, \
             needs {:.0} at {}{note})",
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
