//! The results of other tools' test cases, and the errors of reading them.

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
