//! The facts about a rollout that its row in the list and its own page both begin with.

use bellwether_core::engine::view::RolloutView;

use super::text::{Place, StepBar, share};
use crate::show::standing::Badge;

/// The facts about one rollout.
#[derive(Debug)]
pub(super) struct Headline {
    pub(super) id: String,
    /// The workload's key.
    pub(super) workload: String,
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) versions: String,
    pub(super) badge: Badge,
    pub(super) bar: Option<StepBar>,
    /// The weight that is asked for, while it runs.
    pub(super) weight: Option<String>,
    /// The canary's share of the counted requests, while it runs.
    pub(super) seen: Option<String>,
    pub(super) reason: String,
    /// Whether its policy writes nothing to the cluster.
    pub(super) observes: bool,
}

impl Headline {
    /// Returns the facts about a rollout.
    pub(super) fn of(rollout: &RolloutView) -> Headline {
        let place = Place::of(&rollout.workload);
        Headline {
            id: rollout.id.clone(),
            workload: rollout.workload.clone(),
            cluster: place.cluster.to_owned(),
            namespace: place.namespace.to_owned(),
            name: place.name.to_owned(),
            versions: rollout.versions(),
            badge: Badge::of(rollout),
            bar: StepBar::of(rollout),
            weight: rollout.is_running().then(|| rollout.weight.to_string()),
            seen: rollout.observed.filter(|_| rollout.is_running()).map(share),
            reason: rollout.reason.clone(),
            observes: rollout.mode == "observe",
        }
    }
}
