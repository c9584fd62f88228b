//! CDEvents on a topic of Kafka, for the other tools of a delivery pipeline: `service.upgraded` and `service.rolledback` when a
//! rollout ends so, and `incident.detected` and `incident.resolved` while one needs a person or is rolled back.
//!
//! An event is written at least once. A repetition has the same source and id, by which CloudEvents are told apart (CloudEvents 1.0,
//! "id"). The events of a workload have one key, so they stay in order. Their source is that of the daemon, whose own events it
//! ignores, so that no promotion begins a guard.
//!
//! The contents are those of CDEvents 0.5.1 (github.com/cdevents/spec, `schemas/`); an artifact is named by its package URL
//! (github.com/package-url/purl-spec, the type `oci`).

use std::fmt;

use async_trait::async_trait;
use bellwether_core::ids::{Workload, repository};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{
    IncidentChange, Notification, NotificationFacts, Sink, Subscription, VersionChange,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Connections, SinkError, SinkOptions};
use crate::events::cdevents::wrap;
use crate::events::cloudevents::CloudEvent;
use crate::events::decode::own_source;
use crate::ports::{NotificationError, NotificationSink, OutgoingTopic};

/// The characters that a part of a package URL may not have as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The settings of a topic.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The topic, on the brokers of `[kafka]`. It has to exist.
    pub topic: String,
}

impl SinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let is_missing = self.topic.is_empty();
        is_missing.then(|| ("topic", "name the topic, as in \"cdevents\"".to_owned())).into_iter().collect()
    }

    fn open(&self, name: &str, connections: &Connections<'_>) -> Result<Box<dyn NotificationSink>, SinkError> {
        let topic = connections.topics.topic(&self.topic).map_err(SinkError::Unusable)?;
        Ok(Box::new(CdEventsSink { name: name.to_owned(), topic }))
    }
}

/// A topic for CDEvents.
struct CdEventsSink {
    name: String,
    topic: Box<dyn OutgoingTopic>,
}

#[async_trait]
impl NotificationSink for CdEventsSink {
    fn sink(&self) -> Sink {
        Sink { name: self.name.clone(), subscription: Subscription::Changes }
    }

    async fn send(
        &self,
        effect: &Effect,
        notification: &Notification,
        _: Option<&str>,
    ) -> Result<Option<String>, NotificationError> {
        for event in events(effect, notification) {
            self.topic.write(&event.to_record(&effect.workload.to_string())).await.map_err(later)?;
        }
        Ok(None)
    }

    async fn check(&self) -> Result<String, NotificationError> {
        let partitions = self.topic.partitions().await.map_err(later)?;
        Ok(format!("its topic has {partitions} partitions"))
    }
}

/// Returns the error of a broker, after which the notification is sent again.
fn later(message: String) -> NotificationError {
    NotificationError::Later { after: None, message }
}

/// Returns the events of a notification: the change of an incident, and then that of the version.
fn events(effect: &Effect, notification: &Notification) -> Vec<CloudEvent> {
    let Notification { key, facts, incident, note, message, trace: _ } = notification;
    let workload = &effect.workload;
    let event = |of: &str, predicate: &str, subject: &str, content: Value| {
        let (ty, id) = (format!("dev.cdevents.{of}.{predicate}.0.3.0"), format!("{}.{of}", effect.id));
        let mut event = wrap(&ty, &own_source(&workload.cluster), &id, facts.at, subject, content);
        event.data["customData"] = details(notification);
        event.data["customDataContentType"] = json!("application/json");
        event
    };
    let incident = incident.map(|change| {
        let predicate = match change {
            IncidentChange::Open => "detected",
            IncidentChange::Resolve => "resolved",
        };
        let texts = message.as_ref().map(|message| format!("{}: {}", message.title, message.why));
        let text = texts.or_else(|| note.as_ref().map(|note| note.text.clone()));
        let mut content = json!({ "environment": { "id": workload.cluster }, "service": { "id": service(workload) } });
        for (field, value) in [("description", text), ("artifactId", facts.image.as_deref().map(package_url))] {
            if let Some(value) = value {
                content[field] = json!(value);
            }
        }
        event("incident", predicate, &key.0, content)
    });
    let change = facts.change().map(|(change, image)| {
        let predicate = match change {
            VersionChange::Promoted => "upgraded",
            VersionChange::RolledBack => "rolledback",
        };
        let content = json!({ "environment": { "id": workload.cluster }, "artifactId": package_url(image) });
        event("service", predicate, &service(workload), content)
    });
    incident.into_iter().chain(change).collect()
}

/// Returns the id of a workload as a service.
fn service(workload: &Workload) -> String {
    format!("{}/{}", workload.namespace, workload.name)
}

/// Returns what CDEvents has no field for.
fn details(notification: &Notification) -> Value {
    let NotificationFacts { decision, policy, image, .. } = &notification.facts;
    json!({ "bellwether": { "rollout": notification.key.0, "decision": decision, "policy": policy, "image": image } })
}

/// Returns the package URL of an image, as in `pkg:oci/web@sha256%3Aabc?repository_url=registry.example%2Fshop%2Fweb&tag=2`.
fn package_url(image: &str) -> String {
    let repository = repository(image);
    let rest = &image[repository.len()..];
    let (tag, digest) = rest.split_once('@').map_or((rest, None), |(tag, digest)| (tag, Some(digest)));
    let name = repository.rsplit('/').next().unwrap_or(repository).to_lowercase();
    let mut url = format!("pkg:oci/{}", encoded(&name));
    url.extend(digest.map(|digest| format!("@{}", encoded(digest))));
    url += &format!("?repository_url={}", encoded(&repository.to_lowercase()));
    url.extend(tag.strip_prefix(':').map(|tag| format!("&tag={}", encoded(tag))));
    url
}

fn encoded(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, ENCODED)
}

#[cfg(test)]
mod tests;
