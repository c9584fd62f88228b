//! The clients that read partitions, and the reason why they reach no broker.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use super::error::{self, KafkaClientError};

/// The errors of connections that are read at most; librdkafka makes one for each attempt.
const MOST_ERRORS: usize = 100;
/// The time without a further error after which the last one is read. (A poll that does not wait may return before the first: it
/// takes one message of librdkafka at most, and most are no errors.)
const LAST_ERROR: Duration = Duration::from_millis(50);

/// The last error of a client's connections. A call of librdkafka fails with a timeout; the reason, such as a wrong password or an
/// unknown authority, is told to the context alone.
#[derive(Default)]
pub(super) struct ConnectionErrors(Mutex<Option<String>>);

impl ClientContext for ConnectionErrors {
    fn error(&self, error: KafkaError, reason: &str) {
        // It follows the errors of the single brokers.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for ConnectionErrors {}

/// A client that reads partitions and is no member of the group.
pub(super) type ReadingClient = BaseConsumer<ConnectionErrors>;

/// Creates a client that reads.
///
/// # Errors
/// librdkafka refuses the configuration.
pub(super) fn connect(config: &ClientConfig) -> Result<ReadingClient, KafkaClientError> {
    config.create_with_context(ConnectionErrors::default()).map_err(|error| error::client(&error))
}

/// Returns the reason that the connections of a client have told since the last call; `None` if there is none.
pub(super) fn cause(consumer: &ReadingClient) -> Option<String> {
    for _ in 0..MOST_ERRORS {
        if consumer.poll(LAST_ERROR).is_none() {
            break;
        }
    }
    consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner).take()
}
