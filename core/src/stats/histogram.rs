//! Latency from buckets, without interpolation.
//!
//! "p95 at most 500 ms" and "at most 5 % slower than 500 ms" are the same sentence, and the second can be counted: requests
//! above a bucket's edge are whole numbers, and every test for shares holds for them exactly. So a limit must be an edge
//! ([`slower_than`]); what lies between two edges is not known to anybody.
//!
//! Buckets here are as a block brings them: ascending finite edges, and one count more than edges, of what came above the
//! one edge and not above the next; not cumulative.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::combine::ln_weighted_mean;
use super::mixture::Mixture;
use super::odds_grid::OddsGrid;
use super::tally::{Pair, Phi, Tally, Unusable};

/// `0.5` and `0.500000000001` are the same edge, spelled by different clients.
const SAME: f64 = 1e-9;
/// An edge that has more digits than people write, such as 4.756828460010884, is meant by a limit this near to it: 4.757.
const WRITTEN: f64 = 1e-3;

/// Why a share can't be counted.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum NoShare {
    /// The limit is no bucket's edge. The nearest ones are named, so that somebody can choose.
    #[error("no bucket ends at {limit}: the nearest edges are {below:?} and {above:?}")]
    NoEdge {
        /// The limit.
        limit: f64,
        /// The next lower edge.
        below: Option<f64>,
        /// The next higher one.
        above: Option<f64>,
    },
    /// The counts can't be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// How many of the observations were above `limit`, which must be an edge.
///
/// # Errors
/// [`NoShare::NoEdge`] if it is none.
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

/// Which of `edges` a limit means, as people wrote it. `None`: none.
pub fn edge_at(edges: &[f64], limit: f64) -> Option<usize> {
    let away = |edge: &f64| (edge - limit).abs();
    let (at, edge) = edges.iter().enumerate().min_by(|a, b| away(a.1).total_cmp(&away(b.1)))?;
    let within = if is_written_in_full(*edge) { SAME } else { WRITTEN };
    (away(edge) <= within * limit.abs()).then_some(at)
}

/// Whether four digits are all that a number has.
fn is_written_in_full(edge: f64) -> bool {
    let digits = libm::exp10(3.0 - libm::floor(libm::log10(edge.abs())));
    let written = libm::round(edge * digits) / digits;
    (edge - written).abs() <= SAME * edge.abs() || !written.is_finite()
}

/// Where bucket `index` of a native histogram ends: `2^(index / 2^schema)`. The same edge of two schemas is the same number,
/// bit by bit.
pub fn native_edge(schema: i32, index: i32) -> f64 {
    libm::exp2(f64::from(index) / libm::ldexp(1.0, schema))
}

/// All edges of one schema from one to another, by their indices. It is what the many edges of a native histogram are
/// written down as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeEdges {
    /// The schema.
    pub schema: i32,
    /// The first.
    pub from: i32,
    /// The last.
    pub to: i32,
}

impl NativeEdges {
    /// More edges than that are a mistake, and would fill the memory.
    const MOST: u32 = 4096;

    /// What `edges` are, if they can be nothing else: whole powers of two may also be a classic histogram's.
    pub fn of(edges: &[f64]) -> Option<NativeEdges> {
        let (first, more) = (*edges.first()?, i32::try_from(edges.len().checked_sub(2)?).ok()? + 1);
        [2, 1].into_iter().find_map(|schema| {
            let from = libm::round(libm::log2(first) * libm::ldexp(1.0, schema)) as i32;
            let found = NativeEdges { schema, from, to: from.checked_add(more)? };
            // Nearly all edges are a classic histogram's, and their first one says so.
            (native_edge(schema, from) == first && found.edges()? == edges).then_some(found)
        })
    }

    /// The edges, ascending. `None`: there are no such.
    pub fn edges(self) -> Option<Vec<f64>> {
        let fine = (-4..=8).contains(&self.schema) && self.from <= self.to && self.to.abs_diff(self.from) < Self::MOST;
        fine.then(|| (self.from..=self.to).map(|index| native_edge(self.schema, index)).collect())
    }
}

/// Is the canary slower *anywhere*? One test per edge, and the mean of their evidence: an e-process for "the canary's
/// latencies are not stochastically larger" (the question of Lindon, Sanden and Shirikian 2022, KDD, arXiv 2205.14762).
///
/// # Errors
/// [`Unusable`] if the buckets or the states don't fit each other; then some states may have taken the block in, and none
/// of them may be used again.
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

/// The evidence of [`absorb_everywhere`] so far.
pub fn ln_e_everywhere(test: &OddsGrid, states: &[Mixture]) -> f64 {
    let evidence: Vec<(f64, f64)> = states.iter().map(|state| (1.0, test.ln_e(state))).collect();
    ln_weighted_mean(&evidence)
}

/// How far the true distribution is from the counted one at most, at every look from `from` observations on, with
/// probability `1 - alpha` (Howard and Ramdas 2022, Bernoulli 28, Theorem 2). Above 1, and so no bound, before that.
pub fn band(n: f64, alpha: f64, from: f64) -> f64 {
    if n < from || n <= 0.0 {
        return 1.0;
    }
    let growth = libm::log1p(libm::log(n / from.max(1.0)).max(0.0));
    0.85 * ((growth + 0.8 * libm::log(1612.0 / alpha)) / n).sqrt()
}

/// Between which edges the `q`-quantile lies for certain, if the counted distribution is off by `radius` at most: above the
/// first, and not above the second. `None`: no edge can be named on that side.
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
    fn a_limit_must_be_an_edge() {
        let (edges, counts) = ([0.1, 0.5, 1.0], [90, 5, 3, 2]);
        assert_eq!(slower_than(&edges, &counts, 0.5), Ok(Tally::of(5, 100).unwrap()));
        assert_eq!(slower_than(&edges, &counts, 0.500_000_000_000_1), Ok(Tally::of(5, 100).unwrap()));
        let no = NoShare::NoEdge { limit: 0.3, below: Some(0.1), above: Some(0.5) };
        assert_eq!(slower_than(&edges, &counts, 0.3), Err(no));
        assert!(matches!(slower_than(&edges, &counts, 2.0), Err(NoShare::NoEdge { above: None, .. })));
        assert!(slower_than(&edges, &[1, 2], 0.5).is_err());
    }

    #[test]
    fn a_limit_is_the_edge_that_people_can_write_down() {
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
            // What can be written in full is not meant by what is only near it.
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
    fn native_edges_are_the_same_in_every_schema_and_are_known_again() {
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
