//! The triggers: from everything that a rollout knows to the row of the phase table that applies.

use super::analysis::AnalysisStatus;
use super::cause::{EndCause, Fired};
use super::phase::{Phase, Trigger};
use super::reason::Reason;
use super::state::{Rollout, RolloutContext};
use super::timers::Timer;
use crate::input::report::SuiteResult;
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::policy::{OnDraw, PatienceAction};
use crate::rollout::reward::Leader;
use crate::time::{Span, Timestamp};

impl Rollout {
    /// Returns the most urgent trigger that has fired and that the phase table has a way out for.
    pub(super) fn trigger(&self, context: RolloutContext<'_>) -> Option<Fired> {
        // Skip triggers that the table ignores in this phase: they must not hide those that lead on.
        let leads = |fired: Option<Fired>| fired.filter(|fired| self.can_move_on(fired.trigger));
        leads(self.workload_gone(context))
            .or_else(|| leads(self.released(context)))
            .or_else(|| leads(self.pods_failed(context)))
            .or_else(|| leads(self.restarts_more()))
            .or_else(|| leads(self.canary_unready(context)))
            .or_else(|| leads(self.to_revert(context)))
            .or_else(|| leads(self.suite_failed(context)))
            .or_else(|| leads(self.regressed()))
            .or_else(|| leads(self.test_lost(context.now)))
            .or_else(|| leads(self.exit(context)))
            .or_else(|| leads(self.patience_expired(context.now)))
            .or_else(|| leads(self.hold_expired(context.now)))
            .or_else(|| leads(self.overdue(context)))
    }

    fn workload_gone(&self, context: RolloutContext<'_>) -> Option<Fired> {
        let (basis, status) = (self.basis.as_ref()?, context.status?);
        let message = match &status.stable {
            Some(stable) if stable.uid == basis.stable_uid => return None,
            Some(_) => "it was deleted, and another one was created with its name",
            None => "it was deleted",
        };
        let reason = Reason::NoWorkload { workload: self.workload.clone(), message: message.to_owned() };
        Some(Fired::ending(Trigger::WorkloadGone, EndCause::WorkloadGone, reason))
    }

    /// A person has given all traffic to the stable without the daemon. During a promotion the traffic returns anyway.
    fn released(&self, context: RolloutContext<'_>) -> Option<Fired> {
        let release = context.status?.released.as_ref().filter(|release| release.rollout == self.id)?;
        let reason = Reason::Released { author: release.author.clone() };
        let fired = Fired::ending(Trigger::Recalled, EndCause::Aborted, reason);
        self.phase().is_before_promotion().then_some(fired)
    }

    /// A required suite was run on the version and has failed.
    fn suite_failed(&self, context: RolloutContext<'_>) -> Option<Fired> {
        if !self.phase().is_before_promotion() {
            return None;
        }
        let failed = |suite: &String| self.report(suite, context).filter(|report| report.result == SuiteResult::Fail);
        let report = self.required().find_map(failed)?.clone();
        Some(Fired::ending(Trigger::Refused, EndCause::Refused, Reason::Tested { report: Box::new(report) }))
    }

    fn regressed(&self) -> Option<Fired> {
        match self.measured.analysis.as_ref()?.status() {
            AnalysisStatus::Regressed(evidence) => {
                Some(Fired::ending(Trigger::Regressed, EndCause::Regressed, Reason::Regressed { evidence }))
            }
            AnalysisStatus::Pass(_)
            | AnalysisStatus::Blind(_)
            | AnalysisStatus::Insufficient(_)
            | AnalysisStatus::Unmeasured => None,
        }
    }

    /// The stable has won the A/B test, or the test was a draw and the stable stays.
    fn test_lost(&self, now: Timestamp) -> Option<Fired> {
        let (score, since) = self.score()?;
        let test = self.policy.ab.as_ref()?;
        match score.ahead {
            Leader::Stable if self.is_due(Timer::MinTime, now) => {
                let reason = Reason::Lost { score: Box::new(score) };
                Some(Fired::ending(Trigger::Regressed, EndCause::LostTest, reason))
            }
            Leader::None if self.is_due(Timer::TestEnds, now) && test.on_draw == OnDraw::Stable => {
                let after = Span::between(since, now);
                let reason = Reason::Draw { score: Box::new(score), after, stays: test.on_draw };
                Some(Fired::ending(Trigger::GaveUp, EndCause::Undecided, reason))
            }
            Leader::Stable | Leader::None | Leader::Canary => None,
        }
    }

    /// The exit condition holds, and nothing blocks the way.
    fn exit(&self, context: RolloutContext<'_>) -> Option<Fired> {
        let fired = self.exit_condition(context)?;
        let held = || self.current.hold.is_some() || self.blocked_by(fired.trigger, context).is_some();
        if fired.trigger.rises() && held() { None } else { Some(fired) }
    }

    /// Evidence has been missing for longer than the policy's patience, and the policy ends the rollout then.
    fn patience_expired(&self, now: Timestamp) -> Option<Fired> {
        let missing = self.evidence_missing(now)?;
        match missing.action {
            PatienceAction::Hold => None,
            PatienceAction::GiveUp => Some(Fired::ending(Trigger::GaveUp, EndCause::Undecided, missing.reason)),
            PatienceAction::RollBack => {
                Some(Fired::ending(Trigger::Regressed, EndCause::EvidenceMissing, missing.reason))
            }
        }
    }

    fn hold_expired(&self, now: Timestamp) -> Option<Fired> {
        let hold = self.current.hold.as_ref().filter(|_| self.is_due(Timer::HoldExpires, now))?;
        let reason = Reason::HoldExpired { held: Box::new(hold.reason.clone()), after: Span::between(hold.since, now) };
        Some(Fired::ending(Trigger::GaveUp, EndCause::Undecided, reason))
    }

    fn overdue(&self, context: RolloutContext<'_>) -> Option<Fired> {
        let held = self.current.hold.is_some() || self.stalled(context).is_some();
        if !self.is_due(Timer::PhaseDeadline, context.now) || held {
            return None;
        }
        // The deadline may end before the grace. The problem says more than the time.
        if let Some(failed) = self.pods_in_trouble(Timestamp::MAX) {
            return Some(failed);
        }
        let within = self.time_limit()?;
        let not_ready = |reason| Some(Fired::ending(Trigger::Overdue, EndCause::NotReady, reason));
        let status = context.status;
        match self.phase() {
            // The version can't be blamed if only the baseline isn't available.
            Phase::Preparing | Phase::Growing if self.canary_alone_available(status) && self.lacks_baseline(status) => {
                let reason = self.baseline_not_ready(status, within);
                Some(Fired::ending(Trigger::GaveUp, EndCause::Undecided, reason))
            }
            // It is held while its preflight has no answer.
            Phase::Preflight => None,
            Phase::Preparing | Phase::Growing | Phase::Withdrawn => {
                let canary = status.and_then(|status| status.canary.as_ref());
                let available = canary.map_or(0, |canary| canary.available);
                not_ready(Reason::NotReady { available, replicas: self.canary.size, within })
            }
            Phase::Promoting => {
                let stable = status.and_then(|status| status.stable.as_ref());
                not_ready(Reason::StableNotReady {
                    available: stable.map_or(0, |stable| stable.updated.min(stable.available)),
                    replicas: stable.map_or(0, |stable| stable.replicas),
                    within,
                })
            }
            Phase::Stepping
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Guarding
            | Phase::Restoring
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => not_ready(self.slow_reason(context.now)),
        }
    }

    fn baseline_not_ready(&self, status: Option<&WorkloadStatus>, within: Span) -> Reason {
        let baseline = status.and_then(|status| status.baseline.as_ref());
        Reason::BaselineNotReady {
            available: baseline.map_or(0, |baseline| baseline.available),
            replicas: self.canary.size,
            within,
            problem: baseline.and_then(|baseline| baseline.problem.clone()),
        }
    }

    /// Returns the trigger with which the phase ends when all goes well, once its acts are done and its exit condition holds.
    pub(super) fn exit_condition(&self, context: RolloutContext<'_>) -> Option<Fired> {
        if !self.acts_done() {
            return None;
        }
        let status = context.status;
        let took = Span::between(self.current.since, context.now);
        let stable = status.and_then(|status| status.stable.as_ref());
        let replicas = stable.map_or(0, |stable| stable.available);
        let onward = |holds: bool, trigger, reason| holds.then(|| Fired::onward(trigger, reason));
        match self.phase() {
            Phase::Preflight | Phase::Ended => None,
            Phase::Preparing | Phase::Growing | Phase::Withdrawn => {
                let reason = Reason::CanaryReady { replicas: self.canary.size, took };
                // The route names the canary before it has any weight, so that a refusal costs no request.
                let ready = self.canary_available(status) && status.and_then(WorkloadStatus::route_refusal).is_none();
                onward(ready, Trigger::CanaryReady, reason)
            }
            Phase::Stepping => self.step_passed(context),
            Phase::Promoting => {
                let ready = stable.is_some_and(|stable| self.has_new_images(stable) && self.serves_again(stable));
                onward(ready || self.observes(), Trigger::StableReady, Reason::StableReady { replicas, took })
            }
            Phase::Returning | Phase::Draining => {
                onward(self.observes() || self.canary_is_empty(status, context.now), Trigger::Emptied, Reason::Emptied)
            }
            Phase::Cleaning | Phase::Removing => {
                let gone = status.is_some_and(WorkloadStatus::has_no_rollout_objects);
                let done = gone || !self.canary.exists || self.observes();
                onward(done, Trigger::CanaryGone, Reason::CanaryGone)
            }
            Phase::Restoring => {
                // Admission may have added a digest to the old images, which changes the template's hash.
                let back =
                    |it: &DeploymentStatus| self.restores.as_ref() == Some(&it.template) || self.has_old_images(it);
                let restored = stable.is_some_and(|stable| back(stable) && self.serves_again(stable));
                onward(restored || self.observes(), Trigger::StableReady, Reason::Restored { replicas })
            }
            Phase::Guarding => self.guard_passed(context.now),
        }
    }

    fn step_passed(&self, context: RolloutContext<'_>) -> Option<Fired> {
        let now = context.now;
        let analysis = self.judging().filter(|_| self.has_recent_block(now))?;
        let AnalysisStatus::Pass(evidence) = analysis.status() else { return None };
        if !self.is_due(Timer::Pause, now)
            || !self.has_its_share(context.status)
            || self.requests_missing(analysis).is_some()
        {
            return None;
        }
        if let (Some((score, since)), Some(test)) = (self.score(), &self.policy.ab) {
            let after = Span::between(since, now);
            let score = Box::new(score);
            return match score.ahead {
                Leader::Canary => Some(Fired::onward(Trigger::LastStepPassed, Reason::Won { score })),
                Leader::None if self.is_due(Timer::TestEnds, now) && test.on_draw == OnDraw::Canary => {
                    let reason = Reason::Draw { score, after, stays: test.on_draw };
                    Some(Fired::onward(Trigger::LastStepPassed, reason))
                }
                Leader::None | Leader::Stable => None,
            };
        }
        let last = self.step + 1 == self.policy.steps.len();
        let trigger = if last { Trigger::LastStepPassed } else { Trigger::StepPassed };
        Some(Fired::onward(trigger, Reason::Passed { evidence, after: Span::between(analysis.since, now) }))
    }

    fn guard_passed(&self, now: Timestamp) -> Option<Fired> {
        let promoted = |reason| Some(Fired::ending(Trigger::GuardPassed, EndCause::Promoted, reason));
        if self.policy.guard.is_none() {
            return promoted(Reason::NoGuard);
        }
        let analysis = self.measured.analysis.as_ref().filter(|_| self.has_recent_block(now))?;
        let AnalysisStatus::Pass(evidence) = analysis.status() else { return None };
        analysis.passed.filter(|_| self.unseen_since.is_none())?;
        promoted(Reason::GuardPassed { evidence, after: Span::between(analysis.since, now) })
    }
}
