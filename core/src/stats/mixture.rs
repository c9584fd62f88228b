//! A bet that is spread over alternatives, and over the blocks at which the fault may begin.
//!
//! Each component is a running likelihood ratio of one alternative against the null. Their weighted mean is an e-process
//! wherever each factor has an expectation of at most one under the null. A component that has run since the first block
//! has lost, by the time a late fault begins, what it bet on a fault that was not there. So part of the stake is held
//! back, and some of it put down before every block:
//!
//! ```text
//! R_k <- (R_k + w_t) * factor_k,t        E_t = Σ_k v_k R_k + (1 - Σ_{s<=t} w_s)
//! ```
//!
//! What is held back is worth itself whatever happens, and what is put down is put down before the block is seen; hence
//! `E[E_t | past] <= E_(t-1)` for any `w` that is fixed in advance and sums to at most one. (It is the mixture form of
//! Shiryaev's and Roberts' procedure, here kept below one; see Shin, Ramdas and Rinaldo 2023, "E-detectors".)

use serde::{Deserialize, Serialize};

use super::tally::Unusable;

/// No component grows beyond this, so that sums and products stay finite. Evidence that is kept from growing is still valid,
/// and 690 nats are more than anything asks for.
const MOST: f64 = 1e300;

/// The part of the stake for a fault that is there from the start: most are.
const HEAD: f64 = 0.75;
/// The part for a fault that begins during the planned blocks. An even spread costs a late fault `ln(blocks / EVEN)` nats.
const EVEN: f64 = 0.22;
/// The part for whatever takes longer than planned.
const TAIL: f64 = 1.0 - HEAD - EVEN;

/// When the fault that a test looks for may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Onset {
    /// With the first block: the whole stake is put down at once.
    First,
    /// At any block: half at the first, and `1/(2 s (s-1))` at block `s`.
    Any,
    /// At any block, of which about so many are planned: [`HEAD`] at the first, [`EVEN`] evenly over the others, and the rest
    /// as `1/(s (s-1))` at block `s`, so that something is left however long it takes.
    Planned(u32),
}

impl Onset {
    /// The stake that is put down before block `t`, from 1.
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

    /// What is still held back after block `t`.
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

/// The state of a test: one running number per component. It is empty before the first block.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Mixture {
    /// So many blocks have been taken in.
    blocks: u64,
    /// `R_k`.
    #[serde(default)]
    r: Vec<f64>,
}

impl Mixture {
    /// Takes in a block: `factors` are the `ln` of each component's likelihood ratio in it.
    ///
    /// # Errors
    /// If the state has another number of components, or a factor is no number; then nothing is changed.
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
            // What has lost everything stays lost, whatever it is multiplied by.
            *r = if staked > 0.0 { (staked * libm::exp(*factor)).min(MOST) } else { 0.0 };
        }
        Ok(())
    }

    /// `ln E`: the evidence against the null so far, in nats, for stakes that are fixed before the first block: one per
    /// component, and one in sum. It may be looked at after every block, and at level α the null is rejected once it reaches
    /// `ln(1/α)`. Before the first block it is 0. At least it is -690, and at most 690.
    pub fn ln_e(&self, onset: Onset, stakes: &[f64]) -> f64 {
        if self.blocks == 0 || self.r.is_empty() {
            return 0.0;
        }
        let mixed: f64 = self.r.iter().zip(stakes).map(|(r, stake)| r * stake).sum();
        libm::log((mixed + onset.rest(self.blocks)).max(1.0 / MOST))
    }

    /// So many blocks have been taken in.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The components' `R_k`.
    pub fn components(&self) -> &[f64] {
        &self.r
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much on each of so many.
    fn even(components: usize) -> Vec<f64> {
        vec![1.0 / components as f64; components]
    }

    const ONSETS: [Onset; 5] = [Onset::First, Onset::Any, Onset::Planned(0), Onset::Planned(1), Onset::Planned(240)];

    #[test]
    fn what_is_put_down_and_what_is_left_make_one() {
        for onset in ONSETS {
            let mut down = 0.0;
            for t in 0..1000 {
                down += onset.stake(t);
                let left = onset.rest(t);
                assert!(left >= 0.0 && down + left <= 1.0 + 1e-12, "{onset:?} {t}: {down} + {left}");
            }
        }
    }

    #[test]
    fn blocks_that_say_nothing_change_nothing() {
        for onset in ONSETS {
            let mut mixture = Mixture::default();
            for _ in 0..500 {
                mixture.absorb(onset, &[0.0; 8]).unwrap();
                assert!(mixture.ln_e(onset, &even(8)).abs() < 1e-12, "{onset:?}");
            }
        }
    }

    #[test]
    fn a_state_of_another_test_is_refused() {
        let mut mixture = Mixture::default();
        mixture.absorb(Onset::Any, &[0.1; 8]).unwrap();
        let before = mixture.clone();
        assert_eq!(mixture.absorb(Onset::Any, &[0.1; 7]), Err(Unusable::OtherShape));
        assert_eq!(mixture.absorb(Onset::Any, &[f64::NAN; 8]), Err(Unusable::NotFinite));
        assert_eq!(mixture, before);
    }

    #[test]
    fn no_factor_is_too_large() {
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
