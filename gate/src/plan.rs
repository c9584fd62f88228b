//! The plan of a suite: the number of cases that each limit needs, and the shares of runs in which a good and a bad
//! version pass with the cases that the suite has.
//!
//! The shares are computed from the rule and the bounds that judge a real run, without random numbers ([`chance`]
//! computes them, [`assumption`] describes the versions). They hold for runs without missing answers.

mod assumption;
mod chance;

use serde::Serialize;

use crate::dataset::{Case, Dataset, Intent};
use crate::metric::{Aggregation, GateMetricKind};
use crate::suite::{Comparison, Gate, GateLimit, GateMode, Suite};
use assumption::assume;
use chance::Odds;

/// The largest number of cases that a plan tries.
const MOST_CASES: usize = 100_000;

/// The assumptions that a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlanSettings {
    /// The share of right answers of a good version, above 0 and below 1.
    pub right: f64,
    /// The share of a good version's runs that the suite shall pass, above 0 and below 1. Each of `m` limits is given
    /// the `m`-th part of what is left to 1.
    pub power: f64,
}

impl Default for PlanSettings {
    fn default() -> PlanSettings {
        PlanSettings { right: 0.97, power: 0.95 }
    }
}

/// The plan of a suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SuitePlan {
    /// The suite's name.
    pub suite: String,
    /// The largest share of runs in which a good version fails.
    pub alpha: f64,
    /// The largest share of runs in which a version that is not good enough passes.
    pub beta: f64,
    /// The assumptions.
    #[serde(flatten)]
    pub settings: PlanSettings,
    /// A lower bound for the share of runs in which a good version passes all enforcing gates, without a stable version.
    pub good_passes: f64,
    /// The same bound for a run that also asks a stable version, which is as good as the candidate.
    pub good_passes_against_stable: f64,
    /// The limits in the order of the suite.
    pub claims: Vec<ClaimPlan>,
}

/// The plan of one limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClaimPlan {
    /// The gate's name.
    pub gate: String,
    /// Whether the gate's verdict counts for the suite.
    pub enforced: bool,
    /// The metric's name.
    pub metric: String,
    /// Whether the candidate is compared with the stable version.
    pub paired: bool,
    /// The limit with its sign and unit, as in `≤ 2 %`.
    pub limit: String,
    /// The number of cases that the suite has for the limit.
    pub cases: usize,
    /// The smallest number, within 1 %, with which a good version passes this limit as often as the settings ask for;
    /// `None` if no number up to 100,000 suffices.
    pub needs: Option<usize>,
    /// The true value of a good version in the metric's unit; of a comparison, the difference or the quotient. `None`
    /// for a duration, which is described by `slower`.
    pub good: Option<f64>,
    /// The share of requests, from 0 to 1, that a good version answers more slowly than the limit; only of a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower: Option<f64>,
    /// The true value of a bad version, which is at the edge: at the limit.
    pub bad: f64,
    /// The share of runs, from 0 to 1, in which a good version passes.
    pub good_passes: f64,
    /// The share of runs, from 0 to 1, in which a bad version passes.
    pub bad_passes: f64,
    /// Whether the shares are approximate: those of a quotient of sums, whose bound comes from resampling.
    pub approximate: bool,
}

/// Plans a suite with its `datasets`, which are in the order of its gates.
pub fn plan(suite: &Suite, datasets: &[Dataset], settings: PlanSettings) -> SuitePlan {
    let limits: usize = suite.gates.iter().map(|gate| gate.limits.len()).sum();
    let power = 1.0 - (1.0 - settings.power) / limits.max(1) as f64;
    let claims: Vec<ClaimPlan> = suite
        .gates
        .iter()
        .zip(datasets)
        .flat_map(|(gate, dataset)| gate.limits.iter().map(move |limit| (gate, dataset, limit)))
        .map(|(gate, dataset, limit)| plan_limit(suite, gate, &dataset.cases, limit, settings.right, power))
        .collect();
    SuitePlan {
        suite: suite.name.clone(),
        alpha: suite.alpha,
        beta: suite.beta,
        settings,
        good_passes: all_pass(claims.iter().filter(|claim| !claim.paired)),
        good_passes_against_stable: all_pass(claims.iter()),
        claims,
    }
}

/// Returns a lower bound for the share of runs that pass all enforced limits, whatever their dependence (Bonferroni).
fn all_pass<'a>(claims: impl Iterator<Item = &'a ClaimPlan>) -> f64 {
    let misses: f64 = claims.filter(|claim| claim.enforced).map(|claim| 1.0 - claim.good_passes).sum();
    (1.0 - misses).max(0.0)
}

fn plan_limit(suite: &Suite, gate: &Gate, cases: &[Case], limit: &GateLimit, right: f64, power: f64) -> ClaimPlan {
    let versions = assume(gate, limit, right);
    let odds = Odds { limit, beta: suite.beta, min_cases: gate.min_cases };
    let size = values(gate, limit, cases);
    ClaimPlan {
        gate: gate.name.clone(),
        enforced: gate.mode == GateMode::Enforce,
        metric: limit.metric.name.to_owned(),
        paired: is_comparison(limit),
        limit: limit_words(limit),
        cases: size,
        needs: smallest(gate.min_cases, |n| odds.passes(&versions.good, n) >= power),
        good: versions.good_value,
        slower: versions.slower,
        bad: versions.bad_value,
        good_passes: odds.passes(&versions.good, size),
        bad_passes: odds.passes(&versions.bad, size),
        approximate: limit.metric.aggregation == Aggregation::Ratio,
    }
}

fn is_comparison(limit: &GateLimit) -> bool {
    matches!(limit.comparison, Comparison::Margin(_) | Comparison::MaxRatio(_))
}

/// Returns the number of cases that a limit is judged by.
fn values(gate: &Gate, limit: &GateLimit, cases: &[Case]) -> usize {
    match limit.metric.name {
        "over-refusal" => cases.iter().filter(|case| case.intent == Intent::Benign).count(),
        _ if gate.kind == GateMetricKind::Safety => cases.iter().filter(|case| case.intent == Intent::Attack).count(),
        _ => cases.len(),
    }
}

/// Returns the limit with its sign and unit.
fn limit_words(limit: &GateLimit) -> String {
    let unit = limit.metric.unit;
    let none = if limit.none { ", none" } else { "" };
    match limit.comparison {
        Comparison::Max(max) => format!("≤ {}{none}", unit.show(max)),
        Comparison::Min(min) => format!("≥ {}", unit.show(min)),
        Comparison::Margin(margin) => format!("margin {}", unit.show(margin)),
        Comparison::MaxRatio(ratio) => format!("≤ {ratio}x stable"),
    }
}

/// Returns a number of cases from `least` for which `suffices` is true, and false for a number that is at most 1 %
/// smaller, by doubling and bisection; `None` if it is false for [`MOST_CASES`]. Because counts are whole, a number that
/// is a little larger need not suffice.
fn smallest(least: usize, suffices: impl Fn(usize) -> bool) -> Option<usize> {
    let mut low = least.max(1);
    if suffices(low) {
        return Some(low);
    }
    let mut high = low;
    while !suffices(high) {
        if high >= MOST_CASES {
            return None;
        }
        low = high;
        high = (high * 2).min(MOST_CASES);
    }
    while high - low > (high / 100).max(1) {
        let middle = low + (high - low) / 2;
        if suffices(middle) { high = middle } else { low = middle }
    }
    Some(high)
}
