//! Latency from buckets, without interpolation.
//!
//! "p95 at most 500 ms" and "at most 5 % slower than 500 ms" are the same sentence, and the second can be counted: requests
//! above a bucket's edge are whole numbers, and every test for shares holds for them exactly. So a limit must be an edge
//! ([`slower_than`]); what lies between two edges is not known to anybody.
//!
//! Buckets here are as a block brings them: ascending finite edges, and one count more than edges, of what came above the
//! one edge and not above the next; not cumulative.

use thiserror::Error;

use super::combine::ln_weighted_mean;
use super::mixture::Mixture;
use super::odds_grid::OddsGrid;
use super::tally::{Pair, Phi, Tally, Unusable};

/// `0.5` and `0.500000000001` are the same edge, spelled by different clients.
const SAME: f64 = 1e-9;

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
    let near = |edge: &f64| (edge - limit).abs() <= SAME * limit.abs();
    let Some(at) = edges.iter().position(near) else {
        let below = edges.iter().copied().filter(|edge| *edge < limit).reduce(f64::max);
        let above = edges.iter().copied().filter(|edge| *edge > limit).reduce(f64::min);
        return Err(NoShare::NoEdge { limit, below, above });
    };
    let sum = |counts: &mut dyn Iterator<Item = &u64>| counts.fold(0u64, |sum, count| sum.saturating_add(*count));
    Ok(Tally::of(sum(&mut counts.iter().skip(at + 1)), sum(&mut counts.iter()))?)
}

/// The edge of a native histogram's buckets that is nearest to `limit` on their logarithmic scale, for `limit > 0`:
/// `2^(i / 2^schema)`. Edges of a lower schema are edges of every higher one, so when Prometheus merges buckets the limit
/// is snapped anew and may move, by less than a bucket.
pub fn nearest_native_edge(schema: i32, limit: f64) -> f64 {
    let per_octave = libm::ldexp(1.0, schema.clamp(-4, 8));
    let index = libm::round(libm::log2(limit) * per_octave);
    libm::exp2(index / per_octave)
}

/// How many of a native histogram's observations were above `edge`: `buckets` are `(lower, upper, count)`, and `edge` is
/// from [`nearest_native_edge`] at their schema. A bucket that the edge cuts counts as not above it.
///
/// # Errors
/// If the counts can't be used.
pub fn native_slower_than(buckets: &[(f64, f64, f64)], edge: f64) -> Result<Tally, Unusable> {
    let above = buckets.iter().filter(|(lower, ..)| *lower >= edge * (1.0 - SAME));
    let hits = above.map(|(_, _, count)| count).sum();
    Tally::new(hits, buckets.iter().map(|(_, _, count)| count).sum())
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
    fn native_edges_are_those_of_the_schema_and_survive_a_merge() {
        for schema in -2..=8 {
            let edge = nearest_native_edge(schema, 0.5);
            let half_a_bucket = libm::exp2(0.5 * libm::ldexp(1.0, -schema));
            assert!(edge / 0.5 <= half_a_bucket && 0.5 / edge <= half_a_bucket, "{schema} {edge}");
            if schema >= 0 {
                assert_eq!(edge, 0.5, "{schema}");
            }
        }
        let buckets = [(0.125, 0.25, 20.0), (0.25, 0.5, 50.0), (0.5, 1.0, 25.0), (1.0, 2.0, 5.0)];
        assert_eq!(native_slower_than(&buckets, 0.5), Tally::new(30.0, 100.0));
        assert!(native_slower_than(&[(0.5, 1.0, f64::NAN)], 0.5).is_err());
    }
}
