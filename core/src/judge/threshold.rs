//! The `threshold` judge: a value over a sliding window against a limit, so many times in a row.
//!
//! Below a minimum of requests it answers `insufficient`, and where nothing can be measured `blind`. (In the article that the rule
//! comes from, a missing metric counts as healthy.) The value of a drift metric is a distance between two distributions
//! ([`drift`]).

use serde::{Deserialize, Serialize};

use super::numbers::Numbers;
use super::rule::{Finding, JudgeRule, Look, Opinion, RawSettings, SettingProblem, Target};
use super::windowed::{self, WindowRule, WindowState};
use crate::measure::metric::{Limit, MetricKind};
use crate::measure::window::Measure;
use crate::time::Span;

pub mod drift;
mod drift_finding;

pub use drift_finding::DriftFinding;

/// The threshold judge, with the settings of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Threshold(pub WindowRule);

/// The numbers of the threshold judge alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdFinding {
    /// None: the value is all that there is.
    Value,
    /// The distance between two distributions.
    Drift(DriftFinding),
}

impl Finding for ThresholdFinding {
    fn sentence(&self, numbers: &Numbers) -> Option<String> {
        match self {
            ThresholdFinding::Value => None,
            ThresholdFinding::Drift(drift) => drift.sentence(numbers),
        }
    }
}

impl JudgeRule for Threshold {
    type State = WindowState;
    type Finding = ThresholdFinding;
    const NAME: &'static str = "threshold";
    const KEYS: &'static [&'static str] = windowed::KEYS;

    fn read(raw: &RawSettings, _target: Target<'_>) -> Result<Threshold, Vec<SettingProblem>> {
        WindowRule::read(raw).map(Threshold)
    }

    fn begin(&self, _look: &Look<'_>) -> WindowState {
        WindowState::default()
    }

    fn look(&self, state: &mut WindowState, look: &Look<'_>) -> Option<Opinion<ThresholdFinding>> {
        let rule = self.0;
        if !state.is_due(rule, look) {
            return None;
        }
        if look.target.metric.kind != MetricKind::Drift {
            let subject = windowed::measure(rule, look, look.arm);
            let numbers = state.numbers(rule, look, subject, |subject| is_broken(look.target.limit, subject));
            return Some(Opinion { numbers, finding: ThresholdFinding::Value });
        }
        let Some((subject, drift)) = drift::measure(rule.window, look) else {
            let numbers = state.numbers(rule, look, None, |_| None);
            return Some(Opinion { numbers, finding: ThresholdFinding::Value });
        };
        // A distance needs enough requests on both sides.
        let enough = drift.reference >= look.min_requests;
        let broken = |subject: &Measure| {
            is_broken(look.target.limit, subject).map(|broken| broken && drift.is_more_than_chance())
        };
        let mut numbers = state.numbers(rule, look, Some(subject.clone()).filter(|_| enough), broken);
        numbers.subject = Some(subject);
        Some(Opinion { numbers, finding: ThresholdFinding::Drift(drift) })
    }

    fn window(&self) -> Span {
        self.0.window
    }

    fn reads_windows(&self) -> bool {
        true
    }
}

/// Whether the limit is broken. `None`: the buckets can't tell, because both the value and the limit lie above their last edge.
fn is_broken(limit: Limit, subject: &Measure) -> Option<bool> {
    match limit {
        Limit::Max(max) if subject.beyond => (subject.value >= max).then_some(true),
        Limit::Min(min) if subject.beyond => (subject.value >= min).then_some(false),
        Limit::Max(_) | Limit::Min(_) => Some(limit.is_broken_by(subject.value)),
    }
}
