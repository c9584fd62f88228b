//! A PromQL expression with its limit to the definition of a metric with a limit of its own.
//!
//! An expression of a known shape becomes exact counts. Any other stays a query, which `threshold` judges by its value.

use bellwether_core::measure::metric::{ArmSource, HistogramUnit, Hits, Limit, Metric, MetricKind};

use super::placeholder::{placeholder, replace};
use super::promql::{self, LabelMatcher, SeriesSelector};
use super::shape::{self, Linear, Shape};
use crate::cli::proposal::percent;
use crate::config::{self, PRESETS};
use crate::sampling::promql::{literal, string};

/// Labels by which other tools select a workload or one of its versions. Bellwether selects the pods of each version itself.
const IDENTITY: [&str; 44] = [
    "app",
    "app_kubernetes_io_instance",
    "app_kubernetes_io_name",
    "application",
    "canary",
    "cluster",
    "component",
    "deployment",
    "destination_app",
    "destination_canonical_revision",
    "destination_canonical_service",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "destination_version",
    "destination_workload",
    "destination_workload_namespace",
    "env",
    "envoy_cluster_name",
    "exported_namespace",
    "exported_pod",
    "exported_service",
    "ingress",
    "instance",
    "job",
    "k8s_namespace_name",
    "k8s_pod_name",
    "kubernetes_namespace",
    "kubernetes_pod_name",
    "namespace",
    "pod",
    "pod_name",
    "pod_template_hash",
    "release",
    "reporter",
    "role",
    "rollout",
    "rollouts_pod_template_hash",
    "service",
    "service_name",
    "source_workload",
    "variant",
    "version",
    "workload",
];

/// Labels of the exporting pod other than `pod`, each with the label of its namespace.
const POD_LABELS: [[&str; 2]; 4] = [
    ["kubernetes_pod_name", "kubernetes_namespace"],
    ["k8s_pod_name", "k8s_namespace_name"],
    ["exported_pod", "exported_namespace"],
    ["pod_name", "namespace"],
];

/// The beginnings of the names of series that a gateway exports, which has no pod of the workload.
const OF_GATEWAYS: [&str; 9] =
    ["nginx_ingress_controller_", "traefik_", "envoy_", "kong_", "haproxy_", "apisix_", "skipper_", "contour_", "aws_"];

/// The parameters of Bellwether's own queries.
const PARAMETERS: [&str; 5] = ["namespace", "workload", "service", "pod-hash", "window"];

/// A metric and a limit, and everything to be said about them.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvertedMetric {
    /// The definition.
    pub metric: Metric,
    /// The limit, in the metric's own unit.
    pub limit: Limit,
    /// The quantile; `None` if it is no histogram.
    pub quantile: Option<f64>,
    /// The judge; `None` for the default of the metric's kind.
    pub judge: Option<&'static str>,
    /// Facts about the conversion, each as a sentence.
    pub facts: Vec<String>,
    /// Decisions that would differ, each as a sentence.
    pub otherwise: Vec<String>,
}

/// An expression that no metric can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoMetric {
    /// The reason, as a sentence.
    pub why: String,
    /// The nearest thing.
    pub nearest: String,
}

/// Converts an expression and a limit of its value. `names` are the workload, its Services and its namespace, by which
/// matchers are recognised that select a version.
///
/// # Errors
/// [`NoMetric`]: its series don't tell the versions apart, or it has a parameter without a value.
pub fn convert(query: &str, limit: Limit, names: &[&str]) -> Result<ConvertedMetric, NoMetric> {
    let parsed = promql::parse(query);
    let linear = parsed.as_ref().ok().and_then(shape::recognise);
    let Some(linear) = linear else {
        let why = match &parsed {
            Ok(_) => "its shape is not one that is counted".to_owned(),
            Err(error) => error.to_string(),
        };
        return as_query(query, limit, &why);
    };
    let limit_of_shape = invert(&linear, limit);
    let Counted { metric, limit, quantile, facts } = match counted(&linear.shape, limit_of_shape, names)? {
        Some(counted) => counted,
        None => return as_query(query, limit, "its shape is known, but its matchers are not those of one counter"),
    };
    let mut facts = facts;
    if linear.factor != 1.0 || linear.offset != 0.0 {
        facts.insert(0, "the limit is converted into the metric's own unit".to_owned());
    }
    let mut otherwise = vec![counted_otherwise(&metric)];
    let judge = judge_of(&metric, limit)?;
    if judge.is_some() {
        otherwise.push(
            "No evidence can show that a share is exactly 0 % or 100 %, so windows are compared with the limit."
                .to_owned(),
        );
    }
    Ok(ConvertedMetric { metric, limit, quantile, judge, facts, otherwise })
}

/// Returns the judge for a limit of a share at its edge, where the default one can't judge; `None` for the default.
///
/// # Errors
/// [`NoMetric`]: each share keeps the limit, so it checks nothing.
fn judge_of(metric: &Metric, limit: Limit) -> Result<Option<&'static str>, NoMetric> {
    if metric.kind != MetricKind::Ratio {
        return Ok(None);
    }
    match limit {
        Limit::Max(max) if max >= 1.0 => Err(keeps_each(limit)),
        Limit::Min(min) if min <= 0.0 => Err(keeps_each(limit)),
        Limit::Max(max) if max <= 0.0 => Ok(Some("threshold")),
        Limit::Min(min) if min >= 1.0 => Ok(Some("threshold")),
        Limit::Max(_) | Limit::Min(_) => Ok(None),
    }
}

fn keeps_each(limit: Limit) -> NoMetric {
    NoMetric {
        why: format!("each share keeps the limit {} {} %, so it checks nothing", limit.kept(), limit.value() * 100.0),
        nearest: "nothing is needed; write another limit if one was meant".to_owned(),
    }
}

fn counted_otherwise(metric: &Metric) -> String {
    match metric.kind {
        MetricKind::Ratio | MetricKind::Histogram => "PromQL gives one value for each look, however few requests are behind it. Here good \
             and bad requests are counted, and a look with too few of them is `insufficient` instead of a pass or a failure."
            .to_owned(),
        MetricKind::Drift | MetricKind::Throughput | MetricKind::Gauge | MetricKind::Query | MetricKind::Availability => {
            "The value is averaged over the check's window, where PromQL gives that of one instant.".to_owned()
        }
    }
}

/// Returns the limit of the shape that a limit of the expression demands.
fn invert(linear: &Linear, limit: Limit) -> Limit {
    let back = |value: f64| (value - linear.offset) / linear.factor;
    match limit {
        Limit::Max(value) if linear.factor > 0.0 => Limit::Max(back(value)),
        Limit::Max(value) => Limit::Min(back(value)),
        Limit::Min(value) if linear.factor > 0.0 => Limit::Min(back(value)),
        Limit::Min(value) => Limit::Max(back(value)),
    }
}

/// A metric of exact counts.
struct Counted {
    metric: Metric,
    limit: Limit,
    quantile: Option<f64>,
    facts: Vec<String>,
}

/// Returns the counters of a shape; `None` if they are not those of one metric.
fn counted(shape: &Shape, limit: Limit, names: &[&str]) -> Result<Option<Counted>, NoMetric> {
    let plain = |(metric, facts): (Metric, Vec<String>)| Counted { metric, limit, quantile: None, facts };
    Ok(match shape {
        Shape::Share { hits, all } => {
            let share = limit.value();
            if !(0.0..=1.0).contains(&share) {
                return Err(NoMetric {
                    why: format!("a share lies between 0 and 1, and its limit is {}", percent(share)),
                    nearest: "write a check with a limit from 0% to 100%".to_owned(),
                });
            }
            ratio(hits, all, names)?.map(plain)
        }
        Shape::Within { edge, histogram } => {
            let Limit::Min(share) = limit else { return Ok(None) };
            if !(share > 0.0 && share < 1.0) {
                return Ok(None);
            }
            let (metric, mut facts) = of_series(MetricKind::Histogram, histogram, names)?;
            facts.push(format!("{} of the requests within the edge is the quantile {share}", percent(share)));
            Some(Counted { metric, limit: Limit::Max(*edge), quantile: Some(share), facts })
        }
        Shape::Quantile { quantile, histogram } => {
            let (metric, mut facts) = of_series(MetricKind::Histogram, histogram, names)?;
            facts.push(
                "the limit must be an edge of the histogram's buckets, which `check --online` compares".to_owned(),
            );
            Some(Counted { metric, limit, quantile: Some(*quantile), facts })
        }
        // A mean is no quantile, and no count of good requests.
        Shape::Mean(_) => None,
        Shape::Rate(series) => Some(plain(of_series(MetricKind::Throughput, series, names)?)),
        Shape::Gauge(series) => Some(plain(of_series(MetricKind::Gauge, series, names)?)),
    })
}

/// Returns a ratio whose hits are told by one label, or counted by a series of their own.
fn ratio(
    hits: &SeriesSelector,
    all: &SeriesSelector,
    names: &[&str],
) -> Result<Option<(Metric, Vec<String>)>, NoMetric> {
    let own = |series: &SeriesSelector| -> Vec<LabelMatcher> {
        let own = series.matchers.iter().filter(|matcher| !selects_version(matcher, names));
        let mut own: Vec<LabelMatcher> = own.cloned().collect();
        own.sort();
        own.dedup();
        own
    };
    let (of_hits, of_all) = (own(hits), own(all));
    let more: Vec<&LabelMatcher> = of_hits.iter().filter(|matcher| !of_all.contains(matcher)).collect();
    let is_part = of_all.iter().all(|matcher| of_hits.contains(matcher));
    let found = match more.as_slice() {
        [matcher] if is_part && hits.name == all.name => {
            let value = if matcher.operator.ends_with('~') { matcher.value.clone() } else { literal(&matcher.value) };
            let (matches, not) =
                if matcher.operator.starts_with('!') { (None, Some(value)) } else { (Some(value), None) };
            Hits { label: Some(matcher.label.clone()), matches, not, series: None }
        }
        [] if is_part && hits.name != all.name => {
            Hits { label: None, matches: None, not: None, series: Some(hits.name.clone()) }
        }
        _ => return Ok(None),
    };
    let (metric, facts) = of_series(MetricKind::Ratio, all, names)?;
    Ok(Some((Metric { hits: Some(found), ..metric }, facts)))
}

/// Returns whether a matcher selects a workload or a version of it.
fn selects_version(matcher: &LabelMatcher, names: &[&str]) -> bool {
    let named =
        |name: &&str| !name.is_empty() && matcher.value.split(['|', '.', '(', ')', '*', '+']).any(|part| part == *name);
    IDENTITY.contains(&matcher.label.as_str())
        || matcher.value.contains("{{")
        || matcher.value.contains("${")
        || names.iter().any(named)
}

/// Returns the metric of a series without its hits, and the facts about it.
fn of_series(kind: MetricKind, series: &SeriesSelector, names: &[&str]) -> Result<(Metric, Vec<String>), NoMetric> {
    let mut facts = Vec::new();
    let (selecting, kept): (Vec<&LabelMatcher>, Vec<&LabelMatcher>) =
        series.matchers.iter().partition(|matcher| selects_version(matcher, names));
    let mut matching: Vec<String> =
        kept.iter().map(|matcher| format!("{}{}{}", matcher.label, matcher.operator, string(&matcher.value))).collect();
    let mut labels: Vec<&str> = selecting.iter().map(|matcher| matcher.label.as_str()).collect();
    labels.dedup();
    if !labels.is_empty() {
        facts.push(format!(
            "the matchers of {} selected the workload or a version, and Bellwether selects the pods of each version itself",
            labels.join(", ")
        ));
    }
    let unit = if kind == MetricKind::Histogram { unit_of(&series.name) } else { HistogramUnit::default() };
    let mut metric = Metric { series: Some(series.name.clone()), unit, ..Metric::of_kind(kind) };
    if series.name.starts_with("istio_") {
        let source = "reporter=\"destination\"".to_owned();
        let others = series.matchers.iter().any(|m| m.label == "reporter" && m.value != "destination");
        if others {
            facts.push("the proxy at the destination counts, since one at the source is in another pod".to_owned());
        }
        matching.insert(0, source);
    }
    if let Some([pod, namespace]) = POD_LABELS.iter().find(|[pod, _]| labels.contains(pod)) {
        metric.pod_label = Some((*pod).to_owned());
        metric.namespace_label = Some((*namespace).to_owned()).filter(|name| name != "namespace");
    } else if let Some(of_gateway) = gateway_metric(&series.name) {
        metric.arms = of_gateway.arms;
        metric.process = of_gateway.process;
        metric.targets = of_gateway.targets;
        facts.push("the gateway counts the requests: adjust `targets` to its job".to_owned());
    } else if OF_GATEWAYS.iter().any(|begin| series.name.starts_with(begin)) && !labels.contains(&"pod") {
        return Err(NoMetric {
            why: format!("{} is counted at a gateway whose Services Bellwether can't tell apart", series.name),
            nearest:
                "use a metric of the pods, as in presets = [\"otel-http\"], or of the gateway that has the HTTPRoute"
                    .to_owned(),
        });
    }
    metric.matching = Some(matching.join(", ")).filter(|matching| !matching.is_empty());
    Ok((metric, facts))
}

/// Returns the metric of a preset that reads this series at a gateway.
fn gateway_metric(series: &str) -> Option<Metric> {
    PRESETS.iter().find_map(|(preset, _)| {
        let config = config::load_text("preset", &format!("presets = [\"{preset}\"]")).ok()?;
        let is_it = |metric: &Metric| metric.series.as_deref() == Some(series) && metric.arms != ArmSource::Pods;
        config.metrics.into_values().find(is_it)
    })
}

/// Returns the unit that a histogram's name says.
fn unit_of(series: &str) -> HistogramUnit {
    match series {
        name if name.ends_with("_seconds") => HistogramUnit::Seconds,
        name if name.ends_with("_milliseconds") || name.ends_with("_ms") => HistogramUnit::Milliseconds,
        _ => HistogramUnit::Number,
    }
}

/// Returns a metric that asks the expression as it is, for the reason `why`.
///
/// # Errors
/// [`NoMetric`]: it has a parameter without a value.
pub fn as_query(query: &str, limit: Limit, why: &str) -> Result<ConvertedMetric, NoMetric> {
    let (text, unknown) = parameters(query);
    if let Some(unknown) = unknown.first() {
        return Err(NoMetric {
            why: format!("the parameter {unknown} in its query has no value here"),
            nearest: "give the object that sets it as a further FILE, or write the value into the query".to_owned(),
        });
    }
    let mut facts = vec![format!("the expression is kept as a query: {why}")];
    let tells = ["{{workload}}", "{{service}}", "{{pod-hash}}"].iter().any(|parameter| text.contains(parameter));
    if !tells {
        facts.push(
            "the query has the same value for both versions: write {{workload}}, {{service}} or {{pod-hash}} into it"
                .to_owned(),
        );
    }
    let metric = Metric { query: Some(text.trim().to_owned()), ..Metric::of_kind(MetricKind::Query) };
    let otherwise = "A query is judged by its value over the check's window, like there: without the number of requests, and without \
                     a stated rate of false alarms.";
    Ok(ConvertedMetric { judge: None, metric, limit, quantile: None, facts, otherwise: vec![otherwise.to_owned()] })
}

/// Returns a query with its parameters in Bellwether's spelling, and those that it does not have.
fn parameters(query: &str) -> (String, Vec<String>) {
    let mut unknown = Vec::new();
    let text = replace(query, |name| {
        if !PARAMETERS.contains(&name) {
            unknown.push(placeholder(name));
        }
        placeholder(name)
    });
    if let Some(at) = text.find("${") {
        let end = text[at..].find('}').map_or(text.len(), |end| at + end + 1);
        unknown.push(text[at..end].to_owned());
    }
    (text, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(query: &str, limit: Limit) -> String {
        match convert(query, limit, &["web"]) {
            Err(NoMetric { why, .. }) => format!("none: {why}"),
            Ok(ConvertedMetric { metric, limit, quantile, .. }) => {
                let shown: toml::Table = toml::from_str(&toml::to_string(&metric).unwrap()).unwrap();
                let is_default = |key: &str, value: &toml::Value| {
                    [("unit", "seconds"), ("arms", "pods")].contains(&(key, value.as_str().unwrap_or_default()))
                };
                let order =
                    ["kind", "series", "matching", "hits", "unit", "arms", "process", "targets", "pod-label", "query"];
                let written = order.iter().filter_map(|key| Some((*key, shown.get(*key)?)));
                let written = written.filter(|(key, value)| !is_default(key, value));
                let keys: Vec<String> = written.map(|(key, value)| format!("{key}={value}")).collect();
                assert!(shown.keys().all(|key| order.contains(&key.as_str())), "{shown}");
                format!("{} {limit:?}{}", keys.join(" "), quantile.map(|q| format!(" p{q}")).unwrap_or_default())
            }
        }
    }

    #[test]
    fn counters_are_taken_out_of_expressions() {
        let (max, min) = (Limit::Max, Limit::Min);
        for (query, limit, expected) in [
            (
                r#"sum(rate(http_total{job="a", code!~"5.."}[5m])) / sum(rate(http_total{job="a"}[5m]))"#,
                min(0.95),
                r#"kind="ratio" series="http_total" hits={ label = "code", not = "5.." } Min(0.95)"#,
            ),
            (
                r#"100 - sum(rate(http_total{app="{{a}}",code="500",path!="/ping"}[5m])) / sum(rate(http_total{app="{{a}}",path!="/ping"}[5m])) * 100"#,
                min(99.0),
                r#"kind="ratio" series="http_total" matching='path!="/ping"' hits={ label = "code", matches = "500" } Max(0.01)"#,
            ),
            (
                r#"sum(rate(errors_total{x="web"}[1m])) / sum(rate(calls_total{x="web"}[1m]))"#,
                max(0.5),
                r#"kind="ratio" series="calls_total" hits={ series = "errors_total" } Max(0.5)"#,
            ),
            (
                r#"histogram_quantile(0.99, sum(rate(t_seconds_bucket{pod_name=~"web-.*"}[1m])) by (le)) * 1000"#,
                max(500.0),
                r#"kind="histogram" series="t_seconds" pod-label="pod_name" Max(0.5) p0.99"#,
            ),
            (
                r#"sum(rate(t_ms_bucket{le="250"}[1m])) / sum(rate(t_ms_count[1m]))"#,
                min(0.9),
                r#"kind="histogram" series="t_ms" unit="milliseconds" Max(250.0) p0.9"#,
            ),
            (
                r#"sum(rate(istio_requests_total{reporter="source",destination_workload="x",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="source",destination_workload="x"}[1m]))"#,
                min(0.99),
                r#"kind="ratio" series="istio_requests_total" matching='reporter="destination"' hits={ label = "response_code", not = "5.*" } Min(0.99)"#,
            ),
            (
                r#"sum(rate(traefik_service_requests_total{service=~"a.*",code="500"}[1m])) / sum(rate(traefik_service_requests_total{service=~"a.*"}[1m]))"#,
                max(0.01),
                r#"kind="ratio" series="traefik_service_requests_total" hits={ label = "code", matches = "500" } arms={ service = { label = "service", value = "{{namespace}}-{{service}}-http-{{port}}@kubernetesgateway" } } process=["instance"] targets='job="traefik"' Max(0.01)"#,
            ),
            ("sum(rate(x_total[1m])) * 60", min(120.0), r#"kind="throughput" series="x_total" Min(2.0)"#),
            ("avg(queue)", max(3.0), r#"kind="gauge" series="queue" Max(3.0)"#),
            (
                r#"max(queue{pod=~"{{ workload }}-.*"})"#,
                max(3.0),
                r#"kind="query" query='max(queue{pod=~"{{workload}}-.*"})' Max(3.0)"#,
            ),
            ("max(queue{a=\"{{args.a}}\"})", max(3.0), "none: the parameter {{args.a}} in its query has no value here"),
            ("max(queue{a=\"${scope}\"})", max(3.0), "none: the parameter ${scope} in its query has no value here"),
            (
                "sum(rate(kong_x{code=\"5\"}[1m])) / sum(rate(kong_x[1m]))",
                max(0.1),
                "none: kong_x is counted at a gateway whose Services Bellwether can't tell apart",
            ),
            (
                "sum(rate(x{code=\"5\"}[1m])) / sum(rate(x[1m]))",
                min(99.0),
                "none: a share lies between 0 and 1, and its limit is 9900%",
            ),
        ] {
            assert_eq!(seen(query, limit), expected, "{query}");
        }
    }

    #[test]
    fn a_share_with_two_matchers_of_its_own_stays_a_query() {
        let query = r#"sum(rate(x{a="1",b="2"}[1m])) / sum(rate(x[1m]))"#;
        let converted = convert(query, Limit::Max(0.1), &[]).unwrap();
        assert_eq!(converted.metric.query.as_deref(), Some(query));
        assert!(converted.facts[0].contains("not those of one counter"), "{:?}", converted.facts);
        assert!(converted.facts[1].contains("same value for both versions"), "{:?}", converted.facts);
    }
}
