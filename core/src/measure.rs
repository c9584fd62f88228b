//! Measurements: the definitions of metrics, and the exact counts of both arms between two readings of the counters.
//!
//! A [`watch::Watch`] lists the [`metric::Metric`]s that a rollout needs and its arms. The sampler answers with
//! [`block::Block`]s; a [`window::Ring`] keeps the newest ones and sums any sliding window over them. A [`calibration`]
//! holds the dispersion and history of a metric in the stable's pods before the rollout.

pub mod block;
pub mod window;
pub mod metric;
pub(crate) mod counts;
pub mod calibration;
pub mod watch;
