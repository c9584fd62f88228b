//! Restarts as evidence of their own: a version whose containers end again and again loses the requests that they had taken, and
//! the counters that would show it.
//!
//! The restarts of the new version while it serves, as the canary and after its promotion, are compared with those of the version
//! before, over the time of their pods. The pods of the version before may have run for long, so one container that ends every
//! few minutes is soon told from them.

use serde::{Deserialize, Serialize};

use crate::input::status::DeploymentStatus;
use crate::stats::special::beta_tails;
use crate::time::{Span, Timestamp};

/// The error rate of the test.
const ALPHA: f64 = 0.005;
/// The ratio of the two rates, at the same time, up to which the cause may be one that both versions share.
const SHARED: f64 = 2.0;

/// The restarts of the pods of one version, and the time of the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exposure {
    /// The number of restarts.
    pub restarts: u32,
    /// The sum of the times of its pods, in milliseconds.
    pod_ms: u64,
}

impl Exposure {
    /// Returns the restarts of pods since their start.
    fn until(deployment: &DeploymentStatus, now: Timestamp) -> Exposure {
        let age = deployment.pods_since.map_or(Span::ZERO, |since| Span::between(since, now));
        Exposure {
            restarts: deployment.restarts,
            pod_ms: age.as_millis().saturating_mul(u64::from(deployment.updated)),
        }
    }

    fn add(&mut self, other: Exposure) {
        self.restarts = self.restarts.saturating_add(other.restarts);
        self.pod_ms = self.pod_ms.saturating_add(other.pod_ms);
    }

    /// Returns the time of its pods together.
    pub fn time(&self) -> Span {
        Span::from_millis(self.pod_ms)
    }
}

/// The pods of one version as a status showed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pods {
    restarts: u32,
    number: u32,
}

impl Pods {
    fn of(deployment: &DeploymentStatus) -> Pods {
        Pods { restarts: deployment.restarts, number: deployment.updated }
    }

    /// Returns the restarts and the time of the pods from this status to the next one. A sum that falls belongs to other pods, so
    /// it begins anew.
    fn until(self, next: Pods, time: Span) -> Exposure {
        Exposure {
            restarts: next.restarts.saturating_sub(self.restarts),
            pod_ms: time.as_millis().saturating_mul(u64::from(self.number)),
        }
    }
}

/// The pods of both versions as a status showed them; `None` for a version that does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Seen {
    at: Timestamp,
    new: Option<Pods>,
    before: Option<Pods>,
}

/// The restarts of the new version and of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Restarts {
    /// Those of the new version while it serves.
    pub new: Exposure,
    /// Those of the version before, since its pods started.
    pub before: Exposure,
    /// Those of the version before while the canary serves beside it.
    beside: Exposure,
    /// The number of the new version's pods.
    pub pods: u32,
    seen: Option<Seen>,
}

impl Restarts {
    /// Counts the restarts and the time since the last status. `new` is the Deployment with the new version, if it serves, and
    /// `before` the one with the version before.
    pub fn observe(&mut self, new: Option<&DeploymentStatus>, before: Option<&DeploymentStatus>, now: Timestamp) {
        let next = Seen { at: now, new: new.map(Pods::of), before: before.map(Pods::of) };
        // Only a change counts the time since the last one, so that the passing of time alone changes nothing.
        if self.seen.is_some_and(|seen| (seen.new, seen.before) == (next.new, next.before)) {
            return;
        }
        if self.before == Exposure::default() {
            self.before = before.map(|before| Exposure::until(before, now)).unwrap_or_default();
        }
        self.pods = next.new.map_or(self.pods, |new| new.number);
        let Some(seen) = self.seen.replace(next) else { return };
        let time = Span::between(seen.at, now);
        let since = |from: Option<Pods>, to: Option<Pods>| Some(from?.until(to?, time));
        if let Some(exposure) = since(seen.before, next.before) {
            self.before.add(exposure);
            if seen.new.is_some() {
                self.beside.add(exposure);
            }
        }
        self.new.add(since(seen.new, next.new).unwrap_or_default());
    }

    /// Whether the new version restarts more often. With equal rates, the number of its restarts out of all is binomial in the
    /// shares of the times (the conditional test of two Poisson rates, Przyborowski and Wilenski 1940). The k-th restart is a look
    /// of its own, at the level α/(k(k+1)), so all looks together keep α.
    ///
    /// Containers may end once when they start, and all of them when something fails that both versions use. So some pod must
    /// have restarted twice, and the version before, if it serves at the same time, must do so less than half as often.
    pub fn are_more(&self) -> bool {
        let (k, all) = (self.new.restarts, self.new.restarts.saturating_add(self.before.restarts));
        let total = self.new.pod_ms.saturating_add(self.before.pod_ms);
        if k <= self.pods || total == 0 || self.is_shared() {
            return false;
        }
        let share = self.new.pod_ms as f64 / total as f64;
        let (a, b) = (f64::from(k), f64::from(all - k) + 1.0);
        let level = ALPHA / (f64::from(k) * (f64::from(k) + 1.0));
        // A binomial tail is an incomplete beta function (DLMF 8.17.5).
        beta_tails(share, a, b).lower <= libm::log(level)
    }

    /// Whether the version before restarts at the same time too, more than half as often for its pods and time.
    fn is_shared(&self) -> bool {
        let (beside, new) = (self.beside, self.new);
        beside.restarts > 0
            && f64::from(new.restarts) * beside.pod_ms as f64 <= SHARED * f64::from(beside.restarts) * new.pod_ms as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Random;
    use crate::ids::{Images, TemplateHash};

    fn deployment(pods: u32, restarts: u32) -> DeploymentStatus {
        DeploymentStatus {
            uid: String::new(),
            template: TemplateHash(String::new()),
            pod_hash: None,
            images: Images::new(),
            generation: 1,
            observed_generation: 1,
            replicas: pods,
            total: pods,
            updated: pods,
            ready: pods,
            available: pods,
            restarts,
            pods_since: None,
            paused: false,
            problem: None,
            template_by: None,
            replicas_by: None,
        }
    }

    /// A rollout whose canary serves for half an hour, followed by a guard of half an hour.
    struct World {
        /// The pods of the canary and of the stable.
        pods: (u32, u32),
        /// The restarts of a pod in an hour, of the new version and of the one before.
        rates: (f64, f64),
        /// The hours for which the stable's pods have run before.
        hours: u32,
        /// The minute in which each container of both versions ends twice.
        outage: Option<u32>,
    }

    impl World {
        /// Returns the minute in which the new version's restarts are found to be more.
        fn found(&self, seed: u64) -> Option<u32> {
            let World { pods, rates, hours, outage } = *self;
            let mut random = Random::new(seed);
            let past = random.poisson(rates.1 * f64::from(pods.1 * hours)) as u32;
            let (mut restarts, mut sums) = (Restarts::default(), (0, past));
            for minute in 0..60 {
                let mut count = |pods: u32, rate: f64| random.poisson(f64::from(pods) * rate / 60.0) as u32;
                let is_promoted = minute >= 30;
                let new_pods = if is_promoted { pods.1 } else { pods.0 };
                if minute == 30 {
                    sums.0 = 0;
                }
                let bursts = if outage == Some(minute) { 2 } else { 0 };
                sums.0 += count(new_pods, rates.0) + bursts * new_pods;
                sums.1 += count(pods.1, rates.1) + bursts * pods.1;
                let since = Timestamp::from_second(-3600 * i64::from(hours)).unwrap();
                let new = deployment(new_pods, sums.0);
                let before = DeploymentStatus { pods_since: Some(since), ..deployment(pods.1, sums.1) };
                let now = Timestamp::from_second(60 * i64::from(minute)).unwrap();
                restarts.observe(Some(&new), Some(&before).filter(|_| !is_promoted), now);
                if restarts.are_more() {
                    return Some(minute);
                }
            }
            None
        }

        /// Returns the share of 400 rollouts in which they are found to be more, and the mean minute of that.
        fn share(&self) -> (f64, f64) {
            let found: Vec<u32> = (0..400).filter_map(|seed| self.found(seed)).collect();
            let n = found.len() as f64;
            (n / 400.0, f64::from(found.iter().sum::<u32>()) / n.max(1.0))
        }
    }

    #[test]
    fn equal_versions_are_rarely_told_apart() {
        for (pods, rate, hours) in [((2, 10), 2.0, 0), ((10, 10), 2.0, 1), ((2, 10), 12.0, 24), ((10, 10), 0.1, 24)] {
            let world = World { pods, rates: (rate, rate), hours, outage: None };
            let (share, _) = world.share();
            assert!(share <= ALPHA, "{pods:?} pods at {rate} restarts an hour after {hours} h: {share}");
        }
    }

    #[test]
    fn a_version_that_ends_every_five_minutes_is_found_soon() {
        for (pods, hours, within) in [((1, 6), 1, 15.0), ((2, 10), 1, 18.0), ((6, 6), 1, 10.0), ((10, 10), 24, 10.0)] {
            let world = World { pods, rates: (12.0, 0.0), hours, outage: None };
            let (share, minutes) = world.share();
            assert!(share > 0.99 && minutes < within, "{pods:?} after {hours} h: {share} after {minutes} min");
        }
    }

    #[test]
    fn an_outage_that_ends_the_containers_of_both_versions_blames_neither() {
        let world = World { pods: (2, 10), rates: (0.0, 0.0), hours: 24, outage: Some(10) };
        assert_eq!(world.share().0, 0.0);
    }

    #[test]
    fn containers_that_end_once_when_they_start_are_no_fault() {
        let mut restarts = Restarts::default();
        let since = Timestamp::from_second(-86_400).unwrap();
        let before = DeploymentStatus { pods_since: Some(since), ..deployment(6, 0) };
        for second in 0..6_u32 {
            let now = Timestamp::from_second(10 * i64::from(second)).unwrap();
            restarts.observe(Some(&deployment(6, second + 1)), Some(&before), now);
        }
        assert!(!restarts.are_more(), "{restarts:?}");
    }
}
