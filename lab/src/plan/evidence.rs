//! The sequential judge, run ahead of the rollout: its own [`SequentialState`] on blocks that the traffic would give.
//!
//! A day of polls has thousands of blocks and nobody waits for them. A block may be of any length, so blocks grow with the
//! time that has passed, by a twentieth of it: nothing is known more exactly than that of a time that is itself a median, and a
//! day has 130 blocks. All runs go side by side and stop when half of them have arrived.

use std::collections::BTreeMap;

use super::traffic::{Present, Split};
use bellwether_core::dice::Random;
use bellwether_core::judge::check::Check;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::run::{CheckRun, Setting};
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::{History, PAST};
use bellwether_core::measure::metric::Metric;
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

/// So many runs. Their median is off by about a twelfth of the spread.
pub(super) const RUNS: usize = 101;
/// The run in the middle.
const MIDDLE: usize = RUNS / 2 + 1;
/// Nothing is looked for longer than this.
pub(super) const DAY: Span = Span::from_secs(86_400);
/// Blocks are at most this part of the time that has passed.
const PART: u64 = 20;

/// A part of the way: so much of the traffic, for so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg {
    /// The canary's share of the traffic.
    pub(super) weight: f64,
    /// How long.
    pub(super) lasts: Span,
    /// Whether the check looks.
    pub(super) looks: bool,
}

/// The check that is asked, and the evidence that passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) check: &'a Check,
    pub(super) metric: &'a Metric,
    pub(super) proof: Proof,
}

/// A check on its way. The last leg has no end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) present: Present,
    /// The canary's share of bad requests.
    pub(super) canary: f64,
    pub(super) legs: &'a [Leg],
    /// Between two polls.
    pub(super) block: Span,
    /// How long the rollout is planned to take.
    pub(super) planned: Span,
}

impl Way<'_> {
    /// How long half of the bad versions take to be found. `None`: more than `horizon`.
    pub(super) fn median_alarm(&self, horizon: Span) -> Option<Span> {
        self.arrivals(Verdict::Regressed, Span::ZERO, horizon, MIDDLE).get(MIDDLE - 1).copied()
    }

    /// The part of the bad versions that is found within `horizon`, and how long half of all take.
    pub(super) fn alarms(&self, horizon: Span) -> (f64, Option<Span>) {
        let arrivals = self.arrivals(Verdict::Regressed, Span::ZERO, horizon, RUNS);
        (arrivals.len() as f64 / RUNS as f64, arrivals.get(MIDDLE - 1).copied())
    }

    /// How long it takes until half of the versions have been proven, not before `after`. `None`: more than `horizon`.
    pub(super) fn median_proof(&self, after: Span, horizon: Span) -> Option<Span> {
        let proven = Way { asked: Asked { proof: Proof::NonInferior, ..self.asked }, ..*self };
        proven.arrivals(Verdict::Pass, after, horizon, MIDDLE).get(MIDDLE - 1).copied()
    }

    /// When runs came to say `goal`, in order of time; ends when `enough` have.
    fn arrivals(&self, goal: Verdict, after: Span, horizon: Span, enough: usize) -> Vec<Span> {
        let begin = |run: usize| Some((None, Random::new(run as u64 + 1)));
        let mut runs: Vec<Option<(Option<CheckRun<'_>>, Random)>> = (0..RUNS).map(begin).collect();
        let mut arrivals = Vec::new();
        let mut from = Span::ZERO;
        while from < horizon && arrivals.len() < enough {
            let Some((leg, to)) = self.block_after(from) else { break };
            for slot in runs.iter_mut().filter(|_| leg.looks) {
                let Some((state, random)) = slot else { continue };
                match self.look(state, random, leg, (from, to)) {
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
        let (sample, processes) = split.block(self.asked.check, self.asked.metric.kind, seconds, random);
        let run = run.get_or_insert_with(|| {
            let Asked { check, metric, proof } = self.asked;
            let history = self.past(random);
            CheckRun::new(Setting { check, metric, arm: Arm::Canary, proof, planned: self.planned, history })
        });
        run.look((at(from), at(to)), sample, &processes, None).map(|evidence| evidence.verdict)
    }

    /// What the stable's pods have shown before the rollout; of pods that are not known, nothing.
    fn past(&self, random: &mut Random) -> History {
        let split = Split { present: self.present, weight: 0.0, canary: 0.0 };
        let (check, kind) = (self.asked.check, self.asked.metric.kind);
        let blocks = (PAST.as_secs_f64() / self.block.as_secs_f64()).clamp(1.0, 240.0) as usize;
        let block = |_| {
            let (_, processes) = split.block(check, kind, self.block.as_secs_f64(), random);
            let at = Timestamp::UNIX_EPOCH;
            let processes = BTreeMap::from([(check.metric.clone(), processes)]);
            Block { processes, ..Block::new(at, at, BTreeMap::new()) }
        };
        check.criterion().learn(&(0..blocks).map(block).collect::<Vec<_>>())
    }

    /// The leg that the block after `from` belongs to, and the block's end.
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
        let length = (from.as_millis() / PART / block * block).max(block);
        let to = from.as_millis().saturating_add(length);
        // The last leg goes on.
        let to = if from.as_millis() < end { if leg.looks { to.min(end) } else { end } } else { to };
        Some((leg, Span::from_millis(to)))
    }
}
