//! The performance gate: latency, success rate, failed attempts and cost, at the concurrency that the suite sets.
//!
//! Durations and success are measured per request and not per case, because a request's duration depends on the
//! server's queue rather than on the question. Costs are measured per *success*, because short and wrong answers are
//! cheap.

use std::collections::BTreeMap;

use super::cases::{ByCase, one_if};
use crate::evidence::Measured;
use crate::observation::{MissingAnswer, ModelAnswer, Observation, Scored};
use crate::suite::Price;

/// Measures a metric of this kind for each request or case.
pub(super) fn measure(metric: &str, arm: &ByCase<'_>, price: Option<Price>) -> Measured {
    let requests = || arm.values().flatten();
    match metric {
        "ttft-p50" | "ttft-p95" => {
            Measured::Times(requests().map(|request| time_range(request, |scored| scored.ttft_ms)).collect())
        }
        "answer-start-p50" | "answer-start-p95" => {
            Measured::Times(requests().map(|request| time_range(request, |scored| scored.answer_start_ms)).collect())
        }
        "total-p50" | "total-p95" => {
            Measured::Times(requests().map(|request| time_range(request, |scored| Some(scored.total_ms))).collect())
        }
        "success" => per_request(arm, success),
        "failed-attempts" => per_request(arm, |request| Some(one_if(!request.failed.is_empty()))),
        "output-per-input" => ratio(arm, |scored| Some((scored.output_tokens? as f64, scored.input_tokens? as f64))),
        "cost-per-success" => ratio(arm, |scored| {
            let cost = price?.of(scored.input_tokens?, scored.output_tokens?);
            Some((cost, right_and_complete(scored)?))
        }),
        // `tokens-per-success`
        _ => ratio(arm, |scored| Some((scored.output_tokens? as f64, right_and_complete(scored)?))),
    }
}

/// Measures a number for each request.
fn per_request(arm: &ByCase<'_>, number: impl Fn(&Observation) -> Option<f64>) -> Measured {
    let name = |request: &Observation| format!("{}#{}", request.key.case, request.key.repeat);
    Measured::PerCase(arm.values().flatten().map(|request| (name(request), number(request))).collect())
}

/// Returns the shortest and the longest possible duration of a request in milliseconds. A request that timed out took
/// at least that long; any other missing answer may have taken any time.
fn time_range(request: &Observation, duration: impl Fn(&Scored) -> Option<f64>) -> (f64, f64) {
    match &request.answer {
        ModelAnswer::Scored(scored) => duration(scored).map_or((0.0, f64::INFINITY), |time| (time, time)),
        ModelAnswer::Missing { why: MissingAnswer::Timeout, after_ms, .. } => (*after_ms, f64::INFINITY),
        ModelAnswer::Missing { .. } => (0.0, f64::INFINITY),
    }
}

/// Returns 1 for an answer that is right, whole and not empty, and 0 for others.
fn right_and_complete(scored: &Scored) -> Option<f64> {
    scored.right.map(|right| one_if(right && scored.lacking.is_none()))
}

/// Returns 1 for a success, and 0 for a wrong, incomplete or late answer; `None` if the answer is missing for another
/// reason.
fn success(request: &Observation) -> Option<f64> {
    match &request.answer {
        ModelAnswer::Scored(scored) => right_and_complete(scored),
        ModelAnswer::Missing { why: MissingAnswer::Timeout, .. } => Some(0.0),
        ModelAnswer::Missing { .. } => None,
    }
}

/// Sums a pair of numbers over each case's answers. Answers without such a pair, as those whose tokens the server did
/// not count, are left out, and so are cases without one.
fn ratio(arm: &ByCase<'_>, pair: impl Fn(&Scored) -> Option<(f64, f64)>) -> Measured {
    let mut cases = BTreeMap::new();
    for (case, answers) in arm {
        let pairs: Vec<(f64, f64)> =
            answers.iter().filter_map(|observation| observation.scored()).filter_map(&pair).collect();
        if !pairs.is_empty() {
            let sum = pairs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            cases.insert((*case).to_owned(), sum);
        }
    }
    Measured::Ratio(cases)
}
