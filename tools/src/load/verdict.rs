//! The verdicts of a load test.
//!
//! A threshold on a time or on errors is a statement about a share: at most 5 % of the requests are slower than the p95's
//! limit. It is kept or missed only if a confidence bound for that share shows it, by the rule of behavioural gates
//! ([`bellwether_gate::rule`]): a service beyond a limit passes with a probability of at most [`LEVEL`], and a service
//! within all limits misses one with at most that. Otherwise the verdict is insufficient. The bounds are exact for requests
//! that are slow or fail independently of each other.

use std::time::Duration;

use bellwether_core::measure::metric::Unit;
use bellwether_core::stats::confidence::{lower_part, upper_part};
use bellwether_gate::evidence::{SampleEvidence, TwoSidedEvidence};
use bellwether_gate::rule::{self, Hypothesis, Verdict};
use bellwether_gate::suite::RuleKind;
use serde::Serialize;

use super::schedule::Schedule;
use super::tally::{LoadTally, Quantile};
use super::threshold::{RateFigure, Threshold, ThresholdLimit, time_limits};

/// The largest probability of a wrong pass, and of a wrong miss, of a whole test.
pub const LEVEL: f64 = 0.05;

/// The largest number of requests that a message recommends.
const MOST_REQUESTS: usize = 1 << 24;

/// The verdict on a threshold or on a whole test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadVerdict {
    /// The threshold is kept.
    Pass,
    /// The threshold is not kept.
    Missed,
    /// The requests show neither that the threshold is kept nor that it is missed.
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

/// The evidence about one threshold.
struct Evidence {
    /// Measured figure as text.
    found: String,
    /// Whether the generator's lateness affects the figure.
    is_time: bool,
    /// Basis of the verdict.
    basis: Basis,
}

/// The basis of a verdict.
#[derive(Clone, Copy)]
enum Basis {
    /// The number of bad ones among all due requests, and their largest allowed share.
    Share { bad: u64, n: u64, allowed: f64 },
    /// A count, and whether it keeps the limit.
    Count { kept: bool },
}

/// Judges every threshold, and the test by all of them.
pub fn judge(tally: &LoadTally, schedule: &Schedule, thresholds: &[Threshold]) -> LoadOutcome {
    let generator = lateness(tally, thresholds);
    let evidence: Vec<Evidence> = thresholds.iter().map(|threshold| measure(tally, schedule, threshold)).collect();
    let verdicts = verdicts(&evidence);
    let findings: Vec<ThresholdFinding> = thresholds
        .iter()
        .zip(evidence.into_iter().zip(verdicts))
        .map(|(threshold, (evidence, verdict))| {
            let (verdict, why) = match generator.is_some() && evidence.is_time {
                true => (LoadVerdict::GeneratorLate, None),
                false => (verdict, explanation(tally, threshold, evidence.basis, verdict)),
            };
            ThresholdFinding { threshold: threshold.clone(), found: evidence.found, verdict, why }
        })
        .collect();
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

/// Judges the shares together, so that the number of thresholds does not raise the probability of a wrong miss.
fn verdicts(evidence: &[Evidence]) -> Vec<LoadVerdict> {
    let hypothesis = |evidence: &Evidence| match evidence.basis {
        Basis::Share { bad, n, allowed } => {
            let sample = SampleEvidence::Share { hits: bad as usize, n: n as usize };
            Some(Hypothesis {
                evidence: TwoSidedEvidence { for_pass: sample.clone(), for_fail: sample },
                at_most: true,
                limit: allowed,
                rule: RuleKind::Bound,
                none: false,
                enough: true,
                complete: true,
            })
        }
        Basis::Count { .. } => None,
    };
    let hypotheses: Vec<Hypothesis> = evidence.iter().filter_map(hypothesis).collect();
    let mut rulings = rule::judge(&hypotheses, LEVEL, LEVEL).into_iter();
    let verdict = |evidence: &Evidence| match evidence.basis {
        Basis::Count { kept: true } => LoadVerdict::Pass,
        Basis::Count { kept: false } => LoadVerdict::Missed,
        Basis::Share { n, .. } => match rulings.next().map(|ruling| ruling.verdict) {
            // Without requests nothing is kept.
            Some(Verdict::Fail) => LoadVerdict::Missed,
            _ if n == 0 => LoadVerdict::Missed,
            Some(Verdict::Pass) => LoadVerdict::Pass,
            _ => LoadVerdict::Insufficient,
        },
    };
    evidence.iter().map(verdict).collect()
}

/// Returns the tolerated lateness of the generator: 20 ms or a tenth of the tightest time limit, whichever is longer.
fn tolerated(thresholds: &[Threshold]) -> Duration {
    let mut limits = time_limits(thresholds);
    // The time between two tokens does not depend on the sending.
    limits.remove(&super::tally::TimeFigure::InterToken);
    Duration::from_millis(20).max(limits.into_values().min().unwrap_or_default() / 10)
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

fn measure(tally: &LoadTally, schedule: &Schedule, threshold: &Threshold) -> Evidence {
    let n = tally.due();
    let share = |part: u64| if n == 0 { 0.0 } else { part as f64 / n as f64 };
    let sample = |bad: u64| {
        threshold.allowed().map_or(Basis::Count { kept: n > 0 && bad == 0 }, |allowed| Basis::Share { bad, n, allowed })
    };
    match threshold.limit {
        ThresholdLimit::Time { figure, share, within } => Evidence {
            found: show(tally.time(figure, share)),
            is_time: true,
            basis: sample(tally.beyond(figure, within.to_std())),
        },
        ThresholdLimit::Errors(_) => {
            let bad = n - tally.good();
            Evidence { found: Unit::Percent.show(share(bad)), is_time: false, basis: sample(bad) }
        }
        ThresholdLimit::NotSent(most) => {
            let found = share(tally.not_sent);
            Evidence { found: Unit::Percent.show(found), is_time: false, basis: Basis::Count { kept: found <= most } }
        }
        ThresholdLimit::Rate { figure, least } => {
            let (warm_up, duration) = (schedule.warm_up.to_std(), schedule.duration.to_std());
            let found = match figure {
                RateFigure::Good => tally.good_per_second(warm_up, duration),
                RateFigure::Goodput => tally.goodput(warm_up, duration),
                RateFigure::Tokens => tally.tokens_per_second(warm_up, duration),
            };
            let basis = Basis::Count { kept: found >= least };
            Evidence { found: Unit::PerSecond.show(found), is_time: true, basis }
        }
    }
}

/// Returns an explanation of a verdict, where the figure alone does not give it.
fn explanation(tally: &LoadTally, threshold: &Threshold, basis: Basis, verdict: LoadVerdict) -> Option<String> {
    match (basis, verdict) {
        (Basis::Share { bad, n, allowed }, LoadVerdict::Missed | LoadVerdict::Insufficient) if n > 0 => {
            let (bad, n) = (bad as usize, n as usize);
            let no_answer = tally.due() - tally.good();
            let how = match no_answer > 0 && matches!(threshold.limit, ThresholdLimit::Time { .. }) {
                true => format!(" ({no_answer} without a good answer)"),
                false => String::new(),
            };
            let percent = |share: f64| Unit::Percent.show(share);
            let (side, bound, outlook) = match verdict == LoadVerdict::Missed {
                true => ("at least", lower_part(bad, n, LEVEL), String::new()),
                false => ("at most", upper_part(bad, n, LEVEL), format!("; {}", outlook(bad, n, allowed))),
            };
            Some(format!(
                "{bad} of {n} are bad{how}; with 95 % confidence {side} {}, and {} is allowed{outlook}",
                percent(bound),
                percent(allowed)
            ))
        }
        (_, LoadVerdict::Missed) if matches!(threshold.limit, ThresholdLimit::NotSent(_)) => {
            Some("every connection was busy; raise --connections if the server may have more".to_owned())
        }
        _ => None,
    }
}

/// Returns the remedy for too few requests.
fn outlook(bad: usize, n: usize, allowed: f64) -> String {
    let can_show = |enough| format!("{enough} requests with this share can show it");
    enough(bad, n, allowed).map_or_else(|| "more requests can tell".to_owned(), can_show)
}

/// Returns the number of requests with the same share of bad ones that shows a share of at most `allowed`; `None` if
/// there is no such number, or it is too large for a test. Without a bad one of n requests a share p is ruled out if
/// (1 − p)ⁿ ≤ [`LEVEL`]: 59 requests for a p95, and 299 for errors of 1 %.
fn enough(bad: usize, n: usize, allowed: f64) -> Option<usize> {
    let share = bad as f64 / n as f64;
    let shows = |requests: usize| upper_part((share * requests as f64).ceil() as usize, requests, LEVEL) <= allowed;
    let (mut low, mut high) = (1, 1);
    while !shows(high) {
        (low, high) = (high, high * 2);
        if high > MOST_REQUESTS {
            return None;
        }
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if shows(middle) { high = middle } else { low = middle }
    }
    Some(high)
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
    use bellwether_core::dice::split_mix;
    use bellwether_core::time::Span;

    use super::super::schedule::Arrivals;
    use super::super::tally::{FailedRequest, GoodAnswer, RequestFailure, RequestTiming, StreamPace, TimeFigure};
    use super::*;

    fn schedule() -> Schedule {
        let duration = Span::from_secs(10);
        Schedule { rate: "50/s".parse().unwrap(), arrivals: Arrivals::Constant, warm_up: Span::ZERO, duration }
    }

    /// A tally of `good` answers that took 20 ms and `failed` ones, each sent `late` milliseconds after its due time.
    fn tally(good: u64, failed: u64, late: u64) -> LoadTally {
        let mut tally = LoadTally::default();
        for n in 0..good + failed {
            let (due, sent) = (Duration::from_millis(20 * n), Duration::from_millis(20 * n + late));
            let ended = match n < good {
                true => Ok(GoodAnswer::at(sent + Duration::from_millis(20))),
                false => Err(FailedRequest::new(RequestFailure::Status(5), "")),
            };
            tally.add(&RequestTiming { due, sent: Some(sent), ended });
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
        let why = "0 of 20 are bad; with 95 % confidence at most 13.9 %, and 1 % is allowed; 299 requests with \
                   this share can show it";
        assert_eq!(outcome.findings[0].why.as_deref(), Some(why));
    }

    #[test]
    fn failures_miss_the_error_threshold_and_the_percentiles_that_they_reach() {
        let (verdict, each) = verdicts(&tally(1920, 80, 0), &["errors<=1%", "p95<=1s", "p99<=1s"]);
        assert_eq!(verdict, LoadVerdict::Missed);
        assert_eq!(each, [LoadVerdict::Missed, LoadVerdict::Pass, LoadVerdict::Missed]);
        // Of a quarter of the requests, 4 % do not show that a p95 is kept.
        assert_eq!(verdicts(&tally(480, 20, 0), &["p95<=1s"]).0, LoadVerdict::Insufficient);
        // An error of 0 % is a count: no sample shows that errors never happen.
        assert_eq!(verdicts(&tally(500, 0, 0), &["errors<=0%"]).0, LoadVerdict::Pass);
        assert_eq!(verdicts(&tally(500, 1, 0), &["errors<=0%"]).0, LoadVerdict::Missed);
    }

    #[test]
    fn a_test_without_requests_misses_every_threshold() {
        let (verdict, each) = verdicts(&LoadTally::default(), &["errors<=1%", "p95<=1s", "rate>=1/s"]);
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

    #[test]
    fn requests_that_were_not_sent_are_errors() {
        let mut tally = tally(500, 0, 0);
        for _ in 0..50 {
            let unsent = FailedRequest::new(RequestFailure::Timeout, "");
            tally.add(&RequestTiming { due: Duration::ZERO, sent: None, ended: Err(unsent) });
        }
        assert_eq!(verdicts(&tally, &["errors<=1%"]).0, LoadVerdict::Missed);
    }

    /// The verdicts of many tests of services at and beside a limit, whose truth is known. The share of wrong passes and of
    /// wrong misses is at most the stated one, whatever the number of thresholds.
    #[test]
    fn a_wrong_verdict_is_as_rare_as_stated() {
        const RUNS: u32 = 5000;
        let mut state = 1;
        // Each threshold allows `allowed`, and the share `bad` of the requests is bad for it; the same requests are slow for
        // all of them.
        let mut rate = |n: u64, thresholds: &[(f64, f64)], wrong: LoadVerdict| {
            let wrongly = (0..RUNS).filter(|_| {
                let dice: Vec<f64> =
                    (0..n).map(|_| (split_mix(&mut state) >> 11) as f64 / (1u64 << 53) as f64).collect();
                let evidence = thresholds.iter().map(|(allowed, bad)| {
                    let bad = dice.iter().filter(|dice| *dice < bad).count() as u64;
                    Evidence { found: String::new(), is_time: true, basis: Basis::Share { bad, n, allowed: *allowed } }
                });
                let each = super::verdicts(&evidence.collect::<Vec<_>>());
                let is_wrong = |verdict: &LoadVerdict| *verdict == wrong;
                // One missed threshold is a miss of the test, and a pass needs all of them.
                if wrong == LoadVerdict::Missed { each.iter().any(is_wrong) } else { each.iter().all(is_wrong) }
            });
            wrongly.count() as f64 / f64::from(RUNS)
        };
        // Four standard errors above the stated rate.
        let most = LEVEL + 4.0 * (LEVEL * (1.0 - LEVEL) / f64::from(RUNS)).sqrt();
        for (n, thresholds, wrong) in [
            (59, &[(0.05, 0.08)][..], LoadVerdict::Pass),
            (300, &[(0.01, 0.02)], LoadVerdict::Pass),
            (600, &[(0.05, 0.0501)], LoadVerdict::Pass),
            (1000, &[(0.01, 0.0101)], LoadVerdict::Pass),
            (600, &[(0.05, 0.0499), (0.1, 0.0499), (0.01, 0.0099)], LoadVerdict::Missed),
            (1000, &[(0.01, 0.0099), (0.05, 0.0499)], LoadVerdict::Missed),
        ] {
            let found = rate(n, thresholds, wrong);
            assert!(found <= most, "{wrong:?} of {thresholds:?} with {n} requests: {found}");
        }
        // Power: a service clearly within its limit passes, and one clearly beyond it is found.
        assert!(rate(600, &[(0.05, 0.02)], LoadVerdict::Pass) > 0.95);
        assert!(rate(600, &[(0.05, 0.10)], LoadVerdict::Missed) > 0.95);
    }

    #[test]
    fn the_time_between_tokens_is_judged_per_answer() {
        let mut tally = LoadTally::default();
        for n in 0..100 {
            let pace = Some(StreamPace { tokens: 10, between: Duration::from_millis(if n < 20 { 120 } else { 40 }) });
            let answer = GoodAnswer { pace, ..GoodAnswer::at(Duration::from_millis(20)) };
            tally.add(&RequestTiming { due: Duration::ZERO, sent: Some(Duration::ZERO), ended: Ok(answer) });
        }
        assert_eq!(verdicts(&tally, &["inter-token-p95<=80ms"]).0, LoadVerdict::Missed);
        assert_eq!(verdicts(&tally, &["inter-token-p50<=80ms"]).0, LoadVerdict::Pass);
        assert_eq!(verdicts(&tally, &["tokens>=100/s"]).0, LoadVerdict::Pass);
        let Quantile::Within(between) = tally.time(TimeFigure::InterToken, 0.5) else { panic!("never") };
        assert_eq!(between.as_millis(), 40);
    }
}
