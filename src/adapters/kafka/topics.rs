//! The four topics: created when they are missing, refused when they are not what they must be.
//!
//! A journal that is not compacted forgets state when its retention ends, and one with another number of partitions
//! than the events mixes up workloads. Both work for weeks before they hurt, so they are looked for at every start.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls, on threads of their own; no decision sees them"
)]

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};

use super::error::{self, KafkaClientError};
use super::options::{MAX_ENTRY_BYTES, Options};

/// How long a broker may take to answer one question at start.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Events,
    Journal,
    Decisions,
    Dead,
}

/// A topic that should be there.
struct Wanted {
    role: Role,
    name: String,
}

/// Creates what is missing and checks what is there. The number of partitions of the events topic.
pub(super) async fn ensure(options: &Options) -> Result<i32, KafkaClientError> {
    let wanted = wanted(options);
    let found = describe(options, &wanted).await?;
    let partitions = found[0].unwrap_or(options.partitions);
    let admin: AdminClient<DefaultClientContext> =
        options.producer()?.create().map_err(|error| error::client(&error))?;
    let missing: Vec<&Wanted> =
        wanted.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(w, _)| w).collect();
    if !missing.is_empty() {
        create(&admin, options, &missing, partitions).await?;
    }
    let found = settled(options, &wanted).await?;
    check_partitions(&wanted, &found)?;
    check_settings(&admin, &wanted).await?;
    found[0]
        .ok_or_else(|| KafkaClientError::Read { topic: options.topic.clone(), problem: "it is not there".to_owned() })
}

/// Checks what is there, and names what [`ensure`] would create.
pub(super) async fn inspect(options: &Options) -> Result<Vec<String>, KafkaClientError> {
    let mut present = Vec::new();
    let mut counts = Vec::new();
    let mut missing = Vec::new();
    let wanted = wanted(options);
    let found = describe(options, &wanted).await?;
    for (topic, count) in wanted.into_iter().zip(found) {
        match count {
            Some(_) => {
                present.push(topic);
                counts.push(count);
            }
            None => missing.push(topic.name),
        }
    }
    // Without the events topic there is no number that the others have to agree with.
    if present.first().is_some_and(|topic| topic.role == Role::Events) {
        check_partitions(&present, &counts)?;
    }
    if !present.is_empty() {
        let admin: AdminClient<DefaultClientContext> =
            options.producer()?.create().map_err(|error| error::client(&error))?;
        check_settings(&admin, &present).await?;
    }
    Ok(missing)
}

fn wanted(options: &Options) -> [Wanted; 4] {
    [
        Wanted { role: Role::Events, name: options.topic.clone() },
        Wanted { role: Role::Journal, name: options.journal_topic.clone() },
        Wanted { role: Role::Decisions, name: options.decisions_topic.clone() },
        Wanted { role: Role::Dead, name: options.dlq() },
    ]
}

/// The number of partitions of each topic; `None`: there is no such topic.
async fn describe(options: &Options, wanted: &[Wanted]) -> Result<Vec<Option<i32>>, KafkaClientError> {
    let (options, names) = (options.clone(), wanted.iter().map(|w| w.name.clone()).collect::<Vec<_>>());
    let asked = tokio::task::spawn_blocking(move || {
        // A consumer, because asking as a producer would create the topics with the broker's defaults.
        let consumer: BaseConsumer = options.reader()?.create().map_err(|error| error::client(&error))?;
        names.iter().map(|name| partitions_of(&consumer, &options, name)).collect()
    });
    asked.await.unwrap_or_else(|error| Err(KafkaClientError::Client(error.to_string())))
}

/// The number of partitions of a topic; `None`: there is no such topic.
pub(super) fn partitions_of(
    consumer: &BaseConsumer,
    options: &Options,
    topic: &str,
) -> Result<Option<i32>, KafkaClientError> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|error| KafkaClientError::Unreachable {
        brokers: options.brokers.clone(),
        problem: error.to_string(),
    })?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().filter(IsError::is_error).map(RDKafkaErrorCode::from) {
        None => Ok(Some(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)).filter(|count| *count > 0)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(KafkaClientError::Read { topic: topic.to_owned(), problem: code.to_string() }),
    }
}

/// Describes until every topic is there: brokers learn of a new one at their own pace.
async fn settled(options: &Options, wanted: &[Wanted]) -> Result<Vec<Option<i32>>, KafkaClientError> {
    let started = Instant::now();
    loop {
        let found = describe(options, wanted).await?;
        let Some(missing) = found.iter().position(Option::is_none) else { return Ok(found) };
        if started.elapsed() > PATIENCE {
            let problem = "it was created, but no broker knows of it yet".to_owned();
            return Err(KafkaClientError::Read { topic: wanted[missing].name.clone(), problem });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn create(
    admin: &AdminClient<DefaultClientContext>,
    options: &Options,
    missing: &[&Wanted],
    partitions: i32,
) -> Result<(), KafkaClientError> {
    let settings: Vec<Vec<(&str, String)>> = missing.iter().map(|topic| settings(topic.role, options)).collect();
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .zip(&settings)
        .map(|(topic, settings)| {
            let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(options.replication));
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let patience = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let results = admin.create_topics(&topics, &patience).await.map_err(|error| KafkaClientError::Unreachable {
        brokers: options.brokers.clone(),
        problem: error.to_string(),
    })?;
    for result in results {
        match result {
            Ok(name) => tracing::info!(topic = name, partitions, "created a topic"),
            // Another replica was faster. What it made is checked like any other.
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

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "librdkafka has a hundred codes, and three have a remedy of their own"
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

/// What a topic is created with.
fn settings(role: Role, options: &Options) -> Vec<(&'static str, String)> {
    // With three copies, one broker may be away without a write being lost or refused.
    let min_insync = (options.replication - 1).max(1);
    let mut all = vec![("min.insync.replicas", min_insync.to_string())];
    let retention = |span: bellwether_core::time::Span| ("retention.ms", span.as_millis().to_string());
    match role {
        Role::Events => all.extend([("cleanup.policy", "delete".to_owned()), retention(options.events_retention)]),
        Role::Journal => all.extend([
            ("cleanup.policy", "compact".to_owned()),
            // Only closed segments are compacted: short ones keep a restore short.
            ("segment.ms", "600000".to_owned()),
            ("segment.bytes", (64 << 20).to_string()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        ]),
        Role::Decisions | Role::Dead => {
            all.extend([("cleanup.policy", "delete".to_owned()), retention(options.decisions_retention)]);
        }
    }
    if role != Role::Events {
        all.push(("max.message.bytes", (MAX_ENTRY_BYTES + (128 << 10)).to_string()));
    }
    all
}

/// Journal and decisions are written to the partition that the event came from.
fn check_partitions(wanted: &[Wanted], found: &[Option<i32>]) -> Result<(), KafkaClientError> {
    let (events, count) = (&wanted[0].name, found[0].unwrap_or_default());
    for (topic, found) in wanted.iter().zip(found) {
        let found = found.unwrap_or_default();
        if matches!(topic.role, Role::Journal | Role::Decisions) && found != count {
            return Err(KafkaClientError::Topic {
                topic: topic.name.clone(),
                setting: "partitions".to_owned(),
                value: found.to_string(),
                remedy: format!(
                    "it needs the {count} of {events}, because state is kept under the number of the event's partition; \
                     name a new topic for it, or give {events} its old number back"
                ),
            });
        }
    }
    Ok(())
}

async fn check_settings(admin: &AdminClient<DefaultClientContext>, wanted: &[Wanted]) -> Result<(), KafkaClientError> {
    let resources: Vec<ResourceSpecifier<'_>> =
        wanted.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let patience = AdminOptions::new().request_timeout(Some(PATIENCE));
    let answers = match admin.describe_configs(&resources, &patience).await {
        Ok(answers) => answers,
        Err(error) => return unchecked(&error),
    };
    for (topic, answer) in wanted.iter().zip(answers) {
        match answer {
            Ok(config) => {
                let value = config.get("cleanup.policy").and_then(|entry| entry.value.as_deref()).unwrap_or_default();
                check_cleanup(topic, value)?;
            }
            Err(code) => unchecked(&KafkaError::AdminOp(code))?,
        }
    }
    Ok(())
}

/// Settings that may not be looked at (an ACL) are no reason not to work, but one to say so.
fn unchecked(error: &KafkaError) -> Result<(), KafkaClientError> {
    tracing::warn!(%error, "the topics' settings can't be checked; grant DescribeConfigs on them");
    Ok(())
}

fn check_cleanup(topic: &Wanted, value: &str) -> Result<(), KafkaClientError> {
    let policies: Vec<&str> = value.split(',').map(str::trim).collect();
    let remedy = match topic.role {
        Role::Journal if policies != ["compact"] => {
            "state would be deleted with its age; set it to compact (kafka-configs.sh --alter --add-config)"
        }
        Role::Events | Role::Decisions | Role::Dead if policies.contains(&"compact") => {
            "records would replace each other by key; set it to delete (kafka-configs.sh --alter --add-config)"
        }
        Role::Journal | Role::Events | Role::Decisions | Role::Dead => return Ok(()),
    };
    Err(KafkaClientError::Topic {
        topic: topic.name.clone(),
        setting: "cleanup.policy".to_owned(),
        value: value.to_owned(),
        remedy: remedy.to_owned(),
    })
}
