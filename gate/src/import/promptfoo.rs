//! Results of promptfoo: `results.results[]`, each with `success`. A `failureReason` of 2 is an error and not a failed
//! assertion. `--repeat` gives each repeat a number (`testIdx`) of its own, so a test is recognized by its content: its
//! variables, its assertions and its description. A test with each prompt is a case of its own. Results of several
//! providers are of several versions, of which one is read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::outcome::{ImportError, ImportedOutcome, error_message, id, selected};

const TOOL: &str = "promptfoo";

/// The `failureReason` for an error, as when the provider did not answer.
const ERROR: u64 = 2;

/// Reads the id and the outcome of each result of the provider `select`, or of the only one.
pub(super) fn read(value: &Value, select: Option<&str>) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let results = value.pointer("/results/results").and_then(Value::as_array);
    let results = results.ok_or_else(|| not_results("there is no list results.results".to_owned()))?;
    let providers: BTreeSet<&str> = results.iter().map(|result| provider(result.get("provider"))).collect();
    let provider_name = selected("provider", &providers, select)?;
    let of_provider: Vec<(usize, &Value)> =
        results.iter().enumerate().filter(|(_, result)| provider(result.get("provider")) == provider_name).collect();
    check_complete(value, provider_name, of_provider.len())?;
    let mut tests = BTreeMap::new();
    of_provider.into_iter().map(|(index, result)| read_result(index, result, &mut tests)).collect()
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: TOOL, problem }
}

/// Returns the name of a provider, which is its label if it has one.
fn provider(value: Option<&Value>) -> &str {
    let Some(value) = value else { return "" };
    let label = value.get("label").and_then(Value::as_str).filter(|label| !label.is_empty());
    label.or_else(|| value.get("id").and_then(Value::as_str)).or_else(|| value.as_str()).unwrap_or_default()
}

/// Checks that there are as many results as promptfoo has counted for the provider.
fn check_complete(value: &Value, name: &str, found: usize) -> Result<(), ImportError> {
    let prompts = value.pointer("/results/prompts").and_then(Value::as_array).into_iter().flatten();
    let count = |prompt: &Value| -> u64 {
        let of = |kind: &str| prompt.pointer(&format!("/metrics/{kind}")).and_then(Value::as_u64).unwrap_or(0);
        of("testPassCount") + of("testFailCount") + of("testErrorCount")
    };
    let counted: u64 = prompts.filter(|prompt| provider(prompt.get("provider")) == name).map(count).sum();
    if counted <= found as u64 {
        return Ok(());
    }
    Err(ImportError::Unfinished {
        tool: TOOL,
        problem: format!("{counted} tests were run, and {found} results are there"),
    })
}

/// Reads a result. `tests` has the number of the first result of each test.
fn read_result(
    index: usize,
    result: &Value,
    tests: &mut BTreeMap<String, String>,
) -> Result<(String, ImportedOutcome), ImportError> {
    let number = id(result.get("testIdx")).unwrap_or_else(|| index.to_string());
    let part = |path: &str| result.pointer(path).map(Value::to_string);
    let content =
        [part("/vars").or_else(|| part("/testCase/vars")), part("/testCase/assert"), part("/testCase/description")];
    let test = match content.iter().all(Option::is_none) {
        true => number,
        false => tests.entry(format!("{content:?}")).or_insert(number).clone(),
    };
    let prompt = id(result.get("promptIdx")).unwrap_or_default();
    let id = format!("{test}/{prompt}");
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
