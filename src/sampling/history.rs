//! Runs the sampler over a range of the past.
//!
//! Calibrations and backtests must count the past as the sampler counts the present, gaps and restarts included. So
//! nothing is counted here: [`PastMetrics`] answers each of the sampler's instant queries from one range query over the
//! whole range, and the sampler runs through it tick by tick. Twenty minutes of the past cost as many requests as one
//! tick.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::past;
use bellwether_core::measure::watch::Watch;
use bellwether_core::time::{TimeRange, Timestamp};
use tokio::sync::Mutex;

use super::options::Options;
use super::sampler::Sampler;
use crate::ports::{Metrics, MetricsError, PodDirectory, SeriesPoint};

/// Returns the blocks of `watch` in a range of the past, in order. The step of the range replaces the interval of the
/// options.
pub async fn blocks(
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn PodDirectory>,
    watch: Watch,
    range: TimeRange,
    options: Options,
) -> Vec<Block> {
    let past = PastMetrics { metrics, range, answers: Mutex::default() };
    let mut sampler = Sampler::new(Arc::new(past), pods, Options { interval: range.step, ..options });
    let mut watch = Watch { since: range.from, last: None, ..watch };
    let mut blocks: Vec<Block> = Vec::new();
    for at in range.ticks() {
        for (_, block) in sampler.tick(std::slice::from_ref(&watch), at).await {
            watch.last = Some(block.to);
            blocks.push(block);
        }
    }
    blocks
}

/// Returns the blocks of `watch` before `at` from which calibrations are learned, in order.
pub async fn before(
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn PodDirectory>,
    watch: Watch,
    at: Timestamp,
    options: Options,
) -> Vec<Block> {
    let read = |range| blocks(Arc::clone(&metrics), Arc::clone(&pods), watch.clone(), range, options);
    let [earlier, recent] = past(at, options.interval).map(read);
    let (mut all, recent) = futures::join!(earlier, recent);
    all.extend(recent);
    all
}

/// The answer to a range query: the points at each instant of the range.
type RangeAnswer = Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError>;

/// A metrics store that answers instant queries within `range` from range queries, of which each is sent once.
struct PastMetrics {
    metrics: Arc<dyn Metrics>,
    range: TimeRange,
    answers: Mutex<BTreeMap<String, Arc<RangeAnswer>>>,
}

impl PastMetrics {
    async fn answer(&self, query: &str) -> Arc<RangeAnswer> {
        let mut answers = self.answers.lock().await;
        if let Some(answer) = answers.get(query) {
            return answer.clone();
        }
        let answer = Arc::new(self.metrics.range(query, self.range).await);
        answers.insert(query.to_owned(), answer.clone());
        answer
    }
}

#[async_trait]
impl Metrics for PastMetrics {
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        match &*self.answer(query).await {
            Ok(instants) => Ok(instants.get(&at).cloned().unwrap_or_default()),
            Err(error) => Err(error.clone()),
        }
    }

    async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError> {
        self.metrics.type_of(name).await
    }

    async fn range(&self, query: &str, range: TimeRange) -> RangeAnswer {
        self.metrics.range(query, range).await
    }
}
