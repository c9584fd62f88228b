//! The form of the records of decisions, which `docs/audit.md` describes to their readers.

use bellwether::access::{self, Access};
use bellwether_core::engine::record::{AUDIT_SCHEMA, AuditRecord};
use serde_json::{Value, json};

use super::unreadable::{Entries, commanded, requested};
use super::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.md");

/// Returns the records of a rollout that is requested and aborted, and of a command that is refused, as they are written.
fn records() -> Vec<Vec<u8>> {
    let mut journal = Entries::new();
    let mut ledger = journal.restore();
    let status = Box::new(Setting::new().world.status(&workload()));
    journal.step(&mut ledger, Event::Observed { workload: workload(), status });
    journal.decisions.clear();
    journal.step(&mut ledger, requested(&workload(), "a"));
    journal.step(&mut ledger, commanded("abort", "test/shop/Deployment/web"));
    journal.step(&mut ledger, commanded("pause", "test/shop/Deployment/web"));
    journal.decisions
}

/// Returns a record without the parts that are not stable.
fn stable(record: &[u8]) -> Value {
    let mut record: Value = serde_json::from_slice(record).unwrap();
    let fields = record.as_object_mut().unwrap();
    fields["engine"] = json!("0.1.0");
    if fields.contains_key("refused") {
        return record;
    }
    for unstable in ["basis", "policies"] {
        assert!(fields.remove(unstable).is_some(), "{unstable}");
    }
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
    assert_eq!(records.len(), 3);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_that_no_rule_allows_is_recorded_with_its_reason() {
    let mut setting = Setting::new();
    let options: access::Options = toml::from_str("[[allow]]\nverbs = [\"request\"]\nsources = [\"/ci/*\"]").unwrap();
    // The time of the requests here is long past.
    let access = Access::new(&options, None, Span::from_secs(20 * 365 * 86_400)).unwrap();
    setting.decoding = Arc::new(DecodeOptions::new("test", Mapping::default()).with_access(access));
    let daemon = setting.start().await;
    let Some(Receipt::Dead(why)) = setting.request(&daemon, "a", "2").await else { panic!("it is not refused") };
    daemon.stop().await;
    drop(setting.journal().await);
    let records = read_decisions(&setting.folder.path().join("journal.redb")).unwrap();
    let records: Vec<Value> = records.iter().map(|(_, json)| serde_json::from_slice(json).unwrap()).collect();
    let refusals: Vec<&Value> = records.iter().filter(|record| record.get("refused").is_some()).collect();
    let [record] = refusals.as_slice() else { panic!("{records:?}") };
    assert!(why.contains("no rule of access.allow lets /test request"), "{why}");
    assert_eq!((&record["refused"]["why"], &record["refused"]["result"]), (&json!(why), &json!("refused")));
    assert_eq!(record["refused"]["event"]["id"], json!({ "source": "/test", "id": "a" }));
    assert_eq!(record["scope"], json!("test/shop/Deployment/web"));
}

#[test]
fn a_record_without_a_schema_is_read_and_a_newer_one_is_refused_by_its_number() {
    let record = records().remove(0);
    assert_eq!(AuditRecord::read(&record).unwrap().unwrap().schema, AUDIT_SCHEMA);
    let mut changed: Value = serde_json::from_slice(&record).unwrap();
    changed.as_object_mut().unwrap().remove("schema");
    assert_eq!(AuditRecord::read(changed.to_string().as_bytes()).unwrap().unwrap().schema, 0);
    let newer = AuditRecord::read(br#"{ "schema": 2, "acts": [] }"#).unwrap_err().to_string();
    assert!(newer.starts_with("it has schema 2, and this version reads up to 1"), "{newer}");
}
