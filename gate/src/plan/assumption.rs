//! The versions that a plan assumes: a good one and a bad one, as distributions of the values of a limit.
//!
//! A good version answers each request rightly with the same probability, independently of the others. Where several
//! distributions have the same mean the widest is assumed, which asks for the most cases: scores are 0 or 1, and the two
//! arms of a comparison are independent. A bad version is at the limit.

use crate::metric::{Aggregation, GateMetricKind, Worse};
use crate::suite::{Comparison, Gate, GateLimit};

/// The share of a limit on faults that a good version uses up.
const GOOD_FAULTS: f64 = 0.1;

/// The share of a limit on a quotient of sums, such as a cost, that a good version uses up.
const GOOD_QUOTIENT: f64 = 0.75;

/// A distribution of the values of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum AssumedValues {
    /// Each value is at its bad end with this probability, and at its good end otherwise.
    Bad(f64),
    /// Each difference of the arms is one case worse with the first probability, one case better with the second, and
    /// none otherwise.
    Differs(f64, f64),
    /// The candidate's durations are the stable version's times this factor. Both are exponential, whose 95th percentile
    /// is 4.3 times the median.
    Times(f64),
    /// The quotient of two sums is this share of its limit. The relative variance of one sum's mean over `n` cases is
    /// the second field divided by `n`.
    Quotient(f64, f64),
}

/// The good and the bad version of a limit.
pub(super) struct AssumedVersions {
    /// The distribution of the good version.
    pub good: AssumedValues,
    /// The distribution of the bad version.
    pub bad: AssumedValues,
    /// The true value of the good version in the metric's unit; `None` for a duration against a limit.
    pub good_value: Option<f64>,
    /// The share of the good version's requests that are slower than the limit; `None` for other metrics.
    pub slower: Option<f64>,
    /// The true value of the bad version.
    pub bad_value: f64,
}

/// Returns the versions for a limit, with the share `right` of right answers of a good version.
pub(super) fn assume(gate: &Gate, limit: &GateLimit, right: f64) -> AssumedVersions {
    match limit.metric.aggregation {
        Aggregation::Share | Aggregation::Score => per_case(gate, limit, right),
        Aggregation::Quantile(q) => duration(limit, q),
        Aggregation::Ratio => quotient(limit, right),
    }
}

fn per_case(gate: &Gate, limit: &GateLimit, right: f64) -> AssumedVersions {
    let value = good_value(gate, limit, right);
    // The probability of the bad end: of a fault, or of a lack of merit.
    let bad_end = |value: f64| if limit.metric.worse == Worse::More { value } else { 1.0 - value };
    let versions =
        |good, bad, good_value, bad_value| AssumedVersions { good, bad, good_value, slower: None, bad_value };
    match limit.comparison {
        Comparison::Margin(margin) => {
            let stable = bad_end(value);
            let differs =
                |candidate: f64| AssumedValues::Differs(candidate * (1.0 - stable), (1.0 - candidate) * stable);
            let worst = (stable + margin).min(1.0);
            let sign = if limit.metric.worse == Worse::More { 1.0 } else { -1.0 };
            versions(differs(stable), differs(worst), Some(0.0), sign * (worst - stable))
        }
        Comparison::Max(edge) | Comparison::Min(edge) | Comparison::MaxRatio(edge) => {
            // No version is beyond a limit of 0 or 1 only a little, so the bad one is wrong as often as a good one may be.
            let edge = match edge {
                edge if edge <= 0.0 => 1.0 - right,
                edge if edge >= 1.0 => right,
                edge => edge,
            };
            versions(AssumedValues::Bad(bad_end(value)), AssumedValues::Bad(bad_end(edge)), Some(value), edge)
        }
    }
}

/// Returns the true value of a good version for a metric per case.
fn good_value(gate: &Gate, limit: &GateLimit, right: f64) -> f64 {
    let every_repeat = libm::pow(right, f64::from(gate.repeats));
    match (gate.kind, limit.metric.name) {
        // Two answers agree if both are right.
        (GateMetricKind::Consistency, "agreement" | "semantic") => right * right,
        (GateMetricKind::Consistency, "pass-k" | "identical") => every_repeat,
        (GateMetricKind::Calibration, "accuracy") => every_repeat,
        // The Brier score of a version whose confidence is `right` in every answer.
        (GateMetricKind::Calibration, _) => right * (1.0 - right),
        (GateMetricKind::Tools, "solved" | "right-tools") => every_repeat,
        (_, _) if limit.metric.worse == Worse::More => faults(gate, limit, right),
        _ => right,
    }
}

/// Returns the share of faults of a good version: a tenth of the metric's maximum, if that is less than its share of
/// wrong answers; none if none is allowed.
fn faults(gate: &Gate, limit: &GateLimit, right: f64) -> f64 {
    let of_metric = || gate.limits.iter().filter(move |other| other.metric.name == limit.metric.name);
    if of_metric().any(|limit| limit.none) {
        return 0.0;
    }
    let maxima = of_metric().filter_map(|other| match other.comparison {
        Comparison::Max(max) => Some(GOOD_FAULTS * max),
        Comparison::Min(_) | Comparison::Margin(_) | Comparison::MaxRatio(_) => None,
    });
    maxima.fold(1.0 - right, f64::min)
}

fn duration(limit: &GateLimit, q: f64) -> AssumedVersions {
    match limit.comparison {
        Comparison::MaxRatio(ratio) => AssumedVersions {
            good: AssumedValues::Times(1.0),
            bad: AssumedValues::Times(ratio),
            good_value: Some(1.0),
            slower: None,
            bad_value: ratio,
        },
        Comparison::Max(edge) | Comparison::Min(edge) | Comparison::Margin(edge) => {
            let slower = GOOD_FAULTS * (1.0 - q);
            AssumedVersions {
                good: AssumedValues::Bad(slower),
                bad: AssumedValues::Bad(1.0 - q),
                good_value: None,
                slower: Some(slower),
                bad_value: edge,
            }
        }
    }
}

fn quotient(limit: &GateLimit, right: f64) -> AssumedVersions {
    // The numbers of tokens vary as much as exponential ones, and each answer is a success with probability `right`.
    let variance = 1.0 + (1.0 - right) / right;
    let (good, edge, good_value) = match limit.comparison {
        Comparison::MaxRatio(ratio) => (1.0 / ratio, ratio, 1.0),
        Comparison::Max(edge) | Comparison::Margin(edge) => (GOOD_QUOTIENT, edge, GOOD_QUOTIENT * edge),
        Comparison::Min(edge) => (GOOD_QUOTIENT, edge, edge / GOOD_QUOTIENT),
    };
    AssumedVersions {
        good: AssumedValues::Quotient(good, variance),
        bad: AssumedValues::Quotient(1.0, variance),
        good_value: Some(good_value),
        slower: None,
        bad_value: edge,
    }
}
