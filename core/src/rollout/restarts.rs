//! Restarts as evidence of their own: a version whose containers end again and again loses the requests that they had taken, and
//! the counters that would show it.
//!
//! Given that a container restarts, the chance that it is one of the canary's is c/(c+s) if both versions restart equally
//! often, with c and s pods of the two (competing Poisson processes, Ross, Stochastic Processes, 1996, §2.3). The test asks
//! whether it is higher. It is valid at any number of looks.

use serde::{Deserialize, Serialize};

use crate::input::status::DeploymentStatus;
use crate::stats::mixture::{Mixture, Onset};
use crate::stats::slo::LimitGrid;
use crate::stats::special::beta_tails;
use crate::stats::tally::{Phi, Tally};
use crate::time::{Span, Timestamp};

/// The error rate of the test.
const ALPHA: f64 = 0.005;

/// The restarts and the time of the pods of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Exposure {
    restarts: u32,
    /// The sum of the times of its pods, in milliseconds.
    pod_ms: u64,
}

/// The restarts of a promoted version, against those of the version before while it was the stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PromotedRestarts {
    before: Exposure,
    after: Exposure,
    /// The time of the newest change of the status, with its sum of restarts, its pods, and whether they are those of the promoted version.
    seen: Option<(Timestamp, u32, u32, bool)>,
}

impl PromotedRestarts {
    /// Counts the restarts and the time since the last status of the stable. `is_new` tells whether it runs the promoted version.
    pub fn observe(&mut self, stable: &DeploymentStatus, is_new: bool, now: Timestamp) {
        let (restarts, pods) = (stable.restarts, stable.updated);
        // Only a change counts the time since the last one, so that the passing of time alone changes nothing.
        if self.seen.is_some_and(|(_, before, of, was_new)| (before, of, was_new) == (restarts, pods, is_new)) {
            return;
        }
        let Some((at, restarts, pods, was_new)) = self.seen.replace((now, restarts, pods, is_new)) else { return };
        let exposure = if was_new { &mut self.after } else { &mut self.before };
        // A sum that belongs to other pods begins anew.
        let new = if was_new == is_new { stable.restarts.saturating_sub(restarts) } else { 0 };
        exposure.restarts = exposure.restarts.saturating_add(new);
        let ms = Span::between(at, now).as_millis().saturating_mul(u64::from(pods));
        exposure.pod_ms = exposure.pod_ms.saturating_add(ms);
    }

    /// Whether the promoted version restarts more often. With equal rates, the number of restarts after the promotion out of all
    /// is binomial in the shares of the times (the conditional test of two Poisson rates, Przyborowski and Wilenski 1940). The
    /// k-th restart is a look of its own, at the level α/(k(k+1)), so all looks together keep α.
    pub fn are_more(&self) -> bool {
        let (k, all) = (self.after.restarts, self.after.restarts.saturating_add(self.before.restarts));
        let total = self.after.pod_ms.saturating_add(self.before.pod_ms);
        if k == 0 || total == 0 {
            return false;
        }
        let share = self.after.pod_ms as f64 / total as f64;
        let (a, b) = (f64::from(k), f64::from(all - k) + 1.0);
        let level = ALPHA / (f64::from(k) * (f64::from(k) + 1.0));
        // A binomial tail is an incomplete beta function (DLMF 8.17.5).
        beta_tails(share, a, b).lower <= libm::log(level)
    }

    /// Returns the restarts of the promoted version and of the one before.
    pub fn counts(&self) -> (u32, u32) {
        (self.after.restarts, self.before.restarts)
    }
}

/// The restarts of both versions since the canary has traffic.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Restarts {
    /// The sums that the newest status showed, of the canary and of the stable.
    seen: Option<(u32, u32)>,
    /// The canary's restarts.
    pub canary: u32,
    /// The stable's restarts.
    pub stable: u32,
    evidence: Mixture,
}

impl Restarts {
    /// Counts the restarts since the last status. A sum that falls belongs to other pods, so it begins anew.
    pub fn observe(&mut self, canary: &DeploymentStatus, stable: &DeploymentStatus) {
        let sums = (canary.restarts, stable.restarts);
        let before = self.seen.replace(sums).unwrap_or(sums);
        let new = (sums.0.saturating_sub(before.0), sums.1.saturating_sub(before.1));
        if new == (0, 0) || canary.updated == 0 {
            return;
        }
        self.canary = self.canary.saturating_add(new.0);
        self.stable = self.stable.saturating_add(new.1);
        let pods = (f64::from(canary.updated), f64::from(stable.total.max(1)));
        let test = LimitGrid::above(pods.0 / (pods.0 + pods.1), Onset::Any);
        let tally = Tally::of(u64::from(new.0), u64::from(new.0) + u64::from(new.1));
        let absorbed = match (test, tally) {
            (Ok(test), Ok(tally)) => test.absorb(&mut self.evidence, tally, Phi::ONE).is_ok(),
            (Err(_), _) | (_, Err(_)) => false,
        };
        // A state of another version of the test begins anew.
        if !absorbed {
            self.evidence = Mixture::default();
        }
    }

    /// Whether the canary restarts more often than the stable.
    pub fn are_more(&self) -> bool {
        LimitGrid::above(0.5, Onset::Any).is_ok_and(|test| test.ln_e(&self.evidence) >= -libm::log(ALPHA))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Random;
    use crate::ids::TemplateHash;

    fn deployment(pods: u32, restarts: u32) -> DeploymentStatus {
        DeploymentStatus {
            uid: String::new(),
            template: TemplateHash(String::new()),
            pod_hash: None,
            images: std::collections::BTreeMap::new(),
            generation: 1,
            observed_generation: 1,
            replicas: pods,
            total: pods,
            updated: pods,
            ready: pods,
            available: pods,
            restarts,
            paused: false,
            problem: None,
            template_by: None,
            replicas_by: None,
        }
    }

    /// Returns the share of 400 rollouts in which the canary's restarts are found to be more, and the mean time of that in
    /// minutes. Each pod restarts `rates` times an hour, in three hours.
    fn found(pods: (u32, u32), rates: (f64, f64)) -> (f64, f64) {
        let mut random = Random::new(7);
        let (mut found, mut minutes) = (0, 0);
        for _ in 0..400 {
            let (mut restarts, mut sums) = (Restarts::default(), (0, 0));
            restarts.observe(&deployment(pods.0, 0), &deployment(pods.1, 0));
            for minute in 0..180 {
                let mut count =
                    |pods: u32, rate: f64| (0..pods).filter(|_| random.uniform() < rate / 60.0).count() as u32;
                sums = (sums.0 + count(pods.0, rates.0), sums.1 + count(pods.1, rates.1));
                restarts.observe(&deployment(pods.0, sums.0), &deployment(pods.1, sums.1));
                if restarts.are_more() {
                    found += 1;
                    minutes += minute;
                    break;
                }
            }
        }
        (f64::from(found) / 400.0, f64::from(minutes) / f64::from(found.max(1)))
    }

    /// Returns the share of 400 guards of an hour in which the promoted version's restarts are found to be more, after half an
    /// hour of the version before. Each of ten pods restarts `rates` times an hour.
    fn found_after_promotion(rates: (f64, f64)) -> f64 {
        let mut random = Random::new(11);
        let mut found = 0;
        for _ in 0..400 {
            let (mut restarts, mut sum) = (PromotedRestarts::default(), 0);
            for minute in 0..90 {
                let rate = if minute < 30 { rates.0 } else { rates.1 };
                sum = if minute == 30 { 0 } else { sum };
                sum += (0..10).filter(|_| random.uniform() < rate / 60.0).count() as u32;
                let now = Timestamp::from_second(60 * minute).unwrap();
                restarts.observe(&deployment(10, sum), minute >= 30, now);
            }
            found += u32::from(restarts.are_more());
        }
        f64::from(found) / 400.0
    }

    #[test]
    fn a_promoted_version_is_found_if_it_restarts_more_often_than_the_one_before() {
        for rate in [0.1, 2.0, 12.0] {
            assert!(found_after_promotion((rate, rate)) <= ALPHA, "{rate} restarts an hour");
        }
        assert!(found_after_promotion((0.0, 12.0)) > 0.99);
    }

    #[test]
    fn equal_versions_are_rarely_told_apart_and_a_crashing_one_soon() {
        for (pods, rate) in [((2, 10), 2.0), ((10, 10), 2.0), ((2, 10), 12.0), ((10, 10), 0.1)] {
            let (share, _) = found(pods, (rate, rate));
            assert!(share <= ALPHA, "{pods:?} pods at {rate} restarts an hour: {share}");
        }
        for (pods, within) in [((2, 10), 15.0), ((10, 10), 10.0)] {
            let (share, minutes) = found(pods, (12.0, 0.0));
            assert!(share > 0.99 && minutes < within, "{pods:?}: {share} after {minutes} min");
        }
    }
}
