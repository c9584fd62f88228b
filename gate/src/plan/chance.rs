//! The probability that a version passes a limit with `n` values.
//!
//! The verdict depends on counts alone: of bad cases, of cases that differ, of slow requests. The smallest passing count
//! is found by asking the rule itself, and the probability of the counts is binomial, so the result is exact. The
//! exceptions are a quotient of two quantiles, whose distribution is integrated for exponential durations, and a quotient
//! of two sums, for which a normal distribution of its logarithm is assumed.

use bellwether_core::stats::order;
use bellwether_core::stats::special::{beta_tails, ln_normal_cdf, normal_quantile};

use super::assumption::AssumedValues;
use crate::evidence::{Durations, SampleEvidence, TwoSidedEvidence};
use crate::metric::{Aggregation, Worse};
use crate::rule::{Hypothesis, passes};
use crate::suite::{Comparison, GateLimit, RuleKind};

/// The number of standard deviations from the mean beyond which counts are neglected.
const RANGE: f64 = 6.0;

/// The number of steps of an integration.
const STEPS: usize = 800;

/// A limit with all that decides whether it is passed.
pub(super) struct Odds<'a> {
    /// The limit.
    pub limit: &'a GateLimit,
    /// The suite's `beta`.
    pub beta: f64,
    /// The number of cases that the gate requires.
    pub min_cases: usize,
}

impl Odds<'_> {
    /// Returns the probability, from 0 to 1, that `version` passes with `n` values.
    pub(super) fn passes(&self, version: &AssumedValues, n: usize) -> f64 {
        if n < self.min_cases || n == 0 {
            return 0.0;
        }
        match *version {
            AssumedValues::Bad(probability) => match self.most_bad(n) {
                Some(most) => at_most(most, n, probability),
                None => 0.0,
            },
            AssumedValues::Differs(worse, better) => self.passes_with_differences(n, worse, better),
            AssumedValues::Times(factor) => self.passes_with_times(n, factor),
            AssumedValues::Quotient(share, variance) => self.passes_with_quotient(n, share, variance),
        }
    }

    /// Returns the largest number of bad values among `n` that passes; `None` if not even 0 does.
    fn most_bad(&self, n: usize) -> Option<usize> {
        let bad_passes = |bad: usize| self.is_pass(self.with_bad(n, bad));
        if !bad_passes(0) {
            return None;
        }
        let (mut low, mut high) = (0, n + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if bad_passes(middle) { low = middle } else { high = middle }
        }
        Some(low)
    }

    /// Returns the evidence of `n` values of which `bad` are at their bad end.
    fn with_bad(&self, n: usize, bad: usize) -> SampleEvidence {
        let ones = if self.limit.metric.worse == Worse::More { bad } else { n - bad };
        match self.limit.metric.aggregation {
            Aggregation::Share => SampleEvidence::Share { hits: ones, n },
            Aggregation::Quantile(q) => {
                let slow = self.limit_value() * 2.0 + 1.0;
                let times = Durations::one_each((0..n).map(|at| if at < n - bad { 0.0 } else { slow }));
                SampleEvidence::Times { times, q }
            }
            Aggregation::Score | Aggregation::Ratio => {
                let values = (0..n).map(|at| if at < ones { 1.0 } else { 0.0 }).collect();
                SampleEvidence::Score { values, low: 0.0, high: 1.0 }
            }
        }
    }

    fn passes_with_differences(&self, n: usize, worse: f64, better: f64) -> f64 {
        let differ = worse + better;
        let (mean, deviation) = (n as f64 * differ, (n as f64 * differ * (1.0 - differ)).sqrt());
        let from = libm::floor(mean - RANGE * deviation).max(0.0) as usize;
        let to = (libm::ceil(mean + RANGE * deviation) as usize).min(n);
        let count_passes = |worse: usize, better: usize| {
            let sign = if self.limit.metric.worse == Worse::More { 1.0 } else { -1.0 };
            let value = |at: usize| match at {
                at if at < worse => sign,
                at if at < worse + better => -sign,
                _ => 0.0,
            };
            let values = (0..n).map(value).collect();
            self.is_pass(SampleEvidence::Score { values, low: -1.0, high: 1.0 })
        };
        // The number of worse cases that still passes rises with the number of cases that differ.
        let mut allowed = 0;
        let mut sum = 0.0;
        for differing in from..=to {
            while allowed < differing && count_passes(allowed + 1, differing - allowed - 1) {
                allowed += 1;
            }
            let before = if differing == 0 { 0.0 } else { at_most(differing - 1, n, differ) };
            let probability = at_most(differing, n, differ) - before;
            let share = if differ > 0.0 { worse / differ } else { 0.0 };
            if allowed > 0 || count_passes(0, differing) {
                sum += probability * at_most(allowed, differing, share);
            }
        }
        sum.clamp(0.0, 1.0)
    }

    /// Integrates over the stable version's order statistic: its uniform value has a beta distribution.
    fn passes_with_times(&self, n: usize, factor: f64) -> f64 {
        let Aggregation::Quantile(q) = self.limit.metric.aggregation else { return 0.0 };
        let ranks: Vec<f64> = (1..=n).map(|rank| rank as f64).collect();
        let (upper, lower) = (order::upper(&ranks, q, self.beta / 2.0), order::lower(&ranks, q, self.beta / 2.0));
        let Some((upper, lower)) = upper.zip(lower) else { return 0.0 };
        let power = self.limit_value() / factor;
        let n = n as f64;
        let mean = lower / (n + 1.0);
        let deviation = (mean * (1.0 - mean) / (n + 2.0)).sqrt();
        let (from, to) = ((mean - RANGE * deviation).max(0.0), (mean + RANGE * deviation).min(1.0));
        let step = (to - from) / STEPS as f64;
        let below = |x: f64, rank: f64| libm::exp(beta_tails(x, rank, n - rank + 1.0).lower);
        let mut sum = 0.0;
        let mut before = below(from, lower);
        for at in 1..=STEPS {
            let end = from + step * at as f64;
            let after = below(end, lower);
            // The candidate is fast enough if its exponential value is at most this power of the stable version's.
            let fast = 1.0 - libm::pow(1.0 - (end - 0.5 * step), power);
            sum += (after - before) * below(fast, upper);
            before = after;
        }
        sum.clamp(0.0, 1.0)
    }

    fn passes_with_quotient(&self, n: usize, share: f64, variance: f64) -> f64 {
        let against_stable = matches!(self.limit.comparison, Comparison::MaxRatio(_));
        let sums = if against_stable { 2.0 } else { 1.0 };
        let deviation = (sums * variance / n as f64).sqrt();
        let bound = if self.limit.rule == RuleKind::Bound { normal_quantile(1.0 - self.beta) } else { 0.0 };
        libm::exp(ln_normal_cdf(-libm::log(share) / deviation - bound))
    }

    fn is_pass(&self, evidence: SampleEvidence) -> bool {
        let hypothesis = Hypothesis {
            at_most: self.at_most(),
            limit: self.limit_value(),
            rule: self.limit.rule,
            none: self.limit.none,
            enough: true,
            complete: true,
            evidence: TwoSidedEvidence { for_pass: evidence.clone(), for_fail: evidence },
        };
        passes(&hypothesis, self.beta)
    }

    fn at_most(&self) -> bool {
        match self.limit.comparison {
            Comparison::Max(_) | Comparison::MaxRatio(_) => true,
            Comparison::Min(_) => false,
            Comparison::Margin(_) => self.limit.metric.worse == Worse::More,
        }
    }

    /// Returns the value that the bound is compared with.
    fn limit_value(&self) -> f64 {
        match self.limit.comparison {
            Comparison::Max(value) | Comparison::Min(value) | Comparison::MaxRatio(value) => value,
            Comparison::Margin(margin) if self.at_most() => margin,
            Comparison::Margin(margin) => -margin,
        }
    }
}

/// Returns the probability of at most `most` events among `n`, each with this probability.
fn at_most(most: usize, n: usize, probability: f64) -> f64 {
    if most >= n {
        return 1.0;
    }
    // The number is at most `most` if the (most + 1)-th smallest of `n` uniform values is above the probability.
    libm::exp(beta_tails(probability, most as f64 + 1.0, (n - most) as f64).upper)
}
