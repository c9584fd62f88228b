//! How something is measured, in which unit people speak of it, and the limit that a check holds it against.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::seconds;

/// How to measure something. Which keys a kind takes is checked in [`Metric::problems`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metric {
    /// What sort of number it is.
    pub kind: MetricKind,
    /// The name of the counter, the histogram (without `_bucket`) or the gauge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Further PromQL matchers for the series, such as `http_route!="/healthz"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    /// For a ratio: which of the events are looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<Hits>,
    /// For a histogram: the unit of its edges.
    #[serde(default)]
    pub unit: HistogramUnit,
    /// For a histogram or a drift: whether it is a native histogram, which has one series and no `le`.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub native: bool,
    /// For `drift`: by which measure two distributions are apart.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub distance: Distance,
    /// For `drift`: from what.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub against: Against,
    /// For `query`: any PromQL, with `{{namespace}}`, `{{workload}}`, `{{service}}`, `{{pod-hash}}` and `{{window}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// How the canary's series are told from the stable's.
    #[serde(default)]
    pub arms: ArmSource,
    /// The labels that name the exporting process. Counters are never summed over processes before their differences
    /// are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<String>,
    /// PromQL matchers for the `up` series of the processes that export it, such as `job="traefik"`; by default the
    /// pods'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
}

/// What sort of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// The share of counted events that are of one kind.
    Ratio,
    /// A quantile of counted events by size.
    Histogram,
    /// How far the canary's distribution over a histogram's buckets is from another.
    Drift,
    /// Counted events per second.
    Throughput,
    /// The mean of a gauge over the arm's pods.
    Gauge,
    /// Whatever a PromQL query says.
    Query,
    /// The share of the arm's pods that are ready, from the Kubernetes API.
    Availability,
}

impl MetricKind {
    /// Whether its readings come with a number of requests.
    pub fn counts_requests(self) -> bool {
        match self {
            MetricKind::Ratio | MetricKind::Histogram | MetricKind::Drift => true,
            MetricKind::Throughput | MetricKind::Gauge | MetricKind::Query | MetricKind::Availability => false,
        }
    }
}

/// By which measure two distributions are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// The population stability index.
    #[default]
    Psi,
    /// The Jensen-Shannon distance, in nats.
    JensenShannon,
    /// The largest gap between the cumulative distributions.
    KolmogorovSmirnov,
}

/// What the canary's distribution is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// The stable's, at the same time.
    #[default]
    Stable,
    /// The stable's, in the twenty minutes before the rollout.
    Past,
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which of the counted events a ratio looks for: those whose label matches, or does not, or those that another
/// series counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hits {
    /// The label that tells them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// An anchored regular expression for the label's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// An anchored regular expression for the values that are *not* looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<String>,
    /// The series that counts them alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
}

/// The unit of a histogram's edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistogramUnit {
    /// Seconds.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// A plain number.
    Number,
}

/// How the canary's series are told from the stable's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArmSource {
    /// By the pod that exports them: its ReplicaSet says which Deployment and template it is of.
    #[default]
    Pods,
    /// By a label whose value names the arm's Service: what a gateway counts.
    Service {
        /// The label.
        label: String,
        /// Its value, with `{{namespace}}`, `{{service}}` and `{{port}}`.
        value: String,
    },
}

/// In which unit a metric's value is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A share from 0 to 1, written in percent.
    Percent,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Events per second.
    PerSecond,
    /// A plain number.
    Number,
}

impl Metric {
    /// The unit of its values and limits.
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

    /// The labels that name the exporting process: those that are written, else the pod's.
    pub fn process_labels(&self) -> Vec<String> {
        if !self.process.is_empty() {
            return self.process.clone();
        }
        match self.arms {
            ArmSource::Pods => ["namespace", "pod", "container", "instance"].map(str::to_owned).to_vec(),
            ArmSource::Service { .. } => vec!["instance".to_owned()],
        }
    }

    /// What is wrong with the definition: the key, and what to do.
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
        for (key, usual) in [("distance", is_usual(&self.distance)), ("against", is_usual(&self.against))] {
            if self.kind != MetricKind::Drift && !usual {
                problems.push((key, "this belongs to kind = \"drift\", and to no other".to_owned()));
            }
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
                "a ratio needs to know what it looks for: { label = \"code\", matches = \"5..\" } or { series = \"errors_total\" }".to_owned(),
            )),
            (Some(_), _) => problems.push(("hits", "only a ratio has hits".to_owned())),
            (None, _) => {}
        }
        problems
    }
}

impl Hits {
    fn problem(&self) -> Option<String> {
        match (&self.label, &self.matches, &self.not, &self.series) {
            (Some(_), Some(_), None, None) | (Some(_), None, Some(_), None) | (None, None, None, Some(_)) => None,
            _ => Some("write { label, matches } or { label, not } or { series }".to_owned()),
        }
    }
}

/// A limit as written: with a unit, or a bare number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawLimit {
    /// A bare number.
    Number(f64),
    /// A number with its unit.
    Text(String),
}

impl Unit {
    /// A value that was written with its unit, or as a bare number where the unit is plain.
    ///
    /// # Errors
    /// In words: what was expected.
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

    /// A value as people read it: `4.88 %`, `312 ms`, `5 s`, `10/s`.
    pub fn show(self, value: f64) -> String {
        self.put(value, digits)
    }

    /// A value as people may write it down again, with four digits: `297.3 ms`. (`stats::histogram` knows it again.)
    pub fn write(self, value: f64) -> String {
        self.put(value, four_digits)
    }

    fn put(self, value: f64, digits: impl Fn(f64) -> String) -> String {
        match self {
            Unit::Percent => format!("{} %", digits(value * 100.0)),
            Unit::Seconds if value < 1.0 => format!("{} ms", digits(value * 1000.0)),
            Unit::Seconds => format!("{} s", digits(value)),
            Unit::Milliseconds => Unit::Seconds.put(value / 1000.0, digits),
            Unit::PerSecond => format!("{}/s", digits(value)),
            Unit::Number => digits(value),
        }
    }
}

fn percent(text: &str) -> Option<f64> {
    text.strip_suffix('%')?.trim().parse::<f64>().ok().map(|number| number / 100.0)
}

/// Three significant digits below 100, whole numbers above, without trailing zeros.
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

/// Four significant digits, and whole numbers whole.
fn four_digits(value: f64) -> String {
    let before = libm::floor(libm::log10(value.abs())).clamp(-12.0, 3.0);
    decimal(value, (3.0 - before) as usize)
}

fn decimal(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The value that a check's metric may not pass, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Not above this.
    Max(f64),
    /// Not below this.
    Min(f64),
}

impl Limit {
    /// Whether `value` is on the wrong side. A value at the limit is not.
    pub fn is_broken_by(self, value: f64) -> bool {
        match self {
            Limit::Max(limit) => value > limit,
            Limit::Min(limit) => value < limit,
        }
    }

    /// The number.
    pub fn value(self) -> f64 {
        match self {
            Limit::Max(limit) | Limit::Min(limit) => limit,
        }
    }

    /// `≤` or `≥`: how a value that keeps it compares with it.
    pub fn kept(self) -> &'static str {
        match self {
            Limit::Max(_) => "≤",
            Limit::Min(_) => "≥",
        }
    }

    /// `>` or `<`: how a value that breaks it compares with it.
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
    fn a_limit_is_as_exact_as_it_is_written() {
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
    fn an_edge_that_is_written_down_is_that_edge_when_it_is_read() {
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
    fn only_a_histogram_is_native() {
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
