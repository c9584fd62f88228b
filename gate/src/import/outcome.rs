//! The results of other tools' test cases, and the errors of reading them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::suite::SuiteError;

/// The result of one run of one test case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportedOutcome {
    /// The case passed.
    Passed,
    /// The case failed.
    Failed,
    /// The case could not be run, for this reason.
    Errored(String),
    /// The case was left out; it does not count.
    Skipped,
}

/// The reason why results can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The text is not JSON.
    #[error("this is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The bytes are not text.
    #[error("this is not text in UTF-8")]
    NotText,
    /// The text is not XML.
    #[error("this is not XML: {0}")]
    Xml(String),
    /// The text has not the form of the tool's results.
    #[error("these are not results of {tool}: {problem}")]
    Form {
        /// The name of the tool.
        tool: &'static str,
        /// The part that is missing or wrong.
        problem: String,
    },
    /// The results are of a run that did not come to its end.
    #[error(
        "this run of {tool} was ended early: {problem}; its first cases are no sample of all, so run it to its end"
    )]
    Unfinished {
        /// The name of the tool.
        tool: &'static str,
        /// The sign of an early end.
        problem: String,
    },
    /// Cases were skipped.
    #[error(
        "{skipped} of {cases} cases were skipped, and nothing is known of them; run them, or take them out of the results if they are no part of the suite"
    )]
    Skipped {
        /// The number of skipped cases.
        skipped: usize,
        /// The number of all cases.
        cases: usize,
    },
    /// The results are of several versions or metrics, and none is named.
    #[error("the results are of several {kind}s ({}); name one with --select", .found.join(", "))]
    Several {
        /// The kind of the parts.
        kind: &'static str,
        /// Their names.
        found: Vec<String>,
    },
    /// The named version or metric is not in the results.
    #[error("there is no {kind} {name:?} in these results, only {}", .found.join(", "))]
    NotThere {
        /// The kind of the part.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// The names that are there.
        found: Vec<String>,
    },
    /// The results contain no case that was run.
    #[error("there is no case in these results")]
    Empty,
    /// The settings of the import are invalid.
    #[error(transparent)]
    Suite(#[from] SuiteError),
}

/// Returns an id that is a text or a number; `None` for other values.
pub(super) fn id(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns the message of an error that is a text or an object with a `message`; other values as JSON.
pub(super) fn error_message(error: &Value) -> String {
    let text = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
    text.map_or_else(|| error.to_string(), str::to_owned)
}

/// Returns the part of the results that `select` names, or the only one.
pub(super) fn selected<'a>(
    kind: &'static str,
    found: &BTreeSet<&'a str>,
    select: Option<&str>,
) -> Result<&'a str, ImportError> {
    let names = || found.iter().map(|name| (*name).to_owned()).collect();
    match (select, found.len()) {
        (Some(name), _) => {
            let there = found.get(name).copied();
            there.ok_or_else(|| ImportError::NotThere { kind, name: name.to_owned(), found: names() })
        }
        (None, 0 | 1) => Ok(found.first().copied().unwrap_or_default()),
        (None, _) => Err(ImportError::Several { kind, found: names() }),
    }
}
