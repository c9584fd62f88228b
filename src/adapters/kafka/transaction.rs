//! One batch as one Kafka transaction, and what its errors mean.
//!
//! librdkafka says of each error whether it may be tried again, whether the transaction must be aborted, and whether the
//! producer is finished. The first is done here, until a deadline. For the rest there is one rule, because a delayed
//! request of an abandoned transaction may still land in a later one of the same producer: the producer is dropped, and
//! its successor gets a new epoch.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls, on threads of their own; no decision sees them"
)]

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, error::KafkaResult};

use super::options::{MAX_ENTRY_BYTES, Options};
use crate::failpoints::{self, Failpoint};
use crate::ports::{Batch, EventRecord, JournalError, Partition, Rekeyed};

/// A producer that is polled in the background: one that nobody polls takes ten times as long to commit.
pub(super) type Producer = ThreadedProducer<DefaultProducerContext>;

/// How long a whole transaction may take. Shorter than the broker's own patience with it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one call may block before the deadline is looked at again.
const CALL: Duration = Duration::from_secs(5);
/// How long the end of an abandoned transaction is waited for; the next producer ends it anyway.
const ABORT: Duration = Duration::from_secs(2);

/// The longest value that is copied into a dead letter; longer ones stay behind, and the letter says where.
const MAX_DEAD_BYTES: usize = 2 << 20;
/// The longest description in a dead letter.
const MAX_ERROR_CHARS: usize = 1000;

/// Where a batch is written.
pub(super) struct Target<'a> {
    pub(super) options: &'a Options,
    pub(super) partition: Partition,
    /// The member whose offsets are committed; `None`: nobody here is one.
    pub(super) membership: Option<&'a ConsumerGroupMetadata>,
}

/// Why a transaction came to nothing, or maybe to something.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another producer has this transactional id now.
    Fenced(String),
    /// The group has moved on from this member.
    Stale(String),
    /// It is not known.
    Unknown(String),
    /// The same again would fail again, until a person has done something.
    Broken(String),
}

/// What can be known to fail before anything is sent.
pub(super) fn check(batch: &Batch, target: &Target<'_>) -> Result<(), JournalError> {
    let entries = batch.puts.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let decisions = batch.decisions.iter().map(|(key, value)| (key, value));
    for (key, value) in entries.chain(decisions) {
        let bytes = key.len() + value.len();
        if bytes > MAX_ENTRY_BYTES {
            return Err(JournalError::Broken(format!("{key} has {bytes} bytes; the journal takes {MAX_ENTRY_BYTES}")));
        }
    }
    if batch.next_offset.is_some() && target.membership.is_none() {
        return Err(JournalError::Fenced("this process is no member of the consumer group".to_owned()));
    }
    Ok(())
}

/// Writes all of `batch` in one transaction. Blocks. After an error the producer is not to be used again.
pub(super) fn run(producer: &Producer, batch: &Batch, target: &Target<'_>) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let result = attempt(producer, batch, target, deadline);
    if let Err(error) = &result
        && let KafkaError::Transaction(inner) = error
        && inner.txn_requires_abort()
    {
        // Releases readers of the topics at once; if it fails, the next producer's start does it.
        if let Err(error) = producer.abort_transaction(ABORT) {
            tracing::debug!(%error, partition = target.partition, "an abandoned transaction was not aborted");
        }
    }
    result.map_err(|error| classify(&error))
}

fn attempt(producer: &Producer, batch: &Batch, target: &Target<'_>, deadline: Instant) -> KafkaResult<()> {
    producer.begin_transaction()?;
    produce(producer, batch, target, deadline)?;
    if let (Some(next), Some(membership)) = (batch.next_offset, target.membership) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&target.options.topic, target.partition, Offset::Offset(next))?;
        patiently(deadline, || producer.send_offsets_to_transaction(&offsets, membership, CALL))?;
    }
    await_delivery(producer, deadline);
    failpoints::reached(Failpoint::Produced);
    patiently(deadline, || producer.commit_transaction(CALL))
}

/// Waits until the broker has acknowledged everything. `commit_transaction` would do it too, but the client library does
/// it there in polls of 100 ms that never end early, and those were nine tenths of a commit.
fn await_delivery(producer: &Producer, deadline: Instant) {
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Tries again what librdkafka says may be tried again, until the deadline.
pub(super) fn patiently(deadline: Instant, mut call: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                tracing::debug!(%error, "a transaction's step is tried again");
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn produce(producer: &Producer, batch: &Batch, target: &Target<'_>, deadline: Instant) -> KafkaResult<()> {
    let Batch { next_offset: _, puts, decisions, dead, rekeyed } = batch;
    let Target { options, partition, .. } = *target;
    for (key, value) in puts {
        let mut record = to(&options.journal_topic).partition(partition).key(key.as_bytes());
        // No value is a tombstone: compaction forgets the key.
        record.payload = value.as_deref();
        send(producer, record, deadline)?;
    }
    for (key, json) in decisions {
        let record = to(&options.decisions_topic).partition(partition).key(key.as_bytes()).payload(json.as_slice());
        send(producer, record, deadline)?;
    }
    let dlq = options.dlq();
    for (record, wrong) in dead {
        send(producer, dead_letter(&dlq, options, record, wrong), deadline)?;
    }
    for Rekeyed { record, key, partition } in rekeyed {
        let mut copy = to(&options.topic).partition(*partition).key(key.as_bytes()).headers(headers(&record.headers));
        copy.payload = record.value.as_deref();
        send(producer, copy, deadline)?;
    }
    Ok(())
}

type Outgoing<'a> = BaseRecord<'a, [u8], [u8]>;

fn to(topic: &str) -> Outgoing<'_> {
    BaseRecord::to(topic)
}

fn send(producer: &Producer, mut record: Outgoing<'_>, deadline: Instant) -> KafkaResult<()> {
    loop {
        match producer.send(record) {
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < deadline => {
                record = back;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

/// The record as it was, and beside it where it was and what is wrong with it.
fn dead_letter<'a>(dlq: &'a str, options: &Options, record: &'a EventRecord, wrong: &str) -> Outgoing<'a> {
    let wrong: String = wrong.chars().take(MAX_ERROR_CHARS).collect();
    let mut added = vec![
        ("dlq-original-topic", options.topic.clone()),
        ("dlq-original-partition", record.partition.to_string()),
        ("dlq-original-offset", record.offset.to_string()),
        ("dlq-error", wrong),
    ];
    let mut letter = to(dlq);
    letter.key = record.key.as_deref();
    letter.payload = record.value.as_deref().filter(|value| value.len() <= MAX_DEAD_BYTES);
    if letter.payload.is_none()
        && let Some(value) = &record.value
    {
        added.push(("dlq-value-left-behind-bytes", value.len().to_string()));
    }
    let headers = added.iter().fold(headers(&record.headers), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value.as_bytes()) })
    });
    letter.headers(headers)
}

/// Headers as librdkafka has them.
pub(super) fn headers(headers: &[(String, Vec<u8>)]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len() + 5), |all, (key, value)| {
        all.insert(Header { key, value: Some(value.as_slice()) })
    })
}

/// What an error of a transactional producer means for whoever owns the partition.
pub(super) fn classify(error: &KafkaError) -> Failure {
    use RDKafkaErrorCode as Code;
    let said = error.to_string();
    match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => Failure::Fenced(said),
        Some(Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedInstanceId | Code::RebalanceInProgress) => {
            Failure::Stale(said)
        }
        Some(
            Code::TransactionalIdAuthorizationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => Failure::Broken(format!(
            "{said}; grant Write and Describe on the transactional ids and topics, and Read on the group and topics"
        )),
        Some(Code::MessageSizeTooLarge) => {
            Failure::Broken(format!("{said}; raise max.message.bytes of the journal, decisions and dead-letter topics"))
        }
        _ => Failure::Unknown(said),
    }
}
