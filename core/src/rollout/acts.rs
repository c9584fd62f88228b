//! The acts of each phase, in order, one at a time, and the size and share of the canary that they ask for.

use super::cause::{EndCause, HoldCause};
use super::in_flight::InFlight;
use super::phase::{Phase, Share};
use super::state::{Basis, Rollout, RolloutContext, StepOutput};
use super::timers::{Due, Timer};
use crate::ids::Weight;
use crate::input::effect::{Act, BroughtParts, ClusterAct, ModelAct, Probe, RegistryAct};
use crate::input::report::Combination;
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::measure::watch::ArmKey;

impl Rollout {
    /// Returns the acts of the present phase, in order.
    pub(super) fn acts(&self) -> Vec<Act> {
        let traffic = self.policy.traffic.clone();
        let baseline = self.policy.fresh_baseline;
        let preflight = Act::Cluster(ClusterAct::Preflight { traffic: traffic.clone(), baseline });
        let Some(basis) = &self.basis else {
            return if self.phase() == Phase::Preflight { vec![preflight] } else { Vec::new() };
        };
        let apply = || {
            Act::Cluster(ClusterAct::ApplyCanary {
                stable_uid: basis.stable_uid.clone(),
                images: self.changes(),
                replicas: self.canary.size,
                traffic: traffic.clone(),
                baseline,
            })
        };
        match self.phase() {
            Phase::Preflight => vec![preflight],
            Phase::Preparing => {
                let (metrics, stable) = (self.policy.probe_targets(), self.stable_key(basis));
                let probe = Act::Metrics(Probe { metrics, stable, learn: self.policy.learned_criteria() });
                self.model_verification().into_iter().chain([apply(), probe]).collect()
            }
            Phase::Growing => vec![apply()],
            Phase::Stepping => vec![ClusterAct::SetWeight { weight: self.asked(), traffic }.into()],
            Phase::Promoting => {
                let promote = Act::Cluster(ClusterAct::Promote {
                    stable_uid: basis.stable_uid.clone(),
                    from: basis.template.clone(),
                    images: self.changes(),
                });
                [promote].into_iter().chain(self.withdrawal()).collect()
            }
            Phase::Withdrawn | Phase::Returning | Phase::Draining if self.canary.exists => {
                vec![ClusterAct::SetWeight { weight: self.asked(), traffic }.into()]
            }
            // The model becomes current when its images have all of the traffic, and returns when they have none.
            Phase::Cleaning => self.model_act(ModelAct::Point).into_iter().chain(self.removal()).collect(),
            Phase::Removing => {
                let empty =
                    self.empties_first().then(|| ClusterAct::SetWeight { weight: Weight::ZERO, traffic }.into());
                empty.into_iter().chain(self.removal()).chain(self.model_return()).collect()
            }
            Phase::Restoring => match &self.restores {
                Some(template) => {
                    let (stable_uid, template) = (basis.stable_uid.clone(), template.clone());
                    let restore = Act::Cluster(ClusterAct::Restore { stable_uid, template });
                    [restore].into_iter().chain(self.withdrawal()).collect()
                }
                None => Vec::new(),
            },
            Phase::Withdrawn | Phase::Returning | Phase::Draining | Phase::Guarding | Phase::Ended => Vec::new(),
        }
    }

    /// Returns the act that takes the traffic from a canary that has lost its pods while the stable changes.
    fn withdrawal(&self) -> Option<Act> {
        let weight = self.current.remainder?.weight;
        Some(ClusterAct::SetWeight { weight, traffic: self.policy.traffic.clone() }.into())
    }

    /// Whether the canary may still have traffic when its removal begins: the workload was deleted, and the cluster deletes the
    /// canary's pods with it.
    fn empties_first(&self) -> bool {
        let is_gone = self.conclusion.as_ref().is_some_and(|end| end.cause == EndCause::WorkloadGone);
        is_gone && self.canary.exists
    }

    fn removal(&self) -> Option<Act> {
        self.canary.exists.then(|| ClusterAct::RemoveCanary { traffic: self.policy.traffic.clone() }.into())
    }

    /// Returns an act on the model, if the request brings one and the policy binds models to an environment.
    fn model_act(&self, what: ModelAct) -> Option<Act> {
        let environment = self.policy.model.as_ref()?.environment.clone();
        Some(Act::Registry(RegistryAct { environment, model: self.model()?.to_owned(), what }))
    }

    fn model_verification(&self) -> Option<Act> {
        let images = self.changes();
        let Combination { prompt, tools, .. } = self.brings(&images);
        let (prompt, tools) = (prompt.map(str::to_owned), tools.map(str::to_owned));
        self.model_act(ModelAct::Verify { with: BroughtParts { images, prompt, tools } })
    }

    fn model_return(&self) -> Option<Act> {
        self.model_act(ModelAct::Return { before: self.pointer.as_ref()?.before.clone() })
    }

    /// Whether all acts of the phase are done.
    pub(super) fn acts_done(&self) -> bool {
        self.current.done >= self.acts().len()
    }

    /// Asks for the next act of the phase, or for another attempt of the one in flight.
    pub(super) fn next_act(&mut self, context: RolloutContext<'_>, out: &mut StepOutput) {
        // An external change of the template is not overwritten while a person is asked about it.
        if self.current.hold.as_ref().is_some_and(|hold| hold.cause == HoldCause::TemplateEdited) {
            return;
        }
        if let Some(in_flight) = &self.current.in_flight {
            if self.is_safe(&in_flight.effect.act, context) {
                out.effects.extend(self.current.in_flight.as_mut().and_then(|it| it.take_due(context.now)));
            }
            return;
        }
        let is_draining = matches!(self.due(Timer::Drained, context.now), Due::At(_));
        let acts = self.acts();
        while let Some(act) = acts.get(self.current.done) {
            let removes = matches!(act, Act::Cluster(ClusterAct::RemoveCanary { .. }));
            if (removes && is_draining) || !self.is_safe(act, context) {
                return;
            }
            self.note_asked(act);
            if act.writes() && self.observes() {
                self.current.done += 1;
                continue;
            }
            let effect = self.effect(act.clone());
            self.current.in_flight = Some(InFlight::new(effect.clone()));
            out.effects.push(effect);
            return;
        }
    }

    fn note_asked(&mut self, act: &Act) {
        match act {
            Act::Cluster(ClusterAct::ApplyCanary { .. }) => self.canary.exists = true,
            Act::Cluster(ClusterAct::SetWeight { weight, .. }) => self.canary.weight = *weight,
            Act::Cluster(_) | Act::Metrics(_) | Act::Registry(_) | Act::People(_) => {}
        }
    }

    /// Whether an act keeps the traffic on available versions: no more of it goes to a canary without an available pod, and
    /// none of it back to a workload without one while the canary has one. A weight that was decided and is not yet written
    /// waits for the end of a pause or freeze.
    pub(super) fn is_safe(&self, act: &Act, context: RolloutContext<'_>) -> bool {
        let Act::Cluster(ClusterAct::SetWeight { weight, .. }) = act else { return true };
        // Without a status, taking traffic from the canary is the safer direction.
        let Some(status) = context.status else { return *weight == Weight::ZERO || self.observes() };
        let available = |arm: &Option<DeploymentStatus>| arm.as_ref().is_some_and(|arm| arm.available > 0);
        if *weight == Weight::ZERO {
            // A stable that is scaled to zero is scaled up by its traffic.
            let is_at_zero = status.stable.as_ref().is_some_and(|stable| stable.replicas == 0);
            available(&status.stable) || !available(&status.canary) || is_at_zero
        } else {
            self.paused_or_frozen(context).is_none() && (available(&status.canary) || self.observes())
        }
    }

    pub(super) fn stable_key(&self, basis: &Basis) -> ArmKey {
        let (deployment_uid, name) = (basis.stable_uid.clone(), self.workload.name.clone());
        ArmKey { deployment_uid, pod_hash: None, name }
    }

    /// Returns the canary's weight that the present phase asks for.
    pub(super) fn asked(&self) -> Weight {
        match self.phase().traits().share {
            Share::Step => self.policy.steps.get(self.step).map_or(Weight::ZERO, |step| step.weight),
            Share::Kept => self.canary.weight,
            Share::Leaving => self.current.remainder.map_or(Weight::ZERO, |remainder| remainder.weight),
            Share::None => Weight::ZERO,
        }
    }

    /// Returns the number of pods that the canary needs for a step. With a router it is the number with which each pod of both
    /// versions has the same load, so that their latencies can be compared: n·w/(1−w) beside n pods of the stable, at most n,
    /// and at least two where the workload has two, because one pod can't be told from its node. By replica ratio it is the
    /// number that comes nearest to the share.
    pub(super) fn canary_size(&self, step: usize, status: Option<&WorkloadStatus>) -> u32 {
        let now = status.and_then(|status| status.stable.as_ref()).map(|stable| stable.replicas);
        // An autoscaler shrinks the stable when the canary takes its traffic.
        let before = self.basis.as_ref().map(|basis| basis.replicas);
        let stable = f64::from(now.max(before).unwrap_or(1).max(1));
        let share = self.policy.steps.get(step).map_or(0.0, |step| step.weight.as_share());
        let size = if self.policy.traffic.splits_by_weight() {
            let equal_load = if share < 1.0 { ceil(stable * share / (1.0 - share)) } else { stable };
            equal_load.clamp(if stable >= 2.0 { 2.0 } else { 1.0 }, stable)
        } else {
            (stable * share / (1.0 - self.copies() * share) + 0.5).floor().max(1.0)
        };
        size as u32
    }

    /// Returns the number of Deployments of the canary's size.
    fn copies(&self) -> f64 {
        if self.policy.fresh_baseline { 2.0 } else { 1.0 }
    }

    /// Returns the share of the traffic that the split in use can achieve for the present step.
    pub fn achievable(&self) -> Weight {
        if self.policy.traffic.splits_by_weight() {
            return self.asked();
        }
        let canary = f64::from(self.canary.size);
        let stable = f64::from(self.basis.as_ref().map_or(1, |basis| basis.replicas.max(1)));
        Weight::basis_points((canary / (self.copies() * canary + stable) * 10_000.0 + 0.5).floor() as u16)
    }
}

/// Rounds up. A share such as 0.1 of 20 is 2, although its binary value may be a hair more.
fn ceil(value: f64) -> f64 {
    (value - 1e-9).ceil()
}
