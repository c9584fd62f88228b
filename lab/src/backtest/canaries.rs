//! Where in a past there were canaries, and what was before each.

use std::ops::Range;

use bellwether_core::measure::block::{Block, Sample};
use bellwether_core::measure::calibration::PAST;

/// A canary that was found in a past, and the blocks before it that a rollout learns from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundCanary<'a> {
    /// Before it.
    pub before: &'a [Block],
    /// From the first block in which it was counted to the last.
    pub blocks: &'a [Block],
}

/// After so many blocks in which the stable alone was counted, the next canary is another. (A block that could not be seen
/// says nothing of either.)
const APART: usize = 2;

/// The canaries of a past, one after the other.
pub fn canaries(blocks: &[Block]) -> Vec<FoundCanary<'_>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut alone = APART;
    for (index, block) in blocks.iter().enumerate() {
        if !has_canary(block) {
            alone += usize::from(has_stable(block));
            continue;
        }
        match ranges.last_mut().filter(|_| alone < APART) {
            Some(range) => range.end = index + 1,
            None => ranges.push(index..index + 1),
        }
        alone = 0;
    }
    let found =
        |range: Range<usize>| Some(FoundCanary { before: before(blocks, range.start), blocks: blocks.get(range)? });
    ranges.into_iter().filter_map(found).collect()
}

/// Whether a canary was counted in it.
pub fn has_canary(block: &Block) -> bool {
    block.metrics.values().any(|sample| matches!(sample, Sample::Arms { canary: Some(_), .. }))
}

fn has_stable(block: &Block) -> bool {
    block.metrics.values().any(|sample| matches!(sample, Sample::Arms { stable: Some(_), .. }))
}

/// As much of the time before a block as a rollout learns from.
pub(super) fn before(blocks: &[Block], index: usize) -> &[Block] {
    let earlier = blocks.get(..index).unwrap_or_default();
    let Some(end) = earlier.last().map(|last| last.to) else { return earlier };
    let first = earlier.partition_point(|block| block.from < PAST.before(end));
    earlier.get(first..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use bellwether_core::measure::block::Reading;
    use bellwether_core::time::Timestamp;

    /// One block a minute, in some of which a canary is counted.
    fn blocks(seen: &[bool]) -> Vec<Block> {
        let at = |n: usize| Timestamp::from_second(n as i64 * 60).unwrap();
        let block = |(n, seen): (usize, &bool)| {
            let sample = Sample::Arms { canary: seen.then_some(Reading::Count(1)), stable: Some(Reading::Count(9)) };
            Block::new(at(n), at(n + 1), BTreeMap::from([("requests".to_owned(), sample)]))
        };
        seen.iter().enumerate().map(block).collect()
    }

    #[test]
    fn a_canary_lasts_until_the_stable_alone_is_counted_twice() {
        let (yes, no) = (true, false);
        for (seen, lengths) in [
            (&[no, no][..], &[][..]),
            (&[yes], &[1]),
            (&[no, yes, yes, no], &[2]),
            (&[yes, no, yes], &[3]),
            (&[yes, no, no, yes, yes], &[1, 2]),
        ] {
            let blocks = blocks(seen);
            let found: Vec<usize> = canaries(&blocks).iter().map(|found| found.blocks.len()).collect();
            assert_eq!(found, lengths, "{seen:?}");
        }
    }

    #[test]
    fn before_a_canary_are_the_twenty_minutes_that_a_rollout_learns_from() {
        let mut seen = vec![false; 30];
        seen.push(true);
        let blocks = blocks(&seen);
        let before = canaries(&blocks)[0].before;
        assert_eq!((before.len(), before.last()), (20, blocks.get(29)));
    }
}
