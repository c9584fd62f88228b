//! What the mann-whitney judge has found, and the sentence about it.

use serde::{Deserialize, Serialize};

use crate::judge::numbers::{Numbers, Verdict};
use crate::judge::rule::Finding;
use crate::measure::metric::{Limit, Unit};
use crate::stats::mann_whitney::{Label, Shift};

/// The fewest values on either side of which anything is said.
pub(crate) const LEAST: usize = 5;

/// What was compared, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RankFinding {
    /// What it is called; `None`: too few values to tell.
    pub label: Option<Label>,
    /// From the stable's values to the canary's, in percentage points, milliseconds, or as the metric counts.
    pub shift: Option<Shift>,
    /// So many values of the canary …
    pub subject: usize,
    /// … and so many of the stable.
    pub stable: usize,
}

impl RankFinding {
    /// Whether the canary is on the bad side; `None`: it can't be told.
    pub fn is_broken(&self) -> Option<bool> {
        match self.label? {
            Label::High | Label::Low | Label::NoDataFails => Some(true),
            Label::Pass => Some(false),
            Label::NoData | Label::Error => None,
        }
    }
}

impl Finding for RankFinding {
    fn sentence(&self, numbers: &Numbers) -> Option<String> {
        if numbers.verdict == Verdict::Blind || numbers.subject.is_none() || numbers.requests() < numbers.need {
            return None;
        }
        let Numbers { check, unit, window, .. } = numbers;
        let values = format!("{} values against {} in {window}", self.subject, self.stable);
        let (Some(subject), Some(stable), Some(_)) = (&numbers.subject, &numbers.stable, self.is_broken()) else {
            return Some(format!("{check} can't be ranked yet: {values}, and it takes {LEAST} on each side"));
        };
        let bad = if matches!(numbers.limit, Limit::Max(_)) { "high" } else { "low" };
        let (sign, looks) = match (numbers.verdict, numbers.breaches) {
            (Verdict::Pass, _) => ("not ", String::new()),
            (Verdict::Regressed, 0..=1) => ("", String::new()),
            (Verdict::Regressed, times) => ("", format!(" at {times} looks in a row")),
            (_, times) => ("", format!(", look {times} of {}", numbers.breaches_needed)),
        };
        let shift = self.shift.map_or(String::new(), |shift| format!("; {}", shift_phrase(shift, *unit)));
        let (subject, stable) = (unit.show(subject.value), unit.show(stable.value));
        Some(format!("{check} {subject} is {sign}{bad} beside the stable's {stable}{looks} ({values}{shift})"))
    }
}

fn shift_phrase(shift: Shift, unit: Unit) -> String {
    let show = |value: f64| match unit {
        Unit::Seconds | Unit::Milliseconds => Unit::Milliseconds.show(value),
        Unit::Percent | Unit::PerSecond | Unit::Number => Unit::Number.show(value),
    };
    let points = if unit == Unit::Percent { " points" } else { "" };
    let Shift { lower, upper, estimate } = shift;
    format!("shifted by {}{points}, with 98 % between {} and {}", show(estimate), show(lower), show(upper))
}
