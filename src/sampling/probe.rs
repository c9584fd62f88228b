//! Trying every query once, before any traffic moves: a metric that can't be read would otherwise be found out when a
//! rollout is blind. What is wrong is said in a sentence with what to do; what may only be missing because there has
//! been no traffic yet is a warning, because a new service must be able to have its first rollout.
#![expect(clippy::wildcard_enum_match_arm, reason = "asks about one kind, and leaves all others alone")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use bellwether_core::ids::Workload;
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::measure::calibration::{Calibration, Criterion, PAST};
use bellwether_core::measure::metric::{ArmSource, Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::stats::histogram::edge_at;
use bellwether_core::time::{Span, TimeRange, Timestamp};

use super::plan::{BOUND, PART, SeriesRequest, asks, class_label, families, queries};
use super::promql::{literal, selector, string};
use super::reading::pattern;
use super::snapshot::edge;
use super::{filled, grid, history, native};
use crate::clock::Clock;
use crate::ports::{Metrics, MetricsError, PodDirectory, SeriesPoint};

pub use bellwether_core::measure::watch::ProbeTarget as Wanted;

/// Tries the metrics of a rollout before it has traffic.
pub struct Prober {
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn PodDirectory>,
    clock: Arc<dyn Clock>,
    options: super::Options,
}

impl Prober {
    /// Asks `metrics`, at the instants that a sampler with the same options would.
    pub fn new(
        metrics: Arc<dyn Metrics>,
        pods: Arc<dyn PodDirectory>,
        clock: Arc<dyn Clock>,
        options: super::Options,
    ) -> Prober {
        Prober { metrics, pods, clock, options }
    }

    /// All that was found, warnings included.
    pub async fn findings(&self, workload: &Workload, stable: &ArmKey, wanted: &[Wanted]) -> Vec<ProbeFinding> {
        probe(&self.at(workload, stable), wanted, self.options.lag.before(self.clock.now())).await
    }

    fn at<'a>(&'a self, workload: &'a Workload, stable: &'a ArmKey) -> ProbeRun<'a> {
        let (metrics, pods, window) = (self.metrics.as_ref(), self.pods.as_ref(), self.options.window);
        ProbeRun { metrics, pods, workload, stable, window }
    }
}

#[async_trait]
impl crate::ports::QueryProbe for Prober {
    async fn probe(&self, workload: &Workload, stable: &ArmKey, wanted: &[Wanted], learn: &[Criterion]) -> Outcome {
        // A store that is away says nothing about the queries: they are tried again later.
        if let Err(MetricsError::Unavailable(message)) = self.metrics.instant("vector(1)", self.clock.now()).await {
            return Outcome::Failed(Failure { kind: FailureKind::Unavailable, message });
        }
        let mut problems = Vec::new();
        for finding in self.findings(workload, stable, wanted).await {
            match finding {
                ProbeFinding::Problem(problem) => problems.push(problem),
                ProbeFinding::Warning(warning) => tracing::info!(%workload, %warning, "tried the metrics"),
            }
        }
        let calibrations =
            if problems.is_empty() { self.learn(workload, stable, wanted, learn).await } else { Vec::new() };
        let probe = self.at(workload, stable);
        let queries = wanted.iter().map(|wanted| (wanted.name.clone(), probe.asked(wanted))).collect();
        Outcome::Probed { problems, calibrations, queries }
    }
}

impl Prober {
    /// What the last minutes teach of how errors cluster. What can't be read teaches nothing, and is no obstacle: the
    /// rollout learns on its way, and says that it had not been calibrated.
    async fn learn(
        &self,
        workload: &Workload,
        stable: &ArmKey,
        wanted: &[Wanted],
        learn: &[Criterion],
    ) -> Vec<Calibration> {
        // How errors cluster is told by pods alone; how requests were distributed, by whoever counts them.
        let pods_of = |wanted: &&Wanted| {
            let by_pods = wanted.metric.arms == ArmSource::Pods;
            learn.iter().any(|bad| bad.metric == wanted.name && (by_pods || bad.shape))
        };
        let metrics: BTreeMap<String, Metric> =
            wanted.iter().filter(pods_of).map(|wanted| (wanted.name.clone(), wanted.metric.clone())).collect();
        if metrics.is_empty() {
            return Vec::new();
        }
        let (_, to) = grid(self.clock.now(), self.options.interval, self.options.lag);
        let stretch = TimeRange::before(to, PAST, self.options.interval);
        let each = metrics.keys().cloned().collect();
        let watch = Watch { each, ..Watch::of_stable(workload.clone(), metrics, stable.clone(), stretch.from) };
        let blocks = history::blocks(self.metrics.clone(), self.pods.clone(), watch, stretch, self.options).await;
        Calibration::from(learn.iter().cloned(), &blocks)
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeFinding {
    /// It can't be measured like this.
    Problem(String),
    /// It may be that there was no traffic yet.
    Warning(String),
}

impl ProbeFinding {
    /// The sentence, if it is a problem.
    pub fn problem(self) -> Option<String> {
        match self {
            ProbeFinding::Problem(text) => Some(text),
            ProbeFinding::Warning(_) => None,
        }
    }
}

/// Whose metrics are tried, and where.
pub struct ProbeRun<'a> {
    /// Who is asked.
    pub metrics: &'a dyn Metrics,
    /// Who knows the pods.
    pub pods: &'a dyn PodDirectory,
    /// Whose.
    pub workload: &'a Workload,
    /// What serves now.
    pub stable: &'a ArmKey,
    /// What `{{window}}` stands for.
    pub window: Span,
}

/// All that is wrong with `wanted`, in their order.
pub async fn probe(probe: &ProbeRun<'_>, wanted: &[Wanted], at: Timestamp) -> Vec<ProbeFinding> {
    let mut found = Vec::new();
    for wanted in wanted {
        let findings = match wanted.metric.kind {
            MetricKind::Availability => Vec::new(),
            MetricKind::Query => probe.query(wanted, at).await,
            _ => probe.series(wanted, at).await,
        };
        for finding in findings {
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
    }
    found
}

fn problem(name: &str, text: impl std::fmt::Display) -> ProbeFinding {
    ProbeFinding::Problem(format!("{name}: {text}"))
}

fn warning(name: &str, text: impl std::fmt::Display) -> ProbeFinding {
    ProbeFinding::Warning(format!("{name}: {text}"))
}

impl ProbeRun<'_> {
    /// What is asked for a metric.
    fn asked(&self, wanted: &Wanted) -> Vec<String> {
        match wanted.metric.kind {
            MetricKind::Availability => Vec::new(),
            MetricKind::Query => self.filled(&wanted.metric).into_iter().collect(),
            _ => self.texts(wanted, |_| true),
        }
    }

    /// A query of the policy's own, for the stable.
    fn filled(&self, metric: &Metric) -> Result<String, String> {
        filled(metric, self.workload, self.stable, self.stable, self.pods, self.window)
    }

    async fn query(&self, wanted: &Wanted, at: Timestamp) -> Vec<ProbeFinding> {
        let name = &wanted.name;
        let text = match self.filled(&wanted.metric) {
            Ok(text) => text,
            Err(what) => return vec![problem(name, what)],
        };
        match self.metrics.instant(&text, at).await {
            Err(error) => vec![problem(name, refusal(&error))],
            Ok(points) if points.is_empty() => vec![warning(name, "the query gives nothing for the stable yet")],
            Ok(points) if points.iter().any(|point| point.native.is_some()) => {
                vec![problem(
                    name,
                    "the query gives a native histogram instead of a number; take a share or a quantile of it",
                )]
            }
            Ok(points) if points.len() > 1 => {
                vec![problem(name, format!("the query gives {} values instead of one; aggregate them", points.len()))]
            }
            Ok(_) => Vec::new(),
        }
    }

    async fn series(&self, wanted: &Wanted, at: Timestamp) -> Vec<ProbeFinding> {
        let (name, metric) = (&wanted.name, &wanted.metric);
        let mut found = Vec::new();
        if let Some(Err(what)) = metric.hits.as_ref().filter(|hits| hits.label.is_some()).map(pattern) {
            found.push(problem(name, what));
        }
        if matches!(metric.arms, ArmSource::Service { .. }) && self.pods.service(self.workload).is_none() {
            found.push(problem(
                name,
                format!("the Service of {} is not known, and the series are told apart by it", self.workload),
            ));
            return found;
        }
        match self.sample(wanted, at).await {
            Err(error) => found.push(problem(name, refusal(&error))),
            Ok(points) if points.iter().any(|point| !point.labels.contains_key(PART)) => {
                found.extend(self.shape(wanted, &points));
            }
            // So many there are, and no sum.
            Ok(points) if !points.is_empty() => {
                let series = metric.series.as_deref().unwrap_or_default();
                found.push(problem(name, format!("some of {series} are native histograms and some are not")));
            }
            Ok(_) => {
                found.extend(self.absent(wanted, at).await);
                // These edges are known before anything has been counted.
                found.extend(metric.native.then(|| limits(wanted, &native::edges())).into_iter().flatten());
            }
        }
        found.extend(self.targets(wanted, at).await);
        found.extend(self.gauges(wanted).await);
        found
    }

    /// What is not counted, although the metric counts it: a gauge rises and falls, and each fall would be taken for a
    /// restart.
    async fn gauges(&self, wanted: &Wanted) -> Vec<ProbeFinding> {
        let mut found = Vec::new();
        for family in families(&wanted.metric).into_iter().filter(|family| family.counter) {
            let series = family.series.as_str();
            // A store that does not keep what exporters say is no reason to refuse anything.
            if let Ok(Some(kind)) = self.metrics.type_of(series).await
                && matches!(kind.as_str(), "gauge" | "gaugehistogram" | "stateset" | "info")
            {
                let text =
                    format!("{series} is a {kind}, and only what counters count can be compared; name a counter");
                found.push(problem(&wanted.name, text));
            }
        }
        found
    }

    /// The answer to the very queries that the sampler will ask.
    async fn sample(&self, wanted: &Wanted, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        let mut points = Vec::new();
        for text in self.texts(wanted, |ask| matches!(ask, SeriesRequest::Series(..))) {
            points.extend(self.metrics.instant(&text, at).await?);
        }
        Ok(points)
    }

    fn texts(&self, wanted: &Wanted, which: impl Fn(&SeriesRequest) -> bool) -> Vec<String> {
        let metrics = BTreeMap::from([(wanted.name.clone(), wanted.metric.clone())]);
        let watches = [Watch::of_stable(self.workload.clone(), metrics, self.stable.clone(), Timestamp::UNIX_EPOCH)];
        let wanted = asks(&watches);
        let asked = wanted.iter().filter(|(ask, _)| which(ask));
        asked.flat_map(|(ask, who)| queries(ask, who, &watches, self.pods)).map(|query| query.text).collect()
    }

    /// What the labels of the series that are there say.
    fn shape(&self, wanted: &Wanted, points: &[SeriesPoint]) -> Vec<ProbeFinding> {
        let (name, metric) = (&wanted.name, &wanted.metric);
        let series = metric.series.as_deref().unwrap_or_default();
        let has =
            |label: &str| points.iter().any(|point| point.labels.get(label).is_some_and(|value| !value.is_empty()));
        let mut found = Vec::new();
        if let Some(kind) = self.other_form(wanted, points) {
            return vec![problem(name, kind)];
        }
        if let Some(label) = class_label(metric).filter(|label| !metric.native && !has(label)) {
            found.push(problem(name, format!("the series of {series} have no label {label:?}")));
        }
        if metric.arms == ArmSource::Pods && !has("pod") {
            found.push(problem(
                name,
                format!("the series of {series} have no label \"pod\", so canary and stable can't be told apart"),
            ));
        }
        let unknown = || {
            points.iter().filter_map(|point| self.pods.locate(point.labels.get("namespace")?, point.labels.get("pod")?))
        };
        if metric.arms == ArmSource::Pods && has("pod") && unknown().next().is_none() {
            found.push(problem(name, format!("no label \"pod\" of {series} names a pod that the cluster knows")));
        }
        if metric.native {
            found.extend(natives(wanted, points));
        } else if metric.kind == MetricKind::Histogram {
            found.extend(buckets(wanted, points));
        }
        found
    }

    /// What the series are instead of what the metric takes them for.
    fn other_form(&self, wanted: &Wanted, points: &[SeriesPoint]) -> Option<String> {
        let metric = &wanted.metric;
        let series = metric.series.as_deref().unwrap_or_default();
        let mut sums = points.iter().filter(|point| !point.labels.contains_key(PART));
        if metric.native {
            let plain = sums.any(|point| point.native.is_none());
            return plain.then(|| format!("{series} has plain numbers and is no native histogram; leave out `native`"));
        }
        let native = sums.any(|point| point.native.is_some());
        native.then(|| {
            format!(
                "{series} is a native histogram, which kind = \"histogram\" with native = true can read, and no other"
            )
        })
    }

    /// Why the query has found no series.
    async fn absent(&self, wanted: &Wanted, at: Timestamp) -> Vec<ProbeFinding> {
        let (name, metric) = (&wanted.name, &wanted.metric);
        let mut found = Vec::new();
        // The first family is what is counted; hits that are counted apart come later than the first hit.
        for family in families(metric).into_iter().take(1) {
            let series = family.series.as_str();
            let any = format!("count by (pod) ({})", selector(series, &[]));
            match self.metrics.instant(&any, at).await {
                Err(error) => found.push(problem(name, refusal(&error))),
                Ok(points) if points.is_empty() => found.push(self.unknown_name(wanted, series, at).await),
                Ok(points) => {
                    let with_pods =
                        points.iter().any(|point| point.labels.get("pod").is_some_and(|pod| !pod.is_empty()));
                    found.push(if metric.arms == ArmSource::Pods && !with_pods {
                        problem(
                            name,
                            format!(
                                "the series of {series} have no label \"pod\", so canary and stable can't be told apart"
                            ),
                        )
                    } else {
                        warning(name, format!("{} has no series of {series} yet", self.workload))
                    });
                }
            }
        }
        found
    }

    async fn unknown_name(&self, wanted: &Wanted, series: &str, at: Timestamp) -> ProbeFinding {
        let name = &wanted.name;
        let plain = wanted.metric.series.as_deref().unwrap_or_default();
        if matches!(wanted.metric.kind, MetricKind::Histogram | MetricKind::Drift)
            && let Some(form) = self.histogram_of_another_form(plain, wanted.metric.native, at).await
        {
            return problem(name, form);
        }
        match self.similar(series, at).await {
            similar if similar.is_empty() => warning(
                name,
                format!(
                    "there is no series {series} at all; nobody has been asked for anything yet, or the name is wrong"
                ),
            ),
            similar => problem(name, format!("there is no series {series}; did you mean {}?", similar.join(" or "))),
        }
    }

    /// What there is in place of the histogram that is wanted, classic or native, in a sentence.
    async fn histogram_of_another_form(&self, plain: &str, native: bool, at: Timestamp) -> Option<String> {
        let ask = |query: String| async move { self.metrics.instant(&query, at).await.unwrap_or_default() };
        let classic = format!("{plain}_bucket");
        if native {
            let points = ask(format!("count by (pod) ({})", selector(&classic, &[]))).await;
            return (!points.is_empty()).then(|| {
                format!("there is no native histogram {plain}, but a classic one, {classic}: leave out `native`")
            });
        }
        let points = ask(format!("count by (quantile) ({})", selector(plain, &[]))).await;
        if points.iter().any(|point| point.labels.contains_key("quantile")) {
            return Some(format!(
                "{plain} is a summary, and the quantiles of several pods can't be put together; it needs a histogram"
            ));
        }
        if points.is_empty() {
            return None;
        }
        // Natives have a number as well as everything else; only a sum shows what they are.
        let sums = ask(format!("sum by (pod) ({})", selector(plain, &[]))).await;
        Some(match sums.iter().any(|point| point.native.is_some()) {
            true => format!("{plain} is a native histogram: write native = true"),
            false => format!("{plain} has no classic buckets: there is no {classic}"),
        })
    }

    /// Names with a word that begins like the longest one of `series`, the likest first.
    async fn similar(&self, series: &str, at: Timestamp) -> Vec<String> {
        let words: Vec<&str> = series.split(['_', ':', '.']).filter(|word| word.len() > 3).collect();
        let Some(longest) = words.iter().max_by_key(|word| word.len()) else { return Vec::new() };
        let stem: String = longest.chars().take(5).collect();
        let matcher = format!("__name__=~{}", string(&format!(".*{}.*", literal(&stem))));
        let names = format!("count by (__name__) ({{{matcher}}})");
        let points = self.metrics.instant(&names, at).await.unwrap_or_default();
        let names: BTreeSet<&String> = points.iter().filter_map(|point| point.labels.get("__name__")).collect();
        let mut near: Vec<(f64, &String)> =
            names.into_iter().map(|name| (strsim::jaro_winkler(name, series), name)).collect();
        near.retain(|(likeness, _)| *likeness > 0.85);
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        near.into_iter().take(2).map(|(_, name)| name.clone()).collect()
    }

    /// Whether anybody can say that the processes are there.
    async fn targets(&self, wanted: &Wanted, at: Timestamp) -> Vec<ProbeFinding> {
        let name = &wanted.name;
        let texts = self.texts(wanted, |ask| matches!(ask, SeriesRequest::Targets(_)));
        if texts.is_empty() {
            let advice = "without `targets` nobody can say whether the gateway is scraped; write, for example, targets = 'job=\"gateway\"'";
            return vec![warning(name, advice)];
        }
        let mut found = Vec::new();
        for text in texts {
            match self.metrics.instant(&text, at).await {
                // The same words as for the series: it is said once.
                Err(error) => found.push(problem(name, refusal(&error))),
                Ok(points) if points.is_empty() => found.push(warning(name, "no `up` series has the labels of its targets, so a scrape that fails looks like a pod that is gone")),
                Ok(_) => {}
            }
        }
        found
    }
}

fn refusal(error: &MetricsError) -> String {
    match error {
        MetricsError::Refused(words) => format!("Prometheus refuses the query: {words}"),
        other => format!("Prometheus can't be asked: {other}"),
    }
}

/// What is wrong with the buckets: no `+Inf`, or a limit that lies between two of them.
fn buckets(wanted: &Wanted, points: &[SeriesPoint]) -> Vec<ProbeFinding> {
    let series = wanted.metric.series.as_deref().unwrap_or_default();
    let mut edges: Vec<f64> = points.iter().filter_map(|point| edge(point.labels.get(BOUND)?)).collect();
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    if edges.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    if edges.last() != Some(&f64::INFINITY) {
        found.push(problem(&wanted.name, format!("{series} has no +Inf bucket")));
    }
    edges.retain(|edge| edge.is_finite());
    found.extend(limits(wanted, &edges));
    found
}

/// The same of native histograms: buckets that can't be counted, or a limit that is an edge of not all of them.
fn natives(wanted: &Wanted, points: &[SeriesPoint]) -> Vec<ProbeFinding> {
    let mut edges = native::edges();
    for native in points.iter().filter_map(|point| point.native.as_deref()) {
        match native::cumulative(native) {
            Ok(counts) => edges.retain(|edge| counts.iter().any(|(own, _)| own == edge)),
            Err(what) => {
                let series = wanted.metric.series.as_deref().unwrap_or_default();
                return vec![problem(&wanted.name, format!("{series} can't be counted: {what}"))];
            }
        }
    }
    limits(wanted, &edges)
}

/// The limits that are no edges, with the nearest ones that are. A drift's limit is none of latency.
fn limits(wanted: &Wanted, edges: &[f64]) -> Vec<ProbeFinding> {
    if wanted.metric.kind != MetricKind::Histogram {
        return Vec::new();
    }
    let series = wanted.metric.series.as_deref().unwrap_or_default();
    let unit = wanted.metric.unit();
    let misses = wanted.limits.iter().filter(|limit| edge_at(edges, **limit).is_none());
    misses
        .map(|limit| {
            let below = edges.iter().rev().find(|edge| *edge < limit);
            let above = edges.iter().find(|edge| *edge > limit);
            let nearest: Vec<String> = below.into_iter().chain(above).map(|edge| unit.write(*edge)).collect();
            let nearest = match nearest.as_slice() {
                [] => "it has none but +Inf".to_owned(),
                [one] => format!("the nearest is {one}"),
                both => format!("the nearest are {}", both.join(" and ")),
            };
            problem(&wanted.name, format!("{} is not an edge of {series}; {nearest}", unit.write(*limit)))
        })
        .collect()
}

#[cfg(test)]
mod tests;
