//! The form of the records of decisions, which `docs/audit.md` describes to their readers.

use bellwether_core::engine::record::{AUDIT_SCHEMA, AuditRecord};
use serde_json::{Value, json};

use super::unreadable::{Entries, commanded, requested};
use super::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.md");

/// Returns the records of a rollout that is requested and aborted, as they are written.
fn records() -> Vec<Vec<u8>> {
    let mut journal = Entries::new();
    let mut ledger = journal.restore();
    let status = Box::new(Setting::new().world.status(&workload()));
    journal.step(&mut ledger, Event::Observed { workload: workload(), status });
    journal.decisions.clear();
    journal.step(&mut ledger, requested(&workload(), "a"));
    journal.step(&mut ledger, commanded("abort", "test/shop/Deployment/web"));
    journal.decisions
}

/// Returns a record without the parts that are not stable.
fn stable(record: &[u8]) -> Value {
    let mut record: Value = serde_json::from_slice(record).unwrap();
    let fields = record.as_object_mut().unwrap();
    for unstable in ["basis", "policies"] {
        assert!(fields.remove(unstable).is_some(), "{unstable}");
    }
    fields["engine"] = json!("0.1.0");
    fields["inputs"].as_array_mut().unwrap().retain(|input| input["event"]["id"].is_object());
    for input in fields["inputs"].as_array_mut().unwrap() {
        input.as_object_mut().unwrap().remove("sight");
    }
    for decision in fields["decisions"].as_array_mut().unwrap() {
        let fields = decision.as_object_mut().unwrap();
        fields.remove("reason");
        fields.remove("cause");
    }
    record
}

/// Adds the names of all fields of a value, and of those within it.
fn names(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                all.push(name.clone());
                // The containers of a workload have names of their own.
                if name != "images" {
                    names(value, all);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, all)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn a_record_of_decisions_has_the_form_of_its_page() {
    let records = records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| !record.contains(&b'\n')), "a record is one line");
    let stable: Vec<Value> = records.iter().map(|record| stable(record)).collect();
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut all = Vec::new();
    stable.iter().for_each(|record| names(record, &mut all));
    let table: String = page.lines().filter(|line| line.starts_with("| `")).collect();
    let described = |name: &String| table.contains(&format!("`{name}`")) || table.contains(&format!(".{name}`"));
    all.retain(|name| !described(name));
    assert!(all.is_empty(), "the page does not describe {all:?}");

    let (before, rest) = page.split_once("```json\n").unwrap();
    let (_, after) = rest.split_once("\n```").unwrap();
    let example: Vec<String> = stable.iter().map(|record| serde_json::to_string_pretty(record).unwrap()).collect();
    let written = format!("{before}```json\n{}\n```{after}", example.join("\n"));
    expect_test::expect_file![PAGE].assert_eq(&written);
}

#[test]
fn a_record_without_a_schema_is_read_and_a_newer_one_is_refused_by_its_number() {
    let record = records().remove(0);
    assert_eq!(AuditRecord::read(&record).unwrap().schema, AUDIT_SCHEMA);
    let mut changed: Value = serde_json::from_slice(&record).unwrap();
    changed.as_object_mut().unwrap().remove("schema");
    assert_eq!(AuditRecord::read(changed.to_string().as_bytes()).unwrap().schema, 0);
    let newer = AuditRecord::read(br#"{ "schema": 2, "acts": [] }"#).unwrap_err().to_string();
    assert!(newer.starts_with("it has schema 2, and this version reads up to 1"), "{newer}");
}
