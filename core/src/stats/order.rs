//! A quantile of anything, from one look, with bounds that ask nothing of its distribution.
//!
//! How many of `n` values are below the true quantile is binomial, whatever the values are. So the k-th smallest is above it
//! with a probability that the incomplete beta function knows, and the bounds are values that were seen. With too few of them
//! there is no bound: of 58 values not even the largest is above the 95th percentile with 95 % confidence.

use super::special::beta_tails;

/// The smallest of the sorted values that is at least the `q`-quantile with an error of at most `tail`; `None`: there are too
/// few.
pub fn upper(sorted: &[f64], q: f64, tail: f64) -> Option<f64> {
    let n = sorted.len();
    // The k-th is below the quantile if k or more are.
    let error = |k: usize| beta_tails(q, k as f64, (n - k) as f64 + 1.0).lower;
    let k = first(1, n, |k| error(k) <= libm::log(tail))?;
    Some(sorted[k - 1])
}

/// The largest that is at most the quantile, likewise.
pub fn lower(sorted: &[f64], q: f64, tail: f64) -> Option<f64> {
    let n = sorted.len();
    // The k-th is above the quantile if fewer than k are below.
    let error = |k: usize| beta_tails(q, k as f64, (n - k) as f64 + 1.0).upper;
    let above = first(1, n, |k| error(k) > libm::log(tail)).unwrap_or(n + 1);
    sorted.get(above.checked_sub(2)?).copied()
}

/// The `q`-quantile of the sorted values themselves: the smallest that a share of at least `q` does not exceed.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let k = libm::ceil(q * sorted.len() as f64) as usize;
    sorted.get(k.max(1) - 1).copied()
}

/// The first of `from..=to` of which `holds` is true; it is false before and true after.
fn first(from: usize, to: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (from, to + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    (low <= to).then_some(low)
}
