//! What the design promises, asserted of every step that is committed and of every effect that lands.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::engine::WorkloadState;
use bellwether_core::engine::record::requests_rollout;
use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::effect::{Act, Effect};
use bellwether_core::input::status::{DeploymentStatus, WorkloadStatus};
use bellwether_core::judge::verdict::Verdict;
use bellwether_core::policy::{ApprovalPoint, PatienceAction, Policy};
use bellwether_core::rollout::decision::{Decision, DecisionKind};
use bellwether_core::rollout::phase::Phase;
use bellwether_core::rollout::reason::Reason;

use super::journal::Step;

#[derive(Default)]
pub struct Oracle {
    started: BTreeSet<String>,
    weights: BTreeMap<Workload, Weight>,
    /// Workloads whose next share is decided, and not asked for yet.
    advanced: BTreeSet<Workload>,
    /// Workloads of which the last block had nothing to see in it.
    pub blind: BTreeSet<Workload>,
    /// Workloads that somebody else has had a hand on.
    pub meddled: BTreeSet<Workload>,
}

impl Oracle {
    /// One step that is in the journal now.
    pub fn committed(&mut self, step: &Step) {
        let (transition, before) = (&step.transition, step.before.as_ref());
        for decision in &transition.decisions {
            self.decided(decision, before, step.after.as_ref());
            if decision.kind == DecisionKind::Advance {
                self.advanced.insert(decision.workload.clone());
            } else if decision.kind == DecisionKind::Start {
                self.advanced.remove(&decision.workload);
            }
        }
        let was = before.and_then(|state| state.rollout.as_ref());
        let waits = before.is_some_and(|before| before.queued.is_some());
        if was.is_some_and(|was| was.phase() == Phase::Ended) && !requests_rollout(&transition.input.event) && !waits {
            let only_messages = |effect: &Effect| matches!(effect.act, Act::Notify { .. } | Act::Note { .. });
            let silent = transition.effects.iter().all(only_messages) && transition.decisions.is_empty();
            assert!(silent, "acts after its end");
        }
        for effect in &transition.effects {
            if let Act::SetWeight { weight, .. } = effect.act {
                let old = self.weights.insert(effect.workload.clone(), weight).unwrap_or_default();
                let again = was
                    .and_then(|was| was.current.in_flight.as_ref())
                    .is_some_and(|in_flight| in_flight.effect.id == effect.id);
                // Decided now, or before and waited for since.
                let decided = self.advanced.remove(&effect.workload);
                assert!(weight <= old || again || decided, "the weight rises from {old} to {weight} undecided");
                let frozen = step.after.as_ref().is_some_and(|after| after.frozen(transition.input.at).is_some());
                assert!(weight == Weight::ZERO || !frozen, "the weight rises while it is frozen");
            }
        }
        step.after.as_ref().into_iter().for_each(counts_once);
    }

    fn decided(&mut self, decision: &Decision, before: Option<&WorkloadState>, after: Option<&WorkloadState>) {
        let rises = decision.kind == DecisionKind::Promote || decision.kind == DecisionKind::Advance;
        if let (true, Some(after)) = (rises, after) {
            assert!(after.frozen(decision.at).is_none(), "rises while it is frozen");
            if let Some(rollout) = after.rollout.as_ref().filter(|_| !ordered(&decision.reason)) {
                let policy = &rollout.policy;
                let open = policy.window.as_ref().is_none_or(|window| window.opens(decision.at).is_none());
                assert!(open, "rises outside the change window");
                let gate = |gate: ApprovalPoint| {
                    policy.approvals.iter().any(|it| it.before == gate && !rollout.orders.approved.contains(&it.name))
                };
                assert!(
                    decision.kind != DecisionKind::Promote || !gate(ApprovalPoint::Promotion),
                    "promoted through a closed gate"
                );
                assert!(
                    decision.from != Phase::Preparing || !gate(ApprovalPoint::Traffic),
                    "traffic through a closed gate"
                );
            }
        }
        match decision.kind {
            DecisionKind::Promote => self.passed(decision),
            DecisionKind::Advance if decision.from == Phase::Stepping => self.passed(decision),
            DecisionKind::RollBack => {
                let policy = before.and_then(|before| before.rollout.as_ref()).map(|rollout| &rollout.policy);
                assert!(condemns(&decision.reason, policy.unwrap()), "rolled back on {:?}", decision.reason);
            }
            DecisionKind::Start => {
                let id = decision.rollout.to_string();
                assert!(self.started.insert(id.clone()), "{id} started twice");
            }
            _ => {}
        }
    }

    /// Everything passes, on something that could be seen; or a person says so.
    fn passed(&self, decision: &Decision) {
        let passes = match &decision.reason {
            Reason::Passed { evidence, .. } => {
                assert!(!self.blind.contains(&decision.workload), "a pass on nothing that could be seen");
                !evidence.is_empty() && evidence.iter().all(|evidence| evidence.verdict == Verdict::Pass)
            }
            reason => ordered(reason),
        };
        assert!(passes, "{} on {:?}", decision.kind, decision.reason);
    }

    /// Traffic goes only to what is available, what has traffic is not changed under it, and a canary goes only when it has
    /// none.
    pub fn safe(&self, effect: &Effect, world: &WorkloadStatus) {
        let available = |arm: &Option<DeploymentStatus>| arm.as_ref().map_or(0, |arm| arm.available);
        if world.stable.is_none() {
            return;
        }
        match &effect.act {
            Act::SetWeight { weight: Weight::ZERO, .. } if world.canary.is_some() => {
                let served = available(&world.stable) > 0 || available(&world.canary) == 0;
                assert!(served, "traffic to a workload that is not available");
            }
            Act::SetWeight { weight, .. } if *weight > Weight::ZERO => {
                let repeated = world.route.is_some_and(|route| route.weight == *weight);
                // A write that is on its way when somebody takes the canary's pods away can't be called back.
                let meddled = self.meddled.contains(&effect.workload);
                let served = available(&world.canary) > 0 || repeated || meddled;
                assert!(served, "traffic to a canary that is not available");
            }
            Act::ApplyCanary { images, .. } => {
                let serves = world.route.is_some_and(|route| route.weight > Weight::ZERO);
                if let Some(canary) = world.canary.as_ref().filter(|_| serves) {
                    let same = images.iter().all(|(name, image)| canary.images.get(name) == Some(image));
                    assert!(same || canary.template_by.is_some(), "the canary is changed under its traffic");
                }
            }
            Act::RemoveCanary { .. } => {
                let routed = world.route.map_or(Weight::ZERO, |route| route.weight);
                // Taking it out of the route is the act's first half, so a share by hand in the last moment does no harm.
                assert!(routed == Weight::ZERO || world.route_by.is_some(), "a canary with traffic is removed");
            }
            _ => {}
        }
    }

    /// A rollback leads to the version that was good, and to no other.
    pub fn restored(&self, effect: &Effect, world: &WorkloadStatus) {
        if let (Act::Restore { template, .. }, Some(stable)) = (&effect.act, &world.stable) {
            assert_eq!(&stable.template, template, "restored another version than the one that was good");
        }
    }
}

/// No request is in two blocks.
fn counts_once(state: &WorkloadState) {
    let Some(analysis) = state.rollout.as_ref().and_then(|rollout| rollout.measured.analysis.as_ref()) else { return };
    let mut last = None;
    for block in analysis.ring.blocks() {
        assert!(
            last.is_none_or(|last| last <= block.from),
            "a block that begins before the last one's end counts twice"
        );
        last = Some(block.to);
    }
}

/// A person said so, and what it skips is said too.
fn ordered(reason: &Reason) -> bool {
    matches!(reason, Reason::Promoted { .. })
}

/// `blind` and `insufficient` never roll back unless the policy says so: only a regression, or pods that do not run, do.
fn condemns(reason: &Reason, policy: &Policy) -> bool {
    match reason {
        Reason::Blind { .. } => policy.patience.on_blind == PatienceAction::RollBack,
        Reason::Insufficient { .. } => policy.patience.on_insufficient == PatienceAction::RollBack,
        Reason::Regressed { evidence } => evidence.iter().all(|evidence| evidence.verdict == Verdict::Regressed),
        Reason::CanaryFailed { .. }
        | Reason::StableFailed { .. }
        | Reason::NotReady { .. }
        | Reason::StableNotReady { .. } => true,
        _ => false,
    }
}
