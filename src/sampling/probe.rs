//! The probe: tries every query of a rollout once before it has traffic.
//!
//! Without it, a metric that can't be read would be noticed only when the rollout is blind. A problem is one sentence
//! with a remedy. A finding that may only mean "no traffic yet" is a warning, because a new service must be able to
//! have its first rollout.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches one kind and treats all others alike")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::ids::Workload;
use bellwether_core::measure::metric::{ArmSource, Metric, MetricKind, Unit};
use bellwether_core::measure::watch::{ArmKey, ProbeTarget, Watch};
use bellwether_core::stats::histogram::edge_at;
use bellwether_core::time::{Span, Timestamp};

use super::native;
use super::plan::{
    BOUND, PART, SeriesRequest, class_label, families, names_service, queries, raw_query, series_requests,
};
use super::promql::{label_name, literal, selector, string};
use super::reading::hit_pattern;
use super::snapshot::parse_bound;
use crate::ports::{Metrics, MetricsError, PodDirectory, PodFacts, SeriesPoint};

/// One finding of the probe, as a sentence that begins with the name of the metric or of the scrape job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeFinding {
    /// The metric can't be measured as it is defined.
    Problem(String),
    /// The metric has no data yet, possibly because there was no traffic.
    Warning(String),
    /// Nothing is known about the metric, because the metrics store was away or gave a part of its answer.
    Unanswered(String),
}

impl ProbeFinding {
    /// Returns the sentence of a problem; `None` for another finding.
    pub fn problem(self) -> Option<String> {
        match self {
            ProbeFinding::Problem(text) => Some(text),
            ProbeFinding::Warning(_) | ProbeFinding::Unanswered(_) => None,
        }
    }
}

/// The context of one probe: a workload and the sources of its data.
pub struct ProbeRun<'a> {
    /// The metrics store that is queried.
    pub metrics: &'a dyn Metrics,
    /// The directory of the cluster's pods and Services.
    pub pods: &'a dyn PodDirectory,
    /// The workload whose metrics are tried.
    pub workload: &'a Workload,
    /// The stable of the workload, whose series are read.
    pub stable: &'a ArmKey,
    /// Value of the parameter `{{window}}` of raw queries.
    pub window: Span,
}

/// Returns the findings about all metrics, in the order of the metrics and each once.
pub async fn probe(run: &ProbeRun<'_>, metrics: &[ProbeTarget], at: Timestamp) -> Vec<ProbeFinding> {
    let mut all = Vec::new();
    for probed in metrics {
        let findings = match probed.metric.kind {
            MetricKind::Availability => Vec::new(),
            MetricKind::Query => run.probe_query(probed, at).await,
            _ => run.probe_series(probed, at).await,
        };
        for finding in findings {
            if !all.contains(&finding) {
                all.push(finding);
            }
        }
    }
    all
}

fn problem(name: &str, text: impl std::fmt::Display) -> ProbeFinding {
    ProbeFinding::Problem(format!("{name}: {text}"))
}

fn warning(name: &str, text: impl std::fmt::Display) -> ProbeFinding {
    ProbeFinding::Warning(format!("{name}: {text}"))
}

impl ProbeRun<'_> {
    /// Returns the texts of the queries that the sampler sends for a metric. A raw query that can't be filled in is
    /// left out.
    fn query_texts(&self, probed: &ProbeTarget) -> Vec<String> {
        match probed.metric.kind {
            MetricKind::Availability => Vec::new(),
            MetricKind::Query => self.stable_query(&probed.metric).into_iter().collect(),
            _ => self.series_texts(probed, |_| true),
        }
    }

    /// Returns the text of a raw query for the stable.
    fn stable_query(&self, metric: &Metric) -> Result<String, String> {
        raw_query(metric, self.workload, self.stable, self.stable, self.pods, self.window)
    }

    async fn probe_query(&self, probed: &ProbeTarget, at: Timestamp) -> Vec<ProbeFinding> {
        let name = &probed.name;
        let text = match self.stable_query(&probed.metric) {
            Ok(text) => text,
            Err(what) => return vec![problem(name, what)],
        };
        match self.metrics.instant(&text, at).await {
            Err(error) => vec![unread(name, &error)],
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

    async fn probe_series(&self, probed: &ProbeTarget, at: Timestamp) -> Vec<ProbeFinding> {
        let (name, metric) = (&probed.name, &probed.metric);
        let mut findings = Vec::new();
        if let Some(Err(what)) = metric.hits.as_ref().filter(|hits| hits.label.is_some()).map(hit_pattern) {
            findings.push(problem(name, what));
        }
        if let ArmSource::Service { value, .. } = &metric.arms
            && names_service(value)
            && self.pods.service(self.workload).is_none()
        {
            findings.push(problem(
                name,
                format!("the Service of {} is not known, and canary and stable are told apart by it", self.workload),
            ));
            return findings;
        }
        match self.sample(probed, at).await {
            Err(error) => findings.push(unread(name, &error)),
            Ok(points) if points.iter().any(|point| !point.labels.contains(PART)) => {
                findings.extend(self.probe_points(probed, &points));
            }
            // The numbers of series without their sums: there is no sum of native histograms and plain numbers.
            Ok(points) if !points.is_empty() => {
                let series = metric.series.as_deref().unwrap_or_default();
                findings.push(problem(name, format!("some of {series} are native histograms and some are not")));
            }
            Ok(_) => {
                findings.extend(self.probe_absence(probed, at).await);
                // The edges of native histograms are known before there is any data.
                findings.extend(metric.native.then(|| limit_findings(probed, &native::edges())).into_iter().flatten());
            }
        }
        findings.extend(self.probe_targets(probed, at).await);
        findings.extend(self.probe_types(probed).await);
        findings
    }

    /// Returns a problem for each counter of the metric that its exporters declare as another type. A gauge rises and
    /// falls, and every fall would be taken for a restart.
    async fn probe_types(&self, probed: &ProbeTarget) -> Vec<ProbeFinding> {
        let mut findings = Vec::new();
        for family in families(&probed.metric).into_iter().filter(|family| family.counter) {
            let series = family.series.as_str();
            // A store without metadata is no reason for a finding.
            if let Ok(Some(kind)) = self.metrics.type_of(series).await
                && matches!(kind.as_str(), "gauge" | "gaugehistogram" | "stateset" | "info")
            {
                let text = format!("{series} is a {kind}, and only counters can be compared; name a counter");
                findings.push(problem(&probed.name, text));
            }
        }
        findings
    }

    /// Returns the points of the same queries as the sampler will send.
    async fn sample(&self, probed: &ProbeTarget, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        let mut points = Vec::new();
        for text in self.series_texts(probed, |request| matches!(request, SeriesRequest::Series(..))) {
            points.extend(self.metrics.instant(&text, at).await?);
        }
        Ok(points)
    }

    /// Returns the query texts of the metric's requests that `is_wanted` selects.
    fn series_texts(&self, probed: &ProbeTarget, is_wanted: impl Fn(&SeriesRequest) -> bool) -> Vec<String> {
        let metrics = BTreeMap::from([(probed.name.clone(), probed.metric.clone())]);
        let watches = [Watch::of_stable(self.workload.clone(), metrics, self.stable.clone(), Timestamp::UNIX_EPOCH)];
        let requests = series_requests(&watches);
        let wanted = requests.iter().filter(|(request, _)| is_wanted(request));
        wanted
            .flat_map(|(request, indices)| queries(request, indices, &watches, self.pods))
            .map(|query| query.text)
            .collect()
    }

    /// Returns the findings about the labels and the form of the series.
    fn probe_points(&self, probed: &ProbeTarget, points: &[SeriesPoint]) -> Vec<ProbeFinding> {
        let (name, metric) = (&probed.name, &probed.metric);
        let series = metric.series.as_deref().unwrap_or_default();
        let has =
            |label: &str| points.iter().any(|point| point.labels.get(label).is_some_and(|value| !value.is_empty()));
        let mut findings = Vec::new();
        if let Some(text) = self.wrong_form(probed, points) {
            return vec![problem(name, text)];
        }
        if let Some(label) = class_label(metric).filter(|label| !metric.native && !has(label)) {
            findings.push(problem(name, format!("the series of {series} have no label {label:?}")));
        }
        if let Some(label) = metric.strata_label.as_deref().filter(|label| !has(label)) {
            findings.push(problem(name, format!("the series of {series} have no label {label:?} to compare them by")));
        }
        let labels @ [_, pod] = metric.pod_labels();
        if metric.arms == ArmSource::Pods && !has(pod) {
            findings.push(problem(name, without_pod_label(series, pod)));
        }
        if metric.arms == ArmSource::Pods && has(pod) && !points.iter().any(|point| self.pod(point, labels).is_some()) {
            findings.push(problem(name, format!("no label {pod:?} of {series} names a pod that the cluster knows")));
        }
        if metric.native {
            findings.extend(native_findings(probed, points));
        } else if metric.kind == MetricKind::Histogram {
            findings.extend(bucket_findings(probed, points));
        }
        findings
    }

    /// Returns the pod that the labels with a namespace and a pod's name give; `None` if the cluster knows none.
    fn pod(&self, point: &SeriesPoint, [namespace, pod]: [&str; 2]) -> Option<Arc<PodFacts>> {
        self.pods.locate(point.labels.get(namespace)?, point.labels.get(pod)?)
    }

    /// Returns a sentence if the series are native histograms and the metric's are not, or the other way round.
    fn wrong_form(&self, probed: &ProbeTarget, points: &[SeriesPoint]) -> Option<String> {
        let metric = &probed.metric;
        let series = metric.series.as_deref().unwrap_or_default();
        let mut sums = points.iter().filter(|point| !point.labels.contains(PART));
        if metric.native {
            let plain = sums.any(|point| point.native.is_none());
            return plain
                .then(|| format!("{series} has plain numbers and is not a native histogram; leave out `native`"));
        }
        let native = sums.any(|point| point.native.is_some());
        native.then(|| format!("{series} is a native histogram; read it with kind = \"histogram\" and native = true"))
    }

    /// Returns the reason why the query has found no series.
    async fn probe_absence(&self, probed: &ProbeTarget, at: Timestamp) -> Vec<ProbeFinding> {
        let (name, metric) = (&probed.name, &probed.metric);
        // Only the first family: a second one counts the hits alone, and its series may begin with the first hit.
        let Some(family) = families(metric).into_iter().next() else { return Vec::new() };
        let series = family.series.as_str();
        let labels @ [_, pod] = metric.pod_labels();
        let mut by: Vec<&str> = labels.into_iter().chain(POD_LABELS.into_iter().flatten()).collect();
        by.sort_unstable();
        by.dedup();
        let by: Vec<String> = by.into_iter().map(label_name).collect();
        let any = format!("count by ({}) ({})", by.join(", "), selector(series, &[]));
        vec![match self.metrics.instant(&any, at).await {
            Err(error) => unread(name, &error),
            Ok(points) if points.is_empty() => {
                self.probe_name(probed, series, at).await.unwrap_or_else(|error| unread(name, &error))
            }
            Ok(points) => {
                let has_pods = points.iter().any(|point| point.labels.get(pod).is_some_and(|pod| !pod.is_empty()));
                let others = POD_LABELS.into_iter().filter(|others| *others != labels);
                let is_own = |pod: Arc<PodFacts>| pod.deployment_uid == self.stable.deployment_uid;
                let mut naming =
                    others.filter(|others| points.iter().any(|it| self.pod(it, *others).is_some_and(is_own)));
                if metric.arms != ArmSource::Pods {
                    warning(name, format!("{} has no series of {series} yet", self.workload))
                } else if let Some([namespace, pod]) = naming.next() {
                    let text = format!(
                        "the pods of {series} are named by the label {pod:?}; write pod-label = {pod:?}, namespace-label = {namespace:?}"
                    );
                    problem(name, text)
                } else if !has_pods {
                    problem(name, without_pod_label(series, pod))
                } else {
                    warning(name, format!("{} has no series of {series} yet", self.workload))
                }
            }
        }]
    }

    /// Returns the finding about a name that no series has.
    async fn probe_name(
        &self,
        probed: &ProbeTarget,
        series: &str,
        at: Timestamp,
    ) -> Result<ProbeFinding, MetricsError> {
        let name = &probed.name;
        let plain = probed.metric.series.as_deref().unwrap_or_default();
        if matches!(probed.metric.kind, MetricKind::Histogram | MetricKind::Drift)
            && let Some(text) = self.other_form(plain, probed.metric.native, at).await?
        {
            return Ok(problem(name, text));
        }
        let similar = self.similar_names(series, at).await?;
        Ok(if similar.is_empty() {
            let text = format!("there is no series {series} at all; there was no traffic yet, or the name is wrong");
            warning(name, text)
        } else {
            problem(name, format!("there is no series {series}; did you mean {}?", similar.join(" or ")))
        })
    }

    /// Returns the points of a query that only explains why there is no series; none if the store refuses it, as some refuse to
    /// search all names.
    async fn explanation(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        match self.metrics.instant(query, at).await {
            Err(MetricsError::Refused(_) | MetricsError::Unreadable(_)) => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// Returns a sentence about the form in which there is data of a histogram `plain` that was not found as a native
    /// (`native`) or classic one. `None`: there is no other form either.
    async fn other_form(&self, plain: &str, native: bool, at: Timestamp) -> Result<Option<String>, MetricsError> {
        let run = |query: String| async move { self.explanation(&query, at).await };
        let classic = format!("{plain}_bucket");
        if native {
            let points = run(format!("count by (pod) ({})", selector(&classic, &[]))).await?;
            return Ok((!points.is_empty()).then(|| {
                format!("there is no native histogram {plain}, but a classic one, {classic}: leave out `native`")
            }));
        }
        let points = run(format!("count by (quantile) ({})", selector(plain, &[]))).await?;
        if points.iter().any(|point| point.labels.contains("quantile")) {
            return Ok(Some(format!(
                "{plain} is a summary, and the quantiles of several pods can't be combined; it needs a histogram"
            )));
        }
        if points.is_empty() {
            return Ok(None);
        }
        // `count` gives a number for native histograms as well; only the sum shows their form.
        let sums = run(format!("sum by (pod) ({})", selector(plain, &[]))).await?;
        Ok(Some(match sums.iter().any(|point| point.native.is_some()) {
            true => format!("{plain} is a native histogram: write native = true"),
            false => format!("{plain} has no classic buckets: there is no {classic}"),
        }))
    }

    /// Returns at most two existing names that are similar to `series`, the most similar first. Candidates contain the
    /// first five letters of its longest word.
    async fn similar_names(&self, series: &str, at: Timestamp) -> Result<Vec<String>, MetricsError> {
        let words: Vec<&str> = series.split(['_', ':', '.']).filter(|word| word.len() > 3).collect();
        let Some(longest) = words.iter().max_by_key(|word| word.len()) else { return Ok(Vec::new()) };
        let stem: String = longest.chars().take(5).collect();
        let matcher = format!("__name__=~{}", string(&format!(".*{}.*", literal(&stem))));
        let names = format!("count by (__name__) ({{{matcher}}})");
        let points = self.explanation(&names, at).await?;
        let names: BTreeSet<&str> = points.iter().filter_map(|point| point.labels.get("__name__")).collect();
        let mut similar: Vec<(f64, &str)> =
            names.into_iter().map(|name| (strsim::jaro_winkler(name, series), name)).collect();
        similar.retain(|(similarity, _)| *similarity > 0.85);
        similar.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        Ok(similar.into_iter().take(2).map(|(_, name)| name.to_owned()).collect())
    }

    /// Returns the findings about the `up` series of the metric's processes.
    async fn probe_targets(&self, probed: &ProbeTarget, at: Timestamp) -> Vec<ProbeFinding> {
        let name = &probed.name;
        let texts = self.series_texts(probed, |request| matches!(request, SeriesRequest::Targets(_)));
        if texts.is_empty() {
            let advice = "without `targets` it is not known whether the gateway is scraped; write, for example, targets = 'job=\"gateway\"'";
            return vec![warning(name, advice)];
        }
        let mut findings = Vec::new();
        for text in texts {
            match self.metrics.instant(&text, at).await {
                // The same sentence as for the series, so that it is reported once.
                Err(error) => findings.push(unread(name, &error)),
                Ok(points) if points.is_empty() => findings.push(warning(name, "no `up` series has the labels of its targets, so a scrape that fails looks like a pod that is gone")),
                Ok(_) => {}
            }
        }
        findings
    }
}

/// Returns the finding about a query without a usable answer. Only a fault of the query is a problem of the metric.
fn unread(name: &str, error: &MetricsError) -> ProbeFinding {
    let text = format!("{name}: Prometheus can't be queried: {error}");
    match error {
        MetricsError::Refused(message) => problem(name, format!("Prometheus refuses the query: {message}")),
        MetricsError::Unreadable(_) => ProbeFinding::Problem(text),
        MetricsError::Unavailable(_) | MetricsError::Partial(_) => ProbeFinding::Unanswered(text),
    }
}

/// The labels with the namespace and the name of a pod that are in use: those of Prometheus itself, those of an exporter whose
/// own labels collide with them, and those of OpenTelemetry's resources.
const POD_LABELS: [[&str; 2]; 4] = [
    ["namespace", "pod"],
    ["exported_namespace", "exported_pod"],
    ["k8s_namespace_name", "k8s_pod_name"],
    ["kubernetes_namespace", "kubernetes_pod_name"],
];

fn without_pod_label(series: &str, pod: &str) -> String {
    format!("the series of {series} have no label {pod:?}, so canary and stable can't be told apart")
}

/// Returns the findings about classic buckets: no `+Inf` bucket, or a limit between two edges.
fn bucket_findings(probed: &ProbeTarget, points: &[SeriesPoint]) -> Vec<ProbeFinding> {
    let series = probed.metric.series.as_deref().unwrap_or_default();
    let mut edges: Vec<f64> = points.iter().filter_map(|point| parse_bound(point.labels.get(BOUND)?)).collect();
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    if edges.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if edges.last() != Some(&f64::INFINITY) {
        findings.push(problem(&probed.name, format!("{series} has no +Inf bucket")));
    }
    edges.retain(|edge| edge.is_finite());
    findings.extend(limit_findings(probed, &edges));
    findings.extend(unit_finding(probed, &edges));
    findings
}

/// The upper bound of a bucket, in seconds, above which a histogram does not count seconds: no request takes a day.
const LONGEST: f64 = 86_400.0;

/// Returns a problem if a histogram whose unit is seconds has an edge of more than a day: its edges are milliseconds, and a limit
/// that happens to be one of them would be a thousandth of what is meant.
fn unit_finding(probed: &ProbeTarget, edges: &[f64]) -> Option<ProbeFinding> {
    let last = edges.last().filter(|last| probed.metric.unit() == Unit::Seconds && **last > LONGEST)?;
    let series = probed.metric.series.as_deref().unwrap_or_default();
    let text = format!("the last edge of {series} is {last}, which can't be seconds; write unit = \"milliseconds\"");
    Some(problem(&probed.name, text))
}

/// Returns the findings about native histograms: buckets that can't be counted, or a limit that is not an edge of all
/// of them.
fn native_findings(probed: &ProbeTarget, points: &[SeriesPoint]) -> Vec<ProbeFinding> {
    let mut edges = native::edges();
    for native in points.iter().filter_map(|point| point.native.as_deref()) {
        match native::cumulative(native) {
            Ok(counts) => edges.retain(|edge| counts.iter().any(|(own, _)| own == edge)),
            Err(what) => {
                let series = probed.metric.series.as_deref().unwrap_or_default();
                return vec![problem(&probed.name, format!("{series} can't be counted: {what}"))];
            }
        }
    }
    limit_findings(probed, &edges)
}

/// Returns the limits that are not among the ascending `edges`, each with the nearest edges. The limit of a drift is a
/// distance and not an edge.
fn limit_findings(probed: &ProbeTarget, edges: &[f64]) -> Vec<ProbeFinding> {
    if probed.metric.kind != MetricKind::Histogram {
        return Vec::new();
    }
    let series = probed.metric.series.as_deref().unwrap_or_default();
    let unit = probed.metric.unit();
    let misses = probed.limits.iter().filter(|limit| edge_at(edges, **limit).is_none());
    misses
        .map(|limit| {
            let below = edges.iter().rev().find(|edge| *edge < limit);
            let above = edges.iter().find(|edge| *edge > limit);
            let nearest: Vec<String> = below.into_iter().chain(above).map(|edge| unit.write(*edge)).collect();
            let nearest = match nearest.as_slice() {
                [] => "it has no edge but +Inf".to_owned(),
                [one] => format!("the nearest is {one}"),
                both => format!("the nearest are {}", both.join(" and ")),
            };
            problem(&probed.name, format!("{} is not an edge of {series}; {nearest}", unit.write(*limit)))
        })
        .collect()
}

mod joint;
mod prober;
mod timing;

pub use prober::Prober;

#[cfg(test)]
mod tests;
