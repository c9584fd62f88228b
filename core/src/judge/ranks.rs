//! The `mann-whitney` judge: Kayenta's classification over the check's window, for those who come from there.
//!
//! Each block of the window gives one value per arm: the share of bad requests, the quantile, the gauge. Ranks tell whether
//! the canary's values lie to the bad side of the stable's ([`mann_whitney`]); the check's limit says which side that is, and
//! its number is not used. Blocks of 15 s take the place of Kayenta's minutes. It keeps that rule's weaknesses: a value knows
//! nothing of its requests, and nothing pays for looking again. Two things are not taken over: what can't be tested is
//! `insufficient`, where Kayenta passes it; and fewer than five values on a side are not tested, since of four against four
//! nothing is as rare as 2 % (of two against two, a quarter of equal versions is called different).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metric::{Limit, Metric, Unit};
use crate::policy::Check;
use crate::stats::mann_whitney::{self, Label, Settings, Shift};
use crate::time::Span;
use crate::verdict::{Evidence, Verdict};
use crate::window::{Ring, Side};

/// The fewest values on either side of which anything is said.
const LEAST: usize = 5;

/// What was compared, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ranked {
    /// What it is called; `None`: too few values to tell.
    pub label: Option<Label>,
    /// From the stable's values to the canary's, in percentage points, milliseconds, or as the metric counts.
    pub shift: Option<Shift>,
    /// So many values of the canary …
    pub subject: usize,
    /// … and so many of the stable.
    pub stable: usize,
}

impl Ranked {
    /// Compares the window that ends with the newest block.
    pub fn of(check: &Check, metric: &Metric, settings: &Settings, ring: &Ring) -> Ranked {
        let values = |side| values(check, metric, ring, side);
        let (subject, stable) = (values(Side::Canary), values(Side::Stable));
        let plain = Ranked { label: None, shift: None, subject: subject.len(), stable: stable.len() };
        if subject.len().min(stable.len()) < LEAST {
            return plain;
        }
        let judgement = mann_whitney::judge(&stable, &subject, settings);
        Ranked { label: Some(judgement.label), shift: judgement.shift, ..plain }
    }

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

/// One value a block, in percent or milliseconds: in units as small as shares and seconds the rule finds nothing.
fn values(check: &Check, metric: &Metric, ring: &Ring, side: Side) -> Vec<f64> {
    let Some(end) = ring.last() else { return Vec::new() };
    let start = check.window.before(end);
    let scale = match metric.unit() {
        Unit::Percent => 100.0,
        Unit::Seconds => 1000.0,
        Unit::Milliseconds | Unit::PerSecond | Unit::Number => 1.0,
    };
    let within = ring.blocks().filter(|block| block.to > start);
    let measured = within.filter_map(|block| {
        let length = Span::between(block.from, block.to);
        ring.measure_at(&check.metric, side, length, check.quantile, block.to)
    });
    let counted = measured.filter(|measure| measure.n > 0 || !metric.kind.counts_requests());
    counted.map(|measure| scale * measure.value).collect()
}
