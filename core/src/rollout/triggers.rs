//! What has happened: from all that the rollout knows to the trigger that the phase table has a line for.

use super::{Rollout, RolloutContext};
use crate::ids::Weight;
use crate::input::report::SuiteResult;
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::judge::reward::Leader;
use crate::policy::{Stays, Then, Traffic};
use crate::rollout::analysis::AnalysisStatus;
use crate::rollout::phase::{NextPhase, Phase, Trigger, next};
use crate::rollout::reason::Reason;
use crate::time::{Span, Timestamp};

impl Rollout {
    /// The first thing, in order of urgency, that has happened.
    pub(super) fn trigger(&self, world: RolloutContext<'_>) -> Option<(Trigger, Reason)> {
        // What leads nowhere from here must not hide what does.
        let leads = |found: Option<(Trigger, Reason)>| {
            found.filter(|(trigger, _)| matches!(next(self.phase, *trigger), NextPhase::To(_)))
        };
        leads(self.gone(world))
            .or_else(|| leads(self.failed(world)))
            .or_else(|| leads(self.to_revert(world)))
            .or_else(|| leads(self.unfit(world)))
            .or_else(|| leads(self.regressed()))
            .or_else(|| leads(self.lost(world.now)))
            .or_else(|| leads(self.reached(world)))
            .or_else(|| leads(self.patience_expired(world.now)))
            .or_else(|| leads(self.hold_expired(world.now)))
            .or_else(|| leads(self.overdue(world)))
    }

    pub(super) fn gone(&self, world: RolloutContext<'_>) -> Option<(Trigger, Reason)> {
        let (basis, status) = (self.basis.as_ref()?, world.status?);
        let message = match &status.stable {
            Some(stable) if stable.uid == basis.stable_uid => return None,
            Some(_) => "it was deleted, and another one has its name",
            None => "it was deleted",
        };
        let reason = Reason::NoWorkload { workload: self.workload.clone(), message: message.to_owned() };
        Some((Trigger::WorkloadGone, reason))
    }

    pub(super) fn failed(&self, world: RolloutContext<'_>) -> Option<(Trigger, Reason)> {
        if self.observes() {
            return None;
        }
        let status = world.status?;
        if let Some(trouble) = status.canary.as_ref().filter(|_| self.canary_made).and_then(|arm| arm.trouble.clone()) {
            let has_started = self.phase != Phase::Preparing || self.progress > 0;
            if has_started && next(self.phase, Trigger::CanaryFailed) != NextPhase::Stay {
                return Some((Trigger::CanaryFailed, Reason::CanaryFailed { trouble }));
            }
        }
        let stable = status.stable.as_ref().filter(|arm| self.has_new_images(arm))?;
        let trouble = stable.trouble.clone()?;
        Some((Trigger::StableFailed, Reason::StableFailed { trouble }))
    }

    pub(super) fn has_new_images(&self, arm: &DeploymentStatus) -> bool {
        self.basis.as_ref().is_some_and(|basis| arm.images == basis.to)
    }

    /// A suite that the policy requires was run on what this brings in, and does not hold.
    fn unfit(&self, world: RolloutContext<'_>) -> Option<(Trigger, Reason)> {
        if !self.phase.is_before_promotion() {
            return None;
        }
        let failed = |suite: &String| self.report(suite, world).filter(|report| report.result == SuiteResult::Fail);
        let report = self.required().find_map(failed)?.clone();
        Some((Trigger::Refused, Reason::Tested { report: Box::new(report) }))
    }

    pub(super) fn regressed(&self) -> Option<(Trigger, Reason)> {
        match self.analysis.as_ref()?.standing() {
            AnalysisStatus::Regressed(evidence) => Some((Trigger::Regressed, Reason::Regressed { evidence })),
            AnalysisStatus::Pass(_) | AnalysisStatus::Blind(_) | AnalysisStatus::Insufficient(_) => None,
        }
    }

    pub(super) fn hold_expired(&self, now: Timestamp) -> Option<(Trigger, Reason)> {
        let held = self.held.as_ref()?;
        let after = Span::between(held.since, now);
        let reason = || Reason::HoldExpired { held: Box::new(held.reason.clone()), after };
        (after >= self.patience(&held.reason)?).then(|| (Trigger::GaveUp, reason()))
    }

    /// An A/B test that the stable has won, or that nobody has.
    fn lost(&self, now: Timestamp) -> Option<(Trigger, Reason)> {
        let (score, since) = self.score()?;
        let test = self.policy.ab.as_ref()?;
        let after = Span::between(since, now);
        match score.ahead {
            Leader::Stable if after >= self.least_time() => {
                Some((Trigger::Regressed, Reason::Lost { score: Box::new(score) }))
            }
            Leader::Nobody if after >= test.longest && test.on_draw == Stays::Stable => {
                Some((Trigger::GaveUp, Reason::Draw { score: Box::new(score), after, stays: test.on_draw }))
            }
            Leader::Stable | Leader::Nobody | Leader::Canary => None,
        }
    }

    /// Something is missing for longer than the policy's patience, and the policy says in words what to do then.
    pub(super) fn patience_expired(&self, now: Timestamp) -> Option<(Trigger, Reason)> {
        let (then, reason) = self.lack_of_evidence(now)?;
        match then {
            Then::Hold => None,
            Then::GiveUp => Some((Trigger::GaveUp, reason)),
            Then::RollBack => Some((Trigger::Regressed, reason)),
        }
    }

    /// What the phase is for has come about, and nothing stands in its way.
    pub(super) fn reached(&self, world: RolloutContext<'_>) -> Option<(Trigger, Reason)> {
        let (trigger, reason) = self.exit_condition(world)?;
        let stopped = trigger.rises() && (self.held.is_some() || self.blocked_by(trigger, world).is_some());
        (!stopped).then_some((trigger, reason))
    }

    /// What the phase is for has come about.
    pub(super) fn exit_condition(&self, world: RolloutContext<'_>) -> Option<(Trigger, Reason)> {
        if self.progress < self.acts().len() {
            return None;
        }
        let status = world.status;
        let took = Span::between(self.since, world.now);
        match self.phase {
            Phase::Preflight | Phase::Ended => None,
            Phase::Preparing | Phase::Growing => {
                let size = self.size();
                self.canary_available(status)
                    .then_some((Trigger::CanaryReady, Reason::CanaryReady { replicas: size, took }))
            }
            Phase::Stepping => self.step_passed(status, world.now),
            Phase::Promoting => {
                let stable = status.and_then(|status| status.stable.as_ref());
                let ready = stable.is_some_and(|arm| self.has_new_images(arm) && arm.is_settled());
                let replicas = stable.map_or(0, |arm| arm.available);
                (ready || self.observes()).then_some((Trigger::StableReady, Reason::StableReady { replicas, took }))
            }
            Phase::Returning | Phase::Draining => {
                (self.observes() || self.is_empty(status)).then_some((Trigger::Emptied, Reason::Emptied))
            }
            Phase::Cleaning | Phase::Removing => {
                let gone = status.is_none_or(WorkloadStatus::has_nothing_of_ours);
                (gone || !self.canary_made || self.observes()).then_some((Trigger::CanaryGone, Reason::CanaryGone))
            }
            Phase::Restoring => {
                let stable = status.and_then(|status| status.stable.as_ref());
                let back = stable.is_some_and(|arm| self.back_to.as_ref() == Some(&arm.template) && arm.is_settled());
                let replicas = stable.map_or(0, |arm| arm.available);
                (back || self.observes()).then_some((Trigger::StableReady, Reason::Restored { replicas }))
            }
            Phase::Guarding => self.guard_passed(world.now),
        }
    }

    /// The canary is available, and so is the fresh baseline where one is to stand beside it.
    pub(super) fn canary_available(&self, status: Option<&WorkloadStatus>) -> bool {
        self.canary_alone_available(status) && (self.observes() || !self.lacks_baseline(status))
    }

    pub(super) fn canary_alone_available(&self, status: Option<&WorkloadStatus>) -> bool {
        let canary = status.and_then(|status| status.canary.as_ref());
        self.observes() || canary.is_some_and(|arm| arm.has_available(self.size()) && self.has_new_images(arm))
    }

    pub(super) fn lacks_baseline(&self, status: Option<&WorkloadStatus>) -> bool {
        let baseline = status.and_then(|status| status.baseline.as_ref());
        self.policy.fresh_baseline && !baseline.is_some_and(|arm| arm.has_available(self.size()))
    }

    pub(super) fn is_empty(&self, status: Option<&WorkloadStatus>) -> bool {
        let routed = status.and_then(|status| status.routed);
        match self.policy.traffic {
            // Pods behind one Service have traffic until they are gone; there is no weight to wait for.
            Traffic::Replicas => true,
            Traffic::Gateway { .. } => {
                !self.canary_made || routed.is_none_or(|routed| routed.accepted && routed.weight == Weight::ZERO)
            }
        }
    }

    pub(super) fn weight_seen(&self, status: Option<&WorkloadStatus>) -> bool {
        if self.observes() {
            return true;
        }
        match self.policy.traffic {
            Traffic::Replicas => self.canary_available(status),
            Traffic::Gateway { .. } => {
                let routed = status.and_then(|status| status.routed);
                routed.is_some_and(|routed| routed.accepted && routed.weight == self.asked())
            }
        }
    }

    pub(super) fn step_passed(&self, status: Option<&WorkloadStatus>, now: Timestamp) -> Option<(Trigger, Reason)> {
        let step = self.policy.steps.get(self.step)?;
        let analysis = self.analysis.as_ref().filter(|_| self.analyzes_this_step())?;
        let AnalysisStatus::Pass(evidence) = analysis.standing() else { return None };
        let passed = analysis.passed?;
        if now < step.pause.after(passed) || !self.weight_seen(status) {
            return None;
        }
        if let (Some((score, since)), Some(test)) = (self.score(), &self.policy.ab) {
            let after = Span::between(since, now);
            let score = Box::new(score);
            return match score.ahead {
                Leader::Canary => Some((Trigger::LastStepPassed, Reason::Won { score })),
                Leader::Nobody if after >= test.longest && test.on_draw == Stays::Canary => {
                    Some((Trigger::LastStepPassed, Reason::Draw { score, after, stays: test.on_draw }))
                }
                Leader::Nobody | Leader::Stable => None,
            };
        }
        let last = self.step + 1 == self.policy.steps.len();
        let trigger = if last { Trigger::LastStepPassed } else { Trigger::StepPassed };
        Some((trigger, Reason::Passed { evidence, after: Span::between(analysis.since, now) }))
    }

    pub(super) fn guard_passed(&self, now: Timestamp) -> Option<(Trigger, Reason)> {
        if self.policy.guard.is_none() {
            return Some((Trigger::GuardPassed, Reason::NoGuard));
        }
        let analysis = self.analysis.as_ref()?;
        let AnalysisStatus::Pass(evidence) = analysis.standing() else { return None };
        analysis.passed?;
        Some((Trigger::GuardPassed, Reason::GuardPassed { evidence, after: Span::between(analysis.since, now) }))
    }
}
