//! Holding: why a rollout should stay where it is and ask, for how long, and when the cause is gone.
//!
//! There is one hold, whatever its cause. It keeps the weight, it stops the clock of the phase, it never stops a rollback,
//! and it ends when its cause is gone or when its patience is.

use super::{Hold, Rollout, RolloutContext, StepOutput, Task};
use crate::input::report::{self, SuiteReport, SuiteResult};
use crate::policy::{Approval, Before, Then};
use crate::rollout::analysis::{AnalysisStatus, Shortfall};
use crate::rollout::decision::DecisionKind;
use crate::rollout::phase::{NextPhase, Phase, Trigger, next};
use crate::rollout::reason::Reason;
use crate::time::{Span, Timestamp};

impl Rollout {
    /// Why the rollout should stay where it is and ask, if it should. What is first here is what is said.
    fn hold_cause(&self, world: RolloutContext<'_>) -> Option<Reason> {
        if self.phase == Phase::Preflight && self.basis.is_some() {
            return Some(Reason::NoLastGood);
        }
        self.external_change(world)
            .or_else(|| self.paused_or_frozen(world))
            .or_else(|| self.slow_on_purpose(world.now))
            .or_else(|| self.share_unseen(world))
            .or_else(|| self.lack_of_evidence(world.now).filter(|(then, _)| *then == Then::Hold).map(|(_, why)| why))
            .or_else(|| self.exit_condition(world).and_then(|(trigger, _)| self.blocked_by(trigger, world)))
    }

    /// A person says that it stays here.
    pub(super) fn paused_or_frozen(&self, world: RolloutContext<'_>) -> Option<Reason> {
        if !self.phase.rises() {
            return None;
        }
        let paused = self.paused.clone().map(|order| Reason::Paused { order });
        paused.or_else(|| world.frozen_reason().filter(|_| matches!(self.task, Task::Roll { .. })))
    }

    /// A phase that takes too long and has nowhere else to go.
    fn slow_on_purpose(&self, now: Timestamp) -> Option<Reason> {
        let stays = next(self.phase, Trigger::Overdue) == NextPhase::Stay;
        (stays && self.is_late(now)).then(|| self.slow(now))
    }

    /// The step has passed, and its share is not (or no longer) what the gateway has accepted, for longer than that may take.
    fn share_unseen(&self, world: RolloutContext<'_>) -> Option<Reason> {
        let analysis = self.analysis.as_ref().filter(|_| self.phase == Phase::Stepping && self.judges())?;
        let passed = analysis.passed.filter(|_| matches!(analysis.standing(), AnalysisStatus::Pass(_)))?;
        let after = Span::between(passed, world.now);
        let late = after >= self.policy.ready_within && !self.weight_seen(world.status);
        late.then(|| Reason::Slow { waiting_for: self.phase.traits().waiting_for.to_owned(), after })
    }

    /// What is missing for longer than the policy's patience, and what the policy does then.
    pub(super) fn lack_of_evidence(&self, now: Timestamp) -> Option<(Then, Reason)> {
        let analysis = self.analysis.as_ref().filter(|_| self.judges())?;
        // How many of the requests are a cohort's is not ours to say; and a fresh baseline has about as many as the canary.
        let by_weight = self.policy.ab.is_none() && !self.policy.fresh_baseline;
        if let Some((seen, n)) =
            analysis.share_off(self.achievable()).filter(|_| self.phase == Phase::Stepping && by_weight)
        {
            return Some((Then::Hold, Reason::ShareOff { asked: self.achievable(), seen, n }));
        }
        let (lack, since) = analysis.lacking?;
        let (patience, then) = self.patience_with(lack);
        if Span::between(since, now) < patience {
            return None;
        }
        match analysis.standing() {
            AnalysisStatus::Blind(evidence) => Some((then, Reason::Blind { evidence, since })),
            AnalysisStatus::Insufficient(evidence) => Some((then, Reason::Insufficient { evidence })),
            AnalysisStatus::Pass(_) | AnalysisStatus::Regressed(_) => None,
        }
    }

    /// How long something may be missing, and what is done then.
    pub(super) fn patience_with(&self, lack: Shortfall) -> (Span, Then) {
        let patience = &self.policy.patience;
        match lack {
            Shortfall::Sight => (patience.blind, patience.on_blind),
            Shortfall::Evidence => (patience.insufficient, patience.on_insufficient),
        }
    }

    /// Why this way up is closed for now: a gate that nobody has opened, or not the time for changes.
    pub(super) fn blocked_by(&self, trigger: Trigger, world: RolloutContext<'_>) -> Option<Reason> {
        if !trigger.rises() {
            return None;
        }
        // No traffic before what is required has passed.
        if self.phase == Phase::Preparing
            && let Some(suite) = self.unproven(world).next()
        {
            let report = self.report(suite, world).cloned().map(Box::new);
            return Some(Reason::NeedsReport { suite: suite.clone(), report });
        }
        if let Some(gate) = self.closed_gate(trigger) {
            return Some(Reason::NeedsApproval { gate: gate.name.clone(), before: gate.before.to_string() });
        }
        let window = self.policy.window.as_ref()?;
        let opens = window.opens(world.now)?;
        Some(Reason::OutsideWindow { window: window.to_string(), opens })
    }

    fn closed_gate(&self, trigger: Trigger) -> Option<&Approval> {
        let before = if trigger == Trigger::LastStepPassed { Before::Promotion } else { Before::Traffic };
        // The first traffic is what `preparing` leads to; the steps after it have no gates.
        if before == Before::Traffic && self.phase != Phase::Preparing {
            return None;
        }
        self.closed_gates().find(|gate| gate.before == before)
    }

    /// The suites that are required, but for those that a person has let pass.
    pub(super) fn required(&self) -> impl Iterator<Item = &String> {
        self.policy.require.iter().filter(|suite| !self.approved.contains(suite))
    }

    /// Those that have not passed.
    pub(super) fn unproven(&self, world: RolloutContext<'_>) -> impl Iterator<Item = &String> {
        self.required()
            .filter(move |suite| self.report(suite, world).is_none_or(|report| report.result != SuiteResult::Pass))
    }

    /// The newest report of a suite about what this brings in.
    pub(super) fn report<'a>(&self, suite: &str, world: RolloutContext<'a>) -> Option<&'a SuiteReport> {
        let model = match &self.task {
            Task::Roll { request } => request.model.as_deref(),
            Task::Guard { .. } => None,
        };
        report::newest(world.reports, suite, &self.changes(), model)
    }

    /// The gates that nobody has opened yet.
    pub(super) fn closed_gates(&self) -> impl Iterator<Item = &Approval> {
        self.policy.approvals.iter().filter(|gate| !self.approved.contains(&gate.name))
    }

    /// How long the rollout is held for this reason before it is given up; `None`: the reason ends by itself, or
    /// giving up would be worse.
    pub fn patience(&self, reason: &Reason) -> Option<Span> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the policy's max-hold is for every cause but these")]
        match reason {
            Reason::OutsideWindow { .. } | Reason::Frozen { until: Some(_), .. } => None,
            // Back is where nobody serves.
            Reason::StableBroken { .. } => None,
            Reason::NeedsApproval { gate, .. } => {
                self.policy.approvals.iter().find(|known| known.name == *gate).map(|gate| gate.patience)
            }
            _ => Some(self.policy.max_hold),
        }
    }

    pub(super) fn follow_hold(&mut self, world: RolloutContext<'_>, out: &mut StepOutput) {
        match (self.hold_cause(world), &self.held) {
            (Some(reason), Some(held)) if is_same_hold(&held.reason, &reason) => {}
            (Some(reason), _) => {
                self.end_hold(world.now);
                self.held = Some(Hold { since: world.now, reason: reason.clone() });
                self.clean_up_again();
                self.decide(DecisionKind::Hold, self.phase, reason, world.now, out);
            }
            (None, Some(_)) => {
                self.end_hold(world.now);
                self.decide(DecisionKind::Resume, self.phase, Reason::Recovered, world.now, out);
            }
            (None, None) => {}
        }
    }

    /// A phase that takes what is ours away, and takes too long, does so once more: somebody may have put it back.
    pub(super) fn clean_up_again(&mut self) {
        if self.phase.tidies() && self.in_flight.is_none() {
            self.progress = 0;
        }
    }

    /// The time on hold does not count against the phase.
    pub(super) fn end_hold(&mut self, now: Timestamp) {
        if let Some(held) = self.held.take() {
            let held = Span::between(held.since, now);
            self.waited = Span::from_millis(self.waited.as_millis().saturating_add(held.as_millis()));
        }
    }
}

/// Whether `after` is the same hold as `before`, so that its patience goes on. What is missing may change its kind, and is
/// missing all the same.
fn is_same_hold(before: &Reason, after: &Reason) -> bool {
    let evidence = |reason: &Reason| {
        matches!(reason, Reason::Blind { .. } | Reason::Insufficient { .. } | Reason::ShareOff { .. })
    };
    let slow = |reason: &Reason| matches!(reason, Reason::Slow { .. } | Reason::Failing { .. });
    match (before, after) {
        (Reason::NeedsApproval { gate: before, .. }, Reason::NeedsApproval { gate: after, .. }) => before == after,
        (Reason::NeedsReport { suite: before, report: was }, Reason::NeedsReport { suite: after, report: is }) => {
            before == after && was == is
        }
        _ if evidence(before) && evidence(after) => true,
        _ if slow(before) && slow(after) => true,
        _ => std::mem::discriminant(before) == std::mem::discriminant(after),
    }
}
