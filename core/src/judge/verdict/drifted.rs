//! How far two distributions are apart, and the sentence about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Evidence, Verdict};
use crate::measure::metric::{Against, Distance};

/// Chance gives so much more rarely than this.
const CHANCE: f64 = 0.001;

/// How far two distributions are apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DriftFinding {
    /// By which measure.
    pub distance: Distance,
    /// From what.
    pub against: Against,
    /// Answers on that side.
    pub reference: u64,
    /// What was taken off, because chance gives it.
    pub chance: f64,
    /// How often chance gives as much as was seen.
    pub p: f64,
}

impl DriftFinding {
    /// Whether that is more than chance gives.
    pub fn is_more_than_chance(&self) -> bool {
        self.p < CHANCE
    }

    /// The sentence about `evidence`, which this is a part of.
    pub(crate) fn say(&self, evidence: &Evidence, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(subject) = &evidence.subject else { return f.write_str(&evidence.check) };
        let whom = match self.against {
            Against::Stable => "the stable's",
            Against::Past => "the stable's past",
        };
        let (value, limit) = (evidence.unit.show(subject.value), evidence.unit.show(evidence.limit.value()));
        let verdict = match (evidence.verdict, subject.value > evidence.limit.value()) {
            (Verdict::Regressed, _) => "has drifted from",
            (_, true) => "may have drifted from",
            (_, false) => "has not drifted from",
        };
        write!(
            f,
            "{} {verdict} {whom}: {} {value}, limit {limit} ({} requests in {} against {}; {} taken off for chance)",
            evidence.check,
            self.distance,
            subject.n,
            evidence.window,
            self.reference,
            evidence.unit.show(self.chance),
        )
    }
}
