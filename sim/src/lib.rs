//! A simulated world of plain values in which the engine runs without a cluster, a broker or a clock.
//!
//! The daemon's decisions are made by the pure engine of `bellwether-core`. This crate has models of its surroundings,
//! so that tests and the demo can run hours of a rollout in milliseconds, with any fault and with the same result every
//! time.
//!
//! | module | purpose | users |
//! | --- | --- | --- |
//! | [`dice`] | random choices from a seed | the simulator, the scripts of brokers |
//! | [`model`] | a cluster with workloads, pods, routes and a registry of models | the demo, stories, the simulator |
//! | [`story`] | one engine with one workload, driven second by second | the core's lifecycle tests |
//! | [`broker`] | Kafka's transactions and fencing; tests compare it with a real Kafka | the simulator, the journal's tests |
//! | [`simulator`] | the whole world under seeded faults, with assertions of the invariants | the tests of this crate |
//! | [`unkind`] | one rollout in a cluster that is unkind as real ones are, with an oracle that knows the truth | the tests of this crate, its benchmark |
//! | [`polls`] | counts of simulated rollouts with known error rates | the tests of error rates, the lab's benchmark |
//! | [`judged`] | the sequential judge on these counts | the tests of error rates, the lab's tests |
//! | [`counting`] | a significance test for counted errors | the tests of error rates |
//!
//! Simulations panic if they can't continue or if an invariant is broken: they run in tests and in the demo, never in
//! the daemon. Time is an argument and randomness comes from seeds, so a failure can be reproduced from its seed.
//!
//! # Examples
//!
//! A story with a good version and a bad one:
//!
//! ```
//! use bellwether_core::rollout::ending::Ending;
//! use bellwether_sim::story::{Story, images, policy};
//! use serde_json::json;
//!
//! // One step at 10 % for five minutes; at most 5 % of the requests may fail.
//! let check = json!([{ "metric": "error-rate", "judge": "threshold", "max": "5%", "window": "5m", "every": "30s" }]);
//! let mut story = Story::new(policy(json!({ "check": check })));
//!
//! story.request("v2");
//! assert_eq!(story.run(3600), Some(Ending::Promoted));
//!
//! // By its tag, 20 % of the requests to this version fail.
//! story.request("v3-err20");
//! assert_eq!(story.run(3600), Some(Ending::RolledBack));
//! assert_eq!(story.running(), images("v2"));
//! ```

pub mod dice;
pub mod model;
pub mod sinks;
pub mod broker;
#[expect(clippy::unwrap_used, reason = "a story that can't continue panics")]
pub mod story;
#[expect(clippy::unwrap_used, reason = "a simulation that can't continue panics")]
pub mod simulator;
pub mod unkind;
pub mod counting;
#[expect(clippy::unwrap_used, reason = "a simulation that can't continue panics")]
#[expect(clippy::disallowed_methods, reason = "the number of runs comes from the environment")]
pub mod polls;
#[expect(clippy::unwrap_used, reason = "a simulation that can't continue panics")]
pub mod judged;
