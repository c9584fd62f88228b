//! Two shares and a margin between them, exact for Bernoulli trials of any size: ratios, differences, equality.
//!
//! [`super::odds_grid`] treats errors as rare. Where the share is large (5 % slower than an edge is the rule, not the
//! accident), or where the margin is a difference in points, the block is held against its *nearest* null instead:
//!
//! ```text
//! S = p(block; a, b) / p(block; A, B)
//! ```
//!
//! `(a, b)` is an alternative for canary and stable that is chosen before the block is seen, and `(A, B)` the null with the
//! least Kullback-Leibler distance `n_c KL(a|A) + n_b KL(b|B)` to it (the reverse information projection of Grünwald, de
//! Heide and Koolen 2024, "Safe Testing"; Turner, Ly and Grünwald 2024, "Generic E-variables"). `E[S] <= 1` on the whole
//! of any convex null: `ln E_θ[S]` is concave in `θ`, zero at `(A, B)`, and its gradient there is minus that of the
//! distance, so the optimality of the projection is the statement that nothing in the null lies uphill.

use serde::{Deserialize, Serialize};

use super::BadTest;
use super::mixture::{Mixture, Onset};
use super::odds_grid::Grid;
use super::tally::{Pair, Phi, Tally, Unusable, Worth};

/// What a new arm is believed to have seen already: so many hits and as many misses, in plug-in estimates. 0.18 loses
/// least in the worst case (Turner, Ly and Grünwald 2024).
pub const PSEUDO: f64 = 0.18;

/// What the canary's share `θ_c` may be, given the stable's `θ_b`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Null {
    /// `θ_c <= r θ_b`. With 1: not above the stable's.
    Ratio(f64),
    /// `θ_c <= θ_b + d`.
    Difference(f64),
}

/// A pair of shares, both above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// The canary's.
    pub canary: f64,
    /// The stable's.
    pub stable: f64,
}

impl Shares {
    fn are_inner(self) -> bool {
        let inner = |share: f64| share > 0.0 && share < 1.0;
        inner(self.canary) && inner(self.stable)
    }
}

impl Null {
    /// # Errors
    /// [`BadTest::Margin`] if the ratio is not finite and above 0, or the difference not within 0 and 1.
    pub fn check(self) -> Result<Null, BadTest> {
        match self {
            Null::Ratio(r) if r.is_finite() && r > 0.0 => Ok(self),
            Null::Difference(d) if (0.0..1.0).contains(&d) => Ok(self),
            Null::Ratio(margin) | Null::Difference(margin) => Err(BadTest::Margin(margin)),
        }
    }

    /// The largest share that the canary may have.
    fn most(self, stable: f64) -> f64 {
        match self {
            Null::Ratio(r) => r * stable,
            Null::Difference(d) => stable + d,
        }
    }

    /// The null that is nearest to `alt` for arms of `canary` and `stable` requests; `None`: `alt` is itself no worse
    /// than the null allows, or no pair of shares.
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

    /// `ln S` of a block for one alternative. An alternative that the null allows says nothing: 0.
    pub fn ln_e(self, alt: Shares, pair: Pair) -> f64 {
        let (canary, stable) = (pair.canary, pair.stable);
        let Some(null) = self.nearest(alt, canary.n(), stable.n()) else { return 0.0 };
        ln_ratio(canary, alt.canary, null.canary) + ln_ratio(stable, alt.stable, null.stable)
    }
}

/// `ln` of how much likelier `share` makes the tally than `null` does.
fn ln_ratio(tally: Tally, share: f64, null: f64) -> f64 {
    let change = share - null;
    tally.hits() * libm::log1p(change / null) + tally.misses() * libm::log1p(-change / (1.0 - null))
}

/// On the line `A = r B` the distance is least at the smaller root of a quadratic.
fn nearest_ratio(r: f64, alt: Shares, canary: f64, stable: f64) -> Shares {
    let square = r * (canary + stable);
    let linear = canary * (r + alt.canary) + stable * (1.0 + r * alt.stable);
    let constant = canary * alt.canary + stable * alt.stable;
    let root = (linear * linear - 4.0 * square * constant).max(0.0).sqrt();
    let share = 2.0 * constant / (linear + root);
    Shares { canary: r * share, stable: share }
}

/// On the line `A = B + d` it is least at the one root of a cubic between the alternative's `b` and `a - d`: Halley's steps
/// (Scavo and Thoo 1995), and halves where one would leave the bracket.
fn nearest_difference(d: f64, alt: Shares, canary: f64, stable: f64) -> Shares {
    let (mut low, mut high) = (alt.stable, alt.canary - d);
    let mut t = (canary * high + stable * low) / (canary + stable);
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
        // Halley's steps cube the error: after this one nothing is left of it. (Nor need it heed the bracket, whose ends
        // are by now as inexact as floats.)
        if step.abs() <= NEAR * t {
            t -= step;
            break;
        }
        t = if t - step > low && t - step < high { t - step } else { 0.5 * (low + high) };
    }
    Shares { canary: t + d, stable: t }
}

/// A step that is this small a part of its root makes the root as exact as a float.
const NEAR: f64 = 1e-6;

/// The alternative is what both arms have shown so far: it needs no guess, and learns.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PlugIn {
    canary: Worth,
    stable: Worth,
    ln_e: f64,
}

impl PlugIn {
    /// Takes a block in: first it is judged by what was believed before it, then it is believed.
    pub fn absorb(&mut self, null: Null, pair: Pair, phi: Phi) {
        let alt = Shares { canary: smoothed(self.canary), stable: smoothed(self.stable) };
        self.ln_e += null.ln_e(alt, pair) / phi.value();
        self.canary.absorb(pair.canary, Phi::ONE);
        self.stable.absorb(pair.stable, Phi::ONE);
    }

    /// The evidence so far: `ln E`.
    pub fn ln_e(&self) -> f64 {
        self.ln_e
    }
}

fn smoothed(counts: Worth) -> f64 {
    (counts.hits() + PSEUDO) / (counts.n() + 2.0 * PSEUDO)
}

/// A fixed set of alternatives, all of which are bet on.
///
/// # Errors
/// [`Unusable::OtherShape`] if the state is another test's.
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

/// What the product runs: the stable's share is learnt, and the canary is bet to have a grid of multiples of what the
/// null would allow it. So neither the rate must be guessed, nor does the canary's own past blunt the bet on a fault
/// that begins late.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects {
    null: Null,
    onset: Onset,
    grid: Grid,
}

/// The state of [`Effects`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EffectsState {
    stable: Worth,
    mixture: Mixture,
}

impl EffectsState {
    /// Begins with what the stable pods have shown before the rollout. Without it the first block of the rollout is
    /// spent on learning.
    pub fn seeded(stable: Tally) -> EffectsState {
        EffectsState { stable: Worth::from(stable), mixture: Mixture::default() }
    }
}

impl Effects {
    /// Evidence that the canary's share is above what `null` allows.
    ///
    /// # Errors
    /// [`BadTest::Margin`] if the margin is none.
    pub fn worse(null: Null, onset: Onset) -> Result<Effects, BadTest> {
        Ok(Effects { null: null.check()?, onset, grid: Grid::WORSE })
    }

    /// The same, betting as much on each of these multiples of the odds that `null` allows.
    ///
    /// # Errors
    /// [`BadTest`], if the margin or the grid is none.
    pub fn among(null: Null, onset: Onset, multipliers: &[f64]) -> Result<Effects, BadTest> {
        Ok(Effects { null: null.check()?, onset, grid: Grid::new(multipliers)? })
    }

    /// Takes a block in.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state is another test's.
    pub fn absorb(&self, state: &mut EffectsState, pair: Pair, phi: Phi) -> Result<(), Unusable> {
        let alternatives = self.alternatives(state.stable);
        absorb_alternatives(self.null, alternatives, self.onset, &mut state.mixture, pair, phi)?;
        state.stable.absorb(pair.stable, Phi::ONE);
        Ok(())
    }

    /// Odds, not shares, are multiplied, so that no alternative leaves the unit interval.
    fn alternatives(&self, stable: Worth) -> impl Iterator<Item = Shares> {
        // Nothing is known yet: a share that every null allows says nothing.
        let share = if stable.n() == 0.0 { 0.0 } else { smoothed(stable) };
        let most = self.null.most(share);
        self.grid.multipliers().map(move |m| Shares { canary: m * most / (1.0 + (m - 1.0) * most), stable: share })
    }

    /// The evidence so far: `ln E`.
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
    fn a_margin_has_its_bounds() {
        for null in [Null::Ratio(0.0), Null::Ratio(f64::NAN), Null::Difference(-0.1), Null::Difference(1.0)] {
            assert!(null.check().is_err(), "{null:?}");
        }
    }

    #[test]
    fn no_null_is_nearer_than_the_nearest() {
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

    /// Few steps must not mean few digits.
    #[test]
    fn halleys_steps_find_what_halving_finds() {
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

    /// Else the block would choose what it is held against, and every block could win.
    #[test]
    fn a_block_is_bet_on_before_it_is_learnt_from() {
        let pair = Pair { canary: Tally::of(9, 50).unwrap(), stable: Tally::of(20, 400).unwrap() };
        let effects = Effects::worse(Null::Ratio(1.0), Onset::First).unwrap();
        let mut state = EffectsState::default();
        effects.absorb(&mut state, pair, Phi::ONE).unwrap();
        assert!(effects.ln_e(&state).abs() < 1e-12, "nothing was known yet");
        effects.absorb(&mut state, pair, Phi::ONE).unwrap();
        let calibrations: Vec<Shares> = effects.alternatives(Worth::from(pair.stable)).collect();
        let mut fixed = Mixture::default();
        absorb_alternatives(Null::Ratio(1.0), calibrations.into_iter(), Onset::First, &mut fixed, pair, Phi::ONE)
            .unwrap();
        assert!((effects.ln_e(&state) - Grid::WORSE.ln_e(&fixed, Onset::First)).abs() < 1e-12);
        let mut plug_in = PlugIn::default();
        plug_in.absorb(Null::Ratio(1.0), pair, Phi::ONE);
        assert_eq!(plug_in.ln_e(), 0.0);
    }

    #[test]
    fn an_alternative_that_the_null_allows_says_nothing() {
        let pair = Pair { canary: Tally::of(9, 10).unwrap(), stable: Tally::of(1, 10).unwrap() };
        for alt in [(0.1, 0.3), (0.2, 0.2), (0.0, 0.0), (1.0, 0.5), (f64::NAN, 0.5)] {
            assert_eq!(Null::Ratio(1.0).ln_e(Shares { canary: alt.0, stable: alt.1 }, pair), 0.0);
        }
    }
}
