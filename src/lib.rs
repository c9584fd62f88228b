//! The Bellwether daemon and its command line: everything around the engine that does I/O.
//!
//! [`daemon`] runs one [`shard`] for each partition that the process owns. [`ports`] are the traits through which they reach
//! the outside world, [`adapters`] implement these, and [`cli`] connects both.

/// Secrets that are read from files and from the environment.
pub use bellwether_tools::secret;

pub mod allocator;
pub mod ports;
pub mod clock;
pub mod failpoints;
pub mod panics;
pub mod telemetry;
pub mod metrics;
pub mod supervise;
pub mod health;
pub mod events;
pub mod access;
pub mod journal;
pub mod show;
pub mod ledger;
pub mod follow;
pub mod perform;
pub mod shard;
pub mod daemon;
pub mod world;
pub mod sampling;
pub mod adapters;
pub mod http;
pub mod config;
pub mod exit;
pub mod cli;
