//! Several tests, one claim.
//!
//! - *Any* of several checks may roll back: each gets its part of α ([`split`]). Or their evidence is averaged
//!   ([`ln_weighted_mean`]): a mean of e-values is an e-value however they depend on each other, and a little evidence
//!   from several checks adds up (Vovk and Wang 2021, Ann. Stat. 49).
//! - *All* must be refuted before it counts ("worse than the relative margin *and* above the absolute one"): the smallest
//!   ([`ln_least`]).
//! - *All* must be shown for a promotion: each at the full β, with no correction (intersection-union, Berger 1982).
//! - *Many rollouts*: [`e_benjamini_hochberg`] keeps the share of false discoveries below α under any dependence (Wang
//!   and Ramdas 2022, JRSS B 84).

use super::BadTest;
use super::special::ln_sum_exp;

/// Each check's part of `alpha`, in proportion to its weight.
///
/// # Errors
/// [`BadTest::Level`] unless `alpha` lies between 0 and 1; [`BadTest::Weights`] unless the weights are finite, not
/// negative, and some of them positive.
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

/// `ln` of the weighted mean of e-values that are given as `(weight, ln e)`; of nothing, and where no weight is positive,
/// 0. Evidence against "all nulls hold".
pub fn ln_weighted_mean(evidence: &[(f64, f64)]) -> f64 {
    let weighted = || evidence.iter().filter(|(weight, _)| *weight > 0.0);
    let sum: f64 = weighted().map(|(weight, _)| weight).sum();
    if sum > 0.0 && sum.is_finite() {
        ln_sum_exp(weighted().map(|(weight, ln_e)| libm::log(weight / sum) + ln_e))
    } else {
        0.0
    }
}

/// `ln` of the least e-value; of nothing, 0. Evidence against "at least one null holds".
pub fn ln_least(evidence: &[f64]) -> f64 {
    let least = evidence.iter().copied().fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 0.0 }
}

/// Which of `n` hypotheses are rejected, in ascending order: the `k` with the largest e-values, for the largest `k` whose
/// `k`-th reaches `n / (k α)`.
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
    fn a_level_is_split_without_remainder() {
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
    fn discoveries_are_the_largest() {
        let ln = |values: &[f64]| values.iter().map(|e| libm::log(*e)).collect::<Vec<_>>();
        assert_eq!(e_benjamini_hochberg(&ln(&[1.0, 300.0, 0.5, 45.0, 50.0]), 0.05), [1, 3, 4]);
        assert_eq!(e_benjamini_hochberg(&ln(&[1.0, 90.0]), 0.05), [1]);
        assert_eq!(e_benjamini_hochberg(&[], 0.05), [0usize; 0]);
    }
}
