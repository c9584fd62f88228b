//! The endings that a rollout may have, by its version and the faults of its time.
//!
//! Without faults a good version is promoted and a bad one is rolled back. So it is with every fault of the daemon, of Kafka, of
//! the API server and of Prometheus: they only delay. The table has the faults with which a rollout may end otherwise:
//!
//! | kind of the fault, on the rollout's own workload | the rollout may also be | reason |
//! | --- | --- | --- |
//! | `newer-request` | superseded | a newer version was requested before the promotion began |
//!
//! A bad version is never promoted, with no fault.

use crate::facts::{InjectedFault, RolloutFacts};

/// The kind of a request for a newer version during a rollout.
pub const NEWER: &str = "newer-request";

/// The kinds of faults that take ready pods from a workload at once: until the gateway learns of it, a request may reach a pod
/// that is gone, and until the daemon has taken the weight back, the gateway may have no pod for it.
pub const TAKES_PODS: [&str; 3] = ["pod-deleted", "pod-evicted", "pods-not-ready"];

/// Returns whether a version is bad, which its tag says.
pub fn is_bad(image: &str) -> bool {
    image.contains("-err")
}

/// Returns the endings that a rollout may have.
pub fn allowed(rollout: &RolloutFacts, faults: &[InjectedFault]) -> Vec<&'static str> {
    let Some(request) = &rollout.request else { return Vec::new() };
    let mut allowed = vec![if is_bad(&request.image) { "rolled-back" } else { "promoted" }];
    let has_fault = |kind: &str| faults.iter().any(|fault| fault.kind == kind && concerns(fault, rollout));
    if has_fault(NEWER) {
        allowed.push("superseded");
    }
    allowed
}

/// Returns whether a fault was on the workload of a rollout in the rollout's time.
pub fn concerns(fault: &InjectedFault, rollout: &RolloutFacts) -> bool {
    let Some(request) = &rollout.request else { return false };
    let ended = rollout.ended_at();
    fault.workload == request.workload && fault.until >= request.at && ended.is_none_or(|ended| fault.from <= ended)
}
