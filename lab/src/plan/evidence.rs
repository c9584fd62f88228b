//! Simulated rollouts under the sequential judge: the judge itself ([`CheckRun`]) on simulated blocks.
//!
//! A day of polls has thousands of blocks, too many for an interactive command. A block may have any length, so blocks
//! grow with the elapsed time, up to a twentieth of it, and a day has 130 blocks. The medians of a plan need no higher
//! resolution. All runs advance together and stop when half of them have reached their goal.

use super::traffic::{CheckTraffic, Split};
use bellwether_core::dice::Random;
use bellwether_core::judge::check::Check;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::run::{CheckRun, Setting};
use bellwether_core::measure::block::{Block, SmallMap};
use bellwether_core::measure::calibration::{History, RECENT};
use bellwether_core::measure::metric::Metric;
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

/// The number of simulated rollouts. The error of their median is about a twelfth of the spread.
const RUNS: usize = 101;
/// The number of rollouts up to and including the median.
const MIDDLE: usize = RUNS / 2 + 1;
/// The longest simulated time.
pub(super) const DAY: Span = Span::from_secs(86_400);
/// The elapsed time divided by this is the largest length of a block.
const ELAPSED_PER_BLOCK: u64 = 20;

/// A part of a rollout with a constant weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg {
    /// The canary's share of the traffic, from 0 to 1.
    pub(super) weight: f64,
    /// The duration of the leg.
    pub(super) lasts: Span,
    /// Whether the check is judged during the leg.
    pub(super) looks: bool,
}

/// The simulated check, and the evidence that it requires for a pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckQuery<'a> {
    pub(super) check: &'a Check,
    pub(super) metric: &'a Metric,
    pub(super) proof: Proof,
}

/// Simulated rollouts of one check. The last leg continues after its duration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Simulation<'a> {
    pub(super) query: CheckQuery<'a>,
    pub(super) present: CheckTraffic,
    /// The canary's share of bad requests, from 0 to 1.
    pub(super) canary: f64,
    pub(super) legs: &'a [Leg],
    /// The time between two polls.
    pub(super) block: Span,
    /// The planned duration of the rollout.
    pub(super) planned: Span,
}

impl Simulation<'_> {
    /// Returns the median time to an alarm; `None` if it is more than `horizon`.
    pub(super) fn median_alarm(&self, horizon: Span) -> Option<Span> {
        self.arrivals(Verdict::Regressed, Span::ZERO, horizon, MIDDLE).get(MIDDLE - 1).copied()
    }

    /// Returns the share of rollouts with an alarm within `horizon`, from 0 to 1, and the median time to the alarm.
    pub(super) fn alarms(&self, horizon: Span) -> (f64, Option<Span>) {
        let arrivals = self.arrivals(Verdict::Regressed, Span::ZERO, horizon, RUNS);
        (arrivals.len() as f64 / RUNS as f64, arrivals.get(MIDDLE - 1).copied())
    }

    /// Returns the median time to a proof, which counts from `after` on; `None` if it is more than `horizon`.
    pub(super) fn median_proof(&self, after: Span, horizon: Span) -> Option<Span> {
        let query = CheckQuery { proof: Proof::NonInferior, ..self.query };
        let with_proof = Simulation { query, ..*self };
        with_proof.arrivals(Verdict::Pass, after, horizon, MIDDLE).get(MIDDLE - 1).copied()
    }

    /// Returns the times at which rollouts reach the verdict `goal`, from `after` on, in ascending order; stops at
    /// `horizon`, or when `enough` rollouts have reached it.
    fn arrivals(&self, goal: Verdict, after: Span, horizon: Span, enough: usize) -> Vec<Span> {
        let begin = |run: usize| Some((None, Random::new(run as u64 + 1)));
        let mut runs: Vec<Option<(Option<CheckRun<'_>>, Random)>> = (0..RUNS).map(begin).collect();
        let mut arrivals = Vec::new();
        let mut from = Span::ZERO;
        while from < horizon && arrivals.len() < enough {
            let Some((leg, to)) = self.block_after(from) else { break };
            for slot in runs.iter_mut().filter(|_| leg.looks) {
                let Some((check, random)) = slot else { continue };
                match self.look(check, random, leg, (from, to)) {
                    Some(verdict) if verdict == goal && to >= after => {
                        arrivals.push(to);
                        *slot = None;
                    }
                    Some(Verdict::Regressed) => *slot = None,
                    Some(_) | None => {}
                }
            }
            from = to;
        }
        arrivals
    }

    /// Simulates a block and a look at it; returns the verdict, or `None` without evidence.
    fn look<'a>(
        &'a self,
        run: &mut Option<CheckRun<'a>>,
        random: &mut Random,
        leg: Leg,
        (from, to): (Span, Span),
    ) -> Option<Verdict> {
        let at = |span: Span| span.after(Timestamp::UNIX_EPOCH);
        let split = Split { present: self.present, weight: leg.weight, canary: self.canary };
        let seconds = Span::between(at(from), at(to)).as_secs_f64();
        let (sample, processes) = split.block(self.query.check, self.query.metric.kind, seconds, random);
        let run = run.get_or_insert_with(|| {
            let CheckQuery { check, metric, proof } = self.query;
            let history = self.past(random);
            CheckRun::new(Setting { check, metric, arm: Arm::Canary, proof, planned: self.planned, history })
        });
        run.look((at(from), at(to)), sample, &processes, None).map(|evidence| evidence.verdict)
    }

    /// Simulates the history of the stable's pods before the rollout, which is empty if the pods are unknown.
    fn past(&self, random: &mut Random) -> History {
        let split = Split { present: self.present, weight: 0.0, canary: 0.0 };
        let (check, kind) = (self.query.check, self.query.metric.kind);
        let step = self.block.as_secs_f64();
        let blocks = (RECENT.as_secs_f64() / step).clamp(1.0, 240.0) as usize;
        let block = |_| {
            let (_, processes) = split.block(check, kind, step, random);
            let at = Timestamp::UNIX_EPOCH;
            let processes = SmallMap::from_iter([(check.metric.clone(), processes)]);
            Block { processes, ..Block::new(at, at, []) }
        };
        check.criterion().learn(&(0..blocks).map(block).collect::<Vec<_>>())
    }

    /// Returns the leg of the block that begins at `from`, and the block's end; `None` without legs.
    fn block_after(&self, from: Span) -> Option<(Leg, Span)> {
        let mut end = 0u64;
        let mut found = None;
        for leg in self.legs.iter().filter(|leg| leg.lasts > Span::ZERO) {
            end = end.saturating_add(leg.lasts.as_millis());
            found = Some((*leg, end));
            if from.as_millis() < end {
                break;
            }
        }
        let (leg, end) = found?;
        let block = self.block.as_millis().max(1);
        let length = (from.as_millis() / ELAPSED_PER_BLOCK / block * block).max(block);
        let to = from.as_millis().saturating_add(length);
        // A block ends with its leg, except in the last leg after its duration. A leg without looks is a single block.
        let to = if from.as_millis() < end { if leg.looks { to.min(end) } else { end } } else { to };
        Some((leg, Span::from_millis(to)))
    }
}
