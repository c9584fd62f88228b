//! promptfoo: `results.results[]`, each with `success`; `failureReason` 2 is an error and not a failed assertion.

use serde_json::Value;

use super::{ImportError, Outcome, id, words};

/// promptfoo's code for "the provider did not answer".
const ERROR: u64 = 2;

pub(super) fn read(value: &Value) -> Result<Vec<(String, Outcome)>, ImportError> {
    let results = value.pointer("/results/results").and_then(Value::as_array);
    let results = results.ok_or_else(|| form("there is no list results.results".to_owned()))?;
    results.iter().enumerate().map(|(at, result)| one(at, result)).collect()
}

fn form(problem: String) -> ImportError {
    ImportError::Form { tool: "promptfoo", problem }
}

fn one(at: usize, result: &Value) -> Result<(String, Outcome), ImportError> {
    let test = id(result.get("testIdx")).unwrap_or_else(|| at.to_string());
    // One test is asked with each prompt of each provider: those are cases of their own.
    let prompt = id(result.get("promptIdx")).unwrap_or_default();
    let provider = result.pointer("/provider/id").and_then(Value::as_str).unwrap_or_default();
    let id = format!("{test}/{prompt}/{provider}");
    let success = result.get("success").and_then(Value::as_bool);
    let success = success.ok_or_else(|| form(format!("result {at} has no `success`")))?;
    let errored = result.get("failureReason").and_then(Value::as_u64) == Some(ERROR);
    let outcome = match (success, errored) {
        (true, _) => Outcome::Passed,
        (false, true) => Outcome::Errored(result.get("error").map(words).unwrap_or_default()),
        (false, false) => Outcome::Failed,
    };
    Ok((id, outcome))
}
