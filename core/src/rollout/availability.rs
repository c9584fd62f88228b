//! The availability of the judged Deployment, as a check measures it.

use serde::{Deserialize, Serialize};

use super::pods::of_version;
use crate::input::status::DeploymentStatus;
use crate::measure::window::Measure;
use crate::time::{Span, Timestamp};

/// The size of the judged Deployment without the pods that an autoscaler has added a short time ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SettledSize {
    /// The number of pods.
    pub pods: u32,
    /// The time since which more are requested; `None` if no more are.
    raised: Option<Timestamp>,
}

impl SettledSize {
    /// Returns the size of a Deployment of `replicas` pods. Further pods count once they have had the time `starts` to start.
    pub fn follow(known: Option<SettledSize>, replicas: u32, starts: Span, now: Timestamp) -> SettledSize {
        let settled = SettledSize { pods: replicas, raised: None };
        let Some(known) = known.filter(|known| known.pods < replicas) else { return settled };
        let raised = known.raised.unwrap_or(now);
        if starts.after(raised) <= now { settled } else { SettledSize { raised: Some(raised), ..known } }
    }
}

/// Returns the share of the requested pods that are ready, of those that have had their time to start (`settled`). A Deployment of
/// no pods misses none, and pods that the cluster does not run, such as those that wait for a node, are not missed either.
pub(super) fn availability(deployment: &DeploymentStatus, settled: u32) -> Measure {
    let blocked = deployment.problem.as_ref().filter(|problem| of_version(problem).is_none());
    let started = deployment.replicas.min(settled);
    let requested = started.min(deployment.replicas.saturating_sub(blocked.map_or(0, |problem| problem.pods)));
    let ready = deployment.ready.min(requested);
    let value = if requested == 0 { 1.0 } else { f64::from(ready) / f64::from(requested) };
    Measure { value, hits: Some(u64::from(ready)), n: u64::from(requested), beyond: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::status::PodProblem;

    fn deployment(replicas: u32, ready: u32) -> DeploymentStatus {
        let json = serde_json::json!({
            "uid": "", "template": "", "pod_hash": null, "images": {}, "generation": 1, "observed_generation": 1,
            "replicas": replicas, "total": replicas, "updated": replicas, "ready": ready, "available": ready,
            "paused": false, "problem": null,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn pods_that_an_autoscaler_adds_are_missed_once_they_had_the_time_to_start() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (mut size, starts) = (None, Span::from_secs(60));
        // Five pods of which one is not ready, then ten more, which are ready after 40 s or never.
        for (second, replicas, ready, share) in [
            (0, 5, 5, 1.0),
            (15, 5, 4, 0.8),
            (30, 15, 5, 1.0),
            (75, 15, 5, 1.0),
            (90, 15, 5, 1.0 / 3.0),
            (105, 15, 15, 1.0),
        ] {
            let followed = SettledSize::follow(size, replicas, starts, at(second));
            size = Some(followed);
            let measure = availability(&deployment(replicas, ready), followed.pods);
            assert_eq!(measure.value, share, "after {second} s");
        }
        let unscheduled = PodProblem {
            object: "web-9".to_owned(),
            reason: "Unschedulable".to_owned(),
            message: "0/3 nodes are available".to_owned(),
            pods: 5,
        };
        let blocked = DeploymentStatus { problem: Some(unscheduled), ..deployment(10, 5) };
        assert_eq!(availability(&blocked, 10).value, 1.0, "pods without a node are not missed");
    }
}
