//! Many workloads, one at a time: who an event is for, whether it has come before, and what it changes.
//!
//! An engine owns the workloads of one partition. It holds at most one rollout of each, and the newest request that waits
//! for it. Everything that it knows of a workload is a [`State`], which serializes to a snapshot; an engine that is
//! given the snapshot and told the same inputs again is the same engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::command::{Command, Freeze, Order, Verb};
use crate::decision::{Decision, Ending};
use crate::effect::{Act, Effect};
use crate::event::{Event, FailureKind, Input, Outcome, Request};
use crate::ids::{EffectId, EventId, Scope, Workload};
use crate::message;
use crate::phase::Phase;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::report::Report;
use crate::rollout::{Doing, LastGood, Out, Quarantined, Rollout, Task, World};
use crate::sighting::{Arm, Sighting};
use crate::time::{Span, Timestamp};
use crate::watch::Watch;

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
    /// The freezes that it lies in. They are here as well as in the engine, so that this state and its inputs are all
    /// that a replay needs.
    #[serde(default)]
    pub freezes: BTreeMap<Scope, Freeze>,
    /// The versions that have failed here, oldest first.
    #[serde(default)]
    pub quarantine: Vec<Quarantined>,
    /// What was tested for it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Report>,
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
            freezes: BTreeMap::new(),
            quarantine: Vec::new(),
            reports: Vec::new(),
            outbox: Vec::new(),
            changed: Timestamp::MIN,
        }
    }

    fn wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        let rollout = self.rollout.as_ref().and_then(|rollout| rollout.wakeup(now));
        let outbox = self.outbox.iter().filter_map(|doing| doing.retry).filter(|at| *at > now);
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
    /// Which workload; `None`: it is about the partition.
    pub workload: Option<Workload>,
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
    /// A rollout that ended and made room for the next one: this is the last that is seen of it.
    pub replaced: Option<Box<Rollout>>,
    /// The event to remember as seen, and until when.
    pub seen: Option<(EventId, Timestamp)>,
    /// The freeze to keep, or to forget.
    pub freeze: Option<(Scope, Option<Freeze>)>,
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
    freezes: BTreeMap<Scope, Freeze>,
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
            freezes: BTreeMap::new(),
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
        self.freezes.extend(state.freezes.clone());
        self.states.insert(state.workload.clone(), state);
    }

    /// Remembers an event as seen, until then.
    pub fn restore_seen(&mut self, event: EventId, until: Timestamp) {
        self.seen.insert(event, until);
    }

    /// Puts a freeze back as it was.
    pub fn restore_freeze(&mut self, scope: Scope, freeze: Freeze) {
        self.freezes.insert(scope, freeze);
    }

    /// Lets go of the freezes that are over, and names them for the journal.
    pub fn forget_freezes(&mut self, now: Timestamp) -> Vec<Scope> {
        let over: Vec<Scope> =
            self.freezes.iter().filter(|(_, freeze)| !freeze.holds(now)).map(|(scope, _)| scope.clone()).collect();
        for scope in &over {
            self.freezes.remove(scope);
        }
        over
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

    /// What is known of `workload`, or what would be if it had just been heard of.
    pub fn basis(&self, workload: &Workload) -> State {
        self.states.get(workload).cloned().unwrap_or_else(|| {
            let covering = self.freezes.iter().filter(|(scope, _)| scope.covers(workload));
            let freezes = covering.map(|(scope, freeze)| (scope.clone(), freeze.clone())).collect();
            State { freezes, ..State::new(workload.clone()) }
        })
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
            Event::Commanded { id, time, command } => {
                let (id, time, command) = (id.clone(), *time, command.clone());
                self.commanded(input, id, time, &command)
            }
            Event::Tested { id, workload, report } => {
                let (id, workload, report) = (id.clone(), workload.clone(), report.clone());
                vec![self.tested(input, workload, id, report)]
            }
            Event::Seen { workload, sighting } => {
                let (workload, sighting) = (workload.clone(), sighting.as_ref().clone());
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

    /// The policy that a request names, or the first that is for its workload.
    fn policy_for(&self, request: &Request) -> Result<Policy, Reason> {
        let workload = &request.workload;
        let mut covering = self.policies.iter().filter(|policy| policy.covers(workload));
        let found = match &request.policy {
            Some(name) => covering.find(|policy| policy.name == *name),
            None => covering.next(),
        };
        found.cloned().ok_or_else(|| match request.policy.clone() {
            Some(policy) => Reason::WrongPolicy { policy, workload: workload.clone() },
            None => Reason::NoPolicy { workload: workload.clone() },
        })
    }

    fn requested(&mut self, input: Input, id: EventId, time: Option<Timestamp>, request: Request) -> Transition {
        let workload = request.workload.clone();
        let policy = match self.policy_for(&request) {
            Ok(policy) => policy,
            Err(reason) => return refused(workload, input, Took::Rejected, reason, None),
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
        self.make(&workload);
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

    /// Makes a state for a workload that has just been heard of.
    fn make(&mut self, workload: &Workload) {
        if !self.states.contains_key(workload) {
            self.states.insert(workload.clone(), self.basis(workload));
        }
    }

    /// A verb. The first transition says what became of it; a freeze has one more for each workload that it changes.
    fn commanded(&mut self, input: Input, id: EventId, time: Option<Timestamp>, command: &Command) -> Vec<Transition> {
        if self.seen.contains_key(&id) {
            return vec![unheard(command, input, Took::Ignored, Reason::Duplicate { event: id })];
        }
        let until = self.retention.after(self.now);
        self.seen.insert(id.clone(), until);
        let order = Order::of(&id, command);
        let mut transitions = match (&command.verb, command.scope.workload()) {
            (Verb::Freeze { until: Some(until) }, _) if *until <= self.now => {
                let instead = format!("it would have been over at {until}; name a later end, or none");
                let reason = Reason::CantObey { verb: "freeze".to_owned(), instead };
                vec![unheard(command, input, Took::Rejected, reason)]
            }
            (Verb::Freeze { until }, _) => {
                let freeze = Freeze { order, since: self.now, until: *until };
                self.froze(input, &command.scope, Some(freeze))
            }
            (Verb::Unfreeze, _) => self.unfroze(input, &command.scope, order),
            (_, Some(workload)) => vec![self.told(input, workload, id.clone(), time, command, order)],
            (verb, None) => {
                let instead = format!("{} is no workload; name cluster/namespace/Deployment/name", command.scope);
                let reason = Reason::CantObey { verb: verb.name().to_owned(), instead };
                vec![unheard(command, input, Took::Rejected, reason)]
            }
        };
        if let Some(first) = transitions.first_mut() {
            first.seen = Some((id, until));
        }
        transitions
    }

    fn unfroze(&mut self, input: Input, scope: &Scope, order: Order) -> Vec<Transition> {
        if self.freezes.get(scope).is_some_and(|freeze| freeze.holds(self.now)) {
            let reason = Reason::Unfrozen { scope: scope.to_string(), order };
            let mut transitions = self.froze(input, scope, None);
            if let Some(first) = transitions.first_mut() {
                first.reason = reason;
            }
            return transitions;
        }
        let in_force = self.freezes.iter().filter(|(_, freeze)| freeze.holds(self.now));
        let frozen: Vec<String> = in_force.map(|(scope, _)| scope.to_string()).collect();
        let there = if frozen.is_empty() { "nothing is".to_owned() } else { format!("{} is", frozen.join(", ")) };
        let reason =
            Reason::CantObey { verb: "unfreeze".to_owned(), instead: format!("{scope} is not frozen; {there}") };
        vec![Transition { workload: scope.workload().cloned(), ..of_partition(input, Took::Rejected, reason) }]
    }

    /// A freeze begins (`Some`) or ends, here and in every workload that it covers.
    fn froze(&mut self, input: Input, scope: &Scope, freeze: Option<Freeze>) -> Vec<Transition> {
        let reason = match &freeze {
            Some(Freeze { order, until, .. }) => {
                Reason::Frozen { scope: scope.to_string(), order: order.clone(), until: *until }
            }
            None => Reason::Irrelevant,
        };
        match &freeze {
            Some(freeze) => self.freezes.insert(scope.clone(), freeze.clone()),
            None => self.freezes.remove(scope),
        };
        let mut transitions = vec![of_partition(input.clone(), Took::Changed, reason)];
        transitions[0].freeze = Some((scope.clone(), freeze.clone()));
        let covered: Vec<Workload> = self.states.keys().filter(|workload| scope.covers(workload)).cloned().collect();
        for workload in covered {
            transitions.push(self.known(input.clone(), &workload, |state, now, out| {
                match &freeze {
                    Some(freeze) => state.freezes.insert(scope.clone(), freeze.clone()),
                    None => state.freezes.remove(scope),
                };
                with_rollout(state, now, |rollout, world| rollout.drive(world, out));
                true
            }));
        }
        transitions
    }

    /// A verb for one workload.
    fn told(
        &mut self,
        input: Input,
        workload: &Workload,
        id: EventId,
        time: Option<Timestamp>,
        command: &Command,
        order: Order,
    ) -> Transition {
        let verb = &command.verb;
        let cant = |instead: String| Reason::CantObey { verb: verb.name().to_owned(), instead };
        let reject = |input, reason| refused(workload.clone(), input, Took::Rejected, reason, None);
        let state = self.states.get(workload);
        // It was meant for what was there before the last request.
        if let (Some(time), Some(last)) = (time, state.and_then(|state| state.last_accepted))
            && time < last
        {
            return refused(workload.clone(), input, Took::Ignored, Reason::Stale { time, last }, None);
        }
        let Some((state, rollout)) = state.and_then(|state| Some((state, state.rollout.as_ref()?))) else {
            let instead = format!("no rollout of {workload} is known; `bellwether emit request` asks for one");
            return reject(input, cant(instead));
        };
        if let Some(meant) = command.rollout.as_ref().filter(|meant| **meant != rollout.id) {
            return reject(input, cant(format!("it is meant for {meant}, and {} is the rollout now", rollout.id)));
        }
        match (state.active().is_none(), *verb == Verb::Retry) {
            (true, true) => match self.wish_again(state, rollout, order) {
                Ok((wish, request)) => self.retried(input, workload, id, wish, &request),
                Err(instead) => reject(input, cant(instead)),
            },
            (true, false) => {
                let ending = rollout.ending().map_or_else(|| "over".to_owned(), |ending| ending.to_string());
                reject(input, cant(format!("no rollout of {workload} runs; the last, {}, is {ending}", rollout.id)))
            }
            (false, _) => {
                let mut refusal = None;
                let mut transition = self.known(input, workload, |state, now, out| {
                    refusal = obey(state, verb, (id, order), now, out);
                    refusal.is_none()
                });
                if let Some(reason) = refusal {
                    transition.took = Took::Rejected;
                    transition.reason = reason;
                }
                transition
            }
        }
    }

    /// What the last rollout was asked for, once more, by the policy of today.
    fn wish_again(&self, state: &State, rollout: &Rollout, order: Order) -> Result<(Wish, Request), String> {
        if state.queued.is_some() {
            return Err("a newer request waits already".to_owned());
        }
        let Task::Roll { request } = &rollout.task else {
            return Err(format!("{} guarded what somebody else deployed; ask for the version instead", rollout.id));
        };
        if rollout.ending() == Some(Ending::Promoted) {
            return Err(format!("{} was promoted, so there is nothing to try again", rollout.id));
        }
        let policy = self.policy_for(request).map_err(|reason| reason.to_string())?;
        let reason = Reason::Retried { order, of: rollout.id.clone() };
        Ok((Wish { task: rollout.task.clone(), policy, reason }, request.clone()))
    }

    fn retried(&mut self, input: Input, workload: &Workload, id: EventId, wish: Wish, request: &Request) -> Transition {
        let policy = wish.policy.clone();
        let queued = Queued { event: id, task: wish.task, policy: wish.policy, reason: wish.reason };
        let asked_for = |name: &String, image: &String| {
            request.images.get(name) == Some(image) || request.image.as_ref() == Some(image)
        };
        let mut transition = self.known(input, workload, |state, now, out| {
            state.quarantine.retain(|failed| !failed.images.iter().all(|(name, image)| asked_for(name, image)));
            enqueue(state, queued, now, out);
            true
        });
        transition.policy = Some(policy);
        transition
    }

    /// A report may come before what it is about is asked for.
    fn tested(&mut self, input: Input, workload: Workload, id: EventId, report: Report) -> Transition {
        if self.seen.contains_key(&id) {
            return refused(workload, input, Took::Ignored, Reason::Duplicate { event: id }, None);
        }
        if !self.covers(&workload) {
            return refused(workload.clone(), input, Took::Ignored, Reason::NoPolicy { workload }, None);
        }
        let until = self.retention.after(self.now);
        self.seen.insert(id.clone(), until);
        self.make(&workload);
        let reason = Reason::Tested { report: Box::new(report.clone()) };
        let transition = self.known(input, &workload, |state, now, out| {
            report.join(&mut state.reports);
            with_rollout(state, now, |rollout, world| rollout.drive(world, out));
            true
        });
        Transition { seen: Some((id, until)), reason, ..transition }
    }

    fn sighted(&mut self, input: Input, workload: Workload, sighting: Sighting) -> Transition {
        if !self.states.contains_key(&workload) {
            if !self.covers(&workload) {
                return refused(workload, input, Took::Ignored, Reason::Irrelevant, None);
            }
            self.make(&workload);
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
        if changed {
            follow_up(state, now, &mut out);
            state.changed = now;
        }
        let waits = state.queued.as_ref().filter(|_| state.active().is_none()).and(state.frozen(now));
        let reason = match (changed, waits, &state.rollout) {
            (true, Some((scope, freeze)), _) => {
                Reason::Frozen { scope: scope.to_string(), order: freeze.order.clone(), until: freeze.until }
            }
            (true, None, Some(rollout)) => rollout.reason.clone(),
            (true, None, None) | (false, ..) => Reason::Irrelevant,
        };
        // What was due before this event is still due: only a tick is sure to have looked at the clock.
        let due = self.wakeup_of.get(workload).copied().filter(|at| *at <= now && input.event != Event::Tick);
        let wakeup = due.or_else(|| state.wakeup(now));
        self.set_wakeup(workload, wakeup);
        let took = if changed { Took::Changed } else { Took::Ignored };
        Transition {
            workload: Some(workload.clone()),
            decisions: out.decisions,
            effects: out.effects,
            replaced: out.replaced,
            ..of_partition(input, took, reason)
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
    Transition { workload: Some(workload), policy, ..of_partition(input, took, reason) }
}

/// A transition that is about the partition.
fn of_partition(input: Input, took: Took, reason: Reason) -> Transition {
    Transition {
        workload: None,
        input,
        took,
        reason,
        decisions: Vec::new(),
        effects: Vec::new(),
        replaced: None,
        seen: None,
        freeze: None,
        policy: None,
    }
}

/// A verb that changes nothing.
fn unheard(command: &Command, input: Input, took: Took, reason: Reason) -> Transition {
    Transition { workload: command.scope.workload().cloned(), ..of_partition(input, took, reason) }
}

/// Runs `act` on the rollout that is not over, with the world as this state knows it.
fn with_rollout<T>(state: &mut State, now: Timestamp, act: impl FnOnce(&mut Rollout, World<'_>) -> T) -> Option<T> {
    let frozen = state.frozen(now).map(|(scope, freeze)| (scope.clone(), freeze.clone()));
    let State { sighting, last_good, rollout, quarantine, reports, .. } = state;
    let rollout = rollout.as_mut().filter(|rollout| rollout.phase != Phase::Ended)?;
    let frozen = frozen.as_ref().map(|(scope, freeze)| (scope, freeze));
    let (sighting, last_good) = (sighting.as_ref(), last_good.as_ref());
    Some(act(rollout, World { now, sighting, last_good, frozen, quarantine, reports }))
}

/// Time has passed for this workload.
fn wake(state: &mut State, now: Timestamp, out: &mut Out) -> bool {
    let before = state.clone();
    state.freezes.retain(|_, freeze| freeze.holds(now));
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
    let waits =
        state.active().and_then(|rollout| rollout.doing.as_ref()).is_some_and(|doing| doing.effect.id == *effect);
    if let Outcome::Surveyed(survey) = &outcome
        && waits
    {
        take_survey(state, &survey.sighting, now);
    }
    with_rollout(state, now, |rollout, world| rollout.performed(effect, outcome, world, out)).unwrap_or(false)
}

/// A survey is a fresh read: it may know of a change that the watches have not told yet.
fn take_survey(state: &mut State, found: &Sighting, now: Timestamp) {
    let generation =
        |sighting: &Sighting| sighting.stable.as_ref().map(|stable| (stable.uid.clone(), stable.generation));
    let newer = match (state.sighting.as_ref().and_then(generation), generation(found)) {
        (Some((known, before)), Some((uid, after))) => known == uid && before < after,
        (None, _) => true,
        (Some(_), None) => false,
    };
    if newer {
        state.sighting = Some(found.clone());
    }
    // Asked for before anybody had looked: what is found now, healthy, is what was good.
    if state.rollout.as_ref().is_some_and(|rollout| matches!(rollout.task, Task::Roll { .. })) {
        found_healthy(state, now);
    }
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
        Outcome::Failed(_)
        | Outcome::Done
        | Outcome::Surveyed(_)
        | Outcome::Probed { .. }
        | Outcome::Pointed { .. } => {
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
    // The stable's own images mid-rollout: back at once, and that is all that was asked for.
    let recalled = with_rollout(state, now, |rollout, world| match &queued.task {
        Task::Roll { request } if rollout.is_recalled_by(request) => {
            rollout.recalled(by.clone(), world, out);
            true
        }
        Task::Roll { .. } | Task::Guard { .. } => false,
    });
    if recalled == Some(true) {
        state.queued = None;
        return;
    }
    state.queued = Some(queued);
    with_rollout(state, now, |rollout, world| {
        if rollout.can_be_superseded() {
            rollout.superseded(by, world, out);
        }
    });
}

/// Tells the rollout, and asks again for what it was asked for if it is to begin anew; why not, if it refuses.
fn obey(state: &mut State, verb: &Verb, by: (EventId, Order), now: Timestamp, out: &mut Out) -> Option<Reason> {
    let (event, order) = by;
    let guarded = state.active().is_some_and(|rollout| rollout.phase == Phase::Guarding);
    let refusal = with_rollout(state, now, |rollout, world| rollout.obey(verb, order, world, out))?.err();
    if let Some(rollout) = state.rollout.as_ref().filter(|rollout| rollout.begins_again() && !guarded) {
        let (task, policy) = (rollout.task.clone(), rollout.policy.clone());
        let reason = rollout.judgement.as_ref().map_or(Reason::Recovered, |judgement| judgement.reason.clone());
        state.queued.get_or_insert(Queued { event, task, policy, reason });
    }
    refusal
}

/// What follows from any change: a finished promotion is good, people are told, and what waits begins.
fn follow_up(state: &mut State, now: Timestamp, out: &mut Out) {
    let mut told = 0;
    loop {
        record_good(state, now);
        if out.decisions[told..].iter().any(|decision| decision.ending == Some(Ending::RolledBack)) {
            record_failed(state);
        }
        tell(state, &out.decisions[told..], &mut out.effects);
        told = out.decisions.len();
        if state.active().is_some() {
            return;
        }
        let frozen = state.frozen(now).is_some();
        let may = |queued: &mut Queued| !frozen || matches!(queued.task, Task::Guard { .. });
        let Some(Queued { event, task, policy, reason }) = state.queued.take_if(may) else { return };
        let mut rollout = Rollout::begin(event, state.workload.clone(), task, policy, reason, now);
        rollout.tell_of_retry(out);
        out.replaced = state.rollout.replace(rollout).map(Box::new);
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

/// A version that was found wanting is not tried again until somebody says so. What nothing was found against is not.
fn record_failed(state: &mut State) {
    let failed = state.rollout.as_ref().filter(|rollout| rollout.policy.mode == crate::policy::Mode::Enforce);
    let Some((rollout, judgement)) = failed.and_then(|rollout| Some((rollout, rollout.judgement.as_ref()?))) else {
        return;
    };
    let images = rollout.changes();
    // Losing to the stable says nothing against a version but that the other one is better.
    let harmless = matches!(judgement.reason, Reason::Blind { .. } | Reason::Insufficient { .. } | Reason::Lost { .. });
    if harmless || images.is_empty() {
        return;
    }
    let (since, why) = (judgement.at, judgement.reason.to_string());
    let failed = Quarantined { images, since, rollout: rollout.id.clone(), why };
    state.quarantine.retain(|known| known.images != failed.images);
    state.quarantine.push(failed);
    if state.quarantine.len() > MOST_QUARANTINED {
        state.quarantine.remove(0);
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
