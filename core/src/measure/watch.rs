//! What the engine wants measured. The sampler asks for this list at every tick; it decides nothing about it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::Workload;
use crate::measure::metric::Metric;
use crate::time::Timestamp;

/// One rollout's metrics, and how its arms are told apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Whose.
    pub workload: Workload,
    /// What to measure, by name. Availability is not among them: it is seen, not measured.
    pub metrics: BTreeMap<String, Metric>,
    /// The metrics of which each of the stable's processes is wanted by itself, too.
    #[serde(default)]
    pub each: BTreeSet<String>,
    /// The metrics of which each pod of the version that is judged is wanted by its name, too.
    #[serde(default)]
    pub named: BTreeSet<String>,
    /// The canary; `None` while the guard watches: there is only one arm then.
    pub canary: Option<ArmKey>,
    /// The stable.
    pub stable: ArmKey,
    /// When the rollout began: a process that started later counts from zero when it is first seen.
    pub since: Timestamp,
    /// The end of the last block, which is where the next one begins; `None`: there was none.
    pub last: Option<Timestamp>,
}

impl Watch {
    /// Of the stable alone, since then, and of none of its processes by itself.
    pub fn of_stable(workload: Workload, metrics: BTreeMap<String, Metric>, stable: ArmKey, since: Timestamp) -> Watch {
        let (each, named) = (BTreeSet::new(), BTreeSet::new());
        Watch { workload, metrics, each, named, canary: None, stable, since, last: None }
    }
}

/// Which pods, and which Service, an arm is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArmKey {
    /// The uid of the arm's Deployment.
    pub deployment_uid: String,
    /// The `pod-template-hash` of its pods; `None`: any.
    pub pod_hash: Option<String>,
    /// The name of the arm's Deployment: its pods' names begin with it (a filter to ask for less, never the proof).
    pub name: String,
}

/// A metric whose query is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProbeTarget {
    /// Its name.
    pub name: String,
    /// How it is measured.
    pub metric: Metric,
    /// The limits that it is held against, in its own unit: a histogram's must be edges of its buckets.
    pub limits: Vec<f64>,
}
