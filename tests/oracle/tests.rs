//! A sound run of one good and one bad version, and for each rule a run that breaks it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::audit;
use crate::facts::{OracleInput, StoryFacts, rollout_id};
use crate::rules;
use crate::topics::RawRecord;

const USER: &str = "system:serviceaccount:bellwether:bellwether";
const GOOD: &str = "registry.test/shop/web:v2";
const BAD: &str = "registry.test/shop/web:v3-err50";

/// The raw parts of a run, to be doctored.
struct RawRun {
    audit: Vec<Value>,
    events: Vec<RawRecord>,
    letters: Vec<RawRecord>,
    journal: Vec<RawRecord>,
    /// By workload.
    decisions: BTreeMap<&'static str, Vec<Value>>,
    story: Value,
}

impl RawRun {
    /// Returns the rules that are broken.
    fn broken(&self) -> Vec<&'static str> {
        let log: String = self.audit.iter().map(|entry| format!("{entry}\n")).collect();
        let writes = audit::writes(&log, USER, "shop").unwrap();
        let story: StoryFacts = serde_json::from_value(self.story.clone()).unwrap();
        let records = self.decisions.iter().flat_map(|(name, all)| {
            all.iter().map(move |value| record(0, 0, &key(name), value.to_string().as_bytes()))
        });
        let decisions: Vec<_> = records.collect();
        let input = OracleInput::new(story, writes, &self.events, &self.letters, &self.journal, &decisions).unwrap();
        let results = rules::check(&input);
        results.into_iter().filter(|result| !result.violations.is_empty()).map(|result| result.rule).collect()
    }

    /// Returns the decisions of the record `n` of a workload.
    fn decisions_of(&mut self, workload: &str, n: usize) -> &mut Vec<Value> {
        self.decisions.get_mut(workload).unwrap()[n]["decisions"].as_array_mut().unwrap()
    }
}

fn key(name: &str) -> String {
    format!("test/shop/Deployment/{name}")
}

fn id(name: &str) -> String {
    rollout_id(&key(name), name, "/ci", &format!("{name}/1"))
}

fn at(second: u32) -> String {
    format!("2026-11-29T12:00:{second:02}Z")
}

fn record(partition: i32, offset: i64, key: &str, value: &[u8]) -> RawRecord {
    RawRecord { partition, offset, key: key.to_owned(), value: Some(value.to_vec()), ..RawRecord::default() }
}

fn requested(offset: i64, name: &str, image: &str) -> RawRecord {
    let workload = json!({"cluster": "test", "namespace": "shop", "kind": "Deployment", "name": name});
    let event = json!({
        "type": "dev.cdeventsx.bellwether-rollout.requested.0.1.0", "source": "/ci", "id": format!("{name}/1"),
        "data": {
            "context": {"timestamp": at(0)},
            "subject": {"content": {"workload": workload, "image": image}},
        },
    });
    record(0, offset, &key(name), event.to_string().as_bytes())
}

/// Returns decisions by phase, second and weight, the last of which has the ending.
fn decided(name: &str, from: u64, rows: &[(&str, u32, &str)], ending: Option<&str>) -> Vec<Value> {
    let last = rows.len() - 1;
    let row = |(place, (to, second, weight)): (usize, &(&str, u32, &str))| {
        json!({
            "rollout": id(name), "n": from + place as u64, "at": at(*second), "to": to, "weight": weight, "why": "so",
            "ending": ending.filter(|_| place == last),
        })
    };
    rows.iter().enumerate().map(row).collect()
}

/// Returns an entry of the audit log, an accepted write of an object with this version.
fn written(second: u32, object: (&str, &str), version: u64, annotations: &Value, spec: &Value) -> Value {
    let (resource, name) = object;
    let metadata =
        json!({"name": name, "uid": "u", "resourceVersion": version.to_string(), "annotations": annotations});
    json!({
        "verb": "patch", "user": {"username": USER}, "responseStatus": {"code": 200},
        "objectRef": {"resource": resource, "namespace": "shop", "name": name},
        "requestReceivedTimestamp": at(second),
        "responseObject": {"metadata": metadata, "spec": spec},
    })
}

fn marked(effect: &str, epoch: u64) -> Value {
    json!({"bellwether.dev/effect": effect, "bellwether.dev/epoch": epoch.to_string()})
}

fn running(image: &str) -> Value {
    json!({"template": {"spec": {"containers": [{"image": image}]}}})
}

fn route(second: u32, version: u64, effect: &str, weight: u64) -> Value {
    let records = json!({"good": {"effect": effect, "epoch": 3}}).to_string();
    let backends = json!([{"name": "good", "weight": 100 - weight}, {"name": "good-canary", "weight": weight}]);
    let annotations = json!({"bellwether.dev/original-weights": records});
    written(second, ("httproutes", "good"), version, &annotations, &json!({"rules": [{"backendRefs": backends}]}))
}

fn sound() -> RawRun {
    let (good, bad) = (id("good"), id("bad"));
    let effect = |id: &str, n: u32| format!("{id}.{n}");
    let audit = vec![
        written(2, ("deployments", "good-canary"), 10, &marked(&effect(&good, 1), 3), &running(GOOD)),
        written(2, ("deployments", "bad-canary"), 11, &marked(&effect(&bad, 1), 3), &running(BAD)),
        route(4, 12, &effect(&good, 2), 20),
        // A repetition that changes nothing.
        route(5, 12, &effect(&good, 2), 20),
        written(7, ("deployments", "good"), 13, &marked(&effect(&good, 3), 3), &running(GOOD)),
        route(9, 14, &effect(&good, 4), 0),
    ];
    let promoted = [("promoting", 6, "20%"), ("returning", 8, "0%"), ("ended", 9, "0%")];
    let good_records = vec![
        json!({"n": 0, "decisions": decided("good", 0, &[("preparing", 1, "0%"), ("stepping", 3, "20%")], None)}),
        json!({"n": 1, "decisions": decided("good", 2, &promoted, Some("promoted"))}),
    ];
    let back = [("preparing", 1, "0%"), ("removing", 5, "0%"), ("ended", 6, "0%")];
    let bad_records = vec![json!({"n": 0, "decisions": decided("bad", 0, &back, Some("rolled-back"))})];
    let snapshot = |name, next: u64| {
        record(0, 0, &format!("{}/snap", key(name)), json!({"next_record": next}).to_string().as_bytes())
    };
    let mut letter = record(0, 0, "poison", b"{ not json");
    letter.headers = [("dlq-original-partition", "0"), ("dlq-original-offset", "7")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let fault = json!({"kind": "daemon-killed", "workload": "", "from": at(2), "until": at(3)});
    RawRun {
        audit,
        events: vec![requested(5, "good", GOOD), requested(6, "bad", BAD), record(0, 7, "poison", b"{ not json")],
        letters: vec![letter],
        journal: vec![snapshot("good", 1), snapshot("good", 2), snapshot("bad", 1)],
        decisions: [("good", good_records), ("bad", bad_records)].into(),
        story: json!({
            "least_rollouts": 2, "least_faults": 1, "faults": [fault],
            "traffic": {"good": {"sent": 100, "lost": 0, "gateway_errors": 0}},
            "pods": [{"name": "good-canary-1", "workload": "good", "late": 0}],
        }),
    }
}

#[test]
fn a_sound_run_breaks_no_rule() {
    assert_eq!(sound().broken(), [""; 0]);
}

#[test]
fn too_few_faults_break_the_first_rule() {
    let mut run = sound();
    run.story["least_faults"] = json!(2);
    assert_eq!(run.broken(), ["enough rollouts and faults"]);
}

#[test]
fn a_rollout_without_an_end_or_with_two_is_found() {
    let mut run = sound();
    run.decisions_of("bad", 0).pop();
    assert_eq!(run.broken(), ["each rollout is requested and ends"]);
    let mut run = sound();
    run.decisions_of("good", 1)[1]["ending"] = json!("promoted");
    assert_eq!(run.broken(), ["each rollout is requested and ends"]);
    let mut run = sound();
    let after = decided("good", 5, &[("ended", 10, "0%")], None);
    run.decisions_of("good", 1).extend(after);
    assert_eq!(run.broken(), ["each rollout is requested and ends"]);
}

#[test]
fn a_rollout_that_was_not_requested_is_found() {
    let mut run = sound();
    run.events.remove(1);
    assert!(run.broken().contains(&"each rollout is requested and ends"), "{:?}", run.broken());
}

#[test]
fn an_ending_that_the_faults_do_not_allow_is_found() {
    let mut run = sound();
    run.decisions_of("good", 1)[2]["ending"] = json!("rolled-back");
    assert_eq!(run.broken(), ["each ending is allowed"]);
    run.decisions_of("good", 1)[2]["ending"] = json!("superseded");
    assert_eq!(run.broken(), ["each ending is allowed"]);
    let newer = |second| json!({"kind": "newer-request", "workload": "good", "from": at(second), "until": at(second)});
    run.story["faults"][0] = newer(4);
    assert_eq!(run.broken(), [""; 0]);
    // After its end it has no part in it.
    run.story["faults"][0] = newer(10);
    assert_eq!(run.broken(), ["each ending is allowed"]);
    // No fault promotes a bad version.
    let mut run = sound();
    run.story["faults"][0] = json!({"kind": "newer-request", "workload": "bad", "from": at(4), "until": at(4)});
    run.decisions_of("bad", 0)[2]["ending"] = json!("promoted");
    assert_eq!(run.broken(), ["each ending is allowed"]);
}

#[test]
fn a_decision_or_a_record_that_is_there_twice_or_missing_is_found() {
    let mut run = sound();
    let again = run.decisions_of("good", 0)[1].clone();
    run.decisions_of("good", 0).push(again);
    assert_eq!(run.broken(), ["each decision once"]);
    let mut run = sound();
    let again = json!({"n": 1, "decisions": []});
    run.decisions.get_mut("good").unwrap().push(again);
    assert_eq!(run.broken(), ["each decisions record once"]);
    let mut run = sound();
    run.journal.remove(1);
    assert_eq!(run.broken(), ["each decisions record once"]);
}

#[test]
fn an_effect_that_changes_an_object_twice_is_found() {
    let mut run = sound();
    run.audit[3] = route(5, 13, &format!("{}.2", id("good")), 20);
    assert_eq!(run.broken(), ["each effect changes an object once"]);
}

#[test]
fn a_write_in_a_lower_epoch_is_found() {
    let mut run = sound();
    let mark = marked(&format!("{}.5", id("good")), 2);
    run.audit.push(written(9, ("deployments", "good"), 15, &mark, &running(GOOD)));
    assert_eq!(run.broken(), ["epochs only rise"]);
}

#[test]
fn a_weight_that_was_not_decided_or_not_yet_is_found() {
    let mut run = sound();
    run.audit[2] = route(4, 12, &format!("{}.2", id("good")), 30);
    run.audit.remove(3);
    assert_eq!(run.broken(), ["weights move as decided"]);
    let mut run = sound();
    run.audit[2] = route(2, 12, &format!("{}.2", id("good")), 20);
    assert_eq!(run.broken(), ["weights move as decided"]);
    // Back to an earlier weight.
    let mut run = sound();
    run.audit.push(route(10, 15, &format!("{}.5", id("good")), 20));
    assert_eq!(run.broken(), ["weights move as decided"]);
}

/// Beside an autoscaler that has shrunk the stable, the traffic returns in pieces.
#[test]
fn weights_between_are_sound_while_the_traffic_returns_and_they_fall() {
    let effect = format!("{}.4", id("good"));
    let mut run = sound();
    run.audit[5] = route(8, 14, &effect, 15);
    run.audit.push(route(9, 15, &format!("{}.5", id("good")), 7));
    assert_eq!(run.broken(), [""; 0]);
    run.audit.push(route(9, 16, &format!("{}.6", id("good")), 9));
    assert_eq!(run.broken(), ["weights move as decided"]);
    // Before the promotion none may be between.
    let mut run = sound();
    run.audit[3] = route(5, 13, &format!("{}.3", id("good")), 15);
    assert_eq!(run.broken(), ["weights move as decided"]);
}

#[test]
fn a_version_that_is_changed_without_a_decision_is_found() {
    let mut run = sound();
    run.audit[4] = written(5, ("deployments", "good"), 13, &marked(&format!("{}.3", id("good")), 3), &running(GOOD));
    assert_eq!(run.broken(), ["versions change as decided"]);
    let mut run = sound();
    let old = running("registry.test/shop/web:v1");
    run.audit[4] = written(7, ("deployments", "good"), 13, &marked(&format!("{}.3", id("good")), 3), &old);
    assert_eq!(run.broken(), ["versions change as decided"]);
    let mut run = sound();
    run.audit[1] = written(2, ("deployments", "bad"), 11, &marked(&format!("{}.1", id("bad")), 3), &running(BAD));
    assert_eq!(run.broken(), ["versions change as decided"]);
}

#[test]
fn a_request_to_a_deleted_backend_is_found() {
    let mut run = sound();
    run.story["pods"][0]["late"] = json!(1);
    assert_eq!(run.broken(), ["no request to a deleted backend"]);
    let mut run = sound();
    run.story["traffic"]["good"]["gateway_errors"] = json!(1);
    assert_eq!(run.broken(), ["no request to a deleted backend"]);
    // A workload whose pods the story has taken may have some.
    run.story["faults"][0] = json!({"kind": "pod-deleted", "workload": "good", "from": at(4), "until": at(4)});
    assert_eq!(run.broken(), [""; 0]);
}

#[test]
fn a_poison_record_without_its_dead_letter_and_a_request_that_is_one_are_found() {
    let mut run = sound();
    run.letters.clear();
    assert_eq!(run.broken(), ["each poison record is a dead letter"]);
    let mut run = sound();
    let mut letter = run.letters[0].clone();
    letter.headers.insert("dlq-original-offset".to_owned(), "5".to_owned());
    run.letters.push(letter);
    assert_eq!(run.broken(), ["each poison record is a dead letter"]);
}

#[test]
fn entries_of_others_and_refused_writes_are_left_out() {
    let mut entries = sound().audit;
    entries[0]["user"]["username"] = json!("harness");
    entries[1]["responseStatus"]["code"] = json!(409);
    entries[2]["objectRef"]["namespace"] = json!("other");
    let log: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
    let incomplete = format!("{log}{{\"verb\": \"pat");
    assert_eq!(audit::writes(&incomplete, USER, "shop").unwrap().len(), 3);
}
