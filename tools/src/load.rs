//! A load test whose numbers can be believed.
//!
//! A generator that waits for an answer before it asks again goes easy on a server exactly when it is slow: in a stall of
//! a second it sends one request where the world would have sent a hundred, and its percentiles show one slow request. So
//! here the world decides: every request's instant is fixed before the first is sent ([`schedule`]), and its latency counts
//! from that instant, whether or not the generator or a connection was ready then. What could not be sent is counted, and
//! what was never answered well is slower than everything that was ([`tally`]).
//!
//! A number is only judged where there are enough requests to show it, and where this end was not the slow one
//! ([`verdict`]). The pure parts know no network; [`drive`] has it.

pub mod drive;
pub mod report;
pub mod schedule;
pub mod tally;
pub mod threshold;
pub mod verdict;

pub use drive::{Failed, Request, drive};
pub use schedule::{Arrivals, Rate, Schedule};
pub use tally::{Failure, Sample, Tally};
pub use threshold::Threshold;
pub use verdict::{Finding, Outcome, Verdict};
