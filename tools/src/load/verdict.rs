//! What the numbers are worth. A threshold passes only if it is kept, there were enough requests to show it, and this end
//! was not what was measured; a test passes only if each of its thresholds does.

use std::time::Duration;

use bellwether_core::measure::metric::Unit;
use serde::Serialize;

use super::schedule::Schedule;
use super::tally::{Quantile, Tally};
use super::threshold::{Limit, Threshold};

/// What can be said of a threshold, and of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Kept.
    Pass,
    /// Not kept.
    Missed,
    /// Too few requests to say.
    Insufficient,
    /// This end was too late itself to say.
    GeneratorLate,
    /// Nothing was asked for, so nothing is said.
    Measured,
}

/// A threshold and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What has to be kept.
    pub threshold: Threshold,
    /// What was found, for people.
    pub found: String,
    /// What can be said of it.
    pub verdict: Verdict,
    /// Why, where the number alone does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// All that is said of a test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The worst of its thresholds.
    pub verdict: Verdict,
    /// Each threshold.
    pub findings: Vec<Finding>,
    /// If this end was the slow one: in which words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
}

/// Judges.
pub fn judge(tally: &Tally, schedule: &Schedule, thresholds: &[Threshold]) -> Outcome {
    let generator = lateness(tally, thresholds);
    let of = |threshold: &Threshold| finding(tally, schedule, threshold, generator.is_some());
    let findings: Vec<Finding> = thresholds.iter().map(of).collect();
    let has = |verdict| findings.iter().any(|finding: &Finding| finding.verdict == verdict);
    let verdict = if has(Verdict::Missed) {
        Verdict::Missed
    } else if generator.is_some() {
        Verdict::GeneratorLate
    } else if has(Verdict::Insufficient) {
        Verdict::Insufficient
    } else if findings.is_empty() {
        Verdict::Measured
    } else {
        Verdict::Pass
    };
    Outcome { verdict, findings, generator }
}

/// How late this end may be: less than a person notices, or a tenth of the tightest limit, whichever is more.
fn tolerated(thresholds: &[Threshold]) -> Duration {
    let tightest = thresholds.iter().filter_map(|threshold| match threshold.limit {
        Limit::Latency { within, .. } | Limit::FirstByte { within, .. } => Some(within.to_std()),
        Limit::Errors(_) | Limit::NotSent(_) | Limit::Rate(_) => None,
    });
    Duration::from_millis(20).max(tightest.min().unwrap_or_default() / 10)
}

fn lateness(tally: &Tally, thresholds: &[Threshold]) -> Option<String> {
    let (late, tolerated) = (tally.lateness(0.99), tolerated(thresholds));
    (late > tolerated).then(|| {
        format!(
            "this machine was the bottleneck: 1 % of the requests were sent {} late or more, and {} is tolerated; use a \
             lower --rate, or a machine with less to do",
            seconds(late),
            seconds(tolerated)
        )
    })
}

fn finding(tally: &Tally, schedule: &Schedule, threshold: &Threshold, late: bool) -> Finding {
    let (found, kept, of_time) = look(tally, schedule, threshold.limit);
    let (n, needs) = (tally.due(), threshold.needs());
    let (verdict, why) = if late && of_time {
        (Verdict::GeneratorLate, None)
    } else if !kept {
        (Verdict::Missed, hint(tally, threshold.limit))
    } else if n < needs {
        (Verdict::Insufficient, Some(format!("{n} requests can't show it, {needs} can")))
    } else {
        (Verdict::Pass, None)
    };
    Finding { threshold: threshold.clone(), found, verdict, why }
}

/// The number in words, whether it keeps the limit, and whether this end's lateness is in it.
fn look(tally: &Tally, schedule: &Schedule, limit: Limit) -> (String, bool, bool) {
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let time = |quantile: Quantile, within: bellwether_core::time::Span| {
        (show(quantile), quantile <= Quantile::Within(within.to_std()), true)
    };
    match limit {
        Limit::Latency { share, within } => time(tally.latency(share), within),
        Limit::FirstByte { share, within } => time(tally.first_byte(share), within),
        Limit::Errors(most) => {
            let sent = tally.good() + tally.failed();
            let found = share(tally.failed(), sent);
            // Of nothing sent nothing is good.
            (Unit::Percent.show(found), sent > 0 && found <= most, false)
        }
        Limit::NotSent(most) => {
            let found = share(tally.not_sent, tally.due());
            (Unit::Percent.show(found), found <= most, false)
        }
        Limit::Rate(least) => {
            let found = tally.good_per_second(schedule.warm_up.to_std(), schedule.duration.to_std());
            (Unit::PerSecond.show(found), found >= least, true)
        }
    }
}

/// What explains a miss that the number alone does not.
fn hint(tally: &Tally, limit: Limit) -> Option<String> {
    match limit {
        Limit::Latency { .. } | Limit::FirstByte { .. } if tally.good() < tally.due() => Some(format!(
            "{} of {} got no good answer, and stand behind all that did",
            tally.due() - tally.good(),
            tally.due()
        )),
        Limit::NotSent(_) => {
            Some("every connection was busy; if that many may be, give it more --connections".to_owned())
        }
        Limit::Latency { .. } | Limit::FirstByte { .. } | Limit::Errors(_) | Limit::Rate(_) => None,
    }
}

/// A percentile in words.
pub fn show(quantile: Quantile) -> String {
    match quantile {
        Quantile::Within(time) => seconds(time),
        Quantile::Never => "never".to_owned(),
    }
}

/// A time in words.
pub fn seconds(time: Duration) -> String {
    Unit::Seconds.show(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use bellwether_core::time::Span;

    use super::super::schedule::Arrivals;
    use super::super::tally::{Failure, Sample};
    use super::*;

    fn schedule() -> Schedule {
        let duration = Span::from_secs(10);
        Schedule { rate: "50/s".parse().unwrap(), arrivals: Arrivals::Constant, warm_up: Span::ZERO, duration }
    }

    /// So many good answers of 20 ms and so many failures, each sent so late.
    fn tally(good: u64, failed: u64, late: u64) -> Tally {
        let mut tally = Tally::new();
        for n in 0..good + failed {
            let (due, sent) = (Duration::from_millis(20 * n), Duration::from_millis(20 * n + late));
            let ended = if n < good { Ok(sent + Duration::from_millis(20)) } else { Err(Failure::Status(5)) };
            tally.add(&Sample { due, sent: Some(sent), first_byte: None, ended });
        }
        tally
    }

    fn verdicts(tally: &Tally, thresholds: &[&str]) -> (Verdict, Vec<Verdict>) {
        let thresholds: Vec<Threshold> = thresholds.iter().map(|text| text.parse().unwrap()).collect();
        let outcome = judge(tally, &schedule(), &thresholds);
        (outcome.verdict, outcome.findings.iter().map(|finding| finding.verdict).collect())
    }

    #[test]
    fn enough_good_answers_in_time_pass() {
        let all = ["p95<=800ms", "p99<=100ms", "errors<=1%", "rate>=45/s", "not-sent<=0%"];
        assert_eq!(verdicts(&tally(500, 0, 0), &all), (Verdict::Pass, vec![Verdict::Pass; 5]));
        assert_eq!(verdicts(&tally(500, 0, 0), &[]), (Verdict::Measured, vec![]));
    }

    #[test]
    fn a_p99_of_twenty_requests_says_so_and_does_not_pass() {
        let (verdict, each) = verdicts(&tally(20, 0, 0), &["p50<=1s", "p99<=1s"]);
        assert_eq!((verdict, each), (Verdict::Insufficient, vec![Verdict::Pass, Verdict::Insufficient]));
        let outcome = judge(&tally(20, 0, 0), &schedule(), &["p99<=1s".parse().unwrap()]);
        assert_eq!(outcome.findings[0].why.as_deref(), Some("20 requests can't show it, 299 can"));
    }

    #[test]
    fn failures_miss_their_own_threshold_and_the_percentiles_that_reach_them() {
        let (verdict, each) = verdicts(&tally(480, 20, 0), &["errors<=1%", "p95<=1s", "p99<=1s"]);
        assert_eq!(verdict, Verdict::Missed);
        assert_eq!(each, [Verdict::Missed, Verdict::Pass, Verdict::Missed]);
    }

    #[test]
    fn nothing_at_all_does_not_pass() {
        let (verdict, each) = verdicts(&Tally::new(), &["errors<=1%", "p95<=1s", "rate>=1/s"]);
        assert_eq!((verdict, each), (Verdict::Missed, vec![Verdict::Missed; 3]));
    }

    #[test]
    fn a_late_generator_is_said_and_its_latencies_are_not_the_servers() {
        let (verdict, each) = verdicts(&tally(500, 0, 150), &["p95<=1s", "errors<=1%"]);
        assert_eq!((verdict, each), (Verdict::GeneratorLate, vec![Verdict::GeneratorLate, Verdict::Pass]));
        // A tenth of the tightest limit is tolerated.
        assert_eq!(verdicts(&tally(500, 0, 150), &["p95<=2s"]).0, Verdict::Pass);
        // Whose errors they are is beyond doubt.
        assert_eq!(verdicts(&tally(400, 100, 150), &["errors<=1%"]).0, Verdict::Missed);
        let said = judge(&tally(500, 0, 150), &schedule(), &[]).generator.unwrap();
        assert!(said.contains("150 ms late") && said.contains("20 ms is tolerated"), "{said}");
    }
}
