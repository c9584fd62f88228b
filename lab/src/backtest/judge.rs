//! The judges of a backtest: a policy, or the rule of another tool.

use thiserror::Error;

use super::blocks::metric_names;
use super::judged::Judged;
use super::policy_replay;
use super::rival::Rival;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::Calibration;
use bellwether_core::measure::metric::MetricKind;
use bellwether_core::policy::Policy;

/// A judge of recorded rollouts.
#[derive(Debug, Clone)]
pub enum BacktestJudge {
    /// A policy of Bellwether.
    Ours(Box<Policy>),
    /// The rule of another tool.
    Theirs(Rival),
}

/// The reasons for which a judge can't be run on a recording.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// The recording is empty.
    #[error("the recording has no blocks; give the blocks of one rollout")]
    Empty,
    /// The recording lacks a metric that the judge reads.
    #[error("{who} reads the metric {metric}, which was not recorded; the recorded metrics are: {recorded}")]
    Metric {
        /// The judge's name.
        who: String,
        /// The name of the missing metric.
        metric: String,
        /// The names of the recorded metrics, separated by commas.
        recorded: String,
    },
    /// A step of the policy has no check that can be judged on a recording. The value is the policy's name.
    #[error("policy {0} has a step with checks of availability only, which is not recorded; leave that step out")]
    NoCheck(String),
}

impl BacktestJudge {
    /// Returns the name of the policy or of the rule.
    pub fn name(&self) -> &str {
        match self {
            BacktestJudge::Ours(policy) => &policy.name,
            BacktestJudge::Theirs(rival) => &rival.name,
        }
    }

    /// Adapts the judge to a recording: removes the checks of availability, which is never recorded, and verifies that
    /// the metrics of all other checks were recorded.
    ///
    /// # Errors
    /// [`Unfit`] if the recording is empty or lacks a metric, or if a step has only checks of availability.
    pub fn fit(self, blocks: &[Block]) -> Result<BacktestJudge, Unfit> {
        if blocks.is_empty() {
            return Err(Unfit::Empty);
        }
        let judge = match self {
            BacktestJudge::Ours(policy) => BacktestJudge::Ours(Box::new(without_availability(*policy)?)),
            BacktestJudge::Theirs(rival) => BacktestJudge::Theirs(rival),
        };
        let is_recorded = |metric: &str| blocks.iter().any(|block| block.metrics.contains_key(metric));
        match judge.metrics().into_iter().find(|metric| !is_recorded(metric)) {
            None => Ok(judge),
            Some(metric) => Err(Unfit::Metric {
                who: judge.name().to_owned(),
                metric: metric.to_owned(),
                recorded: metric_names(blocks).join(", "),
            }),
        }
    }

    /// Returns the calibrations that the judge learns from the blocks before a rollout; none for another tool's rule.
    pub fn learn(&self, before: &[Block]) -> Vec<Calibration> {
        match self {
            BacktestJudge::Ours(policy) => Calibration::from(policy.learned_criteria(), before),
            BacktestJudge::Theirs(_) => Vec::new(),
        }
    }

    fn metrics(&self) -> Vec<&str> {
        match self {
            BacktestJudge::Ours(policy) => {
                policy.steps.iter().flat_map(|step| &step.checks).map(|check| check.metric.as_str()).collect()
            }
            BacktestJudge::Theirs(rival) => rival.queries.values().map(|query| query.metric.as_str()).collect(),
        }
    }

    /// Decides about a rollout that begins with the first block. `calibrations` are those of the time before it, which
    /// only a policy uses. Returns `None` without blocks.
    pub fn judge(&self, blocks: &[Block], calibrations: &[Calibration]) -> Option<Judged> {
        match self {
            BacktestJudge::Ours(policy) => policy_replay::judge(policy, blocks, calibrations),
            BacktestJudge::Theirs(rival) => rival.judge(blocks),
        }
    }
}

fn without_availability(mut policy: Policy) -> Result<Policy, Unfit> {
    let metrics = policy.metrics.clone();
    let is_availability = |name: &str| metrics.get(name).is_some_and(|metric| metric.kind == MetricKind::Availability);
    for step in &mut policy.steps {
        step.checks.retain(|check| !is_availability(&check.metric));
    }
    if policy.steps.iter().any(|step| step.checks.is_empty()) { Err(Unfit::NoCheck(policy.name)) } else { Ok(policy) }
}
