//! From a list of what is watched to blocks of counts: the sampler above the [`Metrics`] port.
//!
//! All rollouts are read at the same instants, so that one query per metric family serves all of them, and each reading
//! is of raw counters at an explicit instant in the past, so that what was counted between two of them is a subtraction
//! and not an estimate. What can't be known is a typed gap, for both arms together; it decides nothing about either.
//!
//! In reading order: [`plan`] makes questions of watches, [`answers`] puts them, [`native`] makes native histograms
//! classic ones, [`snapshot`] reads what came back, [`difference`] subtracts, [`reading`] makes samples of it, [`state`]
//! keeps what the next tick needs. [`probe`] tries all of it once, for people, and [`history`] goes through the past.

pub mod promql;
pub mod plan;
pub mod answers;
mod count;
pub mod native;
pub mod snapshot;
pub mod difference;
pub mod reading;
pub mod history;
pub mod state;
pub mod probe;
pub mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::ids::Workload;
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::metric::{Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::{Span, Timestamp};
use futures::future::join_all;

use answers::{Answers, Desk};
use plan::SeriesRequest;
use state::{SamplerState, Start, Turn};

use crate::ports::{Metrics, PodDirectory};

/// How readings are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The ticks' distance.
    pub interval: Span,
    /// How far behind the clock counters are read: at least the scrape interval and the time that a sample takes to
    /// become visible, or else the last block of a burst is short and the next one long.
    pub lag: Span,
    /// How often targets are scraped. A sample older than two and a half of these is stale.
    pub scrape_interval: Span,
    /// What `{{window}}` stands for in raw queries.
    pub window: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            interval: Span::from_secs(15),
            lag: Span::from_secs(15),
            scrape_interval: Span::from_secs(15),
            window: Span::from_secs(300),
        }
    }
}

/// The tick that `now` belongs to, and the instant that is read at it.
pub fn grid(now: Timestamp, interval: Span, lag: Span) -> (Timestamp, Timestamp) {
    let length = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let past = now.as_millisecond().rem_euclid(length).unsigned_abs();
    let tick = Span::from_millis(past).before(now);
    // Whole milliseconds: that is what Prometheus and the journal keep.
    let tick = Timestamp::from_millisecond(tick.as_millisecond()).unwrap_or(tick);
    (tick, lag.before(tick))
}

/// The first tick after `now`.
pub fn next_tick(now: Timestamp, interval: Span) -> Timestamp {
    // A grid without distance would be no end of ticks in one instant.
    interval.max(Span::from_millis(1)).after(grid(now, interval, Span::ZERO).0)
}

/// Takes the readings, and remembers the last one of what is watched.
pub struct Sampler {
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn PodDirectory>,
    options: Options,
    states: BTreeMap<Workload, SamplerState>,
}

impl Sampler {
    /// A sampler that has not seen anything yet.
    pub fn new(metrics: Arc<dyn Metrics>, pods: Arc<dyn PodDirectory>, options: Options) -> Sampler {
        Sampler { metrics, pods, options, states: BTreeMap::new() }
    }

    /// One reading as of `at` (see [`grid`]): the blocks that end there, by workload. A watch's first reading begins its
    /// first block and gives none. What is no longer watched is forgotten.
    pub async fn tick(&mut self, watches: &[Watch], at: Timestamp) -> Vec<(Workload, Block)> {
        let by_workload: BTreeMap<&Workload, &Watch> = watches.iter().map(|watch| (&watch.workload, watch)).collect();
        self.states.retain(|workload, _| by_workload.contains_key(workload));
        let (watches, starts): (Vec<Watch>, Vec<Start>) = by_workload
            .into_iter()
            .filter_map(|(workload, watch)| Some((watch.clone(), Start::of(watch, self.states.get(workload), at)?)))
            .unzip();

        let asks = plan::asks(&watches);
        let desk = Desk { metrics: &*self.metrics, pods: &*self.pods, watches: &watches };
        let (now, then, queries) = futures::join!(
            desk.ask(&asks, at),
            again(&desk, &asks, &starts, self.options.lag),
            self.queries(&watches, at)
        );

        let mut blocks = Vec::new();
        for (((index, watch), start), queries) in watches.iter().enumerate().zip(starts).zip(queries) {
            let then = start.from.and_then(|from| then.get(&from));
            let turn = Turn {
                index,
                watch,
                at,
                asks: &asks,
                now: &now,
                then: then.unwrap_or(&now),
                queries,
                pods: &*self.pods,
                options: &self.options,
            };
            let (block, state) = turn.finish(start);
            self.states.insert(watch.workload.clone(), state);
            blocks.extend(block.map(|block| (watch.workload.clone(), block)));
        }
        blocks
    }

    /// The samples of each watch's raw queries.
    async fn queries(&self, watches: &[Watch], at: Timestamp) -> Vec<BTreeMap<String, Sample>> {
        join_all(watches.iter().map(|watch| async move {
            let raw = watch.metrics.iter().filter(|(_, metric)| metric.kind == MetricKind::Query);
            let samples = raw.map(|(name, metric)| async move { (name.clone(), self.query(watch, metric, at).await) });
            join_all(samples).await.into_iter().collect()
        }))
        .await
    }

    async fn query(&self, watch: &Watch, metric: &Metric, at: Timestamp) -> Sample {
        let stable = self.value(watch, metric, &watch.stable, at);
        let canary = async {
            match &watch.canary {
                Some(canary) => self.value(watch, metric, canary, at).await,
                None => Ok(None),
            }
        };
        match futures::join!(canary, stable) {
            (Ok(canary), Ok(stable)) => Sample::Arms { canary, stable },
            (Err(gap), _) | (_, Err(gap)) => Sample::Gap(gap),
        }
    }

    async fn value(&self, watch: &Watch, metric: &Metric, arm: &ArmKey, at: Timestamp) -> Result<Option<Reading>, Gap> {
        let text = filled(metric, &watch.workload, &watch.stable, arm, &*self.pods, self.options.window);
        let text = text.map_err(|what| Gap::Malformed { what })?;
        let points = self.metrics.instant(&text, at).await.map_err(|error| answers::gap(&error))?;
        reading::value(&points.iter().map(|point| point.value).collect::<Vec<_>>())
    }
}

/// The raw query of `metric` for one arm.
fn filled(
    metric: &Metric,
    workload: &Workload,
    stable: &ArmKey,
    arm: &ArmKey,
    pods: &dyn PodDirectory,
    window: Span,
) -> Result<String, String> {
    let service =
        if arm == stable { pods.service(workload).map(|(name, _)| name) } else { Some(workload.canary_name()) };
    let window = format!("{}s", window.as_millis().div_ceil(1000));
    let parameters = BTreeMap::from([
        ("namespace", Some(workload.namespace.clone())),
        ("workload", Some(arm.name.clone())),
        ("service", service),
        ("pod-hash", arm.pod_hash.clone()),
        ("window", Some(window)),
    ]);
    promql::fill(metric.query.as_deref().unwrap_or_default(), &parameters)
}

/// What was not remembered, as of the instants at which the blocks begin.
async fn again(
    desk: &Desk<'_>,
    asks: &BTreeMap<SeriesRequest, Vec<usize>>,
    starts: &[Start],
    lag: Span,
) -> BTreeMap<Timestamp, Answers> {
    let mut again: BTreeMap<Timestamp, BTreeMap<SeriesRequest, Vec<usize>>> = BTreeMap::new();
    for (index, start) in starts.iter().enumerate() {
        let Some(from) = start.from else { continue };
        let own = asks.iter().filter(|(_, wanted)| wanted.binary_search(&index).is_ok()).map(|(ask, _)| ask);
        for ask in start.again(own, lag) {
            again.entry(from).or_default().entry(ask).or_default().push(index);
        }
    }
    let answered = again.iter().map(|(at, asks)| async move { (*at, desk.ask(asks, *at).await) });
    join_all(answered).await.into_iter().collect()
}

#[async_trait::async_trait]
impl crate::ports::BlockSource for Sampler {
    async fn tick(&mut self, watches: &[Watch], at: Timestamp) -> Vec<(Workload, Block)> {
        let watch = crate::clock::Stopwatch::start();
        let blocks = Sampler::tick(self, watches, at).await;
        crate::metrics::sampler_tick(watch.elapsed());
        blocks
    }
}
