//! The metrics of the gates as one table: each metric's name in a suite, its aggregation, its bad direction, its unit
//! and its words in a sentence.

use bellwether_core::measure::metric::Unit;
use serde::{Deserialize, Serialize};

/// The kind of a gate: the group of metrics that it can measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateMetricKind {
    /// Whether the model gives the same answer to the same question.
    Consistency,
    /// Whether the answers are good.
    Quality,
    /// Whether the model can be made to do harm, and whether it refuses harmless prompts.
    Safety,
    /// Latency, success rate and cost.
    Performance,
    /// Whether the model is right as often as its stated confidence says.
    Calibration,
    /// Whether an agent uses its tools correctly.
    Tools,
    /// The results of another test tool.
    Imported,
}

impl GateMetricKind {
    /// Returns the kind's name in a suite.
    pub fn name(self) -> &'static str {
        match self {
            GateMetricKind::Consistency => "consistency",
            GateMetricKind::Quality => "quality",
            GateMetricKind::Safety => "safety",
            GateMetricKind::Performance => "performance",
            GateMetricKind::Calibration => "calibration",
            GateMetricKind::Tools => "tools",
            GateMetricKind::Imported => "imported",
        }
    }
}

/// The way in which a metric's values become one estimate with a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregation {
    /// The share of cases for which the metric is true, with an exact bound.
    Share,
    /// The mean of one number from 0 to 1 per case, with a bound for means.
    Score,
    /// The quantile of one duration per request, with an exact bound. The field is the quantile's order, from 0 to 1.
    Quantile(f64),
    /// The quotient of two sums over the cases, with a bound by resampling.
    Ratio,
}

/// The direction in which a metric becomes worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worse {
    /// Higher values are worse: limits are maxima.
    More,
    /// Lower values are worse: limits are minima.
    Less,
    /// Neither direction is worse: a limit may be a maximum or a minimum.
    Neither,
}

/// The definition of one metric of a gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateMetric {
    /// The kind of gate that measures the metric.
    pub kind: GateMetricKind,
    /// The metric's name in a suite, unique within its kind.
    pub name: &'static str,
    /// The way in which its values become one estimate.
    pub aggregation: Aggregation,
    /// The direction in which it becomes worse.
    pub worse: Worse,
    /// The unit in which its values are written and shown.
    pub unit: Unit,
    /// The metric's words in a sentence: of a share, the words that follow "3 of 300"; otherwise the name of the
    /// quantity.
    pub words: &'static str,
}

const fn metric(
    kind: GateMetricKind,
    name: &'static str,
    aggregation: Aggregation,
    worse: Worse,
    unit: Unit,
    words: &'static str,
) -> GateMetric {
    GateMetric { kind, name, aggregation, worse, unit, words }
}

/// The definitions of all metrics.
pub const METRICS: &[GateMetric] = {
    use Aggregation::{Quantile, Ratio, Score, Share};
    use GateMetricKind::{Calibration, Consistency, Imported, Performance, Quality, Safety, Tools};
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
        metric(
            Performance,
            "answer-start-p50",
            Quantile(0.5),
            More,
            Unit::Milliseconds,
            "median time to the first token after the thinking",
        ),
        metric(
            Performance,
            "answer-start-p95",
            Quantile(0.95),
            More,
            Unit::Milliseconds,
            "p95 of the time to the first token after the thinking",
        ),
        metric(Performance, "total-p50", Quantile(0.5), More, Unit::Milliseconds, "median time to the last token"),
        metric(Performance, "total-p95", Quantile(0.95), More, Unit::Milliseconds, "p95 of the time to the last token"),
        metric(Performance, "success", Share, Less, Unit::Percent, "requests got a right and complete answer"),
        metric(Performance, "failed-attempts", Share, More, Unit::Percent, "requests had an attempt that failed"),
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

impl GateMetric {
    /// Returns the metric of this name that a gate of this kind measures; `None` if there is none.
    pub fn find(kind: GateMetricKind, name: &str) -> Option<&'static GateMetric> {
        METRICS.iter().find(|metric| metric.kind == kind && metric.name == name)
    }

    /// Returns the names of all metrics that a gate of this kind measures.
    pub fn names(kind: GateMetricKind) -> Vec<&'static str> {
        METRICS.iter().filter(|metric| metric.kind == kind).map(|metric| metric.name).collect()
    }
}
