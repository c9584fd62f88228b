//! Flagger: one Canary's analysis (`pkg/controller/scheduler.go`, `scheduler_metrics.go` at 15bd6ad).
//!
//! At every interval Flagger checks all metrics. If one is out of its range, one failed check is added, and nothing
//! else happens; if all are within, it goes one step on. Not obvious, and reproduced:
//!
//! - Failed checks are counted for the whole analysis. No success takes one away.
//! - No values, NaN and a query that fails are failed checks like any other.
//! - The count is looked at before the metrics: the rollback comes one interval after the check that reached `threshold`.
//! - At weight 0 nothing is measured: the first interval only starts the traffic.
//! - It has its own end: the check at `maxWeight` (or after the iterations) that does not fail promotes, however little
//!   traffic it has seen.
//! - `request-duration` is compared in whole milliseconds, the rest cut off.
//!
//! Not reproduced: webhooks, and the time that they and the pods' readiness take.

use serde::{Deserialize, Serialize};

use super::{RivalAnswer, RivalEnd, RivalOutcome, RivalRule, RivalSource, SHORTEST, Why};
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

mod canary;

/// `totalWeight`.
const ALL: u32 = 100;

/// What a Canary's `analysis` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FlaggerSettings {
    /// `interval`.
    pub interval: Span,
    /// `threshold`: so many failed checks roll back.
    pub threshold: u32,
    /// How it goes on.
    pub steps: Steps,
    /// `metrics`, in the order in which they are checked: those that come with Flagger before those from templates.
    pub metrics: Vec<FlaggerMetric>,
}

/// How an analysis goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steps {
    /// The same weight on top, up to a maximum.
    Even {
        /// `stepWeight`.
        step: u32,
        /// `maxWeight`.
        most: u32,
    },
    /// One weight after the other.
    Weights(Vec<u32>),
    /// Blue-green: so many checks, then all traffic and one more.
    BlueGreen {
        /// `iterations`.
        iterations: u32,
    },
    /// The requests that match: so many checks.
    Matched {
        /// `iterations`.
        iterations: u32,
    },
}

/// One metric and its range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FlaggerMetric {
    /// `name`.
    pub name: String,
    /// `templateRef.name`, if it is not one of Flagger's own.
    pub template: Option<String>,
    /// `interval`: the window of its query.
    pub window: Span,
    /// `thresholdRange.min`.
    pub min: Option<f64>,
    /// `thresholdRange.max`.
    pub max: Option<f64>,
}

impl FlaggerMetric {
    fn passes(&self, saw: RivalAnswer) -> bool {
        let RivalAnswer::Value(value) = saw else { return false };
        let value = if self.name == "request-duration" { libm::trunc(value) } else { value };
        !self.min.is_some_and(|min| value < min) && !self.max.is_some_and(|max| value > max)
    }
}

/// Where an analysis stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    weight: u32,
    iterations: u32,
}

impl Steps {
    /// The next stop; `None`: the canary is promoted.
    fn after(&self, at: Progress) -> Option<Progress> {
        let up = |step: u32| Some(Progress { weight: at.weight.saturating_add(step).min(ALL), ..at });
        let again = |more: bool| more.then_some(Progress { iterations: at.iterations.saturating_add(1), ..at });
        match self {
            Steps::Even { step, most } if at.weight < *most => up((*step).max(1)),
            Steps::Weights(weights) if at.weight < weights.last().copied().unwrap_or(0).min(ALL) => {
                weights.iter().find(|weight| **weight > at.weight).and_then(|weight| up(weight - at.weight))
            }
            Steps::Even { .. } | Steps::Weights(_) => None,
            Steps::BlueGreen { iterations } => again(at.iterations <= *iterations),
            Steps::Matched { iterations } => again(at.iterations < *iterations),
        }
    }
}

/// An analysis.
#[derive(Debug, Clone)]
pub struct Flagger {
    settings: FlaggerSettings,
    next: Timestamp,
    progress: Progress,
    failed_checks: u32,
    last: Option<(String, RivalAnswer)>,
    outcome: Option<RivalOutcome>,
}

impl Flagger {
    /// Begins: the first interval starts the traffic.
    pub fn new(settings: FlaggerSettings, start: Timestamp) -> Flagger {
        Flagger { settings, next: start, progress: Progress::default(), failed_checks: 0, last: None, outcome: None }
    }

    /// The weight that it asks for, in percent.
    pub fn weight(&self) -> u32 {
        match self.settings.steps {
            Steps::Even { .. } | Steps::Weights(_) => self.progress.weight,
            Steps::BlueGreen { iterations } => {
                if self.progress.iterations > iterations {
                    ALL
                } else {
                    0
                }
            }
            Steps::Matched { .. } => ALL,
        }
    }

    /// `advanceCanary`.
    fn advance(&mut self, at: Timestamp, source: &dyn RivalSource) -> Option<(RivalEnd, Why)> {
        let allowed = self.settings.threshold;
        if let Some((metric, saw)) = self.last.clone().filter(|_| self.failed_checks >= allowed) {
            return Some((RivalEnd::RolledBack, Why::Failed { metric, saw, times: self.failed_checks, allowed }));
        }
        let is_under_way = self.progress != Progress::default();
        let failed = self.settings.metrics.iter().filter(|_| is_under_way).find_map(|metric| {
            let saw = source.ask(&metric.name, Arm::Canary, at);
            (!metric.passes(saw)).then(|| (metric.name.clone(), saw))
        });
        if failed.is_some() {
            self.last = failed;
            self.failed_checks = self.failed_checks.saturating_add(1);
            return None;
        }
        match self.settings.steps.after(self.progress) {
            Some(progress) => self.progress = progress,
            None => return Some((RivalEnd::Promoted, Why::Done)),
        }
        None
    }
}

impl RivalRule for Flagger {
    fn next_look(&self) -> Option<Timestamp> {
        self.outcome.is_none().then_some(self.next)
    }

    fn look(&mut self, at: Timestamp, source: &dyn RivalSource) {
        self.outcome = self.advance(at, source).map(|(end, why)| RivalOutcome { end, at, why });
        self.next = self.settings.interval.max(SHORTEST).after(at);
    }

    fn outcome(&self) -> Option<&RivalOutcome> {
        self.outcome.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, minute, played};
    use super::*;

    const GOOD: RivalAnswer = RivalAnswer::Value(99.5);
    const BAD: RivalAnswer = RivalAnswer::Value(98.0);

    fn settings(steps: Steps, threshold: u32) -> FlaggerSettings {
        let rate = FlaggerMetric {
            name: "request-success-rate".into(),
            template: None,
            window: Span::from_secs(60),
            min: Some(99.0),
            max: None,
        };
        FlaggerSettings { interval: Span::from_secs(60), threshold, steps, metrics: vec![rate] }
    }

    fn end(settings: FlaggerSettings, answers: &[RivalAnswer]) -> Option<(RivalEnd, i64)> {
        let source = Scripted::by_minute(answers);
        let outcome = played(&mut Flagger::new(settings, minute(0)), &source, minute(answers.len() as i64))?;
        Some((outcome.end, outcome.at.as_second() / 60))
    }

    #[test]
    fn failed_checks_add_up_and_the_rollback_comes_an_interval_later() {
        let even = || Steps::Even { step: 1, most: 100 };
        for (answers, expected) in [
            (vec![BAD; 7], Some((RivalEnd::RolledBack, 6))),
            (vec![GOOD, BAD, BAD, BAD, BAD, GOOD, GOOD, GOOD, BAD, GOOD], Some((RivalEnd::RolledBack, 9))),
            (
                vec![GOOD, BAD, RivalAnswer::Empty, RivalAnswer::NotANumber, RivalAnswer::Refused, BAD, GOOD],
                Some((RivalEnd::RolledBack, 6)),
            ),
            (vec![GOOD, BAD, BAD, BAD, BAD, GOOD, GOOD], None),
        ] {
            assert_eq!(end(settings(even(), 5), &answers), expected, "{answers:?}");
        }
    }

    /// `TestScheduler_ServicePromotion…`: the walk, and where it ends.
    #[test]
    fn it_promotes_at_its_own_end() {
        for (steps, expected) in [
            (Steps::Even { step: 10, most: 50 }, 5),
            (Steps::Even { step: 30, most: 50 }, 2),
            (Steps::Weights(vec![1, 5, 50]), 3),
            (Steps::Weights(vec![1, 2, 10, 120]), 4),
            (Steps::Matched { iterations: 10 }, 10),
            (Steps::BlueGreen { iterations: 10 }, 11),
        ] {
            assert_eq!(end(settings(steps.clone(), 5), &[GOOD; 20]), Some((RivalEnd::Promoted, expected)), "{steps:?}");
        }
        let halted = [GOOD, GOOD, BAD, GOOD, BAD, GOOD, GOOD, GOOD, GOOD];
        assert_eq!(end(settings(Steps::Even { step: 10, most: 30 }, 5), &halted), Some((RivalEnd::Promoted, 5)));
    }

    /// An outage of `threshold` intervals rolls back a canary that has nothing wrong with it.
    #[test]
    fn prometheus_away_for_threshold_intervals_rolls_back() {
        for (minutes, expected) in [(2, None), (4, None), (5, Some((RivalEnd::RolledBack, 15)))] {
            let source = Scripted::away(minute(10), minute(10 + minutes), GOOD);
            let mut flagger = Flagger::new(settings(Steps::Even { step: 1, most: 100 }, 5), minute(0));
            let outcome = played(&mut flagger, &source, minute(30));
            assert_eq!(outcome.map(|o| (o.end, o.at.as_second() / 60)), expected, "{minutes} minutes");
        }
    }

    #[test]
    fn a_duration_is_cut_off_to_milliseconds() {
        let metric = |name: &str| FlaggerMetric {
            name: name.into(),
            template: None,
            window: Span::from_secs(60),
            min: None,
            max: Some(500.0),
        };
        assert!(metric("request-duration").passes(RivalAnswer::Value(500.9)));
        assert!(!metric("p99").passes(RivalAnswer::Value(500.9)));
    }
}
