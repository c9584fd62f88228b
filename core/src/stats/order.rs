//! Confidence bounds for a quantile from one look, for any distribution.
//!
//! The number of `n` values below the true quantile is binomial for any distribution. So the k-th smallest
//! value is above the quantile with a probability given by the incomplete beta function, and the bounds are observed
//! values. With too few values there is no bound: of 58 values not even the largest is above the 95th percentile with
//! 95 % confidence.

use super::special::beta_tails;

/// Returns an upper confidence bound for the `q`-quantile: the smallest of the values that is at least the quantile
/// with an error probability of at most `tail`.
///
/// `sorted` are independent values in ascending order; `q` and `tail` are above 0 and below 1. Returns `None` if there
/// are too few values.
pub fn upper(sorted: &[f64], q: f64, tail: f64) -> Option<f64> {
    let n = sorted.len();
    // The k-th is below the quantile if k or more are.
    let error = |k: usize| beta_tails(q, k as f64, (n - k) as f64 + 1.0).lower;
    let k = first(1, n, |k| error(k) <= libm::log(tail))?;
    Some(sorted[k - 1])
}

/// Returns a lower confidence bound for the `q`-quantile: the largest of the values that is at most the quantile with
/// an error probability of at most `tail`.
///
/// `sorted` are independent values in ascending order; `q` and `tail` are above 0 and below 1. Returns `None` if there
/// are too few values.
pub fn lower(sorted: &[f64], q: f64, tail: f64) -> Option<f64> {
    let n = sorted.len();
    // The k-th is above the quantile if fewer than k are below.
    let error = |k: usize| beta_tails(q, k as f64, (n - k) as f64 + 1.0).upper;
    let above = first(1, n, |k| error(k) > libm::log(tail)).unwrap_or(n + 1);
    sorted.get(above.checked_sub(2)?).copied()
}

/// Returns the `q`-quantile of the values themselves: the smallest value that is not exceeded by a share of at least
/// `q` of them. `sorted` is in ascending order and `q` from 0 to 1. Returns `None` without values.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let k = libm::ceil(q * sorted.len() as f64) as usize;
    sorted.get(k.max(1) - 1).copied()
}

/// Returns the first of `from..=to` for which `holds` is true, by bisection; `holds` must be false before it and true
/// after it. Returns `None` if `holds` is true for none.
fn first(from: usize, to: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (from, to + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    (low <= to).then_some(low)
}
