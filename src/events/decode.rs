//! What a record means to this daemon: an event for the engine, something to ignore for a named reason, or something
//! for the dead letters.
//!
//! The line between the last two: what is addressed to us and impossible, or can't be read at all, is dead and kept
//! with its bytes; what is readable and not for us is ignored and counted. A topic is shared, and other people's events
//! must not fill our dead letters.

use std::fmt;

use bellwether_core::ids::{EventId, RolloutId, Scope, Workload};
use bellwether_core::input::command::{Command, Verb};
use bellwether_core::input::event::{Event, Request};
use bellwether_core::input::report::{SuiteReport, SuiteResult};
use bellwether_core::time::Timestamp;
use packageurl::PackageUrl;
use serde::Deserialize;

use super::cdevents::{self, Envelope, Known, ServiceContent, TestedContent, TestedOn};
use super::cloudevents::{CloudEvent, CloudEventError, MAX_ATTRIBUTE_BYTES, shorten};
use super::mapping::{Mapping, SubjectFacts};
use crate::ports::EventRecord;

/// Who we are, and how other people's words are translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The cluster that this daemon acts in.
    pub cluster: String,
    /// From CDEvents to workloads.
    pub mapping: Mapping,
    /// The source of the events that this daemon sends, so that it does not listen to itself.
    pub own_source: String,
}

impl DecodeOptions {
    /// The daemon of `cluster`, with the source `/bellwether/<cluster>`.
    pub fn new(cluster: impl Into<String>, mapping: Mapping) -> DecodeOptions {
        let cluster = cluster.into();
        let own_source = format!("/bellwether/{cluster}");
        DecodeOptions { cluster, mapping, own_source }
    }
}

/// What a record means.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Something for the engine.
    Event {
        /// What happened.
        event: Box<Event>,
        /// To what. Of one workload its `Display` is the canonical key, which says on which partition it belongs; what
        /// is wider belongs on all of them.
        scope: Scope,
    },
    /// Readable, and not for us.
    Ignored(Ignored),
    /// Unreadable, or addressed to us and impossible.
    Dead(DecodeError),
}

/// Why a readable event is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// A type that means nothing to us.
    NotForUs {
        /// Which.
        ty: String,
    },
    /// A type that we know, in a version that we don't.
    OtherVersion {
        /// Which.
        ty: String,
    },
    /// The workload is in a cluster that somebody else looks after.
    OtherCluster {
        /// Which.
        cluster: String,
    },
    /// We sent it ourselves.
    Own,
    /// Its producer says that it is too late to act on it.
    Expired {
        /// Since when.
        at: Timestamp,
    },
    /// No rule of the mapping is for it.
    NoMapping {
        /// The event's subject.
        subject: String,
        /// The event's environment.
        environment: String,
    },
}

impl Ignored {
    /// The reason as a metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Ignored::NotForUs { .. } => "not-for-us",
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
            Ignored::NotForUs { ty } => write!(f, "events of type {ty} mean nothing here"),
            Ignored::OtherVersion { ty } => write!(f, "{ty} is not a version that is understood here"),
            Ignored::OtherCluster { cluster } => write!(f, "cluster {cluster} is not looked after here"),
            Ignored::Own => f.write_str("it was sent by this daemon itself"),
            Ignored::Expired { at } => write!(f, "it expired at {at}"),
            Ignored::NoMapping { subject, environment } => {
                write!(f, "no rule of the mapping is for subject {subject:?} in environment {environment:?}")
            }
        }
    }
}

/// What is wrong with an event that was meant for us, or that nobody can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a CloudEvent.
    #[error(transparent)]
    CloudEvent(#[from] CloudEventError),
    /// Our own type in a version that does not exist.
    #[error("type {0:?} is not a version that is understood here; send {understood}", understood = understood(.0))]
    UnknownVersion(String),
    /// Not the envelope of CDEvents.
    #[error("the data is not a CDEvent: {0}")]
    Envelope(String),
    /// The two envelopes disagree.
    #[error("CDEvents context.{field} is {inner:?} and the CloudEvent's {field} is {outer:?}; send the same in both")]
    Disagree {
        /// About what.
        field: &'static str,
        /// The CDEvent's.
        inner: String,
        /// The CloudEvent's.
        outer: String,
    },
    /// The content is not what its type promises.
    #[error("the event's content can't be read: {0}")]
    Content(String),
    /// A request for nothing.
    #[error("the request names no image; set `images` (by container) or `image`")]
    NoImage,
    /// A request for two things.
    #[error("the request has both `image` and `images`; set one of them")]
    TwoImages,
    /// Not a package URL.
    #[error("artifactId {value:?} is not a package URL ({problem}); write it as pkg:oci/NAME@sha256%3A…")]
    Artifact {
        /// As it was sent.
        value: String,
        /// What the parser says.
        problem: String,
    },
    /// No Kubernetes object can be called this.
    #[error("{part} {value:?} can't be the {part} of a workload; {remedy}")]
    Name {
        /// Which part of the workload.
        part: &'static str,
        /// As it was sent, or made by the mapping.
        value: String,
        /// What it should be.
        remedy: &'static str,
    },
}

/// The same type in the version that is understood.
fn understood(ty: &str) -> String {
    let name: Vec<&str> = ty.split('.').take(4).collect();
    name.join(".") + cdevents::VERB_VERSION
}

/// What `record` means at `now` to the daemon that `options` describe.
pub fn decode(record: &EventRecord, options: &DecodeOptions, now: Timestamp) -> Decoded {
    let meant = CloudEvent::from_record(record).map_err(Stop::from).and_then(|event| meaning(event, options, now));
    match meant {
        Ok((event, scope)) => Decoded::Event { event: Box::new(event), scope },
        Err(Stop::Ignore(reason)) => Decoded::Ignored(reason),
        Err(Stop::Die(error)) => Decoded::Dead(error),
    }
}

/// Where the reading ends early.
enum Stop {
    Ignore(Ignored),
    Die(DecodeError),
}

impl<E: Into<DecodeError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Die(error.into())
    }
}

fn meaning(event: CloudEvent, options: &DecodeOptions, now: Timestamp) -> Result<(Event, Scope), Stop> {
    if event.source == options.own_source {
        return Err(Stop::Ignore(Ignored::Own));
    }
    let known = cdevents::recognise(&event.ty);
    match known {
        Known::Other => return Err(Stop::Ignore(Ignored::NotForUs { ty: shorten(&event.ty) })),
        Known::OfOtherVersion => return Err(Stop::Ignore(Ignored::OtherVersion { ty: shorten(&event.ty) })),
        Known::RequestedOfOtherVersion => return Err(DecodeError::UnknownVersion(shorten(&event.ty)).into()),
        Known::Requested | Known::Verb(_) | Known::Tested | Known::Deployed => {}
    }
    if let Some(at) = event.expirytime.filter(|at| *at < now) {
        return Err(Stop::Ignore(Ignored::Expired { at }));
    }
    let CloudEvent { id, source, ty, time, data, .. } = event;
    let envelope: Envelope = read(data).map_err(DecodeError::Envelope)?;
    agree("id", envelope.context.id.as_deref(), &id)?;
    agree("type", envelope.context.ty.as_deref(), &ty)?;
    let (id, time) = (EventId { source, id }, time.or(envelope.context.timestamp));
    let (event, scope) = match known {
        Known::Requested => of_workload(requested(envelope, id, time)?),
        Known::Verb(verb) => commanded(verb, envelope, id, time)?,
        Known::Tested => of_workload(tested(envelope, id, time.unwrap_or(now))?),
        Known::Deployed | Known::RequestedOfOtherVersion | Known::OfOtherVersion | Known::Other => {
            of_workload(deployed(envelope, id, time, options)?)
        }
    };
    check_names(&scope)?;
    if options.cluster == scope.cluster() {
        Ok((event, scope))
    } else {
        Err(Stop::Ignore(Ignored::OtherCluster { cluster: scope.cluster().to_owned() }))
    }
}

fn of_workload((event, workload): (Event, Workload)) -> (Event, Scope) {
    (event, Scope::Workload(workload))
}

/// The content of a verb. What a verb has no use for is refused, like a field that does not exist.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct VerbContent {
    workload: Option<Workload>,
    scope: Option<Scope>,
    rollout: Option<RolloutId>,
    reason: Option<String>,
    full: Option<bool>,
    gate: Option<String>,
    until: Option<Timestamp>,
}

fn commanded(
    verb: &'static str,
    envelope: Envelope,
    id: EventId,
    time: Option<Timestamp>,
) -> Result<(Event, Scope), DecodeError> {
    let content: VerbContent = read(envelope.custom_content()).map_err(DecodeError::Content)?;
    let VerbContent { workload, scope, rollout, reason, full, gate, until } = content;
    let of_others = [
        ("full", full.is_some() && verb != "promote"),
        ("gate", gate.is_some() && verb != "approve"),
        ("until", until.is_some() && verb != "freeze"),
        ("rollout", rollout.is_some() && matches!(verb, "freeze" | "unfreeze")),
    ];
    if let Some((field, _)) = of_others.iter().find(|(_, given)| *given) {
        return Err(DecodeError::Content(format!("{verb} has no field `{field}`; leave it out")));
    }
    let scope = match (workload, scope) {
        (Some(workload), None) => Scope::Workload(workload),
        (None, Some(scope)) => scope,
        _ => return Err(DecodeError::Content(format!("{verb} needs `workload` or `scope`, and one of them"))),
    };
    let verb = match verb {
        "abort" => Verb::Abort,
        "promote" => Verb::Promote { full: full.unwrap_or(false) },
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "retry" => Verb::Retry,
        "approve" => Verb::Approve { gate },
        "freeze" => Verb::Freeze { until },
        _ => Verb::Unfreeze,
    };
    let command = Command { scope: scope.clone(), verb, rollout, reason };
    Ok((Event::Commanded { id, time, command }, scope))
}

fn agree(field: &'static str, inner: Option<&str>, outer: &str) -> Result<(), DecodeError> {
    match inner {
        Some(inner) if inner != outer => {
            Err(DecodeError::Disagree { field, inner: shorten(inner), outer: shorten(outer) })
        }
        _ => Ok(()),
    }
}

fn requested(envelope: Envelope, id: EventId, time: Option<Timestamp>) -> Result<(Event, Workload), Stop> {
    let request: Request = read(envelope.custom_content()).map_err(DecodeError::Content)?;
    match (&request.image, request.images.is_empty()) {
        (None, true) => Err(DecodeError::NoImage.into()),
        (Some(_), false) => Err(DecodeError::TwoImages.into()),
        _ => {
            let workload = request.workload.clone();
            Ok((Event::Requested { id, time, request }, workload))
        }
    }
}

/// A suite that somebody else runs for something else is none of ours: one of ours says for which workload.
fn tested(envelope: Envelope, id: EventId, at: Timestamp) -> Result<(Event, Workload), Stop> {
    let mut custom = envelope.custom_data;
    let on = match custom.get_mut("bellwether").map(serde_json::Value::take) {
        Some(on) => {
            read::<TestedOn>(on).map_err(|error| DecodeError::Content(format!("customData.bellwether: {error}")))?
        }
        None => {
            return Err(Stop::Ignore(Ignored::NotForUs {
                ty: "testsuiterun without customData.bellwether".to_owned(),
            }));
        }
    };
    let content: TestedContent = read(envelope.subject.content).map_err(DecodeError::Content)?;
    let suite = content.suite.map(|suite| suite.name.unwrap_or(suite.id));
    let suite = suite.ok_or_else(|| DecodeError::Content("missing field `testSuite`".to_owned()))?;
    let result = match (content.outcome.as_str(), on.result) {
        ("success" | "pass", None | Some(SuiteResult::Pass)) => SuiteResult::Pass,
        ("failure" | "fail", None | Some(SuiteResult::Fail)) => SuiteResult::Fail,
        ("cancel", None) => SuiteResult::Skipped,
        ("error", None) => SuiteResult::Error,
        ("cancel" | "error", Some(result)) if result != SuiteResult::Pass => result,
        (outcome, result) => {
            let result = result.map_or("none".to_owned(), |result| result.to_string());
            return Err(DecodeError::Content(format!(
                "outcome {} and result {result} don't go together; send success with pass, failure with fail, and cancel or error with the rest",
                shorten(outcome)
            ))
            .into());
        }
    };
    if on.images.is_empty() && on.model.is_none() {
        return Err(DecodeError::Content(
            "customData.bellwether names neither images nor a model, so it is about nothing".to_owned(),
        )
        .into());
    }
    let texts = [Some(&suite), content.reason.as_ref(), on.model.as_ref(), on.link.as_ref()];
    if on.images.len() > 32
        || texts.into_iter().flatten().chain(&on.images).any(|text| text.len() > MAX_ATTRIBUTE_BYTES)
    {
        return Err(DecodeError::Content(format!(
            "a text is longer than {MAX_ATTRIBUTE_BYTES} bytes, or there are more than 32 images"
        ))
        .into());
    }
    let (by, workload) = (id.source.clone(), on.workload);
    let report = SuiteReport {
        suite,
        result,
        images: on.images,
        model: on.model,
        summary: content.reason,
        link: on.link,
        by,
        at,
    };
    Ok((Event::Tested { id, workload: workload.clone(), report }, workload))
}

fn deployed(
    envelope: Envelope,
    id: EventId,
    time: Option<Timestamp>,
    options: &DecodeOptions,
) -> Result<(Event, Workload), Stop> {
    let content: ServiceContent = read(envelope.subject.content).map_err(DecodeError::Content)?;
    let subject = envelope.subject.id.ok_or_else(|| DecodeError::Content("missing field `subject.id`".to_owned()))?;
    for (name, text) in [("subject.id", &subject), ("environment.id", &content.environment.id)] {
        if text.len() > MAX_ATTRIBUTE_BYTES {
            return Err(DecodeError::Content(format!("{name} is longer than {MAX_ATTRIBUTE_BYTES} bytes")).into());
        }
    }
    let purl = content.artifact.as_deref().map(package).transpose()?;
    let facts = SubjectFacts {
        environment: &content.environment.id,
        subject: &subject,
        artifact: content.artifact.as_deref().zip(purl.as_ref()),
    };
    let Some(workload) = options.mapping.workload(&facts, &options.cluster) else {
        let (subject, environment) = (shorten(&subject), shorten(&content.environment.id));
        return Err(Stop::Ignore(Ignored::NoMapping { subject, environment }));
    };
    let event = Event::Deployed { id, time, workload: workload.clone(), artifact: content.artifact.clone() };
    Ok((event, workload))
}

fn package(text: &str) -> Result<PackageUrl<'static>, DecodeError> {
    let bad = |problem: String| DecodeError::Artifact { value: shorten(text), problem };
    if text.len() > MAX_ATTRIBUTE_BYTES {
        return Err(bad("it is too long".to_owned()));
    }
    text.parse().map_err(|error: packageurl::Error| bad(error.to_string()))
}

/// Reads JSON, and says which field is wrong. serde repeats the offending value whole, so the sentence is cut.
fn read<T: for<'de> Deserialize<'de>>(value: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string().chars().take(300).collect())
}

/// The names become keys of the journal and paths of the API server, so a slash or a space in one is refused here.
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
            let remedy = "Kubernetes wants lower-case letters, digits and '-'";
            return Err(DecodeError::Name { part, value: shorten(value), remedy });
        }
    }
    Ok(())
}
