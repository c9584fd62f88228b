//! How an agent used its tools: from the calls that it made, in their order.

use serde::{Deserialize, Serialize};

use crate::dataset::Case;

/// The same call so often is a circle.
const CIRCLE: usize = 3;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Of which tool.
    pub name: String,
    /// With which arguments, as the model wrote them.
    pub arguments: String,
}

/// What a task's calls come to; without the arguments, which may hold what a user said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Used {
    /// Requests to the model that the task took.
    pub steps: u32,
    /// Forbidden tools that were called.
    pub forbidden: Vec<String>,
    /// Every tool that is needed was called.
    pub right: bool,
    /// It called the same again and again, or did not come to an end.
    pub circle: bool,
}

/// What `calls` over `steps` steps come to; `ended`: the agent gave an answer at last.
pub fn used(case: &Case, calls: &[Call], steps: u32, ended: bool) -> Used {
    let called = |name: &String| calls.iter().any(|call| call.name == *name);
    let again = |call: &Call| calls.iter().filter(|other| *other == call).count() >= CIRCLE;
    Used {
        steps,
        forbidden: case.forbid_tools.iter().filter(|name| called(name)).cloned().collect(),
        right: case.expect_tools.iter().all(called),
        circle: !ended || calls.iter().any(again),
    }
}
