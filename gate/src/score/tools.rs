//! The tool use of an agent, from the calls that it made during a task.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dataset::{CallOrder, CallRules, ToolPattern};

/// The number of identical calls that counts as a loop.
const LOOP_CALLS: usize = 3;

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The tool's name.
    pub name: String,
    /// The arguments as the model wrote them; `None` if a trace does not tell them.
    pub arguments: Option<String>,
}

/// The summary of a task's tool calls. It omits the arguments, which may contain a user's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToolUse {
    /// The number of requests to the model that the task took; `None` if a trace does not tell it.
    pub steps: Option<u32>,
    /// The number of calls.
    #[serde(default)]
    pub calls: u32,
    /// The names of the forbidden tools that were called, or that were called with forbidden arguments.
    pub forbidden: Vec<String>,
    /// Whether the expected calls were made, in the order that the case asks for, and no more calls than it allows.
    pub right: bool,
    /// Whether the agent repeated a call three times, or used up its steps without an answer.
    pub circle: bool,
}

/// The error of calls whose arguments are not known, although the case asks for them. It holds the tool's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the trace does not tell the arguments of {0}, which the case asks for; let the agent record them")]
pub struct UnknownArguments(pub String);

impl Default for ToolUse {
    /// Returns the tool use of a task before its first turn.
    fn default() -> ToolUse {
        ToolUse { steps: Some(0), calls: 0, forbidden: Vec::new(), right: true, circle: false }
    }
}

impl ToolUse {
    /// Adds the tool use of a further turn: each turn must be right, and a fault in one of them is a fault of the task.
    pub fn add(&mut self, turn: ToolUse) {
        self.steps = self.steps.zip(turn.steps).map(|(sum, steps)| sum + steps);
        self.calls += turn.calls;
        self.forbidden.extend(turn.forbidden);
        self.forbidden.sort();
        self.forbidden.dedup();
        self.right &= turn.right;
        self.circle |= turn.circle;
    }
}

/// Returns the names of the forbidden tools among `calls`.
///
/// # Errors
/// [`UnknownArguments`] if none is known to be forbidden, and one is if its arguments are those that the case forbids.
pub fn forbidden(rules: &CallRules<'_>, calls: &[Call]) -> Result<Vec<String>, UnknownArguments> {
    let called = |pattern: &&&ToolPattern| calls.iter().any(|call| matches(pattern, call) == Some(true));
    let mut names: Vec<String> = rules.forbid.iter().filter(called).map(|pattern| pattern.name.clone()).collect();
    names.sort();
    names.dedup();
    let may_be = |call: &&Call| rules.forbid.iter().any(|pattern| matches(pattern, call).is_none());
    match calls.iter().find(may_be).filter(|_| names.is_empty()) {
        Some(call) => Err(UnknownArguments(call.name.clone())),
        None => Ok(names),
    }
}

/// Summarizes the `calls` of one turn, which are in the order in which they were made. `steps` is the number of requests
/// to the model, and `ended` says whether the agent gave a final answer.
///
/// # Errors
/// [`UnknownArguments`] if the arguments of a call are not known, and the result depends on them.
pub fn summarize(
    rules: &CallRules<'_>,
    calls: &[Call],
    steps: Option<u32>,
    ended: bool,
) -> Result<ToolUse, UnknownArguments> {
    let forbidden = forbidden(rules, calls)?;
    let right = is_right(rules, calls, false);
    let is_asked = |call: &&Call| rules.expect.iter().any(|pattern| matches(pattern, call).is_none());
    if !right
        && forbidden.is_empty()
        && let Some(call) = calls.iter().find(is_asked)
        && is_right(rules, calls, true)
    {
        return Err(UnknownArguments(call.name.clone()));
    }
    let repeated =
        |call: &Call| call.arguments.is_some() && calls.iter().filter(|other| *other == call).count() >= LOOP_CALLS;
    Ok(ToolUse {
        steps,
        calls: u32::try_from(calls.len()).unwrap_or(u32::MAX),
        forbidden,
        right,
        circle: !ended || calls.iter().any(repeated),
    })
}

/// Returns whether the calls are those that a turn asks for. `if_unknown` is the assumption about arguments that are not
/// known: whether they are as a pattern asks.
fn is_right(rules: &CallRules<'_>, calls: &[Call], if_unknown: bool) -> bool {
    let fits = |pattern: &ToolPattern, call: &Call| matches(pattern, call).unwrap_or(if_unknown);
    let made = match rules.order {
        CallOrder::Listed => {
            let mut left = calls.iter();
            rules.expect.iter().all(|pattern| left.any(|call| fits(pattern, call)))
        }
        CallOrder::Any => {
            let mut takers: Vec<Option<usize>> = vec![None; calls.len()];
            (0..rules.expect.len()).all(|at| {
                let mut seen = vec![false; calls.len()];
                assign(at, &|pattern, call| fits(&rules.expect[pattern], &calls[call]), &mut takers, &mut seen)
            })
        }
    };
    made && rules.max_calls.is_none_or(|most| calls.len() <= most as usize)
}

/// Gives the pattern a call of its own, and other patterns another call if it takes theirs (a bipartite matching by
/// augmenting paths). Returns whether there is one. `takers` has the pattern of each call, and `seen` the calls that this
/// search has tried.
fn assign(
    pattern: usize,
    fits: &dyn Fn(usize, usize) -> bool,
    takers: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for call in 0..takers.len() {
        if seen[call] || !fits(pattern, call) {
            continue;
        }
        seen[call] = true;
        if takers[call].is_none_or(|other| assign(other, fits, takers, seen)) {
            takers[call] = Some(pattern);
            return true;
        }
    }
    false
}

/// Returns whether a call is one of the pattern; `None` if that depends on arguments that are not known.
fn matches(pattern: &ToolPattern, call: &Call) -> Option<bool> {
    if pattern.name != call.name {
        return Some(false);
    }
    let Some(wanted) = &pattern.arguments else { return Some(true) };
    let arguments: Result<Value, _> = serde_json::from_str(call.arguments.as_ref()?);
    Some(arguments.is_ok_and(|arguments| has(&arguments, wanted, pattern.exact)))
}

/// Returns whether `value` is as wanted: equal, where an object may have further keys unless `exact` is set. Numbers are
/// compared by value, so that 7 is 7.0.
fn has(value: &Value, wanted: &Value, exact: bool) -> bool {
    match (value, wanted) {
        (Value::Object(value), Value::Object(wanted)) => {
            let each = |(key, wanted): (&String, &Value)| value.get(key).is_some_and(|value| has(value, wanted, exact));
            (!exact || value.len() == wanted.len()) && wanted.iter().all(each)
        }
        (Value::Array(value), Value::Array(wanted)) => {
            value.len() == wanted.len() && value.iter().zip(wanted).all(|(value, wanted)| has(value, wanted, exact))
        }
        (Value::Number(value), Value::Number(wanted)) => value == wanted || value.as_f64() == wanted.as_f64(),
        (value, wanted) => value == wanted,
    }
}
