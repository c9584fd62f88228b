//! AnalysisTemplates of Argo Rollouts to checks.

use std::collections::BTreeMap;

use bellwether_core::measure::metric::Limit;
use bellwether_core::time::Span;
use bellwether_lab::rivals::condition::Condition;
use regex::Regex;
use serde_json::Value;

use super::argo::arguments;
use super::convert::{ImportContext, empty_policy};
use super::draft::{CheckDraft, PolicyDraft, availability};
use super::metric::{self, ConvertedMetric, NoMetric};
use super::note::{Field, Notes};
use super::object::{SourceKind, SourceObject, slug};
use super::placeholder::{placeholder, replace};

/// The failures that Argo allows, unless the metric says another number.
const FAILURE_LIMIT: u32 = 0;

/// The place where a Rollout names templates.
pub struct TemplateUse<'a> {
    /// The field with `templates` and `args`.
    pub analysis: &'a Field<'a>,
    /// The policy so far.
    pub draft: &'a PolicyDraft,
    /// The names of the workload's Services.
    pub services: &'a [String],
}

/// The checks of an analysis.
#[derive(Debug, Default)]
pub struct FoundChecks {
    checks: Vec<CheckDraft>,
    /// The suites in place of Jobs and web requests.
    require: Vec<String>,
    /// The longest duration of a metric; `None` if all run without an end.
    pub length: Option<Span>,
}

impl FoundChecks {
    /// Adds the checks of another analysis that are not there yet.
    pub fn join(&mut self, more: FoundChecks) {
        for check in more.checks {
            if !self.checks.iter().any(|known| known.name == check.name && known.limit == check.limit) {
                self.checks.push(check);
            }
        }
        let new = more.require.into_iter().filter(|suite| !self.require.contains(suite)).collect::<Vec<_>>();
        self.require.extend(new);
        self.length = self.length.max(more.length);
    }

    /// Gives a policy the checks; if there is none, the readiness of its pods.
    pub fn apply(self, draft: &mut PolicyDraft, notes: &mut Notes) {
        draft.require.extend(self.require);
        draft.checks.extend(self.checks);
        complete(draft, notes);
    }
}

/// Gives checks of one name different ones, and a policy without a check one of its pods' readiness.
pub fn complete(draft: &mut PolicyDraft, notes: &mut Notes) {
    if draft.checks.is_empty() {
        notes.otherwise(
            "No metric judges the new version, so its pods' readiness is the only check: a version that answers with errors is promoted. \
             `bellwether init` finds the metrics of a workload.",
        );
        draft.checks.push(availability());
    }
    let mut known: Vec<String> = Vec::new();
    for check in &mut draft.checks {
        let (name, mut number) = (check.name.clone(), 2);
        while known.contains(&check.name) {
            check.name = format!("{name}-{number}");
            number += 1;
        }
        known.push(check.name.clone());
    }
}

/// Converts the templates that an analysis names.
pub fn checks(place: &TemplateUse<'_>, context: &mut ImportContext<'_>, notes: &mut Notes) -> FoundChecks {
    let TemplateUse { analysis, draft, services } = place;
    let mut found = FoundChecks::default();
    if analysis.is_absent() {
        return found;
    }
    let arguments = arguments(analysis, draft, services, notes);
    let dry: Vec<String> = patterns(&analysis.at("dryRun"), notes);
    notes.not_needed(&analysis.at("measurementRetention"), "decisions are kept with their numbers");
    for key in ["analysisRunMetadata", "resources"] {
        notes.not_needed(&analysis.at(key), "there is no run as an object");
    }
    for reference in analysis.at("templates").list() {
        let name = reference.at("templateName").text().unwrap_or_default();
        let Some(template) = context.find(SourceKind::AnalysisTemplate, name, Some(&draft.namespace)) else {
            let nearest = "give its file as a further FILE";
            notes.dropped(&reference, format!("the template {name:?} is in none of the files"), nearest);
            continue;
        };
        notes.reads(&reference, &["templateName", "clusterScope"]);
        notes.converted(&reference, format!("checks from {}", template.title()));
        found.join(template_checks(template, &arguments, &dry, place, context, 0));
    }
    found
}

/// Converts a template that no Rollout names to a policy for any workload of its namespace; `None` without a check.
pub fn alone(template: &SourceObject, context: &mut ImportContext<'_>) -> Option<PolicyDraft> {
    let mut draft = empty_policy(template, slug(template.name()), "*");
    let place = TemplateUse { analysis: &Field::root(&Value::Null), draft: &draft, services: &[] };
    let found = template_checks(template, &BTreeMap::new(), &[], &place, context, 0);
    if found.checks.is_empty() {
        return None;
    }
    let mut notes = Notes::default();
    notes.otherwise(
        "No Rollout names this template, so the policy has the usual steps and covers all workloads of the namespace.",
    );
    found.apply(&mut draft, &mut notes);
    context.finish(template, notes);
    Some(draft)
}

/// Returns the patterns of metrics that only run dry.
fn patterns(dry_run: &Field<'_>, notes: &mut Notes) -> Vec<String> {
    notes.converted(dry_run, "on-regressed = \"warn\"");
    dry_run.list().iter().for_each(|entry| notes.reads(entry, &["metricName"]));
    dry_run.list().iter().filter_map(|entry| entry.at("metricName").text()).map(str::to_owned).collect()
}

/// The deepest nesting of templates in templates.
const MAX_NESTED: u32 = 4;

fn template_checks(
    template: &SourceObject,
    arguments: &BTreeMap<String, String>,
    dry: &[String],
    place: &TemplateUse<'_>,
    context: &mut ImportContext<'_>,
    depth: u32,
) -> FoundChecks {
    let mut notes = Notes::default();
    let mut known = arguments.clone();
    for argument in template.root().below(&["spec", "args"]).list() {
        let Some(name) = argument.at("name").text() else { continue };
        let value = argument.at("value").text().map(str::to_owned).or_else(|| guess(name));
        let value = known.get(name).cloned().or(value);
        match value {
            Some(value) => {
                notes.reads(&argument, &["name", "value", "valueFrom"]);
                notes.converted(&argument, format!("{value} stands in the queries"));
                known.insert(name.to_owned(), value);
            }
            None => notes.dropped(&argument, "no object that was read gives it a value", "give it a default value"),
        }
    }
    let filled = fill(&template.value, &known);
    let spec = Field::root(&filled).at("spec");
    let mut dry = dry.to_vec();
    dry.extend(patterns(&spec.at("dryRun"), &mut notes));
    notes.not_needed(&spec.at("measurementRetention"), "decisions are kept with their numbers");
    let mut found = FoundChecks::default();
    for metric in spec.at("metrics").list() {
        let warns = metric.at("name").text().is_some_and(|name| dry.iter().any(|pattern| matches(pattern, name)));
        self::metric(&metric, warns, place, context, &mut found, &mut notes);
    }
    for nested in spec.at("templates").list() {
        let name = nested.at("templateName").text().unwrap_or_default();
        match context.find(SourceKind::AnalysisTemplate, name, template.namespace()) {
            Some(other) if depth < MAX_NESTED => {
                notes.reads(&nested, &["templateName", "clusterScope"]);
                notes.converted(&nested, format!("checks from {}", other.title()));
                found.join(template_checks(other, &known, &dry, place, context, depth + 1));
            }
            _ => notes.dropped(&nested, "the template is in none of the files", "give its file as a further FILE"),
        }
    }
    context.finish(template, notes);
    found
}

/// Returns the parameter that an argument without a value stands for, by its name.
fn guess(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let parameter = match name.as_str() {
        name if name.contains("namespace") || name == "ns" => "{{namespace}}",
        name if name.contains("hash") => "{{pod-hash}}",
        name if name.contains("service") || name.contains("svc") => "{{service}}",
        "app" | "app-name" | "deployment" | "name" | "rollout" | "rollout-name" | "target" | "workload" => {
            "{{workload}}"
        }
        _ => return None,
    };
    Some(parameter.to_owned())
}

/// Returns whether the whole name matches a regular expression.
fn matches(pattern: &str, name: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(name))
}

/// Replaces the arguments in all texts of a value.
fn fill(value: &Value, arguments: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(fill_text(text, arguments)),
        Value::Array(items) => Value::Array(items.iter().map(|item| fill(item, arguments)).collect()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), fill(value, arguments))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn fill_text(text: &str, arguments: &BTreeMap<String, String>) -> String {
    replace(text, |name| {
        let value = name.strip_prefix("args.").and_then(|name| arguments.get(name));
        value.cloned().unwrap_or_else(|| placeholder(name))
    })
}

fn metric(
    metric: &Field<'_>,
    warns: bool,
    place: &TemplateUse<'_>,
    context: &mut ImportContext<'_>,
    found: &mut FoundChecks,
    notes: &mut Notes,
) {
    let name = slug(metric.at("name").text().unwrap_or_default());
    notes.converted(&metric.at("name"), "the check's and the metric's name");
    let provider = metric.at("provider");
    let prometheus = provider.at("prometheus");
    if prometheus.is_absent() {
        return other_provider(&provider, metric, &name, found, notes);
    }
    access(&prometheus, context, notes);
    let Some(query) = prometheus.at("query").text() else {
        return notes.dropped(&prometheus.at("query"), "it is no text", "write PromQL");
    };
    let limits = match limits(metric, &name, notes) {
        Ok(limits) => limits,
        Err(why) => {
            notes.dropped(&prometheus.at("query"), why, "write a check of its metric with `max` or `min` by hand");
            return schedule(metric, &name, false, notes);
        }
    };
    let mut names: Vec<&str> = place.services.iter().map(String::as_str).collect();
    names.extend(
        [place.draft.workload.as_str(), place.draft.namespace.as_str()].into_iter().filter(|name| *name != "*"),
    );
    let several = limits.len() > 1;
    let mut counts = false;
    for limit in limits {
        let ConvertedMetric { metric: definition, limit, quantile, judge, facts, otherwise } =
            match metric::convert(query, limit, &names) {
                Ok(converted) => converted,
                Err(NoMetric { why, nearest }) => {
                    notes.dropped(&prometheus.at("query"), why, nearest);
                    continue;
                }
            };
        let side = match limit {
            Limit::Max(_) => "max",
            Limit::Min(_) => "min",
        };
        let mut check = CheckDraft {
            name: if several { format!("{name}-{side}") } else { name.clone() },
            metric_name: name.clone(),
            metric: definition,
            limit,
            quantile,
            judge,
            every: None,
            window: None,
            breaches: None,
            warns: warns || metric.at("failureLimit").number() == Some(-1.0),
            because: because(metric),
        };
        counts = check.is_sequential();
        if !counts {
            check.every = metric.at("interval").span().filter(|span| *span > Span::ZERO);
            let failures = metric.at("failureLimit").number().filter(|limit| *limit >= 0.0);
            check.breaches = failures.map(|limit| (limit as u32).saturating_add(1));
        }
        let kind = if check.metric.query.is_some() { "a query" } else { "counts of its series" };
        notes.converted(
            &prometheus.at("query"),
            format!("[metric.{name}], {kind}: {}", facts.join("; ")).trim_end_matches(": ").to_owned(),
        );
        otherwise.into_iter().for_each(|text| notes.otherwise(text));
        found.checks.push(check);
    }
    schedule(metric, &name, counts, notes);
    found.length = found.length.max(length(metric));
}

/// Returns the condition as a sentence.
fn because(metric: &Field<'_>) -> String {
    let condition = |key: &str| {
        metric.at(key).text().map(|text| format!("{key} {}", text.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    let conditions: Vec<String> = ["successCondition", "failureCondition"].into_iter().filter_map(condition).collect();
    format!("{}.", conditions.join(", and "))
}

/// Returns the time that a metric takes: its measurements and its delay; `None` without an end.
fn length(metric: &Field<'_>) -> Option<Span> {
    let (count, interval) = (metric.at("count").number()?, metric.at("interval").span()?);
    let delay = metric.at("initialDelay").span().unwrap_or(Span::ZERO);
    (count >= 1.0).then(|| Span::from_millis((interval.as_millis() as f64 * count) as u64 + delay.as_millis()))
}

/// Notes the keys of the server.
fn access(prometheus: &Field<'_>, context: &mut ImportContext<'_>, notes: &mut Notes) {
    let address = prometheus.at("address");
    match address.text().filter(|text| !text.is_empty() && !text.contains("{{")) {
        Some(url) => {
            context.prometheus.insert(url.to_owned());
            notes.converted(&address, "prometheus.url, one for all metrics");
        }
        None => notes.dropped(&address, "its value is not known here", "set prometheus.url"),
    }
    notes.not_needed(&prometheus.at("timeout"), "prometheus.timeout, for all queries");
    notes.dropped(&prometheus.at("insecure"), "certificates are always checked", "prometheus.ca-file");
    notes.replaced(
        &prometheus.at("headers"),
        "prometheus.headers, for all queries",
        "write those that are no secrets there",
    );
    notes.dropped(
        &prometheus.at("authentication"),
        "secrets are no part of a configuration",
        "prometheus.bearer-token-file, or username and password-file",
    );
    notes.dropped(
        &prometheus.at("rangeQuery"),
        "a query has one value at one instant",
        "a metric with counters, or avg_over_time",
    );
}

/// Returns the limits that a metric demands of its value.
fn limits(metric: &Field<'_>, name: &str, notes: &mut Notes) -> Result<Vec<Limit>, String> {
    let (success, failure) = (metric.at("successCondition"), metric.at("failureCondition"));
    let parse = |field: &Field<'_>| match field.text() {
        Some(text) => {
            text.parse::<Condition>().map(Some).map_err(|error| format!("its condition is not known here: {error}"))
        }
        None => Ok(None),
    };
    let (passes, fails) = match (parse(&success), parse(&failure)) {
        (Ok(passes), Ok(fails)) => (passes, fails),
        (Err(why), _) | (_, Err(why)) => {
            for field in [&success, &failure] {
                notes.dropped(field, why.clone(), "write a check with `max` or `min` by hand");
            }
            return Err(why);
        }
    };
    let limits = match (&passes, &fails) {
        (_, Some(fails)) => fails.limits(false),
        (Some(passes), None) => passes.limits(true),
        (None, None) => return Err("without a condition it is always successful".to_owned()),
    };
    let Some(limits) = limits.filter(|limits| !limits.is_empty()) else {
        let why = "its condition is no limit of one value";
        for field in [&success, &failure] {
            notes.dropped(field, why, "write a check with `max` or `min` by hand");
        }
        return Err(why.to_owned());
    };
    match (&passes, &fails) {
        (Some(_), Some(_)) => {
            notes.replaced(
                &success,
                "the limit is that of failureCondition",
                "a smaller limit, if the values between both matter",
            );
            notes.converted(&failure, "the check's limit");
            notes.otherwise(format!(
                "A value of {name} between both conditions is inconclusive in Argo and pauses the rollout. Here it keeps the limit."
            ));
        }
        (Some(_), None) => notes.converted(&success, "the check's limit"),
        _ => {
            notes.converted(&failure, "the check's limit");
            notes.otherwise(format!("NaN, as without any request, passes {name} in Argo. Here the check is `insufficient`, and the rollout is held."));
        }
    }
    if [&passes, &fails].into_iter().flatten().any(Condition::mentions_absence) {
        notes.otherwise(format!("Missing data passes {name} in Argo by its condition. Here the check is `blind` or `insufficient`, and the rollout is held."));
    } else if passes.is_some() && fails.is_none() {
        notes.otherwise(format!("NaN, as without any request, fails {name} in Argo. Here the check is `insufficient`, and the rollout is held."));
    }
    Ok(limits)
}

/// Notes the keys that say when and how often a metric is measured. `counts`: the sequential judge decides.
fn schedule(metric: &Field<'_>, name: &str, counts: bool, notes: &mut Notes) {
    let (interval, failures) = (metric.at("interval"), metric.at("failureLimit"));
    let limit = failures.number().unwrap_or(f64::from(FAILURE_LIMIT));
    if counts {
        notes.not_needed(&interval, "the sequential judge looks after every block (prometheus.interval)");
        notes.replaced(
            &failures,
            "the sequential judge, which rolls back on evidence and not on a number of measurements",
            "alpha, the share of good versions that may be rolled back",
        );
        if limit >= 0.0 {
            notes.otherwise(format!(
                "Argo fails {name} at {} bad {} of the whole run, however few requests each has and however far apart they are. Here the \
                 sequential judge weighs all requests since the first step, and rolls back at most 1 % of good versions (alpha).",
                limit + 1.0,
                if limit == 0.0 { "measurement" } else { "measurements" }
            ));
        }
    } else {
        notes.converted(&interval, "every");
        notes.converted(&failures, "breaches, which are consecutive");
        if limit > 0.0 {
            notes.otherwise(format!(
                "Argo counts all bad measurements of {name} in the run. Here {} in a row make a regression.",
                limit + 1.0
            ));
        }
    }
    if limit < 0.0 {
        notes.otherwise(format!("{name} can't fail in Argo (failureLimit -1). Here it warns once."));
    }
    notes.not_needed(&metric.at("count"), "min-time of the steps says how long is judged");
    notes.not_needed(&metric.at("initialDelay"), "warm-up: the requests of a cold process are counted apart");
    notes.replaced(
        &metric.at("inconclusiveLimit"),
        "patience.insufficient",
        "a number of requests decides it (min-requests)",
    );
    notes.replaced(&metric.at("consecutiveErrorLimit"), "patience.blind", "a time, in which errors roll nothing back");
    notes.dropped(&metric.at("consecutiveSuccessLimit"), "a step does not end early", "a shorter min-time");
    notes.otherwise("Errors of Prometheus in a row (five by default, 40 s) abort the rollout in Argo. Here the checks are `blind`, and the rollout is held.");
}

/// Notes a metric that no PromQL gives.
fn other_provider(provider: &Field<'_>, metric: &Field<'_>, name: &str, found: &mut FoundChecks, notes: &mut Notes) {
    for (key, field) in provider.entries() {
        match key {
            "job" | "web" => {
                notes.replaced(
                    &field,
                    format!("require = [{name:?}]: a suite that must have passed before the first traffic"),
                    "run the test in a pipeline and report it (`bellwether emit tested`, or `bellwether gate run --publish`)",
                );
                notes.otherwise(format!(
                    "{name} runs during the rollout in Argo. Here its report must be there before the first traffic."
                ));
                found.require.push(name.to_owned());
            }
            _ => notes.dropped(
                &field,
                format!("{key} is no store with Prometheus' API"),
                "export the metric to Prometheus, and write a check of it",
            ),
        }
    }
    if provider.entries().is_empty() {
        notes.dropped(provider, "it names no provider", "write a check by hand");
    }
    for key in [
        "successCondition",
        "failureCondition",
        "interval",
        "count",
        "initialDelay",
        "failureLimit",
        "inconclusiveLimit",
        "consecutiveErrorLimit",
        "consecutiveSuccessLimit",
    ] {
        notes.not_needed(&metric.at(key), "it belongs to the provider");
    }
}
