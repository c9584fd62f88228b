//! Producing single events: what the HTTP intake and `bellwether emit` do. Idempotent, outside any transaction.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};

use super::error::{self, KafkaClientError};
use super::options::Options;
use super::transaction::headers;
use crate::ports::{EventRecord, Partition};

/// How long a broker may take to accept an event.
const PATIENCE: Duration = Duration::from_secs(15);

/// A producer for the events topic.
#[derive(Clone)]
pub struct Emitter {
    topic: String,
    producer: FutureProducer,
}

/// Where an event was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its partition.
    pub partition: Partition,
    /// Its position there.
    pub offset: i64,
}

impl Emitter {
    /// A producer for the events topic of `options`. Connects with the first event.
    pub fn connect(options: &Options) -> Result<Emitter, KafkaClientError> {
        options.validate()?;
        let mut config = options.producer()?;
        config.set("message.timeout.ms", PATIENCE.as_millis().to_string());
        let producer = config.create().map_err(|error| error::client(&error))?;
        Ok(Emitter { topic: options.topic.clone(), producer })
    }

    /// Writes `record` where its key belongs. `partition`, `offset` and `answer` of the record mean nothing here.
    pub async fn send(&self, record: &EventRecord) -> Result<Written, KafkaClientError> {
        let mut message: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.topic).headers(headers(&record.headers));
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        match self.producer.send(message, PATIENCE).await {
            Ok(delivery) => Ok(Written { partition: delivery.partition, offset: delivery.offset }),
            Err((error, _)) => Err(KafkaClientError::Send { topic: self.topic.clone(), problem: error.to_string() }),
        }
    }
}
