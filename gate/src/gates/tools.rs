//! The tools gate: whether an agent uses its tools correctly. Each case is a task, and a case counts by the worst of
//! its repeats: a fault that occurs once has occurred, and a task is solved only if every repeat solves it.

use super::Recorded;
use super::cases::{ByCase, mean, one_if, per_case, sum};
use crate::evidence::{Measured, Possible};
use crate::observation::{GateArm, Observation};
use crate::score::tools::ToolUse;
use crate::suite::{CallSource, Gate};

/// Measures a metric of this kind for each case.
pub(super) fn measure(gate: &Gate, metric: &str, arm: &ByCase<'_>) -> Measured {
    if metric == "steps-per-task" {
        let steps_of = |tries: &Vec<&Observation>| {
            (sum(tries.iter().map(|one| steps(gate, one))), Possible::known(tries.len() as f64))
        };
        return Measured::Ratio(arm.iter().map(|(case, tries)| ((*case).to_owned(), steps_of(tries))).collect());
    }
    let is_fault = matches!(metric, "forbidden" | "loops");
    let holds = |tools: &ToolUse| match metric {
        "forbidden" => !tools.forbidden.is_empty(),
        "loops" => tools.circle,
        _ => tools.right,
    };
    per_case(arm, |answers| {
        let repeats = answers.iter().map(|answer| match metric {
            "solved" => answer.right.map(one_if),
            _ => answer.tools.as_ref().map(|tools| one_if(holds(tools))),
        });
        // A fault in any repeat counts as 1; a merit counts as 1 only if all repeats have it.
        mean(repeats).map(if is_fault { libm::ceil } else { libm::floor })
    })
}

/// Returns the reason why a tools gate proves nothing about an arm: its tasks have no call of a tool at all. Calls that are
/// made where the gate does not look would otherwise be told as calls that were not made. `None` if there are some, no task has
/// an answer, or the run is not finished.
pub(super) fn unseen(recorded: &Recorded<'_>, arm: GateArm, name: &str) -> Option<String> {
    let of_arm = recorded.observations.iter().filter(|observation| observation.key.arm == arm);
    let uses: Vec<&ToolUse> = of_arm.filter_map(|observation| observation.scored()?.tools.as_ref()).collect();
    if uses.is_empty() || uses.iter().any(|tools| tools.calls > 0) || recorded.not_asked() > 0 {
        return None;
    }
    let (place, remedy) = match recorded.gate.calls {
        CallSource::Answer => ("answers", "if the agent calls its tools inside, set calls = \"traces\""),
        CallSource::Traces => (
            "traces",
            "let the agent record a span with gen_ai.operation.name = execute_tool and gen_ai.tool.name for each call",
        ),
    };
    Some(format!("no call of a tool was seen in the {place} of {name} to {} tasks; {remedy}", uses.len()))
}

/// Returns the number of steps of a task. One that broke off, or whose trace doesn't tell them, took at least one step, and at
/// most as many as the gate allows.
fn steps(gate: &Gate, task: &Observation) -> Possible {
    let known = task.scored().and_then(|scored| scored.tools.as_ref()?.steps).map(f64::from);
    known.map_or(Possible { low: 1.0, high: f64::from(gate.max_steps) }, Possible::known)
}
