//! The counters as they are read, and the blocks between two readings.

use std::collections::BTreeMap;

use bellwether_core::measure::block::{Block, Gap, Reading, Sample, SmallMap};
use bellwether_core::measure::calibration::{Calibration, Criterion, PAST};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::Timestamp;

use super::absence::Party;
use super::agenda::{MINUTE, Ms, SECOND};
use super::daemon::{BEGIN, LAG};
use super::defect::Defect;
use super::pod::{Arm, Pod, Requests};
use super::world::World;

/// The time between two readings.
pub(super) const GRID: Ms = 15 * SECOND;
/// The places of scrapes in an interval: a process is scraped at one of them.
pub(super) const PHASES: u32 = 5;
/// The time between two readings from which calibrations are learned.
const LEARNED_GRID: Ms = 180 * SECOND;
/// The time before the request from which on the counters are read at each [`GRID`].
const PRESENT: Ms = -20 * MINUTE;
/// The number of readings that Prometheus keeps: those of the past, and those of two hours.
const KEPT: usize = (PAST.as_millis() as Ms / LEARNED_GRID) as usize + 600;
/// The metrics of a block.
const METRICS: [&str; 2] = ["error-rate", "response-time"];

/// The counters of one pod as they were read.
#[derive(Debug, Clone, Copy)]
struct Count {
    id: u32,
    version: usize,
    arm: Arm,
    restarts: u32,
    serves_since: Ms,
    requests: Requests<u64>,
}

/// The counters of all pods at one time.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    at: Ms,
    pods: Vec<Count>,
}

impl Counters {
    /// Returns the increase of a pod's counters since an earlier reading: all of them if its process is a new one.
    fn increase(&self, earlier: &Counters, count: &Count) -> Requests<u64> {
        debug_assert!(earlier.at <= self.at);
        let before = earlier.pods.iter().find(|other| (other.id, other.restarts) == (count.id, count.restarts));
        let before = before.map_or_else(Requests::default, |count| count.requests);
        let Requests { n, errors, slow } = count.requests;
        Requests { n: n - before.n, errors: errors - before.errors, slow: slow - before.slow }
    }
}

/// Returns one reading of a metric.
fn reading(metric: &str, requests: Requests<u64>) -> Reading {
    let Requests { n, errors, slow } = requests;
    if metric == METRICS[0] {
        return Reading::Ratio { hits: errors, total: n };
    }
    Reading::Histogram { edges: vec![0.25, 0.5, 1.0, 5.0], counts: vec![n - slow, 0, slow, 0, 0] }
}

/// Returns the name of a pod.
pub(super) fn pod_name(arm: Arm, id: u32) -> String {
    match arm {
        Arm::Stable => format!("web-{id}"),
        Arm::Canary => format!("web-canary-{id}"),
    }
}

impl World {
    /// Returns the time to the next reading. The past before the request is read less often, to save time.
    pub(super) fn grid(&self) -> Ms {
        if self.now < PRESENT { LEARNED_GRID } else { GRID }
    }

    /// Scrapes the pods of a phase: each pod has its own place in the interval.
    pub(super) fn scrape(&mut self, phase: u32) {
        let grid = self.grid();
        let World { stable, canary, dice, setting, .. } = self;
        let bursts = setting.bursts / 3600.0 * (grid / SECOND) as f64;
        let pods = stable.pods.iter_mut().chain(canary.iter_mut().flat_map(|canary| &mut canary.pods));
        for pod in pods.filter(|pod| pod.is_scraped() && pod.id % PHASES == phase) {
            count(pod, bursts * pod.rate.n / setting.rps, dice);
            pod.is_exported = true;
        }
    }

    /// Reads the newest counters of all pods that are scraped.
    pub(super) fn read_counters(&mut self) {
        let mut pods = Vec::new();
        let World { stable, canary, now, .. } = self;
        let stable = stable.pods.iter_mut().map(|pod| (Arm::Stable, pod));
        let canary = canary.iter_mut().flat_map(|canary| &mut canary.pods).map(|pod| (Arm::Canary, pod));
        for (arm, pod) in stable.chain(canary).filter(|(_, pod)| pod.is_scraped() && pod.is_exported) {
            if pod.counted.n > 0 {
                pod.serves_since = pod.serves_since.min(*now);
            }
            let Pod { id, version, restarts, serves_since, counted: requests, .. } = *pod;
            pods.push(Count { id, version, arm, restarts, serves_since, requests });
        }
        self.readings.push_back(Counters { at: self.now, pods });
        if self.readings.len() > KEPT {
            self.readings.pop_front();
        }
    }

    /// Returns the block of a watch that ends at `to`, a time of Prometheus.
    pub(super) fn block(&self, watch: &Watch, to: Ms) -> Block {
        let until = self.timestamp(to);
        let from = watch.last.unwrap_or_else(|| self.timestamp(to - GRID));
        if self.absences.is_away(Party::Prometheus, self.now) {
            return gap(from, until, &Gap::Unanswered { error: "connection refused".to_owned() });
        }
        let at = |at: Timestamp| {
            let at = at.as_millisecond() - BEGIN - self.fast;
            self.readings.iter().rev().find(|counters| counters.at == at)
        };
        if self.fast != 0 {
            return gap(from, until, &Gap::Stale { seconds: (self.fast / SECOND) as u64 });
        }
        let (Some(first), Some(last)) = (at(from), at(until)) else {
            return gap(from, until, &Gap::NoBaseline);
        };
        let mut block = Block::new(from, until, BTreeMap::new());
        let warm_up = watch.warm_up.as_millis() as Ms;
        let is_cold = |count: &Count| warm_up > 0 && count.serves_since.saturating_add(warm_up) > first.at;
        let belongs = |key: Option<&ArmKey>| -> (Vec<&Count>, Vec<&Count>) {
            let belongs = |count: &&Count| key.is_some_and(|key| self.belongs(count, key));
            last.pods.iter().filter(belongs).partition(|count| count.requests.n > 0 && is_cold(count))
        };
        let ((cold_canary, canary), (cold_stable, stable)) =
            (belongs(watch.canary.as_ref()), belongs(Some(&watch.stable)));
        let judged = if watch.canary.is_some() { &canary } else { &stable };
        for metric in METRICS.into_iter().filter(|metric| watch.metrics.contains_key(*metric)) {
            let exports = |counts: &[&Count]| counts.iter().any(|count| count.requests.n > 0);
            let sum = |counts: &[&Count]| {
                let sum = counts.iter().fold(Requests::default(), |sum, count| add(sum, last.increase(first, count)));
                exports(counts).then(|| reading(metric, sum))
            };
            // Pods that are scraped and have no series had no request, if the other arm's pods have series.
            let none = |own: &[&Count], others: &[&Count]| {
                let is_idle = !own.is_empty() && exports(others) && self.defect != Some(Defect::LargeSharesAlone);
                is_idle.then(|| reading(metric, Requests::default()))
            };
            let (of_canary, of_stable) = (sum(&canary), sum(&stable));
            let arms = Sample::Arms {
                canary: of_canary.or_else(|| none(&canary, &stable)),
                stable: of_stable.or_else(|| none(&stable, &canary)),
            };
            block.metrics.insert(metric.to_owned(), arms);
            let cold = Sample::Arms { canary: sum(&cold_canary), stable: sum(&cold_stable) };
            if cold != (Sample::Arms { canary: None, stable: None }) {
                block.cold.insert(metric.to_owned(), cold);
            }
            let each = |count: &&Count| reading(metric, last.increase(first, count));
            if watch.per_process.contains(metric) {
                block.processes.insert(metric.to_owned(), stable.iter().map(each).collect());
            }
            if watch.per_pod.contains(metric) {
                let named = judged.iter().map(|count| (pod_name(count.arm, count.id), each(count)));
                block.pods.insert(metric.to_owned(), named.collect());
            }
        }
        block
    }

    /// Returns whether a pod belongs to an arm.
    fn belongs(&self, count: &Count, key: &ArmKey) -> bool {
        let uid = self.arm(count.arm).map_or("", |deployment| deployment.uid);
        let hash = || self.versions[count.version].template(self.setting.digests).0;
        uid == key.deployment_uid && key.pod_hash.as_ref().is_none_or(|wanted| *wanted == hash())
    }

    /// Returns the calibrations of criteria, learned from the stable's past.
    pub(super) fn calibrate(&self, criteria: &[Criterion]) -> Vec<Calibration> {
        // The readings of the recent part are those of the present's grid, the earlier ones are further apart.
        let past: Vec<&Counters> = self.readings.iter().collect();
        let blocks: Vec<Block> = past.windows(2).map(|pair| self.past_block(pair[0], pair[1])).collect();
        Calibration::from(criteria.iter().cloned(), &blocks)
    }

    fn past_block(&self, first: &Counters, last: &Counters) -> Block {
        let mut block = Block::new(self.timestamp(first.at), self.timestamp(last.at), BTreeMap::new());
        for metric in METRICS {
            let stable = last.pods.iter().filter(|count| count.arm == Arm::Stable);
            let named: SmallMap<Reading> = stable
                .map(|count| (pod_name(count.arm, count.id), reading(metric, last.increase(first, count))))
                .collect();
            block.processes.insert(metric.to_owned(), named.values().cloned().collect());
            block.pods.insert(metric.to_owned(), named);
        }
        block
    }

    /// Tells the daemon the blocks that end at a reading.
    pub(super) fn tell_blocks(&mut self, to: Ms) {
        debug_assert!(to + LAG == self.now);
        for watch in self.engine.watches() {
            if watch.last.is_none_or(|last| last < self.timestamp(to)) {
                let block = self.block(&watch, to);
                self.measured(watch.workload, block);
            }
        }
    }
}

/// Adds two numbers of requests.
fn add(one: Requests<u64>, other: Requests<u64>) -> Requests<u64> {
    Requests { n: one.n + other.n, errors: one.errors + other.errors, slow: one.slow + other.slow }
}

/// Counts a pod's expected requests: by one draw for the failed, the slow and the other ones. `bursts` is the expected
/// number of bursts of 20 to 100 failed requests.
fn count(pod: &mut Pod, bursts: f64, dice: &mut bellwether_core::dice::Random) {
    let Requests { n, errors, slow } = std::mem::take(&mut pod.expected);
    if n <= 0.0 {
        return;
    }
    let burst: u64 = (0..dice.poisson(bursts)).map(|_| 20 + dice.below(81) as u64).sum();
    let errors = dice.poisson(errors) + burst;
    let total = dice.poisson((n - errors as f64).max(0.0)) + errors;
    let slow = dice.poisson(slow).min(total);
    pod.counted = add(pod.counted, Requests { n: total, errors, slow });
}

/// Returns a block without counts.
fn gap(from: Timestamp, to: Timestamp, why: &Gap) -> Block {
    Block::new(from, to, METRICS.iter().map(|name| ((*name).to_owned(), Sample::Gap(why.clone()))))
}
