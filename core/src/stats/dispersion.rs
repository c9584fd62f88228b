//! The dispersion φ of clustered errors, learnt from the stable pods.
//!
//! Within one block the stable pods run the same version under the same conditions, so their errors should be
//! distributed like their requests: given the block's `X_t` errors, multinomially. φ is the factor by which they scatter
//! more, the sum of the squared deviations over its expectation:
//!
//! ```text
//! φ = Σ_t Σ_i (x_ti - X_t π_ti)²  /  Σ_t X_t Σ_i π_ti (1 - π_ti),        π_ti = n_ti / N_t
//! ```
//!
//! (McCullagh and Nelder 1989, §4.5, by the sums of the moments instead of a mean over the blocks.) Each error counts
//! equally, so rare and large clusters are seen among many single errors. Pearson's statistic, which divides each
//! deviation by its own expectation, weighs each block equally: of 0.1 % single errors and six bursts of 20 an hour it
//! makes 1.6, where the mean cluster of an error is 5.8.
//!
//! Here `x_ti` and `n_ti` are the errors and requests of pod `i` in block `t`, `X_t` and `N_t` their sums over the
//! `P_t` pods with requests. If errors come `c` at a time and each cluster hits one pod, the expectation of φ is `c`.
//! Conditions that all pods share (an incident of a dependency, the hour of the day) change `X_t` and don't affect φ.
//! They don't affect the tests either, which compare arms within a block.
//!
//! The φ for a block must be read before that block is absorbed here, so that φ never depends on the counts that it
//! divides.

use serde::{Deserialize, Serialize};

use super::tally::{Phi, Tally};

/// Degrees of freedom from which φ is called calibrated. With 30 its relative error is about a quarter if errors are
/// independent.
const LEAST_FREEDOM: f64 = 30.0;

/// The sums from which φ is estimated, over all blocks of the stable pods so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dispersion {
    /// The sum of the squared deviations, in errors².
    scatter: f64,
    /// The expectation of `scatter` for independent errors.
    expected: f64,
    /// The degrees of freedom of the blocks with errors.
    degrees: f64,
}

impl Dispersion {
    /// Adds one block of the stable arm, with one tally of errors per pod. Pods without requests are left out; a block
    /// with fewer than two pods or without an error is ignored.
    pub fn absorb(&mut self, pods: &[Tally]) {
        let seen = pods.iter().filter(|pod| pod.n() > 0.0);
        let (count, hits, n) = seen
            .clone()
            .fold((0u32, 0.0, 0.0), |(count, hits, n), pod| (count.saturating_add(1), hits + pod.hits(), n + pod.n()));
        if count < 2 || hits <= 0.0 {
            return;
        }
        for pod in seen {
            let part = pod.n() / n;
            let over = pod.hits() - hits * part;
            self.scatter += over * over;
            self.expected += hits * part * (1.0 - part);
        }
        self.degrees += f64::from(count - 1);
    }

    /// Returns the scatter over its expectation, which may be below 1; `None` before the first usable block.
    pub fn raw(&self) -> Option<f64> {
        (self.expected > 0.0).then(|| self.scatter / self.expected)
    }

    /// Returns the φ for the next block, at least 1. Below 30 degrees of freedom it is at least [`Phi::ASSUMED`] and
    /// not marked as calibrated.
    pub fn phi(&self) -> Phi {
        match self.raw() {
            Some(raw) if self.degrees >= LEAST_FREEDOM => Phi::learned(raw),
            Some(raw) if raw > Phi::ASSUMED.value() => Phi::guessed(raw),
            Some(_) | None => Phi::ASSUMED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(counts: &[(u64, u64)]) -> Vec<Tally> {
        counts.iter().map(|(x, n)| Tally::of(*x, *n).unwrap()).collect()
    }

    #[test]
    fn blocks_with_one_pod_are_ignored() {
        let mut dispersion = Dispersion::default();
        for _ in 0..1000 {
            dispersion.absorb(&pods(&[(9, 100)]));
            dispersion.absorb(&pods(&[(9, 100), (0, 0)]));
        }
        assert_eq!(dispersion.phi(), Phi::ASSUMED);
    }

    /// The value was computed by hand from the formula.
    #[test]
    fn the_scatter_is_divided_by_its_expectation() {
        let blocks = [[(2, 100), (0, 110), (1, 90)], [(0, 120), (5, 100), (1, 95)], [(1, 105), (1, 98), (1, 102)]];
        let mut dispersion = Dispersion::default();
        blocks.iter().for_each(|block| dispersion.absorb(&pods(block)));
        assert!((dispersion.raw().unwrap() - 2.218_275_581_994_434_6).abs() < 1e-12, "{:?}", dispersion.raw());
    }

    #[test]
    fn rare_bursts_among_single_errors_are_seen() {
        let mut dispersion = Dispersion::default();
        for block in 0..240usize {
            let mut counts = [(0, 300); 5];
            counts[block % 5].0 = 1;
            if block % 40 == 0 {
                counts[block / 40 % 5].0 += 20;
            }
            dispersion.absorb(&pods(&counts));
        }
        let phi = dispersion.phi().value();
        assert!((6.0..9.0).contains(&phi), "{phi}");
    }

    #[test]
    fn clusters_of_five_on_one_pod_at_a_time_give_a_phi_of_five() {
        let mut dispersion = Dispersion::default();
        for block in 0..400usize {
            let mut counts = [(0, 100); 4];
            counts[block % 4].0 = 5;
            dispersion.absorb(&pods(&counts));
        }
        assert!((dispersion.phi().value() - 5.0).abs() < 1e-9);
        assert!(dispersion.phi().calibrated);
    }

    #[test]
    fn phi_from_few_blocks_is_not_called_calibrated() {
        let mut dispersion = Dispersion::default();
        dispersion.absorb(&pods(&[(1, 100), (1, 100)]));
        assert_eq!(dispersion.phi(), Phi::ASSUMED);
        for _ in 0..3 {
            dispersion.absorb(&pods(&[(20, 100), (0, 100)]));
        }
        assert!(dispersion.phi().value() > 2.0 && !dispersion.phi().calibrated);
    }
}
