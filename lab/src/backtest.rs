//! What would have been decided, on what was counted: a policy of ours and the rules of others over the same recorded blocks.
//!
//! Whoever thinks of changing a policy, or of coming here from elsewhere, has a past to ask. A recording holds the counts of both
//! arms, not their weights, so a backtest takes the split of the traffic as it was: a step's weight changes nothing here, its
//! time and its checks do. Past the instant at which the real rollout ended there is nothing more to see, and a judge that
//! would have gone on says so.
//!
//! Where canary and stable ran the same version, every rollback is a false one ([`alarms`]). How many that are is counted over
//! stretches as long as a rollout, with the upper end of what the true part may be; few stretches are little proof, and the
//! bound shows it.
//!
//! To read it, follow the modules in the order below.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::rivals::RivalEnd;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::Calibration;
use bellwether_core::measure::metric::MetricKind;
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, Timestamp};

mod ours;
pub mod theirs;
pub mod canaries;
pub mod alarms;

use theirs::Rival;

/// Whoever decides.
#[derive(Debug, Clone)]
pub enum BacktestJudge {
    /// A policy of ours.
    Ours(Box<Policy>),
    /// A rule of others.
    Theirs(Rival),
}

/// What somebody would have decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judged {
    /// Who.
    pub who: String,
    /// How it would have ended; `None`: the recording ended first.
    pub end: Option<RivalEnd>,
    /// When, or where the recording ended.
    pub at: Timestamp,
    /// How long after the first block's beginning.
    pub after: Span,
    /// Why, in one sentence.
    pub why: String,
}

/// Why something can't be tested on a recording.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// There is nothing.
    #[error("the recording has no blocks; give it those of one rollout")]
    Empty,
    /// It does not know a metric.
    #[error("{who} looks at {metric}, which was not recorded; there are {recorded}")]
    Metric {
        /// Who asks for it.
        who: String,
        /// For what.
        metric: String,
        /// What there is.
        recorded: String,
    },
    /// No check is left.
    #[error(
        "policy {0} has a step whose checks look at the cluster alone, and the recording has counts alone; leave it out"
    )]
    NoCheck(String),
}

impl BacktestJudge {
    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            BacktestJudge::Ours(policy) => &policy.name,
            BacktestJudge::Theirs(rival) => &rival.name,
        }
    }

    /// Whether all that it looks at was recorded. Availability never is, and a policy is tested without it.
    ///
    /// # Errors
    /// [`Unfit`]: what is missing.
    pub fn fit(self, blocks: &[Block]) -> Result<BacktestJudge, Unfit> {
        if blocks.is_empty() {
            return Err(Unfit::Empty);
        }
        let judge = match self {
            BacktestJudge::Ours(policy) => BacktestJudge::Ours(Box::new(without_availability(*policy)?)),
            BacktestJudge::Theirs(rival) => BacktestJudge::Theirs(rival),
        };
        let known = |metric: &str| blocks.iter().any(|block| block.metrics.contains_key(metric));
        match judge.metrics().into_iter().find(|metric| !known(metric)) {
            None => Ok(judge),
            Some(metric) => Err(Unfit::Metric {
                who: judge.name().to_owned(),
                metric: metric.to_owned(),
                recorded: recorded(blocks).join(", "),
            }),
        }
    }

    /// What blocks of the time before a rollout teach it.
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

    /// What it would have decided about a rollout that began with the first block, with what the time before had taught (only
    /// ours asks for that). `None`: there are no blocks.
    pub fn judge(&self, blocks: &[Block], calibrations: &[Calibration]) -> Option<Judged> {
        match self {
            BacktestJudge::Ours(policy) => ours::judge(policy, blocks, calibrations),
            BacktestJudge::Theirs(rival) => rival.judge(blocks),
        }
    }
}

/// From the first block's beginning to the last one's end.
pub fn length(blocks: &[Block]) -> Span {
    match (blocks.first(), blocks.last()) {
        (Some(first), Some(last)) => Span::between(first.from, last.to),
        _ => Span::ZERO,
    }
}

/// The metrics that a recording has.
pub fn recorded(blocks: &[Block]) -> Vec<&str> {
    let mut names: Vec<&str> = blocks.iter().flat_map(|block| block.metrics.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn without_availability(mut policy: Policy) -> Result<Policy, Unfit> {
    let metrics = policy.metrics.clone();
    let seen = |name: &str| metrics.get(name).is_some_and(|metric| metric.kind == MetricKind::Availability);
    for step in &mut policy.steps {
        step.checks.retain(|check| !seen(&check.metric));
    }
    if policy.steps.iter().any(|step| step.checks.is_empty()) { Err(Unfit::NoCheck(policy.name)) } else { Ok(policy) }
}

impl Judged {
    fn new(who: &str, end: Option<RivalEnd>, (start, at): (Timestamp, Timestamp), why: String) -> Judged {
        Judged { who: who.to_owned(), end, at, after: Span::between(start, at), why }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) => write!(f, "{}: {end} after {}: {}", self.who, self.after, self.why),
            None => write!(f, "{}: undecided when the recording ends after {}: {}", self.who, self.after, self.why),
        }
    }
}
