//! The stable's autoscaler: it follows the load of each pod, or switches between no pods and all of them.

use super::absence::Party;
use super::agenda::{MINUTE, Ms};
use super::world::World;

/// The time of which the highest wish counts before pods are taken away.
const STABILIZATION: Ms = 5 * MINUTE;
/// The time without traffic after which a stable is scaled to zero.
const IDLE: Ms = 3 * MINUTE;
/// The deviation from the target that is left alone.
const TOLERANCE: f64 = 0.1;

impl World {
    /// Looks at the load and changes the stable's size.
    pub(super) fn autoscale(&mut self) {
        let Some(scaler) = self.setting.scaler else { return };
        if self.absences.is_away(Party::Api, self.now) {
            return;
        }
        let rate = self.rps() * (1.0 - (1.0 - self.setting.direct) * self.gateway.share);
        let wish = match scaler.target {
            Some(target) => {
                let capacity = f64::from(self.setting.workers) / self.setting.service;
                let exact = rate / (capacity * target);
                let now = f64::from(self.stable.replicas);
                if (exact / now - 1.0).abs() <= TOLERANCE { self.stable.replicas } else { libm::ceil(exact) as u32 }
            }
            None if rate > 0.0 => self.setting.pods,
            None => 0,
        };
        let wish = wish.clamp(scaler.least, 2 * self.setting.pods);
        let window = if scaler.target.is_some() { STABILIZATION } else { IDLE };
        self.wishes.push_back((self.now, wish));
        while self.wishes.front().is_some_and(|(at, _)| *at <= self.now - window) {
            self.wishes.pop_front();
        }
        let highest = self.wishes.iter().map(|(_, wish)| *wish).max().unwrap_or(wish);
        let replicas = if wish > self.stable.replicas { wish } else { highest.min(self.stable.replicas) };
        if self.stable.set_replicas(replicas) {
            self.stable.replicas_by = Some("kube-controller-manager");
            self.tell_story(|_| format!("the autoscaler wants {replicas} pods"));
            self.reconcile();
        }
    }
}
