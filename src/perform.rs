//! The executor: it gives each effect to its port, one attempt at a time.
//!
//! Effects on one workload are performed in the order in which they were decided, each after the outcome of the one before: a weight of 0
//! never overtakes the weight of 25 that it replaces. Messages have a lane of their own, so that a slow Slack delays no rollback. The
//! engine decides whether and when to try again.

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

/// The attempts under way at a time over all workloads: enough to keep an API server busy without flooding it.
const MAX_AT_ONCE: usize = 32;

/// The executor of effects, with its ports.
#[derive(Clone)]
pub struct Executor {
    cluster: Arc<dyn Cluster>,
    notify: Arc<dyn Notify>,
    probe: Arc<dyn QueryProbe>,
    models: Arc<dyn Models>,
    permits: Arc<Semaphore>,
}

/// An effect to be performed, with everything that it needs.
#[derive(Debug, Clone)]
pub struct Job {
    /// The effect.
    pub effect: Effect,
    /// The epoch of the partition's owner.
    pub epoch: Epoch,
    /// The content of the pod template that the effect names.
    pub template: Option<PodTemplate>,
}

/// The report of one attempt at an effect.
#[derive(Debug)]
pub struct JobReport {
    /// The effect.
    pub effect: Effect,
    /// The outcome of the attempt.
    pub outcome: Outcome,
    /// The pod templates that were read by the attempt.
    pub templates: Vec<PodTemplate>,
}

impl Executor {
    /// Returns an executor with these ports.
    pub fn new(
        cluster: Arc<dyn Cluster>,
        notify: Arc<dyn Notify>,
        probe: Arc<dyn QueryProbe>,
        models: Arc<dyn Models>,
    ) -> Executor {
        Executor { cluster, notify, probe, models, permits: Arc::new(Semaphore::new(MAX_AT_ONCE)) }
    }

    /// Attempts an effect once.
    pub async fn perform(&self, job: Job) -> JobReport {
        let watch = Stopwatch::start();
        let report = self.attempt(job).await;
        if report.effect.act.writes() {
            failpoints::reached(Failpoint::Acted);
        }
        let attempt = if matches!(report.outcome, Outcome::Failed(_)) { Attempt::Failed } else { Attempt::Done };
        metrics::effect(report.effect.act.name(), attempt, watch.elapsed());
        report
    }

    async fn attempt(&self, job: Job) -> JobReport {
        let Job { effect, epoch, template } = job;
        // A message may wait long for its sink, so it takes no permit from effects on the cluster.
        if let Act::Notify { message } = &effect.act {
            let outcome = sent(self.notify.send(&effect.id, &effect.workload, message).await);
            return JobReport { effect, outcome, templates: Vec::new() };
        }
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.ok();
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

/// A lane of a workload, in which effects are performed one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Cluster,
    People,
}

/// The jobs that wait for the one before them in their lane.
#[derive(Debug, Default)]
pub struct Lanes {
    /// The lanes with a job under way, each with the jobs behind it.
    waiting: BTreeMap<(Workload, Lane), VecDeque<Job>>,
}

impl Lanes {
    /// Adds a job to its lane. Returns it if it may start now.
    pub fn begin(&mut self, job: Job) -> Option<Job> {
        use std::collections::btree_map::Entry;
        match self.waiting.entry(lane(&job.effect)) {
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                Some(job)
            }
            Entry::Occupied(mut taken) => {
                taken.get_mut().push_back(job);
                None
            }
        }
    }

    /// Ends the job under way. Returns the next one, which may start now.
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
