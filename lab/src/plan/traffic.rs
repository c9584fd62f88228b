//! The traffic that there is, and blocks like those that it would give.
//!
//! Requests are Poisson. Errors come in clusters whose mean size, seen from an error, is φ; each hits one pod (`stats`
//! says why that is what φ is learnt from). A canary that is worse has more clusters, not larger ones.

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

/// How a check's requests come at present, over all pods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Present {
    /// Requests per second; above 0.
    pub rps: f64,
    /// The share of them that is bad (failed, or slower than the limit), from 0 to 1.
    pub share: f64,
    /// How the bad ones cluster; `None`: not known, and φ is taken for [`Phi::ASSUMED`].
    pub clusters: Option<Clusters>,
}

/// What the stable's pods have shown of how bad requests cluster.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Clusters {
    /// The overdispersion; at least 1.
    pub phi: f64,
    /// The pods; at least 2.
    pub pods: u32,
}

/// Why there can be no plan for such traffic.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum BadPresent {
    /// No requests, no decisions.
    #[error(
        "{0} requests a second are no traffic that anything can be said of; it must be a number above 0 and at most 1e9"
    )]
    Rps(f64),
    /// A share is one.
    #[error("a share of {0} is not between 0 and 1")]
    Share(f64),
    /// What clusters are.
    #[error("a φ of {0} from {1} pods can't be; φ is from 1 to 1000, and it takes 2 pods to see it")]
    Clusters(f64, u32),
}

impl Present {
    /// Traffic that is known by its numbers.
    ///
    /// # Errors
    /// [`BadPresent`]: which of them is none.
    pub fn new(rps: f64, share: f64, clusters: Option<Clusters>) -> Result<Present, BadPresent> {
        if !(rps > 0.0 && rps <= 1e9) {
            return Err(BadPresent::Rps(rps));
        }
        if !(0.0..=1.0).contains(&share) {
            return Err(BadPresent::Share(share));
        }
        if let Some(Clusters { phi, pods }) = clusters.filter(|c| !(1.0..=1000.0).contains(&c.phi) || c.pods < 2) {
            return Err(BadPresent::Clusters(phi, pods));
        }
        Ok(Present { rps, share, clusters })
    }

    /// What blocks of the stable have of `check`'s requests. `None`: none of them counts any.
    pub fn of(blocks: &[Block], check: &Check) -> Option<Present> {
        let (mut seconds, mut bad, mut n) = (0.0, 0.0, 0.0);
        let mut pods = 0;
        for block in blocks {
            let seen = block.metrics.get(&check.metric).and_then(|sample| reading(sample, Arm::Stable));
            let Some(tally) = seen.and_then(|reading| counted(reading, check.limit)) else { continue };
            seconds += Span::between(block.from, block.to).as_secs_f64();
            (bad, n) = (bad + tally.hits(), n + tally.n());
            let each = block.processes.get(&check.metric).map_or(&[][..], Vec::as_slice);
            let each = each.iter().filter_map(|reading| counted(reading, check.limit)).count();
            pods = pods.max(u32::try_from(each).unwrap_or(u32::MAX));
        }
        let phi = check.criterion().learn(blocks).dispersion.phi();
        let clusters = (phi.calibrated && pods >= 2).then(|| Clusters { phi: phi.value().min(1000.0), pods });
        Present::new(n / seconds, if n > 0.0 { bad / n } else { 0.0 }, clusters).ok()
    }

    /// The size of a cluster, seen from one of its errors.
    pub fn phi(&self) -> f64 {
        self.clusters.map_or(Phi::ASSUMED.value(), |clusters| clusters.phi)
    }
}

/// Traffic that is split, and a canary that has a share of bad requests of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    pub(super) present: Present,
    /// The canary's share of the traffic.
    pub(super) weight: f64,
    /// The canary's share of bad requests.
    pub(super) canary: f64,
}

impl Split {
    /// What would be counted in a block of `seconds`, and in each of the stable's pods where those are known.
    pub(super) fn block(
        self,
        check: &Check,
        kind: MetricKind,
        seconds: f64,
        random: &mut Random,
    ) -> (Sample, Vec<Reading>) {
        let Split { present, weight, canary } = self;
        let rps = present.rps * seconds;
        let of_canary = self.count(rps * weight, canary, random);
        let pods = present.clusters.map_or(1, |clusters| clusters.pods);
        let each: Vec<(u64, u64)> =
            (0..pods).map(|_| self.count(rps * (1.0 - weight) / f64::from(pods), present.share, random)).collect();
        let of_stable = each.iter().fold((0, 0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
        let read = |counts| as_read(check, kind, counts);
        let sample = Sample::Arms { canary: Some(read(of_canary)), stable: Some(read(of_stable)) };
        let each = if present.clusters.is_some() { each.into_iter().map(read).collect() } else { Vec::new() };
        (sample, each)
    }

    /// Bad requests and all requests.
    fn count(self, requests: f64, share: f64, random: &mut Random) -> (u64, u64) {
        let n = random.poisson(requests);
        // Clusters of two whole sizes, so that an error is on average in one of φ.
        let phi = self.present.phi();
        let (small, large) = (libm::floor(phi), libm::floor(phi) + 1.0);
        let (in_large, bad) = (phi - small, n as f64 * share);
        let of = |size: f64, bad: f64, random: &mut Random| random.poisson(bad / size) * size as u64;
        let bad = of(small, bad * (1.0 - in_large), random) + of(large, bad * in_large, random);
        (bad.min(n), n)
    }
}

/// The counts as the check's metric would be read.
fn as_read(check: &Check, kind: MetricKind, (bad, n): (u64, u64)) -> Reading {
    match (kind, check.limit) {
        (MetricKind::Histogram, limit) => Reading::Histogram { edges: vec![limit.value()], counts: vec![n - bad, bad] },
        (_, Limit::Max(_)) => Reading::Ratio { hits: bad, total: n },
        (_, Limit::Min(_)) => Reading::Ratio { hits: n - bad, total: n },
    }
}
