//! One partition: its engine, its journal, and the order in which things happen to them.
//!
//! Every input passes through here, one batch at a time: step, commit, and only then act. A decision is therefore in the journal before
//! the world hears of it, and a successor takes up everything that was committed and not carried out. When it is not known whether a
//! commit was written, the shard ends. The partition is assigned again from its last committed offset, and its successor begins with
//! the journal, as after any restart.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bellwether_core::engine::view::AnswerView;
use bellwether_core::engine::{Disposition, Engine, Transition, show};
use bellwether_core::ids::{Scope, Workload};
use bellwether_core::input::effect::{Act, Effect, Notify};
use bellwether_core::input::event::{Event, FailureKind, Outcome};
use bellwether_core::measure::block::Block;
use bellwether_core::measure::watch::Watch;
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use crate::access;
use crate::clock::{Clock, Stopwatch};
use crate::events::decode::{DecodeOptions, Decoded, decode};
use crate::events::identity::Identity;
use crate::failpoints::{self, Failpoint};
use crate::health::Health;
use crate::journal::partition_of;
use crate::ledger::Ledger;
use crate::metrics::{self, Attempt, EventResult};
use crate::perform::{Executor, Job, JobReport, Lanes};
use crate::ports::{
    Batch, Delivery, Epoch, EventRecord, Journal, JournalError, Journals, Partition, PodTemplate, Receipt, Rekeyed,
};
use crate::sampling::Turn;
use crate::show::StatusBoard;

mod answers;

/// The most inputs that are taken into one commit, and the most blocks beside them.
const MAX_BATCH: usize = 256;
/// The bytes of records from which on no further input is taken into a commit. Records that become dead letters are written
/// again in full.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// The time between two clean-ups of the remembered events that are past the topic's retention.
const FORGET_EVERY: Span = Span::from_secs(60);

/// An input of a shard.
#[derive(Debug)]
pub enum ShardInput {
    /// A record of the events topic, which still has to be decoded.
    Record(Delivery),
    /// An event from inside the daemon: an observed status, or a freeze that a workload has missed.
    Event {
        /// The event.
        event: Box<Event>,
        /// The pod templates that it names, for the journal.
        templates: Vec<PodTemplate>,
    },
    /// Blocks of counts, by workload.
    Blocks(Vec<(Workload, Block)>),
    /// The report of an attempt at an effect.
    Performed(Box<JobReport>),
    /// New policies, for rollouts that begin from now on.
    Policies(Vec<Policy>),
    /// The report that every change of the cluster up to this time was sent.
    Sighted(Timestamp),
    /// A request for the measurements that the shard's rollouts need in a turn.
    Watches(Turn, oneshot::Sender<Vec<Watch>>),
}

impl ShardInput {
    /// Returns the bytes of its record; 0 for another input.
    pub fn record_bytes(&self) -> usize {
        if let ShardInput::Record(Delivery { record, .. }) = self { record.bytes() } else { 0 }
    }
}

/// The parts that every shard of a daemon shares.
#[derive(Clone)]
pub struct Shared {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The executor of effects.
    pub executor: Executor,
    /// The journals of all partitions.
    pub journals: Arc<dyn Journals>,
    /// The options of decoding records.
    pub decoding: Arc<DecodeOptions>,
    /// The board on which rollouts are shown.
    pub board: StatusBoard,
    /// The health of the partitions.
    pub health: Health,
    /// An engine with the present configuration that knows no workload.
    pub blank: Engine,
}

/// The reason why a shard has ended.
#[derive(Debug)]
pub enum ShardEnd {
    /// Its inbox was closed.
    Closed,
    /// Another process owns the partition now.
    Fenced(String),
    /// It is not known whether the journal was written; the partition is assigned again.
    Unknown(String),
    /// The partition waits for a person's command, and is assigned again.
    Asks(String),
    /// The journal can't be used until a person has repaired it.
    Broken(String),
}

/// One partition.
pub struct Shard {
    partition: Partition,
    shared: Shared,
    inbox: mpsc::Receiver<ShardInput>,
    /// The bytes of the records that were handed to the shard and are not taken from its inbox.
    waiting: Arc<AtomicUsize>,
    reports: mpsc::UnboundedSender<ShardInput>,
    reported: mpsc::UnboundedReceiver<ShardInput>,
    lanes: Lanes,
    /// The blocks that are not taken into a batch yet. Other inputs go before them, so that a tick of many workloads delays no
    /// command. They are at most one for each workload: one with a waiting block is not watched.
    blocks: VecDeque<(Workload, Block)>,
    ledger: Ledger,
    journal: Box<dyn Journal>,
    epoch: Epoch,
    forgot: Timestamp,
    /// The isolated workloads that are shown, by their key in the journal.
    isolated: BTreeSet<String>,
}

/// The consequences of a batch, carried out once it is committed.
#[derive(Default)]
struct Consequences {
    transitions: Vec<Transition>,
    /// The answers to the events that no engine has seen.
    turned_away: Vec<AnswerView>,
    receipts: Vec<(oneshot::Sender<Receipt>, Receipt)>,
}

impl Shard {
    /// Opens the partition: fences its previous owner, restores its state, and takes up its unfinished effects. `waiting` are
    /// the bytes of the records in `inbox`; the shard subtracts those that it takes.
    ///
    /// # Errors
    /// Another process owns the partition, or its journal doesn't answer or can't be read.
    pub async fn open(
        partition: Partition,
        shared: Shared,
        inbox: mpsc::Receiver<ShardInput>,
        waiting: Arc<AtomicUsize>,
    ) -> Result<Shard, ShardEnd> {
        // The partition was released before its turn came.
        if inbox.is_closed() {
            return Err(ShardEnd::Closed);
        }
        let (ledger, journal, epoch) = open(partition, &shared).await.map_err(end_of)?;
        // Unbounded, so that no attempt waits for the shard. The number of effects under way bounds it.
        let (reports, reported) = mpsc::unbounded_channel();
        let forgot = shared.clock.now();
        let lanes = Lanes::default();
        let isolated = BTreeSet::new();
        let mut shard = Shard {
            partition,
            shared,
            inbox,
            waiting,
            reports,
            reported,
            lanes,
            blocks: VecDeque::new(),
            ledger,
            journal,
            epoch,
            forgot,
            isolated,
        };
        shard.take_up();
        Ok(shard)
    }

    fn take_up(&mut self) {
        for state in self.ledger.engine().states() {
            self.shared.board.show(state);
        }
        self.show_isolated();
        self.shared.board.answered(self.ledger.take_answers());
        self.shared.board.recall(self.ledger.take_past());
        self.show_freezes();
        self.shared.board.own(self.partition);
        for problem in self.ledger.problems() {
            tracing::error!("{problem}");
        }
        for event in self.ledger.missed_freezes(self.forgot) {
            // The receiver is the shard's own.
            let _ = self.reports.send(ShardInput::Event { event: Box::new(event), templates: Vec::new() });
        }
        for input in self.uncovered() {
            let _ = self.reports.send(input);
        }
        for effect in self.ledger.engine().unfinished() {
            tracing::info!(effect = %effect.id, act = effect.act.name(), workload = %effect.workload, "effect taken up again");
            self.perform(effect);
        }
    }

    /// Returns the inputs that tell rollouts that no policy covers them any more.
    fn uncovered(&self) -> Vec<ShardInput> {
        let events = self.ledger.engine().uncovered().into_iter();
        events.map(|event| ShardInput::Event { event: Box::new(event), templates: Vec::new() }).collect()
    }

    /// Shows the isolated workloads that are not shown as such yet.
    fn show_isolated(&mut self) {
        for (workload, why) in self.ledger.isolated() {
            if self.isolated.insert(workload.clone()) {
                tracing::error!(workload, "workload isolated: {why}");
                self.shared.board.show_unreadable(workload, why, self.shared.clock.now());
            }
        }
    }

    /// Returns the workloads of which it knows something.
    pub fn workloads(&self) -> Vec<Workload> {
        self.ledger.engine().states().map(|state| state.workload.clone()).collect()
    }

    /// Runs until its inbox is closed or its journal fails.
    pub async fn run(mut self) -> ShardEnd {
        loop {
            let inputs = match self.next().await {
                Some(inputs) => inputs,
                None => return ShardEnd::Closed,
            };
            if let Err(end) = self.take(inputs).await {
                return end;
            }
        }
    }

    /// Returns the waiting inputs; none if blocks wait or the time of a wake-up has come. `None`: the inbox is closed.
    async fn next(&mut self) -> Option<Vec<ShardInput>> {
        let wakeup =
            self.ledger.engine().next_wakeup().map_or(Timestamp::MAX, |at| at.min(FORGET_EVERY.after(self.forgot)));
        let first = tokio::select! {
            biased;
            input = self.reported.recv() => input,
            input = self.inbox.recv() => Some(input?),
            () = std::future::ready(()), if !self.blocks.is_empty() => None,
            () = self.shared.clock.sleep_until(wakeup) => None,
        };
        let mut inputs: Vec<ShardInput> = first.into_iter().collect();
        let mut bytes: usize = inputs.iter().map(ShardInput::record_bytes).sum();
        while inputs.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            match self.reported.try_recv().ok().or_else(|| self.inbox.try_recv().ok()) {
                Some(more) => {
                    bytes += more.record_bytes();
                    inputs.push(more);
                }
                None => break,
            }
        }
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        Some(inputs)
    }

    async fn take(&mut self, inputs: Vec<ShardInput>) -> Result<(), ShardEnd> {
        let inputs = self.without_commit(inputs);
        let now = self.shared.clock.now();
        let mut batch = Batch::default();
        let consequences = self.step(inputs, now, &mut batch).map_err(end_of)?;
        self.keep_shown(&consequences, &mut batch);
        failpoints::reached(Failpoint::Decided);
        self.commit(batch).await.map_err(end_of)?;
        self.follow(consequences);
        Ok(())
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        if batch.is_empty() {
            self.journal.rest();
            return Ok(());
        }
        let watch = Stopwatch::start();
        self.shared.health.committing(self.partition);
        let result = self.journal.commit(batch).await;
        self.shared.health.committed(self.partition);
        metrics::journal_commit(watch.elapsed(), result.is_ok());
        if result.is_ok() {
            self.shared.board.committed(self.partition);
        }
        failpoints::reached(Failpoint::Committed);
        result
    }

    /// Carries out everything that needs no commit, and returns the other inputs.
    fn without_commit(&mut self, inputs: Vec<ShardInput>) -> Vec<ShardInput> {
        let mut rest = Vec::with_capacity(inputs.len());
        for input in inputs {
            match input {
                ShardInput::Policies(policies) => {
                    self.ledger.set_policies(policies.clone());
                    self.shared.blank.set_policies(policies);
                    rest.extend(self.uncovered());
                }
                ShardInput::Watches(turn, reply) => {
                    // The sampler is gone if the daemon is stopping.
                    let _ = reply.send(self.watches(turn));
                }
                ShardInput::Blocks(blocks) => self.blocks.extend(blocks),
                ShardInput::Sighted(at) => self.ledger.sighted(at),
                ShardInput::Performed(report) => {
                    if let Some(next) = self.lanes.finish(&report.effect) {
                        self.start(next);
                    }
                    rest.push(ShardInput::Performed(report));
                }
                ShardInput::Record(delivery) if delivery.reading != self.journal.reading() => {
                    tracing::debug!(
                        offset = delivery.record.offset,
                        "record of an earlier reading left to the present one"
                    );
                }
                ShardInput::Record(_) | ShardInput::Event { .. } => rest.push(input),
            }
        }
        rest
    }

    /// Returns the measurements that are needed in a turn. The next block of a workload whose last one waits could begin before the end of
    /// that one, so it is not asked for.
    fn watches(&self, turn: Turn) -> Vec<Watch> {
        let waiting: BTreeSet<&Workload> = self.blocks.iter().map(|(workload, _)| workload).collect();
        let is_due = |workload: &Workload| turn.includes(workload) && !waiting.contains(workload);
        self.ledger.engine().watches_of(&is_due)
    }

    fn step(
        &mut self,
        inputs: Vec<ShardInput>,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Consequences, JournalError> {
        let mut consequences = Consequences::default();
        consequences.transitions.extend(self.ledger.step(Event::Tick, now, batch)?);
        for input in inputs {
            let (event, templates) = match input {
                ShardInput::Record(delivery) => {
                    self.record(delivery, now, batch, &mut consequences)?;
                    continue;
                }
                ShardInput::Performed(report) => {
                    consequences.transitions.extend(self.performed(*report, now, batch)?);
                    continue;
                }
                ShardInput::Event { event, templates } => (*event, templates),
                ShardInput::Policies(_) | ShardInput::Watches(..) | ShardInput::Sighted(_) | ShardInput::Blocks(_) => {
                    continue;
                }
            };
            let workload = event.workload().cloned();
            consequences.transitions.extend(self.ledger.step(event, now, batch)?);
            if let Some(workload) = workload {
                self.ledger.keep_templates(&workload, templates, batch);
            }
        }
        for (workload, block) in self.blocks.drain(..self.blocks.len().min(MAX_BATCH)) {
            consequences.transitions.extend(self.ledger.step(Event::Measured { workload, block }, now, batch)?);
        }
        if Span::between(self.forgot, now) >= FORGET_EVERY {
            self.forgot = now;
            self.ledger.forget(now, batch);
        }
        Ok(consequences)
    }

    fn performed(
        &mut self,
        report: JobReport,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Vec<Transition>, JournalError> {
        self.log_failure(&report);
        let JobReport { effect, outcome, templates } = report;
        let may_be_given_up = matches!(&outcome, Outcome::Failed(failure) if failure.kind != FailureKind::Refused)
            .then(|| effect.clone());
        let Effect { id, workload, .. } = effect;
        let event = Event::Performed { workload: workload.clone(), effect: id, outcome };
        let transitions = self.ledger.step(event, now, batch)?;
        self.ledger.keep_templates(&workload, templates, batch);
        if let Some(effect) = may_be_given_up
            && let Act::People(Notify { sink, .. }) = &effect.act
            && self.ledger.engine().in_flight(&effect).is_none()
        {
            metrics::notification(&sink.name, Attempt::Dropped);
            let span = effect_span(&effect);
            tracing::error!(parent: &span, sink = sink.name, "notification given up; it was not sent");
        }
        Ok(transitions)
    }

    /// Logs the failure of an effect once, and again only when its kind or message changes.
    fn log_failure(&self, report: &JobReport) {
        let JobReport { effect, outcome: Outcome::Failed(failure), .. } = report else { return };
        let before = self.ledger.engine().in_flight(effect).and_then(|in_flight| in_flight.failure.as_ref());
        if before != Some(failure) {
            let span = effect_span(effect);
            tracing::warn!(parent: &span, kind = failure.kind.name(), error = failure.message, "effect failed");
        }
    }

    fn record(
        &mut self,
        Delivery { record, reply, .. }: Delivery,
        now: Timestamp,
        batch: &mut Batch,
        consequences: &mut Consequences,
    ) -> Result<(), JournalError> {
        failpoints::reached(Failpoint::Polled);
        batch.next_offset = Some(record.offset + 1);
        let span = tracing::info_span!("event", partition = self.partition, offset = record.offset);
        let _entered = span.enter();
        let decoding = &self.shared.decoding;
        let (opened, identity) = decoding.access.open(&record);
        let decoded = decode(&opened, decoding, now);
        let receipt = match decoded {
            Decoded::Ignored(why) => {
                metrics::event(EventResult::Ignored);
                tracing::debug!(reason = %why, "event ignored");
                if why.has_our_type() {
                    consequences.turn_away(&record, AnswerView::IGNORED, &why, now);
                }
                Receipt::Ignored(why.to_string())
            }
            Decoded::Dead(error) => {
                metrics::event(EventResult::Dead);
                tracing::warn!(%error, "event can't be decoded; sent to the dead-letter topic");
                consequences.turn_away(&record, AnswerView::REFUSED, &error, now);
                batch.dead.push((record, error.to_string()));
                Receipt::Dead(error.to_string())
            }
            Decoded::Event { mut event, scope } => match decoding.access.admit(&mut event, &scope, &identity, now) {
                Ok(()) => {
                    log_sender(&event, &scope, &identity);
                    self.event(&record, *event, &scope, now, batch, consequences)?
                }
                Err(refusal) => {
                    metrics::event(EventResult::Refused);
                    tracing::warn!(why = refusal.label(), %refusal, "event refused; sent to the dead-letter topic");
                    consequences.turn_away(&record, AnswerView::REFUSED, &refusal, now);
                    Ledger::not_admitted(*event, now, &refusal.to_string(), batch);
                    batch.dead.push((record, refusal.to_string()));
                    Receipt::Dead(refusal.to_string())
                }
            },
        };
        consequences.receipts.extend(reply.map(|reply| (reply, receipt)));
        Ok(())
    }

    fn event(
        &mut self,
        record: &EventRecord,
        event: Event,
        scope: &Scope,
        now: Timestamp,
        batch: &mut Batch,
        consequences: &mut Consequences,
    ) -> Result<Receipt, JournalError> {
        let next = places_after(self.partition, scope, self.shared.journals.partitions());
        if let NextPlaces::Instead(home) = next {
            metrics::event(EventResult::Rekeyed);
            tracing::info!(%scope, to = home, "event sent on to its partition");
            batch.rekeyed.push(copy(record, scope, home));
            return Ok(Receipt::Ignored(format!("sent on to partition {home}")));
        }
        let transitions = self.ledger.step(event, now, batch)?;
        if let (NextPlaces::Also(partitions), Some(first)) = (next, transitions.first())
            && !partitions.is_empty()
            && first.seen.is_some()
        {
            tracing::info!(%scope, to = ?partitions, "event sent on to further partitions of its scope");
            batch.rekeyed.extend(partitions.into_iter().map(|partition| copy(record, scope, partition)));
        }
        let Some(transition) = transitions.first() else { return Ok(Receipt::Ignored(String::new())) };
        let why = transition.reason.to_string();
        let receipt = match transition.disposition {
            Disposition::Changed => {
                metrics::event(EventResult::Taken);
                Receipt::Decided(why)
            }
            Disposition::Duplicate => {
                metrics::event(EventResult::Duplicate);
                tracing::info!(%scope, reason = why, "event ignored");
                Receipt::Ignored(why)
            }
            Disposition::Ignored => {
                metrics::event(EventResult::Ignored);
                tracing::info!(%scope, reason = why, "event ignored");
                Receipt::Ignored(why)
            }
            Disposition::Rejected => {
                metrics::event(EventResult::Dead);
                tracing::warn!(%scope, reason = why, "event rejected; sent to the dead-letter topic");
                batch.dead.push((record.clone(), why.clone()));
                Receipt::Dead(why)
            }
        };
        consequences.transitions.extend(transitions);
        Ok(receipt)
    }

    /// Carries out the consequences of a committed batch.
    fn follow(&mut self, consequences: Consequences) {
        let Consequences { transitions, turned_away, receipts } = consequences;
        self.shared.board.answered(turned_away);
        if transitions.iter().any(|transition| transition.freeze.is_some()) {
            self.show_freezes();
        }
        let mut changed: BTreeSet<Workload> = BTreeSet::new();
        for transition in transitions {
            self.shared.board.passed(&transition);
            for decision in &transition.decisions {
                metrics::decision(decision.kind.name());
                let span = tracing::info_span!("rollout", rollout = %decision.rollout, workload = %decision.workload);
                tracing::info!(
                    parent: &span,
                    decision = %decision.kind,
                    phase = %decision.to,
                    weight = %decision.weight,
                    "{}",
                    decision.why
                );
                self.shared.board.decided(decision);
            }
            for effect in transition.effects {
                self.perform(effect);
            }
            changed.extend(transition.workload);
        }
        for workload in &changed {
            if let Some(state) = self.ledger.engine().state(workload) {
                self.shared.board.show(state);
            }
        }
        self.show_isolated();
        for (reply, receipt) in receipts {
            // The client may have disconnected. The event is taken all the same.
            let _ = reply.send(receipt);
        }
    }

    fn show_freezes(&self) {
        let freezes = self.ledger.engine().freezes().map(|(scope, freeze)| show::freeze(scope, freeze));
        self.shared.board.show_freezes(self.partition, freezes.collect());
    }

    /// Performs an effect, after those of its workload that were asked for before.
    fn perform(&mut self, effect: Effect) {
        let template = self.ledger.template(&effect);
        if let Some(job) = self.lanes.begin(Job { effect, epoch: self.epoch, template }) {
            self.start(job);
        }
    }

    fn start(&self, job: Job) {
        let (executor, reports) = (self.shared.executor.clone(), self.reports.clone());
        let span = effect_span(&job.effect);
        let attempt = async move {
            let report = executor.perform(job).await;
            // If the shard has ended, its successor performs the effect again.
            let _ = reports.send(ShardInput::Performed(Box::new(report)));
        };
        tokio::spawn(attempt.instrument(span));
    }
}

/// Returns the span of an effect, with the ids by which its log lines are found.
fn effect_span(effect: &Effect) -> tracing::Span {
    tracing::info_span!("effect", effect = %effect.id, act = effect.act.name(), workload = %effect.workload)
}

/// Logs an event that was admitted, with the identity of its sender.
fn log_sender(event: &Event, scope: &Scope, identity: &Identity) {
    let (verb, id) = (access::verb_of(event), event.id());
    let (by, id) = (id.map(|id| id.source.as_str()), id.map(|id| id.id.as_str()));
    tracing::info!(target: "bellwether::audit", verb, %scope, by, id, from = identity.from, "event admitted");
}

/// The partitions that an event goes to from the one where it was read.
#[derive(Debug, PartialEq, Eq)]
enum NextPlaces {
    /// It belongs here, and perhaps on other partitions as well.
    Also(Vec<Partition>),
    /// It belongs on another partition alone.
    Instead(Partition),
}

/// Returns the next places of an event that was read on `here`. An event about one workload belongs on the partition of the
/// workload's key. An event about more belongs on every partition: from any it goes to the home of its scope's key, and from there to
/// all others. A partition that has processed it sends it nowhere, so it ends; and it needs no mark, which anyone could forge.
fn places_after(here: Partition, scope: &Scope, partitions: i32) -> NextPlaces {
    let home = partition_of(scope.to_string().as_bytes(), partitions);
    match (scope.workload().is_some(), home == here) {
        (true, false) => NextPlaces::Instead(home),
        (true, true) => NextPlaces::Also(Vec::new()),
        (false, false) => NextPlaces::Also(vec![home]),
        (false, true) => NextPlaces::Also((0..partitions).filter(|partition| *partition != here).collect()),
    }
}

fn copy(record: &EventRecord, scope: &Scope, partition: Partition) -> Rekeyed {
    Rekeyed { record: record.clone(), key: scope.to_string(), partition }
}

/// Opens the journal, restores from it, and commits a raised epoch before any effect carries it.
async fn open(partition: Partition, shared: &Shared) -> Result<(Ledger, Box<dyn Journal>, Epoch), JournalError> {
    let mut journal = shared.journals.open(partition).await?;
    let entries = journal.restore().await?;
    let (ledger, before) = Ledger::restore(&entries, shared.blank.clone())?;
    let epoch = Epoch(before.0 + 1);
    let mut batch = Batch::default();
    Ledger::raise_epoch(epoch, shared.blank.cluster(), &mut batch)?;
    journal.commit(batch).await?;
    let workloads = ledger.engine().states().count();
    tracing::info!(partition, epoch = epoch.0, workloads, "partition restored");
    Ok((ledger, journal, epoch))
}

fn end_of(error: JournalError) -> ShardEnd {
    match error {
        JournalError::Fenced(message) => ShardEnd::Fenced(message),
        JournalError::Unknown(message) => ShardEnd::Unknown(message),
        JournalError::Asks(message) => ShardEnd::Asks(message),
        JournalError::Broken(message) => ShardEnd::Broken(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_workload_goes_to_its_partition_alone() {
        let workload: Scope = "prod/shop/Deployment/web".parse().unwrap();
        let home = partition_of(workload.to_string().as_bytes(), 4);
        assert_eq!(places_after(home, &workload, 4), NextPlaces::Also(Vec::new()));
        assert_eq!(places_after((home + 1) % 4, &workload, 4), NextPlaces::Instead(home));
        for wide in ["prod", "prod/shop"] {
            assert_eq!(
                places_after(0, &wide.parse().unwrap(), 1),
                NextPlaces::Also(Vec::new()),
                "there is one partition"
            );
        }
    }

    #[test]
    fn a_wide_event_reaches_every_partition_once_from_any_of_them() {
        const PARTITIONS: i32 = 12;
        for scope in ["prod", "prod/shop"] {
            let scope: Scope = scope.parse().unwrap();
            for first in 0..PARTITIONS {
                let (mut seen, mut queue, mut read) = (BTreeSet::new(), vec![first], 0);
                while let Some(here) = queue.pop() {
                    read += 1;
                    assert!(read <= 3 * PARTITIONS, "it is sent on without an end");
                    if seen.insert(here)
                        && let NextPlaces::Also(more) = places_after(here, &scope, PARTITIONS)
                    {
                        queue.extend(more);
                    }
                }
                assert_eq!(seen.len(), PARTITIONS as usize, "from {first}");
            }
        }
    }
}
