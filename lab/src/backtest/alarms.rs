//! False alarms: rollbacks of stretches in which both arms run the same version.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::blocks::{before, has_canary};
use super::judge::BacktestJudge;
use super::judged::Judged;
use crate::rivals::RivalEnd;
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::stats::confidence::upper_part;
use bellwether_core::time::Span;

/// The error probability of the bound of [`FalseAlarms::at_most`].
pub const TAIL: f64 = 0.05;

/// The decisions of one judge about stretches in which both arms run the same version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FalseAlarms {
    /// The judge's name.
    pub who: String,
    /// The number of stretches.
    pub stretches: usize,
    /// The number of stretches that the judge rolls back.
    pub rolled_back: usize,
    /// The upper confidence bound for the share of stretches that are rolled back, from 0 to 1 (Clopper and Pearson
    /// 1934, one-sided, 95 %).
    pub at_most: f64,
    /// The number of stretches that the judge holds, or does not decide before they end.
    pub undecided: usize,
    /// The first rollback; `None` if there is none.
    pub first: Option<Judged>,
}

/// Lets `judge` decide about consecutive stretches of `length` in each of `histories`, each with the calibrations of
/// the time before it.
///
/// A shorter stretch at the end of a history and stretches without a canary are left out.
pub fn false_alarms<'a>(
    judge: &BacktestJudge,
    histories: impl IntoIterator<Item = &'a [Block]>,
    length: Span,
) -> FalseAlarms {
    let judged: Vec<Judged> = histories.into_iter().flat_map(|blocks| judge_stretches(judge, blocks, length)).collect();
    let count = |end: RivalEnd| judged.iter().filter(|judged| judged.end == Some(end)).count();
    let rolled_back = count(RivalEnd::RolledBack);
    FalseAlarms {
        who: judge.name().to_owned(),
        stretches: judged.len(),
        rolled_back,
        at_most: upper_part(rolled_back, judged.len(), TAIL),
        undecided: judged.len() - rolled_back - count(RivalEnd::Promoted),
        first: judged.into_iter().find(|judged| judged.end == Some(RivalEnd::RolledBack)),
    }
}

fn judge_stretches(judge: &BacktestJudge, blocks: &[Block], length: Span) -> Vec<Judged> {
    let decide = |stretch: Range<usize>| {
        let calibrations = judge.learn(before(blocks, stretch.start));
        judge.judge(blocks.get(stretch)?, &calibrations)
    };
    stretches(blocks, length).filter_map(decide).collect()
}

/// Returns the index ranges of the consecutive stretches of `length` with a canary.
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
        // Skip a block that is longer than `length`.
        at += size.max(1);
        Some(stretch)
    })
    .filter(|stretch| blocks.get(stretch.clone()).is_some_and(|blocks| blocks.iter().any(has_canary)))
}

/// Returns the blocks with one of the stable's pods as the canary, so that both arms run the same version.
///
/// `place` is the pod's index among the pods, from 0. Metrics that were not recorded pod by pod are left out, and so
/// are blocks without another pod. The real canary is ignored.
pub fn one_pod_as_canary(blocks: &[Block], place: usize) -> Vec<Block> {
    let split = |block: &Block| {
        let mut processes = block.processes.clone();
        let mut metrics = BTreeMap::new();
        for (metric, pods) in processes.iter_mut().filter(|(_, pods)| pods.len() > place) {
            let canary = pods.remove(place);
            if let Some(stable) = pods.iter().cloned().reduce(|sum, pod| add(&sum, &pod)) {
                metrics.insert(metric.clone(), Sample::Arms { canary: Some(canary), stable: Some(stable) });
            }
        }
        Block { processes, ..Block::new(block.from, block.to, metrics) }
    };
    blocks.iter().map(split).filter(|block| !block.metrics.is_empty()).collect()
}

/// Returns the sum of two readings of the same form; for different forms it returns `sum`.
fn add(sum: &Reading, pod: &Reading) -> Reading {
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
