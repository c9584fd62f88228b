//! The journal of one partition: a transactional producer, and a reader that restores the entries from the journal topic.
//!
//! The order of an opening: fence the predecessor, end its transactions that hang, restore, find the position in the events
//! topic, and only then resume the records.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on threads of their own; the engine does not see them"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::message::Message;
use rdkafka::producer::Producer as _;

use super::error::{self, KafkaClientError};
use super::options::Options;
use super::ownership::{Ownership, Standing};
use super::reader::read_to_end;
use super::transaction::{self, Producer, Target, TransactionFailure, TransactionNames};
use super::{hanging, position};
use crate::ports::{Batch, Journal, JournalError, Partition, ReadingId};

/// The time to fence the predecessor. The broker may have to end a transaction that it left open.
const FENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time that one call blocks. Between calls the deadline is checked.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for the polling thread to resume the partition.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// The delay before a partition is assigned again after an unknown outcome. Long enough not to spin while no broker
/// answers, short enough not to be noticed after a single error.
const RESTART_DELAY: Duration = Duration::from_millis(500);
/// The time for transactions of other programs in the journal to end. Those of its own have ended or are repaired.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// The delay before a partition that waits for a person is assigned again.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// The open journal of a partition.
pub(super) struct KafkaJournal {
    options: Arc<Options>,
    ownership: Arc<Ownership>,
    partition: Partition,
    /// The group's metadata at the time of opening; `None` if this process is no member of the group.
    membership: Option<Arc<ConsumerGroupMetadata>>,
    /// The transactional producer; `None` after the first failed commit, since a producer is not used again after an error.
    producer: Option<Producer>,
    names: TransactionNames,
    /// The position from which the partition is read, until the first batch has committed it. It is committed even if no
    /// event is read: the group then has an offset, and a member of an earlier generation is refused at once.
    position: Option<i64>,
    reading: ReadingId,
}

impl KafkaJournal {
    /// Opens the journal: fences the partition's earlier producer.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] if the partition is assigned to another member; otherwise the error of the fencing.
    pub(super) async fn open(
        options: &Arc<Options>,
        ownership: &Arc<Ownership>,
        partition: Partition,
    ) -> Result<KafkaJournal, JournalError> {
        let membership = match ownership.standing(partition) {
            Standing::NoMember => None,
            Standing::Owner(membership) => Some(membership),
            Standing::NotOwner => {
                return Err(JournalError::Fenced(format!("partition {partition} is not assigned to this process")));
            }
        };
        let mut journal = KafkaJournal {
            options: Arc::clone(options),
            ownership: Arc::clone(ownership),
            partition,
            membership,
            producer: None,
            names: TransactionNames::new(&transactional_id(options, partition)),
            position: None,
            reading: ReadingId::default(),
        };
        let fenced = fence(Arc::clone(options), partition).await;
        journal.producer = Some(fenced.map_err(|failure| journal.journal_error(failure))?);
        Ok(journal)
    }

    /// Ends hanging transactions, and reads the entries and, in a member of the group, the position.
    async fn read(&mut self) -> Result<BTreeMap<String, Vec<u8>>, TransactionFailure> {
        let Some(producer) = self.producer.take() else {
            return Err(TransactionFailure::Unknown("the journal was used before; open it again".to_owned()));
        };
        let (options, partition, is_member) = (Arc::clone(&self.options), self.partition, self.membership.is_some());
        let reading = tokio::task::spawn_blocking(move || {
            hanging::repair(&options, &producer, &transactional_id(&options, partition), partition)?;
            let mut entries = read_entries(&options, partition)?;
            let position = if is_member { Some(find_position(&options, partition, &mut entries)?) } else { None };
            position::take_consumed(&options, partition, &mut entries).map_err(failure_of)?;
            Ok((producer, entries, position))
        });
        let read = reading.await.unwrap_or_else(|error| Err(TransactionFailure::Unknown(error.to_string())));
        let (producer, entries, position) = read?;
        (self.producer, self.position) = (Some(producer), position);
        Ok(entries)
    }

    /// Asks the polling thread for the records from `position` on, and waits for its answer.
    async fn start(&mut self, position: i64) -> Result<(), TransactionFailure> {
        let unknown = |problem: &str| Err(TransactionFailure::Unknown(problem.to_owned()));
        let (reading, started) = self.ownership.start(self.partition, position);
        self.reading = reading;
        match tokio::time::timeout(START_TIMEOUT, started).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(problem))) => unknown(&problem),
            Ok(Err(_)) => unknown("the partition was revoked meanwhile"),
            Err(_) => unknown("the consumer's thread does not answer"),
        }
    }

    /// Returns the journal's error for a failed transaction. If the outcome is unknown and this process still owns the
    /// partition, the partition is restarted.
    fn journal_error(&self, failure: TransactionFailure) -> JournalError {
        let Self { partition, ownership, .. } = self;
        let is_owner = self.membership.as_ref().is_some_and(|membership| ownership.is_current(*partition, membership));
        match failure {
            TransactionFailure::Broken(message) => {
                JournalError::Broken(format!("journal of partition {partition}: {message}"))
            }
            TransactionFailure::Stale(message) => JournalError::Fenced(format!("partition {partition}: {message}")),
            TransactionFailure::Fenced(message) if !is_owner => {
                JournalError::Fenced(format!("partition {partition}: {message}"))
            }
            TransactionFailure::Asks(message) => {
                ownership.restart(*partition, ASK_AGAIN);
                JournalError::Asks(message)
            }
            // The group says that this process owns the partition, so it was fenced by an earlier owner that does not know
            // of its revocation yet. In the opposite case the next heartbeat revokes the partition here.
            TransactionFailure::Fenced(message) | TransactionFailure::Unknown(message) => {
                ownership.restart(*partition, RESTART_DELAY);
                JournalError::Unknown(format!("journal of partition {partition}: {message}"))
            }
        }
    }
}

/// Returns a producer with the partition's transactional id. `init_transactions` fences the earlier producer with that id
/// and ends its open transaction.
async fn fence(options: Arc<Options>, partition: Partition) -> Result<Producer, TransactionFailure> {
    let opened = tokio::task::spawn_blocking(move || {
        let id = transactional_id(&options, partition);
        let config =
            options.transactional_producer(&id).map_err(|error| TransactionFailure::Broken(error.to_string()))?;
        let producer: Producer =
            config.create().map_err(|error| TransactionFailure::Broken(error::client(&error).to_string()))?;
        let deadline = Instant::now() + FENCE_TIMEOUT;
        transaction::retry(deadline, || producer.init_transactions(CALL_TIMEOUT))
            .map_err(|error| transaction::classify(&producer, &error))?;
        Ok(producer)
    });
    opened.await.unwrap_or_else(|error| Err(TransactionFailure::Unknown(error.to_string())))
}

#[async_trait]
impl Journal for KafkaJournal {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        let entries = self.read().await.map_err(|failure| self.journal_error(failure))?;
        if let Some(position) = self.position {
            self.start(position).await.map_err(|failure| self.journal_error(failure))?;
        }
        Ok(entries)
    }

    fn reading(&self) -> ReadingId {
        self.reading
    }

    async fn commit(&mut self, mut batch: Batch) -> Result<(), JournalError> {
        let (options, partition) = (Arc::clone(&self.options), self.partition);
        let membership = self.membership.clone();
        if membership.as_ref().is_some_and(|membership| !self.ownership.is_current(partition, membership)) {
            return Err(JournalError::Fenced(format!("partition {partition} was revoked")));
        }
        let name = self.names.next();
        let target = Target { options: &options, partition, membership: membership.as_deref(), name: &name };
        transaction::check(&batch, &target)?;
        if batch.is_empty() {
            return Ok(());
        }
        batch.next_offset = batch.next_offset.or(self.position);
        batch.puts.extend(batch.next_offset.map(position::entry));
        let Some(producer) = self.producer.take() else {
            return Err(JournalError::Unknown("an earlier commit failed; wait for the next assignment".to_owned()));
        };
        let options = Arc::clone(&self.options);
        let writing = tokio::task::spawn_blocking(move || {
            let target = Target { options: &options, partition, membership: membership.as_deref(), name: &name };
            // On an error the producer is dropped on this thread, because dropping it blocks.
            transaction::run(&producer, &batch, &target).map(|()| producer)
        });
        match writing.await {
            Ok(Ok(producer)) => (self.producer, self.position) = (Some(producer), None),
            Ok(Err(failure)) => return Err(self.journal_error(failure)),
            Err(error) => return Err(self.journal_error(TransactionFailure::Unknown(error.to_string()))),
        }
        Ok(())
    }

    fn rest(&mut self) {
        self.producer.as_ref().map(super::serve);
    }
}

impl Drop for KafkaJournal {
    /// Drops the producer on a thread for blocking work, because closing it waits for its own threads.
    fn drop(&mut self) {
        if let (Some(producer), Ok(runtime)) = (self.producer.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(producer));
        }
    }
}

/// Returns the transactional id of a partition's producer.
fn transactional_id(options: &Options, partition: Partition) -> String {
    format!("{}-{partition}", options.group)
}

/// Returns the failure of a read.
#[expect(clippy::wildcard_enum_match_arm, reason = "a hanging transaction alone needs a person")]
fn failure_of(error: KafkaClientError) -> TransactionFailure {
    match error {
        KafkaClientError::Hanging { .. } => TransactionFailure::Asks(error.to_string()),
        _ => TransactionFailure::Unknown(error.to_string()),
    }
}

/// Returns the position of a partition. Removes the adapter's own entries from `entries`.
fn find_position(
    options: &Options,
    partition: Partition,
    entries: &mut BTreeMap<String, Vec<u8>>,
) -> Result<i64, TransactionFailure> {
    let facts = position::read(options, partition, entries).map_err(failure_of)?;
    facts.check_cluster(options).map_err(|error| TransactionFailure::Broken(error.to_string()))?;
    facts.position().map_err(|problem| TransactionFailure::Asks(problem.sentence(options, partition)))
}

/// Returns the entries of a partition.
fn read_entries(options: &Options, partition: Partition) -> Result<Entries, TransactionFailure> {
    let (entries, unreadable) = last_values(options, partition).map_err(failure_of)?;
    match unreadable {
        None => Ok(entries),
        Some(offset) => Err(TransactionFailure::Broken(format!(
            "the record at offset {offset} has no key in UTF-8; stop the other program that writes to topic {}",
            options.journal_topic
        ))),
    }
}

/// The values by their keys.
type Entries = BTreeMap<String, Vec<u8>>;

/// Returns the last value of every key of the journal topic's partition, and the offset of the first record whose key is
/// no text.
pub(super) fn last_values(options: &Options, partition: Partition) -> Result<(Entries, Option<i64>), KafkaClientError> {
    let mut entries = Entries::new();
    let mut unreadable = None;
    read_to_end(options, &options.journal_topic, partition, OPEN_PATIENCE, |message| {
        match message.key().map(std::str::from_utf8) {
            Some(Ok(key)) => match message.payload() {
                Some(value) => drop(entries.insert(key.to_owned(), value.to_vec())),
                None => drop(entries.remove(key)),
            },
            _ => drop(unreadable.get_or_insert(message.offset())),
        }
    })?;
    Ok((entries, unreadable))
}
