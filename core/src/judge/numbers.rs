//! The verdict of a check, and the numbers that every judge gives with it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::block::Gap;
use crate::measure::metric::{Limit, MetricKind, Unit};
use crate::measure::window::Measure;
use crate::time::Span;

/// The answer of a check. A check that can't be measured is `blind` and one with too few requests is `insufficient`; neither is
/// ever taken for a pass or for a regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The limit is kept, on enough evidence.
    Pass,
    /// The limit is broken, on enough evidence.
    Regressed,
    /// There is not enough evidence yet.
    Insufficient,
    /// The check can't be measured.
    Blind,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Verdict; 4] = [Verdict::Pass, Verdict::Regressed, Verdict::Insufficient, Verdict::Blind];
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Regressed => "regressed",
            Verdict::Insufficient => "insufficient",
            Verdict::Blind => "blind",
        })
    }
}

/// The numbers that a verdict rests on, apart from those of one judge alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Numbers {
    /// The check's name.
    pub check: String,
    /// The kind of its metric.
    pub kind: MetricKind,
    /// The unit of all values here.
    pub unit: Unit,
    /// The quantile of the values, 0 to 1; `None` unless the metric is a histogram.
    pub quantile: Option<f64>,
    /// The check's limit.
    pub limit: Limit,
    /// The time over which the values are taken.
    pub window: Span,
    /// The fewest requests on which the check is judged.
    pub need: u64,
    /// The value of the judged arm: the canary, or under guard the stable.
    pub subject: Option<Measure>,
    /// The value of the stable beside the canary.
    pub stable: Option<Measure>,
    /// The looks over the limit in a row.
    pub breaches: u32,
    /// The looks over the limit in a row that are a regression.
    pub breaches_needed: u32,
    /// The reason why the newest block could not be measured.
    pub gap: Option<Gap>,
    /// The verdict.
    pub verdict: Verdict,
}

impl Numbers {
    /// Returns the requests of the judged arm.
    pub fn requests(&self) -> u64 {
        self.subject.as_ref().map_or(0, |subject| subject.n)
    }
}
