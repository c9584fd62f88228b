//! The measurement of drift: the distance between the distribution of the canary's answers and that of the stable's, now or in
//! its past, over the check's window and bucket by bucket.
//!
//! Each distance is above zero even without a drift, and is larger the fewer answers there are: ten buckets and a hundred
//! answers on each side have a population stability index of 0.18 by chance alone. The distance that is expected by chance is
//! therefore subtracted before the comparison with the limit. A distance of any size is no drift if chance gives it more
//! often than once in a thousand. The expected distances are:
//!
//! ```text
//! PSI: (k-1)(1/n + 1/m)      Jensen-Shannon: divergence less (k-1)(1/n + 1/m)/8      Kolmogorov-Smirnov: 0.8687 √(1/n + 1/m)
//! ```
//!
//! (`k` buckets that are not empty, `n` and `m` answers. The second follows from the first by PSI ≈ 8 JSD near zero; 0.8687 is the
//! mean of Kolmogorov's distribution, √(π/2) ln 2.) A drift is a change and not necessarily a deterioration. Such a check
//! therefore only warns, unless the policy sets `on-regressed = "roll-back"`.

use super::drift_finding::DriftFinding;
use crate::judge::rule::Look;
use crate::measure::block::Reading;
use crate::measure::metric::{Against, Distance};
use crate::measure::window::{Arm, Measure};
use crate::stats::drift::{chi_square, jensen_shannon, kolmogorov_limit, population_stability};
use crate::time::Span;

/// The mean of Kolmogorov's distribution.
const KOLMOGOROV_MEAN: f64 = 0.868_731_160_636_159_6;

/// Returns the distance over the check's window, with its finding. `None` if one side has no answers, or if the sides have
/// different buckets.
pub fn measure(window: Span, look: &Look<'_>) -> Option<(Measure, DriftFinding)> {
    let metric = look.target.metric;
    let of = |arm| look.ring.counts(look.name, arm, window);
    let (subject, reference) = match metric.against {
        Against::Stable => (of(Arm::Canary)?, of(Arm::Stable)?),
        Against::Past => {
            (of(Arm::Canary).or_else(|| of(Arm::Stable))?, histogram(look.history?.distribution.as_ref()?)?)
        }
    };
    if subject.0 != reference.0 {
        return None;
    }
    let count = |counts: &[u64]| counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    let (n, m) = (count(&subject.1), count(&reference.1));
    if n == 0 || m == 0 {
        return None;
    }
    let comparison = compare(metric.distance, &reference.1, &subject.1);
    let drifted = DriftFinding {
        distance: metric.distance,
        against: metric.against,
        reference: m,
        chance: comparison.chance,
        p: comparison.p,
    };
    Some((Measure { value: comparison.value, hits: None, n, beyond: false }, drifted))
}

/// The distance between two histograms with the same buckets.
struct Comparison {
    /// The distance less `chance`; at least 0.
    value: f64,
    /// The part of the distance that is expected by chance.
    chance: f64,
    /// The probability that chance alone gives at least the distance that was seen.
    p: f64,
}

fn compare(distance: Distance, reference: &[u64], subject: &[u64]) -> Comparison {
    let as_f64 = |counts: &[u64]| counts.iter().map(|count| *count as f64).collect::<Vec<f64>>();
    let (r, s) = (as_f64(reference), as_f64(subject));
    let (m, n): (f64, f64) = (r.iter().sum(), s.iter().sum());
    let noise = 1.0 / n + 1.0 / m;
    let used = r.iter().zip(&s).filter(|(r, s)| **r + **s > 0.0).count();
    let freedom = used.saturating_sub(1) as f64;
    let by_buckets = || chi_square(&r, &s).map_or(1.0, |test| test.p);
    let share = |counts: &[f64], all: f64| counts.iter().map(|count| count / all).collect::<Vec<f64>>();
    match distance {
        Distance::Psi => {
            let chance = freedom * noise;
            // Leave out buckets that are empty on both sides, as most of a native histogram are: the index gives
            // an empty bucket a small share that can differ between the sides, which would add to the distance.
            let (r, s): (Vec<f64>, Vec<f64>) = r.iter().zip(&s).filter(|(r, s)| **r + **s > 0.0).unzip();
            let seen = population_stability(&share(&r, m), &share(&s, n));
            Comparison { value: (seen - chance).max(0.0), chance, p: by_buckets() }
        }
        Distance::JensenShannon => {
            let chance = freedom * noise / 8.0;
            let seen = jensen_shannon(&r, &s);
            let value = (seen * seen - chance).max(0.0).sqrt();
            Comparison { value, chance: seen - value, p: by_buckets() }
        }
        Distance::KolmogorovSmirnov => {
            let mut upto = (0.0, 0.0);
            let gaps = r.iter().zip(&s).map(|(r, s)| {
                upto = (upto.0 + r / m, upto.1 + s / n);
                (upto.0 - upto.1).abs()
            });
            let seen = gaps.fold(0.0, f64::max);
            let chance = KOLMOGOROV_MEAN * noise.sqrt();
            Comparison { value: (seen - chance).max(0.0), chance, p: kolmogorov_limit(n as usize, m as usize, seen) }
        }
    }
}

fn histogram(reading: &Reading) -> Option<(Vec<f64>, Vec<u64>)> {
    match reading {
        Reading::Histogram { edges, counts } => Some((edges.clone(), counts.clone())),
        Reading::Ratio { .. } | Reading::Count(_) | Reading::Value(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_that_are_empty_on_both_sides_add_no_drift() {
        let (reference, subject) = ([90_000, 10_000, 1], [50_000, 40_000, 9_000]);
        let wide = |counts: [u64; 3]| [&counts[..], &[0; 118]].concat();
        for distance in [Distance::Psi, Distance::JensenShannon, Distance::KolmogorovSmirnov] {
            let (narrow, wide) =
                (compare(distance, &reference, &subject), compare(distance, &wide(reference), &wide(subject)));
            assert!((narrow.value - wide.value).abs() < 1e-12, "{distance}: {} {}", narrow.value, wide.value);
        }
    }
}
