//! From what is watched to what is asked. One query for each metric family and tick serves every rollout that uses the
//! family, so that the load on Prometheus is that of its series and not of the rollouts: an error rate and a throughput
//! over the same counter are one question, and so are those of five hundred workloads.
//!
//! A family's query asks for two things at once: the sum of each (process, class), and of how many series it is the
//! sum. Without the second a series that a process has dropped would hide behind the others' increments, and the
//! difference would be a wrong total instead of a gap.
#![expect(clippy::wildcard_enum_match_arm, reason = "asks about one kind, and leaves all others alone")]

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::measure::metric::{ArmSource, Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::Span;

use super::promql::{begins_with, label_name, one_of, selector};
use crate::ports::PodDirectory;

/// The label that tells the parts of one answer apart; no exporter has it.
pub const PART: &str = "bellwether_part";

/// The part that says how many series there are behind a sum.
pub const MEMBERS: &str = "members";

/// The label with a bucket's upper bound. A native histogram has none, and is counted as if it had.
pub const BOUND: &str = "le";

/// A query text longer than this is cut in two: proxies and Prometheus' own form parser have limits near it.
const MAX_TEXT: usize = 8 * 1024;
/// Nor does a selector have more alternatives than this.
const MAX_ALTERNATIVES: usize = 500;

/// Series that are read together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    /// The name of the series, with `_bucket` for a classic histogram.
    pub series: String,
    /// Further matchers, as people wrote them.
    pub matching: Option<String>,
    /// Which processes export them.
    pub source: SeriesSource,
    /// Counters are differenced; gauges are taken as they are.
    pub counter: bool,
    /// They are native histograms, which have their buckets in them and no label for it.
    pub native: bool,
}

/// Which processes export a family: what `up` is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesSource {
    /// The labels that name a process.
    pub process: Vec<String>,
    /// Matchers for its `up` series.
    pub targets: Option<String>,
    /// The label that names the arm's Service, and its value's template; `None`: the arm is known by the pod.
    pub service: Option<(String, String)>,
}

impl SeriesSource {
    /// The processes that export `metric`.
    pub fn of(metric: &Metric) -> SeriesSource {
        let mut process = metric.process_labels();
        let service = match &metric.arms {
            ArmSource::Pods => None,
            ArmSource::Service { label, value } => Some((label.clone(), value.clone())),
        };
        if service.is_none() {
            // A pod is found by these two, so no process can be named without them.
            for needed in ["pod", "namespace"] {
                if !process.iter().any(|label| label == needed) {
                    process.insert(0, needed.to_owned());
                }
            }
        }
        SeriesSource { process, targets: metric.targets.clone(), service }
    }

    /// Whether there are `up` series to be asked for: a gateway's need matchers, pods are matched by their names.
    pub fn has_targets(&self) -> bool {
        self.service.is_none() || self.targets.is_some()
    }

    /// The value of `label` in a process of this source.
    pub fn value<'a>(&self, process: &'a [String], label: &str) -> Option<&'a str> {
        let at = self.process.iter().position(|name| name == label)?;
        process.get(at).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The families that a metric is read from: its own, and that of its hits where they are counted apart.
pub fn families(metric: &Metric) -> Vec<Family> {
    let Some(series) = &metric.series else { return Vec::new() };
    let family = |series: &str, counter| Family {
        series: series.to_owned(),
        matching: metric.matching.as_deref().map(trimmed).filter(|text| !text.is_empty()),
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

/// The label by which a metric divides its family into classes.
pub fn class_label(metric: &Metric) -> Option<&str> {
    match metric.kind {
        MetricKind::Histogram | MetricKind::Drift => Some(BOUND),
        MetricKind::Ratio => metric.hits.as_ref()?.label.as_deref(),
        _ => None,
    }
}

/// What one query asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeriesRequest {
    /// The series of a family, divided by these labels.
    Series(Family, BTreeSet<String>),
    /// Which processes are scraped, when they last were, and when they started.
    Targets(SeriesSource),
    /// Which series of a family there have been at any time in the span.
    PastSeries(Family, BTreeSet<String>, Span),
    /// Which processes have been scraped at any time in the span.
    PastTargets(SeriesSource, Span),
}

impl SeriesRequest {
    /// The processes that it is about.
    pub fn source(&self) -> &SeriesSource {
        match self {
            SeriesRequest::Series(family, _) | SeriesRequest::PastSeries(family, ..) => &family.source,
            SeriesRequest::Targets(source) | SeriesRequest::PastTargets(source, _) => source,
        }
    }

    /// What must be asked to have a beginning for it, with what there has been in `past` where nothing is remembered.
    pub fn again(&self, past: Option<Span>) -> Vec<SeriesRequest> {
        let before = match (self, past) {
            (SeriesRequest::Series(family, classes), Some(span)) => {
                Some(SeriesRequest::PastSeries(family.clone(), classes.clone(), span))
            }
            (SeriesRequest::Targets(source), Some(span)) => Some(SeriesRequest::PastTargets(source.clone(), span)),
            _ => None,
        };
        std::iter::once(self.clone()).chain(before).collect()
    }

    /// The PromQL, for the workloads of `filter`.
    fn text(&self, filter: &Filter) -> String {
        match self {
            SeriesRequest::Series(family, classes) => {
                let by = grouping(family, classes);
                let series = selector(&family.series, &matchers(family, filter));
                let sum = format!("sum by ({by}) ({series})");
                let members = || part(MEMBERS, &format!("count by ({by}) ({series})"));
                match (family.counter, family.native) {
                    (false, _) => sum,
                    (true, false) => format!("{sum} or {}", members()),
                    (true, true) => {
                        format!("{sum} or {} or {}", members(), part("behind", &format!("histogram_count({series})")))
                    }
                }
            }
            SeriesRequest::PastSeries(family, classes, span) => {
                let by = grouping(family, classes);
                let series = selector(&family.series, &matchers(family, filter));
                format!("count by ({by}) (last_over_time({series}[{}s]))", seconds(*span))
            }
            SeriesRequest::Targets(source) => {
                let by = list(source.process.iter());
                let up = selector("up", &target_matchers(source, filter));
                let started = selector("process_start_time_seconds", &target_matchers(source, filter));
                format!(
                    "min by ({by}) ({up}) or {} or {}",
                    part("scraped", &format!("max by ({by}) (timestamp({up}))")),
                    part("started", &format!("max by ({by}) ({started})")),
                )
            }
            SeriesRequest::PastTargets(source, span) => {
                let by = list(source.process.iter());
                let up = selector("up", &target_matchers(source, filter));
                format!("max by ({by}) (max_over_time({up}[{}s]))", seconds(*span))
            }
        }
    }
}

fn part(name: &str, query: &str) -> String {
    format!("label_replace({query}, \"{PART}\", \"{name}\", \"\", \"\")")
}

fn seconds(span: Span) -> u64 {
    span.as_millis().div_ceil(1000).max(1)
}

fn grouping(family: &Family, classes: &BTreeSet<String>) -> String {
    let owner = family.source.service.as_ref().map(|(label, _)| label);
    let classes = classes.iter().filter(|label| !(family.native && *label == BOUND));
    list(family.source.process.iter().chain(owner).chain(classes))
}

fn list<'a>(labels: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in labels.map(|label| label_name(label)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

fn matchers(family: &Family, filter: &Filter) -> Vec<String> {
    let mut matchers: Vec<String> = family.matching.iter().cloned().collect();
    match &family.source.service {
        Some((label, _)) => matchers.push(one_of(label, &filter.values)),
        None => matchers.extend(filter.pods()),
    }
    matchers
}

fn target_matchers(source: &SeriesSource, filter: &Filter) -> Vec<String> {
    let mut matchers: Vec<String> = source.targets.iter().map(|text| trimmed(text)).collect();
    if source.service.is_none() {
        matchers.extend(filter.pods());
    }
    matchers
}

/// People end a list of matchers with a comma, or put it in braces, as they are used to.
fn trimmed(matchers: &str) -> String {
    let text = matchers.trim();
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    text.trim().trim_end_matches(',').to_owned()
}

/// The workloads that a query is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    namespaces: BTreeSet<String>,
    names: BTreeSet<String>,
    values: BTreeSet<String>,
}

impl Filter {
    fn pods(&self) -> Vec<String> {
        vec![one_of("namespace", &self.namespaces), begins_with("pod", &self.names)]
    }

    fn with(&self, other: &Filter) -> Filter {
        Filter {
            namespaces: &self.namespaces | &other.namespaces,
            names: &self.names | &other.names,
            values: &self.values | &other.values,
        }
    }

    fn alternatives(&self) -> usize {
        self.namespaces.len() + self.names.len() + self.values.len()
    }
}

/// One query, and the watches (by their index) that its answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromQuery {
    /// The PromQL.
    pub text: String,
    /// For whom.
    pub watches: Vec<usize>,
}

/// Everything that one tick asks for, by question: which watches need it.
pub fn asks(watches: &[Watch]) -> BTreeMap<SeriesRequest, Vec<usize>> {
    let mut classes: BTreeMap<Family, BTreeSet<String>> = BTreeMap::new();
    for metric in watches.iter().flat_map(|watch| watch.metrics.values()) {
        for (index, family) in families(metric).into_iter().enumerate() {
            // The second family is that of hits which are counted apart: it has no classes.
            let label = if index == 0 { class_label(metric) } else { None };
            classes.entry(family).or_default().extend(label.map(str::to_owned));
        }
    }
    let mut asks: BTreeMap<SeriesRequest, Vec<usize>> = BTreeMap::new();
    for (index, watch) in watches.iter().enumerate() {
        let wanted: BTreeSet<Family> = watch.metrics.values().flat_map(families).collect();
        let sources: BTreeSet<&SeriesSource> = wanted.iter().map(|family| &family.source).collect();
        for source in sources.into_iter().filter(|source| source.has_targets()) {
            asks.entry(SeriesRequest::Targets(source.clone())).or_default().push(index);
        }
        for family in wanted {
            let classes = classes.get(&family).cloned().unwrap_or_default();
            asks.entry(SeriesRequest::Series(family, classes)).or_default().push(index);
        }
    }
    asks
}

/// The queries that put `ask` for `wanted`, each short enough to be sent. A watch whose Service is not known has none.
pub fn queries(ask: &SeriesRequest, wanted: &[usize], watches: &[Watch], pods: &dyn PodDirectory) -> Vec<PromQuery> {
    let mut queries = Vec::new();
    let mut open: Option<(Filter, Vec<usize>)> = None;
    for &index in wanted {
        let Some(own) = watches.get(index).and_then(|watch| filter(ask.source(), watch, pods)) else { continue };
        open = Some(match open.take() {
            None => (own, vec![index]),
            Some((filter, mut members)) => {
                let both = filter.with(&own);
                if both.alternatives() <= MAX_ALTERNATIVES && ask.text(&both).len() <= MAX_TEXT {
                    members.push(index);
                    (both, members)
                } else {
                    queries.push(PromQuery { text: ask.text(&filter), watches: members });
                    (own, vec![index])
                }
            }
        });
    }
    queries.extend(open.map(|(filter, watches)| PromQuery { text: ask.text(&filter), watches }));
    queries
}

fn filter(source: &SeriesSource, watch: &Watch, pods: &dyn PodDirectory) -> Option<Filter> {
    let mut filter = Filter::default();
    if source.service.is_some() {
        let [stable, canary] = service_values(source, watch, pods)?;
        filter.values.extend([stable, canary]);
        return Some(filter);
    }
    filter.namespaces.insert(watch.workload.namespace.clone());
    let stable = format!("{}-", watch.stable.name);
    // `web-.*` covers `web-canary-.*`, so that a canary which appears later has been looked for all along.
    let canary =
        watch.canary.iter().map(|arm: &ArmKey| format!("{}-", arm.name)).filter(|name| !name.starts_with(&stable));
    filter.names.extend(canary);
    filter.names.insert(stable);
    Some(filter)
}

/// The values of a gateway's label for the stable's Service and the canary's; always both, so that what an earlier
/// canary left in the gateway's counters is known when the next one comes.
pub fn service_values(source: &SeriesSource, watch: &Watch, pods: &dyn PodDirectory) -> Option<[String; 2]> {
    let (_, template) = source.service.as_ref()?;
    let (service, port) = pods.service(&watch.workload)?;
    let value = |service: &str| {
        template
            .replace("{{namespace}}", &watch.workload.namespace)
            .replace("{{service}}", service)
            .replace("{{port}}", &port.to_string())
    };
    Some([value(&service), value(&watch.workload.canary_name())])
}

#[cfg(test)]
mod tests;
