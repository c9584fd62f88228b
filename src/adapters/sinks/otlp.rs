//! OpenTelemetry: each rollout as a trace, sent when it has ended to a collector by OTLP over HTTP.
//!
//! The trace continues that of the request, if its event has a `traceparent` (W3C Trace Context, "traceparent header"; CloudEvents
//! extension "Distributed Tracing"), and else begins one whose id is derived from the rollout. All ids are derived, so a repeated
//! notification is the same trace again. The root span is the rollout, with a span for each of its phases.
//!
//! The body is OTLP 1.x in JSON (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"): ids in hexadecimal, enumerations as
//! numbers, and 64-bit numbers as text. A collector takes it at `/v1/traces`. Its partial refusals, in an answer of 200, are not read.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use bellwether_core::ids::digest;
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{Notification, RolloutTrace, Subscription, TracedPhase};
use bellwether_core::time::{Span, Timestamp};
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::delivery::{HttpSink, Letter, Pace};
use super::text::{fitted, plain, utf16};
use super::{HttpSinkOptions, Inquiry, Provider, SinkError, below, headers, http_url, url_problem};

/// An example of a collector's URL.
const EXAMPLE: &str = "http://otel-collector:4318";
/// The largest number of requests per second.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// The longest value of an attribute, in UTF-16 units. Stores of traces cut longer ones.
const MAX_ATTRIBUTE: usize = 2000;
/// The kind of a span that is neither a call nor an answer.
const INTERNAL: u8 = 1;
/// The codes of a span's status.
const OK: u8 = 1;
const ERROR: u8 = 2;

/// The settings of a collector.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The collector's URL, without `/v1/traces`.
    pub url: String,
    /// Further headers, which are no secrets.
    pub headers: BTreeMap<String, String>,
    /// The files with the values of further headers, which are secrets, by the header's name.
    pub header_files: BTreeMap<String, PathBuf>,
    /// The time for the collector to answer a request.
    pub timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        let timeout = Span::from_secs(10);
        Options { url: String::new(), headers: BTreeMap::new(), header_files: BTreeMap::new(), timeout }
    }
}

impl HttpSinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let url = url_problem("url", &self.url, EXAMPLE);
        url.into_iter().chain(headers::problems(&self.headers, &self.header_files)).collect()
    }

    fn http_sink(&self, name: &str) -> Result<HttpSink, SinkError> {
        let not_a_url = SinkError::NotAUrl { service: "the collector", example: EXAMPLE };
        let base = http_url(SecretString::from(self.url.as_str()), "the collector", EXAMPLE)?;
        let url = below(&base, &["v1", "traces"]).ok_or(not_a_url)?;
        let (headers, secrets) = headers::read(&self.headers, &self.header_files)?;
        let pace = Pace { timeout: self.timeout, per_second: PER_SECOND };
        HttpSink::new(name, Collector { url, headers, secrets }, pace)
    }
}

/// A collector of traces.
struct Collector {
    url: SecretString,
    headers: HeaderMap,
    secrets: Vec<SecretString>,
}

impl Provider for Collector {
    fn subscription(&self) -> Subscription {
        Subscription::Traces
    }

    fn letter(&self, effect: &Effect, notification: &Notification, _: Timestamp) -> Option<Letter> {
        let body = request(effect, notification, notification.trace.as_deref()?);
        Some(Letter { headers: self.headers.clone(), ..Letter::json(&self.url, &body) })
    }

    fn inquiry(&self) -> Inquiry {
        Inquiry::Reaches(self.url.clone())
    }

    fn secrets(&self) -> Vec<&SecretString> {
        self.secrets.iter().collect()
    }
}

/// The place of a trace: its id, and the span that it continues.
#[derive(Debug, PartialEq, Eq)]
struct TraceContext {
    trace: String,
    parent: Option<String>,
}

impl TraceContext {
    /// Returns the context of a rollout that was requested with `traceparent`. One that is not valid counts as none, as the
    /// specification says.
    fn of(rollout: &str, traceparent: Option<&str>) -> TraceContext {
        let is_id = |text: &str, length| {
            let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            text.len() == length && is_hex && text.bytes().any(|byte| byte != b'0')
        };
        let parts: Vec<&str> = traceparent.unwrap_or_default().split('-').collect();
        match parts.as_slice() {
            ["00", trace, span, _] if is_id(trace, 32) && is_id(span, 16) => {
                TraceContext { trace: (*trace).to_owned(), parent: Some((*span).to_owned()) }
            }
            _ => TraceContext { trace: id(&["trace", rollout], 32), parent: None },
        }
    }
}

/// Returns an id of `length` hexadecimal digits that is derived from these words.
fn id(words: &[&str], length: usize) -> String {
    digest(words)[..length].to_owned()
}

/// Returns the body of the request with a rollout's trace.
fn request(effect: &Effect, notification: &Notification, trace: &RolloutTrace) -> Value {
    let (rollout, workload, facts) = (notification.key.0.as_str(), &effect.workload, &notification.facts);
    let TraceContext { trace: trace_id, parent } = TraceContext::of(rollout, trace.traceparent.as_deref());
    let root = id(&["span", rollout], 16);
    let outcome = facts.ending.as_deref().unwrap_or_default();
    let about = [
        ("bellwether.rollout", rollout),
        ("bellwether.workload.kind", &workload.kind.to_string()),
        ("bellwether.policy", &facts.policy),
        ("bellwether.outcome", outcome),
        ("bellwether.image", facts.image.as_deref().unwrap_or_default()),
        ("k8s.namespace.name", &workload.namespace),
        ("k8s.deployment.name", &workload.name),
    ];
    let mut spans = vec![json!({
        "traceId": trace_id,
        "spanId": root,
        "parentSpanId": parent.unwrap_or_default(),
        "name": format!("rollout {}/{}", workload.namespace, workload.name),
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(trace.started),
        "endTimeUnixNano": nanoseconds(facts.at),
        "attributes": attributes(&about),
        "status": status(outcome, &trace.why),
    })];
    let ends = trace.phases.iter().skip(1).map(|next| next.since).chain([facts.at]);
    spans.extend(trace.phases.iter().zip(ends).enumerate().map(|(n, (phase, end))| {
        let mut span = phase_span(phase, end);
        span["traceId"] = json!(trace_id);
        span["spanId"] = json!(id(&["span", rollout, &n.to_string()], 16));
        span["parentSpanId"] = json!(root);
        span
    }));
    let version = env!("CARGO_PKG_VERSION");
    let resource =
        [("service.name", "bellwether"), ("service.version", version), ("k8s.cluster.name", &workload.cluster)];
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&resource) },
        "scopeSpans": [{ "scope": { "name": "bellwether", "version": version }, "spans": spans }],
    }] })
}

/// Returns the span of a phase that lasted until `end`, without its ids.
fn phase_span(phase: &TracedPhase, end: Timestamp) -> Value {
    let step = phase.step.map(|step| step.to_string());
    let name = match &step {
        Some(step) if phase.phase == "stepping" => format!("step {step}"),
        _ => phase.phase.clone(),
    };
    let about = [
        ("bellwether.decision", phase.decision.as_str()),
        ("bellwether.reason", &phase.why),
        ("bellwether.step", step.as_deref().unwrap_or_default()),
        ("bellwether.by", phase.by.as_deref().unwrap_or_default()),
    ];
    json!({
        "name": name,
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(phase.since),
        // A clock that was set back could end it before its start.
        "endTimeUnixNano": nanoseconds(end.max(phase.since)),
        "attributes": attributes(&about),
    })
}

/// Returns the status of the rollout's span: an error if the version failed.
fn status(outcome: &str, why: &str) -> Value {
    match outcome {
        "promoted" => json!({ "code": OK }),
        "rolled-back" => json!({ "code": ERROR, "message": fitted(why, MAX_ATTRIBUTE, utf16, plain) }),
        _ => json!({}),
    }
}

/// Returns attributes of text; the empty ones are left out.
fn attributes(all: &[(&str, &str)]) -> Value {
    let attribute = |(key, value): &(&str, &str)| {
        let value = fitted(value, MAX_ATTRIBUTE, utf16, plain);
        json!({ "key": key, "value": { "stringValue": value } })
    };
    all.iter().filter(|(_, value)| !value.is_empty()).map(attribute).collect()
}

fn nanoseconds(at: Timestamp) -> String {
    at.as_nanosecond().max(0).to_string()
}

#[cfg(test)]
mod tests;
