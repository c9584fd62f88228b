//! The life of pods: from the controller's wish to a node, to readiness, and to the ends of their processes.

use super::absence::Party;
use super::agenda::{Happening, Ms, SECOND};
use super::deployment::Deployment;
use super::pod::{Arm, Pod, PodState};
use super::setting::{between, time};
use super::version::Fault;
use super::world::World;

impl World {
    /// Returns the Deployment of an arm; `None` if there is no canary.
    pub(super) fn arm(&self, arm: Arm) -> Option<&Deployment> {
        match arm {
            Arm::Stable => Some(&self.stable),
            Arm::Canary => self.canary.as_ref(),
        }
    }

    /// Returns the Deployment of an arm to change it; `None` if there is no canary.
    pub(super) fn arm_mut(&mut self, arm: Arm) -> Option<&mut Deployment> {
        match arm {
            Arm::Stable => Some(&mut self.stable),
            Arm::Canary => self.canary.as_mut(),
        }
    }

    /// Lets the controllers create and delete pods, as far as the API server is there.
    pub(super) fn reconcile(&mut self) {
        if self.absences.is_away(Party::Api, self.now) {
            return;
        }
        for arm in [Arm::Stable, Arm::Canary] {
            self.reconcile_arm(arm);
        }
        self.agenda.plan(self.now + SECOND, Happening::Watch);
    }

    fn reconcile_arm(&mut self, arm: Arm) {
        let (now, rollover) = (self.now, self.setting.rollover);
        // A deletion may make room for a new pod at once.
        for _ in 0..64 {
            let Some(look) = self.arm(arm).map(|deployment| deployment.look(rollover, now)) else { return };
            let refused = look.create > 0 && now < self.quota_until;
            if let Some(deployment) = self.arm_mut(arm) {
                deployment.refused = refused;
                deployment.pods.retain(|pod| !look.delete.contains(&pod.id));
            }
            let create = if refused { 0 } else { look.create };
            for _ in 0..create {
                self.create_pod(arm);
            }
            if create == 0 && look.delete.is_empty() {
                return;
            }
        }
    }

    fn create_pod(&mut self, arm: Arm) {
        let Some(version) = self.arm(arm).map(|deployment| deployment.version) else { return };
        self.next_pod += 1;
        let mut pod = Pod::new(self.next_pod, version, self.now);
        self.place(&mut pod);
        let wait = match self.setting.node_wait {
            Some(wait) => time(&mut self.dice, wait),
            None => {
                pod.enter(PodState::Starting, self.now);
                time(&mut self.dice, self.setting.start)
            }
        };
        self.agenda.plan(self.now + wait, Happening::Pod { id: pod.id, turn: pod.turn });
        if let Some(deployment) = self.arm_mut(arm) {
            deployment.pods.push(pod);
        }
    }

    /// Gives a pod a node and tenants.
    fn place(&mut self, pod: &mut Pod) {
        if self.dice.uniform() < self.setting.slow_nodes {
            pod.pace = 4.0;
        }
        let sigma = self.setting.tenants;
        if sigma > 0.0 {
            let radius = (-2.0 * libm::log(self.dice.uniform())).sqrt();
            let normal = radius * libm::cos(core::f64::consts::TAU * self.dice.uniform());
            pod.luck = libm::exp(sigma * normal - sigma * sigma / 2.0);
        }
    }

    /// Creates the pods with which the world begins, ready for long.
    pub(super) fn create_first_pods(&mut self) {
        for _ in 0..self.stable.replicas {
            self.next_pod += 1;
            let mut pod = Pod::new(self.next_pod, self.stable.version, self.now);
            self.place(&mut pod);
            pod.enter(PodState::Ready, self.now);
            (pod.ready_since, pod.started) = (Ms::MIN / 2, Ms::MIN / 2);
            let (id, turn) = (pod.id, pod.turn);
            self.stable.pods.push(pod);
            self.plan_end(id, turn, self.stable.version);
        }
    }

    /// Lets a pod go on, unless it has changed since this was planned.
    pub(super) fn pod_goes_on(&mut self, id: u32, turn: u32) {
        let now = self.now;
        let start = time(&mut self.dice, self.setting.start);
        let unready = self.unready;
        let arms = [Arm::Stable, Arm::Canary];
        let Some(arm) = arms.into_iter().find(|arm| {
            self.arm(*arm).is_some_and(|found| found.pods.iter().any(|pod| (pod.id, pod.turn) == (id, turn)))
        }) else {
            return;
        };
        let Some(pod) = self.arm_mut(arm).and_then(|found| found.pods.iter_mut().find(|pod| pod.id == id)) else {
            return;
        };
        let mut wait = None;
        match pod.state {
            PodState::Pending | PodState::BackingOff => {
                pod.enter(PodState::Starting, now);
                wait = Some(start);
            }
            PodState::Starting => {
                let stays_unready = unready && pod.version == 1 && arm == Arm::Canary;
                pod.enter(if stays_unready { PodState::Unready } else { PodState::Ready }, now);
            }
            PodState::Ready if pod.hung => {
                pod.enter(PodState::Unready, now);
                wait = Some(60 * SECOND);
            }
            PodState::Ready | PodState::Unready => {
                let back_off = pod.end_process(now);
                let state = if back_off == 0 { PodState::Starting } else { PodState::BackingOff };
                pod.enter(state, now);
                wait = Some(if back_off == 0 { start } else { back_off });
            }
        }
        let (state, turn, version) = (pod.state, pod.turn, pod.version);
        if let Some(wait) = wait {
            self.agenda.plan(now + wait, Happening::Pod { id, turn });
        }
        if state == PodState::Ready {
            self.plan_end(id, turn, version);
            self.agenda.plan(now + self.setting.rollover.min_ready, Happening::Reconcile);
        }
        self.reconcile();
    }

    /// Plans the end of a ready pod's process: by its version's fault, or by an OOM kill.
    fn plan_end(&mut self, id: u32, turn: u32, version: usize) {
        if self.versions[version].fault == Some(Fault::Crashes) {
            let at = (self.now + (between(&mut self.dice, 240.0, 360.0) * 1000.0) as Ms)
                .max(self.versions[version].bad_from);
            self.agenda.plan(at, Happening::Pod { id, turn });
        }
        if self.setting.kills > 0.0 {
            let hours = -libm::log(self.dice.uniform()) / self.setting.kills;
            self.agenda.plan(self.now + (hours * 3_600_000.0) as Ms, Happening::Pod { id, turn });
        }
    }
}
