//! How fast the model is and what it costs, at the concurrency that the suite sets. A time is of a request and not of a case:
//! what makes a request slow is the server's queue. Costs are for each *success*, because a model that answers in two words
//! and wrongly is cheap.

use std::collections::BTreeMap;

use super::ByCase;
use crate::evidence::Measured;
use crate::observation::{Answer, Missing, Observation, Scored};
use crate::suite::Price;

pub(super) fn measure(metric: &str, arm: &ByCase<'_>, price: Option<Price>) -> Measured {
    let requests = || arm.values().flatten();
    match metric {
        "ttft-p50" | "ttft-p95" => {
            Measured::Times(requests().map(|request| time(request, |scored| scored.ttft_ms)).collect())
        }
        "total-p50" | "total-p95" => {
            Measured::Times(requests().map(|request| time(request, |scored| Some(scored.total_ms))).collect())
        }
        "success" => Measured::PerCase(
            requests()
                .map(|request| (format!("{}#{}", request.key.case, request.key.repeat), success(request)))
                .collect(),
        ),
        "output-per-input" => ratio(arm, |scored| Some((scored.output_tokens? as f64, scored.input_tokens? as f64))),
        "cost-per-success" => ratio(arm, |scored| {
            let cost = price?.of(scored.input_tokens?, scored.output_tokens?);
            Some((cost, good(scored)?))
        }),
        _ => ratio(arm, |scored| Some((scored.output_tokens? as f64, good(scored)?))),
    }
}

/// The shortest and the longest that a request can have taken.
fn time(request: &Observation, of: impl Fn(&Scored) -> Option<f64>) -> (f64, f64) {
    match &request.answer {
        Answer::Scored(scored) => of(scored).map_or((0.0, f64::INFINITY), |time| (time, time)),
        Answer::Missing { why: Missing::Timeout, after_ms, .. } => (*after_ms, f64::INFINITY),
        Answer::Missing { .. } => (0.0, f64::INFINITY),
    }
}

fn good(scored: &Scored) -> Option<f64> {
    scored.right.map(|right| f64::from(u8::from(right && !scored.truncated)))
}

fn success(request: &Observation) -> Option<f64> {
    match &request.answer {
        Answer::Scored(scored) => good(scored),
        Answer::Missing { why: Missing::Timeout, .. } => Some(0.0),
        Answer::Missing { .. } => None,
    }
}

/// Sums over each case's answers; what the server did not count is not in them.
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
