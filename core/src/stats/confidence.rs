//! What can be said of a share, to people: an interval that is right at every look.
//!
//! A confidence sequence: the shares that a beta-binomial mixture test has not refuted (Howard, Ramdas, McAuliffe and
//! Sekhon 2021, Ann. Stat. 49, Proposition 7). Each candidate `p` is tested by a prior that is centred at `p` and as heavy
//! as makes the interval narrowest after a number of requests that is named in advance. Nothing is decided by it: the
//! judges have tests of their own.

use super::special::{beta_tails, ln_beta_against, normal_quantile};
use super::tally::Worth;

/// The level that the prior's weight is tuned for. It moves the width by a hair, never the validity.
const TUNED_LEVEL: f64 = 0.05;

/// The shares that are not refuted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// At least this.
    pub lower: f64,
    /// At most this.
    pub upper: f64,
}

/// The variance of the normal mixture that is narrowest at intrinsic time `v` and level `alpha` (Howard et al. 2021, §3.5,
/// by the expansion of Lambert's W).
pub fn normal_mixture_rho(v: f64, alpha: f64) -> f64 {
    let spent = -2.0 * libm::log(alpha);
    v / (spent + libm::log1p(spent))
}

/// The interval for a share at level `1 - alpha`, narrowest after about `tuned_for` requests. `alpha` lies between 0 and 1;
/// without counts the interval is all of 0 to 1.
pub fn share(counts: Worth, alpha: f64, tuned_for: f64) -> Interval {
    let (hits, misses, n) = (counts.hits(), counts.misses(), counts.n());
    if n == 0.0 {
        return Interval { lower: 0.0, upper: 1.0 };
    }
    // The prior's weight in requests. A share that is not tuned for at all still has a prior.
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

/// The part of all that may be like `count` of `runs`: the share at which so few, or fewer, would be seen with a probability of
/// `tail` (Clopper and Pearson 1934; one look, and runs that do not depend on each other). Without runs it is 1.
pub fn upper_part(count: usize, runs: usize, tail: f64) -> f64 {
    if count >= runs {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let too_few = beta_tails(middle, count as f64 + 1.0, (runs - count) as f64).upper;
        if too_few > libm::log(tail) { low = middle } else { high = middle }
    }
    high
}

/// The part of all that is at least like them, likewise. Without any it is 0.
pub fn lower_part(count: usize, runs: usize, tail: f64) -> f64 {
    if count > runs { 1.0 } else { 1.0 - upper_part(runs - count, runs, tail) }
}

/// Wilson's interval (1927) with an error of `tail` on each side: for people, where an exact one would look too wide.
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

/// Between `outer`, an end of the unit interval, and `inner`, which is not refuted: where refuting ends. If not even the
/// outermost share is refuted, that end.
fn edge(outer: f64, inner: f64, refuted: impl Fn(f64) -> bool) -> f64 {
    let outermost = outer + (inner - outer) * 1e-12;
    if !refuted(outermost) {
        return outer;
    }
    let (mut out, mut within) = (outermost, inner);
    for _ in 0..100 {
        let middle = 0.5 * (out + within);
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
    fn the_interval_holds_what_was_seen_and_narrows() {
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
    fn the_upper_part_is_that_of_clopper_and_pearson() {
        for (count, runs, expected) in [(0, 299, 0.01), (1, 10, 0.394), (5, 100, 0.1023), (7, 7, 1.0), (0, 0, 1.0)] {
            let upper = upper_part(count, runs, 0.05);
            assert!((upper - expected).abs() < 2e-4, "{count} of {runs}: {upper}");
        }
    }

    #[test]
    fn none_and_all_have_one_open_end() {
        let none = share(Worth::from(Tally::of(0, 100).unwrap()), 0.05, 100.0);
        let all = share(Worth::from(Tally::of(100, 100).unwrap()), 0.05, 100.0);
        assert_eq!(none.lower, 0.0);
        assert_eq!(all.upper, 1.0);
        assert!((none.upper - (1.0 - all.lower)).abs() < 1e-9);
    }
}
