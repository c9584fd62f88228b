//! The finding of a drift check, and its sentence.

use serde::{Deserialize, Serialize};

use crate::judge::numbers::{Numbers, Verdict};
use crate::judge::rule::Finding;
use crate::measure::metric::{Against, Distance};

/// The probability below which a distance is not attributed to chance.
const CHANCE: f64 = 0.001;

/// The distance between the canary's distribution and its reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DriftFinding {
    /// The measure of the distance.
    pub distance: Distance,
    /// The reference: the stable beside the canary, or the stable's past.
    pub against: Against,
    /// The number of answers in the reference.
    pub reference: u64,
    /// The distance that is expected by chance and was subtracted, in the unit of the measure.
    pub chance: f64,
    /// The probability, from 0 to 1, that chance alone gives at least the distance that was seen.
    pub p: f64,
}

impl DriftFinding {
    /// Returns whether the distance is too large for chance.
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
