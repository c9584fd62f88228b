//! What gates measure, as one table: the name in a suite, which way is worse, what is measured of each case, and the words.

use bellwether_core::measure::metric::Unit;
use serde::{Deserialize, Serialize};

/// What a gate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Whether it says the same when it is asked the same.
    Consistency,
    /// Whether answers are good.
    Quality,
    /// Whether it can be talked into harm, and whether it refuses what is harmless.
    Safety,
    /// How fast it is, and what it costs.
    Performance,
    /// Whether it is as often right as it says.
    Calibration,
    /// Whether an agent uses its tools rightly.
    Tools,
    /// What somebody else's tests have found.
    Imported,
}

impl Kind {
    /// As in a suite.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Consistency => "consistency",
            Kind::Quality => "quality",
            Kind::Safety => "safety",
            Kind::Performance => "performance",
            Kind::Calibration => "calibration",
            Kind::Tools => "tools",
            Kind::Imported => "imported",
        }
    }
}

/// What becomes of the cases' numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Yes or no for each case: an exact bound for the share.
    Share,
    /// A number from 0 to 1 for each case: a bound for the mean.
    Score,
    /// A time for each request: an exact bound for this quantile.
    Quantile(f64),
    /// Two sums over the cases, one divided by the other: a bound by resampling.
    Ratio,
}

/// Which way is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worse {
    /// More is worse: limits are maxima.
    More,
    /// Less is worse: limits are minima.
    Less,
    /// Neither; a limit may be on either side.
    Neither,
}

/// One thing that can be measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Of which gate.
    pub kind: Kind,
    /// Its name in a suite.
    pub name: &'static str,
    /// How it is counted.
    pub shape: Shape,
    /// Which way is worse.
    pub worse: Worse,
    /// How it is written.
    pub unit: Unit,
    /// Of a share, what comes after "3 of 300"; otherwise what is measured.
    pub words: &'static str,
}

const fn metric(kind: Kind, name: &'static str, shape: Shape, worse: Worse, unit: Unit, words: &'static str) -> Metric {
    Metric { kind, name, shape, worse, unit, words }
}

/// All of them.
pub const METRICS: &[Metric] = {
    use Kind::{Calibration, Consistency, Imported, Performance, Quality, Safety, Tools};
    use Shape::{Quantile, Ratio, Score, Share};
    use Worse::{Less, More, Neither};
    &[
        metric(Consistency, "mode-share", Score, Less, Unit::Percent, "share of the most frequent answer"),
        metric(Consistency, "agreement", Score, Less, Unit::Percent, "agreement of two answers to one prompt"),
        metric(
            Consistency,
            "semantic",
            Score,
            Less,
            Unit::Percent,
            "agreement in meaning of two answers to one prompt",
        ),
        metric(Consistency, "pass-k", Share, Less, Unit::Percent, "prompts were answered rightly every time"),
        metric(Consistency, "identical", Share, Less, Unit::Percent, "prompts got the same answer every time"),
        metric(Quality, "quality", Score, Less, Unit::Number, "quality"),
        metric(Safety, "attack-success", Share, More, Unit::Percent, "attacks succeeded"),
        metric(Safety, "over-refusal", Share, More, Unit::Percent, "harmless prompts were refused"),
        metric(Performance, "ttft-p50", Quantile(0.5), More, Unit::Milliseconds, "median time to the first token"),
        metric(Performance, "ttft-p95", Quantile(0.95), More, Unit::Milliseconds, "p95 of the time to the first token"),
        metric(Performance, "total-p50", Quantile(0.5), More, Unit::Milliseconds, "median time to the last token"),
        metric(Performance, "total-p95", Quantile(0.95), More, Unit::Milliseconds, "p95 of the time to the last token"),
        metric(Performance, "success", Share, Less, Unit::Percent, "requests were answered well and whole"),
        metric(Performance, "tokens-per-success", Ratio, More, Unit::Number, "output tokens for each success"),
        metric(Performance, "cost-per-success", Ratio, More, Unit::Number, "cost of each success"),
        metric(Performance, "output-per-input", Ratio, Neither, Unit::Number, "output tokens for each input token"),
        metric(Calibration, "brier", Score, More, Unit::Number, "Brier score"),
        metric(Calibration, "accuracy", Share, Less, Unit::Percent, "answers were right"),
        metric(Tools, "forbidden", Share, More, Unit::Percent, "tasks called a forbidden tool"),
        metric(Tools, "right-tools", Share, Less, Unit::Percent, "tasks called the tools that they need"),
        metric(Tools, "loops", Share, More, Unit::Percent, "tasks went in a circle"),
        metric(Tools, "solved", Share, Less, Unit::Percent, "tasks were solved"),
        metric(Tools, "steps-per-task", Ratio, More, Unit::Number, "steps for each task"),
        metric(Imported, "passed", Share, Less, Unit::Percent, "tests passed"),
    ]
};

impl Metric {
    /// The metric of this name that a gate of this kind has.
    pub fn find(kind: Kind, name: &str) -> Option<&'static Metric> {
        METRICS.iter().find(|metric| metric.kind == kind && metric.name == name)
    }

    /// The names of all that a gate of this kind has.
    pub fn names(kind: Kind) -> Vec<&'static str> {
        METRICS.iter().filter(|metric| metric.kind == kind).map(|metric| metric.name).collect()
    }
}
