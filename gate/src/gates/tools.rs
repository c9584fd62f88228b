//! The tools gate: whether an agent uses its tools correctly. Each case is a task, and a case counts by the worst of
//! its repeats: a fault that occurs once has occurred, and a task is solved only if every repeat solves it.

use super::cases::{ByCase, mean, one_if, per_case};
use crate::evidence::Measured;
use crate::score::tools::ToolUse;

/// Measures a metric of this kind for each case.
pub(super) fn measure(metric: &str, arm: &ByCase<'_>) -> Measured {
    if metric == "steps-per-task" {
        let steps = |tools: &ToolUse| (f64::from(tools.steps), 1.0);
        let sums = arm.iter().filter_map(|(case, answers)| {
            let pairs: Option<Vec<(f64, f64)>> =
                answers.iter().map(|observation| observation.scored()?.tools.as_ref().map(steps)).collect();
            let sum = pairs?.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            Some(((*case).to_owned(), sum))
        });
        return Measured::Ratio(sums.collect());
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
