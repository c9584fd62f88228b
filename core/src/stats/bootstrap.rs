//! Confidence bounds by resampling, for statistics without a known distribution, such as a ratio or tokens per success.
//!
//! Whole cases are resampled, each with all of its repeats and both of its arms, because only cases are independent.
//! The bounds are Efron's BCa (1987): percentiles of the resamples, corrected for the bias of their median and for the
//! change of the statistic's spread with its size (estimated by leaving out one case at a time). They are asymptotic,
//! not exact at every `n`; use an exact bound where one exists. The caller chooses and records the seed.

use super::special::{ln_normal_cdf, normal_quantile};
use crate::dice::Random;

/// The result of resampling: the estimate, and the distribution from which bounds are read.
#[derive(Debug, Clone)]
pub struct Resampled {
    /// The statistic of the original cases.
    pub estimate: f64,
    sorted: Vec<f64>,
    bias: f64,
    acceleration: f64,
}

/// Resamples a statistic of `cases` cases (Efron 1987).
///
/// `cases` is the number of cases, `times` the number of resamples, and `seed` determines the draws. `statistic`
/// receives indices of cases, from 0 to `cases - 1`, some of them repeatedly; its result may be infinite but not NaN.
/// Returns `None` for fewer than two cases or no resamples.
pub fn resample(cases: usize, times: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Option<Resampled> {
    if cases < 2 || times == 0 {
        return None;
    }
    let all: Vec<usize> = (0..cases).collect();
    let estimate = statistic(&all);
    let mut random = Random::new(seed);
    let mut drawn = vec![0; cases];
    let mut sorted: Vec<f64> = (0..times)
        .map(|_| {
            drawn.iter_mut().for_each(|case| *case = random.below(cases));
            statistic(&drawn)
        })
        .collect();
    sorted.sort_by(f64::total_cmp);
    let (below, same) = (sorted.partition_point(|x| *x < estimate), sorted.partition_point(|x| *x <= estimate));
    let share = 0.5 * (below + same) as f64 / times as f64;
    // If no resample lies beyond the estimate, the correction would be infinite.
    let bias = normal_quantile(share.clamp(0.5 / times as f64, 1.0 - 0.5 / times as f64));
    Some(Resampled { estimate, sorted, bias, acceleration: acceleration(&all, statistic) })
}

/// Returns a sixth of the skewness of the statistic over the samples that leave out one case.
fn acceleration(all: &[usize], statistic: impl Fn(&[usize]) -> f64) -> f64 {
    let mut rest = all.to_vec();
    rest.pop();
    let mut without: Vec<f64> = Vec::with_capacity(all.len());
    // Leave out the last case first; each step then replaces a case by its successor, which leaves out the case before.
    without.push(statistic(&rest));
    for at in (0..rest.len()).rev() {
        rest[at] += 1;
        without.push(statistic(&rest));
    }
    let mean = without.iter().sum::<f64>() / without.len() as f64;
    let (mut squares, mut cubes) = (0.0, 0.0);
    for value in without {
        let off = mean - value;
        squares += off * off;
        cubes += off * off * off;
    }
    let acceleration = cubes / (6.0 * squares * squares.sqrt());
    if acceleration.is_finite() { acceleration } else { 0.0 }
}

impl Resampled {
    /// Returns an upper confidence bound for the statistic, in its own unit. `tail` is the approximate error
    /// probability, above 0 and below 1.
    pub fn upper(&self, tail: f64) -> f64 {
        self.bound(1.0 - tail)
    }

    /// Returns a lower confidence bound for the statistic, in its own unit. `tail` is the approximate error
    /// probability, above 0 and below 1.
    pub fn lower(&self, tail: f64) -> f64 {
        self.bound(tail)
    }

    fn bound(&self, level: f64) -> f64 {
        let z = self.bias + normal_quantile(level);
        let corrected = self.bias + z / (1.0 - self.acceleration * z);
        quantile(&self.sorted, libm::exp(ln_normal_cdf(corrected)))
    }
}

/// Returns the quantile of sorted values by linear interpolation. Between two infinities the result is infinite, not
/// NaN.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let at = level.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at as usize], sorted[(at as usize + 1).min(sorted.len() - 1)]);
    let part = at - libm::floor(at);
    if low == high || part == 0.0 { low } else { low + part * (high - low) }
}
