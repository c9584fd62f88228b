//! Results of Inspect: `samples[]`, each with a score from each scorer. The scores `C`, `yes`, `true` and 1 are right,
//! all others are wrong. A case has passed if all of its scores are right in every epoch.

use serde_json::Value;

use super::outcome::{ImportError, ImportedOutcome, error_message, id};

/// Reads the id and the outcome of each sample.
pub(super) fn read(value: &Value) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let samples = value.get("samples").and_then(Value::as_array);
    let samples = samples
        .ok_or_else(|| not_results("there is no list `samples`; write the log as JSON, with its samples".to_owned()))?;
    samples.iter().enumerate().map(|(index, sample)| read_sample(index, sample)).collect()
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: "Inspect", problem }
}

fn read_sample(index: usize, sample: &Value) -> Result<(String, ImportedOutcome), ImportError> {
    let id = id(sample.get("id")).ok_or_else(|| not_results(format!("sample {index} has no id")))?;
    if let Some(error) = sample.get("error").filter(|error| !error.is_null()) {
        return Ok((id, ImportedOutcome::Errored(error_message(error))));
    }
    let scores = sample.get("scores").and_then(Value::as_object).filter(|scores| !scores.is_empty());
    let Some(scores) = scores else { return Ok((id, ImportedOutcome::Errored("the sample has no score".to_owned()))) };
    let right = scores.values().all(|score| score.get("value").is_some_and(is_right));
    Ok((id, if right { ImportedOutcome::Passed } else { ImportedOutcome::Failed }))
}

fn is_right(value: &Value) -> bool {
    match value {
        Value::String(text) => matches!(text.as_str(), "C" | "yes" | "true" | "1"),
        Value::Bool(right) => *right,
        Value::Number(number) => number.as_f64() == Some(1.0),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}
