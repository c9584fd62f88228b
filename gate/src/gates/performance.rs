//! The performance gate: latency, success rate, failed attempts and cost, at the concurrency that the suite sets.
//!
//! Costs are measured per *success*, because short and wrong answers are cheap. An answer whose tokens are not known, such
//! as one that timed out, has cost at most what the suite's `max-tokens` allows; without it, any amount.

use super::cases::{ByCase, one_if, possible, sum};
use crate::evidence::{Measured, Possible};
use crate::observation::{MissingAnswer, ModelAnswer, Observation, Scored};
use crate::suite::Suite;

/// Measures a metric of this kind for each case.
pub(super) fn measure(metric: &str, arm: &ByCase<'_>, suite: &Suite) -> Measured {
    match metric {
        "ttft-p50" | "ttft-p95" => times(arm, |scored| scored.ttft_ms),
        "answer-start-p50" | "answer-start-p95" => times(arm, |scored| scored.answer_start_ms),
        "total-p50" | "total-p95" => times(arm, |scored| Some(scored.total_ms)),
        "success" => share(arm, success),
        "failed-attempts" => share(arm, |request| Possible::known(one_if(!request.failed.is_empty()))),
        _ => quotient(metric, arm, suite),
    }
}

/// Measures the durations of each case's requests.
fn times(arm: &ByCase<'_>, duration: impl Fn(&Scored) -> Option<f64>) -> Measured {
    let of = |requests: &Vec<&Observation>| requests.iter().map(|request| possible_time(request, &duration)).collect();
    Measured::Times(arm.iter().map(|(case, requests)| ((*case).to_owned(), of(requests))).collect())
}

/// Returns the possible durations of a request in milliseconds. A request that timed out took at least that long; any
/// other missing answer may have taken any time.
fn possible_time(request: &Observation, duration: impl Fn(&Scored) -> Option<f64>) -> Possible {
    let from = |low| Possible { low, high: f64::INFINITY };
    match &request.answer {
        ModelAnswer::Scored(scored) => duration(scored).map_or(from(0.0), Possible::known),
        ModelAnswer::Missing { why: MissingAnswer::Timeout, after_ms, .. } => from(*after_ms),
        ModelAnswer::Missing { .. } => from(0.0),
    }
}

/// Measures the share of each case's requests for which something is true, which is given as 1 or 0.
fn share(arm: &ByCase<'_>, number: impl Fn(&Observation) -> Possible) -> Measured {
    let of = |requests: &Vec<&Observation>| {
        let (all, n) = (sum(requests.iter().map(|request| number(request))), requests.len() as f64);
        Possible { low: all.low / n, high: all.high / n }
    };
    Measured::PerCase(arm.iter().map(|(case, requests)| ((*case).to_owned(), of(requests))).collect())
}

/// Returns 1 for an answer that is right, whole and in time, and 0 for others; both are possible if the answer is missing
/// for another reason.
fn success(request: &Observation) -> Possible {
    possible(match &request.answer {
        ModelAnswer::Scored(scored) => scored.right.map(|right| one_if(right && scored.lacking.is_none())),
        ModelAnswer::Missing { why: MissingAnswer::Timeout, .. } => Some(0.0),
        ModelAnswer::Missing { .. } => None,
    })
}

/// Measures a quotient of two sums over each case's requests.
fn quotient(metric: &str, arm: &ByCase<'_>, suite: &Suite) -> Measured {
    let limits = TokenLimits::of(arm, suite);
    let pair = |request: &Observation| {
        let (input, output) = limits.tokens(request);
        match metric {
            "output-per-input" => (output, input),
            "cost-per-success" => {
                let price = suite.price.map_or((0.0, 0.0), |price| (price.input, price.output));
                (input.times(price.0 / 1e6).plus(output.times(price.1 / 1e6)), success(request))
            }
            // `tokens-per-success`
            _ => (output, success(request)),
        }
    };
    let of = |requests: &Vec<&Observation>| {
        let pairs: Vec<(Possible, Possible)> = requests.iter().map(|request| pair(request)).collect();
        (sum(pairs.iter().map(|pair| pair.0)), sum(pairs.iter().map(|pair| pair.1)))
    };
    Measured::Ratio(arm.iter().map(|(case, requests)| ((*case).to_owned(), of(requests))).collect())
}

/// The possible numbers of tokens of a request whose tokens are not known.
struct TokenLimits {
    /// Between the fewest and the most input tokens of other requests.
    input: Possible,
    /// Up to `max-tokens`.
    output: Possible,
}

impl TokenLimits {
    fn of(arm: &ByCase<'_>, suite: &Suite) -> TokenLimits {
        let known = || {
            let answers = arm.values().flatten().filter_map(|request| request.scored());
            answers.filter_map(|scored| scored.input_tokens).map(|tokens| tokens as f64)
        };
        let input = match known().next() {
            Some(_) => Possible { low: known().fold(f64::INFINITY, f64::min), high: known().fold(0.0, f64::max) },
            None => Possible { low: 0.0, high: f64::INFINITY },
        };
        TokenLimits { input, output: Possible { low: 0.0, high: suite.most_output_tokens() } }
    }

    /// Returns the input and the output tokens of a request.
    fn tokens(&self, request: &Observation) -> (Possible, Possible) {
        let counted =
            |tokens: Option<u64>, otherwise| tokens.map_or(otherwise, |tokens| Possible::known(tokens as f64));
        let (input, output) =
            request.scored().map_or((None, None), |scored| (scored.input_tokens, scored.output_tokens));
        (counted(input, self.input), counted(output, self.output))
    }
}
