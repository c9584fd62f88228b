//! The sequential judge, as the daemon runs it, on simulated polls.

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

use crate::polls::{POLL, Scenario};
use crate::story::policy;

/// The planned duration of a rollout, in seconds.
pub const HOUR: u64 = 3600;

/// Returns a policy with one check by the sequential judge: a share of errors of at most `max`, such as `3%`, with the
/// default margin.
pub fn sequential(max: &str) -> Policy {
    policy(json!({
        "step": [{ "weight": "10%", "min-time": "5m" }],
        "check": [{ "metric": "error-rate", "max": max }],
    }))
}

/// Returns the policy of [`sequential`] without a margin, so that any canary that is worse than the stable is rolled
/// back.
pub fn strict(max: &str) -> Policy {
    policy(json!({
        "step": [{ "weight": "10%", "min-time": "5m", "proof": "no-alarm" }],
        "check": [{ "metric": "error-rate", "max": max, "margin": 1.0, "floor": "0%" }],
    }))
}

/// The counts from which the judge learns the dispersion φ.
#[derive(Clone, Copy, PartialEq)]
pub enum PhiLearning {
    /// The twenty minutes before the rollout, and the rollout itself.
    BeforeRollout,
    /// The rollout itself.
    DuringRollout,
    /// None: φ is assumed to be 2.
    Never,
}

/// Returns the index of the poll after which the judge of the policy's first check raises an alarm in a simulated
/// rollout; `None` if it raises none. `run` selects the seed.
pub fn alarm(policy: &Policy, scenario: &Scenario, learning: PhiLearning, run: usize) -> Option<usize> {
    let check: &Check = &policy.steps[0].checks[0];
    let metric: &Metric = &policy.metrics["error-rate"];
    let at = |poll: usize| Timestamp::from_second((poll as f64 * POLL) as i64).unwrap();
    let mut past = History::default();
    for pods in scenario.past(run).iter().filter(|_| learning == PhiLearning::BeforeRollout) {
        past.absorb(pods);
    }
    let mut check_run = CheckRun::new(Setting { history: past, ..setting(check, metric) });
    scenario.simulate(run).iter().enumerate().position(|(n, poll)| {
        let learnt = poll.pods.iter().filter(|_| learning != PhiLearning::Never);
        let pods: Vec<Reading> = learnt.map(|pod| ratio(*pod)).collect();
        let evidence = check_run.look((at(n), at(n + 1)), sample(poll.pair), &pods, None).unwrap();
        evidence.verdict == Verdict::Regressed
    })
}

/// Returns the setting of a check on a canary that is planned for an hour, without a proof and without a history.
pub fn setting<'a>(check: &'a Check, metric: &'a Metric) -> Setting<'a> {
    let (planned, history) = (Span::from_secs(HOUR), History::default());
    Setting { check, metric, arm: Arm::Canary, proof: Proof::NoAlarm, planned, history }
}

/// Returns the counts of one poll as ratios of both arms.
pub fn sample(pair: Pair) -> Sample {
    Sample::Arms { canary: Some(ratio(pair.canary)), stable: Some(ratio(pair.stable)) }
}

/// Returns a tally as the reading of a ratio.
pub fn ratio(tally: Tally) -> Reading {
    Reading::Ratio { hits: tally.hits() as u64, total: tally.n() as u64 }
}
