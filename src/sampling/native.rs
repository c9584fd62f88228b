//! A native histogram, made what a classic one is: cumulative counts at edges that are always the same.
//!
//! Prometheus lists the buckets that have something in them, of a schema that an exporter chooses, and chooses anew when
//! there are too many: then neighbours are merged. Differences and sums need edges that stay. So every sample is counted at
//! the edges of one schema, four to an octave and from a thousandth to a million of whatever the unit is: fine enough for
//! people to find a limit, and coarse enough for what exporters keep. What is below the first edge is in the first bucket
//! and what is above the last one above it, both of which are true.
//!
//! An edge is only given where the count up to it is known. Every edge of a schema is one of all finer schemas, so that
//! of a finer schema nothing is lost. Of a coarser one the edges between its own are left out: the differences and sums
//! are of those that there are at both readings, and in all processes. So it is with a zero bucket that grew over an edge.
//!
//! An exporter may empty a native histogram without having restarted. In a sum over several of a process the others could
//! hide that, so how much each of them has counted is asked for beside the sum, and one that fell is a gap.
//!
//! Observations below zero are below every edge, which is what is counted of them: they are odd, but not slow. Those that
//! are no number are above every edge, where the classic clients put them, too. Buckets that are no powers of two ("custom")
//! are refused: of those that are empty nothing is said, so that nobody knows whether the limit is an edge.

use bellwether_core::stats::histogram::{NativeEdges, native_edge};

use super::count::count;
use crate::ports::{Bucket, Native};

/// The schema of the edges …
const SCHEMA: i32 = 2;
/// … the first of them, `2^-10`, …
const FIRST: i32 = -40;
/// … and the last, `2^20`.
const LAST: i32 = 80;

/// Bounds are written with all their digits; this is what computing them elsewhere may differ by.
const SAME: f64 = 1e-9;
/// Beyond all that is a bucket for infinity.
const HUGE: f64 = 1e300;

/// The edges at which native histograms are counted, ascending.
pub fn edges() -> Vec<f64> {
    // Never `None`, because the first is below the last.
    NativeEdges { schema: SCHEMA, from: FIRST, to: LAST }.edges().unwrap_or_default()
}

/// How many observations were not above each edge at which that is known, ascending, and how many there were: `+Inf`.
///
/// # Errors
/// In words: why they can't be counted.
pub fn cumulative(native: &Native) -> Result<Vec<(f64, f64)>, String> {
    let mut buckets = Buckets::default();
    native.buckets.iter().try_for_each(|bucket| buckets.take(bucket))?;
    let listed = buckets.listed();
    if listed as f64 > native.count {
        return Err(format!("its buckets hold {listed} observations, and it counts {}", native.count));
    }
    let mut counts = buckets.upto();
    counts.push((f64::INFINITY, native.count));
    Ok(counts)
}

/// What is in the buckets that were listed.
#[derive(Debug, Default)]
struct Buckets {
    /// Where the positive ones end, by the index in [`SCHEMA`] of the edge at or above, with their counts.
    ends: Vec<(i32, u64)>,
    /// What is below all edges.
    below: u64,
    /// Where the zero bucket ends.
    zero: f64,
    /// What is above all edges, as far as it is listed.
    infinite: u64,
    /// Of which schema the positive ones are.
    schema: Option<i32>,
}

impl Buckets {
    fn take(&mut self, bucket: &Bucket) -> Result<(), String> {
        let Bucket { lower, upper, .. } = *bucket;
        let held = count(bucket.count).ok_or_else(|| {
            format!("its bucket ({lower}, {upper}] holds {}, which is no number of observations", bucket.count)
        })?;
        if upper <= 0.0 && lower.is_finite() {
            self.below += held;
        } else if lower < 0.0 && bucket.is_closed() && lower.is_finite() && upper.is_finite() {
            self.below += held;
            self.zero = self.zero.max(upper);
        } else if upper == f64::INFINITY && lower > HUGE {
            self.infinite += held;
        } else {
            let (schema, index) = place(bucket).ok_or_else(|| {
                format!("its bucket ({lower}, {upper}] is none of an exponential schema; name its classic histogram without `native`")
            })?;
            if *self.schema.get_or_insert(schema) != schema {
                return Err(format!("its bucket ({lower}, {upper}] is of another schema than the others"));
            }
            self.ends.push((on_the_grid(schema, index), held));
        }
        Ok(())
    }

    fn listed(&self) -> u64 {
        self.ends.iter().map(|(_, held)| held).sum::<u64>() + self.below + self.infinite
    }

    /// The cumulative counts at the edges that lie in no bucket.
    fn upto(mut self) -> Vec<(f64, f64)> {
        self.ends.sort_unstable();
        let mut ends = self.ends.iter().peekable();
        let mut upto = self.below;
        let mut counts = Vec::new();
        for index in FIRST..=LAST {
            while let Some((_, held)) = ends.next_if(|(end, _)| *end <= index) {
                upto += held;
            }
            let edge = native_edge(SCHEMA, index);
            if edge >= self.zero && index.rem_euclid(self.step()) == 0 {
                counts.push((edge, upto as f64));
            }
        }
        counts
    }

    /// Every how many edges one is an edge of the buckets, too.
    fn step(&self) -> i32 {
        self.schema.map_or(1, |schema| 1 << (SCHEMA - schema).max(0))
    }
}

/// Of which schema a positive bucket is, and its index there. `None`: of none.
fn place(bucket: &Bucket) -> Option<(i32, i32)> {
    let Bucket { lower, upper, .. } = *bucket;
    if !(lower > 0.0 && upper > lower && upper.is_finite() && bucket.is_open_below()) {
        return None;
    }
    let schema = -(upper / lower).log2().log2().round();
    if !(-4.0..=8.0).contains(&schema) {
        return None;
    }
    let schema = schema as i32;
    let index = (upper.log2() * f64::from(schema).exp2()).round() as i32;
    let is_edge = |bound: f64, index: i32| (native_edge(schema, index) / bound - 1.0).abs() <= SAME;
    (is_edge(upper, index) && is_edge(lower, index - 1)).then_some((schema, index))
}

/// The index in [`SCHEMA`] of the first edge that is not below the end of a bucket.
fn on_the_grid(schema: i32, index: i32) -> i32 {
    if schema <= SCHEMA { index << (SCHEMA - schema) } else { (index - 1).div_euclid(1 << (schema - SCHEMA)) + 1 }
}

#[cfg(test)]
mod tests;
