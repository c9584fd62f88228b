//! A judge of windows, run ahead of the rollout: its own [`CheckState`] on every block of a step.

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

/// At most so many steps are tried …
const MOST_RUNS: u64 = 400;
/// … and so many blocks, unless that were hardly any steps.
const MOST_BLOCKS: u64 = 10_000;
const FEWEST_RUNS: u64 = 40;

/// What becomes of so many steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Looks {
    /// The part that is rolled back before the step's least time is over.
    pub rolled_back: f64,
    /// The part in which nothing can be said at its end: too few requests, or a look over the limit.
    pub unsaid: f64,
    /// The median time of those that are rolled back.
    pub after: Option<Span>,
    /// So many steps were tried.
    pub runs: u64,
}

/// Tries steps of `length` for one check.
pub(super) fn looks(check: &Check, metric: &Metric, split: Split, block: Span, length: Span) -> Looks {
    let blocks = (length.as_millis() / block.as_millis().max(1)).max(1);
    let runs = (MOST_BLOCKS / blocks).clamp(FEWEST_RUNS, MOST_RUNS);
    let ends = (0..runs).map(|run| end(check, metric, split, (block, blocks), &mut Random::new(run + 1)));
    let (mut times, mut unsaid) = (Vec::new(), 0);
    for (verdict, after) in ends {
        match verdict {
            Verdict::Regressed => times.push(after),
            Verdict::Insufficient | Verdict::Blind => unsaid += 1,
            Verdict::Pass => {}
        }
    }
    times.sort_unstable();
    Looks {
        rolled_back: times.len() as f64 / runs as f64,
        unsaid: f64::from(unsaid) / runs as f64,
        after: times.get(times.len() / 2).copied(),
        runs,
    }
}

/// What is said at the end, or at the rollback, and when that is.
fn end(
    check: &Check,
    metric: &Metric,
    split: Split,
    (block, blocks): (Span, u64),
    random: &mut Random,
) -> (Verdict, Span) {
    let (arm, proof, history) = (Arm::Canary, Proof::NoAlarm, History::default());
    let mut run = CheckRun::new(Setting { check, metric, arm, proof, planned: Span::ZERO, history });
    let at = |n: u64| Span::from_millis(block.as_millis().saturating_mul(n)).after(Timestamp::UNIX_EPOCH);
    let mut said = Verdict::Insufficient;
    for n in 0..blocks {
        let (sample, _) = split.block(check, metric.kind, block.as_secs_f64(), random);
        said = run.look((at(n), at(n + 1)), sample, &[], None).map_or(said, |evidence| evidence.verdict);
        if said == Verdict::Regressed {
            return (said, Span::between(at(0), at(n + 1)));
        }
    }
    (said, Span::between(at(0), at(blocks)))
}
