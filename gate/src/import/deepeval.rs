//! Results of DeepEval: `testCases[]` of a saved test run, or `test_results[]` of `evaluate()`, each with `success` and
//! its metrics.

use serde_json::Value;

use super::outcome::{ImportError, ImportedOutcome, error_message};

/// Reads the name and the outcome of each test case.
pub(super) fn read(value: &Value) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let lists = ["testCases", "test_cases", "testResults", "test_results"];
    let run = value.get("testRunData").unwrap_or(value);
    let cases = lists.iter().find_map(|name| run.get(name).and_then(Value::as_array));
    let cases = cases.ok_or_else(|| not_results("there is no list `testCases` or `test_results`".to_owned()))?;
    cases.iter().enumerate().map(|(index, case)| read_case(index, case)).collect()
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: "DeepEval", problem }
}

fn read_case(index: usize, case: &Value) -> Result<(String, ImportedOutcome), ImportError> {
    // A case without a name is named by its position.
    let name = case.get("name").and_then(Value::as_str).map_or_else(|| format!("case {index}"), str::to_owned);
    let metrics = case.get("metricsData").or_else(|| case.get("metrics_data")).and_then(Value::as_array);
    let error = metrics.into_iter().flatten().find_map(|metric| metric.get("error").filter(|error| !error.is_null()));
    if let Some(error) = error {
        return Ok((name, ImportedOutcome::Errored(error_message(error))));
    }
    let success = case.get("success").and_then(Value::as_bool);
    let success = success.ok_or_else(|| not_results(format!("case {index} has no `success`")))?;
    Ok((name, if success { ImportedOutcome::Passed } else { ImportedOutcome::Failed }))
}
