//! When a count is more than chance.

use bellwether_core::stats::special::ln_sum_exp;

/// With few runs only what can't be chance is held against the promise; from 20,000 on the share itself.
pub fn is_above(promise: f64, count: usize, runs: usize) -> bool {
    if runs >= 20_000 {
        return count as f64 > promise * runs as f64;
    }
    let n = runs as f64;
    let term = |k: usize| {
        let (k, rest) = (k as f64, n - k as f64);
        libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(rest + 1.0)
            + k * libm::log(promise)
            + rest * libm::log1p(-promise)
    };
    ln_sum_exp((count..=runs).map(term)) < libm::log(1e-3)
}
