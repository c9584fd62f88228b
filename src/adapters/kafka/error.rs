//! The errors of options, connections and topics. Each names the setting or topic and the remedy. The errors of an open
//! journal are `JournalError`s.

use std::path::PathBuf;

use rdkafka::error::KafkaError;

/// An error of a Kafka client outside a journal.
#[derive(Debug, thiserror::Error)]
pub enum KafkaClientError {
    /// A librdkafka property that the user must not set.
    #[error("kafka.properties.\"{name}\" can't be set: {reason}")]
    Property {
        /// The property's name.
        name: String,
        /// The reason and the remedy.
        reason: &'static str,
    },
    /// A setting with an invalid value.
    #[error("kafka.{setting} is {value}; {remedy}")]
    Setting {
        /// The key within `[kafka]`.
        setting: &'static str,
        /// The value.
        value: String,
        /// The valid values.
        remedy: &'static str,
    },
    /// A file with a secret that can't be read.
    #[error("kafka.{setting}: {path} can't be read: {source}", path = path.display())]
    Secret {
        /// The key within `[kafka]` that names the file.
        setting: String,
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file with a password that has several lines.
    #[error("kafka.{setting}: {path} has a line break within the secret; write the secret alone into it, in one line", path = path.display())]
    Lines {
        /// The key within `[kafka]` that names the file.
        setting: String,
        /// The path of the file.
        path: PathBuf,
    },
    /// A configuration that librdkafka refuses.
    #[error("librdkafka refuses the configuration: {0}")]
    Client(String),
    /// No broker answers.
    #[error("no broker of kafka.brokers = {brokers:?} answers: {problem}")]
    Unreachable {
        /// The value of `kafka.brokers`.
        brokers: String,
        /// The message of librdkafka.
        problem: String,
    },
    /// A topic whose settings would lose or mix up state.
    #[error("topic {topic} has {setting} = {value}; {remedy}")]
    Topic {
        /// The topic's name.
        topic: String,
        /// The name of the topic's setting.
        setting: String,
        /// The setting's value.
        value: String,
        /// The valid value, and the way to set it.
        remedy: String,
    },
    /// A missing topic that can't be created.
    #[error("topic {topic} is missing and can't be created: {problem}; {remedy}")]
    Create {
        /// The topic's name.
        topic: String,
        /// The broker's message.
        problem: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// A journal topic that is missing although the group has read events.
    #[error(
        "journal topic {topic} is missing, and group {group} has read {events}: it was deleted or renamed; restore it, set \
         kafka.journal-topic to its name, or run `bellwether journal init` to begin with an empty one, which knows none of the \
         rollouts"
    )]
    MissingJournal {
        /// The journal topic's name.
        topic: String,
        /// The consumer group.
        group: String,
        /// The events topic.
        events: String,
    },
    /// A consumer group that another cluster's daemon uses.
    #[error(
        "group {group} belongs to cluster {other}, and this daemon acts in cluster {own}; give each cluster its own kafka.group"
    )]
    ForeignGroup {
        /// The consumer group.
        group: String,
        /// The cluster whose daemon has committed its offsets.
        other: String,
        /// The cluster of this daemon.
        own: String,
    },
    /// A topic that can't be read.
    #[error("topic {topic} can't be read: {problem}")]
    Read {
        /// The topic's name; with its partition, as in `events[3]`, if one was read.
        topic: String,
        /// The message of librdkafka, or the problem that the reader found.
        problem: String,
    },
    /// A partition with a transaction that does not end, so that its committed records can't be read.
    #[error("{topic} has a transaction that is open since offset {offset}; {remedy}")]
    Hanging {
        /// The topic's name with the partition, as in `events[3]`.
        topic: String,
        /// The offset of the transaction's first record.
        offset: i64,
        /// The remedy, with its command.
        remedy: String,
    },
    /// An event that was not acknowledged. It may be sent again: an event is identified by its source and id.
    #[error("the event was not written to topic {topic}: {problem}")]
    Send {
        /// The topic's name.
        topic: String,
        /// The message of librdkafka.
        problem: String,
    },
    /// The consumer ended with an error.
    #[error("the consumer has ended: {0}")]
    Consumer(String),
}

impl KafkaClientError {
    /// Returns whether time alone may cure the error: the brokers are away, or do not know a topic yet.
    pub fn is_temporary(&self) -> bool {
        match self {
            KafkaClientError::Unreachable { .. } | KafkaClientError::Read { .. } => true,
            KafkaClientError::Property { .. }
            | KafkaClientError::Setting { .. }
            | KafkaClientError::Secret { .. }
            | KafkaClientError::Lines { .. }
            | KafkaClientError::Client(_)
            | KafkaClientError::Topic { .. }
            | KafkaClientError::Create { .. }
            | KafkaClientError::MissingJournal { .. }
            | KafkaClientError::ForeignGroup { .. }
            | KafkaClientError::Hanging { .. }
            | KafkaClientError::Send { .. }
            | KafkaClientError::Consumer(_) => false,
        }
    }
}

/// Returns the error for a client that could not be created. The text of librdkafka is left out where it may contain the
/// value of a property, which may be a secret.
#[expect(clippy::wildcard_enum_match_arm, reason = "the text of all other errors of librdkafka is used as it is")]
pub(super) fn client(error: &KafkaError) -> KafkaClientError {
    KafkaClientError::Client(match error {
        KafkaError::ClientConfig(_, problem, name, _) if problem.contains(name) => problem.clone(),
        KafkaError::ClientConfig(_, _, name, _) => format!("property {name} has a value that it does not take"),
        other => other.to_string(),
    })
}
