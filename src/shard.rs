//! One partition: its engine, its journal, and the order in which things happen to them.
//!
//! Everything that is told to the engine passes through here, one batch at a time: step, commit, and only then act. What
//! has been decided is therefore in the journal before the world hears of it, and whatever dies in between is taken up
//! from there. When it is not known whether a commit was written, the shard ends; the partition is assigned again from its
//! last committed offset, and its successor begins where the journal says, as after any restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::engine::{Disposition, Engine, Transition};
use bellwether_core::ids::{Scope, Workload};
use bellwether_core::input::event::Event;
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::watch::Watch;
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Stopwatch};
use crate::events::decode::{DecodeOptions, Decoded, decode};
use crate::failpoints::{self, Failpoint};
use crate::journal::partition_of;
use crate::ledger::Ledger;
use crate::metrics::{self, EventResult};
use crate::perform::{Executor, Job, JobReport, Lanes};
use crate::ports::{
    Batch, Epoch, EventRecord, Journal, JournalError, Journals, Partition, PodTemplate, Receipt, Rekeyed,
};
use crate::show::StatusBoard;

/// So many things that wait are taken into one commit.
const MOST_IN_BATCH: usize = 256;
/// How often events that can't come again are forgotten.
const FORGET_EVERY: Span = Span::from_secs(60);

/// The header of a record that is on every partition: each is to take it in, and none to send it on.
const EVERYWHERE: &str = "bellwether-everywhere";

/// What a shard can be told.
#[derive(Debug)]
pub enum ShardInput {
    /// A record of the events topic.
    Record(EventRecord),
    /// A workload has changed.
    Observed {
        /// Which.
        workload: Workload,
        /// How it stands.
        status: Box<WorkloadStatus>,
        /// The templates that the sighting names.
        templates: Vec<PodTemplate>,
    },
    /// A block of counts.
    Measured {
        /// Whose.
        workload: Workload,
        /// The counts.
        block: Block,
    },
    /// An effect was performed, or was not.
    Performed(Box<JobReport>),
    /// New policies, for rollouts that begin from now on.
    Policies(Vec<Policy>),
    /// What is to be measured?
    Watches(oneshot::Sender<Vec<Watch>>),
}

/// What every shard of a daemon shares.
#[derive(Clone)]
pub struct Shared {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What effects are performed with.
    pub hands: Executor,
    /// Where the journals are opened.
    pub journals: Arc<dyn Journals>,
    /// How records are read.
    pub decoding: Arc<DecodeOptions>,
    /// What people are shown.
    pub shows: StatusBoard,
    /// An engine with the configuration, that knows nothing.
    pub blank: Engine,
}

/// Why a shard has ended.
#[derive(Debug)]
pub enum ShardEnd {
    /// Told to: its inbox is closed.
    Closed,
    /// Another process owns the partition now.
    Fenced(String),
    /// It is not known whether the journal was written; the partition is assigned again.
    Unknown(String),
    /// The journal is not what it must be.
    Broken(String),
}

/// One partition.
pub struct Shard {
    partition: Partition,
    shared: Shared,
    inbox: mpsc::Receiver<ShardInput>,
    reports: mpsc::UnboundedSender<ShardInput>,
    reported: mpsc::UnboundedReceiver<ShardInput>,
    lanes: Lanes,
    ledger: Ledger,
    journal: Box<dyn Journal>,
    epoch: Epoch,
    forgot: Timestamp,
}

/// What follows from a batch, once it is committed.
#[derive(Default)]
struct Consequences {
    transitions: Vec<Transition>,
    answers: Vec<(EventRecord, Receipt)>,
}

impl Shard {
    /// Opens the partition: fences whoever had it, restores what they left, and takes up what they had begun.
    ///
    /// # Errors
    /// The partition is somebody else's, or its journal does not answer or can't be read.
    pub async fn open(
        partition: Partition,
        shared: Shared,
        inbox: mpsc::Receiver<ShardInput>,
    ) -> Result<Shard, ShardEnd> {
        let (ledger, journal, epoch) = open(partition, &shared).await.map_err(ended)?;
        // Unbounded, because nothing may wait in here; bounded all the same by one report an effect under way.
        let (reports, reported) = mpsc::unbounded_channel();
        let forgot = shared.clock.now();
        let mut shard = Shard {
            partition,
            shared,
            inbox,
            reports,
            reported,
            lanes: Lanes::default(),
            ledger,
            journal,
            epoch,
            forgot,
        };
        shard.take_up();
        Ok(shard)
    }

    fn take_up(&mut self) {
        for state in self.ledger.engine().states() {
            self.shared.shows.show(state);
        }
        for effect in self.ledger.engine().unfinished() {
            tracing::info!(effect = %effect.id, act = effect.act.name(), workload = %effect.workload, "taken up again");
            self.order(effect);
        }
    }

    /// Runs until it is told to end, or can't go on.
    pub async fn run(mut self) -> ShardEnd {
        loop {
            let told = match self.next().await {
                Some(told) => told,
                None => return ShardEnd::Closed,
            };
            if let Err(end) = self.take(told).await {
                return end;
            }
        }
    }

    /// All that waits, or nothing because time has passed; `None`: the inbox is closed.
    async fn next(&mut self) -> Option<Vec<ShardInput>> {
        let wakeup =
            self.ledger.engine().next_wakeup().map_or(Timestamp::MAX, |at| at.min(FORGET_EVERY.after(self.forgot)));
        let first = tokio::select! {
            biased;
            told = self.reported.recv() => told,
            told = self.inbox.recv() => Some(told?),
            () = self.shared.clock.sleep_until(wakeup) => None,
        };
        let mut told: Vec<ShardInput> = first.into_iter().collect();
        while told.len() < MOST_IN_BATCH {
            match self.reported.try_recv().ok().or_else(|| self.inbox.try_recv().ok()) {
                Some(more) => told.push(more),
                None => break,
            }
        }
        Some(told)
    }

    async fn take(&mut self, told: Vec<ShardInput>) -> Result<(), ShardEnd> {
        let told = self.aside(told);
        let now = self.shared.clock.now();
        let mut batch = Batch::default();
        let consequences = self.step(&told, now, &mut batch).map_err(ended)?;
        failpoints::reached(Failpoint::Decided);
        self.commit(batch).await.map_err(ended)?;
        self.follow(consequences).await;
        Ok(())
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        if batch.is_empty() {
            return Ok(());
        }
        let watch = Stopwatch::start();
        let result = self.journal.commit(batch).await;
        metrics::journal_commit(watch.elapsed());
        failpoints::reached(Failpoint::Committed);
        result
    }

    /// What needs no commit is done at once; the rest comes back.
    fn aside(&mut self, told: Vec<ShardInput>) -> Vec<ShardInput> {
        let mut rest = Vec::with_capacity(told.len());
        for told in told {
            match told {
                ShardInput::Policies(policies) => {
                    self.ledger.set_policies(policies.clone());
                    self.shared.blank.set_policies(policies);
                }
                ShardInput::Watches(answer) => {
                    // Nobody waits for it any more: then nobody needs it.
                    let _ = answer.send(self.ledger.engine().watches());
                }
                ShardInput::Performed(report) => {
                    if let Some(next) = self.lanes.finish(&report.effect) {
                        self.perform(next);
                    }
                    rest.push(ShardInput::Performed(report));
                }
                ShardInput::Record(_) | ShardInput::Observed { .. } | ShardInput::Measured { .. } => rest.push(told),
            }
        }
        rest
    }

    fn step(&mut self, told: &[ShardInput], now: Timestamp, batch: &mut Batch) -> Result<Consequences, JournalError> {
        let mut consequences = Consequences::default();
        consequences.transitions.extend(self.ledger.step(Event::Tick, now, batch)?);
        for told in told {
            match told {
                ShardInput::Record(record) => self.record(record, now, batch, &mut consequences)?,
                ShardInput::Observed { workload, status, templates } => {
                    let event = Event::Observed { workload: workload.clone(), status: status.clone() };
                    consequences.transitions.extend(self.ledger.step(event, now, batch)?);
                    self.ledger.keep_templates(workload, templates.clone(), batch);
                }
                ShardInput::Measured { workload, block } => {
                    let event = Event::Measured { workload: workload.clone(), block: block.clone() };
                    consequences.transitions.extend(self.ledger.step(event, now, batch)?);
                }
                ShardInput::Performed(report) => {
                    let JobReport { effect, outcome, templates } = report.as_ref();
                    let (workload, id) = (effect.workload.clone(), effect.id.clone());
                    let event = Event::Performed { workload: workload.clone(), effect: id, outcome: outcome.clone() };
                    consequences.transitions.extend(self.ledger.step(event, now, batch)?);
                    self.ledger.keep_templates(&workload, templates.clone(), batch);
                }
                ShardInput::Policies(_) | ShardInput::Watches(_) => {}
            }
        }
        if Span::between(self.forgot, now) >= FORGET_EVERY {
            self.forgot = now;
            self.ledger.forget(now, batch);
        }
        Ok(consequences)
    }

    fn record(
        &mut self,
        record: &EventRecord,
        now: Timestamp,
        batch: &mut Batch,
        consequences: &mut Consequences,
    ) -> Result<(), JournalError> {
        failpoints::reached(Failpoint::Polled);
        batch.next_offset = Some(record.offset + 1);
        let taken = match decode(record, &self.shared.decoding, now) {
            Decoded::Ignored(why) => {
                metrics::event(EventResult::Ignored);
                tracing::debug!(partition = self.partition, offset = record.offset, %why, "event left alone");
                Receipt::Ignored(why.to_string())
            }
            Decoded::Dead(error) => {
                metrics::event(EventResult::Dead);
                tracing::warn!(partition = self.partition, offset = record.offset, %error, "event can't be understood");
                batch.dead.push((record.clone(), error.to_string()));
                Receipt::Dead(error.to_string())
            }
            Decoded::Event { event, scope } => self.event(record, *event, &scope, now, batch, consequences)?,
        };
        consequences.answers.push((record.clone(), taken));
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
        let copies = elsewhere(record, scope, self.partition, self.shared.journals.partitions());
        if !copies.is_empty() {
            let to: Vec<String> = copies.iter().map(|copy| copy.partition.to_string()).collect();
            let to = to.join(", ");
            metrics::event(EventResult::Rekeyed);
            tracing::info!(partition = self.partition, offset = record.offset, %scope, to, "event sent on to where it belongs");
            batch.rekeyed.extend(copies);
            return Ok(Receipt::Ignored(format!("sent on to partition {to}")));
        }
        let transitions = self.ledger.step(event, now, batch)?;
        let Some(transition) = transitions.first() else { return Ok(Receipt::Ignored(String::new())) };
        let why = transition.reason.to_string();
        let taken = match transition.disposition {
            Disposition::Changed => {
                metrics::event(EventResult::Taken);
                Receipt::Decided(why)
            }
            Disposition::Duplicate => {
                metrics::event(EventResult::Duplicate);
                tracing::info!(%scope, %why, "event ignored");
                Receipt::Ignored(why)
            }
            Disposition::Ignored => {
                metrics::event(EventResult::Ignored);
                tracing::info!(%scope, %why, "event ignored");
                Receipt::Ignored(why)
            }
            Disposition::Rejected => {
                metrics::event(EventResult::Dead);
                tracing::warn!(%scope, %why, "event rejected");
                batch.dead.push((record.clone(), why.clone()));
                Receipt::Dead(why)
            }
        };
        consequences.transitions.extend(transitions);
        Ok(taken)
    }

    /// The batch is committed: now the world may hear of it.
    async fn follow(&mut self, consequences: Consequences) {
        let Consequences { transitions, answers } = consequences;
        let mut changed: BTreeMap<Workload, ()> = BTreeMap::new();
        for transition in transitions {
            self.shared.shows.passed(&transition);
            for decision in &transition.decisions {
                metrics::decision(decision.kind.name());
                tracing::info!(
                    rollout = %decision.rollout,
                    workload = %decision.workload,
                    decision = %decision.kind,
                    phase = %decision.to,
                    weight = %decision.weight,
                    "{}", decision.why
                );
                self.shared.shows.decided(decision);
            }
            for effect in transition.effects {
                self.order(effect);
            }
            changed.extend(transition.workload.map(|workload| (workload, ())));
        }
        for workload in changed.keys() {
            if let Some(state) = self.ledger.engine().state(workload) {
                self.shared.shows.show(state);
            }
        }
        for (record, taken) in answers {
            answer(&record, taken).await;
        }
    }

    fn order(&mut self, effect: bellwether_core::input::effect::Effect) {
        let template = self.ledger.template(&effect);
        if let Some(order) = self.lanes.begin(Job { effect, epoch: self.epoch, template }) {
            self.perform(order);
        }
    }

    fn perform(&self, order: Job) {
        let (hands, reports) = (self.shared.hands.clone(), self.reports.clone());
        tokio::spawn(async move {
            let report = hands.perform(order).await;
            // The shard has ended: its successor asks again.
            let _ = reports.send(ShardInput::Performed(Box::new(report)));
        });
    }
}

/// The copies by which an event reaches where it belongs; none: it is there. What is about one workload belongs on the
/// partition of its key. What is wider belongs on every partition, and says so in a header once it has been sent there.
fn elsewhere(record: &EventRecord, scope: &Scope, here: Partition, partitions: i32) -> Vec<Rekeyed> {
    let key = scope.to_string();
    let copy = |record: EventRecord, partition| Rekeyed { record, key: key.clone(), partition };
    if scope.workload().is_some() {
        let home = partition_of(key.as_bytes(), partitions);
        return if home == here { Vec::new() } else { vec![copy(record.clone(), home)] };
    }
    if partitions <= 1 || record.headers.iter().any(|(name, _)| name == EVERYWHERE) {
        return Vec::new();
    }
    let mut marked = record.clone();
    marked.headers.push((EVERYWHERE.to_owned(), here.to_string().into_bytes()));
    (0..partitions).map(|partition| copy(marked.clone(), partition)).collect()
}

/// Opens the journal, restores from it, and commits a raised epoch before anything is done in its name.
async fn open(partition: Partition, shared: &Shared) -> Result<(Ledger, Box<dyn Journal>, Epoch), JournalError> {
    let mut journal = shared.journals.open(partition).await?;
    let entries = journal.restore().await?;
    let (ledger, before) = Ledger::restore(&entries, shared.blank.clone())?;
    let epoch = Epoch(before.0 + 1);
    let mut batch = Batch::default();
    Ledger::raise_epoch(epoch, &mut batch)?;
    journal.commit(batch).await?;
    let workloads = ledger.engine().states().count();
    tracing::info!(partition, epoch = epoch.0, workloads, "partition restored");
    Ok((ledger, journal, epoch))
}

fn ended(error: JournalError) -> ShardEnd {
    match error {
        JournalError::Fenced(message) => ShardEnd::Fenced(message),
        JournalError::Unknown(message) => ShardEnd::Unknown(message),
        JournalError::Broken(message) => ShardEnd::Broken(message),
    }
}

async fn answer(record: &EventRecord, taken: Receipt) {
    if let Some(slot) = &record.answer
        && let Some(sender) = slot.lock().await.take()
    {
        // Whoever asked has gone away; the event is taken all the same.
        let _ = sender.send(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workloads_event_goes_to_its_partition_and_a_wider_one_to_all_of_them_once() {
        let record = EventRecord { partition: 1, offset: 7, ..EventRecord::default() };
        let to = |scope: &str, here, partitions, record: &EventRecord| -> Vec<Partition> {
            let copies = elsewhere(record, &scope.parse().unwrap(), here, partitions);
            assert!(copies.iter().all(|copy| copy.key == scope));
            copies.iter().map(|copy| copy.partition).collect()
        };
        let workload = "prod/shop/Deployment/web";
        let home = partition_of(workload.as_bytes(), 4);
        assert_eq!(to(workload, home, 4, &record), Vec::<Partition>::new());
        assert_eq!(to(workload, (home + 1) % 4, 4, &record), [home]);
        for wide in ["prod", "prod/shop"] {
            assert_eq!(to(wide, 1, 4, &record), [0, 1, 2, 3]);
            let copies = elsewhere(&record, &wide.parse().unwrap(), 1, 4);
            assert_eq!(to(wide, 3, 4, &copies[3].record), Vec::<Partition>::new(), "it is there, and is taken in");
            assert_eq!(to(wide, 0, 1, &record), Vec::<Partition>::new(), "one partition is all of them");
        }
    }
}
