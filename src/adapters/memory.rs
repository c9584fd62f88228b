//! A whole world in memory: a cluster, its traffic and the people who are told, behind the same ports as the real ones.
//!
//! The demo runs in it, and so do tests of the daemon. The cluster is [`bellwether_core::model`]; what is added here is
//! traffic: each workload has its requests per second, and an image's tag says how they fare (`err8`: 8 % of errors,
//! `slow`: a p95 of 7 s, `late`: 30 % of errors once it serves all of the traffic).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bellwether_core::block::{Block, Reading, Sample};
use bellwether_core::effect::{Effect, Message, ModelAct};
use bellwether_core::event::Outcome;
use bellwether_core::ids::{EffectId, Images, Workload};
use bellwether_core::learnt::Bad;
use bellwether_core::metric::{Metric, MetricKind};
use bellwether_core::model::Model;
use bellwether_core::sighting::Sighting;
use bellwether_core::time::{Span, Timestamp};
use bellwether_core::watch::{ArmKey, Probed, Watch};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::ports::{Cluster, Counts, Epoch, Models, Notify, NotifyError, Probe, Sights, Template, Wake};

/// How often the world is looked at for changes.
const LOOK_EVERY: Span = Span::from_secs(1);

/// A world in memory. Clones are the same world.
#[derive(Clone)]
pub struct World {
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    model: Model,
    rps: BTreeMap<Workload, u64>,
    sent: BTreeMap<Workload, Sighting>,
    last: BTreeMap<Workload, Timestamp>,
    /// Hundredths of errors that did not make a whole one yet, by image.
    carry: BTreeMap<String, u64>,
    messages: Vec<(Workload, Message)>,
}

impl World {
    /// An empty one.
    pub fn new(clock: Arc<dyn Clock>) -> World {
        World { clock, inner: Arc::default() }
    }

    /// Puts a workload in, with so many requests per second.
    pub fn deploy(&self, workload: &Workload, images: Images, replicas: u32, rps: u64) {
        let mut inner = self.lock();
        inner.model.deploy(workload.clone(), images, replicas, Span::from_secs(20));
        inner.rps.insert(workload.clone(), rps);
    }

    /// What people have been told so far.
    pub fn messages(&self) -> Vec<(Workload, Message)> {
        self.lock().messages.clone()
    }

    /// The images that a workload runs.
    pub fn images(&self, workload: &Workload) -> Option<Images> {
        let now = self.clock.now();
        self.lock().model.sighting(workload, now).stable.map(|arm| arm.images)
    }

    /// Sends what has changed, until nobody listens any more.
    pub async fn watch(self, wakes: mpsc::Sender<Wake>) {
        loop {
            for (workload, sighting) in self.changed() {
                if wakes
                    .send(Wake::Seen { workload, sighting: Box::new(sighting), templates: Vec::new() })
                    .await
                    .is_err()
                {
                    return;
                }
            }
            self.clock.sleep_until(LOOK_EVERY.after(self.clock.now())).await;
        }
    }

    fn changed(&self) -> Vec<(Workload, Sighting)> {
        let now = self.clock.now();
        let mut inner = self.lock();
        let workloads: Vec<Workload> = inner.model.workloads().cloned().collect();
        let mut changed = Vec::new();
        for workload in workloads {
            let sighting = inner.model.sighting(&workload, now);
            if inner.sent.insert(workload.clone(), sighting.clone()).as_ref() != Some(&sighting) {
                changed.push((workload, sighting));
            }
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Plain values: whoever panicked in here left them readable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sights for World {
    fn resend(&self) {
        self.lock().sent.clear();
    }
}

#[async_trait]
impl Cluster for World {
    async fn perform(&self, effect: &Effect, _: Epoch, _: Option<&Template>) -> (Outcome, Vec<Template>) {
        let now = self.clock.now();
        (self.lock().model.perform(effect, now), Vec::new())
    }
}

#[async_trait]
impl Notify for World {
    async fn send(&self, _: &EffectId, workload: &Workload, message: &Message) -> Result<(), NotifyError> {
        self.lock().messages.push((workload.clone(), message.clone()));
        Ok(())
    }
}

#[async_trait]
impl Probe for World {
    async fn probe(&self, _: &Workload, _: &ArmKey, _: &[Probed], _: &[Bad]) -> Outcome {
        Outcome::Probed { problems: Vec::new(), learnt: Vec::new(), queries: BTreeMap::new() }
    }
}

#[async_trait]
impl Models for World {
    async fn perform(&self, effect: &EffectId, environment: &str, model: &str, what: &ModelAct) -> Outcome {
        self.lock().model.models.perform(effect, environment, model, what)
    }
}

#[async_trait]
impl Counts for World {
    async fn tick(&mut self, watches: &[Watch], at: Timestamp) -> Vec<(Workload, Block)> {
        let mut inner = self.lock();
        let mut blocks = Vec::new();
        for watch in watches {
            let before = watch.last.or_else(|| inner.last.get(&watch.workload).copied());
            inner.last.insert(watch.workload.clone(), at);
            if let Some(from) = before.filter(|from| *from < at) {
                blocks.push((watch.workload.clone(), inner.block(watch, from, at)));
            }
        }
        let watched = |workload: &Workload| watches.iter().any(|watch| watch.workload == *workload);
        inner.last.retain(|workload, _| watched(workload));
        blocks
    }
}

impl Inner {
    fn block(&mut self, watch: &Watch, from: Timestamp, to: Timestamp) -> Block {
        let sighting = self.model.sighting(&watch.workload, to);
        let all = self.rps.get(&watch.workload).copied().unwrap_or(0) * Span::between(from, to).as_millis() / 1000;
        let to_canary = (all as f64 * self.model.share(&watch.workload, to)) as u64;
        let guarding = watch.canary.is_none();
        let mut metrics = BTreeMap::new();
        for (name, metric) in &watch.metrics {
            let canary = sighting.canary.as_ref().filter(|_| !guarding);
            let sample = Sample::Arms {
                canary: canary.map(|arm| self.reading(name, metric, &arm.images, to_canary, guarding)),
                stable: sighting
                    .stable
                    .as_ref()
                    .map(|arm| self.reading(name, metric, &arm.images, all - to_canary, guarding)),
            };
            metrics.insert(name.clone(), sample);
        }
        Block::new(from, to, metrics)
    }

    fn reading(&mut self, name: &str, metric: &Metric, images: &Images, n: u64, guarding: bool) -> Reading {
        let image = images.values().next().map_or("", String::as_str);
        match metric.kind {
            MetricKind::Ratio => {
                let percent = errors_of(image, guarding);
                let carry = self.carry.entry(format!("{name} {image}")).or_default();
                let hundredths = n * percent + *carry;
                *carry = hundredths % 100;
                Reading::Ratio { hits: (hundredths / 100).min(n), total: n }
            }
            MetricKind::Histogram | MetricKind::Drift => {
                let quick = if image.contains("slow") { n * 88 / 100 } else { n * 99 / 100 };
                let counts = vec![quick / 2, quick - quick / 2, 0, 0, n - quick, 0];
                Reading::Histogram { edges: vec![0.1, 0.25, 1.0, 5.0, 10.0], counts }
            }
            MetricKind::Throughput => Reading::Count(n),
            MetricKind::Gauge | MetricKind::Query | MetricKind::Availability => Reading::Value(0.0),
        }
    }
}

/// Percent of errors, by what the image's tag says of itself.
fn errors_of(image: &str, guarding: bool) -> u64 {
    if image.contains("late") {
        return if guarding { 30 } else { 0 };
    }
    image.rsplit_once("err").and_then(|(_, percent)| percent.parse().ok()).unwrap_or(0)
}
