//! The simulator's broker beside a real one: the same script to both, which must give the same answers and hold the same
//! after every step. (What is a script, and why: `tests/support/broker_script.rs`.)
//!
//! Owners are the product's own journals wherever they do what the product does; a producer that stops half-way is the
//! client library's, under the transactional id of the partition. Each seed has partitions of its own, and several are
//! played at a time: a step is mostly waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bellwether::adapters::kafka::{Emitter, Kafka, KafkaIntake, Options, read_decisions};
use bellwether::ports::{Batch, Journal, JournalError, Journals, Partition, Wake};
use bellwether_core::time::Span;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::{PATIENCE, client, event, key_on};
use crate::broker_script::{Agreed, Op, Script, Seen, Sight, Way, World, play, text};
use bellwether_sim::broker::CommitAnswer as Answer;

const SEEDS: u64 = 40;
const STEPS: usize = 25;
/// Partitions of each seed.
const PARTITIONS: usize = 2;
const AT_A_TIME: usize = 12;
const WAYS: [Way; 3] = [Way::Member, Way::Stranger, Way::Raw];

/// What must have happened somewhere, or the scripts do not show what they are for.
const SHOWN: [&str; 11] = [
    "commit",
    "commit, fenced",
    "unheard commit",
    "unheard commit, fenced",
    "abort",
    "abort, fenced",
    "left open",
    "late commit",
    "late commit, fenced",
    "late abort, fenced",
    "death",
];

/// `BELLWETHER_SEED=N` plays one seed, `BELLWETHER_SEEDS=N` as many.
pub async fn agrees(options: Options) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("BELLWETHER_SEED");
    let seeds = one.map_or(0..number("BELLWETHER_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let scripts: Vec<Script> = seeds.map(|seed| Script::new(seed, PARTITIONS, STEPS, &WAYS)).collect();
    let started = Instant::now();
    let stage = Arc::new(Stage::build(options, scripts.len()).await);
    let (built, steps) = (started.elapsed(), scripts.iter().map(|script| script.ops.len()).sum::<usize>());
    let seen = stage.clone().play_all(scripts).await;
    eprintln!("{steps} steps after {built:.1?}, in {:.1?}: {seen:?}", started.elapsed());
    tear_down(&stage.options).await;
    let missing: Vec<&str> = SHOWN.into_iter().filter(|what| !seen.contains_key(*what)).collect();
    assert!(one.is_some() || missing.is_empty(), "no script came to {missing:?}");
}

/// A broker with hundreds of partitions more takes longer to come back, for the story that kills it.
async fn tear_down(options: &Options) {
    let admin: AdminClient<DefaultClientContext> = client(options).create().unwrap();
    let dlq = options.dlq();
    let topics = [options.topic.as_str(), &options.journal_topic, &options.decisions_topic, &dlq];
    let patience = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for deleted in admin.delete_topics(&topics, &patience).await.unwrap() {
        deleted.unwrap();
    }
}

/// What the scripts share.
struct Stage {
    options: Options,
    /// A member of the group, which has given it all partitions.
    member: Kafka,
    /// No member.
    stranger: Kafka,
    emitter: Emitter,
    /// As whom raw producers commit offsets: nobody in particular, which a broker takes in a transaction.
    nobody: ConsumerGroupMetadata,
    _intake: KafkaIntake,
}

impl Stage {
    async fn build(options: Options, scripts: usize) -> Stage {
        let partitions = i32::try_from(scripts * PARTITIONS).unwrap();
        // A machine that is busy is no reason to lose a partition.
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
        // Nobody decides anything here.
        tokio::spawn(async move { while woken.recv().await.is_some() {} });
        let outsider: BaseConsumer = client(&options).set("group.id", &options.group).create().unwrap();
        await_leaders(&outsider, &options);
        Stage {
            stranger: Kafka::with_topics(options.clone(), partitions),
            emitter: member.emitter().unwrap(),
            nobody: outsider.group_metadata().unwrap(),
            options,
            member,
            _intake: intake,
        }
    }

    /// All scripts, each on partitions of its own; how often what was seen.
    async fn play_all(self: Arc<Self>, scripts: Vec<Script>) -> BTreeMap<String, usize> {
        let total = scripts.len();
        let waiting: VecDeque<(usize, Script)> = scripts.into_iter().enumerate().collect();
        let waiting = Arc::new(Mutex::new(waiting));
        let players: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                let (stage, waiting) = (self.clone(), waiting.clone());
                let runtime = tokio::runtime::Handle::current();
                // The client library's transactions block.
                tokio::task::spawn_blocking(move || runtime.block_on(stage.play_some(&waiting)))
            })
            .collect();
        let mut all = Played::default();
        for player in players {
            let Played { seen, decided, differences } = player.await.unwrap();
            seen.into_iter().for_each(|(what, times)| *all.seen.entry(what).or_insert(0) += times);
            all.decided.extend(decided);
            all.differences.extend(differences);
        }
        let Played { seen, decided, differences } = all;
        let first = differences.values().next().cloned().unwrap_or_default();
        assert!(differences.is_empty(), "{} of {total} scripts differ; the first:\n{first}", differences.len());
        // As `bellwether replay` reads them.
        let read = read_decisions(&self.options, |_, _| true).await.unwrap();
        let read: Vec<String> = read.iter().map(|json| text(json)).collect();
        assert_eq!(read, decided.into_values().flatten().collect::<Vec<_>>());
        seen
    }

    /// Scripts while there are any.
    async fn play_some(&self, waiting: &Mutex<VecDeque<(usize, Script)>>) -> Played {
        let mut played = Played::default();
        loop {
            let Some((place, script)) = waiting.lock().unwrap().pop_front() else { return played };
            let mut world = Real::new(self, place * PARTITIONS);
            match play(&script, &mut world).await {
                Err(difference) => drop(played.differences.insert(script.seed, difference)),
                Ok(Agreed { model, seen }) => {
                    seen.into_iter().for_each(|(what, times)| *played.seen.entry(what).or_insert(0) += times);
                    let decided = |n| (place * PARTITIONS + n, model.sight(n).decisions);
                    played.decided.extend((0..PARTITIONS).map(decided));
                }
            }
        }
    }
}

/// What came of scripts.
#[derive(Default)]
struct Played {
    /// How often what was seen.
    seen: BTreeMap<String, usize>,
    /// The decisions of each partition.
    decided: BTreeMap<usize, Vec<String>>,
    /// By seed.
    differences: BTreeMap<u64, String>,
}

/// A partition that has just been made has no leader for a moment.
fn await_leaders(outsider: &BaseConsumer, options: &Options) {
    let started = Instant::now();
    for topic in [&options.topic, &options.journal_topic, &options.decisions_topic] {
        for partition in 0..options.partitions {
            while let Err(error) = outsider.fetch_watermarks(topic, partition, PATIENCE) {
                assert!(started.elapsed() < PATIENCE, "{topic}[{partition}]: {error}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The real broker, for one script.
struct Real<'a> {
    stage: &'a Stage,
    /// The first of the script's partitions.
    first: usize,
    producers: Vec<(Partition, Hand)>,
    /// Shares nothing with the product.
    outsider: Outsider,
}

enum Hand {
    Ours(Way, Box<dyn Journal>),
    Raw(FutureProducer),
    Dead,
}

impl World for Real<'_> {
    async fn act(&mut self, op: &Op) -> Seen {
        match op {
            Op::Append { partition, event: value } => {
                let partition = self.place(*partition);
                let key = key_on(partition, self.stage.options.partitions);
                let sent = self.stage.emitter.send(&event(&key, value)).await.unwrap();
                assert_eq!(sent.partition, partition);
                Seen::Done
            }
            Op::Open { partition, way } => self.open(self.place(*partition), *way).await,
            Op::Commit { producer, batch, heard } => {
                let answer = self.commit(*producer, batch).await;
                // To lose an answer is not to look at it.
                let lost = answer == Answer::Written && !heard;
                Seen::Answered(if lost { Answer::Unknown } else { answer })
            }
            Op::Abort { producer, batch } => {
                let done = self.raw_transaction(*producer, batch, |raw| raw.abort_transaction(PATIENCE)).await;
                Seen::Answered(if done { Answer::Unknown } else { Answer::Fenced })
            }
            Op::Leave { producer, batch } => done(self.raw_transaction(*producer, batch, |_| Ok(())).await),
            Op::End { producer, commit } => {
                let raw = self.raw(*producer);
                let ended = if *commit { raw.commit_transaction(PATIENCE) } else { raw.abort_transaction(PATIENCE) };
                done(went_well(raw, ended))
            }
            Op::Die { producer } => {
                self.producers[*producer].1 = Hand::Dead;
                Seen::Done
            }
        }
    }

    async fn look(&mut self, partition: usize, open: bool) -> Option<Sight> {
        Some(self.outsider.look(self.place(partition), open))
    }
}

impl<'a> Real<'a> {
    fn new(stage: &'a Stage, first: usize) -> Real<'a> {
        Real { stage, first, producers: Vec::new(), outsider: Outsider::new(&stage.options) }
    }

    fn place(&self, partition: usize) -> Partition {
        i32::try_from(self.first + partition).unwrap()
    }

    async fn open(&mut self, partition: Partition, way: Way) -> Seen {
        let journals = match way {
            Way::Member => &self.stage.member,
            Way::Stranger => &self.stage.stranger,
            Way::Raw => {
                self.producers.push((partition, Hand::Raw(raw(&self.stage.options, partition))));
                return Seen::Done;
            }
        };
        let mut journal = journals.open(partition).await.unwrap();
        let entries = journal.restore().await.unwrap();
        self.producers.push((partition, Hand::Ours(way, journal)));
        Seen::Restored(entries.into_iter().map(|(key, value)| (key, text(&value))).collect())
    }

    async fn commit(&mut self, producer: usize, batch: &Batch) -> Answer {
        let Hand::Ours(way, journal) = &mut self.producers[producer].1 else {
            let done = self.raw_transaction(producer, batch, |raw| raw.commit_transaction(PATIENCE)).await;
            return if done { Answer::Written } else { Answer::Fenced };
        };
        match journal.commit(batch.clone()).await {
            Ok(()) => Answer::Written,
            Err(JournalError::Fenced(_)) if *way == Way::Stranger => Answer::Fenced,
            // The group says that the partition is ours, so the product begins again instead of letting go.
            Err(JournalError::Unknown(said)) if *way == Way::Member && said.contains("fenced") => Answer::Fenced,
            Err(error) => panic!("{way:?}: {error:?}"),
        }
    }

    /// Begins a transaction, writes, and does what is to be done then. `false`: it is fenced.
    async fn raw_transaction(
        &self,
        producer: usize,
        batch: &Batch,
        then: impl FnOnce(&FutureProducer) -> KafkaResult<()>,
    ) -> bool {
        let raw = self.raw(producer);
        let written = self.raw_writes(raw, self.producers[producer].0, batch).await;
        went_well(raw, written.and_then(|()| then(raw)))
    }

    async fn raw_writes(&self, raw: &FutureProducer, partition: Partition, batch: &Batch) -> KafkaResult<()> {
        let Options { topic, journal_topic, decisions_topic, .. } = &self.stage.options;
        raw.begin_transaction()?;
        let puts = batch.puts.iter().map(|(key, value)| (journal_topic, key, value.as_ref()));
        let decisions = batch.decisions.iter().map(|(key, json)| (decisions_topic, key, Some(json)));
        for (topic, key, value) in puts.chain(decisions) {
            let mut record = FutureRecord::to(topic).partition(partition).key(key);
            record.payload = value;
            raw.send(record, PATIENCE).await.map_err(|(error, _)| error)?;
        }
        let Some(next) = batch.next_offset else { return Ok(()) };
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(next))?;
        raw.send_offsets_to_transaction(&offsets, &self.stage.nobody, PATIENCE)
    }

    fn raw(&self, producer: usize) -> &FutureProducer {
        match &self.producers[producer].1 {
            Hand::Raw(raw) => raw,
            Hand::Ours(..) | Hand::Dead => panic!("producer {producer} is no raw one"),
        }
    }
}

/// A producer that takes the partition over as the product's does.
fn raw(options: &Options, partition: Partition) -> FutureProducer {
    let producer: FutureProducer = client(options)
        .set("transactional.id", format!("{}-{partition}", options.group))
        // What is left open is ended by a successor, and not by the clock.
        .set("transaction.timeout.ms", "300000")
        .set("linger.ms", "0")
        .set("retry.backoff.ms", "2")
        .set("retry.backoff.max.ms", "20")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn done(well: bool) -> Seen {
    if well { Seen::Done } else { Seen::Answered(Answer::Fenced) }
}

/// `false`: the producer is fenced. Nothing else may go wrong.
fn went_well(raw: &FutureProducer, result: KafkaResult<()>) -> bool {
    let Err(error) = result else { return true };
    // Once it is fenced, what it still had is thrown away for other reasons.
    let code = raw.client().fatal_error().map(|(code, _)| code).or(error.rdkafka_error_code());
    let fenced = [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::ProducerFenced, RDKafkaErrorCode::InvalidProducerEpoch];
    assert!(code.is_some_and(|code| fenced.contains(&code)), "{error}");
    false
}

/// Reads what everybody can read.
struct Outsider {
    options: Options,
    committed: BaseConsumer,
    all: BaseConsumer,
    read: BTreeMap<(String, Partition), Read>,
}

/// What is read of one partition of one topic.
#[derive(Default)]
struct Read {
    /// Up to here.
    end: i64,
    /// Offset, key and value.
    records: Vec<(i64, String, Option<String>)>,
}

impl Outsider {
    fn new(options: &Options) -> Outsider {
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
        Outsider { options: options.clone(), committed, all, read: BTreeMap::new() }
    }

    fn look(&mut self, partition: Partition, open: bool) -> Sight {
        let Options { topic, journal_topic, decisions_topic, .. } = self.options.clone();
        let offset = self.offset(&topic, partition, open);
        let ahead = self.update(&topic, partition, false).1;
        let ahead = ahead.records.iter().filter(|(at, ..)| *at >= offset).filter_map(|(.., value)| value.clone());
        let ahead = ahead.collect();
        let (decisions_open, decisions) = self.update(&decisions_topic, partition, open);
        let decisions = decisions.records.iter().filter_map(|(.., value)| value.clone()).collect();
        let (journal_open, journal) = self.update(&journal_topic, partition, open);
        let mut entries = BTreeMap::new();
        for (_, key, value) in &journal.records {
            match value {
                Some(value) => entries.insert(key.clone(), value.clone()),
                None => entries.remove(key),
            };
        }
        let offset = usize::try_from(offset).unwrap();
        Sight { entries, decisions, offset, ahead, open: journal_open || decisions_open }
    }

    /// The committed offset; of a transaction that is open, nothing counts.
    fn offset(&self, topic: &str, partition: Partition, open: bool) -> i64 {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let consumer = if open { &self.all } else { &self.committed };
        let committed = consumer.committed_offsets(asked, PATIENCE).unwrap();
        let found = committed.find_partition(topic, partition).unwrap();
        found.error().unwrap();
        if let Offset::Offset(offset) = found.offset() { offset } else { 0 }
    }

    /// Reads on. Whether a transaction is open there, and all that is read so far.
    fn update(&mut self, topic: &str, partition: Partition, open: bool) -> (bool, &Read) {
        let end = |consumer: &BaseConsumer| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
        let started = Instant::now();
        let (mut high, mut stable) = (end(&self.all), end(&self.committed));
        // The end of a transaction is answered before it is written on each of its partitions.
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

/// All records from `start` to the end.
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
