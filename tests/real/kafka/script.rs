//! The simulator's model of the broker compared with a real broker by scripts (`testkit/src/broker_script.rs`).
//!
//! Producers are the product's own journals where they behave as the product does. A producer that stops half-way is one
//! of the client library, with the transactional id of the partition. Each seed has its own partitions, and several
//! scripts run at a time, because a step mostly waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bellwether::adapters::kafka::{Emitter, Kafka, KafkaIntake, Options, read_decisions};
use bellwether::ports::{Batch, Journal, JournalError, Journals, Partition, Wake};
use bellwether_core::time::Span;
use bellwether_sim::broker::CommitAnswer;
use bellwether_testkit::broker_script::{
    Agreement, Op, PartitionContent, ProducerKind, Script, ScriptedBroker, StepResult, compare, text,
};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::wire::WireProducer;
use super::{PATIENCE, client, event, key_on};

const SEEDS: u64 = 40;
const STEPS: usize = 25;
/// Partitions of each seed.
const PARTITIONS: usize = 2;
const AT_A_TIME: usize = 12;
const KINDS: [ProducerKind; 3] = [ProducerKind::Member, ProducerKind::Outsider, ProducerKind::Raw];

/// The kinds of steps that must occur in some script. Without one of them the scripts would test less than they should.
const REQUIRED: [&str; 13] = [
    "commit",
    "commit, fenced",
    "unanswered commit",
    "unanswered commit, fenced",
    "abort",
    "abort, fenced",
    "left open",
    "late commit",
    "late commit, fenced",
    "late abort, fenced",
    "commit without markers",
    "abort without markers",
    "crash",
];

/// Runs the scripts of the seeds 0 to 39. `BELLWETHER_SEED=N` runs one seed, and `BELLWETHER_SEEDS=N` the seeds below N.
pub async fn agrees(options: Options) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("BELLWETHER_SEED");
    let seeds = one.map_or(0..number("BELLWETHER_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    eprintln!("scripts of the seeds {seeds:?}");
    let scripts: Vec<Script> = seeds.map(|seed| Script::new(seed, PARTITIONS, STEPS, &KINDS)).collect();
    let started = Instant::now();
    let setting = Arc::new(Setting::build(options, scripts.len()).await);
    let (built, steps) = (started.elapsed(), scripts.iter().map(|script| script.ops.len()).sum::<usize>());
    let kinds = setting.clone().run_all(scripts).await;
    eprintln!("{steps} steps after {built:.1?}, in {:.1?}: {kinds:?}", started.elapsed());
    tear_down(&setting.options).await;
    let missing: Vec<&str> = REQUIRED.into_iter().filter(|kind| !kinds.contains_key(*kind)).collect();
    assert!(one.is_some() || missing.is_empty(), "these kinds of steps occur in no script: {missing:?}");
}

/// Deletes the topics. A broker restarts faster without these hundreds of partitions, and a story restarts it.
async fn tear_down(options: &Options) {
    let admin: AdminClient<DefaultClientContext> = client(options).create().unwrap();
    let dlq = options.dlq();
    let topics = [options.topic.as_str(), &options.journal_topic, &options.decisions_topic, &dlq];
    let patience = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for deleted in admin.delete_topics(&topics, &patience).await.unwrap() {
        deleted.unwrap();
    }
}

/// The clients that all scripts share.
struct Setting {
    options: Options,
    /// A member of the group, which holds all partitions.
    member: Kafka,
    /// A process outside of the group.
    outsider: Kafka,
    emitter: Emitter,
    /// Metadata of no member, with which raw producers commit offsets. A broker accepts that in a transaction.
    no_member: ConsumerGroupMetadata,
    _intake: KafkaIntake,
}

impl Setting {
    async fn build(options: Options, scripts: usize) -> Setting {
        let partitions = i32::try_from(scripts * PARTITIONS).unwrap();
        // Long enough for a machine under load to keep its partitions.
        let options = Options { partitions, session_timeout: Span::from_secs(30), ..options };
        let member = Kafka::connect(options.clone()).await.unwrap();
        let (wakes, mut woken) = mpsc::channel(64);
        let intake = member.consume(wakes).unwrap();
        let mut held = BTreeSet::new();
        while held.len() < scripts * PARTITIONS {
            if let Wake::Assigned(partition) = woken.recv().await.expect("the intake goes on") {
                held.insert(partition);
            }
        }
        // No daemon takes the wakes, so they are dropped.
        tokio::spawn(async move { while woken.recv().await.is_some() {} });
        let consumer: BaseConsumer = client(&options).set("group.id", &options.group).create().unwrap();
        await_leaders(&consumer, &options);
        Setting {
            outsider: Kafka::with_topics(options.clone(), partitions),
            emitter: member.emitter().unwrap(),
            no_member: consumer.group_metadata().unwrap(),
            options,
            member,
            _intake: intake,
        }
    }

    /// Runs all scripts, each on its own partitions. Returns the number of steps by kind.
    async fn run_all(self: Arc<Self>, scripts: Vec<Script>) -> BTreeMap<String, usize> {
        let total = scripts.len();
        let waiting: VecDeque<(usize, Script)> = scripts.into_iter().enumerate().collect();
        let waiting = Arc::new(Mutex::new(waiting));
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                let (setting, waiting) = (self.clone(), waiting.clone());
                let runtime = tokio::runtime::Handle::current();
                // The client library's transactions block.
                tokio::task::spawn_blocking(move || runtime.block_on(setting.run_some(&waiting)))
            })
            .collect();
        let mut all = ScriptResults::default();
        for worker in workers {
            let ScriptResults { steps, decided, differences } = worker.await.unwrap();
            steps.into_iter().for_each(|(kind, times)| *all.steps.entry(kind).or_insert(0) += times);
            all.decided.extend(decided);
            all.differences.extend(differences);
        }
        let ScriptResults { steps, decided, differences } = all;
        let first = differences.values().next().cloned().unwrap_or_default();
        assert!(differences.is_empty(), "{} of {total} scripts differ; the first:\n{first}", differences.len());
        // As `bellwether replay` reads them.
        let read = read_decisions(&self.options, |_, _| true).await.unwrap();
        let read: Vec<String> = read.iter().map(|json| text(json)).collect();
        assert_eq!(read, decided.into_values().flatten().collect::<Vec<_>>());
        steps
    }

    /// Runs scripts until none is left.
    async fn run_some(&self, waiting: &Mutex<VecDeque<(usize, Script)>>) -> ScriptResults {
        let mut results = ScriptResults::default();
        loop {
            let Some((place, script)) = waiting.lock().unwrap().pop_front() else { return results };
            let mut broker = RealBroker::new(self, place * PARTITIONS);
            match compare(&script, &mut broker).await {
                Err(difference) => drop(results.differences.insert(script.seed, difference)),
                Ok(Agreement { model, steps }) => {
                    steps.into_iter().for_each(|(kind, times)| *results.steps.entry(kind).or_insert(0) += times);
                    let decided = |n| (place * PARTITIONS + n, model.partition(n).decisions);
                    results.decided.extend((0..PARTITIONS).map(decided));
                }
            }
        }
    }
}

/// The results of some scripts.
#[derive(Default)]
struct ScriptResults {
    /// Number of steps by kind.
    steps: BTreeMap<String, usize>,
    /// The decisions of each partition.
    decided: BTreeMap<usize, Vec<String>>,
    /// The first difference of each script that has one, by seed.
    differences: BTreeMap<u64, String>,
}

/// Waits until all partitions have a leader. A new partition has none for a moment.
fn await_leaders(consumer: &BaseConsumer, options: &Options) {
    let started = Instant::now();
    for topic in [&options.topic, &options.journal_topic, &options.decisions_topic] {
        for partition in 0..options.partitions {
            while let Err(error) = consumer.fetch_watermarks(topic, partition, PATIENCE) {
                assert!(started.elapsed() < PATIENCE, "{topic}[{partition}]: {error}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The real broker, for one script.
struct RealBroker<'a> {
    setting: &'a Setting,
    /// The first of the script's partitions.
    first: usize,
    producers: Vec<(Partition, RealProducer)>,
    /// Shares no code with the product.
    reader: TopicReader,
}

enum RealProducer {
    Journal(ProducerKind, Box<dyn Journal>),
    Raw(FutureProducer),
    Crashed,
}

impl ScriptedBroker for RealBroker<'_> {
    async fn perform(&mut self, op: &Op) -> StepResult {
        match op {
            Op::Append { partition, event: value } => {
                let partition = self.place(*partition);
                let key = key_on(partition, self.setting.options.partitions);
                let sent = self.setting.emitter.send(&event(&key, value)).await.unwrap();
                assert_eq!(sent.partition, partition);
                StepResult::Done
            }
            Op::Open { partition, kind } => self.open(self.place(*partition), *kind).await,
            Op::Commit { producer, batch, answered } => {
                let answer = self.commit(*producer, batch).await;
                // The answer is lost by ignoring it.
                let lost = answer == CommitAnswer::Written && !answered;
                StepResult::Answered(if lost { CommitAnswer::Unknown } else { answer })
            }
            Op::Abort { producer, batch } => {
                let done = self.raw_transaction(*producer, batch, |raw| raw.abort_transaction(PATIENCE)).await;
                StepResult::Answered(if done { CommitAnswer::Unknown } else { CommitAnswer::Fenced })
            }
            Op::LeaveOpen { producer, batch } => done(self.raw_transaction(*producer, batch, |_| Ok(())).await),
            Op::End { producer, commit } => {
                let raw = self.raw(*producer);
                let ended = if *commit { raw.commit_transaction(PATIENCE) } else { raw.abort_transaction(PATIENCE) };
                done(is_done(raw, ended))
            }
            Op::LoseMarkers { partition, batch, commit } => self.lose_markers(self.place(*partition), batch, *commit),
            Op::Crash { producer } => {
                self.producers[*producer].1 = RealProducer::Crashed;
                StepResult::Done
            }
        }
    }

    async fn content(&mut self, partition: usize, open: bool) -> Option<PartitionContent> {
        Some(self.reader.content(self.place(partition), open))
    }
}

impl<'a> RealBroker<'a> {
    fn new(setting: &'a Setting, first: usize) -> RealBroker<'a> {
        RealBroker { setting, first, producers: Vec::new(), reader: TopicReader::new(&setting.options) }
    }

    /// Returns the broker's partition for a partition of the script.
    fn place(&self, partition: usize) -> Partition {
        i32::try_from(self.first + partition).unwrap()
    }

    async fn open(&mut self, partition: Partition, kind: ProducerKind) -> StepResult {
        let journals = match kind {
            ProducerKind::Member => &self.setting.member,
            ProducerKind::Outsider => &self.setting.outsider,
            ProducerKind::Raw => {
                self.producers.push((partition, RealProducer::Raw(raw(&self.setting.options, partition))));
                return StepResult::Done;
            }
        };
        let mut journal = journals.open(partition).await.unwrap();
        let entries = journal.restore().await.unwrap();
        self.producers.push((partition, RealProducer::Journal(kind, journal)));
        StepResult::Restored(entries.into_iter().map(|(key, value)| (key, text(&value))).collect())
    }

    /// Writes a transaction that has an end for its offset alone.
    fn lose_markers(&mut self, partition: Partition, batch: &Batch, commit: bool) -> StepResult {
        let Options { topic, journal_topic, decisions_topic, group, brokers, .. } = &self.setting.options;
        let id = format!("{group}-{partition}");
        let (mut wire, name) = (WireProducer::take_over(brokers, &id), format!("{id}/1.{}", self.producers.len()));
        self.producers.push((partition, RealProducer::Crashed));
        for (key, value) in batch.puts.iter().cloned().chain(batch.next_offset.map(consumed)) {
            wire.write(journal_topic, partition, Some(&name), &key, value.as_deref());
        }
        for (key, json) in &batch.decisions {
            wire.write(decisions_topic, partition, Some(&name), key, Some(json));
        }
        match batch.next_offset {
            Some(next) => wire.commit_offset(group, topic, partition, next, &format!("#{name}"), true),
            // A transaction that was never begun can't be ended.
            None => wire.add(&self.setting.options.dlq(), partition),
        }
        wire.end(commit);
        if batch.next_offset.is_some() {
            // The broker answers before it has written the offset's marker.
            self.reader.offset(topic, partition, false);
        }
        StepResult::Done
    }

    async fn commit(&mut self, producer: usize, batch: &Batch) -> CommitAnswer {
        let RealProducer::Journal(kind, journal) = &mut self.producers[producer].1 else {
            let done = self.raw_transaction(producer, batch, |raw| raw.commit_transaction(PATIENCE)).await;
            return if done { CommitAnswer::Written } else { CommitAnswer::Fenced };
        };
        match journal.commit(batch.clone()).await {
            Ok(()) => CommitAnswer::Written,
            Err(JournalError::Fenced(_)) if *kind == ProducerKind::Outsider => CommitAnswer::Fenced,
            // A member still holds the partition, so the product opens it again instead of releasing it.
            Err(JournalError::Unknown(message)) if *kind == ProducerKind::Member && message.contains("fenced") => {
                CommitAnswer::Fenced
            }
            Err(error) => panic!("{kind:?}: {error:?}"),
        }
    }

    /// Begins a transaction, writes `batch` and calls `then`. Returns `false` if the producer is fenced.
    async fn raw_transaction(
        &self,
        producer: usize,
        batch: &Batch,
        then: impl FnOnce(&FutureProducer) -> KafkaResult<()>,
    ) -> bool {
        let raw = self.raw(producer);
        let written = self.raw_writes(raw, self.producers[producer].0, batch).await;
        is_done(raw, written.and_then(|()| then(raw)))
    }

    async fn raw_writes(&self, raw: &FutureProducer, partition: Partition, batch: &Batch) -> KafkaResult<()> {
        let Options { topic, journal_topic, decisions_topic, .. } = &self.setting.options;
        raw.begin_transaction()?;
        let position = batch.next_offset.map(consumed);
        let puts = batch.puts.iter().chain(&position).map(|(key, value)| (journal_topic, key, value.as_ref()));
        let decisions = batch.decisions.iter().map(|(key, json)| (decisions_topic, key, Some(json)));
        for (topic, key, value) in puts.chain(decisions) {
            let mut record = FutureRecord::to(topic).partition(partition).key(key);
            record.payload = value;
            raw.send(record, PATIENCE).await.map_err(|(error, _)| error)?;
        }
        let Some(next) = batch.next_offset else { return Ok(()) };
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(next))?;
        raw.send_offsets_to_transaction(&offsets, &self.setting.no_member, PATIENCE)
    }

    fn raw(&self, producer: usize) -> &FutureProducer {
        match &self.producers[producer].1 {
            RealProducer::Raw(raw) => raw,
            RealProducer::Journal(..) | RealProducer::Crashed => panic!("producer {producer} is not a raw one"),
        }
    }
}

/// Returns the journal entry that the product writes with an offset.
fn consumed(offset: i64) -> (String, Option<Vec<u8>>) {
    ("kafka/consumed".to_owned(), Some(offset.to_string().into_bytes()))
}

/// Returns a producer that takes the partition over as the product's producer does.
fn raw(options: &Options, partition: Partition) -> FutureProducer {
    let producer: FutureProducer = client(options)
        .set("transactional.id", format!("{}-{partition}", options.group))
        // An open transaction must be ended by the next producer and not by a timeout.
        .set("transaction.timeout.ms", "300000")
        .set("linger.ms", "0")
        .set("retry.backoff.ms", "2")
        .set("retry.backoff.max.ms", "20")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn done(done: bool) -> StepResult {
    if done { StepResult::Done } else { StepResult::Answered(CommitAnswer::Fenced) }
}

/// Returns `false` if the producer is fenced. Panics at any other error.
fn is_done(raw: &FutureProducer, result: KafkaResult<()>) -> bool {
    let Err(error) = result else { return true };
    // A fenced producer drops its remaining records with other errors.
    let code = raw.client().fatal_error().map(|(code, _)| code).or(error.rdkafka_error_code());
    let fenced = [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::ProducerFenced, RDKafkaErrorCode::InvalidProducerEpoch];
    assert!(code.is_some_and(|code| fenced.contains(&code)), "{error}");
    false
}

/// Reads the topics as any client can.
struct TopicReader {
    options: Options,
    /// Reads committed records only.
    committed: BaseConsumer,
    /// Reads records of open and aborted transactions as well.
    all: BaseConsumer,
    read: BTreeMap<(String, Partition), ReadRecords>,
}

/// The records read so far of one partition of one topic.
#[derive(Default)]
struct ReadRecords {
    /// Offset up to which they are read.
    end: i64,
    /// Offset, key and value of each record.
    records: Vec<(i64, String, Option<String>)>,
}

impl TopicReader {
    fn new(options: &Options) -> TopicReader {
        let consumer = |isolation: &str| {
            client(options)
                .set("group.id", &options.group)
                .set("isolation.level", isolation)
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("fetch.wait.max.ms", "5")
                .create()
                .unwrap()
        };
        let (committed, all) = (consumer("read_committed"), consumer("read_uncommitted"));
        TopicReader { options: options.clone(), committed, all, read: BTreeMap::new() }
    }

    fn content(&mut self, partition: Partition, open: bool) -> PartitionContent {
        let Options { topic, journal_topic, decisions_topic, .. } = self.options.clone();
        let offset = self.offset(&topic, partition, open);
        let events = self.update(&topic, partition, false).1;
        let pending = events.records.iter().filter(|(at, ..)| *at >= offset).filter_map(|(.., value)| value.clone());
        let pending = pending.collect();
        let (decisions_open, decisions) = self.update(&decisions_topic, partition, open);
        let decisions = decisions.records.iter().filter_map(|(.., value)| value.clone()).collect();
        let (journal_open, journal) = self.update(&journal_topic, partition, open);
        let mut entries = BTreeMap::new();
        // The adapter's own entries are not the daemon's.
        for (_, key, value) in journal.records.iter().filter(|(_, key, _)| !key.starts_with("kafka/")) {
            match value {
                Some(value) => entries.insert(key.clone(), value.clone()),
                None => entries.remove(key),
            };
        }
        let offset = usize::try_from(offset).unwrap();
        PartitionContent { entries, decisions, offset, pending, open: journal_open || decisions_open }
    }

    /// Returns the committed offset. That of an open transaction does not count.
    fn offset(&self, topic: &str, partition: Partition, open: bool) -> i64 {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(topic, partition);
        let consumer = if open { &self.all } else { &self.committed };
        let committed = consumer.committed_offsets(partitions, PATIENCE).unwrap();
        let found = committed.find_partition(topic, partition).unwrap();
        found.error().unwrap();
        if let Offset::Offset(offset) = found.offset() { offset } else { 0 }
    }

    /// Reads the new records. Returns whether a transaction is open, and all records so far.
    fn update(&mut self, topic: &str, partition: Partition, open: bool) -> (bool, &ReadRecords) {
        let end = |consumer: &BaseConsumer| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
        let started = Instant::now();
        let (mut high, mut stable) = (end(&self.all), end(&self.committed));
        // The broker answers the end of a transaction before its marker is written to each of the partitions.
        while stable < high && !open && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
            (high, stable) = (end(&self.all), end(&self.committed));
        }
        let read = self.read.entry((topic.to_owned(), partition)).or_default();
        if stable > read.end {
            read.records.extend(records(&self.committed, topic, partition, read.end));
            read.end = stable;
        }
        (stable < high, read)
    }
}

/// Returns all records from the offset `start` to the end.
fn records(
    consumer: &BaseConsumer,
    topic: &str,
    partition: Partition,
    start: i64,
) -> Vec<(i64, String, Option<String>)> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(start)).unwrap();
    consumer.assign(&list).unwrap();
    let mut found = Vec::new();
    loop {
        match consumer.poll(PATIENCE).expect("a record, or the end") {
            Ok(message) => {
                let (key, value) = (text(message.key().unwrap()), message.payload().map(text));
                found.push((message.offset(), key, value));
            }
            Err(KafkaError::PartitionEOF(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    consumer.unassign().unwrap();
    found
}
