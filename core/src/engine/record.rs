//! The audit: what the engine was told, and what it decided. And its proof: told the same again, it decides the same.

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, WorkloadState};
use crate::ids::Workload;
use crate::input::command::Verb;
use crate::input::event::{Event, Input};
use crate::policy::Policy;
use crate::rollout::decision::Decision;
use crate::time::Span;

/// One record of the decisions topic: all inputs of one workload since the record before, and what was decided on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuditRecord {
    /// The version of the engine that decided.
    pub engine: String,
    /// The workload.
    pub workload: Workload,
    /// The record's number among those of its workload.
    pub n: u64,
    /// The state before the first input, wherever a rollout is asked for: a replay can begin here.
    pub basis: Option<Box<WorkloadState>>,
    /// The policies that were looked up.
    pub policies: Vec<Policy>,
    /// What the engine was told, in order.
    pub inputs: Vec<Input>,
    /// What it decided, in order.
    pub decisions: Vec<Decision>,
}

/// The version that new records name.
pub const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// A decision that comes out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{workload}, record {n}: {what}\n  recorded: {recorded}\n  replayed: {replayed}")]
pub struct Difference {
    /// Of which workload.
    pub workload: String,
    /// In which record.
    pub n: u64,
    /// In short.
    pub what: String,
    /// As it was.
    pub recorded: String,
    /// As it is now.
    pub replayed: String,
}

/// Replays records of any number of workloads, in their order, through the ordinary engine.
#[derive(Debug, Default)]
pub struct Replayer {
    engines: std::collections::BTreeMap<Workload, Engine>,
    /// Decisions that came out the same.
    pub same: usize,
    /// Records that were left out because nothing before them is known.
    pub skipped: usize,
}

impl Replayer {
    /// Replays one record; the decisions that the engine comes to.
    ///
    /// # Errors
    /// The first decision that is not, byte by byte, the recorded one.
    pub fn replay(&mut self, record: &AuditRecord) -> Result<Vec<Decision>, Box<Difference>> {
        if let Some(basis) = &record.basis {
            let mut engine = Engine::new(record.workload.cluster.clone(), record.policies.clone(), Span::ZERO);
            engine.restore((**basis).clone());
            self.engines.insert(record.workload.clone(), engine);
        }
        let Some(engine) = self.engines.get_mut(&record.workload) else {
            self.skipped += 1;
            return Ok(Vec::new());
        };
        engine.set_policies(record.policies.clone());
        let mut decisions = Vec::new();
        for input in &record.inputs {
            for transition in engine.step(input.event.clone(), input.at) {
                decisions.extend(transition.decisions);
            }
        }
        compare(record, &decisions)?;
        self.same += decisions.len();
        Ok(decisions)
    }
}

fn compare(record: &AuditRecord, replayed: &[Decision]) -> Result<(), Box<Difference>> {
    let json = |decision: Option<&Decision>| {
        decision.map_or_else(|| "nothing".to_owned(), |decision| serde_json::to_string(decision).unwrap_or_default())
    };
    for at in 0..record.decisions.len().max(replayed.len()) {
        let (was, is) = (json(record.decisions.get(at)), json(replayed.get(at)));
        if was != is {
            return Err(Box::new(Difference {
                workload: record.workload.to_string(),
                n: record.n,
                what: format!("decision {at} of the record differs"),
                recorded: was,
                replayed: is,
            }));
        }
    }
    Ok(())
}

/// Whether an event asks for a rollout, so that a record with it needs its basis.
pub fn asks(event: &Event) -> bool {
    match event {
        Event::Requested { .. } | Event::Deployed { .. } => true,
        Event::Commanded { command, .. } => command.verb == Verb::Retry,
        Event::Tested { .. }
        | Event::Observed { .. }
        | Event::Measured { .. }
        | Event::Performed { .. }
        | Event::Tick => false,
    }
}
