//! Evidence: decisions with a stated error rate.
//!
//! A rollout is looked at every few seconds, and it ends when somebody has seen enough. Ordinary tests promise their error
//! rate for one look that was fixed in advance; looked at again and again, a test at 1 % rolls back one good version in
//! ten (Armitage, McPherson and Rowe 1969). Everything here is therefore an *e-process*: a number `E` that starts at 1,
//! is never negative, and whose expectation never rises while the null hypothesis holds. Ville's inequality (1939) then
//! bounds what peeking can do:
//!
//! ```text
//! P(E_t >= 1/α at any t) <= α
//! ```
//!
//! So one may look at every scrape, stop whenever one likes, and go on after a stop. A check has two of them, with a zone
//! between in which it says `insufficient`: evidence that the canary is *worse* than its margin, at `1/α` a rollback; and
//! evidence that it is *not much worse*, at `1/β` a proof. Neither is ever the absence of the other.
//!
//! What is used where:
//!
//! | question | module | exact for |
//! | --- | --- | --- |
//! | is the canary's error rate above `r` times the stable's? | [`odds_grid`] | independent requests, any common rate |
//! | is a share above its limit, or shown to be below? | [`slo`] | independent requests |
//! | the same for large shares, or by a difference | [`two_sample`] | independent requests |
//! | did the whole shape of a distribution change? | [`shape`] | independent observations |
//! | how many failed requests has the canary cost? | [`harm`] | independent requests, any rates |
//! | what can be said of a share, to people | [`confidence`] | independent requests |
//!
//! A gate is not looked at again and again: it asks a fixed number of cases, once. For that there are the bounds of one look:
//! Clopper and Pearson's for shares ([`confidence`]), Gaffke's for scores ([`bounded`]), order statistics for quantiles
//! ([`order`]), McNemar's test for pairs ([`paired`]), and resampling for what has none of these ([`bootstrap`]).
//!
//! Errors come in clusters: a retry, a bad connection, a failing batch. How large they are is learnt from the stable pods
//! ([`dispersion`]), before the block that it is used for, and divides that block's evidence. With it the error rate is
//! *calibrated*, no longer guaranteed, and that is the word that people are told.
//!
//! Evidence is kept in logarithms, in nats. A state holds a few numbers per test, comes back from JSON as the same bits,
//! and takes every block once: to take a block twice is to bet twice on the same throw. No input makes a NaN: counts are
//! checked when they become a [`tally::Tally`], and a refused block changes nothing.
//!
//! To read it, follow the modules in the order below.

use thiserror::Error;

pub mod special;
pub mod tally;
pub mod dispersion;
pub mod mixture;
pub mod odds_grid;
pub mod slo;
pub mod two_sample;
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

/// Why there can be no such test.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum BadTest {
    /// A margin must be a finite number above 0.
    #[error("a margin of {0} is not a finite number above 0")]
    Margin(f64),
    /// A limit must lie between 0 and 1, both excluded.
    #[error("a share can't be held against a limit of {0}; it must be above 0 and below 1")]
    Limit(f64),
    /// Alternatives must all be on one side of the null.
    #[error("the alternatives must be finite, above 0, and all above 1 or all below it")]
    Grid,
    /// An error rate must lie between 0 and 1, both excluded.
    #[error("an error rate of {0} is not above 0 and below 1")]
    Level(f64),
    /// Weights must be finite and not negative, and some of them positive.
    #[error("the weights are not finite and positive")]
    Weights,
}
