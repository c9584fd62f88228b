//! External changes: by a person, a tool or another controller, and their consequences.
//!
//! Three kinds are told apart. A change to the stable's template or size is held and named, never changed back. A change to
//! the rollout's own objects (the canary, its share of the route) is reverted, but no more than [`MAX_REVERTS`] times, because
//! a third change is made on purpose. A change by an autoscaler is expected: the canary's size follows it at the next step.

use super::cause::{EndCause, Fired, HoldCause};
use super::phase::{Phase, Trigger};
use super::reason::Reason;
use super::state::{Rollout, RolloutContext};
use crate::ids::{TemplateHash, Weight};
use crate::input::status::{DeploymentStatus, WorkloadStatus};

/// The number of external changes to the rollout's own objects that are reverted.
const MAX_REVERTS: u32 = 2;

/// Parts of the field managers' names of autoscalers and other controllers that scale workloads.
const AUTOSCALERS: [&str; 4] = ["kube-controller-manager", "autoscal", "keda", "bellwether"];

/// An object of the rollout that differs from the one that was asked for.
struct ExternalChange {
    object: &'static str,
    by: Option<String>,
}

impl Rollout {
    /// Returns the external change that the rollout has to hold for.
    pub(super) fn external_change(&self, context: RolloutContext<'_>) -> Option<(HoldCause, Reason)> {
        let status = context.status?;
        let stable = status.stable.as_ref()?;
        self.other_template(stable)
            .or_else(|| self.unsound(status, stable))
            .or_else(|| self.scaled_by_hand(stable))
            .or_else(|| self.reverted_too_often(status))
    }

    /// Returns the hold for a stable whose template is neither the old one nor the new one.
    fn other_template(&self, stable: &DeploymentStatus) -> Option<(HoldCause, Reason)> {
        let basis = self.basis.as_ref()?;
        let (is_old, is_new) = (stable.template == basis.template, self.has_new_images(stable));
        let expected = match self.phase() {
            Phase::Preparing | Phase::Growing | Phase::Stepping | Phase::Withdrawn => is_old,
            Phase::Promoting => is_old || is_new,
            Phase::Guarding => self.promoted.as_ref().is_none_or(|promoted| *promoted == stable.template),
            Phase::Preflight
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Restoring
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => true,
        };
        let reason = || Reason::TemplateEdited { by: stable.template_by.clone() };
        (!expected).then(|| (HoldCause::TemplateEdited, reason()))
    }

    /// The version that serves, or is to serve again, can't run.
    fn unsound(&self, status: &WorkloadStatus, stable: &DeploymentStatus) -> Option<(HoldCause, Reason)> {
        if self.phase() == Phase::Restoring && self.restores.as_ref() == Some(&stable.template) {
            let problem = stable.problem.clone()?;
            return Some((HoldCause::RestoreFailed, Reason::RestoreFailed { problem }));
        }
        let canary = status.canary.as_ref().map_or(0, |canary| canary.available);
        let broken = self.phase().rises() && stable.replicas > 0 && stable.available == 0 && canary > 0;
        let reason = || Reason::StableBroken { replicas: stable.replicas, problem: stable.problem.clone() };
        broken.then(|| (HoldCause::StableBroken, reason()))
    }

    fn scaled_by_hand(&self, stable: &DeploymentStatus) -> Option<(HoldCause, Reason)> {
        let from = self.basis.as_ref()?.replicas;
        let by = stable.replicas_by.as_ref().filter(|by| !AUTOSCALERS.iter().any(|known| by.contains(known)))?;
        let scaled = self.phase().rises() && stable.replicas != from;
        scaled.then(|| (HoldCause::Scaled, Reason::Scaled { from, to: stable.replicas, by: by.clone() }))
    }

    fn reverted_too_often(&self, status: &WorkloadStatus) -> Option<(HoldCause, Reason)> {
        let ExternalChange { object, by } = self.changed_object(status)?;
        let times = self.canary.reverts;
        let reason = Reason::RevertedTooOften { object: object.to_owned(), by, times };
        (times >= MAX_REVERTS).then_some((HoldCause::RevertedTooOften, reason))
    }

    /// Fires if an object of the rollout was changed or deleted.
    pub(super) fn to_revert(&self, context: RolloutContext<'_>) -> Option<Fired> {
        let status = context.status?;
        let made = self.canary.exists && !self.observes();
        if made && status.canary.is_none() && self.has_canary_in_traffic() {
            return Some(Fired::ending(Trigger::GaveUp, EndCause::Undecided, Reason::CanaryDeleted));
        }
        let change = self.changed_object(status).filter(|_| self.canary.reverts < MAX_REVERTS)?;
        let reason = Reason::Reverted { object: change.object.to_owned(), by: change.by };
        Some(Fired::onward(Trigger::Reverted, reason))
    }

    fn has_canary_in_traffic(&self) -> bool {
        self.phase() == Phase::Stepping || (self.phase() == Phase::Growing && self.canary.weight > Weight::ZERO)
    }

    /// Returns the object of the rollout that differs from the one that the rollout asked for, after it was seen to agree.
    fn changed_object(&self, status: &WorkloadStatus) -> Option<ExternalChange> {
        let canary = status.canary.as_ref()?;
        if self.phase() != Phase::Stepping {
            return None;
        }
        let size = self.canary.size;
        if !self.has_new_images(canary) || canary.replicas != size {
            let by = canary.template_by.clone().or_else(|| canary.replicas_by.clone());
            return Some(ExternalChange { object: "the canary", by });
        }
        let baseline = status.baseline.as_ref();
        if self.policy.fresh_baseline && baseline.is_none_or(|baseline| baseline.replicas != size) {
            let by = baseline.and_then(|baseline| baseline.replicas_by.clone());
            return Some(ExternalChange { object: "the fresh baseline", by });
        }
        let by_weight = self.policy.traffic.splits_by_weight() && self.current.settled;
        let share = status.route.as_ref().map(|route| route.weight);
        (by_weight && share != Some(self.asked()))
            .then(|| ExternalChange { object: "the canary's share of the route", by: status.route_by.clone() })
    }

    /// Notes that the step's share was accepted as it was asked for. A later difference is an external change. The canary
    /// needs no such note: `preparing` ended only when it was as asked for.
    pub(super) fn note_settled(&mut self, context: RolloutContext<'_>) {
        let asked = self.phase() == Phase::Stepping && self.current.done >= 1 && !self.observes();
        self.current.settled = self.current.settled || (asked && self.weight_seen(context.status));
    }

    /// Returns the template that the promotion gave to the stable, or that the guard began with.
    pub(super) fn promoted_template(&self, context: RolloutContext<'_>) -> Option<TemplateHash> {
        if !self.is_roll() {
            return self.basis.as_ref().map(|basis| basis.template.clone());
        }
        let stable = context.status?.stable.as_ref()?;
        self.has_new_images(stable).then(|| stable.template.clone())
    }
}
