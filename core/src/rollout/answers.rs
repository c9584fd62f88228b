//! The answers of the canary's single pods. A pod may hang while it stays ready: it gets its part of the requests and answers none
//! of them, and the counts of the other pods look well.
//!
//! The pods that have answered are compared with those that are ready, in windows that are long enough for each pod to have many
//! requests. The same holds for a pod that can't be scraped: nothing is known of its requests. Where some of the stable's pods
//! have no requests either, as behind long connections, nothing follows from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::block::{Block, MAX_PARTS, Reading};
use crate::time::{Span, Timestamp};

/// The shortest time of a window in which no process is cold.
const LEAST_TIME: Span = Span::from_secs(120);
/// The mean number of requests of a ready pod in a window. A pod without any has then not merely had none by chance.
const LEAST_REQUESTS: u64 = 100;

/// The numbers of ready pods that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyPods {
    /// Those of the canary.
    pub canary: u32,
    /// Those of the stable, or of the baseline.
    pub stable: u32,
}

/// The requests that the canary's pods have answered in the present window, and the result of the last complete one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PodAnswers {
    /// The beginning of the window; `None` before its first request.
    from: Option<Timestamp>,
    /// The requests of each pod in the window, by the pod's name.
    pods: BTreeMap<String, u64>,
    /// The least number of pods that were ready in the window.
    ready: u32,
    /// Whether each ready pod of the stable has had requests in a block of the window.
    stable_answers: bool,
    /// The pods that answered no request in the last complete window; `None` if each has answered some, or nothing is known.
    mute: Option<MutePods>,
}

/// Ready pods that have answered no request beside others that have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MutePods {
    /// The number of these pods.
    pub pods: u32,
    /// The number of ready pods.
    pub ready: u32,
    /// The requests of the other pods.
    pub requests: u64,
    /// The length of the window.
    pub time: Span,
}

impl PodAnswers {
    /// Adds the answers in a block. `warm_up` is the time in which the requests of a new process are not counted by pod.
    pub fn absorb(&mut self, block: &Block, ready: ReadyPods, warm_up: Span) {
        // A block names at most `MAX_PARTS` pods.
        if block.pods.is_empty() || ready.canary as usize > MAX_PARTS {
            return;
        }
        // In the block of a long absence the pods that were started in it are cold, and have no counts of their own.
        if Span::between(block.from, block.to) >= LEAST_TIME {
            *self = PodAnswers::default();
            return;
        }
        let answered = requests_by_pod(block);
        // A late router sends the first requests long after the step's begin.
        if self.from.is_none() && answered.values().all(|requests| *requests == 0) {
            return;
        }
        let from = *self.from.get_or_insert(block.from);
        self.ready = if from == block.from { ready.canary } else { self.ready.min(ready.canary) };
        for (name, requests) in answered {
            let sum = self.pods.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(requests);
        }
        let answering =
            block.processes.values().map(|stable| stable.iter().filter(|one| has_requests(one)).count()).max();
        self.stable_answers |= answering.unwrap_or(0) >= (ready.stable as usize).min(MAX_PARTS);
        let time = Span::between(from, block.to);
        let requests = self.pods.values().fold(0, |sum: u64, requests| sum.saturating_add(*requests));
        if time >= LEAST_TIME + warm_up && requests >= LEAST_REQUESTS.saturating_mul(u64::from(self.ready)) {
            *self = PodAnswers { mute: self.mute_pods(requests, time), ..PodAnswers::default() };
        }
    }

    /// Returns the pods that have answered nothing in the window; `None` if they are fewer than a tenth.
    fn mute_pods(&self, requests: u64, time: Span) -> Option<MutePods> {
        let answering = self.pods.values().filter(|requests| **requests > 0).count();
        let pods = self.ready.saturating_sub(u32::try_from(answering).unwrap_or(u32::MAX));
        let is_rare = u64::from(pods) * 10 < u64::from(self.ready);
        (self.stable_answers && pods > 0 && !is_rare).then_some(MutePods { pods, ready: self.ready, requests, time })
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == PodAnswers::default()
    }

    /// Returns the pods that answered no request in the last complete window.
    pub fn mute(&self) -> Option<MutePods> {
        self.mute
    }
}

fn has_requests(reading: &Reading) -> bool {
    reading.requests().is_some_and(|requests| requests > 0)
}

/// Returns the requests of each pod in a block. Several metrics may count the same requests.
fn requests_by_pod(block: &Block) -> BTreeMap<&str, u64> {
    let mut most: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, reading) in block.pods.values().flatten() {
        let requests = most.entry(name).or_default();
        *requests = (*requests).max(reading.requests().unwrap_or(0));
    }
    most
}
