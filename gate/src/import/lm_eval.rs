//! Results of lm-eval-harness: the aggregated results of a run as JSON, or the samples of a task as JSONL
//! (`--log_samples`).
//!
//! Aggregated results give each metric's mean over the cases of a task. They are read if the mean is a share of right
//! answers: its number of hits is a whole number, and its standard error is that of a share. A metric is named as in the
//! file, `exact_match,strict-match`; where a task has several such metrics, one must be named.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::outcome::{ImportError, ImportedOutcome, id, selected};

const TOOL: &str = "lm-eval-harness";

/// The largest number of cases of one task.
const MAX_CASES: u64 = 1_000_000;

/// The largest relative distance of a standard error from that of a share, √(p(1 − p)/(n − 1)). Files round it.
const SHARE_TOLERANCE: f64 = 0.02;

/// Reads the id and the outcome of each case, by the metric `select` or the only one.
pub(super) fn read(text: &str, select: Option<&str>) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let whole: Option<Value> = serde_json::from_str(text).ok();
    match whole.as_ref().and_then(|value| value.get("results")).and_then(Value::as_object) {
        Some(results) => read_results(whole.as_ref().unwrap_or(&Value::Null), results, select),
        None => read_samples(text, select),
    }
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: TOOL, problem }
}

fn read_results(
    value: &Value,
    results: &Map<String, Value>,
    select: Option<&str>,
) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    // Only tasks have a number of cases; the groups of them would count the same cases again.
    let counts = value.get("n-samples").and_then(Value::as_object);
    let counts =
        counts.ok_or_else(|| not_results("there is no `n-samples`, the number of cases of each task".to_owned()))?;
    let mut outcomes = Vec::new();
    for (task, count) in counts {
        let n = count.get("effective").and_then(Value::as_u64).filter(|n| (1..=MAX_CASES).contains(n));
        let n = n.ok_or_else(|| not_results(format!("task {task} has no usable number of cases")))?;
        let metrics = results.get(task).and_then(Value::as_object);
        let metrics = metrics.ok_or_else(|| not_results(format!("there are no results of task {task}")))?;
        let shares: BTreeSet<&str> =
            metrics.keys().map(String::as_str).filter(|name| hits(metrics, name, n).is_some()).collect();
        if shares.is_empty() {
            return Err(not_results(format!(
                "no metric of task {task} is a share of right answers; import its samples (--log_samples)"
            )));
        }
        let metric = selected("metric", &shares, select)?;
        let hits = hits(metrics, metric, n).unwrap_or(0);
        outcomes.extend((0..n).map(|index| {
            let outcome = if index < hits { ImportedOutcome::Passed } else { ImportedOutcome::Failed };
            (format!("{task}/{index}"), outcome)
        }));
    }
    Ok(outcomes)
}

/// Returns the number of right answers among `n` by a metric; `None` if the metric is no share of them.
fn hits(metrics: &Map<String, Value>, metric: &str, n: u64) -> Option<u64> {
    let (name, filter) = metric.split_once(',')?;
    let mean = metrics.get(metric)?.as_f64().filter(|mean| (0.0..=1.0).contains(mean))?;
    let error = metrics.get(&format!("{name}_stderr,{filter}"))?.as_f64()?;
    let of_a_share = (mean * (1.0 - mean) / (n as f64 - 1.0).max(1.0)).sqrt();
    // Half a hit is the rounding of a mean to few digits.
    let is_share = (error - of_a_share).abs() <= SHARE_TOLERANCE * of_a_share;
    is_share.then(|| libm::round(mean * n as f64) as u64)
}

fn read_samples(text: &str, select: Option<&str>) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let mut samples = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let sample: Value =
            serde_json::from_str(line).map_err(|error| not_results(format!("line {}: {error}", index + 1)))?;
        samples.push(sample);
    }
    let names: BTreeSet<String> = samples.iter().flat_map(metrics_of).collect();
    if names.is_empty() {
        return Err(not_results("there are neither `results` nor samples with `metrics`".to_owned()));
    }
    let metric = selected("metric", &names.iter().map(String::as_str).collect(), select)?;
    let (name, filter) = metric.split_once(',').unwrap_or((metric, ""));
    let of_filter = samples.iter().filter(|sample| filter_of(sample) == filter);
    of_filter.enumerate().map(|(index, sample)| read_sample(index, sample, name)).collect()
}

fn filter_of(sample: &Value) -> &str {
    sample.get("filter").and_then(Value::as_str).unwrap_or_default()
}

fn metrics_of(sample: &Value) -> Vec<String> {
    let names = sample.get("metrics").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    names.map(|name| format!("{name},{}", filter_of(sample))).collect()
}

fn read_sample(index: usize, sample: &Value, metric: &str) -> Result<(String, ImportedOutcome), ImportError> {
    let id = id(sample.get("doc_id")).ok_or_else(|| not_results(format!("sample {index} has no doc_id")))?;
    let outcome = match sample
        .get(metric)
        .and_then(|value| value.as_f64().or_else(|| value.as_bool().map(|right| f64::from(u8::from(right)))))
    {
        Some(1.0) => ImportedOutcome::Passed,
        Some(0.0) => ImportedOutcome::Failed,
        Some(score) => return Err(not_results(format!("{metric} of sample {id} is {score}, and neither 0 nor 1"))),
        None => ImportedOutcome::Errored(format!("it has no {metric}")),
    };
    Ok((id, outcome))
}
