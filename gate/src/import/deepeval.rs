//! Results of DeepEval: `testCases[]` and `conversationalTestCases[]` of a saved test run, or `test_results[]` of
//! `evaluate()`, each with `success` and its metrics. DeepEval numbers the cases of each call anew, so a name alone does
//! not identify a case: its question or its turns do. Cases that have both in common are repeats.

use std::collections::BTreeMap;

use serde_json::Value;

use super::outcome::{ImportError, ImportedOutcome, error_message};

const LISTS: [&str; 6] =
    ["testCases", "test_cases", "testResults", "test_results", "conversationalTestCases", "conversational_test_cases"];

/// Reads the id and the outcome of each test case and each conversation.
pub(super) fn read(value: &Value) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let run = value.get("testRunData").unwrap_or(value);
    let lists: Vec<&Vec<Value>> = LISTS.iter().filter_map(|name| run.get(name).and_then(Value::as_array)).collect();
    if lists.is_empty() {
        return Err(not_results(
            "there is no list `testCases`, `conversationalTestCases` or `test_results`".to_owned(),
        ));
    }
    let mut nameless = BTreeMap::new();
    lists.into_iter().flatten().enumerate().map(|(index, case)| read_case(index, case, &mut nameless)).collect()
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: "DeepEval", problem }
}

/// Reads a case. `seen` has the position of each name that came without a content.
fn read_case(
    index: usize,
    case: &Value,
    seen: &mut BTreeMap<String, usize>,
) -> Result<(String, ImportedOutcome), ImportError> {
    let content = ["input", "turns", "scenario"].iter().find_map(|key| case.get(key).filter(|value| !value.is_null()));
    let id = match (case.get("name").and_then(Value::as_str), content) {
        (name, Some(content)) => format!("{} {content}", name.unwrap_or_default()),
        (None, None) => format!("case {index}"),
        (Some(name), None) => {
            if let Some(first) = seen.insert(name.to_owned(), index) {
                return Err(not_results(format!(
                    "cases {first} and {index} are both named {name:?} and have no `input`, so they can't be told apart; save \
                     the whole test run"
                )));
            }
            name.to_owned()
        }
    };
    let metrics = case.get("metricsData").or_else(|| case.get("metrics_data")).and_then(Value::as_array);
    let error = metrics.into_iter().flatten().find_map(|metric| metric.get("error").filter(|error| !error.is_null()));
    if let Some(error) = error {
        return Ok((id, ImportedOutcome::Errored(error_message(error))));
    }
    let success = case.get("success").and_then(Value::as_bool);
    let success =
        success.ok_or_else(|| not_results(format!("case {index} has no `success`; was the run ended early?")))?;
    Ok((id, if success { ImportedOutcome::Passed } else { ImportedOutcome::Failed }))
}
