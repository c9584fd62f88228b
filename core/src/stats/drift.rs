//! Distances between two distributions, as they are used to describe the drift of model outputs.
//!
//! They are descriptions, not decisions. All of them are above zero without any drift, by about `(bins - 1)(1/n + 1/m)`
//! for [`population_stability`]: with ten bins and a hundred rows each that is 0.18, above the usual alarm at 0.1. Use
//! [`super::shape`] for a decision with an error rate. Names, thresholds and the filling of empty bins follow
//! Evidently's documented tests, so that the numbers are comparable with Evidently's.

use super::special::chi_square_sf;

/// The largest number of pairs for which the exact Kolmogorov-Smirnov probability is computed instead of its limit.
const MOST_PAIRS: usize = 4_000_000;

/// Replaces empty shares, whose logarithm is infinite, by 0.0001; or by a millionth of the smallest positive share if
/// that share is at most 0.0001.
fn filled(shares: &[f64]) -> Vec<f64> {
    let least = shares.iter().copied().filter(|share| *share > 0.0).fold(f64::INFINITY, f64::min);
    let filling = if least <= 1e-4 { least / 1e6 } else { 1e-4 };
    shares.iter().map(|share| if *share > 0.0 { *share } else { filling }).collect()
}

/// Returns the population stability index `Σ (r - c) ln(r/c)`, at least 0. By convention 0.1 is a small shift and 0.25
/// a large one.
///
/// `reference` and `current` are shares in the same bins, each from 0 to 1; empty bins are filled.
pub fn population_stability(reference: &[f64], current: &[f64]) -> f64 {
    let pairs = filled(reference).into_iter().zip(filled(current));
    pairs.map(|(r, c)| (r - c) * libm::log(r / c)).sum()
}

/// Returns the Kullback-Leibler divergence `Σ r ln(r/c)` of `current` from `reference`, in nats.
///
/// Both are shares in the same bins, each from 0 to 1; empty bins are filled.
pub fn kullback_leibler(reference: &[f64], current: &[f64]) -> f64 {
    filled(reference).into_iter().zip(filled(current)).map(|(r, c)| r * libm::log(r / c)).sum()
}

/// Returns the Jensen-Shannon *distance*, the square root of the divergence in nats, between 0 and `√ln 2`.
///
/// `reference` and `current` are shares or counts in the same bins, which are scaled to a sum of one; empty bins are
/// not filled. Returns 0 if all bins of either are empty.
pub fn jensen_shannon(reference: &[f64], current: &[f64]) -> f64 {
    let (of_r, of_c): (f64, f64) = (reference.iter().sum(), current.iter().sum());
    if !(of_r > 0.0 && of_c > 0.0) {
        return 0.0;
    }
    let part = |share: f64, mean: f64| if share > 0.0 { share * libm::log(share / mean) } else { 0.0 };
    let pairs = reference.iter().map(|r| r / of_r).zip(current.iter().map(|c| c / of_c));
    let divergence: f64 = pairs.map(|(r, c)| part(r, 0.5 * (r + c)) + part(c, 0.5 * (r + c))).sum();
    (0.5 * divergence).max(0.0).sqrt()
}

/// Returns the Hellinger distance, between 0 and 1. `reference` and `current` are shares in the same bins, each from 0
/// to 1.
pub fn hellinger(reference: &[f64], current: &[f64]) -> f64 {
    let squares = reference.iter().zip(current).map(|(r, c)| r.max(0.0).sqrt() - c.max(0.0).sqrt());
    (0.5 * squares.map(|d| d * d).sum::<f64>()).sqrt()
}

/// Returns the total variation distance, between 0 and 1. `reference` and `current` are shares in the same bins, each
/// from 0 to 1.
pub fn total_variation(reference: &[f64], current: &[f64]) -> f64 {
    0.5 * reference.iter().zip(current).map(|(r, c)| (r - c).abs()).sum::<f64>()
}

/// The result of a significance test for *one* look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The test's statistic.
    pub statistic: f64,
    /// The p-value: the probability of this statistic or a larger one without a drift, from 0 to 1.
    pub p: f64,
}

/// Performs Pearson's chi-square test of homogeneity.
///
/// `reference` and `current` are counts in the same categories, at least 0; categories that are empty in both are left
/// out. Returns `None` if fewer than two categories are left or one of the rows is empty.
pub fn chi_square(reference: &[f64], current: &[f64]) -> Option<Test> {
    let (of_r, of_c): (f64, f64) = (reference.iter().sum(), current.iter().sum());
    let columns: Vec<(f64, f64)> =
        reference.iter().copied().zip(current.iter().copied()).filter(|(r, c)| r + c > 0.0).collect();
    if columns.len() < 2 || !(of_r > 0.0 && of_c > 0.0) {
        return None;
    }
    let square = |seen: f64, expected: f64| (seen - expected) * (seen - expected) / expected;
    let of_column = |(r, c): &(f64, f64)| {
        let share = (r + c) / (of_r + of_c);
        square(*r, share * of_r) + square(*c, share * of_c)
    };
    let statistic = columns.iter().map(of_column).sum();
    Some(Test { statistic, p: chi_square_sf(statistic, (columns.len() - 1) as f64) })
}

fn sorted(sample: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = sample.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Returns each distinct value of the two samples with the number of reference and of current values that are not above
/// it.
fn steps(reference: &[f64], current: &[f64]) -> Vec<(f64, usize, usize)> {
    let (reference, current) = (sorted(reference), sorted(current));
    let mut values: Vec<f64> = reference.iter().chain(&current).copied().collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let up_to = |sample: &[f64], value: f64| sample.partition_point(|other| *other <= value);
    values.into_iter().map(|value| (value, up_to(&reference, value), up_to(&current, value))).collect()
}

/// Performs the two-sample Kolmogorov-Smirnov test. The p-value is exact up to four million pairs of values, and the
/// limit for large samples beyond.
///
/// Values that are not finite are left out. Returns `None` if a sample is then empty.
pub fn kolmogorov_smirnov(reference: &[f64], current: &[f64]) -> Option<Test> {
    let steps = steps(reference, current);
    let (_, n, m) = *steps.last()?;
    if n == 0 || m == 0 {
        return None;
    }
    // The largest gap between the distribution functions, as a whole number of 1/(n m).
    let gap = steps.iter().map(|(_, r, c)| (r * m).abs_diff(c * n)).max()?;
    let statistic = gap as f64 / (n * m) as f64;
    let p =
        if n.saturating_mul(m) <= MOST_PAIRS { kolmogorov_exact(n, m, gap) } else { kolmogorov_limit(n, m, statistic) };
    Some(Test { statistic, p })
}

/// Returns the exact p-value of the two-sample Kolmogorov-Smirnov test: the probability that the distribution functions
/// of `n` and `m` values in random order differ by `gap/(n m)` or more.
///
/// It is the share of lattice paths that touch the boundary (Hodges 1958), computed with probabilities instead of path
/// counts so that nothing overflows. `gap` is in units of `1/(n m)`, from 0 to `n m`.
pub fn kolmogorov_exact(n: usize, m: usize, gap: usize) -> f64 {
    let outside = |i: usize, j: usize| (i * m).abs_diff(j * n) >= gap;
    if gap == 0 {
        return 1.0;
    }
    let mut row = vec![0.0f64; m + 1];
    for i in 0..=n {
        let mut left = 0.0;
        for (j, cell) in row.iter_mut().enumerate() {
            let value = if outside(i, j) {
                1.0
            } else if i + j == 0 {
                0.0
            } else {
                (*cell * i as f64 + left * j as f64) / (i + j) as f64
            };
            *cell = value;
            left = value;
        }
    }
    row.last().copied().unwrap_or(1.0)
}

/// Returns the asymptotic p-value of the two-sample Kolmogorov-Smirnov test for samples of `n` and `m` values.
///
/// It is `2 Σ (-1)^(k-1) e^(-2 k² x²)` (Kolmogorov 1933), where `x` is `statistic` times `√(n m / (n + m))`.
/// `statistic` is from 0 to 1.
pub fn kolmogorov_limit(n: usize, m: usize, statistic: f64) -> f64 {
    let size = n as f64 * m as f64 / (n + m) as f64;
    let square = size * statistic * statistic;
    // Below this the series converges slowly, and the p-value is 1 to ten digits.
    if square < 0.04 {
        return 1.0;
    }
    let term = |k: u32| {
        let k = f64::from(k);
        let sign = if k % 2.0 == 0.0 { -1.0 } else { 1.0 };
        sign * libm::exp(-2.0 * k * k * square)
    };
    (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// Returns the Wasserstein (earth mover's) distance of two samples, in their unit.
///
/// Values that are not finite are left out. Returns `None` if a sample is then empty.
pub fn wasserstein(reference: &[f64], current: &[f64]) -> Option<f64> {
    let steps = steps(reference, current);
    let (_, n, m) = *steps.last()?;
    if n == 0 || m == 0 {
        return None;
    }
    let area = |(here, next): (&(f64, usize, usize), &(f64, usize, usize))| {
        (here.1 as f64 / n as f64 - here.2 as f64 / m as f64).abs() * (next.0 - here.0)
    };
    Some(steps.iter().zip(steps.iter().skip(1)).map(area).sum())
}

/// Returns the Wasserstein distance divided by the standard deviation of the reference, or by 0.001 if that is larger.
///
/// Values that are not finite are left out. Returns `None` if a sample is then empty.
pub fn wasserstein_normed(reference: &[f64], current: &[f64]) -> Option<f64> {
    let values = sorted(reference);
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / n;
    Some(wasserstein(reference, current)? / variance.sqrt().max(1e-3))
}

/// Returns the ascending edges of equally wide bins over both samples: `⌈log2 n + 1⌉` bins for `n` values in all
/// (Sturges 1926).
///
/// Values that are not finite are left out. Returns `None` if no values are left or all are equal.
pub fn sturges_edges(reference: &[f64], current: &[f64]) -> Option<Vec<f64>> {
    let all = sorted(&[reference, current].concat());
    let (low, high) = (*all.first()?, *all.last()?);
    if low == high {
        return None;
    }
    let bins = libm::ceil(libm::log2(all.len() as f64) + 1.0).max(1.0);
    Some(
        (0..=bins as usize)
            .map(|i| if i as f64 == bins { high } else { low + (high - low) / bins * i as f64 })
            .collect(),
    )
}

/// Returns the share of a sample's finite values in each bin, from 0 to 1.
///
/// `edges` are ascending; a bin includes its lower edge, and the last one also its upper edge. Values outside all bins
/// count towards the total only.
pub fn shares(sample: &[f64], edges: &[f64]) -> Vec<f64> {
    let values = sorted(sample);
    let below = |edge: f64| values.partition_point(|value| *value < edge);
    let mut counts: Vec<usize> = edges
        .windows(2)
        .map(|bin| match bin {
            [low, high] => below(*high) - below(*low),
            _ => 0,
        })
        .collect();
    if let (Some(last), Some(edge)) = (counts.last_mut(), edges.last()) {
        *last += values.iter().filter(|value| *value == edge).count();
    }
    let n = values.len().max(1) as f64;
    counts.into_iter().map(|count| count as f64 / n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_distributions_have_no_distance() {
        let shares = [0.2, 0.3, 0.5];
        assert_eq!(population_stability(&shares, &shares), 0.0);
        assert_eq!(jensen_shannon(&shares, &shares), 0.0);
        assert_eq!(hellinger(&shares, &shares), 0.0);
        assert_eq!(total_variation(&shares, &shares), 0.0);
        let sample = [3.0, 1.0, 2.0, 2.0];
        assert_eq!(kolmogorov_smirnov(&sample, &sample), Some(Test { statistic: 0.0, p: 1.0 }));
        assert_eq!(wasserstein(&sample, &sample), Some(0.0));
    }

    #[test]
    fn empty_samples_and_values_that_are_not_finite_give_no_distance() {
        assert_eq!(kolmogorov_smirnov(&[], &[1.0]), None);
        assert_eq!(wasserstein(&[f64::NAN], &[1.0]), None);
        assert_eq!(chi_square(&[0.0, 0.0], &[1.0, 2.0]), None);
        assert_eq!(sturges_edges(&[1.0, 1.0], &[1.0]), None);
        assert_eq!(jensen_shannon(&[0.0], &[0.0]), 0.0);
    }

    /// Two values in each sample: of the six orders two have a full gap, and all have a gap of at least a half.
    #[test]
    fn exact_probabilities_of_small_samples_equal_a_count_by_hand() {
        assert!((kolmogorov_exact(2, 2, 4) - 2.0 / 6.0).abs() < 1e-15);
        assert!((kolmogorov_exact(2, 2, 2) - 1.0).abs() < 1e-15);
    }
}
