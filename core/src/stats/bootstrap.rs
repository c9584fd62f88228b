//! Bounds by resampling, for what has no distribution that could be written down: tokens for each success, or a ratio.
//!
//! What is drawn again is a whole case with all of its repeats and both of its arms, because only cases do not depend on
//! each other. The bounds are Efron's BCa (1987): the percentiles, moved by how far the median of the resamples is off and by
//! how the statistic's spread changes with its size (from leaving out one case after the other). It is right in the limit of
//! many cases, not at every `n`: where an exact bound exists, that one is used. The seed is the caller's to record.

use super::special::{ln_normal_cdf, normal_quantile};
use crate::dice::Random;

/// What resampling has shown.
#[derive(Debug, Clone)]
pub struct Resampled {
    /// The statistic of the cases as they were.
    pub estimate: f64,
    sorted: Vec<f64>,
    bias: f64,
    acceleration: f64,
}

/// Resamples `cases` of them `times` times. `statistic` is told which cases to take, some more than once; it may answer ∞,
/// and must not answer NaN.
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
    // A median that no resample is beyond has no finite correction.
    let bias = normal_quantile(share.clamp(0.5 / times as f64, 1.0 - 0.5 / times as f64));
    Some(Resampled { estimate, sorted, bias, acceleration: acceleration(&all, statistic) })
}

/// The sixth part of the skewness of the statistic without one case.
fn acceleration(all: &[usize], statistic: impl Fn(&[usize]) -> f64) -> f64 {
    let mut rest = all.to_vec();
    rest.pop();
    let mut without: Vec<f64> = Vec::with_capacity(all.len());
    // Without the last one; then the one that was left out comes back in the place of the one before.
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
    /// The statistic is at most this, with an error of about `tail`.
    pub fn upper(&self, tail: f64) -> f64 {
        self.at(1.0 - tail)
    }

    /// The statistic is at least this, likewise.
    pub fn lower(&self, tail: f64) -> f64 {
        self.at(tail)
    }

    fn at(&self, level: f64) -> f64 {
        let z = self.bias + normal_quantile(level);
        let corrected = self.bias + z / (1.0 - self.acceleration * z);
        quantile(&self.sorted, libm::exp(ln_normal_cdf(corrected)))
    }
}

/// The quantile of sorted values, linear between them; ∞ beside ∞ stays ∞.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let at = level.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at as usize], sorted[(at as usize + 1).min(sorted.len() - 1)]);
    let part = at - libm::floor(at);
    if low == high || part == 0.0 { low } else { low + part * (high - low) }
}
