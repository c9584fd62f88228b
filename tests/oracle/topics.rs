//! The raw topics, read with `read_committed`.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;

/// The time within which a broker has to answer.
const REQUEST: Duration = Duration::from_secs(30);

/// A committed record.
#[derive(Debug, Clone, Default)]
pub struct RawRecord {
    /// The partition that it is in.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its key; empty if it has none.
    pub key: String,
    /// Its value. `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers by name.
    pub headers: BTreeMap<String, String>,
}

/// Returns all committed records of a topic, each partition in its order; none if there is no such topic.
///
/// # Errors
/// The broker does not answer in time, or refuses to.
pub fn read(brokers: &str, topic: &str) -> Result<Vec<RawRecord>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "oracle").set("enable.auto.commit", "false");
    config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).with_context(|| format!("topic {topic}"))?;
    let found = metadata.topics().first().context("no metadata of the topic")?;
    if found.error().is_some() {
        return Ok(Vec::new());
    }
    let mut partitions = TopicPartitionList::new();
    for partition in found.partitions() {
        partitions.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let (mut open, mut records) = (partitions.count(), Vec::new());
    while open > 0 {
        match consumer.poll(REQUEST).with_context(|| format!("neither a record nor the end of {topic}"))? {
            Ok(message) => records.push(record(&message)),
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error).with_context(|| format!("topic {topic}")),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

fn record(message: &impl Message) -> RawRecord {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    RawRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text).unwrap_or_default(),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default())).collect(),
    }
}
