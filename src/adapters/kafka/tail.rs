//! The tail of the journals: reads those of the partitions that other processes own, so that this process can show their rollouts.
//!
//! Its client is no member of the group, commits no offset and writes nothing. Every two seconds it fetches the records since the last
//! round and stops at the end, so a round tells what was committed when it began, and nothing is fetched between two rounds. A
//! partition is read from its beginning when it is followed for the first time, and again after this process has owned it.
//!
//! Behind an open transaction nothing can be read. Every ten seconds the ends of the partitions are compared, and a partition with one
//! does not count as read, so that its view grows old ([`Unstable`]).
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on a thread of its own; the engine does not see them"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::connections::ReadingClient;
use super::error::KafkaClientError;
use super::hanging;
use super::options::Options;
use super::ownership::Ownership;
use super::reader::{self, Readers};
use super::secrets::SecretFiles;
use super::unstable::{Ends, Unstable};
use crate::clock::Stopwatch;
use crate::metrics;
use crate::ports::{JournalFollower, Partition};

/// The time between two rounds.
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// The rounds between two looks at the ends of the partitions.
const LOOK_EVERY: u32 = 5;
/// The time for the brokers to tell the ends.
const ENDS_TIMEOUT: Duration = Duration::from_secs(10);
/// The time without a record after which a round fails.
const SILENCE: Duration = Duration::from_secs(10);
/// The time that one poll waits for a record.
const POLL: Duration = Duration::from_millis(200);

/// A running tail. Dropping it stops the thread after its round.
pub struct KafkaTail {
    _stop: mpsc::Sender<()>,
}

/// Starts the thread.
pub(super) fn start(
    options: &Options,
    partitions: Partition,
    ownership: Arc<Ownership>,
    follower: Box<dyn JournalFollower>,
) -> Result<KafkaTail, KafkaClientError> {
    let (_stop, stopped) = mpsc::channel();
    let tail = Tail {
        options: options.clone(),
        partitions,
        ownership,
        follower,
        secrets: SecretFiles::new(options),
        readers: None,
        rounds: 0,
        unstable: Unstable::default(),
        next: BTreeMap::new(),
        unowned: BTreeSet::new(),
        problem: None,
    };
    std::thread::Builder::new()
        .name("kafka-tail".to_owned())
        .spawn(move || tail.run(&stopped))
        .map_err(|error| KafkaClientError::Consumer(format!("the thread of the tail can't be started: {error}")))?;
    Ok(KafkaTail { _stop })
}

struct Tail {
    options: Options,
    /// The number of partitions.
    partitions: Partition,
    ownership: Arc<Ownership>,
    follower: Box<dyn JournalFollower>,
    secrets: SecretFiles,
    /// The clients; `None` until the first round, and after a change of the credentials.
    readers: Option<Readers>,
    /// The rounds so far.
    rounds: u32,
    unstable: Unstable,
    /// The followed partitions, each with the offset of its next record.
    next: BTreeMap<Partition, Offset>,
    /// The partitions that this process did not own at the last round.
    unowned: BTreeSet<Partition>,
    /// The problem of the last round, which is logged once.
    problem: Option<String>,
}

impl Tail {
    fn run(mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(ROUND_EVERY) == Err(RecvTimeoutError::Timeout) {
            // After a panic all partitions are read from the beginning, so nothing of the broken round is left.
            let problem = match catch_unwind(AssertUnwindSafe(|| self.round())) {
                Ok(result) => result.err().map(|error| error.to_string()),
                Err(_) => {
                    metrics::task_panic("tail");
                    self.next.clear();
                    Some("a panic, which is a defect".to_owned())
                }
            };
            if let Some(problem) = problem.as_ref().filter(|_| self.problem.is_none()) {
                tracing::warn!(%problem, "the journals of other replicas can't be read; their rollouts are shown as they were");
            } else if problem.is_none() && self.problem.is_some() {
                tracing::info!("the journals of other replicas are read again");
            }
            self.problem = problem;
        }
    }

    /// Reads all followed partitions to their ends. Blocks.
    fn round(&mut self) -> Result<(), KafkaClientError> {
        self.choose();
        if self.next.is_empty() {
            return Ok(());
        }
        if self.secrets.have_changed() {
            self.readers = None;
        }
        let readers = match self.readers.take() {
            Some(readers) => readers,
            None => Readers::connect(&self.options)?,
        };
        let readers = self.readers.insert(readers);
        let (topic, unstable) = (&self.options.journal_topic, &mut self.unstable);
        let round = Round {
            topic,
            consumer: &readers.committed,
            follower: &mut *self.follower,
            unstable,
            fed: BTreeSet::new(),
        };
        round.run(&mut self.next)?;
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds % LOOK_EVERY == 1 {
            let ends = ends(readers, topic, self.next.keys().copied())?;
            for (partition, offset) in self.unstable.look(&ends) {
                let problem = hanging::describe(&self.options, readers, topic, partition, offset);
                tracing::warn!(partition, %problem, "the rollouts of another replica are shown as they were before a transaction");
            }
        }
        Ok(())
    }

    /// Chooses the partitions to follow: those that were not owned at two rounds. In a rebalance a partition is often back at once.
    fn choose(&mut self) {
        let owned: BTreeSet<Partition> = self.ownership.partitions().into_iter().collect();
        let unowned: BTreeSet<Partition> =
            (0..self.partitions).filter(|partition| !owned.contains(partition)).collect();
        self.next.retain(|partition, _| unowned.contains(partition));
        for &partition in unowned.intersection(&self.unowned) {
            self.next.entry(partition).or_insert_with(|| {
                self.follower.begin(partition);
                Offset::Beginning
            });
        }
        self.unowned = unowned;
    }
}

/// Returns the ends of partitions. The last stable offsets are asked for first, so that a transaction that begins meanwhile shows as an
/// open one and not as none.
fn ends(
    readers: &Readers,
    topic: &str,
    partitions: impl Iterator<Item = Partition>,
) -> Result<BTreeMap<Partition, Ends>, KafkaClientError> {
    let failed = |error: KafkaError| KafkaClientError::Read { topic: topic.to_owned(), problem: error.to_string() };
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition, Offset::End).map_err(failed)?;
    }
    let stable = readers.committed.offsets_for_times(list.clone(), ENDS_TIMEOUT).map_err(failed)?;
    let all = readers.all.offsets_for_times(list, ENDS_TIMEOUT).map_err(failed)?;
    let both = stable.elements().into_iter().filter_map(|element| {
        let partition = element.partition();
        match (element.offset(), all.find_partition(topic, partition)?.offset()) {
            (Offset::Offset(stable), Offset::Offset(end)) => Some((partition, Ends { stable, end })),
            // The partition has no leader at the moment.
            _ => None,
        }
    });
    Ok(both.collect())
}

/// One reading of the followed partitions.
struct Round<'a> {
    topic: &'a str,
    consumer: &'a ReadingClient,
    follower: &'a mut dyn JournalFollower,
    unstable: &'a mut Unstable,
    /// The partitions of which a record was read.
    fed: BTreeSet<Partition>,
}

impl Round<'_> {
    /// Reads from the offsets in `next` to the ends, and notes the new offsets there.
    fn run(mut self, next: &mut BTreeMap<Partition, Offset>) -> Result<(), KafkaClientError> {
        let failed =
            |error: KafkaError| KafkaClientError::Read { topic: self.topic.to_owned(), problem: error.to_string() };
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next.iter() {
            list.add_partition_offset(self.topic, *partition, *offset).map_err(failed)?;
        }
        let as_of = Stopwatch::start();
        self.consumer.assign(&list).map_err(failed)?;
        let result = self.read(next, as_of);
        // Without an assignment nothing is fetched.
        self.consumer.unassign().map_err(failed)?;
        result
    }

    fn read(&mut self, next: &mut BTreeMap<Partition, Offset>, as_of: Stopwatch) -> Result<(), KafkaClientError> {
        let mut unread: BTreeSet<Partition> = next.keys().copied().collect();
        let mut last_record = Instant::now();
        while let Some(&first) = unread.first() {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    // Records after the end of the round belong to the next one.
                    if unread.contains(&message.partition()) {
                        next.insert(message.partition(), Offset::Offset(message.offset() + 1));
                        self.unstable.passed(message.partition(), message.offset());
                        self.fed.insert(message.partition());
                        pass_on(self.follower, &message);
                    }
                    last_record = Instant::now();
                }
                Some(Err(KafkaError::PartitionEOF(partition))) if unread.remove(&partition) => {
                    // What was read is shown, also if it is not all.
                    if self.fed.contains(&partition) || !self.unstable.hides(partition) {
                        self.follower.read(partition, as_of);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                // librdkafka retries by itself until the deadline of this loop.
                Some(Err(error)) => tracing::debug!(%error, "reading the journals of other replicas failed; retrying"),
            }
            if last_record.elapsed() > SILENCE {
                let problem = format!("no record arrived for {} s", SILENCE.as_secs());
                return Err(reader::failure(self.topic, first, problem));
            }
        }
        Ok(())
    }
}

/// Passes a record on. One whose key is no text was written by another program.
fn pass_on(follower: &mut dyn JournalFollower, message: &BorrowedMessage<'_>) {
    if let Some(Ok(key)) = message.key().map(std::str::from_utf8) {
        follower.entry(message.partition(), key, message.payload());
    }
}
