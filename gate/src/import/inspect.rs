//! Inspect: `samples[]`, each with scores by scorer; `C`, `1` and `true` are right, anything less is not. A case has passed if
//! all of its scorers say so, in every epoch.

use serde_json::Value;

use super::{ImportError, Outcome, id, words};

pub(super) fn read(value: &Value) -> Result<Vec<(String, Outcome)>, ImportError> {
    let samples = value.get("samples").and_then(Value::as_array);
    let samples = samples
        .ok_or_else(|| form("there is no list `samples`; write the log as JSON, with its samples".to_owned()))?;
    samples.iter().enumerate().map(|(at, sample)| one(at, sample)).collect()
}

fn form(problem: String) -> ImportError {
    ImportError::Form { tool: "Inspect", problem }
}

fn one(at: usize, sample: &Value) -> Result<(String, Outcome), ImportError> {
    let id = id(sample.get("id")).ok_or_else(|| form(format!("sample {at} has no id")))?;
    if let Some(error) = sample.get("error").filter(|error| !error.is_null()) {
        return Ok((id, Outcome::Errored(words(error))));
    }
    let scores = sample.get("scores").and_then(Value::as_object).filter(|scores| !scores.is_empty());
    let Some(scores) = scores else { return Ok((id, Outcome::Errored("it has no score".to_owned()))) };
    let right = scores.values().all(|score| score.get("value").is_some_and(is_right));
    Ok((id, if right { Outcome::Passed } else { Outcome::Failed }))
}

fn is_right(value: &Value) -> bool {
    match value {
        Value::String(text) => matches!(text.as_str(), "C" | "yes" | "true" | "1"),
        Value::Bool(right) => *right,
        Value::Number(number) => number.as_f64() == Some(1.0),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}
