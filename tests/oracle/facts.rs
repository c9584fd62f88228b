//! The input of the rules: the rollouts with their requests and decisions, the writes, and the facts of the story.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::audit::AuditedWrite;
use crate::topics::RawRecord;

/// All that the rules need.
#[derive(Debug, Clone)]
pub struct OracleInput {
    /// The facts that the story itself knows.
    pub story: StoryFacts,
    /// The rollouts that were requested or decided about, by id.
    pub rollouts: BTreeMap<String, RolloutFacts>,
    /// The numbers of the decisions records by workload, in the order of the topic.
    pub records: BTreeMap<String, Vec<u64>>,
    /// The number of the next decisions record by workload, as the journal's last snapshot has it.
    pub next_records: BTreeMap<String, u64>,
    /// The writes of the daemons, in the order of the log.
    pub writes: Vec<AuditedWrite>,
    /// The positions of the records that can't be decoded, as partition and offset.
    pub poison: BTreeSet<(i32, i64)>,
    /// The positions of the requests for rollouts, as partition and offset.
    pub requests: BTreeSet<(i32, i64)>,
    /// The positions that the dead letters name, as partition and offset.
    pub letters: Vec<(i32, i64)>,
}

/// A rollout.
#[derive(Debug, Clone, Default)]
pub struct RolloutFacts {
    /// The request. `None`: the events topic has none.
    pub request: Option<RolloutRequest>,
    /// The decisions, in the order of the topic.
    pub decisions: Vec<DecisionFacts>,
}

/// The request for a rollout, as it is in the events topic.
#[derive(Debug, Clone)]
pub struct RolloutRequest {
    /// Name of the workload.
    pub workload: String,
    /// The requested image.
    pub image: String,
    /// The time at which it was made.
    pub at: Timestamp,
}

/// A decision, as it is in the decisions topic.
#[derive(Debug, Clone)]
pub struct DecisionFacts {
    /// Its number among those of the rollout.
    pub n: u64,
    /// The time of the decision.
    pub at: Timestamp,
    /// The phase after it.
    pub to: String,
    /// The canary's weight from then on, in hundredths of a percent.
    pub weight: u64,
    /// The ending of the rollout; `None` unless this decision ends it.
    pub ending: Option<String>,
    /// The reason as a sentence.
    pub why: String,
}

impl RolloutFacts {
    /// Returns the ending; `None` if the rollout has not ended.
    pub fn ending(&self) -> Option<&str> {
        self.decisions.iter().find_map(|decision| decision.ending.as_deref())
    }

    /// Returns the time of the end; `None` if the rollout has not ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.decisions.iter().find(|decision| decision.ending.is_some()).map(|decision| decision.at)
    }

    /// Returns whether the rollout was in `phase` at a time before `at`.
    pub fn was_in(&self, phase: &str, at: Timestamp) -> bool {
        self.decisions.iter().any(|decision| decision.to == phase && decision.at <= at)
    }
}

/// The facts that only the story knows.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct StoryFacts {
    /// The smallest number of rollouts that the run needs.
    pub least_rollouts: usize,
    /// The smallest number of faults that the run needs.
    pub least_faults: usize,
    /// The faults in the order of their beginnings.
    pub faults: Vec<InjectedFault>,
    /// The traffic through the gateway, by workload.
    pub traffic: BTreeMap<String, TrafficFacts>,
    /// The pods of canaries.
    pub pods: Vec<PodFacts>,
}

/// A fault that the story injected.
#[derive(Debug, Clone, Deserialize)]
pub struct InjectedFault {
    /// Its kind: see [`crate::matrix`].
    pub kind: String,
    /// Name of the workload; empty if it concerned all.
    pub workload: String,
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// The requests of users to one workload.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TrafficFacts {
    /// Requests sent.
    pub sent: u64,
    /// Requests without an answer.
    pub lost: u64,
    /// Answers with a status of 500 or more that no pod gave.
    pub gateway_errors: u64,
}

/// A pod of a canary.
#[derive(Debug, Clone, Deserialize)]
pub struct PodFacts {
    /// Name of the pod.
    pub name: String,
    /// Name of the workload.
    pub workload: String,
    /// Requests that it received after its deletion.
    pub late: u64,
}

impl StoryFacts {
    /// Reads the story's file.
    ///
    /// # Errors
    /// The file can't be read, or has another format.
    pub fn read(path: &Path) -> Result<StoryFacts> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}

impl OracleInput {
    /// Puts the input together from the records of the topics.
    ///
    /// # Errors
    /// A record lacks a field that the rules need. The error has the record's position.
    pub fn new(
        story: StoryFacts,
        writes: Vec<AuditedWrite>,
        events: &[RawRecord],
        letters: &[RawRecord],
        journal: &[RawRecord],
        decisions: &[RawRecord],
    ) -> Result<OracleInput> {
        let mut input = OracleInput {
            story,
            rollouts: BTreeMap::new(),
            records: BTreeMap::new(),
            next_records: BTreeMap::new(),
            writes,
            poison: BTreeSet::new(),
            requests: BTreeSet::new(),
            letters: Vec::new(),
        };
        for record in events {
            input.add_event(record).with_context(|| place("events", record))?;
        }
        for record in letters {
            let number = |name: &str| record.headers.get(name).with_context(|| format!("no header {name}"));
            let position = (number("dlq-original-partition")?.parse()?, number("dlq-original-offset")?.parse()?);
            input.letters.push(position);
        }
        for record in journal.iter().filter(|record| record.key.ends_with("/snap")) {
            let Some(value) = &record.value else { continue };
            let snapshot: Value = serde_json::from_slice(value).with_context(|| place("journal", record))?;
            let next = snapshot["next_record"].as_u64().with_context(|| place("journal", record))?;
            input.next_records.insert(record.key.trim_end_matches("/snap").to_owned(), next);
        }
        for record in decisions {
            input.add_decisions(record).with_context(|| place("decisions", record))?;
        }
        Ok(input)
    }

    fn add_event(&mut self, record: &RawRecord) -> Result<()> {
        let value = record.value.as_deref().unwrap_or_default();
        let Ok(event) = serde_json::from_slice::<Value>(value) else {
            self.poison.insert((record.partition, record.offset));
            return Ok(());
        };
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        if !text("/type").is_some_and(|ty| ty.contains("bellwether-rollout.requested")) {
            return Ok(());
        }
        self.requests.insert((record.partition, record.offset));
        let (source, id) = (text("/source").context("source")?, text("/id").context("id")?);
        let part = |name: &str| text(&format!("/data/subject/content/workload/{name}")).context("workload");
        let name = part("name")?;
        let key = format!("{}/{}/{}/{name}", part("cluster")?, part("namespace")?, part("kind")?);
        let request = RolloutRequest {
            workload: name.to_owned(),
            image: text("/data/subject/content/image").context("image")?.to_owned(),
            at: text("/data/context/timestamp").context("timestamp")?.parse()?,
        };
        let rollout = self.rollouts.entry(rollout_id(&key, name, source, id)).or_default();
        // A repetition of the event asks for the same rollout.
        rollout.request.get_or_insert(request);
        Ok(())
    }

    fn add_decisions(&mut self, record: &RawRecord) -> Result<()> {
        let value: Value = serde_json::from_slice(record.value.as_deref().context("a tombstone")?)?;
        // The record of a refused act has neither a number nor decisions.
        if value["refused"].is_object() {
            return Ok(());
        }
        self.records.entry(record.key.clone()).or_default().push(value["n"].as_u64().context("n")?);
        for decision in value["decisions"].as_array().context("decisions")? {
            let text = |name: &str| decision[name].as_str().with_context(|| format!("no {name} in {decision}"));
            let facts = DecisionFacts {
                n: decision["n"].as_u64().context("n")?,
                at: text("at")?.parse()?,
                to: text("to")?.to_owned(),
                weight: hundredths(text("weight")?)?,
                ending: decision["ending"].as_str().map(str::to_owned),
                why: text("why")?.to_owned(),
            };
            self.rollouts.entry(text("rollout")?.to_owned()).or_default().decisions.push(facts);
        }
        Ok(())
    }
}

fn place(topic: &str, record: &RawRecord) -> String {
    format!("{topic}, partition {}, offset {}", record.partition, record.offset)
}

/// Returns a percentage such as `12.5%` in hundredths of a percent.
fn hundredths(percentage: &str) -> Result<u64> {
    let percent: f64 = percentage.strip_suffix('%').context("not a percentage")?.parse()?;
    Ok((percent * 100.0).round() as u64)
}

/// Returns the id of the rollout that an event asks for: the workload's name and ten digits of a digest.
pub fn rollout_id(key: &str, name: &str, source: &str, id: &str) -> String {
    let mut hasher = Sha256::new();
    for part in [key, source, id] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}-{}", &hex[..10])
}
