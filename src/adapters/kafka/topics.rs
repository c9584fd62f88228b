//! The four topics. A missing topic is created; one with settings that would lose or mix up state is refused.
//!
//! A journal that is not compacted loses state when its retention ends, and a journal with another number of partitions
//! than the events topic mixes up workloads. Both faults show only after weeks, so they are checked at every start.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on threads of their own; the engine does not see them"
)]

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};

use super::connections::{self, ReadingClient};
use super::error::{self, KafkaClientError};
use super::options::Options;
use super::position;
use super::settings;

/// The time for a broker to answer a request, and for all brokers to know a new topic.
const BROKER_TIMEOUT: Duration = Duration::from_secs(15);

/// The purpose of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Events,
    Journal,
    Decisions,
    Dead,
}

/// A topic that the daemon needs.
struct RequiredTopic {
    role: Role,
    name: String,
}

/// The reaction to a journal topic that is missing although the group has read events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingJournal {
    /// Refuse it: an empty journal knows none of the rollouts.
    Refuse,
    /// Create it.
    Create,
}

/// Creates the missing topics and checks the others. Returns the number of partitions of the events topic.
pub(super) async fn ensure(options: &Options, missing_journal: MissingJournal) -> Result<i32, KafkaClientError> {
    let required = required_topics(options);
    let found = describe(options, &required).await?;
    let partitions = found[0].unwrap_or(options.partitions);
    if let ([Some(partitions), None, ..], MissingJournal::Refuse) = (found.as_slice(), missing_journal)
        && has_read(options.clone(), *partitions).await?
    {
        return Err(KafkaClientError::MissingJournal {
            topic: options.journal_topic.clone(),
            group: options.group.clone(),
            events: options.topic.clone(),
        });
    }
    let admin: AdminClient<DefaultClientContext> =
        options.producer()?.create().map_err(|error| error::client(&error))?;
    let missing: Vec<&RequiredTopic> =
        required.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(topic, _)| topic).collect();
    if !missing.is_empty() {
        create(&admin, options, &missing, partitions).await?;
    }
    let found = await_topics(options, &required).await?;
    check_partitions(&required, &found)?;
    let patience = if missing.is_empty() { Duration::ZERO } else { BROKER_TIMEOUT };
    check_settings(&admin, options, &required, patience).await?;
    Ok(found[0].unwrap_or(partitions))
}

/// Checks the existing topics, and returns the names of those that [`ensure`] would create.
pub(super) async fn inspect(options: &Options) -> Result<Vec<String>, KafkaClientError> {
    let mut present = Vec::new();
    let mut counts = Vec::new();
    let mut missing = Vec::new();
    let required = required_topics(options);
    let found = describe(options, &required).await?;
    for (topic, count) in required.into_iter().zip(found) {
        match count {
            Some(_) => {
                present.push(topic);
                counts.push(count);
            }
            None => missing.push(topic.name),
        }
    }
    // Without the events topic there is no number of partitions to compare the others with.
    if present.first().is_some_and(|topic| topic.role == Role::Events) {
        check_partitions(&present, &counts)?;
    }
    if !present.is_empty() {
        let admin: AdminClient<DefaultClientContext> =
            options.producer()?.create().map_err(|error| error::client(&error))?;
        check_settings(&admin, options, &present, Duration::ZERO).await?;
    }
    Ok(missing)
}

/// Returns the number of partitions of the events topic.
pub(super) async fn events_partitions(options: &Options) -> Result<i32, KafkaClientError> {
    let found = describe(options, &required_topics(options)).await?;
    found[0]
        .ok_or_else(|| KafkaClientError::Read { topic: options.topic.clone(), problem: "it does not exist".to_owned() })
}

/// Whether the group has a committed offset in the events topic.
async fn has_read(options: Options, partitions: i32) -> Result<bool, KafkaClientError> {
    let reading = tokio::task::spawn_blocking(move || position::has_read(&options, partitions));
    reading.await.unwrap_or_else(|error| Err(KafkaClientError::Client(error.to_string())))
}

/// Returns the topics that the daemon needs, in the order events, journal, decisions, dead letters.
fn required_topics(options: &Options) -> [RequiredTopic; 4] {
    [
        RequiredTopic { role: Role::Events, name: options.topic.clone() },
        RequiredTopic { role: Role::Journal, name: options.journal_topic.clone() },
        RequiredTopic { role: Role::Decisions, name: options.decisions_topic.clone() },
        RequiredTopic { role: Role::Dead, name: options.dlq() },
    ]
}

/// Returns the number of partitions of each topic; `None` for a topic that does not exist.
async fn describe(options: &Options, required: &[RequiredTopic]) -> Result<Vec<Option<i32>>, KafkaClientError> {
    let (options, names) = (options.clone(), required.iter().map(|topic| topic.name.clone()).collect::<Vec<_>>());
    let counts = tokio::task::spawn_blocking(move || {
        // The metadata request of a producer would create the topics with the broker's defaults; a consumer's does not.
        let consumer = connections::connect(&options.reader()?)?;
        names.iter().map(|name| partitions_of(&consumer, &options, name)).collect()
    });
    counts.await.unwrap_or_else(|error| Err(KafkaClientError::Client(error.to_string())))
}

/// Returns the number of partitions of a topic; `None` if it does not exist.
pub(super) fn partitions_of(
    consumer: &ReadingClient,
    options: &Options,
    topic: &str,
) -> Result<Option<i32>, KafkaClientError> {
    let metadata = consumer.fetch_metadata(Some(topic), BROKER_TIMEOUT).map_err(|error| {
        let problem = connections::cause(consumer).unwrap_or_else(|| error.to_string());
        KafkaClientError::Unreachable { brokers: options.brokers.clone(), problem }
    })?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().filter(IsError::is_error).map(RDKafkaErrorCode::from) {
        None => Ok(Some(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)).filter(|count| *count > 0)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(KafkaClientError::Read { topic: topic.to_owned(), problem: code.to_string() }),
    }
}

/// Waits until every topic is described, because brokers learn of a new topic with a delay. Returns the numbers of
/// partitions.
async fn await_topics(options: &Options, required: &[RequiredTopic]) -> Result<Vec<Option<i32>>, KafkaClientError> {
    let started = Instant::now();
    loop {
        let found = describe(options, required).await?;
        let Some(missing) = found.iter().position(Option::is_none) else { return Ok(found) };
        if started.elapsed() > BROKER_TIMEOUT {
            let problem = "it was created, but no broker knows of it yet".to_owned();
            return Err(KafkaClientError::Read { topic: required[missing].name.clone(), problem });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn create(
    admin: &AdminClient<DefaultClientContext>,
    options: &Options,
    missing: &[&RequiredTopic],
    partitions: i32,
) -> Result<(), KafkaClientError> {
    let settings: Vec<Vec<(&str, String)>> = missing.iter().map(|topic| new_settings(topic.role, options)).collect();
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .zip(&settings)
        .map(|(topic, settings)| {
            let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(options.replication));
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let timeouts = AdminOptions::new().operation_timeout(Some(BROKER_TIMEOUT)).request_timeout(Some(BROKER_TIMEOUT));
    let results = admin.create_topics(&topics, &timeouts).await.map_err(|error| KafkaClientError::Unreachable {
        brokers: options.brokers.clone(),
        problem: error.to_string(),
    })?;
    for result in results {
        match result {
            Ok(name) => tracing::info!(topic = name, partitions, "topic created"),
            // Another replica of the daemon created it meanwhile; the topic is checked below like any other.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(KafkaClientError::Create {
                    topic,
                    problem: code.to_string(),
                    remedy: creation_remedy(code),
                });
            }
        }
    }
    Ok(())
}

/// Returns the remedy for a topic that can't be created.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "librdkafka has over a hundred codes, and only these have a remedy of their own"
)]
fn creation_remedy(code: RDKafkaErrorCode) -> &'static str {
    match code {
        RDKafkaErrorCode::InvalidReplicationFactor => "set kafka.replication to at most the number of brokers",
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            "grant Create on the topic, or create it by hand as the operations page says"
        }
        _ => "create it by hand as the operations page says",
    }
}

/// Returns the settings with which a topic of this role is created.
fn new_settings(role: Role, options: &Options) -> Vec<(&'static str, String)> {
    // With three replicas, one broker may be down without a write being lost or refused.
    let min_insync = (options.replication - 1).max(1);
    let mut all = vec![("min.insync.replicas", min_insync.to_string())];
    let retention = |span: bellwether_core::time::Span| ("retention.ms", span.as_millis().to_string());
    match role {
        Role::Events => all.extend([("cleanup.policy", "delete".to_owned()), retention(options.events_retention)]),
        Role::Journal => all.extend([
            ("cleanup.policy", "compact".to_owned()),
            // Only closed segments are compacted, so short segments shorten a restore.
            ("segment.ms", "600000".to_owned()),
            ("segment.bytes", (64 << 20).to_string()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        ]),
        Role::Decisions | Role::Dead => {
            all.extend([("cleanup.policy", "delete".to_owned()), retention(options.decisions_retention)]);
        }
    }
    if role != Role::Events {
        all.push(("max.message.bytes", settings::MAX_MESSAGE_BYTES.to_string()));
    }
    all
}

/// Checks that the journal and decisions topics have as many partitions as the events topic: both are written to the
/// partition of the event.
fn check_partitions(required: &[RequiredTopic], found: &[Option<i32>]) -> Result<(), KafkaClientError> {
    let (events, count) = (&required[0].name, found[0].unwrap_or_default());
    for (topic, found) in required.iter().zip(found) {
        let found = found.unwrap_or_default();
        if matches!(topic.role, Role::Journal | Role::Decisions) && found != count {
            return Err(KafkaClientError::Topic {
                topic: topic.name.clone(),
                setting: "partitions".to_owned(),
                value: found.to_string(),
                remedy: format!(
                    "it needs the {count} of {events}, because the state of an event is kept in the partition with the same \
                     number; configure a new topic, or give {events} its old number of partitions back"
                ),
            });
        }
    }
    Ok(())
}

/// Checks the settings of the topics. A broker that does not know a new topic yet tells none of its settings, so they are asked for
/// again within `patience`.
async fn check_settings(
    admin: &AdminClient<DefaultClientContext>,
    options: &Options,
    required: &[RequiredTopic],
    patience: Duration,
) -> Result<(), KafkaClientError> {
    let resources: Vec<ResourceSpecifier<'_>> =
        required.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let timeouts = AdminOptions::new().request_timeout(Some(BROKER_TIMEOUT));
    let started = Instant::now();
    loop {
        let untold = match admin.describe_configs(&resources, &timeouts).await {
            Ok(answers) => check_answers(options, required, answers)?,
            Err(error) => vec![error.to_string()],
        };
        if untold.is_empty() {
            return Ok(());
        }
        if started.elapsed() >= patience {
            untold.iter().for_each(|problem| warn_unchecked(problem));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Checks the settings that the brokers have told. Returns the problems of those that they have not told.
fn check_answers(
    options: &Options,
    required: &[RequiredTopic],
    answers: Vec<Result<ConfigResource, RDKafkaErrorCode>>,
) -> Result<Vec<String>, KafkaClientError> {
    let mut untold = Vec::new();
    for (topic, answer) in required.iter().zip(answers) {
        let config = match answer {
            // The client library leaves out the error of a single topic: unknown to the broker, or not permitted.
            Ok(config) if config.entries.is_empty() => {
                untold.push(format!("topic {}: the broker tells none of them", topic.name));
                continue;
            }
            Ok(config) => config,
            Err(code) => {
                untold.push(format!("topic {}: {}", topic.name, KafkaError::AdminOp(code)));
                continue;
            }
        };
        let value_of = |name: &str| config.get(name).and_then(|entry| entry.value.clone());
        for problem in settings::problems(topic.role, options, value_of) {
            let error = problem.error(&topic.name);
            if problem.is_refused {
                return Err(error);
            }
            tracing::warn!("{error}");
        }
    }
    Ok(untold)
}

/// Logs that settings could not be read, which is no reason to stop: an ACL may forbid it.
fn warn_unchecked(problem: &str) {
    tracing::warn!(problem, "the topics' settings can't be checked; grant DescribeConfigs on them");
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;

    #[test]
    fn a_topic_whose_settings_the_broker_does_not_tell_is_not_refused() {
        let options = Options::default();
        let required = required_topics(&options);
        let answer = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(name, value)| ConfigEntry {
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
                source: ConfigSource::DynamicTopic,
                is_read_only: false,
                is_default: false,
                is_sensitive: false,
            });
            Ok(ConfigResource { specifier: OwnedResourceSpecifier::Topic(String::new()), entries: entries.collect() })
        };
        let deleted = [("cleanup.policy", "delete")];
        let told = vec![answer(&deleted), answer(&[]), answer(&deleted), Err(RDKafkaErrorCode::RequestTimedOut)];
        let untold = check_answers(&options, &required, told).unwrap();
        assert_eq!(untold.len(), 2, "{untold:?}");
        assert!(untold[0].contains(&options.journal_topic) && untold[1].contains(&options.dlq()), "{untold:?}");
        let error = check_answers(&options, &required, vec![answer(&deleted), answer(&deleted)]).err().unwrap();
        assert!(error.to_string().contains("cleanup.policy = delete"), "{error}");
    }
}
