//! A check: a metric, a limit, and the judge that holds one against the other.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::judges::{Judge, JudgeKind, JudgeState};
use super::numbers::Verdict;
use super::rule::{Look, RawSettings, Target, judge_keys};
use crate::measure::calibration::Criterion;
use crate::measure::metric::{Limit, Metric, RawLimit};
use crate::time::Span;

/// Declares [`RawCheck`] from the keys of every check, in braces, and the keys that belong to judges.
macro_rules! raw_check {
    ({ $($common:tt)* } $($(#[$doc:meta])* $key:ident: $value:ty,)*) => {
        /// A check, as written in TOML.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct RawCheck {
            $($common)*
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $key: Option<$value>,)*
        }

        impl RawCheck {
            /// Returns the settings that belong to the judge.
            pub fn settings(&self) -> RawSettings {
                RawSettings { $($key: Clone::clone(&self.$key),)* }
            }
        }
    };
}

judge_keys!(raw_check! {{
    /// The check's name; without one, the metric's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The metric's name.
    pub metric: String,
    /// The judge; without one, `sequential` where requests are counted and `threshold` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeKind>,
    /// The highest allowed value (`"5%"`, `"500ms"`, a number).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<RawLimit>,
    /// The lowest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<RawLimit>,
    /// Histograms: the quantile that is compared, between 0 and 1.
    #[serde(default = "quantile")]
    pub quantile: f64,
    /// The consequence of a regression: `roll-back` or `warn`; without it, `warn` for drifts and `roll-back` for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_regressed: Option<OnRegressed>,
    /// The fewest requests on which it is judged: in the window, or for the sequential judge since the first step.
    #[serde(default = "min_requests")]
    pub min_requests: u64,
}});

fn quantile() -> f64 {
    0.95
}

fn min_requests() -> u64 {
    100
}

/// The consequence of a check's regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRegressed {
    /// The rollout is rolled back.
    RollBack,
    /// A warning is reported once; no phase waits for the check.
    Warn,
}

/// A metric, a limit, and the judge that holds one against the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// The check's name, unique within its step or guard.
    pub name: String,
    /// The metric's name in the policy.
    pub metric: String,
    /// The limit, in the metric's own unit.
    pub limit: Limit,
    /// The quantile that is compared, 0 to 1, if the metric is a histogram.
    pub quantile: f64,
    /// The fewest requests on which it is judged.
    pub min_requests: u64,
    /// Whether a regression only warns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warns: bool,
    /// The judge with its settings.
    pub judge: Judge,
}

impl Check {
    /// Returns the events that it counts as bad.
    pub fn criterion(&self) -> Criterion {
        Criterion { metric: self.metric.clone(), limit: self.limit, distribution: !self.judge.needs_dispersion() }
    }

    /// Returns the limit, the definition and the quantile that it is judged by.
    pub fn target<'a>(&self, metric: &'a Metric) -> Target<'a> {
        Target { limit: self.limit, metric, quantile: self.quantile }
    }
}

/// The newest evidence of a check.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckState {
    /// The newest evidence; `None` before the first look.
    pub evidence: Option<Evidence>,
    /// Whether the check only warns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warns: bool,
}

impl CheckState {
    /// Lets the check's judge look at the newest block.
    pub fn look(&mut self, check: &Check, state: &mut Option<JudgeState>, look: &Look<'_>) {
        self.warns = check.warns;
        if let Some((numbers, finding)) = check.judge.look(state, look) {
            self.evidence = Some(Evidence { numbers, finding });
        }
    }

    /// Returns the newest verdict; `None` before the first look.
    pub fn verdict(&self) -> Option<Verdict> {
        self.evidence.as_ref().map(|evidence| evidence.verdict)
    }
}
