//! Decodes a record into an event of the engine, a reason to ignore it, or an error for the dead letters.
//!
//! A record is a dead letter if it can't be read, or if it is addressed to Bellwether and can't be carried out; its bytes
//! are kept. A readable event of another kind or for another daemon is ignored and counted. The topic may be shared, and
//! the events of other tools must not fill the dead letters.

use std::fmt;
use std::sync::Arc;

use bellwether_core::ids::{EventId, RolloutId, Scope, Workload, is_image};
use bellwether_core::input::command::{Command, Verb};
use bellwether_core::input::event::{Event, Request};
use bellwether_core::input::report::{SuiteReport, SuiteResult};
use bellwether_core::time::{Span, Timestamp};
use serde::Deserialize;

use super::cdevents::{self, Envelope, EventKind, ServiceContent, TestedContent, TestedDetails};
use super::cloudevents::{CloudEvent, CloudEventError, MAX_ATTRIBUTE_BYTES, shorten};
use super::mapping::{Mapping, SubjectFacts};
use crate::access::Access;
use crate::ports::EventRecord;

/// The identity of the daemon, the mapping of other tools' events, and the rules of who may send events.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// The cluster that this daemon acts in.
    pub cluster: String,
    /// The rules that name the workload of a CDEvent.
    pub mapping: Mapping,
    /// The source of the events that this daemon sends. It ignores events from this source.
    pub own_source: String,
    /// The rules by which decoded events are admitted.
    pub access: Arc<Access>,
}

/// Returns the source of the events that the daemon of a cluster writes.
pub fn own_source(cluster: &str) -> String {
    format!("/bellwether/{cluster}")
}

impl DecodeOptions {
    /// Returns the options of the daemon of `cluster`, with the source `/bellwether/<cluster>` and without rules.
    pub fn new(cluster: impl Into<String>, mapping: Mapping) -> DecodeOptions {
        let cluster = cluster.into();
        let own_source = own_source(&cluster);
        DecodeOptions { cluster, mapping, own_source, access: Arc::default() }
    }

    /// Returns the options with the rules of `access`.
    pub fn with_access(self, access: Access) -> DecodeOptions {
        DecodeOptions { access: Arc::new(access), ..self }
    }
}

/// The result of decoding a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// An event for the engine.
    Event {
        /// The event with its content.
        event: Box<Event>,
        /// The workloads that the event is about. The `Display` of a single workload is its key, which determines the
        /// event's partition; an event with a wider scope belongs to all partitions.
        scope: Scope,
    },
    /// The record can be read and is not for this daemon.
    Ignored(Ignored),
    /// The record can't be read, or is addressed to this daemon and can't be carried out.
    Dead(DecodeError),
}

/// A reason to ignore an event that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// Events of this type are not used here.
    NotForUs {
        /// The event's type.
        ty: String,
    },
    /// The record has neither a value nor a type: a tombstone of a compacted topic.
    Tombstone,
    /// The version of the type is not supported.
    OtherVersion {
        /// The event's type with its version.
        ty: String,
    },
    /// The workload is in a cluster of another daemon.
    OtherCluster {
        /// The cluster's name.
        cluster: String,
    },
    /// This daemon sent the event.
    Own,
    /// The event's expiry time has passed.
    Expired {
        /// The expiry time.
        at: Timestamp,
    },
    /// No rule of the mapping matches the event.
    NoMapping {
        /// The event's subject.
        subject: String,
        /// The event's environment.
        environment: String,
    },
}

impl Ignored {
    /// Whether the event's type is one of Bellwether's, so that its sender may wait for an answer.
    pub fn has_our_type(&self) -> bool {
        match self {
            Ignored::OtherVersion { .. }
            | Ignored::OtherCluster { .. }
            | Ignored::Expired { .. }
            | Ignored::NoMapping { .. } => true,
            Ignored::NotForUs { .. } | Ignored::Tombstone | Ignored::Own => false,
        }
    }

    /// Returns the reason as the value of a label.
    pub fn label(&self) -> &'static str {
        match self {
            Ignored::NotForUs { .. } => "not-for-us",
            Ignored::Tombstone => "tombstone",
            Ignored::OtherVersion { .. } => "other-version",
            Ignored::OtherCluster { .. } => "other-cluster",
            Ignored::Own => "own",
            Ignored::Expired { .. } => "expired",
            Ignored::NoMapping { .. } => "no-mapping",
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::NotForUs { ty } => write!(f, "events of type {ty} are not used here"),
            Ignored::Tombstone => f.write_str("the record has neither a value nor a type (a tombstone)"),
            Ignored::OtherVersion { ty } => write!(f, "the version of {ty} is not supported"),
            Ignored::OtherCluster { cluster } => {
                write!(f, "the event is for cluster {cluster}, which this daemon does not act in")
            }
            Ignored::Own => f.write_str("this daemon sent the event itself"),
            Ignored::Expired { at } => write!(f, "the event expired at {at}"),
            Ignored::NoMapping { subject, environment } => {
                write!(f, "no rule of events.mapping matches subject {subject:?} in environment {environment:?}")
            }
        }
    }
}

/// The time by which a producer's clock may be ahead of the daemon's.
pub const CLOCK_DIFFERENCE: Span = Span::from_secs(300);

/// The largest data of a request or a verb, in bytes. The journal keeps about five copies of its texts.
pub const MAX_REQUEST_BYTES: usize = 32 << 10;
/// The longest `traceparent` that is kept: that of version 00 has 55 bytes.
const MAX_TRACEPARENT_BYTES: usize = 64;

/// An error of decoding a record, for the dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record is not a CloudEvent.
    #[error(transparent)]
    CloudEvent(#[from] CloudEventError),
    /// A request or a verb in a version that is not supported; the type.
    #[error("the version of type {0:?} is not supported; send {supported}", supported = supported_type(.0))]
    UnknownVersion(String),
    /// The data has not the envelope of CDEvents.
    #[error("the data is not a CDEvent: {0}")]
    Envelope(String),
    /// The CDEvent and its CloudEvent have different values for a field.
    #[error("CDEvents context.{field} is {inner:?} and the CloudEvent's {field} is {outer:?}; send the same in both")]
    Disagree {
        /// The field's name: `id` or `type`.
        field: &'static str,
        /// The value in the CDEvent, shortened.
        inner: String,
        /// The value in the CloudEvent, shortened.
        outer: String,
    },
    /// The content does not have the form that the type asks for.
    #[error("the event's content can't be read: {0}")]
    Content(String),
    /// The event's time lies in the future. Accepted, it would make every event of the present older than the newest one.
    #[error(
        "the event's time is {at}, and here it is {now}; correct the sender's clock or the daemon's, and send a new event"
    )]
    Future {
        /// The event's time.
        at: Timestamp,
        /// The daemon's time.
        now: Timestamp,
    },
    /// The request has neither `image` nor `images`.
    #[error("the request names no image; set `images` (by container) or `image`")]
    NoImage,
    /// The request has both `image` and `images`.
    #[error("the request has both `image` and `images`; set one of them")]
    TwoImages,
    /// A text that is no image reference, shortened.
    #[error("{0:?} is not an image reference; write REPOSITORY[:TAG][@sha256:DIGEST]")]
    Image(String),
    /// A name that no Kubernetes object can have.
    #[error("{part} {value:?} can't be the {part} of a workload; {remedy}")]
    Name {
        /// The part of the workload: `cluster`, `namespace` or `name`.
        part: &'static str,
        /// The value that was sent or that the mapping gave, shortened.
        value: String,
        /// The valid values.
        remedy: &'static str,
    },
}

/// Returns the type in the version that is supported.
fn supported_type(ty: &str) -> String {
    let name: Vec<&str> = ty.split('.').take(4).collect();
    name.join(".") + cdevents::VERB_VERSION
}

/// Decodes a record at the time `now`, for the daemon of `options`.
pub fn decode(record: &EventRecord, options: &DecodeOptions, now: Timestamp) -> Decoded {
    let decoded = foreign(record)
        .and_then(|()| Ok(CloudEvent::from_record(record)?))
        .and_then(|event| decode_event(event, options, now));
    match decoded {
        Ok((event, scope)) => Decoded::Event { event: Box::new(event), scope },
        Err(NoEvent::Ignored(reason)) => Decoded::Ignored(reason),
        Err(NoEvent::Dead(error)) => Decoded::Dead(error),
    }
}

/// A result of decoding other than an event.
enum NoEvent {
    Ignored(Ignored),
    Dead(DecodeError),
}

impl<E: Into<DecodeError>> From<E> for NoEvent {
    fn from(error: E) -> NoEvent {
        NoEvent::Dead(error.into())
    }
}

/// Returns the identity of the event in a record, with the rollout that it requests; `None` if the record has no event that can
/// be read.
pub fn id_of(record: &EventRecord) -> Option<(EventId, Option<RolloutId>)> {
    let CloudEvent { id, source, ty, data, .. } = CloudEvent::from_record(record).ok()?;
    let content = serde_json::from_value(data).map(Envelope::custom_content).ok();
    let workload = content.filter(|_| cdevents::kind_of(&ty) == EventKind::Requested).and_then(|mut content| {
        let workload = content.get_mut("workload").map(serde_json::Value::take)?;
        serde_json::from_value(workload).ok()
    });
    let id = EventId { source, id };
    let rollout = workload.map(|workload: Workload| RolloutId::of(&workload, &id));
    Some((id, rollout))
}

/// Ignores a record of another type, whatever its format. Other producers of a shared topic may send any.
fn foreign(record: &EventRecord) -> Result<(), NoEvent> {
    match CloudEvent::type_of(record) {
        Some(ty) if cdevents::kind_of(&ty) == EventKind::Other => {
            Err(NoEvent::Ignored(Ignored::NotForUs { ty: shorten(&ty) }))
        }
        None if record.value.is_none() => Err(NoEvent::Ignored(Ignored::Tombstone)),
        Some(_) | None => Ok(()),
    }
}

fn decode_event(event: CloudEvent, options: &DecodeOptions, now: Timestamp) -> Result<(Event, Scope), NoEvent> {
    if event.source == options.own_source {
        return Err(NoEvent::Ignored(Ignored::Own));
    }
    let kind = cdevents::kind_of(&event.ty);
    match kind {
        EventKind::Other => return Err(NoEvent::Ignored(Ignored::NotForUs { ty: shorten(&event.ty) })),
        EventKind::UnsupportedVersion => {
            return Err(NoEvent::Ignored(Ignored::OtherVersion { ty: shorten(&event.ty) }));
        }
        EventKind::UnsupportedRequest => return Err(DecodeError::UnknownVersion(shorten(&event.ty)).into()),
        EventKind::Requested | EventKind::Verb(_) | EventKind::Tested | EventKind::Deployed => {}
    }
    if let Some(at) = event.expirytime.filter(|at| *at < now) {
        return Err(NoEvent::Ignored(Ignored::Expired { at }));
    }
    let CloudEvent { id, source, ty, time, traceparent, data, .. } = event;
    if matches!(kind, EventKind::Requested | EventKind::Verb(_)) {
        check_size(&data)?;
    }
    let envelope: Envelope = read(data).map_err(DecodeError::Envelope)?;
    check_equal("id", envelope.context.id.as_deref(), &id)?;
    check_equal("type", envelope.context.ty.as_deref(), &ty)?;
    let (id, time) = (EventId { source, id }, time.or(envelope.context.timestamp));
    if let Some(at) = time.filter(|at| *at > CLOCK_DIFFERENCE.after(now)) {
        return Err(DecodeError::Future { at, now }.into());
    }
    let (event, scope) = match kind {
        EventKind::Requested => with_workload_scope(requested(envelope, id, time, traceparent)?),
        EventKind::Verb(verb) => commanded(verb, envelope, id, time)?,
        EventKind::Tested => with_workload_scope(tested(envelope, id, time.unwrap_or(now))?),
        EventKind::Deployed | EventKind::UnsupportedRequest | EventKind::UnsupportedVersion | EventKind::Other => {
            with_workload_scope(deployed(envelope, id, time, options)?)
        }
    };
    check_names(&scope)?;
    if options.cluster == scope.cluster() {
        Ok((event, scope))
    } else {
        Err(NoEvent::Ignored(Ignored::OtherCluster { cluster: scope.cluster().to_owned() }))
    }
}

fn with_workload_scope((event, workload): (Event, Workload)) -> (Event, Scope) {
    (event, Scope::Workload(workload))
}

/// The content of a verb. A field that the verb does not use is refused, like an unknown field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct VerbContent {
    workload: Option<Workload>,
    scope: Option<Scope>,
    rollout: Option<RolloutId>,
    reason: Option<String>,
    full: Option<bool>,
    approval: Option<String>,
    until: Option<Timestamp>,
}

fn commanded(
    verb: &'static str,
    envelope: Envelope,
    id: EventId,
    time: Option<Timestamp>,
) -> Result<(Event, Scope), DecodeError> {
    let content: VerbContent = read(envelope.custom_content()).map_err(DecodeError::Content)?;
    let VerbContent { workload, scope, rollout, reason, full, approval, until } = content;
    let unused_fields = [
        ("full", full.is_some() && verb != "promote"),
        ("approval", approval.is_some() && verb != "approve"),
        ("until", until.is_some() && verb != "freeze"),
        ("rollout", rollout.is_some() && matches!(verb, "freeze" | "unfreeze")),
    ];
    if let Some((field, _)) = unused_fields.iter().find(|(_, is_set)| *is_set) {
        return Err(DecodeError::Content(format!("{verb} has no field `{field}`; leave it out")));
    }
    let scope = match (workload, scope) {
        (Some(workload), None) => Scope::Workload(workload),
        (None, Some(scope)) => scope,
        _ => return Err(DecodeError::Content(format!("{verb} needs `workload` or `scope`; set one of them"))),
    };
    let verb = match verb {
        "abort" => Verb::Abort,
        "promote" => Verb::Promote { full: full.unwrap_or(false) },
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "retry" => Verb::Retry,
        "approve" => Verb::Approve { approval },
        "freeze" => Verb::Freeze { until },
        _ => Verb::Unfreeze,
    };
    let command = Command { scope: scope.clone(), verb, rollout, reason };
    Ok((Event::Commanded { id, time, command }, scope))
}

/// Checks that a request or verb is small enough to be kept, several times, in a workload's snapshot.
fn check_size(data: &serde_json::Value) -> Result<(), DecodeError> {
    let bytes = data.to_string().len();
    if bytes <= MAX_REQUEST_BYTES {
        return Ok(());
    }
    let message =
        format!("it has {bytes} bytes, more than the {MAX_REQUEST_BYTES} of a request or verb; shorten its `reason`");
    Err(DecodeError::Content(message))
}

/// Checks that a field has the same value in the CDEvent and in the CloudEvent, if the CDEvent has it.
fn check_equal(field: &'static str, inner: Option<&str>, outer: &str) -> Result<(), DecodeError> {
    match inner {
        Some(inner) if inner != outer => {
            Err(DecodeError::Disagree { field, inner: shorten(inner), outer: shorten(outer) })
        }
        _ => Ok(()),
    }
}

fn requested(
    envelope: Envelope,
    id: EventId,
    time: Option<Timestamp>,
    traceparent: Option<String>,
) -> Result<(Event, Workload), NoEvent> {
    let mut request: Request = read(envelope.custom_content()).map_err(DecodeError::Content)?;
    request.traceparent = traceparent.filter(|traceparent| traceparent.len() <= MAX_TRACEPARENT_BYTES);
    match (&request.image, request.images.is_empty()) {
        (None, true) => Err(DecodeError::NoImage.into()),
        (Some(_), false) => Err(DecodeError::TwoImages.into()),
        _ => {
            check_images(&request)?;
            check_digests([("prompt", &request.prompt), ("tools", &request.tools)])?;
            let workload = request.workload.clone();
            Ok((Event::Requested { id, time, request }, workload))
        }
    }
}

/// Checks that every image of a request is an image reference.
///
/// # Errors
/// [`DecodeError::Image`] with the first other text.
pub fn check_images(request: &Request) -> Result<(), DecodeError> {
    match request.all_images().find(|image| !is_image(image)) {
        Some(image) => Err(DecodeError::Image(shorten(image))),
        None => Ok(()),
    }
}

/// Checks that each of the fields is a digest, if it is there.
fn check_digests(fields: [(&str, &Option<String>); 2]) -> Result<(), DecodeError> {
    for (name, value) in fields {
        if let Some(value) = value.as_ref().filter(|value| !is_digest(value)) {
            let value = shorten(value);
            return Err(DecodeError::Content(format!(
                "{name} is {value:?}, and no sha256: with 64 hexadecimal digits"
            )));
        }
    }
    Ok(())
}

/// Returns whether a text is `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Decodes a report about a suite. A report without `customData.bellwether` is from another tool and is ignored.
fn tested(envelope: Envelope, id: EventId, at: Timestamp) -> Result<(Event, Workload), NoEvent> {
    let mut custom = envelope.custom_data;
    let details = match custom.get_mut("bellwether").map(serde_json::Value::take) {
        Some(details) => read::<TestedDetails>(details)
            .map_err(|error| DecodeError::Content(format!("customData.bellwether: {error}")))?,
        None => {
            return Err(NoEvent::Ignored(Ignored::NotForUs {
                ty: "testsuiterun without customData.bellwether".to_owned(),
            }));
        }
    };
    let content: TestedContent = read(envelope.subject.content).map_err(DecodeError::Content)?;
    let suite = content.suite.map(|suite| suite.name.unwrap_or(suite.id));
    let suite = suite.ok_or_else(|| DecodeError::Content("missing field `testSuite`".to_owned()))?;
    let result = match (content.outcome.as_str(), details.result) {
        ("success" | "pass", None | Some(SuiteResult::Pass)) => SuiteResult::Pass,
        ("failure" | "fail", None | Some(SuiteResult::Fail)) => SuiteResult::Fail,
        ("cancel", None) => SuiteResult::Skipped,
        ("error", None) => SuiteResult::Error,
        ("cancel" | "error", Some(result)) if result != SuiteResult::Pass => result,
        (outcome, result) => {
            let result = result.map_or("none".to_owned(), |result| result.to_string());
            return Err(DecodeError::Content(format!(
                "outcome {} and result {result} contradict each other; send success with pass, failure with fail, and cancel or error with the rest",
                shorten(outcome)
            ))
            .into());
        }
    };
    if details.images.is_empty() && details.model.is_none() {
        return Err(DecodeError::Content(
            "customData.bellwether names neither images nor a model; name what was tested".to_owned(),
        )
        .into());
    }
    check_digests([("prompt", &details.prompt), ("tools", &details.tools)])?;
    let texts =
        [Some(&suite), content.reason.as_ref(), details.model.as_ref(), details.pin.as_ref(), details.link.as_ref()];
    if details.images.len() > 32
        || texts.into_iter().flatten().chain(&details.images).any(|text| text.len() > MAX_ATTRIBUTE_BYTES)
    {
        return Err(DecodeError::Content(format!(
            "a text is longer than {MAX_ATTRIBUTE_BYTES} bytes, or there are more than 32 images"
        ))
        .into());
    }
    let (by, workload) = (id.source.clone(), details.workload);
    let report = SuiteReport {
        suite,
        result,
        images: details.images,
        model: details.model,
        pin: details.pin,
        prompt: details.prompt,
        tools: details.tools,
        summary: content.reason,
        link: details.link,
        by,
        // A report that is sent again later is no newer than its run; a run can't end after its report.
        at: details.finished.map_or(at, |finished| finished.min(at)),
    };
    Ok((Event::Tested { id, workload: workload.clone(), report }, workload))
}

fn deployed(
    envelope: Envelope,
    id: EventId,
    time: Option<Timestamp>,
    options: &DecodeOptions,
) -> Result<(Event, Workload), NoEvent> {
    let content: ServiceContent = read(envelope.subject.content).map_err(DecodeError::Content)?;
    let subject = envelope.subject.id.ok_or_else(|| DecodeError::Content("missing field `subject.id`".to_owned()))?;
    let texts = [
        ("subject.id", Some(&subject)),
        ("environment.id", Some(&content.environment.id)),
        ("artifactId", content.artifact.as_ref()),
    ];
    for (name, text) in texts {
        if text.is_some_and(|text| text.len() > MAX_ATTRIBUTE_BYTES) {
            return Err(DecodeError::Content(format!("{name} is longer than {MAX_ATTRIBUTE_BYTES} bytes")).into());
        }
    }
    let facts =
        SubjectFacts { environment: &content.environment.id, subject: &subject, artifact: content.artifact.as_deref() };
    let Some(workload) = options.mapping.workload(&facts, &options.cluster) else {
        let (subject, environment) = (shorten(&subject), shorten(&content.environment.id));
        return Err(NoEvent::Ignored(Ignored::NoMapping { subject, environment }));
    };
    let event = Event::Deployed { id, time, workload: workload.clone(), artifact: content.artifact.clone() };
    Ok((event, workload))
}

/// Reads JSON. The error names the wrong field; it is cut to 300 characters, because serde repeats the whole value.
fn read<T: for<'de> Deserialize<'de>>(value: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string().chars().take(300).collect())
}

/// Checks the names of a scope. They become keys of the journal and paths of the API server, so a slash or a space in a name
/// could be misread there.
fn check_names(scope: &Scope) -> Result<(), DecodeError> {
    let (cluster, namespace, name) = match scope {
        Scope::Cluster(cluster) => (cluster, None, None),
        Scope::Namespace { cluster, namespace } => (cluster, Some(namespace), None),
        Scope::Workload(Workload { cluster, namespace, kind: _, name }) => (cluster, Some(namespace), Some(name)),
    };
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if cluster.is_empty() || cluster.len() > 253 || !plain(cluster) {
        let remedy = "use letters, digits, '-', '.' and '_'";
        return Err(DecodeError::Name { part: "cluster", value: shorten(cluster), remedy });
    }
    let parts = [("namespace", namespace, 63), ("name", name, 253)];
    for (part, value, longest) in parts.into_iter().filter_map(|(part, value, longest)| Some((part, value?, longest))) {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let allowed = |byte: u8| inside(byte) || byte == b'-' || (byte == b'.' && part == "name");
        let ends = value.bytes().next().is_some_and(inside) && value.bytes().last().is_some_and(inside);
        if !ends || value.len() > longest || !value.bytes().all(allowed) {
            let remedy = "Kubernetes allows lower-case letters, digits and '-'";
            return Err(DecodeError::Name { part, value: shorten(value), remedy });
        }
    }
    Ok(())
}
