//! The workloads of the simulator.

use bellwether_core::ids::{Workload, WorkloadKind};

/// The names of the workloads.
pub(super) const NAMES: [&str; 3] = ["api", "web", "worker"];

/// Returns the workload with the given name.
pub(super) fn workload(name: &str) -> Workload {
    Workload { cluster: "test".into(), namespace: "shop".into(), kind: WorkloadKind::Deployment, name: name.into() }
}
