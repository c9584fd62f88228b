//! The adapters: each implements a port for one outside system, and has its own options and errors. To delete an adapter,
//! delete its file or folder and its line here.

pub mod kafka;
pub mod kubernetes;
pub mod prometheus;
pub mod registry;
pub mod sinks;
