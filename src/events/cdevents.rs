//! CDEvents, as far as they concern a rollout: the envelope of releases 0.3 to 0.5.1, and the content of
//! `service.deployed` and `service.upgraded`.
//!
//! The releases differ in names that nobody here needs (`context.version` became `context.specversion`, `subject.type`
//! went away, `chainId` and `links` came), so one lenient reading serves them all. Our own request is a custom event in
//! the same envelope, and is the opposite: read strictly, because a field that is silently ignored there is a wish that
//! is silently not granted.

use bellwether_core::ids::Workload;
use bellwether_core::input::report::SuiteResult;
use bellwether_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cloudevents::CloudEvent;

/// The type of the request that starts a rollout.
pub const REQUESTED: &str = "dev.cdeventsx.bellwether-rollout.requested.0.1.0";
/// The same without its version.
pub const REQUESTED_ANY: &str = "dev.cdeventsx.bellwether-rollout.requested.";
/// What the types of the verbs begin with: `….abort.0.1.0` and its like, one type each, so that Kafka's ACLs and whoever
/// reads the topic can tell them apart.
pub const VERB: &str = "dev.cdeventsx.bellwether-rollout.";
/// The version of the verbs' types.
pub const VERB_VERSION: &str = ".0.1.0";
/// The verbs.
pub const VERBS: [&str; 8] = ["abort", "promote", "pause", "resume", "retry", "approve", "freeze", "unfreeze"];

/// The type of the event that says a service was deployed, as it is written.
pub const DEPLOYED: &str = "dev.cdevents.service.deployed.0.3.0";

/// What the type of the event begins with that says a suite was run.
const TESTED_ANY: &str = "dev.cdevents.testsuiterun.finished.";
/// The same as it is written.
pub const TESTED: &str = "dev.cdevents.testsuiterun.finished.0.3.0";
/// Its releases that are understood.
const TESTED_VERSIONS: [&str; 3] = ["0.1.0", "0.2.0", "0.3.0"];

/// The releases of `service.deployed` and `service.upgraded` that are understood.
const SERVICE_VERSIONS: [&str; 4] = ["0.1.0", "0.1.1", "0.2.0", "0.3.0"];

/// What a type says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Our own request.
    Requested,
    /// Our own request, or a verb, in a version that does not exist (yet).
    RequestedOfOtherVersion,
    /// Somebody steps in: which verb.
    Verb(&'static str),
    /// A suite was run.
    Tested,
    /// A service was deployed or upgraded by somebody else.
    Deployed,
    /// One of these in a version that is not understood.
    OfOtherVersion,
    /// Anything else.
    Other,
}

/// What `ty` is to us.
pub fn recognise(ty: &str) -> Known {
    if ty == REQUESTED {
        return Known::Requested;
    }
    if ty.starts_with(REQUESTED_ANY) {
        return Known::RequestedOfOtherVersion;
    }
    if let Some((verb, version)) = ty.strip_prefix(VERB).and_then(|rest| Some(rest.split_at(rest.find('.')?)))
        && let Some(verb) = VERBS.iter().find(|known| **known == verb)
    {
        return if version == VERB_VERSION { Known::Verb(verb) } else { Known::RequestedOfOtherVersion };
    }
    let version =
        ty.strip_prefix("dev.cdevents.service.deployed.").or_else(|| ty.strip_prefix("dev.cdevents.service.upgraded."));
    match version {
        Some(version) if SERVICE_VERSIONS.contains(&version) => Known::Deployed,
        Some(_) => Known::OfOtherVersion,
        None => match ty.strip_prefix(TESTED_ANY) {
            Some(version) if TESTED_VERSIONS.contains(&version) => Known::Tested,
            Some(_) => Known::OfOtherVersion,
            None => Known::Other,
        },
    }
}

/// The envelope. What is not named here is not needed, and not refused.
#[derive(Debug, Deserialize)]
pub struct Envelope {
    /// Which event this is.
    pub context: Context,
    /// What it is about.
    pub subject: CdSubject,
    /// What the producer wanted to add. Of a custom event: the content.
    #[serde(default, rename = "customData")]
    pub custom_data: Value,
}

/// Which event it is. The CloudEvent around it says the same, and wins where only one of them speaks.
#[derive(Debug, Deserialize)]
pub struct Context {
    /// Unique within the source.
    pub id: Option<String>,
    /// The event's type.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// When, by the producer's clock.
    pub timestamp: Option<Timestamp>,
}

/// What an event is about.
#[derive(Debug, Deserialize)]
pub struct CdSubject {
    /// Of a service: `service/shop-api`.
    pub id: Option<String>,
    /// What is said of it.
    #[serde(default)]
    pub content: Value,
}

/// The content of `service.deployed` and `service.upgraded`.
#[derive(Debug, Deserialize)]
pub struct ServiceContent {
    /// Where.
    pub environment: CdReference,
    /// What, as a package URL.
    #[serde(rename = "artifactId")]
    pub artifact: Option<String>,
}

/// The content of `testsuiterun.finished`.
#[derive(Debug, Deserialize)]
pub struct TestedContent {
    /// `success`, `failure`, `cancel` or `error`; before 0.3.0 `pass` and `fail`.
    pub outcome: String,
    /// Which suite.
    #[serde(rename = "testSuite")]
    pub suite: Option<CdSuite>,
    /// Why, in the tester's words.
    pub reason: Option<String>,
}

/// The content that says so, as it is written. The vocabulary's outcomes are fewer than ours: only what passed is a success, and
/// what is inconclusive is an error, because a reader that knows nothing of us must not take it for passed.
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

/// A suite.
#[derive(Debug, Deserialize)]
pub struct CdSuite {
    /// Its id.
    pub id: String,
    /// Its name, which is what a policy requires; without it the id.
    pub name: Option<String>,
}

/// What `testsuiterun.finished` has no room for, in its `customData` under `bellwether`: for whom, and on what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TestedOn {
    /// For which workload.
    pub workload: Workload,
    /// The images that were tested.
    #[serde(default)]
    pub images: Vec<String>,
    /// The model that was tested.
    pub model: Option<String>,
    /// What came of it, where the event's outcomes are too few: `inconclusive` and `skipped`.
    pub result: Option<SuiteResult>,
    /// Where all of it can be read.
    pub link: Option<String>,
}

/// A thing by its id.
#[derive(Debug, Deserialize)]
pub struct CdReference {
    /// The id.
    pub id: String,
}

impl Envelope {
    /// The content of a custom event: of the two places where producers put it, the one that is not empty.
    pub fn custom_content(self) -> Value {
        let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if empty(&self.subject.content) && !empty(&self.custom_data) { self.custom_data } else { self.subject.content }
    }
}

/// An event of CDEvents 0.5.1 in the CloudEvent that carries it.
///
/// `content` goes where the schemas allow it: into the subject of an event of the vocabulary, and into `customData` of
/// a custom one.
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
