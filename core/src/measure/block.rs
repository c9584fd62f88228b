//! What was counted between two readings of the counters, or why nothing was.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Counts of both arms between two instants at which the counters were read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// The counters were read at this instant …
    pub from: Timestamp,
    /// … and at this one; a sample belongs to the block if it came after `from` and not after `to`.
    pub to: Timestamp,
    /// By metric.
    pub metrics: BTreeMap<String, Sample>,
    /// What each of the stable's processes counted, where a check learns from that how errors cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<String, Vec<Reading>>,
    /// What each pod of the version that is judged counted, by its name: a fault of one of them is none of the version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pods: BTreeMap<String, BTreeMap<String, Reading>>,
}

impl Block {
    /// A block without its processes and pods one by one.
    pub fn new(from: Timestamp, to: Timestamp, metrics: BTreeMap<String, Sample>) -> Block {
        Block { from, to, metrics, processes: BTreeMap::new(), pods: BTreeMap::new() }
    }
}

/// What was measured of one metric in one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sample {
    /// A number for each arm.
    Arms {
        /// The canary's; `None`: the arm has no series (no pod, or never a request).
        canary: Option<Reading>,
        /// The stable's.
        stable: Option<Reading>,
    },
    /// It could not be measured, in either arm.
    Gap(Gap),
}

/// One arm's reading of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// Counted events, some of them of the kind that the metric looks for.
    Ratio {
        /// Those of that kind.
        hits: u64,
        /// All of them.
        total: u64,
    },
    /// Counted events by size: as many as `edges` and one more, above the last edge. Not cumulative.
    Histogram {
        /// The buckets' upper bounds, ascending, in the metric's own unit.
        #[serde(with = "edges")]
        edges: Vec<f64>,
        /// Events per bucket.
        counts: Vec<u64>,
    },
    /// Counted events.
    Count(u64),
    /// A value at the block's end.
    Value(f64),
}

/// Edges as they are written down: one by one, or as those of a native histogram, which are many and always the same.
mod edges {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::stats::histogram::NativeEdges;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Each(Vec<f64>),
        Native(NativeEdges),
    }

    pub fn serialize<S: Serializer>(edges: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        match NativeEdges::of(edges) {
            Some(native) => native.serialize(serializer),
            None => edges.serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Each(edges) => Ok(edges),
            Written::Native(native) => {
                native.edges().ok_or_else(|| D::Error::custom(format!("{native:?} are no edges of a histogram")))
            }
        }
    }
}

impl Reading {
    /// The requests that were counted; `None`: it does not count any.
    pub fn requests(&self) -> Option<u64> {
        match self {
            Reading::Ratio { total, .. } => Some(*total),
            Reading::Histogram { counts, .. } => Some(counts.iter().fold(0, |sum, count| sum.saturating_add(*count))),
            Reading::Count(n) => Some(*n),
            Reading::Value(_) => None,
        }
    }
}

/// Why nothing was measured. A gap is not a zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gap", rename_all = "kebab-case")]
pub enum Gap {
    /// Prometheus could not be asked, or answered with an error.
    Unanswered {
        /// In its own words.
        error: String,
    },
    /// The answer carried warnings, so some of it may be missing.
    Partial {
        /// The first warning.
        warning: String,
    },
    /// The newest sample is too old.
    Stale {
        /// How old, in seconds.
        seconds: u64,
    },
    /// A counter fell with no sign that its process had restarted.
    Fell {
        /// Which.
        series: String,
    },
    /// A series disappeared while its process went on.
    Vanished {
        /// Which.
        series: String,
    },
    /// A number was not a finite, whole, non-negative count, or a value was not finite.
    NotANumber {
        /// Which.
        series: String,
    },
    /// The counters' values at the block's beginning are not known: the watch has just begun, or Prometheus no
    /// longer has them.
    NoBaseline,
    /// Buckets that can't be read as a histogram.
    Malformed {
        /// What is wrong with them.
        what: String,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::Unanswered { error } => write!(f, "Prometheus did not answer: {error}"),
            Gap::Partial { warning } => write!(f, "Prometheus gave a partial answer: {warning}"),
            Gap::Stale { seconds } => write!(f, "the newest sample is {seconds} s old"),
            Gap::Fell { series } => write!(f, "counter {series} fell although its process had not restarted"),
            Gap::Vanished { series } => write!(f, "series {series} disappeared although its process goes on"),
            Gap::NotANumber { series } => write!(f, "{series} is not a number that can be counted with"),
            Gap::NoBaseline => f.write_str("the counters' starting values are not known"),
            Gap::Malformed { what } => f.write_str(what),
        }
    }
}
