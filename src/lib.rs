//! The daemon around the engine: what it is told, where it keeps its memory, and how it acts.

pub mod ports;
pub mod events;
pub mod journal;
pub mod adapters;
pub mod cli;
