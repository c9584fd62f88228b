//! One workload: everything that is known of it, and the consequences of each change.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, EventId, RolloutId, Scope, Workload, all_run};
use crate::input::command::{Author, Freeze, Verb};
use crate::input::effect::{Act, Effect, Notify};
use crate::input::event::{Event, FailureKind, Outcome, Request};
use crate::input::notification::{Notification, Sink, Subscription};
use crate::input::report::SuiteReport;
use crate::input::sight::Sight;
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::policy::{Mode, Policy};
use crate::rollout::cause::{EndCause, Fired};
use crate::rollout::decision::Decision;
use crate::rollout::ending::Ending;
use crate::rollout::message;
use crate::rollout::phase::{Phase, Trigger};
use crate::rollout::reason::Reason;
use crate::rollout::{
    InFlight, LastGood, QuarantineEntry, Rollout, RolloutContext, StepOutput, Task, requested_change,
};
use crate::time::{Span, Timestamp};

/// The longest wait between two attempts at a notification: a sink that was away for long gets its messages within it.
const LONGEST_NOTIFICATION_WAIT: Span = Span::from_secs(300);
/// The difference between two clocks that needs no correction. A time that is earlier than the last one by at most this counts
/// as the last one.
pub(super) const CLOCK_TOLERANCE: Span = Span::from_secs(60);
/// The time after the last change after which a workload that is gone is forgotten.
const FORGOTTEN_AFTER: Span = Span::from_secs(7 * 86_400);
/// The number of quarantined versions of a workload; the oldest are forgotten first.
const MAX_QUARANTINED: usize = 16;

/// Everything that is known of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorkloadState {
    /// The workload.
    pub workload: Workload,
    /// Its newest observed status.
    pub status: Option<WorkloadStatus>,
    /// The version that a guard restores.
    pub last_good: Option<LastGood>,
    /// The time of the newest accepted event.
    pub last_accepted: Option<Timestamp>,
    /// The running rollout, or the last one.
    pub rollout: Option<Box<Rollout>>,
    /// The newest request, which waits for the running rollout.
    pub queued: Option<QueuedRequest>,
    /// The freezes that cover it. The engine has them too; with them here, this state and its inputs suffice for a replay.
    #[serde(default)]
    pub freezes: BTreeMap<Scope, Freeze>,
    /// The quarantined versions, oldest first.
    #[serde(default)]
    pub quarantine: Vec<QuarantineEntry>,
    /// The suite reports about it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<SuiteReport>,
    /// The notifications that are not known to be sent, in the order of the decisions.
    pub outbox: Vec<InFlight>,
    /// The receipts of the sinks that show one thread per rollout, by the sink's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub receipts: BTreeMap<String, Receipt>,
    /// The time of the newest change, so that time doesn't run backwards over a restart.
    pub changed: Timestamp,
}

/// The time of an input, with the sight of the workload's status at that time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The time.
    pub now: Timestamp,
    /// The sight; `None` if the status was not observed since the process took the partition over.
    pub sight: Option<Sight>,
}

/// The receipt of a sink for the thread of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Receipt {
    /// The rollout.
    pub rollout: RolloutId,
    /// The receipt, which the sink alone can read.
    pub text: String,
}

/// A rollout that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Proposal {
    /// Its task.
    pub task: Task,
    /// Its policy.
    pub policy: Arc<Policy>,
    /// The explanation of the request.
    pub reason: Reason,
    /// Whether a person requested an earlier rollout's change again.
    #[serde(default)]
    pub retries: bool,
}

/// A request that waits for the running rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QueuedRequest {
    /// The requesting event.
    pub event: EventId,
    /// The rollout that it asks for.
    pub proposal: Proposal,
    /// The time since which it waits.
    pub since: Timestamp,
}

impl WorkloadState {
    /// Returns the state of a workload of which nothing is known.
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
            receipts: BTreeMap::new(),
            changed: Timestamp::MIN,
        }
    }

    /// Replaces policies that are equal to one of `known` by it, so that they are in the memory once.
    pub(super) fn share_policies(&mut self, known: &[Arc<Policy>]) {
        let own = self.rollout.iter_mut().map(|rollout| &mut rollout.policy);
        for policy in own.chain(self.queued.iter_mut().map(|queued| &mut queued.proposal.policy)) {
            if let Some(same) = known.iter().find(|known| known.hash == policy.hash && *known == policy) {
                *policy = Arc::clone(same);
            }
        }
    }

    /// Returns the next time after `now` at which a tick may change something.
    pub(super) fn wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        let rollout = self.rollout.as_ref().and_then(|rollout| rollout.next_timer(now)).map(|(at, _)| at);
        let outbox = self.outbox.iter().filter_map(|message| message.retry).filter(|at| *at > now);
        let thaws = self.freezes.values().filter_map(|freeze| freeze.until).filter(|at| *at > now);
        let gives_up = self.waiting_expires(now).filter(|at| *at > now);
        rollout.into_iter().chain(outbox).chain(thaws).chain(gives_up).min()
    }

    /// Returns the time at which a request is given up that only a freeze without an end keeps from beginning; `None` if there is
    /// none.
    fn waiting_expires(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.queued.as_ref().filter(|_| self.active().is_none())?;
        let (_, freeze) = self.frozen(now).filter(|(_, freeze)| freeze.until.is_none())?;
        let ended = self.rollout.as_ref().and_then(|rollout| rollout.ended).unwrap_or(waiting.since);
        Some(waiting.proposal.policy.max_hold.after(waiting.since.max(freeze.since).max(ended)))
    }

    /// Gives the waiting request up if its time is over.
    fn expire_waiting(&mut self, now: Timestamp, out: &mut StepOutput) {
        let is_over = self.waiting_expires(now).is_some_and(|at| at <= now);
        let (Some(waiting), Some((scope, freeze)), true) = (&self.queued, self.frozen(now), is_over) else { return };
        let held = Box::new(Reason::frozen(scope, freeze));
        let reason = Reason::HoldExpired { held, after: Span::between(waiting.since, now) };
        self.drop_waiting(Fired::ending(Trigger::GaveUp, EndCause::Undecided, reason), now, out);
    }

    /// Returns the answer to an event that has changed this state: what its rollout waits for, or the newest explanation.
    pub(super) fn answer_to(&self, event: &Event, decisions: &[Decision], now: Timestamp) -> Reason {
        let is_waiting = self.queued.as_ref().is_some_and(|queued| Some(&queued.event) == event.id());
        match (self.active(), self.queued.as_ref().and(self.frozen(now))) {
            (Some(running), _) if is_waiting => Reason::Queued { behind: running.id.clone(), phase: running.phase() },
            (None, Some((scope, freeze))) => Reason::frozen(scope, freeze),
            (Some(running), _) => running.reason.clone(),
            (None, None) => {
                let last = self.rollout.as_ref().map(|rollout| rollout.reason.clone());
                decisions.last().map(|decision| decision.reason.clone()).or(last).unwrap_or(Reason::Irrelevant)
            }
        }
    }

    /// Returns the id of the rollout that waits for its beginning.
    pub fn waiting(&self) -> Option<RolloutId> {
        self.queued.as_ref().map(|queued| RolloutId::of(&self.workload, &queued.event))
    }

    /// Ends the waiting request without a beginning, with a decision of its own.
    fn drop_waiting(&mut self, fired: Fired, now: Timestamp, out: &mut StepOutput) {
        let Some(QueuedRequest { event, proposal, .. }) = self.queued.take() else { return };
        let Proposal { task, policy, reason, retries: _ } = proposal;
        let mut rollout = Rollout::begin(event, self.workload.clone(), task, policy, reason, now);
        rollout.end_unbegun(fired, now, out);
        out.passed.push(rollout);
    }

    /// Whether a tick would change nothing.
    pub(super) fn is_idle(&self, moment: Moment) -> bool {
        let mut state = self.clone();
        !state.follow_sight(moment) && !state.wake(moment.now, &mut StepOutput::default())
    }

    /// Returns the freeze in force with its scope: of several, the one with the latest end or without one.
    pub fn frozen(&self, now: Timestamp) -> Option<(&Scope, &Freeze)> {
        let in_force = self.freezes.iter().filter(|(_, freeze)| freeze.holds(now));
        in_force.max_by_key(|(_, freeze)| freeze.until.unwrap_or(Timestamp::MAX))
    }

    /// Returns the running rollout.
    pub fn active(&self) -> Option<&Rollout> {
        self.rollout.as_deref().filter(|rollout| rollout.phase() != Phase::Ended)
    }

    /// Moves the times that lie after `now` to it, if the last change has the time of a clock that ran ahead.
    pub(super) fn turn_back(&mut self, now: Timestamp) -> bool {
        let by = Span::between(now, self.changed);
        if by <= CLOCK_TOLERANCE {
            return false;
        }
        self.changed = now;
        self.outbox.iter_mut().filter_map(|message| message.retry.as_mut()).for_each(|at| *at = (*at).min(now));
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.phase() != Phase::Ended) {
            rollout.turn_back(by, now);
        }
        true
    }

    /// Lets the running rollout note whether the cluster can be seen. Returns whether that changed anything.
    pub(super) fn follow_sight(&mut self, Moment { now, sight }: Moment) -> bool {
        let last = self.changed;
        let rollout = self.rollout.as_mut().filter(|rollout| rollout.phase() != Phase::Ended);
        rollout.is_some_and(|rollout| rollout.follow_sight(sight, last, now))
    }

    /// Runs `act` on the running rollout; `None` if there is none.
    pub(super) fn with_rollout<T>(
        &mut self,
        now: Timestamp,
        act: impl FnOnce(&mut Rollout, RolloutContext<'_>) -> T,
    ) -> Option<T> {
        let frozen = self.frozen(now).map(|(scope, freeze)| (scope.clone(), freeze.clone()));
        let WorkloadState { status, last_good, rollout, quarantine, reports, .. } = self;
        let rollout = rollout.as_mut().filter(|rollout| rollout.phase() != Phase::Ended)?;
        let status = status.as_ref().filter(|_| rollout.unseen_since.is_none());
        let frozen = frozen.as_ref().map(|(scope, freeze)| (scope, freeze));
        let last_good = last_good.as_ref();
        Some(act(rollout, RolloutContext { now, status, last_good, frozen, quarantine, reports }))
    }

    /// Lets the time pass. Returns whether anything changed.
    pub(super) fn wake(&mut self, now: Timestamp, out: &mut StepOutput) -> bool {
        let before = self.clone();
        self.freezes.retain(|_, freeze| freeze.holds(now));
        self.expire_waiting(now, out);
        self.with_rollout(now, |rollout, context| rollout.drive(context, out));
        for waiting in &mut self.outbox {
            out.effects.extend(waiting.take_due(now));
        }
        *self != before
    }

    /// Takes the outcome of an effect in. Returns `false` if the effect isn't in flight.
    pub(super) fn performed(
        &mut self,
        effect: &EffectId,
        outcome: Outcome,
        now: Timestamp,
        out: &mut StepOutput,
    ) -> bool {
        if let Some(at) = self.outbox.iter().position(|message| message.effect.id == *effect) {
            self.notified(at, outcome, now);
            return true;
        }
        let in_flight = self.active().and_then(|rollout| rollout.current.in_flight.as_ref());
        if let Outcome::Preflight(preflight) = &outcome
            && in_flight.is_some_and(|in_flight| in_flight.effect.id == *effect)
        {
            self.take_preflight(&preflight.status, now);
        }
        self.with_rollout(now, |rollout, context| rollout.performed(effect, outcome, context, out)).unwrap_or(false)
    }

    /// Takes the preflight's status in: a fresh read may know of a change that the API watch has not reported yet.
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
        // A workload that is requested before it was observed is good if it is healthy now.
        if self.rollout.as_deref().is_some_and(Rollout::is_roll) {
            self.record_healthy(now);
        }
    }

    /// Takes the outcome of the notification at position `at` of the outbox in.
    fn notified(&mut self, at: usize, outcome: Outcome, now: Timestamp) {
        let Some(waiting) = self.outbox.get_mut(at) else { return };
        let is_given_up = match &waiting.effect.act {
            Act::People(Notify { sink, notification, .. }) => {
                let age = Span::between(notification.facts.at, now);
                sink.subscription.gives_up(waiting.attempts.saturating_add(1), age)
            }
            Act::Cluster(_) | Act::Metrics(_) | Act::Registry(_) => true,
        };
        match outcome {
            Outcome::Failed(failure)
                if matches!(failure.kind, FailureKind::Unavailable | FailureKind::Conflict) && !is_given_up =>
            {
                waiting.failed(failure, now, LONGEST_NOTIFICATION_WAIT);
                self.drop_outdated();
            }
            Outcome::Sent { receipt } => {
                let sent = self.outbox.remove(at).effect;
                self.note_receipt(&sent, receipt);
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

    /// Keeps the receipt for a notification, and gives it to the waiting ones of the same thread.
    fn note_receipt(&mut self, sent: &Effect, receipt: String) {
        let Act::People(Notify { sink, .. }) = &sent.act else { return };
        for waiting in self.outbox.iter_mut().filter(|waiting| waiting.effect.rollout == sent.rollout) {
            if let Act::People(notify) = &mut waiting.effect.act
                && notify.sink.name == sink.name
            {
                notify.receipt = Some(receipt.clone());
            }
        }
        let is_newest = self.rollout.as_ref().is_none_or(|rollout| rollout.id == sent.rollout);
        if is_newest || !self.receipts.contains_key(&sink.name) {
            let receipt = Receipt { rollout: sent.rollout.clone(), text: receipt };
            self.receipts.insert(sink.name.clone(), receipt);
        }
    }

    /// Whether a status need not be kept: nothing waits for it, and it differs from the known one in the pods alone.
    pub(super) fn rests(&self, status: &WorkloadStatus) -> bool {
        let decides_nothing = self.active().is_none() && self.queued.is_none() && self.last_good.is_some();
        decides_nothing && self.status.as_ref().is_some_and(|known| known.differs_in_pods_alone(status))
    }

    /// Whether nothing is left to do for the workload, and nothing has changed for `FORGOTTEN_AFTER`.
    pub(super) fn is_outdated(&self, now: Timestamp) -> bool {
        let is_at_rest = self.active().is_none() && self.queued.is_none() && self.outbox.is_empty();
        is_at_rest && Span::between(self.changed, now) >= FORGOTTEN_AFTER
    }

    /// Records the present template as last good if none is known and the workload is healthy.
    pub(super) fn record_healthy(&mut self, now: Timestamp) {
        if self.last_good.is_some() {
            return;
        }
        let healthy =
            |arm: &&DeploymentStatus| arm.is_settled() && arm.replicas > 0 && arm.problem.is_none() && !arm.paused;
        if let Some(stable) = self.status.as_ref().and_then(|status| status.stable.as_ref()).filter(healthy) {
            self.last_good = Some(last_good(stable, now));
        }
    }

    /// Returns why a request can't be carried out, however the running rollout ends; `None` if it can, or if nothing gives way
    /// to it. `seen` is the workload's status, if it is known to be true.
    pub(super) fn objection(&self, request: &Request, seen: Option<&WorkloadStatus>) -> Option<Reason> {
        let active = self.active();
        if active.is_none() && self.queued.is_none() || active.is_some_and(|rollout| rollout.is_recalled_by(request)) {
            return None;
        }
        let stable = seen.and_then(|status| status.stable.as_ref()).map(|stable| &stable.images);
        let basis = active.and_then(|rollout| rollout.basis.as_ref());
        let versions = stable.into_iter().chain(basis.into_iter().flat_map(|basis| [&basis.from, &basis.to]));
        let mut answers = versions.map(|images| requested_change(request, images, &self.quarantine));
        let first = answers.next()?.err()?;
        answers.all(|answer| answer.is_err()).then_some(first)
    }

    /// Makes a request the newest one. It starts at once where no rollout runs, ends a rollout about which nothing is decided
    /// yet, and waits for any other.
    pub(super) fn enqueue(&mut self, queued: QueuedRequest, now: Timestamp, out: &mut StepOutput) {
        let by = queued.event.clone();
        let newer = Reason::Superseded { by: by.clone() };
        self.drop_waiting(Fired::ending(Trigger::Superseded, EndCause::Superseded, newer), now, out);
        // A request for the stable's own images during a rollout asks for the way back and nothing else.
        let recalled = self.with_rollout(now, |rollout, context| match &queued.proposal.task {
            Task::Roll { request } if rollout.is_recalled_by(request) => {
                rollout.recalled(by.clone(), context, out);
                true
            }
            Task::Roll { .. } | Task::Guard { .. } => false,
        });
        if recalled == Some(true) {
            return;
        }
        self.queued = Some(queued);
        self.with_rollout(now, |rollout, context| {
            if rollout.can_be_superseded() {
                rollout.superseded(by, context, out);
            }
        });
    }

    /// Carries out a verb on the running rollout, and queues its request again if it starts again. Returns the refusal.
    pub(super) fn obey(
        &mut self,
        verb: &Verb,
        (event, author): (EventId, Author),
        now: Timestamp,
        out: &mut StepOutput,
    ) -> Option<Reason> {
        let guarded = self.active().is_some_and(|rollout| rollout.phase() == Phase::Guarding);
        if let Err(refusal) = self.with_rollout(now, |rollout, context| rollout.obey(verb, author, context, out))? {
            return Some(refusal);
        }
        let restarted = self.rollout.as_ref().filter(|rollout| rollout.starts_again() && !guarded);
        if let Some((rollout, conclusion)) = restarted.and_then(|rollout| Some((rollout, rollout.conclusion.as_ref()?)))
        {
            let (task, policy, reason) = (rollout.task.clone(), rollout.policy.clone(), conclusion.reason.clone());
            let proposal = Proposal { task, policy, reason, retries: false };
            self.queued.get_or_insert(QueuedRequest { event, proposal, since: now });
        }
        None
    }

    /// Aborts the waiting rollout, and with `all` the running one as well if it can be aborted.
    pub(super) fn abort_waiting(&mut self, all: bool, author: Author, now: Timestamp, out: &mut StepOutput) {
        let (drops, by) = (self.waiting(), author.clone());
        let abort = |rollout: &mut Rollout, context: RolloutContext<'_>| rollout.abort(by, drops, context, out);
        let goes_on = if all { self.with_rollout(now, abort).and_then(Result::err) } else { None };
        let reason = Reason::AbortedWaiting { author, goes_on };
        self.drop_waiting(Fired::ending(Trigger::Recalled, EndCause::Aborted, reason), now, out);
    }

    /// Carries out the consequences of a change: records a good or failed version, queues notifications for `sinks`, and
    /// starts the waiting request.
    pub(super) fn follow_up(&mut self, sinks: &[Sink], moment: Moment, out: &mut StepOutput) {
        let now = moment.now;
        // A freeze that came may have made the time of a waiting request be over.
        self.expire_waiting(now, out);
        let mut told = 0;
        loop {
            self.record_promoted(now);
            if out.decisions[told..].iter().any(|decision| decision.ending == Some(Ending::RolledBack)) {
                self.quarantine_failed();
            }
            self.queue_notifications(sinks, told, out);
            told = out.decisions.len();
            if self.active().is_some() {
                return;
            }
            let frozen = self.frozen(now).is_some();
            let may_start = |queued: &mut QueuedRequest| !frozen || matches!(queued.proposal.task, Task::Guard { .. });
            let Some(QueuedRequest { event, proposal, .. }) = self.queued.take_if(may_start) else { return };
            let Proposal { task, policy, reason, retries } = proposal;
            let mut rollout = Rollout::begin(event, self.workload.clone(), task, policy, reason, now);
            if retries {
                rollout.note_retry(out);
            }
            out.passed.extend(self.rollout.replace(Box::new(rollout)).map(|before| *before));
            self.follow_sight(moment);
            self.with_rollout(now, |rollout, context| rollout.drive(context, out));
        }
    }

    /// Records a version that was promoted and passed its guard as last good.
    fn record_promoted(&mut self, now: Timestamp) {
        let promoted = self.rollout.as_ref().filter(|rollout| {
            rollout.ending() == Some(Ending::Promoted)
                && rollout.ended == Some(now)
                && rollout.policy.mode == Mode::Enforce
        });
        let stable = self.status.as_ref().and_then(|status| status.stable.as_ref());
        if let (Some(rollout), Some(stable)) = (promoted, stable)
            && rollout.basis.as_ref().is_some_and(|basis| all_run(&stable.images, &basis.to))
            && self.last_good.as_ref().is_none_or(|good| good.template != stable.template)
        {
            self.last_good = Some(last_good(stable, now));
        }
    }

    /// Quarantines the version of a rollout whose end is blamed on it.
    fn quarantine_failed(&mut self) {
        let blamed = self.rollout.as_ref().filter(|rollout| rollout.quarantines());
        let Some((rollout, conclusion)) = blamed.and_then(|rollout| Some((rollout, rollout.conclusion.as_ref()?)))
        else {
            return;
        };
        let images = rollout.changes();
        let (since, why) = (conclusion.at, conclusion.reason.to_string());
        let failed = QuarantineEntry { images, since, rollout: rollout.id.clone(), why };
        self.quarantine.retain(|known| known.images != failed.images);
        self.quarantine.push(failed);
        if self.quarantine.len() > MAX_QUARANTINED {
            self.quarantine.remove(0);
        }
    }

    /// Queues the notifications about the decisions of a step from the one with this index on.
    fn queue_notifications(&mut self, sinks: &[Sink], first: usize, out: &mut StepOutput) {
        let StepOutput { decisions, effects, passed } = out;
        self.receipts.retain(|name, _| sinks.iter().any(|sink| sink.name == *name));
        for decision in &decisions[first..] {
            let mut known = self.rollout.as_deref_mut().into_iter().chain(passed.iter_mut());
            let Some(rollout) = known.find(|rollout| rollout.id == decision.rollout) else { continue };
            let general = message::about(decision, rollout);
            for sink in sinks {
                let notification = message::to(sink.subscription, &general, decision, rollout);
                if !is_for(sink, &notification, &rollout.policy) {
                    continue;
                }
                let notification = Box::new(notification.into_owned());
                let known = self.receipts.get(&sink.name).filter(|receipt| receipt.rollout == rollout.id);
                let receipt = known.map(|receipt| receipt.text.clone());
                let act = Act::People(Notify { sink: sink.clone(), notification, receipt });
                let id = EffectId::of_notification(&rollout.id, decision.n, &sink.name);
                let (rollout, workload) = (rollout.id.clone(), rollout.workload.clone());
                let effect = Effect { id, rollout, workload, act };
                effects.push(effect.clone());
                make_room(&mut self.outbox, sink);
                self.outbox.push(InFlight::new(effect));
            }
        }
        self.drop_outdated();
    }

    /// Drops each waiting change of an incident that a newer change for the same sink replaces. Otherwise a repeated attempt
    /// would open the incident again after its resolution.
    fn drop_outdated(&mut self) {
        let mut replaced = Vec::new();
        for (at, waiting) in self.outbox.iter().enumerate().filter(|(_, waiting)| waiting.retry.is_some()) {
            let Some(change) = incident_of(&waiting.effect) else { continue };
            if self.outbox[at + 1..].iter().any(|newer| incident_of(&newer.effect) == Some(change)) {
                replaced.push(waiting.effect.id.clone());
            }
        }
        self.outbox.retain(|waiting| !replaced.contains(&waiting.effect.id));
    }
}

/// Returns whether `sink` receives a notification about a rollout with `policy`.
fn is_for(sink: &Sink, notification: &Notification, policy: &Policy) -> bool {
    let is_chosen = sink.subscription.is_log() || policy.notifies(&sink.name);
    is_chosen && sink.subscription.includes(notification)
}

/// Drops the oldest notification for `sink` if as many as may wait for it do.
fn make_room(outbox: &mut Vec<InFlight>, sink: &Sink) {
    let is_for_it = |waiting: &InFlight| sink_of(&waiting.effect).is_some_and(|other| other.name == sink.name);
    if outbox.iter().filter(|waiting| is_for_it(waiting)).count() >= sink.subscription.most_waiting()
        && let Some(oldest) = outbox.iter().position(is_for_it)
    {
        outbox.remove(oldest);
    }
}

/// Returns the sink and the rollout of a notification that opens or resolves an incident for a sink of incidents; `None` for
/// another effect.
fn incident_of(effect: &Effect) -> Option<(&str, &RolloutId)> {
    let sink = sink_of(effect).filter(|sink| sink.subscription == Subscription::Incidents)?;
    Some((&sink.name, &effect.rollout))
}

/// Returns the sink of a notification; `None` for another effect.
fn sink_of(effect: &Effect) -> Option<&Sink> {
    match &effect.act {
        Act::People(Notify { sink, .. }) => Some(sink),
        Act::Cluster(_) | Act::Metrics(_) | Act::Registry(_) => None,
    }
}

fn last_good(stable: &DeploymentStatus, since: Timestamp) -> LastGood {
    LastGood { template: stable.template.clone(), images: stable.images.clone(), since }
}
