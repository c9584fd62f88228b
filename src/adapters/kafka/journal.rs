//! The journal of one partition: a transactional producer, and a reader that restores the entries from the journal topic.
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

use super::error;
use super::options::Options;
use super::ownership::{Ownership, Standing, StartFailure};
use super::reader::read_to_end;
use super::transaction::{self, Producer, Target, TransactionFailure};
use crate::ports::{Batch, Journal, JournalError, Partition};

/// The time to fence the predecessor. The broker may have to end a transaction that it left open.
const FENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time that one call blocks. Between calls the deadline is checked.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for the polling thread to resume the partition.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// The open journal of a partition.
pub(super) struct KafkaJournal {
    options: Arc<Options>,
    ownership: Arc<Ownership>,
    partition: Partition,
    /// The group's metadata at the time of opening; `None` if this process is no member of the group.
    membership: Option<Arc<ConsumerGroupMetadata>>,
    /// The transactional producer; `None` after the first failed commit, since a producer is not used again after an error.
    producer: Option<Producer>,
}

impl KafkaJournal {
    /// Opens the journal: fences the partition's earlier producer and resumes the partition's records.
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
        };
        let fenced = fence(Arc::clone(options), partition).await;
        journal.producer = Some(fenced.map_err(|failure| journal.journal_error(failure))?);
        if journal.membership.is_some() {
            journal.start().await.map_err(|failure| journal.journal_error(failure))?;
        }
        Ok(journal)
    }

    /// Asks the polling thread to resume the partition, and waits for its answer.
    async fn start(&self) -> Result<(), TransactionFailure> {
        let unknown = |problem: &str| Err(TransactionFailure::Unknown(problem.to_owned()));
        match tokio::time::timeout(START_TIMEOUT, self.ownership.start(self.partition)).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(StartFailure::Foreign(problem)))) => Err(TransactionFailure::Broken(problem)),
            Ok(Ok(Err(StartFailure::Unknown(problem)))) => unknown(&problem),
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
            // The group says that this process owns the partition, so it was fenced by an earlier owner that does not know
            // of its revocation yet. In the opposite case the next heartbeat revokes the partition here.
            TransactionFailure::Fenced(message) | TransactionFailure::Unknown(message) => {
                ownership.restart(*partition);
                JournalError::Unknown(format!("journal of partition {partition}: {message}"))
            }
        }
    }
}

/// Returns a producer with the partition's transactional id. `init_transactions` fences the earlier producer with that id
/// and ends its open transaction.
async fn fence(options: Arc<Options>, partition: Partition) -> Result<Producer, TransactionFailure> {
    let opened = tokio::task::spawn_blocking(move || {
        let id = format!("{}-{partition}", options.group);
        let config =
            options.transactional_producer(&id).map_err(|error| TransactionFailure::Broken(error.to_string()))?;
        let producer: Producer =
            config.create().map_err(|error| TransactionFailure::Broken(error::client(&error).to_string()))?;
        let deadline = Instant::now() + FENCE_TIMEOUT;
        transaction::retry(deadline, || producer.init_transactions(CALL_TIMEOUT))
            .map_err(|error| transaction::classify(&error))?;
        Ok(producer)
    });
    opened.await.unwrap_or_else(|error| Err(TransactionFailure::Unknown(error.to_string())))
}

#[async_trait]
impl Journal for KafkaJournal {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        let (options, partition) = (Arc::clone(&self.options), self.partition);
        let reading = tokio::task::spawn_blocking(move || read_entries(&options, partition));
        match reading.await {
            Ok(Ok(entries)) => Ok(entries),
            Ok(Err(failure)) => Err(self.journal_error(failure)),
            Err(error) => Err(self.journal_error(TransactionFailure::Unknown(error.to_string()))),
        }
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        let (options, partition) = (Arc::clone(&self.options), self.partition);
        let membership = self.membership.clone();
        if membership.as_ref().is_some_and(|membership| !self.ownership.is_current(partition, membership)) {
            return Err(JournalError::Fenced(format!("partition {partition} was revoked")));
        }
        let target = Target { options: &options, partition, membership: membership.as_deref() };
        transaction::check(&batch, &target)?;
        if batch.is_empty() {
            return Ok(());
        }
        let Some(producer) = self.producer.take() else {
            return Err(JournalError::Unknown("an earlier commit failed; wait for the next assignment".to_owned()));
        };
        let options = Arc::clone(&self.options);
        let writing = tokio::task::spawn_blocking(move || {
            let target = Target { options: &options, partition, membership: membership.as_deref() };
            // On an error the producer is dropped on this thread, because dropping it blocks.
            transaction::run(&producer, &batch, &target).map(|()| producer)
        });
        match writing.await {
            Ok(Ok(producer)) => self.producer = Some(producer),
            Ok(Err(failure)) => return Err(self.journal_error(failure)),
            Err(error) => return Err(self.journal_error(TransactionFailure::Unknown(error.to_string()))),
        }
        Ok(())
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

/// Returns the last value of every key of the journal topic's partition.
fn read_entries(options: &Options, partition: Partition) -> Result<BTreeMap<String, Vec<u8>>, TransactionFailure> {
    let mut entries = BTreeMap::new();
    let mut unreadable = None;
    read_to_end(options, &options.journal_topic, partition, |message| match message.key().map(std::str::from_utf8) {
        Some(Ok(key)) => match message.payload() {
            Some(value) => drop(entries.insert(key.to_owned(), value.to_vec())),
            None => drop(entries.remove(key)),
        },
        _ => drop(unreadable.get_or_insert(message.offset())),
    })
    .map_err(|error| TransactionFailure::Unknown(error.to_string()))?;
    match unreadable {
        None => Ok(entries),
        Some(offset) => Err(TransactionFailure::Broken(format!(
            "the record at offset {offset} has no key in UTF-8; stop the other program that writes to topic {}",
            options.journal_topic
        ))),
    }
}
