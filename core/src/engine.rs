//! Many workloads, one at a time: who an event is for, whether it has come before, and what it changes.
//!
//! An engine owns the workloads of one partition. It holds at most one rollout of each, and the newest request that waits
//! for it. Everything that it knows of a workload is a [`State`], which serializes to a snapshot; an engine that is
//! given the snapshot and told the same inputs again is the same engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Ending};
use crate::effect::{Act, Effect};
use crate::event::{Event, FailureKind, Input, Outcome, Request};
use crate::ids::{EffectId, EventId, Workload};
use crate::message;
use crate::phase::Phase;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::rollout::{Doing, LastGood, Out, Rollout, Task, World};
use crate::sighting::{Arm, Sighting};
use crate::time::{Span, Timestamp};
use crate::watch::Watch;

/// So many messages of a workload may wait to be sent; the oldest go first.
const MOST_MESSAGES: usize = 16;
/// After so many attempts (about twenty minutes of them) a message is dropped.
const MOST_ATTEMPTS: u32 = 40;
/// An Event is a courtesy: it is dropped sooner.
const MOST_NOTE_ATTEMPTS: u32 = 4;

/// Everything that is known of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
    /// Which.
    pub workload: Workload,
    /// As it was last seen.
    pub sighting: Option<Sighting>,
    /// The version that is known to be good.
    pub last_good: Option<LastGood>,
    /// The time of the last event that was accepted.
    pub last_accepted: Option<Timestamp>,
    /// The rollout that runs, or the last one that did.
    pub rollout: Option<Rollout>,
    /// The newest request that waits for it to end.
    pub queued: Option<Queued>,
    /// Messages that are not known to be sent.
    pub outbox: Vec<Doing>,
    /// When it last changed: time does not run backwards over a restart either.
    pub changed: Timestamp,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Queued {
    /// The event that asked.
    pub event: EventId,
    /// What for.
    pub task: Task,
    /// By which rules.
    pub policy: Policy,
    /// Why.
    pub reason: Reason,
}

impl State {
    /// A workload of which nothing is known.
    pub fn new(workload: Workload) -> State {
        State {
            workload,
            sighting: None,
            last_good: None,
            last_accepted: None,
            rollout: None,
            queued: None,
            outbox: Vec::new(),
            changed: Timestamp::MIN,
        }
    }

    fn wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        let rollout = self.rollout.as_ref().and_then(|rollout| rollout.wakeup(now));
        let outbox = self.outbox.iter().filter_map(|doing| doing.retry).filter(|at| *at > now);
        rollout.into_iter().chain(outbox).min()
    }

    /// The rollout, unless it is over.
    pub fn active(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| rollout.phase != Phase::Ended)
    }
}

/// What the engine made of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Took {
    /// It changed something, and has to be journaled.
    Changed,
    /// It changed nothing.
    Ignored,
    /// It asks for what can't be done: whoever sent it has to mend it.
    Rejected,
}

/// What one input did to one workload.
#[derive(Debug, Clone)]
#[must_use = "what is not committed is lost"]
pub struct Transition {
    /// Which workload.
    pub workload: Workload,
    /// The input, for the journal.
    pub input: Input,
    /// What the engine made of it.
    pub took: Took,
    /// Why.
    pub reason: Reason,
    /// What was decided, in order.
    pub decisions: Vec<Decision>,
    /// What is asked of the world, in order, once this is committed.
    pub effects: Vec<Effect>,
    /// The event to remember as seen, and until when.
    pub seen: Option<(EventId, Timestamp)>,
    /// The policy that was looked up for the event, which a replay needs.
    pub policy: Option<Policy>,
}

/// The workloads of one partition.
#[derive(Debug, Clone)]
pub struct Engine {
    cluster: String,
    policies: Vec<Policy>,
    retention: Span,
    states: BTreeMap<Workload, State>,
    seen: BTreeMap<EventId, Timestamp>,
    /// When to wake which workload, and the same by workload, so that an entry is found without a search.
    wakeups: BTreeSet<(Timestamp, Workload)>,
    wakeup_of: BTreeMap<Workload, Timestamp>,
    now: Timestamp,
}

impl Engine {
    /// An engine that knows nothing yet. `retention` is how long the events topic keeps its records, and therefore how
    /// long an event must be remembered.
    pub fn new(cluster: String, policies: Vec<Policy>, retention: Span) -> Engine {
        Engine {
            cluster,
            policies,
            retention,
            states: BTreeMap::new(),
            seen: BTreeMap::new(),
            wakeups: BTreeSet::new(),
            wakeup_of: BTreeMap::new(),
            now: Timestamp::MIN,
        }
    }

    /// New policies, for rollouts that begin from now on.
    pub fn set_policies(&mut self, policies: Vec<Policy>) {
        self.policies = policies;
    }

    /// Puts a workload back as it was.
    pub fn restore(&mut self, state: State) {
        self.now = self.now.max(state.changed);
        // Whatever fell due while nobody was there is due now.
        self.set_wakeup(&state.workload, state.wakeup(Timestamp::MIN));
        self.states.insert(state.workload.clone(), state);
    }

    /// Remembers an event as seen, until then.
    pub fn restore_seen(&mut self, event: EventId, until: Timestamp) {
        self.seen.insert(event, until);
    }

    /// Lets go of the events that need no longer be remembered, and names them for the journal.
    pub fn forget_seen(&mut self, now: Timestamp) -> Vec<EventId> {
        let old: Vec<EventId> =
            self.seen.iter().filter(|(_, until)| **until <= now).map(|(id, _)| id.clone()).collect();
        for id in &old {
            self.seen.remove(id);
        }
        old
    }

    /// What was asked of the world before a restart and is not known to have been done.
    pub fn unfinished(&self) -> Vec<Effect> {
        let under_way = |doing: &Doing| doing.retry.is_none().then(|| doing.effect.clone());
        self.states
            .values()
            .flat_map(|state| {
                let doing = state.active().and_then(|rollout| rollout.doing.as_ref()).and_then(under_way);
                doing.into_iter().chain(state.outbox.iter().filter_map(under_way))
            })
            .collect()
    }

    /// What is known of `workload`.
    pub fn state(&self, workload: &Workload) -> Option<&State> {
        self.states.get(workload)
    }

    /// All that is known, in the order of the workloads.
    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.states.values()
    }

    /// What to measure at the next tick.
    pub fn watches(&self) -> Vec<Watch> {
        self.states.values().filter_map(|state| state.active()?.watch(state.sighting.as_ref())).collect()
    }

    /// The next instant at which [`Event::Tick`] may change something.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.wakeups.first().map(|(at, _)| *at)
    }

    /// Whether a policy is for `workload`, so that it is worth knowing about.
    pub fn covers(&self, workload: &Workload) -> bool {
        workload.cluster == self.cluster && self.policies.iter().any(|policy| policy.covers(workload))
    }

    /// Takes in one event. Time never runs backwards in here: a `now` before the last one is taken for the last one.
    ///
    /// An event about one workload gives one transition; a tick gives one for each workload that it changes.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Vec<Transition> {
        self.now = self.now.max(now);
        let input = Input { at: self.now, event };
        match &input.event {
            Event::Tick => self.tick(&input),
            Event::Requested { id, time, request } => {
                let (id, time, request) = (id.clone(), *time, request.clone());
                vec![self.requested(input, id, time, request)]
            }
            Event::Deployed { id, time, workload, artifact } => {
                let task = Task::Guard { artifact: artifact.clone() };
                let reason = Reason::Deployed { by: id.source.clone(), artifact: artifact.clone() };
                let (id, time, workload) = (id.clone(), *time, workload.clone());
                let policy =
                    self.policies.iter().find(|policy| policy.guard.is_some() && policy.covers(&workload)).cloned();
                match policy {
                    Some(policy) => vec![self.asked(input, workload, id, time, Wish { task, policy, reason })],
                    None => {
                        let reason = Reason::NoPolicy { workload: workload.clone() };
                        vec![refused(workload, input, Took::Ignored, reason, None)]
                    }
                }
            }
            Event::Seen { workload, sighting } => {
                let (workload, sighting) = (workload.clone(), sighting.clone());
                vec![self.sighted(input, workload, sighting)]
            }
            Event::Measured { workload, block } => {
                let (workload, block) = (workload.clone(), block.clone());
                vec![self.known(input, &workload, |state, now, out| {
                    with_rollout(state, now, |rollout, world| rollout.measured(block, world, out)).unwrap_or(false)
                })]
            }
            Event::Performed { workload, effect, outcome } => {
                let (workload, effect, outcome) = (workload.clone(), effect.clone(), outcome.clone());
                vec![self.known(input, &workload, |state, now, out| performed(state, &effect, outcome, now, out))]
            }
        }
    }

    fn tick(&mut self, input: &Input) -> Vec<Transition> {
        let due: Vec<Workload> =
            self.wakeups.iter().take_while(|(at, _)| *at <= self.now).map(|(_, workload)| workload.clone()).collect();
        due.iter()
            .map(|workload| self.known(input.clone(), workload, wake))
            .filter(|transition| transition.took == Took::Changed)
            .collect()
    }

    fn requested(&mut self, input: Input, id: EventId, time: Option<Timestamp>, request: Request) -> Transition {
        let workload = request.workload.clone();
        let covers = |policy: &&Policy| policy.covers(&workload);
        let policy = match &request.policy {
            Some(name) => self.policies.iter().filter(|policy| policy.name == *name).find(covers),
            None => self.policies.iter().find(covers),
        };
        let Some(policy) = policy.cloned() else {
            let reason = match request.policy {
                Some(policy) => Reason::WrongPolicy { policy, workload: workload.clone() },
                None => Reason::NoPolicy { workload: workload.clone() },
            };
            return refused(workload, input, Took::Rejected, reason, None);
        };
        if request.images.is_empty() && request.image.is_none() {
            return refused(workload, input, Took::Rejected, Reason::NoImage, Some(policy));
        }
        if let Some(image) = request.images.values().chain(&request.image).find(|image| !policy.allows(image)) {
            let (image, allowed) = (image.clone(), policy.matches.images.clone());
            let reason = Reason::ImageNotAllowed { image, policy: policy.name.clone(), allowed };
            return refused(workload, input, Took::Rejected, reason, Some(policy));
        }
        let reason = Reason::Requested { by: id.source.clone(), why: request.reason.clone() };
        self.asked(input, workload, id, time, Wish { task: Task::Roll { request }, policy, reason })
    }

    /// A rollout is asked for, and a policy is for it.
    fn asked(
        &mut self,
        input: Input,
        workload: Workload,
        id: EventId,
        time: Option<Timestamp>,
        wish: Wish,
    ) -> Transition {
        if self.seen.contains_key(&id) {
            return refused(workload, input, Took::Ignored, Reason::Duplicate { event: id }, Some(wish.policy));
        }
        let last = self.states.get(&workload).and_then(|state| state.last_accepted);
        if let (Some(time), Some(last)) = (time, last)
            && time < last
        {
            return refused(workload, input, Took::Ignored, Reason::Stale { time, last }, Some(wish.policy));
        }
        let until = self.retention.after(self.now);
        self.seen.insert(id.clone(), until);
        self.states.entry(workload.clone()).or_insert_with(|| State::new(workload.clone()));
        let policy = wish.policy.clone();
        let queued = Queued { event: id.clone(), task: wish.task, policy: wish.policy, reason: wish.reason };
        let mut transition = self.known(input, &workload, |state, now, out| {
            state.last_accepted = time.max(state.last_accepted);
            enqueue(state, queued, now, out);
            true
        });
        transition.seen = Some((id, until));
        transition.policy = Some(policy);
        transition
    }

    fn sighted(&mut self, input: Input, workload: Workload, sighting: Sighting) -> Transition {
        if !self.states.contains_key(&workload) {
            if !self.covers(&workload) {
                return refused(workload, input, Took::Ignored, Reason::Irrelevant, None);
            }
            self.states.insert(workload.clone(), State::new(workload.clone()));
        }
        self.known(input, &workload, |state, now, out| {
            if state.sighting.as_ref() == Some(&sighting) {
                return false;
            }
            state.sighting = Some(sighting);
            if state.active().is_none() {
                found_healthy(state, now);
            }
            with_rollout(state, now, |rollout, world| rollout.drive(world, out));
            true
        })
    }

    /// Lets `change` at the state of a workload that is known, and sees to all that follows from it.
    fn known(
        &mut self,
        input: Input,
        workload: &Workload,
        change: impl FnOnce(&mut State, Timestamp, &mut Out) -> bool,
    ) -> Transition {
        let now = self.now;
        let Some(state) = self.states.get_mut(workload) else {
            return refused(workload.clone(), input, Took::Ignored, Reason::Irrelevant, None);
        };
        let mut out = Out::default();
        let changed = change(state, now, &mut out);
        follow_up(state, now, &mut out);
        if changed {
            state.changed = now;
        }
        let reason = match (changed, &state.rollout) {
            (true, Some(rollout)) => rollout.reason.clone(),
            (true, None) | (false, _) => Reason::Irrelevant,
        };
        // What was due before this event is still due: only a tick is sure to have looked at the clock.
        let due = self.wakeup_of.get(workload).copied().filter(|at| *at <= now && input.event != Event::Tick);
        let wakeup = due.or_else(|| state.wakeup(now));
        self.set_wakeup(workload, wakeup);
        Transition {
            workload: workload.clone(),
            input,
            took: if changed { Took::Changed } else { Took::Ignored },
            reason,
            decisions: out.decisions,
            effects: out.effects,
            seen: None,
            policy: None,
        }
    }

    fn set_wakeup(&mut self, workload: &Workload, at: Option<Timestamp>) {
        if let Some(before) = self.wakeup_of.remove(workload) {
            self.wakeups.remove(&(before, workload.clone()));
        }
        if let Some(at) = at {
            self.wakeup_of.insert(workload.clone(), at);
            self.wakeups.insert((at, workload.clone()));
        }
    }
}

/// What is asked for, before it is known whether it has come before.
struct Wish {
    task: Task,
    policy: Policy,
    reason: Reason,
}

fn refused(workload: Workload, input: Input, took: Took, reason: Reason, policy: Option<Policy>) -> Transition {
    Transition { workload, input, took, reason, decisions: Vec::new(), effects: Vec::new(), seen: None, policy }
}

/// Runs `act` on the rollout that is not over, with the world as this state knows it.
fn with_rollout<T>(state: &mut State, now: Timestamp, act: impl FnOnce(&mut Rollout, World<'_>) -> T) -> Option<T> {
    let State { sighting, last_good, rollout, .. } = state;
    let rollout = rollout.as_mut().filter(|rollout| rollout.phase != Phase::Ended)?;
    Some(act(rollout, World { now, sighting: sighting.as_ref(), last_good: last_good.as_ref() }))
}

/// Time has passed for this workload.
fn wake(state: &mut State, now: Timestamp, out: &mut Out) -> bool {
    let before = state.clone();
    with_rollout(state, now, |rollout, world| rollout.drive(world, out));
    for doing in &mut state.outbox {
        out.effects.extend(doing.due(now));
    }
    *state != before
}

fn performed(state: &mut State, effect: &EffectId, outcome: Outcome, now: Timestamp, out: &mut Out) -> bool {
    if let Some(at) = state.outbox.iter().position(|doing| doing.effect.id == *effect) {
        told(state, at, outcome, now);
        return true;
    }
    if let (Outcome::Surveyed(survey), Some(rollout)) = (&outcome, &state.rollout)
        && matches!(rollout.task, Task::Roll { .. })
    {
        // Asked for before anybody had looked: what is found now, healthy, is what was good.
        state.sighting.get_or_insert_with(|| survey.sighting.clone());
        found_healthy(state, now);
    }
    with_rollout(state, now, |rollout, world| rollout.performed(effect, outcome, world, out)).unwrap_or(false)
}

/// A message was sent, or was not.
fn told(state: &mut State, at: usize, outcome: Outcome, now: Timestamp) {
    let Some(doing) = state.outbox.get_mut(at) else { return };
    let limit = if matches!(doing.effect.act, Act::Note { .. }) { MOST_NOTE_ATTEMPTS } else { MOST_ATTEMPTS };
    match outcome {
        Outcome::Failed(failure)
            if matches!(failure.kind, FailureKind::Unavailable | FailureKind::Conflict) && doing.attempts < limit =>
        {
            doing.failed(failure, now);
        }
        Outcome::Failed(_) | Outcome::Done | Outcome::Surveyed(_) | Outcome::Probed { .. } => {
            state.outbox.remove(at);
        }
    }
}

/// A workload that is healthy when it is first seen is what there is to go back to.
fn found_healthy(state: &mut State, now: Timestamp) {
    if state.last_good.is_some() {
        return;
    }
    let healthy = |arm: &&Arm| arm.is_settled() && arm.replicas > 0 && arm.trouble.is_none() && !arm.paused;
    if let Some(stable) = state.sighting.as_ref().and_then(|sighting| sighting.stable.as_ref()).filter(healthy) {
        state.last_good = Some(good(stable, now));
    }
}

fn good(arm: &Arm, since: Timestamp) -> LastGood {
    LastGood { template: arm.template.clone(), images: arm.images.clone(), since }
}

/// The newest request is the one that counts. It begins at once where nothing runs, ends what has not been decided
/// yet, and waits for the rest.
fn enqueue(state: &mut State, queued: Queued, now: Timestamp, out: &mut Out) {
    let by = queued.event.clone();
    state.queued = Some(queued);
    with_rollout(state, now, |rollout, world| {
        if rollout.can_be_superseded() {
            rollout.superseded(by, world, out);
        }
    });
}

/// What follows from any change: a finished promotion is good, people are told, and what waits begins.
fn follow_up(state: &mut State, now: Timestamp, out: &mut Out) {
    let mut told = 0;
    loop {
        record_good(state, now);
        tell(state, &out.decisions[told..], &mut out.effects);
        told = out.decisions.len();
        if state.active().is_some() {
            return;
        }
        let Some(Queued { event, task, policy, reason }) = state.queued.take() else { return };
        state.rollout = Some(Rollout::begin(event, state.workload.clone(), task, policy, reason, now));
        with_rollout(state, now, |rollout, world| rollout.drive(world, out));
    }
}

fn record_good(state: &mut State, now: Timestamp) {
    let promoted = state.rollout.as_ref().filter(|rollout| {
        rollout.ending() == Some(Ending::Promoted)
            && rollout.ended == Some(now)
            && rollout.policy.mode == crate::policy::Mode::Enforce
    });
    let stable = state.sighting.as_ref().and_then(|sighting| sighting.stable.as_ref());
    if let (Some(rollout), Some(stable)) = (promoted, stable)
        && rollout.basis.as_ref().is_some_and(|basis| basis.to == stable.images)
        && state.last_good.as_ref().is_none_or(|good| good.template != stable.template)
    {
        state.last_good = Some(good(stable, now));
    }
}

fn tell(state: &mut State, decisions: &[Decision], effects: &mut Vec<Effect>) {
    let Some(rollout) = &mut state.rollout else { return };
    for decision in decisions {
        for act in message::about(decision, rollout) {
            let effect = rollout.effect(act);
            effects.push(effect.clone());
            if state.outbox.len() >= MOST_MESSAGES {
                // The terminal message always has its place: a note makes room first.
                let note = state.outbox.iter().position(|doing| matches!(doing.effect.act, Act::Note { .. }));
                state.outbox.remove(note.unwrap_or(0));
            }
            state.outbox.push(Doing::new(effect));
        }
    }
}
