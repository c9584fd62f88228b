//! A policy as it is written in TOML: every key is here with what it means, and nothing here has been checked.

use serde::{Deserialize, Serialize};

use super::{Approval, Cohort, Match, Mode, ModelBinding, Patience, RouteName, RouterKind, Stays, Strategy, defaults};
use crate::ids::Weight;
use crate::judge::check::RawCheck;
use crate::judge::rule::Proof;
use crate::measure::metric::RawLimit;
use crate::policy::calendar::RawWindow;
use crate::time::Span;

/// A policy as it is written in TOML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPolicy {
    /// Its name: unique, and what people see.
    pub name: String,
    /// What it is for.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Whether it acts.
    #[serde(default)]
    pub mode: Mode,
    /// How the new version is introduced.
    #[serde(default)]
    pub strategy: Strategy,
    /// What splits the traffic.
    #[serde(default)]
    pub traffic: RouterKind,
    /// The route to split, where it is not to be found by the workload's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteName>,
    /// Whether the canary is compared with as many pods of the stable that were started with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_baseline: bool,
    /// The canary must be available within this time.
    #[serde(default = "defaults::ready_within")]
    pub ready_within: Span,
    /// The stable must be available with the new version within this time.
    #[serde(default = "defaults::promote_within")]
    pub promote_within: Span,
    /// How long a copy that has no traffic any more goes on running, for what the gateway still sends it.
    #[serde(default = "defaults::drain")]
    pub drain: Span,
    /// After so long on hold the rollout is given up.
    #[serde(default = "defaults::max_hold")]
    pub max_hold: Span,
    /// Of the rollouts of good versions, the sequential judge rolls back at most this part.
    #[serde(default = "defaults::alpha")]
    pub alpha: RawLimit,
    /// What it shows to be good enough is not, in at most this part.
    #[serde(default = "defaults::beta")]
    pub beta: RawLimit,
    /// How long evidence may be missing, and what is done then.
    #[serde(default)]
    pub patience: Patience,
    /// The suites that must have passed, on what is asked for, before its first traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<String>,
    /// Whose current model a rollout moves that brings one; without it the registry is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelBinding>,
    /// Gates that a person opens.
    #[serde(default, rename = "approval", skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// When traffic may move to the new version; `None`: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RawWindow>,
    /// With `strategy = "blue-green"`: how it switches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
    /// With `strategy = "ab"`: who gets the canary, and what is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ab: Option<RawAb>,
    /// What is looked at while the canary has traffic.
    #[serde(default, rename = "check")]
    pub checks: Vec<RawCheck>,
    /// The stops on the way up.
    #[serde(default, rename = "step")]
    pub steps: Vec<RawStep>,
    /// The watch after promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<RawGuard>,
}

/// An A/B test, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawAb {
    /// Whose requests the canary gets.
    pub who: Cohort,
    /// How large a part of all requests that is, about: the canary is made so large.
    #[serde(default = "defaults::half")]
    pub share: Weight,
    /// What is wanted: the name of a ratio, whose hits are the rewarded requests.
    pub reward: String,
    /// Fewer of them are better.
    #[serde(default)]
    pub less: bool,
    /// It goes on for at least this long, also with a winner.
    #[serde(default)]
    pub shortest: Span,
    /// Without a winner by then it is a draw.
    pub longest: Span,
    /// So often, at most, is one of two equal versions called the winner.
    #[serde(default = "defaults::beta")]
    pub level: RawLimit,
    /// Who stays after a draw.
    #[serde(default)]
    pub on_draw: Stays,
}

/// How a blue-green rollout switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BlueGreen {
    /// How long the new version is watched with all of the traffic while the old one stands by untouched.
    pub keep_stable: Span,
}

/// One stop on the way up, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawStep {
    /// The canary's share of the traffic.
    pub weight: Weight,
    /// It is judged for at least this long.
    pub min_time: Span,
    /// After it has passed, wait so long before going on.
    #[serde(default)]
    pub pause: Span,
    /// What the sequential judge asks for; by default `no-alarm`, and at the last step `non-inferior`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The checks that hold here, by name; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<String>>,
}

/// The guard, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawGuard {
    /// How long it watches.
    #[serde(rename = "for")]
    pub length: Span,
    /// What it looks at.
    #[serde(rename = "check")]
    pub checks: Vec<RawCheck>,
}
