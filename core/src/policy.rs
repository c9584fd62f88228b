//! Policies: the rules for a set of workloads, as they are written and as they are checked.
//!
//! [`RawPolicy`] has the form of the TOML file. [`RawPolicy::check`] turns it into a [`Policy`] or returns *all* of its
//! problems, each with the path of its key; the engine uses only the checked form. A policy contains the definitions of
//! its metrics, so a rollout keeps the policy that it began with when the configuration changes.

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
mod traffic;
mod problems;
mod defaults;
mod raw;
mod checks;
mod check;
pub mod alone;

pub use problems::PolicyProblem;
pub use raw::{BlueGreen, RawAbTest, RawGuard, RawPolicy, RawStep};
pub use traffic::{Capabilities, Cohort, RouteName, RouterKind, Traffic};

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// The policy's name, unique in the configuration.
    pub name: String,
    /// The first twelve hexadecimal digits of the SHA-256 of the policy with its metrics.
    pub hash: String,
    /// The workloads and images that the policy is for.
    pub matches: PolicyMatch,
    /// Whether the policy writes to the cluster.
    pub mode: Mode,
    /// The way in which the new version is introduced.
    #[serde(default)]
    pub strategy: Strategy,
    /// The way in which traffic is split.
    pub traffic: Traffic,
    /// The field managers of GitOps tools that own the workload or its routes and ignore their images and rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owned_by: Vec<String>,
    /// Whether the canary is compared with a fresh baseline of equal size, so that both are equally cold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_baseline: bool,
    /// The deadline for the canary's pods to be available, from the start of the phase.
    pub ready_within: Span,
    /// The deadline for the stable's pods to be available with the new version, from the start of the phase.
    pub promote_within: Span,
    /// The time that a gateway may take to send the canary its share, while the stable still gets all requests. The data plane of
    /// a cloud load balancer follows minutes after the route is accepted.
    #[serde(default = "defaults::follows_within")]
    pub follows_within: Span,
    /// The time for which the canary keeps running after its weight is 0. A gateway accepts a weight before each of its
    /// proxies does, and a late proxy would answer requests for removed pods with errors.
    #[serde(default = "defaults::drain")]
    pub drain: Span,
    /// The time from a process's first request in which its requests are not compared, because it is cold; 0 if it isn't.
    #[serde(default = "defaults::warm_up")]
    pub warm_up: Span,
    /// The age up to which a block counts as present, from its end. The daemon derives it from the grid of its reads.
    #[serde(default = "defaults::block_age")]
    pub block_age: Span,
    /// The duration of a hold after which the rollout is given up.
    pub max_hold: Span,
    /// The time for which evidence may be missing, and the action after it.
    pub patience: Patience,
    /// The names of the suites that must have passed before the first traffic.
    #[serde(default)]
    pub require: Vec<String>,
    /// The age of a suite's report, from the end of its run, above which it counts as none; `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_max_age: Option<Span>,
    /// The pins of the tests that required suites must be, by the suite's name; a suite without one may be any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub require_pins: BTreeMap<String, String>,
    /// The environment of the model registry whose current model a rollout moves; `None` if it moves none.
    #[serde(default)]
    pub model: Option<ModelBinding>,
    /// The names of the notification sinks that learn of the rollouts; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Vec<String>>,
    /// The approvals that the rollout needs.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// The hours in which traffic may move to the new version; `None` if it may at any time.
    #[serde(default)]
    pub window: Option<ChangeWindow>,
    /// The A/B test, which is the policy's only step; `None` for the other strategies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ab: Option<AbTest>,
    /// The steps, at least one, with rising weights.
    pub steps: Vec<Step>,
    /// The analysis after the promotion; `None` if there is none.
    pub guard: Option<Guard>,
    /// The definitions of the metrics that the checks and the A/B test use, by name.
    pub metrics: BTreeMap<String, Metric>,
}

impl Policy {
    /// Returns whether this policy is for `workload`.
    pub fn covers(&self, workload: &Workload) -> bool {
        matches_any(&self.matches.namespaces, &workload.namespace)
            && matches_any(&self.matches.workloads, &workload.name)
    }

    /// Returns whether this policy allows the repository of `image`.
    pub fn allows(&self, image: &str) -> bool {
        matches_any(&self.matches.images, repository(image))
    }

    /// Returns whether the notification sink with this name learns of the rollouts.
    pub fn notifies(&self, sink: &str) -> bool {
        self.notify.as_ref().is_none_or(|names| names.iter().any(|name| name == sink))
    }

    /// Returns the planned duration of the guard (`of_guard`), or of all steps with their pauses. An A/B test may take until it
    /// is a draw.
    pub fn planned(&self, of_guard: bool) -> Span {
        let guard = || self.guard.as_ref().map_or(Span::ZERO, |guard| guard.length);
        let times = || self.steps.iter().flat_map(|step| [step.min_time, step.pause]);
        let steps = || Span::from_millis(times().map(Span::as_millis).fold(0, u64::saturating_add));
        let test = || self.ab.as_ref().map(|test| test.longest);
        if of_guard { guard() } else { test().unwrap_or_else(steps) }
    }

    /// Returns the metrics that are measured by queries: all but availability, which is taken from the workload status.
    pub fn measured_metrics(&self) -> BTreeMap<String, Metric> {
        let measured = |metric: &Metric| metric.kind != MetricKind::Availability;
        self.metrics.iter().filter(|(_, metric)| measured(metric)).map(|(n, m)| (n.clone(), m.clone())).collect()
    }

    /// Returns the criteria whose history is learned before the rollout: those of the sequential judge and of the A/B
    /// test, for their dispersion, and those of drifts against the past, for their distribution.
    pub fn learned_criteria(&self) -> Vec<Criterion> {
        let guard = self.guard.iter().flat_map(|guard| &guard.checks);
        let checks = self.steps.iter().flat_map(|step| &step.checks).chain(guard);
        let mut criteria: Vec<Criterion> = self.ab.iter().map(AbTest::reward_criterion).collect();
        let is_drift_from_past = |check: &Check| {
            let metric = self.metrics.get(&check.metric);
            metric.is_some_and(|metric| metric.kind == MetricKind::Drift && metric.against == Against::Past)
        };
        let is_learned = |check: &&Check| check.judge.needs_dispersion() || is_drift_from_past(check);
        for criterion in checks.filter(is_learned).map(Check::criterion) {
            if !criteria.contains(&criterion) {
                criteria.push(criterion);
            }
        }
        criteria
    }

    /// Returns the names of the metrics whose dispersion is learned. They must be counted for each process.
    pub fn per_process_metrics(&self) -> BTreeSet<String> {
        let criteria = self.learned_criteria().into_iter();
        criteria.filter(|criterion| !criterion.distribution).map(|criterion| criterion.metric).collect()
    }

    /// Returns the measured metrics with the limits of their checks, to try their queries before the canary has
    /// traffic.
    pub fn probe_targets(&self) -> Vec<ProbeTarget> {
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
        let without_hash = Policy { hash: String::new(), ..self.clone() };
        // Serializing can't fail: a policy consists of maps, lists, numbers and text.
        let text = serde_json::to_string(&without_hash).unwrap_or_default();
        digest(&[&text])[..12].to_owned()
    }
}

/// The workloads that a policy is for and the images that it allows, as patterns. `*` matches any run of characters;
/// all other characters match themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolicyMatch {
    /// The patterns of the namespaces.
    pub namespaces: Vec<String>,
    /// The patterns of the workloads' names.
    pub workloads: Vec<String>,
    /// The patterns of the allowed image repositories, without tag and digest.
    pub images: Vec<String>,
}

/// Whether a policy writes to the cluster or only records its decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The policy writes to the cluster.
    #[default]
    Enforce,
    /// The policy writes nothing to the cluster. Its decisions are recorded as usual.
    Observe,
}

/// The way in which the new version is introduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// A small canary beside the stable gets a rising share of the traffic.
    #[default]
    Canary,
    /// A canary of full size gets all of the traffic by one switch; a rollback is one switch, too.
    BlueGreen,
    /// A cohort gets the canary until one version wins or the test ends in a draw.
    Ab,
}

/// One step of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// The canary's share of the traffic.
    pub weight: Weight,
    /// The minimum time for which the step is judged.
    pub min_time: Span,
    /// The waiting time after the step has passed.
    pub pause: Span,
    /// The evidence that the sequential judge needs to pass the step.
    #[serde(default)]
    pub proof: Proof,
    /// The step's checks.
    pub checks: Vec<Check>,
}

/// The analysis after the promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Guard {
    /// The guard's duration.
    pub length: Span,
    /// The guard's checks.
    pub checks: Vec<Check>,
}

/// An A/B test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AbTest {
    /// The name of the ratio whose hits are the rewards.
    pub reward: String,
    /// Whether the version with the smaller share of rewards wins.
    pub less: bool,
    /// The probability with which one of two equal versions may win, above 0 and below 0.5.
    pub level: f64,
    /// The factor by which the requests of one user carry less evidence than as many independent ones, at least 1; `None` if the
    /// policy states none, and requests count as independent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design_effect: Option<f64>,
    /// The time after which a test without a winner ends in a draw.
    pub longest: Span,
    /// The version that stays after a draw.
    pub on_draw: OnDraw,
}

impl AbTest {
    /// Returns the criterion whose bad events are the rewarded requests, to learn their dispersion.
    pub fn reward_criterion(&self) -> Criterion {
        Criterion { metric: self.reward.clone(), limit: Limit::Max(1.0), distribution: false }
    }
}

/// The version that stays after an A/B test without a winner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDraw {
    /// The old version; the rollout is given up.
    #[default]
    Stable,
    /// The new version; it is promoted.
    Canary,
}

/// The binding of a policy to the model registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelBinding {
    /// The name of the environment whose current model a rollout moves.
    pub environment: String,
}

/// An approval that a person gives with the verb `approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Approval {
    /// The approval's name, unique in its policy.
    pub name: String,
    /// The point before which the approval is required.
    pub before: ApprovalPoint,
    /// The time after which the rollout is given up if the approval is still missing.
    #[serde(default = "defaults::approval_patience")]
    pub patience: Span,
}

/// The point before which an approval is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalPoint {
    /// The canary's first traffic.
    Traffic,
    /// The promotion of the canary.
    Promotion,
}

impl std::fmt::Display for ApprovalPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ApprovalPoint::Traffic => "the first traffic",
            ApprovalPoint::Promotion => "the promotion",
        })
    }
}

/// The time for which evidence may be missing, and the action after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Patience {
    /// The longest time with the verdict `blind`.
    pub blind: Span,
    /// The longest time with the verdict `insufficient`.
    pub insufficient: Span,
    /// The action after `blind` is over.
    pub on_blind: PatienceAction,
    /// The action after `insufficient` is over.
    pub on_insufficient: PatienceAction,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            blind: defaults::patience(),
            insufficient: defaults::patience(),
            on_blind: PatienceAction::Hold,
            on_insufficient: PatienceAction::Hold,
        }
    }
}

/// The action when the patience is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatienceAction {
    /// Hold the rollout; after `max-hold` it is given up.
    #[default]
    Hold,
    /// Give up: the traffic returns to the stable, and the version is not quarantined.
    GiveUp,
    /// Roll back as after a regression, although none was found. The version is not quarantined.
    RollBack,
}

fn matches_any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches_glob(pattern, text))
}

/// Returns whether `text` matches `pattern`, in which each `*` matches any run of characters.
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(tail) = text.strip_prefix(head) else { return false };
    tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| matches_glob(rest, &tail[at..]))
}
