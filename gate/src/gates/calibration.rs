//! Whether the model is as often right as it says.
//!
//! The gate is the Brier score, which is proper: no model betters it by saying anything but what it believes. The calibration
//! error explains it. It is not a gate because of what chance does to it: of a *perfect* model 200 answers in ten bins show
//! an error of 0.05. So bins are of equal size, what chance alone would give is taken off (Bröcker 2012; Ferro and Fricker
//! 2012), and the diagram shows each bin with its interval.

use bellwether_core::dice::Random;
use bellwether_core::stats::confidence::wilson;

use super::{ByCase, mean, per_case};
use crate::evidence::Measured;
use crate::metric::Kind;
use crate::observation::Scored;
use crate::report::{Bin, Reliability};
use crate::suite::Gate;

/// The usual number of bins.
const BINS: usize = 10;

/// So many resamples for the interval of an explanation.
const RESAMPLES: usize = 200;

pub(super) fn measure(metric: &str, arm: &ByCase<'_>) -> Measured {
    let brier = |scored: &Scored| {
        let (confidence, right) = said(scored)?;
        let off = confidence - f64::from(u8::from(right));
        Some(off * off)
    };
    per_case(arm, |answers| match metric {
        "brier" => mean(answers.iter().map(|answer| brier(answer))),
        _ => mean(answers.iter().map(|answer| answer.right.map(|right| f64::from(u8::from(right))))).map(libm::floor),
    })
}

fn said(scored: &Scored) -> Option<(f64, bool)> {
    scored.confidence.zip(scored.right)
}

pub(super) fn reliability(gate: &Gate, arm: &ByCase<'_>, seed: u64) -> Option<Reliability> {
    if gate.kind != Kind::Calibration {
        return None;
    }
    let answers = arm.values().flatten().filter_map(|observation| observation.scored()).filter_map(said);
    Reliability::of(answers.collect(), seed)
}

impl Reliability {
    /// Of confidences and whether each was right; `None`: of nothing.
    pub fn of(mut answers: Vec<(f64, bool)>, seed: u64) -> Option<Reliability> {
        if answers.is_empty() {
            return None;
        }
        answers.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let bins = bins(&answers);
        let ece = error(&answers, &bins);
        let squares = answers.iter().map(|(confidence, right)| {
            let off = confidence - f64::from(u8::from(*right));
            off * off
        });
        Some(Reliability {
            ece,
            ece_corrected: (ece - chance(&answers, &bins, seed)).max(0.0),
            ece_interval: interval(&answers, seed),
            brier: squares.sum::<f64>() / answers.len() as f64,
            auroc: auroc(&answers),
            bins,
        })
    }
}

/// Bins of equal size over sorted answers; the first ones take what is left over.
fn bins(sorted: &[(f64, bool)]) -> Vec<Bin> {
    let count = BINS.min(sorted.len());
    let mut rest = sorted;
    let mut bins = Vec::with_capacity(count);
    for left in (1..=count).rev() {
        let (bin, after) = rest.split_at(rest.len().div_ceil(left));
        rest = after;
        let n = bin.len();
        let right = bin.iter().filter(|(_, right)| *right).count();
        let interval = wilson(right, n, 0.05);
        bins.push(Bin {
            n,
            confidence: bin.iter().map(|(confidence, _)| confidence).sum::<f64>() / n as f64,
            accuracy: right as f64 / n as f64,
            low: interval.lower,
            high: interval.upper,
        });
    }
    bins
}

fn error(answers: &[(f64, bool)], bins: &[Bin]) -> f64 {
    bins.iter().map(|bin| bin.n as f64 * (bin.confidence - bin.accuracy).abs()).sum::<f64>() / answers.len() as f64
}

/// The error that a perfect model with these confidences shows on the average.
fn chance(answers: &[(f64, bool)], bins: &[Bin], seed: u64) -> f64 {
    let mut random = Random::new(seed);
    let mut sum = 0.0;
    for _ in 0..RESAMPLES {
        let mut at = 0;
        let mut of_run = 0.0;
        for bin in bins {
            let hits = answers[at..at + bin.n].iter().filter(|(confidence, _)| random.uniform() < *confidence).count();
            of_run += (bin.n as f64 * bin.confidence - hits as f64).abs();
            at += bin.n;
        }
        sum += of_run / answers.len() as f64;
    }
    sum / RESAMPLES as f64
}

fn interval(answers: &[(f64, bool)], seed: u64) -> (f64, f64) {
    let mut random = Random::new(seed ^ 1);
    let mut errors: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut drawn: Vec<(f64, bool)> = answers.iter().map(|_| answers[random.below(answers.len())]).collect();
            drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
            error(&drawn, &bins(&drawn))
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    (errors[RESAMPLES / 20], errors[RESAMPLES - 1 - RESAMPLES / 20])
}

/// The area under the ROC curve: ranks of right answers among all, ties in the middle.
fn auroc(sorted: &[(f64, bool)]) -> Option<f64> {
    let right = sorted.iter().filter(|(_, right)| *right).count() as f64;
    let wrong = sorted.len() as f64 - right;
    let mut sum = 0.0;
    let mut at = 0;
    while at < sorted.len() {
        let same = sorted[at..].iter().take_while(|(confidence, _)| *confidence == sorted[at].0).count();
        let rank = at as f64 + (same as f64 + 1.0) / 2.0;
        sum += rank * sorted[at..at + same].iter().filter(|(_, right)| *right).count() as f64;
        at += same;
    }
    (right > 0.0 && wrong > 0.0).then(|| (sum - right * (right + 1.0) / 2.0) / (right * wrong))
}
