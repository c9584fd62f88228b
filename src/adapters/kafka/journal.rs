//! The journal of one partition: a transactional producer, and the partition of the journal topic that it restores from.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls, on threads of their own; no decision sees them"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::message::Message;
use rdkafka::producer::Producer as _;

use super::options::Options;
use super::ownership::{Ownership, Standing};
use super::reader::read_to_end;
use super::transaction::{self, Failure, Producer, Target};
use crate::ports::{Batch, Journal, JournalError, Partition};

/// How long fencing the predecessor may take: it may have left a transaction that the broker has to end.
const OPENING: Duration = Duration::from_secs(30);
/// How long one call may block before the deadline is looked at again.
const CALL: Duration = Duration::from_secs(10);
/// How long the polling thread may take to let records flow.
const STARTING: Duration = Duration::from_secs(15);

/// An open journal.
pub(super) struct KafkaJournal {
    options: Arc<Options>,
    ownership: Arc<Ownership>,
    partition: Partition,
    /// The generation in which it was opened; `None`: nobody in this process is a member.
    membership: Option<Arc<ConsumerGroupMetadata>>,
    /// Gone after the first error.
    producer: Option<Producer>,
}

impl KafkaJournal {
    /// Fences whoever had the partition, and lets its records flow.
    pub(super) async fn open(
        options: &Arc<Options>,
        ownership: &Arc<Ownership>,
        partition: Partition,
    ) -> Result<KafkaJournal, JournalError> {
        let membership = match ownership.standing(partition) {
            Standing::Free => None,
            Standing::Owner(membership) => Some(membership),
            Standing::Stranger => {
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
        journal.producer = Some(fenced.map_err(|failure| journal.judge(failure))?);
        if journal.membership.is_some() {
            let started = journal.start().await;
            started.map_err(|problem| journal.judge(Failure::Unknown(problem)))?;
        }
        Ok(journal)
    }

    /// Asks the polling thread for the partition's records.
    async fn start(&self) -> Result<(), String> {
        match tokio::time::timeout(STARTING, self.ownership.start(self.partition)).await {
            Ok(Ok(started)) => started,
            Ok(Err(_)) => Err("the partition was taken back meanwhile".to_owned()),
            Err(_) => Err("the consumer's thread does not answer".to_owned()),
        }
    }

    /// What a failure means here. Whatever is in doubt while the partition is ours is begun again.
    fn judge(&self, failure: Failure) -> JournalError {
        let Self { partition, ownership, .. } = self;
        let ours = self.membership.as_ref().is_some_and(|membership| ownership.is_current(*partition, membership));
        match failure {
            Failure::Broken(said) => JournalError::Broken(format!("journal of partition {partition}: {said}")),
            Failure::Stale(said) => JournalError::Fenced(format!("partition {partition}: {said}")),
            Failure::Fenced(said) if !ours => JournalError::Fenced(format!("partition {partition}: {said}")),
            // The group says that it is ours, so whoever fenced us is a zombie that has not noticed yet. If it is the
            // other way round, the next heartbeat takes the partition away from us and ends the quarrel.
            Failure::Fenced(said) | Failure::Unknown(said) => {
                ownership.in_doubt(*partition);
                JournalError::Unknown(format!("journal of partition {partition}: {said}"))
            }
        }
    }
}

/// A producer with the partition's transactional id, after `init_transactions`.
async fn fence(options: Arc<Options>, partition: Partition) -> Result<Producer, Failure> {
    let opened = tokio::task::spawn_blocking(move || {
        let id = format!("{}-{partition}", options.group);
        let config = options.transactional_producer(&id).map_err(|error| Failure::Broken(error.to_string()))?;
        let producer: Producer =
            config.create().map_err(|error| Failure::Broken(super::error::client(&error).to_string()))?;
        let deadline = Instant::now() + OPENING;
        transaction::patiently(deadline, || producer.init_transactions(CALL))
            .map_err(|error| transaction::classify(&error))?;
        Ok(producer)
    });
    opened.await.unwrap_or_else(|error| Err(Failure::Unknown(error.to_string())))
}

#[async_trait]
impl Journal for KafkaJournal {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        let (options, partition) = (Arc::clone(&self.options), self.partition);
        let reading = tokio::task::spawn_blocking(move || read_entries(&options, partition));
        match reading.await {
            Ok(Ok(entries)) => Ok(entries),
            Ok(Err(failure)) => Err(self.judge(failure)),
            Err(error) => Err(self.judge(Failure::Unknown(error.to_string()))),
        }
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        let (options, partition) = (Arc::clone(&self.options), self.partition);
        let membership = self.membership.clone();
        if membership.as_ref().is_some_and(|membership| !self.ownership.is_current(partition, membership)) {
            return Err(JournalError::Fenced(format!("partition {partition} was taken back")));
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
            // On an error the producer is dropped here, where it may block.
            transaction::run(&producer, &batch, &target).map(|()| producer)
        });
        match writing.await {
            Ok(Ok(producer)) => self.producer = Some(producer),
            Ok(Err(failure)) => return Err(self.judge(failure)),
            Err(error) => return Err(self.judge(Failure::Unknown(error.to_string()))),
        }
        Ok(())
    }
}

impl Drop for KafkaJournal {
    /// Closing a producer waits for its threads, which the caller's runtime should not.
    fn drop(&mut self) {
        if let (Some(producer), Ok(runtime)) = (self.producer.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(producer));
        }
    }
}

/// The last value of every key.
fn read_entries(options: &Options, partition: Partition) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut entries = BTreeMap::new();
    let mut unreadable = None;
    read_to_end(options, &options.journal_topic, partition, |message| match message.key().map(std::str::from_utf8) {
        Some(Ok(key)) => match message.payload() {
            Some(value) => drop(entries.insert(key.to_owned(), value.to_vec())),
            None => drop(entries.remove(key)),
        },
        _ => drop(unreadable.get_or_insert(message.offset())),
    })
    .map_err(|error| Failure::Unknown(error.to_string()))?;
    match unreadable {
        None => Ok(entries),
        Some(offset) => Err(Failure::Broken(format!(
            "the record at offset {offset} has no readable key; somebody else writes to {}",
            options.journal_topic
        ))),
    }
}
