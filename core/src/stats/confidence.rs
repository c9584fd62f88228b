//! Confidence intervals for a share: a sequence that holds at every look, and intervals for one look.
//!
//! The confidence sequence has the shares that a beta-binomial mixture test has not refuted (Howard, Ramdas, McAuliffe
//! and Sekhon 2021, Ann. Stat. 49, Proposition 7). Each candidate `p` is tested with a prior that is centred at `p`,
//! and whose weight makes the interval narrowest after a number of requests that is fixed in advance. The
//! sequence and Wilson's interval are for display; `upper_part` and `lower_part` also decide gates.

use super::special::{beta_tails, ln_beta_against, normal_quantile};
use super::tally::Worth;

/// The level that the prior's weight is tuned for. It slightly affects the width of the interval and never its
/// validity.
const TUNED_LEVEL: f64 = 0.05;

/// The tolerance of an edge, as a part of its distance from the end of the unit interval.
const EDGE_TOLERANCE: f64 = 1e-10;

/// A confidence interval for a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end, from 0 to 1.
    pub lower: f64,
    /// The upper end, from 0 to 1.
    pub upper: f64,
}

/// Returns the variance of the normal mixture whose boundary is narrowest at intrinsic time `v`, above 0, and level
/// `alpha`, above 0 and below 1 (Howard et al. 2021, §3.5, by the expansion of Lambert's W).
pub fn normal_mixture_rho(v: f64, alpha: f64) -> f64 {
    let spent = -2.0 * libm::log(alpha);
    v / (spent + libm::log1p(spent))
}

/// Returns a confidence interval for a share that holds at all looks together, with probability `1 - alpha` (Howard et
/// al. 2021, Proposition 7).
///
/// `counts` has all requests so far, `alpha` is the error probability, above 0 and below 1, and `tuned_for` is the
/// number of requests after which the interval is narrowest. Without counts the interval is 0 to 1.
pub fn share(counts: Worth, alpha: f64, tuned_for: f64) -> Interval {
    let (hits, misses, n) = (counts.hits(), counts.misses(), counts.n());
    if n == 0.0 {
        return Interval { lower: 0.0, upper: 1.0 };
    }
    // The prior's weight in requests, at least a thousandth so that there is a prior for any `tuned_for`.
    let weight = (normal_mixture_rho(tuned_for, TUNED_LEVEL) - 1.0).max(1e-3);
    let refuted = |p: f64| {
        let (a, b) = (weight * p, weight * (1.0 - p));
        let ln_e = ln_beta_against(a + hits, b + misses, p) - ln_beta_against(a, b, p);
        ln_e >= -libm::log(alpha)
    };
    let seen = hits / n;
    Interval {
        lower: if hits == 0.0 { 0.0 } else { edge(0.0, seen, refuted) },
        upper: if misses == 0.0 { 1.0 } else { edge(1.0, seen, refuted) },
    }
}

/// Returns a one-sided upper confidence bound for a share, given `count` of `runs` independent runs and one look: the
/// share at which `count` or fewer would be observed with probability `tail` (Clopper and Pearson 1934).
///
/// `tail` is the error probability, above 0 and below 1. Returns 1 if `count` is at least `runs`, in particular without
/// runs.
pub fn upper_part(count: usize, runs: usize, tail: f64) -> f64 {
    if count >= runs {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let ln_at_most = beta_tails(middle, count as f64 + 1.0, (runs - count) as f64).upper;
        if ln_at_most > libm::log(tail) { low = middle } else { high = middle }
    }
    high
}

/// Returns a one-sided lower confidence bound for a share, given `count` of `runs` independent runs and one look
/// (Clopper and Pearson 1934).
///
/// `tail` is the error probability, above 0 and below 1. Returns 0 if `count` is 0, in particular without runs, and 1
/// if `count` exceeds `runs`.
pub fn lower_part(count: usize, runs: usize, tail: f64) -> f64 {
    if count > runs { 1.0 } else { 1.0 - upper_part(runs - count, runs, tail) }
}

/// Returns Wilson's interval (1927) for a share, given `count` of `runs` independent runs and one look. It is
/// approximate and narrower than the exact interval; use it for display.
///
/// `tail` is the error probability on each side, above 0 and below 1. Without runs the interval is 0 to 1.
pub fn wilson(count: usize, runs: usize, tail: f64) -> Interval {
    if runs == 0 {
        return Interval { lower: 0.0, upper: 1.0 };
    }
    let (n, z) = (runs as f64, normal_quantile(1.0 - tail));
    let share = count as f64 / n;
    let middle = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    Interval { lower: ((middle - half) / scale).max(0.0), upper: ((middle + half) / scale).min(1.0) }
}

/// Returns the boundary between the refuted shares near `outer`, an end of the unit interval, and `inner`, which is not
/// refuted; returns `outer` if even the outermost share is not refuted. The result is refuted itself, so that the interval is never too
/// narrow, and too wide by [`EDGE_TOLERANCE`] at most.
fn edge(outer: f64, inner: f64, refuted: impl Fn(f64) -> bool) -> f64 {
    let outermost = outer + (inner - outer) * 1e-12;
    if !refuted(outermost) {
        return outer;
    }
    let (mut out, mut within) = (outermost, inner);
    while (within - out).abs() > EDGE_TOLERANCE * (within - outer).abs() {
        let middle = 0.5 * (out + within);
        // Near 1 the numbers themselves may be farther apart than the tolerance.
        if middle == out || middle == within {
            break;
        }
        if refuted(middle) { out = middle } else { within = middle }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tally::Tally;

    #[test]
    fn the_interval_contains_the_observed_share_and_narrows() {
        let mut width = 1.1;
        for n in [0u64, 10, 100, 1000, 10_000, 1_000_000] {
            let interval = share(Worth::from(Tally::of(n / 5, n).unwrap()), 0.05, 1000.0);
            assert!(interval.lower <= 0.2 && 0.2 <= interval.upper, "{n}");
            assert!(interval.upper - interval.lower < width, "{n}");
            width = interval.upper - interval.lower;
        }
    }

    /// By hand: of 299 runs without one, `0.99^299 = 5 %`; the exact bounds of 1 in 10 and 5 in 100 are in every table.
    #[test]
    fn the_upper_bound_is_clopper_and_pearsons() {
        for (count, runs, expected) in [(0, 299, 0.01), (1, 10, 0.394), (5, 100, 0.1023), (7, 7, 1.0), (0, 0, 1.0)] {
            let upper = upper_part(count, runs, 0.05);
            assert!((upper - expected).abs() < 2e-4, "{count} of {runs}: {upper}");
        }
    }

    #[test]
    fn an_interval_at_the_end_of_the_numbers_is_found() {
        let most = 1u64 << 53;
        let interval = share(Worth::from(Tally::of(most - 1, most).unwrap()), 0.05, 1000.0);
        assert!(interval.lower < 1.0 && interval.upper == 1.0, "{interval:?}");
    }

    #[test]
    fn counts_of_none_and_of_all_reach_the_end_of_the_interval() {
        let none = share(Worth::from(Tally::of(0, 100).unwrap()), 0.05, 100.0);
        let all = share(Worth::from(Tally::of(100, 100).unwrap()), 0.05, 100.0);
        assert_eq!(none.lower, 0.0);
        assert_eq!(all.upper, 1.0);
        assert!((none.upper - (1.0 - all.lower)).abs() < 1e-9);
    }
}
