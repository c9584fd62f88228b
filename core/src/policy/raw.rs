//! The unchecked form of a policy: one field for each key of the TOML file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Approval, Cohort, Mode, ModelBinding, OnDraw, Patience, PolicyMatch, RouteName, RouterKind, Strategy, defaults,
};
use crate::ids::Weight;
use crate::judge::check::RawCheck;
use crate::judge::rule::Proof;
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
    pub traffic: RouterKind,
    /// The route to split; `None` for every route that sends traffic to the workload's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteName>,
    /// The field managers of GitOps tools that own the workload or its routes and ignore their images and rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owned_by: Vec<String>,
    /// Whether the canary is compared with a fresh baseline of equal size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_baseline: bool,
    /// The deadline for the canary's pods to be available.
    #[serde(default = "defaults::ready_within")]
    pub ready_within: Span,
    /// The deadline for the stable's pods to be available with the new version.
    #[serde(default = "defaults::promote_within")]
    pub promote_within: Span,
    /// The time that a gateway may take to send the canary its share, while the stable still gets all requests.
    #[serde(default = "defaults::follows_within")]
    pub follows_within: Span,
    /// The time for which the canary keeps running after its weight is 0, because some proxies of the gateway are late.
    #[serde(default = "defaults::drain")]
    pub drain: Span,
    /// The time from a process's first request in which its requests are not compared, because it is cold.
    #[serde(default = "defaults::warm_up")]
    pub warm_up: Span,
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
    /// The age of a suite's report, from the end of its run, above which it counts as none; `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_max_age: Option<Span>,
    /// The pins of the tests that required suites must be, by the suite's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub require_pins: BTreeMap<String, String>,
    /// The environment of the model registry whose current model a rollout moves; `None` if it moves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelBinding>,
    /// The names of the notification sinks that learn of the rollouts; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Vec<String>>,
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
    /// The factor by which the requests of one user carry less evidence than as many independent ones, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design_effect: Option<f64>,
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
