//! What a number rests on, and what can be said of it with confidence.
//!
//! Repeats of one case depend on each other, and the two arms' answers to one case do, too; cases do not. So a case is one
//! number, however often it was asked, and a comparison is one difference for each case. Each shape has the bound that is
//! exact, or nearest to it:
//!
//! | shape | bound | holds |
//! | --- | --- | --- |
//! | yes or no | Clopper and Pearson | at every `n` |
//! | a score, or a difference | Gaffke | at every `n`, as far as anybody has seen |
//! | a quantile of times | order statistics | at every `n` |
//! | two quantiles, divided | both of them, half the error each | at every `n` |
//! | two sums, divided | BCa bootstrap over cases | for many cases |
//!
//! What was asked and not answered is there twice: as bad as can be where it is asked whether the gate passes, and as good as
//! can be where it is asked whether it fails. So silence never decides.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::stats::bootstrap::{Resampled, resample};
use bellwether_core::stats::confidence::{lower_part, upper_part};
use bellwether_core::stats::{bounded, order};

use crate::metric::{Shape, Worse};

/// So often is resampled: enough for a tail of a thousandth.
pub const RESAMPLES: usize = 9_999;

/// What was measured of one arm, not yet held against anything.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// A number from 0 to 1 for each case; `None`: asked and not answered.
    PerCase(BTreeMap<String, Option<f64>>),
    /// Milliseconds for each request: the shortest that it can have been, and the longest.
    Times(Vec<(f64, f64)>),
    /// Two numbers for each case.
    Ratio(BTreeMap<String, (f64, f64)>),
}

impl Measured {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Measured::PerCase(cases) => cases.len(),
            Measured::Times(times) => times.len(),
            Measured::Ratio(cases) => cases.len(),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a bound can be had for.
#[derive(Debug, Clone)]
pub enum Evidence {
    /// Yes or no.
    Share {
        /// Yes.
        hits: usize,
        /// Yes and no.
        n: usize,
    },
    /// Numbers within a range.
    Score {
        /// The numbers.
        values: Vec<f64>,
        /// None is below.
        low: f64,
        /// None is above.
        high: f64,
    },
    /// Times, sorted.
    Times {
        /// Milliseconds.
        sorted: Vec<f64>,
        /// Which quantile.
        q: f64,
    },
    /// A quantile of some, divided by that of others.
    TimesRatio {
        /// Of the candidate, sorted.
        candidate: Vec<f64>,
        /// Of the stable, sorted.
        stable: Vec<f64>,
        /// Which quantile.
        q: f64,
    },
    /// What only resampling has a bound for.
    Resampled {
        /// How many cases.
        n: usize,
        /// `None`: too few to resample.
        resampled: Option<Resampled>,
    },
}

/// Evidence for passing, and evidence for failing: the same but for what was not answered.
#[derive(Debug, Clone)]
pub struct Sides {
    /// With the worst for what was not answered.
    pub for_pass: Evidence,
    /// With the best.
    pub for_fail: Evidence,
}

impl Evidence {
    /// How much there is.
    pub fn n(&self) -> usize {
        match self {
            Evidence::Share { n, .. } | Evidence::Resampled { n, .. } => *n,
            Evidence::Score { values, .. } => values.len(),
            Evidence::Times { sorted, .. } => sorted.len(),
            Evidence::TimesRatio { candidate, stable, .. } => candidate.len().min(stable.len()),
        }
    }

    /// The plain number; `None`: there is nothing.
    pub fn estimate(&self) -> Option<f64> {
        match self {
            Evidence::Share { n: 0, .. } => None,
            Evidence::Share { hits, n } => Some(*hits as f64 / *n as f64),
            Evidence::Score { values, .. } if values.is_empty() => None,
            Evidence::Score { values, .. } => Some(values.iter().sum::<f64>() / values.len() as f64),
            Evidence::Times { sorted, q } => order::quantile(sorted, *q),
            Evidence::TimesRatio { candidate, stable, q } => {
                order::quantile(candidate, *q).zip(order::quantile(stable, *q)).map(|(one, other)| one / other)
            }
            Evidence::Resampled { resampled, .. } => resampled.as_ref().map(|resampled| resampled.estimate),
        }
    }

    /// It is at most this, with an error of `tail`; ∞ where nothing can be said.
    pub fn upper(&self, tail: f64) -> f64 {
        match self {
            Evidence::Share { hits, n } => upper_part(*hits, *n, tail),
            Evidence::Score { values, low, high } => {
                low + (high - low) * bounded::upper(&unit(values, *low, *high), tail)
            }
            Evidence::Times { sorted, q } => order::upper(sorted, *q, tail).unwrap_or(f64::INFINITY),
            Evidence::TimesRatio { candidate, stable, q } => {
                let (one, other) = (order::upper(candidate, *q, tail / 2.0), order::lower(stable, *q, tail / 2.0));
                one.zip(other).map_or(f64::INFINITY, |(one, other)| one / other)
            }
            Evidence::Resampled { resampled, .. } => {
                resampled.as_ref().map_or(f64::INFINITY, |resampled| resampled.upper(tail))
            }
        }
    }

    /// It is at least this, likewise; -∞ where nothing can be said.
    pub fn lower(&self, tail: f64) -> f64 {
        match self {
            Evidence::Share { hits, n } => lower_part(*hits, *n, tail),
            Evidence::Score { values, low, high } => {
                low + (high - low) * bounded::lower(&unit(values, *low, *high), tail)
            }
            Evidence::Times { sorted, q } => order::lower(sorted, *q, tail).unwrap_or(f64::NEG_INFINITY),
            Evidence::TimesRatio { candidate, stable, q } => {
                let (one, other) = (order::lower(candidate, *q, tail / 2.0), order::upper(stable, *q, tail / 2.0));
                one.zip(other).map_or(f64::NEG_INFINITY, |(one, other)| one / other)
            }
            Evidence::Resampled { resampled, .. } => {
                resampled.as_ref().map_or(f64::NEG_INFINITY, |resampled| resampled.lower(tail))
            }
        }
    }
}

fn unit(values: &[f64], low: f64, high: f64) -> Vec<f64> {
    values.iter().map(|value| ((value - low) / (high - low)).clamp(0.0, 1.0)).collect()
}

impl Sides {
    /// Of one arm alone.
    pub fn alone(measured: &Measured, shape: Shape, worse: Worse, seed: u64) -> Sides {
        match measured {
            Measured::PerCase(cases) => {
                // The worst that a case can be.
                let worst = if worse == Worse::More { 1.0 } else { 0.0 };
                let with =
                    |unknown: f64| of_cases(cases.values().map(|value| value.unwrap_or(unknown)).collect(), shape);
                Sides { for_pass: with(worst), for_fail: with(1.0 - worst) }
            }
            Measured::Times(times) => {
                let q = quantile_of(shape);
                Sides {
                    for_pass: Evidence::Times { sorted: sorted(times.iter().map(|(_, longest)| *longest)), q },
                    for_fail: Evidence::Times { sorted: sorted(times.iter().map(|(shortest, _)| *shortest)), q },
                }
            }
            Measured::Ratio(cases) => {
                let pairs: Vec<(f64, f64)> = cases.values().copied().collect();
                let ratio = resample(pairs.len(), RESAMPLES, seed, |drawn| quotient(&pairs, drawn));
                both(Evidence::Resampled { n: pairs.len(), resampled: ratio })
            }
        }
    }

    /// Of the candidate against the stable: differences case by case, or a quotient. `None`: nothing to compare.
    pub fn against(candidate: &Measured, stable: &Measured, shape: Shape, worse: Worse, seed: u64) -> Option<Sides> {
        match (candidate, stable) {
            (Measured::PerCase(one), Measured::PerCase(other)) => Some(differences(one, other, worse)),
            (Measured::Times(one), Measured::Times(other)) => {
                let q = quantile_of(shape);
                let pick = |times: &[(f64, f64)], longest: bool| {
                    sorted(times.iter().map(|(short, long)| if longest { *long } else { *short }))
                };
                Some(Sides {
                    for_pass: Evidence::TimesRatio { candidate: pick(one, true), stable: pick(other, false), q },
                    for_fail: Evidence::TimesRatio { candidate: pick(one, false), stable: pick(other, true), q },
                })
            }
            (Measured::Ratio(one), Measured::Ratio(other)) => {
                let cases = || one.iter().filter_map(|(case, ours)| other.get(case).map(|theirs| (*ours, *theirs)));
                let ours: Vec<(f64, f64)> = cases().map(|(ours, _)| ours).collect();
                let theirs: Vec<(f64, f64)> = cases().map(|(_, theirs)| theirs).collect();
                let resampled = resample(ours.len(), RESAMPLES, seed, |drawn| {
                    let quotient = quotient(&ours, drawn) / quotient(&theirs, drawn);
                    if quotient.is_nan() { f64::INFINITY } else { quotient }
                });
                Some(both(Evidence::Resampled { n: ours.len(), resampled }))
            }
            _ => None,
        }
    }
}

fn both(evidence: Evidence) -> Sides {
    Sides { for_pass: evidence.clone(), for_fail: evidence }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn quantile_of(shape: Shape) -> f64 {
    match shape {
        Shape::Quantile(q) => q,
        Shape::Share | Shape::Score | Shape::Ratio => 0.5,
    }
}

fn of_cases(values: Vec<f64>, shape: Shape) -> Evidence {
    if shape == Shape::Share {
        let hits = values.iter().filter(|value| **value > 0.5).count();
        return Evidence::Share { hits, n: values.len() };
    }
    Evidence::Score { values, low: 0.0, high: 1.0 }
}

/// Candidate minus stable for each case that both were asked.
fn differences(one: &BTreeMap<String, Option<f64>>, other: &BTreeMap<String, Option<f64>>, worse: Worse) -> Sides {
    let cases: BTreeSet<&String> = one.keys().filter(|case| other.contains_key(*case)).collect();
    let value = |of: &BTreeMap<String, Option<f64>>, case: &String| of.get(case).copied().flatten();
    let with = |candidate: f64, stable: f64| Evidence::Score {
        values: cases
            .iter()
            .map(|case| value(one, case).unwrap_or(candidate) - value(other, case).unwrap_or(stable))
            .collect(),
        low: -1.0,
        high: 1.0,
    };
    // What the candidate did not answer is the worst, and what the stable did not is the best, that it can have been.
    let worst = if worse == Worse::More { 1.0 } else { 0.0 };
    Sides { for_pass: with(worst, 1.0 - worst), for_fail: with(1.0 - worst, worst) }
}

/// `Σ first / Σ second` over the drawn cases; ∞ where there is nothing to divide by.
fn quotient(pairs: &[(f64, f64)], drawn: &[usize]) -> f64 {
    let (mut above, mut below) = (0.0, 0.0);
    for at in drawn {
        above += pairs[*at].0;
        below += pairs[*at].1;
    }
    if below > 0.0 { above / below } else { f64::INFINITY }
}
