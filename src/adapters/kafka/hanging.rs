//! Transactions that never end in a partition's log, although no producer works on them.
//!
//! A transaction coordinator that does not find a partition in the broker's metadata, as in the first moments of a restarted
//! broker, leaves the partition out when it writes a transaction's markers, and completes the transaction all the same
//! (`TransactionMarkerChannelManager.addTxnMarkersToBrokerQueue` of Apache Kafka 4.3). The log then has an open transaction
//! that no coordinator knows: fencing its producer does not end it, and readers of committed records wait for ever.
//!
//! The next marker of the same producer in that log ends it, as a commit or an abort like the marker's own transaction
//! (`ProducerAppendInfo.appendEndTxnMarker`). So after the fence one record without meaning is written to each such log, in a
//! transaction that ends as the hanging one was decided. The decision is found in the transaction's other logs, by its name,
//! which is in a header of each record and beside the committed offset. If none of them tells, it is committed: a
//! commit may have been acted upon, and an abort can't have been, since no process can read that log. After a wrong commit the
//! event is read again and known by its id.
//!
//! A hanging transaction of another program can't be ended so. Its partition waits, and the error has the command.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on threads of their own; the engine does not see them"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::connections::ReadingClient;
use super::error::KafkaClientError;
use super::options::Options;
use super::reader::{self, Readers, failure};
use super::topics;
use super::transaction::{self, OutgoingRecord, Producer, TRANSACTION_HEADER, TransactionFailure, record_to};
use crate::ports::Partition;

/// The most transactions of one partition that are ended when its journal is opened.
const MAX_REPAIRS: usize = 8;
/// The time for the brokers to answer one request.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for one transaction that ends another.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(15);
/// The number of offsets before the end of a log in which a transaction's records are looked for. Few transactions follow
/// one that hangs, because the next opening of the partition ends it.
const SEARCHED_OFFSETS: i64 = 10_000;

/// The key of a record without meaning, which is written to end a hanging transaction.
pub(super) const REPAIR_KEY: &str = "kafka/repair";
/// The type of the event without meaning; the daemon ignores events of unknown types.
const REPAIR_EVENT: &str = "dev.bellwether.repair";

/// An open transaction in a partition's log.
struct OpenTransaction {
    topic: String,
    partition: Partition,
    /// The offset of its first record.
    offset: i64,
    /// Its name; `None` if it has none.
    name: Option<String>,
}

/// Ends the hanging transactions of the producer with the transactional id `id`, which has just fenced its predecessor.
/// Blocks.
///
/// # Errors
/// The failure of a read or of a transaction.
pub(super) fn repair(
    options: &Options,
    producer: &Producer,
    id: &str,
    partition: Partition,
) -> Result<(), TransactionFailure> {
    let unknown = |error: KafkaClientError| TransactionFailure::Unknown(error.to_string());
    let readers = Readers::connect(options).map_err(unknown)?;
    let own = format!("{id}/");
    for _ in 0..MAX_REPAIRS {
        let mut hanging = open_transactions(options, &readers, partition).map_err(unknown)?;
        hanging.retain(|open| open.name.as_ref().is_some_and(|name| name.starts_with(&own)));
        let Some(name) = hanging.first().and_then(|open| open.name.clone()) else { return Ok(()) };
        hanging.retain(|open| open.name.as_ref() == Some(&name));
        let decision = decision(options, &readers, &name, partition, &hanging).map_err(unknown)?;
        let commit = decision.unwrap_or(true);
        let place = |open: &OpenTransaction| format!("{}[{}] from offset {}", open.topic, open.partition, open.offset);
        let logs: Vec<String> = hanging.iter().map(place).collect();
        tracing::warn!(
            partition,
            transaction = name,
            logs = logs.join(", "),
            commit,
            known = decision.is_some(),
            "a transaction has no end in these logs, because the broker lost its markers; ending it"
        );
        end(options, producer, &hanging, commit)?;
    }
    Err(TransactionFailure::Unknown(format!("after {MAX_REPAIRS} repairs a transaction of {id} still hangs")))
}

/// Returns the first open transaction of each log that the partition's producer writes to.
fn open_transactions(
    options: &Options,
    readers: &Readers,
    partition: Partition,
) -> Result<Vec<OpenTransaction>, KafkaClientError> {
    let mut own = TopicPartitionList::new();
    own.add_partition(&options.journal_topic, partition);
    own.add_partition(&options.decisions_topic, partition);
    let mut shared = TopicPartitionList::new();
    for topic in [options.topic.clone(), options.dlq()] {
        let partitions = topics::partitions_of(&readers.all, options, &topic)?.unwrap_or(0);
        for partition in 0..partitions {
            shared.add_partition(&topic, partition);
        }
    }
    let mut open = open_in(readers, &own)?;
    // A log of another partition without a leader must not keep this one closed.
    match open_in(readers, &shared) {
        Ok(found) => open.extend(found),
        Err(error) => tracing::warn!(partition, %error, "not searched for hanging transactions"),
    }
    Ok(open)
}

/// Returns the first open transaction of each of these logs.
fn open_in(readers: &Readers, logs: &TopicPartitionList) -> Result<Vec<OpenTransaction>, KafkaClientError> {
    // In this order: a transaction that ends between the two requests is not found.
    let (high, stable) = (ends(&readers.all, logs)?, ends(&readers.committed, logs)?);
    let mut open = Vec::new();
    for ((topic, partition), offset) in stable {
        if high.get(&(topic.clone(), partition)).is_some_and(|high| offset < *high) {
            let name = name_at(&readers.all, &topic, partition, offset)?;
            open.push(OpenTransaction { topic, partition, offset, name });
        }
    }
    Ok(open)
}

/// Returns the ends of logs, as a client sees them, by topic and partition.
fn ends(
    consumer: &ReadingClient,
    logs: &TopicPartitionList,
) -> Result<BTreeMap<(String, Partition), i64>, KafkaClientError> {
    let deadline = Instant::now() + BROKER_TIMEOUT;
    let found = loop {
        // librdkafka takes the wanted times in the place of the offsets, and the logical end for the newest.
        let mut wanted = logs.clone();
        let answer =
            wanted.set_all_offsets(Offset::End).and_then(|()| consumer.offsets_for_times(wanted, BROKER_TIMEOUT));
        match answer {
            Ok(found) => break found,
            // The client's knowledge of the leaders is older than the topic, or a leader has just moved.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => {
                let elements = logs.elements();
                let topics: BTreeSet<&str> = elements.iter().map(|element| element.topic()).collect();
                let topic = topics.into_iter().collect::<Vec<_>>().join(", ");
                return Err(KafkaClientError::Read { topic, problem: error.to_string() });
            }
        }
    };
    let end = |element: &TopicPartitionListElem<'_>| {
        let Offset::Offset(offset) = element.offset() else { return None };
        Some(((element.topic().to_owned(), element.partition()), offset))
    };
    Ok(found.elements().iter().filter_map(end).collect())
}

/// Returns the name of the transaction that wrote the record at an offset; `None` if it has none.
fn name_at(
    all: &ReadingClient,
    topic: &str,
    partition: Partition,
    offset: i64,
) -> Result<Option<String>, KafkaClientError> {
    let mut name = None;
    reader::read_from(all, topic, partition, Offset::Offset(offset), |message| {
        name = if message.offset() == offset { name_of(message) } else { None };
        ControlFlow::Break(())
    })?;
    Ok(name)
}

/// Returns the name of the transaction that wrote a record.
fn name_of(message: &BorrowedMessage<'_>) -> Option<String> {
    let headers = super::intake::headers(message);
    let (_, name) = headers.into_iter().find(|(key, _)| key == TRANSACTION_HEADER)?;
    String::from_utf8(name).ok()
}

/// Returns whether the transaction `name` was committed or aborted, by a log in which it has ended; `None` if there is none.
fn decision(
    options: &Options,
    readers: &Readers,
    name: &str,
    partition: Partition,
    hanging: &[OpenTransaction],
) -> Result<Option<bool>, KafkaClientError> {
    if has_committed_offset(options, readers, name, partition)? {
        return Ok(Some(true));
    }
    for topic in [&options.journal_topic, &options.decisions_topic] {
        if hanging.iter().any(|open| open.topic == *topic) {
            continue;
        }
        let found = first_record(readers, name, topic, partition)?;
        let Some(offset) = found else { continue };
        return Ok(Some(name_at(&readers.committed, topic, partition, offset)?.as_deref() == Some(name)));
    }
    Ok(None)
}

/// Whether the group's committed offset is the one that the transaction `name` has committed.
fn has_committed_offset(
    options: &Options,
    readers: &Readers,
    name: &str,
    partition: Partition,
) -> Result<bool, KafkaClientError> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&options.topic, partition);
    let committed = readers.all.committed_offsets(list, BROKER_TIMEOUT);
    let committed = committed.map_err(|error| failure(&options.topic, partition, error.to_string()))?;
    let found = committed.find_partition(&options.topic, partition);
    let metadata = found.as_ref().and_then(super::intake::metadata);
    Ok(metadata.is_some_and(|metadata| metadata == transaction::offset_metadata(&options.cluster, name)))
}

/// Returns the offset of the first record of the transaction `name` near the end of a log, committed or not.
fn first_record(
    readers: &Readers,
    name: &str,
    topic: &str,
    partition: Partition,
) -> Result<Option<i64>, KafkaClientError> {
    let (low, high) = reader::watermarks(&readers.all, topic, partition)?;
    let start = low.max(high - SEARCHED_OFFSETS);
    let mut found = None;
    reader::read_from(&readers.all, topic, partition, Offset::Offset(start), |message| {
        if name_of(message).as_deref() == Some(name) {
            found = Some(message.offset());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Writes a record without meaning to each log, in a transaction that is committed or aborted.
fn end(
    options: &Options,
    producer: &Producer,
    hanging: &[OpenTransaction],
    commit: bool,
) -> Result<(), TransactionFailure> {
    let deadline = Instant::now() + REPAIR_TIMEOUT;
    let written = producer.begin_transaction().and_then(|()| {
        for open in hanging {
            transaction::send(producer, record_without_meaning(options, open), deadline)?;
        }
        transaction::await_delivery(producer, deadline);
        transaction::retry(deadline, || {
            if commit {
                producer.commit_transaction(BROKER_TIMEOUT)
            } else {
                producer.abort_transaction(BROKER_TIMEOUT)
            }
        })
    });
    written.map_err(|error| transaction::classify(producer, &error))
}

/// Returns a record that every reader of the log passes over: an event of an unknown type, and in the other topics one
/// without a value.
fn record_without_meaning<'a>(options: &Options, open: &'a OpenTransaction) -> OutgoingRecord<'a> {
    let record = record_to(&open.topic).partition(open.partition).key(REPAIR_KEY.as_bytes());
    if open.topic != options.topic {
        return record;
    }
    let id = open.name.as_deref().unwrap_or_default();
    let attributes = [
        ("ce_specversion", "1.0"),
        ("ce_type", REPAIR_EVENT),
        ("ce_source", "/bellwether"),
        ("ce_id", id),
        ("content-type", "application/json"),
    ];
    let headers = attributes
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
    record.headers(headers).payload(b"{}".as_slice())
}

/// Returns the error for a log whose transaction at `offset` stays open.
pub(super) fn describe(
    options: &Options,
    readers: &Readers,
    topic: &str,
    partition: Partition,
    offset: i64,
) -> KafkaClientError {
    let name = name_at(&readers.all, topic, partition, offset).ok().flatten();
    let own = name.filter(|name| name.starts_with(&format!("{}-", options.group)));
    let remedy = match own {
        Some(name) => format!(
            "it is {name} of a daemon, which ends it by itself when it opens that partition; don't abort it, because it may be \
             committed"
        ),
        None => abort_command(options, topic, partition, offset),
    };
    KafkaClientError::Hanging { topic: format!("{topic}[{partition}]"), offset, remedy }
}

/// Returns the advice for a transaction of another program that does not end.
pub(super) fn abort_command(options: &Options, topic: &str, partition: Partition, offset: i64) -> String {
    format!(
        "it belongs to another program; if that has ended, run kafka-transactions.sh --bootstrap-server {} abort --topic {topic} \
         --partition {partition} --start-offset {offset}",
        options.brokers
    )
}
