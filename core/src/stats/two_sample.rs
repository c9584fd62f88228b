//! Tests of two shares with a margin (a ratio or a difference), exact for Bernoulli trials with shares of any size.
//!
//! [`super::odds_grid`] treats errors as rare. If the share is large, such as 5 % of the requests above an edge, or if
//! the margin is a difference in points, the block is compared with the *nearest* null instead:
//!
//! ```text
//! S = p(block; a, b) / p(block; A, B)
//! ```
//!
//! `(a, b)` is an alternative for canary and stable that is fixed before the block is known, and `(A, B)` the null with
//! the smallest Kullback-Leibler distance `n_c KL(a|A) + n_b KL(b|B)` to it (the reverse information projection of
//! Grünwald, de Heide and Koolen 2024, "Safe Testing"; Turner, Ly and Grünwald 2024, "Generic E-variables").
//! `E[S] <= 1` on the whole of any convex null: `ln E_θ[S]` is concave in `θ`, zero at `(A, B)`, and its gradient there
//! is minus the gradient of the distance. As `(A, B)` minimises the distance, `ln E_θ[S]` does not rise towards any
//! other point of the null.

use serde::{Deserialize, Serialize};

use super::BadTest;
use super::mixture::{Mixture, Onset};
use super::odds_grid::Grid;
use super::tally::{Pair, Phi, Tally, Unusable, Worth};

pub mod non_inferior;

/// The number of pseudo-hits, and of pseudo-misses, in a plug-in estimate of a share. 0.18 loses least in the worst
/// case (Turner, Ly and Grünwald 2024).
pub const PSEUDO: f64 = 0.18;

/// The weight that the counts before a change of the stable's share keep, as a part of the weight of the block of the change.
const LEFT: f64 = 0.25;

/// The null hypothesis: the canary's allowed share `θ_c`, given the stable's share `θ_b`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Null {
    /// `θ_c <= r θ_b`, with a ratio `r` above 0; 1 means not above the stable's share.
    Ratio(f64),
    /// `θ_c <= θ_b + d`, with a difference `d` from 0 to below 1.
    Difference(f64),
}

/// A pair of shares of hits. A test uses a pair only if both are above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// The canary's share.
    pub canary: f64,
    /// The stable's share.
    pub stable: f64,
}

impl Shares {
    /// Returns whether both shares are above 0 and below 1.
    fn are_inner(self) -> bool {
        let is_inner = |share: f64| share > 0.0 && share < 1.0;
        is_inner(self.canary) && is_inner(self.stable)
    }
}

impl Null {
    /// Returns the null hypothesis itself if its margin is valid.
    ///
    /// # Errors
    /// [`BadTest::Margin`] unless the ratio is finite and above 0, or the difference at least 0 and below 1.
    pub fn check(self) -> Result<Null, BadTest> {
        match self {
            Null::Ratio(r) if r.is_finite() && r > 0.0 => Ok(self),
            Null::Difference(d) if (0.0..1.0).contains(&d) => Ok(self),
            Null::Ratio(margin) | Null::Difference(margin) => Err(BadTest::Margin(margin)),
        }
    }

    /// Returns the largest share that the null allows the canary.
    fn most(self, stable: f64) -> f64 {
        match self {
            Null::Ratio(r) => r * stable,
            Null::Difference(d) => stable + d,
        }
    }

    /// Returns the pair of shares in the null that is nearest to the alternative `alt` in Kullback-Leibler distance,
    /// for arms of `canary` and `stable` requests (Grünwald, de Heide and Koolen 2024).
    ///
    /// Returns `None` if the null allows `alt`, if a share of `alt` is not above 0 and below 1, or without requests.
    pub fn nearest(self, alt: Shares, canary: f64, stable: f64) -> Option<Shares> {
        if !alt.are_inner() || alt.canary <= self.most(alt.stable) || canary + stable <= 0.0 {
            return None;
        }
        let nearest = match self {
            Null::Ratio(r) => nearest_ratio(r, alt, canary, stable),
            Null::Difference(d) => nearest_difference(d, alt, canary, stable),
        };
        nearest.are_inner().then_some(nearest)
    }

    /// Returns the evidence `ln S` of one block for the alternative `alt`, in nats; 0 for an alternative that the null
    /// allows.
    pub fn ln_e(self, alt: Shares, pair: Pair) -> f64 {
        self.nearest(alt, pair.canary.n(), pair.stable.n()).map_or(0.0, |null| ln_ratios(pair, alt, null))
    }
}

/// Returns the log likelihood ratio of `alt` to `null` for the tallies of both arms.
fn ln_ratios(pair: Pair, alt: Shares, null: Shares) -> f64 {
    ln_ratio(pair.canary, alt.canary, null.canary) + ln_ratio(pair.stable, alt.stable, null.stable)
}

/// Returns the log likelihood ratio of `share` to `null` for the tally.
fn ln_ratio(tally: Tally, share: f64, null: f64) -> f64 {
    let change = share - null;
    tally.hits() * libm::log1p(change / null) + tally.misses() * libm::log1p(-change / (1.0 - null))
}

/// Returns the nearest null on the line `A = r B`: the smaller root of a quadratic.
fn nearest_ratio(r: f64, alt: Shares, canary: f64, stable: f64) -> Shares {
    let square = r * (canary + stable);
    let linear = canary * (r + alt.canary) + stable * (1.0 + r * alt.stable);
    let constant = canary * alt.canary + stable * alt.stable;
    let root = (linear * linear - 4.0 * square * constant).max(0.0).sqrt();
    let share = 2.0 * constant / (linear + root);
    Shares { canary: r * share, stable: share }
}

/// Returns the nearest null on the line `A = B + d`: the only root of a cubic between the alternative's `b` and
/// `a - d` (or 0), by Halley's method (Scavo and Thoo 1995), with bisection if a step would leave the bracket.
fn nearest_difference(d: f64, alt: Shares, canary: f64, stable: f64) -> Shares {
    let ends = (alt.stable, (alt.canary - d).max(0.0));
    let (mut low, mut high) = (ends.0.min(ends.1), ends.0.max(ends.1));
    let mut t = (canary * ends.1 + stable * ends.0) / (canary + stable);
    for _ in 0..80 {
        let (of_canary, of_stable) = (canary * (t + d - alt.canary), stable * (t - alt.stable));
        let (spread_b, spread_c) = (t * (1.0 - t), (t + d) * (1.0 - t - d));
        let (tilt_b, tilt_c) = (1.0 - 2.0 * t, 1.0 - 2.0 * (t + d));
        let value = of_canary * spread_b + of_stable * spread_c;
        if value < 0.0 {
            low = t
        } else {
            high = t
        }
        let slope = canary * spread_b + of_canary * tilt_b + stable * spread_c + of_stable * tilt_c;
        let half_curve = canary * tilt_b + stable * tilt_c - of_canary - of_stable;
        let step = value * slope / (slope * slope - value * half_curve);
        // Halley's method cubes the error, so this step is the last. (It may ignore the bracket, whose ends are as
        // inexact as floats by now.)
        if step.abs() <= NEAR * t {
            t -= step;
            break;
        }
        t = if t - step > low && t - step < high { t - step } else { 0.5 * (low + high) };
    }
    Shares { canary: t + d, stable: t }
}

/// The relative size of a step from which the result is as exact as a float.
const NEAR: f64 = 1e-6;

/// A test whose alternative is estimated from the previous blocks of both arms.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PlugIn {
    canary: Worth,
    stable: Worth,
    ln_e: f64,
}

impl PlugIn {
    /// Adds a block. Its evidence uses the estimate from the previous blocks and is divided by `phi`; afterwards the
    /// block is added to the estimate.
    pub fn absorb(&mut self, null: Null, pair: Pair, phi: Phi) {
        let alt = Shares { canary: smoothed(self.canary), stable: smoothed(self.stable) };
        self.ln_e += null.ln_e(alt, pair) / phi.value();
        self.canary.absorb(pair.canary, Phi::ONE);
        self.stable.absorb(pair.stable, Phi::ONE);
    }

    /// Returns the evidence over all blocks so far, as `ln E` in nats.
    pub fn ln_e(&self) -> f64 {
        self.ln_e
    }
}

pub(super) fn smoothed(counts: Worth) -> f64 {
    (counts.hits() + PSEUDO) / (counts.n() + 2.0 * PSEUDO)
}

/// Adds a block to a mixture with one component per alternative. The alternatives must be fixed before the block is
/// known; their evidence is divided by `phi`.
///
/// # Errors
/// [`Unusable::OtherShape`] if the state has another number of components; it is then unchanged.
pub fn absorb_alternatives(
    null: Null,
    alternatives: impl Iterator<Item = Shares>,
    onset: Onset,
    state: &mut Mixture,
    pair: Pair,
    phi: Phi,
) -> Result<(), Unusable> {
    let factors: Vec<f64> = alternatives.map(|alt| null.ln_e(alt, pair) / phi.value()).collect();
    state.absorb(onset, &factors)
}

/// The test that the judges use: the stable's share is estimated from the previous blocks, and the alternatives for the
/// canary are a grid of multiples of the odds that the null allows. So the rate need not be known in advance, and the
/// canary's own past does not weaken the evidence for a fault that begins late.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects {
    null: Null,
    onset: Onset,
    grid: Grid,
}

/// The state of an [`Effects`] test.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EffectsState {
    stable: Worth,
    mixture: Mixture,
}

impl EffectsState {
    /// Makes a state with the stable's counts from before the rollout. Without them the first block of the rollout
    /// carries no evidence.
    pub fn seeded(stable: Tally) -> EffectsState {
        EffectsState { stable: Worth::from(stable), mixture: Mixture::default() }
    }

    /// Returns the stable's counts from which its share is estimated.
    pub fn stable(&self) -> Worth {
        self.stable
    }

    /// Begins the estimate of the stable's share anew with a block in which it has changed, as by an incident of both arms. The
    /// counts before are left a quarter of the block's weight, because a block of few hits may have changed by chance. As the
    /// estimate for a block depends on the blocks before alone, the error rate stays.
    pub fn estimate_anew(&mut self, stable: Tally) {
        let before = self.stable.n();
        if before > 0.0 {
            self.stable.fade((LEFT * stable.n() / before).min(1.0));
        }
        self.stable.absorb(stable, Phi::ONE);
    }
}

impl Effects {
    /// Makes a test for evidence that the canary's share is above the share that `null` allows. `onset` spreads the
    /// stake over the blocks at which the fault may begin.
    ///
    /// # Errors
    /// [`BadTest::Margin`] if the margin is not valid.
    pub fn worse(null: Null, onset: Onset) -> Result<Effects, BadTest> {
        Ok(Effects { null: null.check()?, onset, grid: Grid::WORSE })
    }

    /// Makes a test as [`Effects::worse`] does, with equal stakes on the given multiples of the odds that `null`
    /// allows: all above 1, or all between 0 and 1.
    ///
    /// # Errors
    /// [`BadTest::Margin`] if the margin is not valid; [`BadTest::Grid`] for other multipliers.
    pub fn among(null: Null, onset: Onset, multipliers: &[f64]) -> Result<Effects, BadTest> {
        Ok(Effects { null: null.check()?, onset, grid: Grid::new(multipliers)? })
    }

    /// Adds a block, whose evidence is divided by `phi`.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state belongs to a test with another number of alternatives; it is then
    /// unchanged.
    pub fn absorb(&self, state: &mut EffectsState, pair: Pair, phi: Phi) -> Result<(), Unusable> {
        state.mixture.absorb(self.onset, &self.factors(state, pair, phi))?;
        state.stable.absorb(pair.stable, Phi::ONE);
        Ok(())
    }

    /// Returns the `ln` of each component's factor for a block that is not in `state` yet.
    pub(crate) fn factors(&self, state: &EffectsState, pair: Pair, phi: Phi) -> Vec<f64> {
        self.alternatives(state.stable).map(|alt| self.null.ln_e(alt, pair) / phi.value()).collect()
    }

    /// Returns the alternatives for the next block. Odds are multiplied instead of shares, so that every alternative
    /// stays between 0 and 1.
    fn alternatives(&self, stable: Worth) -> impl Iterator<Item = Shares> {
        // Before the first counts of the stable, a share of 0 gives no evidence under any null.
        let share = if stable.n() == 0.0 { 0.0 } else { smoothed(stable) };
        let most = self.null.most(share);
        self.grid.multipliers().map(move |m| Shares { canary: m * most / (1.0 + (m - 1.0) * most), stable: share })
    }

    /// Returns the evidence over all blocks so far, as `ln E` in nats.
    pub fn ln_e(&self, state: &EffectsState) -> f64 {
        self.grid.ln_e(&state.mixture, self.onset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULLS: [Null; 5] =
        [Null::Ratio(1.0), Null::Ratio(1.5), Null::Ratio(0.5), Null::Difference(0.0), Null::Difference(0.05)];

    #[test]
    fn margins_out_of_range_are_refused() {
        for null in [Null::Ratio(0.0), Null::Ratio(f64::NAN), Null::Difference(-0.1), Null::Difference(1.0)] {
            assert!(null.check().is_err(), "{null:?}");
        }
    }

    #[test]
    fn no_other_null_is_nearer_than_the_computed_one() {
        let distance = |alt: Shares, null: Shares, canary: f64, stable: f64| {
            let kl = |p: f64, q: f64| p * libm::log(p / q) + (1.0 - p) * libm::log((1.0 - p) / (1.0 - q));
            canary * kl(alt.canary, null.canary) + stable * kl(alt.stable, null.stable)
        };
        for null in NULLS {
            for (canary, stable) in [(50.0, 70.0), (5.0, 900.0), (800.0, 20.0)] {
                let alt = Shares { canary: 0.3, stable: 0.1 };
                let nearest = null.nearest(alt, canary, stable).unwrap();
                let least = distance(alt, nearest, canary, stable);
                for step in 1..1000 {
                    let share = f64::from(step) / 1000.0;
                    let other = Shares { canary: null.most(share), stable: share };
                    if other.are_inner() {
                        assert!(distance(alt, other, canary, stable) >= least - 1e-12, "{null:?} {share}");
                    }
                }
            }
        }
    }

    /// The few steps of Halley's method must not cost digits.
    #[test]
    fn halleys_method_finds_the_same_root_as_bisection() {
        for d in [0.0, 1e-4, 0.001, 0.05, 0.3] {
            for (a, b) in [(0.0013, 0.0001), (0.02, 0.005), (0.3, 0.1), (0.7, 0.05), (0.999, 1e-6)] {
                for (canary, stable) in [(1.0, 1.0), (5.0, 95.0), (14_250.0, 3.0), (1e6, 1e9), (1e9, 1e3)] {
                    let alt = Shares { canary: a, stable: b };
                    let Some(nearest) = Null::Difference(d).nearest(alt, canary, stable) else { continue };
                    let (mut low, mut high) = (b, a - d);
                    for _ in 0..200 {
                        let t = 0.5 * (low + high);
                        let of_canary = canary * (t + d - a) * t * (1.0 - t);
                        let of_stable = stable * (t - b) * (t + d) * (1.0 - t - d);
                        if of_canary + of_stable < 0.0 { low = t } else { high = t }
                    }
                    assert!(
                        (nearest.stable / low - 1.0).abs() < 1e-12,
                        "{d} {alt:?} {canary} {stable}: {nearest:?} {low}"
                    );
                }
            }
        }
    }

    /// Otherwise a block could choose its own alternative, and every block could give evidence.
    #[test]
    fn the_alternative_for_a_block_does_not_depend_on_that_block() {
        let pair = Pair { canary: Tally::of(9, 50).unwrap(), stable: Tally::of(20, 400).unwrap() };
        let effects = Effects::worse(Null::Ratio(1.0), Onset::First).unwrap();
        let mut state = EffectsState::default();
        effects.absorb(&mut state, pair, Phi::ONE).unwrap();
        assert!(effects.ln_e(&state).abs() < 1e-12, "the first block has no estimate");
        effects.absorb(&mut state, pair, Phi::ONE).unwrap();
        let alternatives: Vec<Shares> = effects.alternatives(Worth::from(pair.stable)).collect();
        let mut fixed = Mixture::default();
        absorb_alternatives(Null::Ratio(1.0), alternatives.into_iter(), Onset::First, &mut fixed, pair, Phi::ONE)
            .unwrap();
        assert!((effects.ln_e(&state) - Grid::WORSE.ln_e(&fixed, Onset::First)).abs() < 1e-12);
        let mut plug_in = PlugIn::default();
        plug_in.absorb(Null::Ratio(1.0), pair, Phi::ONE);
        assert_eq!(plug_in.ln_e(), 0.0);
    }

    #[test]
    fn an_alternative_that_the_null_allows_gives_no_evidence() {
        let pair = Pair { canary: Tally::of(9, 10).unwrap(), stable: Tally::of(1, 10).unwrap() };
        for alt in [(0.1, 0.3), (0.2, 0.2), (0.0, 0.0), (1.0, 0.5), (f64::NAN, 0.5)] {
            assert_eq!(Null::Ratio(1.0).ln_e(Shares { canary: alt.0, stable: alt.1 }, pair), 0.0);
        }
    }
}
