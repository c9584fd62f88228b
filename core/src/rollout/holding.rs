//! Holds: the causes for which a rollout stays in its phase and asks, and their ends.
//!
//! There is one hold at a time. It keeps the weight, stops the phase's deadline, never stops a rollback, and ends when its cause
//! is gone or its patience is over.

use super::analysis::{Shortfall, StepAnalysis};
use super::cause::{Hold, HoldCause};
use super::decision::DecisionKind;
use super::phase::{NextPhase, Phase, Trigger, next};
use super::reason::Reason;
use super::state::{Rollout, RolloutContext, StepOutput};
use super::timers::Timer;
use crate::ids::Weight;
use crate::input::report::{self, RequiredSuite, SuiteReport, SuiteResult};
use crate::input::status::WorkloadStatus;
use crate::policy::{Approval, ApprovalPoint, PatienceAction};
use crate::stats::share::ShareVerdict;
use crate::time::{Span, Timestamp};

impl Rollout {
    /// Returns the cause for which the rollout should hold, and its explanation. The first cause in this order counts.
    fn hold_cause(&self, context: RolloutContext<'_>) -> Option<(HoldCause, Reason)> {
        if self.phase() == Phase::Preflight && self.basis.is_some() {
            return Some((HoldCause::NoLastGood, Reason::NoLastGood));
        }
        self.external_change(context)
            .or_else(|| self.paused_or_frozen(context))
            .or_else(|| self.slow_phase(context))
            .or_else(|| self.share_not_accepted(context))
            .or_else(|| self.evidence_to_hold_for(context.now))
            .or_else(|| self.exit_condition(context).and_then(|fired| self.blocked_by(fired.trigger, context)))
    }

    /// Returns the hold for a pause by a person, or for a freeze in force.
    pub(super) fn paused_or_frozen(&self, context: RolloutContext<'_>) -> Option<(HoldCause, Reason)> {
        if !self.phase().rises() {
            return None;
        }
        if let Some(author) = self.orders.paused.clone() {
            return Some((HoldCause::Paused, Reason::Paused { author }));
        }
        let (scope, freeze) = context.frozen.filter(|_| self.is_roll())?;
        Some((HoldCause::Frozen { scope: scope.to_string(), until: freeze.until }, context.frozen_reason()?))
    }

    /// Returns the pause that a person has asked for and that holds from the next phase that can be held on.
    pub fn pause_ahead(&self) -> Option<Reason> {
        let author = self.orders.paused.clone().filter(|_| self.conclusion.is_none() && self.current.hold.is_none())?;
        Some(Reason::Paused { author })
    }

    /// Returns the hold for a phase that takes too long and has no other way out.
    fn slow_phase(&self, context: RolloutContext<'_>) -> Option<(HoldCause, Reason)> {
        // A hold for another cause keeps the phase from going on. Its time is left out for good when it ends.
        let held = self.current.hold.as_ref().filter(|hold| hold.cause != HoldCause::Slow);
        let held_for = held.map_or(Span::ZERO, |hold| Span::between(hold.since, context.now));
        if self.ends(Timer::PhaseDeadline).is_none_or(|at| held_for.after(at) > context.now) {
            return None;
        }
        let stays = next(self.phase(), Trigger::Overdue) == NextPhase::Stay;
        let reason = if stays { Some(self.slow_reason(context.now)) } else { self.stalled(context) };
        Some((HoldCause::Slow, reason?))
    }

    /// Returns why the phase takes long: the failing act, or the condition that it waits for.
    pub(super) fn slow_reason(&self, now: Timestamp) -> Reason {
        let in_flight = self.current.in_flight.as_ref();
        match in_flight.and_then(|in_flight| Some((in_flight, in_flight.failure.as_ref()?))) {
            Some((in_flight, failure)) => Reason::Failing {
                act: in_flight.effect.act.name().to_owned(),
                message: failure.message.clone(),
                attempts: in_flight.attempts,
            },
            None => self.waiting_reason(Span::between(self.current.since, now)),
        }
    }

    fn waiting_reason(&self, after: Span) -> Reason {
        Reason::Slow { waiting_for: self.phase().traits().waiting_for.to_owned(), after }
    }

    /// Returns the hold for a step that has passed while the gateway has not had its share accepted for `ready-within`.
    fn share_not_accepted(&self, context: RolloutContext<'_>) -> Option<(HoldCause, Reason)> {
        let analysis = self.judging().filter(|_| self.phase() == Phase::Stepping)?;
        let passed = analysis.passed.filter(|_| analysis.status().is_pass())?;
        let late = self.is_due(Timer::ShareDeadline, context.now) && !self.has_its_share(context.status);
        let waits = || self.waiting_reason(Span::between(passed, context.now));
        let refused = |message: &str| Reason::RouteRefused { message: message.to_owned() };
        late.then(|| {
            (HoldCause::Slow, context.status.and_then(WorkloadStatus::route_refusal).map_or_else(waits, refused))
        })
    }

    fn evidence_to_hold_for(&self, now: Timestamp) -> Option<(HoldCause, Reason)> {
        let missing = self.evidence_missing(now)?;
        (missing.action == PatienceAction::Hold).then_some((missing.cause, missing.reason))
    }

    /// Returns the evidence that has been missing for longer than the policy's patience.
    pub(super) fn evidence_missing(&self, now: Timestamp) -> Option<MissingEvidence> {
        let analysis = self.judging()?;
        if let Some((action, reason)) = self.requests_missing(analysis) {
            return Some(MissingEvidence { action, cause: HoldCause::ShareOff, reason });
        }
        if !self.is_due(Timer::Patience, now) {
            return None;
        }
        let (shortfall, _) = analysis.shortfall?;
        let (_, action) = shortfall.patience(&self.policy.patience);
        let cause = match shortfall {
            Shortfall::Visibility => HoldCause::Blind,
            Shortfall::Evidence => HoldCause::Insufficient,
        };
        Some(MissingEvidence { action, cause, reason: analysis.shortfall_reason()? })
    }

    /// Returns what follows from requests that are not counted where they should be: in the canary, or in some of its pods.
    pub(super) fn requests_missing(&self, analysis: &StepAnalysis) -> Option<(PatienceAction, Reason)> {
        self.share_off(analysis).or_else(|| self.silent(analysis)).or_else(|| mute(analysis))
    }

    /// Returns what follows from a share that is shown to be far from the asked one: with too much the rollout is held, and with
    /// hardly any it is given up, because the requests that are missing may be failing.
    fn share_off(&self, analysis: &StepAnalysis) -> Option<(PatienceAction, Reason)> {
        let (share, verdict) = (self.asked_share()?, analysis.share_verdict()?);
        let asked = self.achievable();
        // A gateway that has not followed yet splits the traffic as in the step before.
        let split = if share.before > 0.0 { share.before } else { share.share };
        let action = match verdict {
            ShareVerdict::TooMuch => PatienceAction::Hold,
            // Without a router the connections of clients stay with the pods that they have.
            ShareVerdict::TooLittle if self.policy.traffic.splits_by_weight() && analysis.gets_hardly_any(split) => {
                PatienceAction::GiveUp
            }
            ShareVerdict::TooLittle | ShareVerdict::AsAsked | ShareVerdict::Undecided => return None,
        };
        let (seen, n) = analysis.share()?;
        let stays = share.before == 0.0 && seen < share.share && analysis.stable_has_all(&share, None);
        Some((action, Reason::ShareOff { asked, seen, n, stays }))
    }

    /// Returns what follows from requests that no longer come when the canary has all of the traffic: it answers none, or there are
    /// none. There is no share of them that could tell.
    fn silent(&self, analysis: &StepAnalysis) -> Option<(PatienceAction, Reason)> {
        let share = self.asked_share().filter(|_| self.achievable() == Weight::FULL)?;
        let (missing, time) = analysis.silence(share.traffic)?;
        Some((PatienceAction::GiveUp, Reason::Silence { missing, time }))
    }

    /// Returns the hold for a canary that has grown while its requests could not be counted for longer than the patience. Its
    /// last step has passed, but nothing would show a failure under more traffic.
    fn blind_before_more_traffic(&self, now: Timestamp) -> Option<(HoldCause, Reason)> {
        let analysis = self.measured.analysis.as_ref().filter(|_| self.is_due(Timer::Uncounted, now))?;
        let since = self.uncounted_since(analysis)?;
        Some((HoldCause::Blind, analysis.shortfall_reason().unwrap_or(Reason::Unmeasured { since })))
    }

    /// Returns the time since which no request is counted, or from which on none is if no further block arrives; `None` if there was
    /// no block.
    pub(super) fn uncounted_since(&self, analysis: &StepAnalysis) -> Option<Timestamp> {
        match analysis.shortfall {
            Some((Shortfall::Visibility, since)) => Some(since),
            Some((Shortfall::Evidence, _)) | None => Some(self.policy.block_age.after(self.measured.last_block?)),
        }
    }

    /// Returns the reason why a way up is closed for now: a suite or an approval is missing, the canary can't be measured, or the
    /// change window is closed.
    pub(super) fn blocked_by(&self, trigger: Trigger, context: RolloutContext<'_>) -> Option<(HoldCause, Reason)> {
        if !trigger.rises() {
            return None;
        }
        // There is no traffic before every required suite has passed.
        if self.phase() == Phase::Preparing
            && let Some(suite) = self.unproven(context).next()
        {
            return Some((HoldCause::Suite { name: suite.clone() }, self.needs_report(suite, context)));
        }
        if let Some(approval) = self.needed_approval(trigger) {
            let cause = HoldCause::Approval { name: approval.name.clone() };
            let before = approval.before.to_string();
            return Some((cause, Reason::NeedsApproval { approval: approval.name.clone(), before }));
        }
        if let Some(blind) = self.blind_before_more_traffic(context.now) {
            return Some(blind);
        }
        let window = self.policy.window.as_ref()?;
        let opens = window.opens(context.now)?;
        Some((HoldCause::Window { opens }, Reason::OutsideWindow { window: window.to_string(), opens }))
    }

    fn needed_approval(&self, trigger: Trigger) -> Option<&Approval> {
        let before = if trigger == Trigger::LastStepPassed { ApprovalPoint::Promotion } else { ApprovalPoint::Traffic };
        // `preparing` leads to the first traffic; the steps after it need no approval.
        if before == ApprovalPoint::Traffic && self.phase() != Phase::Preparing {
            return None;
        }
        self.missing_approvals().find(|approval| approval.before == before)
    }

    /// Returns the required suites that no person has waived.
    pub(super) fn required(&self) -> impl Iterator<Item = &String> {
        self.policy.require.iter().filter(|suite| !self.orders.approved.contains(suite))
    }

    /// Returns the required suites that have not passed.
    pub(super) fn unproven(&self, context: RolloutContext<'_>) -> impl Iterator<Item = &String> {
        let passes =
            move |report: &SuiteReport| report.result == SuiteResult::Pass && !self.is_too_old(report, context);
        self.required().filter(move |suite| !self.report(suite, context).is_some_and(passes))
    }

    /// Whether the run of a report ended longer ago than the policy allows.
    fn is_too_old(&self, report: &SuiteReport, context: RolloutContext<'_>) -> bool {
        self.policy.require_max_age.is_some_and(|allowed| Span::between(report.at, context.now) > allowed)
    }

    /// Returns why a suite that has not passed holds the rollout: its report, or the reason why there is none that counts.
    fn needs_report(&self, suite: &str, context: RolloutContext<'_>) -> Reason {
        let suite = suite.to_owned();
        if let Some(report) = self.report(&suite, context) {
            let too_old = self.policy.require_max_age.filter(|_| self.is_too_old(report, context));
            return Reason::NeedsReport { suite, report: Some(Box::new(report.clone())), too_old, other: None };
        }
        let other = report::objection(context.reports, self.test_of(&suite), self.brings(&self.changes()));
        Reason::NeedsReport { suite, report: None, too_old: None, other }
    }

    /// Returns a required suite with the pin that the policy has for it.
    fn test_of<'a>(&'a self, suite: &'a str) -> RequiredSuite<'a> {
        RequiredSuite { name: suite, pin: self.policy.require_pins.get(suite).map(String::as_str) }
    }

    /// Returns the newest report of a suite, of the pinned test, on the combination that this rollout brings.
    pub(super) fn report<'a>(&self, suite: &str, context: RolloutContext<'a>) -> Option<&'a SuiteReport> {
        report::newest(context.reports, self.test_of(suite), self.brings(&self.changes()))
    }

    /// Returns the approvals that were not given.
    pub(super) fn missing_approvals(&self) -> impl Iterator<Item = &Approval> {
        self.policy.approvals.iter().filter(|approval| !self.orders.approved.contains(&approval.name))
    }

    /// Begins, continues or ends the hold.
    pub(super) fn follow_hold(&mut self, context: RolloutContext<'_>, out: &mut StepOutput) {
        let now = context.now;
        // Without a status it is not known whether a cause has come or gone, except for a person's.
        let is_unseen = self.unseen_since.is_some();
        let cause = if is_unseen { self.paused_or_frozen(context) } else { self.hold_cause(context) };
        match (cause, &mut self.current.hold) {
            (None, _) if is_unseen => {}
            (Some((cause, reason)), Some(hold)) if hold.is_continued_by(&cause, &reason) => hold.explain(reason),
            (Some((cause, reason)), _) => {
                self.current.release(now);
                self.current.hold = Some(Hold { since: now, cause, reason: reason.clone(), unseen: Span::ZERO });
                self.current.repeat_removal();
                self.decide(DecisionKind::Hold, reason, now, out);
            }
            (None, Some(hold)) => {
                // The phase has not had its time while the environment kept it from going on.
                let starts_anew = hold.cause == HoldCause::Slow;
                self.current.release(now);
                if starts_anew {
                    self.current.start_anew(now);
                }
                self.decide(DecisionKind::Resume, Reason::Recovered, now, out);
            }
            (None, None) => {}
        }
    }
}

/// Returns what follows from pods of the canary that answer no request while they are ready: some requests are lost, and the
/// counts of the other pods prove nothing of them.
fn mute(analysis: &StepAnalysis) -> Option<(PatienceAction, Reason)> {
    Some((PatienceAction::GiveUp, Reason::Mute(analysis.answers.mute()?)))
}

/// Evidence that has been missing for longer than the policy's patience.
pub(super) struct MissingEvidence {
    /// The policy's action.
    pub action: PatienceAction,
    /// The cause of a hold for it.
    pub cause: HoldCause,
    /// The explanation for people.
    pub reason: Reason,
}
