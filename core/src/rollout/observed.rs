//! Questions that a rollout asks of the workload's observed status.

use super::current::CanaryRequests;
use super::phase::Phase;
use super::state::Rollout;
use super::timers::{Due, Timer};
use crate::ids::{Weight, all_run, runs};
use crate::input::status::{DeploymentStatus, RouteStatus, WorkloadStatus};
use crate::time::Timestamp;

impl Rollout {
    /// Returns the Deployment that is judged: the canary's, or under guard the stable one.
    pub(super) fn judged_deployment<'a>(&self, status: Option<&'a WorkloadStatus>) -> Option<&'a DeploymentStatus> {
        let status = status?;
        if self.phase() == Phase::Guarding { status.stable.as_ref() } else { status.canary.as_ref() }
    }

    /// Whether a Deployment has the images of the new version.
    pub(super) fn has_new_images(&self, deployment: &DeploymentStatus) -> bool {
        self.basis.as_ref().is_some_and(|basis| all_run(&deployment.images, &basis.to))
    }

    /// Whether a Deployment has the images from before the rollout.
    pub(super) fn has_old_images(&self, deployment: &DeploymentStatus) -> bool {
        self.basis.as_ref().is_some_and(|basis| all_run(&deployment.images, &basis.from))
    }

    /// Takes the digests over that admission has added to the canary's new images, so that the version which is promoted is the
    /// one that was judged, even if its tag moves.
    pub(super) fn note_digests(&mut self, status: Option<&WorkloadStatus>) {
        let (Some(basis), true) = (&mut self.basis, self.current.phase.is_before_promotion()) else { return };
        let Some(canary) = status.and_then(|status| status.canary.as_ref()) else { return };
        for (container, asked) in &mut basis.to {
            let found = canary
                .images
                .get(container)
                .filter(|found| basis.from.get(container) != Some(asked) && runs(found, asked));
            if let Some(found) = found {
                asked.clone_from(found);
            }
        }
    }

    /// Whether the canary is available, and the baseline too where the policy has one.
    pub(super) fn canary_available(&self, status: Option<&WorkloadStatus>) -> bool {
        self.canary_alone_available(status) && (self.observes() || !self.lacks_baseline(status))
    }

    /// Whether the canary is available with the new images, whatever the baseline does.
    pub(super) fn canary_alone_available(&self, status: Option<&WorkloadStatus>) -> bool {
        let canary = status.and_then(|status| status.canary.as_ref());
        self.observes() || canary.is_some_and(|arm| arm.has_available(self.canary.size) && self.has_new_images(arm))
    }

    /// Whether the policy has a baseline that is not available.
    pub(super) fn lacks_baseline(&self, status: Option<&WorkloadStatus>) -> bool {
        let baseline = status.and_then(|status| status.baseline.as_ref());
        self.policy.fresh_baseline && !baseline.is_some_and(|arm| arm.has_available(self.canary.size))
    }

    /// Whether the canary has no traffic. By replica ratio its pods have traffic until they are gone; there is no weight to
    /// wait for.
    pub(super) fn canary_is_empty(&self, status: Option<&WorkloadStatus>, now: Timestamp) -> bool {
        // A gateway may never report. Then the counts say that no request comes any more, or the time is up.
        let requests = self.current.requests;
        let is_quiet = matches!(requests, CanaryRequests::None | CanaryRequests::Ended);
        let is_over = is_quiet || self.is_due(Timer::PhaseDeadline, now);
        // A router that followed late before may even send requests of an earlier weight that have not come yet.
        let has_followed = requests == CanaryRequests::Ended || !matches!(self.due(Timer::Followed, now), Due::At(_));
        let is_zero =
            |route: &RouteStatus| (route.is_accepted() || is_over) && has_followed && route.weight == Weight::ZERO;
        let left = |status: &WorkloadStatus| status.route.as_ref().is_none_or(is_zero);
        let is_asked = self.asked() == Weight::ZERO;
        !self.policy.traffic.splits_by_weight() || !self.canary.exists || (is_asked && status.is_some_and(left))
    }

    /// Whether the canary has the step's share of the traffic, by either witness: the router's status, or the counts.
    pub(super) fn has_its_share(&self, status: Option<&WorkloadStatus>) -> bool {
        self.weight_seen(status)
            || (status.and_then(WorkloadStatus::route_refusal).is_none() && self.share_is_as_asked())
    }

    /// Whether the step's share was accepted as it was asked for.
    pub(super) fn weight_seen(&self, status: Option<&WorkloadStatus>) -> bool {
        if self.observes() {
            return true;
        }
        if !self.policy.traffic.splits_by_weight() {
            return self.canary_available(status);
        }
        let route = status.and_then(|status| status.route.as_ref());
        route.is_some_and(|route| route.is_accepted() && route.weight == self.asked())
    }
}
