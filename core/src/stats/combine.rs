//! Combination of the evidence of several tests.
//!
//! - *Any* of several checks may roll back: each gets its part of α ([`split`]), or their evidence is averaged
//!   ([`ln_weighted_mean`]). A mean of e-values is an e-value under any dependence, and weak evidence from several
//!   checks adds up (Vovk and Wang 2021, Ann. Stat. 49).
//! - *All* null hypotheses must be refuted ("worse than the relative margin *and* above the absolute one"): the
//!   smallest e-value counts ([`ln_least`]).
//! - *All* proofs are required for a promotion: each at the full β, without a correction (intersection-union, Berger
//!   1982).
//! - *Many rollouts*: [`e_benjamini_hochberg`] keeps the share of false discoveries below α under any dependence (Wang
//!   and Ramdas 2022, JRSS B 84).

use super::BadTest;
use super::special::ln_sum_exp;

/// Splits the error rate `alpha` among several tests in proportion to their weights (Bonferroni).
///
/// `alpha` is above 0 and below 1; `weights` are finite and not negative, and their scale does not matter. Returns one
/// error rate per weight; their sum is `alpha`.
///
/// # Errors
/// [`BadTest::Level`] if `alpha` is not above 0 and below 1; [`BadTest::Weights`] if a weight is negative or not
/// finite, or no weight is positive.
pub fn split(alpha: f64, weights: &[f64]) -> Result<Vec<f64>, BadTest> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(BadTest::Level(alpha));
    }
    let sum: f64 = weights.iter().sum();
    if weights.iter().any(|weight| weight.is_nan() || *weight < 0.0) || !(sum > 0.0 && sum.is_finite()) {
        return Err(BadTest::Weights);
    }
    Ok(weights.iter().map(|weight| alpha * (weight / sum)).collect())
}

/// Returns the `ln` of the weighted mean of e-values, in nats: evidence against "all null hypotheses hold" (Vovk and
/// Wang 2021).
///
/// `evidence` has pairs of a weight and the `ln` of an e-value; pairs whose weight is not positive are left out.
/// Returns 0 if no pair is left, or if the sum of the weights is infinite.
pub fn ln_weighted_mean(evidence: &[(f64, f64)]) -> f64 {
    let weighted = || evidence.iter().filter(|(weight, _)| *weight > 0.0);
    let sum: f64 = weighted().map(|(weight, _)| weight).sum();
    if sum > 0.0 && sum.is_finite() {
        ln_sum_exp(weighted().map(|(weight, ln_e)| libm::log(weight / sum) + ln_e))
    } else {
        0.0
    }
}

/// Returns the smallest of the given `ln` e-values, in nats: evidence against "at least one null hypothesis holds".
/// Returns 0 for an empty slice and if the smallest is infinite.
pub fn ln_least(evidence: &[f64]) -> f64 {
    let least = evidence.iter().copied().fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 0.0 }
}

/// Returns the indices of the rejected hypotheses in ascending order, by the e-Benjamini-Hochberg procedure (Wang and
/// Ramdas 2022).
///
/// `evidence` has the `ln` e-value of each of `n` hypotheses, in nats; `alpha` is the tolerated share of false
/// discoveries, above 0 and below 1. Rejected are the `k` largest e-values, for the largest `k` whose `k`-th largest
/// e-value reaches `n / (k α)`.
pub fn e_benjamini_hochberg(evidence: &[f64], alpha: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..evidence.len()).collect();
    let of = |index: &usize| evidence.get(*index).copied().unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|a, b| of(b).total_cmp(&of(a)).then(a.cmp(b)));
    let n = evidence.len() as f64;
    let rejected = order
        .iter()
        .enumerate()
        .filter(|(rank, index)| of(index) >= libm::log(n / ((rank + 1) as f64 * alpha)))
        .map(|(rank, _)| rank + 1)
        .max()
        .unwrap_or(0);
    order.truncate(rejected);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_split_by_weights_and_bad_levels_and_weights_are_refused() {
        let parts = split(0.01, &[3.0, 1.0, 0.0]).unwrap();
        assert_eq!(parts, [0.0075, 0.0025, 0.0]);
        for alpha in [0.0, 1.0, 1.5, f64::NAN] {
            assert!(split(alpha, &[1.0]).is_err(), "{alpha}");
        }
        for weights in [&[][..], &[0.0], &[-1.0, 2.0], &[f64::NAN], &[f64::INFINITY]] {
            assert_eq!(split(0.01, weights), Err(BadTest::Weights), "{weights:?}");
        }
    }

    #[test]
    fn the_largest_e_values_are_rejected() {
        let ln = |values: &[f64]| values.iter().map(|e| libm::log(*e)).collect::<Vec<_>>();
        assert_eq!(e_benjamini_hochberg(&ln(&[1.0, 300.0, 0.5, 45.0, 50.0]), 0.05), [1, 3, 4]);
        assert_eq!(e_benjamini_hochberg(&ln(&[1.0, 90.0]), 0.05), [1]);
        assert_eq!(e_benjamini_hochberg(&[], 0.05), [0usize; 0]);
    }
}
