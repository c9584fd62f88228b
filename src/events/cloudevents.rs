//! CloudEvents 1.0 over Kafka and HTTP, in binary and in structured mode.
//!
//! The two bindings differ only in the headers of binary mode: Kafka prefixes attributes with `ce_`, and HTTP prefixes
//! them with `ce-` and percent-encodes their values. No SDK crate is used: it would bring types of its own and a Kafka
//! client of a fixed version for a prefix, a content type and a JSON object.

use std::collections::BTreeMap;

use bellwether_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ports::EventRecord;

/// The largest event in bytes, headers included. A larger one is refused before it is parsed. It is half of the largest
/// record that a broker accepts by default, so that an event always fits when it is sent on to its partition.
pub const MAX_EVENT_BYTES: usize = 1 << 19;

/// The longest value of an attribute in bytes. Ids and sources become keys of the journal, and subjects are matched against
/// patterns.
pub const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// The content type of structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// One CloudEvent whose data is JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    /// The event's id, unique within `source`.
    pub id: String,
    /// The producer, as a URI reference.
    pub source: String,
    /// The type of the event (`type`).
    pub ty: String,
    /// The time of the event by the producer's clock.
    pub time: Option<Timestamp>,
    /// The object that the event is about.
    pub subject: Option<String>,
    /// The key by which the producer wants events to be ordered.
    pub partitionkey: Option<String>,
    /// The instant after which the event must not be acted on.
    pub expirytime: Option<Timestamp>,
    /// The W3C trace context that the event belongs to.
    pub traceparent: Option<String>,
    /// All other attributes, by name.
    pub extensions: BTreeMap<String, String>,
    /// The content of the event.
    pub data: Value,
}

/// An error of reading a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudEventError {
    /// A required attribute is missing.
    #[error(
        "attribute {attribute} is missing; a producer in binary mode sends it as header {header} (ce-{attribute} over HTTP)"
    )]
    Missing {
        /// The attribute's name.
        attribute: &'static str,
        /// The header with the attribute in this binding.
        header: String,
    },
    /// An attribute has an invalid value.
    #[error("attribute {attribute} is {value:?}; {remedy}")]
    Bad {
        /// The attribute's name, shortened.
        attribute: String,
        /// The value, shortened.
        value: String,
        /// The valid values.
        remedy: &'static str,
    },
    /// The content type is batch mode: several events in one record.
    #[error("content-type {0:?} is batch mode, which is not read here; send one event per record")]
    Batch(String),
    /// The content type is not JSON.
    #[error(
        "content-type {0:?} is not JSON; send application/json, or application/cloudevents+json for structured mode"
    )]
    NotJson(String),
    /// The value, or the data in it, can't be parsed as JSON.
    #[error("the content is not JSON: {0}; send one JSON object")]
    Unparsable(String),
    /// The record has no value.
    #[error("the record has no value (a tombstone); an event carries its data in the value")]
    NoValue,
    /// The event has no data.
    #[error("the event has no data; send it as JSON in `data`")]
    NoData,
    /// The event is larger than [`MAX_EVENT_BYTES`]; its size in bytes.
    #[error("the event has {0} bytes, more than the {MAX_EVENT_BYTES} that are read; send a reference instead")]
    TooLarge(usize),
}

/// The part of an event in structured mode that every type has.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    ty: String,
    /// The version of CloudEvents. Its presence tells an event from other JSON.
    #[serde(rename = "specversion")]
    _specversion: String,
}

/// A protocol binding of CloudEvents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    Kafka,
    Http,
}

impl Binding {
    /// Returns the prefix of headers that hold attributes.
    fn prefix(self) -> &'static str {
        match self {
            Binding::Kafka => "ce_",
            Binding::Http => "ce-",
        }
    }
}

impl CloudEvent {
    /// Reads the event in a Kafka record.
    ///
    /// # Errors
    /// If the record holds no CloudEvent 1.0 with JSON data, or the event is too large.
    pub fn from_record(record: &EventRecord) -> Result<CloudEvent, CloudEventError> {
        let value = record.value.as_deref().ok_or(CloudEventError::NoValue)?;
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        read(Binding::Kafka, headers, value)
    }

    /// Returns the type of the event in a Kafka record without a look at the rest, which may be in any format; `None` if the
    /// record names no type.
    pub fn type_of(record: &EventRecord) -> Option<String> {
        let prefix = Binding::Kafka.prefix();
        let named = record.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(&format!("{prefix}type")));
        match named {
            Some((_, ty)) => std::str::from_utf8(ty).ok().map(str::to_owned),
            None => serde_json::from_slice::<Head>(record.value.as_deref()?).ok().map(|head| head.ty),
        }
    }

    /// Reads the event in an HTTP request. Header names may be in any case.
    ///
    /// # Errors
    /// If the request holds no CloudEvent 1.0 with JSON data, or the event is too large.
    pub fn from_http<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        body: &[u8],
    ) -> Result<CloudEvent, CloudEventError> {
        read(Binding::Http, headers.into_iter(), body)
    }

    /// Returns the event as JSON, for structured mode.
    pub fn to_structured(&self) -> Value {
        let mut event: Map<String, Value> =
            self.attributes().into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        event.insert("datacontenttype".to_owned(), Value::from("application/json"));
        event.insert("data".to_owned(), self.data.clone());
        Value::Object(event)
    }

    /// Returns the event as a Kafka record in binary mode with this key.
    pub fn to_record(&self, key: &str) -> EventRecord {
        let named = self.attributes().into_iter().map(|(name, value)| (format!("ce_{name}"), value.into_bytes()));
        let content_type = ("content-type".to_owned(), b"application/json".to_vec());
        EventRecord {
            key: Some(key.as_bytes().to_vec()),
            value: Some(self.data.to_string().into_bytes()),
            headers: named.chain([content_type]).collect(),
            ..EventRecord::default()
        }
    }

    /// Returns all attributes except `datacontenttype`, with their names in the specification.
    fn attributes(&self) -> Vec<(String, String)> {
        let Self { id, source, ty, time, subject, partitionkey, expirytime, traceparent, extensions, data: _ } = self;
        let always = [("specversion", "1.0"), ("id", id), ("source", source), ("type", ty)];
        let mut all: Vec<(String, String)> =
            always.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let optional = [
            ("time", time.map(|at| at.to_string())),
            ("subject", subject.clone()),
            ("partitionkey", partitionkey.clone()),
            ("expirytime", expirytime.map(|at| at.to_string())),
            ("traceparent", traceparent.clone()),
        ];
        all.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        all.extend(extensions.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }
}

/// Reads an event in the mode that its content type names.
fn read<'a>(
    binding: Binding,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    value: &[u8],
) -> Result<CloudEvent, CloudEventError> {
    let headers: Vec<_> = headers.collect();
    let size = value.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if size > MAX_EVENT_BYTES {
        return Err(CloudEventError::TooLarge(size));
    }
    let header = |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    // Some producers send the content type as the attribute that it stands for.
    let attribute = format!("{}datacontenttype", binding.prefix());
    let content_type = header("content-type")
        .or_else(|| header(&attribute))
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default();
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        STRUCTURED => structured(binding, value),
        // An event without any header can only be in structured mode.
        "" if serde_json::from_slice::<Head>(value).is_ok() => structured(binding, value),
        batch if batch.starts_with("application/cloudevents-batch") => {
            Err(CloudEventError::Batch(shorten(&content_type)))
        }
        other if other.starts_with("application/cloudevents") => Err(CloudEventError::NotJson(shorten(&content_type))),
        other if is_json(other) => binary(binding, &headers, value),
        _ => Err(CloudEventError::NotJson(shorten(&content_type))),
    }
}

/// Returns whether data of this media type is JSON. Data without a type counts as JSON, as the specification says for
/// structured mode; if it is not, parsing fails.
fn is_json(media: &str) -> bool {
    media.is_empty() || media == "application/json" || media == "text/json" || media.ends_with("+json")
}

/// Reads an event in binary mode: attributes in headers, data in the value.
fn binary(binding: Binding, headers: &[(&str, &[u8])], value: &[u8]) -> Result<CloudEvent, CloudEventError> {
    let mut attributes = BTreeMap::new();
    for (header, value) in headers {
        let lower = header.to_ascii_lowercase();
        let Some(name) = lower.strip_prefix(binding.prefix()) else { continue };
        let text = std::str::from_utf8(value).map_err(|_| bad(name, &String::from_utf8_lossy(value), "write UTF-8"))?;
        let text = match binding {
            Binding::Kafka => text.to_owned(),
            Binding::Http => percent_decode(text)
                .ok_or_else(|| bad(name, text, "percent-encode it as the HTTP binding of CloudEvents says"))?,
        };
        attributes.insert(name.to_owned(), text);
    }
    attributes.remove("datacontenttype");
    if value.is_empty() {
        return Err(CloudEventError::NoData);
    }
    let data = serde_json::from_slice(value).map_err(|error| CloudEventError::Unparsable(error.to_string()))?;
    assemble(binding, attributes, data)
}

/// Reads an event in structured mode: a JSON object with attributes and data.
fn structured(binding: Binding, value: &[u8]) -> Result<CloudEvent, CloudEventError> {
    let mut event: Map<String, Value> =
        serde_json::from_slice(value).map_err(|error| CloudEventError::Unparsable(error.to_string()))?;
    if event.contains_key("data_base64") {
        return Err(bad("data_base64", "…", "send the data as JSON in `data`"));
    }
    let data = event.remove("data");
    let mut attributes = BTreeMap::new();
    for (name, value) in event {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            // The JSON format allows null for an absent attribute.
            Value::Null => continue,
            other @ (Value::Array(_) | Value::Object(_)) => {
                return Err(bad(&name, &other.to_string(), "write text, numbers, true or false"));
            }
        };
        attributes.insert(name, text);
    }
    if let Some(media) = attributes.remove("datacontenttype").filter(|media| {
        let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        !is_json(&essence)
    }) {
        return Err(CloudEventError::NotJson(shorten(&media)));
    }
    assemble(binding, attributes, data.filter(|data| !data.is_null()).ok_or(CloudEventError::NoData)?)
}

/// Checks the attributes and makes the event.
fn assemble(
    binding: Binding,
    mut attributes: BTreeMap<String, String>,
    data: Value,
) -> Result<CloudEvent, CloudEventError> {
    for (name, value) in &attributes {
        if value.len() > MAX_ATTRIBUTE_BYTES || value.chars().any(char::is_control) {
            return Err(bad(name, value, "use at most 1024 bytes and no control characters"));
        }
    }
    let mut required = |attribute: &'static str| match attributes.remove(attribute) {
        Some(value) if value.is_empty() => Err(bad(attribute, "", "it must not be empty")),
        Some(value) => Ok(value),
        None => Err(CloudEventError::Missing { attribute, header: format!("{}{attribute}", binding.prefix()) }),
    };
    let specversion = required("specversion")?;
    if specversion != "1.0" {
        return Err(bad("specversion", &specversion, "only CloudEvents 1.0 is read"));
    }
    let (id, source, ty) = (required("id")?, required("source")?, required("type")?);
    let (time, expirytime) = (instant(&mut attributes, "time")?, instant(&mut attributes, "expirytime")?);
    Ok(CloudEvent {
        id,
        source,
        ty,
        time,
        subject: attributes.remove("subject"),
        partitionkey: attributes.remove("partitionkey"),
        expirytime,
        traceparent: attributes.remove("traceparent"),
        extensions: attributes,
        data,
    })
}

/// Takes an attribute that holds a time; `None` if it is absent.
fn instant(
    attributes: &mut BTreeMap<String, String>,
    name: &'static str,
) -> Result<Option<Timestamp>, CloudEventError> {
    let Some(text) = attributes.remove(name) else { return Ok(None) };
    let parsed = text.parse().map_err(|_| bad(name, &text, "write it as RFC 3339, as in 2026-01-31T12:00:00Z"))?;
    Ok(Some(parsed))
}

fn bad(attribute: &str, value: &str, remedy: &'static str) -> CloudEventError {
    CloudEventError::Bad { attribute: shorten(attribute), value: shorten(value), remedy }
}

/// Returns at most the first 80 characters of a text, so that an error does not repeat a long value.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Decodes a header value of the HTTP binding: `%` and two hexadecimal digits for a byte of UTF-8, and optional double
/// quotes around the value. Returns `None` if a `%` has no two digits after it or the bytes are not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (char::from(rest.next()?).to_digit(16)?, char::from(rest.next()?).to_digit(16)?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
