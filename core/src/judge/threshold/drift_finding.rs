//! How far two distributions are apart, and the sentence about it.

use serde::{Deserialize, Serialize};

use crate::judge::numbers::{Numbers, Verdict};
use crate::judge::rule::Finding;
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
}

impl Finding for DriftFinding {
    fn sentence(&self, numbers: &Numbers) -> Option<String> {
        let subject = numbers.subject.as_ref().filter(|_| numbers.verdict != Verdict::Blind)?;
        if subject.n.min(self.reference) < numbers.need {
            return None;
        }
        let reference = match self.against {
            Against::Stable => "the stable's",
            Against::Past => "the stable's past",
        };
        let (value, limit) = (numbers.unit.show(subject.value), numbers.unit.show(numbers.limit.value()));
        let verdict = match (numbers.verdict, subject.value > numbers.limit.value()) {
            (Verdict::Regressed, _) => "has drifted from",
            (_, true) => "may have drifted from",
            (_, false) => "has not drifted from",
        };
        Some(format!(
            "{} {verdict} {reference}: {} {value}, limit {limit} ({} requests in {} against {}; {} taken off for chance)",
            numbers.check,
            self.distance,
            subject.n,
            numbers.window,
            self.reference,
            numbers.unit.show(self.chance),
        ))
    }
}
