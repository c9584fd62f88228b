//! What people see of a batch besides the workloads: the answers to its events and the rollouts that gave way. Both are kept with the
//! commit of the batch, and published after it.

use std::fmt::Display;

use bellwether_core::engine::view::AnswerView;
use bellwether_core::engine::{Disposition, show};
use bellwether_core::time::Timestamp;

use super::{Consequences, Shard};
use crate::events::decode::id_of;
use crate::ports::{Batch, EventRecord};

impl Consequences {
    /// Answers the sender of a record that no engine sees, if the record names it.
    pub(super) fn turn_away(&mut self, record: &EventRecord, result: &str, reason: &impl Display, now: Timestamp) {
        let Some((id, rollout)) = id_of(record) else { return };
        self.turned_away.push(AnswerView {
            source: id.source,
            id: id.id,
            result: result.to_owned(),
            reason: reason.to_string(),
            rollout: rollout.map(|rollout| rollout.to_string()),
            at: now,
        });
    }
}

impl Shard {
    /// Adds the answers to the events of a batch to it, and the rollouts that gave way to others.
    pub(super) fn keep_shown(&mut self, consequences: &Consequences, batch: &mut Batch) {
        for transition in &consequences.transitions {
            self.ledger.keep_past(transition, batch);
            if let Some(answer) = show::answer(transition) {
                self.ledger.answered(&answer, transition.disposition == Disposition::Duplicate, batch);
            }
        }
        for answer in &consequences.turned_away {
            self.ledger.answered(answer, true, batch);
        }
    }
}
