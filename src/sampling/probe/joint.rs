//! The queries of many probes at the same time, asked together.
//!
//! Each probe asks for its own workload alone. Queries that differ in nothing but the workload are sent as one, as the sampler's are
//! at a tick, and each probe gets the points that its own query would have selected. So the load of five hundred rollouts that
//! begin together is about that of one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bellwether_core::measure::watch::Watch;
use bellwether_core::time::{Span, TimeRange, Timestamp};
use tokio::sync::OnceCell;

use crate::ports::{LabelPlace, Metrics, MetricsError, PodDirectory, SeriesPoint};
use crate::sampling::directory::lock;
use crate::sampling::plan::{PromQuery, SeriesRequest, WorkloadFilter, queries, workload_filter};

/// A metrics store that asks the queries of several watches together, and every other query once.
pub(super) struct JointMetrics {
    metrics: Arc<dyn Metrics>,
    /// The queries that are sent.
    joint: Vec<JointQuery>,
    /// The place of each watch's own query in the joint ones, by its text.
    own: BTreeMap<String, OwnQuery>,
    answers: Once<Question, JointAnswer>,
    types: Once<String, Result<Option<String>, MetricsError>>,
}

/// A query for several watches, and the filter of each.
struct JointQuery {
    request: SeriesRequest,
    text: String,
    filters: BTreeMap<usize, WorkloadFilter>,
}

/// A query for one watch.
#[derive(Clone, Copy)]
struct OwnQuery {
    /// The index of the joint query.
    joint: usize,
    watch: usize,
}

/// Answers by their question, each of which is asked once.
type Once<Q, A> = Mutex<BTreeMap<Q, Arc<OnceCell<A>>>>;
/// A query's text with the instants of its answer, as the first, the last and their distance.
type Question = (String, Timestamp, Timestamp, Span);
/// The points at each instant.
type Points = BTreeMap<Timestamp, Vec<SeriesPoint>>;
/// The points of each watch.
type JointAnswer = Result<BTreeMap<usize, Points>, MetricsError>;

/// The instants of a query's answer.
#[derive(Clone, Copy)]
enum When {
    At(Timestamp),
    In(TimeRange),
}

impl When {
    fn question(self, text: &str) -> Question {
        match self {
            When::At(at) => (text.to_owned(), at, at, Span::ZERO),
            When::In(TimeRange { from, to, step }) => (text.to_owned(), from, to, step),
        }
    }
}

impl JointMetrics {
    /// Returns a store that asks these requests of the watches together. Each watch has the requests beside it.
    pub(super) fn new(
        metrics: Arc<dyn Metrics>,
        pods: &dyn PodDirectory,
        watches: &[Watch],
        requests: &[BTreeSet<SeriesRequest>],
    ) -> JointMetrics {
        let mut wanted: BTreeMap<&SeriesRequest, Vec<usize>> = BTreeMap::new();
        for (watch, requests) in requests.iter().enumerate() {
            for request in requests {
                wanted.entry(request).or_default().push(watch);
            }
        }
        let (mut joint, mut own) = (Vec::new(), BTreeMap::new());
        for (request, indices) in wanted {
            for PromQuery { text, watches: members } in queries(request, &indices, watches, pods) {
                let mut filters = BTreeMap::new();
                for watch in members {
                    let filter = watches.get(watch).and_then(|it| workload_filter(request.source(), it, pods));
                    let alone = queries(request, &[watch], watches, pods).pop();
                    // The targets of a gateway are the same query for all watches.
                    if let (Some(filter), Some(alone)) = (filter, alone)
                        && let Entry::Vacant(free) = own.entry(alone.text)
                    {
                        free.insert(OwnQuery { joint: joint.len(), watch });
                        filters.insert(watch, filter);
                    }
                }
                joint.push(JointQuery { request: request.clone(), text, filters });
            }
        }
        JointMetrics { metrics, joint, own, answers: Mutex::default(), types: Mutex::default() }
    }

    /// Returns the number of points that a watch has got so far.
    pub(super) fn points_of(&self, watch: usize) -> usize {
        let answers = lock(&self.answers);
        let known = answers.values().filter_map(|cell| cell.get()?.as_ref().ok()?.get(&watch));
        known.flat_map(BTreeMap::values).map(Vec::len).sum()
    }

    async fn ask(&self, text: &str, when: When) -> Result<Points, MetricsError> {
        let Some(OwnQuery { joint, watch }) = self.own.get(text) else { return self.ask_once(text, when).await };
        let Some(joint) = self.joint.get(*joint) else { return self.ask_once(text, when).await };
        let cell = self.cell(&joint.text, when);
        let answer = cell.get_or_init(|| async { Ok(joint.distribute(self.send(&joint.text, when).await?)) }).await;
        match answer {
            Ok(points) => Ok(points.get(watch).cloned().unwrap_or_default()),
            // The selector of another watch may be the one that is refused.
            Err(MetricsError::Refused(_)) if joint.filters.len() > 1 => self.ask_once(text, when).await,
            Err(error) => Err(error.clone()),
        }
    }

    /// Returns the answer to a query that is no watch's, such as a search for a name.
    async fn ask_once(&self, text: &str, when: When) -> Result<Points, MetricsError> {
        let cell = self.cell(text, when);
        let answer = cell.get_or_init(|| async { Ok(BTreeMap::from([(0, self.send(text, when).await?)])) }).await;
        answer.clone().map(|points| points.into_values().next().unwrap_or_default())
    }

    fn cell(&self, text: &str, when: When) -> Arc<OnceCell<JointAnswer>> {
        Arc::clone(lock(&self.answers).entry(when.question(text)).or_default())
    }

    async fn send(&self, text: &str, when: When) -> Result<Points, MetricsError> {
        match when {
            When::At(at) => Ok(BTreeMap::from([(at, self.metrics.instant(text, at).await?)])),
            When::In(range) => self.metrics.range(text, range).await,
        }
    }
}

impl JointQuery {
    /// Gives every point to the watches whose own query would have selected it. The points of one series share their labels, so
    /// the watches are found once for each series and not for each of its instants.
    fn distribute(&self, points: Points) -> BTreeMap<usize, Points> {
        let mut by_series: HashMap<(*const (), LabelPlace), Vec<usize>> = HashMap::new();
        let mut by_watch: BTreeMap<usize, Points> = BTreeMap::new();
        for (at, points) in &points {
            for point in points {
                // All points live until the end of this function, so an identity stands for one set of labels.
                let watches = by_series.entry(point.labels.identity()).or_insert_with(|| self.watches_of(point));
                for watch in watches {
                    by_watch.entry(*watch).or_default().entry(*at).or_default().push(point.clone());
                }
            }
        }
        by_watch
    }

    /// Returns the watches whose own query would have selected a point.
    fn watches_of(&self, point: &SeriesPoint) -> Vec<usize> {
        let selecting = self.filters.iter().filter(|(_, filter)| filter.selects(&self.request, point));
        selecting.map(|(watch, _)| *watch).collect()
    }
}

#[async_trait]
impl Metrics for JointMetrics {
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        Ok(self.ask(query, When::At(at)).await?.into_values().next().unwrap_or_default())
    }

    async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError> {
        let cell = Arc::clone(lock(&self.types).entry(name.to_owned()).or_default());
        cell.get_or_init(|| self.metrics.type_of(name)).await.clone()
    }

    async fn range(&self, query: &str, range: TimeRange) -> Result<Points, MetricsError> {
        self.ask(query, When::In(range)).await
    }
}
