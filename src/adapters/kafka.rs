//! Kafka: events in, and the journal. Kafka is the daemon's database, so what matters here is what is true after
//! something has gone wrong.
//!
//! * **Who may write.** Each partition's journal has a transactional id of its own (`<group>-<partition>`), so opening it
//!   fences whoever had it before, and ends what they left open. Offsets travel in the same transaction, with the
//!   group's metadata *of the generation that assigned the partition*; a member that the group has moved on from is
//!   refused by the broker even before anybody else opens.
//! * **What is read when.** An assigned partition stays paused until its journal is open. So nothing is fetched before
//!   the predecessor's last transaction is known to be over, and a daemon never holds records that it can't handle yet.
//! * **When in doubt, start over.** After any error whose outcome is not known, the producer is dropped and the partition
//!   is wound back to its committed offset and assigned again ([`Wake::Assigned`]). Doubt has one way out, and it is the
//!   one that every start takes.
//!
//! Blocking calls of librdkafka (all of its transactions) run on threads for blocking work, with deadlines. The consumer
//! is polled by a thread of its own that waits for nobody.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::ports::{Journal, JournalError, Journals, Partition, Wake};

pub mod options;
pub mod error;
mod topics;
mod ownership;
mod intake;
mod reader;
mod transaction;
mod journal;
pub mod emitter;

pub use emitter::Emitter;
pub use error::KafkaClientError;
pub use intake::{KafkaIntake, Pulse};
pub use options::{Options, Protocol, Security};
pub use reader::read_decisions;

use ownership::Ownership;

/// A Kafka cluster whose topics are as they must be.
#[derive(Clone)]
pub struct Kafka {
    options: Arc<Options>,
    partitions: i32,
    ownership: Arc<Ownership>,
}

impl Kafka {
    /// Connects, creates the topics that are missing, and refuses those that are not as they must be.
    pub async fn connect(options: Options) -> Result<Kafka, KafkaClientError> {
        options.validate()?;
        let partitions = topics::ensure(&options).await?;
        Ok(Kafka { options: Arc::new(options), partitions, ownership: Arc::default() })
    }

    /// What [`Kafka::connect`] would find: the topics that it would have to create. Creates nothing itself.
    ///
    /// # Errors
    /// As those of `connect`.
    pub async fn inspect(options: &Options) -> Result<Vec<String>, KafkaClientError> {
        options.validate()?;
        topics::inspect(options).await
    }

    /// A cluster whose topics somebody else vouches for, for tests against clusters without an admin API.
    pub fn with_topics(options: Options, partitions: i32) -> Kafka {
        Kafka { options: Arc::new(options), partitions, ownership: Arc::default() }
    }

    /// Joins the consumer group. Assignments, records and revocations arrive on `wakes`. Once per process: the journals
    /// of this value follow this membership.
    pub fn consume(&self, wakes: mpsc::Sender<Wake>) -> Result<KafkaIntake, KafkaClientError> {
        intake::start(&self.options, Arc::clone(&self.ownership), wakes)
    }

    /// A producer for the events topic.
    pub fn emitter(&self) -> Result<Emitter, KafkaClientError> {
        Emitter::connect(&self.options)
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
}
