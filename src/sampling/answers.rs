//! Asking, and handing each answer to the watches it is for. A chunk that Prometheus refuses is halved until the
//! selector that it minds is alone, so that one rollout's odd name does not blind the others.
#![expect(clippy::wildcard_enum_match_arm, reason = "asks about one kind, and leaves all others alone")]

use std::collections::BTreeMap;

use bellwether_core::measure::block::Gap;
use bellwether_core::measure::watch::Watch;
use bellwether_core::time::Timestamp;
use futures::future::join_all;

use super::plan::{PromQuery, SeriesRequest, queries, service_values};
use crate::ports::{Metrics, MetricsError, PodDirectory, SeriesPoint};

/// To find one bad selector among the most that a chunk can hold takes eighteen queries. More than this is a family
/// that is refused as a whole, and Prometheus shall not be asked a thousand times a tick for it.
const MOST_HALVINGS: usize = 24;

/// Where the questions go.
pub struct Desk<'a> {
    /// Who answers.
    pub metrics: &'a dyn Metrics,
    /// Who knows whose pod it is.
    pub pods: &'a dyn PodDirectory,
    /// Who wants to know.
    pub watches: &'a [Watch],
}

/// What one watch was answered.
pub type SeriesAnswer = Result<Vec<SeriesPoint>, Gap>;

/// The answers to many questions, by question and watch.
#[derive(Debug, Default)]
pub struct Answers(BTreeMap<SeriesRequest, BTreeMap<usize, SeriesAnswer>>);

impl Answers {
    /// What the watch with this index was answered.
    ///
    /// # Errors
    /// The gap that stands for the answer.
    pub fn points(&self, ask: &SeriesRequest, watch: usize) -> Result<Vec<&SeriesPoint>, Gap> {
        match self.0.get(ask).and_then(|answers| answers.get(&watch)) {
            Some(Ok(points)) => Ok(points.iter().collect()),
            Some(Err(gap)) => Err(gap.clone()),
            None => Err(Gap::Malformed { what: "the workload's Service is not known".to_owned() }),
        }
    }
}

/// The gap that an error leaves.
pub fn gap(error: &MetricsError) -> Gap {
    match error {
        MetricsError::Partial(warning) => Gap::Partial { warning: warning.clone() },
        other => Gap::Unanswered { error: other.to_string() },
    }
}

impl Desk<'_> {
    /// Puts every question once, as of `at`.
    pub async fn ask(&self, asks: &BTreeMap<SeriesRequest, Vec<usize>>, at: Timestamp) -> Answers {
        let chunks: Vec<(&SeriesRequest, PromQuery)> = asks
            .iter()
            .flat_map(|(ask, wanted)| {
                queries(ask, wanted, self.watches, self.pods).into_iter().map(move |query| (ask, query))
            })
            .collect();
        let answered =
            join_all(chunks.into_iter().map(|(ask, query)| async move { (ask, self.chunk(ask, query, at).await) }));
        let mut answers = Answers::default();
        for (ask, answered) in answered.await {
            answers.0.entry(ask.clone()).or_default().extend(answered);
        }
        answers
    }

    async fn chunk(&self, ask: &SeriesRequest, query: PromQuery, at: Timestamp) -> BTreeMap<usize, SeriesAnswer> {
        let mut answers = BTreeMap::new();
        let (mut todo, mut halvings) = (vec![query], 0);
        while let Some(query) = todo.pop() {
            match self.metrics.instant(&query.text, at).await {
                Ok(points) => answers.extend(self.sort_out(ask, &query.watches, points)),
                Err(MetricsError::Refused(_)) if query.watches.len() > 1 && halvings < MOST_HALVINGS => {
                    halvings += 1;
                    let (first, second) = query.watches.split_at(query.watches.len() / 2);
                    todo.extend(queries(ask, second, self.watches, self.pods));
                    todo.extend(queries(ask, first, self.watches, self.pods));
                }
                Err(error) => {
                    tracing::debug!(query = %query.text, %error, "a query was not answered");
                    answers.extend(query.watches.iter().map(|watch| (*watch, Err(gap(&error)))));
                }
            }
        }
        answers
    }

    /// Every point to the watches that it concerns. What belongs to none of them (a pod whose name begins alike, one
    /// that nobody knows yet) is dropped.
    fn sort_out(
        &self,
        ask: &SeriesRequest,
        wanted: &[usize],
        points: Vec<SeriesPoint>,
    ) -> BTreeMap<usize, SeriesAnswer> {
        let mut owners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for &index in wanted {
            for key in self.keys(ask, index) {
                owners.entry(key).or_default().push(index);
            }
        }
        let mut sorted: BTreeMap<usize, Vec<SeriesPoint>> = wanted.iter().map(|index| (*index, Vec::new())).collect();
        for point in points {
            let Some(key) = self.key(ask, &point) else { continue };
            for index in owners.get(&key).into_iter().flatten() {
                sorted.entry(*index).or_default().push(point.clone());
            }
        }
        sorted.into_iter().map(|(index, points)| (index, Ok(points))).collect()
    }

    /// What a watch's points are known by: its Deployments' uids, its Services' values, or nothing at a gateway.
    fn keys(&self, ask: &SeriesRequest, index: usize) -> Vec<String> {
        let Some(watch) = self.watches.get(index) else { return Vec::new() };
        match (ask, &ask.source().service) {
            (_, None) => {
                let mut uids: Vec<String> =
                    watch.canary.iter().chain([&watch.stable]).map(|arm| arm.deployment_uid.clone()).collect();
                uids.dedup();
                uids
            }
            (SeriesRequest::Series(..) | SeriesRequest::PastSeries(..), Some(_)) => {
                service_values(ask.source(), watch, self.pods).into_iter().flatten().collect()
            }
            (SeriesRequest::Targets(_) | SeriesRequest::PastTargets(..), Some(_)) => vec![String::new()],
        }
    }

    fn key(&self, ask: &SeriesRequest, point: &SeriesPoint) -> Option<String> {
        let label = |name: &str| point.labels.get(name);
        match (ask, &ask.source().service) {
            (_, None) => Some(self.pods.locate(label("namespace")?, label("pod")?)?.deployment_uid),
            (SeriesRequest::Series(..) | SeriesRequest::PastSeries(..), Some((name, _))) => label(name).cloned(),
            (SeriesRequest::Targets(_) | SeriesRequest::PastTargets(..), Some(_)) => Some(String::new()),
        }
    }
}
