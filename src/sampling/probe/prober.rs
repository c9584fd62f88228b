//! The port by which rollouts are probed. Probes that begin within [`GATHER`] are one round, whose queries are asked together.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bellwether_core::ids::Workload;
use bellwether_core::input::effect::Probe;
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::measure::calibration::Calibration;
use bellwether_core::measure::metric::{ArmSource, Metric};
use bellwether_core::measure::watch::{ArmKey, ProbeTarget, Watch};
use bellwether_core::time::{Span, Timestamp};
use futures::future::join_all;
use tokio::sync::{Semaphore, oneshot};

use super::joint::JointMetrics;
use super::{ProbeFinding, ProbeRun, probe};
use crate::clock::Clock;
use crate::ports::{Metrics, MetricsError, PodDirectory};
use crate::sampling::history;
use crate::sampling::options::Options;
use crate::sampling::plan::{SeriesRequest, families, series_requests};
use crate::sampling::ticks::grid;

/// The time for which a round gathers probes.
const GATHER: Duration = Duration::from_millis(250);
/// The rounds under way at a time.
const ROUNDS: usize = 2;
/// The most workloads of a round.
const WORKLOADS: usize = 128;
/// The most series of the workloads whose past is read at the same time. The past has up to 81 values of each, of some 40 bytes.
const SERIES: usize = 4000;

/// Tries the queries of rollouts, with the settings of the sampler.
pub struct Prober {
    store: Arc<ProbedStore>,
    gathered: Arc<Mutex<Vec<Asked>>>,
    rounds: Arc<Semaphore>,
}

/// The metrics store that is probed, and the parts by which it is asked.
struct ProbedStore {
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn PodDirectory>,
    clock: Arc<dyn Clock>,
    options: Options,
}

/// A probe that waits for its outcome.
struct Asked {
    workload: Workload,
    probe: Probe,
    outcome: oneshot::Sender<Outcome>,
}

/// A probe with its findings so far.
struct Probed {
    asked: Asked,
    findings: Vec<ProbeFinding>,
    /// The number of its series.
    series: usize,
}

impl Prober {
    /// Returns a prober that queries `metrics` at the instants at which a sampler with the same options would.
    pub fn new(
        metrics: Arc<dyn Metrics>,
        pods: Arc<dyn PodDirectory>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Prober {
        let store = Arc::new(ProbedStore { metrics, pods, clock, options });
        Prober { store, gathered: Arc::default(), rounds: Arc::new(Semaphore::new(ROUNDS)) }
    }

    /// Returns all problems and warnings about the metrics.
    pub async fn findings(&self, workload: &Workload, stable: &ArmKey, metrics: &[ProbeTarget]) -> Vec<ProbeFinding> {
        let (store, now) = (&self.store, self.store.clock.now());
        let run = store.run(&*store.metrics, workload, stable);
        let mut findings = probe(&run, metrics, store.options.lag.before(now)).await;
        findings.extend(run.timing_findings(metrics, now, &store.options).await);
        findings
    }

    /// Returns the longest distance of two samples, over all scrape jobs of the metrics; `None` without samples.
    pub async fn scrape_interval(&self, workload: &Workload, stable: &ArmKey, metrics: &[ProbeTarget]) -> Option<Span> {
        let (store, now) = (&self.store, self.store.clock.now());
        store.run(&*store.metrics, workload, stable).longest_interval(metrics, now, &store.options).await
    }

    /// Adds a probe to the round that gathers; begins one if none does.
    fn gather(&self, asked: Asked) {
        let is_first = {
            let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.push(asked);
            gathered.len() == 1
        };
        if !is_first {
            return;
        }
        let (store, gathered, rounds) = (Arc::clone(&self.store), Arc::clone(&self.gathered), Arc::clone(&self.rounds));
        tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            // The semaphore is never closed. Further probes are gathered until there is room for the round.
            let _round = rounds.acquire().await;
            let mut all = take(&mut *gathered.lock().unwrap_or_else(PoisonError::into_inner));
            while !all.is_empty() {
                let rest = all.split_off(all.len().min(WORKLOADS));
                store.round(all).await;
                all = rest;
            }
        });
    }
}

#[async_trait]
impl crate::ports::QueryProbe for Prober {
    async fn probe(&self, workload: &Workload, probe: &Probe) -> Outcome {
        let (outcome, answered) = oneshot::channel();
        self.gather(Asked { workload: workload.clone(), probe: probe.clone(), outcome });
        answered.await.unwrap_or_else(|_| unavailable("the probe ended without an outcome".to_owned()))
    }
}

fn unavailable(message: String) -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Unavailable, message })
}

impl ProbedStore {
    /// Probes all of `asked`, and sends the outcomes.
    async fn round(self: &Arc<Self>, asked: Vec<Asked>) {
        let now = self.clock.now();
        if let Some(message) = self.blindness(now).await {
            for Asked { outcome, .. } in asked {
                // Sending fails if the executor has ended with its shard.
                let _ = outcome.send(unavailable(message.clone()));
            }
            return;
        }
        let mut probed = self.present(asked, now).await;
        while !probed.is_empty() {
            let rest = probed.split_off(first_part(probed.iter().map(|probed| probed.series)));
            self.past(probed, now).await;
            probed = rest;
        }
    }

    /// Returns the reason why findings would be about Prometheus or the API server and not about the queries; the engine tries later.
    async fn blindness(&self, now: Timestamp) -> Option<String> {
        if let Some(problem) = self.pods.problem() {
            return Some(format!("the pods that the series name may be unknown: {problem}"));
        }
        match self.metrics.instant("vector(1)", now).await {
            Err(MetricsError::Unavailable(message)) => Some(message),
            Ok(_) | Err(_) => None,
        }
    }

    /// Tries the queries as of now.
    async fn present(&self, asked: Vec<Asked>, now: Timestamp) -> Vec<Probed> {
        let joint = self.joint(asked.iter(), |watch, probe| {
            let alone = probe.metrics.iter().map(|probed| (probed.name.clone(), probed.metric.clone()));
            alone.flat_map(|metric| requests_of(watch, BTreeMap::from([metric]))).collect()
        });
        let at = self.options.lag.before(now);
        let runs = asked.into_iter().enumerate().map(|(index, asked)| {
            let joint = &joint;
            async move {
                let run = self.run(&**joint, &asked.workload, &asked.probe.stable);
                let findings = probe(&run, &asked.probe.metrics, at).await;
                Probed { asked, findings, series: joint.points_of(index) }
            }
        });
        join_all(runs).await
    }

    /// Reads the times of the last samples and the past for the calibrations, and sends the outcomes.
    /// Each workload has a task of its own: counting its past takes a while without a pause, and hundreds in one task would hold
    /// up other work of their thread.
    async fn past(self: &Arc<Self>, probed: Vec<Probed>, now: Timestamp) {
        let joint = self.joint(probed.iter().map(|probed| &probed.asked), |watch, probe| {
            let families = probe.metrics.iter().flat_map(|probed| families(&probed.metric));
            families
                .map(|family| SeriesRequest::Newest(Arc::new(family)))
                .chain(requests_of(watch, learned(probe)))
                .collect()
        });
        let tasks = probed.into_iter().map(|probed| {
            let (store, joint) = (Arc::clone(self), Arc::clone(&joint));
            tokio::spawn(async move { store.finish(probed, &joint, now).await })
        });
        // A task that panicked has dropped its sender, which is an outcome as well.
        join_all(tasks).await;
    }

    async fn finish(&self, probed: Probed, joint: &Arc<JointMetrics>, now: Timestamp) {
        let Probed { asked: Asked { workload, probe, outcome }, mut findings, series: _ } = probed;
        let run = self.run(&**joint, &workload, &probe.stable);
        findings.extend(run.timing_findings(&probe.metrics, now, &self.options).await);
        let (mut problems, mut unanswered) = (Vec::new(), Vec::new());
        for finding in findings {
            match finding {
                ProbeFinding::Problem(problem) => problems.push(problem),
                ProbeFinding::Unanswered(text) => unanswered.push(text),
                ProbeFinding::Warning(warning) => {
                    tracing::info!(%workload, %warning, "the probe of the metrics gave a warning");
                }
            }
        }
        // The other findings may rest on answers that were not given either; the engine tries later.
        if !unanswered.is_empty() {
            let _ = outcome.send(unavailable(unanswered.join("; ")));
            return;
        }
        let calibrations =
            if problems.is_empty() { self.calibrate(joint, &workload, &probe, now).await } else { Vec::new() };
        let queries = probe.metrics.iter().map(|probed| (probed.name.clone(), run.query_texts(probed))).collect();
        // Sending fails if the executor has ended with its shard.
        let _ = outcome.send(Outcome::Probed { problems, calibrations, queries });
    }

    /// Returns the calibrations of the probe's criteria from the last minutes. Metrics that can't be read give none and
    /// are no obstacle: the rollout then learns on its way and says that it was not calibrated.
    async fn calibrate(
        &self,
        joint: &Arc<JointMetrics>,
        workload: &Workload,
        probe: &Probe,
        now: Timestamp,
    ) -> Vec<Calibration> {
        let learned = learned(probe);
        if learned.is_empty() {
            return Vec::new();
        }
        let (_, to) = grid(now, self.options.interval, self.options.lag);
        let per_process: BTreeSet<String> = learned.keys().cloned().collect();
        let per_pod = per_process.clone();
        let stable = probe.stable.clone();
        let watch = Watch { per_process, per_pod, ..Watch::of_stable(workload.clone(), learned, stable, to) };
        let metrics: Arc<dyn Metrics> = joint.clone();
        let blocks = history::before(metrics, self.pods.clone(), watch, to, self.options).await;
        Calibration::from(probe.learn.iter().cloned(), &blocks)
    }

    /// Returns a store that asks the requests of all probes together.
    fn joint<'a>(
        &self,
        asked: impl Iterator<Item = &'a Asked>,
        requests: impl Fn(&Watch, &Probe) -> BTreeSet<SeriesRequest>,
    ) -> Arc<JointMetrics> {
        let (watches, requests): (Vec<Watch>, Vec<_>) = asked
            .map(|Asked { workload, probe, .. }| {
                let (metrics, stable) = (BTreeMap::new(), probe.stable.clone());
                let watch = Watch::of_stable(workload.clone(), metrics, stable, Timestamp::UNIX_EPOCH);
                let requests = requests(&watch, probe);
                (watch, requests)
            })
            .unzip();
        Arc::new(JointMetrics::new(self.metrics.clone(), &*self.pods, &watches, &requests))
    }

    fn run<'a>(&'a self, metrics: &'a dyn Metrics, workload: &'a Workload, stable: &'a ArmKey) -> ProbeRun<'a> {
        ProbeRun { metrics, pods: &*self.pods, workload, stable, window: self.options.window }
    }
}

/// Returns the number of probes whose past is read at the same time, by the number of series of each: those with at most
/// [`SERIES`] together, and at least one.
fn first_part(series: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fit = series.take_while(|series| {
        sum += series;
        sum <= SERIES
    });
    fit.count().max(1)
}

/// Returns the metrics from whose past a probe learns: the dispersion of errors from pods alone, the distribution of requests
/// from any source.
fn learned(probe: &Probe) -> BTreeMap<String, Metric> {
    let is_learned = |probed: &&ProbeTarget| {
        let by_pods = probed.metric.arms == ArmSource::Pods;
        probe.learn.iter().any(|bad| bad.metric == probed.name && (by_pods || bad.distribution))
    };
    let learned = probe.metrics.iter().filter(is_learned);
    learned.map(|probed| (probed.name.clone(), probed.metric.clone())).collect()
}

/// Returns the requests of the sampler for these metrics of the watch.
fn requests_of(watch: &Watch, metrics: BTreeMap<String, Metric>) -> BTreeSet<SeriesRequest> {
    series_requests(&[Watch { metrics: Arc::new(metrics), ..watch.clone() }]).into_keys().collect()
}

#[cfg(test)]
mod tests;
