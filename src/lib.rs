//! The daemon around the engine: what it is told, where it keeps its memory, and how it acts.

pub mod ports;
/// The world, one file a neighbour.
pub mod adapters;
