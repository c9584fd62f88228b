//! DeepEval: `testCases[]` of a saved test run, or `test_results[]` of `evaluate()`; each with `success` and its metrics.

use serde_json::Value;

use super::{ImportError, Outcome, words};

pub(super) fn read(value: &Value) -> Result<Vec<(String, Outcome)>, ImportError> {
    let lists = ["testCases", "test_cases", "testResults", "test_results"];
    let run = value.get("testRunData").unwrap_or(value);
    let cases = lists.iter().find_map(|name| run.get(name).and_then(Value::as_array));
    let cases = cases.ok_or_else(|| form("there is no list `testCases` or `test_results`".to_owned()))?;
    cases.iter().enumerate().map(|(at, case)| one(at, case)).collect()
}

fn form(problem: String) -> ImportError {
    ImportError::Form { tool: "DeepEval", problem }
}

fn one(at: usize, case: &Value) -> Result<(String, Outcome), ImportError> {
    // Names are made up by position where nobody gave one.
    let name = case.get("name").and_then(Value::as_str).map_or_else(|| format!("case {at}"), str::to_owned);
    let metrics = case.get("metricsData").or_else(|| case.get("metrics_data")).and_then(Value::as_array);
    let error = metrics.into_iter().flatten().find_map(|metric| metric.get("error").filter(|error| !error.is_null()));
    if let Some(error) = error {
        return Ok((name, Outcome::Errored(words(error))));
    }
    let success = case.get("success").and_then(Value::as_bool);
    let success = success.ok_or_else(|| form(format!("case {at} has no `success`")))?;
    Ok((name, if success { Outcome::Passed } else { Outcome::Failed }))
}
