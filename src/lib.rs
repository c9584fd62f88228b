//! The daemon around the engine: what it is told, where it keeps its memory, and how it acts.

pub mod ports;
pub mod clock;
pub mod events;
pub mod journal;
pub mod ledger;
pub mod perform;
pub mod show;
pub mod metrics;
pub mod shard;
pub mod daemon;
pub mod adapters;
pub mod cli;
