//! The Kafka adapter: the intake of events, and the journal of production.
//!
//! Kafka is the daemon's database. These rules keep it consistent through crashes, rebalances and lost answers:
//!
//! * **Fencing.** Each partition's journal has a transactional id of its own (`<group>-<partition>`). Opening the journal
//!   fences the earlier producer with that id and ends its open transaction. The offsets are committed in the same
//!   transaction as the journal entries, with the group metadata of the generation that assigned the partition, so the
//!   broker refuses them from a member of an earlier generation even before a successor opens the journal.
//! * **Hanging transactions.** The broker can lose the end of a transaction. The next owner ends it ([`hanging`]).
//! * **Reading.** An assigned partition stays paused until its journal is restored, and is then read from the position in
//!   the journal ([`position`]). So no record is fetched before the predecessor's last transaction has ended, and the daemon
//!   never holds records that it can't handle yet.
//! * **Following.** The journals of the partitions that other processes own are read as well ([`tail`]), for showing only: by a
//!   client that is no member of the group.
//! * **Unknown outcomes.** After an error whose outcome is unknown, the producer is dropped, and the partition is assigned
//!   again ([`Wake::Assigned`]). The daemon then does the same as at a start.
//!
//! Blocking calls of librdkafka (all calls of a transaction) run on tokio's threads for blocking work and have deadlines.
//! The consumer is polled by a thread of its own that never waits for the daemon, except for a revocation. Producers have no
//! polling thread: they are polled while they send, and once a minute at rest for librdkafka's messages ([`serve`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use tokio::sync::mpsc;

use crate::ports::{Journal, JournalError, JournalFollower, Journals, Partition, Wake};

pub mod error;
pub mod options;
mod connections;
mod topics;
mod settings;
mod ownership;
mod queue;
mod intake;
mod reader;
mod unstable;
mod tail;
mod hanging;
mod lag;
mod members;
mod secrets;
pub mod position;
mod transaction;
mod letter;
mod dead_letters;
mod journal;
pub mod emitter;
mod outlet;

pub use dead_letters::KafkaDeadLetters;
pub use emitter::{Emitter, RecordPosition};
pub use error::KafkaClientError;
pub use intake::{KafkaIntake, Pulse};
pub use options::{Options, Protocol, Security};
pub use reader::read_decisions;
pub use tail::KafkaTail;

use ownership::Ownership;
use position::PositionFacts;
use topics::MissingJournal;

/// A Kafka cluster whose topics were checked.
#[derive(Clone)]
pub struct Kafka {
    options: Arc<Options>,
    /// The number of partitions of the events topic.
    partitions: i32,
    ownership: Arc<Ownership>,
}

impl Kafka {
    /// Connects to the brokers, creates the topics that are missing and checks the others.
    ///
    /// # Errors
    /// If an option is invalid, no broker answers, a topic can't be created, a topic has settings that would lose or mix up
    /// state, or the journal is missing and the group has read events.
    pub async fn connect(options: Options) -> Result<Kafka, KafkaClientError> {
        Kafka::connect_with(options, MissingJournal::Refuse).await
    }

    /// Does as [`Kafka::connect`], and also creates the journal topic of a group that has read events.
    ///
    /// # Errors
    /// Those of `connect`.
    pub async fn connect_without_journal(options: Options) -> Result<Kafka, KafkaClientError> {
        Kafka::connect_with(options, MissingJournal::Create).await
    }

    async fn connect_with(options: Options, missing: MissingJournal) -> Result<Kafka, KafkaClientError> {
        options.validate()?;
        let partitions = topics::ensure(&options, missing).await?;
        Ok(Kafka { options: Arc::new(options), partitions, ownership: Arc::default() })
    }

    /// Connects to the brokers whose topics exist. Creates and checks nothing.
    ///
    /// # Errors
    /// If an option is invalid, no broker answers, or the events or the journal topic is missing.
    pub async fn connect_without_creating(options: Options) -> Result<Kafka, KafkaClientError> {
        let missing = Kafka::inspect(&options).await?;
        if let Some(topic) = missing.into_iter().find(|name| [&options.topic, &options.journal_topic].contains(&name)) {
            return Err(KafkaClientError::Read { topic, problem: "it does not exist".to_owned() });
        }
        let partitions = topics::events_partitions(&options).await?;
        Ok(Kafka::with_topics(options, partitions))
    }

    /// Reads the journal entries of a partition and the facts about its position. The journal is not opened, so a running
    /// daemon goes on.
    ///
    /// # Errors
    /// The journal or the events topic can't be read.
    pub async fn look(
        &self,
        partition: Partition,
    ) -> Result<(BTreeMap<String, Vec<u8>>, PositionFacts), KafkaClientError> {
        let options = Arc::clone(&self.options);
        let looking = tokio::task::spawn_blocking(move || {
            let (mut entries, unreadable) = journal::last_values(&options, partition)?;
            if let Some(offset) = unreadable {
                tracing::warn!(partition, offset, "a record of the journal has no key in UTF-8");
            }
            let facts = position::read(&options, partition, &mut entries)?;
            Ok((entries, facts))
        });
        looking.await.unwrap_or_else(|error| Err(KafkaClientError::Client(error.to_string())))
    }

    /// Returns the options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the names of the topics that [`Kafka::connect`] would create. Creates nothing.
    ///
    /// # Errors
    /// Those of `connect`.
    pub async fn inspect(options: &Options) -> Result<Vec<String>, KafkaClientError> {
        options.validate()?;
        topics::inspect(options).await
    }

    /// Returns the number of members of the group; 0 if there is no such group.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn members(options: &Options) -> Result<usize, KafkaClientError> {
        let options = options.clone();
        let counting = tokio::task::spawn_blocking(move || members::count(&options));
        counting.await.unwrap_or_else(|error| Err(KafkaClientError::Client(error.to_string())))
    }

    /// Returns a cluster without checking its topics. For tests against clusters without an admin API.
    pub fn with_topics(options: Options, partitions: i32) -> Kafka {
        Kafka { options: Arc::new(options), partitions, ownership: Arc::default() }
    }

    /// Joins the consumer group. Assignments, records and revocations are sent to `wakes`. To be called once per process:
    /// the journals of this value are opened for this membership.
    ///
    /// # Errors
    /// If librdkafka refuses the configuration, or the polling thread can't be started.
    pub fn consume(&self, wakes: mpsc::Sender<Wake>) -> Result<KafkaIntake, KafkaClientError> {
        intake::start(&self.options, Arc::clone(&self.ownership), wakes)
    }

    /// Reads the journals of the partitions that this process does not own, until the result is dropped.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn follow(&self, follower: Box<dyn JournalFollower>) -> Result<KafkaTail, KafkaClientError> {
        tail::start(&self.options, self.partitions, Arc::clone(&self.ownership), follower)
    }

    /// Returns the records of the dead-letter topic.
    pub fn dead_letters(&self) -> KafkaDeadLetters {
        KafkaDeadLetters::new(Arc::clone(&self.options))
    }

    /// Returns a producer for the events topic.
    ///
    /// # Errors
    /// Those of [`Emitter::connect`].
    pub fn emitter(&self) -> Result<Emitter, KafkaClientError> {
        Emitter::connect(&self.options)
    }
}

/// Takes the events that wait in a producer: acknowledgements, errors, and librdkafka's messages, which are logged. Returns the
/// number of those that remain and of the records that are not acknowledged. Never blocks.
fn serve<C: ProducerContext>(producer: &BaseProducer<C>) -> i32 {
    loop {
        let waiting = producer.in_flight_count();
        if waiting == 0 {
            return 0;
        }
        // Takes one event at most.
        producer.poll(Duration::ZERO);
        let remaining = producer.in_flight_count();
        if remaining >= waiting {
            return remaining;
        }
    }
}

#[async_trait]
impl Journals for Kafka {
    fn partitions(&self) -> i32 {
        self.partitions
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        let opened = journal::KafkaJournal::open(&self.options, &self.ownership, partition).await?;
        Ok(Box::new(opened))
    }

    fn pace(&self, partition: Partition, is_paused: bool) {
        self.ownership.pace(partition, is_paused);
    }

    fn assign_again(&self, partition: Partition, delay: Duration) {
        self.ownership.restart(partition, delay);
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[tokio::test]
    async fn a_producer_without_a_broker_keeps_its_messages_until_it_is_served() {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1").create().unwrap();
        let messages = async {
            while producer.in_flight_count() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), messages).await.expect("the producer has no messages");
        assert_eq!(serve(&producer), 0);
    }
}
