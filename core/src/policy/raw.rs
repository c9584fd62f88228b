//! The unchecked form of a policy: one field for each key of the TOML file.

use serde::{Deserialize, Serialize};

use super::{
    Approval, Cohort, Mode, ModelBinding, OnDraw, Patience, PolicyMatch, Proof, RouteName, Strategy, defaults,
};
use crate::ids::Weight;
use crate::measure::metric::RawLimit;
use crate::policy::calendar::RawWindow;
use crate::time::Span;

/// A policy as it is written in TOML, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPolicy {
    /// The policy's name, unique in the configuration.
    pub name: String,
    /// The workloads that the policy is for, and the images that it allows.
    #[serde(rename = "match")]
    pub matches: PolicyMatch,
    /// Whether the policy writes to the cluster.
    #[serde(default)]
    pub mode: Mode,
    /// The way in which the new version is introduced.
    #[serde(default)]
    pub strategy: Strategy,
    /// The component that splits the traffic.
    #[serde(default)]
    pub traffic: TrafficKind,
    /// The HTTPRoute to split; `None` for every route that sends traffic to the workload's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteName>,
    /// Whether the canary is compared with a fresh baseline of equal size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_baseline: bool,
    /// The deadline for the canary's pods to be available.
    #[serde(default = "defaults::ready_within")]
    pub ready_within: Span,
    /// The deadline for the stable's pods to be available with the new version.
    #[serde(default = "defaults::promote_within")]
    pub promote_within: Span,
    /// The time for which the canary keeps running after its weight is 0, because some proxies of the gateway are late.
    #[serde(default = "defaults::drain")]
    pub drain: Span,
    /// The duration of a hold after which the rollout is given up.
    #[serde(default = "defaults::max_hold")]
    pub max_hold: Span,
    /// The highest share of the rollouts of good versions that the sequential judge rolls back, above 0% and below 50%.
    #[serde(default = "defaults::alpha")]
    pub alpha: RawLimit,
    /// The highest probability that a version that is not good enough passes a proof, above 0% and below 50%.
    #[serde(default = "defaults::beta")]
    pub beta: RawLimit,
    /// The time for which evidence may be missing, and the action after it.
    #[serde(default)]
    pub patience: Patience,
    /// The names of the suites that must have passed before the first traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<String>,
    /// The environment of the model registry whose current model a rollout moves; `None` if it moves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelBinding>,
    /// The approvals that the rollout needs.
    #[serde(default, rename = "approval", skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// The hours in which traffic may move to the new version; `None` if it may at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RawWindow>,
    /// The settings of `strategy = "blue-green"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
    /// The settings of `strategy = "ab"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ab: Option<RawAbTest>,
    /// The checks that apply while the canary has traffic.
    #[serde(default, rename = "check")]
    pub checks: Vec<RawCheck>,
    /// The steps, with rising weights.
    #[serde(default, rename = "step")]
    pub steps: Vec<RawStep>,
    /// The guard, the analysis after the promotion; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<RawGuard>,
}

/// The component that splits the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficKind {
    /// A gateway, by the weights of an HTTPRoute of the Gateway API.
    #[default]
    Gateway,
    /// A Service, by the numbers of the pods behind it.
    Replicas,
}

/// An A/B test as it is written in TOML, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawAbTest {
    /// The cohort that gets the canary.
    pub who: Cohort,
    /// The approximate share of all requests that belong to the cohort, above 0% and below 100%. It sets the canary's
    /// size.
    #[serde(default = "defaults::cohort_share")]
    pub share: Weight,
    /// The name of the ratio whose hits are the rewarded requests.
    pub reward: String,
    /// Whether the version with the smaller share of rewards wins.
    #[serde(default)]
    pub less: bool,
    /// The minimum duration of the test, also if there is a winner before.
    #[serde(default)]
    pub shortest: Span,
    /// The time after which a test without a winner ends in a draw, longer than `shortest`.
    pub longest: Span,
    /// The highest probability with which one of two equal versions wins, above 0% and below 50%.
    #[serde(default = "defaults::beta")]
    pub level: RawLimit,
    /// The version that stays after a draw.
    #[serde(default)]
    pub on_draw: OnDraw,
}

/// The settings of a blue-green rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BlueGreen {
    /// The time for which the new version is judged with all of the traffic while the old one keeps running at full
    /// size.
    pub keep_stable: Span,
}

/// A step as it is written in TOML, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawStep {
    /// The canary's share of the traffic.
    pub weight: Weight,
    /// The minimum time for which the step is judged.
    pub min_time: Span,
    /// The waiting time after the step has passed.
    #[serde(default)]
    pub pause: Span,
    /// The evidence that the sequential judge needs to pass the step; by default `no-alarm`, and `non-inferior` at the
    /// last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The names of the step's checks; `None` for all checks of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<String>>,
}

/// A check as it is written in TOML, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawCheck {
    /// The check's name; by default the metric's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The metric's name.
    pub metric: String,
    /// The judge; by default `sequential` for a ratio and for a histogram with `max`, and `threshold` for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeKind>,
    /// For the sequential judge: the factor by which the canary's share of bad requests may exceed the stable's, at
    /// least 1; by default 1.25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// For the sequential judge: the difference by which the canary's share may exceed the stable's; by default 0.1 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<RawLimit>,
    /// For the sequential judge: whether it is enough to keep either the limit or the comparison with the stable; by
    /// default both must be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub either: Option<bool>,
    /// For the sequential judge: the number of bad requests in excess of the stable's share that is tolerated in total,
    /// at least 1; `None` if the excess is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<f64>,
    /// The highest allowed value, such as `"5%"`, `"500ms"` or a number. A check has either `max` or `min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<RawLimit>,
    /// The lowest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<RawLimit>,
    /// For a histogram: the quantile that is compared with the limit, between 0 and 1.
    #[serde(default = "defaults::quantile")]
    pub quantile: f64,
    /// For the other judges: the interval between two looks; by default 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// For the other judges: the length of the window that the value is taken from, at least `every`; by default 5 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// For the other judges: the number of consecutive looks on the wrong side that are a regression, at least 1; by
    /// default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaches: Option<u32>,
    /// The consequence of a regression; by default `warn` for a drift, and `roll-back` for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_regressed: Option<OnRegressed>,
    /// The number of requests below which the verdict is `insufficient`: in the window, or for the sequential judge
    /// since the first step.
    #[serde(default = "defaults::min_requests")]
    pub min_requests: u64,
}

/// The kind of a judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgeKind {
    /// Compares the value over the window with the limit, at a number of consecutive looks.
    Threshold,
    /// Weighs the evidence against the limit and against the stable after every block.
    Sequential,
    /// Kayenta's rule: tests whether the canary's values in the window rank on the bad side of the stable's, at a
    /// number of consecutive looks.
    MannWhitney,
}

/// The consequence of a check's regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRegressed {
    /// The rollout is rolled back.
    RollBack,
    /// One warning is sent; the check neither holds nor ends the rollout.
    Warn,
}

/// The guard as it is written in TOML, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawGuard {
    /// The guard's duration.
    #[serde(rename = "for")]
    pub length: Span,
    /// The guard's checks.
    #[serde(rename = "check")]
    pub checks: Vec<RawCheck>,
}
