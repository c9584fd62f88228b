//! The plan of a tick: from watches to requests, and from requests to PromQL.
//!
//! There is one request for each metric family, and its query serves every rollout that uses the family. So the load on
//! Prometheus grows with the number of series and not with the number of rollouts: an error rate and a throughput of
//! one counter are one query, and so are those of five hundred workloads.
//!
//! The query of a counter family asks for two numbers of each (process, class): the sum of its series, and how many
//! series the sum has. Without the second number, a series that a process stopped exporting would be hidden by the
//! increments of the others, and the difference would be a wrong total instead of a gap.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches one kind and treats all others alike")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::ids::Workload;
use bellwether_core::measure::metric::{ArmSource, Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::Span;

use super::promql::{begins_with, fill, label_name, one_of, selector};
use crate::ports::{PodDirectory, SeriesPoint};

/// The label that marks the parts of an answer besides its sums. No exporter uses it.
pub const PART: &str = "bellwether_part";

/// The value of [`PART`] for the number of series in a sum.
pub const MEMBERS: &str = "members";

/// The label with a bucket's upper bound. A native histogram has no such label and is counted as if it had one.
pub const BOUND: &str = "le";

/// The label with the scrape job.
pub const JOB: &str = "job";

/// The longest query text, in bytes; a longer one is split. Queries are posted, so the limits of URLs do not apply, but
/// VictoriaMetrics refuses one above its `-search.maxQueryLen`, which is 16 KiB by default.
const MAX_TEXT: usize = 16_000;

/// The largest number of alternatives in the selectors of one query.
const MAX_ALTERNATIVES: usize = 500;

/// A set of series that one query reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    /// The series' name, with `_bucket` for a classic histogram.
    pub series: String,
    /// Further PromQL matchers from the configuration, without braces.
    pub matching: Option<String>,
    /// The processes that export the series.
    pub source: SeriesSource,
    /// Whether the series are counters, which are subtracted; gauges are used as they are.
    pub counter: bool,
    /// Whether the series are native histograms, which hold their buckets themselves instead of in a label.
    pub native: bool,
}

/// The processes that export a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesSource {
    /// The labels whose values name a process.
    pub process: Vec<String>,
    /// PromQL matchers for the processes' `up` series.
    pub targets: Option<String>,
    /// The label with the name of the exporting pod.
    pub pod: String,
    /// The label with the namespace of the pod or of the Service. `None`: the Service's label is enough.
    pub namespace: Option<String>,
    /// The label that names an arm's Service, and the template of its value. `None`: the pod tells the arm.
    pub service: Option<(String, String)>,
}

impl SeriesSource {
    /// Returns the processes that export `metric`.
    pub fn of(metric: &Metric) -> SeriesSource {
        let mut process = metric.process_labels();
        let service = match &metric.arms {
            ArmSource::Pods => None,
            ArmSource::Service { label, value } => Some((label.clone(), value.clone())),
        };
        let [namespace, pod] = metric.pod_labels();
        if service.is_none() {
            // The pod directory finds a pod by these two labels.
            for needed in [pod, namespace] {
                if !process.iter().any(|label| label == needed) {
                    process.insert(0, needed.to_owned());
                }
            }
        }
        let (pod, namespace) = (pod.to_owned(), namespace.to_owned());
        let namespace = Some(namespace).filter(|_| service.is_none() || metric.namespace_label.is_some());
        SeriesSource { process, targets: metric.targets.clone(), pod, namespace, service }
    }

    /// Returns the namespace and the name of the pod that a process or a series belongs to, from the values of its labels; `None`
    /// if one is missing.
    pub fn pod_of<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Option<(&'a str, &'a str)> {
        Some((value(self.namespace.as_deref()?)?, value(&self.pod)?))
    }

    /// Returns the Service that a series belongs to, as in [`service_owners`], from the values of its labels. `None`: the pod
    /// tells the arm.
    pub fn owner_of<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
        let (label, _) = self.service.as_ref()?;
        let namespace = self.namespace.as_deref().map(|label| value(label).unwrap_or_default());
        Some(owner(namespace, value(label).unwrap_or_default()))
    }

    /// Returns the labels that [`SeriesSource::owner_of`] reads.
    pub fn owner_labels(&self) -> impl Iterator<Item = &str> {
        let service = self.service.as_ref().map(|(label, _)| label.as_str());
        let namespace = service.and(self.namespace.as_deref());
        service.into_iter().chain(namespace)
    }

    /// Returns the labels that [`SeriesSource::pod_of`] reads.
    pub fn pod_labels(&self) -> impl Iterator<Item = &str> {
        self.namespace.as_deref().into_iter().chain([self.pod.as_str()])
    }

    /// Returns whether the `up` series of the processes can be selected: pods by their names, a gateway by its matchers
    /// only.
    pub fn has_targets(&self) -> bool {
        self.service.is_none() || self.targets.is_some()
    }

    /// Returns the value of a process label. `None`: it is empty, or not a process label of this source.
    pub fn value<'a>(&self, process: &'a [String], label: &str) -> Option<&'a str> {
        let at = self.process.iter().position(|name| name == label)?;
        process.get(at).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Returns the families that a metric reads: its own, and the one of its hits if another series counts them.
pub fn families(metric: &Metric) -> Vec<Family> {
    let Some(series) = &metric.series else { return Vec::new() };
    let family = |series: &str, counter| Family {
        series: series.to_owned(),
        matching: metric.matching.as_deref().map(without_braces).filter(|text| !text.is_empty()),
        source: SeriesSource::of(metric),
        counter,
        native: metric.native,
    };
    match metric.kind {
        MetricKind::Ratio => {
            let hits = metric.hits.as_ref().and_then(|hits| hits.series.as_deref());
            std::iter::once(series.as_str()).chain(hits).map(|series| family(series, true)).collect()
        }
        MetricKind::Histogram | MetricKind::Drift if metric.native => vec![family(series, true)],
        MetricKind::Histogram | MetricKind::Drift => vec![family(&format!("{series}_bucket"), true)],
        MetricKind::Throughput => vec![family(series, true)],
        MetricKind::Gauge => vec![family(series, false)],
        MetricKind::Query | MetricKind::Availability => Vec::new(),
    }
}

/// Returns the label by which a metric divides its family into classes.
pub fn class_label(metric: &Metric) -> Option<&str> {
    match metric.kind {
        MetricKind::Histogram | MetricKind::Drift => Some(BOUND),
        MetricKind::Ratio => metric.hits.as_ref()?.label.as_deref(),
        _ => None,
    }
}

/// The content of one query, apart from the workloads that it is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeriesRequest {
    /// The series of a family, summed by process and by these class labels, which are in the order of their names.
    Series(Arc<Family>, Arc<[String]>),
    /// The targets of a source: whether they are up, the time of their last scrape, and the start of their process.
    Targets(SeriesSource),
    /// The time of each process's newest sample of a family, by scrape job. It shows whether series without `up`, such as pushed
    /// ones, still get samples.
    Newest(Arc<Family>),
    /// The classes of a family that existed at any time in the span.
    PastSeries(Arc<Family>, Arc<[String]>, Span),
    /// The processes of a source that were scraped at any time in the span.
    PastTargets(SeriesSource, Span),
}

impl SeriesRequest {
    /// Returns the processes that the request is about.
    pub fn source(&self) -> &SeriesSource {
        match self {
            SeriesRequest::Series(family, _)
            | SeriesRequest::PastSeries(family, ..)
            | SeriesRequest::Newest(family) => &family.source,
            SeriesRequest::Targets(source) | SeriesRequest::PastTargets(source, _) => source,
        }
    }

    /// Returns this request and, if `past` is given, the request for everything that existed in that span.
    pub fn with_past(&self, past: Option<Span>) -> Vec<SeriesRequest> {
        let past_request = match (self, past) {
            (SeriesRequest::Series(family, classes), Some(span)) => {
                Some(SeriesRequest::PastSeries(family.clone(), classes.clone(), span))
            }
            (SeriesRequest::Targets(source), Some(span)) => Some(SeriesRequest::PastTargets(source.clone(), span)),
            _ => None,
        };
        std::iter::once(self.clone()).chain(past_request).collect()
    }

    /// Returns the PromQL of this request for the workloads of `filter`.
    fn text(&self, filter: &WorkloadFilter) -> String {
        match self {
            SeriesRequest::Series(family, classes) => {
                let by = grouping_labels(family, classes);
                let series = selector(&family.series, &series_matchers(family, filter));
                let sum = format!("sum by ({by}) ({series})");
                let members = || marked(MEMBERS, &format!("count by ({by}) ({series})"));
                match (family.counter, family.native) {
                    (false, _) => sum,
                    (true, false) => format!("{sum} or {}", members()),
                    (true, true) => {
                        format!("{sum} or {} or {}", members(), marked("behind", &format!("histogram_count({series})")))
                    }
                }
            }
            SeriesRequest::PastSeries(family, classes, span) => {
                let by = grouping_labels(family, classes);
                let series = selector(&family.series, &series_matchers(family, filter));
                format!("count by ({by}) (last_over_time({series}[{}s]))", whole_seconds(*span))
            }
            SeriesRequest::Newest(family) => {
                let mut matchers = series_matchers(family, filter);
                // The buckets of a histogram have equal times.
                matchers.extend(family.series.ends_with("_bucket").then(|| format!("{BOUND}=\"+Inf\"")));
                let by = grouping_labels(family, &[JOB.to_owned()]);
                format!("max by ({by}) (timestamp({}))", selector(&family.series, &matchers))
            }
            SeriesRequest::Targets(source) => {
                let by = label_list(source.process.iter());
                let up = selector("up", &target_matchers(source, filter));
                let started = selector("process_start_time_seconds", &target_matchers(source, filter));
                format!(
                    "min by ({by}) ({up}) or {} or {}",
                    marked("scraped", &format!("max by ({by}) (timestamp({up}))")),
                    marked("started", &format!("max by ({by}) ({started})")),
                )
            }
            SeriesRequest::PastTargets(source, span) => {
                let by = label_list(source.process.iter());
                let up = selector("up", &target_matchers(source, filter));
                format!("max by ({by}) (max_over_time({up}[{}s]))", whole_seconds(*span))
            }
        }
    }
}

/// Returns `query` with the label [`PART`] on every point of its answer.
fn marked(part: &str, query: &str) -> String {
    format!("label_replace({query}, \"{PART}\", \"{part}\", \"\", \"\")")
}

fn whole_seconds(span: Span) -> u64 {
    span.as_millis().div_ceil(1000).max(1)
}

fn grouping_labels(family: &Family, classes: &[String]) -> String {
    let namespace = family.source.namespace.iter();
    let service = family.source.service.as_ref().map(|(label, _)| label).into_iter().chain(namespace);
    let classes = classes.iter().filter(|label| !(family.native && *label == BOUND));
    label_list(family.source.process.iter().chain(service).chain(classes))
}

fn label_list<'a>(labels: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in labels.map(|label| label_name(label)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

fn series_matchers(family: &Family, filter: &WorkloadFilter) -> Vec<String> {
    let mut matchers: Vec<String> = family.matching.iter().cloned().collect();
    match &family.source.service {
        Some((label, _)) => {
            matchers.extend(family.source.namespace.iter().map(|label| one_of(label, &filter.namespaces)));
            matchers.push(one_of(label, &filter.service_values));
        }
        None => matchers.extend(filter.pod_matchers(&family.source)),
    }
    matchers
}

fn target_matchers(source: &SeriesSource, filter: &WorkloadFilter) -> Vec<String> {
    let mut matchers: Vec<String> = source.targets.iter().map(|text| without_braces(text)).collect();
    if source.service.is_none() {
        matchers.extend(filter.pod_matchers(source));
    }
    matchers
}

/// Returns a list of matchers without the braces and the trailing comma that a user may have written.
fn without_braces(matchers: &str) -> String {
    let text = matchers.trim();
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    text.trim().trim_end_matches(',').to_owned()
}

/// The workloads that a query is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadFilter {
    namespaces: BTreeSet<String>,
    pod_prefixes: BTreeSet<String>,
    /// Values of the label that names an arm's Service.
    service_values: BTreeSet<String>,
}

impl WorkloadFilter {
    fn pod_matchers(&self, source: &SeriesSource) -> Vec<String> {
        let namespace = source.namespace.iter().map(|label| one_of(label, &self.namespaces));
        namespace.chain([begins_with(&source.pod, &self.pod_prefixes)]).collect()
    }

    /// Returns whether a query that is narrowed by this filter selects the series of `point`.
    pub fn selects(&self, request: &SeriesRequest, point: &SeriesPoint) -> bool {
        let source = request.source();
        let value = |label: &str| point.labels.get(label).unwrap_or_default();
        let is_in = |label: &Option<String>| label.as_ref().is_none_or(|it| self.namespaces.contains(value(it)));
        match (request, &source.service) {
            (SeriesRequest::Targets(_) | SeriesRequest::PastTargets(..), Some(_)) => true,
            (_, Some((label, _))) => is_in(&source.namespace) && self.service_values.contains(value(label)),
            (_, None) => {
                let pod = value(&source.pod);
                is_in(&source.namespace) && self.pod_prefixes.iter().any(|prefix| pod.starts_with(prefix))
            }
        }
    }

    fn alternatives(&self) -> usize {
        self.namespaces.len() + self.pod_prefixes.len() + self.service_values.len()
    }
}

/// One query and the watches that its answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromQuery {
    /// The text of the query in PromQL.
    pub text: String,
    /// Indices of the watches in the tick's list.
    pub watches: Vec<usize>,
}

/// Returns all requests of one tick, each with the ascending indices of the watches that need it.
pub fn series_requests(watches: &[Watch]) -> BTreeMap<SeriesRequest, Vec<usize>> {
    let mut classes: BTreeMap<Family, BTreeSet<String>> = BTreeMap::new();
    for metric in watches.iter().flat_map(|watch| watch.metrics.values()) {
        for (index, family) in families(metric).into_iter().enumerate() {
            // The second family counts the hits alone and has no classes.
            let label = if index == 0 { class_label(metric) } else { None };
            let labels = label.into_iter().chain(metric.strata_label.as_deref());
            classes.entry(family).or_default().extend(labels.map(str::to_owned));
        }
    }
    let series: BTreeMap<Family, SeriesRequest> = classes
        .into_iter()
        .map(|(family, classes)| {
            (family.clone(), SeriesRequest::Series(Arc::new(family), classes.into_iter().collect()))
        })
        .collect();
    let mut requests: BTreeMap<SeriesRequest, Vec<usize>> = BTreeMap::new();
    for (index, watch) in watches.iter().enumerate() {
        let needed: BTreeSet<Family> = watch.metrics.values().flat_map(families).collect();
        let sources: BTreeSet<&SeriesSource> = needed.iter().map(|family| &family.source).collect();
        for source in sources.into_iter().filter(|source| source.has_targets()) {
            requests.entry(SeriesRequest::Targets(source.clone())).or_default().push(index);
        }
        for request in needed.iter().filter_map(|family| series.get(family)) {
            requests.entry(request.clone()).or_default().push(index);
        }
    }
    requests
}

/// Returns the queries of `request` for the watches with the indices `wanted`, as few as the limits on a query allow. A
/// watch whose Service is unknown is in none of them.
pub fn queries(
    request: &SeriesRequest,
    wanted: &[usize],
    watches: &[Watch],
    pods: &dyn PodDirectory,
) -> Vec<PromQuery> {
    let own = |index: &usize| Some((*index, workload_filter(request.source(), watches.get(*index)?, pods)?));
    let filters: Vec<(usize, WorkloadFilter)> = wanted.iter().filter_map(own).collect();
    let mut rest = filters.as_slice();
    let mut queries = Vec::new();
    while !rest.is_empty() {
        let fits = |size: usize| one_query(request, &rest[..size]).is_some();
        let size = largest(rest.len(), fits);
        // A single workload is asked for whatever the length of its query.
        let text = one_query(request, &rest[..size]).unwrap_or_else(|| request.text(&union(&rest[..size])));
        queries.push(PromQuery { text, watches: rest[..size].iter().map(|(index, _)| *index).collect() });
        rest = &rest[size..];
    }
    queries
}

/// Returns the text of one query for all of these workloads; `None` if it exceeds a limit on queries.
fn one_query(request: &SeriesRequest, filters: &[(usize, WorkloadFilter)]) -> Option<String> {
    let all = union(filters);
    let text = (all.alternatives() <= MAX_ALTERNATIVES).then(|| request.text(&all))?;
    (text.len() <= MAX_TEXT).then_some(text)
}

fn union(filters: &[(usize, WorkloadFilter)]) -> WorkloadFilter {
    let mut all = WorkloadFilter::default();
    for (_, own) in filters {
        all.namespaces.extend(own.namespaces.iter().cloned());
        all.pod_prefixes.extend(own.pod_prefixes.iter().cloned());
        all.service_values.extend(own.service_values.iter().cloned());
    }
    all
}

/// Returns the largest number from 1 to `most` that `fits`, or 1 if none does. A number fits only if all smaller ones do.
fn largest(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut step) = (1, 1);
    while step > 0 {
        if good + step <= most && fits(good + step) {
            good += step;
            step *= 2;
        } else {
            step /= 2;
        }
    }
    good
}

/// Returns the filter that selects both arms of a watch. `None`: the Service of the workload is unknown.
pub fn workload_filter(source: &SeriesSource, watch: &Watch, pods: &dyn PodDirectory) -> Option<WorkloadFilter> {
    let mut filter = WorkloadFilter::default();
    if source.namespace.is_some() {
        filter.namespaces.insert(watch.workload.namespace.clone());
    }
    if source.service.is_some() {
        filter.service_values.extend(service_values(source, watch, pods)?);
        return Some(filter);
    }
    let stable = format!("{}-", watch.stable.name);
    // `web-.*` also matches `web-canary-…`, so that a canary's pods are read from their first sample on.
    let canary =
        watch.canary.iter().map(|arm: &ArmKey| format!("{}-", arm.name)).filter(|name| !name.starts_with(&stable));
    filter.pod_prefixes.extend(canary);
    filter.pod_prefixes.insert(stable);
    Some(filter)
}

/// Returns the values of a gateway's Service label for the stable's Service and the canary's, in this order. It is
/// always both: the counts that an earlier canary left in the gateway must be known before the next canary starts.
/// `None`: the source has no Service label, or the Service of the workload is unknown.
fn service_values(source: &SeriesSource, watch: &Watch, pods: &dyn PodDirectory) -> Option<[String; 2]> {
    let (_, template) = source.service.as_ref()?;
    let known = pods.service(&watch.workload);
    if known.is_none() && names_service(template) {
        return None;
    }
    let (service, port) = known.unwrap_or_default();
    let value = |service: &str, workload: &str| {
        template
            .replace("{{namespace}}", &watch.workload.namespace)
            .replace("{{workload}}", workload)
            .replace("{{service}}", service)
            .replace("{{port}}", &port.to_string())
    };
    let canary = watch.workload.canary_name();
    Some([value(&service, &watch.workload.name), value(&canary, &canary)])
}

/// Returns whether the value of a Service label can be known only with the workload's Service.
pub fn names_service(template: &str) -> bool {
    ["{{service}}", "{{port}}"].iter().any(|placeholder| template.contains(placeholder))
}

/// Returns the Services of both arms, the stable's first: the label's value, after the namespace if a second label holds it.
/// `None`: as for the values.
pub fn service_owners(source: &SeriesSource, watch: &Watch, pods: &dyn PodDirectory) -> Option<[String; 2]> {
    let namespace = source.namespace.as_ref().map(|_| watch.workload.namespace.as_str());
    Some(service_values(source, watch, pods)?.map(|value| owner(namespace, &value)))
}

fn owner(namespace: Option<&str>, value: &str) -> String {
    namespace.map_or_else(|| value.to_owned(), |namespace| format!("{namespace}/{value}"))
}

/// Returns the text of the raw query of `metric` for one arm, with its parameters filled in.
///
/// # Errors
/// A sentence about the parameter that is unknown, has no value or can't be written where it stands.
pub fn raw_query(
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
    fill(metric.query.as_deref().unwrap_or_default(), &parameters)
}

#[cfg(test)]
mod tests;
