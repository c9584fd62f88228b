//! A significance test for counts of simulated errors.

use bellwether_core::stats::special::ln_sum_exp;

/// Returns whether `count` of `runs` simulated runs contradict the error rate `promised`, a number between 0 and 1.
///
/// From 20,000 runs on, the observed share itself must not exceed `promised`. With fewer runs the result is `true` only
/// if so many errors or more have a probability below 1/1000 (exact binomial test), so that chance rarely fails a test.
pub fn is_above(promised: f64, count: usize, runs: usize) -> bool {
    if runs >= 20_000 {
        return count as f64 > promised * runs as f64;
    }
    let n = runs as f64;
    let term = |k: usize| {
        let (k, rest) = (k as f64, n - k as f64);
        libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(rest + 1.0)
            + k * libm::log(promised)
            + rest * libm::log1p(-promised)
    };
    ln_sum_exp((count..=runs).map(term)) < libm::log(1e-3)
}
