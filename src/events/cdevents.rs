//! CDEvents, as far as they concern a rollout: the envelope of the releases 0.3 to 0.5.1, the contents of
//! `service.deployed`, `service.upgraded` and `testsuiterun.finished`, and the custom events of Bellwether.
//!
//! The releases differ in fields that are not needed here (`context.version` became `context.specversion`, `subject.type`
//! was removed, `chainId` and `links` were added), so unknown fields are ignored and one set of types reads all releases.
//! Bellwether's own requests are custom events in the same envelope. There an unknown field is an error, because a
//! misspelt field would otherwise be ignored without notice.

use bellwether_core::ids::Workload;
use bellwether_core::input::report::SuiteResult;
use bellwether_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cloudevents::CloudEvent;

/// The type of the request that starts a rollout.
pub const REQUESTED: &str = "dev.cdeventsx.bellwether-rollout.requested.0.1.0";
/// The prefix of [`REQUESTED`] before its version.
pub const REQUESTED_ANY: &str = "dev.cdeventsx.bellwether-rollout.requested.";
/// The prefix of the verbs' types, as in `dev.cdeventsx.bellwether-rollout.abort.0.1.0`. Each verb has a type of its own, so
/// that consumers of the topic can filter them.
pub const VERB: &str = "dev.cdeventsx.bellwether-rollout.";
/// The suffix of the verbs' types: their version.
pub const VERB_VERSION: &str = ".0.1.0";
/// The verbs with which a person or a tool intervenes in a rollout.
pub const VERBS: [&str; 8] = ["abort", "promote", "pause", "resume", "retry", "approve", "freeze", "unfreeze"];

/// The type of the event about a deployed service, in the version that is written.
pub const DEPLOYED: &str = "dev.cdevents.service.deployed.0.3.0";

/// The prefix of [`TESTED`] before its version.
const TESTED_ANY: &str = "dev.cdevents.testsuiterun.finished.";
/// The type of the event about a finished suite, in the version that is written.
pub const TESTED: &str = "dev.cdevents.testsuiterun.finished.0.3.0";
/// The versions of `testsuiterun.finished` that are read.
const TESTED_VERSIONS: [&str; 3] = ["0.1.0", "0.2.0", "0.3.0"];

/// The versions of `service.deployed` and `service.upgraded` that are read.
const SERVICE_VERSIONS: [&str; 4] = ["0.1.0", "0.1.1", "0.2.0", "0.3.0"];

/// The kind of an event, by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A request for a rollout.
    Requested,
    /// A request or a verb in a version that is not supported.
    UnsupportedRequest,
    /// A verb, by its name in [`VERBS`].
    Verb(&'static str),
    /// A report about a finished suite.
    Tested,
    /// A service that another tool has deployed or upgraded.
    Deployed,
    /// A report about a suite or a service in a version that is not supported.
    UnsupportedVersion,
    /// An event of any other type.
    Other,
}

/// Returns the kind of an event with the type `ty`.
pub fn kind_of(ty: &str) -> EventKind {
    if ty == REQUESTED {
        return EventKind::Requested;
    }
    if ty.starts_with(REQUESTED_ANY) {
        return EventKind::UnsupportedRequest;
    }
    if let Some((verb, version)) = ty.strip_prefix(VERB).and_then(|rest| Some(rest.split_at(rest.find('.')?)))
        && let Some(verb) = VERBS.iter().find(|known| **known == verb)
    {
        return if version == VERB_VERSION { EventKind::Verb(verb) } else { EventKind::UnsupportedRequest };
    }
    let version =
        ty.strip_prefix("dev.cdevents.service.deployed.").or_else(|| ty.strip_prefix("dev.cdevents.service.upgraded."));
    match version {
        Some(version) if SERVICE_VERSIONS.contains(&version) => EventKind::Deployed,
        Some(_) => EventKind::UnsupportedVersion,
        None => match ty.strip_prefix(TESTED_ANY) {
            Some(version) if TESTED_VERSIONS.contains(&version) => EventKind::Tested,
            Some(_) => EventKind::UnsupportedVersion,
            None => EventKind::Other,
        },
    }
}

/// The envelope of a CDEvent. Other fields are ignored.
#[derive(Debug, Deserialize)]
pub struct Envelope {
    /// The identity of the event.
    pub context: Context,
    /// The subject of the event.
    pub subject: CdSubject,
    /// Additional data of the producer. A custom event may have its content here.
    #[serde(default, rename = "customData")]
    pub custom_data: Value,
}

/// The identity of an event. The CloudEvent around it has the same fields; where both are set they must agree.
#[derive(Debug, Deserialize)]
pub struct Context {
    /// The event's id, unique within its source.
    pub id: Option<String>,
    /// The type of the event.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// The time of the event by the producer's clock.
    pub timestamp: Option<Timestamp>,
}

/// The subject of a CDEvent.
#[derive(Debug, Deserialize)]
pub struct CdSubject {
    /// The subject's id, for a service as in `service/shop-api`.
    pub id: Option<String>,
    /// The content, whose form depends on the event's type.
    #[serde(default)]
    pub content: Value,
}

/// The content of `service.deployed` and `service.upgraded`.
#[derive(Debug, Deserialize)]
pub struct ServiceContent {
    /// The environment that the service was deployed to.
    pub environment: CdReference,
    /// The id of the artifact that was deployed: a package URL by recommendation, and any text by the older schemas.
    #[serde(rename = "artifactId")]
    pub artifact: Option<String>,
}

/// The content of `testsuiterun.finished`.
#[derive(Debug, Deserialize)]
pub struct TestedContent {
    /// The outcome: `success`, `failure`, `cancel` or `error`; before version 0.3.0 `pass` or `fail`.
    pub outcome: String,
    /// The suite that was run.
    #[serde(rename = "testSuite")]
    pub suite: Option<CdSuite>,
    /// The reason of the outcome as text.
    pub reason: Option<String>,
}

/// Returns the content of a `testsuiterun.finished` event. CDEvents has fewer outcomes than [`SuiteResult`]: only a pass is a
/// `success`, and an inconclusive result is an `error`, so that other readers of the event don't take it for a pass.
pub fn tested(suite: &str, result: SuiteResult, environment: &str, reason: Option<&str>) -> Value {
    let outcome = match result {
        SuiteResult::Pass => "success",
        SuiteResult::Fail => "failure",
        SuiteResult::Inconclusive | SuiteResult::Error => "error",
        SuiteResult::Skipped => "cancel",
    };
    let mut content = json!({
        "outcome": outcome, "environment": { "id": environment }, "testSuite": { "id": suite, "name": suite },
    });
    if let Some(reason) = reason {
        content["reason"] = json!(reason);
    }
    content
}

/// The suite of a `testsuiterun.finished` event.
#[derive(Debug, Deserialize)]
pub struct CdSuite {
    /// The suite's id.
    pub id: String,
    /// The suite's name, by which a policy requires it; the id counts if absent.
    pub name: Option<String>,
}

/// The fields that `testsuiterun.finished` does not have. They are in its `customData`, under `bellwether`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TestedDetails {
    /// The workload that the suite was run for.
    pub workload: Workload,
    /// The images that were tested.
    #[serde(default)]
    pub images: Vec<String>,
    /// The model that was tested.
    pub model: Option<String>,
    /// The digest of the prompt that was tested.
    pub prompt: Option<String>,
    /// The digest of the definitions of the tools that were tested.
    pub tools: Option<String>,
    /// The pin of the test that was run.
    pub pin: Option<String>,
    /// The end of the run; the time of the event counts if absent.
    pub finished: Option<Timestamp>,
    /// The exact result, which the event's outcome may not tell: `inconclusive` or `skipped`.
    pub result: Option<SuiteResult>,
    /// A link to the full report.
    pub link: Option<String>,
}

/// A reference to an object by its id.
#[derive(Debug, Deserialize)]
pub struct CdReference {
    /// The object's id.
    pub id: String,
}

impl Envelope {
    /// Returns the content of a custom event: the subject's content, or `customData` if only that is not empty. Producers use
    /// both places.
    pub fn custom_content(self) -> Value {
        let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if empty(&self.subject.content) && !empty(&self.custom_data) { self.custom_data } else { self.subject.content }
    }
}

/// Returns an event of CDEvents 0.5.1 in its CloudEvent.
///
/// `content` goes to the place that the schemas allow: the subject of an event of the vocabulary, and `customData` of a
/// custom event.
pub fn wrap(ty: &str, source: &str, id: &str, at: Timestamp, subject: &str, content: Value) -> CloudEvent {
    let context =
        json!({ "specversion": "0.5.1", "id": id, "source": source, "type": ty, "timestamp": at.to_string() });
    let data = if ty.starts_with("dev.cdeventsx.") {
        json!({ "context": context, "subject": { "id": subject, "content": {} }, "customData": content,
                "customDataContentType": "application/json" })
    } else {
        json!({ "context": context, "subject": { "id": subject, "content": content } })
    };
    CloudEvent {
        id: id.to_owned(),
        source: source.to_owned(),
        ty: ty.to_owned(),
        time: Some(at),
        subject: Some(subject.to_owned()),
        partitionkey: None,
        expirytime: None,
        traceparent: None,
        extensions: Default::default(),
        data,
    }
}
