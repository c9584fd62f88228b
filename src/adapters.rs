//! The world behind the ports. An adapter knows the ports and the core's types, and no other adapter.

pub mod prometheus;
