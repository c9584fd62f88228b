//! The audit: records of the engine's inputs and decisions, and their replay, which must reproduce the decisions.

use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::engine::view::AnswerView;
use crate::engine::{Disposition, Engine, Transition, WorkloadState};
use crate::ids::{Scope, Workload};
use crate::input::command::Verb;
use crate::input::event::{Event, Input};
use crate::policy::Policy;
use crate::rollout::decision::Decision;
use crate::rollout::reason::Reason;
use crate::time::{Span, Timestamp};

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

/// One record of the decisions topic about an act of a person or a tool that was not carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RefusalRecord {
    /// [`AUDIT_SCHEMA`] of the version that wrote it.
    pub schema: u32,
    /// The version of the program that refused.
    pub engine: String,
    /// The workload, namespace or cluster that the act is about.
    pub scope: Scope,
    /// The act.
    pub refused: RefusedAct,
}

/// An act that was not carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RefusedAct {
    /// The time at which it was refused.
    pub at: Timestamp,
    /// The event of the person or tool.
    pub event: Event,
    /// The result, as in the [answer](AnswerView::result): `refused`, or `ignored` for an event that is late or expired.
    pub result: String,
    /// The reason, in one sentence.
    pub why: String,
}

impl RefusalRecord {
    /// Returns the record of an event that was refused at `at` for the reason `why`; `None` for an event of the daemon itself.
    pub fn new(event: &Event, at: Timestamp, result: &str, why: &str) -> Option<RefusalRecord> {
        let scope = if let Event::Commanded { command, .. } = event {
            command.scope.clone()
        } else {
            Scope::Workload(event.id().and(event.workload())?.clone())
        };
        let refused = RefusedAct { at, event: event.clone(), result: result.to_owned(), why: why.to_owned() };
        Some(RefusalRecord { schema: AUDIT_SCHEMA, engine: ENGINE.to_owned(), scope, refused })
    }

    /// Returns the record of a transition whose event was refused, or ignored as a late or expired one; `None` for any other.
    pub fn of(transition: &Transition) -> Option<RefusalRecord> {
        let result = match (transition.disposition, &transition.reason) {
            (Disposition::Rejected, _) => AnswerView::REFUSED,
            // Tools tell of workloads without a policy as well.
            (Disposition::Ignored, Reason::NoPolicy { .. } | Reason::Irrelevant) => return None,
            (Disposition::Ignored, _) => AnswerView::IGNORED,
            (Disposition::Changed | Disposition::Duplicate, _) => return None,
        };
        let Input { at, event, .. } = &transition.input;
        RefusalRecord::new(event, *at, result, &transition.reason.to_string())
    }
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
    #[serde(default)]
    refused: Option<IgnoredAny>,
}

impl AuditRecord {
    /// Reads a record from its JSON; `None` for a [`RefusalRecord`], on which nothing was decided.
    ///
    /// # Errors
    /// It is no record, or has a schema that this version does not know.
    pub fn read(json: &[u8]) -> Result<Option<AuditRecord>, UnreadableRecord> {
        let RecordHead { schema, refused } = serde_json::from_slice(json)?;
        if schema > AUDIT_SCHEMA {
            return Err(UnreadableRecord::Newer(schema));
        }
        if refused.is_some() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(json)?))
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
