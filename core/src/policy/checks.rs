//! The validation of a policy's checks: the judge, the limit, and settings that exclude each other.

use std::collections::BTreeMap;

use super::problems::Problems;
use crate::judge::check::{Check, OnRegressed, RawCheck};
use crate::judge::judges::JudgeKind;
use crate::judge::rule::Target;
use crate::judge::windowed::WindowRule;
use crate::measure::metric::{Against, Limit, Metric, MetricKind, RawLimit};

/// Validates a list of checks, reports their problems in `problems`, and returns the checks that could be read.
pub(super) fn checked(raw: &[RawCheck], metrics: &BTreeMap<String, Metric>, problems: &mut Problems) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        problems.within(&index.to_string(), |problems| {
            let Some(check) = one_check(raw, metrics, problems) else { return };
            if checks.iter().any(|other| other.name == check.name) {
                problems.add(&["name"], format!("there are two checks {:?}; give this one another name", check.name));
            }
            checks.push(check);
        });
    }
    checks
}

/// Validates one check. `None` if a problem, which is reported in `problems`, prevents it.
pub(super) fn one_check(raw: &RawCheck, metrics: &BTreeMap<String, Metric>, problems: &mut Problems) -> Option<Check> {
    // A window that can't be used is a problem for any judge.
    for (key, message) in WindowRule::read(&raw.settings()).err().into_iter().flatten() {
        problems.add(&[key], message);
    }
    let metric = metrics.get(&raw.metric);
    let is_quantile = metric.is_none_or(|metric| metric.kind == MetricKind::Histogram);
    if is_quantile && !(raw.quantile > 0.0 && raw.quantile < 1.0) {
        problems.add(&["quantile"], format!("{} is no quantile, which lies between 0 and 1, as in 0.95", raw.quantile));
    }
    match (&raw.max, &raw.min) {
        (None, None) => problems.add(&["max"], "a check needs a limit: `max` or `min`"),
        (Some(_), Some(_)) => {
            problems.add(&["min"], "a check has one limit, `max` or `min`; write a second check for the other");
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if metric.is_none() {
        problems.add(&["metric"], no_metric(&raw.metric, metrics));
    }
    let limit = metric.and_then(|metric| limit_of(raw, metric, problems));
    let default = || metric.zip(limit).map(|(metric, limit)| default_judge(metric.kind, limit));
    let kind = raw.judge.or_else(default);
    if let Some(kind) = kind {
        refuse_settings_of_another(raw, kind, problems);
    }
    let (metric, limit, kind) = (metric?, limit?, kind?);
    let target = Target { limit, metric, quantile: raw.quantile };
    let judge = kind.read(&raw.settings(), target).map_err(|found| {
        let reported = |key: &str| WINDOW_KEYS.contains(&key);
        found.into_iter().filter(|(key, _)| !reported(key)).for_each(|(key, message)| problems.add(&[key], message));
    });
    Some(Check {
        name: raw.name.clone().unwrap_or_else(|| raw.metric.clone()),
        metric: raw.metric.clone(),
        limit,
        quantile: raw.quantile,
        // A gauge or a query counts no requests, so a minimum number of them makes no sense.
        min_requests: if metric.kind.counts_requests() { raw.min_requests } else { 0 },
        warns: match raw.on_regressed {
            Some(on_regressed) => on_regressed == OnRegressed::Warn,
            None => metric.kind == MetricKind::Drift,
        },
        judge: judge.ok()?,
    })
}

/// Returns the message about the name of a metric that is not defined.
pub(super) fn no_metric(name: &str, metrics: &BTreeMap<String, Metric>) -> String {
    let known: Vec<&str> = metrics.keys().map(String::as_str).collect();
    let remedy = match known.as_slice() {
        [] => format!("name a preset, as in presets = [\"otel-http\"], or define it as [metric.{name}]"),
        known => format!("there are {}", known.join(", ")),
    };
    format!("there is no metric {name:?}; {remedy}")
}

/// Reads the limit of a check; `None` if it has not exactly one, or if its text is no number of the metric's unit, which is reported.
fn limit_of(raw: &RawCheck, metric: &Metric, problems: &mut Problems) -> Option<Limit> {
    match (&raw.max, &raw.min) {
        (Some(max), None) => read_limit(max, "max", metric, problems).map(Limit::Max),
        (None, Some(_)) if metric.kind == MetricKind::Drift => {
            problems.add(&["min"], "a drift is a distance, of which only a large one is bad; write `max`");
            None
        }
        (None, Some(min)) => read_limit(min, "min", metric, problems).map(Limit::Min),
        (None, None) | (Some(_), Some(_)) => None,
    }
}

/// The keys whose problems are reported for any judge.
const WINDOW_KEYS: [&str; 2] = ["breaches", "window"];

/// Returns the default judge: `sequential` if good and bad requests can be counted, else `threshold`.
pub(super) fn default_judge(kind: MetricKind, limit: Limit) -> JudgeKind {
    match (kind, limit) {
        (MetricKind::Ratio, _) | (MetricKind::Histogram, Limit::Max(_)) => JudgeKind::Sequential,
        (
            MetricKind::Histogram
            | MetricKind::Drift
            | MetricKind::Throughput
            | MetricKind::Gauge
            | MetricKind::Query
            | MetricKind::Availability,
            _,
        ) => JudgeKind::Threshold,
    }
}

/// Reports each setting that the check's judge does not use, because it is a mistake.
pub(super) fn refuse_settings_of_another(raw: &RawCheck, judge: JudgeKind, problems: &mut Problems) {
    for key in raw.settings().written().filter(|key| !judge.keys().contains(key)) {
        let other =
            JudgeKind::ALL.iter().find(|other| other.keys().contains(&key)).map_or("another", |kind| kind.name());
        problems.add(&[key], format!("only the {other} judge uses this; leave it out, or set judge = \"{other}\""));
    }
}

/// Reports each check whose judge needs a stable with traffic. `why` is the reason that there is none.
pub(super) fn refuse_comparing_judges(checks: &[RawCheck], why: &str, problems: &mut Problems) {
    let remedy = format!("{why}, so there is nothing to compare with; set judge = \"threshold\"");
    refuse(checks, "judge", |check| check.judge.is_some_and(JudgeKind::needs_stable), &remedy, problems);
}

/// Reports each check of a drift from the stable, which needs a stable with traffic. `why` is the reason that there is none.
pub(super) fn refuse_drift(
    checks: &[RawCheck],
    metrics: &BTreeMap<String, Metric>,
    why: &str,
    problems: &mut Problems,
) {
    let needs_stable = |check: &RawCheck| {
        let metric = metrics.get(&check.metric);
        metric.is_some_and(|metric| metric.kind == MetricKind::Drift && metric.against == Against::Stable)
    };
    let remedy = format!("{why}, so there is nothing to drift from; give the metric against = \"past\"");
    refuse(checks, "metric", needs_stable, &remedy, problems);
}

/// Reports `message` at `key` of each check for which `has` is true, because the key is not allowed there.
pub(super) fn refuse(
    checks: &[RawCheck],
    key: &str,
    has: impl Fn(&RawCheck) -> bool,
    message: &str,
    problems: &mut Problems,
) {
    for (index, _) in checks.iter().enumerate().filter(|(_, check)| has(check)) {
        problems.add(&["check", &index.to_string(), key], message);
    }
}

/// Reads a limit in the metric's unit. `None` if it is no number of that unit, which is reported in `problems`.
pub(super) fn read_limit(raw: &RawLimit, key: &str, metric: &Metric, problems: &mut Problems) -> Option<f64> {
    let read = metric.unit().read(raw);
    if let Err(message) = &read {
        problems.add(&[key], message.clone());
    }
    read.ok()
}
