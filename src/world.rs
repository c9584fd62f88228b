//! A simulated world in memory for the demo and the daemon's tests: a cluster, its traffic, a metrics store, a model
//! registry and a notification sink, behind the same ports as the real ones.
//!
//! The cluster is [`bellwether_sim::model`]; this module adds traffic. Each workload has its requests per second, and an
//! image's tag says how they end: `err8` for 8 % of errors, `err0.5` for half a percent, `slow` for a p95 of 7 s, `late` for
//! 30 % of errors once the version serves all of the traffic. A random generator with a fixed seed spreads them over the pods.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bellwether_core::dice::Random;
use bellwether_core::ids::{EffectId, Images, Workload};
use bellwether_core::input::effect::{ClusterAct, Effect, Probe, RegistryAct};
use bellwether_core::input::event::Outcome;
use bellwether_core::input::notification::{Message, Notification, Sink, Subscription};
use bellwether_core::input::status::{DeploymentStatus, WorkloadStatus};
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::measure::calibration::{Calibration, past};
use bellwether_core::measure::metric::{Metric, MetricKind};
use bellwether_core::measure::watch::Watch;
use bellwether_core::time::{Span, TimeRange, Timestamp};
use bellwether_sim::model::Model;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::ports::{
    BlockSource, Cluster, Epoch, HandBlocks, Models, NotificationError, NotificationSink, PodTemplate, QueryProbe,
    StatusSource, Wake,
};

/// The length of each block of the past that [`QueryProbe::probe`] learns from.
const BLOCK: Span = Span::from_secs(15);
/// The time for which the last reading of a workload is kept.
const KEPT: Span = Span::from_secs(600);
/// The interval at which [`MemoryWorld::watch`] looks for changes.
const WATCH_INTERVAL: Span = Span::from_secs(1);

/// A handle to a simulated world. Its clones share the same world.
#[derive(Clone)]
pub struct MemoryWorld {
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    model: Model,
    /// The traffic of each workload, in requests per second.
    rps: BTreeMap<Workload, u64>,
    /// The number of times at which all statuses were asked for again.
    resends: u64,
    /// The end of each watched workload's newest block.
    last: BTreeMap<Workload, Timestamp>,
    /// The fraction of an error that is not counted yet, in ten-thousandths, by metric and image.
    carry: BTreeMap<String, u64>,
    /// The random generator that assigns requests to pods; created on first use.
    dice: Option<Random>,
    messages: Vec<(Workload, Message)>,
}

/// The statuses that one observer has sent. Each daemon has its own, as each watch of a real API server has.
#[derive(Default)]
struct SentStatuses {
    /// The status of each workload that was sent last.
    statuses: BTreeMap<Workload, WorkloadStatus>,
    /// [`Inner::resends`] at that time.
    resends: u64,
}

impl MemoryWorld {
    /// Creates a world without workloads.
    pub fn new(clock: Arc<dyn Clock>) -> MemoryWorld {
        MemoryWorld { clock, inner: Arc::default() }
    }

    /// Adds a workload with its images, its number of replicas and its traffic in requests per second.
    pub fn deploy(&self, workload: &Workload, images: Images, replicas: u32, rps: u64) {
        let mut inner = self.lock();
        inner.model.deploy(workload.clone(), images, replicas, Span::from_secs(20));
        inner.rps.insert(workload.clone(), rps);
    }

    /// Returns the messages that were sent to people so far, in their order.
    pub fn messages(&self) -> Vec<(Workload, Message)> {
        self.lock().messages.clone()
    }

    /// Returns the images that a workload's stable runs; `None` if the workload is unknown.
    pub fn images(&self, workload: &Workload) -> Option<Images> {
        let now = self.clock.now();
        self.lock().model.status(workload, now).stable.map(|arm| arm.images)
    }

    /// Returns the present status of a workload.
    pub fn status(&self, workload: &Workload) -> WorkloadStatus {
        let now = self.clock.now();
        self.lock().model.status(workload, now)
    }

    /// Sends the status of each workload that has changed, until the receiver is closed. A report that they are complete has the
    /// time of the observer's clock, which may differ from the world's.
    pub async fn watch(self, wakes: mpsc::Sender<Wake>, observer: Arc<dyn Clock>) {
        let mut sent = SentStatuses::default();
        loop {
            let now = self.clock.now();
            for (workload, status) in self.changed(now, &mut sent) {
                if wakes
                    .send(Wake::Observed { workload, status: Box::new(status), templates: Vec::new() })
                    .await
                    .is_err()
                {
                    return;
                }
            }
            if wakes.send(Wake::Sighted(observer.now())).await.is_err() {
                return;
            }
            self.clock.sleep_until(WATCH_INTERVAL.after(self.clock.now())).await;
        }
    }

    fn changed(&self, now: Timestamp, sent: &mut SentStatuses) -> Vec<(Workload, WorkloadStatus)> {
        let inner = self.lock();
        if sent.resends != inner.resends {
            *sent = SentStatuses { resends: inner.resends, ..SentStatuses::default() };
        }
        let mut changed = Vec::new();
        for workload in inner.model.workloads() {
            let status = inner.model.status(workload, now);
            if sent.statuses.insert(workload.clone(), status.clone()).as_ref() != Some(&status) {
                changed.push((workload.clone(), status));
            }
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Poisoning is harmless: the values are plain and stay readable after a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusSource for MemoryWorld {
    fn resend(&self, _: Vec<Workload>) {
        self.lock().resends += 1;
    }
}

#[async_trait]
impl Cluster for MemoryWorld {
    async fn perform(
        &self,
        effect: &Effect,
        _: &ClusterAct,
        _: Epoch,
        _: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>) {
        let now = self.clock.now();
        (self.lock().model.perform(effect, now), Vec::new())
    }
}

#[async_trait]
impl NotificationSink for MemoryWorld {
    fn sink(&self) -> Sink {
        Sink { name: "memory".to_owned(), subscription: Subscription::Messages }
    }

    async fn send(
        &self,
        effect: &Effect,
        notification: &Notification,
        _: Option<&str>,
    ) -> Result<Option<String>, NotificationError> {
        let message = notification.message.clone().map(|message| (effect.workload.clone(), message));
        self.lock().messages.extend(message);
        Ok(None)
    }
}

#[async_trait]
impl QueryProbe for MemoryWorld {
    async fn probe(&self, workload: &Workload, Probe { metrics, stable, learn }: &Probe) -> Outcome {
        let metrics = metrics.iter().map(|probed| (probed.name.clone(), probed.metric.clone())).collect();
        let now = self.clock.now();
        let per_process = learn.iter().map(|criterion| criterion.metric.clone()).collect();
        let watch = Watch { per_process, ..Watch::of_stable(workload.clone(), metrics, stable.clone(), now) };
        let mut inner = self.lock();
        let mut read = |range: TimeRange| -> Vec<Block> {
            range.ticks().skip(1).map(|end| inner.block(&watch, range.step.before(end), end)).collect()
        };
        let past: Vec<Block> = past(now, BLOCK).into_iter().flat_map(&mut read).collect();
        let calibrations = Calibration::from(learn.iter().cloned(), &past);
        Outcome::Probed { problems: Vec::new(), calibrations, queries: BTreeMap::new() }
    }
}

#[async_trait]
impl Models for MemoryWorld {
    async fn perform(&self, effect: &EffectId, act: &RegistryAct) -> Outcome {
        self.lock().model.models.perform(effect, act)
    }
}

#[async_trait]
impl BlockSource for MemoryWorld {
    async fn tick(&mut self, watches: &[Watch], at: Timestamp, hand: &mut HandBlocks<'_>) {
        let mut inner = self.lock();
        let mut blocks = Vec::new();
        for watch in watches {
            let known = inner.last.get(&watch.workload).copied().filter(|last| *last >= watch.since);
            let before = watch.last.or(known);
            inner.last.insert(watch.workload.clone(), at);
            if let Some(from) = before.filter(|from| *from < at) {
                blocks.push((watch.workload.clone(), inner.block(watch, from, at)));
            }
        }
        // A further turn may have watches of its own.
        inner.last.retain(|_, last| Span::between(*last, at) <= KEPT);
        drop(inner);
        hand(blocks);
    }
}

impl Inner {
    fn block(&mut self, watch: &Watch, from: Timestamp, to: Timestamp) -> Block {
        let status = self.model.status(&watch.workload, to);
        let all = self.rps.get(&watch.workload).copied().unwrap_or(0) * Span::between(from, to).as_millis() / 1000;
        let to_canary = (all as f64 * self.model.share(&watch.workload, to)) as u64;
        let guarding = watch.canary.is_none();
        let mut metrics = BTreeMap::new();
        for (name, metric) in watch.metrics.iter() {
            let canary = status.canary.as_ref().filter(|_| !guarding);
            let sample = Sample::Arms {
                canary: canary.map(|arm| self.reading(name, metric, &arm.images, to_canary, guarding)),
                stable: status
                    .stable
                    .as_ref()
                    .map(|arm| self.reading(name, metric, &arm.images, all - to_canary, guarding)),
            };
            metrics.insert(name.clone(), sample);
        }
        let mut block = Block::new(from, to, metrics);
        self.add_pods(&mut block, watch, &status);
        block
    }

    /// Adds the readings of single pods to `block`, for the metrics of which the watch asks for them.
    fn add_pods(&mut self, block: &mut Block, watch: &Watch, status: &WorkloadStatus) {
        let size = |arm: &Option<DeploymentStatus>| arm.as_ref().map_or(0, |arm| arm.replicas as usize);
        let guarding = watch.canary.is_none();
        for (name, sample) in &block.metrics {
            let Sample::Arms { canary, stable } = sample else { continue };
            let (judged, pods) = if guarding { (stable, size(&status.stable)) } else { (canary, size(&status.canary)) };
            if let (Some(stable), true) = (stable, watch.per_process.contains(name)) {
                block.processes.insert(name.clone(), self.parts(stable, size(&status.stable)));
            }
            if let (Some(judged), true) = (judged, watch.per_pod.contains(name)) {
                let parts = self.parts(judged, pods).into_iter().enumerate();
                let named = parts.map(|(n, part)| (format!("{}-{n}", watch.workload.name), part)).collect();
                block.pods.insert(name.clone(), named);
            }
        }
    }

    /// Spreads a reading over `pods` pods at random and returns each pod's part. Returns an empty list unless the reading is
    /// a ratio or a histogram.
    fn parts(&mut self, reading: &Reading, pods: usize) -> Vec<Reading> {
        let dice = self.dice.get_or_insert_with(|| Random::new(1));
        let mut split = |count: u64| {
            let mut parts = vec![0u64; pods];
            for _ in 0..count {
                parts.get_mut(dice.below(pods)).into_iter().for_each(|part| *part += 1);
            }
            parts
        };
        match reading {
            Reading::Ratio { hits, total } => {
                let (hits, misses) = (split(*hits), split(total - hits));
                hits.into_iter()
                    .zip(misses)
                    .map(|(hits, misses)| Reading::Ratio { hits, total: hits + misses })
                    .collect()
            }
            Reading::Histogram { edges, counts } => {
                let mut parts = vec![Vec::new(); pods];
                for count in counts {
                    parts
                        .iter_mut()
                        .zip(split(*count))
                        .for_each(|(part, count): (&mut Vec<u64>, u64)| part.push(count));
                }
                parts.into_iter().map(|counts| Reading::Histogram { edges: edges.clone(), counts }).collect()
            }
            Reading::Count(_) | Reading::Value(_) => Vec::new(),
        }
    }

    fn reading(&mut self, name: &str, metric: &Metric, images: &Images, n: u64, guarding: bool) -> Reading {
        let image = images.values().next().map_or("", String::as_str);
        match metric.kind {
            MetricKind::Ratio => {
                let carry = self.carry.entry(format!("{name} {image}")).or_default();
                let errors = n * errors_of(image, guarding) + *carry;
                *carry = errors % 10_000;
                Reading::Ratio { hits: (errors / 10_000).min(n), total: n }
            }
            MetricKind::Histogram | MetricKind::Drift => {
                let quick = if image.contains("slow") { n * 88 / 100 } else { n * 99 / 100 };
                let counts = vec![quick / 2, quick - quick / 2, 0, 0, 0, n - quick, 0];
                Reading::Histogram { edges: vec![0.1, 0.25, 0.5, 1.0, 5.0, 10.0], counts }
            }
            MetricKind::Throughput => Reading::Count(n),
            MetricKind::Gauge | MetricKind::Query | MetricKind::Availability => Reading::Value(0.0),
        }
    }
}

/// Returns the errors per ten thousand requests that the image's tag stands for.
fn errors_of(image: &str, guarding: bool) -> u64 {
    if image.contains("late") {
        return if guarding { 3000 } else { 0 };
    }
    let percent: Option<f64> = image.rsplit_once("err").and_then(|(_, percent)| percent.parse().ok());
    (percent.unwrap_or(0.0) * 100.0).round() as u64
}
