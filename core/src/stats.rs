//! Statistical tests and bounds with a stated error rate.
//!
//! A rollout is judged every few seconds and ends as soon as the evidence suffices. An ordinary test guarantees its
//! error rate for a single look that is fixed in advance; if it is repeated at every look, a test at 1 % rolls back one
//! good version in ten (Armitage, McPherson and Rowe 1969). The sequential tests here are therefore *e-processes*:
//! numbers `E` that start at 1, are never negative, and whose expectation never rises while the null hypothesis holds.
//! Ville's inequality (1939) then bounds the error rate over all looks together:
//!
//! ```text
//! P(E_t >= 1/α at any t) <= α
//! ```
//!
//! So a judge may look at every scrape, stop at any time, and continue after a stop. A check has two such tests:
//! evidence that the canary is *worse* than its margin, which causes a rollback at `1/α`, and evidence that it is *not
//! much worse*, which is a proof at `1/β`. Between the two the check's verdict is `insufficient`. The absence of one
//! kind of evidence never counts as the other.
//!
//! | question | module | exact for |
//! | --- | --- | --- |
//! | is the canary's error rate above `r` times the stable's? | [`odds_grid`] | independent requests, any common rate |
//! | is a share above its limit, or shown to be below? | [`slo`] | independent requests |
//! | does the canary get the share of the requests that was asked for? | [`share`] | sessions, by their design effect |
//! | the same for large shares, or by a difference | [`two_sample`] | independent requests |
//! | is the canary not worse at its own mix of routes? | [`standardized`] | independent requests |
//! | did the whole shape of a distribution change? | [`shape`] | independent observations |
//! | how many failed requests has the canary cost? | [`harm`] | independent requests, any rates |
//! | within which interval does a share lie? (for display) | [`confidence`] | independent requests |
//!
//! A gate runs a fixed number of cases and is judged once, so it uses bounds for one look: Clopper and Pearson's for
//! shares ([`confidence`]), Gaffke's for scores ([`bounded`]), order statistics for quantiles ([`order`]), McNemar's
//! test for pairs ([`paired`]), and resampling for statistics that have none of these ([`bootstrap`]).
//!
//! Errors come in clusters: retries, bad connections, failing batches. Their mean size, the dispersion φ, is learnt
//! from the stable pods ([`dispersion`]) before the block that it is used for, and divides that block's evidence. With
//! a learnt φ the error rate is *calibrated* instead of guaranteed, and decisions say so.
//!
//! Evidence is returned as logarithms, in nats. A state holds a few numbers per test, survives JSON bit by bit, and
//! must take every block exactly once, because a repeated block would count its evidence twice. No input produces a
//! NaN: counts are validated when they become a [`tally::Tally`], and a refused block changes nothing.
//!
//! Read the modules in the order of their declarations.

use thiserror::Error;

pub mod special;
pub mod tally;
pub mod dispersion;
pub mod spread;
pub mod mixture;
pub mod odds_grid;
pub mod slo;
pub mod share;
pub mod two_sample;
pub mod standardized;
pub mod combine;
pub mod harm;
pub mod confidence;
pub mod histogram;
pub mod quantile;
pub mod shape;
pub mod drift;
pub mod mann_whitney;
pub mod bounded;
pub mod order;
pub mod paired;
pub mod bootstrap;

/// The reasons for which the parameters of a test are refused.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum BadTest {
    /// The margin is not a finite number above 0. The value is the margin.
    #[error("a margin of {0} is not a finite number above 0")]
    Margin(f64),
    /// The limit is not between 0 and 1, both excluded. The value is the limit.
    #[error("a share can't be compared with a limit of {0}; the limit must be above 0 and below 1")]
    Limit(f64),
    /// The alternatives are empty, not finite and positive, or not all on one side of 1.
    #[error("the alternatives must be finite, above 0, and all above 1 or all below it")]
    Grid,
    /// The error rate is not between 0 and 1, both excluded. The value is the error rate.
    #[error("an error rate of {0} is not above 0 and below 1")]
    Level(f64),
    /// A weight is negative or not finite, or no weight is positive.
    #[error("the weights are not finite and positive")]
    Weights,
}
