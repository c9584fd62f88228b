//! A canary configuration of Kayenta to a policy. The semantics are those of its sources at a69573b.

use std::collections::BTreeMap;

use bellwether_core::measure::metric::{Limit, MetricKind};
use bellwether_core::time::Span;

use super::analysis::complete;
use super::convert::{ImportContext, empty_policy};
use super::draft::{CheckDraft, PolicyDraft};
use super::metric::{self, ConvertedMetric, NoMetric};
use super::note::{Field, Notes};
use super::object::{SourceObject, slug};

/// The distance of two values in Kayenta.
const STEP: Span = Span::from_secs(60);
/// The time over which the values are compared: about as many as the fifty that Kayenta's documentation asks for.
const WINDOW: Span = Span::from_secs(900);

/// Converts a configuration.
pub fn convert(config: &SourceObject, context: &mut ImportContext<'_>) -> PolicyDraft {
    let root = config.root();
    let mut notes = Notes::default();
    let application = root.at("applications").list().first().and_then(Field::text);
    let workload = application.filter(|name| *name != "ad-hoc").map_or_else(|| slug(config.name()), str::to_owned);
    let mut draft = empty_policy(config, slug(config.name()), &workload);
    if let Some(deployment) = context.deployment(&workload, &draft) {
        draft.images = deployment.images(&["spec", "template"]).collect();
        draft.replicas = deployment.replicas();
        draft.namespace = deployment.namespace().unwrap_or("*").to_owned();
    }
    notes.converted(&root.at("applications"), "match.workloads: the first one; give it its namespace");
    notes.converted(&root.at("name"), "the policy's name");
    for key in [
        "id",
        "description",
        "configVersion",
        "createdTimestamp",
        "createdTimestampIso",
        "updatedTimestamp",
        "updatedTimestampIso",
    ] {
        notes.not_needed(&root.at(key), "it decides nothing");
    }
    notes.reads_all(&root.at("judge"));
    notes.converted(&root.at("judge"), "judge = \"mann-whitney\", Kayenta's own test");
    notes.reads_all(&root.at("templates"));
    notes.converted(&root.at("templates"), "the queries of the metrics that name them");
    let scores = Scores::of(&root);
    for metric in root.at("metrics").list() {
        self::metric(&metric, &root, &scores, &mut draft, &mut notes);
    }
    notes.replaced(
        &root.below(&["classifier", "groupWeights"]),
        "on-regressed of each check",
        "no check has a weight: each decides or warns",
    );
    notes.replaced(
        &root.below(&["classifier", "scoreThresholds"]),
        "on-regressed of each check",
        "no score is computed",
    );
    notes.not_needed(&root.at("services"), "prometheus.url");
    complete(&mut draft, &mut notes);
    for text in [
        "Kayenta adds the metrics to a score, so several that fail may pass together. Here each check decides by itself, or warns.",
        "Kayenta judges all values since the beginning, one a minute, at an interval of hours or minutes. Here the same test sees the last \
         15 minutes, one value for each interval of the readings, every minute. Neither corrects for repeated looks: `judge = \
         \"sequential\"` does, for ratios and histograms.",
        "Kayenta promotes nothing, and a pipeline does. Here the usual steps do: write those of the pipeline.",
        "Kayenta compares with baseline pods that are as young as the canary's. Here the stable is the baseline, unless fresh-baseline = \
         true.",
    ] {
        notes.otherwise(text);
    }
    context.finish(config, notes);
    draft
}

/// The keys of a query of Prometheus.
const QUERY_KEYS: [&str; 8] = [
    "type",
    "serviceType",
    "metricName",
    "customInlineTemplate",
    "customFilterTemplate",
    "customFilter",
    "labelBindings",
    "groupByFields",
];

/// The weights of the groups and the thresholds.
struct Scores {
    /// The part of the score that a metric of the group has, from 0 to 100.
    parts: BTreeMap<String, f64>,
    pass: f64,
}

impl Scores {
    /// Reads the classifier. Groups without a weight share the weight that is left.
    fn of(root: &Field<'_>) -> Scores {
        let mut sizes: BTreeMap<String, u32> = BTreeMap::new();
        for metric in root.at("metrics").list() {
            for group in metric.at("groups").list().iter().filter_map(Field::text) {
                *sizes.entry(group.to_owned()).or_default() += 1;
            }
        }
        let weights = root.below(&["classifier", "groupWeights"]);
        let written: BTreeMap<&str, f64> =
            weights.entries().into_iter().filter_map(|(group, weight)| Some((group, weight.number()?))).collect();
        let total: f64 = sizes.keys().filter_map(|group| written.get(group.as_str())).sum();
        let without = sizes.keys().filter(|group| !written.contains_key(group.as_str())).count();
        let rest = (100.0 - total).max(0.0) / (without.max(1) as f64);
        let part = |(group, size): (String, u32)| {
            let weight = written.get(group.as_str()).copied().unwrap_or(rest);
            (group, weight / f64::from(size.max(1)))
        };
        let pass = root.below(&["classifier", "scoreThresholds", "pass"]).number().unwrap_or(75.0);
        Scores { parts: sizes.into_iter().map(part).collect(), pass }
    }

    /// Returns the score if this metric alone fails.
    fn without(&self, metric: &Field<'_>) -> f64 {
        let groups = metric.at("groups").list();
        let parts = groups.iter().filter_map(Field::text).filter_map(|group| self.parts.get(group));
        100.0 - parts.sum::<f64>()
    }
}

fn metric(metric: &Field<'_>, root: &Field<'_>, scores: &Scores, draft: &mut PolicyDraft, notes: &mut Notes) {
    let name = slug(metric.at("name").text().unwrap_or_default());
    let query = metric.at("query");
    notes.converted(&metric.at("name"), "the check's and the metric's name");
    notes.converted(&metric.at("groups"), "on-regressed, with the weight of the groups");
    notes.not_needed(&metric.at("scopeName"), "one scope exists: the workload");
    let analysis = metric.below(&["analysisConfigurations", "canary"]);
    settings(&analysis, &name, notes);
    let kind = query.at("type").text().or(query.at("serviceType").text()).unwrap_or_default();
    if kind != "prometheus" {
        return notes.dropped(
            &query,
            format!("{kind:?} has no Prometheus API"),
            "export the metric to Prometheus, and write a check of it",
        );
    }
    notes.reads(&query, &QUERY_KEYS);
    let text = match promql(&query, root) {
        Ok(text) => text,
        Err(why) => return notes.dropped(&query, why, "write the query as a metric by hand"),
    };
    let (why, warns) = consequence(&analysis, metric, scores);
    let directions = match analysis.at("direction").text().unwrap_or("either") {
        "increase" => vec![Limit::Max(0.0)],
        "decrease" => vec![Limit::Min(0.0)],
        _ => vec![Limit::Max(0.0), Limit::Min(0.0)],
    };
    let several = directions.len() > 1;
    for limit in directions {
        let ConvertedMetric { metric: definition, limit: of_metric, quantile, facts, .. } =
            match converted(&text, limit, &draft.workload) {
                Ok(converted) => converted,
                Err(NoMetric { why, nearest }) => {
                    notes.dropped(&query, why, nearest);
                    continue;
                }
            };
        let (side, limit) = match of_metric {
            Limit::Max(_) => ("up", Limit::Max(unused(definition.kind))),
            Limit::Min(_) => ("down", Limit::Min(0.0)),
        };
        let facts: Vec<String> = facts.into_iter().filter(|fact| !fact.starts_with("the limit")).collect();
        notes.converted(&query, format!("[metric.{name}]: {}", facts.join("; ")).trim_end_matches(": ").to_owned());
        draft.checks.push(CheckDraft {
            name: if several { format!("{name}-{side}") } else { name.clone() },
            metric_name: name.clone(),
            metric: definition,
            limit,
            quantile,
            judge: Some("mann-whitney"),
            every: Some(STEP),
            window: Some(WINDOW),
            breaches: None,
            warns,
            because: format!("{why} The judge compares with the stable and does not use the number of the limit."),
        });
    }
}

/// Returns the metric of a query. A rate of events has no values that are alike in both versions, so it stays a query.
fn converted(text: &str, limit: Limit, workload: &str) -> Result<ConvertedMetric, NoMetric> {
    let converted = metric::convert(text, limit, &[workload])?;
    if converted.metric.kind == MetricKind::Throughput {
        return metric::as_query(text, limit, "the mann-whitney judge compares values, and no numbers of events");
    }
    Ok(converted)
}

/// Returns a limit that the judge does not use.
fn unused(kind: MetricKind) -> f64 {
    match kind {
        MetricKind::Ratio => 1.0,
        MetricKind::Histogram
        | MetricKind::Drift
        | MetricKind::Throughput
        | MetricKind::Gauge
        | MetricKind::Query
        | MetricKind::Availability => 0.0,
    }
}

/// Returns the reason of the consequence as a sentence, and whether a regression only warns.
fn consequence(analysis: &Field<'_>, metric: &Field<'_>, scores: &Scores) -> (String, bool) {
    if analysis.at("muted").is_true() {
        return ("It is muted.".to_owned(), true);
    }
    if analysis.at("critical").is_true() {
        return ("It is critical.".to_owned(), false);
    }
    let (score, pass) = (scores.without(metric), scores.pass);
    if score < pass {
        (format!("If it alone fails, the score is {score:.0}, below the {pass:.0} that pass."), false)
    } else {
        (format!("If it alone fails, the score is {score:.0}, which still passes ({pass:.0})."), true)
    }
}

fn settings(analysis: &Field<'_>, name: &str, notes: &mut Notes) {
    notes.converted(&analysis.at("direction"), "max for an increase, min for a decrease, and a check for each of both");
    notes.converted(&analysis.at("critical"), "on-regressed = \"roll-back\"");
    notes.converted(&analysis.at("muted"), "on-regressed = \"warn\"");
    notes.replaced(
        &analysis.at("mustHaveData"),
        "patience.blind, for every metric",
        "on-blind = \"roll-back\" fails a version without data",
    );
    notes.dropped(
        &analysis.at("nanStrategy"),
        "a missing value is a gap, and never 0",
        "`or vector(0)` in a query whose series are missing when nothing happens",
    );
    notes.dropped(
        &analysis.at("effectSize"),
        "this judge has Kayenta's defaults",
        "judge = \"sequential\" with margin and floor, for a ratio or a histogram",
    );
    notes.dropped(
        &analysis.at("outliers"),
        "values are not taken out",
        "judge = \"sequential\", which names a pod that differs",
    );
    if !analysis.at("effectSize").is_absent() {
        notes.otherwise(format!(
            "{name} must differ by its effect size in Kayenta. Here a difference that is significant at 98 % is enough."
        ));
    }
    if analysis.at("nanStrategy").text() == Some("replace") {
        notes.otherwise(format!(
            "A missing value of {name} is 0 in Kayenta. Here it is a gap, and without values the check is `blind`."
        ));
    }
}

/// Returns the PromQL that Kayenta asks (`PrometheusMetricsService.buildQuery`), with Bellwether's parameters.
fn promql(query: &Field<'_>, root: &Field<'_>) -> Result<String, String> {
    let named = query.at("customFilterTemplate").text();
    let template = match (query.at("customInlineTemplate").text().filter(|text| !text.is_empty()), named) {
        (Some(inline), _) => Some(inline),
        (None, Some(name)) if !name.is_empty() => {
            Some(root.at("templates").at(name).text().ok_or(format!("there is no template {name:?}"))?)
        }
        _ => query.at("customFilter").text(),
    };
    let own = |text: &str| {
        text.replace("$\\{", "${").replace("${scope}", "{{workload}}").replace("${location}", "{{namespace}}")
    };
    if let Some(promql) = template.and_then(|template| template.strip_prefix("PromQL:")) {
        return Ok(own(promql));
    }
    let name = query.at("metricName").text().ok_or("it has neither a name nor a query")?;
    let bindings = query.at("labelBindings").list();
    let filters: Vec<&str> = template.into_iter().chain(bindings.iter().filter_map(Field::text)).collect();
    let grouped: Vec<&str> = query.at("groupByFields").list().iter().filter_map(Field::text).collect();
    let by = if grouped.is_empty() { String::new() } else { format!(" by ({})", grouped.join(", ")) };
    Ok(own(&format!("avg({name}{{{}}}){by}", filters.join(","))))
}
