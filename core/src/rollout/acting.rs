//! Acting: what there is to do in each phase, in order, one act at a time.

use super::{Basis, InFlight, Rollout, RolloutContext, StepOutput, Task};
use crate::ids::{EffectId, Images, Weight};
use crate::input::effect::{Act, Effect, ModelAct};
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::measure::watch::ArmKey;
use crate::policy::Traffic;
use crate::rollout::phase::{Phase, Share};
use crate::rollout::reason::Reason;

impl Rollout {
    /// What there is to do in this phase, in order.
    pub(super) fn acts(&self) -> Vec<Act> {
        let traffic = self.policy.traffic.clone();
        let preflight = Act::Preflight { traffic: traffic.clone(), baseline: self.policy.fresh_baseline };
        let Some(basis) = &self.basis else {
            return if self.phase == Phase::Preflight { vec![preflight] } else { Vec::new() };
        };
        let apply = || Act::ApplyCanary {
            stable_uid: basis.stable_uid.clone(),
            images: self.changes(),
            replicas: self.size(),
            traffic: traffic.clone(),
            baseline: self.policy.fresh_baseline,
        };
        match self.phase {
            Phase::Preflight => vec![preflight],
            Phase::Preparing => {
                let (metrics, stable) = (self.policy.probed(), self.stable_key(basis));
                let probe = Act::Probe { metrics, stable, learn: self.policy.learnable() };
                self.model_act(ModelAct::Verify).into_iter().chain([apply(), probe]).collect()
            }
            Phase::Growing => vec![apply()],
            Phase::Stepping => vec![Act::SetWeight { weight: self.asked(), traffic }],
            Phase::Promoting => vec![Act::Promote {
                stable_uid: basis.stable_uid.clone(),
                from: basis.template.clone(),
                images: self.changes(),
            }],
            Phase::Returning | Phase::Draining if self.canary_made => {
                vec![Act::SetWeight { weight: Weight::ZERO, traffic }]
            }
            // The model is current once all of the traffic is its, and no longer once none of it is.
            Phase::Cleaning => self.model_act(ModelAct::Point).into_iter().chain(self.removal()).collect(),
            Phase::Removing => self.removal().into_iter().chain(self.model_return()).collect(),
            Phase::Restoring => match &self.back_to {
                Some(template) => {
                    vec![Act::Restore { stable_uid: basis.stable_uid.clone(), template: template.clone() }]
                }
                None => Vec::new(),
            },
            Phase::Returning | Phase::Draining | Phase::Guarding | Phase::Ended => Vec::new(),
        }
    }

    fn removal(&self) -> Option<Act> {
        self.canary_made.then(|| Act::RemoveCanary { traffic: self.policy.traffic.clone() })
    }

    /// Where the policy binds models to an environment, and the request brings one.
    fn model_act(&self, what: ModelAct) -> Option<Act> {
        let (Task::Roll { request }, Some(bound)) = (&self.task, &self.policy.model) else { return None };
        Some(Act::Model { environment: bound.environment.clone(), model: request.model.clone()?, what })
    }

    fn model_return(&self) -> Option<Act> {
        self.model_act(ModelAct::Return { before: self.pointed.as_ref()?.before.clone() })
    }

    pub(super) fn next_act(&mut self, world: RolloutContext<'_>, out: &mut StepOutput) {
        // What somebody else has changed is not changed back while they are asked.
        if self.held.as_ref().is_some_and(|held| matches!(held.reason, Reason::TemplateEdited { .. })) {
            return;
        }
        if self.in_flight.as_ref().is_some_and(|in_flight| !self.may(&in_flight.effect.act, world)) {
            return;
        }
        if let Some(in_flight) = &mut self.in_flight {
            out.effects.extend(in_flight.due(world.now));
            return;
        }
        if self.drained_at().is_some_and(|at| world.now < at) {
            return;
        }
        let acts = self.acts();
        while let Some(act) = acts.get(self.progress) {
            if !self.may(act, world) {
                return;
            }
            match act {
                Act::ApplyCanary { .. } => self.canary_made = true,
                Act::SetWeight { weight, .. } => self.weight = *weight,
                Act::Preflight { .. }
                | Act::Probe { .. }
                | Act::Promote { .. }
                | Act::Restore { .. }
                | Act::RemoveCanary { .. }
                | Act::Model { .. }
                | Act::Notify { .. }
                | Act::Note { .. } => {}
            }
            if act.writes() && self.observes() {
                self.progress += 1;
                continue;
            }
            let effect = self.effect(act.clone());
            self.in_flight = Some(InFlight::new(effect.clone()));
            out.effects.push(effect);
            return;
        }
    }

    /// Traffic is only ever sent to a version that is available: more of it not to a canary without an available pod, and
    /// none of it back to a workload without one while the canary has one. A share that was decided on and is not there
    /// yet waits for a pause or a freeze to end, like one that was not.
    fn may(&self, act: &Act, world: RolloutContext<'_>) -> bool {
        let (Act::SetWeight { weight, .. }, Some(status)) = (act, world.status) else { return true };
        let available = |arm: &Option<DeploymentStatus>| arm.as_ref().is_some_and(|arm| arm.available > 0);
        if *weight == Weight::ZERO {
            available(&status.stable) || !available(&status.canary)
        } else {
            self.paused_or_frozen(world).is_none() && (available(&status.canary) || self.observes())
        }
    }

    /// An effect of this rollout with the next number.
    pub fn effect(&mut self, act: Act) -> Effect {
        let id = EffectId::of(&self.id, self.effects);
        self.effects += 1;
        Effect { id, rollout: self.id.clone(), workload: self.workload.clone(), act }
    }

    /// The images that it changes, as they are to be.
    pub fn changes(&self) -> Images {
        let Some(basis) = &self.basis else { return Images::new() };
        basis
            .to
            .iter()
            .filter(|(name, image)| basis.from.get(*name) != Some(*image))
            .map(|(n, i)| (n.clone(), i.clone()))
            .collect()
    }

    pub(super) fn stable_key(&self, basis: &Basis) -> ArmKey {
        let (deployment_uid, name) = (basis.stable_uid.clone(), self.workload.name.clone());
        ArmKey { deployment_uid, pod_hash: None, name }
    }

    /// The canary's share that the rollout wants now.
    pub(super) fn asked(&self) -> Weight {
        match self.phase.traits().share {
            Share::Step => self.policy.steps.get(self.step).map_or(Weight::ZERO, |step| step.weight),
            Share::Kept => self.weight,
            Share::None | Share::Leaving => Weight::ZERO,
        }
    }

    /// How many pods the canary needs for a step: its share of the workload's as it is now, rounded up, and at least two
    /// where the workload has two, because one pod can't be told from its node. Where pods are the traffic, as many as
    /// come nearest to the share.
    pub(super) fn canary_size(&self, step: usize, status: Option<&WorkloadStatus>) -> u32 {
        let now = status.and_then(|status| status.stable.as_ref()).map(|stable| stable.replicas);
        let stable = f64::from(now.or(self.basis.as_ref().map(|basis| basis.replicas)).unwrap_or(1).max(1));
        let share = self.policy.steps.get(step).map_or(0.0, |step| step.weight.as_share());
        let size = match self.policy.traffic {
            Traffic::Gateway { .. } => ceil(stable * share).max(if stable >= 2.0 { 2.0 } else { 1.0 }),
            Traffic::Replicas => (stable * share / (1.0 - self.copies() * share) + 0.5).floor().max(1.0),
        };
        size as u32
    }

    /// How many of our Deployments of the canary's size there are.
    fn copies(&self) -> f64 {
        if self.policy.fresh_baseline { 2.0 } else { 1.0 }
    }

    /// How many pods are asked for of the canary in this phase.
    pub fn size(&self) -> u32 {
        // A state from before sizes were kept has none.
        if self.size == 0 { self.canary_size(self.step, None) } else { self.size }
    }

    /// The share that the split in use can achieve for the present step.
    pub fn achievable(&self) -> Weight {
        match self.policy.traffic {
            Traffic::Gateway { .. } => self.asked(),
            Traffic::Replicas => {
                let canary = f64::from(self.size());
                let stable = f64::from(self.basis.as_ref().map_or(1, |basis| basis.replicas.max(1)));
                Weight::basis_points((canary / (self.copies() * canary + stable) * 10_000.0 + 0.5).floor() as u16)
            }
        }
    }
}

fn ceil(value: f64) -> f64 {
    // A share such as 0.1 of 20 is 2, although in binary it may be a hair more.
    (value - 1e-9).ceil()
}
