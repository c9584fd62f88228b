//! What others would have decided on the same numbers.
//!
//! For `bellwether backtest` and for the comparison in `docs/figures-judges.md`: the rules of the article, of Argo
//! Rollouts, of Flagger and of Kayenta, each as a pure state machine. They are reproduced with their edges, because
//! whoever thinks of changing wants to know what they have now; where a rule is known to differ from its documentation,
//! its source wins, and the module says so.
//!
//! A [`RivalRule`] says when it looks next and is then asked to look. What it sees is not ours to say: it asks a [`RivalSource`], and
//! gets an [`RivalAnswer`], which may be that nobody answers. [`recording::Recording`] is such a source, made of recorded
//! blocks; the answers of a real Prometheus to the rule's own query are another.
//!
//! To read it, follow the modules in the order below.

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

/// Nothing looks more often than this, whatever it is told: a rule that looks all the time would never let time pass.
const SHORTEST: Span = Span::from_secs(1);

/// What Flagger calls the percentage of requests that succeed, and others after it.
pub const SUCCESS: &str = "request-success-rate";

/// What a query came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RivalAnswer {
    /// A number. (Not a NaN.)
    Value(f64),
    /// NaN: a ratio of nothing to nothing.
    NotANumber,
    /// An answer with nothing in it: no series.
    Empty,
    /// No answer: refused, timed out, or an error.
    Refused,
}

impl RivalAnswer {
    /// The number, if it is one.
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

/// Whoever answers a rule's queries.
pub trait RivalSource {
    /// What the query of `metric` (the rule's own name for it) comes to for one arm at this instant.
    fn ask(&self, metric: &str, side: Arm, at: Timestamp) -> RivalAnswer;
}

/// A rule that decides about a rollout by looking at it now and then.
pub trait RivalRule {
    /// When it wants to look; `None`: it has ended.
    fn next_look(&self) -> Option<Timestamp>;
    /// It looks.
    fn look(&mut self, at: Timestamp, source: &dyn RivalSource);
    /// How it has ended, if it has.
    fn outcome(&self) -> Option<&RivalOutcome>;
}

/// How a rule has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RivalOutcome {
    /// What it did.
    pub end: RivalEnd,
    /// When.
    pub at: Timestamp,
    /// For what reason.
    pub why: Why,
}

/// What a rule does at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RivalEnd {
    /// The canary becomes the stable, as far as this rule is concerned.
    Promoted,
    /// The canary is taken back.
    RolledBack,
    /// It stops and waits for a person.
    Held,
}

/// Why a rule has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    /// It had looked for as long as it looks, and nothing was against the canary.
    Done,
    /// A metric was on the wrong side (or the rule takes what it saw for that) more often than is allowed.
    Failed {
        /// Which metric failed last.
        metric: String,
        /// What was seen then.
        saw: RivalAnswer,
        /// So often it had failed …
        times: u32,
        /// … and so often it may.
        allowed: u32,
    },
    /// Neither of a metric's two conditions held, more often than is allowed; or it ended with neither limit reached.
    Inconclusive {
        /// Which metric.
        metric: String,
        /// So often …
        times: u32,
        /// … and so often it may be.
        allowed: u32,
    },
    /// It could not see, too often in a row.
    Blind {
        /// Which metric it could not see.
        metric: String,
        /// So often in a row …
        times: u32,
        /// … and so often it may be.
        allowed: u32,
    },
    /// A score and what it is held against.
    Scored {
        /// From 0 to 100.
        score: f64,
        /// The least that it had to be.
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

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Done => f.write_str("it had looked to its end and nothing was against it"),
            Why::Failed { metric, saw, times, allowed } => {
                write!(f, "{metric} failed {times} times, {allowed} are allowed; the last time it saw {saw}")
            }
            Why::Inconclusive { metric, times, allowed } => {
                write!(f, "{metric} was inconclusive {times} times, {allowed} are allowed")
            }
            Why::Blind { metric, times, allowed } => {
                write!(f, "{metric} could not be seen {times} times in a row, {allowed} are allowed")
            }
            Why::Scored { score, least } => write!(f, "it scored {score}, and had to score at least {least}"),
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

    /// A source with its answers written down.
    pub struct Scripted(Box<dyn Fn(Timestamp) -> RivalAnswer>);

    impl Scripted {
        /// One answer a minute.
        pub fn by_minute(answers: &[RivalAnswer]) -> Scripted {
            let answers = answers.to_vec();
            let of = move |at: Timestamp| answers.get((at.as_second() / 60) as usize).copied();
            Scripted(Box::new(move |at| of(at).unwrap_or(RivalAnswer::Empty)))
        }

        /// The same answer at all times but from `from` until `to`, when nobody answers.
        pub fn away(from: Timestamp, to: Timestamp, otherwise: RivalAnswer) -> Scripted {
            Scripted(Box::new(move |at| if at >= from && at < to { RivalAnswer::Refused } else { otherwise }))
        }
    }

    impl RivalSource for Scripted {
        fn ask(&self, _: &str, _: Arm, at: Timestamp) -> RivalAnswer {
            (self.0)(at)
        }
    }

    /// What becomes of a rule that looks until shortly before `end`.
    pub fn played(rule: &mut dyn RivalRule, source: &dyn RivalSource, end: Timestamp) -> Option<RivalOutcome> {
        while let Some(at) = rule.next_look().filter(|at| *at < end) {
            rule.look(at, source);
        }
        rule.outcome().cloned()
    }
}
