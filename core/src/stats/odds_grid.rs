//! The odds-grid e-process, which tests whether the share of hits is above its margin.
//!
//! **Canary against stable.** Given that an error happened, it happened in the canary with probability
//! `q0 = r n_c / (r n_c + n_b)` if the canary's error rate is `r` times the stable's, for any rate of the stable. Here
//! `n` are requests and `x` errors, of the canary (`c`) and the stable (`b`). The test bets on `m` times those odds,
//! for each `m` of a grid:
//!
//! ```text
//! q_m = m r n_c / (m r n_c + n_b)      ln factor = x_c ln(q_m / q0) + x_b ln((1 - q_m) / (1 - q0))
//! ```
//!
//! With `u = q_m/q0` and `v = (1-q_m)/(1-q0)`, independent requests with any probabilities `p_i` of failing give
//! `E[u^x_c v^x_b] = Π(1 + p_i(u-1)) Π(1 + p_j(v-1)) <= exp(P_c(u-1) + P_b(v-1))`, where `P` are the expected errors.
//! At `P_c = r (n_c/n_b) P_b` the exponent is zero, and below it negative for `m > 1`: the factor's expectation is at
//! most one as long as the canary's rate is at most `r` times the stable's in every block, while the common rate and
//! the split of the traffic may change freely. For `m < 1` the direction is reversed: evidence that the canary is
//! *better* than `r` times the stable.
//!
//! This is the conditional Poisson test of Lindon and Malek (NeurIPS 2022, arXiv 2011.03567) with the split taken per
//! block, one side, and a margin.
//!
//! **One arm against a limit.** A request fails with probability at most `s`. A bet on `m` times the odds of `s` uses
//! the same arithmetic with requests in place of errors, and is exact for Bernoulli trials; see [`super::slo`].

use std::borrow::Cow;

use super::BadTest;
use super::mixture::{Mixture, Onset};
use super::tally::{Pair, Phi, Unusable};

/// The alternatives for a canary that is worse, as multiples of the odds at the margin. Five suffice: a coarser grid
/// loses evidence between its points, but each point gets a larger stake (docs/figures-judges.md).
pub const WORSE: [f64; 5] = [1.2, 1.5, 2.2, 6.0, 30.0];

/// Each of [`WORSE`] with its logarithm.
static LN_WORSE: [(f64, f64); 5] = [
    (1.2, 0.1823215567939546),
    (1.5, 0.4054651081081644),
    (2.2, 0.7884573603642703),
    (6.0, 1.791759469228055),
    (30.0, 3.4011973816621555),
];

/// The stake on each of [`WORSE`]. The largest is on about twice the odds: of the faults worth detecting these take
/// longest, and one nat of stake saves minutes.
static STAKES: [f64; 5] = [0.08, 0.2, 0.32, 0.2, 0.2];

/// A grid of odds ratios, all of them above 1 or all below 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    /// The multipliers of the odds, each with its logarithm, which every block needs.
    multipliers: Cow<'static, [(f64, f64)]>,
    /// The stake on each multiplier; their sum is at most 1.
    stakes: Cow<'static, [f64]>,
}

impl Grid {
    /// The grid of [`WORSE`], as a constant because a check's tests are constructed anew for each block.
    pub(super) const WORSE: Grid = Grid { multipliers: Cow::Borrowed(&LN_WORSE), stakes: Cow::Borrowed(&STAKES) };

    /// Makes a grid of these multipliers with equal stakes.
    ///
    /// # Errors
    /// [`BadTest::Grid`] unless all multipliers are finite and above 1, or all are above 0 and below 1.
    pub(super) fn new(multipliers: &[f64]) -> Result<Grid, BadTest> {
        let worse = multipliers.iter().all(|m| m.is_finite() && *m > 1.0);
        let better = multipliers.iter().all(|m| *m > 0.0 && *m < 1.0);
        if multipliers.is_empty() || !(worse || better) {
            return Err(BadTest::Grid);
        }
        let even = 1.0 / multipliers.len() as f64;
        Ok(Grid {
            multipliers: multipliers.iter().map(|m| (*m, libm::log(*m))).collect(),
            stakes: multipliers.iter().map(|_| even).collect(),
        })
    }

    /// Returns the multipliers of the odds.
    pub(super) fn multipliers(&self) -> impl Iterator<Item = f64> {
        self.multipliers.iter().map(|(m, _)| *m)
    }

    /// Returns the evidence of a state of this grid, as `ln E` in nats.
    pub(super) fn ln_e(&self, state: &Mixture, onset: Onset) -> f64 {
        state.ln_e(onset, &self.stakes)
    }

    /// Returns the `ln` of each component's factor for `hits` of `trials`, each of which is a hit with probability `q`
    /// under the null.
    ///
    /// `ln(q_m/q) = ln m - ln(1 + (m-1) q)` and `ln((1-q_m)/(1-q)) = -ln(1 + (m-1) q)`: one logarithm per component.
    pub(super) fn factors(&self, q: f64, hits: f64, trials: f64, phi: Phi) -> Vec<f64> {
        let factor = |(m, ln_m): &(f64, f64)| (hits * ln_m - trials * libm::log1p((m - 1.0) * q)) / phi.value();
        self.multipliers.iter().map(factor).collect()
    }

    /// Returns the factors of a block without evidence. Such a block must be absorbed as well, because its stake is
    /// placed.
    pub(super) fn neutral_factors(&self) -> Vec<f64> {
        vec![0.0; self.multipliers.len()]
    }
}

/// The test of the canary's error rate against a multiple of the stable's.
#[derive(Debug, Clone, PartialEq)]
pub struct OddsGrid {
    margin: f64,
    onset: Onset,
    grid: Grid,
}

impl OddsGrid {
    /// Makes a test for evidence that the canary's rate is *above* `margin` times the stable's, which causes a rollback
    /// (Lindon and Malek 2022).
    ///
    /// `margin` is a ratio above 0; with 1 the test is whether the canary is worse at all. `onset` spreads the stake
    /// over the blocks at which the fault may begin.
    ///
    /// # Errors
    /// [`BadTest::Margin`] unless the margin is finite and above 0.
    pub fn worse(margin: f64, onset: Onset) -> Result<OddsGrid, BadTest> {
        OddsGrid::of(margin, onset, Grid::WORSE)
    }

    /// Makes a test with the given alternatives and equal stakes. `multipliers` are multiples of the odds at `margin`,
    /// all above 1 (evidence for worse) or all between 0 and 1 (evidence for better).
    ///
    /// # Errors
    /// [`BadTest::Grid`] for other multipliers; [`BadTest::Margin`] unless the margin is finite and above 0.
    pub fn with_grid(margin: f64, onset: Onset, multipliers: &[f64]) -> Result<OddsGrid, BadTest> {
        OddsGrid::of(margin, onset, Grid::new(multipliers)?)
    }

    fn of(margin: f64, onset: Onset, grid: Grid) -> Result<OddsGrid, BadTest> {
        if !(margin.is_finite() && margin > 0.0) {
            return Err(BadTest::Margin(margin));
        }
        Ok(OddsGrid { margin, onset, grid })
    }

    /// Adds a block, whose evidence is divided by `phi`. A block without errors, or without requests in one arm,
    /// carries no evidence.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state belongs to a test with another number of alternatives; it is then
    /// unchanged.
    pub fn absorb(&self, state: &mut Mixture, pair: Pair, phi: Phi) -> Result<(), Unusable> {
        self.absorb_factors(state, &self.factors(pair, phi))
    }

    /// Adds a block as [`OddsGrid::absorb`] does, and `spared`, the block without the counts of one of the canary's processes
    /// ([`Mixture::absorb_sparing`]).
    ///
    /// # Errors
    /// As [`OddsGrid::absorb`].
    pub fn absorb_sparing(
        &self,
        state: &mut Mixture,
        pair: Pair,
        spared: Option<Pair>,
        phi: Phi,
    ) -> Result<(), Unusable> {
        let without = spared.map(|spared| self.factors(spared, phi));
        state.absorb_sparing(self.onset, &self.factors(pair, phi), without.as_deref())
    }

    /// Adds a block with the given `ln` of each component's factor. They must have an expectation of at most one under the null.
    ///
    /// # Errors
    /// As [`OddsGrid::absorb`].
    pub(crate) fn absorb_factors(&self, state: &mut Mixture, factors: &[f64]) -> Result<(), Unusable> {
        state.absorb(self.onset, factors)
    }

    /// Returns the factors of a block without evidence.
    pub(crate) fn neutral_factors(&self) -> Vec<f64> {
        self.grid.neutral_factors()
    }

    /// Returns the `ln` of each component's factor for one block.
    pub(crate) fn factors(&self, pair: Pair, phi: Phi) -> Vec<f64> {
        let (canary, stable) = (pair.canary, pair.stable);
        let errors = canary.hits() + stable.hits();
        if canary.n() == 0.0 || stable.n() == 0.0 || errors == 0.0 {
            return self.grid.neutral_factors();
        }
        let exposure = self.margin * canary.n();
        let q = exposure / (exposure + stable.n());
        self.grid.factors(q, canary.hits(), errors, phi)
    }

    /// Returns the evidence over all blocks so far, as `ln E` in nats.
    pub fn ln_e(&self, state: &Mixture) -> f64 {
        self.grid.ln_e(state, self.onset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tally::Tally;

    fn pair(xc: u64, nc: u64, xb: u64, nb: u64) -> Pair {
        Pair { canary: Tally::of(xc, nc).unwrap(), stable: Tally::of(xb, nb).unwrap() }
    }

    #[test]
    fn bad_margins_and_grids_are_refused() {
        for margin in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            assert!(OddsGrid::worse(margin, Onset::Any).is_err(), "{margin}");
        }
        for grid in [&[][..], &[1.0], &[0.5, 2.0], &[0.0], &[f64::NAN], &[f64::INFINITY]] {
            assert_eq!(Grid::new(grid), Err(BadTest::Grid), "{grid:?}");
        }
    }

    #[test]
    fn the_stored_logarithms_equal_the_computed_ones() {
        assert_eq!(Grid::WORSE.multipliers, Grid::new(&WORSE).unwrap().multipliers);
        assert!(STAKES.iter().sum::<f64>() < 1.0 + 1e-12, "stakes above 1 in sum are not an e-process");
    }

    #[test]
    fn phi_divides_the_evidence_of_a_component() {
        let test = OddsGrid::with_grid(1.0, Onset::First, &[2.0]).unwrap();
        let block = pair(7, 100, 5, 900);
        let (mut one, mut three) = (Mixture::default(), Mixture::default());
        test.absorb(&mut one, block, Phi::ONE).unwrap();
        test.absorb(&mut three, block, Phi::learned(3.0)).unwrap();
        assert!((test.ln_e(&one) - 3.0 * test.ln_e(&three)).abs() < 1e-12);
    }

    #[test]
    fn a_block_without_errors_or_with_an_empty_arm_carries_no_evidence() {
        let test = OddsGrid::worse(1.0, Onset::Any).unwrap();
        let mut state = Mixture::default();
        for block in [pair(5, 10, 0, 0), pair(0, 0, 5, 10), pair(0, 10, 0, 10)] {
            test.absorb(&mut state, block, Phi::ONE).unwrap();
            assert!(test.ln_e(&state).abs() < 1e-14);
        }
    }
}
