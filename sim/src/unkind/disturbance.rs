//! Disturbances: things that happen to the cluster, to the machine and to the parties around them.

use bellwether_core::rollout::phase::Phase;

use super::absence::Party;
use super::agenda::{Happening, MINUTE, Ms, SECOND};
use super::pod::{Arm, PodState};
use super::setting::When;
use super::world::World;

/// A thing that happens to the world.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Disturbance {
    /// The quota refuses new pods for this long.
    Quota(Ms),
    /// A pod of each arm is evicted, again after five minutes.
    Eviction,
    /// The node of a third of each arm's pods is lost for five minutes; then they are replaced.
    NodeLoss,
    /// A pod of the canary answers nothing any more.
    Hang,
    /// A share of all requests fails.
    Incident {
        /// The share of requests that fail, 0 to 1.
        share: f64,
        /// The time for which they fail.
        length: Ms,
    },
    /// A party is away for this long.
    Away(Party, Ms),
    /// The machine's clock is an hour fast.
    ClockJump,
    /// The pods of the candidate become unready, as its fault is.
    Unready,
    /// The stable is changed to the hotfix by another hand.
    Hotfix,
    /// There are 40 % more requests.
    Rush {
        /// The wait of new pods for a node from now on.
        node_wait: Option<(Ms, Ms)>,
    },
}

impl Disturbance {
    /// Returns its length; `None` if it is over at once.
    fn length(self) -> Option<Ms> {
        match self {
            Disturbance::Quota(length) | Disturbance::Away(_, length) | Disturbance::Incident { length, .. } => {
                Some(length)
            }
            Disturbance::Eviction | Disturbance::NodeLoss => Some(5 * MINUTE),
            Disturbance::ClockJump => Some(30 * SECOND),
            Disturbance::Hang | Disturbance::Unready | Disturbance::Hotfix | Disturbance::Rush { .. } => None,
        }
    }
}

impl World {
    /// Plans the disturbances that wait for a phase that the rollout enters.
    pub(super) fn entered(&mut self, phase: Phase) {
        let times = self.entries.iter().filter(|entered| **entered == phase).count() as u32;
        self.entries.push(phase);
        for (when, disturbance) in self.setting.disturbances.clone() {
            if let When::Entering(awaited, nth, after) = when
                && (awaited, nth) == (phase, times)
            {
                self.agenda.plan(self.now + after, Happening::Disturb(disturbance));
            }
        }
        if self.late_from == Some(phase) {
            self.versions[1].bad_from = self.versions[1].bad_from.min(self.now + 30 * SECOND);
        }
    }

    /// Begins a disturbance.
    pub(super) fn disturb(&mut self, disturbance: Disturbance) {
        self.tell_story(|_| format!("begins: {disturbance:?}"));
        match disturbance {
            Disturbance::Quota(length) => self.quota_until = self.now + length,
            Disturbance::Eviction => self.evict(),
            Disturbance::NodeLoss => self.lose_node(),
            Disturbance::Hang => self.hang_one(),
            Disturbance::Incident { share, .. } => self.incident = share,
            Disturbance::Away(party, length) => {
                self.absences.begin(party, self.now + length);
                if self.late_from.is_none() && party == Party::Daemon {
                    self.versions[1].bad_from = self.versions[1].bad_from.min(self.now);
                }
            }
            Disturbance::ClockJump => self.jump(60 * MINUTE),
            Disturbance::Rush { node_wait } => {
                self.setting.rps *= 1.4;
                self.setting.node_wait = node_wait;
            }
            Disturbance::Unready => self.make_candidate_unready(),
            Disturbance::Hotfix => {
                self.stable.set_version(2);
                self.stable.template_by = Some("helm");
                self.reconcile();
            }
        }
        if let Some(length) = disturbance.length() {
            self.agenda.plan(self.now + length, Happening::Calm(disturbance));
        }
        self.agenda.plan(self.now + SECOND, Happening::Watch);
    }

    /// Ends a disturbance.
    pub(super) fn calm(&mut self, disturbance: Disturbance) {
        self.tell_story(|_| format!("ends: {disturbance:?}"));
        match disturbance {
            Disturbance::Quota(_) => self.reconcile(),
            Disturbance::Eviction => self.disturb(Disturbance::Eviction),
            Disturbance::NodeLoss => {
                for arm in [Arm::Stable, Arm::Canary] {
                    if let Some(deployment) = self.arm_mut(arm) {
                        deployment.pods.retain(|pod| !pod.lost);
                    }
                }
                self.reconcile();
            }
            Disturbance::Incident { .. } => self.incident = 0.0,
            Disturbance::Away(party, _) => self.return_of(party),
            Disturbance::ClockJump => self.jump(0),
            Disturbance::Hang | Disturbance::Unready | Disturbance::Hotfix | Disturbance::Rush { .. } => {}
        }
        self.agenda.plan(self.now + SECOND, Happening::Watch);
    }

    fn jump(&mut self, fast: Ms) {
        self.fast = fast;
        self.plan_wake();
    }

    fn evict(&mut self) {
        for arm in [Arm::Stable, Arm::Canary] {
            let count = self.arm(arm).map_or(0, |deployment| deployment.pods.len());
            if count > 0 {
                let at = self.dice.below(count);
                if let Some(deployment) = self.arm_mut(arm) {
                    deployment.pods.remove(at);
                }
            }
        }
        self.reconcile();
    }

    fn lose_node(&mut self) {
        let now = self.now;
        for arm in [Arm::Stable, Arm::Canary] {
            if let Some(deployment) = self.arm_mut(arm) {
                let lost = deployment.pods.len().div_ceil(3);
                for pod in deployment.pods.iter_mut().take(lost) {
                    pod.enter(PodState::Unready, now);
                    pod.lost = true;
                }
            }
        }
    }

    fn hang_one(&mut self) {
        let at = self.now + 30 * SECOND;
        if let Some(pod) = self.canary.as_mut().and_then(|canary| canary.pods.iter_mut().find(|pod| pod.is_ready())) {
            pod.hung = true;
            pod.turn += 1;
            let (id, turn) = (pod.id, pod.turn);
            self.agenda.plan(at, Happening::Pod { id, turn });
        }
    }

    fn make_candidate_unready(&mut self) {
        let now = self.now;
        self.unready = true;
        for pod in self.canary.iter_mut().flat_map(|canary| &mut canary.pods).filter(|pod| pod.is_ready()) {
            pod.enter(PodState::Unready, now);
        }
    }
}
