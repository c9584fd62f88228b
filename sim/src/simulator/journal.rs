//! The committed data of the daemon: a compacted journal of its engine's states, and the audit.
//!
//! The model of the broker that holds it, with its transactions and epochs, is [`crate::broker`].

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::engine::record::{AUDIT_SCHEMA, AuditRecord, ENGINE, requests_rollout};
use bellwether_core::engine::{Disposition, Transition, WorkloadState};
use bellwether_core::ids::{EffectId, EventId, Scope, Workload};
use bellwether_core::input::command::Freeze;
use bellwether_core::input::event::{Event, Input};
use bellwether_core::rollout::decision::Decision;
use bellwether_core::time::Timestamp;

use crate::broker::Topics;

/// The number of inputs after which a snapshot is written.
const SNAPSHOT_EVERY: usize = 16;

/// A transition, with the states of its workload around it.
pub struct JournalStep {
    /// The result of the input.
    pub transition: Transition,
    /// The state before the transition; `None` if there was none, or if the input was ignored.
    pub before: Option<WorkloadState>,
    /// The state from which a replay of the audit starts; `None` if the input needs none.
    pub basis: Option<WorkloadState>,
    /// The state after the transition; `None` if there is none, or if the input was ignored.
    pub after: Option<WorkloadState>,
}

/// The data of one transaction.
#[derive(Default)]
pub struct JournalWrites {
    /// The epoch of a new owner; `None` leaves the epoch unchanged.
    pub epoch: Option<u64>,
    /// The transitions, in order.
    pub steps: Vec<JournalStep>,
}

/// The journal of one workload.
pub struct JournalEntry {
    /// The state at the last snapshot.
    pub snapshot: WorkloadState,
    /// The inputs since the snapshot, in order.
    pub inputs: Vec<Input>,
    /// The state at the last commit, which a restored state must equal.
    pub committed: WorkloadState,
}

/// The committed data: a compacted journal, and a topic of decisions.
#[derive(Default)]
pub struct SimulatedJournal {
    /// The journal of each workload.
    pub entries: BTreeMap<Workload, JournalEntry>,
    /// The ids of the consumed events, each with the time until which it must be remembered.
    pub seen: Vec<(EventId, Timestamp)>,
    /// The freezes in force, by scope.
    pub freezes: BTreeMap<Scope, Freeze>,
    /// The epoch of the latest owner.
    pub epoch: u64,
    /// The audit, in order.
    pub records: Vec<AuditRecord>,
    /// The decisions, in order.
    pub decisions: Vec<Decision>,
    /// The ids of all effects that committed transitions requested.
    pub intents: BTreeSet<EffectId>,
}

impl Topics for SimulatedJournal {
    type Event = Event;
    type Writes = JournalWrites;

    fn write(&mut self, writes: &JournalWrites) {
        self.epoch = writes.epoch.unwrap_or(self.epoch);
        for step in &writes.steps {
            self.record(step);
        }
    }

    fn is_empty(writes: &JournalWrites) -> bool {
        writes.epoch.is_none() && writes.steps.is_empty()
    }
}

impl SimulatedJournal {
    /// Writes a transition: into the audit, and as an input or a snapshot into the journal.
    fn record(&mut self, step: &JournalStep) {
        let transition = &step.transition;
        self.seen.extend(transition.seen.clone());
        match transition.freeze.clone() {
            Some((scope, Some(freeze))) => self.freezes.insert(scope, freeze),
            Some((scope, None)) => self.freezes.remove(&scope),
            None => None,
        };
        let (Some(workload), Disposition::Changed, Some(after)) =
            (&transition.workload, transition.disposition, &step.after)
        else {
            return;
        };
        self.intents.extend(transition.effects.iter().map(|effect| effect.id.clone()));
        self.decisions.extend(transition.decisions.clone());
        self.records.push(AuditRecord {
            schema: AUDIT_SCHEMA,
            engine: ENGINE.into(),
            workload: workload.clone(),
            n: self.records.len() as u64,
            basis: requests_rollout(&transition.input.event).then(|| step.basis.clone().map(Box::new)).flatten(),
            policies: transition.policy.iter().cloned().collect(),
            inputs: vec![transition.input.clone()],
            decisions: transition.decisions.clone(),
        });
        let needs_snapshot =
            !transition.decisions.is_empty() || !transition.effects.is_empty() || transition.seen.is_some();
        match self.entries.get_mut(workload) {
            Some(entry) if !needs_snapshot && entry.inputs.len() < SNAPSHOT_EVERY => {
                entry.inputs.push(transition.input.clone());
                entry.committed = after.clone();
            }
            _ => {
                let entry =
                    JournalEntry { snapshot: through_json(after), inputs: Vec::new(), committed: after.clone() };
                self.entries.insert(workload.clone(), entry);
            }
        }
    }
}

/// Returns the state after a round trip through JSON, which must not change it.
fn through_json(state: &WorkloadState) -> WorkloadState {
    let read: WorkloadState = serde_json::from_slice(&serde_json::to_vec(state).unwrap()).unwrap();
    assert_eq!(&read, state, "the state changes in the journal");
    read
}
