//! One workload: everything that is known of it, and what follows for it from what happens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, EventId, Scope, Workload};
use crate::input::command::{Author, Freeze, Verb};
use crate::input::effect::{Act, Effect};
use crate::input::event::{FailureKind, Outcome};
use crate::input::report::SuiteReport;
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::policy::{Mode, Policy};
use crate::rollout::decision::{Decision, Ending};
use crate::rollout::message;
use crate::rollout::phase::Phase;
use crate::rollout::reason::Reason;
use crate::rollout::{InFlight, LastGood, QuarantineEntry, Rollout, RolloutContext, StepOutput, Task};
use crate::time::Timestamp;

/// So many messages of a workload may wait to be sent; the oldest go first.
const MOST_MESSAGES: usize = 16;
/// After so many attempts (about twenty minutes of them) a message is dropped.
const MOST_ATTEMPTS: u32 = 40;
/// So many failed versions of a workload are remembered; the oldest are forgotten first.
const MOST_QUARANTINED: usize = 16;
/// An Event is a courtesy: it is dropped sooner.
const MOST_NOTE_ATTEMPTS: u32 = 4;

/// Everything that is known of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorkloadState {
    /// Which.
    pub workload: Workload,
    /// As it was last seen.
    pub status: Option<WorkloadStatus>,
    /// The version that is known to be good.
    pub last_good: Option<LastGood>,
    /// The time of the last event that was accepted.
    pub last_accepted: Option<Timestamp>,
    /// The rollout that runs, or the last one that did.
    pub rollout: Option<Rollout>,
    /// The newest request that waits for it to end.
    pub queued: Option<QueuedRequest>,
    /// The freezes that it lies in. They are here as well as in the engine, so that this state and its inputs are all
    /// that a replay needs.
    #[serde(default)]
    pub freezes: BTreeMap<Scope, Freeze>,
    /// The versions that have failed here, oldest first.
    #[serde(default)]
    pub quarantine: Vec<QuarantineEntry>,
    /// What was tested for it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<SuiteReport>,
    /// Messages that are not known to be sent.
    pub outbox: Vec<InFlight>,
    /// When it last changed: time does not run backwards over a restart either.
    pub changed: Timestamp,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QueuedRequest {
    /// The event that asked.
    pub event: EventId,
    /// What for.
    pub task: Task,
    /// By which rules.
    pub policy: Policy,
    /// Why.
    pub reason: Reason,
}

impl WorkloadState {
    /// A workload of which nothing is known.
    pub fn new(workload: Workload) -> WorkloadState {
        WorkloadState {
            workload,
            status: None,
            last_good: None,
            last_accepted: None,
            rollout: None,
            queued: None,
            freezes: BTreeMap::new(),
            quarantine: Vec::new(),
            reports: Vec::new(),
            outbox: Vec::new(),
            changed: Timestamp::MIN,
        }
    }

    pub(super) fn wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        let rollout = self.rollout.as_ref().and_then(|rollout| rollout.wakeup(now));
        let outbox = self.outbox.iter().filter_map(|in_flight| in_flight.retry).filter(|at| *at > now);
        let thaws = self.freezes.values().filter_map(|freeze| freeze.until).filter(|at| *at > now);
        rollout.into_iter().chain(outbox).chain(thaws).min()
    }

    /// The freeze that is in force: of several the one without an end, or with the latest.
    pub fn frozen(&self, now: Timestamp) -> Option<(&Scope, &Freeze)> {
        let in_force = self.freezes.iter().filter(|(_, freeze)| freeze.holds(now));
        in_force.max_by_key(|(_, freeze)| freeze.until.unwrap_or(Timestamp::MAX))
    }

    /// The rollout, unless it is over.
    pub fn active(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| rollout.phase != Phase::Ended)
    }

    /// Runs `act` on the rollout that is not over, with the world as it is known here.
    pub(super) fn with_rollout<T>(
        &mut self,
        now: Timestamp,
        act: impl FnOnce(&mut Rollout, RolloutContext<'_>) -> T,
    ) -> Option<T> {
        let frozen = self.frozen(now).map(|(scope, freeze)| (scope.clone(), freeze.clone()));
        let WorkloadState { status, last_good, rollout, quarantine, reports, .. } = self;
        let rollout = rollout.as_mut().filter(|rollout| rollout.phase != Phase::Ended)?;
        let frozen = frozen.as_ref().map(|(scope, freeze)| (scope, freeze));
        let (status, last_good) = (status.as_ref(), last_good.as_ref());
        Some(act(rollout, RolloutContext { now, status, last_good, frozen, quarantine, reports }))
    }

    /// Time has passed for this workload.
    pub(super) fn wake(&mut self, now: Timestamp, out: &mut StepOutput) -> bool {
        let before = self.clone();
        self.freezes.retain(|_, freeze| freeze.holds(now));
        self.with_rollout(now, |rollout, world| rollout.drive(world, out));
        for in_flight in &mut self.outbox {
            out.effects.extend(in_flight.due(now));
        }
        *self != before
    }

    pub(super) fn performed(
        &mut self,
        effect: &EffectId,
        outcome: Outcome,
        now: Timestamp,
        out: &mut StepOutput,
    ) -> bool {
        if let Some(at) = self.outbox.iter().position(|in_flight| in_flight.effect.id == *effect) {
            self.told(at, outcome, now);
            return true;
        }
        let waits = self
            .active()
            .and_then(|rollout| rollout.in_flight.as_ref())
            .is_some_and(|in_flight| in_flight.effect.id == *effect);
        if let Outcome::Preflight(preflight) = &outcome
            && waits
        {
            self.take_preflight(&preflight.status, now);
        }
        self.with_rollout(now, |rollout, world| rollout.performed(effect, outcome, world, out)).unwrap_or(false)
    }

    /// A survey is a fresh read: it may know of a change that the watches have not told yet.
    fn take_preflight(&mut self, found: &WorkloadStatus, now: Timestamp) {
        let generation =
            |status: &WorkloadStatus| status.stable.as_ref().map(|stable| (stable.uid.clone(), stable.generation));
        let newer = match (self.status.as_ref().and_then(generation), generation(found)) {
            (Some((known, before)), Some((uid, after))) => known == uid && before < after,
            (None, _) => true,
            (Some(_), None) => false,
        };
        if newer {
            self.status = Some(found.clone());
        }
        // Asked for before anybody had looked: what is found now, healthy, is what was good.
        if self.rollout.as_ref().is_some_and(|rollout| matches!(rollout.task, Task::Roll { .. })) {
            self.found_healthy(now);
        }
    }

    /// A message was sent, or was not.
    fn told(&mut self, at: usize, outcome: Outcome, now: Timestamp) {
        let Some(in_flight) = self.outbox.get_mut(at) else { return };
        let limit = if matches!(in_flight.effect.act, Act::Note { .. }) { MOST_NOTE_ATTEMPTS } else { MOST_ATTEMPTS };
        match outcome {
            Outcome::Failed(failure)
                if matches!(failure.kind, FailureKind::Unavailable | FailureKind::Conflict)
                    && in_flight.attempts < limit =>
            {
                in_flight.failed(failure, now);
            }
            Outcome::Failed(_)
            | Outcome::Done
            | Outcome::Preflight(_)
            | Outcome::Probed { .. }
            | Outcome::Pointed { .. } => {
                self.outbox.remove(at);
            }
        }
    }

    /// A workload that is healthy when it is first seen is what there is to go back to.
    pub(super) fn found_healthy(&mut self, now: Timestamp) {
        if self.last_good.is_some() {
            return;
        }
        let healthy =
            |arm: &&DeploymentStatus| arm.is_settled() && arm.replicas > 0 && arm.trouble.is_none() && !arm.paused;
        if let Some(stable) = self.status.as_ref().and_then(|status| status.stable.as_ref()).filter(healthy) {
            self.last_good = Some(good(stable, now));
        }
    }

    /// The newest request is the one that counts. It begins at once where nothing runs, ends what has not been decided
    /// yet, and waits for the rest.
    pub(super) fn enqueue(&mut self, queued: QueuedRequest, now: Timestamp, out: &mut StepOutput) {
        let by = queued.event.clone();
        // The stable's own images mid-rollout: back at once, and that is all that was asked for.
        let recalled = self.with_rollout(now, |rollout, world| match &queued.task {
            Task::Roll { request } if rollout.is_recalled_by(request) => {
                rollout.recalled(by.clone(), world, out);
                true
            }
            Task::Roll { .. } | Task::Guard { .. } => false,
        });
        if recalled == Some(true) {
            self.queued = None;
            return;
        }
        self.queued = Some(queued);
        self.with_rollout(now, |rollout, world| {
            if rollout.can_be_superseded() {
                rollout.superseded(by, world, out);
            }
        });
    }

    /// Tells the rollout, and asks again for what it was asked for if it is to begin anew; why not, if it refuses.
    pub(super) fn obey(
        &mut self,
        verb: &Verb,
        by: (EventId, Author),
        now: Timestamp,
        out: &mut StepOutput,
    ) -> Option<Reason> {
        let (event, order) = by;
        let guarded = self.active().is_some_and(|rollout| rollout.phase == Phase::Guarding);
        let refusal = self.with_rollout(now, |rollout, world| rollout.obey(verb, order, world, out))?.err();
        if let Some(rollout) = self.rollout.as_ref().filter(|rollout| rollout.begins_again() && !guarded) {
            let (task, policy) = (rollout.task.clone(), rollout.policy.clone());
            let reason = rollout.conclusion.as_ref().map_or(Reason::Recovered, |conclusion| conclusion.reason.clone());
            self.queued.get_or_insert(QueuedRequest { event, task, policy, reason });
        }
        refusal
    }

    /// What follows from any change: a finished promotion is good, people are told, and what waits begins.
    pub(super) fn follow_up(&mut self, now: Timestamp, out: &mut StepOutput) {
        let mut told = 0;
        loop {
            self.record_good(now);
            if out.decisions[told..].iter().any(|decision| decision.ending == Some(Ending::RolledBack)) {
                self.record_failed();
            }
            self.tell(&out.decisions[told..], &mut out.effects);
            told = out.decisions.len();
            if self.active().is_some() {
                return;
            }
            let frozen = self.frozen(now).is_some();
            let may = |queued: &mut QueuedRequest| !frozen || matches!(queued.task, Task::Guard { .. });
            let Some(QueuedRequest { event, task, policy, reason }) = self.queued.take_if(may) else { return };
            let mut rollout = Rollout::begin(event, self.workload.clone(), task, policy, reason, now);
            rollout.tell_of_retry(out);
            out.replaced = self.rollout.replace(rollout).map(Box::new);
            self.with_rollout(now, |rollout, world| rollout.drive(world, out));
        }
    }

    fn record_good(&mut self, now: Timestamp) {
        let promoted = self.rollout.as_ref().filter(|rollout| {
            rollout.ending() == Some(Ending::Promoted)
                && rollout.ended == Some(now)
                && rollout.policy.mode == Mode::Enforce
        });
        let stable = self.status.as_ref().and_then(|status| status.stable.as_ref());
        if let (Some(rollout), Some(stable)) = (promoted, stable)
            && rollout.basis.as_ref().is_some_and(|basis| basis.to == stable.images)
            && self.last_good.as_ref().is_none_or(|good| good.template != stable.template)
        {
            self.last_good = Some(good(stable, now));
        }
    }

    /// A version that was found wanting is not tried again until somebody says so. What nothing was found against is not.
    fn record_failed(&mut self) {
        let failed = self.rollout.as_ref().filter(|rollout| rollout.policy.mode == Mode::Enforce);
        let Some((rollout, conclusion)) = failed.and_then(|rollout| Some((rollout, rollout.conclusion.as_ref()?)))
        else {
            return;
        };
        let images = rollout.changes();
        // Losing to the stable says nothing against a version but that the other one is better.
        let harmless =
            matches!(conclusion.reason, Reason::Blind { .. } | Reason::Insufficient { .. } | Reason::Lost { .. });
        if harmless || images.is_empty() {
            return;
        }
        let (since, why) = (conclusion.at, conclusion.reason.to_string());
        let failed = QuarantineEntry { images, since, rollout: rollout.id.clone(), why };
        self.quarantine.retain(|known| known.images != failed.images);
        self.quarantine.push(failed);
        if self.quarantine.len() > MOST_QUARANTINED {
            self.quarantine.remove(0);
        }
    }

    fn tell(&mut self, decisions: &[Decision], effects: &mut Vec<Effect>) {
        let Some(rollout) = &mut self.rollout else { return };
        for decision in decisions {
            for act in message::about(decision, rollout) {
                let effect = rollout.effect(act);
                effects.push(effect.clone());
                if self.outbox.len() >= MOST_MESSAGES {
                    // The terminal message always has its place: a note makes room first.
                    let note =
                        self.outbox.iter().position(|in_flight| matches!(in_flight.effect.act, Act::Note { .. }));
                    self.outbox.remove(note.unwrap_or(0));
                }
                self.outbox.push(InFlight::new(effect));
            }
        }
    }
}

fn good(arm: &DeploymentStatus, since: Timestamp) -> LastGood {
    LastGood { template: arm.template.clone(), images: arm.images.clone(), since }
}
