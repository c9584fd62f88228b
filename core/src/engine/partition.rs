//! The workloads of one partition: routing of events, deduplication, policies and wake-ups.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::transition::{Disposition, Transition};
use super::workload::{CLOCK_TOLERANCE, Moment, Proposal, QueuedRequest, WorkloadState};
use crate::ids::{EventId, Scope, Workload};
use crate::input::command::Freeze;
use crate::input::effect::Effect;
use crate::input::event::{Event, Input, Request};
use crate::input::notification::Sink;
use crate::input::report::SuiteReport;
use crate::input::sight::Sight;
use crate::input::status::WorkloadStatus;
use crate::measure::metric::Metric;
use crate::measure::watch::Watch;
use crate::policy::Policy;
use crate::rollout::reason::Reason;
use crate::rollout::{InFlight, StepOutput, Task};
use crate::time::{Span, Timestamp};

/// The workloads of one partition.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) cluster: String,
    pub(super) policies: Vec<Arc<Policy>>,
    pub(super) retention: Span,
    sinks: Vec<Sink>,
    pub(super) states: BTreeMap<Workload, Box<WorkloadState>>,
    /// The processed events by their [digests](EventId::digest), each with the time until which it is remembered.
    pub(super) seen: BTreeMap<String, Timestamp>,
    pub(super) freezes: BTreeMap<Scope, Freeze>,
    /// The workloads whose state exists and can't be read or written, each with the reason and the remedy.
    unreadable: BTreeMap<Workload, String>,
    /// The wake-ups in their order. `wakeup_of` has them by workload, so that an entry is found without a search.
    wakeups: BTreeSet<(Timestamp, Workload)>,
    wakeup_of: BTreeMap<Workload, Timestamp>,
    /// The sight of the cluster's statuses, as the watches have reported.
    pub(super) sight: Option<Sight>,
    /// The workloads whose status was observed by this engine. A restored status may be of any age.
    pub(super) observed: BTreeSet<Workload>,
    /// The newest statuses of workloads at rest that differ from the known ones in their pods alone. They are not journaled.
    pub(super) at_rest: BTreeMap<Workload, WorkloadStatus>,
    /// Whether the sight was regained and the rollouts have not been woken yet.
    regained: bool,
    /// Whether it takes recorded inputs in, of which each has changed something. A part of the change may lie outside of the
    /// record, such as in the outbox of a notification sink.
    replays: bool,
    pub(super) now: Timestamp,
}

impl Engine {
    /// Returns an engine that knows no workload. `retention` is the events topic's retention, for which an event has to be
    /// remembered.
    pub fn new(cluster: String, policies: Vec<Policy>, retention: Span) -> Engine {
        Engine {
            cluster,
            policies: policies.into_iter().map(Arc::new).collect(),
            retention,
            sinks: Vec::new(),
            states: BTreeMap::new(),
            seen: BTreeMap::new(),
            freezes: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            wakeups: BTreeSet::new(),
            wakeup_of: BTreeMap::new(),
            sight: None,
            observed: BTreeSet::new(),
            at_rest: BTreeMap::new(),
            regained: false,
            replays: false,
            now: Timestamp::MIN,
        }
    }

    /// Returns the name of the cluster whose workloads it knows.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns the engine with these notification sinks; without them it notifies none.
    pub fn with_sinks(self, sinks: Vec<Sink>) -> Engine {
        Engine { sinks, ..self }
    }

    /// Replaces the policies, for rollouts that begin from now on.
    pub fn set_policies(&mut self, policies: Vec<Policy>) {
        self.policies = policies.into_iter().map(Arc::new).collect();
    }

    /// Returns the events that tell of the running rollouts which no policy covers any more and which don't know it.
    pub fn uncovered(&self) -> Vec<Event> {
        let unaware = |state: &&WorkloadState| state.active().is_some_and(|rollout| !rollout.is_uncovered);
        let uncovered = self.states().filter(|state| unaware(state) && !self.covers(&state.workload));
        uncovered.map(|state| Event::Uncovered { workload: state.workload.clone() }).collect()
    }

    /// Restores the state of a workload.
    pub fn restore(&mut self, mut state: WorkloadState) {
        state.share_policies(&self.policies);
        self.now = self.now.max(state.changed);
        // Timers that have run out since the state was written are due now.
        self.set_wakeup(&state.workload, state.wakeup(Timestamp::MIN));
        self.freezes.extend(state.freezes.clone());
        self.states.insert(state.workload.clone(), Box::new(state));
    }

    /// Isolates a workload whose state can't be read or written, for the reason `why`: nothing is decided about it any more, and
    /// its events are refused.
    pub fn isolate(&mut self, workload: Workload, why: String) {
        self.states.remove(&workload);
        self.set_wakeup(&workload, None);
        self.unreadable.insert(workload, why);
    }

    /// Returns the reason for which the workload is isolated; `None` if it is not.
    pub fn isolation(&self, workload: &Workload) -> Option<&str> {
        self.unreadable.get(workload).map(String::as_str)
    }

    /// Restores a processed event by its digest. It is remembered until `until`; `None` if that time is not known, and
    /// the event is then remembered for as long as a new one.
    pub fn restore_seen(&mut self, digest: String, until: Option<Timestamp>) {
        self.seen.insert(digest, until.unwrap_or(Timestamp::MAX));
    }

    /// Restores a freeze.
    pub fn restore_freeze(&mut self, scope: Scope, freeze: Freeze) {
        self.freezes.insert(scope, freeze);
    }

    /// Returns the freezes that are known, with their scopes.
    pub fn freezes(&self) -> impl Iterator<Item = (&Scope, &Freeze)> {
        self.freezes.iter()
    }

    /// Returns the effects that were asked for before a restart and are not known to be carried out.
    pub fn unfinished(&self) -> Vec<Effect> {
        let under_way = |in_flight: &InFlight| in_flight.retry.is_none().then(|| in_flight.effect.clone());
        self.states
            .values()
            .flat_map(|state| {
                let act = state.active().and_then(|rollout| rollout.current.in_flight.as_ref());
                act.and_then(under_way).into_iter().chain(state.outbox.iter().filter_map(under_way))
            })
            .collect()
    }

    /// Returns an effect that was asked for and is not confirmed, with its retries; `None` if it is confirmed or unknown.
    pub fn in_flight(&self, effect: &Effect) -> Option<&InFlight> {
        let state = self.states.get(&effect.workload)?;
        let act = state.active().and_then(|rollout| rollout.current.in_flight.as_ref());
        act.into_iter().chain(&state.outbox).find(|in_flight| in_flight.effect.id == effect.id)
    }

    /// Returns the state of `workload`; `None` if it is unknown.
    pub fn state(&self, workload: &Workload) -> Option<&WorkloadState> {
        self.states.get(workload).map(|state| &**state)
    }

    /// Returns the state of `workload`, or the one that it begins with.
    pub fn basis(&self, workload: &Workload) -> WorkloadState {
        let Some(state) = self.states.get(workload) else {
            let covering = self.freezes.iter().filter(|(scope, _)| scope.covers(workload));
            let freezes = covering.map(|(scope, freeze)| (scope.clone(), freeze.clone())).collect();
            return WorkloadState { freezes, ..WorkloadState::new(workload.clone()) };
        };
        let newest = self.at_rest.get(workload).or(state.status.as_ref());
        WorkloadState { status: newest.cloned(), ..WorkloadState::clone(state) }
    }

    /// Takes the newest status of a workload at rest into its state, before a rollout begins. The audit's record of the
    /// beginning has it in its [basis](Engine::basis).
    pub(super) fn catch_up(&mut self, workload: &Workload) {
        if let (Some(newest), Some(state)) = (self.at_rest.remove(workload), self.states.get_mut(workload)) {
            state.status = Some(newest);
        }
    }

    /// Returns the states of all workloads, in the order of the workloads.
    pub fn states(&self) -> impl Iterator<Item = &WorkloadState> {
        self.states.values().map(|state| &**state)
    }

    /// Returns the measurements that are needed of all workloads.
    pub fn watches(&self) -> Vec<Watch> {
        self.watches_of(&|_| true)
    }

    /// Returns the measurements that are needed of the workloads for which `is_due` holds.
    pub fn watches_of(&self, is_due: &dyn Fn(&Workload) -> bool) -> Vec<Watch> {
        // The rollouts of one policy share its metrics, which are the larger part of a watch.
        let mut shared: BTreeMap<*const Policy, Arc<BTreeMap<String, Metric>>> = BTreeMap::new();
        let mut metrics = |policy: &Arc<Policy>| {
            let measured = || Arc::new(policy.measured_metrics());
            Arc::clone(shared.entry(Arc::as_ptr(policy)).or_insert_with(measured))
        };
        let active = self.states.values().filter_map(|state| Some((state.active()?, state.status.as_ref()?)));
        let watched = active.filter(|(rollout, _)| is_due(&rollout.workload));
        watched.filter_map(|(rollout, status)| rollout.watch(status, &mut metrics)).collect()
    }

    /// Returns the next time at which [`Event::Tick`] may change something; [`Timestamp::MIN`] if it may at once.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if self.regained {
            return Some(Timestamp::MIN);
        }
        self.wakeups.first().map(|(at, _)| *at)
    }

    /// Whether a tick at `now` would change nothing for `workload`, except to note that it can't be seen. True at every time
    /// before the next wake-up.
    pub fn is_idle(&self, workload: &Workload, now: Timestamp) -> bool {
        let Some(sight) = self.sight_of(workload).filter(|sight| sight.is_fresh(now)) else { return true };
        let moment = Moment { now, sight: Some(sight) };
        self.states.get(workload).is_none_or(|state| state.is_idle(moment))
    }

    /// Whether a policy covers `workload`.
    pub fn covers(&self, workload: &Workload) -> bool {
        workload.cluster == self.cluster && self.policies.iter().any(|policy| policy.covers(workload))
    }

    /// Notes that the watches have reported every change up to `at`. Until the first report, and when the last one is old,
    /// nothing is decided that rests on a status.
    pub fn sighted(&mut self, at: Timestamp) {
        let sight = Sight::reported(self.sight, at);
        self.regained |= self.sight.is_none_or(|before| before.since != sight.since);
        self.sight = Some(sight);
    }

    /// Takes a recorded input in, with the sight that it was taken in with.
    pub fn replay(&mut self, input: Input) -> Vec<Transition> {
        self.sight = input.sight;
        // The next owner's clock may have been a little behind that of the last one.
        self.now = input.at;
        // The wake-ups may have been missed by the recording daemon; the record has the ticks that changed something.
        self.regained = true;
        self.observed = self.states.keys().cloned().collect();
        if let Event::Observed { workload, .. } = &input.event {
            self.observed.remove(workload);
        }
        self.replays = true;
        let transitions = self.step(input.event, input.at);
        self.replays = false;
        transitions
    }

    fn sight_of(&self, workload: &Workload) -> Option<Sight> {
        self.sight.filter(|_| self.observed.contains(workload))
    }

    /// Takes an event in. A `now` that is a little before the last one counts as the last one. One that is far before it means
    /// that the clock ran ahead, here or at the previous owner of the partition: the times that it gave are moved back.
    ///
    /// An event about one workload gives one transition. A tick gives one for each workload that it changes, a freeze one for the
    /// partition and one for each workload that it covers.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Vec<Transition> {
        self.now = if Span::between(now, self.now) > CLOCK_TOLERANCE { self.turn_back(now) } else { self.now.max(now) };
        let input = Input { at: self.now, sight: None, event };
        if let Some(refused) = self.refused(&input) {
            return vec![refused];
        }
        match input.event.clone() {
            Event::Tick => self.tick(&input),
            Event::Requested { id, time, request } => vec![self.requested(input, id, time, request)],
            Event::Deployed { id, time, workload, artifact } => {
                vec![self.deployed(input, workload, id, time, artifact)]
            }
            Event::Commanded { id, time, command } => self.commanded(input, id, time, &command),
            Event::Tested { id, workload, report } => vec![self.tested(input, workload, id, report)],
            Event::Observed { workload, status } => vec![self.observed(input, workload, *status)],
            Event::Measured { workload, block } => vec![self.update(input, &workload, |state, now, out| {
                state.with_rollout(now, |rollout, context| rollout.measured(block, context, out)).unwrap_or(false)
            })],
            Event::Uncovered { workload } => vec![self.update(input, &workload, |state, now, out| {
                state.with_rollout(now, |rollout, context| rollout.uncovered(context, out)).unwrap_or(false)
            })],
            Event::Performed { workload, effect, outcome } => {
                vec![self.update(input, &workload, |state, now, out| state.performed(&effect, outcome, now, out))]
            }
        }
    }

    /// Returns the refusal of an event about a workload that is isolated; `None` for other events. Reports about the workload
    /// are ignored; its sender has to repeat any other event.
    pub fn refused(&self, input: &Input) -> Option<Transition> {
        let workload = input.event.workload()?;
        let why = self.unreadable.get(workload)?.clone();
        let disposition = match input.event {
            Event::Requested { .. } | Event::Deployed { .. } | Event::Commanded { .. } | Event::Tested { .. } => {
                Disposition::Rejected
            }
            Event::Observed { .. }
            | Event::Measured { .. }
            | Event::Performed { .. }
            | Event::Uncovered { .. }
            | Event::Tick => Disposition::Ignored,
        };
        let reason = Reason::Isolated { workload: workload.clone(), why };
        Some(Transition::unchanged(workload.clone(), input.clone(), disposition, reason))
    }

    /// Returns `now`, after a clock that ran ahead: the sight and the wake-ups that it gave are void.
    fn turn_back(&mut self, now: Timestamp) -> Timestamp {
        self.sight = None;
        self.regained = true;
        now
    }

    fn tick(&mut self, input: &Input) -> Vec<Transition> {
        let mut due: BTreeSet<Workload> =
            self.wakeups.iter().take_while(|(at, _)| *at <= self.now).map(|(_, workload)| workload.clone()).collect();
        if std::mem::take(&mut self.regained) {
            due.extend(self.states().filter(|state| state.active().is_some()).map(|state| state.workload.clone()));
        }
        due.iter()
            .map(|workload| self.update(input.clone(), workload, WorkloadState::wake))
            .filter(|transition| transition.disposition == Disposition::Changed || transition.defect.is_some())
            .collect()
    }

    /// Returns the policy that a request names, or the first one that covers its workload.
    pub(super) fn policy_for(&self, request: &Request) -> Result<Arc<Policy>, Reason> {
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
            Err(reason) => return Transition::unchanged(workload, input, Disposition::Rejected, reason),
        };
        if let Some(reason) = unacceptable(&request, &policy) {
            let transition = Transition::unchanged(workload, input, Disposition::Rejected, reason);
            return Transition { policy: Some(policy), ..transition };
        }
        let reason = Reason::Requested { by: id.source.clone(), why: request.reason.clone() };
        let proposal = Proposal { task: Task::Roll { request: Box::new(request) }, policy, reason, retries: false };
        self.proposed(input, workload, id, time, proposal)
    }

    fn deployed(
        &mut self,
        input: Input,
        workload: Workload,
        id: EventId,
        time: Option<Timestamp>,
        artifact: Option<String>,
    ) -> Transition {
        let guards = |policy: &&Arc<Policy>| policy.guard.is_some() && policy.covers(&workload);
        let Some(policy) = self.policies.iter().find(guards).cloned() else {
            let reason = Reason::NoPolicy { workload: workload.clone() };
            return Transition::unchanged(workload, input, Disposition::Ignored, reason);
        };
        let reason = Reason::Deployed { by: id.source.clone(), artifact: artifact.clone() };
        let proposal = Proposal { task: Task::Guard { artifact }, policy, reason, retries: false };
        self.proposed(input, workload, id, time, proposal)
    }

    /// Enqueues a proposed rollout, unless its event is a duplicate or stale.
    fn proposed(
        &mut self,
        input: Input,
        workload: Workload,
        id: EventId,
        time: Option<Timestamp>,
        proposal: Proposal,
    ) -> Transition {
        let policy = Some(proposal.policy.clone());
        if self.has_seen(&id) {
            let reason = Reason::Duplicate { event: id };
            return Transition { policy, ..Transition::unchanged(workload, input, Disposition::Duplicate, reason) };
        }
        let last = self.states.get(&workload).and_then(|state| state.last_accepted);
        if let (Some(time), Some(last)) = (time, last)
            && time < last
        {
            let reason = Reason::Stale { time, last };
            return Transition { policy, ..Transition::unchanged(workload, input, Disposition::Ignored, reason) };
        }
        // A request that can't be carried out must not end a rollout that can.
        if let Some(reason) = self.objection(&workload, &proposal.task) {
            return Transition { policy, ..Transition::unchanged(workload, input, Disposition::Rejected, reason) };
        }
        let until = self.remember(&id);
        self.ensure_state(&workload);
        self.catch_up(&workload);
        let queued = QueuedRequest { event: id.clone(), proposal, since: self.now };
        let transition = self.update(input, &workload, |state, now, out| {
            state.last_accepted = time.max(state.last_accepted);
            state.enqueue(queued, now, out);
            true
        });
        Transition { seen: Some((id, until)), policy, ..transition }
    }

    /// Returns why a proposed rollout can't be carried out although the one before it gives way to it; `None` if it can, or
    /// if that is not known.
    fn objection(&self, workload: &Workload, task: &Task) -> Option<Reason> {
        let Task::Roll { request } = task else { return None };
        let state = self.states.get(workload)?;
        let is_seen = self.sight_of(workload).is_some_and(|sight| sight.is_fresh(self.now));
        state.objection(request, state.status.as_ref().filter(|_| is_seen))
    }

    /// Whether an event was processed.
    pub(super) fn has_seen(&self, id: &EventId) -> bool {
        self.seen.contains_key(&id.digest())
    }

    /// Remembers an event as processed, and returns the time until which it is remembered.
    pub(super) fn remember(&mut self, id: &EventId) -> Timestamp {
        let until = self.retention.after(self.now);
        self.seen.insert(id.digest(), until);
        until
    }

    fn ensure_state(&mut self, workload: &Workload) {
        if !self.states.contains_key(workload) {
            self.states.insert(workload.clone(), Box::new(self.basis(workload)));
        }
    }

    /// Takes a suite report in. It may arrive before the rollout that needs it is requested.
    fn tested(&mut self, input: Input, workload: Workload, id: EventId, report: SuiteReport) -> Transition {
        if self.has_seen(&id) {
            return Transition::unchanged(workload, input, Disposition::Duplicate, Reason::Duplicate { event: id });
        }
        // A record has the policies of requests alone; that the report was taken in is a fact of the record.
        if !self.replays && !self.covers(&workload) {
            let reason = Reason::NoPolicy { workload: workload.clone() };
            return Transition::unchanged(workload, input, Disposition::Ignored, reason);
        }
        let until = self.remember(&id);
        self.ensure_state(&workload);
        let reason = Reason::Tested { report: Box::new(report.clone()) };
        let transition = self.update(input, &workload, |state, now, out| {
            report.append_to(&mut state.reports);
            state.with_rollout(now, |rollout, context| rollout.drive(context, out));
            true
        });
        Transition { seen: Some((id, until)), reason, ..transition }
    }

    fn observed(&mut self, input: Input, workload: Workload, status: WorkloadStatus) -> Transition {
        if !self.states.contains_key(&workload) {
            if !self.covers(&workload) {
                return Transition::unchanged(workload, input, Disposition::Ignored, Reason::Irrelevant);
            }
            self.ensure_state(&workload);
        }
        let is_first = self.observed.insert(workload.clone());
        if self.states.get(&workload).is_some_and(|state| state.rests(&status)) {
            self.at_rest.insert(workload.clone(), status);
            return Transition::unchanged(workload, input, Disposition::Ignored, Reason::Irrelevant);
        }
        self.at_rest.remove(&workload);
        self.update(input, &workload, |state, now, out| {
            if state.status.as_ref() == Some(&status) {
                // The restored status is confirmed, so the rollout may rest on it.
                return is_first && state.wake(now, out);
            }
            state.status = Some(status);
            if state.active().is_none() {
                state.record_healthy(now);
            }
            state.with_rollout(now, |rollout, context| rollout.drive(context, out));
            true
        })
    }

    /// Changes the state of a known workload by `change`, and carries out the consequences. A panic isolates the workload.
    pub(super) fn update(
        &mut self,
        input: Input,
        workload: &Workload,
        change: impl FnOnce(&mut WorkloadState, Timestamp, &mut StepOutput) -> bool,
    ) -> Transition {
        let now = self.now;
        let moment = Moment { now, sight: self.sight_of(workload) };
        let input = Input { sight: moment.sight, ..input };
        let Some(state) = self.states.get_mut(workload) else {
            return Transition::unchanged(workload.clone(), input, Disposition::Ignored, Reason::Irrelevant);
        };
        // A wake-up that was due before this event is still due: only a tick is sure to have looked at the clock.
        let due = self.wakeup_of.get(workload).copied().filter(|at| *at <= now && input.event != Event::Tick);
        // A refused command changes nothing, so it doesn't look either.
        let looks = !matches!(input.event, Event::Commanded { .. });
        // The state of this workload alone is half changed after a panic, and it is dropped then.
        let step = catch_unwind(AssertUnwindSafe(|| {
            let mut out = StepOutput::default();
            let turned = looks && state.turn_back(now);
            let looked = looks && state.follow_sight(moment);
            let mut changed = change(state, now, &mut out) || self.replays;
            if looked || turned {
                // The times that are waited for have moved, and an event that changes nothing else has not looked at them.
                state.wake(now, &mut out);
                changed = true;
            }
            if changed {
                state.follow_up(&self.sinks, moment, &mut out);
                state.changed = now;
            }
            let reason = if changed { state.answer_to(&input.event, &out.decisions, now) } else { Reason::Irrelevant };
            (out, changed, reason, due.or_else(|| state.wakeup(now)))
        }));
        let (out, changed, reason, wakeup) = match step {
            Ok(done) => done,
            Err(panic) => return self.broken(workload, input, &panic_message(panic.as_ref())),
        };
        self.set_wakeup(workload, wakeup);
        let disposition = if changed { Disposition::Changed } else { Disposition::Ignored };
        Transition {
            decisions: out.decisions,
            effects: out.effects,
            passed: out.passed,
            ..Transition::unchanged(workload.clone(), input, disposition, reason)
        }
    }

    /// Isolates a workload in whose step this program has panicked.
    fn broken(&mut self, workload: &Workload, input: Input, message: &str) -> Transition {
        let why = format!("a defect of Bellwether: {message}");
        self.isolate(workload.clone(), why.clone());
        let reason = Reason::Isolated { workload: workload.clone(), why: why.clone() };
        Transition {
            defect: Some(why),
            ..Transition::unchanged(workload.clone(), input, Disposition::Rejected, reason)
        }
    }

    pub(super) fn set_wakeup(&mut self, workload: &Workload, at: Option<Timestamp>) {
        if let Some(before) = self.wakeup_of.remove(workload) {
            self.wakeups.remove(&(before, workload.clone()));
        }
        if let Some(at) = at {
            self.wakeup_of.insert(workload.clone(), at);
            self.wakeups.insert((at, workload.clone()));
        }
    }
}

/// Returns why a policy doesn't accept a request; `None` if it does.
fn unacceptable(request: &Request, policy: &Policy) -> Option<Reason> {
    if request.images.is_empty() && request.image.is_none() {
        return Some(Reason::NoImage);
    }
    let image = request.all_images().find(|image| !policy.allows(image))?;
    let (policy, allowed) = (policy.name.clone(), policy.matches.images.clone());
    Some(Reason::ImageNotAllowed { image: image.clone(), policy, allowed })
}

/// Returns the message of a panic that was caught.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}
