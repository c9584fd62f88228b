//! Analysis around the engine that makes none of the daemon's decisions: planning, backtests, and other tools' rules.
//!
//! [`plan`] runs the judges ahead of a rollout on traffic like the present and says what they would find, and how soon.
//! [`rivals`] are the rules of the article, Argo Rollouts, Flagger and Kayenta, re-implemented from their documents.
//! [`backtest`] plays a recording of a real rollout to the project's own judges and to the rivals. Everything here is
//! pure: a recording in, a report out.
//!
//! # Examples
//!
//! ```
//! use bellwether_core::time::{Span, Timestamp, TimeRange};
//!
//! // The instants at which a backtest of five minutes looks at a recording.
//! let range = TimeRange::before(Timestamp::UNIX_EPOCH, Span::from_secs(300), Span::from_secs(30));
//! assert_eq!(range.ticks().count(), 11);
//! ```

pub mod plan;
pub mod rivals;
pub mod backtest;
