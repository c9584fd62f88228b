//! Somebody else's hand: what a person, a tool or another controller has changed meanwhile, and what follows from it.
//!
//! Three kinds of change are told apart. What the rollout rests on (the stable's template, its size by hand) is not ours
//! to change back: it is held and named. What is ours (the canary, its share of the route) is put back, but no more than
//! twice: whoever changes it a third time means it. And an autoscaler's changes are what it is for: the canary's size
//! follows them at the next step.

use super::{Rollout, RolloutContext, Task};
use crate::ids::{TemplateHash, Weight};
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::policy::Traffic;
use crate::rollout::phase::{Phase, Trigger};
use crate::rollout::reason::Reason;

/// So often somebody's change of what is ours is changed back.
const MAX_REVERTS: u32 = 2;

/// Who scales workloads for a living, by the names of their field managers.
const AUTOSCALERS: [&str; 4] = ["kube-controller-manager", "autoscal", "keda", "bellwether"];

impl Rollout {
    /// Why somebody's change means that the rollout stays where it is and asks.
    pub(super) fn external_change(&self, world: RolloutContext<'_>) -> Option<Reason> {
        let status = world.status?;
        let stable = status.stable.as_ref()?;
        self.other_template(stable)
            .or_else(|| self.unsound(status, stable))
            .or_else(|| self.scaled_by_hand(stable))
            .or_else(|| self.reverted_too_often(status))
    }

    /// The stable's template is neither what it was nor what it was to become.
    fn other_template(&self, stable: &DeploymentStatus) -> Option<Reason> {
        let basis = self.basis.as_ref()?;
        let (was, is) = (stable.template == basis.template, self.has_new_images(stable));
        let expected = match self.phase {
            Phase::Preparing | Phase::Growing | Phase::Stepping => was,
            Phase::Promoting => was || is,
            Phase::Guarding => self.promoted.as_ref().is_none_or(|promoted| *promoted == stable.template),
            Phase::Preflight
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Restoring
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => true,
        };
        (!expected).then(|| Reason::TemplateEdited { by: stable.template_by.clone() })
    }

    /// The version that serves, or is to serve again, can't.
    fn unsound(&self, status: &WorkloadStatus, stable: &DeploymentStatus) -> Option<Reason> {
        if self.phase == Phase::Restoring && self.back_to.as_ref() == Some(&stable.template) {
            return stable.trouble.clone().map(|trouble| Reason::RestoreFailed { trouble });
        }
        let canary = status.canary.as_ref().map_or(0, |canary| canary.available);
        let broken = self.phase.rises() && stable.replicas > 0 && stable.available == 0 && canary > 0;
        broken.then(|| Reason::StableBroken { replicas: stable.replicas, trouble: stable.trouble.clone() })
    }

    fn scaled_by_hand(&self, stable: &DeploymentStatus) -> Option<Reason> {
        let from = self.basis.as_ref()?.replicas;
        let by = stable.replicas_by.as_ref().filter(|by| !AUTOSCALERS.iter().any(|known| by.contains(known)))?;
        let scaled = self.phase.rises() && stable.replicas != from;
        scaled.then(|| Reason::Scaled { from, to: stable.replicas, by: by.clone() })
    }

    /// What is ours was changed once more after it had been put back as often as we do.
    fn reverted_too_often(&self, status: &WorkloadStatus) -> Option<Reason> {
        let (what, by) = self.changed_by_others(status)?;
        (self.revert_count >= MAX_REVERTS).then(|| Reason::RevertedTooOften {
            what: what.to_owned(),
            by,
            times: self.revert_count,
        })
    }

    /// What is ours was changed by somebody, and is to be put back.
    pub(super) fn to_revert(&self, world: RolloutContext<'_>) -> Option<(Trigger, Reason)> {
        let status = world.status?;
        let made = self.canary_made && !self.observes();
        if made && status.canary.is_none() && self.has_canary_in_traffic() {
            return Some((Trigger::GaveUp, Reason::CanaryDeleted));
        }
        let (what, by) = self.changed_by_others(status).filter(|_| self.revert_count < MAX_REVERTS)?;
        Some((Trigger::Reverted, Reason::Reverted { what: what.to_owned(), by }))
    }

    fn has_canary_in_traffic(&self) -> bool {
        self.phase == Phase::Stepping || (self.phase == Phase::Growing && self.weight > Weight::ZERO)
    }

    /// What is not as it was seen to be after it had been done, and who did that.
    fn changed_by_others(&self, status: &WorkloadStatus) -> Option<(&'static str, Option<String>)> {
        let canary = status.canary.as_ref()?;
        if self.phase != Phase::Stepping {
            return None;
        }
        if !self.has_new_images(canary) || canary.replicas != self.size() {
            let by = canary.template_by.clone().or_else(|| canary.replicas_by.clone());
            return Some(("the canary", by));
        }
        let baseline = status.baseline.as_ref();
        if self.policy.fresh_baseline && baseline.is_none_or(|baseline| baseline.replicas != self.size()) {
            return Some(("the fresh baseline", baseline.and_then(|baseline| baseline.replicas_by.clone())));
        }
        let by_weight = self.policy.traffic != Traffic::Replicas && self.settled;
        let share = status.routed.map(|routed| routed.weight);
        (by_weight && share != Some(self.asked())).then(|| ("the canary's share of the route", status.route_by.clone()))
    }

    /// Once the step's share has been seen as it was asked for, a difference is somebody's doing. (The canary was seen as it
    /// was asked for before the step began.)
    pub(super) fn follow_settling(&mut self, world: RolloutContext<'_>) {
        let asked = self.phase == Phase::Stepping && self.progress >= 1 && !self.observes();
        self.settled = self.settled || (asked && self.weight_seen(world.status));
    }

    /// The template that the stable has by our doing, or had when the guard began.
    pub(super) fn standing_template(&self, world: RolloutContext<'_>) -> Option<TemplateHash> {
        if matches!(self.task, Task::Guard { .. }) {
            return self.basis.as_ref().map(|basis| basis.template.clone());
        }
        let stable = world.status?.stable.as_ref()?;
        self.has_new_images(stable).then(|| stable.template.clone())
    }
}
