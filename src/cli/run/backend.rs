//! The journal of the configured kind, with the two intakes of its events: those of the events topic, and those that are
//! posted over HTTP.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use bellwether_core::ids::Scope;
use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};

use super::{QUEUE_CAPACITY, starting};
use crate::adapters::kafka::{Emitter, Kafka, KafkaIntake, KafkaTail, Pulse};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::events::decode::{DecodeOptions, Decoded, decode};
use crate::http::Conditions;
use crate::journal::JournalKind;
use crate::journal::embedded::Embedded;
use crate::ports::{DeadLetters, Delivery, EventRecord, JournalFollower, Journals, Receipt, Wake};
use crate::supervise::Tasks;

/// The time without a posted event after which the producer of posted events does its work at rest.
const REST: Duration = Duration::from_secs(60);

/// The journal of the configured kind.
pub(super) struct Backend {
    kind: Kind,
    http: mpsc::Sender<Delivery>,
}

enum Kind {
    Kafka { kafka: Kafka, intake: KafkaIntake, tail: Option<KafkaTail> },
    Embedded(Embedded),
}

impl Backend {
    /// Opens the journal and starts both intakes, of which the one of posted events is among `tasks`. Waits for Kafka while it is
    /// unavailable, and says so in `conditions`.
    ///
    /// # Errors
    /// Kafka's topics have wrong settings, or the embedded journal can't be opened.
    pub(super) async fn open(
        config: &Config,
        wakes: mpsc::Sender<Wake>,
        decoding: &Arc<DecodeOptions>,
        tasks: &mut Tasks,
        conditions: &watch::Sender<Conditions>,
    ) -> anyhow::Result<Backend> {
        let (http, posted) = mpsc::channel(QUEUE_CAPACITY);
        let kind = match config.journal.kind {
            JournalKind::Kafka => {
                let kafka = starting::connect(&config.kafka, conditions).await?;
                let intake = kafka.consume(wakes)?;
                tasks.vital("posted-events", produce(posted, kafka.emitter()?, Arc::clone(decoding)).map(Ok));
                Kind::Kafka { kafka, intake, tail: None }
            }
            JournalKind::Embedded => {
                let journal = Embedded::with_options(&config.journal)?;
                let intake = journal.intake(wakes).await;
                tasks.vital("posted-events", Arc::new(intake).serve(posted).map(Ok));
                Kind::Embedded(journal)
            }
        };
        Ok(Backend { kind, http })
    }

    pub(super) fn journals(&self) -> Arc<dyn Journals> {
        match &self.kind {
            Kind::Kafka { kafka, .. } => Arc::new(kafka.clone()),
            Kind::Embedded(journal) => Arc::new(journal.clone()),
        }
    }

    /// Follows the journals of the partitions that other processes own. The embedded journal belongs to one process.
    ///
    /// # Errors
    /// The thread that reads them can't be started.
    pub(super) fn follow(&mut self, follower: impl JournalFollower + 'static) -> anyhow::Result<()> {
        if let Kind::Kafka { kafka, tail, .. } = &mut self.kind {
            *tail = Some(kafka.follow(Box::new(follower))?);
        }
        Ok(())
    }

    /// Returns the queue of posted events.
    pub(super) fn http_intake(&self) -> mpsc::Sender<Delivery> {
        self.http.clone()
    }

    /// Returns the store of dead letters.
    pub(super) fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        match &self.kind {
            Kind::Kafka { kafka, .. } => Arc::new(kafka.dead_letters()),
            Kind::Embedded(journal) => Arc::new(journal.clone()),
        }
    }

    /// Returns the pulse of the Kafka consumer; `None` with the embedded journal.
    pub(super) fn pulse(&self) -> Option<Arc<Pulse>> {
        match &self.kind {
            Kind::Kafka { intake, .. } => Some(intake.pulse()),
            Kind::Embedded(_) => None,
        }
    }

    /// Returns the embedded journal; `None` with Kafka.
    pub(super) fn embedded(&self) -> Option<Embedded> {
        match &self.kind {
            Kind::Kafka { .. } => None,
            Kind::Embedded(journal) => Some(journal.clone()),
        }
    }

    /// Waits until the intake of events ends, and returns the reason. With the embedded journal it never ends.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match &mut self.kind {
            Kind::Kafka { intake, .. } => match intake.ended().await {
                Ok(()) => anyhow!("the Kafka consumer has ended"),
                Err(error) => error.into(),
            },
            Kind::Embedded(_) => std::future::pending().await,
        }
    }

    /// Leaves the consumer group, so that another process takes the partitions over without waiting.
    pub(super) async fn stop(self) {
        if let Kind::Kafka { intake, .. } = self.kind
            && let Err(error) = intake.stop().await
        {
            tracing::warn!(%error, "the Kafka consumer could not leave its group; the broker removes it after its session timeout");
        }
    }
}

/// Produces posted events to the events topic, so that they are ordered and journaled like all others. An event is decoded
/// here for its key, and so that its sender is told at once of one that can't be.
async fn produce(mut posted: mpsc::Receiver<Delivery>, emitter: Emitter, decoding: Arc<DecodeOptions>) {
    loop {
        let Delivery { record, reply, .. } = match tokio::time::timeout(REST, posted.recv()).await {
            Ok(Some(delivery)) => delivery,
            Ok(None) => return,
            Err(_) => {
                emitter.rest();
                continue;
            }
        };
        let decoded = decode(&decoding.access.open(&record).0, &decoding, SystemClock.now());
        let receipt = match decoded {
            Decoded::Event { scope, .. } => send(&emitter, record, &scope).await,
            Decoded::Ignored(reason) => Some(Receipt::Ignored(reason.to_string())),
            Decoded::Dead(error) => Some(Receipt::Dead(error.to_string())),
        };
        // Sending fails only if the handler no longer waits, because its client has disconnected.
        let _ = reply.zip(receipt).map(|(reply, receipt)| reply.send(receipt));
    }
}

/// Produces one event. Returns its place; `None` if it is unknown whether the event was written.
async fn send(emitter: &Emitter, record: EventRecord, scope: &Scope) -> Option<Receipt> {
    let keyed = EventRecord { key: Some(scope.to_string().into_bytes()), ..record };
    match emitter.send(&keyed).await {
        Ok(written) => Some(Receipt::Decided(format!("on partition {}, offset {}", written.partition, written.offset))),
        Err(error) => {
            tracing::warn!(%error, %scope, "posted event not produced to Kafka; the sender has to post it again");
            None
        }
    }
}
