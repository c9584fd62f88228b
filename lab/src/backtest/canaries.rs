//! The canaries in a recorded history, each with the blocks before it.

use std::ops::Range;

use super::blocks::{before, has_canary, has_stable};
use bellwether_core::measure::block::Block;

/// A canary in a recorded history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundCanary<'a> {
    /// The blocks before the canary from which a rollout learns its calibration.
    pub before: &'a [Block],
    /// The blocks from the first to the last in which the canary was counted.
    pub blocks: &'a [Block],
}

/// The number of blocks with counts of the stable alone that separates two canaries. (Gaps don't count.)
const APART: usize = 2;

/// Returns the canaries of a history in order.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use bellwether_core::measure::block::{Reading, Sample};
    use bellwether_core::time::Timestamp;

    /// Returns one block per minute, with counts of a canary as given.
    fn blocks(has_canary: &[bool]) -> Vec<Block> {
        let at = |n: usize| Timestamp::from_second(n as i64 * 60).unwrap();
        let block = |(n, has_canary): (usize, &bool)| {
            let canary = has_canary.then_some(Reading::Count(1));
            let sample = Sample::Arms { canary, stable: Some(Reading::Count(9)) };
            Block::new(at(n), at(n + 1), BTreeMap::from([("requests".to_owned(), sample)]))
        };
        has_canary.iter().enumerate().map(block).collect()
    }

    #[test]
    fn a_canary_ends_before_two_blocks_of_the_stable_alone() {
        let (yes, no) = (true, false);
        for (has_canary, lengths) in [
            (&[no, no][..], &[][..]),
            (&[yes], &[1]),
            (&[no, yes, yes, no], &[2]),
            (&[yes, no, yes], &[3]),
            (&[yes, no, no, yes, yes], &[1, 2]),
        ] {
            let blocks = blocks(has_canary);
            let found: Vec<usize> = canaries(&blocks).iter().map(|found| found.blocks.len()).collect();
            assert_eq!(found, lengths, "{has_canary:?}");
        }
    }

    #[test]
    fn the_blocks_before_a_canary_are_those_of_six_hours() {
        let mut has_canary = vec![false; 400];
        has_canary.push(true);
        let blocks = blocks(&has_canary);
        let before = canaries(&blocks)[0].before;
        assert_eq!((before.len(), before.last()), (360, blocks.get(399)));
    }
}
