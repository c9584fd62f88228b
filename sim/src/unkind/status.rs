//! The workload's status, as the API watch tells it.

use bellwether_core::ids::Weight;
use bellwether_core::input::status::{DeploymentStatus, PodProblem, WorkloadStatus};

use super::absence::Party;
use super::agenda::{Ms, SECOND};
use super::defect::Defect;
use super::deployment::Deployment;
use super::pod::{Arm, PodState};
use super::scrape::pod_name;
use super::world::World;

impl World {
    /// Returns the workload's present status.
    pub(super) fn status(&self) -> WorkloadStatus {
        WorkloadStatus {
            stable: Some(self.deployment_status(Arm::Stable, &self.stable)),
            canary: self.canary.as_ref().map(|canary| self.deployment_status(Arm::Canary, canary)),
            baseline: None,
            route: self.gateway.status(self.now),
            route_by: None,
            released: None,
        }
    }

    fn deployment_status(&self, arm: Arm, deployment: &Deployment) -> DeploymentStatus {
        let version = &self.versions[deployment.version];
        let template = version.template(self.setting.digests);
        let of_template = || deployment.pods.iter().filter(|pod| pod.version == deployment.version);
        let created: Vec<Ms> = of_template().map(|pod| pod.created).collect();
        let mean = created.iter().sum::<Ms>().checked_div(created.len() as Ms);
        let hides = arm == Arm::Canary && self.defect == Some(Defect::AvailabilityIgnored);
        let shown = |pods: u32| if hides { deployment.replicas } else { pods };
        DeploymentStatus {
            uid: deployment.uid.to_owned(),
            pod_hash: Some(template.0.clone()),
            template,
            images: version.admitted(self.setting.digests),
            generation: deployment.generation,
            observed_generation: deployment.generation,
            replicas: deployment.replicas,
            total: deployment.pods.len() as u32,
            updated: created.len() as u32,
            ready: shown(deployment.ready() as u32),
            available: shown(deployment.available(self.setting.rollover.min_ready, self.now)),
            restarts: of_template().map(|pod| pod.restarts).sum(),
            pods_since: mean.map(|mean| self.timestamp(mean)),
            paused: false,
            problem: self.problem(arm, deployment),
            template_by: deployment.template_by.map(str::to_owned),
            replicas_by: deployment.replicas_by.map(str::to_owned),
        }
    }

    /// Returns the problem that the API server shows of the pods of the present template.
    fn problem(&self, arm: Arm, deployment: &Deployment) -> Option<PodProblem> {
        let current = deployment.pods.iter().filter(|pod| pod.version == deployment.version);
        let stuck = current.filter_map(|pod| {
            let (reason, message) = match pod.state {
                PodState::Pending if self.defect == Some(Defect::EnvironmentBlamed) => {
                    ("CreateContainerError", "no node")
                }
                PodState::Pending => ("Unschedulable", "0/26 nodes are available: 26 Insufficient cpu"),
                PodState::BackingOff => ("CrashLoopBackOff", "back-off restarting failed container"),
                PodState::Starting | PodState::Ready | PodState::Unready => return None,
            };
            let object = pod_name(arm, pod.id);
            Some(PodProblem { object, reason: reason.to_owned(), message: message.to_owned(), pods: 1 })
        });
        let refused = || {
            let message = "exceeded quota: compute, requested: pods=1, used: pods=20, limited: pods=20".to_owned();
            let object = pod_name(arm, 0);
            let missing = deployment.replicas.saturating_sub(deployment.pods.len() as u32).max(1);
            deployment.refused.then(|| PodProblem { object, reason: "FailedCreate".to_owned(), message, pods: missing })
        };
        let stuck: Vec<PodProblem> = stuck.collect();
        let pods = |reason: &str| stuck.iter().filter(|problem| problem.reason == reason).count() as u32;
        let named = stuck.iter().min_by_key(|problem| (std::cmp::Reverse(pods(&problem.reason)), &problem.object));
        named.map(|problem| PodProblem { pods: pods(&problem.reason), ..problem.clone() }).or_else(refused)
    }

    /// Returns whether the daemon was told of a canary without a ready pod while the canary has traffic, and could act. It has
    /// 2 s for that, and the gateway's data plane its own time.
    pub(super) fn is_known_unready(&self) -> bool {
        let is_told = self.now > self.told_at + 2 * SECOND + self.gateway.programming();
        let is_unready = self.canary.as_ref().is_none_or(|canary| canary.ready() == 0);
        is_told && is_unready && self.gateway.share > 0.0 && !self.is_helpless()
    }

    /// Returns whether the canary's ready pods get requests and answer none of them, while the daemon can count and has not taken
    /// the weight back.
    pub(super) fn is_unanswered(&self) -> bool {
        let Some(canary) = &self.canary else { return false };
        let is_silent = canary.ready() > 0 && canary.pods.iter().all(|pod| pod.rate.n == 0.0);
        let is_counted = !self.absences.is_away(Party::Prometheus, self.now) && self.fast == 0;
        let is_asked = self.gateway.written.is_some_and(|weight| weight > Weight::ZERO);
        is_silent && is_counted && is_asked && self.gateway.share > 0.0 && !self.is_helpless()
    }
}
