//! Pseudo-random numbers that depend on nothing but their seed, equal on every machine.

use core::f64::consts::TAU;

/// Advances the generator's state and returns the next 64 bits of SplitMix64 (Steele, Lea and Flood 2014). Not for
/// cryptography.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of random numbers from a seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts the stream of a seed.
    pub fn new(seed: u64) -> Random {
        // Spread the seeds over the state space. With the seed itself as the state, one stream could be a later part of
        // another.
        Random(Random(seed.wrapping_mul(0xd134_2543_de82_ef95)).next())
    }

    fn next(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    /// Returns a uniformly distributed number above 0 and below 1.
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
    }

    /// Returns a uniformly distributed whole number from 0 to `n - 1`; `n` is at least 1. The probabilities are off by
    /// less than `n` in 2^64, because it multiplies instead of rejecting.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Returns a Poisson-distributed number with the given mean, which is finite and not negative.
    ///
    /// Up to a mean of 30 it multiplies uniform numbers, up to 500 it adds two halves, and above it rounds a normal
    /// number.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 500.0 {
            let radius = (-2.0 * libm::log(self.uniform())).sqrt();
            let normal = radius * libm::cos(TAU * self.uniform());
            return libm::round(mean + mean.sqrt() * normal).max(0.0) as u64;
        }
        if mean > 30.0 {
            return self.poisson(mean / 2.0) + self.poisson(mean / 2.0);
        }
        let goal = libm::exp(-mean);
        let mut product = self.uniform();
        let mut count = 0;
        while product > goal {
            product *= self.uniform();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_numbers_have_the_right_mean_and_variance() {
        for mean in [0.0, 0.01, 3.0, 29.0, 100.0, 499.0, 5000.0] {
            let mut random = Random::new(2);
            let draws = 20_000;
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..draws {
                let value = random.poisson(mean) as f64;
                sum += value;
                squares += (value - mean) * (value - mean);
            }
            let (average, variance) = (sum / f64::from(draws), squares / f64::from(draws));
            // Four standard errors of an average of numbers with this variance.
            let tolerance = |spread: f64| 4.0 * (spread / f64::from(draws)).sqrt();
            assert!((average - mean).abs() <= tolerance(mean), "{mean}: {average}");
            assert!((variance - mean).abs() <= tolerance(mean + 2.0 * mean * mean), "{mean}: {variance}");
        }
    }
}
