//! Is the share of hits above what it may be? The odds-grid e-process.
//!
//! **Canary against stable.** Given that an error happened, it happened in the canary with probability
//! `q0 = r n_c / (r n_c + n_b)` if the canary's error rate is `r` times the stable's, whatever that rate is at the
//! moment. The test bets on `m` times those odds, for each `m` of a grid:
//!
//! ```text
//! q_m = m r n_c / (m r n_c + n_b)      ln factor = x_c ln(q_m / q0) + x_b ln((1 - q_m) / (1 - q0))
//! ```
//!
//! With `u = q_m/q0` and `v = (1-q_m)/(1-q0)`, independent requests with any probabilities `p_i` of failing give
//! `E[u^x_c v^x_b] = Π(1 + p_i(u-1)) Π(1 + p_j(v-1)) <= exp(P_c(u-1) + P_b(v-1))`, where `P` are the expected errors. At
//! `P_c = r (n_c/n_b) P_b` the exponent is zero, and below it negative for `m > 1`: the factor's expectation is at most
//! one as long as the canary's rate is at most `r` times the stable's in every block, while the common rate and the
//! split of the traffic change as they like. For `m < 1` it is the same from the other side: evidence that the canary
//! is *better* than `r` times the stable.
//!
//! This is the conditional Poisson test of Lindon and Malek (NeurIPS 2022, arXiv 2011.03567) with the split taken per
//! block, one side, and a margin.
//!
//! **One arm against a limit.** A request fails with probability at most `s`. Betting on `m` times the odds of `s` is
//! the same arithmetic with requests in place of errors, and exact for Bernoulli trials; see [`super::slo`].

use std::borrow::Cow;

use super::BadTest;
use super::mixture::{Mixture, Onset};
use super::tally::{Pair, Phi, Unusable};

/// How many times worse than the margin the canary may be. Five are enough: what a coarser grid loses between its points, it
/// gains by less to spread the stake over (docs/figures-judges.md).
pub const WORSE: [f64; 5] = [1.2, 1.5, 2.2, 6.0, 30.0];

/// How many times better than the margin it may be.
pub const BETTER: [f64; 5] = [0.8, 0.6, 0.4, 0.2, 0.05];

/// [`WORSE`], each with its logarithm.
static LN_WORSE: [(f64, f64); 5] = [
    (1.2, 0.1823215567939546),
    (1.5, 0.4054651081081644),
    (2.2, 0.7884573603642703),
    (6.0, 1.791759469228055),
    (30.0, 3.4011973816621555),
];

/// [`BETTER`], likewise.
static LN_BETTER: [(f64, f64); 5] = [
    (0.8, -0.2231435513142097),
    (0.6, -0.5108256237659907),
    (0.4, -0.916290731874155),
    (0.2, -1.6094379124341003),
    (0.05, -2.995732273553991),
];

/// What is staked on each of [`WORSE`]. The most on twice as bad, which takes longest to tell of all that is worth telling, and
/// where a nat less to come by is minutes.
static STAKES: [f64; 5] = [0.08, 0.2, 0.32, 0.2, 0.2];

/// As much on each of five.
static FIFTH: [f64; 5] = [0.2; 5];

/// A grid of odds ratios, all on one side of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    /// Each with its logarithm, which is needed in every block.
    multipliers: Cow<'static, [(f64, f64)]>,
    /// Each one's part of the stake.
    stakes: Cow<'static, [f64]>,
}

impl Grid {
    /// [`WORSE`], at no cost: a check's tests are made anew for each block.
    pub(super) const WORSE: Grid = Grid { multipliers: Cow::Borrowed(&LN_WORSE), stakes: Cow::Borrowed(&STAKES) };
    /// [`BETTER`], likewise.
    const BETTER: Grid = Grid { multipliers: Cow::Borrowed(&LN_BETTER), stakes: Cow::Borrowed(&FIFTH) };

    /// From its multipliers, of which none is worth more than another.
    ///
    /// # Errors
    /// [`BadTest::Grid`] unless all are finite and above 1, or all above 0 and below 1.
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

    /// The multipliers.
    pub(super) fn multipliers(&self) -> impl Iterator<Item = f64> {
        self.multipliers.iter().map(|(m, _)| *m)
    }

    /// The evidence of a state of this grid.
    pub(super) fn ln_e(&self, state: &Mixture, onset: Onset) -> f64 {
        state.ln_e(onset, &self.stakes)
    }

    /// `hits` of `trials` had probability `q` each under the null: the `ln` of each component's factor.
    ///
    /// `ln(q_m/q) = ln m - ln(1 + (m-1) q)` and `ln((1-q_m)/(1-q)) = -ln(1 + (m-1) q)`: one logarithm per component.
    pub(super) fn factors(&self, q: f64, hits: f64, trials: f64, phi: Phi) -> Vec<f64> {
        let each = |(m, ln_m): &(f64, f64)| (hits * ln_m - trials * libm::log1p((m - 1.0) * q)) / phi.value();
        self.multipliers.iter().map(each).collect()
    }

    /// A block that says nothing still passes: what was held back for it is put down.
    fn silence(&self) -> Vec<f64> {
        vec![0.0; self.multipliers.len()]
    }
}

/// The test of the canary's rate against `margin` times the stable's.
#[derive(Debug, Clone, PartialEq)]
pub struct OddsGrid {
    margin: f64,
    onset: Onset,
    grid: Grid,
}

impl OddsGrid {
    /// Evidence that the canary's rate is *above* `margin` times the stable's: what a rollback rests on. A margin of 1
    /// asks whether it is worse at all.
    ///
    /// # Errors
    /// [`BadTest::Margin`] unless the margin is finite and above 0.
    pub fn worse(margin: f64, onset: Onset) -> Result<OddsGrid, BadTest> {
        OddsGrid::of(margin, onset, Grid::WORSE)
    }

    /// Evidence that the canary's rate is *below* `margin` times the stable's: what a promotion rests on. It speaks of
    /// the whole time, so nothing is held back for later.
    ///
    /// # Errors
    /// [`BadTest::Margin`] unless the margin is finite and above 0.
    pub fn better(margin: f64) -> Result<OddsGrid, BadTest> {
        OddsGrid::of(margin, Onset::First, Grid::BETTER)
    }

    /// With alternatives of one's own, as multiples of the margin.
    ///
    /// # Errors
    /// [`BadTest`], if the margin or the grid is none.
    pub fn with_grid(margin: f64, onset: Onset, multipliers: &[f64]) -> Result<OddsGrid, BadTest> {
        OddsGrid::of(margin, onset, Grid::new(multipliers)?)
    }

    fn of(margin: f64, onset: Onset, grid: Grid) -> Result<OddsGrid, BadTest> {
        if !(margin.is_finite() && margin > 0.0) {
            return Err(BadTest::Margin(margin));
        }
        Ok(OddsGrid { margin, onset, grid })
    }

    /// Takes a block in. A block in which one arm has no requests, or neither has an error, says nothing.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state is another test's.
    pub fn absorb(&self, state: &mut Mixture, pair: Pair, phi: Phi) -> Result<(), Unusable> {
        state.absorb(self.onset, &self.factors(pair, phi))
    }

    /// `ln` of each component's factor for one block.
    pub(super) fn factors(&self, pair: Pair, phi: Phi) -> Vec<f64> {
        let (canary, stable) = (pair.canary, pair.stable);
        let errors = canary.hits() + stable.hits();
        if canary.n() == 0.0 || stable.n() == 0.0 || errors == 0.0 {
            return self.grid.silence();
        }
        let exposure = self.margin * canary.n();
        let q = exposure / (exposure + stable.n());
        self.grid.factors(q, canary.hits(), errors, phi)
    }

    /// The evidence so far: `ln E`.
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
    fn no_test_is_made_of_nonsense() {
        for margin in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            assert!(OddsGrid::worse(margin, Onset::Any).is_err(), "{margin}");
        }
        for grid in [&[][..], &[1.0], &[0.5, 2.0], &[0.0], &[f64::NAN], &[f64::INFINITY]] {
            assert_eq!(Grid::new(grid), Err(BadTest::Grid), "{grid:?}");
        }
    }

    #[test]
    fn the_logarithms_that_are_written_down_are_those_that_are_computed() {
        assert_eq!(Grid::WORSE.multipliers, Grid::new(&WORSE).unwrap().multipliers);
        assert_eq!(Grid::BETTER, Grid::new(&BETTER).unwrap());
        assert!(STAKES.iter().sum::<f64>() < 1.0 + 1e-12, "more than the whole stake is no e-process");
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
    fn an_arm_without_requests_says_nothing() {
        let test = OddsGrid::worse(1.0, Onset::Any).unwrap();
        let mut state = Mixture::default();
        for block in [pair(5, 10, 0, 0), pair(0, 0, 5, 10), pair(0, 10, 0, 10)] {
            test.absorb(&mut state, block, Phi::ONE).unwrap();
            assert!(test.ln_e(&state).abs() < 1e-14);
        }
    }
}
