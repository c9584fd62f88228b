//! Tests of one arm's share of bad requests against an absolute limit `s`, for evidence that it is above or below.
//!
//! The evidence for *compliance* mixes all shares below the limit by a Beta(½, ½) prior that is cut off at `s`
//! (Jeffreys' prior, which needs no assumption about the canary); the evidence for *violation* mixes all shares above
//! it, in closed form:
//!
//! ```text
//! ln e = ln B(a+x, b+n-x) + ln T(a+x, b+n-x) - ln B(a, b) - ln T(a, b) - x ln s - (n-x) ln(1-s)
//! ```
//!
//! where `x` of `n` requests are bad, `a = b = ½`, and `T` is the mass of Beta(·) on the alternative's side of `s`.
//! Each share in the mixture gives a likelihood ratio with expectation at most one for every block whose true share is
//! on the null's side, so the mixture is an e-process.
//!
//! A limit can be broken late. A rollback therefore uses [`LimitGrid`], which has the restarts of [`super::mixture`]
//! and one logarithm per component. The closed form gives the evidence of a single look at all counts, is consistent
//! for every share, and determines how many requests without an error prove a limit.
//!
//! **Beside a stable.** An incident of a dependency breaks the limit in both arms and says nothing about the canary. A block
//! of both arms is therefore held against the limit *and* against the stable's share: each alternative's factor is the
//! smaller one of its factor against the limit and of its factor against equal rates ([`super::odds_grid`] at a margin of
//! 1). The smaller of two factors has an expectation of at most one if either does, so the product over the blocks is an
//! e-process as long as the canary keeps the limit, or is not worse than the stable, in every block; which of the two may
//! change from block to block. For rare errors it is the factor against the larger one of the limit and the share of both
//! arms together.
//!
//! Dispersion divides the exponent of the likelihood. For a mixture over fixed shares, raising every block's likelihood
//! to `1/φ_t` equals counting `x_t/φ_t` hits of `n_t/φ_t`, so [`Worth`] is a sufficient state even if φ changes over
//! time.

use std::f64::consts::PI;

use super::BadTest;
use super::mixture::{Mixture, Onset};
use super::odds_grid::{Grid, OddsGrid};
use super::special::{beta_tails_against, ln_beta_against};
use super::tally::{Pair, Phi, Tally, Unusable, Worth};

/// The closed-form test of a share against a limit, with a prior over the shares on either side of the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    limit: f64,
    a: f64,
    b: f64,
    /// `ln B(a,b) - a ln s - b ln(1-s)`.
    front: f64,
}

impl Ceiling {
    /// Makes the test for a share of at most `limit`, with Jeffreys' prior.
    ///
    /// # Errors
    /// [`BadTest::Limit`] unless `limit` is above 0 and below 1.
    pub fn new(limit: f64) -> Result<Ceiling, BadTest> {
        if !(limit > 0.0 && limit < 1.0) {
            return Err(BadTest::Limit(limit));
        }
        let front = libm::log(PI) - 0.5 * (libm::log(limit) + libm::log1p(-limit));
        Ok(Ceiling { limit, a: 0.5, b: 0.5, front })
    }

    /// Returns the evidence that the share is above the limit, as `ln E` in nats: the closed form of the module's
    /// documentation. `counts` has all blocks so far.
    pub fn ln_violation(&self, counts: Worth) -> f64 {
        let (a, b) = (self.a + counts.hits(), self.b + counts.misses());
        let against = ln_beta_against(a, b, self.limit);
        against + beta_tails_against(self.limit, a, b, against).upper - self.front - ln_mass(1.0 - self.limit)
    }

    /// Returns the evidence that the share is below the limit, as `ln E` in nats: the closed form of the module's
    /// documentation. Once it reaches `ln(1/β)`, the limit is shown to hold. `counts` has all blocks so far.
    pub fn ln_compliance(&self, counts: Worth) -> f64 {
        let (a, b) = (self.a + counts.hits(), self.b + counts.misses());
        let against = ln_beta_against(a, b, self.limit);
        against + beta_tails_against(self.limit, a, b, against).lower - self.front - ln_mass(self.limit)
    }

    /// Returns the number of requests that show the limit to hold if the share of bad ones among them is `share`: the
    /// smallest `n` whose compliance evidence reaches `1/level`. It is valid for any number of looks.
    ///
    /// `share` is from 0 to 1, and `level` is the error rate, above 0 and below 1. Returns `None` if the share is not
    /// below the limit, or so close to it that 2⁵² requests don't suffice.
    ///
    /// # Errors
    /// [`BadTest::Level`] unless `level` is above 0 and below 1.
    pub fn requests_to_show(&self, share: f64, level: f64) -> Result<Option<u64>, BadTest> {
        if !(level > 0.0 && level < 1.0) {
            return Err(BadTest::Level(level));
        }
        if !(0.0..self.limit).contains(&share) {
            return Ok(None);
        }
        let goal = -libm::log(level);
        let enough = |n: u64| {
            let n = n as f64;
            self.ln_compliance(Worth { hits: n * share, misses: n * (1.0 - share) }) >= goal
        };
        let Some(mut above) = (0..53).map(|power| 1u64 << power).find(|n| enough(*n)) else { return Ok(None) };
        let mut below = above / 2;
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            if enough(middle) { above = middle } else { below = middle }
        }
        Ok(Some(above))
    }
}

/// Returns the logarithm of the prior's mass below `share`; by symmetry it is also the mass above `1 - share`.
/// Jeffreys' prior is the arcsine law, so no series is needed, which matters because it is computed for each block.
fn ln_mass(share: f64) -> f64 {
    libm::log(libm::asin(libm::sqrt(share)) * 2.0 / PI)
}

/// A block of both arms, of which the canary is held against limits.
#[derive(Debug, Clone, Copy)]
pub struct BesideBlock<'a> {
    /// The canary's requests by kind, such as those of warm and of cold processes, each with the test of its own limit.
    pub kinds: &'a [(&'a LimitGrid, Tally)],
    /// The stable's requests. Without any, one kind counts as in [`LimitGrid::absorb`].
    pub stable: Tally,
    /// The factors of the first kind against the stable by strata ([`LimitGrid::factors_beside`]); `None` without strata. The block is
    /// then also evidence only if the canary is worse in a stratum, or another kind is above its limit.
    pub by_strata: Option<&'a [f64]>,
    /// The requests of the first kind without one process ([`Mixture::absorb_sparing`]); `None` if no process is left out.
    pub spared: Option<Tally>,
}

impl BesideBlock<'_> {
    /// Returns the `ln` of each component's factor with these requests of the first kind.
    fn factors(&self, first: Tally, phi: Phi) -> Vec<f64> {
        let Some(((test, _), others)) = self.kinds.split_first() else { return Vec::new() };
        let mut factors = test.factors(first, phi);
        for (test, tally) in others {
            add(&mut factors, &test.factors(*tally, phi));
        }
        if self.stable.n() > 0.0 {
            let canary = others.iter().fold(first, |sum, (_, tally)| sum.plus(*tally));
            lower(&mut factors, &test.equal.factors(Pair { canary, stable: self.stable }, phi));
        }
        if let Some(by_strata) = self.by_strata {
            let mut by_strata = by_strata.to_vec();
            for (test, tally) in others {
                add(&mut by_strata, &test.factors(*tally, phi));
            }
            lower(&mut factors, &by_strata);
        }
        factors
    }
}

/// Adds the other factors' logarithms.
pub(crate) fn add(factors: &mut [f64], others: &[f64]) {
    factors.iter_mut().zip(others).for_each(|(factor, other)| *factor += other);
}

/// Leaves the smaller one of each two factors.
fn lower(factors: &mut [f64], others: &[f64]) {
    factors.iter_mut().zip(others).for_each(|(factor, other)| *factor = factor.min(*other));
}

/// The test of one arm's share against a limit with the grid of [`super::odds_grid`].
#[derive(Debug, Clone, PartialEq)]
pub struct LimitGrid {
    limit: f64,
    onset: Onset,
    grid: Grid,
    /// The test against equal rates, with the same alternatives.
    equal: OddsGrid,
}

impl LimitGrid {
    /// Makes a test for evidence that the share is above `limit`. `onset` spreads the stake over the blocks at which
    /// the limit may be broken.
    ///
    /// # Errors
    /// [`BadTest::Limit`] unless `limit` is above 0 and below 1.
    pub fn above(limit: f64, onset: Onset) -> Result<LimitGrid, BadTest> {
        if !(limit > 0.0 && limit < 1.0) {
            return Err(BadTest::Limit(limit));
        }
        Ok(LimitGrid { limit, onset, grid: Grid::WORSE, equal: OddsGrid::worse(1.0, onset)? })
    }

    /// Adds a block, whose evidence is divided by `phi`.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state belongs to a test with another number of alternatives; it is then
    /// unchanged.
    pub fn absorb(&self, state: &mut Mixture, tally: Tally, phi: Phi) -> Result<(), Unusable> {
        state.absorb(self.onset, &self.factors(tally, phi))
    }

    /// Adds a block of both arms, whose evidence is divided by `phi`. The kinds' tests must have the same onset. The block is evidence
    /// that a kind is above its limit, and that all kinds together are above the stable's share. The product of the kinds' factors has
    /// an expectation of at most one if each keeps its limit, because their requests are independent given the past.
    ///
    /// # Errors
    /// As [`LimitGrid::absorb`].
    pub fn absorb_beside(block: BesideBlock<'_>, state: &mut Mixture, phi: Phi) -> Result<(), Unusable> {
        let Some((LimitGrid { onset, .. }, _)) = block.kinds.first() else { return Ok(()) };
        let without = block.spared.map(|tally| block.factors(tally, phi));
        state.absorb_sparing(*onset, &block.factors(block.kinds[0].1, phi), without.as_deref())
    }

    /// Returns the `ln` of each component's factor of a stratum against equal rates of both arms. A stratum that the stable never had
    /// (`is_new`), such as a new route, is held against the limit.
    pub(crate) fn factors_beside(&self, pair: Pair, is_new: bool, phi: Phi) -> Vec<f64> {
        if is_new { self.factors(pair.canary, phi) } else { self.equal.factors(pair, phi) }
    }

    /// Returns the `ln` of each component's factor for one block.
    pub(super) fn factors(&self, tally: Tally, phi: Phi) -> Vec<f64> {
        self.grid.factors(self.limit, tally.hits(), tally.n(), phi)
    }

    /// Returns the evidence over all blocks so far, as `ln E` in nats.
    pub fn ln_e(&self, state: &Mixture) -> f64 {
        self.grid.ln_e(state, self.onset)
    }
}

#[cfg(test)]
mod tests {
    use super::super::special::beta_tails;
    use super::*;

    #[test]
    fn a_limit_outside_0_to_1_is_refused() {
        for limit in [f64::NAN, 0.0, 1.0, 5.0, -0.1] {
            assert!(LimitGrid::above(limit, Onset::Any).is_err(), "{limit}");
            assert!(Ceiling::new(limit).is_err(), "{limit}");
        }
    }

    #[test]
    fn the_priors_masses_equal_the_incomplete_beta_function() {
        for limit in [1e-9, 1e-4, 0.01, 0.05, 0.3, 0.5, 0.9, 0.999_999] {
            let (ceiling, tails) = (Ceiling::new(limit).unwrap(), beta_tails(limit, 0.5, 0.5));
            let front = ln_beta_against(0.5, 0.5, limit);
            let masses = [(ln_mass(limit), tails.lower), (ln_mass(1.0 - limit), tails.upper)];
            for (ours, theirs) in masses.map(|(ours, theirs)| (ceiling.front + ours, theirs)) {
                assert!((ours - (front + theirs)).abs() < 1e-12 * ours.abs().max(1.0), "{limit}: {ours}");
            }
        }
    }

    #[test]
    fn evidence_grows_with_errors_and_shrinks_without() {
        let ceiling = Ceiling::new(0.01).unwrap();
        let at = |x, n| Worth::from(Tally::of(x, n).unwrap());
        for n in [100, 1000, 100_000] {
            for x in 0..50 {
                assert!(ceiling.ln_violation(at(x + 1, n)) > ceiling.ln_violation(at(x, n)), "{x} {n}");
                assert!(ceiling.ln_compliance(at(x + 1, n)) < ceiling.ln_compliance(at(x, n)), "{x} {n}");
            }
        }
    }

    #[test]
    fn a_block_at_phi_4_counts_like_a_quarter_of_its_requests() {
        let ceiling = Ceiling::new(0.05).unwrap();
        let mut quarter = Worth::default();
        quarter.absorb(Tally::of(40, 400).unwrap(), Phi::learned(4.0));
        let plain = Worth::from(Tally::of(10, 100).unwrap());
        assert_eq!(ceiling.ln_violation(quarter), ceiling.ln_violation(plain));
    }

    #[test]
    fn extreme_counts_give_finite_evidence() {
        let ceiling = Ceiling::new(1e-4).unwrap();
        for (x, n) in [(0, 0), (0, 1u64 << 53), (1 << 53, 1 << 53), (1 << 40, 1 << 53)] {
            let counts = Worth::from(Tally::of(x, n).unwrap());
            assert!(ceiling.ln_violation(counts).is_finite(), "{x} {n}");
            assert!(ceiling.ln_compliance(counts).is_finite(), "{x} {n}");
        }
    }
}
