//! Converts a native histogram to the form of a classic one: cumulative counts at fixed edges.
//!
//! Prometheus lists the buckets of a native histogram that are not empty. Their schema is chosen by the exporter, which
//! may switch to a coarser one when there are too many buckets: then neighbours are merged. Differences and sums need
//! edges that do not change. So every sample is counted at the edges of one schema, four per octave from 2^-10 to 2^20
//! of the unit. That is fine enough to find a limit, and coarse enough for the buckets that exporters keep.
//! Observations below the first edge are in the first bucket, and observations above the last edge in the `+Inf`
//! bucket.
//!
//! An edge is in the result only if the count up to it is known exactly. Every edge of a schema is an edge of all finer
//! schemas, so a sample of a finer schema loses nothing. For a sample of a coarser schema the edges between its own are
//! left out; differences and sums are then taken at the edges that are in both readings, and in all processes. The same
//! holds for edges inside a zero bucket that has grown.
//!
//! An exporter may empty a native histogram without a restart. In the sum of several histograms of a process the others
//! could hide that. So the query also asks for the count of each single histogram, and one that fell is a gap.
//!
//! Negative observations are below every edge. Observations of NaN are above every edge, where the classic client
//! libraries put them, too. Buckets with custom bounds are refused: Prometheus does not list the empty ones, so it is
//! not known whether the limit of a check is an edge.

use bellwether_core::stats::histogram::{NativeEdges, native_edge};

use super::count::count;
use crate::ports::{Bucket, Native};

/// The schema of the edges: 2^2 per octave.
const SCHEMA: i32 = 2;
/// Index of the first edge, 2^-10.
const FIRST: i32 = -40;
/// Index of the last edge, 2^20.
const LAST: i32 = 80;

/// Largest relative difference between an edge as Prometheus writes it and as it is computed here.
const TOLERANCE: f64 = 1e-9;

/// A bucket from a bound above this to `+Inf` holds infinite observations.
const HUGE: f64 = 1e300;

/// Returns the edges at which native histograms are counted, ascending.
pub fn edges() -> Vec<f64> {
    // Never `None`, because the first edge is below the last.
    NativeEdges { schema: SCHEMA, from: FIRST, to: LAST }.edges().unwrap_or_default()
}

/// Returns the number of observations up to each edge at which it is known, ascending, as (edge, count). The last edge
/// is `+Inf` with the number of all observations.
///
/// # Errors
/// A sentence that says why the sample can't be counted.
pub fn cumulative(native: &Native) -> Result<Vec<(f64, f64)>, String> {
    let mut sums = BucketSums::default();
    native.buckets.iter().try_for_each(|bucket| sums.add(bucket))?;
    let listed = sums.total();
    if listed as f64 > native.count {
        return Err(format!("its buckets hold {listed} observations, but its count is {}", native.count));
    }
    let mut counts = sums.cumulative_counts();
    counts.push((f64::INFINITY, native.count));
    Ok(counts)
}

/// The counts of the listed buckets.
#[derive(Debug, Default)]
struct BucketSums {
    /// The positive buckets: the index in [`SCHEMA`] of the first edge at or above the upper bound, and the count.
    positive: Vec<(i32, u64)>,
    /// The count of negative observations and of the zero bucket, which are below all edges that are returned.
    below: u64,
    /// The upper bound of the zero bucket.
    zero_end: f64,
    /// The count of infinite observations, which are above all edges.
    infinite: u64,
    /// The schema of the positive buckets. `None`: there are none.
    schema: Option<i32>,
}

impl BucketSums {
    fn add(&mut self, bucket: &Bucket) -> Result<(), String> {
        let Bucket { lower, upper, .. } = *bucket;
        let held = count(bucket.count).ok_or_else(|| {
            format!("its bucket ({lower}, {upper}] holds {}, which is not a number of observations", bucket.count)
        })?;
        if upper <= 0.0 && lower.is_finite() {
            self.below += held;
        } else if lower < 0.0 && bucket.is_closed() && lower.is_finite() && upper.is_finite() {
            self.below += held;
            self.zero_end = self.zero_end.max(upper);
        } else if upper == f64::INFINITY && lower > HUGE {
            self.infinite += held;
        } else {
            let (schema, index) = schema_and_index(bucket).ok_or_else(|| {
                format!("its bucket ({lower}, {upper}] is not of an exponential schema; use its classic histogram without `native`")
            })?;
            if *self.schema.get_or_insert(schema) != schema {
                return Err(format!("its bucket ({lower}, {upper}] is of another schema than the others"));
            }
            self.positive.push((edge_index(schema, index), held));
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        self.positive.iter().map(|(_, held)| held).sum::<u64>() + self.below + self.infinite
    }

    /// Returns the cumulative counts at the edges that are not inside of a bucket.
    fn cumulative_counts(mut self) -> Vec<(f64, f64)> {
        self.positive.sort_unstable();
        let mut positive = self.positive.iter().peekable();
        let mut sum = self.below;
        let mut counts = Vec::new();
        for index in FIRST..=LAST {
            while let Some((_, held)) = positive.next_if(|(end, _)| *end <= index) {
                sum += held;
            }
            let edge = native_edge(SCHEMA, index);
            if edge >= self.zero_end && index.rem_euclid(self.edges_per_bucket()) == 0 {
                counts.push((edge, sum as f64));
            }
        }
        counts
    }

    /// Returns how many edges of [`SCHEMA`] one bucket spans: 1, or a power of two for a coarser schema.
    fn edges_per_bucket(&self) -> i32 {
        self.schema.map_or(1, |schema| 1 << (SCHEMA - schema).max(0))
    }
}

/// Returns the schema of a positive bucket and the index of its upper bound there. `None`: its bounds are not
/// neighbouring edges of an exponential schema.
fn schema_and_index(bucket: &Bucket) -> Option<(i32, i32)> {
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
    let is_edge = |bound: f64, index: i32| (native_edge(schema, index) / bound - 1.0).abs() <= TOLERANCE;
    (is_edge(upper, index) && is_edge(lower, index - 1)).then_some((schema, index))
}

/// Returns the index in [`SCHEMA`] of the first edge at or above the edge `index` of `schema`.
fn edge_index(schema: i32, index: i32) -> i32 {
    if schema <= SCHEMA { index << (SCHEMA - schema) } else { (index - 1).div_euclid(1 << (schema - SCHEMA)) + 1 }
}

#[cfg(test)]
mod tests;
