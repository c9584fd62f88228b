//! The quality gate: whether answers are good, as a weighted mean of the parts that the suite names.

use super::cases::{ByCase, mean, per_case};
use crate::evidence::Measured;
use crate::observation::Scored;
use crate::suite::Gate;

/// Measures the mean quality of each case's answers, from 0 to 1.
pub(super) fn measure(gate: &Gate, arm: &ByCase<'_>) -> Measured {
    let quality = |answer: &Scored| {
        let parts: Option<Vec<f64>> =
            gate.parts.iter().map(|(name, part)| answer.parts.get(name).map(|score| part.weight * score)).collect();
        parts.map(|parts| parts.iter().sum::<f64>().clamp(0.0, 1.0))
    };
    per_case(arm, |answers| mean(answers.iter().map(|answer| quality(answer))))
}
