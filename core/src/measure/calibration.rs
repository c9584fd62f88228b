//! What the past teaches of what a check counts, before there is a canary: how it clusters in the stable's processes, and how
//! its requests are distributed.

use serde::{Deserialize, Serialize};

use crate::measure::block::{Block, Reading};
use crate::measure::counts::Counts;
use crate::measure::metric::Limit;
use crate::measure::window::{Arm, total};
use crate::stats::dispersion::Dispersion;
use crate::stats::tally::Tally;
use crate::time::Span;

/// How much of the past is looked at: enough to know how errors cluster of a service that has a few in a minute.
pub const PAST: Span = Span::from_secs(20 * 60);

/// What is counted as bad: of which metric, and on which side of which limit. How it clusters depends on nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Criterion {
    /// The metric's name.
    pub metric: String,
    /// The limit.
    pub limit: Limit,
    /// Of a drift it is learnt how its requests were distributed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shape: bool,
}

impl Criterion {
    /// Learns from blocks of the past, in which each of the stable's processes was counted by itself.
    pub fn learn(&self, blocks: &[Block]) -> History {
        let mut past = History::default();
        if self.shape {
            past.shape = total(blocks.iter(), &self.metric, Arm::Stable)
                .map(|(edges, counts)| Reading::Histogram { edges, counts });
            return past;
        }
        for processes in blocks.iter().filter_map(|block| block.processes.get(&self.metric)) {
            past.absorb(&tallies(processes, self.limit));
        }
        past
    }
}

/// What the stable's processes have shown of something bad.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    /// How it clusters.
    pub dispersion: Dispersion,
    /// How much there was of it.
    pub(crate) counts: Counts,
    /// How its requests were distributed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Reading>,
}

impl History {
    /// Takes in a block, process by process.
    pub fn absorb(&mut self, processes: &[Tally]) {
        self.dispersion.absorb(processes);
        for tally in processes {
            self.counts.add(Counts { bad: tally.hits() as u64, n: tally.n() as u64 });
        }
    }
}

/// What the past has taught, and of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Calibration {
    /// Of what.
    pub bad: Criterion,
    /// What.
    pub past: History,
}

impl Calibration {
    /// What `blocks` of the past teach of each of these.
    pub fn from(bad: impl IntoIterator<Item = Criterion>, blocks: &[Block]) -> Vec<Calibration> {
        bad.into_iter().map(|bad| Calibration { past: bad.learn(blocks), bad }).collect()
    }

    /// What `calibrations` has of `bad`; `None`: nothing is known.
    pub fn of<'a>(calibrations: &'a [Calibration], bad: &Criterion) -> Option<&'a History> {
        calibrations.iter().find(|calibrations| calibrations.bad == *bad).map(|calibrations| &calibrations.past)
    }
}

/// What each of these processes has counted of what is bad by `limit`; who can't be read is left out.
pub(crate) fn tallies(processes: &[Reading], limit: Limit) -> Vec<Tally> {
    processes.iter().filter_map(|reading| Counts::of(reading, limit)?.tally()).collect()
}
