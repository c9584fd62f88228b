//! A broker of plain values: a topic of events, a compacted journal, a topic of decisions, and transactions over all three.
//!
//! A transaction is written whole or not at all; whoever asked for it may not hear which. `init` gives its caller a new
//! producer epoch, after which no older producer can commit, and ends what an older one has left open.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::command::Freeze;
use bellwether_core::decision::Decision;
use bellwether_core::engine::{State, Took, Transition};
use bellwether_core::event::{Event, Input};
use bellwether_core::ids::{EffectId, EventId, Scope, Workload};
use bellwether_core::record::{ENGINE, Record, asks};
use bellwether_core::time::Timestamp;

/// So many inputs are kept before a snapshot.
const SNAPSHOT_EVERY: usize = 16;

/// What one input did, with the states around it.
pub struct Step {
    pub transition: Transition,
    pub before: Option<State>,
    pub basis: Option<State>,
    pub after: Option<State>,
}

/// All that one commit writes.
#[derive(Default)]
pub struct Batch {
    pub next_offset: Option<usize>,
    pub epoch: Option<u64>,
    pub steps: Vec<Step>,
}

/// What the broker does with a commit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is written, and the producer hears so.
    Written,
    /// It is written, and the producer hears nothing.
    WrittenUnheard,
    /// It is aborted; the producer hears nothing.
    Lost,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Written,
    Unknown,
    Fenced,
}

/// What is in the journal of one workload.
pub struct Entry {
    pub snapshot: State,
    pub inputs: Vec<Input>,
    /// As it was when the last commit was written, to compare what is restored with.
    pub committed: State,
}

#[derive(Default)]
pub struct Broker {
    pub events: Vec<Event>,
    pub offset: usize,
    pub journal: BTreeMap<Workload, Entry>,
    pub seen: Vec<(EventId, Timestamp)>,
    pub freezes: BTreeMap<Scope, Freeze>,
    pub epoch: u64,
    pub records: Vec<Record>,
    pub decisions: Vec<Decision>,
    pub intents: BTreeSet<EffectId>,
    producer: u64,
}

impl Broker {
    /// A producer with the next epoch.
    pub fn init(&mut self) -> u64 {
        self.producer += 1;
        self.producer
    }

    /// Writes all of `batch`, or nothing; the steps come back if they are written.
    pub fn commit(&mut self, producer: u64, batch: Batch, fate: Fate) -> (Answer, Vec<Step>) {
        if producer != self.producer {
            return (Answer::Fenced, Vec::new());
        }
        if fate == Fate::Lost {
            return (Answer::Unknown, Vec::new());
        }
        self.offset = batch.next_offset.unwrap_or(self.offset);
        self.epoch = batch.epoch.unwrap_or(self.epoch);
        for step in &batch.steps {
            self.write(step);
        }
        (if fate == Fate::Written { Answer::Written } else { Answer::Unknown }, batch.steps)
    }

    fn write(&mut self, step: &Step) {
        let transition = &step.transition;
        self.seen.extend(transition.seen.clone());
        match transition.freeze.clone() {
            Some((scope, Some(freeze))) => self.freezes.insert(scope, freeze),
            Some((scope, None)) => self.freezes.remove(&scope),
            None => None,
        };
        let (Some(workload), Took::Changed, Some(after)) = (&transition.workload, transition.took, &step.after) else {
            return;
        };
        self.intents.extend(transition.effects.iter().map(|effect| effect.id.clone()));
        self.decisions.extend(transition.decisions.clone());
        self.records.push(Record {
            engine: ENGINE.into(),
            workload: workload.clone(),
            n: self.records.len() as u64,
            basis: asks(&transition.input.event).then(|| step.basis.clone().map(Box::new)).flatten(),
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

fn through_json(state: &State) -> State {
    let back: State = serde_json::from_slice(&serde_json::to_vec(state).unwrap()).unwrap();
    assert_eq!(&back, state, "a state survives its journal");
    back
}
