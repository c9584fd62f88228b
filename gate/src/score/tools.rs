//! The tool use of an agent, from the calls that it made during a task.

use serde::{Deserialize, Serialize};

use crate::dataset::Case;

/// The number of identical calls that counts as a loop.
const LOOP_CALLS: usize = 3;

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The tool's name.
    pub name: String,
    /// The arguments as the model wrote them.
    pub arguments: String,
}

/// The summary of a task's tool calls. It omits the arguments, which may contain a user's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToolUse {
    /// The number of requests to the model that the task took.
    pub steps: u32,
    /// The names of the forbidden tools that were called.
    pub forbidden: Vec<String>,
    /// Whether every expected tool was called.
    pub right: bool,
    /// Whether the agent repeated a call three times, or used up its steps without an answer.
    pub circle: bool,
}

/// Summarizes the `calls` that an agent made in `steps` steps. `ended` says whether the agent gave a final answer.
pub fn summarize(case: &Case, calls: &[Call], steps: u32, ended: bool) -> ToolUse {
    let called = |name: &String| calls.iter().any(|call| call.name == *name);
    let repeated = |call: &Call| calls.iter().filter(|other| *other == call).count() >= LOOP_CALLS;
    ToolUse {
        steps,
        forbidden: case.forbid_tools.iter().filter(|name| called(name)).cloned().collect(),
        right: case.expect_tools.iter().all(called),
        circle: !ended || calls.iter().any(repeated),
    }
}
