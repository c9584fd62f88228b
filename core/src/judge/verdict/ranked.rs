//! What the mann-whitney judge has found, and the sentence about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Evidence, Verdict};
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

    /// The sentence about `evidence`, which this is a part of.
    pub(crate) fn say(&self, evidence: &Evidence, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { check, unit, window, .. } = evidence;
        let values = format!("{} values against {} in {window}", self.subject, self.stable);
        let (Some(subject), Some(stable), Some(_)) = (&evidence.subject, &evidence.stable, self.is_broken()) else {
            return write!(f, "{check} can't be ranked yet: {values}, and it takes {LEAST} on each side");
        };
        let bad = if matches!(evidence.limit, Limit::Max(_)) { "high" } else { "low" };
        let (sign, looks) = match (evidence.verdict, evidence.breaches) {
            (Verdict::Pass, _) => ("not ", String::new()),
            (Verdict::Regressed, 0..=1) => ("", String::new()),
            (Verdict::Regressed, times) => ("", format!(" at {times} looks in a row")),
            (_, times) => ("", format!(", look {times} of {}", evidence.breaches_needed)),
        };
        let shift = self.shift.map_or(String::new(), |shift| format!("; {}", said(shift, *unit)));
        let (subject, stable) = (unit.show(subject.value), unit.show(stable.value));
        write!(f, "{check} {subject} is {sign}{bad} beside the stable's {stable}{looks} ({values}{shift})")
    }
}

fn said(shift: Shift, unit: Unit) -> String {
    let show = |value: f64| match unit {
        Unit::Seconds | Unit::Milliseconds => Unit::Milliseconds.show(value),
        Unit::Percent | Unit::PerSecond | Unit::Number => Unit::Number.show(value),
    };
    let points = if unit == Unit::Percent { " points" } else { "" };
    let Shift { lower, upper, estimate } = shift;
    format!("shifted by {}{points}, with 98 % between {} and {}", show(estimate), show(lower), show(upper))
}
