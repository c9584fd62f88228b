//! The functions that read bytes from outside the process, one for each target. Any bytes must end in a result.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bellwether::adapters::kubernetes::template;
use bellwether::adapters::prometheus::answer::{ApiResponse, QueryData, read_error, read_points, read_ranges};
use bellwether::config::{self, Sources};
use bellwether::events::cloudevents::CloudEvent;
use bellwether::events::decode::{DecodeOptions, Decoded, decode};
use bellwether::events::mapping::Mapping;
use bellwether::http::intake;
use bellwether::ledger::Ledger;
use bellwether::ports::EventRecord;
use bellwether_core::engine::Engine;
use bellwether_core::time::{Span, Timestamp};
use bellwether_gate::import::{ImportFormat, ImportSettings, import};
use bellwether_gate::report::{GateReport, GateSubject};

/// A function that reads bytes.
pub type Function = fn(&[u8]);

/// The targets by the names of their folders in `corpus`.
pub const TARGETS: &[(&str, Function)] = &[
    ("events", events),
    ("config", configuration),
    ("answers", answers),
    ("journal", journal),
    ("http", http),
    ("templates", templates),
    ("results", results),
];

/// Splits the bytes into header lines (`name: value`) and the rest after an empty line.
fn headers_and_body(data: &[u8]) -> (Vec<(String, Vec<u8>)>, &[u8]) {
    let (mut headers, mut rest) = (Vec::new(), data);
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        headers.push((String::from_utf8_lossy(&line[..colon]).into_owned(), value.trim_ascii().to_vec()));
    }
    (headers, rest)
}

/// Returns the record of the events topic that the bytes stand for.
pub fn record_of(data: &[u8]) -> EventRecord {
    let (headers, body) = headers_and_body(data);
    EventRecord { headers, value: Some(body.to_vec()), ..EventRecord::default() }
}

/// Reads a record of the events topic.
fn events(data: &[u8]) {
    decoded(&record_of(data));
}

/// Reads a request to `POST /api/v1/events`.
fn http(data: &[u8]) {
    let (lines, body) = headers_and_body(data);
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
            headers.append(name, value);
        }
    }
    decoded(&intake::record_of(&headers, body));
}

fn decoded(record: &EventRecord) {
    let options = DecodeOptions::new("prod", Mapping::default());
    let decoded = decode(record, &options, Timestamp::UNIX_EPOCH);
    if let Decoded::Event { scope, .. } = &decoded {
        assert_eq!(scope.to_string().parse().as_ref(), Ok(scope), "a scope is read as it is written");
    }
    // The event as it would be sent on.
    let _ = CloudEvent::from_record(record).map(|event| CloudEvent::from_record(&event.to_record("key")));
}

/// Reads a file of the configuration.
fn configuration(data: &[u8]) {
    let Ok(file) = tempfile::Builder::new().suffix(".toml").tempfile() else { return };
    if std::fs::write(file.path(), data).is_err() {
        return;
    }
    let sources = Sources { files: vec![file.path().to_owned()], ..Sources::default() };
    if let Err(report) = config::load(&sources) {
        assert!(!report.to_string().is_empty(), "a refusal names a problem");
    }
    // The effective configuration is shown also if a value is wrong.
    let _ = config::show(&sources, true);
}

/// Reads an answer of Prometheus.
fn answers(data: &[u8]) {
    let read = || serde_json::from_slice::<ApiResponse<QueryData>>(data).ok();
    if let Some(points) = read().and_then(|answer| read_points(answer.data).ok()) {
        assert!(points.len() <= data.len(), "a point for each element at most");
    }
    let _ = read().map(|answer| read_ranges(answer.data));
    let _ = read_error(data);
}

/// Reads a journal, of which each line is an entry: its key, a space and its value.
fn journal(data: &[u8]) {
    let mut entries = BTreeMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let value = line.get(space + 1..).unwrap_or_default();
        entries.insert(String::from_utf8_lossy(&line[..space]).into_owned(), value.to_vec());
    }
    let blank = Engine::new("prod".to_owned(), Vec::new(), Span::from_secs(3600));
    if let Ok((ledger, _)) = Ledger::restore(&entries, blank) {
        let known = ledger.engine().states().count();
        assert!(known <= entries.len(), "a workload for each entry at most");
        let _ = (ledger.engine().watches(), ledger.engine().next_wakeup());
    }
}

/// Reads the pod template of a Deployment.
fn templates(data: &[u8]) {
    let Ok(read) = serde_json::from_slice(data) else { return };
    let images = template::images(&read);
    let hash = template::hash(&read, "pod-template-hash");
    assert_eq!(template::hash(&read, "pod-template-hash"), hash, "a hash depends on the template alone");
    assert!(template::unknown(&read, &images).is_empty(), "every image is of a container");
    let other = images.keys().map(|name| (name.clone(), "registry.test/other:v1".to_owned())).collect();
    let changed = template::with_images(&read, &other);
    assert!(template::changes(&changed, &other).is_empty(), "every image is replaced");
    let _ = template::labels(&read);
}

/// Reads the results of another tool, whose name is the first line.
fn results(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (name, bytes) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    if name == b"report" {
        let _ = std::str::from_utf8(bytes).map(GateReport::parse);
        return;
    }
    let Some(format) = FORMATS.iter().find(|format| format.name().as_bytes() == name) else { return };
    let settings = ImportSettings {
        name: "suite".to_owned(),
        min_pass: "90%".to_owned(),
        plain: false,
        select: None,
        subject: GateSubject { model: "model".to_owned(), ..GateSubject::default() },
        at: Timestamp::UNIX_EPOCH,
    };
    if let Ok(report) = import(*format, bytes, &settings) {
        let text = report.to_json().unwrap_or_default();
        assert!(GateReport::parse(&text).is_ok(), "a report is read as it is written: {text}");
    }
}

const FORMATS: &[ImportFormat] = &[
    ImportFormat::Promptfoo,
    ImportFormat::Inspect,
    ImportFormat::Deepeval,
    ImportFormat::Junit,
    ImportFormat::LmEval,
    ImportFormat::Garak,
    ImportFormat::Jsonl,
];
