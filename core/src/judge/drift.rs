//! The measurement of drift: the distance between the distribution of the canary's requests over a histogram's buckets
//! and that of the stable, in the check's window or before the rollout.
//!
//! Without any drift all distances are above zero, and the fewer requests are counted, the larger they are: ten buckets
//! and a hundred requests on each side have a population stability index of 0.18 by chance. So the expected value by
//! chance is subtracted before the distance is compared with the limit. A distance with a probability of more than
//! 0.001 by chance is no drift, regardless of its size. The expected values are:
//!
//! ```text
//! PSI: (k-1)(1/n + 1/m)      Jensen-Shannon divergence: (k-1)(1/n + 1/m)/8      Kolmogorov-Smirnov: 0.8687 √(1/n + 1/m)
//! ```
//!
//! `k` is the number of buckets that are not empty, and `n` and `m` are the numbers of requests. The second formula
//! follows from the first by PSI ≈ 8 JSD near zero; it is subtracted from the squared distance. 0.8687 is the mean of
//! Kolmogorov's distribution, √(π/2) ln 2.
//!
//! A drift shows a change and not that the change is for the worse. So a drift check only warns, unless the policy says
//! that it rolls back.

use crate::judge::verdict::DriftFinding;
use crate::measure::block::Reading;
use crate::measure::metric::{Against, Distance, Metric};
use crate::measure::window::{Arm, Measure, Ring};
use crate::policy::Check;
use crate::stats::drift::{chi_square, jensen_shannon, kolmogorov_limit, population_stability};

/// The mean of Kolmogorov's distribution, √(π/2) ln 2.
const KOLMOGOROV_MEAN: f64 = 0.868_731_160_636_159_6;

/// Returns the distance over the check's window, without the part expected by chance. `past` is the stable's histogram
/// before the rollout. `None` if a side has no requests, or if the sides have different buckets.
pub fn measure(check: &Check, metric: &Metric, ring: &Ring, past: Option<&Reading>) -> Option<(Measure, DriftFinding)> {
    let counts_of = |side| ring.counts(&check.metric, side, check.window);
    let (subject, reference) = match metric.against {
        Against::Stable => (counts_of(Arm::Canary)?, counts_of(Arm::Stable)?),
        Against::Past => (counts_of(Arm::Canary).or_else(|| counts_of(Arm::Stable))?, histogram(past?)?),
    };
    if subject.0 != reference.0 {
        return None;
    }
    let total = |counts: &[u64]| counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    let (n, m) = (total(&subject.1), total(&reference.1));
    if n == 0 || m == 0 {
        return None;
    }
    let found = corrected_distance(metric.distance, &reference.1, &subject.1);
    let drifted = DriftFinding {
        distance: metric.distance,
        against: metric.against,
        reference: m,
        chance: found.chance,
        p: found.p,
    };
    Some((Measure { value: found.value, hits: None, n, beyond: false }, drifted))
}

struct CorrectedDistance {
    /// The distance without the part expected by chance, 0 or more.
    value: f64,
    /// The subtracted part.
    chance: f64,
    /// The probability of at least the measured distance by chance, 0 to 1.
    p: f64,
}

/// Returns the distance between two histograms with the same buckets.
fn corrected_distance(distance: Distance, reference: &[u64], subject: &[u64]) -> CorrectedDistance {
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
            // Buckets that are empty on both sides are left out, because `population_stability` would fill them
            // differently on the two sides. Most buckets of a native histogram are empty.
            let (r, s): (Vec<f64>, Vec<f64>) = r.iter().zip(&s).filter(|(r, s)| **r + **s > 0.0).unzip();
            let measured = population_stability(&share(&r, m), &share(&s, n));
            CorrectedDistance { value: (measured - chance).max(0.0), chance, p: by_buckets() }
        }
        Distance::JensenShannon => {
            let chance = freedom * noise / 8.0;
            let measured = jensen_shannon(&r, &s);
            let value = (measured * measured - chance).max(0.0).sqrt();
            CorrectedDistance { value, chance: measured - value, p: by_buckets() }
        }
        Distance::KolmogorovSmirnov => {
            let mut cumulative = (0.0, 0.0);
            let gaps = r.iter().zip(&s).map(|(r, s)| {
                cumulative = (cumulative.0 + r / m, cumulative.1 + s / n);
                (cumulative.0 - cumulative.1).abs()
            });
            let measured = gaps.fold(0.0, f64::max);
            let chance = KOLMOGOROV_MEAN * noise.sqrt();
            let p = kolmogorov_limit(n as usize, m as usize, measured);
            CorrectedDistance { value: (measured - chance).max(0.0), chance, p }
        }
    }
}

/// Returns the edges and counts of a histogram; `None` for other readings.
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
    fn buckets_that_are_empty_on_both_sides_do_not_change_the_distance() {
        let (reference, subject) = ([90_000, 10_000, 1], [50_000, 40_000, 9_000]);
        let wide = |counts: [u64; 3]| [&counts[..], &[0; 118]].concat();
        for distance in [Distance::Psi, Distance::JensenShannon, Distance::KolmogorovSmirnov] {
            let (narrow, wide) = (
                corrected_distance(distance, &reference, &subject),
                corrected_distance(distance, &wide(reference), &wide(subject)),
            );
            assert!((narrow.value - wide.value).abs() < 1e-12, "{distance}: {} {}", narrow.value, wide.value);
        }
    }
}
