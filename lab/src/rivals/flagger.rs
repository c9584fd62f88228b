//! The rule of Flagger: the analysis of one Canary (`pkg/controller/scheduler.go`, `scheduler_metrics.go` at 15bd6ad).
//!
//! At every interval Flagger checks all metrics. If one is out of its range, one failed check is counted and the weight
//! stays; if all are within, the analysis advances by one step. These less obvious properties are reproduced:
//!
//! - Failed checks are counted over the whole analysis; a success does not reset their number.
//! - Missing values, NaN and failed queries are failed checks.
//! - The number is compared with `threshold` before the metrics are checked, so the rollback comes one interval after
//!   the check that reached it.
//! - At weight 0 no metric is checked; the first interval only starts the traffic.
//! - The analysis has its own end: a passed check at `maxWeight` (or after the iterations) promotes, even after very
//!   little traffic.
//! - `request-duration` is truncated to whole milliseconds.
//!
//! Webhooks are not reproduced, nor the time that they and the pods' readiness take.

use serde::{Deserialize, Serialize};

use super::{MIN_INTERVAL, RivalAnswer, RivalEnd, RivalOutcome, RivalReason, RivalRule, RivalSource};
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

mod canary;

/// All of the traffic, in percent: Flagger's `totalWeight`.
const ALL: u32 = 100;

/// The settings of a Canary's `analysis`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FlaggerSettings {
    /// The time between two checks (`interval`).
    pub interval: Span,
    /// The number of failed checks that causes a rollback (`threshold`).
    pub threshold: u32,
    /// The steps of the analysis.
    pub steps: Steps,
    /// The metrics (`metrics`) in the order of their checks: Flagger's own metrics before those from templates.
    pub metrics: Vec<FlaggerMetric>,
}

/// The steps of an analysis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steps {
    /// Weights that rise by a constant step up to a maximum.
    Even {
        /// The step in percent of the traffic (`stepWeight`).
        step: u32,
        /// The last weight in percent of the traffic (`maxWeight`).
        most: u32,
    },
    /// A list of ascending weights in percent of the traffic (`stepWeights`).
    Weights(Vec<u32>),
    /// Blue-green: a number of checks, then all of the traffic and one more check.
    BlueGreen {
        /// The number of checks before the traffic is switched (`iterations`).
        iterations: u32,
    },
    /// An A/B test of the requests that match: a number of checks.
    Matched {
        /// The number of checks (`iterations`).
        iterations: u32,
    },
}

/// One metric and its range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FlaggerMetric {
    /// The metric's name (`name`).
    pub name: String,
    /// The name of the metric's template (`templateRef.name`); `None` for one of Flagger's own metrics.
    pub template: Option<String>,
    /// The window of the metric's query (`interval`).
    pub window: Span,
    /// The smallest allowed value, in the metric's unit (`thresholdRange.min`).
    pub min: Option<f64>,
    /// The largest allowed value, in the metric's unit (`thresholdRange.max`).
    pub max: Option<f64>,
}

impl FlaggerMetric {
    fn passes(&self, saw: RivalAnswer) -> bool {
        let RivalAnswer::Value(value) = saw else { return false };
        let value = if self.name == "request-duration" { libm::trunc(value) } else { value };
        !self.min.is_some_and(|min| value < min) && !self.max.is_some_and(|max| value > max)
    }
}

/// The progress of an analysis: the weight in percent, and the number of completed iterations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    weight: u32,
    iterations: u32,
}

impl Steps {
    /// Returns the progress after a passed check at `at`; `None` if that check promotes the canary.
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

/// The rule of a Canary's analysis.
#[derive(Debug, Clone)]
pub struct Flagger {
    settings: FlaggerSettings,
    next: Timestamp,
    progress: Progress,
    failed_checks: u32,
    /// The metric and the answer of the last failed check.
    last_failure: Option<(String, RivalAnswer)>,
    outcome: Option<RivalOutcome>,
}

impl Flagger {
    /// Starts an analysis at `start`. Its first interval only starts the traffic.
    pub fn new(settings: FlaggerSettings, start: Timestamp) -> Flagger {
        let progress = Progress::default();
        Flagger { settings, next: start, progress, failed_checks: 0, last_failure: None, outcome: None }
    }

    /// Returns the current weight of the canary, in percent of the traffic.
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

    /// Performs one check, as Flagger's `advanceCanary`, and returns the end of the analysis if it causes one.
    fn advance(&mut self, at: Timestamp, source: &dyn RivalSource) -> Option<(RivalEnd, RivalReason)> {
        let allowed = self.settings.threshold;
        if let Some((metric, saw)) = self.last_failure.clone().filter(|_| self.failed_checks >= allowed) {
            let why = RivalReason::Failed { metric, saw, times: self.failed_checks, allowed };
            return Some((RivalEnd::RolledBack, why));
        }
        let is_under_way = self.progress != Progress::default();
        let failed = self.settings.metrics.iter().filter(|_| is_under_way).find_map(|metric| {
            let saw = source.ask(&metric.name, Arm::Canary, at);
            (!metric.passes(saw)).then(|| (metric.name.clone(), saw))
        });
        if failed.is_some() {
            self.last_failure = failed;
            self.failed_checks = self.failed_checks.saturating_add(1);
            return None;
        }
        match self.settings.steps.after(self.progress) {
            Some(progress) => self.progress = progress,
            None => return Some((RivalEnd::Promoted, RivalReason::Done)),
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
        self.next = self.settings.interval.max(MIN_INTERVAL).after(at);
    }

    fn outcome(&self) -> Option<&RivalOutcome> {
        self.outcome.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, minute, run_until};
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
        let outcome = run_until(&mut Flagger::new(settings, minute(0)), &source, minute(answers.len() as i64))?;
        Some((outcome.end, outcome.at.as_second() / 60))
    }

    #[test]
    fn failed_checks_add_up_and_the_rollback_follows_one_interval_later() {
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

    /// `TestScheduler_ServicePromotion…`: the steps, and the check that promotes.
    #[test]
    fn passed_checks_promote_after_the_last_step() {
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

    #[test]
    fn an_outage_of_threshold_intervals_rolls_a_good_canary_back() {
        for (minutes, expected) in [(2, None), (4, None), (5, Some((RivalEnd::RolledBack, 15)))] {
            let source = Scripted::with_outage(minute(10), minute(10 + minutes), GOOD);
            let mut flagger = Flagger::new(settings(Steps::Even { step: 1, most: 100 }, 5), minute(0));
            let outcome = run_until(&mut flagger, &source, minute(30));
            assert_eq!(outcome.map(|o| (o.end, o.at.as_second() / 60)), expected, "{minutes} minutes");
        }
    }

    #[test]
    fn a_duration_is_truncated_to_milliseconds() {
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
