//! Sends the queries of a tick and distributes the points of their answers to the watches.
//!
//! A query that Prometheus refuses is split in halves until the selector that it refuses is alone, so that a workload
//! with an unusual name does not blind the others.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches one kind and treats all others alike")]

use std::collections::{BTreeMap, HashMap, HashSet};

use bellwether_core::measure::block::Gap;
use bellwether_core::measure::watch::Watch;
use bellwether_core::time::Timestamp;
use futures::future::join_all;

use super::label_keys::LabelKeys;
use super::plan::{PromQuery, SeriesRequest, queries, service_owners};
use crate::ports::{Metrics, MetricsError, PodDirectory, SeriesPoint};

/// The largest number of splits of one query. Isolating one refused selector among the 500 of the largest query takes
/// nine splits, which are eighteen queries. A query that needs more is refused because of its family, and splitting it
/// up to the end would send a thousand queries per tick.
const MAX_SPLITS: usize = 24;

/// Fetches the answers to requests for a list of watches.
pub struct SeriesFetcher<'a> {
    /// The metrics store that the queries are sent to.
    pub metrics: &'a dyn Metrics,
    /// The directory that assigns pods to Deployments, and workloads to Services.
    pub pods: &'a dyn PodDirectory,
    /// The watches of the tick. Requests refer to them by their index.
    pub watches: &'a [Watch],
}

/// The points of one watch, or the gap that stands for them.
pub type SeriesAnswer = Result<Vec<SeriesPoint>, Gap>;

/// The answers to many requests, by request and index of the watch.
#[derive(Debug, Default)]
pub struct Answers(BTreeMap<SeriesRequest, BTreeMap<usize, SeriesAnswer>>);

impl Answers {
    /// Returns the points of the watch with the index `watch`.
    ///
    /// # Errors
    /// The gap that stands for the points.
    pub fn points(&self, request: &SeriesRequest, watch: usize) -> Result<Vec<&SeriesPoint>, Gap> {
        // The plan leaves out watches whose Service is unknown.
        let unknown = || Err(Gap::Malformed { problem: "the workload's Service is not known".to_owned() });
        self.points_if_asked(request, watch).unwrap_or_else(unknown)
    }

    /// Returns the same as [`Answers::points`]; `None` if the request was not sent for the watch.
    pub fn points_if_asked(&self, request: &SeriesRequest, watch: usize) -> Option<Result<Vec<&SeriesPoint>, Gap>> {
        let answer = self.0.get(request)?.get(&watch)?;
        Some(answer.as_ref().map(|points| points.iter().collect()).map_err(Clone::clone))
    }

    /// Adds the answers to other requests.
    pub fn extend(&mut self, other: Answers) {
        self.0.extend(other.0);
    }

    /// Returns the requests for the newest samples of the families that processes without an `up` series export, with the watches
    /// that they belong to. `requests` are those of the tick.
    pub fn of_pushed(&self, requests: &BTreeMap<SeriesRequest, Vec<usize>>) -> BTreeMap<SeriesRequest, Vec<usize>> {
        let mut newest = BTreeMap::new();
        for (request, watches) in requests {
            let SeriesRequest::Series(family, _) = request else { continue };
            let targets = SeriesRequest::Targets(family.source.clone());
            let points = |request, watch| self.points_if_asked(request, watch).and_then(Result::ok).unwrap_or_default();
            let mut keys = LabelKeys::new(family.source.process.iter().map(String::as_str));
            let mut is_pushed = |watch: &&usize| {
                let scraped: HashSet<usize> =
                    points(&targets, **watch).into_iter().map(|point| keys.number(&point.labels).0).collect();
                points(request, **watch).into_iter().any(|point| !scraped.contains(&keys.number(&point.labels).0))
            };
            let pushed: Vec<usize> = watches.iter().filter(&mut is_pushed).copied().collect();
            if !pushed.is_empty() {
                newest.insert(SeriesRequest::Newest(family.clone()), pushed);
            }
        }
        newest
    }
}

/// Returns the gap that stands for the answer of a failed query.
pub fn gap(error: &MetricsError) -> Gap {
    match error {
        MetricsError::Partial(warning) => Gap::Partial { warning: warning.clone() },
        other => Gap::Unanswered { error: other.to_string() },
    }
}

impl SeriesFetcher<'_> {
    /// Sends every request once, as of `at`, for the watches with the indices beside it.
    pub async fn fetch(&self, requests: &BTreeMap<SeriesRequest, Vec<usize>>, at: Timestamp) -> Answers {
        let queries: Vec<(&SeriesRequest, PromQuery)> = requests
            .iter()
            .flat_map(|(request, wanted)| {
                queries(request, wanted, self.watches, self.pods).into_iter().map(move |query| (request, query))
            })
            .collect();
        let fetched = join_all(
            queries
                .into_iter()
                .map(|(request, query)| async move { (request, self.fetch_query(request, query, at).await) }),
        );
        let mut answers = Answers::default();
        for (request, fetched) in fetched.await {
            answers.0.entry(request.clone()).or_default().extend(fetched);
        }
        answers
    }

    /// Sends one query, splits it if it is refused, and returns the answer of each of its watches.
    async fn fetch_query(
        &self,
        request: &SeriesRequest,
        query: PromQuery,
        at: Timestamp,
    ) -> BTreeMap<usize, SeriesAnswer> {
        let mut answers = BTreeMap::new();
        let (mut pending, mut splits) = (vec![query], 0);
        while let Some(query) = pending.pop() {
            match self.metrics.instant(&query.text, at).await {
                Ok(points) => answers.extend(self.distribute(request, &query.watches, points)),
                Err(MetricsError::Refused(_)) if query.watches.len() > 1 && splits < MAX_SPLITS => {
                    splits += 1;
                    let (first, second) = query.watches.split_at(query.watches.len() / 2);
                    pending.extend(queries(request, second, self.watches, self.pods));
                    pending.extend(queries(request, first, self.watches, self.pods));
                }
                Err(error) => {
                    tracing::debug!(query = %query.text, %error, "query failed; its watches get a gap");
                    answers.extend(query.watches.iter().map(|watch| (*watch, Err(gap(&error)))));
                }
            }
        }
        answers
    }

    /// Gives every point to the watches that it belongs to. Points of no watch are dropped: those of pods whose name
    /// merely has the same prefix, and those of pods that the directory does not know yet.
    fn distribute(
        &self,
        request: &SeriesRequest,
        wanted: &[usize],
        points: Vec<SeriesPoint>,
    ) -> BTreeMap<usize, SeriesAnswer> {
        let mut owners: HashMap<String, Vec<usize>> = HashMap::new();
        for &index in wanted {
            for key in self.watch_keys(request, index) {
                owners.entry(key).or_default().push(index);
            }
        }
        let mut by_watch: BTreeMap<usize, Vec<SeriesPoint>> = wanted.iter().map(|index| (*index, Vec::new())).collect();
        let source = request.source();
        let mut keys = LabelKeys::new(source.pod_labels().chain(source.owner_labels()));
        // The watches of each combination of these labels.
        let mut watches_of: Vec<&[usize]> = Vec::new();
        for point in &points {
            let (number, is_new) = keys.number(&point.labels);
            if is_new {
                let key = self.point_key(request, point);
                watches_of.push(key.and_then(|key| owners.get(&key)).map_or(&[], Vec::as_slice));
            }
            for index in watches_of.get(number).copied().unwrap_or_default() {
                by_watch.entry(*index).or_default().push(point.clone());
            }
        }
        by_watch.into_iter().map(|(index, points)| (index, Ok(points))).collect()
    }

    /// Returns the keys of a watch's points: the uids of its Deployments or the values of its Services. The targets of
    /// a gateway belong to all watches and have one empty key.
    fn watch_keys(&self, request: &SeriesRequest, index: usize) -> Vec<String> {
        let Some(watch) = self.watches.get(index) else { return Vec::new() };
        match (request, &request.source().service) {
            (_, None) => {
                let mut uids: Vec<String> =
                    watch.canary.iter().chain([&watch.stable]).map(|arm| arm.deployment_uid.clone()).collect();
                uids.dedup();
                uids
            }
            (SeriesRequest::Series(..) | SeriesRequest::PastSeries(..) | SeriesRequest::Newest(_), Some(_)) => {
                service_owners(request.source(), watch, self.pods).into_iter().flatten().collect()
            }
            (SeriesRequest::Targets(_) | SeriesRequest::PastTargets(..), Some(_)) => vec![String::new()],
        }
    }

    /// Returns the key of a point, as in [`SeriesFetcher::watch_keys`]. `None`: its pod is unknown, or a label is
    /// missing.
    fn point_key(&self, request: &SeriesRequest, point: &SeriesPoint) -> Option<String> {
        let (source, value) = (request.source(), |label: &str| point.labels.get(label));
        match (request, &source.service) {
            (_, None) => {
                let (namespace, pod) = source.pod_of(value)?;
                Some(self.pods.locate(namespace, pod)?.deployment_uid.clone())
            }
            (SeriesRequest::Targets(_) | SeriesRequest::PastTargets(..), Some(_)) => Some(String::new()),
            (_, Some(_)) => source.owner_of(value),
        }
    }
}
