//! The current traffic of a check, and simulated blocks of it.
//!
//! The number of requests is Poisson-distributed. Errors come in clusters of φ errors on average, weighted by their
//! errors; each cluster hits one pod (see [`bellwether_core::stats::dispersion`]). A worse canary has more clusters,
//! not larger ones.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use bellwether_core::dice::Random;
use bellwether_core::judge::check::Check;
use bellwether_core::judge::sequential::counted;
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::measure::metric::{Limit, MetricKind};
use bellwether_core::measure::window::{Arm, reading};
use bellwether_core::stats::tally::Phi;
use bellwether_core::time::Span;

/// The current traffic of a check, summed over all pods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckTraffic {
    /// Requests per second, above 0.
    pub rps: f64,
    /// The share of bad requests (failed, or slower than the limit), from 0 to 1.
    pub share: f64,
    /// The clusters of bad requests; `None` if they are unknown, and φ is assumed to be [`Phi::ASSUMED`].
    pub clusters: Option<Clusters>,
}

/// The clusters of bad requests, as learnt from the stable's pods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Clusters {
    /// The dispersion φ, from 1 to 1000.
    pub phi: f64,
    /// The number of pods, at least 2.
    pub pods: u32,
}

/// The reasons for which traffic can't be planned for.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum BadTraffic {
    /// The number of requests per second, which is not above 0 and at most 1e9.
    #[error("{0} requests a second can't be planned for; write a number above 0 and at most 1e9")]
    Rps(f64),
    /// The share of bad requests, which is not from 0 to 1.
    #[error("a share of {0} is not between 0 and 1")]
    Share(f64),
    /// The φ, which is not from 1 to 1000, or the number of pods, which is below 2.
    #[error("a φ of {0} from {1} pods is not possible; φ is from 1 to 1000, and at least 2 pods are needed")]
    Clusters(f64, u32),
}

impl CheckTraffic {
    /// Makes the traffic of a check from `rps` requests per second, above 0 and at most 1e9; the share of bad ones,
    /// from 0 to 1; and their clusters, if known.
    ///
    /// # Errors
    /// [`BadTraffic`] with the value that is out of range.
    pub fn new(rps: f64, share: f64, clusters: Option<Clusters>) -> Result<CheckTraffic, BadTraffic> {
        if !(rps > 0.0 && rps <= 1e9) {
            return Err(BadTraffic::Rps(rps));
        }
        if !(0.0..=1.0).contains(&share) {
            return Err(BadTraffic::Share(share));
        }
        if let Some(Clusters { phi, pods }) = clusters.filter(|c| !(1.0..=1000.0).contains(&c.phi) || c.pods < 2) {
            return Err(BadTraffic::Clusters(phi, pods));
        }
        Ok(CheckTraffic { rps, share, clusters })
    }

    /// Measures the traffic of `check` in blocks of the stable. Returns `None` if no block has requests of it.
    pub fn of(blocks: &[Block], check: &Check) -> Option<CheckTraffic> {
        let (mut seconds, mut bad, mut n) = (0.0, 0.0, 0.0);
        let mut pods = 0;
        for block in blocks {
            let stable = block.metrics.get(&check.metric).and_then(|sample| reading(sample, Arm::Stable));
            let Some(tally) = stable.and_then(|reading| counted(reading, check.limit)) else { continue };
            seconds += Span::between(block.from, block.to).as_secs_f64();
            (bad, n) = (bad + tally.hits(), n + tally.n());
            let readings = block.processes.get(&check.metric).map_or(&[][..], Vec::as_slice);
            let count = readings.iter().filter_map(|reading| counted(reading, check.limit)).count();
            pods = pods.max(u32::try_from(count).unwrap_or(u32::MAX));
        }
        let phi = check.criterion().learn(blocks).dispersion.phi();
        let clusters = (phi.calibrated && pods >= 2).then(|| Clusters { phi: phi.value().min(1000.0), pods });
        CheckTraffic::new(n / seconds, if n > 0.0 { bad / n } else { 0.0 }, clusters).ok()
    }

    /// Returns the dispersion φ, at least 1: the mean size of an error's cluster.
    pub fn phi(&self) -> f64 {
        self.clusters.map_or(Phi::ASSUMED.value(), |clusters| clusters.phi)
    }
}

/// The traffic of a check, split between the arms, with a canary that has its own share of bad requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    pub(super) present: CheckTraffic,
    /// The canary's share of the traffic, from 0 to 1.
    pub(super) weight: f64,
    /// The canary's share of bad requests, from 0 to 1.
    pub(super) canary: f64,
}

impl Split {
    /// Simulates a block of `seconds`. Returns the counts of both arms, and those of each stable pod if the clusters
    /// are known.
    pub(super) fn block(
        self,
        check: &Check,
        kind: MetricKind,
        seconds: f64,
        random: &mut Random,
    ) -> (Sample, Vec<Reading>) {
        let Split { present, weight, canary } = self;
        let requests = present.rps * seconds;
        let canary_counts = self.count(requests * weight, canary, random);
        let pods = present.clusters.map_or(1, |clusters| clusters.pods);
        let requests_per_pod = requests * (1.0 - weight) / f64::from(pods);
        let pod_counts: Vec<(u64, u64)> =
            (0..pods).map(|_| self.count(requests_per_pod, present.share, random)).collect();
        let stable_counts = pod_counts.iter().fold((0, 0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
        let read = |counts| as_reading(check, kind, counts);
        let sample = Sample::Arms { canary: Some(read(canary_counts)), stable: Some(read(stable_counts)) };
        let pods = if present.clusters.is_some() { pod_counts.into_iter().map(read).collect() } else { Vec::new() };
        (sample, pods)
    }

    /// Draws the numbers of bad requests and of all requests, for a mean of `requests`.
    fn count(self, requests: f64, share: f64, random: &mut Random) -> (u64, u64) {
        let n = random.poisson(requests);
        // Clusters have the two whole sizes around φ, in numbers for which an error's cluster has φ errors on average.
        let phi = self.present.phi();
        let (small, large) = (libm::floor(phi), libm::floor(phi) + 1.0);
        let (in_large, bad) = (phi - small, n as f64 * share);
        let draw = |size: f64, bad: f64, random: &mut Random| random.poisson(bad / size) * size as u64;
        let bad = draw(small, bad * (1.0 - in_large), random) + draw(large, bad * in_large, random);
        (bad.min(n), n)
    }
}

/// Returns the counts in the form of the check's metric.
fn as_reading(check: &Check, kind: MetricKind, (bad, n): (u64, u64)) -> Reading {
    match (kind, check.limit) {
        (MetricKind::Histogram, limit) => Reading::Histogram { edges: vec![limit.value()], counts: vec![n - bad, bad] },
        (_, Limit::Max(_)) => Reading::Ratio { hits: bad, total: n },
        (_, Limit::Min(_)) => Reading::Ratio { hits: n - bad, total: n },
    }
}
