//! Everything that can happen to a rollout. What comes from Kafka, what is seen in the cluster, what was counted, and
//! what became of an effect all arrive through this one type, and nothing else can change an engine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::ids::{EffectId, EventId, Images, Workload};
use crate::report::Report;
use crate::sequential::Learnt;
use crate::sighting::{Sighting, Survey};
use crate::time::Timestamp;

/// An event, and the instant at which the engine was told of it. A journal of these gives the same decisions again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// When the engine was told.
    pub at: Timestamp,
    /// What it was told.
    pub event: Event,
}

/// What the engine can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Somebody asks for a new version to be rolled out.
    Requested {
        /// Which event this is.
        id: EventId,
        /// When its producer says it happened.
        time: Option<Timestamp>,
        /// What is asked for.
        request: Request,
    },
    /// Somebody else has already deployed: guard what is there.
    Deployed {
        /// Which event this is.
        id: EventId,
        /// When its producer says it happened.
        time: Option<Timestamp>,
        /// The workload that was changed.
        workload: Workload,
        /// The artifact that the event names (a package URL), for people.
        artifact: Option<String>,
    },
    /// A person, or a pipeline in their name, steps in.
    Commanded {
        /// Which event this is; its source is who.
        id: EventId,
        /// When its producer says it happened.
        time: Option<Timestamp>,
        /// What is told.
        command: Command,
    },
    /// A suite was run on something that a rollout may bring in.
    Tested {
        /// Which event this is.
        id: EventId,
        /// For which workload.
        workload: Workload,
        /// What came of it.
        report: Report,
    },
    /// Something in the cluster has changed.
    Seen {
        /// Whose.
        workload: Workload,
        /// How it stands now.
        sighting: Box<Sighting>,
    },
    /// One block of counts, or the reason why there is none.
    Measured {
        /// Whose.
        workload: Workload,
        /// The counts.
        block: Block,
    },
    /// An effect was carried out, or was not.
    Performed {
        /// Whose.
        workload: Workload,
        /// Which effect.
        effect: EffectId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Time has passed, and nothing else.
    Tick,
}

/// The content of a rollout request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    /// What to move.
    pub workload: Workload,
    /// The new image by container. Containers that are not named keep theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: Images,
    /// The new image of the one container that runs this repository now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Refuse unless these are the images that run now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_current: Option<Images>,
    /// Use this policy, if it matches the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The model that goes with the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

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

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// What became of an effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Carried out, now or at an earlier attempt.
    Done,
    /// Looked.
    Surveyed(Box<Survey>),
    /// The queries were tried.
    Probed {
        /// What is wrong with them; empty: nothing.
        problems: Vec<String>,
        /// What the past has taught.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        learnt: Vec<Learnt>,
        /// What was asked of the metrics store for each metric: for whoever wants to ask it again.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        queries: BTreeMap<String, Vec<String>>,
    },
    /// The environment's current model is the one that was asked for.
    Pointed {
        /// The one before; `None`: there was none.
        before: Option<String>,
    },
    /// Not carried out.
    Failed(Failure),
}

/// Why an effect was not carried out, and whether another attempt makes sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind of failure.
    pub kind: FailureKind,
    /// In the words of whoever refused; never with a secret in it.
    pub message: String,
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Nobody answered, or somebody was busy: the same again, later.
    Unavailable,
    /// The object had changed meanwhile: look, then the same again.
    Conflict,
    /// A verb that the service account lacks. Somebody may grant it.
    Forbidden,
    /// Refused for what it is (validation, admission, quota): the same again gets the same answer.
    Refused,
    /// The object is gone, or another one has its name.
    Gone,
    /// A newer owner of this partition has written already: this process is no longer the one to act.
    Fenced,
}
