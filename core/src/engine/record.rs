//! The audit: records of the engine's inputs and decisions, and their replay, which must reproduce the decisions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, WorkloadState};
use crate::ids::Workload;
use crate::input::command::Verb;
use crate::input::event::{Event, Input};
use crate::policy::Policy;
use crate::rollout::decision::Decision;
use crate::time::Span;

/// One record of the decisions topic: all inputs of one workload since the previous record, with the decisions on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuditRecord {
    /// [`AUDIT_SCHEMA`] of the version that wrote it; 0 for those from before schemas were numbered, which have the same fields.
    #[serde(default)]
    pub schema: u32,
    /// The version of the program that decided.
    pub engine: String,
    /// The workload of the inputs and decisions.
    pub workload: Workload,
    /// The record's number among those of its workload, ascending.
    pub n: u64,
    /// The state before the first input, if the record begins with a request for a rollout; a replay can start here.
    /// `None` for the other records.
    pub basis: Option<Box<WorkloadState>>,
    /// The policies that the inputs were decided by.
    pub policies: Vec<Arc<Policy>>,
    /// The inputs, in their order.
    pub inputs: Vec<Input>,
    /// The decisions on the inputs, in their order.
    pub decisions: Vec<Decision>,
}

/// The schema of the records that this version writes, which `docs/audit.md` describes. It is raised when a described field goes or
/// changes its meaning. A further field does not raise it.
pub const AUDIT_SCHEMA: u32 = 1;

/// The reason why a record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableRecord {
    /// It is no record.
    #[error("it is not a record of decisions: {0}")]
    Form(#[from] serde_json::Error),
    /// A newer version has written it.
    #[error(
        "it has schema {0}, and this version reads up to {AUDIT_SCHEMA}; read it with the version of Bellwether that wrote it"
    )]
    Newer(u32),
}

/// The part of a record that every version can read.
#[derive(Debug, Deserialize)]
struct RecordHead {
    #[serde(default)]
    schema: u32,
}

impl AuditRecord {
    /// Reads a record from its JSON.
    ///
    /// # Errors
    /// It is no record, or has a schema that this version does not know.
    pub fn read(json: &[u8]) -> Result<AuditRecord, UnreadableRecord> {
        let RecordHead { schema } = serde_json::from_slice(json)?;
        if schema > AUDIT_SCHEMA {
            return Err(UnreadableRecord::Newer(schema));
        }
        Ok(serde_json::from_slice(json)?)
    }

    fn policies(&self) -> Vec<Policy> {
        self.policies.iter().map(|policy| Policy::clone(policy)).collect()
    }
}

/// The version of this program, for new records.
pub const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// A recorded decision that a replay does not reproduce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{workload}, record {n}: decision {index} of the record differs\n  recorded: {recorded}\n  replayed: {replayed}"
)]
pub struct ReplayDifference {
    /// The workload's key.
    pub workload: String,
    /// The record's number.
    pub n: u64,
    /// The decision's index in the record, from 0.
    pub index: usize,
    /// The recorded decision as JSON, or `nothing` if the record has none at this index.
    pub recorded: String,
    /// The replayed decision as JSON, or `nothing` if the replay has none at this index.
    pub replayed: String,
}

/// A replay of the records of any number of workloads, in their order, by the ordinary engine.
#[derive(Debug, Default)]
pub struct Replayer {
    engines: std::collections::BTreeMap<Workload, Engine>,
    /// The number of reproduced decisions.
    pub same: usize,
    /// The number of records that were left out because no earlier record of their workload has a basis.
    pub skipped: usize,
}

impl Replayer {
    /// Replays one record and returns the replayed decisions; none if the record is left out.
    ///
    /// # Errors
    /// The first decision whose JSON is not equal to the recorded one.
    pub fn replay(&mut self, record: &AuditRecord) -> Result<Vec<Decision>, Box<ReplayDifference>> {
        if let Some(basis) = &record.basis {
            let mut engine = Engine::new(record.workload.cluster.clone(), record.policies(), Span::ZERO);
            engine.restore((**basis).clone());
            self.engines.insert(record.workload.clone(), engine);
        }
        let Some(engine) = self.engines.get_mut(&record.workload) else {
            self.skipped += 1;
            return Ok(Vec::new());
        };
        engine.set_policies(record.policies());
        let mut decisions = Vec::new();
        for input in &record.inputs {
            for transition in engine.replay(input.clone()) {
                decisions.extend(transition.decisions);
            }
        }
        compare(record, &decisions)?;
        self.same += decisions.len();
        Ok(decisions)
    }
}

/// Returns an error for the first decision whose JSON differs.
fn compare(record: &AuditRecord, replayed: &[Decision]) -> Result<(), Box<ReplayDifference>> {
    let json = |decision: Option<&Decision>| {
        decision.map_or_else(|| "nothing".to_owned(), |decision| serde_json::to_string(decision).unwrap_or_default())
    };
    for index in 0..record.decisions.len().max(replayed.len()) {
        let (recorded, replayed) = (json(record.decisions.get(index)), json(replayed.get(index)));
        if recorded != replayed {
            return Err(Box::new(ReplayDifference {
                workload: record.workload.to_string(),
                n: record.n,
                index,
                recorded,
                replayed,
            }));
        }
    }
    Ok(())
}

/// Returns whether an event requests a rollout. The record of such an event contains its basis.
pub fn requests_rollout(event: &Event) -> bool {
    match event {
        Event::Requested { .. } | Event::Deployed { .. } => true,
        Event::Commanded { command, .. } => command.verb == Verb::Retry,
        Event::Tested { .. }
        | Event::Observed { .. }
        | Event::Measured { .. }
        | Event::Performed { .. }
        | Event::Uncovered { .. }
        | Event::Tick => false,
    }
}
