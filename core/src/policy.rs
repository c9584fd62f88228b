//! The rules for a set of workloads, as written and as checked.
//!
//! [`RawPolicy`] is what TOML holds. [`RawPolicy::check`] turns it into a [`Policy`], or into *all* of its problems, each
//! with the path of the key that it is about; after that nothing in the engine looks at the raw form again. A policy
//! carries the definitions of its metrics, so that a rollout can keep the policy that it began with, whatever becomes
//! of the configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::calendar::{ChangeWindow, RawWindow};
use crate::effect::Probed;
use crate::ids::{Weight, Workload, digest, repository};
use crate::metric::{Against, ArmSource, Limit, Metric, MetricKind, Unit};
use crate::sequential::{self, Bad, Proof, Rule};
use crate::stats::mann_whitney;
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
    pub traffic: TrafficKind,
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

/// Defaults that `config/default.toml` states too; a test compares them.
mod defaults {
    use super::{RawLimit, Span, Weight};

    pub(super) fn half() -> Weight {
        Weight::percent(50)
    }

    pub(super) fn ready_within() -> Span {
        Span::from_secs(300)
    }

    pub(super) fn promote_within() -> Span {
        Span::from_secs(600)
    }

    pub(super) fn drain() -> Span {
        Span::from_secs(10)
    }

    pub(super) fn max_hold() -> Span {
        Span::from_secs(3600)
    }

    pub(super) fn patience() -> Span {
        Span::from_secs(600)
    }

    pub(super) fn approval() -> Span {
        Span::from_secs(86_400)
    }

    pub(super) fn margin() -> f64 {
        1.25
    }

    pub(super) fn floor() -> RawLimit {
        RawLimit::Text("0.1%".to_owned())
    }

    pub(super) fn alpha() -> RawLimit {
        RawLimit::Text("1%".to_owned())
    }

    pub(super) fn beta() -> RawLimit {
        RawLimit::Text("5%".to_owned())
    }

    pub(super) fn quantile() -> f64 {
        0.95
    }

    pub(super) fn every() -> Span {
        Span::from_secs(30)
    }

    pub(super) fn window() -> Span {
        Span::from_secs(300)
    }

    pub(super) fn breaches() -> u32 {
        1
    }

    pub(super) fn min_requests() -> u64 {
        100
    }
}

/// Which workloads a policy is for, and which images it lets in. Patterns are literal but for `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Match {
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// Workload names.
    pub workloads: Vec<String>,
    /// Image repositories, without tag or digest.
    pub images: Vec<String>,
}

/// Whether a policy acts or only says what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It acts.
    #[default]
    Enforce,
    /// It writes nothing to the cluster; its decisions are recorded like any other.
    Observe,
}

/// How the new version is introduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// A small copy beside the stable, with a rising share of the traffic.
    #[default]
    Canary,
    /// A copy of full size, and one switch of all the traffic, back from which there is one switch too.
    BlueGreen,
    /// To a cohort, until there is a winner or a draw.
    Ab,
}

/// What splits the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficKind {
    /// The weights of a Gateway API HTTPRoute.
    #[default]
    Gateway,
    /// The number of pods behind one Service.
    Replicas,
}

/// A rule of an HTTPRoute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RouteName {
    /// The HTTPRoute, in the workload's namespace.
    pub name: String,
    /// The rule, counted from 0; `None`: every rule that sends traffic to the workload's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
}

/// How traffic is split, as an adapter is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Traffic {
    /// By HTTPRoutes: those that send traffic to the workload's Service, or the one that is named.
    Gateway {
        /// The named one.
        route: Option<RouteName>,
        /// Whose requests the canary gets; `None`: its share of everybody's, by weight.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cohort: Option<Cohort>,
    },
    /// By the number of pods.
    Replicas,
}

/// Those requests that have a header, or a cookie, of this value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cohort {
    /// The header's name; or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// the cookie's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The value.
    pub value: String,
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

/// Who stays after a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stays {
    /// The version that was there.
    #[default]
    Stable,
    /// The new one.
    Canary,
}

/// A checked A/B test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ab {
    /// The metric that counts rewards.
    pub reward: String,
    /// Fewer are better.
    pub less: bool,
    /// The test's error rate.
    pub level: f64,
    /// Without a winner by then it is a draw.
    pub longest: Span,
    /// Who stays then.
    pub on_draw: Stays,
}

/// How a blue-green rollout switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BlueGreen {
    /// How long the new version is watched with all of the traffic while the old one stands by untouched.
    pub keep_stable: Span,
}

/// The environment of the model registry whose current model a rollout moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelBinding {
    /// Its name.
    pub environment: String,
}

/// A gate that a person opens, with the verb `approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Approval {
    /// Its name, unique in its policy.
    pub name: String,
    /// What it stands before.
    pub before: Before,
    /// After so long without an answer the rollout is given up.
    #[serde(default = "defaults::approval")]
    pub patience: Span,
}

/// What a gate stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Before {
    /// The first traffic.
    Traffic,
    /// The promotion.
    Promotion,
}

impl std::fmt::Display for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Before::Traffic => "the first traffic",
            Before::Promotion => "the promotion",
        })
    }
}

/// What is done when patience is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Stay and ask; after `max-hold` it is given up.
    #[default]
    Hold,
    /// The traffic goes to the stable, and nothing is said against the version.
    GiveUp,
    /// As after a regression. Nothing has been found wrong; it is here for those who want exactly that.
    RollBack,
}

/// How long evidence may be missing, and what is done then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Patience {
    /// Nothing can be seen.
    pub blind: Span,
    /// There is not enough to judge.
    pub insufficient: Span,
    /// What is done after nothing could be seen for so long.
    pub on_blind: Then,
    /// What is done after there was too little for so long.
    pub on_insufficient: Then,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            blind: defaults::patience(),
            insufficient: defaults::patience(),
            on_blind: Then::Hold,
            on_insufficient: Then::Hold,
        }
    }
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

/// A check, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawCheck {
    /// Its name; by default the metric's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is measured: the name of a metric.
    pub metric: String,
    /// The rule; by default `sequential` where requests are counted, and `threshold` where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeKind>,
    /// By the sequential judge: the canary's share may be so many times the stable's (1.25) …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// … or above it by so much (0.1 %).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<RawLimit>,
    /// By the sequential judge: whether it is enough to keep either the limit or the comparison with the stable (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub either: Option<bool>,
    /// By the sequential judge: so many requests may be bad that would not have been at the stable's share; without it
    /// nobody counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<f64>,
    /// The value may not be above this (`"5%"`, `"500ms"`, a number).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<RawLimit>,
    /// The value may not be below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<RawLimit>,
    /// For histograms: which quantile is compared, between 0 and 1.
    #[serde(default = "defaults::quantile")]
    pub quantile: f64,
    /// By the threshold judge: how often the rule is applied (30 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// By the threshold judge: over how long a time the value is taken (5 min).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// By the threshold judge: so many looks over the limit in a row are a regression (1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaches: Option<u32>,
    /// What a regression does: `roll-back`, or `warn`, which is what a drift does without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_regressed: Option<OnRegressed>,
    /// With fewer requests nothing is said: in the window, or by the sequential judge since the first step.
    #[serde(default = "defaults::min_requests")]
    pub min_requests: u64,
}

/// The rule by which a check is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgeKind {
    /// The value over the window against the limit, so many times in a row.
    Threshold,
    /// Evidence against the limit and against the stable, looked at after every block.
    Sequential,
    /// Kayenta's: whether the canary's values of the window rank to the bad side of the stable's, so many times in a row.
    MannWhitney,
}

/// What a check's regression does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRegressed {
    /// The old version comes back.
    RollBack,
    /// It is said, once, and nothing is held up by the check.
    Warn,
}

/// A limit as written: with a unit, or a bare number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawLimit {
    /// A bare number.
    Number(f64),
    /// A number with its unit.
    Text(String),
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

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The first twelve digits of the hash of all that it says, its metrics included.
    pub hash: String,
    /// What it is for.
    pub matches: Match,
    /// Whether it acts.
    pub mode: Mode,
    /// How the new version is introduced.
    #[serde(default)]
    pub strategy: Strategy,
    /// How traffic is split.
    pub traffic: Traffic,
    /// The canary is compared with as many fresh pods of the stable, so that both are equally cold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_baseline: bool,
    /// The canary must be available within this time.
    pub ready_within: Span,
    /// The stable must be available with the new version within this time.
    pub promote_within: Span,
    /// How long a copy that has no traffic any more goes on running. That a gateway has accepted a weight of 0 does not
    /// mean that each of its proxies has: one that is late would answer for the missing pods with errors.
    #[serde(default = "defaults::drain")]
    pub drain: Span,
    /// After so long on hold the rollout is given up.
    pub max_hold: Span,
    /// How long evidence may be missing, and what is done then.
    pub patience: Patience,
    /// The suites that must have passed before the first traffic.
    #[serde(default)]
    pub require: Vec<String>,
    /// Whose current model a rollout moves.
    #[serde(default)]
    pub model: Option<ModelBinding>,
    /// Gates that a person opens.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// When traffic may move to the new version; `None`: at any time.
    #[serde(default)]
    pub window: Option<ChangeWindow>,
    /// The one step is an A/B test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ab: Option<Ab>,
    /// The stops on the way up: at least one.
    pub steps: Vec<Step>,
    /// The watch after promotion.
    pub guard: Option<Guard>,
    /// The definitions of the metrics that the checks name.
    pub metrics: BTreeMap<String, Metric>,
}

/// One stop on the way up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// The canary's share of the traffic.
    pub weight: Weight,
    /// It is judged for at least this long.
    pub min_time: Span,
    /// After it has passed, wait so long before going on.
    pub pause: Span,
    /// What the sequential judge asks for.
    #[serde(default)]
    pub proof: Proof,
    /// The checks that hold here.
    pub checks: Vec<Check>,
}

/// The watch after promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Guard {
    /// How long it watches.
    pub length: Span,
    /// What it looks at.
    pub checks: Vec<Check>,
}

/// A metric, a limit, and the rule by which one is held against the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// Its name, unique within its step or guard.
    pub name: String,
    /// The metric's name in [`Policy::metrics`].
    pub metric: String,
    /// The limit, in the metric's own unit.
    pub limit: Limit,
    /// For histograms: which quantile.
    pub quantile: f64,
    /// How often the rule is applied.
    pub every: Span,
    /// Over how long a time the value is taken.
    pub window: Span,
    /// So many looks over the limit in a row are a regression; at least 1.
    pub breaches: u32,
    /// With fewer requests in the window nothing is said.
    pub min_requests: u64,
    /// It only warns: whatever it says, the rollout goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warns: bool,
    /// Judged by the sequential judge, with these settings; `None`: by the threshold judge, or the mann-whitney judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequential: Option<Rule>,
    /// Judged by the mann-whitney judge, with these settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<mann_whitney::Settings>,
}

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The keys that lead to it, indices included, below the policy: `["step", "0", "weight"]`.
    pub path: Vec<String>,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl RawPolicy {
    /// The policy, or all that is wrong with it. `metrics` are the definitions that a check may name.
    ///
    /// # Errors
    /// Every problem that was found, in the order of the keys.
    pub fn check(&self, metrics: &BTreeMap<String, Metric>) -> Result<Policy, Vec<Problem>> {
        let mut problems = Problems::default();
        self.check_match(&mut problems);
        let checks = problems.within("check", |problems| checked(&self.checks, metrics, problems));
        let mut steps = match self.strategy {
            Strategy::Canary => self.check_steps(&checks, &mut problems),
            Strategy::BlueGreen => self.check_blue_green(&checks, &mut problems),
            Strategy::Ab => self.check_ab_steps(&checks, &mut problems),
        };
        if self.strategy == Strategy::BlueGreen {
            refuse_drift(&self.checks, metrics, "after the switch the stable has no traffic", &mut problems);
        }
        self.check_baseline(&steps, metrics, &mut problems);
        let ab = self.check_ab(metrics, &mut problems);
        let window = self.check_window(&mut problems);
        self.check_gates(&mut problems);
        let mut guard = self.guard.as_ref().map(|guard| Guard {
            length: guard.length,
            checks: problems.within("guard", |problems| {
                if guard.checks.is_empty() {
                    problems.add(&["check"], "the guard looks at nothing; give it a check, or leave the guard out");
                }
                refuse_ranks(&guard.checks, "the guard has no stable beside it", problems);
                refuse_drift(&guard.checks, metrics, "the guard has no stable beside it", problems);
                let message = "under guard there is no stable beside it to compare with; leave it out";
                refuse(&guard.checks, "either", |check| check.either.is_some(), message, problems);
                let message = "under guard there is no stable beside it, so nobody can say what would have been";
                refuse(&guard.checks, "harm", |check| check.harm.is_some(), message, problems);
                problems.within("check", |problems| checked(&guard.checks, metrics, problems))
            }),
        });
        if self.route.is_some() && self.traffic == TrafficKind::Replicas {
            problems.add(&["route"], "a route is split by weights; leave it out, or set traffic = \"gateway\"");
        }
        let mut rate = |key: &str, raw: &RawLimit| {
            let found = Unit::Percent.read(raw).and_then(|rate| {
                if rate > 0.0 && rate < 0.5 {
                    Ok(rate)
                } else {
                    Err(format!("an error rate of {rate} is not above 0% and below 50%"))
                }
            });
            found.unwrap_or_else(|message| {
                problems.add(&[key], message);
                0.01
            })
        };
        let (alpha, beta) = (rate("alpha", &self.alpha), rate("beta", &self.beta));
        share_out(alpha, beta, &checks, &mut steps, guard.as_mut());
        if !problems.found.is_empty() {
            return Err(problems.found);
        }
        let named: BTreeSet<&String> = steps
            .iter()
            .flat_map(|step| &step.checks)
            .chain(guard.iter().flat_map(|guard| &guard.checks))
            .map(|check| &check.metric)
            .chain(ab.iter().map(|test| &test.reward))
            .collect();
        let metrics: BTreeMap<String, Metric> = metrics
            .iter()
            .filter(|(name, _)| named.contains(name))
            .map(|(name, metric)| (name.clone(), metric.clone()))
            .collect();
        let mut policy = Policy {
            name: self.name.clone(),
            hash: String::new(),
            matches: self.matches.clone(),
            mode: self.mode,
            strategy: self.strategy,
            traffic: match self.traffic {
                TrafficKind::Gateway => {
                    let cohort = self.ab.as_ref().map(|test| test.who.clone());
                    Traffic::Gateway { route: self.route.clone(), cohort }
                }
                TrafficKind::Replicas => Traffic::Replicas,
            },
            fresh_baseline: self.fresh_baseline,
            ready_within: self.ready_within,
            promote_within: self.promote_within,
            drain: self.drain,
            max_hold: self.max_hold,
            patience: self.patience.clone(),
            require: self.require.clone(),
            model: self.model.clone(),
            approvals: self.approvals.clone(),
            window,
            ab: ab.clone(),
            steps,
            guard,
            metrics,
        };
        policy.hash = policy.digest();
        Ok(policy)
    }

    fn check_match(&self, problems: &mut Problems) {
        if self.name.is_empty() {
            problems.add(&["name"], "a policy needs a name");
        }
        for (key, patterns) in [
            ("namespaces", &self.matches.namespaces),
            ("workloads", &self.matches.workloads),
            ("images", &self.matches.images),
        ] {
            if patterns.is_empty() {
                problems.add(&["match", key], "an empty list matches nothing; write [\"*\"] to match everything");
            }
        }
    }

    /// The one switch as a step like any other: all of the traffic, and the old side untouched until it has passed.
    fn check_blue_green(&self, checks: &[Check], problems: &mut Problems) -> Vec<Step> {
        if !self.steps.is_empty() {
            problems.add(&["step"], "blue-green switches once; leave the steps out, or set strategy = \"canary\"");
        }
        if self.traffic == TrafficKind::Replicas {
            problems.add(&["traffic"], "a switch of all traffic needs a router; set traffic = \"gateway\"");
        }
        refuse_ranks(&self.checks, "after the switch the stable has no traffic", problems);
        if checks.is_empty() {
            problems.add(&["check"], "the switch would pass whatever happens; it needs at least one check");
        }
        let Some(BlueGreen { keep_stable }) = self.blue_green.clone() else {
            problems.add(&["blue-green"], "say how long the old version stands by, as in keep-stable = \"10m\"");
            return Vec::new();
        };
        vec![Step {
            weight: Weight::FULL,
            min_time: keep_stable,
            pause: Span::ZERO,
            proof: Proof::NonInferior,
            checks: checks.to_vec(),
        }]
    }

    /// The fresh baseline has its requests from the stable's share, and is told apart by its pods.
    fn check_baseline(&self, steps: &[Step], metrics: &BTreeMap<String, Metric>, problems: &mut Problems) {
        if !self.fresh_baseline {
            return;
        }
        let mut add = |message: String| problems.add(&["fresh-baseline"], message);
        if self.strategy != Strategy::Canary {
            add("it stands beside a canary on its way up; leave it out, or set strategy = \"canary\"".to_owned());
        }
        if let Some(step) = steps.iter().find(|step| step.weight > Weight::percent(50)) {
            let weight = step.weight;
            add(format!("at {weight} too few requests are left for it; end the steps at 50%, or leave it out"));
        }
        let checked: BTreeSet<&String> =
            steps.iter().flat_map(|step| &step.checks).map(|check| &check.metric).collect();
        let gateways = |name: &&String| metrics.get(*name).is_some_and(|metric| metric.arms != ArmSource::Pods);
        if let Some(name) = checked.into_iter().find(gateways) {
            add(format!(
                "{name} is counted at the gateway, which can't tell it from the stable; use a metric of the pods"
            ));
        }
    }

    /// One step, at which the cohort has the canary for as long as the test takes.
    fn check_ab_steps(&self, checks: &[Check], problems: &mut Problems) -> Vec<Step> {
        if !self.steps.is_empty() {
            problems.add(&["step"], "an A/B test has no steps; say who gets the canary in [policy.ab]");
        }
        if self.traffic == TrafficKind::Replicas {
            problems.add(&["traffic"], "only a router can tell requests apart; set traffic = \"gateway\"");
        }
        if checks.is_empty() {
            problems.add(&["check"], "an A/B test needs a guard rail: at least one check that would end it");
        }
        let Some(test) = &self.ab else {
            problems.add(&["ab"], "say who gets the canary and what is wanted: who, reward and longest");
            return Vec::new();
        };
        let (weight, min_time, proof) = (test.share, test.shortest, Proof::NoAlarm);
        vec![Step { weight, min_time, pause: Span::ZERO, proof, checks: checks.to_vec() }]
    }

    fn check_ab(&self, metrics: &BTreeMap<String, Metric>, problems: &mut Problems) -> Option<Ab> {
        let test = self.ab.as_ref()?;
        problems.within("ab", |problems| {
            if self.strategy != Strategy::Ab {
                problems.add(&[], "this is for strategy = \"ab\"; set it, or leave this out");
            }
            match metrics.get(&test.reward) {
                Some(metric) if metric.kind == MetricKind::Ratio => {}
                Some(_) => problems.add(&["reward"], "a reward is a ratio: rewarded requests, of all of them"),
                None => problems.add(&["reward"], format!("there is no metric {:?}", test.reward)),
            }
            if test.longest <= test.shortest {
                problems.add(&["longest"], "it must be longer than `shortest`");
            }
            if test.share == Weight::ZERO || test.share == Weight::FULL {
                problems.add(&["share"], "both versions need requests: a share between 0% and 100%");
            }
            problems.within("who", |problems| test.who.check(problems));
            let level = Unit::Percent.read(&test.level).map_err(|message| problems.add(&["level"], message)).ok()?;
            if !(level > 0.0 && level < 0.5) {
                problems.add(&["level"], "an error rate is above 0 % and below 50 %");
            }
            let (reward, less, longest, on_draw) = (test.reward.clone(), test.less, test.longest, test.on_draw);
            Some(Ab { reward, less, level, longest, on_draw })
        })
    }

    fn check_window(&self, problems: &mut Problems) -> Option<ChangeWindow> {
        self.window.as_ref().and_then(|window| match window.check() {
            Ok(window) => Some(window),
            Err(found) => {
                for (key, message) in found {
                    problems.add(&["window", key], message);
                }
                None
            }
        })
    }

    fn check_gates(&self, problems: &mut Problems) {
        if self.model.as_ref().is_some_and(|bound| bound.environment.is_empty()) {
            problems.add(&["model", "environment"], "an environment has a name, such as \"production\"");
        }
        for (index, suite) in self.require.iter().enumerate() {
            let at = index.to_string();
            if suite.is_empty() {
                problems.add(&["require", &at], "a suite has a name, such as \"behaviour\"");
            }
            // A person opens both by name.
            if self.approvals.iter().any(|gate| gate.name == *suite) {
                problems.add(&["require", &at], format!("{suite:?} is a gate's name, too; call the gate otherwise"));
            }
        }
        for (index, gate) in self.approvals.iter().enumerate() {
            let at = index.to_string();
            if gate.name.is_empty() {
                problems.add(&["approval", &at, "name"], "a gate needs a name to be opened by");
            }
            if self.approvals.iter().take(index).any(|other| other.name == gate.name) {
                problems.add(
                    &["approval", &at, "name"],
                    format!("there are two gates {:?}; give this one another name", gate.name),
                );
            }
        }
    }

    fn check_steps(&self, checks: &[Check], problems: &mut Problems) -> Vec<Step> {
        if self.steps.is_empty() {
            problems
                .add(&["step"], "a policy needs at least one step, such as { weight = \"10%\", min-time = \"15m\" }");
        }
        if self.blue_green.is_some() {
            problems.add(&["blue-green"], "this is for strategy = \"blue-green\"; set it, or leave this out");
        }
        let mut before = Weight::ZERO;
        let mut steps = Vec::new();
        for (index, raw) in self.steps.iter().enumerate() {
            let at = index.to_string();
            if raw.weight <= before {
                problems
                    .add(&["step", &at, "weight"], "each step's weight must be above the one before it, and above 0%");
            }
            if raw.weight == Weight::FULL {
                problems.add(
                    &["step", &at, "weight"],
                    "a step at 100% has nothing to be compared with; promotion does that",
                );
            }
            before = raw.weight;
            let wanted = step_checks(raw, &at, checks, problems);
            if wanted.is_empty() {
                problems.add(
                    &["step", &at, "checks"],
                    "this step would pass whatever happens; it needs at least one check",
                );
            }
            let last = index + 1 == self.steps.len();
            let proof = raw.proof.unwrap_or(if last { Proof::NonInferior } else { Proof::NoAlarm });
            steps.push(Step { weight: raw.weight, min_time: raw.min_time, pause: raw.pause, proof, checks: wanted });
        }
        steps
    }
}

fn step_checks(raw: &RawStep, at: &str, checks: &[Check], problems: &mut Problems) -> Vec<Check> {
    let Some(names) = &raw.checks else { return checks.to_vec() };
    let mut wanted = Vec::new();
    for (n, name) in names.iter().enumerate() {
        match checks.iter().find(|check| check.name == *name) {
            Some(check) => wanted.push(check.clone()),
            None => {
                let known: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
                problems.add(
                    &["step", at, "checks", &n.to_string()],
                    format!("there is no check {name:?}; there are {known:?}"),
                );
            }
        }
    }
    wanted
}

fn checked(raw: &[RawCheck], metrics: &BTreeMap<String, Metric>, problems: &mut Problems) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        problems.within(&index.to_string(), |problems| {
            let Some(check) = one_check(raw, metrics, problems) else { return };
            if checks.iter().any(|other| other.name == check.name) {
                problems.add(&["name"], format!("there are two checks {:?}; give this one another name", check.name));
            }
            checks.push(check);
        });
    }
    checks
}

fn one_check(raw: &RawCheck, metrics: &BTreeMap<String, Metric>, problems: &mut Problems) -> Option<Check> {
    let Some(metric) = metrics.get(&raw.metric) else {
        let near: Vec<&str> = metrics.keys().map(String::as_str).collect();
        problems.add(&["metric"], format!("there is no metric {:?}; there are {}", raw.metric, near.join(", ")));
        return None;
    };
    let (every, window) = (raw.every.unwrap_or_else(defaults::every), raw.window.unwrap_or_else(defaults::window));
    if raw.breaches == Some(0) {
        problems.add(&["breaches"], "at least one look over the limit is needed to say that it was over");
    }
    if every == Span::ZERO || window < every {
        problems.add(&["window"], "the window must be at least as long as `every`, and `every` longer than nothing");
    }
    if metric.kind == MetricKind::Histogram && !(raw.quantile > 0.0 && raw.quantile < 1.0) {
        problems.add(&["quantile"], "a quantile lies between 0 and 1, as in 0.95");
    }
    let limit = match (&raw.max, &raw.min) {
        (Some(max), None) => read_limit(max, "max", metric, problems).map(Limit::Max),
        (None, Some(min)) => read_limit(min, "min", metric, problems).map(Limit::Min),
        (None, None) => {
            problems.add(&["max"], "a check needs a limit: `max` or `min`");
            None
        }
        (Some(_), Some(_)) => {
            problems.add(&["min"], "a check has one limit, `max` or `min`; write a second check for the other");
            None
        }
    }?;
    if metric.kind == MetricKind::Drift && matches!(limit, Limit::Min(_)) {
        problems.add(&["min"], "a drift is a distance, and too far is what is bad; write `max`");
    }
    let judge = raw.judge.unwrap_or_else(|| usual_judge(metric.kind, limit));
    refuse_settings_of_another(raw, judge, problems);
    Some(Check {
        name: raw.name.clone().unwrap_or_else(|| raw.metric.clone()),
        metric: raw.metric.clone(),
        limit,
        quantile: raw.quantile,
        every,
        window,
        breaches: raw.breaches.unwrap_or_else(defaults::breaches).max(1),
        // A gauge or a query counts no requests, so there is no number of them to ask for.
        min_requests: if metric.kind.counts_requests() { raw.min_requests } else { 0 },
        warns: match raw.on_regressed {
            Some(on_regressed) => on_regressed == OnRegressed::Warn,
            None => metric.kind == MetricKind::Drift,
        },
        sequential: (judge == JudgeKind::Sequential).then(|| rule(raw, limit, metric, problems)).flatten(),
        ranks: (judge == JudgeKind::MannWhitney).then(|| ranks(limit, metric, problems)).flatten(),
    })
}

/// By evidence where good and bad requests can be counted; by thresholds where they can't.
fn usual_judge(kind: MetricKind, limit: Limit) -> JudgeKind {
    match (kind, limit) {
        (MetricKind::Ratio, _) | (MetricKind::Histogram, Limit::Max(_)) => JudgeKind::Sequential,
        (
            MetricKind::Histogram
            | MetricKind::Drift
            | MetricKind::Throughput
            | MetricKind::Gauge
            | MetricKind::Query
            | MetricKind::Availability,
            _,
        ) => JudgeKind::Threshold,
    }
}

/// A setting that the judge does not look at is somebody's mistake, and not to be passed over.
fn refuse_settings_of_another(raw: &RawCheck, judge: JudgeKind, problems: &mut Problems) {
    let of_threshold =
        [("every", raw.every.is_some()), ("window", raw.window.is_some()), ("breaches", raw.breaches.is_some())];
    let of_sequential = [
        ("margin", raw.margin.is_some()),
        ("floor", raw.floor.is_some()),
        ("either", raw.either.is_some()),
        ("harm", raw.harm.is_some()),
    ];
    let (settings, other) = match judge {
        JudgeKind::Sequential => (&of_threshold[..], "threshold"),
        JudgeKind::Threshold | JudgeKind::MannWhitney => (&of_sequential[..], "sequential"),
    };
    for (key, _) in settings.iter().filter(|(_, written)| *written) {
        problems.add(&[key], format!("only the {other} judge looks at this; leave it out, or set judge = \"{other}\""));
    }
}

/// The mann-whitney judge's settings: Kayenta's own, and the limit's bad side.
fn ranks(limit: Limit, metric: &Metric, problems: &mut Problems) -> Option<mann_whitney::Settings> {
    if matches!(metric.kind, MetricKind::Throughput | MetricKind::Drift | MetricKind::Availability) {
        let remedy = "the mann-whitney judge compares values of both arms, and this metric has none that could be alike; set judge = \"threshold\"";
        problems.add(&["judge"], remedy);
        return None;
    }
    let direction = match limit {
        Limit::Max(_) => mann_whitney::Direction::Increase,
        Limit::Min(_) => mann_whitney::Direction::Decrease,
    };
    Some(mann_whitney::Settings { direction, ..mann_whitney::Settings::default() })
}

/// There must be a stable with traffic beside what is ranked.
fn refuse_ranks(checks: &[RawCheck], why: &str, problems: &mut Problems) {
    let remedy = format!("{why}, so there is nothing to rank against; set judge = \"threshold\"");
    refuse(checks, "judge", |check| check.judge == Some(JudgeKind::MannWhitney), &remedy, problems);
}

/// Nor is there anything to drift from, but the past.
fn refuse_drift(checks: &[RawCheck], metrics: &BTreeMap<String, Metric>, why: &str, problems: &mut Problems) {
    let beside = |check: &RawCheck| {
        let metric = metrics.get(&check.metric);
        metric.is_some_and(|metric| metric.kind == MetricKind::Drift && metric.against == Against::Stable)
    };
    let remedy = format!("{why}, so there is nothing to drift from; give the metric against = \"past\"");
    refuse(checks, "metric", beside, &remedy, problems);
}

/// A key that these checks may not have where they are.
fn refuse(checks: &[RawCheck], key: &str, has: impl Fn(&RawCheck) -> bool, message: &str, problems: &mut Problems) {
    for (index, _) in checks.iter().enumerate().filter(|(_, check)| has(check)) {
        problems.add(&["check", &index.to_string(), key], message);
    }
}

/// The sequential judge's settings; its error rates are the policy's, and come later.
fn rule(raw: &RawCheck, limit: Limit, metric: &Metric, problems: &mut Problems) -> Option<Rule> {
    if !matches!(metric.kind, MetricKind::Ratio | MetricKind::Histogram) {
        problems.add(
            &["judge"],
            "the sequential judge counts requests, good ones and bad ones; for this metric set judge = \"threshold\"",
        );
        return None;
    }
    if metric.kind == MetricKind::Histogram && matches!(limit, Limit::Min(_)) {
        problems.add(&["min"], "the sequential judge counts what is above a limit; write `max`");
        return None;
    }
    let margin = raw.margin.unwrap_or_else(defaults::margin);
    let floor = Unit::Percent
        .read(&raw.floor.clone().unwrap_or_else(defaults::floor))
        .map_err(|message| problems.add(&["floor"], message))
        .ok()?;
    if margin < 1.0 {
        problems.add(&["margin"], format!("a margin of {margin} asks for an improvement; it must be at least 1"));
    }
    if raw.harm.is_some_and(|harm| !(harm.is_finite() && harm >= 1.0)) {
        problems.add(&["harm"], "a number of requests that may be bad is needed, at least 1");
    }
    let either = raw.either.unwrap_or(false);
    let rule = Rule { margin, floor, either, harm: raw.harm, alpha: 0.01, checks: 1, of_guard: 0, beta: 0.05 };
    if let Err(error) = sequential::check(rule, sequential::allowed(limit, metric.kind, raw.quantile)) {
        problems.add(&["judge"], format!("the sequential judge has no test for this: {error}"));
    }
    Some(rule)
}

/// Divides `alpha` among all checks that may roll back on evidence, the guard's included.
fn share_out(alpha: f64, beta: f64, checks: &[Check], steps: &mut [Step], guard: Option<&mut Guard>) {
    let may = |check: &&Check| check.sequential.is_some() && !check.warns;
    let count = |checks: &[Check]| checks.iter().filter(may).count() as u32;
    let (of_steps, of_guard) = (count(checks), guard.as_ref().map_or(0, |guard| count(&guard.checks)));
    let all =
        steps.iter_mut().flat_map(|step| &mut step.checks).chain(guard.into_iter().flat_map(|guard| &mut guard.checks));
    for check in all {
        // What only warns takes no part of what the others share.
        let (checks, of_guard) = if check.warns { (1, 0) } else { (of_steps, of_guard) };
        if let Some(rule) = &mut check.sequential {
            *rule = Rule { alpha, beta, checks, of_guard, ..*rule };
        }
    }
}

fn read_limit(raw: &RawLimit, key: &str, metric: &Metric, problems: &mut Problems) -> Option<f64> {
    let read = metric.unit().read(raw);
    if let Err(message) = &read {
        problems.add(&[key], message.clone());
    }
    read.ok()
}

/// Problems as they are found, each below the keys that are being looked at.
#[derive(Default)]
struct Problems {
    at: Vec<String>,
    found: Vec<Problem>,
}

impl Problems {
    fn add(&mut self, path: &[&str], message: impl Into<String>) {
        let path = self.at.iter().cloned().chain(path.iter().map(|key| (*key).to_owned())).collect();
        self.found.push(Problem { path, message: message.into() });
    }

    fn within<T>(&mut self, key: &str, look: impl FnOnce(&mut Problems) -> T) -> T {
        self.at.push(key.to_owned());
        let result = look(self);
        self.at.pop();
        result
    }
}

impl Cohort {
    fn check(&self, problems: &mut Problems) {
        let names: Vec<&String> = self.header.iter().chain(&self.cookie).collect();
        if names.len() != 1 {
            problems.add(&[], "write { header, value } or { cookie, value }");
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let plain = |text: &str| !text.is_empty() && text.bytes().all(allowed);
        if !names.iter().all(|name| plain(name)) || !plain(&self.value) {
            problems.add(&[], "names and values here are letters, digits, '-', '_' and '.'");
        }
    }
}

impl Policy {
    /// Whether this policy is for `workload`.
    pub fn covers(&self, workload: &Workload) -> bool {
        any(&self.matches.namespaces, &workload.namespace) && any(&self.matches.workloads, &workload.name)
    }

    /// Whether `image` comes from a repository that this policy lets in.
    pub fn allows(&self, image: &str) -> bool {
        any(&self.matches.images, repository(image))
    }

    /// How long the steps together, or the guard, are planned to be watched.
    pub fn planned(&self, guards: bool) -> Span {
        let guard = || self.guard.as_ref().map_or(Span::ZERO, |guard| guard.length);
        let times = || self.steps.iter().flat_map(|step| [step.min_time, step.pause]);
        let steps = || Span::from_millis(times().map(Span::as_millis).fold(0, u64::saturating_add));
        if guards { guard() } else { steps() }
    }

    /// The metrics that are measured by queries; availability is seen.
    pub fn measured_metrics(&self) -> BTreeMap<String, Metric> {
        let measured = |metric: &Metric| metric.kind != MetricKind::Availability;
        self.metrics.iter().filter(|(_, metric)| measured(metric)).map(|(n, m)| (n.clone(), m.clone())).collect()
    }

    /// What the sequential judge counts, of which it must be learnt how it clusters; and what a drift is held against that was
    /// before.
    pub fn learnable(&self) -> Vec<Bad> {
        let guard = self.guard.iter().flat_map(|guard| &guard.checks);
        let checks = self.steps.iter().flat_map(|step| &step.checks).chain(guard);
        let mut learnable: Vec<Bad> = self.ab.iter().map(Bad::rewarded).collect();
        let past = |check: &Check| {
            let metric = self.metrics.get(&check.metric);
            metric.is_some_and(|metric| metric.kind == MetricKind::Drift && metric.against == Against::Past)
        };
        for bad in checks.filter(|check| check.sequential.is_some() || past(check)).map(Bad::of) {
            if !learnable.contains(&bad) {
                learnable.push(bad);
            }
        }
        learnable
    }

    /// The metrics of that.
    pub fn clustered(&self) -> BTreeSet<String> {
        self.learnable().into_iter().filter(|bad| !bad.shape).map(|bad| bad.metric).collect()
    }

    /// Those metrics with every limit that a check holds them against: what is tried before there is traffic.
    pub fn probed(&self) -> Vec<Probed> {
        let guard = self.guard.iter().flat_map(|guard| &guard.checks);
        let checks: Vec<&Check> = self.steps.iter().flat_map(|step| &step.checks).chain(guard).collect();
        let limits = |name: &str| {
            let of_metric = checks.iter().filter(|check| check.metric == name);
            let mut limits: Vec<f64> = of_metric.map(|check| check.limit.value()).collect();
            limits.sort_by(f64::total_cmp);
            limits.dedup();
            limits
        };
        self.measured_metrics()
            .into_iter()
            .map(|(name, metric)| Probed { limits: limits(&name), name, metric })
            .collect()
    }

    fn digest(&self) -> String {
        let nameless = Policy { hash: String::new(), ..self.clone() };
        // A policy is made of maps, lists, numbers and text: serializing it can't fail.
        let text = serde_json::to_string(&nameless).unwrap_or_default();
        digest(&[&text])[..12].to_owned()
    }
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches_glob(pattern, text))
}

/// Whether `text` is `pattern`, where each `*` stands for any run of characters.
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(tail) = text.strip_prefix(head) else { return false };
    tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| matches_glob(rest, &tail[at..]))
}
