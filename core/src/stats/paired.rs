//! The comparison of two arms that answered the same cases, by the cases on which they differ.

use super::special::beta_tails;

/// The p-values of McNemar's exact test (1947).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// The probability of a difference as large or larger in either direction if the arms are equal, from 0 to 1.
    pub two_sided: f64,
    /// The probability that as many cases or more go to the first arm if the arms are equal, from 0 to 1.
    pub one_is_more: f64,
}

/// Performs McNemar's exact test (1947). Under the null hypothesis each case on which the arms differ goes to either
/// arm with probability 1/2.
///
/// `one` and `other` are the numbers of such cases that went to the first and to the second arm. If both are 0, both
/// p-values are 1.
pub fn mcnemar(one: u64, other: u64) -> McNemar {
    let n = one + other;
    // P(X >= k) for X distributed as binomial(n, 1/2).
    let at_least = |k: u64| {
        if k == 0 { 1.0 } else { libm::exp(beta_tails(0.5, k as f64, (n - k) as f64 + 1.0).lower) }
    };
    McNemar { two_sided: (2.0 * at_least(one.max(other))).min(1.0), one_is_more: at_least(one) }
}
