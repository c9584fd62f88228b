//! Worlds of plain values, in which the engine is driven without a cluster, a broker or a clock.
//!
//! [`model`] is a cluster with workloads, pods, routes and a registry of models; the demo runs on it. [`story`] drives one
//! engine in it, second by second. [`broker`] is a model of Kafka's transactions, which the real Kafka is compared with.
//! [`simulator`] puts all of it together under seeded faults and asserts the invariants after every commit and write. [`polls`]
//! draws the counts of simulated rollouts, and [`judged`] lets the sequential judge look at them.
//!
//! # Examples
//!
//! One seed of the simulator, from its first request to the end of its last rollout:
//!
//! ```no_run
//! use bellwether_sim::simulator::Simulator;
//!
//! let endings = Simulator::new(17, None).run();
//! assert!(endings.iter().all(|ending| !ending.is_empty()));
//! ```

pub mod dice;
pub mod model;
#[expect(missing_docs, reason = "documented with the simulator")]
pub mod broker;
#[expect(missing_docs, clippy::unwrap_used, reason = "a story that can't go on has failed")]
pub mod story;
#[expect(missing_docs, clippy::unwrap_used, reason = "a simulation that can't go on has failed")]
pub mod simulator;
pub mod counting;
#[expect(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a simulation that can't go on has failed"
)]
pub mod polls;
#[expect(clippy::unwrap_used, reason = "a simulation that can't go on has failed")]
pub mod judged;
