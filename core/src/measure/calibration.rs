//! Calibration: the dispersion of a check's bad events over the stable's processes, or the distribution of the stable's
//! requests, learned from the time before the canary exists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::block::{Block, Reading};
use crate::measure::counts::Counts;
use crate::measure::metric::Limit;
use crate::measure::window::{Arm, total};
use crate::stats::dispersion::Dispersion;
use crate::stats::spread::Spread;
use crate::stats::tally::Tally;
use crate::time::{Span, TimeRange, Timestamp};

/// The time before the rollout that the calibration covers, 6 hours. Bursts of errors that come a few times an hour are rare in
/// a shorter one.
pub const PAST: Span = Span::from_secs(6 * 3600);
/// The part of it that is read as closely as the present, 20 minutes, for workloads that are not older.
pub const RECENT: Span = Span::from_secs(20 * 60);
/// The last part of it, whose rate of requests is that of the present.
const PRESENT: Span = Span::from_secs(2 * 60);
/// The length of the blocks before that. The dispersion does not depend on it.
const EARLIER: Span = Span::from_secs(180);

/// Returns the two parts of the past before `to`: the earlier one in blocks of three minutes, and the recent one in blocks of
/// `interval`.
pub fn past(to: Timestamp, interval: Span) -> [TimeRange; 2] {
    let earlier = TimeRange::before(RECENT.before(to), PAST.saturating_sub(RECENT), interval.max(EARLIER));
    [earlier, TimeRange::before(to, RECENT, interval)]
}

/// The events that a check counts as bad: those of a metric on the wrong side of a limit. Checks with equal criteria
/// share one history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Criterion {
    /// The metric's name.
    pub metric: String,
    /// The limit, in the metric's unit.
    pub limit: Limit,
    /// Whether the calibration learns the distribution of all requests over the histogram's buckets, for a drift,
    /// instead of the dispersion of the bad ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub distribution: bool,
}

impl Criterion {
    /// Returns the counts of each pod over all blocks.
    fn pods(&self, blocks: &[Block]) -> Vec<Tally> {
        let mut pods: BTreeMap<&str, Counts> = BTreeMap::new();
        for (name, reading) in blocks.iter().filter_map(|block| block.pods.get(&self.metric)).flatten() {
            if let Some(counts) = Counts::of(reading, self.limit) {
                pods.entry(name).or_default().add(counts);
            }
        }
        pods.into_values().filter_map(Counts::tally).collect()
    }

    /// Returns the history of this criterion in `blocks`. For a dispersion they must have the readings of the stable's
    /// single processes, and for the lasting differences those of its pods by name.
    pub fn learn(&self, blocks: &[Block]) -> History {
        let mut history = History::default();
        if self.distribution {
            history.distribution = total(blocks.iter(), &self.metric, Arm::Stable)
                .map(|(edges, counts)| Reading::Histogram { edges, counts });
            return history;
        }
        for processes in blocks.iter().filter_map(|block| block.processes.get(&self.metric)) {
            history.absorb(&tallies(processes, self.limit));
        }
        history.spread = Spread::of(&self.pods(blocks), history.dispersion.phi());
        history.present = self.present(blocks);
        history
    }

    /// Returns the traffic of the newest blocks.
    fn present(&self, blocks: &[Block]) -> Traffic {
        let begin = blocks.last().map_or(Timestamp::MAX, |block| PRESENT.before(block.to));
        let mut traffic = Traffic::default();
        for block in blocks.iter().filter(|block| block.from >= begin) {
            let Some(processes) = block.processes.get(&self.metric) else { continue };
            let requests = processes.iter().filter_map(Reading::requests).fold(0, u64::saturating_add);
            traffic.requests = traffic.requests.saturating_add(requests);
            traffic.time = traffic.time + Span::between(block.from, block.to);
        }
        traffic
    }
}

/// The history of one criterion in the stable's processes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    /// The dispersion of the bad requests.
    pub dispersion: Dispersion,
    /// The lasting differences between the pods.
    #[serde(default)]
    pub spread: Spread,
    /// The sum of the bad requests and of all requests.
    pub(crate) counts: Counts,
    /// The traffic just before the rollout.
    #[serde(default)]
    pub present: Traffic,
    /// The histogram of all requests; `None` unless the criterion asks for the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Reading>,
}

/// The requests of some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Traffic {
    /// The number of requests.
    pub requests: u64,
    /// The time in which they came.
    pub time: Span,
}

impl Traffic {
    /// Returns the requests that come in `time` at the same rate; 0 if the rate is not known.
    pub fn within(self, time: Span) -> f64 {
        let known = self.time.as_secs_f64();
        if known > 0.0 { self.requests as f64 / known * time.as_secs_f64() } else { 0.0 }
    }
}

impl History {
    /// Adds the tallies of one block, one for each process.
    pub fn absorb(&mut self, processes: &[Tally]) {
        self.dispersion.absorb(processes);
        for tally in processes {
            self.counts.add(Counts { bad: tally.hits() as u64, n: tally.n() as u64 });
        }
    }
}

/// A criterion with its history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Calibration {
    /// The criterion that was calibrated.
    pub criterion: Criterion,
    /// The criterion's history before the rollout.
    pub history: History,
}

impl Calibration {
    /// Returns a calibration of each criterion, learned from `blocks`.
    pub fn from(criteria: impl IntoIterator<Item = Criterion>, blocks: &[Block]) -> Vec<Calibration> {
        let calibrate = |criterion: Criterion| Calibration { history: criterion.learn(blocks), criterion };
        criteria.into_iter().map(calibrate).collect()
    }

    /// Returns the history of `criterion`; `None` if `calibrations` does not have it.
    pub fn of<'a>(calibrations: &'a [Calibration], criterion: &Criterion) -> Option<&'a History> {
        calibrations.iter().find(|known| known.criterion == *criterion).map(|known| &known.history)
    }
}

/// Returns the tally of each process, where the requests on the wrong side of `limit` are bad. Processes whose reading
/// can't be judged by the limit are left out.
pub(crate) fn tallies(processes: &[Reading], limit: Limit) -> Vec<Tally> {
    processes.iter().filter_map(|reading| Counts::of(reading, limit)?.tally()).collect()
}
