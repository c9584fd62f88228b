//! The verdicts of a load test. A threshold passes only if it is kept, enough requests were due to show it, and the
//! generator was not the bottleneck. A test passes only if each of its thresholds passes.

use std::time::Duration;

use bellwether_core::measure::metric::Unit;
use bellwether_core::time::Span;
use serde::Serialize;

use super::schedule::Schedule;
use super::tally::{LoadTally, Quantile};
use super::threshold::{Threshold, ThresholdLimit};

/// The verdict on a threshold or on a whole test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadVerdict {
    /// The threshold is kept.
    Pass,
    /// The threshold is not kept.
    Missed,
    /// The threshold is kept, but by too few requests to show it.
    Insufficient,
    /// The generator sent requests too late, so the measured times say nothing about the server.
    GeneratorLate,
    /// The test has no threshold.
    Measured,
}

/// A threshold with the figure that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThresholdFinding {
    /// The threshold as it was given.
    pub threshold: Threshold,
    /// Measured figure with its unit, as text.
    pub found: String,
    /// Verdict on this threshold.
    pub verdict: LoadVerdict,
    /// Explanation, where the figure alone does not give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The verdict on a test, with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadOutcome {
    /// The worst verdict of all thresholds.
    pub verdict: LoadVerdict,
    /// One finding per threshold, in their order.
    pub findings: Vec<ThresholdFinding>,
    /// Sentence about the generator's lateness, if the generator was the bottleneck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
}

/// Judges every threshold, and the test by all of them.
pub fn judge(tally: &LoadTally, schedule: &Schedule, thresholds: &[Threshold]) -> LoadOutcome {
    let generator = lateness(tally, thresholds);
    let one = |threshold: &Threshold| finding(tally, schedule, threshold, generator.is_some());
    let findings: Vec<ThresholdFinding> = thresholds.iter().map(one).collect();
    let has = |verdict| findings.iter().any(|finding: &ThresholdFinding| finding.verdict == verdict);
    let verdict = if has(LoadVerdict::Missed) {
        LoadVerdict::Missed
    } else if generator.is_some() {
        LoadVerdict::GeneratorLate
    } else if has(LoadVerdict::Insufficient) {
        LoadVerdict::Insufficient
    } else if findings.is_empty() {
        LoadVerdict::Measured
    } else {
        LoadVerdict::Pass
    };
    LoadOutcome { verdict, findings, generator }
}

/// Returns the tolerated lateness of the generator: 20 ms or a tenth of the tightest time limit, whichever is longer.
fn tolerated(thresholds: &[Threshold]) -> Duration {
    let tightest = thresholds.iter().filter_map(|threshold| match threshold.limit {
        ThresholdLimit::Latency { within, .. } | ThresholdLimit::FirstByte { within, .. } => Some(within.to_std()),
        ThresholdLimit::Errors(_) | ThresholdLimit::NotSent(_) | ThresholdLimit::Rate(_) => None,
    });
    Duration::from_millis(20).max(tightest.min().unwrap_or_default() / 10)
}

fn lateness(tally: &LoadTally, thresholds: &[Threshold]) -> Option<String> {
    let (late, tolerated) = (tally.lateness(0.99), tolerated(thresholds));
    (late > tolerated).then(|| {
        format!(
            "this machine was the bottleneck: 1 % of the requests were sent {} late or more, and {} is tolerated; use a \
             lower --rate, or a less busy machine",
            seconds(late),
            seconds(tolerated)
        )
    })
}

fn finding(tally: &LoadTally, schedule: &Schedule, threshold: &Threshold, late: bool) -> ThresholdFinding {
    let (found, kept, is_time) = measure(tally, schedule, threshold.limit);
    let (n, needs) = (tally.due(), threshold.needs());
    let (verdict, why) = if late && is_time {
        (LoadVerdict::GeneratorLate, None)
    } else if !kept {
        (LoadVerdict::Missed, hint(tally, threshold.limit))
    } else if n < needs {
        (LoadVerdict::Insufficient, Some(format!("{n} requests can't show it, {needs} can")))
    } else {
        (LoadVerdict::Pass, None)
    };
    ThresholdFinding { threshold: threshold.clone(), found, verdict, why }
}

/// Returns the figure as text, whether it keeps the limit, and whether the generator's lateness affects it.
fn measure(tally: &LoadTally, schedule: &Schedule, limit: ThresholdLimit) -> (String, bool, bool) {
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let time = |quantile: Quantile, within: Span| (show(quantile), quantile <= Quantile::Within(within.to_std()), true);
    match limit {
        ThresholdLimit::Latency { share, within } => time(tally.latency(share), within),
        ThresholdLimit::FirstByte { share, within } => time(tally.first_byte(share), within),
        ThresholdLimit::Errors(most) => {
            let sent = tally.good() + tally.failed();
            let found = share(tally.failed(), sent);
            // Without a sent request nothing shows that the limit is kept.
            (Unit::Percent.show(found), sent > 0 && found <= most, false)
        }
        ThresholdLimit::NotSent(most) => {
            let found = share(tally.not_sent, tally.due());
            (Unit::Percent.show(found), found <= most, false)
        }
        ThresholdLimit::Rate(least) => {
            let found = tally.good_per_second(schedule.warm_up.to_std(), schedule.duration.to_std());
            (Unit::PerSecond.show(found), found >= least, true)
        }
    }
}

/// Returns an explanation of a missed limit, where the figure alone does not give it.
fn hint(tally: &LoadTally, limit: ThresholdLimit) -> Option<String> {
    match limit {
        ThresholdLimit::Latency { .. } | ThresholdLimit::FirstByte { .. } if tally.good() < tally.due() => {
            Some(format!(
                "{} of {} got no good answer and rank behind all that did",
                tally.due() - tally.good(),
                tally.due()
            ))
        }
        ThresholdLimit::NotSent(_) => {
            Some("every connection was busy; raise --connections if the server may have more".to_owned())
        }
        ThresholdLimit::Latency { .. }
        | ThresholdLimit::FirstByte { .. }
        | ThresholdLimit::Errors(_)
        | ThresholdLimit::Rate(_) => None,
    }
}

/// Returns a percentile as text.
pub fn show(quantile: Quantile) -> String {
    match quantile {
        Quantile::Within(time) => seconds(time),
        Quantile::Never => "never".to_owned(),
    }
}

/// Returns a time as text with its unit.
pub fn seconds(time: Duration) -> String {
    Unit::Seconds.show(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Arrivals;
    use super::super::tally::{RequestFailure, RequestTiming};
    use super::*;

    fn schedule() -> Schedule {
        let duration = Span::from_secs(10);
        Schedule { rate: "50/s".parse().unwrap(), arrivals: Arrivals::Constant, warm_up: Span::ZERO, duration }
    }

    /// A tally of `good` answers that took 20 ms and `failed` ones, each sent `late` milliseconds after its due time.
    fn tally(good: u64, failed: u64, late: u64) -> LoadTally {
        let mut tally = LoadTally::new();
        for n in 0..good + failed {
            let (due, sent) = (Duration::from_millis(20 * n), Duration::from_millis(20 * n + late));
            let ended = if n < good { Ok(sent + Duration::from_millis(20)) } else { Err(RequestFailure::Status(5)) };
            tally.add(&RequestTiming { due, sent: Some(sent), first_byte: None, ended });
        }
        tally
    }

    fn verdicts(tally: &LoadTally, thresholds: &[&str]) -> (LoadVerdict, Vec<LoadVerdict>) {
        let thresholds: Vec<Threshold> = thresholds.iter().map(|text| text.parse().unwrap()).collect();
        let outcome = judge(tally, &schedule(), &thresholds);
        (outcome.verdict, outcome.findings.iter().map(|finding| finding.verdict).collect())
    }

    #[test]
    fn enough_good_answers_in_time_pass() {
        let all = ["p95<=800ms", "p99<=100ms", "errors<=1%", "rate>=45/s", "not-sent<=0%"];
        assert_eq!(verdicts(&tally(500, 0, 0), &all), (LoadVerdict::Pass, vec![LoadVerdict::Pass; 5]));
        assert_eq!(verdicts(&tally(500, 0, 0), &[]), (LoadVerdict::Measured, vec![]));
    }

    #[test]
    fn a_p99_of_twenty_requests_is_insufficient() {
        let (verdict, each) = verdicts(&tally(20, 0, 0), &["p50<=1s", "p99<=1s"]);
        assert_eq!((verdict, each), (LoadVerdict::Insufficient, vec![LoadVerdict::Pass, LoadVerdict::Insufficient]));
        let outcome = judge(&tally(20, 0, 0), &schedule(), &["p99<=1s".parse().unwrap()]);
        assert_eq!(outcome.findings[0].why.as_deref(), Some("20 requests can't show it, 299 can"));
    }

    #[test]
    fn failures_miss_the_error_threshold_and_the_percentiles_that_they_reach() {
        let (verdict, each) = verdicts(&tally(480, 20, 0), &["errors<=1%", "p95<=1s", "p99<=1s"]);
        assert_eq!(verdict, LoadVerdict::Missed);
        assert_eq!(each, [LoadVerdict::Missed, LoadVerdict::Pass, LoadVerdict::Missed]);
    }

    #[test]
    fn a_test_without_requests_misses_every_threshold() {
        let (verdict, each) = verdicts(&LoadTally::new(), &["errors<=1%", "p95<=1s", "rate>=1/s"]);
        assert_eq!((verdict, each), (LoadVerdict::Missed, vec![LoadVerdict::Missed; 3]));
    }

    #[test]
    fn a_late_generator_is_reported_and_voids_the_times_but_not_the_errors() {
        let (verdict, each) = verdicts(&tally(500, 0, 150), &["p95<=1s", "errors<=1%"]);
        assert_eq!((verdict, each), (LoadVerdict::GeneratorLate, vec![LoadVerdict::GeneratorLate, LoadVerdict::Pass]));
        // A tenth of the tightest limit is tolerated.
        assert_eq!(verdicts(&tally(500, 0, 150), &["p95<=2s"]).0, LoadVerdict::Pass);
        // Errors are the server's, however late the requests were sent.
        assert_eq!(verdicts(&tally(400, 100, 150), &["errors<=1%"]).0, LoadVerdict::Missed);
        let sentence = judge(&tally(500, 0, 150), &schedule(), &[]).generator.unwrap();
        assert!(sentence.contains("150 ms late") && sentence.contains("20 ms is tolerated"), "{sentence}");
    }
}
