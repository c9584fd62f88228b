//! Simulated steps under a judge of windows: the judge itself ([`CheckRun`]) on every block of a step.

use serde::{Deserialize, Serialize};

use super::traffic::Split;
use bellwether_core::dice::Random;
use bellwether_core::judge::check::Check;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::run::{CheckRun, Setting};
use bellwether_core::measure::calibration::History;
use bellwether_core::measure::metric::Metric;
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

/// The largest number of simulated steps.
const MAX_RUNS: u64 = 400;
/// The smallest number of simulated steps.
const MIN_RUNS: u64 = 40;
/// The largest number of simulated blocks, unless the smallest number of steps needs more.
const MAX_BLOCKS: u64 = 10_000;

/// The results of simulated steps of one check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SimulatedSteps {
    /// The share of the steps that are rolled back within the step's minimum time, from 0 to 1.
    pub rolled_back: f64,
    /// The share of the steps without a pass at their end, from 0 to 1: too few requests, or a look above the limit.
    #[serde(rename = "unsaid")]
    pub undecided: f64,
    /// The median time to the rollback among the steps that are rolled back; `None` if there are none.
    pub after: Option<Span>,
    /// The number of simulated steps.
    pub runs: u64,
}

/// Simulates steps of `length` for one check, with one look per `block`.
pub(super) fn simulate_steps(
    check: &Check,
    metric: &Metric,
    split: Split,
    block: Span,
    length: Span,
) -> SimulatedSteps {
    let blocks = (length.as_millis() / block.as_millis().max(1)).max(1);
    let runs = (MAX_BLOCKS / blocks).clamp(MIN_RUNS, MAX_RUNS);
    let ends = (0..runs).map(|run| simulate_step(check, metric, split, (block, blocks), &mut Random::new(run + 1)));
    let (mut times, mut undecided) = (Vec::new(), 0);
    for (verdict, after) in ends {
        match verdict {
            Verdict::Regressed => times.push(after),
            Verdict::Insufficient | Verdict::Blind => undecided += 1,
            Verdict::Pass => {}
        }
    }
    times.sort_unstable();
    SimulatedSteps {
        rolled_back: times.len() as f64 / runs as f64,
        undecided: f64::from(undecided) / runs as f64,
        after: times.get(times.len() / 2).copied(),
        runs,
    }
}

/// Simulates one step. Returns the verdict at its end or at the rollback, and the time of that verdict from its start.
fn simulate_step(
    check: &Check,
    metric: &Metric,
    split: Split,
    (block, blocks): (Span, u64),
    random: &mut Random,
) -> (Verdict, Span) {
    let (arm, proof, history) = (Arm::Canary, Proof::NoAlarm, History::default());
    let mut run = CheckRun::new(Setting { check, metric, arm, proof, planned: Span::ZERO, history });
    let at = |n: u64| Span::from_millis(block.as_millis().saturating_mul(n)).after(Timestamp::UNIX_EPOCH);
    let mut verdict = Verdict::Insufficient;
    for n in 0..blocks {
        let (sample, _) = split.block(check, metric.kind, block.as_secs_f64(), random);
        verdict = run.look((at(n), at(n + 1)), sample, &[], None).map_or(verdict, |evidence| evidence.verdict);
        if verdict == Verdict::Regressed {
            return (verdict, Span::between(at(0), at(n + 1)));
        }
    }
    (verdict, Span::between(at(0), at(blocks)))
}
