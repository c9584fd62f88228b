//! The daemon around the engine: what it is told, where it keeps its memory, and how it acts.

pub mod ports;
pub mod clock;
pub mod secret;
pub mod telemetry;
pub mod metrics;
pub mod adapters;
pub mod http;
pub mod config;
pub mod exit;
pub mod cli;
