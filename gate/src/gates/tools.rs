//! The tools gate: whether an agent uses its tools correctly. Each case is a task, and a case counts by the worst of
//! its repeats: a fault that occurs once has occurred, and a task is solved only if every repeat solves it.

use super::cases::{ByCase, mean, one_if, per_case, sum};
use crate::evidence::{Measured, Possible};
use crate::observation::Observation;
use crate::score::tools::ToolUse;
use crate::suite::Gate;

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

/// Returns the number of steps of a task. One that broke off took at least one step, and at most as many as the gate
/// allows.
fn steps(gate: &Gate, task: &Observation) -> Possible {
    let known = task.scored().and_then(|scored| scored.tools.as_ref()).map(|tools| f64::from(tools.steps));
    known.map_or(Possible { low: 1.0, high: f64::from(gate.max_steps) }, Possible::known)
}
