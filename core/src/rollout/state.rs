//! The value of one rollout: everything that it knows, and everything that it may look at besides.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::analysis::StepAnalysis;
use super::cause::{Blame, Conclusion};
use super::current::PhaseState;
use super::decision::{Decision, DecisionKind};
use super::ending::Ending;
use super::phase::{NextPhase, Phase, Trigger, next};
use super::pods::Troubles;
use super::reason::Reason;
use super::restarts::Restarts;
use crate::ids::{EffectId, EventId, Images, RolloutId, Scope, TemplateHash, Weight, Workload, runs};
use crate::input::command::{Author, Freeze};
use crate::input::effect::{Act, Effect};
use crate::input::event::Request;
use crate::input::report::{Combination, SuiteReport};
use crate::input::status::WorkloadStatus;
use crate::judge::evidence::Evidence;
use crate::judge::judges::JudgeState;
use crate::measure::calibration::Calibration;
use crate::policy::{Mode, Policy};
use crate::rollout::reward::Reward;
use crate::time::Timestamp;

/// The task of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum Task {
    /// Roll out the requested version.
    Roll {
        /// The request.
        request: Box<Request>,
    },
    /// Guard a version that another tool has deployed.
    Guard {
        /// The artifact that the event names, such as a package URL.
        artifact: Option<String>,
    },
}

/// The workload as the preflight found it, and its images after the rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Basis {
    /// The uid of the stable Deployment.
    pub stable_uid: String,
    /// The hash of its pod template.
    pub template: TemplateHash,
    /// Its images, by container.
    pub from: Images,
    /// Its images after the rollout, by container.
    pub to: Images,
    /// Its replicas; a person's `resume` accepts another number.
    pub replicas: u32,
}

/// A template that was available and passed its guard, or was found healthy when the workload was first observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastGood {
    /// The hash of the pod template.
    pub template: TemplateHash,
    /// Its images, by container.
    pub images: Images,
    /// The time since which it is known to be good.
    pub since: Timestamp,
}

/// A version that failed on a workload and is refused until a person retries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuarantineEntry {
    /// The images that the failed rollout changed, by container.
    pub images: Images,
    /// The time of the failure.
    pub since: Timestamp,
    /// The rollout that failed.
    pub rollout: RolloutId,
    /// The sentence with which it failed.
    pub why: String,
}

impl QuarantineEntry {
    /// Whether a change from `from` to `to` brings in every image that failed.
    pub fn bars(&self, from: &Images, to: &Images) -> bool {
        let is_same = |one: &String, other: &String| runs(one, other) || runs(other, one);
        let within = |images: &Images| {
            self.images.iter().all(|(name, failed)| images.get(name).is_some_and(|image| is_same(image, failed)))
        };
        within(to) && !within(from)
    }
}

/// A change of an environment's current model by a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointerChange {
    /// The model before; `None` if the environment had none.
    pub before: Option<String>,
}

/// One entry of a rollout's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HistoryEntry {
    /// The time of the decision.
    pub at: Timestamp,
    /// The kind of the decision.
    pub kind: DecisionKind,
    /// The phase after it.
    pub to: Phase,
    /// The step, from 0.
    pub step: usize,
    /// The reason's sentence.
    pub why: String,
    /// The source of the event that asked for it; `None` if no person or tool did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The rollout's own objects in the cluster, as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CanaryState {
    /// Whether the canary was asked for and is not known to be gone.
    pub exists: bool,
    /// The number of its pods.
    pub size: u32,
    /// Its share of the traffic.
    pub weight: Weight,
    /// The number of external changes to it that were reverted.
    pub reverts: u32,
    /// The number of times that its traffic was taken back because too few of its pods were ready.
    #[serde(default)]
    pub withdrawals: u32,
}

/// Everything that was measured for a rollout.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measurements {
    /// The analysis of the present step or of the guard.
    pub analysis: Option<StepAnalysis>,
    /// The judges' memories, by check: of all steps so far where a judge carries its memory over, or of the guard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<String, Box<JudgeState>>,
    /// The rewards of its A/B test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Reward>,
    /// The calibrations from the time before the canary's traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibrations: Vec<Calibration>,
    /// The newest evidence of the checks when the end was decided; empty before, and if none had looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_end: Vec<Evidence>,
    /// The end of the newest block.
    pub last_block: Option<Timestamp>,
    /// Whether the router followed a weight of this rollout late.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub router_lags: bool,
    /// The names of the checks that have warned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warned: Vec<String>,
}

/// A person's orders to a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Orders {
    /// The author of the present pause.
    #[serde(default)]
    pub paused: Option<Author>,
    /// The names of the approvals that were given and of the suites that were waived. The policy bounds them.
    #[serde(default)]
    pub approved: Vec<String>,
}

/// One attempt to move a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollout {
    /// The rollout's id, derived from its event.
    pub id: RolloutId,
    /// The event that requested it.
    pub event: EventId,
    /// Its task.
    pub task: Task,
    /// The workload that it moves.
    pub workload: Workload,
    /// The policy that it began with and keeps.
    pub policy: Arc<Policy>,
    /// The time at which it began.
    pub started: Timestamp,
    /// The time at which it ended; `None` while it runs.
    pub ended: Option<Timestamp>,
    /// The workload as the preflight found it; `None` before.
    pub basis: Option<Basis>,
    /// The present phase and everything that belongs to it.
    pub current: PhaseState,
    /// The present step, from 0.
    pub step: usize,
    /// Its objects in the cluster.
    pub canary: CanaryState,
    /// The template that the promotion gave to the stable, once it has.
    #[serde(default)]
    pub promoted: Option<TemplateHash>,
    /// The template that `restoring` restores.
    pub restores: Option<TemplateHash>,
    /// The change of the environment's current model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<PointerChange>,
    /// The conditions of the new version's pods that are blamed on it after a grace.
    #[serde(default)]
    pub trouble: Troubles,
    /// The restarts of both versions.
    #[serde(default)]
    pub restarts: Restarts,
    /// The time since which the cluster can't be seen; `None` while it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen_since: Option<Timestamp>,
    /// Everything that was measured.
    pub measured: Measurements,
    /// A person's orders.
    pub orders: Orders,
    /// Whether no policy has covered the workload at some time since it began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_uncovered: bool,
    /// The decided end; `None` while nothing is decided about the version.
    pub conclusion: Option<Conclusion>,
    /// The number of effects so far, for their ids.
    pub effects: u32,
    /// Whether the rollout's incident is open in the sinks that have incidents.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incident_open: bool,
    /// The number of decisions so far.
    pub decisions: u32,
    /// The decisions so far, for people: the first and the newest ones.
    pub history: Vec<HistoryEntry>,
    /// The newest reason, which may explain inactivity.
    pub reason: Reason,
}

/// The result of one step of a rollout.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// Its decisions, in order.
    pub decisions: Vec<Decision>,
    /// The effects that it asks for, in order.
    pub effects: Vec<Effect>,
    /// The rollouts that have ended and are no part of the workload's state any more, in order: one that the next one replaced,
    /// and those that ended before they began.
    pub passed: Vec<Rollout>,
}

/// Everything that a rollout may look at besides itself.
#[derive(Debug, Clone, Copy)]
pub struct RolloutContext<'a> {
    /// The time.
    pub now: Timestamp,
    /// The newest status of the workload; `None` while it isn't known to be true any more.
    pub status: Option<&'a WorkloadStatus>,
    /// The template that a guard restores.
    pub last_good: Option<&'a LastGood>,
    /// The freeze in force, with its scope.
    pub frozen: Option<(&'a Scope, &'a Freeze)>,
    /// The quarantined versions of the workload.
    pub quarantine: &'a [QuarantineEntry],
    /// The suite reports about the workload, oldest first.
    pub reports: &'a [SuiteReport],
}

impl RolloutContext<'_> {
    /// Returns the reason of the freeze in force.
    pub fn frozen_reason(&self) -> Option<Reason> {
        self.frozen.map(|(scope, freeze)| Reason::frozen(scope, freeze))
    }
}

impl Rollout {
    /// Returns a requested rollout that has decided nothing yet.
    pub fn begin(
        event: EventId,
        workload: Workload,
        task: Task,
        policy: Arc<Policy>,
        reason: Reason,
        now: Timestamp,
    ) -> Rollout {
        Rollout {
            id: RolloutId::of(&workload, &event),
            event,
            task,
            workload,
            policy,
            started: now,
            ended: None,
            basis: None,
            current: PhaseState::enter(Phase::Preflight, now),
            step: 0,
            canary: CanaryState { exists: false, size: 0, weight: Weight::ZERO, reverts: 0, withdrawals: 0 },
            promoted: None,
            restores: None,
            pointer: None,
            trouble: Troubles::default(),
            restarts: Restarts::default(),
            unseen_since: None,
            measured: Measurements::default(),
            orders: Orders::default(),
            is_uncovered: false,
            conclusion: None,
            effects: 0,
            incident_open: false,
            decisions: 0,
            history: Vec::new(),
            reason,
        }
    }

    /// Returns the present phase.
    pub fn phase(&self) -> Phase {
        self.current.phase
    }

    /// Returns how it ended; `None` while it runs.
    pub fn ending(&self) -> Option<Ending> {
        let ended = self.conclusion.as_ref().filter(|_| self.phase() == Phase::Ended);
        ended.map(|conclusion| conclusion.cause.ending())
    }

    /// Whether the phase table has a way out of the present phase by `trigger`.
    pub(super) fn can_move_on(&self, trigger: Trigger) -> bool {
        matches!(next(self.phase(), trigger), NextPhase::To(_))
    }

    /// Whether a newer request may replace it. Later, the request has to wait.
    pub fn can_be_superseded(&self) -> bool {
        self.conclusion.is_none() && self.can_move_on(Trigger::Superseded)
    }

    /// Whether its policy only observes: it writes nothing to the cluster.
    pub(super) fn observes(&self) -> bool {
        self.policy.mode == Mode::Observe
    }

    /// Whether it rolls out a requested version, rather than guarding a deployed one.
    pub fn is_roll(&self) -> bool {
        matches!(self.task, Task::Roll { .. })
    }

    /// Returns the model that the request brings.
    pub(super) fn model(&self) -> Option<&str> {
        match &self.task {
            Task::Roll { request } => request.model.as_deref(),
            Task::Guard { .. } => None,
        }
    }

    /// Returns the parts that it brings together with `changes`, the images that it changes.
    pub(super) fn brings<'a>(&'a self, changes: &'a Images) -> Combination<'a> {
        let (prompt, tools) = match &self.task {
            Task::Roll { request } => (request.prompt.as_deref(), request.tools.as_deref()),
            Task::Guard { .. } => (None, None),
        };
        Combination { images: changes, model: self.model(), prompt, tools }
    }

    /// Returns the images that it changes, as they are after the rollout, by container.
    pub fn changes(&self) -> Images {
        let Some(basis) = &self.basis else { return Images::new() };
        let changed = basis.to.iter().filter(|(name, image)| basis.from.get(*name) != Some(*image));
        changed.map(|(name, image)| (name.clone(), image.clone())).collect()
    }

    /// Returns whether its end puts its version into quarantine: the version is to blame, and the rollout was no mere
    /// observation.
    pub fn quarantines(&self) -> bool {
        let is_blamed = self.conclusion.as_ref().is_some_and(|end| end.cause.blame() == Some(Blame::Version));
        is_blamed && self.policy.mode == Mode::Enforce && !self.changes().is_empty()
    }

    /// Returns an effect of this rollout with the next number.
    pub fn effect(&mut self, act: Act) -> Effect {
        let id = EffectId::of(&self.id, self.effects);
        self.effects += 1;
        Effect { id, rollout: self.id.clone(), workload: self.workload.clone(), act }
    }
}
