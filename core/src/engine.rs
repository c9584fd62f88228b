//! Many workloads, one at a time: who an event is for, whether it has come before, and what it changes.
//!
//! An engine owns the workloads of one partition. It holds at most one rollout of each, and the newest request that waits
//! for it. Everything that it knows of a workload is a [`WorkloadState`], which serializes to a snapshot; an engine that is
//! given the snapshot and told the same inputs again is the same engine.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{EventId, Scope, Workload};
use crate::input::command::Freeze;
use crate::input::effect::Effect;
use crate::input::event::{Event, Input, Request};
use crate::input::report::SuiteReport;
use crate::input::status::WorkloadStatus;
use crate::measure::watch::Watch;
use crate::policy::Policy;
use crate::rollout::decision::Decision;
use crate::rollout::reason::Reason;
use crate::rollout::{InFlight, Rollout, StepOutput, Task};
use crate::time::{Span, Timestamp};

pub mod record;
pub mod view;
pub mod show;

mod orders;
mod state;

pub use state::{QueuedRequest, WorkloadState};

/// What the engine made of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
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
    pub took: Disposition,
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
    states: BTreeMap<Workload, WorkloadState>,
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
    pub fn restore(&mut self, state: WorkloadState) {
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
        let under_way = |in_flight: &InFlight| in_flight.retry.is_none().then(|| in_flight.effect.clone());
        self.states
            .values()
            .flat_map(|state| {
                let in_flight = state.active().and_then(|rollout| rollout.in_flight.as_ref()).and_then(under_way);
                in_flight.into_iter().chain(state.outbox.iter().filter_map(under_way))
            })
            .collect()
    }

    /// What is known of `workload`.
    pub fn state(&self, workload: &Workload) -> Option<&WorkloadState> {
        self.states.get(workload)
    }

    /// What is known of `workload`, or what would be if it had just been heard of.
    pub fn basis(&self, workload: &Workload) -> WorkloadState {
        self.states.get(workload).cloned().unwrap_or_else(|| {
            let covering = self.freezes.iter().filter(|(scope, _)| scope.covers(workload));
            let freezes = covering.map(|(scope, freeze)| (scope.clone(), freeze.clone())).collect();
            WorkloadState { freezes, ..WorkloadState::new(workload.clone()) }
        })
    }

    /// All that is known, in the order of the workloads.
    pub fn states(&self) -> impl Iterator<Item = &WorkloadState> {
        self.states.values()
    }

    /// What to measure at the next tick.
    pub fn watches(&self) -> Vec<Watch> {
        self.states.values().filter_map(|state| state.active()?.watch(state.status.as_ref())).collect()
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
                    Some(policy) => vec![self.asked(input, workload, id, time, Proposal { task, policy, reason })],
                    None => {
                        let reason = Reason::NoPolicy { workload: workload.clone() };
                        vec![refused(workload, input, Disposition::Ignored, reason, None)]
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
            Event::Observed { workload, status } => {
                let (workload, status) = (workload.clone(), status.as_ref().clone());
                vec![self.observed(input, workload, status)]
            }
            Event::Measured { workload, block } => {
                let (workload, block) = (workload.clone(), block.clone());
                vec![self.known(input, &workload, |state, now, out| {
                    state.with_rollout(now, |rollout, world| rollout.measured(block, world, out)).unwrap_or(false)
                })]
            }
            Event::Performed { workload, effect, outcome } => {
                let (workload, effect, outcome) = (workload.clone(), effect.clone(), outcome.clone());
                vec![self.known(input, &workload, |state, now, out| state.performed(&effect, outcome, now, out))]
            }
        }
    }

    fn tick(&mut self, input: &Input) -> Vec<Transition> {
        let due: Vec<Workload> =
            self.wakeups.iter().take_while(|(at, _)| *at <= self.now).map(|(_, workload)| workload.clone()).collect();
        due.iter()
            .map(|workload| self.known(input.clone(), workload, WorkloadState::wake))
            .filter(|transition| transition.took == Disposition::Changed)
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
            Err(reason) => return refused(workload, input, Disposition::Rejected, reason, None),
        };
        if request.images.is_empty() && request.image.is_none() {
            return refused(workload, input, Disposition::Rejected, Reason::NoImage, Some(policy));
        }
        if let Some(image) = request.images.values().chain(&request.image).find(|image| !policy.allows(image)) {
            let (image, allowed) = (image.clone(), policy.matches.images.clone());
            let reason = Reason::ImageNotAllowed { image, policy: policy.name.clone(), allowed };
            return refused(workload, input, Disposition::Rejected, reason, Some(policy));
        }
        let reason = Reason::Requested { by: id.source.clone(), why: request.reason.clone() };
        self.asked(input, workload, id, time, Proposal { task: Task::Roll { request }, policy, reason })
    }

    /// A rollout is asked for, and a policy is for it.
    fn asked(
        &mut self,
        input: Input,
        workload: Workload,
        id: EventId,
        time: Option<Timestamp>,
        wish: Proposal,
    ) -> Transition {
        if self.seen.contains_key(&id) {
            return refused(workload, input, Disposition::Ignored, Reason::Duplicate { event: id }, Some(wish.policy));
        }
        let last = self.states.get(&workload).and_then(|state| state.last_accepted);
        if let (Some(time), Some(last)) = (time, last)
            && time < last
        {
            return refused(workload, input, Disposition::Ignored, Reason::Stale { time, last }, Some(wish.policy));
        }
        let until = self.retention.after(self.now);
        self.seen.insert(id.clone(), until);
        self.make(&workload);
        let policy = wish.policy.clone();
        let queued = QueuedRequest { event: id.clone(), task: wish.task, policy: wish.policy, reason: wish.reason };
        let mut transition = self.known(input, &workload, |state, now, out| {
            state.last_accepted = time.max(state.last_accepted);
            state.enqueue(queued, now, out);
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

    /// A report may come before what it is about is asked for.
    fn tested(&mut self, input: Input, workload: Workload, id: EventId, report: SuiteReport) -> Transition {
        if self.seen.contains_key(&id) {
            return refused(workload, input, Disposition::Ignored, Reason::Duplicate { event: id }, None);
        }
        if !self.covers(&workload) {
            return refused(workload.clone(), input, Disposition::Ignored, Reason::NoPolicy { workload }, None);
        }
        let until = self.retention.after(self.now);
        self.seen.insert(id.clone(), until);
        self.make(&workload);
        let reason = Reason::Tested { report: Box::new(report.clone()) };
        let transition = self.known(input, &workload, |state, now, out| {
            report.join(&mut state.reports);
            state.with_rollout(now, |rollout, world| rollout.drive(world, out));
            true
        });
        Transition { seen: Some((id, until)), reason, ..transition }
    }

    fn observed(&mut self, input: Input, workload: Workload, status: WorkloadStatus) -> Transition {
        if !self.states.contains_key(&workload) {
            if !self.covers(&workload) {
                return refused(workload, input, Disposition::Ignored, Reason::Irrelevant, None);
            }
            self.make(&workload);
        }
        self.known(input, &workload, |state, now, out| {
            if state.status.as_ref() == Some(&status) {
                return false;
            }
            state.status = Some(status);
            if state.active().is_none() {
                state.found_healthy(now);
            }
            state.with_rollout(now, |rollout, world| rollout.drive(world, out));
            true
        })
    }

    /// Lets `change` at the state of a workload that is known, and sees to all that follows from it.
    fn known(
        &mut self,
        input: Input,
        workload: &Workload,
        change: impl FnOnce(&mut WorkloadState, Timestamp, &mut StepOutput) -> bool,
    ) -> Transition {
        let now = self.now;
        let Some(state) = self.states.get_mut(workload) else {
            return refused(workload.clone(), input, Disposition::Ignored, Reason::Irrelevant, None);
        };
        let mut out = StepOutput::default();
        let changed = change(state, now, &mut out);
        if changed {
            state.follow_up(now, &mut out);
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
        let took = if changed { Disposition::Changed } else { Disposition::Ignored };
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
struct Proposal {
    task: Task,
    policy: Policy,
    reason: Reason,
}

fn refused(workload: Workload, input: Input, took: Disposition, reason: Reason, policy: Option<Policy>) -> Transition {
    Transition { workload: Some(workload), policy, ..of_partition(input, took, reason) }
}

/// A transition that is about the partition.
fn of_partition(input: Input, took: Disposition, reason: Reason) -> Transition {
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
