//! The canary's traffic on its way back to the stable.
//!
//! After a promotion it returns as fast as the stable can take it: an autoscaler may have shrunk the stable while the canary had
//! its traffic. Each of its pods then gets at most [`MOST_LOAD`] times the load that it had before the rollout, which lets the
//! autoscaler add pods, and more follows with them. A canary that loses its pods while the workload is promoted or restored loses
//! its traffic at once.

use super::current::Remainder;
use super::phase::Phase;
use super::state::{Rollout, RolloutContext};
use crate::ids::Weight;
use crate::input::effect::{Act, ClusterAct};
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::time::{Span, Timestamp};

/// The load of a pod of the stable, as a multiple of its load before the rollout, up to which traffic returns. It is more than
/// the tolerance of an autoscaler, 1.1 by default.
const MOST_LOAD: f64 = 1.25;
/// The time for which the rest of the traffic waits for more pods. After it the load of each pod rises by as much again.
const WAIT: Span = Span::from_secs(120);
/// The share of the traffic that returns first to a stable that is scaled to zero: its traffic scales it up, and what comes before
/// its first pod is ready may be lost.
const WAKING: f64 = 0.01;

impl Rollout {
    /// Lowers the weight that the canary keeps. While an act is in flight it stays, so that each one is confirmed.
    pub(super) fn lower_remainder(&mut self, context: RolloutContext<'_>) {
        let is_weighted = self.policy.traffic.splits_by_weight() && self.canary.exists && !self.observes();
        if !is_weighted {
            return;
        }
        // A weight that can't be written any more, since the canary has lost its pods or its part of the route, gives way to a
        // lower one.
        let returns_all = self.phase() == Phase::Returning && self.room(context) == Weight::ZERO;
        let gives_way = |act: &Act| !self.is_safe(act, context) || (returns_all && keeps_traffic(act));
        if self.current.in_flight.as_ref().is_some_and(|it| it.retry.is_some() && gives_way(&it.effect.act)) {
            self.current.in_flight = None;
        }
        if self.current.in_flight.is_some() {
            return;
        }
        let loses_pods =
            matches!(self.phase(), Phase::Promoting | Phase::Restoring) && self.canary_lacks_pods(context.status);
        let weight = if self.phase() == Phase::Returning {
            self.room(context)
        } else if loses_pods {
            Weight::ZERO
        } else {
            return;
        };
        let before = self.current.remainder.map_or(self.canary.weight, |remainder| remainder.weight);
        if weight < before || (self.phase() == Phase::Returning && self.current.remainder.is_none()) {
            self.current.remainder = Some(Remainder { weight, since: context.now });
            if self.phase() == Phase::Returning {
                self.current.done = 0;
            }
        }
    }

    /// Returns the weight that the canary keeps while fewer pods of the stable are available than before the rollout.
    fn room(&self, context: RolloutContext<'_>) -> Weight {
        let size = self.basis.as_ref().map_or(0, |basis| basis.replicas);
        let stable = context.status.and_then(|status| status.stable.as_ref());
        let Some(stable) = stable.filter(|stable| stable.available < size) else {
            return Weight::ZERO;
        };
        if self.canary_lacks_pods(context.status) || context.status.is_some_and(has_no_traffic) {
            return Weight::ZERO;
        }
        let of_size = f64::from(stable.available) / f64::from(size);
        let waited = self.current.remainder.filter(|kept| WAIT.after(kept.since) <= context.now);
        let of_time = waited.map_or(0.0, |kept| 1.0 - kept.weight.as_share());
        let least = if stable.replicas == 0 { WAKING } else { 0.0 };
        let share = (1.0 - (MOST_LOAD * of_size.max(of_time)).max(least)).max(0.0);
        Weight::basis_points((share * 10_000.0) as u16).min(self.canary.weight)
    }

    /// Returns the time at which more traffic returns although the stable has not grown; `None` if none is left.
    pub(super) fn returns_more(&self) -> Option<Timestamp> {
        let kept =
            self.current.remainder.filter(|kept| self.phase() == Phase::Returning && kept.weight > Weight::ZERO)?;
        Some(WAIT.after(kept.since))
    }

    /// Whether fewer than half of the pods that the canary's traffic needs are ready, and the stable is better off.
    pub(super) fn canary_lacks_pods(&self, status: Option<&WorkloadStatus>) -> bool {
        let arms = status.and_then(|status| Some((status.canary.as_ref()?, status.stable.as_ref()?)));
        let lacks_half = |arm: &DeploymentStatus, needed: u32| arm.ready.max(arm.available) * 2 < needed.max(1);
        let has_traffic = self.canary.weight > Weight::ZERO;
        has_traffic
            && arms.is_some_and(|(canary, stable)| {
                lacks_half(canary, self.needed_pods(status)) && !lacks_half(stable, stable.replicas)
            })
    }

    /// Returns the number of pods that the canary's present traffic needs.
    pub(super) fn needed_pods(&self, status: Option<&WorkloadStatus>) -> u32 {
        // While it grows, its traffic is that of the step before.
        let step = if self.phase() == Phase::Growing { self.step.saturating_sub(1) } else { self.step };
        self.canary_size(step, status).min(self.canary.size)
    }
}

/// Whether an act leaves the canary some traffic.
fn keeps_traffic(act: &Act) -> bool {
    matches!(act, Act::Cluster(ClusterAct::SetWeight { weight, .. }) if *weight > Weight::ZERO)
}

/// Whether no route gives the canary traffic, as after another client has removed its part.
fn has_no_traffic(status: &WorkloadStatus) -> bool {
    status.route.as_ref().is_none_or(|route| route.weight == Weight::ZERO)
}
