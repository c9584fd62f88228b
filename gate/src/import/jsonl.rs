//! Results of a tool without a format of its own: JSONL with a line for each case.

use serde::Deserialize;

use super::outcome::{ImportError, ImportedOutcome};

/// One line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    passed: Option<bool>,
    error: Option<String>,
    #[serde(default)]
    skipped: bool,
}

/// Reads the id and the outcome of each line; empty lines are skipped.
pub(super) fn read(text: &str) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| read_line(line).map_err(|problem| not_results(format!("line {}: {problem}", index + 1))))
        .collect()
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: "jsonl", problem }
}

fn read_line(line: &str) -> Result<(String, ImportedOutcome), String> {
    let Line { id, passed, error, skipped } = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let outcome = match (skipped, error, passed) {
        (true, ..) => ImportedOutcome::Skipped,
        (false, Some(error), _) => ImportedOutcome::Errored(error),
        (false, None, Some(true)) => ImportedOutcome::Passed,
        (false, None, Some(false)) => ImportedOutcome::Failed,
        (false, None, None) => return Err(format!("case {id:?} has neither `passed` nor `error`")),
    };
    Ok((id, outcome))
}
