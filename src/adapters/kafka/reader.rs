//! A reader of the committed records of a partition from its beginning to its end, for restoring a journal and for the
//! commands that read decisions.
//!
//! The end is the high watermark at the start of the reading, and not the last stable offset. The two differ while a
//! transaction is open, and stopping at the last stable offset would then return an outdated state. So the reader first
//! waits until they are equal, and fails if they don't become so in time.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on threads of their own; the engine does not see them"
)]

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::error::{self, KafkaClientError};
use super::options::Options;
use super::topics;
use crate::ports::Partition;

/// The time without a record, or with an open transaction, after which the reading fails.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls `each` with every committed record of a partition, in order. Blocks.
///
/// # Errors
/// If no record arrives for 30 seconds before the end, or a transaction stays open for so long.
pub(super) fn read_to_end(
    options: &Options,
    topic: &str,
    partition: Partition,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), KafkaClientError> {
    let failed = |problem: String| KafkaClientError::Read { topic: format!("{topic}[{partition}]"), problem };
    let consumer: BaseConsumer = options.reader()?.create().map_err(|error| error::client(&error))?;
    if await_stable(options, &consumer, topic, partition)? == 0 {
        return Ok(());
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning).map_err(|error| failed(error.to_string()))?;
    consumer.assign(&list).map_err(|error| failed(error.to_string()))?;
    let mut last_record = Instant::now();
    while last_record.elapsed() < READ_TIMEOUT {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                each(&message);
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

/// Waits until every transaction below the high watermark is committed or aborted. Returns the number of offsets from the
/// low to the high watermark; 0 if the partition is empty.
fn await_stable(
    options: &Options,
    committed: &BaseConsumer,
    topic: &str,
    partition: Partition,
) -> Result<i64, KafkaClientError> {
    let failed = |problem: String| KafkaClientError::Read { topic: format!("{topic}[{partition}]"), problem };
    let mut config = options.reader()?;
    config.set("isolation.level", "read_uncommitted");
    let uncommitted: BaseConsumer = config.create().map_err(|error| error::client(&error))?;
    let watermarks = |consumer: &BaseConsumer| {
        consumer.fetch_watermarks(topic, partition, READ_TIMEOUT).map_err(|error| failed(error.to_string()))
    };
    let (low, high) = watermarks(&uncommitted)?;
    let started = Instant::now();
    while watermarks(committed)?.1 < high {
        if started.elapsed() > READ_TIMEOUT {
            return Err(failed(
                "a transaction in it stays open; find its producer with kafka-transactions.sh find-hanging".to_owned(),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(high - low)
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
        let consumer: BaseConsumer = options.reader()?.create().map_err(|error| error::client(&error))?;
        let partitions = topics::partitions_of(&consumer, &options, topic)?.ok_or_else(|| KafkaClientError::Read {
            topic: topic.to_owned(),
            problem: "it does not exist".to_owned(),
        })?;
        let mut decisions = Vec::new();
        for partition in 0..partitions {
            read_to_end(&options, topic, partition, |message| {
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
