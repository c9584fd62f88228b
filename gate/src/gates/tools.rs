//! Whether an agent uses its tools rightly. A task is one case; what it did in any of its repeats it does.

use super::{ByCase, mean, per_case};
use crate::evidence::Measured;
use crate::score::tools::Used;

pub(super) fn measure(metric: &str, arm: &ByCase<'_>) -> Measured {
    if metric == "steps-per-task" {
        let steps = |used: &Used| (f64::from(used.steps), 1.0);
        let sums = arm.iter().filter_map(|(case, answers)| {
            let used: Option<Vec<(f64, f64)>> =
                answers.iter().map(|observation| observation.scored()?.tools.as_ref().map(steps)).collect();
            let sum = used?.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            Some(((*case).to_owned(), sum))
        });
        return Measured::Ratio(sums.collect());
    }
    let any = matches!(metric, "forbidden" | "loops");
    let holds = |used: &Used| match metric {
        "forbidden" => !used.forbidden.is_empty(),
        "loops" => used.circle,
        _ => used.right,
    };
    per_case(arm, |answers| {
        let each = answers.iter().map(|answer| match metric {
            "solved" => answer.right.map(|right| f64::from(u8::from(right))),
            _ => answer.tools.as_ref().map(|used| f64::from(u8::from(holds(used)))),
        });
        // Of what is bad, once is enough; of what is good, every time.
        mean(each).map(if any { libm::ceil } else { libm::floor })
    })
}
