//! Watches: the metrics and arms that the engine wants to have measured. The sampler reads the list of watches at every
//! tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::Workload;
use crate::measure::metric::Metric;
use crate::time::{Span, Timestamp};

/// One rollout's metrics, with the keys of its arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The rollout's workload.
    pub workload: Workload,
    /// The metrics to measure, by name. Availability is not among them, because it is taken from the workload status.
    pub metrics: Arc<BTreeMap<String, Metric>>,
    /// The names of the metrics for which a block also has the readings of the stable's single processes.
    #[serde(default)]
    pub per_process: BTreeSet<String>,
    /// The names of the metrics for which a block also has the readings of each pod of the judged version.
    #[serde(default)]
    pub per_pod: BTreeSet<String>,
    /// The time from a process's first request in which it is cold, and its requests are counted apart; 0 if none are.
    #[serde(default)]
    pub warm_up: Span,
    /// The canary's key; `None` during the guard, which has only one arm.
    pub canary: Option<ArmKey>,
    /// The stable's key.
    pub stable: ArmKey,
    /// The start of the rollout. The counters of a process that started later count from zero.
    pub since: Timestamp,
    /// The end of the last block, where the next one begins; `None` if there was none.
    pub last: Option<Timestamp>,
}

impl Watch {
    /// Returns a watch of the stable alone since `since`, without readings of single processes and pods. Requests of cold
    /// processes count as all others.
    pub fn of_stable(workload: Workload, metrics: BTreeMap<String, Metric>, stable: ArmKey, since: Timestamp) -> Watch {
        let metrics = Arc::new(metrics);
        let (per_process, per_pod) = (BTreeSet::new(), BTreeSet::new());
        let warm_up = Span::ZERO;
        Watch { workload, metrics, per_process, per_pod, warm_up, canary: None, stable, since, last: None }
    }
}

/// The key by which an arm's pods and its Service are found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArmKey {
    /// The uid of the arm's Deployment.
    pub deployment_uid: String,
    /// The `pod-template-hash` of the arm's pods; `None` if pods of any template belong to the arm.
    pub pod_hash: Option<String>,
    /// The name of the arm's Deployment. The pods' names begin with it, so queries filter by it; the pods' owners
    /// decide which of them belong to the arm.
    pub name: String,
}

/// A metric whose query is tried before the canary gets traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProbeTarget {
    /// The metric's name.
    pub name: String,
    /// The metric's definition.
    pub metric: Metric,
    /// The limits of the metric's checks, in the metric's unit. For a histogram they must be edges of its buckets.
    pub limits: Vec<f64>,
}
