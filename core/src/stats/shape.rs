//! A test of whether two distributions over the same buckets have the same shape.
//!
//! ```text
//! S = Π_arms Π_k (θ_arm,k / θ0_k)^count        θ0 = (n_c θ_c + n_b θ_b) / (n_c + n_b)
//! ```
//!
//! `θ` are the arms' shares per bucket in the previous blocks, with half a count added to each bucket, so they are
//! fixed before the block is known; `θ0` is the nearest null of equal shapes (Turner, Ly and Grünwald 2024, "Generic
//! E-variables for exact sequential k-sample tests"). `E[S] <= 1` if both arms have the same shape, for any shape. The
//! test detects a change, not whether it is for the worse.

use serde::{Deserialize, Serialize};

use super::tally::{Phi, Unusable};

/// The count that is added to each bucket, so that no share is zero.
const SMOOTHING: f64 = 0.5;

/// The counts of two arms per bucket over all blocks so far, and the evidence that their shapes differ.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Shapes {
    canary: Vec<u64>,
    stable: Vec<u64>,
    ln_e: f64,
}

impl Shapes {
    /// Adds a block. `canary` and `stable` are counts per bucket, in the same buckets for all blocks; the evidence is
    /// divided by `phi`.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the number of buckets differs from the other arm's or from earlier blocks; no
    /// counts are then added.
    pub fn absorb(&mut self, canary: &[u64], stable: &[u64], phi: Phi) -> Result<(), Unusable> {
        let buckets = if self.canary.is_empty() { canary.len() } else { self.canary.len() };
        if canary.len() != buckets || stable.len() != buckets {
            return Err(Unusable::OtherShape);
        }
        self.canary.resize(buckets, 0);
        self.stable.resize(buckets, 0);
        self.ln_e = (self.ln_e + self.ln_block(canary, stable) / phi.value()).clamp(-1e300, 1e300);
        let add = |sums: &mut Vec<u64>, counts: &[u64]| {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
        };
        add(&mut self.canary, canary);
        add(&mut self.stable, stable);
        Ok(())
    }

    fn ln_block(&self, canary: &[u64], stable: &[u64]) -> f64 {
        let (n_canary, n_stable) = (total(canary), total(stable));
        if n_canary + n_stable == 0.0 {
            return 0.0;
        }
        let shares = smoothed(&self.canary).zip(smoothed(&self.stable));
        let counts = canary.iter().zip(stable);
        let of_bucket = |((of_canary, of_stable), (canary, stable)): ((f64, f64), (&u64, &u64))| {
            let common = (n_canary * of_canary + n_stable * of_stable) / (n_canary + n_stable);
            *canary as f64 * libm::log(of_canary / common) + *stable as f64 * libm::log(of_stable / common)
        };
        shares.zip(counts).map(of_bucket).sum()
    }

    /// Returns the evidence that the shapes differ over all blocks so far, as `ln E` in nats.
    pub fn ln_e(&self) -> f64 {
        self.ln_e
    }
}

fn total(counts: &[u64]) -> f64 {
    counts.iter().map(|count| *count as f64).sum()
}

fn smoothed(counts: &[u64]) -> impl Iterator<Item = f64> {
    let n = total(counts) + SMOOTHING * counts.len() as f64;
    counts.iter().map(move |count| (*count as f64 + SMOOTHING) / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shapes_give_no_evidence_and_a_change_gives_some() {
        let mut shapes = Shapes::default();
        for _ in 0..50 {
            shapes.absorb(&[30, 50, 20], &[300, 500, 200], Phi::ONE).unwrap();
        }
        assert!(shapes.ln_e() <= 0.0, "{}", shapes.ln_e());
        for _ in 0..10 {
            shapes.absorb(&[5, 30, 65], &[300, 500, 200], Phi::ONE).unwrap();
        }
        assert!(shapes.ln_e() > 10.0, "{}", shapes.ln_e());
    }

    #[test]
    fn a_block_with_other_buckets_is_refused_without_a_change() {
        let mut shapes = Shapes::default();
        shapes.absorb(&[1, 2], &[1, 2], Phi::ONE).unwrap();
        let before = shapes.clone();
        assert_eq!(shapes.absorb(&[1, 2, 3], &[1, 2, 3], Phi::ONE), Err(Unusable::OtherShape));
        assert_eq!(shapes, before);
    }

    #[test]
    fn a_refused_first_block_does_not_fix_the_number_of_buckets() {
        let mut shapes = Shapes::default();
        assert_eq!(shapes.absorb(&[1, 2, 3], &[1, 2], Phi::ONE), Err(Unusable::OtherShape));
        assert_eq!(shapes.absorb(&[1, 2], &[1, 2], Phi::ONE), Ok(()));
    }
}
