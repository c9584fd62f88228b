//! A model of the API server: the model cluster, with epochs that fence the writes of older daemons.

use std::collections::BTreeMap;

use crate::model::{Model, template_of};
use bellwether_core::ids::{Images, Workload};
use bellwether_core::input::effect::{Act, Effect};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::time::Timestamp;

use super::defect::Defect;

/// The API server.
#[derive(Default)]
pub(super) struct ApiServer {
    pub(super) model: Model,
    /// The epoch of the last change of each workload, which is stored on the objects.
    epochs: BTreeMap<Workload, u64>,
    /// The promoted revisions of each workload, oldest first, for [`Defect::WrongRollbackTarget`].
    revisions: BTreeMap<Workload, Vec<Images>>,
}

impl ApiServer {
    /// Attempts an effect of a daemon with the given epoch, and asserts that no older epoch changes anything.
    pub(super) fn perform(&mut self, effect: &Effect, epoch: u64, now: Timestamp, defect: Option<Defect>) -> Outcome {
        let last = self.epochs.get(&effect.workload).copied().unwrap_or(0);
        if effect.act.writes() && epoch < last && defect != Some(Defect::NoFencing) {
            let message = format!("the object was written in epoch {last}, and this write is of epoch {epoch}");
            return Outcome::Failed(Failure { kind: FailureKind::Fenced, message });
        }
        let changes = self.model.changes.len();
        let outcome = match (&effect.act, defect) {
            (Act::Restore { .. }, Some(Defect::WrongRollbackTarget)) => self.undo(effect, now),
            _ => self.model.perform(effect, now),
        };
        if self.model.changes.len() > changes {
            assert!(epoch >= last, "epoch {epoch} wrote over epoch {last}: {effect:?}");
            self.epochs.insert(effect.workload.clone(), epoch);
        }
        if let Act::Promote { images, .. } = &effect.act {
            self.revisions.entry(effect.workload.clone()).or_default().push(images.clone());
        }
        outcome
    }

    /// Restores the previous revision, as `kubectl rollout undo` does, instead of the last good one.
    fn undo(&mut self, effect: &Effect, now: Timestamp) -> Outcome {
        let before = self.revisions.get(&effect.workload).and_then(|all| all.iter().rev().nth(1)).cloned();
        let mut other = effect.clone();
        if let (Act::Restore { template, .. }, Some(images)) = (&mut other.act, before) {
            *template = template_of(&images);
        }
        self.model.perform(&other, now)
    }
}
