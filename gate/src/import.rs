//! What other people's tools have found, as a report like any other.
//!
//! Each of them has its own form and its own idea of a repetition; what is common is a case that passed, failed, could not be
//! run or was left out. That becomes a gate with one claim, the share of cases that passed, held against a limit by the same
//! bound: forty of forty is not a hundred percent. A case that was run several times has passed if it did every time.

mod deepeval;
mod inspect;
mod jsonl;
mod junit;
mod promptfoo;

use std::collections::BTreeMap;

use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dataset::{Case, Dataset, sha256};
use crate::gates::{Recorded, evaluate};
use crate::observation::{Answer, Arm, Key, Missing, Observation, Scored};
use crate::report::{Report, SCHEMA, Spent, Subject};
use crate::suite::{Suite, SuiteError};

/// Whose results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// promptfoo's JSON output.
    Promptfoo,
    /// An eval log of Inspect, as JSON.
    Inspect,
    /// A test run of DeepEval, as JSON.
    Deepeval,
    /// JUnit XML of anybody.
    Junit,
    /// A line of JSON for each case: `id`, `passed`, and `error` if it could not be run.
    Jsonl,
}

impl From {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            From::Promptfoo => "promptfoo",
            From::Inspect => "inspect",
            From::Deepeval => "deepeval",
            From::Junit => "junit",
            From::Jsonl => "jsonl",
        }
    }
}

/// What came of one case, one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It could not be run.
    Errored(String),
    /// It was left out.
    Skipped,
}

/// Why results can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not JSON.
    #[error("this is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Not XML.
    #[error("this is not XML: {0}")]
    Xml(String),
    /// Not this tool's.
    #[error("these are no results of {tool}: {problem}")]
    Form {
        /// Whose they should be.
        tool: &'static str,
        /// What is missing.
        problem: String,
    },
    /// Nothing in it.
    #[error("there is no case in these results")]
    Empty,
    /// What they are held against makes no sense.
    #[error(transparent)]
    Suite(#[from] SuiteError),
}

/// What the results are held against, and what they are of.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The gate's name: what a policy requires.
    pub name: String,
    /// At least so many pass, as in `95%`.
    pub min_pass: String,
    /// By the plain share, with no bound.
    pub plain: bool,
    /// What was tested.
    pub subject: Subject,
    /// When they were read.
    pub at: Timestamp,
}

/// Reads the results of a tool and judges them.
///
/// # Errors
/// If they are not that tool's, or hold nothing.
pub fn import(from: From, text: &str, wanted: &Wanted) -> Result<Report, ImportError> {
    let found = match from {
        From::Promptfoo => promptfoo::read(&serde_json::from_str(text)?)?,
        From::Inspect => inspect::read(&serde_json::from_str(text)?)?,
        From::Deepeval => deepeval::read(&serde_json::from_str(text)?)?,
        From::Junit => junit::read(text)?,
        From::Jsonl => jsonl::read(text)?,
    };
    let cases = by_case(found);
    if cases.is_empty() {
        return Err(ImportError::Empty);
    }
    report(from, text, &cases, wanted)
}

/// Several runs of one case: what could not be run, and what failed, outweighs what passed. What was skipped is no case.
fn by_case(found: Vec<(String, Outcome)>) -> BTreeMap<String, Outcome> {
    let mut cases: BTreeMap<String, Outcome> = BTreeMap::new();
    for (id, outcome) in found.into_iter().filter(|(_, outcome)| *outcome != Outcome::Skipped) {
        let weight = |outcome: &Outcome| match outcome {
            Outcome::Errored(_) => 2,
            Outcome::Failed => 1,
            Outcome::Passed | Outcome::Skipped => 0,
        };
        let known = cases.entry(id).or_insert(Outcome::Passed);
        if weight(&outcome) > weight(known) {
            *known = outcome;
        }
    }
    cases
}

fn report(from: From, text: &str, cases: &BTreeMap<String, Outcome>, wanted: &Wanted) -> Result<Report, ImportError> {
    let suite = suite(from, wanted)?;
    let gate = &suite.gates[0];
    let observations: Vec<Observation> =
        cases.iter().map(|(case, outcome)| observation(&gate.name, case, outcome)).collect();
    let dataset = Dataset {
        name: from.name().to_owned(),
        version: String::new(),
        sha256: sha256(text),
        cases: cases.keys().map(|id| case(id)).collect(),
    };
    let recorded = Recorded { gate, dataset: &dataset, observations: &observations, paired: false, refused: None };
    let gates = evaluate(&suite, &[recorded]);
    Ok(Report {
        schema: SCHEMA.to_owned(),
        suite: wanted.name.clone(),
        suite_sha256: String::new(),
        verdict: Report::settle(&gates),
        subject: wanted.subject.clone(),
        started: wanted.at,
        finished: wanted.at,
        alpha: suite.alpha,
        beta: suite.beta,
        seed: suite.seed,
        spent: Spent::default(),
        stopped: String::new(),
        imported_from: from.name().to_owned(),
        gates,
    })
}

/// A suite with one gate, so that a limit is checked as in any other.
fn suite(from: From, wanted: &Wanted) -> Result<Suite, SuiteError> {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let rule = if wanted.plain { "threshold" } else { "bound" };
    Suite::parse(&format!(
        "name = {name}\n[target]\n[[gate]]\nkind = \"imported\"\nname = {name}\ndataset = {from}\nlimits.passed = {{ min = {min}, \
         rule = \"{rule}\" }}\n",
        name = quoted(&wanted.name),
        from = quoted(from.name()),
        min = quoted(&wanted.min_pass),
    ))
}

fn case(id: &str) -> Case {
    Case {
        id: id.to_owned(),
        prompt: None,
        messages: Vec::new(),
        category: None,
        intent: Default::default(),
        expected: Vec::new(),
        topics: Vec::new(),
        reference: None,
        tools: Vec::new(),
        tool_results: BTreeMap::new(),
        expect_tools: Vec::new(),
        forbid_tools: Vec::new(),
    }
}

fn observation(gate: &str, case: &str, outcome: &Outcome) -> Observation {
    let answer = match outcome {
        Outcome::Passed | Outcome::Skipped => {
            Answer::Scored(Box::new(Scored { right: Some(true), ..Scored::default() }))
        }
        Outcome::Failed => Answer::Scored(Box::new(Scored { right: Some(false), ..Scored::default() })),
        Outcome::Errored(detail) => {
            Answer::Missing { why: Missing::Malformed, detail: detail.chars().take(200).collect(), after_ms: 0.0 }
        }
    };
    let key = Key { gate: gate.to_owned(), case: case.to_owned(), repeat: 0, arm: Arm::Candidate };
    Observation { key, answer, sample: None }
}

/// An id that is a text or a number.
fn id(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What an error says of itself, whether it is a text or an object with a message.
fn words(error: &Value) -> String {
    let text = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
    text.map_or_else(|| error.to_string(), str::to_owned)
}
