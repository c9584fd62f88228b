//! The port of judges: the settings that a policy gives, the blocks that they look at, and the opinions that they return.

use serde::{Deserialize, Serialize};

use super::numbers::Numbers;
use crate::measure::block::{Reading, Sample, SmallMap};
use crate::measure::calibration::History;
use crate::measure::metric::{Limit, Metric, RawLimit};
use crate::measure::window::{Arm, Measure, Ring};
use crate::time::Span;

/// The time for which blocks are kept for a check, unless its judge looks back further.
pub const WINDOW: Span = Span::from_secs(300);

/// The evidence that a step asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Enough requests, and no alarm.
    #[default]
    NoAlarm,
    /// Evidence that the version is not worse than the policy allows.
    NonInferior,
}

/// Passes the keys of a check that belong to judges to the macro `$declare`, after `$before`. Each key is one word.
macro_rules! judge_keys {
    ($declare:ident! { $($before:tt)* }) => {
        $declare! {
            $($before)*
            /// Sequential judge: the allowed ratio of the canary's share to the stable's, at least 1 (1.25).
            margin: f64,
            /// Sequential judge: the allowed difference of the canary's share and the stable's (0.1 %; for a histogram a tenth of the
            /// share that its quantile allows).
            floor: RawLimit,
            /// Sequential judge: whether it is enough to keep either the limit or the comparison with the stable (false).
            either: bool,
            /// Sequential judge: the bad requests that the version may cause, compared with the stable's share, at least 1. Without
            /// it they are not bounded.
            harm: f64,
            /// Judges of windows: the time between two looks (30 s).
            every: Span,
            /// Judges of windows: the time over which the value is taken (5 min).
            window: Span,
            /// Judges of windows: the looks over the limit in a row that are a regression, at least 1 (1).
            breaches: u32,
        }
    };
}
pub(crate) use judge_keys;

/// Declares [`RawSettings`].
macro_rules! raw_settings {
    ($($(#[$doc:meta])* $key:ident: $value:ty,)*) => {
        /// The settings of a check that belong to its judge, as written in TOML. `None`: the judge's default.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct RawSettings { $($(#[$doc])* pub $key: Option<$value>,)* }

        impl RawSettings {
            /// Returns the keys that were written.
            pub fn written(&self) -> impl Iterator<Item = &'static str> {
                let keys = [$((stringify!($key), self.$key.is_some()),)*];
                keys.into_iter().filter_map(|(key, written)| written.then_some(key))
            }
        }
    };
}

judge_keys!(raw_settings! {});

/// A setting that can't be used: its key in the check, and the problem with the remedy.
pub type SettingProblem = (&'static str, String);

/// The part of a check that its judge is read beside.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The limit, in the metric's own unit.
    pub limit: Limit,
    /// The metric's definition.
    pub metric: &'a Metric,
    /// The quantile of a histogram, 0 to 1.
    pub quantile: f64,
}

/// The part of a policy's error rate that one check may spend.
#[derive(Debug, Clone, Copy)]
pub struct ErrorBudget {
    /// The error rate of everything that may roll a rollout back.
    pub alpha: f64,
    /// The error rate of a proof.
    pub beta: f64,
    /// The checks of the steps that share `alpha`.
    pub checks: u32,
    /// The checks of the guard that share `alpha`.
    pub of_guard: u32,
}

/// Everything that a judge may look at: the check, and the newest blocks.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The check's name.
    pub check: &'a str,
    /// The metric's name.
    pub name: &'a str,
    /// The limit, the metric's definition and the quantile.
    pub target: Target<'a>,
    /// The fewest requests on which the check is judged.
    pub min_requests: u64,
    /// The newest blocks, of which the last is new.
    pub ring: &'a Ring,
    /// The new block's readings of the stable's processes.
    pub processes: &'a [Reading],
    /// The new block's readings of the judged pods, by name; `None` if they are not known.
    pub pods: Option<&'a SmallMap<Reading>>,
    /// The new block's samples by stratum; `None` if the metric has no strata.
    pub strata: Option<&'a SmallMap<Sample>>,
    /// The judged arm.
    pub arm: Arm,
    /// The share of the judged arm's pods that are ready; `None` if the arm was not observed.
    pub availability: Option<&'a Measure>,
    /// The metric's past in the stable's pods.
    pub history: Option<&'a History>,
    /// The evidence that the step asks for.
    pub proof: Proof,
    /// The time for which the rollout, or the guard, is planned to be watched.
    pub planned: Span,
}

/// A judge's answer to a look.
#[derive(Debug, Clone, PartialEq)]
pub struct Opinion<F> {
    /// The verdict and its numbers.
    pub numbers: Numbers,
    /// The numbers of this judge alone.
    pub finding: F,
}

/// The numbers of one judge alone, and the sentence that they make.
pub trait Finding {
    /// Returns the sentence about a verdict; `None`: the sentence that all judges share says it as well.
    fn sentence(&self, numbers: &Numbers) -> Option<String>;
}

/// A judge, with the settings of one check.
pub trait JudgeRule: Sized {
    /// The memory of one check, from look to look.
    type State;
    /// The numbers of this judge alone.
    type Finding: Finding;
    /// The judge's name in policies.
    const NAME: &'static str;
    /// The keys of [`RawSettings`] that it reads.
    const KEYS: &'static [&'static str];
    /// Whether its memory is carried on from step to step. Otherwise it begins anew with each step.
    const CARRIES_OVER: bool = false;
    /// Whether it compares with a stable that has traffic. A policy then can't use it under guard or after a switch.
    const NEEDS_STABLE: bool = false;

    /// Reads the settings of a check.
    ///
    /// # Errors
    /// The keys that can't be used, each with the remedy.
    fn read(raw: &RawSettings, target: Target<'_>) -> Result<Self, Vec<SettingProblem>>;

    /// Returns the memory of a check before its first look.
    fn begin(&self, look: &Look<'_>) -> Self::State;

    /// Looks at the newest block. `None`: the earlier opinion stands.
    fn look(&self, state: &mut Self::State, look: &Look<'_>) -> Option<Opinion<Self::Finding>>;

    /// Returns the time for which it needs blocks.
    fn window(&self) -> Span {
        WINDOW
    }

    /// Whether it reads the counts of earlier blocks. The others are given the newest block whole, and of earlier ones the numbers of
    /// requests alone.
    fn reads_windows(&self) -> bool {
        false
    }

    /// Whether it needs the dispersion of its criterion.
    fn needs_dispersion(&self) -> bool {
        false
    }

    /// Gives it its part of the policy's error rate. Returns `false` if it states none.
    fn spend(&mut self, _budget: ErrorBudget) -> bool {
        false
    }
}
