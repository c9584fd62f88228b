//! A line of JSON for each case, for whoever has a tool of their own.

use serde::Deserialize;

use super::{ImportError, Outcome};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    passed: Option<bool>,
    error: Option<String>,
    #[serde(default)]
    skipped: bool,
}

pub(super) fn read(text: &str) -> Result<Vec<(String, Outcome)>, ImportError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| one(line).map_err(|problem| form(format!("line {}: {problem}", at + 1)))).collect()
}

fn form(problem: String) -> ImportError {
    ImportError::Form { tool: "jsonl", problem }
}

fn one(line: &str) -> Result<(String, Outcome), String> {
    let Line { id, passed, error, skipped } = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let outcome = match (skipped, error, passed) {
        (true, ..) => Outcome::Skipped,
        (false, Some(error), _) => Outcome::Errored(error),
        (false, None, Some(true)) => Outcome::Passed,
        (false, None, Some(false)) => Outcome::Failed,
        (false, None, None) => return Err(format!("case {id:?} has neither `passed` nor `error`")),
    };
    Ok((id, outcome))
}
