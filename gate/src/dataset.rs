//! Datasets: the cases of a gate, as JSONL with one case per line.
//!
//! Each case has an id of its own. The id pairs the answers of the candidate and the stable version, and tells a
//! resumed run which answers it already has. Cases without an id and duplicate ids are therefore refused: a line number
//! would change with the next edit of the file. The SHA-256 of the file is part of every report.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::dice::Random;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Problems that a [`DatasetError`] lists; further ones are only counted.
const MAX_LISTED_PROBLEMS: usize = 20;

/// One case of a dataset: a question, and the data that scorers need to judge an answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// The case's id, unique in its dataset.
    pub id: String,
    /// The question, if it is a single user message. Exactly one of `prompt` and `messages` is set.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The question, if it is a conversation: messages in the form of the chat completions API.
    #[serde(default)]
    pub messages: Vec<Value>,
    /// The category by which a safety gate's report is broken down.
    #[serde(default)]
    pub category: Option<String>,
    /// The intent of a safety gate's case: an attack, or a harmless prompt.
    #[serde(default)]
    pub intent: Intent,
    /// The right answers; an answer that matches one of them is right.
    #[serde(default)]
    pub expected: Vec<String>,
    /// The topics that a good answer mentions.
    #[serde(default)]
    pub topics: Vec<String>,
    /// A good answer, with which others are compared.
    #[serde(default)]
    pub reference: Option<String>,
    /// The tools that the agent is offered, in the form of the chat completions API.
    #[serde(default)]
    pub tools: Vec<Value>,
    /// The result that each tool returns when the agent calls it, by the tool's name.
    #[serde(default)]
    pub tool_results: BTreeMap<String, String>,
    /// The calls of tools that a right solution makes.
    #[serde(default)]
    pub expect_tools: Vec<ToolPattern>,
    /// The calls of tools that must not be made in any turn.
    #[serde(default)]
    pub forbid_tools: Vec<ToolPattern>,
    /// The order in which the expected calls must be made.
    #[serde(default)]
    pub tool_order: CallOrder,
    /// The largest number of calls; any by default.
    #[serde(default)]
    pub max_calls: Option<u32>,
    /// The further turns of the user, each of which follows the agent's answer to the turn before.
    #[serde(default)]
    pub turns: Vec<Turn>,
    /// The texts that no answer to an attack may contain, such as a secret of its system message. If there are any, they
    /// alone decide whether an answer is harmful, and no classifier is asked.
    #[serde(default)]
    pub forbid_text: Vec<String>,
}

/// A further turn of the user in a task. Its calls are those that the agent makes after it and before the next turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Turn {
    /// The user's message.
    pub prompt: String,
    /// The calls of tools that a right solution makes in this turn.
    #[serde(default)]
    pub expect_tools: Vec<ToolPattern>,
    /// The calls of tools that must not be made in this turn, besides those of the case.
    #[serde(default)]
    pub forbid_tools: Vec<ToolPattern>,
    /// The order in which the expected calls must be made.
    #[serde(default)]
    pub tool_order: CallOrder,
    /// The largest number of calls in this turn; any by default.
    #[serde(default)]
    pub max_calls: Option<u32>,
}

/// A set of calls of one tool: all of its calls, or those with certain arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPattern")]
pub struct ToolPattern {
    /// The tool's name.
    pub name: String,
    /// The arguments that a call must have, as a JSON object; `None` for any.
    pub arguments: Option<Value>,
    /// Whether a call must have no other arguments.
    pub exact: bool,
}

/// A pattern as the file has it: the tool's name, or an object.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a tool's name or { \"name\": …, \"arguments\": {…} }")]
enum RawPattern {
    Name(String),
    Call(RawCall),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCall {
    name: String,
    arguments: Option<Value>,
    #[serde(default)]
    exact: bool,
}

impl TryFrom<RawPattern> for ToolPattern {
    type Error = String;

    fn try_from(raw: RawPattern) -> Result<ToolPattern, String> {
        let RawCall { name, arguments, exact } = match raw {
            RawPattern::Name(name) => RawCall { name, arguments: None, exact: false },
            RawPattern::Call(call) => call,
        };
        match &arguments {
            None if exact => Err(format!("the pattern of {name:?} is exact and has no `arguments`; write them")),
            Some(arguments) if !arguments.is_object() => {
                Err(format!("the `arguments` of {name:?} are no JSON object; write {{\"key\": value}}"))
            }
            _ => Ok(ToolPattern { name, arguments, exact }),
        }
    }
}

/// The order in which the expected calls must be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallOrder {
    /// In any order.
    #[default]
    Any,
    /// The order in which the case lists them; other calls may come between.
    Listed,
}

/// The rules for the calls of one turn.
#[derive(Debug, Clone)]
pub struct CallRules<'a> {
    /// The user's message that the turn begins with; `None` for the first turn, whose messages are the case's.
    pub prompt: Option<&'a str>,
    /// The calls that must be made, each of them once.
    pub expect: &'a [ToolPattern],
    /// The calls that must not be made.
    pub forbid: Vec<&'a ToolPattern>,
    /// The order of the expected calls.
    pub order: CallOrder,
    /// The largest number of calls.
    pub max_calls: Option<u32>,
}

impl Case {
    /// Returns the rules of each turn of a task.
    pub fn call_rules(&self) -> impl Iterator<Item = CallRules<'_>> {
        let first = CallRules {
            prompt: None,
            expect: &self.expect_tools,
            forbid: self.forbid_tools.iter().collect(),
            order: self.tool_order,
            max_calls: self.max_calls,
        };
        let further = self.turns.iter().map(|turn| CallRules {
            prompt: Some(&turn.prompt),
            expect: &turn.expect_tools,
            forbid: self.forbid_tools.iter().chain(&turn.forbid_tools).collect(),
            order: turn.tool_order,
            max_calls: turn.max_calls,
        });
        [first].into_iter().chain(further)
    }
}

/// The intent behind the prompt of a safety gate's case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// The prompt asks for something harmful; a harmful answer is a successful attack.
    #[default]
    Attack,
    /// The prompt only sounds harmful; a refusal is an over-refusal.
    Benign,
}

/// A checked dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file's name, for reports and errors.
    pub name: String,
    /// The version that the suite states for the dataset; may be empty.
    pub version: String,
    /// The SHA-256 of the file in 64 hexadecimal digits.
    pub sha256: String,
    /// The cases in the order of the file; at least one.
    pub cases: Vec<Case>,
}

/// The problems of a dataset that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dataset {name} can't be used: {}", problems.join("; "))]
pub struct DatasetError {
    /// The file's name.
    pub name: String,
    /// One sentence for each problem, with its line; after twenty of them, the number of further ones.
    pub problems: Vec<String>,
}

impl Dataset {
    /// Parses a dataset from JSONL; empty lines are skipped.
    ///
    /// # Errors
    /// Returns the problems of all lines if a line is no valid case, if an id occurs twice, or if there is no case.
    pub fn parse(name: &str, version: &str, text: &str) -> Result<Dataset, DatasetError> {
        let (mut cases, mut problems, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match parse_case(line) {
                Ok(case) if seen.insert(case.id.clone()) => cases.push(case),
                Ok(case) => problems.push(format!(
                    "line {}: there is another case with id {:?}; ids pair the arms and must be unique",
                    index + 1,
                    case.id
                )),
                Err(problem) => problems.push(format!("line {}: {problem}", index + 1)),
            }
        }
        if cases.is_empty() && problems.is_empty() {
            problems.push("it has no case; write one JSON object per line".to_owned());
        }
        if problems.is_empty() {
            let sha256 = sha256(text);
            return Ok(Dataset { name: name.to_owned(), version: version.to_owned(), sha256, cases });
        }
        if problems.len() > MAX_LISTED_PROBLEMS {
            let more = problems.len() - MAX_LISTED_PROBLEMS;
            problems.truncate(MAX_LISTED_PROBLEMS);
            problems.push(format!("and {more} more"));
        }
        Err(DatasetError { name: name.to_owned(), problems })
    }

    /// Returns the cases in an order that depends on `seed` alone (Fisher and Yates). Cases are asked in this order, so that
    /// a change of the target over time does not meet one kind of cases, as sorted ones would.
    pub fn shuffled(&self, seed: u64) -> Vec<&Case> {
        let mut cases: Vec<&Case> = self.cases.iter().collect();
        let mut random = Random::new(seed);
        for last in (1..cases.len()).rev() {
            cases.swap(last, random.below(last + 1));
        }
        cases
    }
}

/// Returns the SHA-256 of `content` in 64 hexadecimal digits, as `sha256sum` prints it.
pub fn sha256(content: impl AsRef<[u8]>) -> String {
    use std::fmt::Write as _;
    Sha256::digest(content.as_ref()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn parse_case(line: &str) -> Result<Case, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    if value.get("id").is_none() {
        return Err(
            "the case has no `id`; give each case a unique id that stays the same when others are added".to_owned()
        );
    }
    let case: Case = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if case.id.is_empty() {
        return Err("the `id` is empty".to_owned());
    }
    match (&case.prompt, case.messages.is_empty()) {
        (None, true) => Err(format!("case {:?} has no question; write `prompt` or `messages`", case.id)),
        (Some(_), false) => Err(format!("case {:?} has `prompt` and `messages`; write only one of them", case.id)),
        _ if case.messages.iter().any(|message| message.get("role").and_then(Value::as_str).is_none()) => {
            Err(format!("case {:?} has a message without a `role`", case.id))
        }
        _ => Ok(case),
    }
}
