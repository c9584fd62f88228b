//! The tools of Bellwether's command line that need no daemon: a load test, a smoke test and the runner of behavioural
//! gates.
//!
//! A pipeline runs them before a rollout and beside it. They send requests to a service and return a verdict; they know
//! nothing of rollouts, Kubernetes or Kafka.
//!
//! - [`load`] sends requests at a fixed rate, measures latencies from the due times and judges thresholds. A threshold
//!   that the number of requests can't show does not pass.
//! - [`smoke`] sends a few named requests from a TOML file, waits for a service that is not up yet, and compares each
//!   answer with its expectation.
//! - [`gate`] asks a model or an agent the cases of a suite. It retries, keeps a budget and writes each answer to a
//!   ledger, so that an interrupted run continues. `bellwether-gate` judges the recorded answers.
//! - [`http`] makes clients that know the proxies of the environment.
//! - [`secret`] reads tokens and keys from files and from the environment.
//!
//! Each tool keeps its decisions in modules without I/O: `load::verdict`, `smoke::answer` and `gate::wire` are
//! examples. No tool uses another one. The crate reads no clock for the date: the caller passes a function that returns
//! the present time. Elapsed times are measured with `tokio::time::Instant`.
//!
//! # Examples
//!
//! The verdict on a load test of 500 requests, all answered within 20 ms. That is enough to show a p95 and too little
//! to show a p99.9:
//!
//! ```
//! use std::time::Duration;
//!
//! use bellwether_core::time::Span;
//! use bellwether_tools::load::verdict::judge;
//! use bellwether_tools::load::{Arrivals, GoodAnswer, LoadTally, LoadVerdict, RequestTiming, Schedule};
//!
//! let schedule = Schedule {
//!     rate: "50/s".parse()?,
//!     arrivals: Arrivals::Constant,
//!     warm_up: Span::ZERO,
//!     duration: Span::from_secs(10),
//! };
//! let mut tally = LoadTally::default();
//! for due in schedule.instants() {
//!     let ended = Ok(GoodAnswer::at(due + Duration::from_millis(20)));
//!     tally.add(&RequestTiming { due, sent: Some(due), ended });
//! }
//! let outcome = judge(&tally, &schedule, &["p95<=800ms".parse()?, "p99.9<=800ms".parse()?]);
//! assert_eq!(outcome.findings[0].verdict, LoadVerdict::Pass);
//! assert_eq!(outcome.findings[1].verdict, LoadVerdict::Insufficient);
//! assert_eq!(outcome.verdict, LoadVerdict::Insufficient);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod failure;
mod tls;
pub mod http;
pub mod secret;
pub mod load;
pub mod smoke;
pub mod gate;
