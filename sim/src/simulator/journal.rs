//! What the daemon keeps on the model broker: a compacted journal of its engine's states, and a topic of decisions. The
//! broker itself, with its transactions and epochs, is in `core/tests/support/broker.rs`.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::engine::record::{AuditRecord, ENGINE, requests_rollout};
use bellwether_core::engine::{Disposition, Transition, WorkloadState};
use bellwether_core::ids::{EffectId, EventId, Scope, Workload};
use bellwether_core::input::command::Freeze;
use bellwether_core::input::event::{Event, Input};
use bellwether_core::rollout::decision::Decision;
use bellwether_core::time::Timestamp;

use crate::broker::Topics;

/// So many inputs are kept before a snapshot.
const SNAPSHOT_EVERY: usize = 16;

/// What one input did, with the states around it.
pub struct Step {
    pub transition: Transition,
    pub before: Option<WorkloadState>,
    pub basis: Option<WorkloadState>,
    pub after: Option<WorkloadState>,
}

/// What one commit writes beside its offset.
#[derive(Default)]
pub struct Writes {
    pub epoch: Option<u64>,
    pub steps: Vec<Step>,
}

/// What is in the journal of one workload.
pub struct Entry {
    pub snapshot: WorkloadState,
    pub inputs: Vec<Input>,
    /// As it was when the last commit was written, to compare what is restored with.
    pub committed: WorkloadState,
}

/// A compacted journal, and a topic of decisions.
#[derive(Default)]
pub struct Kept {
    pub journal: BTreeMap<Workload, Entry>,
    pub seen: Vec<(EventId, Timestamp)>,
    pub freezes: BTreeMap<Scope, Freeze>,
    pub epoch: u64,
    pub records: Vec<AuditRecord>,
    pub decisions: Vec<Decision>,
    pub intents: BTreeSet<EffectId>,
}

impl Topics for Kept {
    type Event = Event;
    type Writes = Writes;

    fn write(&mut self, writes: &Writes) {
        self.epoch = writes.epoch.unwrap_or(self.epoch);
        for step in &writes.steps {
            self.keep(step);
        }
    }

    fn nothing(writes: &Writes) -> bool {
        writes.epoch.is_none() && writes.steps.is_empty()
    }
}

impl Kept {
    fn keep(&mut self, step: &Step) {
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
            engine: ENGINE.into(),
            workload: workload.clone(),
            n: self.records.len() as u64,
            basis: requests_rollout(&transition.input.event).then(|| step.basis.clone().map(Box::new)).flatten(),
            policies: transition.policy.iter().cloned().collect(),
            inputs: vec![transition.input.clone()],
            decisions: transition.decisions.clone(),
        });
        let matters = !transition.decisions.is_empty() || !transition.effects.is_empty() || transition.seen.is_some();
        match self.journal.get_mut(workload) {
            Some(entry) if !matters && entry.inputs.len() < SNAPSHOT_EVERY => {
                entry.inputs.push(transition.input.clone());
                entry.committed = after.clone();
            }
            _ => {
                let entry = Entry { snapshot: through_json(after), inputs: Vec::new(), committed: after.clone() };
                self.journal.insert(workload.clone(), entry);
            }
        }
    }
}

fn through_json(state: &WorkloadState) -> WorkloadState {
    let back: WorkloadState = serde_json::from_slice(&serde_json::to_vec(state).unwrap()).unwrap();
    assert_eq!(&back, state, "a state survives its journal");
    back
}
