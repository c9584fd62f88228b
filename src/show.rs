//! The present state of the rollouts for readers: the API, the page and the demo read it here and never ask an engine.

use std::sync::Arc;

use bellwether_core::engine::show;
use bellwether_core::engine::view::{RolloutView, StatusView};
use bellwether_core::engine::{Transition, WorkloadState};
use bellwether_core::rollout::decision::Decision;
use bellwether_core::time::Timestamp;
use tokio::sync::{broadcast, watch};

/// Maximum number of rollouts in the view. Beyond it the rollout that ended first is removed.
const MOST_SHOWN: usize = 20_000;
/// Maximum number of decisions that a subscriber may leave unread. Beyond it the subscriber misses the oldest ones.
const MOST_UNREAD: usize = 1024;

/// The board on which shards publish the state of their rollouts and their decisions.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    view: Arc<watch::Sender<Arc<StatusView>>>,
    decisions: broadcast::Sender<Decision>,
}

impl Default for StatusBoard {
    fn default() -> StatusBoard {
        StatusBoard { view: Arc::new(watch::Sender::default()), decisions: broadcast::channel(MOST_UNREAD).0 }
    }
}

impl StatusBoard {
    /// Returns a receiver of the view: its present value and every later one.
    pub fn watch(&self) -> watch::Receiver<Arc<StatusView>> {
        self.view.subscribe()
    }

    /// Returns a receiver of every decision from now on.
    pub fn decisions(&self) -> broadcast::Receiver<Decision> {
        self.decisions.subscribe()
    }

    /// Publishes a committed decision.
    pub fn decided(&self, decision: &Decision) {
        // An error means that there is no subscriber.
        let _ = self.decisions.send(decision.clone());
    }

    /// Publishes the rollout of a changed workload, if it has one.
    pub fn show(&self, state: &WorkloadState) {
        if let Some(rollout) = &state.rollout {
            self.put(show::view(rollout));
        }
    }

    /// Publishes a workload whose journal entries can't be read, by its key in the journal.
    pub fn show_unreadable(&self, workload: &str, why: &str, now: Timestamp) {
        self.put(show::unreadable(workload, why, now));
    }

    /// Publishes the rollouts of a transition that are not part of a workload's state: a refused request, and rollouts that
    /// ended and were replaced by the next one.
    pub fn passed(&self, transition: &Transition) {
        show::rejected(transition).into_iter().for_each(|shown| self.put(shown));
        transition.replaced.iter().for_each(|rollout| self.put(show::view(rollout)));
    }

    /// Removes the rollouts for which `is_foreign` is true, as those of a released partition.
    pub fn forget(&self, is_foreign: impl Fn(&RolloutView) -> bool) {
        self.view.send_modify(|view| Arc::make_mut(view).rollouts.retain(|_, shown| !is_foreign(shown)));
    }

    fn put(&self, shown: RolloutView) {
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.rollouts.insert(shown.id.clone(), shown);
            if view.rollouts.len() > MOST_SHOWN {
                let oldest =
                    view.rollouts.values().filter(|shown| shown.ended.is_some()).min_by_key(|shown| shown.ended);
                if let Some(id) = oldest.map(|shown| shown.id.clone()) {
                    view.rollouts.remove(&id);
                }
            }
        });
    }
}
