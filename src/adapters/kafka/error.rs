//! What can go wrong before anything is decided: settings, connections, topics. Each names the setting and the remedy.
//! What goes wrong with a journal is a `JournalError`.

use std::path::PathBuf;

use rdkafka::error::KafkaError;

/// Why Kafka can't be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum KafkaClientError {
    /// A property that would break what the daemon relies on.
    #[error("kafka.properties.\"{name}\" can't be set: {reason}")]
    Property {
        /// Which.
        name: String,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// A setting that makes no sense.
    #[error("kafka.{setting} is {value}; {remedy}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        remedy: &'static str,
    },
    /// A file with a secret.
    #[error("kafka.{setting}: {path} can't be read: {source}", path = path.display())]
    Secret {
        /// Which setting names the file.
        setting: String,
        /// Which file.
        path: PathBuf,
        /// Why it can't be read.
        source: std::io::Error,
    },
    /// librdkafka refuses the configuration.
    #[error("librdkafka refuses the configuration: {0}")]
    Client(String),
    /// Nobody answers.
    #[error("no broker of kafka.brokers = {brokers:?} answers: {problem}")]
    Unreachable {
        /// Which brokers.
        brokers: String,
        /// What librdkafka says.
        problem: String,
    },
    /// A topic whose settings would lose or mix up state.
    #[error("topic {topic} has {setting} = {value}; {remedy}")]
    Topic {
        /// Which.
        topic: String,
        /// Which of its settings.
        setting: String,
        /// Its value.
        value: String,
        /// What it must be, and how to get there.
        remedy: String,
    },
    /// A topic that is missing and can't be created.
    #[error("topic {topic} is missing and can't be created: {problem}; {remedy}")]
    Create {
        /// Which.
        topic: String,
        /// What the broker says.
        problem: String,
        /// What a person can do.
        remedy: &'static str,
    },
    /// A topic that can't be read.
    #[error("topic {topic} can't be read: {problem}")]
    Read {
        /// Which.
        topic: String,
        /// What librdkafka says.
        problem: String,
    },
    /// An event that was not produced. Sending it again is harmless: it is the same event by its source and id.
    #[error("the event was not written to topic {topic}: {problem}")]
    Send {
        /// To which topic.
        topic: String,
        /// What librdkafka says.
        problem: String,
    },
    /// The consumer can't go on.
    #[error("the consumer has ended: {0}")]
    Consumer(String),
}

/// A client that could not be created. librdkafka's own words hold the value, which may be a secret: left out.
#[expect(clippy::wildcard_enum_match_arm, reason = "librdkafka has many errors, and most speak for themselves")]
pub(super) fn client(error: &KafkaError) -> KafkaClientError {
    KafkaClientError::Client(match error {
        KafkaError::ClientConfig(_, problem, name, _) if problem.contains(name) => problem.clone(),
        KafkaError::ClientConfig(_, _, name, _) => format!("property {name} has a value that it does not take"),
        other => other.to_string(),
    })
}
