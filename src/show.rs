//! The present state of the rollouts for readers: the API, the page and the demo read it here and never ask an engine.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use bellwether_core::engine::show;
use bellwether_core::engine::view::{RolloutView, StatusView};
use bellwether_core::engine::{Transition, WorkloadState};
use bellwether_core::ids::Workload;
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
    /// The workloads with a running rollout.
    running: Arc<RwLock<BTreeSet<Workload>>>,
}

impl Default for StatusBoard {
    fn default() -> StatusBoard {
        StatusBoard {
            view: Arc::new(watch::Sender::default()),
            decisions: broadcast::channel(MOST_UNREAD).0,
            running: Arc::default(),
        }
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

    /// Returns whether a rollout of the workload runs in this process.
    pub fn is_running(&self, workload: &Workload) -> bool {
        self.running.read().unwrap_or_else(PoisonError::into_inner).contains(workload)
    }

    /// Publishes the rollout of a changed workload, if it has one.
    pub fn show(&self, state: &WorkloadState) {
        self.change_running(|running| {
            if state.active().is_some() {
                running.insert(state.workload.clone());
            } else {
                running.remove(&state.workload);
            }
        });
        if let Some(rollout) = &state.rollout {
            self.put(show::view(rollout));
        }
    }

    /// Publishes an isolated workload, by its key in the journal.
    pub fn show_unreadable(&self, workload: &str, why: &str, now: Timestamp) {
        self.change_running(|running| running.retain(|other| other.to_string() != workload));
        self.view.send_modify(|view| {
            Arc::make_mut(view).rollouts.retain(|_, shown| shown.workload != workload || shown.ended.is_some());
        });
        self.put(show::unreadable(workload, why, now));
    }

    /// Publishes the rollouts of a transition that are not part of a workload's state: a refused request, and rollouts that
    /// ended and were replaced by the next one.
    pub fn passed(&self, transition: &Transition) {
        show::rejected(transition).into_iter().for_each(|shown| self.put(shown));
        transition.replaced.iter().for_each(|rollout| self.put(show::view(rollout)));
    }

    /// Removes the rollouts of the workloads for whose keys `is_foreign` is true, as those of a released partition.
    pub fn forget(&self, is_foreign: impl Fn(&str) -> bool) {
        self.change_running(|running| running.retain(|workload| !is_foreign(&workload.to_string())));
        self.view.send_modify(|view| Arc::make_mut(view).rollouts.retain(|_, shown| !is_foreign(&shown.workload)));
    }

    fn change_running(&self, change: impl FnOnce(&mut BTreeSet<Workload>)) {
        // Poisoning is harmless: each change leaves the set consistent.
        change(&mut self.running.write().unwrap_or_else(PoisonError::into_inner));
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
