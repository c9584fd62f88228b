//! Pods that do not run: whose fault each condition is, and for how long it may last.
//!
//! A condition that a version can cause is blamed on it only after a grace, only if it concerns a tenth of the pods or more, and only
//! if the other version's pods do not have it too. All other conditions are the environment's: the rollout waits, is held,
//! and is given up in the end, without a quarantine. `docs/pod-conditions.md` shows the table.

use serde::{Deserialize, Serialize};

use super::cause::Blame;
use crate::input::status::{DeploymentStatus, PodProblem};
use crate::time::{Span, Timestamp};

/// A condition of a pod or of its controller, as the API server names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodCondition {
    /// The reason that the API server gives.
    pub reason: &'static str,
    /// The party that it is blamed on.
    pub blame: Blame,
    /// The time for which it may last before it counts.
    pub grace: Span,
}

/// The known conditions. One that is not listed is the environment's.
pub const CONDITIONS: [PodCondition; 10] = [
    version("CrashLoopBackOff", 60),
    version("CreateContainerConfigError", 60),
    version("CreateContainerError", 60),
    version("RunContainerError", 60),
    version("ErrImagePull", 60),
    version("ImagePullBackOff", 60),
    version("ErrImageNeverPull", 0),
    version("InvalidImageName", 0),
    environment("Unschedulable"),
    environment("FailedCreate"),
];

const fn version(reason: &'static str, grace: u64) -> PodCondition {
    PodCondition { reason, blame: Blame::Version, grace: Span::from_secs(grace) }
}

const fn environment(reason: &'static str) -> PodCondition {
    PodCondition { reason, blame: Blame::Environment, grace: Span::ZERO }
}

/// Returns the condition of a problem if it is the version's.
pub(super) fn of_version(problem: &PodProblem) -> Option<PodCondition> {
    CONDITIONS.into_iter().find(|known| known.reason == problem.reason && known.blame == Blame::Version)
}

/// A condition of the new version's pods that is blamed on it once its grace is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trouble {
    /// The newest problem of a pod.
    pub problem: PodProblem,
    /// The end of the grace.
    pub decides: Timestamp,
}

/// Returns the trouble of a Deployment, which goes on until it is available. `other` is the one with the other version.
pub(super) fn trouble(
    before: Option<Trouble>,
    arm: Option<&DeploymentStatus>,
    other: Option<&DeploymentStatus>,
    now: Timestamp,
) -> Option<Trouble> {
    let arm = arm.filter(|arm| !arm.is_settled())?;
    let Some(problem) = &arm.problem else { return before };
    let Some(condition) = of_version(problem) else { return before };
    // The other version's pods fail in the same way, or too few of these do.
    let is_shared = other.and_then(|other| other.problem.as_ref()).is_some_and(|it| it.reason == problem.reason);
    let is_rare = u64::from(problem.pods) * 10 < u64::from(arm.replicas);
    if is_shared || is_rare {
        return None;
    }
    let decides = before.map_or_else(|| condition.grace.after(now), |before| before.decides);
    Some(Trouble { problem: problem.clone(), decides })
}

/// The trouble of both Deployments.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Troubles {
    /// Of the canary's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Trouble>,
    /// Of the stable's pods, once they run the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Trouble>,
}

impl Troubles {
    /// Takes back a span that was left out because a clock ran ahead.
    pub fn turn_back(&mut self, by: Span) {
        for trouble in [&mut self.canary, &mut self.stable].into_iter().flatten() {
            trouble.decides = by.before(trouble.decides);
        }
    }

    /// Leaves a span in which the cluster could not be seen out of the graces.
    pub fn leave_out(&mut self, unseen: Span) {
        for trouble in [&mut self.canary, &mut self.stable].into_iter().flatten() {
            trouble.decides = unseen.after(trouble.decides);
        }
    }
}
