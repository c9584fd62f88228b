//! One attempt to move a workload: what it knows, what it waits for, and what it asks of the world.
//!
//! A rollout is level-triggered. It takes in a fact (a sighting, a block, an outcome) and then asks itself, from all that
//! it knows, whether something has happened that the [`crate::phase`] table has a line for; if so it moves, and asks again.
//! A lost or repeated fact therefore costs time, never correctness.
//!
//! In each phase it has a short list of [acts](Rollout::acts), done one after the other, each committed before it is
//! performed and repeated until the world has confirmed it. The phase's condition is looked at after its last act.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, EventId, Images, RolloutId, Scope, TemplateHash, Weight, Workload};
use crate::input::command::{Author, Freeze};
use crate::input::effect::Effect;
use crate::input::event::{Failure, FailureKind, Outcome, Request};
use crate::input::report::SuiteReport;
use crate::input::status::WorkloadStatus;
use crate::judge::reward::Reward;
use crate::judge::sequential::SequentialState;
use crate::measure::block::Block;
use crate::measure::calibration::Calibration;
use crate::policy::{Mode, Policy, Proof};
use crate::rollout::analysis::{AnalysisRules, StepAnalysis};
use crate::rollout::decision::{Decision, DecisionKind, Ending};
use crate::rollout::phase::{NextPhase, Phase, Trigger, next};
use crate::rollout::reason::Reason;
use crate::time::{Span, Timestamp};

pub mod phase;
pub mod reason;
pub mod decision;
pub mod analysis;
pub mod message;

mod accept;
mod acting;
mod deadlines;
mod external;
mod triggers;
mod holding;
mod judging;
mod orders;

use judging::checks_of;

/// So many entries of a rollout's history are kept for people; the decisions topic has all of them.
const MAX_HISTORY: usize = 64;

/// What a rollout is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum Task {
    /// Bring in what is asked for.
    Roll {
        /// What is asked for.
        request: Request,
    },
    /// Watch what somebody else deployed.
    Guard {
        /// What they said it was.
        artifact: Option<String>,
    },
}

/// The workload as the survey found it, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Basis {
    /// The Deployment.
    pub stable_uid: String,
    /// Its template then.
    pub template: TemplateHash,
    /// Its images then.
    pub from: Images,
    /// Its images if all goes well.
    pub to: Images,
    /// Its replicas then.
    pub replicas: u32,
}

/// A template that was available and passed its guard, or was found healthy when the workload was first seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastGood {
    /// The template.
    pub template: TemplateHash,
    /// Its images, for people.
    pub images: Images,
    /// Since when it is known to be good.
    pub since: Timestamp,
}

/// A version that has failed on a workload, and is not tried again until somebody says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuarantineEntry {
    /// What was to change, by container.
    pub images: Images,
    /// Since when.
    pub since: Timestamp,
    /// In which rollout it failed.
    pub rollout: RolloutId,
    /// Why, in words.
    pub why: String,
}

impl QuarantineEntry {
    /// Whether going from `from` to `to` brings in all that failed.
    pub fn bars(&self, from: &Images, to: &Images) -> bool {
        let within = |images: &Images| self.images.iter().all(|(name, image)| images.get(name) == Some(image));
        within(to) && !within(from)
    }
}

/// The environment's current model was changed by this rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointerChange {
    /// The one before; `None`: there was none.
    pub before: Option<String>,
}

/// An act that was asked for and is not confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InFlight {
    /// Which.
    pub effect: Effect,
    /// Attempts that failed.
    pub attempts: u32,
    /// The next attempt is due then; `None`: one is under way.
    pub retry: Option<Timestamp>,
    /// What the last failed one said.
    pub failure: Option<Failure>,
}

impl InFlight {
    /// A first attempt, under way.
    pub fn new(effect: Effect) -> InFlight {
        InFlight { effect, attempts: 0, retry: None, failure: None }
    }

    /// The attempt failed; the next is due after 250 ms, doubled each time up to 30 s.
    pub fn failed(&mut self, failure: Failure, now: Timestamp) {
        self.attempts = self.attempts.saturating_add(1);
        let wait = Span::from_millis(250 << self.attempts.saturating_sub(1).min(7)).min(Span::from_secs(30));
        self.retry = Some(wait.after(now));
        self.failure = Some(failure);
    }

    /// The effect to perform again, if it is time.
    pub fn due(&mut self, now: Timestamp) -> Option<Effect> {
        self.retry.take_if(|retry| *retry <= now)?;
        Some(self.effect.clone())
    }
}

/// A rollout that stays where it is and asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// What was decided about the version, while it is still being carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Conclusion {
    /// How the rollout will end.
    pub ending: Ending,
    /// Why.
    pub reason: Reason,
    /// When it was decided.
    pub at: Timestamp,
}

/// One line of a rollout's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// What was decided.
    pub kind: DecisionKind,
    /// Where that led.
    pub to: Phase,
    /// Which step, from 0.
    pub step: usize,
    /// Why, in words.
    pub why: String,
}

/// One attempt to move a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// The event that asked for it.
    pub event: EventId,
    /// What it is for.
    pub task: Task,
    /// What it moves.
    pub workload: Workload,
    /// The policy that it began with, and keeps.
    pub policy: Policy,
    /// When it began.
    pub started: Timestamp,
    /// When it was over.
    pub ended: Option<Timestamp>,
    /// What the survey found.
    pub basis: Option<Basis>,
    /// Where it is.
    pub phase: Phase,
    /// Since when it is there.
    pub since: Timestamp,
    /// So many of the phase's acts are done.
    pub progress: usize,
    /// The step that it is at, from 0.
    pub step: usize,
    /// The canary's share that was last asked for.
    pub weight: Weight,
    /// So many pods are asked for of the canary in this phase.
    #[serde(default)]
    pub size: u32,
    /// The step's share has been seen as it was asked for.
    #[serde(default)]
    pub settled: bool,
    /// So often what is ours was changed by somebody and put back.
    #[serde(default)]
    pub revert_count: u32,
    /// The template that the stable has by our doing, once it has.
    #[serde(default)]
    pub promoted: Option<TemplateHash>,
    /// A canary was asked for, and is not known to be gone.
    pub canary_made: bool,
    /// The environment's current model is this rollout's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointed: Option<PointerChange>,
    /// The template to put back, in `restoring`.
    pub back_to: Option<TemplateHash>,
    /// The act that is not confirmed.
    pub in_flight: Option<InFlight>,
    /// So many effects have been numbered.
    pub effects: u32,
    /// So many decisions have been taken.
    pub decisions: u32,
    /// What is being judged.
    pub analysis: Option<StepAnalysis>,
    /// What the sequential judge has seen, by check: of all steps so far, or of the guard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, SequentialState>,
    /// What has been seen of its A/B test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Reward>,
    /// What the past has taught of what is counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibrations: Vec<Calibration>,
    /// The end of the last block.
    pub last_block: Option<Timestamp>,
    /// It stays where it is and asks.
    pub held: Option<Hold>,
    /// So much of the time since it is in this phase it was held.
    #[serde(default)]
    pub waited: Span,
    /// A person says that it stays here.
    #[serde(default)]
    pub paused: Option<Author>,
    /// The gates that a person has opened; never more than the policy has.
    #[serde(default)]
    pub approved: Vec<String>,
    /// The checks that have warned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warned: Vec<String>,
    /// What was decided about the version.
    pub conclusion: Option<Conclusion>,
    /// What has been decided, for people.
    pub history: Vec<HistoryEntry>,
    /// The latest reason, which may be why nothing happens.
    pub reason: Reason,
}

/// What a rollout did in one step.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// What it decided, in order.
    pub decisions: Vec<Decision>,
    /// What it asks of the world, in order.
    pub effects: Vec<Effect>,
    /// A rollout that ended and made room for the next one in the same step.
    pub replaced: Option<Box<Rollout>>,
}

/// All that a rollout may know besides itself.
#[derive(Debug, Clone, Copy)]
pub struct RolloutContext<'a> {
    /// The time.
    pub now: Timestamp,
    /// The workload as it was last seen.
    pub status: Option<&'a WorkloadStatus>,
    /// The version to go back to from under guard.
    pub last_good: Option<&'a LastGood>,
    /// The freeze that is in force.
    pub frozen: Option<(&'a Scope, &'a Freeze)>,
    /// The versions that have failed here.
    pub quarantine: &'a [QuarantineEntry],
    /// What was tested for the workload, oldest first.
    pub reports: &'a [SuiteReport],
}

impl RolloutContext<'_> {
    /// That nothing may rise, and who says so.
    pub fn frozen_reason(&self) -> Option<Reason> {
        self.frozen.map(|(scope, freeze)| Reason::Frozen {
            scope: scope.to_string(),
            order: freeze.order.clone(),
            until: freeze.until,
        })
    }
}

impl Rollout {
    /// A rollout that has just been asked for; it has decided nothing yet.
    pub fn begin(
        event: EventId,
        workload: Workload,
        task: Task,
        policy: Policy,
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
            phase: Phase::Preflight,
            since: now,
            progress: 0,
            step: 0,
            weight: Weight::ZERO,
            size: 0,
            settled: false,
            revert_count: 0,
            promoted: None,
            canary_made: false,
            pointed: None,
            back_to: None,
            in_flight: None,
            effects: 0,
            decisions: 0,
            analysis: None,
            evidence: BTreeMap::new(),
            reward: None,
            calibrations: Vec::new(),
            last_block: None,
            held: None,
            waited: Span::ZERO,
            paused: None,
            approved: Vec::new(),
            warned: Vec::new(),
            conclusion: None,
            history: Vec::new(),
            reason,
        }
    }

    /// A rollout that a person asked for again says so first: the others' events say who asked.
    pub fn tell_of_retry(&mut self, out: &mut StepOutput) {
        if matches!(self.reason, Reason::Retried { .. }) {
            let (reason, now) = (self.reason.clone(), self.started);
            self.decide(DecisionKind::Retry, self.phase, reason, now, out);
        }
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.conclusion.as_ref().filter(|_| self.phase == Phase::Ended).map(|conclusion| conclusion.ending)
    }

    /// Whether a newer request may still take its place; later it has to wait.
    pub fn can_be_superseded(&self) -> bool {
        self.conclusion.is_none() && matches!(next(self.phase, Trigger::Superseded), NextPhase::To(_))
    }

    fn observes(&self) -> bool {
        self.policy.mode == Mode::Observe
    }

    /// A newer request has come.
    pub fn superseded(&mut self, by: EventId, world: RolloutContext<'_>, out: &mut StepOutput) {
        self.move_on(Trigger::Superseded, Reason::Superseded { by }, world, out);
        self.drive(world, out);
    }

    /// A block of counts has come; `false`: it is not new.
    pub fn measured(&mut self, block: Block, world: RolloutContext<'_>, out: &mut StepOutput) -> bool {
        if self.last_block.is_some_and(|last| block.to <= last) || !self.is_watched() {
            return false;
        }
        self.last_block = Some(block.to);
        self.count_rewards(&block);
        let side_arm = self.judged_arm(world.status).cloned();
        let metrics = &self.policy.metrics;
        if let Some(analysis) = &mut self.analysis {
            let checks = checks_of(&self.policy, analysis.guards, analysis.step);
            let proof = match self.policy.steps.get(analysis.step) {
                Some(step) if !analysis.guards => step.proof,
                Some(_) | None => Proof::NoAlarm,
            };
            let planned = self.policy.planned(analysis.guards);
            let rules = AnalysisRules { checks, metrics, proof, planned, calibrations: &self.calibrations };
            analysis.absorb(block, &rules, &mut self.evidence, side_arm.as_ref(), world.now);
        }
        self.drive(world, out);
        true
    }

    /// An act was carried out, or was not; `false`: not one that is waited for.
    pub fn performed(
        &mut self,
        effect: &EffectId,
        outcome: Outcome,
        world: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> bool {
        if self.in_flight.as_ref().is_none_or(|in_flight| in_flight.effect.id != *effect) {
            return false;
        }
        match outcome {
            Outcome::Done => self.act_done(),
            Outcome::Pointed { before } => {
                self.pointed = Some(PointerChange { before });
                self.act_done();
            }
            Outcome::Probed { problems, calibrations, .. } if problems.is_empty() => {
                self.calibrations = calibrations;
                self.act_done();
            }
            Outcome::Probed { problems, .. } => {
                self.act_done();
                self.move_on(Trigger::Refused, Reason::Unreadable { problems }, world, out);
            }
            Outcome::Preflight(preflight) => {
                self.act_done();
                if let Some((trigger, reason)) = self.preflight_done(&preflight, world) {
                    self.move_on(trigger, reason, world, out);
                }
            }
            Outcome::Failed(failure) => self.act_failed(failure, world, out),
        }
        self.drive(world, out);
        true
    }

    fn act_done(&mut self) {
        self.in_flight = None;
        self.progress += 1;
    }

    fn act_failed(&mut self, failure: Failure, world: RolloutContext<'_>, out: &mut StepOutput) {
        let Some(in_flight) = &mut self.in_flight else { return };
        let act = in_flight.effect.act.name().to_owned();
        let refused = match failure.kind {
            FailureKind::Gone => {
                let reason = Reason::NoWorkload { workload: self.workload.clone(), message: failure.message };
                self.in_flight = None;
                return self.move_on(Trigger::WorkloadGone, reason, world, out);
            }
            FailureKind::Refused => true,
            // Before there is traffic, a missing permission is an answer; after that, somebody may still grant it.
            FailureKind::Forbidden => matches!(self.phase, Phase::Preflight | Phase::Preparing),
            FailureKind::Unavailable | FailureKind::Conflict | FailureKind::Fenced => false,
        };
        let message = failure.message.clone();
        in_flight.failed(failure, world.now);
        let attempts = in_flight.attempts;
        if refused && matches!(next(self.phase, Trigger::Refused), NextPhase::To(_)) {
            self.in_flight = None;
            self.move_on(Trigger::Refused, Reason::ActRefused { act, message }, world, out);
        } else {
            self.reason = Reason::Failing { act, message, attempts };
        }
    }

    /// Asks again and again whether something has happened, until nothing has; sees to acts and holds meanwhile. Told
    /// nothing new, a second call changes nothing.
    pub fn drive(&mut self, world: RolloutContext<'_>, out: &mut StepOutput) {
        // Each round moves to another phase, or past an act. A good rollout has fewer of both than this, so the bound is
        // never met but by a table with a circle in it.
        for _ in 0..2 * Phase::ALL.len() {
            let before = (self.phase, self.step, self.progress);
            self.follow_settling(world);
            self.begin_analysis(world);
            self.follow_analysis(world.now);
            self.warn(world.now, out);
            self.follow_hold(world, out);
            self.report_analysis();
            self.next_act(world, out);
            if let Some((trigger, reason)) = self.trigger(world) {
                self.move_on(trigger, reason, world, out);
            }
            if (self.phase, self.step, self.progress) == before {
                break;
            }
        }
    }

    fn move_on(&mut self, trigger: Trigger, reason: Reason, world: RolloutContext<'_>, out: &mut StepOutput) {
        let NextPhase::To(to) = next(self.phase, trigger) else {
            self.reason = reason;
            return;
        };
        let from = self.phase;
        if trigger == Trigger::CanaryGone {
            self.canary_made = false;
        }
        if let Some(ending) = ending_of(trigger, &reason) {
            self.conclusion.get_or_insert(Conclusion { ending, reason: reason.clone(), at: world.now });
        }
        if to == Phase::Restoring {
            let good = world.last_good.filter(|_| from == Phase::Guarding).map(|good| good.template.clone());
            self.back_to = good.or_else(|| self.basis.as_ref().map(|basis| basis.template.clone()));
        }
        if trigger == Trigger::StepPassed {
            self.step += 1;
        }
        if matches!(to, Phase::Preparing | Phase::Growing) {
            self.size = self.canary_size(self.step, world.status);
        }
        if matches!(to, Phase::Returning | Phase::Guarding) {
            self.promoted = self.standing_template(world).or(self.promoted.take());
        }
        if trigger == Trigger::Reverted {
            self.revert_count += 1;
        }
        self.settled = false;
        self.phase = to;
        self.since = world.now;
        self.progress = 0;
        self.in_flight = None;
        self.held = None;
        self.waited = Span::ZERO;
        if to == Phase::Ended {
            self.ended = Some(world.now);
            self.analysis = None;
        }
        if to == Phase::Guarding {
            self.analysis = None;
        }
        let kind = if to == Phase::Ended
            && !matches!(
                DecisionKind::of(trigger),
                DecisionKind::Refuse | DecisionKind::GiveUp | DecisionKind::Supersede | DecisionKind::Abort
            ) {
            DecisionKind::Finish
        } else {
            DecisionKind::of(trigger)
        };
        self.decide(kind, from, reason, world.now, out);
    }

    fn decide(&mut self, kind: DecisionKind, from: Phase, reason: Reason, now: Timestamp, out: &mut StepOutput) {
        let why = reason.to_string();
        self.reason = reason.clone();
        self.history.push(HistoryEntry { at: now, kind, to: self.phase, step: self.step, why: why.clone() });
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
            to: self.phase,
            step: self.step,
            weight: self.asked(),
            ending: self.ending(),
            observed_only: self.observes(),
            reason,
            why,
        });
        self.decisions += 1;
    }
}

fn ending_of(trigger: Trigger, reason: &Reason) -> Option<Ending> {
    match trigger {
        Trigger::Regressed | Trigger::CanaryFailed | Trigger::StableFailed | Trigger::Overdue => {
            Some(Ending::RolledBack)
        }
        Trigger::Refused if matches!(reason, Reason::Unchanged) => Some(Ending::Unchanged),
        Trigger::Refused => Some(Ending::Refused),
        Trigger::Rebased if matches!(reason, Reason::Aborted { .. }) => Some(Ending::Aborted),
        Trigger::Superseded | Trigger::Rebased => Some(Ending::Superseded),
        Trigger::Recalled if matches!(reason, Reason::Recalled { .. }) => Some(Ending::Superseded),
        Trigger::Recalled => Some(Ending::Aborted),
        Trigger::GaveUp | Trigger::WorkloadGone => Some(Ending::GivenUp),
        Trigger::GuardPassed => Some(Ending::Promoted),
        Trigger::Accepted
        | Trigger::Guardable
        | Trigger::CanaryReady
        | Trigger::StepPassed
        | Trigger::LastStepPassed
        | Trigger::StableReady
        | Trigger::Emptied
        | Trigger::CanaryGone
        | Trigger::Reverted => None,
    }
}
