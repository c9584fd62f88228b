//! Whether the model says the same when it is asked the same, at the sampling that it has in production. (At temperature 0 most
//! servers do not repeat themselves either: what is computed together changes the last digits.)

use super::{ByCase, mean, per_case};
use crate::evidence::Measured;
use crate::observation::Scored;
use crate::score::cosine;
use crate::suite::Gate;

pub(super) fn measure(gate: &Gate, metric: &str, arm: &ByCase<'_>) -> Measured {
    let same = |a: &Scored, b: &Scored| Some(f64::from(u8::from(a.fingerprint == b.fingerprint)));
    per_case(arm, |answers| match metric {
        "mode-share" => Some(mode_share(answers)),
        "agreement" => pairs(answers, same),
        "semantic" => pairs(answers, |a, b| {
            // The same words mean the same, whatever the vectors' last digits say.
            let near = a.fingerprint == b.fingerprint || cosine(&a.vector, &b.vector)? >= gate.same_meaning;
            Some(f64::from(u8::from(near)))
        }),
        "pass-k" => {
            let right: Option<Vec<bool>> = answers.iter().map(|answer| answer.right).collect();
            right.map(|right| f64::from(u8::from(right.iter().all(|right| *right))))
        }
        _ => pairs(answers, same).map(libm::floor),
    })
}

/// The share of the most frequent answer.
fn mode_share(answers: &[&Scored]) -> f64 {
    let count = |one: &&Scored| answers.iter().filter(|other| other.fingerprint == one.fingerprint).count();
    answers.iter().map(count).max().unwrap_or(0) as f64 / answers.len().max(1) as f64
}

/// The share of pairs of which `alike` holds: what two more answers would do, whatever the number of repeats.
fn pairs(answers: &[&Scored], alike: impl Fn(&Scored, &Scored) -> Option<f64>) -> Option<f64> {
    let pairs =
        answers.iter().enumerate().flat_map(|(at, one)| answers[at + 1..].iter().map(move |other| (one, other)));
    mean(pairs.map(|(one, other)| alike(one, other)))
}
