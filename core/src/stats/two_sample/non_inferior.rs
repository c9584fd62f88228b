//! Evidence that the canary is *not* worse than the stable by both a ratio and a difference, for a promotion.
//!
//! A version is too bad if its share is above `r` times the stable's and also above the stable's by more than `d`. The
//! null hypothesis is therefore the intersection of two half-planes, which is convex, and the module's nearest null
//! applies:
//!
//! ```text
//! θ_c >= max(r θ_b, θ_b + d)
//! ```
//!
//! The nearest pair lies on the line of the ratio, on the line of the difference, or at the corner where they meet. For a
//! stable without errors the difference alone decides, and a proof needs about `ln(1/β)/d` requests of the canary.

use super::{Null, Shares, ln_ratios, nearest_difference, nearest_ratio, smoothed};
use crate::stats::BadTest;
use crate::stats::mixture::{Mixture, Onset};
use crate::stats::tally::{Pair, Phi, Unusable, Worth};

/// The stakes on the three alternatives: half of the stable's share, the stable's share, and the middle between it and
/// the smallest share that is too bad. Most canaries are like their stable.
const STAKES: [f64; 3] = [0.15, 0.6, 0.25];

/// A test for evidence that the canary's share is below `ratio` times the stable's, or above it by less than
/// `difference`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NonInferior {
    ratio: f64,
    difference: f64,
}

impl NonInferior {
    /// Makes the test. `ratio` is above 0; `difference` is a share from 0 to below 1.
    ///
    /// # Errors
    /// [`BadTest::Margin`] with the margin that is out of range.
    pub fn new(ratio: f64, difference: f64) -> Result<NonInferior, BadTest> {
        Null::Ratio(ratio).check()?;
        Null::Difference(difference).check()?;
        Ok(NonInferior { ratio, difference })
    }

    /// Adds a block, whose evidence is divided by `phi`. The alternatives come from `past`, the stable's counts before the
    /// block; without any, the block carries no evidence.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state belongs to another test; it is then unchanged.
    pub fn absorb(&self, state: &mut Mixture, past: Worth, pair: Pair, phi: Phi) -> Result<(), Unusable> {
        let ln_e = |alt| self.nearest(alt, pair.canary.n(), pair.stable.n()).map(|null| ln_ratios(pair, alt, null));
        let factors = self.alternatives(past).map(|alt| ln_e(alt).unwrap_or(0.0) / phi.value());
        state.absorb(Onset::First, &factors)
    }

    /// Returns the evidence over all blocks so far, as `ln E` in nats.
    pub fn ln_e(&self, state: &Mixture) -> f64 {
        state.ln_e(Onset::First, &STAKES)
    }

    /// Returns the smallest share of the canary that is too bad beside a stable's share.
    fn least(&self, stable: f64) -> f64 {
        (self.ratio * stable).max(stable + self.difference)
    }

    fn alternatives(&self, stable: Worth) -> [Shares; STAKES.len()] {
        // Before the first counts of the stable, a share of 0 gives no evidence.
        let share = if stable.n() == 0.0 { 0.0 } else { smoothed(stable) };
        [0.5 * share, share, 0.5 * (share + self.least(share))].map(|canary| Shares { canary, stable: share })
    }

    /// Returns the pair of shares in the null that is nearest to `alt`; `None` if `alt` itself is in it, or if a share is
    /// not above 0 and below 1.
    fn nearest(&self, alt: Shares, canary: f64, stable: f64) -> Option<Shares> {
        if !alt.are_inner() || alt.canary >= self.least(alt.stable) || canary <= 0.0 || stable <= 0.0 {
            return None;
        }
        let (r, d) = (self.ratio, self.difference);
        let by_ratio = nearest_ratio(r, alt, canary, stable);
        let by_difference = || nearest_difference(d, alt, canary, stable);
        let nearest = if by_ratio.canary >= by_ratio.stable + d {
            by_ratio
        } else {
            Some(by_difference()).filter(|nearest| nearest.canary >= r * nearest.stable).unwrap_or_else(|| {
                let stable = d / (r - 1.0);
                Shares { canary: r * stable, stable }
            })
        };
        nearest.are_inner().then_some(nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tally::Tally;

    const TESTS: [(f64, f64); 5] = [(1.25, 0.001), (1.0, 0.01), (2.0, 0.0), (3.0, 0.05), (1.25, 0.0)];

    fn kl(p: f64, q: f64) -> f64 {
        p * libm::log(p / q) + (1.0 - p) * libm::log((1.0 - p) / (1.0 - q))
    }

    #[test]
    fn no_other_null_is_nearer_than_the_computed_one() {
        for (ratio, difference) in TESTS {
            let test = NonInferior::new(ratio, difference).unwrap();
            for alt in [(1e-7, 1e-7), (0.0005, 0.001), (0.001, 0.001), (0.004, 0.0039), (0.02, 0.08), (0.3, 0.3)] {
                let alt = Shares { canary: alt.0, stable: alt.1 };
                for (canary, stable) in [(150.0, 1350.0), (700.0, 700.0), (20.0, 9000.0)] {
                    let Some(nearest) = test.nearest(alt, canary, stable) else { continue };
                    let distance = |at: Shares| canary * kl(alt.canary, at.canary) + stable * kl(alt.stable, at.stable);
                    assert!(nearest.canary >= test.least(nearest.stable) * (1.0 - 1e-9), "{nearest:?}");
                    let least = distance(nearest);
                    for step in 1..4000 {
                        let share = alt.stable * f64::from(step) / 2000.0;
                        let other = Shares { canary: test.least(share), stable: share };
                        if other.are_inner() {
                            assert!(
                                distance(other) >= least * (1.0 - 1e-9) - 1e-12,
                                "{ratio} {difference} {alt:?} {other:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// Sums the factor over all counts of a small block, at shares on the boundary of the null.
    #[test]
    fn the_factor_of_a_block_has_an_expectation_of_at_most_one_on_the_null() {
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64);
        let probability =
            |x: u64, n: u64, p: f64| choose(n, x) * libm::pow(p, x as f64) * libm::pow(1.0 - p, (n - x) as f64);
        let (canary, stable) = (8, 12);
        for (ratio, difference) in TESTS {
            let test = NonInferior::new(ratio, difference).unwrap();
            let past = Worth::from(Tally::of(30, 400).unwrap());
            for share in [0.0, 0.001, 0.05, 0.2, 0.4] {
                for worse in [0.0, 0.1] {
                    let p = (test.least(share) + worse).min(1.0);
                    let mut mean = 0.0;
                    for (xc, xb) in (0..=canary).flat_map(|xc| (0..=stable).map(move |xb| (xc, xb))) {
                        let mut state = Mixture::default();
                        let pair =
                            Pair { canary: Tally::of(xc, canary).unwrap(), stable: Tally::of(xb, stable).unwrap() };
                        test.absorb(&mut state, past, pair, Phi::ONE).unwrap();
                        mean +=
                            probability(xc, canary, p) * probability(xb, stable, share) * libm::exp(test.ln_e(&state));
                    }
                    assert!(mean <= 1.0 + 1e-9, "{ratio} {difference} {share} {worse}: {mean}");
                }
            }
        }
    }

    #[test]
    fn margins_out_of_range_are_refused() {
        for (ratio, difference) in [(0.0, 0.1), (f64::NAN, 0.1), (1.25, -0.1), (1.25, 1.0)] {
            assert!(NonInferior::new(ratio, difference).is_err(), "{ratio} {difference}");
        }
    }
}
