//! The dispersion φ of clustered errors, learnt from the stable pods.
//!
//! Within one block the stable pods run the same version under the same conditions, so their errors should be
//! distributed like their requests. The factor by which they scatter more is Pearson's statistic over its degrees of
//! freedom (McCullagh and Nelder 1989, §4.5):
//!
//! ```text
//! φ = Σ_t Σ_i (x_ti - E_ti)² / E_ti  /  Σ_{t: X_t > 0} (P_t - 1),        E_ti = X_t n_ti / N_t
//! ```
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
pub struct Dispersion {
    /// The sum of Pearson's statistics over the blocks.
    squares: f64,
    /// The sum of their degrees of freedom.
    freedom: f64,
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
            let expected = hits * (pod.n() / n);
            let over = pod.hits() - expected;
            self.squares += over * over / expected;
        }
        self.freedom += f64::from(count - 1);
    }

    /// Returns Pearson's statistic over its degrees of freedom, which may be below 1; `None` before the first usable
    /// block.
    pub fn raw(&self) -> Option<f64> {
        (self.freedom > 0.0).then(|| self.squares / self.freedom)
    }

    /// Returns the φ for the next block, at least 1. Below 30 degrees of freedom it is at least [`Phi::ASSUMED`] and
    /// not marked as calibrated.
    pub fn phi(&self) -> Phi {
        match self.raw() {
            Some(raw) if self.freedom >= LEAST_FREEDOM => Phi::learned(raw),
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
