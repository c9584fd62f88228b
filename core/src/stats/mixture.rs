//! An e-process that spreads its stake over several alternatives, and over the blocks at which a fault may begin.
//!
//! Each component is a running likelihood ratio of one alternative against the null. Their weighted mean is an
//! e-process if each factor has an expectation of at most one under the null. A component that runs from the first
//! block loses its stake before a late fault begins. Therefore part of the stake is held back, and some of it is added
//! before every block:
//!
//! ```text
//! R_k <- (R_k + w_t) * factor_k,t        E_t = Σ_k v_k R_k + (1 - Σ_{s<=t} w_s)
//! ```
//!
//! The reserve keeps its value, and each stake is placed before its block is known; hence `E[E_t | past] <= E_(t-1)`
//! for any `w` that is fixed in advance and sums to at most one. (It is the mixture form of Shiryaev's and Roberts'
//! procedure, here kept below one; see Shin, Ramdas and Rinaldo 2023, "E-detectors".)

use serde::{Deserialize, Serialize};

use super::tally::Unusable;

/// The largest value of a component, so that sums and products stay finite. Capped evidence is still valid, and 690
/// nats exceed every threshold.
const MOST: f64 = 1e300;

/// The part of the stake for a fault that begins with the first block, as most do.
const HEAD: f64 = 0.75;
/// The part for a fault that begins during the planned blocks, spread evenly. It costs a late fault `ln(blocks / EVEN)`
/// nats.
const EVEN: f64 = 0.22;
/// The part for a fault that begins after the planned blocks.
const TAIL: f64 = 1.0 - HEAD - EVEN;

/// The distribution of the stake over the blocks at which a fault may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Onset {
    /// The whole stake at the first block.
    First,
    /// Half of the stake at the first block, and `1/(2 s (s-1))` at block `s`.
    Any,
    /// 75 % of the stake at the first block, 22 % evenly over the other planned blocks, and the remaining 3 % in parts
    /// of `1/(s (s-1))` at block `s`, so that the reserve never ends. The value is the planned number of blocks.
    Planned(u32),
}

impl Onset {
    /// Returns the stake that is placed before block `t`, counted from 1.
    pub(super) fn stake(self, t: u64) -> f64 {
        let s = t as f64;
        match (self, t) {
            (_, 0) => 0.0,
            (Onset::First, 1) => 1.0,
            (Onset::First, _) => 0.0,
            (Onset::Any, 1) => 0.5,
            (Onset::Planned(_), 1) => HEAD,
            (Onset::Any, _) => 0.5 / (s * (s - 1.0)),
            (Onset::Planned(blocks), _) => {
                let even = if t <= u64::from(blocks) { EVEN / f64::from(blocks - 1) } else { 0.0 };
                even + TAIL / (s * (s - 1.0))
            }
        }
    }

    /// Returns the reserve after block `t`.
    fn rest(self, t: u64) -> f64 {
        let s = t as f64;
        match (self, t) {
            (_, 0) => 1.0,
            (Onset::First, _) => 0.0,
            (Onset::Any, _) => 0.5 / s,
            (Onset::Planned(blocks), _) => {
                let left = u64::from(blocks).saturating_sub(t) as f64;
                let even = if blocks > 1 { EVEN * left / f64::from(blocks - 1) } else { EVEN };
                even + TAIL / s
            }
        }
    }
}

/// The state of a test: one running likelihood ratio per component. It is empty before the first block.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Mixture {
    /// The number of absorbed blocks.
    blocks: u64,
    /// The components `R_k`, each from 0 to [`MOST`].
    #[serde(default)]
    r: Vec<f64>,
}

impl Mixture {
    /// Adds a block. `factors` has the `ln` of each component's likelihood ratio in the block, in nats; `onset` must be
    /// the same for all blocks.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state has another number of components, and [`Unusable::NotFinite`] if a factor
    /// is NaN; the state is then unchanged.
    pub fn absorb(&mut self, onset: Onset, factors: &[f64]) -> Result<(), Unusable> {
        if factors.iter().any(|factor| factor.is_nan()) {
            return Err(Unusable::NotFinite);
        }
        if self.blocks == 0 {
            self.r = vec![0.0; factors.len()];
        } else if self.r.len() != factors.len() {
            return Err(Unusable::OtherShape);
        }
        self.blocks = self.blocks.saturating_add(1);
        let stake = onset.stake(self.blocks);
        for (r, factor) in self.r.iter_mut().zip(factors) {
            let staked = *r + stake;
            // Zero stays zero, also if the factor is infinite.
            *r = if staked > 0.0 { (staked * libm::exp(*factor)).min(MOST) } else { 0.0 };
        }
        Ok(())
    }

    /// Returns the evidence against the null over all blocks so far, as `ln E` in nats, from -690 to 690; 0 before the
    /// first block. It may be read after every block: at level α the null is rejected once it reaches `ln(1/α)` (Ville
    /// 1939).
    ///
    /// `onset` and `stakes` are fixed before the first block; `stakes` has one entry per component, and their sum is at
    /// most 1.
    pub fn ln_e(&self, onset: Onset, stakes: &[f64]) -> f64 {
        if self.blocks == 0 || self.r.is_empty() {
            return 0.0;
        }
        let mixed: f64 = self.r.iter().zip(stakes).map(|(r, stake)| r * stake).sum();
        libm::log((mixed + onset.rest(self.blocks)).max(1.0 / MOST))
    }

    /// Returns the number of absorbed blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the components `R_k`, each from 0 to 1e300.
    pub fn components(&self) -> &[f64] {
        &self.r
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns equal stakes for a number of components.
    fn even(components: usize) -> Vec<f64> {
        vec![1.0 / components as f64; components]
    }

    const ONSETS: [Onset; 5] = [Onset::First, Onset::Any, Onset::Planned(0), Onset::Planned(1), Onset::Planned(240)];

    #[test]
    fn stakes_and_reserve_sum_to_at_most_one() {
        for onset in ONSETS {
            let mut placed = 0.0;
            for t in 0..1000 {
                placed += onset.stake(t);
                let reserve = onset.rest(t);
                assert!(reserve >= 0.0 && placed + reserve <= 1.0 + 1e-12, "{onset:?} {t}: {placed} + {reserve}");
            }
        }
    }

    #[test]
    fn blocks_without_evidence_leave_ln_e_at_zero() {
        for onset in ONSETS {
            let mut mixture = Mixture::default();
            for _ in 0..500 {
                mixture.absorb(onset, &[0.0; 8]).unwrap();
                assert!(mixture.ln_e(onset, &even(8)).abs() < 1e-12, "{onset:?}");
            }
        }
    }

    #[test]
    fn factors_of_another_shape_or_nan_are_refused_without_a_change() {
        let mut mixture = Mixture::default();
        mixture.absorb(Onset::Any, &[0.1; 8]).unwrap();
        let before = mixture.clone();
        assert_eq!(mixture.absorb(Onset::Any, &[0.1; 7]), Err(Unusable::OtherShape));
        assert_eq!(mixture.absorb(Onset::Any, &[f64::NAN; 8]), Err(Unusable::NotFinite));
        assert_eq!(mixture, before);
    }

    #[test]
    fn extreme_factors_give_finite_evidence_that_survives_json() {
        let mut mixture = Mixture::default();
        for factor in [f64::MAX, f64::MAX, f64::MIN, f64::MIN, f64::INFINITY, f64::NEG_INFINITY] {
            for onset in ONSETS {
                mixture.absorb(onset, &[factor, 0.0]).unwrap();
                assert!(mixture.ln_e(onset, &even(2)).is_finite(), "{factor}");
                assert_eq!(
                    serde_json::from_str::<Mixture>(&serde_json::to_string(&mixture).unwrap()).unwrap(),
                    mixture
                );
            }
        }
    }
}
