//! From the checks that are written to those that hold: which judge, which limit, and what does not go together.

use std::collections::BTreeMap;

use super::problems::Problems;
use super::raw::{JudgeKind, OnRegressed, RawCheck};
use super::{Check, SequentialRule, allowed, defaults};
use crate::measure::metric::{Against, Limit, Metric, MetricKind, RawLimit, Unit};
use crate::stats::mann_whitney;
use crate::time::Span;

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

pub(super) fn one_check(raw: &RawCheck, metrics: &BTreeMap<String, Metric>, problems: &mut Problems) -> Option<Check> {
    let Some(metric) = metrics.get(&raw.metric) else {
        let near: Vec<&str> = metrics.keys().map(String::as_str).collect();
        problems.add(&["metric"], format!("there is no metric {:?}; there are {}", raw.metric, near.join(", ")));
        return None;
    };
    let (every, window) = (raw.every.unwrap_or_else(defaults::every), raw.window.unwrap_or_else(defaults::window));
    if raw.breaches == Some(0) {
        problems.add(&["breaches"], "at least one look over the limit is needed to say that it was over");
    }
    if every == Span::ZERO || window < every {
        problems.add(&["window"], "the window must be at least as long as `every`, and `every` longer than nothing");
    }
    if metric.kind == MetricKind::Histogram && !(raw.quantile > 0.0 && raw.quantile < 1.0) {
        problems.add(&["quantile"], "a quantile lies between 0 and 1, as in 0.95");
    }
    let limit = match (&raw.max, &raw.min) {
        (Some(max), None) => read_limit(max, "max", metric, problems).map(Limit::Max),
        (None, Some(min)) => read_limit(min, "min", metric, problems).map(Limit::Min),
        (None, None) => {
            problems.add(&["max"], "a check needs a limit: `max` or `min`");
            None
        }
        (Some(_), Some(_)) => {
            problems.add(&["min"], "a check has one limit, `max` or `min`; write a second check for the other");
            None
        }
    }?;
    if metric.kind == MetricKind::Drift && matches!(limit, Limit::Min(_)) {
        problems.add(&["min"], "a drift is a distance, and too far is what is bad; write `max`");
    }
    let judge = raw.judge.unwrap_or_else(|| usual_judge(metric.kind, limit));
    refuse_settings_of_another(raw, judge, problems);
    Some(Check {
        name: raw.name.clone().unwrap_or_else(|| raw.metric.clone()),
        metric: raw.metric.clone(),
        limit,
        quantile: raw.quantile,
        every,
        window,
        breaches: raw.breaches.unwrap_or_else(defaults::breaches).max(1),
        // A gauge or a query counts no requests, so there is no number of them to ask for.
        min_requests: if metric.kind.counts_requests() { raw.min_requests } else { 0 },
        warns: match raw.on_regressed {
            Some(on_regressed) => on_regressed == OnRegressed::Warn,
            None => metric.kind == MetricKind::Drift,
        },
        sequential: (judge == JudgeKind::Sequential).then(|| rule(raw, limit, metric, problems)).flatten(),
        ranks: (judge == JudgeKind::MannWhitney).then(|| ranks(limit, metric, problems)).flatten(),
    })
}

/// By evidence where good and bad requests can be counted; by thresholds where they can't.
pub(super) fn usual_judge(kind: MetricKind, limit: Limit) -> JudgeKind {
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

/// A setting that the judge does not look at is somebody's mistake, and not to be passed over.
pub(super) fn refuse_settings_of_another(raw: &RawCheck, judge: JudgeKind, problems: &mut Problems) {
    let of_threshold =
        [("every", raw.every.is_some()), ("window", raw.window.is_some()), ("breaches", raw.breaches.is_some())];
    let of_sequential = [
        ("margin", raw.margin.is_some()),
        ("floor", raw.floor.is_some()),
        ("either", raw.either.is_some()),
        ("harm", raw.harm.is_some()),
    ];
    let (settings, other) = match judge {
        JudgeKind::Sequential => (&of_threshold[..], "threshold"),
        JudgeKind::Threshold | JudgeKind::MannWhitney => (&of_sequential[..], "sequential"),
    };
    for (key, _) in settings.iter().filter(|(_, written)| *written) {
        problems.add(&[key], format!("only the {other} judge looks at this; leave it out, or set judge = \"{other}\""));
    }
}

/// The mann-whitney judge's settings: Kayenta's own, and the limit's bad side.
pub(super) fn ranks(
    limit: Limit,
    metric: &Metric,
    problems: &mut Problems,
) -> Option<mann_whitney::MannWhitneySettings> {
    if matches!(metric.kind, MetricKind::Throughput | MetricKind::Drift | MetricKind::Availability) {
        let remedy = "the mann-whitney judge compares values of both arms, and this metric has none that could be alike; set judge = \"threshold\"";
        problems.add(&["judge"], remedy);
        return None;
    }
    let direction = match limit {
        Limit::Max(_) => mann_whitney::Direction::Increase,
        Limit::Min(_) => mann_whitney::Direction::Decrease,
    };
    Some(mann_whitney::MannWhitneySettings { direction, ..mann_whitney::MannWhitneySettings::default() })
}

/// There must be a stable with traffic beside what is ranked.
pub(super) fn refuse_ranks(checks: &[RawCheck], why: &str, problems: &mut Problems) {
    let remedy = format!("{why}, so there is nothing to rank against; set judge = \"threshold\"");
    refuse(checks, "judge", |check| check.judge == Some(JudgeKind::MannWhitney), &remedy, problems);
}

/// Nor is there anything to drift from, but the past.
pub(super) fn refuse_drift(
    checks: &[RawCheck],
    metrics: &BTreeMap<String, Metric>,
    why: &str,
    problems: &mut Problems,
) {
    let beside = |check: &RawCheck| {
        let metric = metrics.get(&check.metric);
        metric.is_some_and(|metric| metric.kind == MetricKind::Drift && metric.against == Against::Stable)
    };
    let remedy = format!("{why}, so there is nothing to drift from; give the metric against = \"past\"");
    refuse(checks, "metric", beside, &remedy, problems);
}

/// A key that these checks may not have where they are.
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

/// The sequential judge's settings; its error rates are the policy's, and come later.
pub(super) fn rule(raw: &RawCheck, limit: Limit, metric: &Metric, problems: &mut Problems) -> Option<SequentialRule> {
    if !matches!(metric.kind, MetricKind::Ratio | MetricKind::Histogram) {
        problems.add(
            &["judge"],
            "the sequential judge counts requests, good ones and bad ones; for this metric set judge = \"threshold\"",
        );
        return None;
    }
    if metric.kind == MetricKind::Histogram && matches!(limit, Limit::Min(_)) {
        problems.add(&["min"], "the sequential judge counts what is above a limit; write `max`");
        return None;
    }
    let margin = raw.margin.unwrap_or_else(defaults::margin);
    let floor = Unit::Percent
        .read(&raw.floor.clone().unwrap_or_else(defaults::floor))
        .map_err(|message| problems.add(&["floor"], message))
        .ok()?;
    if margin < 1.0 {
        problems.add(&["margin"], format!("a margin of {margin} asks for an improvement; it must be at least 1"));
    }
    if raw.harm.is_some_and(|harm| !(harm.is_finite() && harm >= 1.0)) {
        problems.add(&["harm"], "a number of requests that may be bad is needed, at least 1");
    }
    let either = raw.either.unwrap_or(false);
    let rule =
        SequentialRule { margin, floor, either, harm: raw.harm, alpha: 0.01, checks: 1, of_guard: 0, beta: 0.05 };
    if let Err(error) = rule.check(allowed(limit, metric.kind, raw.quantile)) {
        problems.add(&["judge"], format!("the sequential judge has no test for this: {error}"));
    }
    Some(rule)
}

pub(super) fn read_limit(raw: &RawLimit, key: &str, metric: &Metric, problems: &mut Problems) -> Option<f64> {
    let read = metric.unit().read(raw);
    if let Err(message) = &read {
        problems.add(&[key], message.clone());
    }
    read.ok()
}
