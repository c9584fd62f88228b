//! A load test: requests at fixed times, latencies that count from those times, and thresholds that need enough
//! requests.
//!
//! A generator that waits for an answer before it sends the next request sends less exactly when the server is slow
//! (coordinated omission): in a stall of one second it sends one request where independent users send a hundred, and
//! its percentiles show one slow request. Here the due time of every request is fixed before the first one is sent
//! ([`schedule`]), and a latency counts from the due time, even if the generator or a connection was not ready then.
//! Requests that could not be sent are counted, and requests without a good answer rank behind all others ([`tally`]). An
//! answer is good only if it is complete: a stream needs content and its end ([`stream`]).
//!
//! A threshold passes or is missed only if the requests show it with the stated confidence, and the generator was not the
//! bottleneck ([`verdict`]). [`mod@drive`] is the only module with I/O.

pub mod drive;
pub mod report;
pub mod schedule;
pub mod stream;
pub mod tally;
pub mod threshold;
pub mod verdict;

pub use drive::{LoadOptions, LoadRequest, LoadSetupError, drive};
pub use schedule::{Arrivals, Rate, Schedule};
pub use tally::{GoodAnswer, LoadTally, RequestFailure, RequestTiming};
pub use threshold::Threshold;
pub use verdict::{LoadOutcome, LoadVerdict, ThresholdFinding};
