//! The invariants of the design, asserted for every committed transition and every performed effect.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::engine::WorkloadState;
use bellwether_core::engine::record::requests_rollout;
use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::effect::{Act, ClusterAct, Effect};
use bellwether_core::input::status::{DeploymentStatus, WorkloadStatus};
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::policy::{ApprovalPoint, PatienceAction, Policy};
use bellwether_core::rollout::decision::{Decision, DecisionKind};
use bellwether_core::rollout::phase::Phase;
use bellwether_core::rollout::reason::Reason;

use super::journal::JournalStep;

/// The observer that asserts the invariants.
#[derive(Default)]
pub(super) struct Oracle {
    /// The ids of the started rollouts.
    started: BTreeSet<String>,
    /// The weight that was requested last, by workload.
    weights: BTreeMap<Workload, Weight>,
    /// The workloads for which a higher weight is decided and not requested yet.
    advanced: BTreeSet<Workload>,
    /// The workloads whose last block was a gap.
    pub(super) blind: BTreeSet<Workload>,
    /// The workloads that had an external change.
    pub(super) meddled: BTreeSet<Workload>,
}

impl Oracle {
    /// Asserts the invariants of a committed transition.
    pub(super) fn check_step(&mut self, step: &JournalStep) {
        let (transition, before) = (&step.transition, step.before.as_ref());
        for decision in &transition.decisions {
            self.check_decision(decision, before, step.after.as_ref());
            if decision.kind == DecisionKind::Advance {
                self.advanced.insert(decision.workload.clone());
            } else if decision.kind == DecisionKind::Start {
                self.advanced.remove(&decision.workload);
            }
        }
        let was = before.and_then(|state| state.rollout.as_ref());
        let is_queued = before.is_some_and(|before| before.queued.is_some());
        if was.is_some_and(|was| was.phase() == Phase::Ended)
            && !requests_rollout(&transition.input.event)
            && !is_queued
        {
            let is_message = |effect: &Effect| matches!(effect.act, Act::People(_));
            let is_idle = transition.effects.iter().all(is_message) && transition.decisions.is_empty();
            assert!(is_idle, "a rollout acts after its end");
        }
        for effect in &transition.effects {
            if let Act::Cluster(ClusterAct::SetWeight { weight, .. }) = effect.act {
                let old = self.weights.insert(effect.workload.clone(), weight).unwrap_or_default();
                let is_repeated = was
                    .and_then(|was| was.current.in_flight.as_ref())
                    .is_some_and(|in_flight| in_flight.effect.id == effect.id);
                // The decision is of this transition, or of an earlier one that waited.
                let is_decided = self.advanced.remove(&effect.workload);
                let is_allowed = weight <= old || is_repeated || is_decided;
                assert!(is_allowed, "the weight rises from {old} to {weight} without a decision");
                let is_frozen = step.after.as_ref().is_some_and(|after| after.frozen(transition.input.at).is_some());
                assert!(weight <= old || !is_frozen, "the weight rises from {old} to {weight} during a freeze");
            }
        }
        step.after.as_ref().into_iter().for_each(check_blocks);
    }

    /// Asserts the invariants of a decision.
    fn check_decision(&mut self, decision: &Decision, before: Option<&WorkloadState>, after: Option<&WorkloadState>) {
        let rises = decision.kind == DecisionKind::Promote || decision.kind == DecisionKind::Advance;
        if let (true, Some(after)) = (rises, after) {
            assert!(after.frozen(decision.at).is_none(), "a rollout advances during a freeze");
            if let Some(rollout) = after.rollout.as_ref().filter(|_| !is_by_person(&decision.reason)) {
                let policy = &rollout.policy;
                let is_open = policy.window.as_ref().is_none_or(|window| window.opens(decision.at).is_none());
                assert!(is_open, "a rollout advances outside the change window");
                let lacks_approval = |before: ApprovalPoint| {
                    let mut approvals = policy.approvals.iter().filter(|approval| approval.before == before);
                    approvals.any(|approval| !rollout.orders.approved.contains(&approval.name))
                };
                let is_promotion = decision.kind == DecisionKind::Promote;
                assert!(!is_promotion || !lacks_approval(ApprovalPoint::Promotion), "promoted without an approval");
                let starts_traffic = decision.from == Phase::Preparing;
                assert!(!starts_traffic || !lacks_approval(ApprovalPoint::Traffic), "traffic without an approval");
            }
        }
        let hold = after.and_then(|after| after.rollout.as_ref()?.current.hold.as_ref());
        for why in [Some(decision.why.clone()), hold.map(|hold| hold.reason.to_string())].into_iter().flatten() {
            assert!(is_sentence(&why), "{} is explained by {why:?}", decision.kind);
        }
        match decision.kind {
            DecisionKind::Promote => self.check_pass(decision),
            DecisionKind::Advance if decision.from == Phase::Stepping => self.check_pass(decision),
            DecisionKind::RollBack => {
                let policy = before.and_then(|before| before.rollout.as_ref()).map(|rollout| &rollout.policy);
                assert!(justifies_rollback(&decision.reason, policy.unwrap()), "rolled back on {:?}", decision.reason);
            }
            DecisionKind::Start => {
                let id = decision.rollout.to_string();
                assert!(self.started.insert(id.clone()), "{id} started twice");
            }
            _ => {}
        }
    }

    /// Asserts that all checks pass on a block with counts, or that a person has promoted.
    fn check_pass(&self, decision: &Decision) {
        let is_justified = match &decision.reason {
            Reason::Passed { evidence, .. } => {
                let is_blind = self.blind.contains(&decision.workload);
                assert!(
                    !is_blind,
                    "{} passes a step although the last block is a gap: {}",
                    decision.rollout, decision.why
                );
                !evidence.is_empty() && evidence.iter().all(|evidence| evidence.verdict == Verdict::Pass)
            }
            reason => is_by_person(reason),
        };
        assert!(is_justified, "{} on {:?}", decision.kind, decision.reason);
    }

    /// Asserts before an effect that traffic goes to available pods only, that a canary with traffic is not changed,
    /// and that a canary with traffic is not removed.
    pub(super) fn check_safety(&self, effect: &Effect, status: &WorkloadStatus) {
        let available = |arm: &Option<DeploymentStatus>| arm.as_ref().map_or(0, |arm| arm.available);
        if status.stable.is_none() {
            return;
        }
        match &effect.act {
            Act::Cluster(ClusterAct::SetWeight { weight: Weight::ZERO, .. }) if status.canary.is_some() => {
                let is_served = available(&status.stable) > 0 || available(&status.canary) == 0;
                assert!(is_served, "traffic to a stable without available pods");
            }
            Act::Cluster(ClusterAct::SetWeight { weight, .. }) if *weight > Weight::ZERO => {
                let is_repeated = status.route.as_ref().is_some_and(|routed| routed.weight == *weight);
                // A write in flight can't be cancelled if another party removes the canary's pods meanwhile.
                let meddled = self.meddled.contains(&effect.workload);
                let is_served = available(&status.canary) > 0 || is_repeated || meddled;
                assert!(is_served, "traffic to a canary without available pods");
            }
            Act::Cluster(ClusterAct::ApplyCanary { images, .. }) => {
                let has_traffic = status.route.as_ref().is_some_and(|routed| routed.weight > Weight::ZERO);
                if let Some(canary) = status.canary.as_ref().filter(|_| has_traffic) {
                    let is_same = images.iter().all(|(name, image)| canary.images.get(name) == Some(image));
                    assert!(is_same || canary.template_by.is_some(), "a canary with traffic is changed");
                }
            }
            Act::Cluster(ClusterAct::RemoveCanary { .. }) => {
                let routed = status.route.as_ref().map_or(Weight::ZERO, |routed| routed.weight);
                // The act first removes the canary from the route, so a weight set by another party is harmless.
                assert!(routed == Weight::ZERO || status.route_by.is_some(), "a canary with traffic is removed");
            }
            _ => {}
        }
    }

    /// Asserts after an effect that a restore leads to the last good template.
    pub(super) fn check_restored(&self, effect: &Effect, status: &WorkloadStatus) {
        if let (Act::Cluster(ClusterAct::Restore { template, .. }), Some(stable)) = (&effect.act, &status.stable) {
            assert_eq!(&stable.template, template, "restored another version than the last good one");
        }
    }
}

/// Asserts that blocks don't overlap, so that no request is counted twice.
fn check_blocks(state: &WorkloadState) {
    let Some(analysis) = state.rollout.as_ref().and_then(|rollout| rollout.measured.analysis.as_ref()) else { return };
    let mut last = None;
    for block in analysis.ring.blocks() {
        let is_later = last.is_none_or(|last| last <= block.from);
        assert!(is_later, "a block that begins before the previous one's end counts twice");
        last = Some(block.to);
    }
}

/// Whether a reason says something, from its beginning to its end.
fn is_sentence(why: &str) -> bool {
    let ends_on_nothing = |end: char| why.ends_with(end) || why.starts_with(end);
    !why.trim().is_empty() && ![' ', ':', ';', ','].into_iter().any(ends_on_nothing)
}

/// Returns whether a person has promoted; such a promotion may skip checks and approvals.
fn is_by_person(reason: &Reason) -> bool {
    matches!(reason, Reason::Promoted { .. })
}

/// Returns whether a reason may cause a rollback: a regression, pods that do not run, or `blind` and `insufficient` if
/// the policy says so.
fn justifies_rollback(reason: &Reason, policy: &Policy) -> bool {
    match reason {
        Reason::Blind { .. } => policy.patience.on_blind == PatienceAction::RollBack,
        Reason::Insufficient { .. } => policy.patience.on_insufficient == PatienceAction::RollBack,
        Reason::Unmeasured { .. } => {
            [policy.patience.on_blind, policy.patience.on_insufficient].contains(&PatienceAction::RollBack)
        }
        Reason::Regressed { evidence } => evidence.iter().all(|evidence| evidence.verdict == Verdict::Regressed),
        Reason::CanaryFailed { .. }
        | Reason::Restarts { .. }
        | Reason::StableFailed { .. }
        | Reason::NotReady { .. }
        | Reason::StableNotReady { .. } => true,
        _ => false,
    }
}
