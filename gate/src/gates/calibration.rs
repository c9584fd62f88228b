//! The calibration gate: whether the model is right as often as its confidence says.
//!
//! Limits are set for the Brier score, a proper scoring rule: a model can't improve it by stating another confidence
//! than it has. The expected calibration error is only reported, because even a *perfectly calibrated* model shows one
//! by chance (0.05 for 200 answers in ten bins). For the report, bins have about equal sizes, the error expected by chance is
//! subtracted (Bröcker 2012; Ferro and Fricker 2012), and the diagram shows each bin with its interval. Answers with the same
//! confidence are in the same bin: otherwise a model that always says 0.9 would have bins of nothing but right and of
//! nothing but wrong answers, and an error that it does not make.

use bellwether_core::dice::Random;
use bellwether_core::stats::confidence::wilson;

use super::cases::{ByCase, mean, one_if, per_case};
use crate::evidence::Measured;
use crate::metric::GateMetricKind;
use crate::observation::Scored;
use crate::report::{Bin, Reliability};
use crate::suite::Gate;

/// The number of bins, as is usual for the calibration error.
const BINS: usize = 10;

/// The number of resamples for the figures of the report.
const REPORT_RESAMPLES: usize = 200;

/// Measures a metric of this kind for each case.
pub(super) fn measure(metric: &str, arm: &ByCase<'_>) -> Measured {
    let brier = |scored: &Scored| confidence_and_right(scored).map(squared_error);
    per_case(arm, |answers| match metric {
        "brier" => mean(answers.iter().map(|answer| brier(answer))),
        // `accuracy`: 1 only if every repeat is right.
        _ => mean(answers.iter().map(|answer| answer.right.map(one_if))).map(libm::floor),
    })
}

fn confidence_and_right(scored: &Scored) -> Option<(f64, bool)> {
    scored.confidence.zip(scored.right)
}

/// Returns the squared distance of a confidence and the correctness of its answer.
fn squared_error((confidence, right): (f64, bool)) -> f64 {
    let difference = confidence - one_if(right);
    difference * difference
}

/// Returns the reliability of the arm's confidence; `None` if the gate is of another kind or there are no answers.
pub(super) fn reliability(gate: &Gate, arm: &ByCase<'_>, seed: u64) -> Option<Reliability> {
    if gate.kind != GateMetricKind::Calibration {
        return None;
    }
    let answers = arm.values().flatten().filter_map(|observation| observation.scored());
    Reliability::of(answers.filter_map(confidence_and_right).collect(), seed)
}

impl Reliability {
    /// Returns the reliability of answers, each given by its confidence (from 0 to 1) and whether it is right. `seed`
    /// is the seed of resampling. `None` if there are no answers.
    pub fn of(mut answers: Vec<(f64, bool)>, seed: u64) -> Option<Reliability> {
        if answers.is_empty() {
            return None;
        }
        answers.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let bins = bins(&answers);
        let ece = calibration_error(&answers, &bins);
        Some(Reliability {
            ece,
            ece_corrected: (ece - error_by_chance(&answers, &bins, seed)).max(0.0),
            ece_interval: error_interval(&answers, seed),
            brier: answers.iter().map(|answer| squared_error(*answer)).sum::<f64>() / answers.len() as f64,
            auroc: auroc(&answers),
            bins,
        })
    }
}

/// Divides sorted answers into bins of about equal sizes. A bin ends where the confidence changes, so there are fewer bins
/// than [`BINS`] if many answers have the same one.
fn bins(sorted: &[(f64, bool)]) -> Vec<Bin> {
    let mut rest = sorted;
    let mut bins: Vec<Bin> = Vec::with_capacity(BINS);
    while let Some(wanted) = rest.len().div_ceil(BINS.saturating_sub(bins.len()).max(1)).checked_sub(1) {
        let last = rest[wanted].0;
        let (bin, after) = rest.split_at(rest.partition_point(|(confidence, _)| *confidence <= last));
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

/// Returns the mean distance of confidence and accuracy over the bins, weighted by their sizes.
fn calibration_error(answers: &[(f64, bool)], bins: &[Bin]) -> f64 {
    bins.iter().map(|bin| bin.n as f64 * (bin.confidence - bin.accuracy).abs()).sum::<f64>() / answers.len() as f64
}

/// Returns the mean calibration error of a perfectly calibrated model with these confidences, by simulation.
fn error_by_chance(answers: &[(f64, bool)], bins: &[Bin], seed: u64) -> f64 {
    let mut random = Random::new(seed);
    let mut sum = 0.0;
    for _ in 0..REPORT_RESAMPLES {
        let mut start = 0;
        let mut run_error = 0.0;
        for bin in bins {
            let bin_answers = &answers[start..start + bin.n];
            let hits = bin_answers.iter().filter(|(confidence, _)| random.uniform() < *confidence).count();
            run_error += (bin.n as f64 * bin.confidence - hits as f64).abs();
            start += bin.n;
        }
        sum += run_error / answers.len() as f64;
    }
    sum / REPORT_RESAMPLES as f64
}

/// Returns the 5 % and the 95 % quantile of the calibration error over bootstrap resamples of the answers.
fn error_interval(answers: &[(f64, bool)], seed: u64) -> (f64, f64) {
    let mut random = Random::new(seed ^ 1);
    let mut errors: Vec<f64> = (0..REPORT_RESAMPLES)
        .map(|_| {
            let mut drawn: Vec<(f64, bool)> = answers.iter().map(|_| answers[random.below(answers.len())]).collect();
            drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
            calibration_error(&drawn, &bins(&drawn))
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    (errors[REPORT_RESAMPLES / 20], errors[REPORT_RESAMPLES - 1 - REPORT_RESAMPLES / 20])
}

/// Returns the area under the ROC curve, from the ranks of the right answers among all (Mann and Whitney); tied answers
/// share the mean of their ranks. `None` if there are no right or no wrong answers.
fn auroc(sorted: &[(f64, bool)]) -> Option<f64> {
    let right = sorted.iter().filter(|(_, right)| *right).count() as f64;
    let wrong = sorted.len() as f64 - right;
    let mut rank_sum = 0.0;
    let mut start = 0;
    while start < sorted.len() {
        let ties = sorted[start..].iter().take_while(|(confidence, _)| *confidence == sorted[start].0).count();
        let rank = start as f64 + (ties as f64 + 1.0) / 2.0;
        rank_sum += rank * sorted[start..start + ties].iter().filter(|(_, right)| *right).count() as f64;
        start += ties;
    }
    (right > 0.0 && wrong > 0.0).then(|| (rank_sum - right * (right + 1.0) / 2.0) / (right * wrong))
}
