//! Reads partitions: the committed records from the beginning to the end, for restoring a journal and for the commands that
//! read decisions, and single records near an open transaction.
//!
//! The end is the high watermark at the start of the reading, and not the last stable offset. The two differ while a
//! transaction is open, and stopping at the last stable offset would then return an outdated state. So the reader first
//! waits until they are equal, and fails if they don't become so in time.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on threads of their own; the engine does not see them"
)]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::connections::{self, ReadingClient};
use super::error::KafkaClientError;
use super::hanging;
use super::options::Options;
use super::topics;
use crate::ports::Partition;

/// The time without a record after which the reading fails.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The time for open transactions to end before decisions are read: the broker ends those of a daemon that died.
const DECISIONS_PATIENCE: Duration = Duration::from_secs(30);

/// The clients that read partitions. They are no members of the group.
pub(super) struct Readers {
    /// Reads committed records.
    pub(super) committed: ReadingClient,
    /// Reads all records, also those of open and aborted transactions.
    pub(super) all: ReadingClient,
}

impl Readers {
    pub(super) fn connect(options: &Options) -> Result<Readers, KafkaClientError> {
        let committed = options.reader()?;
        let mut all = committed.clone();
        all.set("isolation.level", "read_uncommitted");
        Ok(Readers { committed: connections::connect(&committed)?, all: connections::connect(&all)? })
    }
}

/// Calls `each` with every committed record of a partition, in order. Blocks.
///
/// # Errors
/// If no record arrives for 30 seconds before the end, or a transaction stays open for longer than `patience`.
pub(super) fn read_to_end(
    options: &Options,
    topic: &str,
    partition: Partition,
    patience: Duration,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), KafkaClientError> {
    let readers = Readers::connect(options)?;
    if await_stable(options, &readers, topic, partition, patience)? == 0 {
        return Ok(());
    }
    read_from(&readers.committed, topic, partition, Offset::Beginning, |message| {
        each(message);
        ControlFlow::Continue(())
    })
}

/// Calls `each` with the records of a partition from `start` on, until it breaks or the partition ends. Blocks.
///
/// # Errors
/// If no record arrives for 30 seconds before the end.
pub(super) fn read_from(
    consumer: &ReadingClient,
    topic: &str,
    partition: Partition,
    start: Offset,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
) -> Result<(), KafkaClientError> {
    let failed = |problem: String| failure(topic, partition, problem);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, start).map_err(|error| failed(error.to_string()))?;
    consumer.assign(&list).map_err(|error| failed(error.to_string()))?;
    let mut last_record = Instant::now();
    while last_record.elapsed() < READ_TIMEOUT {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                if each(&message).is_break() {
                    return Ok(());
                }
                last_record = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            // librdkafka retries by itself until the timeout of this loop.
            Some(Err(error)) => tracing::warn!(topic, partition, %error, "reading a partition failed; retrying"),
            None => {}
        }
    }
    Err(failed(format!("no record arrived for {} s", READ_TIMEOUT.as_secs())))
}

/// Returns the low watermark and the end of a partition; the end is the last stable offset for a client that reads
/// committed records, and the high watermark for one that reads all.
pub(super) fn watermarks(
    consumer: &ReadingClient,
    topic: &str,
    partition: Partition,
) -> Result<(i64, i64), KafkaClientError> {
    let ends = consumer.fetch_watermarks(topic, partition, READ_TIMEOUT);
    ends.map_err(|error| failure(topic, partition, error.to_string()))
}

/// Waits until every transaction below the high watermark is committed or aborted. Returns the number of offsets from the
/// low to the high watermark; 0 if the partition is empty.
fn await_stable(
    options: &Options,
    readers: &Readers,
    topic: &str,
    partition: Partition,
    patience: Duration,
) -> Result<i64, KafkaClientError> {
    let (low, high) = watermarks(&readers.all, topic, partition)?;
    let started = Instant::now();
    loop {
        let stable = watermarks(&readers.committed, topic, partition)?.1;
        if stable >= high {
            return Ok(high - low);
        }
        if started.elapsed() > patience {
            return Err(hanging::describe(options, readers, topic, partition, stable));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn failure(topic: &str, partition: Partition, problem: String) -> KafkaClientError {
    KafkaClientError::Read { topic: format!("{topic}[{partition}]"), problem }
}

/// Returns the decisions (JSON) for which `wanted` is true, given the key (the workload) and the JSON. They are sorted by
/// partition and offset; all decisions of a workload are in one partition.
///
/// # Errors
/// If an option is invalid, or the topic is missing or can't be read.
pub async fn read_decisions(
    options: &Options,
    wanted: impl Fn(&str, &[u8]) -> bool + Send + 'static,
) -> Result<Vec<Vec<u8>>, KafkaClientError> {
    options.validate()?;
    let options = options.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let topic = options.decisions_topic.as_str();
        let consumer = connections::connect(&options.reader()?)?;
        let partitions = topics::partitions_of(&consumer, &options, topic)?.ok_or_else(|| KafkaClientError::Read {
            topic: topic.to_owned(),
            problem: "it does not exist".to_owned(),
        })?;
        let mut decisions = Vec::new();
        for partition in 0..partitions {
            read_to_end(&options, topic, partition, DECISIONS_PATIENCE, |message| {
                let key = String::from_utf8_lossy(message.key().unwrap_or_default());
                if let Some(json) = message.payload().filter(|json| wanted(&key, json)) {
                    decisions.push(json.to_vec());
                }
            })?;
        }
        Ok(decisions)
    });
    reading.await.unwrap_or_else(|error| Err(KafkaClientError::Client(error.to_string())))
}
