//! The flow of requests: from the callers over the gateway to the pods, with latency from load.

use super::agenda::{Happening, MINUTE, Ms};
use super::pod::{Arm, Pod, PodState, Requests};
use super::setting::{Cold, Setting};
use super::version::{Fault, Version};
use super::world::World;

/// The latency's limit in seconds.
const LIMIT: f64 = 0.5;
/// The time for which a process is cold.
const COLD: Ms = MINUTE;
/// The answered requests after which a process with [`Fault::Deadlock`] answers no other.
const DEADLOCK: f64 = 100.0;

/// Returns the probability that a request has to wait, by the Erlang C formula (A. K. Erlang 1917, "Solution of some
/// problems in the theory of probabilities of significance in automatic telephone exchanges"), for `load` requests that
/// are worked on at the same time in the mean by some workers.
fn erlang_c(load: f64, workers: u32) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..workers {
        term *= load / f64::from(k);
        sum += term;
    }
    let workers = f64::from(workers);
    let last = term * load / workers * workers / (workers - load);
    last / (sum + last)
}

/// Returns the share of a pod's requests that fail for lack of capacity, and the share of the others that are slow by
/// waiting: `P(W > t) = C·exp(-(cμ - λ)·t)` in M/M/c.
fn overload(rate: f64, setting: &Setting) -> (f64, f64) {
    let capacity = f64::from(setting.workers) / setting.service;
    if rate >= 0.99 * capacity {
        return (1.0 - (0.99 * capacity / rate).min(1.0), 1.0);
    }
    (0.0, erlang_c(rate * setting.service, setting.workers) * libm::exp(-(capacity - rate) * LIMIT))
}

/// Returns the rates of a ready pod that gets `rate` requests per second, and the rate of those that are not answered.
fn pod_rates(
    pod: &Pod,
    version: &Version,
    setting: &Setting,
    incident: f64,
    rate: f64,
    now: Ms,
) -> (Requests<f64>, f64) {
    let is_deadlocked = version.shows(Fault::Deadlock, now) && pod.served >= DEADLOCK;
    if pod.hung || is_deadlocked || version.shows(Fault::BlackHole, now) {
        return (Requests::default(), rate);
    }
    let (rejected, waiting) = overload(rate, setting);
    let is_cold = now.saturating_sub(pod.started) < COLD;
    let cold = if is_cold { setting.cold } else { Cold { slow: 0.0, errors: 0.0 } };
    let errors = either(&[version.errors_at(now) * pod.luck, rejected, cold.errors, incident]);
    let slow = either(&[(version.slow_at(now) * pod.pace).min(1.0), waiting, cold.slow]);
    (Requests { n: rate, errors: rate * errors, slow: rate * slow }, 0.0)
}

/// Returns the probability that at least one of several independent things happens.
fn either(shares: &[f64]) -> f64 {
    1.0 - shares.iter().fold(1.0, |none, share| none * (1.0 - share.min(1.0)))
}

impl World {
    /// Returns the requests per second at present, which swing by a tenth within an hour.
    pub(super) fn rps(&self) -> f64 {
        let hours = self.now as f64 / 3_600_000.0;
        self.setting.rps * (1.0 + 0.1 * libm::sin(core::f64::consts::TAU * (hours + self.tide)))
    }

    /// Lets the requests since the last call flow at the rates that were set then.
    pub(super) fn settle(&mut self, to: Ms) {
        let seconds = (to - self.settled) as f64 / 1000.0;
        self.settled = to;
        for pod in self.stable.pods.iter_mut().chain(self.canary.iter_mut().flat_map(|canary| &mut canary.pods)) {
            pod.expected.n += pod.rate.n * seconds;
            pod.expected.errors += pod.rate.errors * seconds;
            pod.expected.slow += pod.rate.slow * seconds;
            pod.served += pod.rate.n * seconds;
        }
        self.ledger.extra_failed += self.extra_rate * seconds;
        self.ledger.unserved += self.unserved_rate * seconds;
        if self.counts_as_unready {
            self.ledger.unready_secs += seconds;
        }
        if self.counts_as_unanswered {
            self.ledger.unanswered_secs += seconds;
        }
    }

    /// Sets the rates of all pods.
    pub(super) fn flow(&mut self) {
        let rps = self.rps();
        let routed = rps * (1.0 - self.setting.direct);
        let to_canary = routed * self.gateway.share;
        let failed = self.flow_arm(Arm::Stable, rps - to_canary) + self.flow_arm(Arm::Canary, to_canary);
        let usual = either(&[self.versions[self.before].errors, self.incident]);
        let has_pods = |arm| self.arm(arm).is_some_and(|deployment| deployment.ready() > 0);
        let unserved = |arm, rate| if has_pods(arm) { 0.0 } else { rate };
        let unserved = unserved(Arm::Stable, rps - to_canary) + unserved(Arm::Canary, to_canary);
        let counts = if self.now < 0 || self.ended.is_some() { 0.0 } else { 1.0 };
        self.extra_rate = counts * (failed - rps * usual).max(0.0);
        self.unserved_rate = counts * unserved;
        self.counts_as_unready = self.is_known_unready();
        self.counts_as_unanswered = self.is_unanswered();
    }

    /// Sets the rates of an arm's pods. Returns the rate of requests that fail or are not answered.
    fn flow_arm(&mut self, arm: Arm, rate: f64) -> f64 {
        let (now, incident) = (self.now, self.incident);
        let World { setting, versions, stable, canary, .. } = self;
        let deployment = match arm {
            Arm::Stable => stable,
            Arm::Canary => match canary {
                Some(canary) => canary,
                None => return rate,
            },
        };
        let ready = deployment.ready();
        let share = if ready == 0 { 0.0 } else { rate / ready as f64 };
        let mut next = Ms::MAX;
        let mut failed = if ready == 0 { rate } else { 0.0 };
        for pod in &mut deployment.pods {
            (pod.rate, pod.unanswered) = (Requests::default(), 0.0);
            if pod.state != PodState::Ready {
                continue;
            }
            let version = &versions[pod.version];
            (pod.rate, pod.unanswered) = pod_rates(pod, version, setting, incident, share, now);
            failed += pod.rate.errors + pod.unanswered;
            if version.shows(Fault::Deadlock, now) && pod.served < DEADLOCK && pod.rate.n > 0.0 {
                let wait = (DEADLOCK - pod.served) / pod.rate.n * 1000.0;
                next = next.min(now + libm::ceil(wait) as Ms + 1);
            }
        }
        self.plan_flow(next);
        failed
    }

    /// Plans to set the rates again, unless that is planned for an earlier time.
    fn plan_flow(&mut self, at: Ms) {
        let is_planned = self.next_flow > self.now && self.next_flow <= at;
        if at < Ms::MAX && !is_planned {
            self.next_flow = at;
            self.agenda.plan(at, Happening::Flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probability_of_waiting_is_that_of_the_tables() {
        // One worker: the load itself. Four workers at half load: 0.1739 (Erlang C tables).
        assert!((erlang_c(2.0, 4) - 0.1739).abs() < 1e-4, "{}", erlang_c(2.0, 4));
        assert!((erlang_c(0.3, 1) - 0.3).abs() < 1e-9);
        assert!(erlang_c(3.999, 4) > 0.99);
    }
}
