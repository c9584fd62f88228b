//! The sequential judge on simulated polls: the poll at which it raises an alarm.

use bellwether_core::judge::check::Check;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::run::{CheckRun, Setting};
use bellwether_core::measure::block::{Reading, Sample};
use bellwether_core::measure::calibration::History;
use bellwether_core::measure::metric::Metric;
use bellwether_core::measure::window::Arm;
use bellwether_core::policy::Policy;
use bellwether_core::stats::tally::{Pair, Tally};
use bellwether_core::time::{Span, Timestamp};
use serde_json::json;

use crate::polls::{POLL, Row};
use crate::story::policy;

/// The time for which a rollout is planned to be watched, in seconds.
pub const HOUR: u64 = 3600;

/// Errors of at most `max`, by the sequential judge.
pub fn sequential(max: &str) -> Policy {
    policy(json!({
        "step": [{ "weight": "10%", "min-time": "5m" }],
        "check": [{ "metric": "error-rate", "max": max }],
    }))
}

/// The same without a margin: whatever is worse than the stable at all.
pub fn strict(max: &str) -> Policy {
    policy(json!({
        "step": [{ "weight": "10%", "min-time": "5m" }],
        "check": [{ "metric": "error-rate", "max": max, "margin": 1.0, "floor": "0%" }],
    }))
}

/// How it learns how errors cluster.
#[derive(Clone, Copy, PartialEq)]
pub enum Learns {
    /// From twenty minutes before the rollout, and on the way.
    Before,
    /// On the way.
    OnTheWay,
    /// Not at all.
    Never,
}

/// The poll at whose end it alarms, from 0.
pub fn alarm(policy: &Policy, row: &Row, learns: Learns, run: usize) -> Option<usize> {
    let check: &Check = &policy.steps[0].checks[0];
    let metric: &Metric = &policy.metrics["error-rate"];
    let at = |poll: usize| Timestamp::from_second((poll as f64 * POLL) as i64).unwrap();
    let mut past = History::default();
    for pods in row.past(run).iter().filter(|_| learns == Learns::Before) {
        past.absorb(pods);
    }
    let mut run_of_check = CheckRun::new(Setting { history: past, ..setting(check, metric) });
    row.simulate(run).iter().enumerate().position(|(n, poll)| {
        let pods: Vec<Reading> = poll.pods.iter().filter(|_| learns != Learns::Never).map(|pod| ratio(*pod)).collect();
        let evidence = run_of_check.look((at(n), at(n + 1)), sample(poll.pair), &pods, None).unwrap();
        evidence.verdict == Verdict::Regressed
    })
}

/// Returns the circumstances of a check on a canary that is watched for an hour, with no alarm asked for and no past.
pub fn setting<'a>(check: &'a Check, metric: &'a Metric) -> Setting<'a> {
    let (planned, history) = (Span::from_secs(HOUR), History::default());
    Setting { check, metric, arm: Arm::Canary, proof: Proof::NoAlarm, planned, history }
}

/// Returns the sample of one poll as ratios of both arms.
pub fn sample(pair: Pair) -> Sample {
    Sample::Arms { canary: Some(ratio(pair.canary)), stable: Some(ratio(pair.stable)) }
}

/// Returns a tally as a ratio reading.
pub fn ratio(tally: Tally) -> Reading {
    Reading::Ratio { hits: tally.hits() as u64, total: tally.n() as u64 }
}
