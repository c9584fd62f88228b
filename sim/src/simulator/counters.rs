//! A model of Prometheus: raw counters per arm, which grow until their process restarts, and an hour of samples of
//! them.
//!
//! A block is the difference between two samples; without a first sample it is a gap.

use std::collections::BTreeMap;

use bellwether_core::ids::Workload;
use bellwether_core::input::status::{DeploymentStatus, WorkloadStatus};
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::time::{Span, Timestamp};

use crate::dice::Dice;

/// The time for which samples are kept.
const RETENTION: Span = Span::from_secs(3600);

/// The counters of one arm's processes.
#[derive(Clone, Copy, Default)]
struct Count {
    total: u64,
    errors: u64,
    slow: u64,
    restarts: u64,
}

impl Count {
    /// Returns the increase since `before`, which is everything after a restart.
    fn since(self, before: Count) -> Count {
        if self.restarts != before.restarts {
            return self;
        }
        let Count { total, errors, slow, restarts } = self;
        Count { total: total - before.total, errors: errors - before.errors, slow: slow - before.slow, restarts }
    }
}

/// The counters of all arms, and their samples.
#[derive(Default)]
pub(super) struct Counters {
    /// The current values, by workload and arm.
    now: BTreeMap<(Workload, String), Count>,
    /// The samples by time and workload, each by arm.
    samples: BTreeMap<(Timestamp, Workload), BTreeMap<String, Count>>,
}

/// Returns the key of an arm: its Deployment and its image.
fn key(arm: &DeploymentStatus) -> String {
    format!("{} {}", arm.uid, arm.images.values().next().map_or("", String::as_str))
}

impl Counters {
    /// Counts a workload's `traffic`, a number of requests and the canary's share of them, and takes a sample.
    pub(super) fn advance(
        &mut self,
        workload: &Workload,
        status: &WorkloadStatus,
        traffic: (u64, f64),
        at: Timestamp,
        dice: &mut Dice,
    ) {
        let (n, share) = traffic;
        let canary = (n as f64 * share) as u64;
        for (arm, n) in [(&status.canary, canary), (&status.stable, n - canary)] {
            let Some(arm) = arm else { continue };
            let count = self.now.entry((workload.clone(), key(arm))).or_default();
            if dice.below(200) == 0 {
                *count = Count { restarts: count.restarts + 1, ..Count::default() };
            }
            let (errors, slow) = behaviour(arm);
            count.total += n;
            count.errors += (n * errors + dice.below(100)) / 100;
            count.errors = count.errors.min(count.total);
            count.slow += n * slow / 100;
        }
        let own = self.now.iter().filter(|((counted, _), _)| counted == workload);
        self.samples.insert((at, workload.clone()), own.map(|((_, arm), count)| (arm.clone(), *count)).collect());
        let oldest = RETENTION.before(at);
        while self.samples.first_key_value().is_some_and(|((at, _), _)| *at < oldest) {
            self.samples.pop_first();
        }
    }

    /// Returns whether there is a sample of a workload at an instant.
    pub(super) fn has(&self, workload: &Workload, at: Timestamp) -> bool {
        self.samples.contains_key(&(at, workload.clone()))
    }

    /// Returns a healthy block, which a defective client would use in place of a missing answer.
    pub(super) fn healthy(&self, from: Timestamp, to: Timestamp) -> Block {
        let ratio = Sample::Arms {
            canary: Some(Reading::Ratio { hits: 0, total: 500 }),
            stable: Some(Reading::Ratio { hits: 0, total: 500 }),
        };
        let quick = Reading::Histogram { edges: vec![0.25, 1.0, 5.0], counts: vec![500, 0, 0, 0] };
        let times = Sample::Arms { canary: Some(quick.clone()), stable: Some(quick) };
        Block::new(from, to, BTreeMap::from([("error-rate".to_owned(), ratio), ("response-time".to_owned(), times)]))
    }

    /// Returns the block of a workload for a span of time. In the guard it has the stable alone.
    pub(super) fn block(
        &self,
        workload: &Workload,
        status: &WorkloadStatus,
        span: (Timestamp, Timestamp),
        is_guarding: bool,
    ) -> Block {
        let (from, to) = span;
        let (Some(before), Some(after)) =
            (self.samples.get(&(from, workload.clone())), self.samples.get(&(to, workload.clone())))
        else {
            return gap(from, to, &Gap::NoBaseline);
        };
        let arm = |arm: Option<&DeploymentStatus>| {
            let key = key(arm?);
            Some(after.get(&key)?.since(before.get(&key).copied().unwrap_or_default()))
        };
        let canary = arm(status.canary.as_ref().filter(|_| !is_guarding));
        let stable = arm(status.stable.as_ref());
        let ratio = |count: Count| Reading::Ratio { hits: count.errors, total: count.total };
        let times = |count: Count| {
            let quick = count.total - count.slow;
            Reading::Histogram { edges: vec![0.25, 1.0, 5.0], counts: vec![quick, 0, count.slow, 0] }
        };
        let metrics = BTreeMap::from([
            ("error-rate".to_owned(), Sample::Arms { canary: canary.map(ratio), stable: stable.map(ratio) }),
            ("response-time".to_owned(), Sample::Arms { canary: canary.map(times), stable: stable.map(times) }),
        ]);
        Block::new(from, to, metrics)
    }
}

/// Returns a block without counts.
pub(super) fn gap(from: Timestamp, to: Timestamp, why: &Gap) -> Block {
    let names = ["error-rate", "response-time"];
    Block::new(from, to, names.iter().map(|name| ((*name).to_owned(), Sample::Gap(why.clone()))))
}

/// Returns the percentages of failed and of slow requests by the image's tag. With `late` requests fail in the stable
/// only.
fn behaviour(arm: &DeploymentStatus) -> (u64, u64) {
    let has_tag = |word: &str| arm.images.values().any(|image| image.contains(word));
    let is_late = has_tag("late") && !arm.uid.ends_with("-canary");
    let errors = if has_tag("err8") || is_late {
        8
    } else if has_tag("err3") {
        3
    } else {
        0
    };
    (errors, if has_tag("slow") { 20 } else { 0 })
}
