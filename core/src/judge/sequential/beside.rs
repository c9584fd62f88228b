//! The stable's recent share of bad requests against the limit: while the stable breaks the limit too, the limit says
//! nothing about the canary, and the comparison alone decides. Without a stable beside it, a version is held against the
//! share of the version before, if that one broke the limit.

use serde::{Deserialize, Serialize};

use crate::measure::calibration::{History, PAST};
use crate::stats::slo::Ceiling;
use crate::stats::tally::{Phi, Tally, Worth};
use crate::time::Span;

/// The age at which a request of the stable counts half.
const HALF_LIFE: Span = Span::from_secs(300);
/// The squared deviation from which the stable's shares of two blocks differ, in squared standard deviations: one in a thousand
/// pairs of equal shares does.
const JUMP: f64 = 10.83;

/// The stable's recent counts, and whether they are shown to be above the limit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct StableLimit {
    /// The counts, weighted by their age and divided by φ.
    #[serde(flatten)]
    recent: Worth,
    /// The share of bad requests among them, 0 to 1, if it is shown to be above the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broken: Option<f64>,
    /// The counts of the history, divided by φ; `None` from the first block on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Worth>,
    /// Whether the stable is known to have kept the limit before the first block.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    kept: bool,
    /// The bad requests and all requests of the last block, without the pod that had most bad ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<(u64, u64)>,
}

impl StableLimit {
    /// Returns the state after the history before the rollout.
    pub(super) fn after(history: &History) -> StableLimit {
        let mut before = Worth::default();
        if let Some(tally) = history.counts.tally() {
            before.absorb(tally, history.dispersion.phi());
        }
        let mut recent = before;
        // As much of the evenly weighted history as the half-life leaves of requests that go on for ever.
        recent.fade(HALF_LIFE.as_secs_f64() / core::f64::consts::LN_2 / PAST.as_secs_f64());
        StableLimit { recent, broken: None, before: Some(before), kept: false, last: None }
    }

    /// Notes once, before the first block, whether the stable kept the limit `allowed` in its history: its requests are not shown to
    /// break it at the error rate `level`.
    pub(super) fn begin(&mut self, allowed: f64, level: f64) {
        if let (Some(before), Ok(ceiling)) = (self.before.take(), Ceiling::new(allowed)) {
            self.kept = before.n() > 0.0 && ceiling.ln_violation(before) < -libm::log(level);
        }
    }

    /// Returns whether the stable's share of bad requests has jumped since the block before, up or down. An incident begins or ends
    /// then. Each pod is scraped at its own time, so it falls into different parts of both arms' blocks. The requests before a
    /// jump don't count as recent. A burst of errors in one pod is no incident, so the pod with most bad
    /// requests is left out of `pods`; without pods all requests (`tally`) count.
    pub(super) fn jumps(&mut self, pods: &[Tally], tally: Tally, phi: Phi) -> bool {
        let tally = without_worst(pods).unwrap_or(tally);
        let last = self.last.replace((tally.hits() as u64, tally.n() as u64));
        let last = last.map(|(hits, n)| (hits as f64, n as f64));
        let Some((hits, n)) = last.filter(|(_, n)| *n > 0.0 && tally.n() > 0.0) else { return false };
        let share = (hits + tally.hits()) / (n + tally.n());
        let variance = phi.value() * share * (1.0 - share) * (1.0 / n + 1.0 / tally.n());
        let fall = hits / n - tally.hits() / tally.n();
        let jumps = fall * fall > JUMP * variance;
        if jumps {
            self.recent = Worth::default();
        }
        jumps
    }

    /// Adds the stable's counts of a block that is `length` long, and tests them against the limit at the error rate
    /// `level`. Without requests the earlier ones stay as recent as they are.
    pub(super) fn absorb(&mut self, length: Span, tally: Tally, phi: Phi, ceiling: &Ceiling, level: f64) {
        if tally.n() == 0.0 {
            return;
        }
        self.recent.fade(libm::exp2(-length.as_secs_f64() / HALF_LIFE.as_secs_f64()));
        self.recent.absorb(tally, phi);
        self.broken = self.test(ceiling, level);
    }

    /// Returns the stable's recent share if it is shown to be above the limit.
    pub(super) fn broken(&self) -> Option<f64> {
        self.broken
    }

    /// Whether the stable breaks a limit that it kept before the rollout: an incident is going on.
    pub(super) fn is_incident(&self) -> bool {
        self.broken.is_some() && self.kept
    }

    /// Returns the share of the counts so far if it is shown to be above the limit at the error rate `level`.
    pub(super) fn test(&self, ceiling: &Ceiling, level: f64) -> Option<f64> {
        (ceiling.ln_violation(self.recent) >= -libm::log(level)).then(|| self.recent.hits() / self.recent.n())
    }
}

/// Returns the sum of all pods but the one with most bad requests; `None` for fewer than two pods.
fn without_worst(pods: &[Tally]) -> Option<Tally> {
    let worst = pods.iter().enumerate().max_by(|(_, one), (_, other)| one.hits().total_cmp(&other.hits()))?.0;
    let others = pods.iter().enumerate().filter(|(place, _)| *place != worst).map(|(_, pod)| *pod);
    others.reduce(Tally::plus)
}
