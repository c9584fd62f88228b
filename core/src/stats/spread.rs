//! Lasting differences between pods of one version: nodes of different types, or tenants that keep to one pod.
//!
//! The shares of bad requests of a version's pods then differ for as long as the pods live, and a canary of few pods may have
//! better or worse ones by chance. More requests don't help. The differences of the stable's pods tell how far apart two groups
//! of pods of one version may be.
//!
//! With `x_i` bad ones of `n_i` requests in pod `i`, the logarithm of its share varies by about `φ/x_i` by chance. The variance `s²`
//! between the pods is the rest of the variance of the `P` logarithms (a random-effects model by moments, as in DerSimonian and
//! Laird 1986, "Meta-analysis in clinical trials"), with half a request added to each `x_i` so that none is 0:
//!
//! ```text
//! s² = Σ (y_i - ȳ)² / (P - 1) - Σ φ / (x_i + 1/2) / P,      y_i = ln((x_i + 1/2) / n_i)
//! ```
//!
//! The logarithm of the ratio of two groups of `k` and `m` pods has the variance `s² (1/k + 1/m)`. `s` comes from few pods, so
//! Student's quantile is used. By simulation two groups of lognormal pods exceed the ratio in 0.5 to 1.6 % of cases.

use serde::{Deserialize, Serialize};

use super::special::{beta_tails, chi_square_sf};
use super::tally::{Phi, Tally};

/// The nominal probability that two groups of pods of one version are further apart than [`Spread::ratio`] says, in one direction.
const BEYOND: f64 = 0.005;
/// The error rate of the test for any difference. Without a difference that shows, pods count as equal. A small difference that
/// is called one widens the margin by little.
const SHOWN: f64 = 0.1;
/// The fewest pods from which a difference is learnt.
const LEAST_PODS: usize = 4;
/// The highest ratio. A version that is worse by more is bad, however different its pods are.
const MOST: f64 = 3.0;

/// The lasting differences between the pods of a version.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// The quantile of the difference of two pods' logarithms, divided by the root of two; 0 if no difference shows.
    reach: f64,
}

impl Spread {
    /// Returns the differences of pods with these counts, whose bad requests come in clusters of the size `phi`.
    pub fn of(pods: &[Tally], phi: Phi) -> Spread {
        let pods: Vec<&Tally> = pods.iter().filter(|pod| pod.n() > 0.0).collect();
        let (hits, n) = pods.iter().fold((0.0, 0.0), |(hits, n), pod| (hits + pod.hits(), n + pod.n()));
        if pods.len() < LEAST_PODS || hits <= 0.0 {
            return Spread::default();
        }
        let count = pods.len() as f64;
        let (mut pearson, mut chance) = (0.0, 0.0);
        for pod in &pods {
            let expected = hits * pod.n() / n;
            pearson += (pod.hits() - expected) * (pod.hits() - expected) / (phi.value() * expected);
            chance += phi.value() / (pod.hits() + 0.5) / count;
        }
        if chi_square_sf(pearson, count - 1.0) > SHOWN {
            return Spread::default();
        }
        let logs: Vec<f64> = pods.iter().map(|pod| libm::log((pod.hits() + 0.5) / pod.n())).collect();
        let mean = logs.iter().sum::<f64>() / count;
        let scatter = logs.iter().map(|log| (log - mean) * (log - mean)).sum::<f64>() / (count - 1.0);
        let variance = (scatter - chance).max(0.0);
        Spread { reach: student_quantile(BEYOND, count - 1.0) * libm::sqrt(variance) }
    }

    /// Whether no difference shows.
    pub fn is_none(&self) -> bool {
        self.reach == 0.0
    }

    /// Returns the ratio of the shares up to which two groups of `canary` and `stable` pods may be of one version, from 1 to 3.
    pub fn ratio(self, canary: usize, stable: usize) -> f64 {
        let parts = 1.0 / canary.max(1) as f64 + 1.0 / stable.max(1) as f64;
        libm::exp(self.reach * libm::sqrt(parts)).min(MOST)
    }
}

/// Returns the value that Student's distribution exceeds with the probability `upper`, below one half, by bisection of its tail
/// `I_{ν/(ν+t²)}(ν/2, 1/2) / 2` (Abramowitz and Stegun 26.7.1).
fn student_quantile(upper: f64, freedom: f64) -> f64 {
    let tail = |t: f64| libm::exp(beta_tails(freedom / (freedom + t * t), freedom / 2.0, 0.5).lower) / 2.0;
    let (mut below, mut above) = (0.0, 1e3);
    for _ in 0..60 {
        let middle = (below + above) / 2.0;
        if tail(middle) > upper { below = middle } else { above = middle }
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Random;

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (upper, freedom, value) in [(0.005, 3.0, 5.8409), (0.005, 9.0, 3.2498), (0.01, 5.0, 3.3649)] {
            assert!((student_quantile(upper, freedom) - value).abs() < 1e-4, "{upper} {freedom}");
        }
    }

    /// Returns the counts of pods that get `n` requests each, of which the share `share` is bad in the mean. Their factors are
    /// lognormal with `sigma`.
    fn pods(count: usize, n: f64, share: f64, sigma: f64, random: &mut Random) -> (Vec<Tally>, f64) {
        let mut mean = 0.0;
        let tallies = (0..count).map(|_| {
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - random.uniform()));
            let normal = radius * libm::cos(core::f64::consts::TAU * random.uniform());
            let luck = libm::exp(sigma * normal - sigma * sigma / 2.0);
            mean += luck / count as f64;
            Tally::of(random.poisson(n * share * luck), n as u64).unwrap()
        });
        (tallies.collect(), mean)
    }

    #[test]
    fn equal_pods_hardly_widen_the_margin() {
        let mut random = Random::new(3);
        let ratios = (0..1000).map(|_| Spread::of(&pods(8, 3e4, 0.002, 0.0, &mut random).0, Phi::ONE).ratio(8, 8));
        let ratios: Vec<f64> = ratios.collect();
        let wider = |than: f64| ratios.iter().filter(|ratio| **ratio > than).count();
        assert!(wider(1.0) <= 130 && wider(1.25) <= 60, "{} and {} of 1000", wider(1.0), wider(1.25));
    }

    #[test]
    fn groups_of_different_pods_are_rarely_further_apart_than_the_ratio() {
        // The ratio of the first row is bounded by its maximum. In the last one six pods without a bad one among them have a low
        // share and a low spread at once.
        for (count, canary, sigma, most) in [(8, 2, 0.5, 40), (12, 2, 0.3, 20), (6, 6, 0.5, 40)] {
            let mut random = Random::new(5);
            let mut beyond = 0;
            for _ in 0..2000 {
                let (stable, of_stable) = pods(count, 3e4, 0.002, sigma, &mut random);
                let (_, of_canary) = pods(canary, 3e4, 0.002, sigma, &mut random);
                // The margin is 1.25 without a difference.
                let ratio = Spread::of(&stable, Phi::ONE).ratio(canary, count).max(1.25);
                beyond += u32::from(of_canary / of_stable > ratio);
            }
            assert!(beyond <= most, "{count} {canary} {sigma}: {beyond} of 2000");
        }
    }
}
