//! The consistency gate: whether the model gives the same answer when it is asked the same question several times, with
//! the sampling parameters of production. (Also at temperature 0 most servers do not give identical answers, because
//! batching changes the rounding of their arithmetic.)

use super::cases::{ByCase, mean, one_if, per_case};
use crate::evidence::Measured;
use crate::observation::Scored;
use crate::score::cosine;
use crate::suite::Gate;

/// Measures a metric of this kind for each case.
pub(super) fn measure(gate: &Gate, metric: &str, arm: &ByCase<'_>) -> Measured {
    let identical = |a: &Scored, b: &Scored| Some(one_if(a.fingerprint == b.fingerprint));
    per_case(arm, |answers| match metric {
        "mode-share" => Some(mode_share(answers)),
        "agreement" => mean_over_pairs(answers, identical),
        "semantic" => mean_over_pairs(answers, |a, b| {
            // Identical answers mean the same, even if their vectors differ by rounding.
            let same_meaning = a.fingerprint == b.fingerprint || cosine(&a.vector, &b.vector)? >= gate.same_meaning;
            Some(one_if(same_meaning))
        }),
        "pass-k" => {
            let right: Option<Vec<bool>> = answers.iter().map(|answer| answer.right).collect();
            right.map(|right| one_if(right.iter().all(|right| *right)))
        }
        // `identical`: 1 only if all pairs are.
        _ => mean_over_pairs(answers, identical).map(libm::floor),
    })
}

/// Returns the share of the most frequent answer.
fn mode_share(answers: &[&Scored]) -> f64 {
    let count = |one: &&Scored| answers.iter().filter(|other| other.fingerprint == one.fingerprint).count();
    answers.iter().map(count).max().unwrap_or(0) as f64 / answers.len().max(1) as f64
}

/// Returns the mean of `similarity` over all pairs of answers. It estimates the similarity of two further answers, so
/// it does not depend on the number of repeats.
fn mean_over_pairs(answers: &[&Scored], similarity: impl Fn(&Scored, &Scored) -> Option<f64>) -> Option<f64> {
    let pairs =
        answers.iter().enumerate().flat_map(|(index, one)| answers[index + 1..].iter().map(move |other| (one, other)));
    mean(pairs.map(|(one, other)| similarity(one, other)))
}
