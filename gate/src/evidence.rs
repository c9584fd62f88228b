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
//! | a quantile of durations | order statistics | for every number of requests |
//! | a quotient of two quantiles | both of these, each with half the error | for every number of requests |
//! | a quotient of two sums over the cases | BCa bootstrap over cases | for many cases |
//!
//! A case that was asked and not answered counts in both directions: with the worst possible value in the evidence for
//! passing, and with the best possible value in the evidence for failing. So missing answers alone neither pass nor fail under the
//! rules that use bounds. `rule = "threshold"` compares the estimate, which takes missing answers as worst.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::stats::bootstrap::{Resampled, resample};
use bellwether_core::stats::confidence::{lower_part, upper_part};
use bellwether_core::stats::{bounded, order};

use crate::metric::{Aggregation, Worse};

/// The number of bootstrap resamples, which suffices for an error of one in a thousand.
pub const RESAMPLES: usize = 9_999;

/// The values of one metric for one arm.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// A number from 0 to 1 for each case, by its id; `None` if an answer is missing.
    PerCase(BTreeMap<String, Option<f64>>),
    /// The shortest and the longest possible duration of each request in milliseconds. They differ if the answer is
    /// missing.
    Times(Vec<(f64, f64)>),
    /// The numerator and the denominator of a quotient for each case, by its id.
    Ratio(BTreeMap<String, (f64, f64)>),
}

impl Measured {
    /// Returns the number of cases or requests.
    pub fn len(&self) -> usize {
        match self {
            Measured::PerCase(cases) => cases.len(),
            Measured::Times(times) => times.len(),
            Measured::Ratio(cases) => cases.len(),
        }
    }

    /// Returns whether there is no case and no request.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

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
        /// The durations in milliseconds, in ascending order.
        sorted: Vec<f64>,
        /// The order of the quantile, from 0 to 1.
        q: f64,
    },
    /// Durations of both arms, for the quotient of their quantiles.
    TimesRatio {
        /// The candidate's durations in milliseconds, in ascending order.
        candidate: Vec<f64>,
        /// The stable version's durations in milliseconds, in ascending order.
        stable: Vec<f64>,
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
    /// Returns the number of cases or requests; of a quotient of quantiles, the smaller number of both arms.
    pub fn n(&self) -> usize {
        match self {
            SampleEvidence::Share { n, .. } | SampleEvidence::Resampled { n, .. } => *n,
            SampleEvidence::Score { values, .. } => values.len(),
            SampleEvidence::Times { sorted, .. } => sorted.len(),
            SampleEvidence::TimesRatio { candidate, stable, .. } => candidate.len().min(stable.len()),
        }
    }

    /// Returns the plain estimate; `None` if there are no values, or too few to resample.
    pub fn estimate(&self) -> Option<f64> {
        match self {
            SampleEvidence::Share { n: 0, .. } => None,
            SampleEvidence::Share { hits, n } => Some(*hits as f64 / *n as f64),
            SampleEvidence::Score { values, .. } if values.is_empty() => None,
            SampleEvidence::Score { values, .. } => Some(values.iter().sum::<f64>() / values.len() as f64),
            SampleEvidence::Times { sorted, q } => order::quantile(sorted, *q),
            SampleEvidence::TimesRatio { candidate, stable, q } => {
                order::quantile(candidate, *q).zip(order::quantile(stable, *q)).map(|(one, other)| one / other)
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
            SampleEvidence::Times { sorted, q } => order::upper(sorted, *q, tail).unwrap_or(f64::INFINITY),
            SampleEvidence::TimesRatio { candidate, stable, q } => {
                let (one, other) = (order::upper(candidate, *q, tail / 2.0), order::lower(stable, *q, tail / 2.0));
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
            SampleEvidence::Times { sorted, q } => order::lower(sorted, *q, tail).unwrap_or(f64::NEG_INFINITY),
            SampleEvidence::TimesRatio { candidate, stable, q } => {
                let (one, other) = (order::lower(candidate, *q, tail / 2.0), order::upper(stable, *q, tail / 2.0));
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
    /// Returns the evidence about one arm alone. `seed` is the seed of resampling.
    pub fn of_arm(measured: &Measured, aggregation: Aggregation, worse: Worse, seed: u64) -> TwoSidedEvidence {
        match measured {
            Measured::PerCase(cases) => {
                let worst = if worse == Worse::More { 1.0 } else { 0.0 };
                let with_missing_as = |missing: f64| {
                    of_cases(cases.values().map(|value| value.unwrap_or(missing)).collect(), aggregation)
                };
                TwoSidedEvidence { for_pass: with_missing_as(worst), for_fail: with_missing_as(1.0 - worst) }
            }
            Measured::Times(times) => {
                let q = quantile_of(aggregation);
                TwoSidedEvidence {
                    for_pass: SampleEvidence::Times { sorted: sorted(times.iter().map(|(_, longest)| *longest)), q },
                    for_fail: SampleEvidence::Times { sorted: sorted(times.iter().map(|(shortest, _)| *shortest)), q },
                }
            }
            Measured::Ratio(cases) => {
                let pairs: Vec<(f64, f64)> = cases.values().copied().collect();
                let resampled = resample(pairs.len(), RESAMPLES, seed, |drawn| quotient(&pairs, drawn));
                same_for_both(SampleEvidence::Resampled { n: pairs.len(), resampled })
            }
        }
    }

    /// Returns the evidence about the candidate in comparison with the stable version: the differences of the cases
    /// that both arms have, or a quotient. `seed` is the seed of resampling. `None` if the arms were measured in
    /// different ways.
    pub fn of_comparison(
        candidate: &Measured,
        stable: &Measured,
        aggregation: Aggregation,
        worse: Worse,
        seed: u64,
    ) -> Option<TwoSidedEvidence> {
        match (candidate, stable) {
            (Measured::PerCase(candidate), Measured::PerCase(stable)) => Some(differences(candidate, stable, worse)),
            (Measured::Times(candidate), Measured::Times(stable)) => {
                let q = quantile_of(aggregation);
                let shortest = |times: &[(f64, f64)]| sorted(times.iter().map(|(shortest, _)| *shortest));
                let longest = |times: &[(f64, f64)]| sorted(times.iter().map(|(_, longest)| *longest));
                Some(TwoSidedEvidence {
                    for_pass: SampleEvidence::TimesRatio { candidate: longest(candidate), stable: shortest(stable), q },
                    for_fail: SampleEvidence::TimesRatio { candidate: shortest(candidate), stable: longest(stable), q },
                })
            }
            (Measured::Ratio(candidate), Measured::Ratio(stable)) => {
                let both = candidate.iter().filter_map(|(case, pair)| Some((*pair, *stable.get(case)?)));
                let (candidate, stable): (Vec<_>, Vec<_>) = both.unzip();
                let resampled = resample(candidate.len(), RESAMPLES, seed, |drawn| {
                    let ratio = quotient(&candidate, drawn) / quotient(&stable, drawn);
                    if ratio.is_nan() { f64::INFINITY } else { ratio }
                });
                Some(same_for_both(SampleEvidence::Resampled { n: candidate.len(), resampled }))
            }
            _ => None,
        }
    }
}

fn same_for_both(evidence: SampleEvidence) -> TwoSidedEvidence {
    TwoSidedEvidence { for_pass: evidence.clone(), for_fail: evidence }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn quantile_of(aggregation: Aggregation) -> f64 {
    match aggregation {
        Aggregation::Quantile(q) => q,
        Aggregation::Share | Aggregation::Score | Aggregation::Ratio => 0.5,
    }
}

fn of_cases(values: Vec<f64>, aggregation: Aggregation) -> SampleEvidence {
    if aggregation == Aggregation::Share {
        let hits = values.iter().filter(|value| **value > 0.5).count();
        return SampleEvidence::Share { hits, n: values.len() };
    }
    SampleEvidence::Score { values, low: 0.0, high: 1.0 }
}

/// Returns the candidate's value minus the stable version's for each case that both arms have.
fn differences(
    candidate: &BTreeMap<String, Option<f64>>,
    stable: &BTreeMap<String, Option<f64>>,
    worse: Worse,
) -> TwoSidedEvidence {
    let cases: BTreeSet<&String> = candidate.keys().filter(|case| stable.contains_key(*case)).collect();
    let value = |arm: &BTreeMap<String, Option<f64>>, case: &String| arm.get(case).copied().flatten();
    let with_missing_as = |missing_candidate: f64, missing_stable: f64| SampleEvidence::Score {
        values: cases
            .iter()
            .map(|case| {
                value(candidate, case).unwrap_or(missing_candidate) - value(stable, case).unwrap_or(missing_stable)
            })
            .collect(),
        low: -1.0,
        high: 1.0,
    };
    // The worst difference for the candidate is its own worst value against the stable version's best value.
    let worst = if worse == Worse::More { 1.0 } else { 0.0 };
    TwoSidedEvidence { for_pass: with_missing_as(worst, 1.0 - worst), for_fail: with_missing_as(1.0 - worst, worst) }
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
