//! Validated counts of one block, and the dispersion φ by which their evidence is divided.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest float up to which all whole numbers are exact: 2⁵³.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// The reasons for which counts or states are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unusable {
    /// A count or a factor is NaN or infinite.
    #[error("a count is not a finite number")]
    NotFinite,
    /// A count is below zero.
    #[error("a count is below zero")]
    Negative,
    /// A count is above 2⁵³, where floats no longer have all whole numbers.
    #[error("a count is above 2^53")]
    TooLarge,
    /// There are more hits than events.
    #[error("there are more hits than events")]
    MoreHitsThanEvents,
    /// The state was made by a test with another number of components, or the arms have different buckets.
    #[error("the state belongs to another test, or the arms are counted in different buckets")]
    OtherShape,
}

/// The events of one arm in one block, and the hits among them: errors, or requests slower than an edge. Both are
/// finite, and `0 <= hits <= n <= 2⁵³`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    hits: f64,
    n: f64,
}

impl Tally {
    /// Makes a tally of `hits` among `n` events; the counts need not be whole.
    ///
    /// # Errors
    /// [`Unusable::NotFinite`], [`Unusable::Negative`], [`Unusable::TooLarge`] above 2⁵³ or
    /// [`Unusable::MoreHitsThanEvents`].
    pub fn new(hits: f64, n: f64) -> Result<Tally, Unusable> {
        if !hits.is_finite() || !n.is_finite() {
            return Err(Unusable::NotFinite);
        }
        if hits < 0.0 || n < 0.0 {
            return Err(Unusable::Negative);
        }
        if n > LARGEST {
            return Err(Unusable::TooLarge);
        }
        if hits > n {
            return Err(Unusable::MoreHitsThanEvents);
        }
        Ok(Tally { hits, n })
    }

    /// Makes a tally of `hits` among `n` events.
    ///
    /// # Errors
    /// [`Unusable::TooLarge`] above 2⁵³ or [`Unusable::MoreHitsThanEvents`].
    pub fn of(hits: u64, n: u64) -> Result<Tally, Unusable> {
        Tally::new(hits as f64, n as f64)
    }

    /// Returns the sum of two tallies.
    pub fn plus(self, other: Tally) -> Tally {
        Tally { hits: self.hits + other.hits, n: self.n + other.n }
    }

    /// Returns the number of hits, from 0 to `n`.
    pub fn hits(self) -> f64 {
        self.hits
    }

    /// Returns the number of all events, from 0 to 2⁵³.
    pub fn n(self) -> f64 {
        self.n
    }

    /// Returns the number of events that are not hits, from 0 to `n`.
    pub fn misses(self) -> f64 {
        self.n - self.hits
    }
}

/// The tallies of both arms in the same block. The block's split of the traffic is given by the two `n`, so the weights
/// may change from block to block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The canary's counts.
    pub canary: Tally,
    /// The stable's counts.
    pub stable: Tally,
}

/// The dispersion φ, at least 1: the mean number of clustered events that carry the evidence of one independent event.
/// Evidence is divided by it.
///
/// By Jensen's inequality `E[L^(1/φ)] <= E[L]^(1/φ) <= 1`, so a test that is exact for independent events stays valid
/// under any φ; for clustered ones it is calibrated (McCullagh and Nelder 1989, §4.5 and §9: quasi-likelihood).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Phi {
    value: f64,
    /// Whether φ was learnt from enough counts of the service's own pods. If not, decisions say "not calibrated".
    pub calibrated: bool,
}

impl Phi {
    /// The φ of independent events, for counts that are known to be independent and for tests.
    pub const ONE: Phi = Phi { value: 1.0, calibrated: true };
    /// The φ that is assumed if it can't be learnt.
    pub const ASSUMED: Phi = Phi { value: 2.0, calibrated: false };

    /// Makes a calibrated φ. A value below 1 or NaN becomes 1, because events that are more even than chance must not
    /// count more than once; a value above 2⁵³ becomes 2⁵³.
    pub fn learned(value: f64) -> Phi {
        Phi { value: value.clamp(1.0, LARGEST).max(1.0), calibrated: true }
    }

    /// Makes a φ that is estimated from too few counts to be called calibrated, with the bounds of [`Phi::learned`].
    pub fn guessed(value: f64) -> Phi {
        Phi { calibrated: false, ..Phi::learned(value) }
    }

    /// Returns the φ of events that are clustered by a second cause too, of which the variance is `effect` times that of
    /// independent events; below 1 it counts as 1. The excesses of both causes are added, because they are independent.
    pub fn with_design_effect(self, effect: f64) -> Phi {
        Phi { calibrated: self.calibrated, ..Phi::learned(self.value() + effect.max(1.0) - 1.0) }
    }

    /// Returns the factor, from 1 to 2⁵³.
    pub fn value(self) -> f64 {
        // A deserialised value has not passed a constructor, so the bounds are enforced here too.
        if self.value >= 1.0 { self.value.min(LARGEST) } else { 1.0 }
    }
}

/// Sums of counts, each divided by its block's φ: the sufficient statistic of a likelihood that is raised to `1/φ`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Worth {
    pub(super) hits: f64,
    pub(super) misses: f64,
}

impl Worth {
    /// Adds a block's counts, divided by `phi`.
    pub fn absorb(&mut self, tally: Tally, phi: Phi) {
        self.hits += tally.hits() / phi.value();
        self.misses += tally.misses() / phi.value();
    }

    /// Gives all counts so far only this part of their weight, from 0 to 1.
    pub fn fade(&mut self, part: f64) {
        self.hits *= part;
        self.misses *= part;
    }

    /// Returns the weighted number of hits, at least 0.
    pub fn hits(self) -> f64 {
        self.hits.max(0.0)
    }

    /// Returns the weighted number of events that are not hits, at least 0.
    pub fn misses(self) -> f64 {
        self.misses.max(0.0)
    }

    /// Returns the weighted number of all events, at least 0.
    pub fn n(self) -> f64 {
        self.hits() + self.misses()
    }
}

impl From<Tally> for Worth {
    fn from(tally: Tally) -> Worth {
        Worth { hits: tally.hits(), misses: tally.misses() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_counts_are_refused_with_the_reason() {
        for (hits, n, why) in [
            (f64::NAN, 1.0, Unusable::NotFinite),
            (1.0, f64::INFINITY, Unusable::NotFinite),
            (-1.0, 1.0, Unusable::Negative),
            (0.0, -1.0, Unusable::Negative),
            (2.0, 1.0, Unusable::MoreHitsThanEvents),
            (0.0, 1e16, Unusable::TooLarge),
        ] {
            assert_eq!(Tally::new(hits, n), Err(why), "{hits} of {n}");
        }
        assert!(Tally::of(0, 0).is_ok());
        assert!(Tally::of(1 << 53, 1 << 53).is_ok());
    }

    #[test]
    fn phi_is_clamped_to_1_and_2_to_the_53() {
        for value in [f64::NAN, f64::NEG_INFINITY, -3.0, 0.0, 0.99] {
            assert_eq!(Phi::learned(value).value(), 1.0, "{value}");
        }
        assert_eq!(Phi::learned(f64::INFINITY).value(), LARGEST);
        assert_eq!(Phi::learned(2.5).value(), 2.5);
    }

    #[test]
    fn the_excesses_of_two_causes_of_clusters_are_added() {
        for (phi, effect, both) in [(Phi::ONE, 3.5, 3.5), (Phi::ASSUMED, 3.5, 4.5), (Phi::ONE, f64::NAN, 1.0)] {
            let sum = phi.with_design_effect(effect);
            assert_eq!((sum.value(), sum.calibrated), (both, phi.calibrated));
        }
    }
}
