//! The sampler itself: one reading of all watches at every tick.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::ids::Workload;
use bellwether_core::measure::block::{Block, Gap, Reading, Sample, SmallMap};
use bellwether_core::measure::metric::{Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::{Span, Timestamp};
use futures::future::join_all;
use futures::{StreamExt as _, stream};

use super::answers::{Answers, SeriesFetcher, gap};
use super::block::WatchTick;
use super::deadline::DeadlineMetrics;
use super::directory::KnownDirectory;
use super::options::Options;
use super::plan::{SeriesRequest, raw_query, series_requests};
use super::reading::query_reading;
use super::state::{BlockStart, SamplerState};
use crate::ports::{HandBlocks, Metrics, PodDirectory};

/// The watches of a group, whose counters are read together. About as many fit into one query, so a larger group would save no query;
/// an answer has about 50 KB per watch while it is read.
const GROUP: usize = 400;
/// The groups whose answers are awaited at a time, so that a server which answers slowly does not delay a tick by each of them.
const GROUPS_AT_A_TIME: usize = 2;

/// The result of a watch in a tick.
struct WatchReading {
    workload: Workload,
    block: Option<Block>,
    /// The state for the next tick.
    state: SamplerState,
}

/// Reads the counters of all watches and keeps the last reading of each.
pub struct Sampler {
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn PodDirectory>,
    options: Options,
    states: BTreeMap<Workload, SamplerState>,
}

impl Sampler {
    /// Returns a sampler without any reading yet.
    pub fn new(metrics: Arc<dyn Metrics>, pods: Arc<dyn PodDirectory>, options: Options) -> Sampler {
        Sampler { metrics, pods, options, states: BTreeMap::new() }
    }

    /// Reads the counters as of `at` (see [`super::ticks::grid`]) and returns the blocks that end there, by workload.
    /// The first reading of a watch gives no block: its first block starts there. States of workloads that had no watch for two
    /// intervals are dropped.
    pub async fn tick(&mut self, watches: &[Watch], at: Timestamp) -> Vec<(Workload, Block)> {
        let metrics = self.metrics.clone();
        let mut blocks = Vec::new();
        self.read(&*metrics, watches, at, &mut |more| blocks.extend(more)).await;
        blocks
    }

    /// Does the work of [`Sampler::tick`], and hands over the blocks of each group as soon as the group is read.
    async fn read(&mut self, metrics: &dyn Metrics, watches: &[Watch], at: Timestamp, hand: &mut HandBlocks<'_>) {
        let by_workload: BTreeMap<&Workload, &Watch> = watches.iter().map(|watch| (&watch.workload, watch)).collect();
        // Each turn of an interval has watches of its own.
        let recent = (self.options.interval + self.options.interval).before(at);
        self.states.retain(|workload, state| state.is_kept(recent) || by_workload.contains_key(workload));
        let mut pending = Vec::new();
        for (workload, watch) in by_workload {
            match BlockStart::of(watch, self.states.remove(workload), at) {
                Ok(start) => pending.push((watch, start)),
                Err(kept) => self.states.extend(kept.map(|state| (workload.clone(), state))),
            }
        }

        let mut groups = Vec::new();
        let mut pending = pending.into_iter();
        while pending.len() > 0 {
            groups.push(self.read_group(metrics, pending.by_ref().take(GROUP).collect(), at));
        }
        let mut states = Vec::new();
        let mut groups = stream::iter(groups).buffered(GROUPS_AT_A_TIME);
        while let Some(group) = groups.next().await {
            let mut blocks = Vec::with_capacity(group.len());
            for WatchReading { workload, block, state } in group {
                blocks.extend(block.map(|block| (workload.clone(), block)));
                states.push((workload, state));
            }
            hand(blocks);
        }
        drop(groups);
        self.states.extend(states);
    }

    /// Reads the counters of a group of watches.
    async fn read_group(
        &self,
        metrics: &dyn Metrics,
        group: Vec<(&Watch, BlockStart)>,
        at: Timestamp,
    ) -> Vec<WatchReading> {
        let (watches, starts): (Vec<Watch>, Vec<BlockStart>) =
            group.into_iter().map(|(watch, start)| (watch.clone(), start)).unzip();
        let requests = series_requests(&watches);
        let pods = KnownDirectory::new(&*self.pods);
        let fetcher = SeriesFetcher { metrics, pods: &pods, watches: &watches };
        let (mut at_end, at_starts, query_samples) = futures::join!(
            fetcher.fetch(&requests, at),
            fetch_starts(&fetcher, &requests, &starts, self.options.lag),
            self.query_samples(metrics, &watches, at)
        );

        let pushed = at_end.of_pushed(&requests);
        at_end.extend(fetcher.fetch(&pushed, at).await);

        let all = watches.iter().enumerate().zip(starts).zip(query_samples);
        let read = all.map(|(((index, watch), start), query_samples)| {
            let at_start = start.from.and_then(|from| at_starts.get(&from));
            let tick = WatchTick {
                index,
                watch,
                at,
                requests: &requests,
                at_end: &at_end,
                // Without a request for the start, the answers of the start are never looked at.
                at_start: at_start.unwrap_or(&at_end),
                query_samples,
                pods: &pods,
                options: &self.options,
            };
            let (block, state) = tick.finish(start);
            WatchReading { workload: watch.workload.clone(), block, state }
        });
        read.collect()
    }

    /// Returns the samples of the raw queries of each watch, by metric.
    async fn query_samples(&self, metrics: &dyn Metrics, watches: &[Watch], at: Timestamp) -> Vec<SmallMap<Sample>> {
        join_all(watches.iter().map(|watch| async move {
            let raw = watch.metrics.iter().filter(|(_, metric)| metric.kind == MetricKind::Query);
            let samples =
                raw.map(
                    |(name, metric)| async move { (name.clone(), self.query_sample(metrics, watch, metric, at).await) },
                );
            join_all(samples).await.into_iter().collect()
        }))
        .await
    }

    async fn query_sample(&self, metrics: &dyn Metrics, watch: &Watch, metric: &Metric, at: Timestamp) -> Sample {
        let stable = self.query_value(metrics, watch, metric, &watch.stable, at);
        let canary = async {
            match &watch.canary {
                Some(canary) => self.query_value(metrics, watch, metric, canary, at).await,
                None => Ok(None),
            }
        };
        match futures::join!(canary, stable) {
            (Ok(canary), Ok(stable)) => Sample::Arms { canary, stable },
            (Err(gap), _) | (_, Err(gap)) => Sample::Gap(gap),
        }
    }

    async fn query_value(
        &self,
        metrics: &dyn Metrics,
        watch: &Watch,
        metric: &Metric,
        arm: &ArmKey,
        at: Timestamp,
    ) -> Result<Option<Reading>, Gap> {
        let text = raw_query(metric, &watch.workload, &watch.stable, arm, &*self.pods, self.options.window);
        let text = text.map_err(|problem| Gap::Malformed { problem })?;
        let points = metrics.instant(&text, at).await.map_err(|error| gap(&error))?;
        query_reading(&points.iter().map(|point| point.value).collect::<Vec<_>>())
    }
}

/// Fetches the values that the states lack, as of the instants at which the blocks start. The answers are by instant.
async fn fetch_starts(
    fetcher: &SeriesFetcher<'_>,
    requests: &BTreeMap<SeriesRequest, Vec<usize>>,
    starts: &[BlockStart],
    lag: Span,
) -> BTreeMap<Timestamp, Answers> {
    let mut by_instant: BTreeMap<Timestamp, BTreeMap<SeriesRequest, Vec<usize>>> = BTreeMap::new();
    for (index, start) in starts.iter().enumerate() {
        let Some(from) = start.from else { continue };
        let own = requests.iter().filter(|(_, watches)| watches.binary_search(&index).is_ok());
        for request in start.missing_requests(own.map(|(request, _)| request), lag) {
            by_instant.entry(from).or_default().entry(request).or_default().push(index);
        }
    }
    let fetched = by_instant.iter().map(|(at, requests)| async move { (*at, fetcher.fetch(requests, *at).await) });
    join_all(fetched).await.into_iter().collect()
}

#[async_trait::async_trait]
impl crate::ports::BlockSource for Sampler {
    async fn tick(&mut self, watches: &[Watch], at: Timestamp, hand: &mut HandBlocks<'_>) {
        let stopwatch = crate::clock::Stopwatch::start();
        let metrics = self.metrics.clone();
        let limit = self.options.interval + self.options.interval;
        self.read(&DeadlineMetrics::new(&*metrics, limit), watches, at, hand).await;
        crate::metrics::sampler_tick(stopwatch.elapsed());
    }
}
