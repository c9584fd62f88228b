//! Compares two brokers by a random script: the simulator's model and another broker must give the same answers and hold
//! the same data after every step.
//!
//! The simulator's results are only as good as its model of the broker. So a seed gives a script of the actions of
//! owners, fenced producers and crashing processes, and the script is run against both brokers. The first difference is
//! reported with the seed and the step. Then either the model or the product's use of Kafka is wrong.
//!
//! A step names a producer by the number of its opening, from 0. A producer that was fenced, or that got no answer to a
//! commit, is not used again: the product drops it as well.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use bellwether::ports;
use bellwether_sim::broker::{Broker, CommitAnswer, Fate, Fenced, Producer, Topics, TransactionBatch};
use bellwether_sim::dice::Dice;

/// Keys of the journal: few, so that they are often written again.
const KEYS: [&str; 4] = ["w/snap", "w/block/0", "w/block/1", "epoch"];

/// The kind of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerKind {
    /// The product's journal in a process to which the consumer group has assigned the partition.
    Member,
    /// The product's journal in a process outside of the group, which must not commit offsets.
    Outsider,
    /// The client library alone, which can stop at points where the product never stops.
    Raw,
}

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Op {
    /// An event is sent.
    Append {
        /// Partition that it is sent to.
        partition: usize,
        /// The event's text.
        event: String,
    },
    /// A producer opens. Unless it is a raw one, it restores the journal.
    Open {
        /// Partition that it opens.
        partition: usize,
        /// Kind of the producer.
        kind: ProducerKind,
    },
    /// A producer runs a transaction to its end.
    Commit {
        /// Number of the producer.
        producer: usize,
        /// Content of the transaction.
        batch: ports::Batch,
        /// Whether the producer gets the answer.
        answered: bool,
    },
    /// A producer begins a transaction and aborts it.
    Abort {
        /// Number of the producer.
        producer: usize,
        /// Content of the transaction.
        batch: ports::Batch,
    },
    /// A producer begins a transaction, writes its content and leaves it open.
    LeaveOpen {
        /// Number of the producer.
        producer: usize,
        /// Content of the transaction.
        batch: ports::Batch,
    },
    /// A producer ends the transaction that it left open, perhaps after another producer has opened the partition.
    End {
        /// Number of the producer.
        producer: usize,
        /// Whether it commits or aborts.
        commit: bool,
    },
    /// A raw producer opens a partition, writes a transaction and ends it, and the broker loses the markers of its data. The
    /// next step opens the partition as the product does.
    LoseMarkers {
        /// Partition that it opens.
        partition: usize,
        /// Content of the transaction; without an offset if it is aborted, because nothing tells the product of the abort.
        batch: ports::Batch,
        /// Whether it commits or aborts.
        commit: bool,
    },
    /// The process of a producer ends without notice.
    Crash {
        /// Number of the producer.
        producer: usize,
    },
}

/// The result of a step as its process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// The step has no answer.
    Done,
    /// The answer to a transaction.
    Answered(CommitAnswer),
    /// The journal entries that an opened producer has restored, by key.
    Restored(BTreeMap<String, String>),
}

/// The content of a partition as any client can read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionContent {
    /// The journal's entries by key.
    pub entries: BTreeMap<String, String>,
    /// The decisions, oldest first.
    pub decisions: Vec<String>,
    /// The committed offset in the events topic.
    pub offset: usize,
    /// The events from the committed offset on.
    pub pending: Vec<String>,
    /// Whether a transaction is open.
    pub open: bool,
}

/// A broker that a script can be run against.
#[expect(async_fn_in_trait, reason = "a script is run on the thread that has made it, so no future has to be `Send`")]
pub trait ScriptedBroker {
    /// Performs a step and returns its result.
    async fn perform(&mut self, op: &Op) -> StepResult;

    /// Returns the content of a partition; `None` if it can't be read while it is in use. Unless a transaction is `open`
    /// on the partition, this waits for the end of the last one.
    async fn content(&mut self, partition: usize, open: bool) -> Option<PartitionContent>;
}

// ---- the script ----

/// A script of steps on some partitions.
pub struct Script {
    /// The seed that the script was made from.
    pub seed: u64,
    /// Number of partitions.
    pub partitions: usize,
    /// The steps in their order.
    pub ops: Vec<Op>,
    /// Kinds of the producers, by their numbers.
    pub kinds: Vec<ProducerKind>,
}

impl Script {
    /// Returns a script with `steps` steps, followed by a new producer of the first kind on each partition. `kinds` are
    /// the kinds of producers that may occur.
    pub fn new(seed: u64, partitions: usize, steps: usize, kinds: &[ProducerKind]) -> Script {
        let events = vec![0; partitions];
        let (dice, producers) = (Dice(seed), Vec::new());
        let mut author = Author { seed, dice, kinds, events, producers, words: 0, hanging: None };
        let mut ops: Vec<Op> = (0..steps).map(|_| author.op()).collect();
        ops.extend((0..partitions).map(|partition| author.open(partition, kinds[0])));
        Script { seed, partitions, ops, kinds: author.producers.iter().map(|producer| producer.kind).collect() }
    }
}

/// The state of a script that is being written.
struct Author<'a> {
    seed: u64,
    dice: Dice,
    kinds: &'a [ProducerKind],
    /// Number of events by partition.
    events: Vec<u64>,
    producers: Vec<KnownProducer>,
    /// Number of texts so far.
    words: u32,
    /// The partition with a hanging transaction.
    hanging: Option<usize>,
}

/// A producer of the script so far.
#[derive(Clone, Copy)]
struct KnownProducer {
    partition: usize,
    kind: ProducerKind,
    /// Whether it has left a transaction open.
    open: bool,
    /// Whether it must not be used again.
    spent: bool,
}

impl Author<'_> {
    fn op(&mut self) -> Op {
        if let Some(partition) = self.hanging.take() {
            return self.open(partition, self.kinds[0]);
        }
        let partition = self.dice.below(self.events.len() as u64) as usize;
        let raw = self.kinds.contains(&ProducerKind::Raw);
        match self.dice.below(if raw { 100 } else { 65 }) {
            0..10 => {
                self.events[partition] += 1;
                Op::Append { partition, event: self.word() }
            }
            10..30 => self.open_any(partition),
            30..65 => self.commit(partition),
            65..74 => self.abort(partition),
            74..80 => self.leave_open(partition),
            80..87 => self.lose_markers(partition),
            _ => self.end(partition),
        }
    }

    fn open_any(&mut self, partition: usize) -> Op {
        let kind = *self.dice.pick(self.kinds);
        self.open(partition, kind)
    }

    fn open(&mut self, partition: usize, kind: ProducerKind) -> Op {
        self.producers.push(KnownProducer { partition, kind, open: false, spent: false });
        Op::Open { partition, kind }
    }

    fn commit(&mut self, partition: usize) -> Op {
        let Some(producer) = self.idle(partition, false) else { return self.open_any(partition) };
        let batch = if self.dice.chance(5) { ports::Batch::default() } else { self.batch(producer) };
        let answered = self.dice.chance(85);
        // No request is sent for an empty transaction, so its producer does not learn that it is fenced.
        let refused = self.is_fenced(producer) && !batch.is_empty();
        self.producers[producer].spent = refused || !answered;
        Op::Commit { producer, batch, answered }
    }

    fn abort(&mut self, partition: usize) -> Op {
        let Some(producer) = self.idle(partition, true) else { return self.open(partition, ProducerKind::Raw) };
        let batch = self.batch(producer);
        self.producers[producer].spent = self.is_fenced(producer);
        Op::Abort { producer, batch }
    }

    fn leave_open(&mut self, partition: usize) -> Op {
        let Some(producer) = self.idle(partition, true) else { return self.open(partition, ProducerKind::Raw) };
        let batch = self.batch(producer);
        self.producers[producer].spent = self.is_fenced(producer);
        self.producers[producer].open = !self.is_fenced(producer);
        Op::LeaveOpen { producer, batch }
    }

    fn lose_markers(&mut self, partition: usize) -> Op {
        let producer = self.producers.len();
        self.producers.push(KnownProducer { partition, kind: ProducerKind::Raw, open: false, spent: true });
        self.hanging = Some(partition);
        let (mut batch, commit) = (self.batch(producer), self.dice.chance(50));
        batch.next_offset = batch.next_offset.filter(|_| commit);
        Op::LoseMarkers { partition, batch, commit }
    }

    /// Ends an open transaction of any partition. Without one, leaves one open on `partition`.
    fn end(&mut self, partition: usize) -> Op {
        let is_open = |(_, known): &(usize, &KnownProducer)| known.open && !known.spent;
        let open: Vec<usize> = self.producers.iter().enumerate().filter(is_open).map(|(number, _)| number).collect();
        if open.is_empty() {
            return self.leave_open(partition);
        }
        let producer = *self.dice.pick(&open);
        let crashes = self.dice.chance(15);
        self.producers[producer].open = false;
        self.producers[producer].spent = crashes || self.is_fenced(producer);
        if crashes { Op::Crash { producer } } else { Op::End { producer, commit: self.dice.chance(50) } }
    }

    /// Returns a producer without an open transaction: usually the newest, otherwise any, which may be a fenced one.
    fn idle(&mut self, partition: usize, raw: bool) -> Option<usize> {
        let fits = |(_, known): &(usize, &KnownProducer)| {
            known.partition == partition && !known.open && !known.spent && (!raw || known.kind == ProducerKind::Raw)
        };
        let found: Vec<usize> = self.producers.iter().enumerate().filter(fits).map(|(number, _)| number).collect();
        match found.last() {
            Some(newest) if self.dice.chance(60) => Some(*newest),
            Some(_) => Some(*self.dice.pick(&found)),
            None => None,
        }
    }

    fn is_fenced(&self, producer: usize) -> bool {
        let partition = self.producers[producer].partition;
        self.producers[producer + 1..].iter().any(|later| later.partition == partition)
    }

    /// Returns a batch with at least one entry.
    fn batch(&mut self, producer: usize) -> ports::Batch {
        let KnownProducer { partition, kind, .. } = self.producers[producer];
        let puts = (0..1 + self.dice.below(3)).map(|_| {
            let value = self.dice.chance(75).then(|| self.word().into_bytes());
            ((*self.dice.pick(&KEYS)).to_owned(), value)
        });
        let puts = puts.collect();
        let decisions = (0..self.dice.below(3)).map(|_| (format!("seed-{partition}"), self.word().into_bytes()));
        let decisions = decisions.collect();
        let offset = self.dice.below(self.events[partition] + 1) as i64;
        let next_offset = (kind != ProducerKind::Outsider && self.dice.chance(60)).then_some(offset);
        ports::Batch { next_offset, puts, decisions, ..ports::Batch::default() }
    }

    /// Returns a text that occurs once, so that its origin is known.
    fn word(&mut self) -> String {
        self.words += 1;
        format!("{}.{}", self.seed, self.words)
    }
}

// ---- the model ----

/// The simulator's broker with texts as its content.
pub struct BrokerModel {
    broker: Broker<Texts>,
    producers: Vec<Producer>,
}

#[derive(Default)]
struct Texts {
    entries: BTreeMap<String, String>,
    decisions: Vec<String>,
}

impl Topics for Texts {
    type Event = String;
    type Writes = ports::Batch;

    fn write(&mut self, writes: &ports::Batch) {
        for (key, value) in &writes.puts {
            match value {
                Some(value) => self.entries.insert(key.clone(), text(value)),
                None => self.entries.remove(key),
            };
        }
        self.decisions.extend(writes.decisions.iter().map(|(_, json)| text(json)));
    }

    fn is_empty(writes: &ports::Batch) -> bool {
        writes.is_empty()
    }
}

impl BrokerModel {
    /// Returns an empty broker.
    pub fn new(partitions: usize) -> BrokerModel {
        BrokerModel { broker: Broker::new(partitions), producers: Vec::new() }
    }

    /// Returns the content of a partition.
    pub fn partition(&self, partition: usize) -> PartitionContent {
        let at = self.broker.at(partition);
        PartitionContent {
            entries: at.topics.entries.clone(),
            decisions: at.topics.decisions.clone(),
            offset: at.offset,
            pending: at.events[at.offset..].to_vec(),
            open: at.open.is_some() || at.hanging.is_some(),
        }
    }

    fn commit(&mut self, producer: usize, batch: &ports::Batch, fate: Fate) -> StepResult {
        StepResult::Answered(self.broker.commit(self.producers[producer], writes(batch), fate).0)
    }
}

impl ScriptedBroker for BrokerModel {
    async fn perform(&mut self, op: &Op) -> StepResult {
        let done =
            |done: Result<(), Fenced>| done.map_or(StepResult::Answered(CommitAnswer::Fenced), |()| StepResult::Done);
        match op {
            Op::Append { partition, event } => {
                self.broker.append(*partition, event.clone());
                StepResult::Done
            }
            Op::Open { partition, kind } => {
                let producer = self.broker.init(*partition);
                self.producers.push(producer);
                if *kind != ProducerKind::Raw {
                    self.broker.repair(producer).unwrap();
                }
                let entries = || self.broker.at(*partition).topics.entries.clone();
                if *kind == ProducerKind::Raw { StepResult::Done } else { StepResult::Restored(entries()) }
            }
            Op::Commit { producer, batch, answered: true } => self.commit(*producer, batch, Fate::Written),
            Op::Commit { producer, batch, answered: false } => self.commit(*producer, batch, Fate::WrittenUnheard),
            Op::Abort { producer, batch } => self.commit(*producer, batch, Fate::Lost),
            Op::LeaveOpen { producer, batch } => done(self.broker.produce(self.producers[*producer], writes(batch))),
            Op::End { producer, commit } => done(self.broker.end(self.producers[*producer], *commit).map(drop)),
            Op::LoseMarkers { partition, batch, commit } => {
                let producer = self.broker.init(*partition);
                self.producers.push(producer);
                let written = self.broker.produce(producer, writes(batch));
                done(written.and_then(|()| self.broker.end_without_markers(producer, *commit)))
            }
            Op::Crash { producer } => {
                assert!(*producer < self.producers.len(), "producer {producer} crashes before it has opened");
                StepResult::Done
            }
        }
    }

    async fn content(&mut self, partition: usize, _open: bool) -> Option<PartitionContent> {
        Some(self.partition(partition))
    }
}

fn writes(batch: &ports::Batch) -> TransactionBatch<ports::Batch> {
    let next_offset = batch.next_offset.map(|offset| usize::try_from(offset).unwrap());
    TransactionBatch { next_offset, writes: ports::Batch { next_offset: None, ..batch.clone() } }
}

/// Returns bytes of a script as text. All of them are UTF-8.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

// ---- the comparison ----

/// The result of a script without a difference.
pub struct Agreement {
    /// The model after the last step.
    pub model: BrokerModel,
    /// Number of steps by their kind and result, such as `commit, fenced`.
    pub steps: BTreeMap<String, usize>,
}

/// Runs a script against the model and against `broker`.
///
/// # Errors
/// The first difference, with the seed, the step and all steps before it.
pub async fn compare(script: &Script, broker: &mut impl ScriptedBroker) -> Result<Agreement, String> {
    let mut model = BrokerModel::new(script.partitions);
    let mut steps = BTreeMap::new();
    for (step, op) in script.ops.iter().enumerate() {
        let (expected, found) = (model.perform(op).await, broker.perform(op).await);
        ensure_equal(script, step, "the result", &expected, &found)?;
        *steps.entry(kind_of_step(op, &expected)).or_insert(0) += 1;
        for partition in 0..script.partitions {
            let expected = model.partition(partition);
            if let Some(found) = broker.content(partition, expected.open).await {
                ensure_equal(script, step, &format!("partition {partition}"), &expected, &found)?;
            }
        }
    }
    Ok(Agreement { model, steps })
}

/// Returns the kind of a step and its result in words.
fn kind_of_step(op: &Op, result: &StepResult) -> String {
    let kind = match op {
        Op::Append { .. } => "append",
        Op::Open { kind, .. } => return format!("open as {kind:?}"),
        Op::Commit { batch, .. } if batch.is_empty() => "empty commit",
        Op::Commit { answered: true, .. } => "commit",
        Op::Commit { answered: false, .. } => "unanswered commit",
        Op::Abort { .. } => "abort",
        Op::LeaveOpen { .. } => "left open",
        Op::End { commit: true, .. } => "late commit",
        Op::End { commit: false, .. } => "late abort",
        Op::LoseMarkers { commit: true, .. } => "commit without markers",
        Op::LoseMarkers { commit: false, .. } => "abort without markers",
        Op::Crash { .. } => "crash",
    };
    let fenced = *result == StepResult::Answered(CommitAnswer::Fenced);
    format!("{kind}{}", if fenced { ", fenced" } else { "" })
}

/// Returns a step for people, with its content as text.
fn describe(op: &Op) -> String {
    let (subject, batch) = match op {
        Op::Commit { producer, batch, .. } | Op::Abort { producer, batch } | Op::LeaveOpen { producer, batch } => {
            (producer, batch)
        }
        Op::LoseMarkers { partition, batch, .. } => (partition, batch),
        Op::Append { .. } | Op::Open { .. } | Op::End { .. } | Op::Crash { .. } => return format!("{op:?}"),
    };
    let kind = kind_of_step(op, &StepResult::Done);
    let put = |(key, value): &(String, Option<Vec<u8>>)| format!("{key}={}", value.as_deref().map_or("-".into(), text));
    let puts: Vec<String> = batch.puts.iter().map(put).collect();
    let decisions: Vec<String> = batch.decisions.iter().map(|(_, json)| text(json)).collect();
    let offset = batch.next_offset.map(|offset| format!(", offset {offset}")).unwrap_or_default();
    format!("{kind} by {subject}: {}; decisions [{}]{offset}", puts.join(" "), decisions.join(" "))
}

fn ensure_equal<T: PartialEq + Debug>(
    script: &Script,
    step: usize,
    subject: &str,
    model: &T,
    broker: &T,
) -> Result<(), String> {
    if model == broker {
        return Ok(());
    }
    let steps: Vec<String> =
        script.ops[..=step].iter().enumerate().map(|(n, op)| format!("  {n}: {}", describe(op))).collect();
    let Script { seed, kinds, .. } = script;
    Err(format!(
        "seed {seed}, step {step}: {subject} differs\nmodel: {model:?}\nbroker: {broker:?}\nproducers: {kinds:?}\n{}",
        steps.join("\n")
    ))
}
