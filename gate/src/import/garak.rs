//! Results of garak: the report of a scan as JSONL, with an entry for each attempt. An attempt is a case: it has passed if no
//! detector found any of its answers to be a hit. A run that has come to its end has an entry `completion`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::outcome::{ImportError, ImportedOutcome};

const TOOL: &str = "garak";

/// The smallest score of a hit, if the report has none.
const THRESHOLD: f64 = 0.5;

/// The `status` of an attempt whose answers the detectors have judged.
const EVALUATED: u64 = 2;

/// Reads the id and the outcome of each attempt.
pub(super) fn read(text: &str) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let (mut threshold, mut complete, mut is_report) = (THRESHOLD, false, false);
    // An attempt is written when it was answered, and again when it was judged; the last entry counts.
    let mut attempts: BTreeMap<String, Value> = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let entry: Value =
            serde_json::from_str(line).map_err(|error| not_results(format!("line {}: {error}", index + 1)))?;
        match entry.get("entry_type").and_then(Value::as_str) {
            Some("start_run setup") => {
                threshold = entry.get("run.eval_threshold").and_then(Value::as_f64).unwrap_or(threshold);
            }
            Some("completion") => complete = true,
            Some("attempt") => {
                attempts.insert(id(index, &entry)?, entry);
            }
            Some(_) => {}
            None => return Err(not_results(format!("line {} has no entry_type", index + 1))),
        }
        is_report = true;
    }
    match (is_report, complete) {
        (false, _) => Err(not_results("it is empty".to_owned())),
        (true, false) => {
            let problem = "there is no entry `completion`, which is written at the end of a scan".to_owned();
            Err(ImportError::Unfinished { tool: TOOL, problem })
        }
        (true, true) => Ok(attempts.iter().map(|(id, entry)| (id.clone(), outcome(entry, threshold))).collect()),
    }
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: TOOL, problem }
}

fn id(index: usize, attempt: &Value) -> Result<String, ImportError> {
    let text = |key: &str| attempt.get(key).and_then(Value::as_str);
    let uuid = text("uuid").ok_or_else(|| not_results(format!("the attempt in line {} has no uuid", index + 1)))?;
    Ok(format!("{}/{uuid}", text("probe_classname").unwrap_or_default()))
}

fn outcome(attempt: &Value, threshold: f64) -> ImportedOutcome {
    if attempt.get("status").and_then(Value::as_u64) != Some(EVALUATED) {
        return ImportedOutcome::Errored("the attempt was not judged".to_owned());
    }
    let by_detector =
        attempt.get("detector_results").and_then(Value::as_object).into_iter().flat_map(|all| all.values());
    let scores: Vec<Option<f64>> = by_detector.filter_map(Value::as_array).flatten().map(Value::as_f64).collect();
    if scores.iter().any(|score| score.is_some_and(|score| score >= threshold)) {
        return ImportedOutcome::Failed;
    }
    if scores.is_empty() || scores.contains(&None) {
        return ImportedOutcome::Errored("an answer of the attempt was not judged".to_owned());
    }
    ImportedOutcome::Passed
}
