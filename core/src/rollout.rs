//! One attempt to move a workload: what it knows, what it waits for, and what it asks of the world.
//!
//! A rollout is level-triggered. It takes in a fact (a sighting, a block, an outcome) and then asks itself, from all that
//! it knows, whether something has happened that the [`crate::phase`] table has a line for; if so it moves, and asks again.
//! A lost or repeated fact therefore costs time, never correctness.
//!
//! In each phase it has a short list of [acts](Rollout::acts), done one after the other, each committed before it is
//! performed and repeated until the world has confirmed it. The phase's condition is looked at after its last act.

use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Ending, Kind};
use crate::effect::{Act, Effect};
use crate::event::{Block, Failure, FailureKind, Outcome, Request};
use crate::ids::{EffectId, EventId, Images, RolloutId, TemplateHash, Weight, Workload, repository};
use crate::phase::{Move, Phase, Trigger, next};
use crate::policy::{Check, Mode, Policy, Traffic};
use crate::reason::Reason;
use crate::sighting::{Arm, Sighting, Survey};
use crate::time::{Span, Timestamp};
use crate::watch::{ArmKey, Watch};
use crate::watching::{Lack, Standing, Watching};

/// So many entries of a rollout's history are kept for people; the decisions topic has all of them.
const MOST_HISTORY: usize = 64;

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

/// An act that was asked for and is not confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Doing {
    /// Which.
    pub effect: Effect,
    /// Attempts that failed.
    pub attempts: u32,
    /// The next attempt is due then; `None`: one is under way.
    pub retry: Option<Timestamp>,
    /// What the last failed one said.
    pub failure: Option<Failure>,
}

impl Doing {
    /// A first attempt, under way.
    pub fn new(effect: Effect) -> Doing {
        Doing { effect, attempts: 0, retry: None, failure: None }
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
pub struct Held {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// What was decided about the version, while it is still being carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judgement {
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
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What was decided.
    pub kind: Kind,
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
    /// A canary was asked for, and is not known to be gone.
    pub canary_made: bool,
    /// The template to put back, in `restoring`.
    pub back_to: Option<TemplateHash>,
    /// The act that is not confirmed.
    pub doing: Option<Doing>,
    /// So many effects have been numbered.
    pub effects: u32,
    /// So many decisions have been taken.
    pub decisions: u32,
    /// What is being judged.
    pub watching: Option<Watching>,
    /// The end of the last block.
    pub last_block: Option<Timestamp>,
    /// It stays where it is and asks.
    pub held: Option<Held>,
    /// What was decided about the version.
    pub judgement: Option<Judgement>,
    /// What has been decided, for people.
    pub history: Vec<Entry>,
    /// The latest reason, which may be why nothing happens.
    pub reason: Reason,
}

/// What a rollout did in one step.
#[derive(Debug, Default)]
pub struct Out {
    /// What it decided, in order.
    pub decisions: Vec<Decision>,
    /// What it asks of the world, in order.
    pub effects: Vec<Effect>,
}

/// All that a rollout may know besides itself.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The time.
    pub now: Timestamp,
    /// The workload as it was last seen.
    pub sighting: Option<&'a Sighting>,
    /// The version to go back to from under guard.
    pub last_good: Option<&'a LastGood>,
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
            phase: Phase::Gating,
            since: now,
            progress: 0,
            step: 0,
            weight: Weight::ZERO,
            canary_made: false,
            back_to: None,
            doing: None,
            effects: 0,
            decisions: 0,
            watching: None,
            last_block: None,
            held: None,
            judgement: None,
            history: Vec::new(),
            reason,
        }
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.judgement.as_ref().filter(|_| self.phase == Phase::Ended).map(|judgement| judgement.ending)
    }

    /// Whether a newer request may still take its place; later it has to wait.
    pub fn can_be_superseded(&self) -> bool {
        self.judgement.is_none() && matches!(next(self.phase, Trigger::Superseded), Move::To(_))
    }

    fn observes(&self) -> bool {
        self.policy.mode == Mode::Observe
    }

    // --- taking facts in

    /// A newer request has come.
    pub fn superseded(&mut self, by: EventId, world: World<'_>, out: &mut Out) {
        self.move_on(Trigger::Superseded, Reason::Superseded { by }, world, out);
        self.drive(world, out);
    }

    /// A block of counts has come; `false`: it is not new.
    pub fn measured(&mut self, block: Block, world: World<'_>, out: &mut Out) -> bool {
        if self.last_block.is_some_and(|last| block.to <= last) || !self.is_watched() {
            return false;
        }
        self.last_block = Some(block.to);
        let side_arm = self.judged_arm(world.sighting).cloned();
        let metrics = &self.policy.metrics;
        if let Some(watching) = &mut self.watching {
            let checks = checks_of(&self.policy, watching.guards, watching.step);
            watching.absorb(block, checks, metrics, side_arm.as_ref(), world.now);
        }
        self.drive(world, out);
        true
    }

    /// An act was carried out, or was not; `false`: not one that is waited for.
    pub fn performed(&mut self, effect: &EffectId, outcome: Outcome, world: World<'_>, out: &mut Out) -> bool {
        if self.doing.as_ref().is_none_or(|doing| doing.effect.id != *effect) {
            return false;
        }
        match outcome {
            Outcome::Done => self.act_done(),
            Outcome::Probed { problems } if problems.is_empty() => self.act_done(),
            Outcome::Probed { problems } => {
                self.act_done();
                self.move_on(Trigger::Refused, Reason::Unreadable { problems }, world, out);
            }
            Outcome::Surveyed(survey) => {
                self.act_done();
                if let Some((trigger, reason)) = self.surveyed(&survey, world.last_good) {
                    self.move_on(trigger, reason, world, out);
                }
            }
            Outcome::Failed(failure) => self.act_failed(failure, world, out),
        }
        self.drive(world, out);
        true
    }

    fn act_done(&mut self) {
        self.doing = None;
        self.progress += 1;
    }

    fn act_failed(&mut self, failure: Failure, world: World<'_>, out: &mut Out) {
        let Some(doing) = &mut self.doing else { return };
        let act = doing.effect.act.name().to_owned();
        let refused = match failure.kind {
            FailureKind::Gone => {
                let reason = Reason::NoWorkload { workload: self.workload.clone(), message: failure.message };
                self.doing = None;
                return self.move_on(Trigger::WorkloadGone, reason, world, out);
            }
            FailureKind::Refused => true,
            // Before there is traffic, a missing permission is an answer; after that, somebody may still grant it.
            FailureKind::Forbidden => matches!(self.phase, Phase::Gating | Phase::Preparing),
            FailureKind::Unavailable | FailureKind::Conflict | FailureKind::Fenced => false,
        };
        let message = failure.message.clone();
        doing.failed(failure, world.now);
        let attempts = doing.attempts;
        if refused && matches!(next(self.phase, Trigger::Refused), Move::To(_)) {
            self.doing = None;
            self.move_on(Trigger::Refused, Reason::ActRefused { act, message }, world, out);
        } else {
            self.reason = Reason::Failing { act, message, attempts };
        }
    }

    // --- the survey

    fn surveyed(&mut self, survey: &Survey, last_good: Option<&LastGood>) -> Option<(Trigger, Reason)> {
        let Some(stable) = &survey.sighting.stable else {
            let message = "the API server has no such Deployment".to_owned();
            return Some((Trigger::Refused, Reason::NoWorkload { workload: self.workload.clone(), message }));
        };
        let (trigger, reason, to) = match &self.task {
            Task::Guard { .. } => match last_good {
                Some(good) if good.template == stable.template => {
                    (Some(Trigger::Refused), Reason::Unchanged, stable.images.clone())
                }
                Some(_) => {
                    (Some(Trigger::Guardable), Reason::Guardable { to: stable.images.clone() }, stable.images.clone())
                }
                None => (None, Reason::NoLastGood, stable.images.clone()),
            },
            Task::Roll { request } => match self.accept(request, stable, survey) {
                Ok((to, reason)) => (Some(Trigger::Accepted), reason, to),
                Err(reason) => (Some(Trigger::Refused), reason, stable.images.clone()),
            },
        };
        self.basis = Some(Basis {
            stable_uid: stable.uid.clone(),
            template: stable.template.clone(),
            from: match (&self.task, last_good) {
                (Task::Guard { .. }, Some(good)) => good.images.clone(),
                (Task::Guard { .. } | Task::Roll { .. }, _) => stable.images.clone(),
            },
            to,
            replicas: stable.replicas,
        });
        self.reason = reason.clone();
        trigger.map(|trigger| (trigger, reason))
    }

    /// The images that the workload is to have, or why it can't have them.
    fn accept(&self, request: &Request, stable: &Arm, survey: &Survey) -> Result<(Images, Reason), Reason> {
        if stable.replicas == 0 {
            return Err(Reason::NoReplicas);
        }
        for (container, expected) in request.expected_current.iter().flatten() {
            let found = stable.images.get(container);
            if found != Some(expected) {
                let found = found.cloned().unwrap_or_else(|| "nothing of that name".to_owned());
                return Err(Reason::Unexpected { container: container.clone(), expected: expected.clone(), found });
            }
        }
        let to = wanted_images(request, &stable.images)?;
        if to == stable.images {
            return Err(Reason::Unchanged);
        }
        let acts = self.policy.mode == Mode::Enforce;
        let (refusals, warnings): (Vec<_>, Vec<_>) =
            survey.obstacles.iter().cloned().partition(|obstacle| acts && obstacle.refuses());
        if !refusals.is_empty() {
            return Err(Reason::Obstructed { obstacles: refusals });
        }
        Ok((to.clone(), Reason::Accepted { from: stable.images.clone(), to, warnings }))
    }

    // --- moving

    /// Asks again and again whether something has happened, until nothing has; then sees to acts and holds.
    pub fn drive(&mut self, world: World<'_>, out: &mut Out) {
        // Each round moves to another phase. A good rollout has fewer phases than this, so the bound is never met
        // but by a table with a circle in it.
        for _ in 0..Phase::ALL.len() {
            self.begin_watching(world);
            self.follow_standing(world.now);
            self.follow_hold(world, out);
            self.next_act(world, out);
            let Some((trigger, reason)) = self.happened(world) else { break };
            let before = self.phase;
            self.move_on(trigger, reason, world, out);
            if self.phase == before && trigger != Trigger::StepPassed {
                break;
            }
        }
    }

    fn move_on(&mut self, trigger: Trigger, reason: Reason, world: World<'_>, out: &mut Out) {
        let Move::To(to) = next(self.phase, trigger) else {
            self.reason = reason;
            return;
        };
        let from = self.phase;
        if trigger == Trigger::CanaryGone {
            self.canary_made = false;
        }
        if let Some(ending) = ending_of(trigger, &reason) {
            self.judgement.get_or_insert(Judgement { ending, reason: reason.clone(), at: world.now });
        }
        if to == Phase::Restoring {
            let good = world.last_good.filter(|_| from == Phase::Guarding).map(|good| good.template.clone());
            self.back_to = good.or_else(|| self.basis.as_ref().map(|basis| basis.template.clone()));
        }
        if trigger == Trigger::StepPassed {
            self.step += 1;
        }
        self.phase = to;
        self.since = world.now;
        self.progress = 0;
        self.doing = None;
        self.held = None;
        if to == Phase::Ended {
            self.ended = Some(world.now);
            self.watching = None;
        }
        if to == Phase::Guarding {
            self.watching = None;
        }
        let kind = if to == Phase::Ended && !matches!(Kind::of(trigger), Kind::Refuse | Kind::GiveUp | Kind::Supersede)
        {
            Kind::Finish
        } else {
            Kind::of(trigger)
        };
        self.decide(kind, from, reason, world.now, out);
    }

    fn decide(&mut self, kind: Kind, from: Phase, reason: Reason, now: Timestamp, out: &mut Out) {
        let why = reason.to_string();
        self.reason = reason.clone();
        self.history.push(Entry { at: now, kind, to: self.phase, step: self.step, why: why.clone() });
        if self.history.len() > MOST_HISTORY {
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

    /// The first thing, in order of urgency, that has happened.
    fn happened(&self, world: World<'_>) -> Option<(Trigger, Reason)> {
        // What leads nowhere from here must not hide what does.
        let leads = |found: Option<(Trigger, Reason)>| {
            found.filter(|(trigger, _)| matches!(next(self.phase, *trigger), Move::To(_)))
        };
        leads(self.gone(world))
            .or_else(|| leads(self.failed(world)))
            .or_else(|| leads(self.regressed()))
            .or_else(|| leads(self.reached(world)))
            .or_else(|| leads(self.gave_up(world.now)))
            .or_else(|| leads(self.overdue(world)))
    }

    fn gone(&self, world: World<'_>) -> Option<(Trigger, Reason)> {
        let (basis, sighting) = (self.basis.as_ref()?, world.sighting?);
        let message = match &sighting.stable {
            Some(stable) if stable.uid == basis.stable_uid => return None,
            Some(_) => "it was deleted, and another one has its name",
            None => "it was deleted",
        };
        let reason = Reason::NoWorkload { workload: self.workload.clone(), message: message.to_owned() };
        Some((Trigger::WorkloadGone, reason))
    }

    fn failed(&self, world: World<'_>) -> Option<(Trigger, Reason)> {
        if self.observes() {
            return None;
        }
        let sighting = world.sighting?;
        if let Some(trouble) = sighting.canary.as_ref().filter(|_| self.canary_made).and_then(|arm| arm.trouble.clone())
        {
            let has_started = self.phase != Phase::Preparing || self.progress > 0;
            if has_started && next(self.phase, Trigger::CanaryFailed) != Move::Stay {
                return Some((Trigger::CanaryFailed, Reason::CanaryFailed { trouble }));
            }
        }
        let stable = sighting.stable.as_ref().filter(|arm| self.has_new_images(arm))?;
        let trouble = stable.trouble.clone()?;
        Some((Trigger::StableFailed, Reason::StableFailed { trouble }))
    }

    fn has_new_images(&self, arm: &Arm) -> bool {
        self.basis.as_ref().is_some_and(|basis| arm.images == basis.to)
    }

    fn regressed(&self) -> Option<(Trigger, Reason)> {
        match self.watching.as_ref()?.standing() {
            Standing::Regressed(evidence) => Some((Trigger::Regressed, Reason::Regressed { evidence })),
            Standing::Pass(_) | Standing::Blind(_) | Standing::Insufficient(_) => None,
        }
    }

    fn gave_up(&self, now: Timestamp) -> Option<(Trigger, Reason)> {
        let held = self.held.as_ref()?;
        let after = Span::between(held.since, now);
        let reason = || Reason::HoldExpired { held: Box::new(held.reason.clone()), after };
        (after >= self.policy.max_hold).then(|| (Trigger::GaveUp, reason()))
    }

    fn overdue(&self, world: World<'_>) -> Option<(Trigger, Reason)> {
        let limit = self.time_limit()?;
        if Span::between(self.since, world.now) < limit || self.held.is_some() {
            return None;
        }
        let arms = world.sighting;
        let reason = match self.phase {
            Phase::Preparing | Phase::Growing => {
                let canary = arms.and_then(|sighting| sighting.canary.as_ref());
                Reason::NotReady {
                    available: canary.map_or(0, |arm| arm.available),
                    replicas: self.canary_size(self.step),
                    within: limit,
                }
            }
            Phase::Promoting => {
                let stable = arms.and_then(|sighting| sighting.stable.as_ref());
                Reason::StableNotReady {
                    available: stable.map_or(0, |arm| arm.updated.min(arm.available)),
                    replicas: stable.map_or(0, |arm| arm.replicas),
                    within: limit,
                }
            }
            Phase::Gating
            | Phase::Stepping
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Guarding
            | Phase::Restoring
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => self.slow(world.now),
        };
        Some((Trigger::Overdue, reason))
    }

    /// How long the phase may take, apart from the time in which it judges.
    fn time_limit(&self) -> Option<Span> {
        match self.phase {
            Phase::Gating if self.basis.is_some() => None,
            Phase::Gating | Phase::Preparing | Phase::Growing => Some(self.policy.ready_within),
            Phase::Stepping if self.is_watching_this_step() => None,
            Phase::Stepping => Some(self.policy.ready_within),
            Phase::Promoting
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Restoring
            | Phase::Draining
            | Phase::Removing => Some(self.policy.promote_within),
            Phase::Guarding | Phase::Ended => None,
        }
    }

    fn slow(&self, now: Timestamp) -> Reason {
        let after = Span::between(self.since, now);
        match self.doing.as_ref().and_then(|doing| Some((doing, doing.failure.as_ref()?))) {
            Some((doing, failure)) => Reason::Failing {
                act: doing.effect.act.name().to_owned(),
                message: failure.message.clone(),
                attempts: doing.attempts,
            },
            None => Reason::Slow { waiting_for: self.waiting_for().to_owned(), after },
        }
    }

    fn waiting_for(&self) -> &'static str {
        match self.phase {
            Phase::Gating => "the survey",
            Phase::Preparing | Phase::Growing => "the canary's pods",
            Phase::Stepping => "the gateway to accept the weight",
            Phase::Promoting => "the workload's pods with the new version",
            Phase::Returning | Phase::Draining => "the traffic to return to the workload",
            Phase::Cleaning | Phase::Removing => "the canary to disappear",
            Phase::Restoring => "the workload's pods with the old version",
            Phase::Guarding => "the guard's time",
            Phase::Ended => "nothing",
        }
    }

    /// What the phase is for has come about.
    fn reached(&self, world: World<'_>) -> Option<(Trigger, Reason)> {
        if self.progress < self.acts().len() {
            return None;
        }
        let sighting = world.sighting;
        let took = Span::between(self.since, world.now);
        match self.phase {
            Phase::Gating | Phase::Ended => None,
            Phase::Preparing | Phase::Growing => {
                let size = self.canary_size(self.step);
                self.canary_available(sighting, size)
                    .then_some((Trigger::CanaryReady, Reason::CanaryReady { replicas: size, took }))
            }
            Phase::Stepping => self.step_passed(sighting, world.now),
            Phase::Promoting => {
                let stable = sighting.and_then(|sighting| sighting.stable.as_ref());
                let ready = stable.is_some_and(|arm| self.has_new_images(arm) && arm.is_settled());
                let replicas = stable.map_or(0, |arm| arm.available);
                (ready || self.observes()).then_some((Trigger::StableReady, Reason::StableReady { replicas, took }))
            }
            Phase::Returning | Phase::Draining => {
                (self.observes() || self.is_empty(sighting)).then_some((Trigger::Emptied, Reason::Emptied))
            }
            Phase::Cleaning | Phase::Removing => {
                let gone = sighting.is_none_or(|sighting| sighting.canary.is_none() && sighting.routed.is_none());
                (gone || !self.canary_made || self.observes()).then_some((Trigger::CanaryGone, Reason::CanaryGone))
            }
            Phase::Restoring => {
                let stable = sighting.and_then(|sighting| sighting.stable.as_ref());
                let back = stable.is_some_and(|arm| self.back_to.as_ref() == Some(&arm.template) && arm.is_settled());
                let replicas = stable.map_or(0, |arm| arm.available);
                (back || self.observes()).then_some((Trigger::StableReady, Reason::Restored { replicas }))
            }
            Phase::Guarding => self.guard_passed(world.now),
        }
    }

    fn canary_available(&self, sighting: Option<&Sighting>, size: u32) -> bool {
        let canary = sighting.and_then(|sighting| sighting.canary.as_ref());
        self.observes() || canary.is_some_and(|arm| arm.has_available(size) && self.has_new_images(arm))
    }

    fn is_empty(&self, sighting: Option<&Sighting>) -> bool {
        let routed = sighting.and_then(|sighting| sighting.routed);
        match self.policy.traffic {
            // Pods behind one Service have traffic until they are gone; there is no weight to wait for.
            Traffic::Replicas => true,
            Traffic::Gateway { .. } => !self.canary_made || routed.is_none_or(|routed| routed.weight == Weight::ZERO),
        }
    }

    fn weight_seen(&self, sighting: Option<&Sighting>) -> bool {
        if self.observes() {
            return true;
        }
        match self.policy.traffic {
            Traffic::Replicas => self.canary_available(sighting, self.canary_size(self.step)),
            Traffic::Gateway { .. } => {
                let routed = sighting.and_then(|sighting| sighting.routed);
                routed.is_some_and(|routed| routed.accepted && routed.weight == self.asked())
            }
        }
    }

    fn step_passed(&self, sighting: Option<&Sighting>, now: Timestamp) -> Option<(Trigger, Reason)> {
        let step = self.policy.steps.get(self.step)?;
        let watching = self.watching.as_ref().filter(|_| self.is_watching_this_step())?;
        let Standing::Pass(evidence) = watching.standing() else { return None };
        let passed = watching.passed?;
        if now < step.pause.after(passed) || !self.weight_seen(sighting) || self.held.is_some() {
            return None;
        }
        let last = self.step + 1 == self.policy.steps.len();
        let trigger = if last { Trigger::LastStepPassed } else { Trigger::StepPassed };
        Some((trigger, Reason::Passed { evidence, after: Span::between(watching.since, now) }))
    }

    fn guard_passed(&self, now: Timestamp) -> Option<(Trigger, Reason)> {
        if self.policy.guard.is_none() {
            return Some((Trigger::GuardPassed, Reason::NoGuard));
        }
        let watching = self.watching.as_ref()?;
        let Standing::Pass(evidence) = watching.standing() else { return None };
        watching.passed?;
        Some((Trigger::GuardPassed, Reason::GuardPassed { evidence, after: Span::between(watching.since, now) }))
    }

    // --- acting

    /// What there is to do in this phase, in order.
    fn acts(&self) -> Vec<Act> {
        let traffic = self.policy.traffic.clone();
        let Some(basis) = &self.basis else {
            return if self.phase == Phase::Gating { vec![Act::Survey { traffic }] } else { Vec::new() };
        };
        let apply = || Act::ApplyCanary {
            stable_uid: basis.stable_uid.clone(),
            images: self.changes(),
            replicas: self.canary_size(self.step),
            traffic: traffic.clone(),
        };
        match self.phase {
            Phase::Gating => vec![Act::Survey { traffic }],
            Phase::Preparing => {
                vec![apply(), Act::Probe { metrics: self.policy.probed(), stable: self.stable_key(basis) }]
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
            Phase::Cleaning | Phase::Removing if self.canary_made => vec![Act::RemoveCanary { traffic }],
            Phase::Restoring => match &self.back_to {
                Some(template) => {
                    vec![Act::Restore { stable_uid: basis.stable_uid.clone(), template: template.clone() }]
                }
                None => Vec::new(),
            },
            Phase::Returning | Phase::Draining | Phase::Cleaning | Phase::Removing | Phase::Guarding | Phase::Ended => {
                Vec::new()
            }
        }
    }

    fn next_act(&mut self, world: World<'_>, out: &mut Out) {
        if let Some(doing) = &mut self.doing {
            out.effects.extend(doing.due(world.now));
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
                Act::Survey { .. }
                | Act::Probe { .. }
                | Act::Promote { .. }
                | Act::Restore { .. }
                | Act::RemoveCanary { .. }
                | Act::Notify { .. }
                | Act::Note { .. } => {}
            }
            if act.writes() && self.observes() {
                self.progress += 1;
                continue;
            }
            let effect = self.effect(act.clone());
            self.doing = Some(Doing::new(effect.clone()));
            out.effects.push(effect);
            return;
        }
    }

    /// Traffic is only ever sent to a version that is available: it does not go back to a workload without an
    /// available pod while the canary has one.
    fn may(&self, act: &Act, world: World<'_>) -> bool {
        let Act::SetWeight { weight: Weight::ZERO, .. } = act else { return true };
        let Some(sighting) = world.sighting else { return true };
        let available = |arm: &Option<Arm>| arm.as_ref().is_some_and(|arm| arm.available > 0);
        available(&sighting.stable) || !available(&sighting.canary)
    }

    /// An effect of this rollout with the next number.
    pub fn effect(&mut self, act: Act) -> Effect {
        let id = EffectId::of(&self.id, self.effects);
        self.effects += 1;
        Effect { id, rollout: self.id.clone(), workload: self.workload.clone(), act }
    }

    fn changes(&self) -> Images {
        let Some(basis) = &self.basis else { return Images::new() };
        basis
            .to
            .iter()
            .filter(|(name, image)| basis.from.get(*name) != Some(*image))
            .map(|(n, i)| (n.clone(), i.clone()))
            .collect()
    }

    fn stable_key(&self, basis: &Basis) -> ArmKey {
        let (deployment_uid, name) = (basis.stable_uid.clone(), self.workload.name.clone());
        ArmKey { deployment_uid, pod_hash: None, name }
    }

    /// The canary's share that the rollout wants now.
    fn asked(&self) -> Weight {
        match self.phase {
            Phase::Stepping => self.policy.steps.get(self.step).map_or(Weight::ZERO, |step| step.weight),
            Phase::Growing | Phase::Promoting | Phase::Restoring => self.weight,
            Phase::Gating
            | Phase::Preparing
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Guarding
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => Weight::ZERO,
        }
    }

    /// How many pods the canary needs for a step: its share of the workload's, rounded up, and at least two where the
    /// workload has two, because one pod can't be told from its node. Where pods are the traffic, as many as come
    /// nearest to the share.
    pub fn canary_size(&self, step: usize) -> u32 {
        let stable = f64::from(self.basis.as_ref().map_or(1, |basis| basis.replicas.max(1)));
        let share = self.policy.steps.get(step).map_or(0.0, |step| step.weight.as_share());
        let size = match self.policy.traffic {
            Traffic::Gateway { .. } => ceil(stable * share).max(if stable >= 2.0 { 2.0 } else { 1.0 }),
            Traffic::Replicas => (stable * share / (1.0 - share) + 0.5).floor().max(1.0),
        };
        size as u32
    }

    /// The share that the split in use can achieve for the present step.
    pub fn achievable(&self) -> Weight {
        match self.policy.traffic {
            Traffic::Gateway { .. } => self.asked(),
            Traffic::Replicas => {
                let canary = f64::from(self.canary_size(self.step));
                let stable = f64::from(self.basis.as_ref().map_or(1, |basis| basis.replicas.max(1)));
                Weight::basis_points((canary / (canary + stable) * 10_000.0 + 0.5).floor() as u16)
            }
        }
    }

    // --- watching

    fn is_watched(&self) -> bool {
        match self.phase {
            Phase::Growing | Phase::Stepping | Phase::Promoting | Phase::Returning => true,
            Phase::Guarding => self.policy.guard.is_some(),
            Phase::Gating
            | Phase::Preparing
            | Phase::Cleaning
            | Phase::Restoring
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => false,
        }
    }

    fn is_watching_this_step(&self) -> bool {
        self.watching.as_ref().is_some_and(|watching| !watching.guards && watching.step == self.step)
    }

    fn judged_arm<'a>(&self, sighting: Option<&'a Sighting>) -> Option<&'a Arm> {
        let sighting = sighting?;
        if self.phase == Phase::Guarding { sighting.stable.as_ref() } else { sighting.canary.as_ref() }
    }

    /// Windows begin when the step's weight has been seen, or the guard has begun.
    fn begin_watching(&mut self, world: World<'_>) {
        let guards = self.phase == Phase::Guarding;
        let begins = match self.phase {
            Phase::Guarding => self.watching.is_none() && self.policy.guard.is_some(),
            Phase::Stepping => !self.is_watching_this_step() && self.progress >= 1 && self.weight_seen(world.sighting),
            Phase::Gating
            | Phase::Preparing
            | Phase::Growing
            | Phase::Promoting
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Restoring
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => false,
        };
        if begins {
            let checks = checks_of(&self.policy, guards, self.step).len();
            self.watching = Some(Watching::new(self.step, guards, checks, world.now));
        }
    }

    fn least_time(&self) -> Span {
        match self.phase {
            Phase::Guarding => self.policy.guard.as_ref().map_or(Span::ZERO, |guard| guard.length),
            Phase::Gating
            | Phase::Preparing
            | Phase::Growing
            | Phase::Stepping
            | Phase::Promoting
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Restoring
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => self.policy.steps.get(self.step).map_or(Span::ZERO, |step| step.min_time),
        }
    }

    fn judges(&self) -> bool {
        self.phase == Phase::Guarding || (self.phase == Phase::Stepping && self.is_watching_this_step())
    }

    fn follow_standing(&mut self, now: Timestamp) {
        if !self.judges() {
            return;
        }
        let least = self.least_time();
        if let Some(watching) = &mut self.watching {
            watching.follow(least, now);
            self.reason = watching.reason(least);
        }
    }

    /// What to measure for this rollout; `None`: nothing.
    pub fn watch(&self, sighting: Option<&Sighting>) -> Option<Watch> {
        let (sighting, basis) = (sighting?, self.basis.as_ref()?);
        if !self.is_watched() {
            return None;
        }
        let key = |arm: &Arm, name: String, pod_hash: Option<String>| ArmKey {
            deployment_uid: arm.uid.clone(),
            pod_hash,
            name,
        };
        let stable = sighting.stable.as_ref()?;
        let guards = self.phase == Phase::Guarding;
        let canary = sighting.canary.as_ref().filter(|_| !guards);
        Some(Watch {
            workload: self.workload.clone(),
            metrics: self.policy.measured_metrics(),
            canary: canary.map(|arm| key(arm, self.workload.canary_name(), arm.pod_hash.clone())),
            // Under guard only the version that is guarded counts; while it is being promoted, either.
            stable: ArmKey { pod_hash: stable.pod_hash.clone().filter(|_| guards), ..self.stable_key(basis) },
            since: self.started,
            last: self.last_block,
        })
    }

    // --- holding

    /// Why the rollout should stay where it is and ask, if it should.
    fn cause_to_hold(&self, now: Timestamp) -> Option<Reason> {
        if self.phase == Phase::Gating && self.basis.is_some() {
            return Some(Reason::NoLastGood);
        }
        if self.judges() {
            return self.lack_of_evidence(now);
        }
        let limit = self.time_limit()?;
        let stays = next(self.phase, Trigger::Overdue) == Move::Stay;
        (stays && Span::between(self.since, now) >= limit).then(|| self.slow(now))
    }

    fn lack_of_evidence(&self, now: Timestamp) -> Option<Reason> {
        let watching = self.watching.as_ref()?;
        if let Some((seen, n)) = watching.share_off(self.achievable()).filter(|_| self.phase == Phase::Stepping) {
            return Some(Reason::ShareOff { asked: self.achievable(), seen, n });
        }
        let (lack, since) = watching.lacking?;
        let patience = match lack {
            Lack::Sight => self.policy.patience.blind,
            Lack::Evidence => self.policy.patience.insufficient,
        };
        if Span::between(since, now) < patience {
            return None;
        }
        match watching.standing() {
            Standing::Blind(evidence) => Some(Reason::Blind { evidence, since }),
            Standing::Insufficient(evidence) => Some(Reason::Insufficient { evidence }),
            Standing::Pass(_) | Standing::Regressed(_) => None,
        }
    }

    fn follow_hold(&mut self, world: World<'_>, out: &mut Out) {
        match (self.cause_to_hold(world.now), self.held.is_some()) {
            (Some(reason), false) => {
                self.held = Some(Held { since: world.now, reason: reason.clone() });
                self.decide(Kind::Hold, self.phase, reason, world.now, out);
            }
            (None, true) => {
                self.held = None;
                self.decide(Kind::Resume, self.phase, Reason::Recovered, world.now, out);
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    // --- time

    /// The next instant after `now` at which time alone may change something.
    pub fn wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        if self.phase == Phase::Ended {
            return None;
        }
        let watching = self.watching.as_ref().filter(|_| self.judges());
        let pause = self.policy.steps.get(self.step).map_or(Span::ZERO, |step| step.pause);
        [
            self.doing.as_ref().and_then(|doing| doing.retry),
            self.time_limit().map(|limit| limit.after(self.since)),
            self.held.as_ref().map(|held| self.policy.max_hold.after(held.since)),
            watching.map(|watching| self.least_time().after(watching.since)),
            watching.and_then(|watching| watching.passed).map(|passed| pause.after(passed)),
            watching.and_then(|watching| watching.lacking).map(|(lack, since)| match lack {
                Lack::Sight => self.policy.patience.blind.after(since),
                Lack::Evidence => self.policy.patience.insufficient.after(since),
            }),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }
}

/// The checks of a step, or of the guard.
fn checks_of(policy: &Policy, guards: bool, step: usize) -> &[Check] {
    if guards {
        policy.guard.as_ref().map_or(&[], |guard| &guard.checks)
    } else {
        policy.steps.get(step).map_or(&[], |step| &step.checks)
    }
}

fn ceil(value: f64) -> f64 {
    // A share such as 0.1 of 20 is 2, although in binary it may be a hair more.
    (value - 1e-9).ceil()
}

fn ending_of(trigger: Trigger, reason: &Reason) -> Option<Ending> {
    match trigger {
        Trigger::Regressed | Trigger::CanaryFailed | Trigger::StableFailed | Trigger::Overdue => {
            Some(Ending::RolledBack)
        }
        Trigger::Refused if matches!(reason, Reason::Unchanged) => Some(Ending::Unchanged),
        Trigger::Refused => Some(Ending::Refused),
        Trigger::Superseded => Some(Ending::Superseded),
        Trigger::GaveUp | Trigger::WorkloadGone => Some(Ending::GivenUp),
        Trigger::GuardPassed => Some(Ending::Promoted),
        Trigger::Accepted
        | Trigger::Guardable
        | Trigger::CanaryReady
        | Trigger::StepPassed
        | Trigger::LastStepPassed
        | Trigger::StableReady
        | Trigger::Emptied
        | Trigger::CanaryGone => None,
    }
}

/// The images that the workload is to have: its own, with those that the request names.
fn wanted_images(request: &Request, running: &Images) -> Result<Images, Reason> {
    let containers = || running.keys().cloned().collect::<Vec<_>>();
    let mut to = running.clone();
    for (container, image) in &request.images {
        match to.get_mut(container) {
            Some(slot) => slot.clone_from(image),
            None => return Err(Reason::NoContainer { container: container.clone(), containers: containers() }),
        }
    }
    if let Some(image) = &request.image {
        let same = |running: &&String| repository(running) == repository(image);
        let fits: Vec<String> =
            running.iter().filter(|(_, running)| same(running)).map(|(container, _)| container.clone()).collect();
        match fits.as_slice() {
            [one] => {
                to.insert(one.clone(), image.clone());
            }
            _ => return Err(Reason::AmbiguousImage { image: image.clone(), fits, containers: containers() }),
        }
    }
    Ok(to)
}
