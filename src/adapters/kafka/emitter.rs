//! A producer of single events, for the HTTP intake and for `bellwether emit`. It is idempotent and uses no transaction.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use tokio::sync::oneshot;

use super::error::{self, KafkaClientError};
use super::options::Options;
use super::transaction::headers;
use crate::ports::{EventRecord, Partition};

/// The time for a broker to acknowledge an event.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// The time after which an event counts as not acknowledged although librdkafka has not given it up.
const GIVEN_UP: Duration = Duration::from_secs(20);
/// The time between two polls while an event is on its way.
const POLL_PAUSE: Duration = Duration::from_millis(1);

/// A producer for the events topic. It is polled while an event is on its way.
#[derive(Clone)]
pub struct Emitter {
    topic: String,
    producer: Arc<BaseProducer<Deliveries>>,
}

/// The position of a record in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPosition {
    /// The partition's number.
    pub partition: Partition,
    /// The offset within the partition.
    pub offset: i64,
}

/// The receiver of librdkafka's acknowledgements.
struct Deliveries;

/// The sender of one event's acknowledgement.
type Acknowledgement = oneshot::Sender<Result<RecordPosition, KafkaError>>;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Acknowledgement>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, acknowledge: Box<Acknowledgement>) {
        let result = match delivery {
            Ok(message) => Ok(RecordPosition { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        // The receiver is gone if the sender of the event no longer waits.
        let _ = acknowledge.send(result);
    }
}

impl Emitter {
    /// Returns a producer for the events topic of `options`. It connects at once, and waits for the brokers when an event is sent.
    ///
    /// # Errors
    /// If an option is invalid, a file with a secret can't be read, or librdkafka refuses the configuration.
    pub fn connect(options: &Options) -> Result<Emitter, KafkaClientError> {
        options.validate()?;
        let mut config = options.producer()?;
        config.set("message.timeout.ms", SEND_TIMEOUT.as_millis().to_string());
        let producer =
            BaseProducer::from_config_and_context(&config, Deliveries).map_err(|error| error::client(&error))?;
        Ok(Emitter { topic: options.topic.clone(), producer: Arc::new(producer) })
    }

    /// Writes the key, value and headers of `record` to the partition of its key. The record's other fields are ignored.
    ///
    /// # Errors
    /// [`KafkaClientError::Send`] if no broker acknowledges the record in 15 seconds.
    pub async fn send(&self, record: &EventRecord) -> Result<RecordPosition, KafkaClientError> {
        let failed = |problem: String| KafkaClientError::Send { topic: self.topic.clone(), problem };
        let sent = tokio::time::timeout(GIVEN_UP, async { self.acknowledged(self.enqueue(record).await?).await }).await;
        let sent = sent.unwrap_or(Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)));
        sent.map_err(|error| failed(error.to_string()))
    }

    /// Takes the events that wait in the producer while nothing is sent.
    pub fn rest(&self) {
        super::serve(&*self.producer);
    }

    /// Passes an event to the producer, and waits for room in its queue.
    async fn enqueue(
        &self,
        record: &EventRecord,
    ) -> Result<oneshot::Receiver<Result<RecordPosition, KafkaError>>, KafkaError> {
        loop {
            let (acknowledge, acknowledged) = oneshot::channel();
            let mut message: BaseRecord<'_, [u8], [u8], _> =
                BaseRecord::with_opaque_to(&self.topic, Box::new(acknowledge)).headers(headers(&record.headers));
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            match self.producer.send(message).map_err(|(error, _)| error) {
                Ok(()) => return Ok(acknowledged),
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => self.pause().await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Polls until the broker has acknowledged an event or librdkafka has given it up.
    async fn acknowledged(
        &self,
        mut acknowledged: oneshot::Receiver<Result<RecordPosition, KafkaError>>,
    ) -> Result<RecordPosition, KafkaError> {
        loop {
            self.pause().await;
            match acknowledged.try_recv() {
                Ok(result) => return result,
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => return Err(KafkaError::Canceled),
            }
        }
    }

    async fn pause(&self) {
        tokio::time::sleep(POLL_PAUSE).await;
        super::serve(&*self.producer);
    }
}
