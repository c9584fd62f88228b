//! A producer of single events, for the HTTP intake and for `bellwether emit`. It is idempotent and uses no transaction.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};

use super::error::{self, KafkaClientError};
use super::options::Options;
use super::transaction::headers;
use crate::ports::{EventRecord, Partition};

/// The time for a broker to acknowledge an event.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// A producer for the events topic.
#[derive(Clone)]
pub struct Emitter {
    topic: String,
    producer: FutureProducer,
}

/// The position of a record in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPosition {
    /// The partition's number.
    pub partition: Partition,
    /// The offset within the partition.
    pub offset: i64,
}

impl Emitter {
    /// Returns a producer for the events topic of `options`. It connects when the first event is sent.
    ///
    /// # Errors
    /// If an option is invalid, a file with a secret can't be read, or librdkafka refuses the configuration.
    pub fn connect(options: &Options) -> Result<Emitter, KafkaClientError> {
        options.validate()?;
        let mut config = options.producer()?;
        config.set("message.timeout.ms", SEND_TIMEOUT.as_millis().to_string());
        let producer = config.create().map_err(|error| error::client(&error))?;
        Ok(Emitter { topic: options.topic.clone(), producer })
    }

    /// Writes the key, value and headers of `record` to the partition of its key. The record's other fields are ignored.
    ///
    /// # Errors
    /// [`KafkaClientError::Send`] if no broker acknowledges the record in 15 seconds.
    pub async fn send(&self, record: &EventRecord) -> Result<RecordPosition, KafkaClientError> {
        let mut message: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.topic).headers(headers(&record.headers));
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        match self.producer.send(message, SEND_TIMEOUT).await {
            Ok(delivery) => Ok(RecordPosition { partition: delivery.partition, offset: delivery.offset }),
            Err((error, _)) => Err(KafkaClientError::Send { topic: self.topic.clone(), problem: error.to_string() }),
        }
    }
}
