//! Exports of OTLP, as protobuf and as JSON, compressed or not. Fields that are not read are skipped.
//!
//! Source of the forms: the OpenTelemetry protocol, docs/specification.md ("OTLP/HTTP") and trace.proto. In JSON, ids are
//! hexadecimal and 64-bit numbers are texts or numbers; senders that encode ids as base64, which is the general mapping of
//! protobuf to JSON, are read as well.

use std::collections::BTreeMap;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use prost::Message as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::span::{RawSpan, is_read};

/// Largest size of an export in bytes, also after decompression.
pub const MAX_EXPORT: usize = 32 << 20;

/// The encoding of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpEncoding {
    /// Protobuf, as `application/x-protobuf`.
    Protobuf,
    /// JSON, as `application/json`.
    Json,
}

/// The reason why an export can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// It is larger than [`MAX_EXPORT`].
    #[error("the export has more than {MAX_EXPORT} bytes; let the exporter send smaller batches")]
    TooLarge,
    /// It has not the form of the protocol.
    #[error("not an export of traces: {0}")]
    Malformed(String),
}

/// Decompresses the body of an export that is gzip.
///
/// # Errors
/// [`OtlpError`] if it is no gzip, or too large.
pub fn gunzip(body: &[u8]) -> Result<Vec<u8>, OtlpError> {
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(body).take(MAX_EXPORT as u64 + 1).read_to_end(&mut plain);
    read.map_err(|error| OtlpError::Malformed(error.to_string()))?;
    if plain.len() > MAX_EXPORT { Err(OtlpError::TooLarge) } else { Ok(plain) }
}

/// Decodes an export. A span without the id of a trace, or without its own, is left out.
///
/// # Errors
/// [`OtlpError::Malformed`] if it has not the form of the protocol.
pub fn decode(body: &[u8], encoding: OtlpEncoding) -> Result<Vec<RawSpan>, OtlpError> {
    let export = match encoding {
        OtlpEncoding::Protobuf => Export::decode(body).map_err(|error| error.to_string()),
        OtlpEncoding::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
    };
    let scopes = export.map_err(OtlpError::Malformed)?.resource_spans.into_iter().flat_map(|of| of.scope_spans);
    Ok(scopes.flat_map(|scope| scope.spans).filter_map(Span::into_raw).collect())
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(deserialize_with = "id")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    #[serde(deserialize_with = "id")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    #[serde(deserialize_with = "id")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    #[serde(deserialize_with = "number")]
    start_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3, 4, 5, 6, 7")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Array(AnyValues),
    #[prost(message, tag = "6")]
    List(KeyValues),
    #[prost(bytes = "vec", tag = "7")]
    Bytes(Vec<u8>),
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct AnyValues {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct KeyValues {
    #[prost(message, repeated, tag = "1")]
    values: Vec<KeyValue>,
}

impl Span {
    fn into_raw(self) -> Option<RawSpan> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        if self.trace_id.is_empty() || self.span_id.is_empty() {
            return None;
        }
        let read = self.attributes.into_iter().filter(|pair| is_read(&pair.key));
        let attributes: BTreeMap<String, Value> =
            read.filter_map(|pair| Some((pair.key, pair.value?.into_json()))).collect();
        Some(RawSpan {
            trace: hex(&self.trace_id),
            id: hex(&self.span_id),
            parent: hex(&self.parent_span_id),
            name: self.name,
            start: self.start_time_unix_nano,
            attributes,
        })
    }
}

impl AnyValue {
    fn into_json(self) -> Value {
        match self.value {
            None => Value::Null,
            Some(Any::Text(text)) => Value::String(text),
            Some(Any::Bool(value)) => Value::Bool(value),
            Some(Any::Int(number)) => number.into(),
            Some(Any::Double(number)) => number.into(),
            Some(Any::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
            Some(Any::Array(of)) => of.values.into_iter().map(AnyValue::into_json).collect(),
            Some(Any::List(of)) => {
                let pair = |pair: KeyValue| (pair.key, pair.value.map_or(Value::Null, AnyValue::into_json));
                Value::Object(of.values.into_iter().map(pair).collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AnyValue, D::Error> {
        let any: BTreeMap<String, Value> = Option::deserialize(deserializer)?.unwrap_or_default();
        // A value has one key, which names its kind.
        let Some((kind, value)) = any.into_iter().find(|(_, value)| !value.is_null()) else {
            return Ok(AnyValue::default());
        };
        let value = match kind.as_str() {
            "stringValue" => from(value).map(Any::Text),
            "boolValue" => from(value).map(Any::Bool),
            "intValue" => from(value).and_then(|Number(text)| text.parse().map(Any::Int).map_err(|e| e.to_string())),
            "doubleValue" => {
                from(value).and_then(|Number(text)| text.parse().map(Any::Double).map_err(|e| e.to_string()))
            }
            "arrayValue" => from(value).map(Any::Array),
            "kvlistValue" => from(value).map(Any::List),
            "bytesValue" => from(value)
                .and_then(|text: String| STANDARD.decode(text).map(Any::Bytes).map_err(|error| error.to_string())),
            _ => return Ok(AnyValue::default()),
        };
        let value = value.map_err(serde::de::Error::custom)?;
        Ok(AnyValue { value: Some(value) })
    }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// A number that is written as a number or as a text.
struct Number(String);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Number(text)),
            Value::Number(number) => Ok(Number(number.to_string())),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                Err(serde::de::Error::custom("expected a number"))
            }
        }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Number::deserialize(deserializer)?.0.parse().map_err(serde::de::Error::custom)
}

/// Reads an id in hexadecimal digits or in base64. Ids have 8 or 16 bytes, so the lengths of both forms differ.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text: String = Option::deserialize(deserializer)?.unwrap_or_default();
    let hex = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes = match text.len() {
        0 => Some(Vec::new()),
        16 | 32 => (0..text.len()).step_by(2).map(hex).collect(),
        _ => STANDARD.decode(&text).ok(),
    };
    bytes.ok_or_else(|| serde::de::Error::custom("an id of a trace or a span is not hexadecimal"))
}
