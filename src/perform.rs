//! The executor: it gives each effect to its port, one attempt at a time.
//!
//! Effects on one workload are performed in the order in which they were decided, each after the outcome of the one before: a weight of 0
//! never overtakes the weight of 25 that it replaces. Each notification sink has a lane of its own, so that a slow Slack delays no
//! rollback and no other sink. The engine decides whether and when to try again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::ids::Workload;
use bellwether_core::input::effect::{Act, Effect, Notify};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::input::notification::Sink;
use tokio::sync::Semaphore;

use crate::clock::Stopwatch;
use crate::failpoints::{self, Failpoint};
use crate::metrics::{self, Attempt};
use crate::ports::{Cluster, Epoch, Models, NotificationError, NotificationSink, PodTemplate, QueryProbe};
use crate::supervise;

/// The attempts under way at a time over all workloads for each executor: enough to keep it busy without flooding it. The
/// cluster, the metrics store, the registry and each notification sink have permits of their own, and so have urgent acts on
/// the cluster, so that none waits behind a slow one of another kind.
const MAX_AT_ONCE: usize = 32;

/// The probes of the metrics store under way at a time. Those that begin together are asked about together.
const MAX_PROBES: usize = 512;
/// The time for one attempt from its permit on. The calls of each port have deadlines of their own, which are far shorter; this
/// one holds for a port that hangs all the same, so that the lane of the workload is free again.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(300);

/// The executor of effects, with its ports.
#[derive(Clone)]
pub struct Executor {
    cluster: Arc<dyn Cluster>,
    probe: Arc<dyn QueryProbe>,
    models: Arc<dyn Models>,
    permits: Arc<Permits>,
    sinks: Arc<BTreeMap<String, OpenSink>>,
}

/// The permits for attempts.
struct Permits {
    cluster: Semaphore,
    urgent: Semaphore,
    metrics: Semaphore,
    registry: Semaphore,
}

impl Permits {
    fn new() -> Permits {
        let permits = || Semaphore::new(MAX_AT_ONCE);
        let metrics = Semaphore::new(MAX_PROBES);
        Permits { cluster: permits(), urgent: permits(), metrics, registry: permits() }
    }
}

/// A notification sink, with the permits for its attempts.
struct OpenSink {
    sink: Arc<dyn NotificationSink>,
    permits: Semaphore,
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
    /// Returns an executor with these ports. The names of the sinks are unique.
    pub fn new(
        cluster: Arc<dyn Cluster>,
        probe: Arc<dyn QueryProbe>,
        models: Arc<dyn Models>,
        sinks: Vec<Arc<dyn NotificationSink>>,
    ) -> Executor {
        let open = |sink: Arc<dyn NotificationSink>| OpenSink { sink, permits: Semaphore::new(MAX_AT_ONCE) };
        let sinks = sinks.into_iter().map(|sink| (sink.sink().name, open(sink))).collect();
        Executor { cluster, probe, models, permits: Arc::new(Permits::new()), sinks: Arc::new(sinks) }
    }

    /// Returns the sinks, for the engine that queues their notifications.
    pub fn sinks(&self) -> Vec<Sink> {
        self.sinks.values().map(|open| open.sink.sink()).collect()
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
        let (outcome, templates) = match &effect.act {
            Act::People(notify) => (self.notify(&effect, notify).await, Vec::new()),
            Act::Cluster(act) => {
                let permits = if effect.act.is_urgent() { &self.permits.urgent } else { &self.permits.cluster };
                let _permit = permit(permits).await;
                let attempt = self.cluster.perform(&effect, act, epoch, template.as_ref());
                ended(attempt).await.unwrap_or_else(|failure| (Outcome::Failed(failure), Vec::new()))
            }
            Act::Metrics(probe) => {
                let _permit = permit(&self.permits.metrics).await;
                (ended(self.probe.probe(&effect.workload, probe)).await.unwrap_or_else(Outcome::Failed), Vec::new())
            }
            Act::Registry(act) => {
                let _permit = permit(&self.permits.registry).await;
                (ended(self.models.perform(&effect.id, act)).await.unwrap_or_else(Outcome::Failed), Vec::new())
            }
        };
        JobReport { effect, outcome, templates }
    }

    async fn notify(&self, effect: &Effect, Notify { sink, notification, receipt }: &Notify) -> Outcome {
        let failed = |kind, message| Outcome::Failed(Failure { kind, message });
        let Some(open) = self.sinks.get(&sink.name) else {
            let message =
                format!("notification sink {} is no longer configured; its notification is dropped", sink.name);
            return failed(FailureKind::Refused, message);
        };
        let _permit = permit(&open.permits).await;
        let later = |Failure { message, .. }| Err(NotificationError::Later { after: None, message });
        let result = ended(open.sink.send(effect, notification, receipt.as_deref())).await.unwrap_or_else(later);
        let (attempt, outcome) = match result {
            Ok(None) => (Attempt::Done, Outcome::Done),
            Ok(Some(receipt)) => (Attempt::Done, Outcome::Sent { receipt }),
            Err(NotificationError::Later { message, .. }) => {
                (Attempt::Later, failed(FailureKind::Unavailable, message))
            }
            Err(NotificationError::Refused(message)) => (Attempt::Failed, failed(FailureKind::Refused, message)),
        };
        metrics::notification(&sink.name, attempt);
        outcome
    }
}

/// Waits for the end of an attempt. A panic and the deadline are failures after which the attempt is repeated.
async fn ended<T>(attempt: impl Future<Output = T>) -> Result<T, Failure> {
    let unavailable = |message| Failure { kind: FailureKind::Unavailable, message };
    match tokio::time::timeout(ATTEMPT_DEADLINE, supervise::caught("effect", attempt)).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => Err(unavailable(format!("the attempt panicked, which is a defect of Bellwether: {panic}"))),
        Err(_) => Err(unavailable(format!("the attempt did not end within {} s", ATTEMPT_DEADLINE.as_secs()))),
    }
}

/// Waits for a permit. `None` can't occur: the semaphores are never closed.
async fn permit(permits: &Semaphore) -> Option<tokio::sync::SemaphorePermit<'_>> {
    permits.acquire().await.ok()
}

/// A lane of a workload, in which effects are performed one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// The effects on the workload itself.
    Workload,
    /// The notifications for the sink with this name.
    Sink(String),
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
    let lane = match &effect.act {
        Act::People(Notify { sink, .. }) => Lane::Sink(sink.name.clone()),
        Act::Cluster(_) | Act::Metrics(_) | Act::Registry(_) => Lane::Workload,
    };
    (effect.workload.clone(), lane)
}

#[cfg(test)]
mod tests;
