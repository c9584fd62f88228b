//! False alarms: what is rolled back although both arms are the same.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::canaries::{before, has_canary};
use super::{BacktestJudge, Judged};
use crate::rivals::RivalEnd;
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::stats::confidence::upper_part;
use bellwether_core::time::Span;

/// How sure the bound is: it is too low in one history of twenty.
pub const TAIL: f64 = 0.05;

/// What one judge does to stretches in which both arms are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FalseAlarms {
    /// Who.
    pub who: String,
    /// So many stretches.
    pub stretches: usize,
    /// So many of them it rolls back …
    pub rolled_back: usize,
    /// … which, in the long run, is at most this part of them (Clopper and Pearson 1934, one-sided, 95 %).
    pub at_most: f64,
    /// So many it holds, or does not decide before the stretch is over.
    pub undecided: usize,
    /// The first that it rolls back.
    pub first: Option<Judged>,
}

/// Has `judge` decide about one stretch of `length` after the other of each of `histories`, with what the time before it teaches. A
/// last one that is shorter is left out, and so is one in which a canary never was.
pub fn false_alarms<'a>(
    judge: &BacktestJudge,
    histories: impl IntoIterator<Item = &'a [Block]>,
    length: Span,
) -> FalseAlarms {
    let judged: Vec<Judged> = histories.into_iter().flat_map(|blocks| judged(judge, blocks, length)).collect();
    let ended = |end: RivalEnd| judged.iter().filter(|judged| judged.end == Some(end)).count();
    let rolled_back = ended(RivalEnd::RolledBack);
    FalseAlarms {
        who: judge.name().to_owned(),
        stretches: judged.len(),
        rolled_back,
        at_most: upper_part(rolled_back, judged.len(), TAIL),
        undecided: judged.len() - rolled_back - ended(RivalEnd::Promoted),
        first: judged.into_iter().find(|judged| judged.end == Some(RivalEnd::RolledBack)),
    }
}

fn judged(judge: &BacktestJudge, blocks: &[Block], length: Span) -> Vec<Judged> {
    let of = |stretch: Range<usize>| {
        let calibrations = judge.learn(before(blocks, stretch.start));
        judge.judge(blocks.get(stretch)?, &calibrations)
    };
    stretches(blocks, length).filter_map(of).collect()
}

/// Where the stretches are.
fn stretches(blocks: &[Block], length: Span) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = blocks.get(at..)?;
        let end = length.max(Span::from_millis(1)).after(rest.first()?.from);
        let size = rest.iter().take_while(|block| block.to <= end).count();
        if size == rest.len() && rest.last().is_none_or(|last| last.to < end) {
            return None;
        }
        let stretch = at..at + size;
        // A block that is longer than all of it is skipped.
        at += size.max(1);
        Some(stretch)
    })
    .filter(|stretch| blocks.get(stretch.clone()).is_some_and(|blocks| blocks.iter().any(has_canary)))
}

/// The most of the stable's pods that were counted one by one in a block.
pub fn pods(blocks: &[Block]) -> usize {
    blocks.iter().flat_map(|block| block.processes.values()).map(Vec::len).max().unwrap_or(0)
}

/// Takes one of the stable's pods for a canary, by its place among them: the same version, whatever the real canary was. Only
/// what was recorded pod by pod can be split so; the rest is left out, as is a block with fewer than two pods.
pub fn one_pod_as_canary(blocks: &[Block], place: usize) -> Vec<Block> {
    let split = |block: &Block| {
        let mut processes = block.processes.clone();
        let mut metrics = BTreeMap::new();
        for (metric, pods) in processes.iter_mut().filter(|(_, pods)| pods.len() > place) {
            let canary = pods.remove(place);
            if let Some(stable) = pods.iter().cloned().reduce(|sum, pod| added(&sum, &pod)) {
                metrics.insert(metric.clone(), Sample::Arms { canary: Some(canary), stable: Some(stable) });
            }
        }
        Block { processes, ..Block::new(block.from, block.to, metrics) }
    };
    blocks.iter().map(split).filter(|block| !block.metrics.is_empty()).collect()
}

/// Counts of one kind, together. What can't be added stays as it was.
fn added(sum: &Reading, pod: &Reading) -> Reading {
    match (sum, pod) {
        (Reading::Ratio { hits, total }, Reading::Ratio { hits: more_hits, total: more }) => {
            Reading::Ratio { hits: hits.saturating_add(*more_hits), total: total.saturating_add(*more) }
        }
        (Reading::Histogram { edges, counts }, Reading::Histogram { edges: same, counts: more }) if edges == same => {
            let counts = counts.iter().zip(more).map(|(count, more)| count.saturating_add(*more)).collect();
            Reading::Histogram { edges: edges.clone(), counts }
        }
        (Reading::Count(count), Reading::Count(more)) => Reading::Count(count.saturating_add(*more)),
        (sum, _) => sum.clone(),
    }
}
