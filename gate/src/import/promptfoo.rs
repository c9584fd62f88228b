//! Results of promptfoo: `results.results[]`, each with `success`. A `failureReason` of 2 is an error and not a failed
//! assertion.

use serde_json::Value;

use super::outcome::{ImportError, ImportedOutcome, error_message, id};

/// The `failureReason` for an error, as when the provider did not answer.
const ERROR: u64 = 2;

/// Reads the id and the outcome of each result.
pub(super) fn read(value: &Value) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let results = value.pointer("/results/results").and_then(Value::as_array);
    let results = results.ok_or_else(|| not_results("there is no list results.results".to_owned()))?;
    results.iter().enumerate().map(|(index, result)| read_result(index, result)).collect()
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: "promptfoo", problem }
}

fn read_result(index: usize, result: &Value) -> Result<(String, ImportedOutcome), ImportError> {
    let test = id(result.get("testIdx")).unwrap_or_else(|| index.to_string());
    // A test runs with each prompt and each provider; each combination is a case of its own.
    let prompt = id(result.get("promptIdx")).unwrap_or_default();
    let provider = result.pointer("/provider/id").and_then(Value::as_str).unwrap_or_default();
    let id = format!("{test}/{prompt}/{provider}");
    let success = result.get("success").and_then(Value::as_bool);
    let success = success.ok_or_else(|| not_results(format!("result {index} has no `success`")))?;
    let errored = result.get("failureReason").and_then(Value::as_u64) == Some(ERROR);
    let outcome = match (success, errored) {
        (true, _) => ImportedOutcome::Passed,
        (false, true) => ImportedOutcome::Errored(result.get("error").map(error_message).unwrap_or_default()),
        (false, false) => ImportedOutcome::Failed,
    };
    Ok((id, outcome))
}
