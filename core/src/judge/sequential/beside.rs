//! The stable's recent share of bad requests against the limit: while the stable breaks the limit too, the limit says
//! nothing about the canary, and the comparison alone decides. Without a stable beside it, a version is held against the
//! share of the version before, if that one broke the limit.

use serde::{Deserialize, Serialize};

use crate::measure::calibration::History;
use crate::stats::slo::Ceiling;
use crate::stats::tally::{Phi, Tally, Worth};
use crate::time::Span;

/// The age at which a request of the stable counts half.
const HALF_LIFE: Span = Span::from_secs(300);
/// The part of the evenly weighted twenty minutes of a history that is as recent.
const OF_HISTORY: f64 = 0.36;

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
}

impl StableLimit {
    /// Returns the state after the history before the rollout.
    pub(super) fn after(history: &History) -> StableLimit {
        let mut recent = Worth::default();
        if let Some(tally) = history.counts.tally() {
            recent.absorb(tally, history.dispersion.phi());
            recent.fade(OF_HISTORY);
        }
        StableLimit { recent, broken: None }
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

    /// Returns the share of the counts so far if it is shown to be above the limit at the error rate `level`.
    pub(super) fn test(&self, ceiling: &Ceiling, level: f64) -> Option<f64> {
        (ceiling.ln_violation(self.recent) >= -libm::log(level)).then(|| self.recent.hits() / self.recent.n())
    }
}
