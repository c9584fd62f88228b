//! The rule of Argo Rollouts: an AnalysisRun of one AnalysisTemplate (`analysis/analysis.go`,
//! `utils/evaluate/evaluate.go`, `utils/analysis/helpers.go` at 9f8d111).
//!
//! Each measurement of a metric is Successful, Failed, Inconclusive or an Error. More failures than `failureLimit`,
//! more inconclusive measurements than `inconclusiveLimit` or more consecutive errors than `consecutiveErrorLimit` end
//! the metric, and the worst metric determines the run's result. `Failed` and `Error` abort the rollout; `Inconclusive`
//! pauses it until a person resumes it. These less obvious properties are reproduced:
//!
//! - After an error the next measurement follows in 10 s, independent of the interval (`DefaultErrorRetryInterval`), so
//!   five consecutive errors, the default limit, take 40 s.
//! - Errors don't count towards `count`, and any other measurement resets their number.
//! - With a failure condition only, each measurement that does not fail is successful, NaN included. Without conditions
//!   each measurement is successful (by the code; the documentation says inconclusive).
//! - A run that is terminated because the steps are over is successful, even without a single measurement.
//!
//! The duration of queries is not reproduced. (In Argo the next measurement is due an interval after the last one
//! *finished*, so real runs drift, and a query that hangs becomes an error after 30 s.)

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::{MIN_INTERVAL, RivalAnswer, RivalEnd, RivalOutcome, RivalReason, RivalRule, RivalSource};
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

mod template;

/// The time from an error to the next measurement: Argo's `DefaultErrorRetryInterval`.
const ERROR_RETRY: Span = Span::from_secs(10);
/// The default number of allowed consecutive errors: Argo's `DefaultConsecutiveErrorLimit`.
const ERROR_LIMIT: u32 = 4;

/// The settings of an AnalysisTemplate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArgoSettings {
    /// The template's metrics.
    pub metrics: Vec<ArgoMetric>,
    /// The duration of the Rollout's steps, after which a background analysis is terminated; `None` for an analysis
    /// that runs to its own end. It is not part of the template.
    pub lasts: Option<Span>,
}

/// One metric of a template, with the fields of Argo's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArgoMetric {
    /// The metric's name (`name`).
    pub name: String,
    /// The PromQL query (`provider.prometheus.query`).
    pub query: Option<String>,
    /// The time between two measurements (`interval`); `None` for a single measurement.
    pub interval: Option<Span>,
    /// The time from the start to the first measurement (`initialDelay`).
    pub initial_delay: Span,
    /// The number of measurements (`count`); `None` for a single one without an interval, and for no end with an
    /// interval.
    pub count: Option<u32>,
    /// The number of allowed failures (`failureLimit`); `None` for any number (-1).
    pub failure_limit: Option<u32>,
    /// The number of allowed inconclusive measurements (`inconclusiveLimit`).
    pub inconclusive_limit: u32,
    /// The number of allowed consecutive errors (`consecutiveErrorLimit`).
    pub error_limit: u32,
    /// The number of consecutive successes that end the metric (`consecutiveSuccessLimit`); `None` for no such end (0).
    pub success_limit: Option<u32>,
    /// The condition of a success (`successCondition`).
    pub success: Option<Condition>,
    /// The condition of a failure (`failureCondition`).
    pub failure: Option<Condition>,
}

impl ArgoMetric {
    /// Returns a metric with Argo's defaults: one measurement, no allowed failures, four allowed consecutive errors,
    /// and no condition.
    pub fn new(name: &str) -> ArgoMetric {
        ArgoMetric {
            name: name.to_owned(),
            query: None,
            interval: None,
            initial_delay: Span::ZERO,
            count: None,
            failure_limit: Some(0),
            inconclusive_limit: 0,
            error_limit: ERROR_LIMIT,
            success_limit: None,
            success: None,
            failure: None,
        }
    }

    /// Returns the number of measurements after which the metric ends, as Argo's `EffectiveCount`; `None` for no end.
    fn effective_count(&self) -> Option<u32> {
        match (self.count, self.interval) {
            (Some(0) | None, None) => Some(1),
            (Some(0) | None, Some(_)) => None,
            (Some(count), _) => Some(count),
        }
    }

    /// Classifies a measurement, as Argo's `EvaluateResult`.
    fn phase_of(&self, answer: RivalAnswer) -> Phase {
        let evaluate = |condition: &Option<Condition>| condition.as_ref().map(|c| c.holds(answer)).transpose();
        if answer == RivalAnswer::Refused {
            return Phase::Error;
        }
        match (evaluate(&self.success), evaluate(&self.failure)) {
            (Err(_), _) | (_, Err(_)) => Phase::Error,
            (_, Ok(Some(true))) => Phase::Failed,
            (Ok(Some(true) | None), Ok(None)) | (Ok(Some(true)), Ok(Some(false))) => Phase::Successful,
            (Ok(Some(false)), Ok(None)) => Phase::Failed,
            (Ok(None), Ok(Some(false))) => Phase::Successful,
            (Ok(Some(false)), Ok(Some(false))) => Phase::Inconclusive,
        }
    }
}

/// The state of a measurement, a metric or a run, in ascending order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Successful,
    Inconclusive,
    Error,
    Failed,
}

/// The measurements of one metric so far.
#[derive(Debug, Clone, Default)]
struct MetricProgress {
    /// The number of measurements that are not errors.
    count: u32,
    failed: u32,
    inconclusive: u32,
    consecutive_errors: u32,
    consecutive_successes: u32,
    /// The time of the next measurement.
    next: Option<Timestamp>,
    /// The metric's final state and its reason, once it has ended.
    end: Option<(Phase, RivalReason)>,
}

impl MetricProgress {
    fn record(&mut self, phase: Phase) {
        let streak = |counted: Phase, before: u32| if phase == counted { before.saturating_add(1) } else { 0 };
        self.consecutive_successes = streak(Phase::Successful, self.consecutive_successes);
        self.consecutive_errors = streak(Phase::Error, self.consecutive_errors);
        self.count += u32::from(phase != Phase::Error);
        self.failed += u32::from(phase == Phase::Failed);
        self.inconclusive += u32::from(phase == Phase::Inconclusive);
    }

    /// Returns the metric's final state if it has ended, as Argo's `assessMetricStatus`.
    fn assess(&self, metric: &ArgoMetric, saw: RivalAnswer) -> Option<(Phase, RivalReason)> {
        let name = metric.name.clone();
        if let Some(allowed) = metric.failure_limit.filter(|limit| self.failed > *limit) {
            return Some((Phase::Failed, RivalReason::Failed { metric: name, saw, times: self.failed, allowed }));
        }
        if self.inconclusive > metric.inconclusive_limit {
            let (times, allowed) = (self.inconclusive, metric.inconclusive_limit);
            return Some((Phase::Inconclusive, RivalReason::Inconclusive { metric: name, times, allowed }));
        }
        if self.consecutive_errors > metric.error_limit {
            let (times, allowed) = (self.consecutive_errors, metric.error_limit);
            return Some((Phase::Error, RivalReason::Blind { metric: name, times, allowed }));
        }
        if metric.success_limit.is_some_and(|limit| self.consecutive_successes >= limit) {
            return Some((Phase::Successful, RivalReason::Done));
        }
        if metric.effective_count().is_none_or(|count| self.count < count) {
            return None;
        }
        // All measurements are done. With a success limit, it was not reached.
        Some(match (metric.success_limit, metric.failure_limit) {
            (None, _) => (Phase::Successful, RivalReason::Done),
            (Some(_), None) => {
                (Phase::Failed, RivalReason::Failed { metric: name, saw, times: self.failed, allowed: self.failed })
            }
            (Some(_), Some(_)) => {
                let (times, allowed) = (self.inconclusive, metric.inconclusive_limit);
                (Phase::Inconclusive, RivalReason::Inconclusive { metric: name, times, allowed })
            }
        })
    }
}

/// The rule of an AnalysisRun.
#[derive(Debug, Clone)]
pub struct Argo {
    metrics: Vec<(ArgoMetric, MetricProgress)>,
    /// The time at which the run is terminated from outside, if it is.
    terminated: Option<Timestamp>,
    outcome: Option<RivalOutcome>,
}

impl Argo {
    /// Starts a run at `start`.
    pub fn new(settings: ArgoSettings, start: Timestamp) -> Argo {
        let begin = |metric: ArgoMetric| {
            let next = Some(metric.initial_delay.after(start));
            (metric, MetricProgress { next, ..MetricProgress::default() })
        };
        let terminated = settings.lasts.map(|lasts| lasts.after(start));
        Argo { metrics: settings.metrics.into_iter().map(begin).collect(), terminated, outcome: None }
    }

    fn measure(&mut self, at: Timestamp, source: &dyn RivalSource) {
        for (metric, progress) in &mut self.metrics {
            if progress.end.is_some() || progress.next.is_none_or(|next| next > at) {
                continue;
            }
            let saw = source.ask(&metric.name, Arm::Canary, at);
            let phase = metric.phase_of(saw);
            progress.record(phase);
            progress.end = progress.assess(metric, saw);
            let interval = if phase == Phase::Error { Some(ERROR_RETRY) } else { metric.interval };
            progress.next = interval.map(|interval| interval.max(MIN_INTERVAL).after(at));
        }
    }

    /// Returns the run's final state if it has ended, as Argo's `assessRunStatus`: a metric that ends
    /// without success terminates the others, and the worst one counts.
    fn assess(&self, is_terminated: bool) -> Option<(Phase, RivalReason)> {
        let ended = self.metrics.iter().filter_map(|(_, progress)| progress.end.clone());
        let worst = ended.reduce(|worst, other| if other.0 > worst.0 { other } else { worst });
        let all = self.metrics.iter().all(|(_, progress)| progress.end.is_some());
        match worst {
            Some((Phase::Successful, _)) | None if is_terminated => Some((Phase::Successful, RivalReason::Done)),
            Some((Phase::Successful, why)) => all.then_some((Phase::Successful, why)),
            worst => worst,
        }
    }
}

impl RivalRule for Argo {
    fn next_look(&self) -> Option<Timestamp> {
        if self.outcome.is_some() {
            return None;
        }
        let running = self.metrics.iter().filter(|(_, progress)| progress.end.is_none());
        running.filter_map(|(_, progress)| progress.next).chain(self.terminated).min()
    }

    fn look(&mut self, at: Timestamp, source: &dyn RivalSource) {
        let is_terminated = self.terminated.is_some_and(|end| at >= end);
        if !is_terminated {
            self.measure(at, source);
        }
        self.outcome = self.assess(is_terminated).map(|(phase, why)| {
            let end = match phase {
                Phase::Successful => RivalEnd::Promoted,
                Phase::Inconclusive => RivalEnd::Held,
                Phase::Error | Phase::Failed => RivalEnd::RolledBack,
            };
            RivalOutcome { end, at, why }
        });
    }

    fn outcome(&self) -> Option<&RivalOutcome> {
        self.outcome.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, minute, run_until};
    use super::*;

    fn metric(success: &str) -> ArgoMetric {
        ArgoMetric {
            interval: Some(Span::from_secs(60)),
            success: Some(success.parse().unwrap()),
            ..ArgoMetric::new("rate")
        }
    }

    fn run(metric: ArgoMetric, answers: &[RivalAnswer]) -> Option<RivalOutcome> {
        let settings = ArgoSettings { metrics: vec![metric], lasts: None };
        run_until(&mut Argo::new(settings, minute(0)), &Scripted::by_minute(answers), minute(answers.len() as i64))
    }

    const GOOD: RivalAnswer = RivalAnswer::Value(0.99);
    const BAD: RivalAnswer = RivalAnswer::Value(0.5);

    #[test]
    fn more_failures_than_the_limit_roll_back() {
        for (limit, answers, ended) in [
            (Some(0), vec![GOOD, GOOD, BAD], Some(2)),
            (Some(2), vec![BAD, BAD], None),
            (Some(2), vec![BAD, GOOD, BAD, GOOD, BAD], Some(4)),
            (None, vec![BAD; 9], None),
        ] {
            let metric = ArgoMetric { failure_limit: limit, ..metric("result[0] >= 0.95") };
            let outcome = run(metric, &answers);
            assert_eq!(outcome.map(|o| (o.end, o.at)), ended.map(|n| (RivalEnd::RolledBack, minute(n))), "{answers:?}");
        }
    }

    /// `TestAssessMetricStatusCountReached`, `TestRunMeasurementsResetConsecutiveErrorCounter`.
    #[test]
    fn the_last_measurement_ends_the_metric_by_its_limits() {
        let counted =
            |count, limit| ArgoMetric { count: Some(count), success_limit: limit, ..metric("result[0] >= 0.95") };
        let end =
            |metric: ArgoMetric, answers: &[RivalAnswer]| run(metric, answers).map(|outcome| (outcome.end, outcome.at));
        assert_eq!(end(counted(3, None), &[GOOD; 5]), Some((RivalEnd::Promoted, minute(2))));
        let tolerant = |count, limit| ArgoMetric { failure_limit: Some(5), ..counted(count, limit) };
        assert_eq!(end(tolerant(9, Some(2)), &[GOOD, BAD, GOOD, GOOD]), Some((RivalEnd::Promoted, minute(3))));
        assert_eq!(end(tolerant(3, Some(2)), &[GOOD, BAD, GOOD]), Some((RivalEnd::Held, minute(2))));
        let never = ArgoMetric { failure_limit: None, ..counted(3, Some(2)) };
        assert_eq!(end(never, &[GOOD, BAD, GOOD]), Some((RivalEnd::RolledBack, minute(2))));
        let once = ArgoMetric { interval: None, ..metric("result[0] >= 0.95") };
        assert_eq!(end(once, &[GOOD]), Some((RivalEnd::Promoted, minute(0))));
    }

    /// `TestProcessNaNResponse`.
    #[test]
    fn nan_fails_passes_or_is_inconclusive_depending_on_the_conditions() {
        let (success, failure) = (Some("result[0] >= 0.95"), Some("result[0] < 0.95"));
        for (success, failure, saw, expected) in [
            (success, None, RivalAnswer::NotANumber, Phase::Failed),
            (None, failure, RivalAnswer::NotANumber, Phase::Successful),
            (success, failure, RivalAnswer::NotANumber, Phase::Inconclusive),
            (Some("isNaN(result[0]) || result[0] >= 0.95"), None, RivalAnswer::NotANumber, Phase::Successful),
            (success, None, RivalAnswer::Empty, Phase::Error),
            (None, None, RivalAnswer::Empty, Phase::Successful),
            (None, None, RivalAnswer::Refused, Phase::Error),
            (success, Some("result[0] > 0.9"), GOOD, Phase::Failed),
        ] {
            let read = |text: Option<&str>| text.map(|text| text.parse().unwrap());
            let metric = ArgoMetric { success: read(success), failure: read(failure), ..ArgoMetric::new("rate") };
            assert_eq!(metric.phase_of(saw), expected, "{success:?} {failure:?} {saw}");
        }
    }

    #[test]
    fn an_inconclusive_measurement_holds() {
        let metric = ArgoMetric { failure: Some("result[0] < 0.5".parse().unwrap()), ..metric("result[0] >= 0.95") };
        let outcome = run(metric, &[GOOD, RivalAnswer::Value(0.7)]).unwrap();
        assert_eq!((outcome.end, outcome.at), (RivalEnd::Held, minute(1)));
    }

    /// Five errors take 40 s, although the interval is a minute. An answer in between resets their number.
    #[test]
    fn an_outage_of_forty_seconds_rolls_back() {
        let second = |n: i64| Span::from_secs(n as u64).after(minute(0));
        for (away, back, expected) in [
            (60, 101, Some((RivalEnd::RolledBack, second(100)))),
            (60, 100, None),
            (30, 60, None),
            (0, 41, Some((RivalEnd::RolledBack, second(40)))),
        ] {
            let source = Scripted::with_outage(second(away), second(back), GOOD);
            let settings = ArgoSettings { metrics: vec![metric("result[0] >= 0.95")], lasts: None };
            let outcome = run_until(&mut Argo::new(settings, minute(0)), &source, minute(30));
            if let Some(outcome) = &outcome {
                assert_eq!(outcome.why, RivalReason::Blind { metric: "rate".into(), times: 5, allowed: 4 });
            }
            assert_eq!(outcome.map(|outcome| (outcome.end, outcome.at)), expected, "away from {away} to {back}");
        }
    }

    /// `TestAssessMetricStatusNoMeasurements`.
    #[test]
    fn a_run_that_is_terminated_without_a_measurement_promotes() {
        let late = ArgoMetric { initial_delay: Span::from_secs(600), ..metric("result[0] >= 0.95") };
        let settings = ArgoSettings { metrics: vec![late], lasts: Some(Span::from_secs(300)) };
        let outcome = run_until(&mut Argo::new(settings, minute(0)), &Scripted::by_minute(&[BAD; 20]), minute(20));
        assert_eq!(outcome.map(|outcome| (outcome.end, outcome.at)), Some((RivalEnd::Promoted, minute(5))));
    }

    #[test]
    fn the_worst_metric_determines_the_runs_result() {
        let good = ArgoMetric { count: Some(2), ..metric("result[0] >= 0.95") };
        let bad =
            ArgoMetric { count: Some(5), failure_limit: Some(2), name: "other".into(), ..metric("result[0] >= 2") };
        let settings = ArgoSettings { metrics: vec![good, bad], lasts: None };
        let outcome =
            run_until(&mut Argo::new(settings, minute(0)), &Scripted::by_minute(&[GOOD; 9]), minute(9)).unwrap();
        assert_eq!((outcome.end, outcome.at), (RivalEnd::RolledBack, minute(2)));
    }
}
