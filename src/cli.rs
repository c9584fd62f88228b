//! The commands. Only they construct adapters.

pub mod emit;
