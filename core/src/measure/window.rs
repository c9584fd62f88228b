//! Windows: the ring of the last blocks of counts, and sliding windows as sums over it.
//!
//! The ring holds blocks and not values of counters, so the events between two readings are counted exactly. A window
//! sums the blocks that end within it. A gap does not change a sum; the judge decides how it affects the verdict.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::measure::block::{Block, Gap, Reading, Sample};
use crate::stats::histogram::NativeEdges;
use crate::stats::quantile::{classic, native};
use crate::time::{Span, Timestamp};

/// One arm's value over a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measure {
    /// The value, in the metric's unit. For a quantile above the last bucket's edge it is that edge, and `beyond` is
    /// set.
    pub value: f64,
    /// The hits of a ratio; `None` for other kinds of metrics.
    pub hits: Option<u64>,
    /// The number of events or pods that the value is taken from; 0 for a value that is not counted.
    pub n: u64,
    /// Whether the true value is above `value`, by an amount that the buckets can't show.
    pub beyond: bool,
}

/// The largest number of blocks in a ring. 512 blocks of 5 s are 42 minutes.
const MAX_BLOCKS: usize = 512;

/// The last blocks of one rollout, oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ring {
    blocks: VecDeque<Block>,
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The canary's side.
    Canary,
    /// The side of the stable, or of the fresh baseline in its place.
    Stable,
}

impl Ring {
    /// Adds a block and removes those that ended `keep` or more before its end. Returns `false` and changes nothing if
    /// the block does not end after the newest one, so that no block counts twice.
    pub fn push(&mut self, block: Block, keep: Span) -> bool {
        if self.blocks.back().is_some_and(|last| block.to <= last.to) {
            return false;
        }
        let oldest = keep.before(block.to);
        self.blocks.push_back(block);
        while self.blocks.len() > MAX_BLOCKS || self.blocks.front().is_some_and(|first| first.to <= oldest) {
            self.blocks.pop_front();
        }
        true
    }

    /// Keeps of the block before the newest one the requests alone; see [`Block::keep_requests`].
    pub fn condense(&mut self) {
        self.blocks.iter_mut().rev().nth(1).into_iter().for_each(Block::keep_requests);
    }

    /// Returns the gap of `metric` in the newest block; `None` if it has readings, or no sample of the metric.
    pub fn gap(&self, metric: &str) -> Option<&Gap> {
        match self.blocks.back()?.metrics.get(metric)? {
            Sample::Gap(gap) => Some(gap),
            Sample::Arms { .. } => None,
        }
    }

    /// Removes the blocks that end after `now`.
    pub fn drop_after(&mut self, now: Timestamp) {
        self.blocks.retain(|block| block.to <= now);
    }

    /// Returns the blocks, oldest first.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Returns the newest block; `None` if the ring is empty.
    pub fn newest(&self) -> Option<&Block> {
        self.blocks.back()
    }

    /// Returns the end of the newest block; `None` if the ring is empty.
    pub fn last(&self) -> Option<Timestamp> {
        self.blocks.back().map(|block| block.to)
    }

    /// Returns one arm's bucket edges and counts over the last `window`; `None` if the arm has no histogram in it.
    pub fn counts(&self, metric: &str, side: Arm, window: Span) -> Option<(Vec<f64>, Vec<u64>)> {
        let start = window.before(self.last()?);
        total(self.blocks.iter().filter(|block| block.to > start), metric, side)
    }

    /// Returns one arm's value of `metric` over the last `window`; `None` if the arm has no reading in it. `quantile`,
    /// 0 to 1, is used for a histogram only.
    pub fn measure(&self, metric: &str, side: Arm, window: Span, quantile: f64) -> Option<Measure> {
        self.measure_at(metric, side, window, quantile, self.last()?)
    }

    /// Returns the same value as [`Ring::measure`] over the `window` that ends at `at`.
    pub fn measure_at(&self, metric: &str, side: Arm, window: Span, quantile: f64, at: Timestamp) -> Option<Measure> {
        let start = window.before(at);
        let blocks = self.blocks.iter().filter(|block| block.to > start && block.to <= at);
        sum(blocks, metric, side)?.measure(quantile)
    }
}

/// Returns one arm's bucket edges and the sum of its counts in `blocks`; `None` if the arm has no histogram in them.
pub fn total<'a>(blocks: impl Iterator<Item = &'a Block>, metric: &str, side: Arm) -> Option<(Vec<f64>, Vec<u64>)> {
    match sum(blocks, metric, side)? {
        Sum::Histogram { edges, counts } => Some((edges, counts)),
        Sum::Ratio { .. } | Sum::Count { .. } | Sum::Value { .. } => None,
    }
}

/// Returns the sum of one arm's readings of `metric` in `blocks`; `None` if there is no reading.
fn sum<'a>(blocks: impl Iterator<Item = &'a Block>, metric: &str, side: Arm) -> Option<Sum> {
    let readings = blocks.filter_map(|block| Some((block, reading(block.metrics.get(metric)?, side)?)));
    readings.fold(None, |sum, (block, reading)| Some(Sum::add(sum, reading, Span::between(block.from, block.to))))
}

/// Returns the reading of one arm; `None` if the sample is a gap or the arm has no series.
pub fn reading(sample: &Sample, side: Arm) -> Option<&Reading> {
    match (sample, side) {
        (Sample::Arms { canary, .. }, Arm::Canary) => canary.as_ref(),
        (Sample::Arms { stable, .. }, Arm::Stable) => stable.as_ref(),
        (Sample::Gap(_), _) => None,
    }
}

/// Returns the requests of one arm in a block, those of cold processes included; `None` if the arm has no reading that counts
/// requests, or if there is a gap.
pub fn requests(block: &Block, metric: &str, side: Arm) -> Option<u64> {
    let samples = [Some(block.metrics.get(metric)?), block.cold.get(metric)];
    if samples.iter().flatten().any(|sample| matches!(sample, Sample::Gap(_))) {
        return None;
    }
    let counts = samples.into_iter().flatten().filter_map(|sample| reading(sample, side)?.requests());
    counts.reduce(u64::saturating_add)
}

/// A sum of readings of one kind. When a reading is of another kind or has other buckets than the sum, the sum starts
/// again with that reading.
enum Sum {
    Ratio { hits: u64, total: u64 },
    Histogram { edges: Vec<f64>, counts: Vec<u64> },
    Count { n: u64, time: Span },
    Value { sum: f64, n: u32 },
}

impl Sum {
    fn add(sum: Option<Sum>, reading: &Reading, time: Span) -> Sum {
        match (sum, reading) {
            (Some(Sum::Ratio { hits, total }), Reading::Ratio { hits: h, total: t }) => {
                Sum::Ratio { hits: hits.saturating_add(*h), total: total.saturating_add(*t) }
            }
            (Some(Sum::Histogram { edges, mut counts }), Reading::Histogram { edges: e, counts: c })
                if edges == *e && counts.len() == c.len() =>
            {
                counts.iter_mut().zip(c).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
                Sum::Histogram { edges, counts }
            }
            (Some(Sum::Count { n, time: before }), Reading::Count(count)) => Sum::Count {
                n: n.saturating_add(*count),
                time: Span::from_millis(before.as_millis().saturating_add(time.as_millis())),
            },
            (Some(Sum::Value { sum, n }), Reading::Value(value)) => Sum::Value { sum: sum + value, n: n + 1 },
            (_, Reading::Ratio { hits, total }) => Sum::Ratio { hits: *hits, total: *total },
            (_, Reading::Histogram { edges, counts }) => {
                Sum::Histogram { edges: edges.clone(), counts: counts.clone() }
            }
            (_, Reading::Count(n)) => Sum::Count { n: *n, time },
            (_, Reading::Value(value)) => Sum::Value { sum: *value, n: 1 },
        }
    }

    fn measure(self, quantile: f64) -> Option<Measure> {
        match self {
            Sum::Ratio { hits, total } => {
                let value = if total == 0 { 0.0 } else { hits as f64 / total as f64 };
                Some(Measure { value, hits: Some(hits), n: total, beyond: false })
            }
            Sum::Histogram { edges, counts } => Some(quantile_of(&edges, &counts, quantile)),
            Sum::Count { n, time } if time > Span::ZERO => {
                Some(Measure { value: n as f64 / time.as_secs_f64(), hits: None, n, beyond: false })
            }
            Sum::Count { .. } => None,
            Sum::Value { sum, n } => Some(Measure { value: sum / f64::from(n), hits: None, n: 0, beyond: false }),
        }
    }
}

/// Returns the quantile that Prometheus shows for the same buckets. For a native histogram it is an approximation,
/// because the original buckets may be finer. A quantile above the last edge is that edge, with `beyond` set.
fn quantile_of(edges: &[f64], counts: &[u64], quantile: f64) -> Measure {
    let mut n = 0u64;
    let mut cumulative = |count: u64| {
        n = n.saturating_add(count);
        n as f64
    };
    let counts = counts.iter().copied().chain(std::iter::repeat(0));
    let ends = edges.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<(f64, f64)> = ends.zip(counts).map(|(end, count)| (end, cumulative(count))).collect();
    let within = edges.len().checked_sub(1).and_then(|last| buckets.get(last)).map_or(0.0, |(_, count)| *count);
    let beyond = n > 0 && quantile * n as f64 > within;
    let is_native = !beyond && NativeEdges::of(edges).is_some();
    let value = if is_native { native_quantile(&buckets, quantile) } else { classic(quantile, &buckets) };
    Measure { value: value.unwrap_or(0.0), hits: None, n, beyond }
}

/// Returns the quantile of a native histogram, from the upper bound and the cumulative count of each bucket.
fn native_quantile(cumulative: &[(f64, f64)], quantile: f64) -> Option<f64> {
    let lower = [(0.0, 0.0)].into_iter().chain(cumulative.iter().copied());
    let bucket = |((start, below), (end, up_to)): ((f64, f64), &(f64, f64))| (start, *end, up_to - below);
    let buckets: Vec<_> = lower.zip(cumulative).map(bucket).collect();
    native(quantile, &buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    fn block(from: i64, to: i64, hits: u64, total: u64) -> Block {
        let sample = Sample::Arms { canary: Some(Reading::Ratio { hits, total }), stable: None };
        Block::new(at(from), at(to), [("errors".to_owned(), sample)])
    }

    fn ratio(ring: &Ring, window: u64) -> Option<(u64, u64)> {
        let measure = ring.measure("errors", Arm::Canary, Span::from_secs(window), 0.95)?;
        Some((measure.hits.unwrap(), measure.n))
    }

    #[test]
    fn a_window_is_the_sum_of_the_blocks_that_end_in_it() {
        let mut ring = Ring::default();
        for n in 0..10 {
            assert!(ring.push(block(n * 10, n * 10 + 10, 1, 100), Span::from_secs(60)));
        }
        assert_eq!(ratio(&ring, 10), Some((1, 100)));
        assert_eq!(ratio(&ring, 30), Some((3, 300)));
        assert_eq!(ratio(&ring, 1000), Some((6, 600)), "the ring keeps one minute");
        assert_eq!(ring.measure("other", Arm::Canary, Span::from_secs(60), 0.95), None);
        assert_eq!(ring.measure("errors", Arm::Stable, Span::from_secs(60), 0.95), None);
    }

    #[test]
    fn a_block_that_is_pushed_again_is_refused() {
        let mut ring = Ring::default();
        assert!(ring.push(block(0, 10, 1, 100), Span::from_secs(60)));
        assert!(!ring.push(block(0, 10, 1, 100), Span::from_secs(60)));
        assert!(!ring.push(block(0, 5, 1, 100), Span::from_secs(60)));
        assert_eq!(ratio(&ring, 60), Some((1, 100)));
    }

    #[test]
    fn a_condensed_ring_keeps_the_newest_block_whole_and_the_requests_of_the_others() {
        let histogram = |n: u64| Reading::Histogram { edges: vec![0.1, 1.0], counts: vec![n, 2, 1] };
        let sample =
            |n| Sample::Arms { canary: Some(histogram(n)), stable: Some(Reading::Ratio { hits: 1, total: n }) };
        let mut ring = Ring::default();
        for n in 1..=3 {
            let mut block = Block::new(at(n - 1), at(n), [("latency".to_owned(), sample(n.unsigned_abs()))]);
            block.cold.insert("latency".to_owned(), sample(7));
            ring.push(block, Span::from_secs(60));
            ring.condense();
        }
        let kept: Vec<_> =
            ring.blocks().map(|block| reading(block.metrics.get("latency").unwrap(), Arm::Canary)).collect();
        assert_eq!(kept, [Some(&Reading::Count(4)), Some(&Reading::Count(5)), Some(&histogram(3))]);
        let counted = |arm| ring.blocks().map(|block| requests(block, "latency", arm)).collect::<Vec<_>>();
        assert_eq!(counted(Arm::Canary), [Some(14), Some(15), Some(16)], "those of cold processes included");
        assert_eq!(counted(Arm::Stable), [Some(8), Some(9), Some(10)]);
    }

    #[test]
    fn a_gap_is_returned_and_does_not_change_the_sum() {
        let mut ring = Ring::default();
        ring.push(block(0, 10, 1, 100), Span::from_secs(60));
        let gap = Sample::Gap(Gap::NoBaseline);
        let empty = Block::new(at(10), at(20), [("errors".to_owned(), gap)]);
        ring.push(empty, Span::from_secs(60));
        assert_eq!(ring.gap("errors"), Some(&Gap::NoBaseline));
        assert_eq!(ratio(&ring, 60), Some((1, 100)));
    }

    /// The buckets of the first rows are those of `promql_histogram_quantile_classic` in
    /// `core/tests/vectors/statistics.json`.
    #[test]
    fn quantiles_agree_with_promql() {
        let edges = [0.1, 0.5, 1.0];
        for (counts, q, value, beyond) in [
            ([50, 40, 7, 3], 0.95, 0.857_142_857_142_857_1, false),
            ([50, 40, 7, 3], 0.99, 1.0, true),
            ([100, 0, 0, 0], 0.5, 0.05, false),
            ([0, 0, 0, 10], 0.5, 1.0, true),
        ] {
            let measure = quantile_of(&edges, &counts, q);
            assert!((measure.value - value).abs() < 1e-12, "{counts:?} {q}: {}", measure.value);
            assert_eq!(measure.beyond, beyond, "{counts:?} {q}");
        }
        assert_eq!(quantile_of(&edges, &[0, 0, 0, 0], 0.5).n, 0);
    }

    #[test]
    fn a_quantile_between_native_edges_is_interpolated_exponentially() {
        let edges = NativeEdges { schema: 2, from: -1, to: 1 }.edges().unwrap();
        for (counts, q, value, beyond) in [
            ([0, 10, 0, 0], 0.5, libm::exp2(-0.125), false),
            ([0, 5, 5, 0], 0.75, libm::exp2(0.125), false),
            ([10, 0, 0, 0], 0.5, libm::exp2(-0.25) / 2.0, false),
            ([0, 5, 5, 0], 1.0, libm::exp2(0.25), false),
            ([0, 0, 0, 10], 0.5, libm::exp2(0.25), true),
        ] {
            let measure = quantile_of(&edges, &counts, q);
            assert!((measure.value - value).abs() < 1e-12, "{counts:?} {q}: {}", measure.value);
            assert_eq!(measure.beyond, beyond, "{counts:?} {q}");
        }
        assert_eq!(quantile_of(&edges, &[0, 0, 0, 0], 0.5).value, 0.0);
    }
}
