//! Metrics: the definition of a measurement, the unit of its values, and the limit of a check.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::seconds;

/// The definition of a measurement. [`Metric::problems`] checks which keys belong to which kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metric {
    /// The metric's kind.
    pub kind: MetricKind,
    /// The name of the counter, the histogram (without `_bucket`) or the gauge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Additional PromQL matchers for the series, such as `http_route!="/healthz"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    /// For a ratio: the events that count as hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<Hits>,
    /// For a histogram: the unit of its buckets' edges.
    #[serde(default)]
    pub unit: HistogramUnit,
    /// For a histogram or a drift: whether the series is a native histogram, which has no `le` label.
    #[serde(default, skip_serializing_if = "is_default")]
    pub native: bool,
    /// For a drift: the measure of the distance between two distributions.
    #[serde(default, skip_serializing_if = "is_default")]
    pub distance: Distance,
    /// For a drift: the distribution that the canary's is compared with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub against: Against,
    /// For a query: any PromQL, with the placeholders `{{namespace}}`, `{{workload}}`, `{{service}}`, `{{pod-hash}}`
    /// and `{{window}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The property by which the canary's series are told from the stable's.
    #[serde(default)]
    pub arms: ArmSource,
    /// The label with the name of the exporting pod; `None` for `pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_label: Option<String>,
    /// The label with the namespace: of the exporting pod (`None` for `namespace`), or of the arm's Service (`None` if the
    /// Service's label names it alone).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_label: Option<String>,
    /// The label by which a ratio or a histogram is compared apart, such as the route; `None` to compare all requests together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strata_label: Option<String>,
    /// The labels that identify the exporting process; empty for the default of [`Metric::process_labels`]. The
    /// differences of counters are taken for each process before they are summed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<String>,
    /// PromQL matchers for the `up` series of the exporting processes, such as `job="traefik"`; `None` for those of the
    /// arm's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// The share of the counted events that are hits.
    Ratio,
    /// A quantile of the sizes of the counted events.
    Histogram,
    /// The distance between the canary's distribution over a histogram's buckets and another distribution.
    Drift,
    /// Counted events per second.
    Throughput,
    /// The mean of a gauge over the arm's pods.
    Gauge,
    /// The value of a PromQL query.
    Query,
    /// The share of the arm's pods that are ready, as the Kubernetes API reports it.
    Availability,
}

impl MetricKind {
    /// Returns whether the metric's readings have a number of requests.
    pub fn counts_requests(self) -> bool {
        match self {
            MetricKind::Ratio | MetricKind::Histogram | MetricKind::Drift => true,
            MetricKind::Throughput | MetricKind::Gauge | MetricKind::Query | MetricKind::Availability => false,
        }
    }
}

/// The measure of the distance between two distributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// The population stability index, 0 or more.
    #[default]
    Psi,
    /// The Jensen-Shannon distance: the square root of the divergence in nats, 0 to √(ln 2).
    JensenShannon,
    /// The Kolmogorov-Smirnov distance: the largest difference between the cumulative distributions, 0 to 1.
    KolmogorovSmirnov,
}

/// The distribution that a drift compares the canary's with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// The stable's in the same window.
    #[default]
    Stable,
    /// The stable's in the 20 minutes before the rollout.
    Past,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The events that a ratio counts as hits: those whose label matches, those whose label does not match, or those that
/// another series counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hits {
    /// The label whose value decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// An anchored regular expression for the values of hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// An anchored regular expression for the values of events that are not hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<String>,
    /// The series that counts only the hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
}

/// The unit of a histogram's bucket edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistogramUnit {
    /// Seconds.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// No unit.
    Number,
}

/// The property by which the canary's series are told from the stable's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArmSource {
    /// The exporting pod, whose ReplicaSet belongs to a Deployment and a template.
    #[default]
    Pods,
    /// A label whose value names the arm's Service, for series that a gateway exports.
    Service {
        /// The label's name.
        label: String,
        /// The label's value, with the placeholders `{{namespace}}`, `{{workload}}`, `{{service}}` and `{{port}}`.
        value: String,
    },
}

/// The unit of a metric's values and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A share from 0 to 1, shown in percent.
    Percent,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Events per second, shown as in `10/s`.
    PerSecond,
    /// No unit.
    Number,
}

impl Metric {
    /// Returns a definition of this kind, all of whose other keys have their defaults.
    pub fn of_kind(kind: MetricKind) -> Metric {
        Metric {
            kind,
            series: None,
            matching: None,
            hits: None,
            unit: HistogramUnit::default(),
            native: false,
            distance: Distance::default(),
            against: Against::default(),
            query: None,
            arms: ArmSource::default(),
            pod_label: None,
            namespace_label: None,
            strata_label: None,
            process: Vec::new(),
            targets: None,
        }
    }

    /// Returns the unit of the metric's values and limits.
    pub fn unit(&self) -> Unit {
        match self.kind {
            MetricKind::Ratio | MetricKind::Availability => Unit::Percent,
            MetricKind::Throughput => Unit::PerSecond,
            MetricKind::Gauge | MetricKind::Query | MetricKind::Drift => Unit::Number,
            MetricKind::Histogram => match self.unit {
                HistogramUnit::Seconds => Unit::Seconds,
                HistogramUnit::Milliseconds => Unit::Milliseconds,
                HistogramUnit::Number => Unit::Number,
            },
        }
    }

    /// Returns the labels that identify the exporting process: those of the definition, else those that Prometheus sets
    /// for a pod or for a gateway's instance.
    pub fn process_labels(&self) -> Vec<String> {
        if !self.process.is_empty() {
            return self.process.clone();
        }
        match self.arms {
            ArmSource::Pods => {
                let [namespace, pod] = self.pod_labels();
                [namespace, pod, "container", "instance"].map(str::to_owned).to_vec()
            }
            ArmSource::Service { .. } => vec!["instance".to_owned()],
        }
    }

    /// Returns the labels with the namespace and the name of the exporting pod.
    pub fn pod_labels(&self) -> [&str; 2] {
        [self.namespace_label.as_deref().unwrap_or("namespace"), self.pod_label.as_deref().unwrap_or("pod")]
    }

    /// Returns the problems of the definition: the key, and a sentence with the remedy. An empty list means a valid
    /// definition.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let needs_series = match self.kind {
            MetricKind::Ratio
            | MetricKind::Histogram
            | MetricKind::Drift
            | MetricKind::Throughput
            | MetricKind::Gauge => true,
            MetricKind::Query | MetricKind::Availability => false,
        };
        if needs_series != self.series.is_some() {
            let message = if needs_series {
                "this kind of metric needs the name of its series"
            } else {
                "this kind of metric has no series"
            };
            problems.push(("series", message.to_owned()));
        }
        let buckets = matches!(self.kind, MetricKind::Histogram | MetricKind::Drift);
        if self.series.as_ref().is_some_and(|series| buckets && series.ends_with("_bucket")) {
            problems.push(("series", "name the histogram without `_bucket`".to_owned()));
        }
        for (key, unset) in [("distance", is_default(&self.distance)), ("against", is_default(&self.against))] {
            if self.kind != MetricKind::Drift && !unset {
                problems.push((key, "this belongs to kind = \"drift\", and to no other".to_owned()));
            }
        }
        if self.kind == MetricKind::Histogram {
            problems.extend(self.unit_problem().map(|message| ("unit", message)));
        }
        let has_arms = !matches!(self.kind, MetricKind::Query | MetricKind::Availability);
        if self.pod_label.is_some() && !(has_arms && self.arms == ArmSource::Pods) {
            problems.push(("pod-label", "only series with arms = \"pods\" are assigned by their pod".to_owned()));
        }
        if self.namespace_label.is_some() && !has_arms {
            problems
                .push(("namespace-label", "only series are assigned by labels; write it into the query".to_owned()));
        }
        if self.strata_label.is_some() && !matches!(self.kind, MetricKind::Ratio | MetricKind::Histogram) {
            problems.push((
                "strata-label",
                "only good and bad requests are compared by strata; use a ratio or a histogram".to_owned(),
            ));
        }
        if self.native && !buckets {
            problems.push(("native", "only kind = \"histogram\" and kind = \"drift\" have buckets".to_owned()));
        }
        if (self.kind == MetricKind::Query) != self.query.is_some() {
            problems.push(("query", "a `query` belongs to kind = \"query\", and to no other".to_owned()));
        }
        match (&self.hits, self.kind) {
            (Some(hits), MetricKind::Ratio) => problems.extend(hits.problem().map(|message| ("hits", message))),
            (None, MetricKind::Ratio) => problems.push((
                "hits",
                "a ratio needs its hits: { label = \"code\", matches = \"5..\" } or { series = \"errors_total\" }"
                    .to_owned(),
            )),
            (Some(_), _) => problems.push(("hits", "only a ratio has hits".to_owned())),
            (None, _) => {}
        }
        problems
    }

    /// Returns the problem of a histogram whose name says another unit than `unit`. A limit would then be read in the wrong one:
    /// `"500ms"` is 0.5 in seconds, which is an edge of many histograms in milliseconds.
    fn unit_problem(&self) -> Option<String> {
        let series = self.series.as_deref()?;
        let named = [("_milliseconds", "milliseconds"), ("_ms", "milliseconds"), ("_seconds", "seconds")];
        let (_, named) = named.into_iter().find(|(end, _)| series.ends_with(end))?;
        let written = match self.unit {
            HistogramUnit::Seconds => "seconds",
            HistogramUnit::Milliseconds => "milliseconds",
            HistogramUnit::Number => return None,
        };
        (named != written)
            .then(|| format!("{series} counts {named} by its name, and `unit` is {written}; write unit = \"{named}\""))
    }
}

impl Hits {
    /// Returns the problem of the definition; `None` if exactly one of the three forms is used.
    fn problem(&self) -> Option<String> {
        match (&self.label, &self.matches, &self.not, &self.series) {
            (Some(_), Some(_), None, None) | (Some(_), None, Some(_), None) | (None, None, None, Some(_)) => None,
            _ => Some("write { label, matches } or { label, not } or { series }".to_owned()),
        }
    }
}

/// A limit as it is written in the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawLimit {
    /// A number without a unit.
    Number(f64),
    /// A number with its unit.
    Text(String),
}

impl Unit {
    /// Returns the value of a limit in this unit. The limit must be written with its unit, except for [`Unit::Number`],
    /// which has none, and for [`Unit::PerSecond`], where it may be left out.
    ///
    /// # Errors
    /// A sentence with the written and the expected form.
    pub fn read(self, raw: &RawLimit) -> Result<f64, String> {
        let read = match (self, raw) {
            (Unit::Percent, RawLimit::Text(text)) => percent(text).filter(|share| (0.0..=1.0).contains(share)),
            (Unit::Seconds, RawLimit::Text(text)) => seconds(text).ok(),
            (Unit::Milliseconds, RawLimit::Text(text)) => seconds(text).ok().map(|seconds| seconds * 1000.0),
            (Unit::PerSecond, RawLimit::Text(text)) => {
                text.strip_suffix("/s").and_then(|number| number.trim().parse().ok())
            }
            (Unit::Number | Unit::PerSecond, RawLimit::Number(number)) => Some(*number),
            (Unit::Number, RawLimit::Text(_))
            | (Unit::Percent | Unit::Seconds | Unit::Milliseconds, RawLimit::Number(_)) => None,
        };
        read.filter(|value| value.is_finite()).ok_or_else(|| {
            let written = match raw {
                RawLimit::Number(number) => number.to_string(),
                RawLimit::Text(text) => format!("{text:?}"),
            };
            let expected = match self {
                Unit::Percent => "a percentage from \"0%\" to \"100%\"",
                Unit::Seconds | Unit::Milliseconds => "a length of time with its unit, as in \"500ms\" or \"5s\"",
                Unit::PerSecond => "a rate, as in \"10/s\"",
                Unit::Number => "a number without a unit",
            };
            format!("{written} is not {expected}")
        })
    }

    /// Formats a value for people, with three digits: `4.88 %`, `312 ms`, `5 s`, `10/s`.
    pub fn show(self, value: f64) -> String {
        self.format(value, digits)
    }

    /// Formats a value so that it can be used as a limit, with four digits: `297.3 ms`. `stats::histogram::edge_at`
    /// finds the bucket's edge for such a limit.
    pub fn write(self, value: f64) -> String {
        self.format(value, four_digits)
    }

    fn format(self, value: f64, digits: impl Fn(f64) -> String) -> String {
        match self {
            Unit::Percent => format!("{} %", digits(value * 100.0)),
            Unit::Seconds if value < 1.0 => format!("{} ms", digits(value * 1000.0)),
            Unit::Seconds => format!("{} s", digits(value)),
            Unit::Milliseconds => Unit::Seconds.format(value / 1000.0, digits),
            Unit::PerSecond => format!("{}/s", digits(value)),
            Unit::Number => digits(value),
        }
    }
}

fn percent(text: &str) -> Option<f64> {
    text.strip_suffix('%')?.trim().parse::<f64>().ok().map(|number| number / 100.0)
}

/// Formats a value with at most three significant digits below 100 and as a whole number above, without trailing zeros.
fn digits(value: f64) -> String {
    let size = value.abs();
    let places = match size {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 0.1 => 2,
        s if s >= 0.01 => 3,
        _ => 4,
    };
    decimal(value, places)
}

/// Formats a value with four significant digits; whole numbers keep all of their digits.
fn four_digits(value: f64) -> String {
    let before = libm::floor(libm::log10(value.abs())).clamp(-12.0, 3.0);
    decimal(value, (3.0 - before) as usize)
}

fn decimal(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The limit of a check, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The largest value that the check allows.
    Max(f64),
    /// The smallest value that the check allows.
    Min(f64),
}

impl Limit {
    /// Returns whether `value` is on the wrong side of the limit. A value that equals the limit keeps it.
    pub fn is_broken_by(self, value: f64) -> bool {
        match self {
            Limit::Max(limit) => value > limit,
            Limit::Min(limit) => value < limit,
        }
    }

    /// Returns the limit's value, in the metric's unit.
    pub fn value(self) -> f64 {
        match self {
            Limit::Max(limit) | Limit::Min(limit) => limit,
        }
    }

    /// Returns the comparator of a value that keeps the limit: `≤` or `≥`.
    pub fn kept(self) -> &'static str {
        match self {
            Limit::Max(_) => "≤",
            Limit::Min(_) => "≥",
        }
    }

    /// Returns the comparator of a value that breaks the limit: `>` or `<`.
    pub fn broken(self) -> &'static str {
        match self {
            Limit::Max(_) => ">",
            Limit::Min(_) => "<",
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MetricKind::Ratio => "ratio",
            MetricKind::Histogram => "histogram",
            MetricKind::Drift => "drift",
            MetricKind::Throughput => "throughput",
            MetricKind::Gauge => "gauge",
            MetricKind::Query => "query",
            MetricKind::Availability => "availability",
        })
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Distance::Psi => "PSI",
            Distance::JensenShannon => "Jensen-Shannon",
            Distance::KolmogorovSmirnov => "Kolmogorov-Smirnov",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram::{NativeEdges, edge_at};

    #[test]
    fn a_limit_is_read_without_loss() {
        for (unit, text, wanted) in [
            (Unit::Seconds, "500ms", 0.5),
            (Unit::Seconds, "300ms", 0.3),
            (Unit::Seconds, "2.5ms", 0.0025),
            (Unit::Seconds, "297.3 ms", 0.2973),
            (Unit::Seconds, "4.757s", 4.757),
            (Unit::Seconds, "1m30s", 90.0),
            (Unit::Milliseconds, "2.5ms", 2.5),
            (Unit::Milliseconds, "1s", 1000.0),
        ] {
            assert_eq!(unit.read(&RawLimit::Text(text.to_owned())), Ok(wanted), "{text}");
        }
        for text in ["5", "-5s", "5 apples"] {
            assert!(Unit::Seconds.read(&RawLimit::Text(text.to_owned())).is_err(), "{text}");
        }
    }

    #[test]
    fn a_written_edge_is_read_as_the_same_edge() {
        let edges = NativeEdges { schema: 2, from: -40, to: 80 }.edges().unwrap();
        for (at, edge) in edges.iter().enumerate() {
            for (unit, plain) in [(Unit::Seconds, false), (Unit::Milliseconds, false), (Unit::Number, true)] {
                let written = unit.write(*edge);
                let raw =
                    if plain { RawLimit::Number(written.parse().unwrap()) } else { RawLimit::Text(written.clone()) };
                assert_eq!(edge_at(&edges, unit.read(&raw).unwrap()), Some(at), "{written}");
            }
        }
        let written = [0.25, edges[33], 1.0, edges[49], 0.0].map(|edge| Unit::Seconds.write(edge));
        assert_eq!(written, ["250 ms", "297.3 ms", "1 s", "4.757 s", "0 ms"]);
    }

    #[test]
    fn a_unit_that_the_name_contradicts_is_refused() {
        let problem = |series: &str, unit: &str| {
            let text = format!(r#"{{ "kind": "histogram", "series": "{series}"{unit} }}"#);
            let metric: Metric = serde_json::from_str(&text).unwrap();
            metric.problems().pop().map(|(key, message)| format!("{key}: {message}"))
        };
        let milliseconds = r#", "unit": "milliseconds""#;
        assert_eq!(
            problem("istio_request_duration_milliseconds", "").unwrap(),
            "unit: istio_request_duration_milliseconds counts milliseconds by its name, and `unit` is seconds; \
             write unit = \"milliseconds\""
        );
        assert!(problem("response_latency_ms", "").is_some());
        assert!(problem("http_request_duration_seconds", milliseconds).is_some());
        for (series, unit) in [
            ("istio_request_duration_milliseconds", milliseconds),
            ("http_request_duration_seconds", ""),
            ("envoy_cluster_upstream_rq_time", milliseconds),
            ("envoy_cluster_upstream_rq_time", ""),
            ("items", r#", "unit": "number""#),
        ] {
            assert_eq!(problem(series, unit), None, "{series}");
        }
    }

    #[test]
    fn native_is_refused_for_other_kinds_than_histogram_and_drift() {
        for (kind, wanted) in [
            (r#"{ "kind": "histogram", "series": "seconds", "native": true }"#, vec![]),
            (r#"{ "kind": "drift", "series": "seconds", "native": true }"#, vec![]),
            (r#"{ "kind": "histogram", "series": "seconds_bucket", "native": true }"#, vec!["series"]),
            (r#"{ "kind": "throughput", "series": "seconds", "native": true }"#, vec!["native"]),
            (r#"{ "kind": "throughput", "series": "seconds", "native": false }"#, vec![]),
        ] {
            let metric: Metric = serde_json::from_str(kind).unwrap();
            let problems: Vec<&str> = metric.problems().into_iter().map(|(key, _)| key).collect();
            assert_eq!(problems, wanted, "{kind}");
        }
    }
}
