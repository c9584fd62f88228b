//! Tasks that Inspect has run: the samples of an eval log with the same ids as the cases, with their answers and calls.
//!
//! Source of the form: inspect_ai, `EvalSample` (`id`, `epoch`, `messages`, `output`, `error`) and `ChatMessageAssistant`
//! (`tool_calls` with `function` and `arguments`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bellwether_gate::dataset::sha256;
use bellwether_gate::import::inspect_samples;
use bellwether_gate::score::conversation::text_of;
use bellwether_gate::score::tools::Call;
use serde_json::Value;

/// The reason why an eval log can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the eval log {path} of `traces.inspect` can't be read: {problem}", path = path.display())]
pub struct InspectError {
    path: PathBuf,
    problem: String,
}

/// The recorded tasks of an eval log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InspectLog {
    /// SHA-256 of the log in hexadecimal digits.
    pub sha256: String,
    /// Tasks by the id of their sample and its epoch, from 0.
    tasks: BTreeMap<(String, u32), InspectTask>,
}

/// A recorded task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InspectTask {
    /// Turns of the user, each with the agent's answers and calls.
    pub turns: Vec<InspectTurn>,
    /// The error that ended the task; `None` if it came to its end.
    pub error: Option<String>,
}

/// A turn of a recorded task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InspectTurn {
    /// Calls in their order.
    pub calls: Vec<Call>,
    /// Number of answers of the model.
    pub steps: u32,
    /// Text of the last answer.
    pub text: String,
    /// Whether the last answer has no call.
    pub ended: bool,
}

impl InspectLog {
    /// Reads the log at `path`.
    ///
    /// # Errors
    /// [`InspectError`] if it can't be read, or is of a run that did not come to its end.
    pub fn read(path: &Path) -> Result<InspectLog, InspectError> {
        let failed = |problem: String| InspectError { path: path.to_owned(), problem };
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        InspectLog::parse(&bytes).map_err(failed)
    }

    /// Parses a log.
    ///
    /// # Errors
    /// The reason why it is not the log of a finished run.
    pub fn parse(bytes: &[u8]) -> Result<InspectLog, String> {
        let samples = inspect_samples(bytes).map_err(|error| error.to_string())?;
        let mut tasks = BTreeMap::new();
        for sample in samples {
            let id = match sample.get("id") {
                Some(Value::String(id)) => id.clone(),
                Some(Value::Number(id)) => id.to_string(),
                _ => return Err("a sample has no id".to_owned()),
            };
            let epoch = sample.get("epoch").and_then(Value::as_u64).unwrap_or(1).saturating_sub(1);
            let epoch = u32::try_from(epoch).map_err(|error| error.to_string())?;
            if tasks.insert((id.clone(), epoch), task(&sample)).is_some() {
                return Err(format!("there are two samples {id:?} of the same epoch"));
            }
        }
        Ok(InspectLog { sha256: sha256(bytes), tasks })
    }

    /// Returns the task of a case, by the number of its repeat, from 0. `None` if the log has none.
    pub fn task(&self, case: &str, repeat: u32) -> Option<&InspectTask> {
        self.tasks.get(&(case.to_owned(), repeat))
    }
}

fn task(sample: &Value) -> InspectTask {
    let error = sample.get("error").filter(|error| !error.is_null());
    let limit = sample.get("limit").filter(|limit| !limit.is_null());
    let words = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    // The message of an error may repeat the prompt, so only its kind is kept.
    let error = error.map(|_| "the sample ended with an error".to_owned());
    let error =
        error.or_else(|| limit.map(|limit| format!("the sample reached its limit of {}", words(limit, "type"))));
    let mut turns: Vec<InspectTurn> = Vec::new();
    let messages = sample.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for message in messages {
        match (message.get("role").and_then(Value::as_str), turns.last_mut()) {
            // Further messages of the user before an answer are of the same turn.
            (Some("user"), last) if last.as_ref().is_none_or(|turn| turn.steps > 0) => {
                turns.push(InspectTurn::default())
            }
            (Some("assistant"), Some(turn)) => turn.add(message),
            (Some("assistant"), None) => {
                let mut turn = InspectTurn::default();
                turn.add(message);
                turns.push(turn);
            }
            _ => {}
        }
    }
    InspectTask { turns, error }
}

impl InspectTurn {
    fn add(&mut self, message: &Value) {
        let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let call = |call: &Value| {
            let name = call.get("function").and_then(Value::as_str)?.to_owned();
            Some(Call { name, arguments: call.get("arguments").map(Value::to_string) })
        };
        self.steps += 1;
        self.ended = calls.is_empty();
        self.calls.extend(calls.iter().filter_map(call));
        self.text = text_of(message.get("content").unwrap_or(&Value::Null));
    }
}
