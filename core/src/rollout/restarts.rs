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
use crate::stats::tally::{Phi, Tally};

/// The error rate of the test.
const ALPHA: f64 = 0.005;

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
