//! Counts that can be calculated with: what one arm counted, and how much a count is worth.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest whole number below which a float can count by one: 2⁵³.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// Why a count can't be used. Nothing is changed by a block that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unusable {
    /// NaN or infinite.
    #[error("a count is not a finite number")]
    NotFinite,
    /// Below zero.
    #[error("a count is below zero")]
    Negative,
    /// Above 2⁵³, where a float no longer counts by one.
    #[error("a count is above 2^53")]
    TooLarge,
    /// More of a kind than there are of all kinds.
    #[error("more events are of the kind looked for than there are events")]
    MoreHitsThanEvents,
    /// The state was made by a test with another number of components, or the arms have different buckets.
    #[error("the state is of another test, or the arms are counted in different buckets")]
    OtherShape,
}

/// Events that one arm counted in one block, and how many of them were of the kind that is looked for: errors, or
/// requests slower than an edge. Both are finite, `0 <= hits <= n <= 2⁵³`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally {
    hits: f64,
    n: f64,
}

impl Tally {
    /// From counts that need not be whole.
    ///
    /// # Errors
    /// If either is not finite, negative or above 2⁵³, or if there are more hits than events.
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

    /// From whole counts.
    ///
    /// # Errors
    /// As [`Tally::new`].
    pub fn of(hits: u64, n: u64) -> Result<Tally, Unusable> {
        Tally::new(hits as f64, n as f64)
    }

    /// The events of the kind that is looked for.
    pub fn hits(self) -> f64 {
        self.hits
    }

    /// All events.
    pub fn n(self) -> f64 {
        self.n
    }

    /// The events of no interest.
    pub fn misses(self) -> f64 {
        self.n - self.hits
    }
}

/// Both arms' tallies of the same block. The block's own split of the traffic is in the two `n`, so the weights may
/// change from block to block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The canary's.
    pub canary: Tally,
    /// The stable's.
    pub stable: Tally,
}

/// How many events of a cluster count as one: the overdispersion φ, at least 1. Evidence is divided by it.
///
/// By Jensen's inequality `E[L^(1/φ)] <= E[L]^(1/φ) <= 1`, so a test that is exact for independent events stays valid
/// under any φ; for clustered ones it is calibrated (McCullagh and Nelder 1989, §4.5 and §9: quasi-likelihood).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Phi {
    value: f64,
    /// Whether it was learnt from the service's own pods. If not, the claim that goes with a decision says so.
    pub calibrated: bool,
}

impl Phi {
    /// Events are independent: for counts that are known to be, and for tests of the tests.
    pub const ONE: Phi = Phi { value: 1.0, calibrated: true };
    /// What is assumed where nothing can be learnt.
    pub const ASSUMED: Phi = Phi { value: 2.0, calibrated: false };

    /// Learnt. What is below 1 (or no number) is 1: events that are more even than chance are no licence to count them
    /// more than once.
    pub fn learned(value: f64) -> Phi {
        Phi { value: value.clamp(1.0, LARGEST).max(1.0), calibrated: true }
    }

    /// From too little to be called calibrated.
    pub fn guessed(value: f64) -> Phi {
        Phi { calibrated: false, ..Phi::learned(value) }
    }

    /// At least 1.
    pub fn value(self) -> f64 {
        // A state read back from a journal has been through no constructor.
        if self.value >= 1.0 { self.value.min(LARGEST) } else { 1.0 }
    }
}

/// Sums of counts, each divided by its block's φ: what a likelihood that is raised to `1/φ` rests on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Worth {
    pub(super) hits: f64,
    pub(super) misses: f64,
}

impl Worth {
    /// Adds a block.
    pub fn absorb(&mut self, tally: Tally, phi: Phi) {
        self.hits += tally.hits() / phi.value();
        self.misses += tally.misses() / phi.value();
    }

    /// The weighed hits.
    pub fn hits(self) -> f64 {
        self.hits.max(0.0)
    }

    /// The weighed events of no interest.
    pub fn misses(self) -> f64 {
        self.misses.max(0.0)
    }

    /// All weighed events.
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
    fn what_is_no_count_is_refused_by_name() {
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
    fn phi_is_at_least_one_whatever_it_is_made_from() {
        for value in [f64::NAN, f64::NEG_INFINITY, -3.0, 0.0, 0.99] {
            assert_eq!(Phi::learned(value).value(), 1.0, "{value}");
        }
        assert_eq!(Phi::learned(f64::INFINITY).value(), LARGEST);
        assert_eq!(Phi::learned(2.5).value(), 2.5);
    }
}
