//! The reason why no broker is reached.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::error::KafkaClientError;

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

/// Gives the error of an unreachable broker the reason that its connections have told.
pub(super) fn with_cause(error: KafkaClientError, consumer: &BaseConsumer<ConnectionErrors>) -> KafkaClientError {
    let KafkaClientError::Unreachable { brokers, problem } = error else { return error };
    for _ in 0..MOST_ERRORS {
        if consumer.poll(LAST_ERROR).is_none() {
            break;
        }
    }
    let cause = consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner).take();
    KafkaClientError::Unreachable { brokers, problem: cause.unwrap_or(problem) }
}
