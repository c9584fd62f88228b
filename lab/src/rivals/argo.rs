//! Argo Rollouts: the AnalysisRun of one AnalysisTemplate (`analysis/analysis.go`, `utils/evaluate/evaluate.go`,
//! `utils/analysis/helpers.go` at 9f8d111).
//!
//! Per metric, a measurement is Successful, Failed, Inconclusive or an Error. More failures than `failureLimit`, more
//! inconclusive ones than `inconclusiveLimit` or more errors in a row than `consecutiveErrorLimit` end the metric, and
//! the worst metric is the run's result. `Failed` and `Error` abort the rollout alike, `Inconclusive` pauses it until
//! somebody comes. Not obvious, and reproduced:
//!
//! - After an error the next measurement comes in 10 s, whatever the interval (`DefaultErrorRetryInterval`): five errors
//!   in a row, the default, take 40 s.
//! - Errors don't count towards `count`, and any other measurement ends their row.
//! - Only a failure condition: what does not fail is a success, NaN too. No condition at all: a success (so the code; the
//!   documentation says inconclusive).
//! - A run that is terminated because the steps are over is successful, even without a single measurement.
//!
//! Not reproduced: the time that a query takes. (The next measurement is due an interval after the last one *finished*,
//! so real runs drift, and a query that hangs takes 30 s to be an error.)

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::{RivalAnswer, RivalEnd, RivalOutcome, RivalRule, RivalSource, SHORTEST, Why};
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

mod template;

/// `DefaultErrorRetryInterval`.
const ERROR_RETRY: Span = Span::from_secs(10);
/// `DefaultConsecutiveErrorLimit`.
const ERROR_LIMIT: u32 = 4;

/// What an AnalysisTemplate says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArgoSettings {
    /// Its metrics.
    pub metrics: Vec<ArgoMetric>,
    /// How long the Rollout's steps take, if the analysis runs beside them; then it is terminated. The template does not
    /// know it.
    pub lasts: Option<Span>,
}

/// One metric of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArgoMetric {
    /// `name`.
    pub name: String,
    /// `provider.prometheus.query`.
    pub query: Option<String>,
    /// `interval`; without one it is measured once.
    pub interval: Option<Span>,
    /// `initialDelay`.
    pub initial_delay: Span,
    /// `count`; `None`: once without an interval, and for ever with one.
    pub count: Option<u32>,
    /// `failureLimit`; `None`: it never fails (-1).
    pub failure_limit: Option<u32>,
    /// `inconclusiveLimit`.
    pub inconclusive_limit: u32,
    /// `consecutiveErrorLimit`.
    pub error_limit: u32,
    /// `consecutiveSuccessLimit`; `None`: none (0).
    pub success_limit: Option<u32>,
    /// `successCondition`.
    pub success: Option<Condition>,
    /// `failureCondition`.
    pub failure: Option<Condition>,
}

impl ArgoMetric {
    /// A metric with Argo's defaults: measured once, no limit of any kind, no condition.
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

    /// `EffectiveCount`.
    fn effective_count(&self) -> Option<u32> {
        match (self.count, self.interval) {
            (Some(0) | None, None) => Some(1),
            (Some(0) | None, Some(_)) => None,
            (Some(count), _) => Some(count),
        }
    }

    /// `EvaluateResult`.
    fn phase_of(&self, answer: RivalAnswer) -> Phase {
        let ask = |condition: &Option<Condition>| condition.as_ref().map(|c| c.holds(answer)).transpose();
        if answer == RivalAnswer::Refused {
            return Phase::Error;
        }
        match (ask(&self.success), ask(&self.failure)) {
            (Err(_), _) | (_, Err(_)) => Phase::Error,
            (_, Ok(Some(true))) => Phase::Failed,
            (Ok(Some(true) | None), Ok(None)) | (Ok(Some(true)), Ok(Some(false))) => Phase::Successful,
            (Ok(Some(false)), Ok(None)) => Phase::Failed,
            (Ok(None), Ok(Some(false))) => Phase::Successful,
            (Ok(Some(false)), Ok(Some(false))) => Phase::Inconclusive,
        }
    }
}

/// What a measurement, a metric or a run is; the later the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Successful,
    Inconclusive,
    Error,
    Failed,
}

/// What has been measured of one metric.
#[derive(Debug, Clone, Default)]
struct Tally {
    count: u32,
    failed: u32,
    inconclusive: u32,
    errors_in_a_row: u32,
    successes_in_a_row: u32,
    next: Option<Timestamp>,
    /// How the metric has ended, and why.
    end: Option<(Phase, Why)>,
}

impl Tally {
    fn count(&mut self, phase: Phase) {
        let streak = |of: Phase, before: u32| if phase == of { before.saturating_add(1) } else { 0 };
        self.successes_in_a_row = streak(Phase::Successful, self.successes_in_a_row);
        self.errors_in_a_row = streak(Phase::Error, self.errors_in_a_row);
        self.count += u32::from(phase != Phase::Error);
        self.failed += u32::from(phase == Phase::Failed);
        self.inconclusive += u32::from(phase == Phase::Inconclusive);
    }

    /// `assessMetricStatus`.
    fn assess(&self, metric: &ArgoMetric, saw: RivalAnswer) -> Option<(Phase, Why)> {
        let name = metric.name.clone();
        if let Some(allowed) = metric.failure_limit.filter(|limit| self.failed > *limit) {
            return Some((Phase::Failed, Why::Failed { metric: name, saw, times: self.failed, allowed }));
        }
        if self.inconclusive > metric.inconclusive_limit {
            let (times, allowed) = (self.inconclusive, metric.inconclusive_limit);
            return Some((Phase::Inconclusive, Why::Inconclusive { metric: name, times, allowed }));
        }
        if self.errors_in_a_row > metric.error_limit {
            let (times, allowed) = (self.errors_in_a_row, metric.error_limit);
            return Some((Phase::Error, Why::Blind { metric: name, times, allowed }));
        }
        if metric.success_limit.is_some_and(|limit| self.successes_in_a_row >= limit) {
            return Some((Phase::Successful, Why::Done));
        }
        if metric.effective_count().is_none_or(|count| self.count < count) {
            return None;
        }
        // It was to see so many successes in a row, and has not.
        Some(match (metric.success_limit, metric.failure_limit) {
            (None, _) => (Phase::Successful, Why::Done),
            (Some(_), None) => {
                (Phase::Failed, Why::Failed { metric: name, saw, times: self.failed, allowed: self.failed })
            }
            (Some(_), Some(_)) => {
                let (times, allowed) = (self.inconclusive, metric.inconclusive_limit);
                (Phase::Inconclusive, Why::Inconclusive { metric: name, times, allowed })
            }
        })
    }
}

/// An AnalysisRun.
#[derive(Debug, Clone)]
pub struct Argo {
    metrics: Vec<(ArgoMetric, Tally)>,
    terminated: Option<Timestamp>,
    outcome: Option<RivalOutcome>,
}

impl Argo {
    /// Starts a run.
    pub fn new(settings: ArgoSettings, start: Timestamp) -> Argo {
        let begin = |metric: ArgoMetric| {
            let tally = Tally { next: Some(metric.initial_delay.after(start)), ..Tally::default() };
            (metric, tally)
        };
        let terminated = settings.lasts.map(|lasts| lasts.after(start));
        Argo { metrics: settings.metrics.into_iter().map(begin).collect(), terminated, outcome: None }
    }

    fn measure(&mut self, at: Timestamp, source: &dyn RivalSource) {
        for (metric, tally) in &mut self.metrics {
            if tally.end.is_some() || tally.next.is_none_or(|next| next > at) {
                continue;
            }
            let saw = source.ask(&metric.name, Arm::Canary, at);
            let phase = metric.phase_of(saw);
            tally.count(phase);
            tally.end = tally.assess(metric, saw);
            let interval = if phase == Phase::Error { Some(ERROR_RETRY) } else { metric.interval };
            tally.next = interval.map(|interval| interval.max(SHORTEST).after(at));
        }
    }

    /// `assessRunStatus`: a metric that has ended badly terminates the others, and the worst one counts.
    fn assess(&self, is_terminated: bool) -> Option<(Phase, Why)> {
        let ended = self.metrics.iter().filter_map(|(_, tally)| tally.end.clone());
        let worst = ended.reduce(|worst, other| if other.0 > worst.0 { other } else { worst });
        let all = self.metrics.iter().all(|(_, tally)| tally.end.is_some());
        match worst {
            Some((Phase::Successful, _)) | None if is_terminated => Some((Phase::Successful, Why::Done)),
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
        let due = self.metrics.iter().filter(|(_, tally)| tally.end.is_none()).filter_map(|(_, tally)| tally.next);
        due.chain(self.terminated).min()
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
    use super::super::testing::{Scripted, minute, played};
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
        played(&mut Argo::new(settings, minute(0)), &Scripted::by_minute(answers), minute(answers.len() as i64))
    }

    const GOOD: RivalAnswer = RivalAnswer::Value(0.99);
    const BAD: RivalAnswer = RivalAnswer::Value(0.5);

    #[test]
    fn more_failures_than_the_limit_abort() {
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
    fn a_count_that_is_reached_ends_it_and_errors_do_not_count() {
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
    fn nan_fails_passes_or_is_inconclusive_as_the_conditions_happen_to_be_written() {
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
    fn inconclusive_pauses() {
        let metric = ArgoMetric { failure: Some("result[0] < 0.5".parse().unwrap()), ..metric("result[0] >= 0.95") };
        let outcome = run(metric, &[GOOD, RivalAnswer::Value(0.7)]).unwrap();
        assert_eq!((outcome.end, outcome.at), (RivalEnd::Held, minute(1)));
    }

    /// Five errors at 10 s each, in spite of an interval of a minute. An answer in between begins the row again.
    #[test]
    fn prometheus_away_for_forty_seconds_aborts() {
        let second = |n: i64| Span::from_secs(n as u64).after(minute(0));
        for (away, back, expected) in [
            (60, 101, Some((RivalEnd::RolledBack, second(100)))),
            (60, 100, None),
            (30, 60, None),
            (0, 41, Some((RivalEnd::RolledBack, second(40)))),
        ] {
            let source = Scripted::away(second(away), second(back), GOOD);
            let settings = ArgoSettings { metrics: vec![metric("result[0] >= 0.95")], lasts: None };
            let outcome = played(&mut Argo::new(settings, minute(0)), &source, minute(30));
            if let Some(outcome) = &outcome {
                assert_eq!(outcome.why, Why::Blind { metric: "rate".into(), times: 5, allowed: 4 });
            }
            assert_eq!(outcome.map(|outcome| (outcome.end, outcome.at)), expected, "away from {away} to {back}");
        }
    }

    /// `TestAssessMetricStatusNoMeasurements`: vacuous success.
    #[test]
    fn what_is_terminated_without_a_measurement_has_succeeded() {
        let late = ArgoMetric { initial_delay: Span::from_secs(600), ..metric("result[0] >= 0.95") };
        let settings = ArgoSettings { metrics: vec![late], lasts: Some(Span::from_secs(300)) };
        let outcome = played(&mut Argo::new(settings, minute(0)), &Scripted::by_minute(&[BAD; 20]), minute(20));
        assert_eq!(outcome.map(|outcome| (outcome.end, outcome.at)), Some((RivalEnd::Promoted, minute(5))));
    }

    #[test]
    fn the_worst_metric_is_the_runs_result() {
        let good = ArgoMetric { count: Some(2), ..metric("result[0] >= 0.95") };
        let bad =
            ArgoMetric { count: Some(5), failure_limit: Some(2), name: "other".into(), ..metric("result[0] >= 2") };
        let settings = ArgoSettings { metrics: vec![good, bad], lasts: None };
        let outcome = played(&mut Argo::new(settings, minute(0)), &Scripted::by_minute(&[GOOD; 9]), minute(9)).unwrap();
        assert_eq!((outcome.end, outcome.at), (RivalEnd::RolledBack, minute(2)));
    }
}
