//! Measuring: the exact counts of both arms between two readings of the counters, and the definitions of what is counted.
//!
//! A [`watch::Watch`] says which [`metric::Metric`]s of which arms a rollout needs. The sampler answers with
//! [`block::Block`]s; a [`window::Ring`] keeps the newest ones and sums any sliding window over them. A
//! [`calibration`] is the past of a metric in the stable's pods.

pub mod block;
pub mod window;
pub mod metric;
pub(crate) mod counts;
pub mod calibration;
pub mod watch;
