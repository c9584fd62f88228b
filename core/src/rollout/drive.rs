//! The movement of a rollout: facts come in, triggers fire, phases change, decisions go out.

use super::cause::{Conclusion, EndCause, Fired};
use super::current::PhaseState;
use super::decision::{Decision, DecisionKind};
use super::in_flight::LONGEST_WAIT;
use super::phase::{NextPhase, Phase, Trigger, next};
use super::reason::Reason;
use super::state::{HistoryEntry, PointerChange, Rollout, RolloutContext, StepOutput};
use crate::ids::{EffectId, EventId};
use crate::input::event::{Failure, FailureKind, Outcome};
use crate::measure::block::Block;
use crate::time::Timestamp;

/// The number of history entries that a rollout keeps. The decisions topic has all of them.
const MAX_HISTORY: usize = 64;

impl Rollout {
    /// Records that a person requested an earlier rollout's change again.
    pub fn note_retry(&mut self, out: &mut StepOutput) {
        let (reason, now) = (self.reason.clone(), self.started);
        self.decide(DecisionKind::Retry, reason, now, out);
    }

    /// Ends the rollout before it has begun.
    pub fn end_unbegun(&mut self, fired: Fired, now: Timestamp, out: &mut StepOutput) {
        let context =
            RolloutContext { now, status: None, last_good: None, frozen: None, quarantine: &[], reports: &[] };
        self.move_on(fired, context, out);
    }

    /// Ends the rollout in favour of a newer request.
    pub fn superseded(&mut self, by: EventId, context: RolloutContext<'_>, out: &mut StepOutput) {
        let reason = Reason::Superseded { by };
        self.move_on(Fired::ending(Trigger::Superseded, EndCause::Superseded, reason), context, out);
        self.drive(context, out);
    }

    /// Ends the rollout because the images of the stable were requested again.
    pub fn recalled(&mut self, by: EventId, context: RolloutContext<'_>, out: &mut StepOutput) {
        let reason = Reason::Recalled { by };
        self.move_on(Fired::ending(Trigger::Recalled, EndCause::Recalled, reason), context, out);
        self.drive(context, out);
    }

    /// Notes that no policy covers the workload any more, and tells people once. The rollout keeps its policy.
    pub fn uncovered(&mut self, context: RolloutContext<'_>, out: &mut StepOutput) -> bool {
        if self.is_uncovered {
            return false;
        }
        self.is_uncovered = true;
        let reason = Reason::Uncovered { policy: self.policy.name.clone() };
        self.decide(DecisionKind::Warn, reason, context.now, out);
        true
    }

    /// Takes a block of counts in. Returns `false` if the block isn't new or isn't needed, or ends in the future: it was read while
    /// the clock ran ahead, and no block would be new until that time has come.
    pub fn measured(&mut self, block: Block, context: RolloutContext<'_>, out: &mut StepOutput) -> bool {
        let is_new = self.measured.last_block.is_none_or(|last| block.to > last);
        if !is_new || block.to > context.now || !self.is_watched() {
            return false;
        }
        self.measured.last_block = Some(block.to);
        self.note_requests(&block);
        self.count_rewards(&block);
        self.analyze(block, context);
        self.drive(context, out);
        true
    }

    /// Takes the outcome of an effect in. Returns `false` if the effect isn't the one in flight.
    pub fn performed(
        &mut self,
        effect: &EffectId,
        outcome: Outcome,
        context: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> bool {
        if self.current.in_flight.as_ref().is_none_or(|in_flight| in_flight.effect.id != *effect) {
            return false;
        }
        match outcome {
            Outcome::Done | Outcome::Sent { .. } => self.current.act_done(context.now),
            Outcome::Pointed { before } => {
                self.pointer = Some(PointerChange { before });
                self.current.act_done(context.now);
            }
            Outcome::Probed { problems, calibrations, .. } if problems.is_empty() => {
                self.measured.calibrations = calibrations;
                self.current.act_done(context.now);
            }
            Outcome::Probed { problems, .. } => {
                self.current.act_done(context.now);
                let reason = Reason::Unreadable { problems };
                self.move_on(Fired::ending(Trigger::Refused, EndCause::Refused, reason), context, out);
            }
            Outcome::Preflight(preflight) => {
                self.current.act_done(context.now);
                if let Some(fired) = self.preflight_done(&preflight, context) {
                    self.move_on(fired, context, out);
                }
            }
            Outcome::Failed(failure) => self.act_failed(failure, context, out),
        }
        self.drive(context, out);
        true
    }

    fn act_failed(&mut self, failure: Failure, context: RolloutContext<'_>, out: &mut StepOutput) {
        let Some(in_flight) = &mut self.current.in_flight else { return };
        let act = in_flight.effect.act.name().to_owned();
        let message = failure.message.clone();
        let refused = match failure.kind {
            FailureKind::Gone => {
                let reason = Reason::NoWorkload { workload: self.workload.clone(), message };
                let fired = Fired::ending(Trigger::WorkloadGone, EndCause::WorkloadGone, reason);
                self.current.in_flight = None;
                return self.move_on(fired, context, out);
            }
            FailureKind::Refused => true,
            // Before the first traffic a missing permission is an answer. After it, the permission may still be granted.
            FailureKind::Forbidden => matches!(self.current.phase, Phase::Preflight | Phase::Preparing),
            FailureKind::Unavailable | FailureKind::Conflict | FailureKind::Fenced => false,
        };
        in_flight.failed(failure, context.now, LONGEST_WAIT);
        let attempts = in_flight.attempts;
        if refused && self.can_move_on(Trigger::Refused) {
            let reason = Reason::ActRefused { act, message };
            self.current.in_flight = None;
            self.move_on(Fired::ending(Trigger::Refused, EndCause::Refused, reason), context, out);
        } else {
            self.reason = Reason::Failing { act, message, attempts };
        }
    }

    /// Moves on as long as triggers fire, and follows acts and holds. A second call without new facts changes nothing.
    pub fn drive(&mut self, context: RolloutContext<'_>, out: &mut StepOutput) {
        // Each round enters another phase or finishes an act. A good rollout needs fewer rounds than this bound, which only a
        // cycle in the phase table could reach.
        for _ in 0..2 * Phase::ALL.len() {
            let before = (self.phase(), self.step, self.current.done);
            self.note_digests(context.status);
            self.note_settled(context);
            self.note_trouble(context);
            self.note_progress(context);
            self.begin_analysis(context);
            self.note_pass(context.now);
            self.note_silence(context.now);
            self.warn(context.now, out);
            self.follow_hold(context, out);
            self.explain_waiting();
            self.lower_remainder(context);
            self.next_act(context, out);
            self.note_restarts(context);
            if let Some(fired) = self.trigger(context) {
                self.move_on(fired, context, out);
            }
            if (self.phase(), self.step, self.current.done) == before {
                break;
            }
        }
    }

    /// Moves to the phase that the table has for a trigger. Where it has none, the reason alone is kept.
    pub(super) fn move_on(&mut self, fired: Fired, context: RolloutContext<'_>, out: &mut StepOutput) {
        let Fired { trigger, end, reason } = fired;
        let from = self.phase();
        let NextPhase::To(to) = next(from, trigger) else {
            self.reason = reason;
            return;
        };
        if let Some(cause) = end.filter(|_| self.conclusion.is_none()) {
            self.conclusion = Some(Conclusion { cause, reason: reason.clone(), at: context.now });
            // The analysis goes on while the canary drains, and does not outlast the rollout.
            self.measured.at_end =
                self.measured.analysis.iter().flat_map(|analysis| analysis.evidence()).cloned().collect();
        }
        match trigger {
            Trigger::CanaryGone => self.canary.exists = false,
            Trigger::StepPassed => self.step += 1,
            Trigger::Reverted => self.canary.reverts += 1,
            Trigger::CanaryUnready => self.canary.withdrawals += 1,
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::Refused
            | Trigger::Superseded
            | Trigger::CanaryReady
            | Trigger::CanaryFailed
            | Trigger::LastStepPassed
            | Trigger::Regressed
            | Trigger::GaveUp
            | Trigger::Overdue
            | Trigger::StableReady
            | Trigger::StableFailed
            | Trigger::Emptied
            | Trigger::GuardPassed
            | Trigger::WorkloadGone
            | Trigger::Recalled
            | Trigger::Rebased => {}
        }
        self.enter(to, context);
        self.record(DecisionKind::of(trigger, to), from, end, reason, context.now, out);
    }

    /// Enters a phase, and prepares whatever it needs of the other parts.
    fn enter(&mut self, to: Phase, context: RolloutContext<'_>) {
        self.current = PhaseState::enter(to, context.now);
        match to {
            Phase::Preparing | Phase::Growing => self.canary.size = self.canary_size(self.step, context.status),
            Phase::Restoring => {
                // What ran before this rollout; of a version that another tool has deployed that is not known.
                let good = context.last_good.filter(|_| !self.is_roll()).map(|good| good.template.clone());
                self.restores = good.or_else(|| self.basis.as_ref().map(|basis| basis.template.clone()));
            }
            // When the traffic is back, the step is judged anew.
            Phase::Withdrawn => self.measured.analysis = None,
            Phase::Returning => self.note_promoted(context),
            Phase::Guarding => {
                self.note_promoted(context);
                self.measured.analysis = None;
            }
            Phase::Ended => {
                self.ended = Some(context.now);
                self.measured.analysis = None;
            }
            Phase::Preflight
            | Phase::Stepping
            | Phase::Promoting
            | Phase::Cleaning
            | Phase::Draining
            | Phase::Removing => {}
        }
    }

    fn note_promoted(&mut self, context: RolloutContext<'_>) {
        self.promoted = self.promoted_template(context).or(self.promoted.take());
    }

    /// Records a decision that stays in the present phase.
    pub(super) fn decide(&mut self, kind: DecisionKind, reason: Reason, now: Timestamp, out: &mut StepOutput) {
        self.record(kind, self.phase(), None, reason, now, out);
    }

    fn record(
        &mut self,
        kind: DecisionKind,
        from: Phase,
        cause: Option<EndCause>,
        reason: Reason,
        now: Timestamp,
        out: &mut StepOutput,
    ) {
        let why = reason.to_string();
        self.reason = reason.clone();
        let by = reason.actor().map(str::to_owned);
        self.history.push(HistoryEntry { at: now, kind, to: self.phase(), step: self.step, why: why.clone(), by });
        if self.history.len() > MAX_HISTORY {
            self.history.remove(1);
        }
        out.decisions.push(Decision {
            rollout: self.id.clone(),
            workload: self.workload.clone(),
            n: self.decisions,
            at: now,
            kind,
            from,
            to: self.phase(),
            step: self.step,
            weight: self.asked(),
            ending: self.ending(),
            cause,
            observed_only: self.observes(),
            reason,
            why,
        });
        self.decisions += 1;
    }
}
