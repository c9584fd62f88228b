//! Whether answers are good: a weighted mean of parts, of each of which somebody can say what it is.

use super::{ByCase, mean, per_case};
use crate::evidence::Measured;
use crate::observation::Scored;
use crate::suite::Gate;

pub(super) fn measure(gate: &Gate, arm: &ByCase<'_>) -> Measured {
    let quality = |answer: &Scored| {
        let parts: Option<Vec<f64>> =
            gate.parts.iter().map(|(name, part)| answer.parts.get(name).map(|score| part.weight * score)).collect();
        parts.map(|parts| parts.iter().sum::<f64>().clamp(0.0, 1.0))
    };
    per_case(arm, |answers| mean(answers.iter().map(|answer| quality(answer))))
}
