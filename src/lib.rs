//! The daemon around the engine: what it is told, where it keeps its memory, and how it acts.

/// Secrets from files and from the environment.
pub use bellwether_tools::secret;

pub mod ports;
pub mod clock;
pub mod failpoints;
pub mod telemetry;
pub mod metrics;
pub mod events;
pub mod journal;
pub mod ledger;
pub mod perform;
pub mod show;
pub mod shard;
pub mod daemon;
pub mod sampling;
pub mod adapters;
pub mod http;
pub mod config;
pub mod exit;
pub mod cli;
