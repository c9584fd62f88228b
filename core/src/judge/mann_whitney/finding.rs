//! The finding of the `mann-whitney` judge, and its sentence.

use serde::{Deserialize, Serialize};

use crate::judge::numbers::{Numbers, Verdict};
use crate::judge::rule::Finding;
use crate::measure::metric::{Limit, Unit};
use crate::stats::mann_whitney::{Label, Shift};

/// The number of values that each side needs before the judge compares them.
pub(crate) const LEAST: usize = 5;

/// The result of a comparison of the canary's values with the stable's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RankFinding {
    /// The label of the comparison; `None` with too few values.
    pub label: Option<Label>,
    /// The shift from the stable's values to the canary's, in percentage points, milliseconds or the metric's own unit;
    /// `None` if it can't be estimated.
    pub shift: Option<Shift>,
    /// The number of the canary's values.
    pub subject: usize,
    /// The number of the stable's values.
    pub stable: usize,
}

impl RankFinding {
    /// Returns whether the canary's values are on the bad side; `None` if that can't be decided.
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
