//! The past, read as if it were now: the sampler's own questions put to every instant of a stretch of it.
//!
//! What is learnt or tried on the past must be counted as it is counted later, gaps and restarts included. So nothing is
//! counted here: [`History`] answers each of the sampler's instant queries from one range query over the whole stretch,
//! and the sampler goes through it tick by tick. A stretch of twenty minutes costs as many requests as one tick.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::watch::Watch;
use bellwether_core::time::{TimeRange, Timestamp};
use tokio::sync::Mutex;

use super::{Options, Sampler};
use crate::ports::{Metrics, MetricsError, PodDirectory, SeriesPoint};

/// What was counted of `watch` in a stretch of the past, block by block.
pub async fn blocks(
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn PodDirectory>,
    watch: Watch,
    stretch: TimeRange,
    options: Options,
) -> Vec<Block> {
    let history = History { metrics, stretch, known: Mutex::default() };
    let mut sampler = Sampler::new(Arc::new(history), pods, Options { interval: stretch.step, ..options });
    let mut watch = Watch { since: stretch.from, last: None, ..watch };
    let mut blocks: Vec<Block> = Vec::new();
    for at in stretch.ticks() {
        for (_, block) in sampler.tick(std::slice::from_ref(&watch), at).await {
            watch.last = Some(block.to);
            blocks.push(block);
        }
    }
    blocks
}

/// What a query gives at each instant of the stretch.
type Known = Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError>;

struct History {
    metrics: Arc<dyn Metrics>,
    stretch: TimeRange,
    known: Mutex<BTreeMap<String, Arc<Known>>>,
}

impl History {
    async fn known(&self, query: &str) -> Arc<Known> {
        let mut known = self.known.lock().await;
        if let Some(answer) = known.get(query) {
            return answer.clone();
        }
        let answer = Arc::new(self.metrics.range(query, self.stretch).await);
        known.insert(query.to_owned(), answer.clone());
        answer
    }
}

#[async_trait]
impl Metrics for History {
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        match &*self.known(query).await {
            Ok(instants) => Ok(instants.get(&at).cloned().unwrap_or_default()),
            Err(error) => Err(error.clone()),
        }
    }

    async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError> {
        self.metrics.type_of(name).await
    }

    async fn range(&self, query: &str, stretch: TimeRange) -> Known {
        self.metrics.range(query, stretch).await
    }
}
