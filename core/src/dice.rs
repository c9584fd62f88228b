//! Seeded dice: the same seed throws the same numbers, on every machine.

use core::f64::consts::TAU;

/// The next 64 bits of SplitMix64 (Steele, Lea and Flood 2014): small, fast, and good enough to count with.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of numbers from a seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Its step is a multiple of nothing that seeds are, so that no stream is another's, begun later.
    pub fn new(seed: u64) -> Random {
        Random(Random(seed.wrapping_mul(0xd134_2543_de82_ef95)).next())
    }

    fn next(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    /// Above 0 and below 1.
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
    }

    /// A whole number below `n`, which is not 0: by multiplication, which is off by less than `n` in 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A Poisson number of this mean, which is finite and not negative. By multiplying uniforms up to a mean of 30, above
    /// in two halves; where the mean is large (requests, rarely errors) by a rounded normal.
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
    fn a_poisson_number_has_its_mean_and_its_variance() {
        for mean in [0.0, 0.01, 3.0, 29.0, 100.0, 499.0, 5000.0] {
            let mut random = Random::new(2);
            let throws = 20_000;
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..throws {
                let value = random.poisson(mean) as f64;
                sum += value;
                squares += (value - mean) * (value - mean);
            }
            let (average, variance) = (sum / f64::from(throws), squares / f64::from(throws));
            // Four standard errors of either.
            let off = |spread: f64| 4.0 * (spread / f64::from(throws)).sqrt();
            assert!((average - mean).abs() <= off(mean), "{mean}: {average}");
            assert!((variance - mean).abs() <= off(mean + 2.0 * mean * mean), "{mean}: {variance}");
        }
    }
}
