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
//!
//! **One burst decides nothing.** Errors come in bursts that hit one process, and a burst may be larger than any of the past, from
//! which the dispersion φ was learnt. [`Mixture::absorb_sparing`] therefore also gets each block's factors without the counts of one
//! process, `g_k,t`, and keeps the least evidence that is left without one of these counts:
//!
//! ```text
//! S_k <- min((S_k + w_t) * f_k,t, (R_k + w_t) * g_k,t)        E_t = Σ_k v_k S_k + (1 - Σ_{s<=t} w_s)
//! ```
//!
//! By induction `S_k <= R_k`, so this evidence has the same error rate, in whichever way the process is chosen.

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
    /// The components `S_k` without the block of one process; empty if no block named one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spared: Vec<f64>,
}

impl Mixture {
    /// Adds a block. `factors` has the `ln` of each component's likelihood ratio in the block, in nats; `onset` must be
    /// the same for all blocks.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state has another number of components, and [`Unusable::NotFinite`] if a factor
    /// is NaN; the state is then unchanged.
    pub fn absorb(&mut self, onset: Onset, factors: &[f64]) -> Result<(), Unusable> {
        self.absorb_sparing(onset, factors, None)
    }

    /// Adds a block as [`Mixture::absorb`] does. `without` has the factors without the counts of one process; `None` if no process
    /// is left out of this block.
    ///
    /// # Errors
    /// As [`Mixture::absorb`].
    pub fn absorb_sparing(&mut self, onset: Onset, factors: &[f64], without: Option<&[f64]>) -> Result<(), Unusable> {
        if factors.iter().chain(without.into_iter().flatten()).any(|factor| factor.is_nan()) {
            return Err(Unusable::NotFinite);
        }
        let components = if self.blocks == 0 { factors.len() } else { self.r.len() };
        if factors.len() != components || without.is_some_and(|without| without.len() != components) {
            return Err(Unusable::OtherShape);
        }
        self.r.resize(components, 0.0);
        if without.is_some() && self.spared.len() != components {
            self.spared = self.r.clone();
        }
        self.blocks = self.blocks.saturating_add(1);
        let stake = onset.stake(self.blocks);
        for (k, spared) in self.spared.iter_mut().enumerate() {
            let left_out = without.map_or(f64::INFINITY, |without| grown(self.r[k] + stake, without[k]));
            *spared = grown(*spared + stake, factors[k]).min(left_out);
        }
        for (r, factor) in self.r.iter_mut().zip(factors) {
            *r = grown(*r + stake, *factor);
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
        let mixed: f64 = self.components().iter().zip(stakes).map(|(r, stake)| r * stake).sum();
        libm::log((mixed + onset.rest(self.blocks)).max(1.0 / MOST))
    }

    /// Returns the number of absorbed blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the components that make the evidence, each from 0 to 1e300: `S_k` if blocks named a process to leave out, otherwise
    /// `R_k`.
    pub fn components(&self) -> &[f64] {
        if self.spared.is_empty() { &self.r } else { &self.spared }
    }
}

/// Returns the stake after a block with the given `ln` of its factor. Zero stays zero, also if the factor is infinite.
fn grown(staked: f64, factor: f64) -> f64 {
    if staked > 0.0 { (staked * libm::exp(factor)).min(MOST) } else { 0.0 }
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
    fn the_evidence_is_the_least_without_one_block_of_a_process() {
        // The evidence without the process of each single block, by hand: its stakes stay, its factor is the other one.
        let blocks = [(0.7, 0.1), (-0.3, 0.2), (2.5, -0.1), (0.4, 0.4), (1.1, -0.6)];
        for onset in ONSETS {
            let (mut sparing, mut all) = (Mixture::default(), Mixture::default());
            for (number, (factor, without)) in blocks.iter().enumerate() {
                sparing.absorb_sparing(onset, &[*factor], Some(&[*without])).unwrap();
                all.absorb(onset, &[*factor]).unwrap();
                let left_out = (0..=number).map(|left_out| {
                    let mut mixture = Mixture::default();
                    for (place, (factor, without)) in blocks[..=number].iter().enumerate() {
                        mixture.absorb(onset, &[if place == left_out { *without } else { *factor }]).unwrap();
                    }
                    mixture.ln_e(onset, &[1.0])
                });
                let least = left_out.fold(all.ln_e(onset, &[1.0]), f64::min);
                let evidence = sparing.ln_e(onset, &[1.0]);
                assert!(evidence <= least + 1e-12, "{onset:?} {number}: {evidence} > {least}");
                assert!(evidence <= all.ln_e(onset, &[1.0]) + 1e-12, "more evidence than that of all processes");
                // With the whole stake at the first block nothing else lowers it.
                assert!(onset != Onset::First || (evidence - least).abs() < 1e-12, "{number}: {evidence} < {least}");
            }
        }
    }

    #[test]
    fn a_process_is_left_out_from_the_first_block_that_names_one() {
        let mut mixture = Mixture::default();
        mixture.absorb(Onset::First, &[3.0]).unwrap();
        mixture.absorb_sparing(Onset::First, &[2.0], Some(&[0.5])).unwrap();
        mixture.absorb(Onset::First, &[1.0]).unwrap();
        assert!((mixture.ln_e(Onset::First, &[1.0]) - 4.5).abs() < 1e-12);
        let kept: Mixture = serde_json::from_str(&serde_json::to_string(&mixture).unwrap()).unwrap();
        assert_eq!(kept, mixture);
        assert_eq!(mixture.absorb_sparing(Onset::First, &[1.0], Some(&[1.0; 2])), Err(Unusable::OtherShape));
        assert_eq!(mixture.absorb_sparing(Onset::First, &[1.0], Some(&[f64::NAN])), Err(Unusable::NotFinite));
        assert_eq!(kept, mixture);
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
