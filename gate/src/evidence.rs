//! Evidence: the values that a claim rests on, and the confidence bounds that they support.
//!
//! Repeats of one case depend on each other, and so do both arms' answers to one case; different cases are independent.
//! So each case contributes one number, however often it was asked, and a comparison uses one difference per case. Each
//! kind of values has the bound that is exact, or closest to exact:
//!
//! | values | bound | valid |
//! | --- | --- | --- |
//! | yes or no per case | Clopper and Pearson | for every number of cases |
//! | a score or a difference of scores per case | Gaffke | for every number of cases; conjectured, no counterexample is known |
//! | a quantile of durations | order statistics; with several requests for a case, Gaffke's of the share that is slower | for every number of cases |
//! | a quotient of two quantiles | both of these, each with half the error | for every number of cases |
//! | a quotient of two sums over the cases | BCa bootstrap over cases | for many cases |
//!
//! A case that was asked and not answered counts in both directions: with the worst possible value in the evidence for
//! passing, and with the best possible value in the evidence for failing. So missing answers alone neither pass nor fail under the
//! rules that use bounds. `rule = "threshold"` compares the estimate, which takes missing answers as worst.

mod durations;
mod measured;

use std::collections::BTreeMap;

use bellwether_core::stats::bootstrap::{Resampled, resample};
use bellwether_core::stats::bounded;
use bellwether_core::stats::confidence::{lower_part, upper_part};

use crate::metric::Aggregation;
pub use durations::Durations;
pub use measured::{Measured, Possible};

/// The number of bootstrap resamples, which suffices for an error of one in a thousand.
pub const RESAMPLES: usize = 9_999;

/// The values that support an estimate and its confidence bounds.
#[derive(Debug, Clone)]
pub enum SampleEvidence {
    /// Yes or no for each case.
    Share {
        /// The number of cases with yes.
        hits: usize,
        /// The number of cases.
        n: usize,
    },
    /// A number within a range for each case.
    Score {
        /// The numbers, each from `low` to `high`.
        values: Vec<f64>,
        /// The smallest possible number.
        low: f64,
        /// The largest possible number.
        high: f64,
    },
    /// A duration for each request.
    Times {
        /// The durations.
        times: Durations,
        /// The order of the quantile, from 0 to 1.
        q: f64,
    },
    /// Durations of both arms, for the quotient of their quantiles.
    TimesRatio {
        /// The candidate's durations.
        candidate: Durations,
        /// The stable version's durations.
        stable: Durations,
        /// The order of the quantile, from 0 to 1.
        q: f64,
    },
    /// A statistic whose bounds come from resampling.
    Resampled {
        /// The number of cases.
        n: usize,
        /// The statistic's bootstrap distribution; `None` if there are too few cases.
        resampled: Option<Resampled>,
    },
}

/// The evidence for passing and the evidence for failing. They differ only in the values of missing answers.
#[derive(Debug, Clone)]
pub struct TwoSidedEvidence {
    /// The evidence for passing: missing answers have the worst possible value.
    pub for_pass: SampleEvidence,
    /// The evidence for failing: missing answers have the best possible value.
    pub for_fail: SampleEvidence,
}

impl SampleEvidence {
    /// Returns the number of cases; of a quotient of quantiles, the smaller number of both arms.
    pub fn n(&self) -> usize {
        match self {
            SampleEvidence::Share { n, .. } | SampleEvidence::Resampled { n, .. } => *n,
            SampleEvidence::Score { values, .. } => values.len(),
            SampleEvidence::Times { times, .. } => times.cases(),
            SampleEvidence::TimesRatio { candidate, stable, .. } => candidate.cases().min(stable.cases()),
        }
    }

    /// Returns the plain estimate; `None` if there are no values, or too few to resample.
    pub fn estimate(&self) -> Option<f64> {
        match self {
            SampleEvidence::Share { n: 0, .. } => None,
            SampleEvidence::Share { hits, n } => Some(*hits as f64 / *n as f64),
            SampleEvidence::Score { values, .. } if values.is_empty() => None,
            SampleEvidence::Score { values, .. } => Some(values.iter().sum::<f64>() / values.len() as f64),
            SampleEvidence::Times { times, q } => times.quantile(*q),
            SampleEvidence::TimesRatio { candidate, stable, q } => {
                candidate.quantile(*q).zip(stable.quantile(*q)).map(|(one, other)| one / other)
            }
            SampleEvidence::Resampled { resampled, .. } => resampled.as_ref().map(|resampled| resampled.estimate),
        }
    }

    /// Returns an upper bound: the true value is above it with a probability of at most `tail`. ∞ if the values support
    /// none.
    pub fn upper(&self, tail: f64) -> f64 {
        match self {
            SampleEvidence::Share { hits, n } => upper_part(*hits, *n, tail),
            SampleEvidence::Score { values, low, high } => {
                low + (high - low) * bounded::upper(&scaled(values, *low, *high), tail)
            }
            SampleEvidence::Times { times, q } => times.upper(*q, tail).unwrap_or(f64::INFINITY),
            SampleEvidence::TimesRatio { candidate, stable, q } => {
                let (one, other) = (candidate.upper(*q, tail / 2.0), stable.lower(*q, tail / 2.0));
                one.zip(other).map_or(f64::INFINITY, |(one, other)| one / other)
            }
            SampleEvidence::Resampled { resampled, .. } => {
                resampled.as_ref().map_or(f64::INFINITY, |resampled| resampled.upper(tail))
            }
        }
    }

    /// Returns a lower bound: the true value is below it with a probability of at most `tail`. -∞ if the values support
    /// none.
    pub fn lower(&self, tail: f64) -> f64 {
        match self {
            SampleEvidence::Share { hits, n } => lower_part(*hits, *n, tail),
            SampleEvidence::Score { values, low, high } => {
                low + (high - low) * bounded::lower(&scaled(values, *low, *high), tail)
            }
            SampleEvidence::Times { times, q } => times.lower(*q, tail).unwrap_or(f64::NEG_INFINITY),
            SampleEvidence::TimesRatio { candidate, stable, q } => {
                let (one, other) = (candidate.lower(*q, tail / 2.0), stable.upper(*q, tail / 2.0));
                one.zip(other).map_or(f64::NEG_INFINITY, |(one, other)| one / other)
            }
            SampleEvidence::Resampled { resampled, .. } => {
                resampled.as_ref().map_or(f64::NEG_INFINITY, |resampled| resampled.lower(tail))
            }
        }
    }
}

/// Maps the values from the range `low..=high` to the range `0..=1`.
fn scaled(values: &[f64], low: f64, high: f64) -> Vec<f64> {
    values.iter().map(|value| ((value - low) / (high - low)).clamp(0.0, 1.0)).collect()
}

impl TwoSidedEvidence {
    /// Returns the evidence about one arm alone, for a limit that the value must keep from below (`at_most`) or from
    /// above. `seed` is the seed of resampling.
    pub fn of_arm(measured: &Measured, aggregation: Aggregation, at_most: bool, seed: u64) -> TwoSidedEvidence {
        match measured {
            Measured::PerCase(cases) => {
                two_sided(at_most, |high| of_cases(cases.values().map(|value| value.end(high)).collect(), aggregation))
            }
            Measured::Times(cases) => two_sided(at_most, |high| SampleEvidence::Times {
                times: durations(cases, high),
                q: quantile_of(aggregation),
            }),
            Measured::Ratio(cases) => {
                let is_known = cases.values().all(is_known);
                let of = |high: bool| {
                    let pairs: Vec<(f64, f64)> = cases.values().map(|pair| at_end(pair, high)).collect();
                    resampled(pairs.len(), seed, |drawn| quotient(&pairs, drawn))
                };
                if is_known { same_for_both(of(true)) } else { two_sided(at_most, of) }
            }
        }
    }

    /// Returns the evidence about the candidate in comparison with the stable version: the differences of the cases
    /// that both arms have, or a quotient, for a limit that it must keep from below (`at_most`) or from above. `seed` is
    /// the seed of resampling. `None` if the arms were measured in different ways.
    pub fn of_comparison(
        candidate: &Measured,
        stable: &Measured,
        aggregation: Aggregation,
        at_most: bool,
        seed: u64,
    ) -> Option<TwoSidedEvidence> {
        match (candidate, stable) {
            (Measured::PerCase(candidate), Measured::PerCase(stable)) => {
                let both = in_both(candidate, stable);
                Some(two_sided(at_most, |high| SampleEvidence::Score {
                    values: both.iter().map(|(one, other)| one.end(high) - other.end(!high)).collect(),
                    low: -1.0,
                    high: 1.0,
                }))
            }
            (Measured::Times(candidate), Measured::Times(stable)) => {
                Some(two_sided(at_most, |high| SampleEvidence::TimesRatio {
                    candidate: durations(candidate, high),
                    stable: durations(stable, !high),
                    q: quantile_of(aggregation),
                }))
            }
            (Measured::Ratio(candidate), Measured::Ratio(stable)) => {
                let both = in_both(candidate, stable);
                let is_known = both.iter().all(|(one, other)| is_known(one) && is_known(other));
                let of = |high: bool| {
                    let (candidate, stable): (Vec<_>, Vec<_>) =
                        both.iter().map(|(one, other)| (at_end(one, high), at_end(other, !high))).unzip();
                    resampled(both.len(), seed, |drawn| {
                        let ratio = quotient(&candidate, drawn) / quotient(&stable, drawn);
                        if ratio.is_nan() { f64::INFINITY } else { ratio }
                    })
                };
                Some(if is_known { same_for_both(of(true)) } else { two_sided(at_most, of) })
            }
            _ => None,
        }
    }
}

/// Returns the evidence for passing and for failing from `of`, which is given whether the values are taken at the high ends
/// of their ranges. High values are the worst ones for a limit that must be kept from below.
fn two_sided(at_most: bool, of: impl Fn(bool) -> SampleEvidence) -> TwoSidedEvidence {
    TwoSidedEvidence { for_pass: of(at_most), for_fail: of(!at_most) }
}

fn same_for_both(evidence: SampleEvidence) -> TwoSidedEvidence {
    TwoSidedEvidence { for_pass: evidence.clone(), for_fail: evidence }
}

fn durations(cases: &BTreeMap<String, Vec<Possible>>, high: bool) -> Durations {
    Durations::of_cases(cases.values().map(|times| times.iter().map(|time| time.end(high)).collect()))
}

fn quantile_of(aggregation: Aggregation) -> f64 {
    match aggregation {
        Aggregation::Quantile(q) => q,
        Aggregation::Share | Aggregation::Score | Aggregation::Ratio => 0.5,
    }
}

/// Returns the evidence of a number for each case. A share whose cases are neither true nor false, because several requests
/// of a case have different results, has the bound of scores.
fn of_cases(values: Vec<f64>, aggregation: Aggregation) -> SampleEvidence {
    if aggregation == Aggregation::Share && values.iter().all(|value| *value == 0.0 || *value == 1.0) {
        let hits = values.iter().filter(|value| **value > 0.5).count();
        return SampleEvidence::Share { hits, n: values.len() };
    }
    SampleEvidence::Score { values, low: 0.0, high: 1.0 }
}

/// Returns the values of the cases that both arms have.
fn in_both<T: Copy>(candidate: &BTreeMap<String, T>, stable: &BTreeMap<String, T>) -> Vec<(T, T)> {
    candidate.iter().filter_map(|(case, value)| Some((*value, *stable.get(case)?))).collect()
}

fn is_known((numerator, denominator): &(Possible, Possible)) -> bool {
    numerator.low == numerator.high && denominator.low == denominator.high
}

/// Returns the numerator and the denominator that make a quotient the highest or the lowest.
fn at_end((numerator, denominator): &(Possible, Possible), high: bool) -> (f64, f64) {
    (numerator.end(high), denominator.end(!high))
}

fn resampled(n: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> SampleEvidence {
    SampleEvidence::Resampled { n, resampled: resample(n, RESAMPLES, seed, statistic) }
}

/// Returns the sum of the drawn pairs' first numbers divided by the sum of their second numbers; ∞ if the latter is not
/// above 0.
fn quotient(pairs: &[(f64, f64)], drawn: &[usize]) -> f64 {
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for index in drawn {
        numerator += pairs[*index].0;
        denominator += pairs[*index].1;
    }
    if denominator > 0.0 { numerator / denominator } else { f64::INFINITY }
}
