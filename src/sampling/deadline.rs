//! The deadline of a tick: a metrics store that does not answer until then counts as unavailable.
//!
//! A store that accepts queries and answers none, or that has many queries to answer before these, would otherwise hold up the
//! tick for minutes, and no rollout would be told that it is blind.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bellwether_core::time::{Span, TimeRange, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::ports::{Metrics, MetricsError, SeriesPoint};

/// A metrics store whose answers are awaited until a deadline.
pub struct DeadlineMetrics<'a> {
    metrics: &'a dyn Metrics,
    limit: Span,
    deadline: Instant,
}

impl<'a> DeadlineMetrics<'a> {
    /// Returns `metrics` with a deadline that ends `limit` from now.
    pub fn new(metrics: &'a dyn Metrics, limit: Span) -> DeadlineMetrics<'a> {
        DeadlineMetrics { metrics, limit, deadline: Instant::now() + limit.to_std() }
    }

    async fn until_deadline<T>(
        &self,
        answer: impl Future<Output = Result<T, MetricsError>>,
    ) -> Result<T, MetricsError> {
        let late = |_| MetricsError::Unavailable(format!("no answer within the {} that a tick may take", self.limit));
        timeout_at(self.deadline, answer).await.map_err(late)?
    }
}

#[async_trait]
impl Metrics for DeadlineMetrics<'_> {
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        self.until_deadline(self.metrics.instant(query, at)).await
    }

    async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError> {
        self.until_deadline(self.metrics.type_of(name)).await
    }

    async fn range(
        &self,
        query: &str,
        stretch: TimeRange,
    ) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
        self.until_deadline(self.metrics.range(query, stretch)).await
    }
}
