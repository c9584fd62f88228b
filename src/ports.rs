//! What the daemon needs of the world, as small traits. Adapters implement them; `daemon` and `perform` know nothing
//! else of the adapters. The demo and the tests implement the same traits in memory.
//!
//! Whatever an adapter has to say on its own (a record was consumed, a Deployment changed) it sends as a [`Wake`].

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bellwether_core::ids::{EffectId, TemplateHash, Workload};
use bellwether_core::input::effect::{Effect, Message, ModelAct};
use bellwether_core::input::event::Outcome;
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::Criterion;
use bellwether_core::measure::watch::{ArmKey, ProbeTarget, Watch};
use bellwether_core::time::{Span, TimeRange, Timestamp};
use secrecy::{ExposeSecret, SecretString};

/// The number of a partition of the events topic, and of the journal's. The embedded journal has one, 0.
pub type Partition = i32;

/// Everything that can wake the daemon, from wherever it comes.
#[derive(Debug)]
pub enum Wake {
    /// This process now owns a partition.
    Assigned(Partition),
    /// It no longer does. Nothing may be written for it any more; `done` is told when that is so.
    Revoked {
        /// Which one.
        partition: Partition,
        /// Dropped when the daemon has let go of it.
        done: tokio::sync::oneshot::Sender<()>,
    },
    /// A record of the events topic.
    Record(EventRecord),
    /// A workload, its canary or its route has changed.
    Observed {
        /// Which one.
        workload: Workload,
        /// How it stands.
        status: Box<WorkloadStatus>,
        /// The templates that the status names, for the journal.
        templates: Vec<PodTemplate>,
    },
}

/// One record of the events topic, as it was read.
#[derive(Debug, Clone, Default)]
pub struct EventRecord {
    /// Where it was read.
    pub partition: Partition,
    /// Its position there.
    pub offset: i64,
    /// The producer's key.
    pub key: Option<Vec<u8>>,
    /// The content.
    pub value: Option<Vec<u8>>,
    /// The headers, in order; a header without a value is empty.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Answered once the record is committed: how it was taken. For the HTTP intake; `None` from Kafka.
    pub answer: Option<std::sync::Arc<tokio::sync::Mutex<Option<tokio::sync::oneshot::Sender<Receipt>>>>>,
}

/// How a record was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It reached the engine; what the engine said.
    Decided(String),
    /// It is not for us; why.
    Ignored(String),
    /// It can't be understood, or can't be done; why.
    Dead(String),
}

/// The content of a pod template. Its environment may hold secrets, so it can't be printed.
#[derive(Clone)]
pub struct PodTemplate {
    /// Its name everywhere else.
    pub hash: TemplateHash,
    json: SecretString,
}

impl PodTemplate {
    /// The template that is written as `json`. The adapter that reads it computes the hash.
    pub fn new(hash: TemplateHash, json: String) -> PodTemplate {
        PodTemplate { hash, json: SecretString::from(json) }
    }

    /// The JSON, for the API server and the journal and for nobody else.
    pub fn expose(&self) -> &str {
        self.json.expose_secret()
    }
}

impl std::fmt::Debug for PodTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// The mark of whoever acts: written on what it changes, and never overwritten by a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Kubernetes, the traffic included.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// One attempt at an effect that touches the cluster. Repeating it is harmless. `template` is the content of the
    /// template that the effect names, if it names one. The survey's templates come back beside the outcome.
    async fn perform(
        &self,
        effect: &Effect,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>);
}

/// A metrics store that speaks PromQL.
#[async_trait]
pub trait Metrics: Send + Sync {
    /// The instant vector of `query` at `at`.
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError>;
    /// What the exporters say that `name` is: `counter`, `gauge`, `histogram`, `summary` or another word; `None`: they say
    /// nothing, or the store does not keep it.
    async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError>;
    /// The instant vector of `query` at each tick of `stretch` at which it has elements.
    async fn range(
        &self,
        query: &str,
        stretch: TimeRange,
    ) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError>;
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPoint {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value; NaN where it is a native histogram.
    pub value: f64,
    /// The native histogram that it is.
    pub native: Option<Arc<Native>>,
}

impl SeriesPoint {
    /// A plain number.
    pub fn number(labels: BTreeMap<String, String>, value: f64) -> SeriesPoint {
        SeriesPoint { labels, value, native: None }
    }

    /// A native histogram.
    pub fn native(labels: BTreeMap<String, String>, native: Arc<Native>) -> SeriesPoint {
        SeriesPoint { labels, value: f64::NAN, native: Some(native) }
    }
}

/// A native histogram as it came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Native {
    /// All observations; those that are no number are in no bucket.
    pub count: f64,
    /// The buckets that have any.
    pub buckets: Vec<Bucket>,
}

/// A bucket of a native histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Which of its bounds belong to it: 0 the upper, 1 the lower, 2 neither, 3 both.
    pub rule: u8,
    /// Where it begins.
    pub lower: f64,
    /// Where it ends.
    pub upper: f64,
    /// What is in it, and in no other.
    pub count: f64,
}

impl Bucket {
    /// Whether both bounds belong to it, as to the one around zero.
    pub fn is_closed(&self) -> bool {
        self.rule == 3
    }

    /// Whether its upper bound belongs to it and the lower does not, as with every one above zero.
    pub fn is_open_below(&self) -> bool {
        self.rule == 0
    }
}

/// Why there is no answer that can be counted with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// Nobody answered in time, or somebody said to come back later (429, 5xx).
    #[error("{0}")]
    Unavailable(String),
    /// The query itself was refused (4xx): a part of it may be fine.
    #[error("{0}")]
    Refused(String),
    /// The answer carries warnings, so some of it may be missing.
    #[error("partial answer: {0}")]
    Partial(String),
    /// The answer is not an instant vector, or holds what can't be read.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
}

impl MetricsError {
    /// Its kind, for a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            MetricsError::Unavailable(_) => "unavailable",
            MetricsError::Refused(_) => "refused",
            MetricsError::Partial(_) => "partial",
            MetricsError::Unreadable(_) => "unreadable",
        }
    }
}

/// Whatever counts what is watched: the sampler over a metrics store, or the demo's world.
#[async_trait]
pub trait BlockSource: Send {
    /// What was counted of each watch up to `at`, since the tick before; nothing of a watch that has just begun.
    async fn tick(&mut self, watches: &[Watch], at: Timestamp) -> Vec<(Workload, Block)>;
}

/// What the API server knows about pods, by name; pods that are gone are remembered while a rollout may need them.
pub trait PodDirectory: Send + Sync {
    /// Whose pod it is.
    fn locate(&self, namespace: &str, pod: &str) -> Option<PodFacts>;
    /// The name of the Service that the workload's pods are behind, and its port, for gateway metrics.
    fn service(&self, workload: &Workload) -> Option<(String, u16)>;
}

/// What the sampler needs to know of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// The uid of the Deployment above its ReplicaSet.
    pub deployment_uid: String,
    /// Its `pod-template-hash`.
    pub pod_hash: String,
    /// When it started.
    pub started: Timestamp,
    /// Restarts of each container so far: a change is the evidence for a counter's reset.
    pub restarts: BTreeMap<String, u32>,
}

/// The registry of models.
#[async_trait]
pub trait Models: Send + Sync {
    /// One attempt at an act on a model, written `name@version`. Repeating it is harmless.
    async fn perform(&self, effect: &EffectId, environment: &str, model: &str, what: &ModelAct) -> Outcome;
}

/// Tries the queries of a rollout before there is traffic to judge.
#[async_trait]
pub trait QueryProbe: Send + Sync {
    /// Runs every query once and looks at the past: [`Outcome::Probed`] with what is wrong with them and what was learnt of
    /// `learn`, or a failure if nobody answered.
    async fn probe(
        &self,
        workload: &Workload,
        stable: &ArmKey,
        metrics: &[ProbeTarget],
        learn: &[Criterion],
    ) -> Outcome;
}

/// Whatever can be asked to look again: after a partition is taken over, its engine has to see its workloads anew.
pub trait StatusSource: Send + Sync {
    /// Sends every sighting of interest again.
    fn resend(&self);
}

/// Where people are told.
#[async_trait]
pub trait Notify: Send + Sync {
    /// One attempt to send a message.
    async fn send(&self, effect: &EffectId, workload: &Workload, message: &Message) -> Result<(), NotifyError>;
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// Later: after so long, if the other side said.
    #[error("{message}")]
    Later {
        /// How long to wait, if said.
        after: Option<Span>,
        /// What the other side said.
        message: String,
    },
    /// The same again would be refused again.
    #[error("{0}")]
    Refused(String),
}

/// All that one commit writes, together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The first offset of the events topic that is not consumed yet; `None`: unchanged.
    pub next_offset: Option<i64>,
    /// Journal entries by key; `None` removes.
    pub puts: Vec<(String, Option<Vec<u8>>)>,
    /// Records for the decisions topic: key (the workload) and JSON.
    pub decisions: Vec<(String, Vec<u8>)>,
    /// Records that go to the dead-letter topic, with what was wrong.
    pub dead: Vec<(EventRecord, String)>,
    /// Records that belong on other partitions, or on all of them.
    pub rekeyed: Vec<Rekeyed>,
}

/// A record that is produced again where it belongs.
#[derive(Debug, Clone)]
pub struct Rekeyed {
    /// As it was read.
    pub record: EventRecord,
    /// Under this key.
    pub key: String,
    /// On this partition.
    pub partition: Partition,
}

impl Batch {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        let Self { next_offset, puts, decisions, dead, rekeyed } = self;
        next_offset.is_none() && puts.is_empty() && decisions.is_empty() && dead.is_empty() && rekeyed.is_empty()
    }
}

/// The durable log of one partition. Opening it fences whoever had it before.
#[async_trait]
pub trait Journal: Send {
    /// All entries, and nothing that an earlier owner left unfinished. The first call after opening.
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError>;
    /// Writes all of `batch`, or nothing. For an empty one no broker is asked, so it may be fine though
    /// another owner has taken over.
    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError>;
}

/// Opens the journal of a partition.
#[async_trait]
pub trait Journals: Send + Sync {
    /// How many partitions there are: what a workload's key is hashed over.
    fn partitions(&self) -> i32;
    /// The journal of one of them, for this process alone.
    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError>;
}

/// Why the journal did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Somebody else owns the partition now: let go of it.
    #[error("another process has taken over: {0}")]
    Fenced(String),
    /// It is not known whether the batch was written: let go, and wait for [`Wake::Assigned`].
    #[error("{0}")]
    Unknown(String),
    /// The journal is not what it must be (wrong settings, unreadable entries): a person has to look.
    #[error("{0}")]
    Broken(String),
}
