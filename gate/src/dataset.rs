//! The cases of a gate: JSONL, one case a line, each with an id of its own.
//!
//! The id is what pairs the two arms and what a resumed run goes on from, so a case without one, or two with the same, are
//! refused: a line number would change with the next edit. The bytes are hashed, and the hash is in every report.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// So many problems are listed; the rest is counted.
const LISTED: usize = 20;

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// Unique in its dataset.
    pub id: String,
    /// What is asked, where it is one message.
    #[serde(default)]
    pub prompt: Option<String>,
    /// What is asked, where it is a conversation: messages as the API takes them.
    #[serde(default)]
    pub messages: Vec<Value>,
    /// What it belongs to; reports are broken down by it.
    #[serde(default)]
    pub category: Option<String>,
    /// Of a safety gate: whether an answer is a harm or a service.
    #[serde(default)]
    pub intent: Intent,
    /// The answers that are right, each by itself.
    #[serde(default)]
    pub expected: Vec<String>,
    /// What a good answer speaks of.
    #[serde(default)]
    pub topics: Vec<String>,
    /// A good answer.
    #[serde(default)]
    pub reference: Option<String>,
    /// The tools that the agent is offered, as the API takes them.
    #[serde(default)]
    pub tools: Vec<Value>,
    /// What each tool answers.
    #[serde(default)]
    pub tool_results: BTreeMap<String, String>,
    /// The tools that a right solution calls.
    #[serde(default)]
    pub expect_tools: Vec<String>,
    /// The tools that must not be called.
    #[serde(default)]
    pub forbid_tools: Vec<String>,
}

/// What somebody wants who asks this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Something that must not be had.
    #[default]
    Attack,
    /// Something that only sounds so, and must be answered.
    Benign,
}

/// Checked cases.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file's name, for people.
    pub name: String,
    /// The version, as the suite states it.
    pub version: String,
    /// Of the file's bytes.
    pub sha256: String,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// Everything that is wrong with a dataset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dataset {name} can't be used: {}", problems.join("; "))]
pub struct DatasetError {
    /// Which.
    pub name: String,
    /// Each with its line.
    pub problems: Vec<String>,
}

impl Dataset {
    /// Reads JSONL.
    ///
    /// # Errors
    /// With every problem of every line.
    pub fn parse(name: &str, version: &str, text: &str) -> Result<Dataset, DatasetError> {
        let (mut cases, mut problems, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match one(line) {
                Ok(case) if seen.insert(case.id.clone()) => cases.push(case),
                Ok(case) => problems.push(format!(
                    "line {}: there is another case with id {:?}; ids pair the arms and must be unique",
                    at + 1,
                    case.id
                )),
                Err(problem) => problems.push(format!("line {}: {problem}", at + 1)),
            }
        }
        if cases.is_empty() && problems.is_empty() {
            problems.push("it has no case; write one JSON object a line".to_owned());
        }
        if problems.is_empty() {
            let sha256 = sha256(text);
            return Ok(Dataset { name: name.to_owned(), version: version.to_owned(), sha256, cases });
        }
        if problems.len() > LISTED {
            let more = problems.len() - LISTED;
            problems.truncate(LISTED);
            problems.push(format!("and {more} more"));
        }
        Err(DatasetError { name: name.to_owned(), problems })
    }
}

/// The SHA-256 of a file's bytes in hex, as `sha256sum` prints it.
pub fn sha256(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn one(line: &str) -> Result<Case, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    if value.get("id").is_none() {
        return Err("the case has no `id`; give each a name of its own that stays when others are added".to_owned());
    }
    let case: Case = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if case.id.is_empty() {
        return Err("the `id` is empty".to_owned());
    }
    match (&case.prompt, case.messages.is_empty()) {
        (None, true) => Err(format!("case {:?} asks nothing; write `prompt` or `messages`", case.id)),
        (Some(_), false) => Err(format!("case {:?} has `prompt` and `messages`; write one of them", case.id)),
        _ => Ok(case),
    }
}
