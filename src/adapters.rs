//! The adapters: each knows the ports and one neighbour of the daemon, and never another adapter.

/// Kubernetes, the traffic included.
pub mod kubernetes;
