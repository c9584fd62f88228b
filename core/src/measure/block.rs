//! Blocks: the counts of both arms between two readings of the counters, or the reason why there are none.

use std::fmt;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The highest number of single processes or pods of an arm in a block. The counts of all others are only in the arm's sum.
pub const MAX_PARTS: usize = 32;

/// A map by names, in their order. It is for few entries: a block has two or three, and a tree's node would have room for eleven.
pub type SmallMap<V> = LiteMap<String, V>;

/// Counts of both arms between two instants at which the counters were read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// The time of the first reading. Events at or before this time are not counted.
    pub from: Timestamp,
    /// The time of the second reading. Events at this time are counted.
    pub to: Timestamp,
    /// The samples by metric name, without the requests of cold processes.
    pub metrics: SmallMap<Sample>,
    /// The samples of the requests of cold processes: those that had their first request less than
    /// [`Watch::warm_up`](super::watch::Watch::warm_up) before `from`. Metrics of which no process is cold are left out.
    #[serde(default, skip_serializing_if = "SmallMap::is_empty")]
    pub cold: SmallMap<Sample>,
    /// The samples of each stratum, by metric name and value of the metric's `strata-label`, without the requests of cold
    /// processes. Metrics without that label, or with a gap, are left out, and compared as one stratum.
    #[serde(default, skip_serializing_if = "SmallMap::is_empty")]
    pub strata: SmallMap<SmallMap<Sample>>,
    /// The readings of each single process of the stable, by metric name, for the metrics in
    /// [`Watch::per_process`](super::watch::Watch::per_process). The dispersion of errors is learned from them.
    #[serde(default, skip_serializing_if = "SmallMap::is_empty")]
    pub processes: SmallMap<Vec<Reading>>,
    /// The readings of each pod of the judged version, by metric and pod name, for the metrics in
    /// [`Watch::per_pod`](super::watch::Watch::per_pod). They tell a fault of one pod from a fault of the version.
    #[serde(default, skip_serializing_if = "SmallMap::is_empty")]
    pub pods: SmallMap<SmallMap<Reading>>,
}

impl Block {
    /// Returns a block without cold processes, strata, and readings of single processes and pods.
    pub fn new(from: Timestamp, to: Timestamp, metrics: impl IntoIterator<Item = (String, Sample)>) -> Block {
        let metrics = metrics.into_iter().collect();
        let (cold, strata, processes, pods) = (SmallMap::new(), SmallMap::new(), SmallMap::new(), SmallMap::new());
        Block { from, to, metrics, cold, strata, processes, pods }
    }

    /// Replaces the counts of histograms by their sums, so that [`requests`](super::window::requests) stays the same.
    pub fn keep_requests(&mut self) {
        for (_, sample) in self.metrics.iter_mut().chain(self.cold.iter_mut()) {
            let Sample::Arms { canary, stable } = sample else { continue };
            for reading in [canary, stable].into_iter().flatten() {
                if let (Reading::Histogram { .. }, Some(n)) = (&*reading, reading.requests()) {
                    *reading = Reading::Count(n);
                }
            }
        }
    }

    /// Counts the canary's requests of a metric as those of cold processes. It is for a gateway's metrics, which do not tell the
    /// processes apart.
    pub fn count_canary_as_cold(&mut self, metric: &str) {
        let Some(Sample::Arms { canary, .. }) = self.metrics.get_mut(metric) else { return };
        let Some(reading) = canary.take() else { return };
        self.cold.insert(metric.to_owned(), Sample::Arms { canary: Some(reading), stable: None });
        self.strata.remove(metric);
    }
}

/// The measurement of one metric in one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sample {
    /// The readings of both arms.
    Arms {
        /// The canary's reading; `None` if the arm has no series, because it has no pod or never had a request.
        canary: Option<Reading>,
        /// The stable's reading; `None` if the arm has no series.
        stable: Option<Reading>,
    },
    /// The metric could not be measured, in either arm.
    Gap(Gap),
}

/// One arm's reading of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// The counts of a ratio.
    Ratio {
        /// The number of events that the metric counts as hits, at most `total`.
        hits: u64,
        /// The number of all events.
        total: u64,
    },
    /// The counts of a histogram, not cumulative. There is one bucket more than there are edges: the last one is above
    /// the last edge.
    Histogram {
        /// The buckets' upper bounds, ascending, in the metric's unit.
        #[serde(with = "edges")]
        edges: Vec<f64>,
        /// The number of events in each bucket.
        counts: Vec<u64>,
    },
    /// The number of events of a throughput.
    Count(u64),
    /// The value of a gauge or a query at the block's end, in the metric's unit.
    Value(f64),
}

/// The serialized form of a histogram's edges. The edges of a native histogram are many and regular, so they are
/// written as their [`NativeEdges`](crate::stats::histogram::NativeEdges); others are written as a list.
mod edges {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::stats::histogram::NativeEdges;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum SerializedEdges {
        List(Vec<f64>),
        Native(NativeEdges),
    }

    pub fn serialize<S: Serializer>(edges: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        match NativeEdges::of(edges) {
            Some(native) => native.serialize(serializer),
            None => edges.serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        match SerializedEdges::deserialize(deserializer)? {
            SerializedEdges::List(edges) => Ok(edges),
            SerializedEdges::Native(native) => {
                native.edges().ok_or_else(|| D::Error::custom(format!("{native:?} are no edges of a histogram")))
            }
        }
    }
}

impl Reading {
    /// Returns the number of counted requests; `None` if the reading is a value and not a count.
    pub fn requests(&self) -> Option<u64> {
        match self {
            Reading::Ratio { total, .. } => Some(*total),
            Reading::Histogram { counts, .. } => Some(counts.iter().fold(0, |sum, count| sum.saturating_add(*count))),
            Reading::Count(n) => Some(*n),
            Reading::Value(_) => None,
        }
    }

    /// Returns the reading of an arm that counts the same and had no request; `None` if the reading is a value and not a count.
    pub fn without_requests(&self) -> Option<Reading> {
        match self {
            Reading::Ratio { .. } => Some(Reading::Ratio { hits: 0, total: 0 }),
            Reading::Histogram { edges, counts } => {
                Some(Reading::Histogram { edges: edges.clone(), counts: vec![0; counts.len()] })
            }
            Reading::Count(_) => Some(Reading::Count(0)),
            Reading::Value(_) => None,
        }
    }
}

/// The reason why a block has no counts of a metric. A gap is not a count of zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gap", rename_all = "kebab-case")]
pub enum Gap {
    /// Prometheus could not be asked, or answered with an error.
    Unanswered {
        /// The error as Prometheus or the connection states it.
        error: String,
    },
    /// The answer carried warnings, so some of it may be missing.
    Partial {
        /// The first warning.
        warning: String,
    },
    /// The newest sample is too old.
    Stale {
        /// The sample's age, in seconds.
        seconds: u64,
    },
    /// A counter's value fell, and nothing indicates that its process restarted.
    Fell {
        /// The series, with its labels.
        series: String,
    },
    /// A series disappeared, and its process still runs.
    Vanished {
        /// The series, with its labels.
        series: String,
    },
    /// A count is not a finite, whole and non-negative number, or a value is not finite.
    NotANumber {
        /// The series, with its labels.
        series: String,
    },
    /// The counters' values at the block's start are not known, because the watch has just begun or Prometheus no
    /// longer has them.
    NoBaseline,
    /// The series can't be read as the metric's kind requires, for example because its buckets are no histogram.
    Malformed {
        /// The problem, as a sentence.
        problem: String,
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
            Gap::Malformed { problem } => f.write_str(problem),
        }
    }
}
