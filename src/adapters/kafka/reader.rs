//! Reading a partition from its beginning to its end, committed records only: for restoring and for `replay`.
//!
//! "The end" is the high watermark when the reading begins, not the last stable offset. If a transaction is open below
//! it, the two differ, and stopping at the stable one would pass off an older state as the newest. So the reader waits
//! for them to meet, and says what is wrong if they don't.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls, on threads of their own; no decision sees them"
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

/// How long nothing may happen before the reading is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands every committed record of a partition to `each`, in order. Blocks.
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
    let mut moved = Instant::now();
    while moved.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                each(&message);
                moved = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            // librdkafka tries again by itself; the deadline is what ends it.
            Some(Err(error)) => tracing::warn!(topic, partition, %error, "reading goes on"),
            None => {}
        }
    }
    Err(failed(format!("nothing came for {} s", PATIENCE.as_secs())))
}

/// Waits until all that is written is committed or aborted. The number of records there may be; 0: none at all.
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
        consumer.fetch_watermarks(topic, partition, PATIENCE).map_err(|error| failed(error.to_string()))
    };
    let (low, high) = watermarks(&uncommitted)?;
    let started = Instant::now();
    while watermarks(committed)?.1 < high {
        if started.elapsed() > PATIENCE {
            return Err(failed(
                "a transaction on it stays open; find its producer with kafka-transactions.sh find-hanging".to_owned(),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(high - low)
}

/// All decisions that `wanted` asks for by key (the workload) and JSON, partition by partition, each in its order. A
/// workload's decisions are all in one partition.
pub async fn read_decisions(
    options: &Options,
    wanted: impl Fn(&str, &[u8]) -> bool + Send + 'static,
) -> Result<Vec<Vec<u8>>, KafkaClientError> {
    options.validate()?;
    let options = options.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let topic = options.decisions_topic.as_str();
        let consumer: BaseConsumer = options.reader()?.create().map_err(|error| error::client(&error))?;
        let partitions = topics::partitions_of(&consumer, &options, topic)?
            .ok_or_else(|| KafkaClientError::Read { topic: topic.to_owned(), problem: "it is not there".to_owned() })?;
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
