//! The daemon around the engine: what it is told, where it keeps its memory, and how it acts.

pub mod ports;
pub mod adapters;
pub mod sampling;
