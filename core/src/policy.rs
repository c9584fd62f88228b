//! The rules for a set of workloads, as written and as checked.
//!
//! [`RawPolicy`] is what TOML holds. [`RawPolicy::check`] turns it into a [`Policy`], or into *all* of its problems, each
//! with the path of the key that it is about; after that nothing in the engine looks at the raw form again. A policy
//! carries the definitions of its metrics, so that a rollout can keep the policy that it began with, whatever becomes
//! of the configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{Weight, Workload, digest, repository};
use crate::judge::check::Check;
use crate::judge::rule::Proof;
use crate::measure::calibration::Criterion;
use crate::measure::metric::{Against, Limit, Metric, MetricKind};
use crate::measure::watch::ProbeTarget;
use crate::policy::calendar::ChangeWindow;
use crate::time::Span;

pub mod calendar;
mod check;
mod checks;
mod defaults;
mod problems;
mod raw;
mod traffic;

pub use problems::PolicyProblem;
pub use raw::{BlueGreen, RawAb, RawGuard, RawPolicy, RawStep};
pub use traffic::{Capabilities, Cohort, RouteName, RouterKind, Traffic};

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
    pub fn learnable(&self) -> Vec<Criterion> {
        let guard = self.guard.iter().flat_map(|guard| &guard.checks);
        let checks = self.steps.iter().flat_map(|step| &step.checks).chain(guard);
        let mut learnable: Vec<Criterion> = self.ab.iter().map(Ab::rewarded).collect();
        let past = |check: &Check| {
            let metric = self.metrics.get(&check.metric);
            metric.is_some_and(|metric| metric.kind == MetricKind::Drift && metric.against == Against::Past)
        };
        for bad in checks.filter(|check| check.judge.needs_dispersion() || past(check)).map(Check::criterion) {
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
    pub fn probed(&self) -> Vec<ProbeTarget> {
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
            .map(|(name, metric)| ProbeTarget { limits: limits(&name), name, metric })
            .collect()
    }

    fn digest(&self) -> String {
        let nameless = Policy { hash: String::new(), ..self.clone() };
        // A policy is made of maps, lists, numbers and text: serializing it can't fail.
        let text = serde_json::to_string(&nameless).unwrap_or_default();
        digest(&[&text])[..12].to_owned()
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

impl Ab {
    /// The requests that are rewarded.
    pub fn rewarded(&self) -> Criterion {
        Criterion { metric: self.reward.clone(), limit: Limit::Max(1.0), shape: false }
    }
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

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches_glob(pattern, text))
}

/// Whether `text` is `pattern`, where each `*` stands for any run of characters.
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(tail) = text.strip_prefix(head) else { return false };
    tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| matches_glob(rest, &tail[at..]))
}
