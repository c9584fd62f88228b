//! Writes one batch as one Kafka transaction, and classifies its errors.
//!
//! librdkafka marks each error as retriable, as one after which the transaction must be aborted, or as fatal for the
//! producer. Retriable errors are retried here until a deadline. After any other error the producer is dropped, and its
//! successor gets a new epoch: a delayed request of an abandoned transaction could otherwise become part of a later
//! transaction of the same producer.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on threads of their own; the engine does not see them"
)]

use std::time::{Duration, Instant, SystemTime};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, error::KafkaResult};

use super::letter;
use super::options::{MAX_ENTRY_BYTES, Options};
use crate::failpoints::{self, Failpoint};
use crate::ports::{Batch, JournalError, Partition, Rekeyed};

/// A transactional producer. The thread of a transaction polls it. (The polling thread of rdkafka's `ThreadedProducer` spins in
/// the last millisecond of each 100 ms, which takes a hundredth of a core for each partition at rest.)
pub(super) type Producer = BaseProducer;

/// The time for a whole transaction. It is shorter than the broker's own timeout (`transaction.timeout.ms`).
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest time that one call blocks. Between calls the deadline is checked.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The time to abort a failed transaction. If it is not enough, the next producer's start ends the transaction.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time that one call to abort blocks. Between calls the purged records are taken from the producer, which the
/// abort waits for.
const ABORT_CALL_TIMEOUT: Duration = Duration::from_millis(100);
/// The shortest and the longest time between two polls for acknowledgements.
const POLL_PAUSES: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(10)];

/// The header with the name of the transaction that wrote a record. [`super::hanging`] reads it.
pub(super) const TRANSACTION_HEADER: &str = "bellwether-txn";

/// The names of a producer's transactions. A name is `<transactional id>/<opening>.<n>`: the opening is the time in
/// milliseconds at which the producer was opened, and n counts its transactions. So no two transactions have one name.
#[derive(Debug)]
pub(super) struct TransactionNames {
    prefix: String,
    count: u64,
}

impl TransactionNames {
    /// Returns the names for a producer with the transactional id `id` that is opened now.
    pub(super) fn new(id: &str) -> TransactionNames {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        TransactionNames { prefix: format!("{id}/{}", since.as_millis()), count: 0 }
    }

    /// Returns the name of the next transaction.
    pub(super) fn next(&mut self) -> String {
        self.count += 1;
        format!("{}.{}", self.prefix, self.count)
    }
}

/// The destination of a batch.
pub(super) struct Target<'a> {
    pub(super) options: &'a Options,
    pub(super) partition: Partition,
    /// The group metadata with which offsets are committed; `None` if this process is no member of the group.
    pub(super) membership: Option<&'a ConsumerGroupMetadata>,
    /// The transaction's name.
    pub(super) name: &'a str,
}

/// The reason why a transaction was not committed, or may not have been, each with a message.
#[derive(Debug)]
pub(super) enum TransactionFailure {
    /// Another producer has the transactional id now.
    Fenced(String),
    /// The group has moved to a later generation, in which this member has no place.
    Stale(String),
    /// The outcome is unknown.
    Unknown(String),
    /// A retry would fail in the same way until a person has changed something.
    Broken(String),
    /// A person has to decide something about this partition alone; the message has the command.
    Asks(String),
}

/// Checks what can be checked before anything is sent.
///
/// # Errors
/// [`JournalError::Broken`] if an entry is too long, and [`JournalError::Fenced`] if the batch has an offset and this
/// process is no member of the group.
pub(super) fn check(batch: &Batch, target: &Target<'_>) -> Result<(), JournalError> {
    let entries = batch.puts.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let decisions = batch.decisions.iter().map(|(key, value)| (key, value));
    for (key, value) in entries.chain(decisions) {
        let bytes = key.len() + value.len();
        if bytes > MAX_ENTRY_BYTES {
            return Err(JournalError::Broken(format!(
                "{key} has {bytes} bytes; the journal takes at most {MAX_ENTRY_BYTES}"
            )));
        }
    }
    if batch.next_offset.is_some() && target.membership.is_none() {
        return Err(JournalError::Fenced("this process is no member of the consumer group".to_owned()));
    }
    Ok(())
}

/// Writes the whole batch in one transaction. Blocks. After an error the producer must not be used again.
pub(super) fn run(producer: &Producer, batch: &Batch, target: &Target<'_>) -> Result<(), TransactionFailure> {
    let deadline = Instant::now() + TRANSACTION_TIMEOUT;
    let result = attempt(producer, batch, target, deadline);
    if let Err(error) = &result
        && let KafkaError::Transaction(inner) = error
        && inner.txn_requires_abort()
    {
        // Readers of the topics wait for the end of the transaction. If this fails, the next producer's start ends it.
        let aborted = retry(Instant::now() + ABORT_TIMEOUT, || {
            super::serve(producer);
            producer.abort_transaction(ABORT_CALL_TIMEOUT)
        });
        if let Err(error) = aborted {
            tracing::debug!(%error, partition = target.partition, "a failed transaction could not be aborted");
        }
    }
    result.map_err(|error| classify(producer, &error))
}

fn attempt(producer: &Producer, batch: &Batch, target: &Target<'_>, deadline: Instant) -> KafkaResult<()> {
    producer.begin_transaction()?;
    produce(producer, batch, target, deadline)?;
    if let (Some(next), Some(membership)) = (batch.next_offset, target.membership) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&target.options.topic, target.partition, Offset::Offset(next))?;
        if let Some(mut offset) = offsets.find_partition(&target.options.topic, target.partition) {
            offset.set_metadata(offset_metadata(&target.options.cluster, target.name));
        }
        retry(deadline, || producer.send_offsets_to_transaction(&offsets, membership, CALL_TIMEOUT))?;
    }
    await_delivery(producer, deadline);
    failpoints::reached(Failpoint::Produced);
    retry(deadline, || producer.commit_transaction(CALL_TIMEOUT))
}

/// Returns the text that is committed with an offset: the cluster, and the name of the transaction.
pub(super) fn offset_metadata(cluster: &str, name: &str) -> String {
    format!("{cluster}#{name}")
}

/// Polls the producer until the broker has acknowledged all records. `commit_transaction` waits for them too, but does not poll.
/// The pause between two polls grows with the time, so that a broker that does not answer costs little.
pub(super) fn await_delivery(producer: &Producer, deadline: Instant) {
    let (start, [shortest, longest]) = (Instant::now(), POLL_PAUSES);
    while super::serve(producer) > 0 && Instant::now() < deadline {
        std::thread::sleep((start.elapsed() / 8).clamp(shortest, longest));
    }
}

/// Calls `call`, and repeats it after a retriable error of librdkafka until the deadline. Returns the last result.
pub(super) fn retry(deadline: Instant, mut call: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                tracing::debug!(%error, "a step of a transaction failed; retrying");
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn produce(producer: &Producer, batch: &Batch, target: &Target<'_>, deadline: Instant) -> KafkaResult<()> {
    let Batch { next_offset: _, puts, decisions, dead, rekeyed } = batch;
    let Target { options, partition, name, .. } = *target;
    let origin = || named(OwnedHeaders::new_with_capacity(1), name);
    for (key, value) in puts {
        let mut record = record_to(&options.journal_topic).partition(partition).key(key.as_bytes()).headers(origin());
        // A record without a value is a tombstone: compaction removes the key.
        record.payload = value.as_deref();
        send(producer, record, deadline)?;
    }
    for (key, json) in decisions {
        let record = record_to(&options.decisions_topic).partition(partition).key(key.as_bytes());
        send(producer, record.payload(json.as_slice()).headers(origin()), deadline)?;
    }
    let dlq = options.dlq();
    for (record, problem) in dead {
        let letter = letter::write(&dlq, options, record, problem);
        send(producer, with_name(letter, name), deadline)?;
    }
    for Rekeyed { record, key, partition } in rekeyed {
        let mut copy =
            record_to(&options.topic).partition(*partition).key(key.as_bytes()).headers(headers(&record.headers));
        copy.payload = record.value.as_deref();
        send(producer, with_name(copy, name), deadline)?;
    }
    Ok(())
}

pub(super) type OutgoingRecord<'a> = BaseRecord<'a, [u8], [u8]>;

/// Adds the transaction's name to a record's headers.
fn with_name<'a>(mut record: OutgoingRecord<'a>, name: &str) -> OutgoingRecord<'a> {
    record.headers = record.headers.map(|headers| named(headers, name));
    record
}

/// Adds the transaction's name to headers.
fn named(headers: OwnedHeaders, name: &str) -> OwnedHeaders {
    headers.insert(Header { key: TRANSACTION_HEADER, value: Some(name) })
}

pub(super) fn record_to(topic: &str) -> OutgoingRecord<'_> {
    BaseRecord::to(topic)
}

/// Passes a record to the producer; waits for room in its queue until the deadline.
pub(super) fn send(producer: &Producer, mut record: OutgoingRecord<'_>, deadline: Instant) -> KafkaResult<()> {
    loop {
        match producer.send(record) {
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned))
                if Instant::now() < deadline =>
            {
                record = returned;
                super::serve(producer);
                std::thread::sleep(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

/// Returns headers in librdkafka's form, with room for those that are added. The name of the transaction that wrote the
/// record is left out: a copy belongs to the transaction that writes the copy.
pub(super) fn headers(headers: &[(String, Vec<u8>)]) -> OwnedHeaders {
    let own = headers.iter().filter(|(key, _)| key != TRANSACTION_HEADER);
    own.fold(OwnedHeaders::new_with_capacity(headers.len() + 8), |all, (key, value)| {
        all.insert(Header { key, value: Some(value.as_slice()) })
    })
}

/// Classifies an error of a transactional producer. A call after a fatal error, such as a fence that became known while the
/// records were written, fails without the reason; the producer has kept it.
pub(super) fn classify(producer: &Producer, error: &KafkaError) -> TransactionFailure {
    use RDKafkaErrorCode as Code;
    let fatal = producer.client().fatal_error().map(|(code, reason)| (Some(code), reason));
    let (code, message) = fatal.unwrap_or_else(|| (error.rdkafka_error_code(), error.to_string()));
    match code {
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => TransactionFailure::Fenced(message),
        Some(Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedInstanceId | Code::RebalanceInProgress) => {
            TransactionFailure::Stale(message)
        }
        Some(
            Code::TransactionalIdAuthorizationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => TransactionFailure::Broken(format!(
            "{message}; grant Write and Describe on the transactional ids and topics, and Read on the group and topics"
        )),
        Some(Code::MessageSizeTooLarge) => TransactionFailure::Broken(format!(
            "{message}; raise max.message.bytes of the journal, decisions and dead-letter topics"
        )),
        _ => TransactionFailure::Unknown(message),
    }
}
