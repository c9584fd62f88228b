//! Properties of a list of recorded blocks.

use bellwether_core::measure::block::{Block, Sample};
use bellwether_core::measure::calibration::PAST;
use bellwether_core::time::Span;

/// Returns the time from the first block's beginning to the last block's end; zero without blocks.
pub fn length(blocks: &[Block]) -> Span {
    match (blocks.first(), blocks.last()) {
        (Some(first), Some(last)) => Span::between(first.from, last.to),
        _ => Span::ZERO,
    }
}

/// Returns the names of the recorded metrics, sorted and without duplicates.
pub fn metric_names(blocks: &[Block]) -> Vec<&str> {
    let mut names: Vec<&str> = blocks.iter().flat_map(|block| block.metrics.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the largest number of stable pods that were counted one by one in a block.
pub fn most_pods(blocks: &[Block]) -> usize {
    blocks.iter().flat_map(|block| block.processes.values()).map(Vec::len).max().unwrap_or(0)
}

/// Returns whether a canary was counted in the block.
pub fn has_canary(block: &Block) -> bool {
    block.metrics.values().any(|sample| matches!(sample, Sample::Arms { canary: Some(_), .. }))
}

/// Returns whether the stable was counted in the block.
pub(super) fn has_stable(block: &Block) -> bool {
    block.metrics.values().any(|sample| matches!(sample, Sample::Arms { stable: Some(_), .. }))
}

/// Returns the blocks before `index` from which a rollout would learn its calibration: those of the last [`PAST`].
pub(super) fn before(blocks: &[Block], index: usize) -> &[Block] {
    let earlier = blocks.get(..index).unwrap_or_default();
    let Some(end) = earlier.last().map(|last| last.to) else { return earlier };
    let first = earlier.partition_point(|block| block.from < PAST.before(end));
    earlier.get(first..).unwrap_or_default()
}
