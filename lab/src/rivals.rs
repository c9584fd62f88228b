//! The rollout rules of other tools, re-implemented so that they can be compared on the same numbers.
//!
//! They serve `bellwether backtest` and the comparison in `docs/figures-judges.md`. The rules of the article, of Argo
//! Rollouts, of Flagger and of Kayenta are pure state machines. Their corner cases are reproduced, so that a user of
//! one of these tools sees the decisions of that tool. If a rule's source is known to differ from its documentation,
//! the source is followed, and the module says so.
//!
//! A [`RivalRule`] has a time of its next look. A driver calls [`RivalRule::look`] at that time with a [`RivalSource`],
//! which answers the rule's queries with a [`RivalAnswer`]. [`recording::Recording`] is a driver and a source made of
//! recorded blocks.
//!
//! Read the modules in the order of their declarations.

use std::fmt;

use serde::{Deserialize, Serialize};

use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

pub mod recording;
pub mod manifest;
pub mod article;
pub mod condition;
pub mod argo;
pub mod flagger;
pub mod kayenta;

/// The shortest time between two looks of a rule. Without it a rule with an interval of zero would look at the same
/// instant forever.
const MIN_INTERVAL: Span = Span::from_secs(1);

/// Flagger's name for the percentage of successful requests, also used for other rules.
pub const SUCCESS: &str = "request-success-rate";

/// The answer to a rule's query.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RivalAnswer {
    /// A number other than NaN, in the unit of the rule's metric.
    Value(f64),
    /// NaN, as for a ratio without requests.
    NotANumber,
    /// An answer without any series.
    Empty,
    /// No answer: the query was refused, timed out or failed.
    Refused,
}

impl RivalAnswer {
    /// Returns the number of a [`RivalAnswer::Value`], and `None` for the other answers.
    pub fn value(self) -> Option<f64> {
        match self {
            RivalAnswer::Value(value) => Some(value),
            RivalAnswer::NotANumber | RivalAnswer::Empty | RivalAnswer::Refused => None,
        }
    }
}

impl fmt::Display for RivalAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RivalAnswer::Value(value) => write!(f, "{value}"),
            RivalAnswer::NotANumber => f.write_str("NaN"),
            RivalAnswer::Empty => f.write_str("no data"),
            RivalAnswer::Refused => f.write_str("no answer"),
        }
    }
}

/// A source of answers to the queries of a rule.
pub trait RivalSource {
    /// Answers the query of `metric`, by the rule's name for it, for one arm at an instant.
    fn ask(&self, metric: &str, side: Arm, at: Timestamp) -> RivalAnswer;
}

/// A rule that decides about a rollout by repeated looks at its metrics.
pub trait RivalRule {
    /// Returns the time of the rule's next look; `None` once it has ended.
    fn next_look(&self) -> Option<Timestamp>;
    /// Performs a look at the instant `at`, which may end the rule.
    fn look(&mut self, at: Timestamp, source: &dyn RivalSource);
    /// Returns the rule's outcome; `None` until it has ended.
    fn outcome(&self) -> Option<&RivalOutcome>;
}

/// The end of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RivalOutcome {
    /// The rule's decision about the canary.
    pub end: RivalEnd,
    /// The time of the look that ended the rule.
    pub at: Timestamp,
    /// The reason for the decision.
    pub why: RivalReason,
}

/// The decision with which a rule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RivalEnd {
    /// The canary becomes the stable.
    Promoted,
    /// The canary is rolled back.
    RolledBack,
    /// The rollout stops and waits for a person.
    Held,
}

/// The reason for a rule's decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum RivalReason {
    /// The analysis ended at its own end without too many failures.
    Done,
    /// A metric failed more often than is allowed. Some rules count a missing answer as a failure.
    Failed {
        /// The name of the metric that failed last.
        metric: String,
        /// The answer at the last failure.
        saw: RivalAnswer,
        /// The number of failures.
        times: u32,
        /// The number of allowed failures.
        allowed: u32,
    },
    /// Neither of a metric's two conditions held more often than is allowed, or the metric ended with neither limit
    /// reached.
    Inconclusive {
        /// The name of the metric.
        metric: String,
        /// The number of inconclusive measurements.
        times: u32,
        /// The number of allowed inconclusive measurements.
        allowed: u32,
    },
    /// Queries failed too often in a row.
    Blind {
        /// The name of the metric whose query failed.
        metric: String,
        /// The number of consecutive failed queries.
        times: u32,
        /// The number of allowed consecutive failed queries.
        allowed: u32,
    },
    /// The score was compared with the required score.
    Scored {
        /// The score, from 0 to 100.
        score: f64,
        /// The required score, from 0 to 100.
        least: f64,
    },
}

impl fmt::Display for RivalEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RivalEnd::Promoted => "promoted",
            RivalEnd::RolledBack => "rolled back",
            RivalEnd::Held => "held",
        })
    }
}

impl fmt::Display for RivalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RivalReason::Done => f.write_str("the analysis ended without too many failures"),
            RivalReason::Failed { metric, saw, times, allowed } => {
                write!(f, "{metric} failed {times} times, {allowed} are allowed; the last answer was {saw}")
            }
            RivalReason::Inconclusive { metric, times, allowed } => {
                write!(f, "{metric} was inconclusive {times} times, {allowed} are allowed")
            }
            RivalReason::Blind { metric, times, allowed } => {
                write!(f, "{metric} could not be queried {times} times in a row, {allowed} are allowed")
            }
            RivalReason::Scored { score, least } => write!(f, "the score was {score}, at least {least} is required"),
        }
    }
}

impl fmt::Display for RivalOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.end, self.why)
    }
}

#[cfg(test)]
mod testing {
    use super::{RivalAnswer, RivalOutcome, RivalRule, RivalSource};
    use bellwether_core::measure::window::Arm;
    use bellwether_core::time::Timestamp;

    pub fn minute(n: i64) -> Timestamp {
        Timestamp::from_second(60 * n).unwrap()
    }

    /// A source with given answers.
    pub struct Scripted(Box<dyn Fn(Timestamp) -> RivalAnswer>);

    impl Scripted {
        /// Makes a source with one answer per minute, and empty answers afterwards.
        pub fn by_minute(answers: &[RivalAnswer]) -> Scripted {
            let answers = answers.to_vec();
            let answer_at = move |at: Timestamp| answers.get((at.as_second() / 60) as usize).copied();
            Scripted(Box::new(move |at| answer_at(at).unwrap_or(RivalAnswer::Empty)))
        }

        /// Makes a source with a constant answer and an outage from `from` until `to`.
        pub fn with_outage(from: Timestamp, to: Timestamp, otherwise: RivalAnswer) -> Scripted {
            Scripted(Box::new(move |at| if at >= from && at < to { RivalAnswer::Refused } else { otherwise }))
        }
    }

    impl RivalSource for Scripted {
        fn ask(&self, _: &str, _: Arm, at: Timestamp) -> RivalAnswer {
            (self.0)(at)
        }
    }

    /// Runs a rule until just before `end` and returns its outcome.
    pub fn run_until(rule: &mut dyn RivalRule, source: &dyn RivalSource, end: Timestamp) -> Option<RivalOutcome> {
        while let Some(at) = rule.next_look().filter(|at| *at < end) {
            rule.look(at, source);
        }
        rule.outcome().cloned()
    }
}
