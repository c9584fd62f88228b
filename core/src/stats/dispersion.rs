//! How errors cluster: the overdispersion φ, learnt from the stable pods.
//!
//! Within one block the stable pods run the same version under the same weather, so their errors should divide like
//! their requests. How much more they scatter than that is Pearson's statistic over its degrees of freedom (McCullagh and
//! Nelder 1989, §4.5):
//!
//! ```text
//! φ = Σ_t Σ_i (x_ti - E_ti)² / E_ti  /  Σ_{t: X_t > 0} (P_t - 1),        E_ti = X_t n_ti / N_t
//! ```
//!
//! If errors come `c` at a time and each cluster hits one pod, its expectation is `c`. What all pods share (an incident of
//! a dependency, the hour of the day) is in `X_t` and does not count, and it need not: the tests compare arms within a
//! block and are blind to it as well.
//!
//! φ is used for a block before that block is taken in here, so that it never depends on what it divides.

use serde::{Deserialize, Serialize};

use super::tally::{Phi, Tally};

/// With fewer degrees of freedom φ is not called known. Thirty make its relative error about a quarter when errors are
/// independent.
const LEAST_FREEDOM: f64 = 30.0;

/// What the stable pods have shown so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Dispersion {
    /// Pearson's statistic, summed.
    squares: f64,
    /// Its degrees of freedom.
    freedom: f64,
}

impl Dispersion {
    /// Takes in one block of the stable's, pod by pod. Pods without requests don't count; with fewer than two pods, or
    /// without an error, the block says nothing.
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

    /// Pearson's statistic over its degrees of freedom, not yet bounded below; `None`: nothing was seen.
    pub fn raw(&self) -> Option<f64> {
        (self.freedom > 0.0).then(|| self.squares / self.freedom)
    }

    /// The φ for the next block. Until enough has been seen to know it, it is at least [`Phi::ASSUMED`] and not called
    /// calibrated.
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
    fn one_pod_tells_nothing() {
        let mut dispersion = Dispersion::default();
        for _ in 0..1000 {
            dispersion.absorb(&pods(&[(9, 100)]));
            dispersion.absorb(&pods(&[(9, 100), (0, 0)]));
        }
        assert_eq!(dispersion.phi(), Phi::ASSUMED);
    }

    #[test]
    fn clusters_of_five_on_one_pod_at_a_time_are_seen_as_five() {
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
    fn a_little_is_not_enough_to_be_called_calibrated() {
        let mut dispersion = Dispersion::default();
        dispersion.absorb(&pods(&[(1, 100), (1, 100)]));
        assert_eq!(dispersion.phi(), Phi::ASSUMED);
        for _ in 0..3 {
            dispersion.absorb(&pods(&[(20, 100), (0, 100)]));
        }
        assert!(dispersion.phi().value() > 2.0 && !dispersion.phi().calibrated);
    }
}
