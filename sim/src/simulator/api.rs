//! An API server of plain values: the model cluster behind a fence of epochs, with writes that meet conflicts and answers
//! that get lost.

use std::collections::BTreeMap;

use crate::model::{Model, template_of};
use bellwether_core::ids::{Images, Workload};
use bellwether_core::input::effect::{Act, Effect};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::time::Timestamp;

use super::defect::Defect;

#[derive(Default)]
pub struct Api {
    pub model: Model,
    /// The epoch of whoever changed anything of a workload last, as it is written on the objects.
    stamps: BTreeMap<Workload, u64>,
    /// Every version that has been there, oldest first: what a rollback by revision would choose from.
    revisions: BTreeMap<Workload, Vec<Images>>,
}

impl Api {
    /// One attempt at an effect on behalf of `epoch`.
    pub fn perform(&mut self, effect: &Effect, epoch: u64, now: Timestamp, defect: Option<Defect>) -> Outcome {
        let stamp = self.stamps.get(&effect.workload).copied().unwrap_or(0);
        if effect.act.writes() && epoch < stamp && defect != Some(Defect::NoFencing) {
            let message = format!("written in epoch {stamp}, and this is {epoch}");
            return Outcome::Failed(Failure { kind: FailureKind::Fenced, message });
        }
        let changes = self.model.changes.len();
        let outcome = match (&effect.act, defect) {
            (Act::Restore { .. }, Some(Defect::WrongRollbackTarget)) => self.undo(effect, now),
            _ => self.model.perform(effect, now),
        };
        if self.model.changes.len() > changes {
            assert!(epoch >= stamp, "epoch {epoch} wrote over epoch {stamp}: {effect:?}");
            self.stamps.insert(effect.workload.clone(), epoch);
        }
        if let Act::Promote { images, .. } = &effect.act {
            self.revisions.entry(effect.workload.clone()).or_default().push(images.clone());
        }
        outcome
    }

    /// As `kubectl rollout undo` would: to the revision before, whatever it was.
    fn undo(&mut self, effect: &Effect, now: Timestamp) -> Outcome {
        let before = self.revisions.get(&effect.workload).and_then(|all| all.iter().rev().nth(1)).cloned();
        let mut other = effect.clone();
        if let (Act::Restore { template, .. }, Some(images)) = (&mut other.act, before) {
            *template = template_of(&images);
        }
        self.model.perform(&other, now)
    }
}
