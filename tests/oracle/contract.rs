//! The readers of the topics read the entries that a daemon writes. Here alone the oracle meets the daemon's own types.

use std::collections::BTreeMap;

use bellwether::config::{self, Sources};
use bellwether::ledger::Ledger;
use bellwether::ports::Batch;
use bellwether_core::engine::Engine;
use bellwether_core::ids::{EventId, RolloutId, Workload};
use bellwether_core::input::event::{Event, Failure, FailureKind, Outcome, Request};
use bellwether_core::time::Span;
use bellwether_testkit::plane::specs::{REQUEST_SOURCE, request};
use jiff::Timestamp;
use serde_json::json;

use crate::facts::{OracleInput, StoryFacts};
use crate::rules;
use crate::topics::RawRecord;

const POLICY: &str = r#"
[metric.always]
kind = "query"
query = "vector(1)"

[[policy]]
name = "shop"
match = { namespaces = ["shop"], workloads = ["*"], images = ["r/*"] }
[[policy.check]]
metric = "always"
judge = "threshold"
max = 2
every = "15s"
window = "60s"
[[policy.step]]
weight = "10%"
min-time = "60s"
"#;

fn ledger() -> Ledger {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, POLICY).unwrap();
    let config = config::load(&Sources { files: vec![file], ..Sources::default() });
    let policies = config.unwrap_or_else(|report| panic!("{report}")).policies;
    let engine = Engine::new("test".to_owned(), policies, Span::from_secs(86_400));
    Ledger::restore(&BTreeMap::new(), engine).unwrap().0
}

/// A request whose preflight is refused: the shortest rollout with an ending.
#[test]
fn the_entries_of_a_ledger_are_read() {
    let workload: Workload = "test/shop/Deployment/web".parse().unwrap();
    let id = EventId { source: REQUEST_SOURCE.to_owned(), id: "1".to_owned() };
    let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
    let content = json!({"workload": &workload, "image": "r/web:2"});
    let asked: Request = serde_json::from_value(content.clone()).unwrap();
    let (mut ledger, mut batch) = (ledger(), Batch::default());
    let requested = Event::Requested { id: id.clone(), time: Some(now), request: asked };
    let transitions = ledger.step(requested, now, &mut batch).unwrap();
    let preflight = transitions.iter().flat_map(|transition| &transition.effects).next().unwrap();
    let failure = Failure { kind: FailureKind::Refused, message: "no".to_owned() };
    let performed = Event::Performed {
        workload: workload.clone(),
        effect: preflight.id.clone(),
        outcome: Outcome::Failed(failure),
    };
    ledger.step(performed, now, &mut batch).unwrap();

    let raw = |(key, value): (String, Option<Vec<u8>>)| RawRecord { key, value, ..RawRecord::default() };
    let journal: Vec<_> = batch.puts.into_iter().map(raw).collect();
    let decisions: Vec<_> = batch.decisions.into_iter().map(|(key, value)| raw((key, Some(value)))).collect();
    let event = request("1", &content, now);
    let events = [raw((workload.to_string(), Some(event)))];
    let input = OracleInput::new(StoryFacts::default(), Vec::new(), &events, &[], &journal, &decisions).unwrap();
    let rollout = &input.rollouts[&RolloutId::of(&workload, &id).to_string()];
    assert_eq!(input.rollouts.len(), 1);
    assert_eq!(rollout.request.as_ref().unwrap().image, "r/web:2");
    assert_eq!(rollout.ending(), Some("refused"));
    assert_eq!(input.next_records[&workload.to_string()], input.records[&workload.to_string()].len() as u64);
    let results = rules::check(&input);
    let broken: Vec<_> = results.iter().filter(|result| !result.violations.is_empty()).map(|it| it.rule).collect();
    assert_eq!(broken, ["each ending is allowed"], "{results:#?}");
}
