//! What people are shown, as it is now: every reader takes it from here, and nobody asks an engine.

use std::sync::Arc;

use bellwether_core::engine::show;
use bellwether_core::engine::view::{RolloutView, StatusView};
use bellwether_core::engine::{Transition, WorkloadState};
use bellwether_core::rollout::decision::Decision;
use tokio::sync::{broadcast, watch};

/// Rollouts that are shown at most; of those that are over, the oldest make room.
const MOST_SHOWN: usize = 20_000;
/// So many decisions may lie unread before a slow listener misses some.
const MOST_UNREAD: usize = 1024;

/// Where shards say what has become of their rollouts.
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
    /// What there is to see, now and later.
    pub fn watch(&self) -> watch::Receiver<Arc<StatusView>> {
        self.view.subscribe()
    }

    /// Every decision from now on.
    pub fn decisions(&self) -> broadcast::Receiver<Decision> {
        self.decisions.subscribe()
    }

    /// A decision was committed.
    pub fn decided(&self, decision: &Decision) {
        // Nobody listens: then nobody misses it.
        let _ = self.decisions.send(decision.clone());
    }

    /// A workload has changed.
    pub fn show(&self, state: &WorkloadState) {
        if let Some(rollout) = &state.rollout {
            self.put(show::view(rollout));
        }
    }

    /// What a step says of rollouts that are in no state: a request that was turned away, and a rollout that ended and made
    /// room for the next one.
    pub fn passed(&self, transition: &Transition) {
        show::rejected(transition).into_iter().for_each(|shown| self.put(shown));
        transition.replaced.iter().for_each(|rollout| self.put(show::view(rollout)));
    }

    /// These rollouts are somebody else's to show from now on.
    pub fn forget(&self, is_theirs: impl Fn(&RolloutView) -> bool) {
        self.view.send_modify(|view| Arc::make_mut(view).rollouts.retain(|_, shown| !is_theirs(shown)));
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
