//! From an effect to the port that performs it, one attempt at a time.
//!
//! Effects on one workload are performed in the order in which they were decided, each after the one before has answered:
//! a weight of 0 never overtakes the weight of 25 that it takes back. Messages to people go by a lane of their own, so
//! that a slow Slack delays no rollback. Whether and when to try again is the engine's decision.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bellwether_core::ids::Workload;
use bellwether_core::input::effect::{Act, Effect};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use tokio::sync::Semaphore;

use crate::clock::Stopwatch;
use crate::failpoints::{self, Failpoint};
use crate::metrics::{self, Attempt};
use crate::ports::{Cluster, Epoch, Models, Notify, NotifyError, PodTemplate, QueryProbe};

/// So many attempts at once, over all workloads: enough to keep an API server busy, few enough to be polite.
const MOST_AT_ONCE: usize = 32;

/// Everything that effects are performed with.
#[derive(Clone)]
pub struct Executor {
    cluster: Arc<dyn Cluster>,
    notify: Arc<dyn Notify>,
    probe: Arc<dyn QueryProbe>,
    models: Arc<dyn Models>,
    room: Arc<Semaphore>,
}

/// An effect that is to be performed, with all that it needs.
#[derive(Debug, Clone)]
pub struct Job {
    /// What to do.
    pub effect: Effect,
    /// On whose behalf.
    pub epoch: Epoch,
    /// The template that it names.
    pub template: Option<PodTemplate>,
}

/// What became of an order.
#[derive(Debug)]
pub struct JobReport {
    /// Which effect.
    pub effect: Effect,
    /// What became of it.
    pub outcome: Outcome,
    /// The templates that were seen on the way.
    pub templates: Vec<PodTemplate>,
}

impl Executor {
    /// Hands for these ports.
    pub fn new(
        cluster: Arc<dyn Cluster>,
        notify: Arc<dyn Notify>,
        probe: Arc<dyn QueryProbe>,
        models: Arc<dyn Models>,
    ) -> Executor {
        Executor { cluster, notify, probe, models, room: Arc::new(Semaphore::new(MOST_AT_ONCE)) }
    }

    /// One attempt.
    pub async fn perform(&self, order: Job) -> JobReport {
        let watch = Stopwatch::start();
        let report = self.attempt(order).await;
        if report.effect.act.writes() {
            failpoints::reached(Failpoint::Acted);
        }
        let attempt = if matches!(report.outcome, Outcome::Failed(_)) { Attempt::Failed } else { Attempt::Done };
        metrics::effect(report.effect.act.name(), attempt, watch.elapsed());
        report
    }

    async fn attempt(&self, order: Job) -> JobReport {
        let Job { effect, epoch, template } = order;
        // A message may wait long for its sink, and takes no room from what changes the cluster meanwhile.
        if let Act::Notify { message } = &effect.act {
            let outcome = sent(self.notify.send(&effect.id, &effect.workload, message).await);
            return JobReport { effect, outcome, templates: Vec::new() };
        }
        // The semaphore is never closed.
        let _room = self.room.acquire().await.ok();
        let (outcome, templates) = match &effect.act {
            Act::Probe { metrics, stable, learn } => {
                (self.probe.probe(&effect.workload, stable, metrics, learn).await, Vec::new())
            }
            Act::Model { environment, model, what } => {
                (self.models.perform(&effect.id, environment, model, what).await, Vec::new())
            }
            Act::Preflight { .. }
            | Act::ApplyCanary { .. }
            | Act::SetWeight { .. }
            | Act::Promote { .. }
            | Act::Restore { .. }
            | Act::RemoveCanary { .. }
            | Act::Notify { .. }
            | Act::Note { .. } => self.cluster.perform(&effect, epoch, template.as_ref()).await,
        };
        JobReport { effect, outcome, templates }
    }
}

fn sent(result: Result<(), NotifyError>) -> Outcome {
    let failed = |kind, message| Outcome::Failed(Failure { kind, message });
    match result {
        Ok(()) => Outcome::Done,
        Err(NotifyError::Later { message, .. }) => failed(FailureKind::Unavailable, message),
        Err(NotifyError::Refused(message)) => failed(FailureKind::Refused, message),
    }
}

/// Which of a workload's two lanes an effect goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Cluster,
    People,
}

/// The orders that wait for the one before them.
#[derive(Debug, Default)]
pub struct Lanes {
    /// A lane with an order under way is here, with those behind it.
    waiting: BTreeMap<(Workload, Lane), VecDeque<Job>>,
}

impl Lanes {
    /// Takes an order in: it is given back if it may begin now.
    pub fn begin(&mut self, order: Job) -> Option<Job> {
        use std::collections::btree_map::Entry;
        match self.waiting.entry(lane(&order.effect)) {
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                Some(order)
            }
            Entry::Occupied(mut taken) => {
                taken.get_mut().push_back(order);
                None
            }
        }
    }

    /// An order is over: the one behind it may begin.
    pub fn finish(&mut self, effect: &Effect) -> Option<Job> {
        let lane = lane(effect);
        let next = self.waiting.get_mut(&lane)?.pop_front();
        if next.is_none() {
            self.waiting.remove(&lane);
        }
        next
    }
}

fn lane(effect: &Effect) -> (Workload, Lane) {
    let lane = match effect.act {
        Act::Notify { .. } | Act::Note { .. } => Lane::People,
        Act::Preflight { .. }
        | Act::Probe { .. }
        | Act::ApplyCanary { .. }
        | Act::SetWeight { .. }
        | Act::Promote { .. }
        | Act::Restore { .. }
        | Act::RemoveCanary { .. }
        | Act::Model { .. } => Lane::Cluster,
    };
    (effect.workload.clone(), lane)
}
