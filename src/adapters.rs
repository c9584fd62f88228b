//! What touches the world. Each adapter knows the ports and the core's types, and none of the others.

pub mod kafka;
pub mod memory;
