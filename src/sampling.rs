//! The sampler: reads raw counters from Prometheus and makes blocks of exact counts of them.
//!
//! # Data flow
//!
//! ```text
//! watches ─plan→ queries ─answers→ points ─snapshot→ cells ─difference→ counts ─reading→ samples ─block→ blocks
//! ```
//!
//! 1. *Plan.* Every rollout has a `Watch`: its workload, its two arms and its metrics. [`plan`] turns all watches into
//!    requests, one for each metric family, and these into PromQL, so that one query serves all rollouts.
//! 2. *Answers.* [`answers`] sends the queries and gives each watch the points of its own pods or Services.
//! 3. *Snapshot.* [`snapshot`] sorts a watch's points by process and class into cells, of which each is the sum of some
//!    series. [`native`] converts native histograms to cumulative buckets, so that the later stages know one form only.
//! 4. *Difference.* [`difference`] compares a snapshot with the previous one, process by process and class by class.
//!    The result is the exact count of the time between, or a gap. Nothing is extrapolated.
//! 5. *Count.* [`reading`] adds up the processes of each arm and makes the metric's sample: a ratio, a histogram, a
//!    count. A metric with a `strata-label` has a sample for each of its values too.
//! 6. *Block.* [`block`] puts the samples of one watch into a block; [`state`] keeps the values that the next tick
//!    subtracts. [`sampler`] does all of this at every tick.
//!
//! [`history`] runs the same sampler over a range of the past, and [`arms`] over the arms of other tools. [`probe`] tries the queries of a rollout once, before it
//! has traffic, and explains the ones that can't work; rollouts that begin together are asked about together.
//!
//! # Terms
//!
//! - A *series* is a sequence of samples in Prometheus with one set of labels.
//! - A *process* is one instance of an exporting program, named by the values of its process labels; by default these
//!   are namespace, pod, container and instance. Its counters start at zero when it starts. Counters are never summed
//!   over processes before their differences are taken.
//! - A *target* is a process that Prometheus scrapes. Its `up` series says whether the last scrape succeeded and when
//!   that was. A process whose target is down is not read: its counts are late, not lost.
//!   Metrics that are pushed have no target. The time of a process's newest sample then takes the place of the last scrape,
//!   so a process that no longer pushes is not taken for one without requests.
//! - A *family* is a set of series that one query reads: one name and one set of matchers.
//! - A *class* is the part of a process's series that is counted as one number, such as a status code or a bucket.
//! - A *gap* replaces the sample of a metric if the count is not known for certain. It holds the reason, covers both
//!   arms and is evidence for neither. If no family of a watch could be read (Prometheus did not answer, or its samples
//!   are stale), the next block covers the missed time as well. After every other gap, such as a counter that fell
//!   without a restart, the metric's counts of that block are lost.
//!
//! # Time
//!
//! A tick takes at most two intervals: queries that are unanswered then are gaps, which tell a rollout that it is blind
//! ([`deadline`]).
//!
//! Ticks are the multiples of the interval ([`grid`]), and all watches are read at the same tick. A tick reads the
//! counters as of T = now − lag, where now is the time of the tick, because a sample is visible to queries only some
//! time after the scrape. Reading at an explicit instant in the past also makes a reading repeatable: after a restart of
//! the daemon the values at the start of a block are queried again.

pub mod options;
pub mod ticks;
pub mod turns;
mod count;
pub mod promql;
pub mod plan;
pub mod answers;
pub mod directory;
pub mod deadline;
pub mod label_keys;
pub mod native;
pub mod snapshot;
pub mod difference;
pub mod packed;
pub mod reading;
mod strata;
pub mod state;
pub mod block;
pub mod sampler;
pub mod history;
pub mod arms;
pub mod probe;

#[cfg(test)]
pub(crate) mod tests;

pub use options::Options;
pub use sampler::Sampler;
pub use ticks::grid;
pub use turns::{Turn, Turns};
