//! Exact counts and bounds from histogram buckets, without interpolation.
//!
//! "p95 at most 500 ms" and "at most 5 % slower than 500 ms" are equivalent, and the second can be counted: requests
//! above a bucket's edge are whole numbers, and every test for shares holds for them exactly. Therefore a limit must be
//! an edge ([`slower_than`]); counts between two edges are unknown.
//!
//! Buckets have the form of a block: ascending finite edges, and counts that are not cumulative, one more than edges.
//! Each count has the observations above the previous edge and not above the next; the last one those above all edges.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::combine::ln_weighted_mean;
use super::mixture::Mixture;
use super::odds_grid::OddsGrid;
use super::tally::{Pair, Phi, Tally, Unusable};

/// The relative difference up to which two numbers are the same edge: clients write `0.5` as `0.500000000001`.
const SAME: f64 = 1e-9;
/// The relative difference up to which a limit means an edge with more than four digits: 4.757 means 4.756828460010884.
const ROUNDED: f64 = 1e-3;

/// The reasons for which the share above a limit can't be counted.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum NoShare {
    /// The limit is not an edge of any bucket. The error names the nearest edges as a remedy.
    #[error("no bucket ends at {limit}: {}", nearest(*below, *above))]
    NoEdge {
        /// The limit, in the metric's unit.
        limit: f64,
        /// The next lower edge, in the metric's unit; `None` if there is none.
        below: Option<f64>,
        /// The next higher edge, in the metric's unit; `None` if there is none.
        above: Option<f64>,
    },
    /// The number of counts does not fit the edges, or a count is too large.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Returns the nearest edges as text.
fn nearest(below: Option<f64>, above: Option<f64>) -> String {
    match (below, above) {
        (Some(below), Some(above)) => format!("the nearest edges are {below} and {above}"),
        (Some(edge), None) | (None, Some(edge)) => format!("the nearest edge is {edge}"),
        (None, None) => "there are no edges".to_owned(),
    }
}

/// Counts the observations and, as hits, those above `limit`.
///
/// `edges` are ascending and finite, in the metric's unit; `counts` has one entry more than `edges`; `limit` must be
/// one of the edges, as [`edge_at`] matches them.
///
/// # Errors
/// [`NoShare::NoEdge`] if `limit` is not an edge; [`NoShare::Unusable`] if `counts` does not fit `edges` or its sum is
/// above 2⁵³.
pub fn slower_than(edges: &[f64], counts: &[u64], limit: f64) -> Result<Tally, NoShare> {
    if counts.len() != edges.len() + 1 {
        return Err(Unusable::OtherShape.into());
    }
    let Some(at) = edge_at(edges, limit) else {
        let below = edges.iter().copied().filter(|edge| *edge < limit).reduce(f64::max);
        let above = edges.iter().copied().filter(|edge| *edge > limit).reduce(f64::min);
        return Err(NoShare::NoEdge { limit, below, above });
    };
    let sum = |counts: &mut dyn Iterator<Item = &u64>| counts.fold(0u64, |sum, count| sum.saturating_add(*count));
    Ok(Tally::of(sum(&mut counts.iter().skip(at + 1)), sum(&mut counts.iter()))?)
}

/// Returns the index of the edge that a configured limit means; `None` if it means none.
///
/// An edge with at most four significant digits must be written in full; one with more digits may be rounded to within
/// a thousandth. `edges` and `limit` have the same unit.
pub fn edge_at(edges: &[f64], limit: f64) -> Option<usize> {
    let distance = |edge: &f64| (edge - limit).abs();
    let (at, edge) = edges.iter().enumerate().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)))?;
    let tolerance = if has_at_most_four_digits(*edge) { SAME } else { ROUNDED };
    (distance(edge) <= tolerance * limit.abs()).then_some(at)
}

fn has_at_most_four_digits(edge: f64) -> bool {
    let digits = libm::exp10(3.0 - libm::floor(libm::log10(edge.abs())));
    let rounded = libm::round(edge * digits) / digits;
    (edge - rounded).abs() <= SAME * edge.abs() || !rounded.is_finite()
}

/// Returns the upper edge of bucket `index` of a native histogram, `2^(index / 2^schema)`, in the metric's unit. An
/// edge that two schemas share is the same float in both, bit by bit.
pub fn native_edge(schema: i32, index: i32) -> f64 {
    libm::exp2(f64::from(index) / libm::ldexp(1.0, schema))
}

/// A range of consecutive edges of a native histogram, by their indices: the compact form of its many edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeEdges {
    /// The schema: the base-2 logarithm of the number of buckets per power of two, from -4 to 8.
    pub schema: i32,
    /// The index of the first edge.
    pub from: i32,
    /// The index of the last edge, at least `from`.
    pub to: i32,
}

impl NativeEdges {
    /// The largest number of edges; it bounds the memory that a malformed value can take.
    const MOST: u32 = 4096;

    /// Recognises a list of ascending edges as consecutive edges of schema 2 or 1. Returns `None` for all others; edges
    /// of schema 0, whole powers of two, may belong to a classic histogram.
    pub fn of(edges: &[f64]) -> Option<NativeEdges> {
        let (first, more) = (*edges.first()?, i32::try_from(edges.len().checked_sub(2)?).ok()? + 1);
        [2, 1].into_iter().find_map(|schema| {
            let from = libm::round(libm::log2(first) * libm::ldexp(1.0, schema)) as i32;
            let found = NativeEdges { schema, from, to: from.checked_add(more)? };
            // Compare the first edge first: it excludes nearly all classic histograms cheaply.
            (native_edge(schema, from) == first && found.edges()? == edges).then_some(found)
        })
    }

    /// Returns the edges in ascending order, in the metric's unit; `None` if the schema or the indices are out of
    /// range.
    pub fn edges(self) -> Option<Vec<f64>> {
        let is_valid =
            (-4..=8).contains(&self.schema) && self.from <= self.to && self.to.abs_diff(self.from) < Self::MOST;
        is_valid.then(|| (self.from..=self.to).map(|index| native_edge(self.schema, index)).collect())
    }
}

/// Adds a block to one test per edge of whether the canary is slower than that edge more often than the stable. The
/// mean of their evidence ([`ln_e_everywhere`]) is an e-process against "the canary's latencies are not stochastically
/// larger" (the question of Lindon, Sanden and Shirikian 2022, KDD, arXiv 2205.14762).
///
/// `states` has one state per edge, or none before the first block. `canary` and `stable` are counts in the same
/// buckets. The evidence is divided by `phi`.
///
/// # Errors
/// [`Unusable`] if the buckets or the states don't fit each other. Some states may then have absorbed the block, and
/// none of them may be used again.
pub fn absorb_everywhere(
    test: &OddsGrid,
    states: &mut Vec<Mixture>,
    canary: &[u64],
    stable: &[u64],
    phi: Phi,
) -> Result<(), Unusable> {
    let edges = canary.len().saturating_sub(1);
    if canary.len() != stable.len() || !(states.is_empty() || states.len() == edges) {
        return Err(Unusable::OtherShape);
    }
    states.resize(edges, Mixture::default());
    for (edge, state) in states.iter_mut().enumerate() {
        let pair = Pair { canary: above(canary, edge)?, stable: above(stable, edge)? };
        test.absorb(state, pair, phi)?;
    }
    Ok(())
}

fn above(counts: &[u64], edge: usize) -> Result<Tally, Unusable> {
    let sum = |sum: u64, count: &u64| sum.saturating_add(*count);
    Tally::of(counts.iter().skip(edge + 1).fold(0, sum), counts.iter().fold(0, sum))
}

/// Returns the evidence of [`absorb_everywhere`] over all blocks so far, as `ln E` in nats.
pub fn ln_e_everywhere(test: &OddsGrid, states: &[Mixture]) -> f64 {
    let evidence: Vec<(f64, f64)> = states.iter().map(|state| (1.0, test.ln_e(state))).collect();
    ln_weighted_mean(&evidence)
}

/// Returns the radius of a confidence band around the counted distribution function: the true one differs by no more
/// than it at all looks from `from` observations on, with probability `1 - alpha` (Howard and Ramdas 2022, Bernoulli
/// 28, Theorem 2).
///
/// `n` is the number of observations, `alpha` is above 0 and below 1, and `from` is at least 1. Returns 1, which bounds
/// nothing, below `from` observations.
pub fn band(n: f64, alpha: f64, from: f64) -> f64 {
    if n < from || n <= 0.0 {
        return 1.0;
    }
    let growth = libm::log1p(libm::log(n / from.max(1.0)).max(0.0));
    0.85 * ((growth + 0.8 * libm::log(1612.0 / alpha)) / n).sqrt()
}

/// Returns the edges between which the `q`-quantile lies if the counted distribution function is off by `radius` at
/// most: the quantile is above the first and not above the second. An edge is `None` if there is no bound on that side.
///
/// `edges` and `counts` are buckets as in [`slower_than`]; `q` and `radius` are from 0 to 1.
pub fn quantile_between(edges: &[f64], counts: &[u64], q: f64, radius: f64) -> (Option<f64>, Option<f64>) {
    let n = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count)) as f64;
    let (mut lower, mut upper, mut below) = (None, None, 0u64);
    for (edge, count) in edges.iter().zip(counts) {
        below = below.saturating_add(*count);
        let share = if n > 0.0 { below as f64 / n } else { 0.0 };
        if share + radius < q {
            lower = Some(*edge);
        }
        if n > 0.0 && share - radius >= q && upper.is_none() {
            upper = Some(*edge);
        }
    }
    (lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_an_edge_is_refused_with_the_nearest_edges() {
        let (edges, counts) = ([0.1, 0.5, 1.0], [90, 5, 3, 2]);
        assert_eq!(slower_than(&edges, &counts, 0.5), Ok(Tally::of(5, 100).unwrap()));
        assert_eq!(slower_than(&edges, &counts, 0.500_000_000_000_1), Ok(Tally::of(5, 100).unwrap()));
        let no = NoShare::NoEdge { limit: 0.3, below: Some(0.1), above: Some(0.5) };
        assert_eq!(slower_than(&edges, &counts, 0.3), Err(no));
        assert_eq!(no.to_string(), "no bucket ends at 0.3: the nearest edges are 0.1 and 0.5");
        assert!(matches!(slower_than(&edges, &counts, 2.0), Err(NoShare::NoEdge { above: None, .. })));
        assert!(slower_than(&edges, &[1, 2], 0.5).is_err());
    }

    #[test]
    fn a_rounded_limit_means_an_edge_only_if_the_edge_has_many_digits() {
        let (half, more, most) = (0.5, native_edge(2, -3), native_edge(2, 9));
        let edges = [0.015_625, half, more, most];
        for (limit, wanted) in [
            (0.5946, Some(2)),
            (0.595, Some(2)),
            (0.594, None),
            (0.6, None),
            (4.757, Some(3)),
            (4.7, None),
            (0.5, Some(1)),
            // An edge with few digits must be written in full.
            (0.5001, None),
            (0.01563, Some(0)),
            (0.016, None),
        ] {
            assert_eq!(edge_at(&edges, limit), wanted, "{limit}");
        }
        assert_eq!(edge_at(&[], 1.0), None);
        assert_eq!(edge_at(&[0.0], 1.0), None);
        assert_eq!(slower_than(&edges, &[1, 2, 3, 4, 5], 4.757), Ok(Tally::of(5, 15).unwrap()));
    }

    #[test]
    fn native_edges_are_equal_in_every_schema_and_are_recognised() {
        for index in -40..=40 {
            assert_eq!(native_edge(1, index).to_bits(), native_edge(2, 2 * index).to_bits());
            assert_eq!(native_edge(0, index).to_bits(), libm::ldexp(1.0, index).to_bits());
        }
        for (schema, from, to, wanted) in [(2, -40, 80, 2), (2, 3, 4, 2), (1, -20, 40, 1), (2, -4, -2, 2)] {
            let edges = NativeEdges { schema, from, to }.edges().unwrap();
            assert_eq!(NativeEdges::of(&edges), Some(NativeEdges { schema: wanted, from, to }));
        }
        let powers = NativeEdges { schema: 0, from: -3, to: 3 }.edges().unwrap();
        for classic in [&[][..], &[0.5], &powers, &[0.1, 0.5, 1.0], &[0.5, native_edge(2, -3), 1.0], &[f64::NAN, 1.0]] {
            assert_eq!(NativeEdges::of(classic), None, "{classic:?}");
        }
        for (schema, from, to) in [(2, 1, 0), (9, 0, 1), (0, 0, i32::MAX), (0, i32::MIN, i32::MAX)] {
            assert_eq!(NativeEdges { schema, from, to }.edges(), None);
        }
    }
}
