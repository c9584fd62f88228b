//! The ports: small traits through which the daemon reaches the outside world. Adapters implement them; `daemon` and
//! `perform` use the adapters through these traits alone. The demo and the tests implement the same traits in memory.
//!
//! An adapter reports events of its own accord (a record was consumed, a Deployment changed) by sending a [`Wake`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bellwether_core::ids::{EffectId, Scope, TemplateHash, Workload};
use bellwether_core::input::effect::{ClusterAct, Effect, Probe, RegistryAct};
use bellwether_core::input::event::{Failure, Outcome};
use bellwether_core::input::notification::{Notification, Sink};
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::watch::Watch;
use bellwether_core::time::{Span, TimeRange, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;

use crate::clock::Stopwatch;

mod arms;
mod dead_letters;
mod labels;

pub use arms::{ArmsBlocks, ArmsReader, ArmsRequest, NamedArm, pod_hash};
pub use dead_letters::{
    DeadLetter, DeadLetterList, DeadLetters, KeptBytes, LISTED_BYTES, LetterId, LetterOrigin, MOST_LETTERS,
};
pub use labels::{LabelPlace, LabelTable, LabelTableBuilder, Labels};

/// The number of a partition, from 0. The events topic and the journal have the same partitions; the embedded journal has
/// only partition 0.
pub type Partition = i32;

/// A message from an adapter to the daemon.
#[derive(Debug)]
pub enum Wake {
    /// This process now owns a partition.
    Assigned(Partition),
    /// This process no longer owns a partition and must stop writing for it.
    Revoked {
        /// The partition that is revoked.
        partition: Partition,
        /// Whether another process may own it already.
        is_lost: bool,
        /// The sender that the daemon drops once it has released the partition; the adapter waits for that.
        done: oneshot::Sender<()>,
    },
    /// A record of the events topic.
    Record(Delivery),
    /// A workload, its canary or its route has changed.
    Observed {
        /// The workload that was observed.
        workload: Workload,
        /// The workload's current state.
        status: Box<WorkloadStatus>,
        /// The templates that the status names, for the journal.
        templates: Vec<PodTemplate>,
    },
    /// Every change of the watched cluster up to this time was sent. The adapter sends it at intervals of at most 10 s
    /// while it can watch everything.
    Sighted(Timestamp),
}

/// One record of the events topic, as it was read.
#[derive(Debug, Clone, Default)]
pub struct EventRecord {
    /// The partition that the record was read from.
    pub partition: Partition,
    /// The record's offset in the partition, from 0.
    pub offset: i64,
    /// The producer's key; `None` if the record has none.
    pub key: Option<Vec<u8>>,
    /// The record's content; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in their order, as names and values; a header without a value has an empty one.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl EventRecord {
    /// Returns the bytes of its key, value and headers.
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }
}

/// The id of one reading of a partition's records, from the position in its journal on. Each opening of a journal begins another
/// reading, so that its owner can tell the records of an earlier one, which it gets again. A source that reads once has the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadingId(pub u64);

/// A record on its way to the daemon, with its sender if that waits for the receipt.
#[derive(Debug)]
pub struct Delivery {
    /// The record.
    pub record: EventRecord,
    /// The reading that it belongs to.
    pub reading: ReadingId,
    /// The channel for the receipt, which is sent once the record is committed. `None` for a record from Kafka, whose
    /// sender does not wait. Dropping the channel tells the sender that the result is unknown.
    pub reply: Option<oneshot::Sender<Receipt>>,
}

impl From<EventRecord> for Delivery {
    fn from(record: EventRecord) -> Delivery {
        Delivery { record, reading: ReadingId::default(), reply: None }
    }
}

/// The result of handling one record, as it is reported to the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The engine took the record; the text is the engine's answer.
    Decided(String),
    /// The record does not concern this daemon and is ignored; the text is the reason.
    Ignored(String),
    /// The record can't be decoded or carried out; the text is the reason.
    Dead(String),
}

/// The content of a pod template. Its environment may hold secrets, so it can't be printed.
#[derive(Clone)]
pub struct PodTemplate {
    /// The hash of the content, which identifies the template everywhere else.
    pub hash: TemplateHash,
    json: SecretString,
}

impl PodTemplate {
    /// Creates a template from its JSON and the hash that the reading adapter has computed.
    pub fn new(hash: TemplateHash, json: String) -> PodTemplate {
        PodTemplate { hash, json: SecretString::from(json) }
    }

    /// Returns the JSON, secrets included. Only the API server and the journal may receive it.
    pub fn expose(&self) -> &str {
        self.json.expose_secret()
    }
}

impl std::fmt::Debug for PodTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// The number of a partition's owner. It is written on each object that the owner changes, and a lower epoch never
/// overwrites a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The difference of two epochs above which the higher one is no owner's, but a damaged or forged annotation. An epoch
    /// rises by one with each owner.
    pub const PLAUSIBLE: u64 = 1_000;
}

/// The Kubernetes cluster, including its traffic routing.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Attempts `act`, the act of `effect`, once; repeating it is harmless. `template` is the content of the template that
    /// the act names, if it names one. Returns the outcome, and the templates that were read, for the journal.
    async fn perform(
        &self,
        effect: &Effect,
        act: &ClusterAct,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>);
}

/// A metrics store that speaks PromQL.
#[async_trait]
pub trait Metrics: Send + Sync {
    /// Returns the instant vector of `query` at the time `at`.
    ///
    /// # Errors
    /// A [`MetricsError`] if the store is unavailable, refuses the query, or gives a partial or unreadable answer.
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError>;
    /// Returns the metric type that the exporters declare for `name`: `counter`, `gauge`, `histogram`, `summary` or another
    /// word; `None` if they declare none, or the store does not keep it.
    ///
    /// # Errors
    /// A [`MetricsError`], as for [`Metrics::instant`].
    async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError>;
    /// Returns the instant vector of `query` at each tick of `stretch`, without the ticks at which it is empty.
    ///
    /// # Errors
    /// A [`MetricsError`], as for [`Metrics::instant`].
    async fn range(
        &self,
        query: &str,
        stretch: TimeRange,
    ) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError>;
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPoint {
    /// The element's labels. The elements of one series at several instants share them.
    pub labels: Labels,
    /// The element's value; NaN if it is a native histogram.
    pub value: f64,
    /// The element's native histogram; `None` if it is a plain number.
    pub native: Option<Arc<Native>>,
}

impl SeriesPoint {
    /// Creates an element that is a plain number.
    pub fn number(labels: impl Into<Labels>, value: f64) -> SeriesPoint {
        SeriesPoint { labels: labels.into(), value, native: None }
    }

    /// Creates an element that is a native histogram.
    pub fn native(labels: impl Into<Labels>, native: Arc<Native>) -> SeriesPoint {
        SeriesPoint { labels: labels.into(), value: f64::NAN, native: Some(native) }
    }
}

/// A native histogram as the metrics store returned it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Native {
    /// The number of observations; those that are NaN are in no bucket.
    pub count: f64,
    /// The buckets that are not empty.
    pub buckets: Vec<Bucket>,
}

/// A bucket of a native histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// The bounds that belong to the bucket: 0 the upper, 1 the lower, 2 neither, 3 both.
    pub rule: u8,
    /// The lower bound, in the metric's unit.
    pub lower: f64,
    /// The upper bound, in the metric's unit.
    pub upper: f64,
    /// The number of observations in this bucket alone (not cumulative).
    pub count: f64,
}

impl Bucket {
    /// Returns whether both bounds belong to the bucket, as in the one around zero.
    pub fn is_closed(&self) -> bool {
        self.rule == 3
    }

    /// Returns whether the upper bound belongs to the bucket and the lower does not, as in every bucket above zero.
    pub fn is_open_below(&self) -> bool {
        self.rule == 0
    }
}

/// The reason for which a query of the metrics store has no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// The store did not answer in time, or asked to retry later (429, 5xx).
    #[error("{0}")]
    Unavailable(String),
    /// The store refused the query itself (4xx); a part of it may still be valid.
    #[error("{0}")]
    Refused(String),
    /// The answer carries warnings, so parts of it may be missing.
    #[error("partial answer: {0}")]
    Partial(String),
    /// The answer is not an instant vector, or has an element that can't be read.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
}

impl MetricsError {
    /// Returns the error's kind as one word, for a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            MetricsError::Unavailable(_) => "unavailable",
            MetricsError::Refused(_) => "refused",
            MetricsError::Partial(_) => "partial",
            MetricsError::Unreadable(_) => "unreadable",
        }
    }
}

/// The function that takes the blocks of some workloads as soon as they are counted.
pub type HandBlocks<'a> = dyn FnMut(Vec<(Workload, Block)>) + Send + 'a;

/// A source of blocks for the watched workloads: the sampler over a metrics store, or the demo's world.
#[async_trait]
pub trait BlockSource: Send {
    /// Hands over one block for each watch, from its previous tick to `at`, some at a time; none for a watch that has just
    /// begun.
    async fn tick(&mut self, watches: &[Watch], at: Timestamp, hand: &mut HandBlocks<'_>);
}

/// A directory of the cluster's pods by name. It keeps deleted pods for as long as a rollout may need them.
pub trait PodDirectory: Send + Sync {
    /// Returns the facts about a pod, or `None` if it is unknown.
    fn locate(&self, namespace: &str, pod: &str) -> Option<Arc<PodFacts>>;
    /// Returns the name and port of the Service in front of the workload's pods, for gateway metrics; `None` if no such
    /// Service is known.
    fn service(&self, workload: &Workload) -> Option<(String, u16)>;
    /// Returns the reason why pods that exist may be unknown, as while the API server does not answer; `None` if all are known.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// The facts about a pod that the sampler needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// The uid of the Deployment above its ReplicaSet.
    pub deployment_uid: String,
    /// The value of the pod's label `pod-template-hash`.
    pub pod_hash: String,
    /// The time at which the pod started.
    pub started: Timestamp,
    /// The restarts of each container so far, by its name. A change shows that the pod's counters were reset.
    pub restarts: BTreeMap<String, u32>,
}

impl PodFacts {
    /// Returns the facts about a pod that is known by its name alone: its start and its restarts are not.
    pub fn by_name(deployment_uid: &str, pod_hash: &str) -> PodFacts {
        let (deployment_uid, pod_hash) = (deployment_uid.to_owned(), pod_hash.to_owned());
        PodFacts { deployment_uid, pod_hash, started: Timestamp::UNIX_EPOCH, restarts: BTreeMap::new() }
    }
}

/// The registry of models.
#[async_trait]
pub trait Models: Send + Sync {
    /// Attempts an act of an effect once; repeating it is harmless.
    async fn perform(&self, effect: &EffectId, act: &RegistryAct) -> Outcome;
}

/// A trial run of a rollout's queries, before there is traffic to judge.
#[async_trait]
pub trait QueryProbe: Send + Sync {
    /// Runs every query once and reads the past of the stable. Returns [`Outcome::Probed`] with the queries' problems and
    /// with the calibrations, or a failure if the metrics store did not answer.
    async fn probe(&self, workload: &Workload, probe: &Probe) -> Outcome;
}

/// A source of workload statuses that can send them again. The engine needs that after a partition is taken over.
pub trait StatusSource: Send + Sync {
    /// Sends the status of every watched workload again, and also of those of `known` that do not exist.
    fn resend(&self, known: Vec<Workload>);
}

/// A user whom the API server knows by a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's uid; `None` if it has none.
    pub uid: Option<String>,
    /// The user's groups.
    pub groups: Vec<String>,
    /// Further attributes, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The users of the API server, and their rights to rollouts.
#[async_trait]
pub trait Reviews: Send + Sync {
    /// Returns the user of a bearer token; `None` if the token is not valid.
    ///
    /// # Errors
    /// The API server did not answer.
    async fn user(&self, token: &SecretString) -> Result<Option<User>, Failure>;
    /// Returns whether the user may do `verb` to the rollouts of `scope`.
    ///
    /// # Errors
    /// The API server did not answer.
    async fn may(&self, user: &User, verb: &str, scope: &Scope) -> Result<bool, Failure>;
}

/// A place that notifications are sent to.
#[async_trait]
pub trait NotificationSink: Send + Sync {
    /// Returns the sink's name and subscription. The engine queues the notifications that the subscription includes.
    fn sink(&self) -> Sink;
    /// Attempts to send the notification of `effect` once. A sink that can recognise a repetition does so by the effect's
    /// id; one that has incidents opens and resolves them by the notification's key.
    ///
    /// `receipt` is the newest one that the sink has returned for the same rollout, also before a restart. A sink that shows one
    /// thread per rollout returns the receipt with which it finds the thread again; other sinks return `None`.
    ///
    /// # Errors
    /// A [`NotificationError`], which says whether a retry can help.
    async fn send(
        &self,
        effect: &Effect,
        notification: &Notification,
        receipt: Option<&str>,
    ) -> Result<Option<String>, NotificationError>;
    /// Checks the sink as far as that is possible without sending anything. Returns the result as a clause.
    ///
    /// # Errors
    /// A [`NotificationError`] with the problem.
    async fn check(&self) -> Result<String, NotificationError> {
        Ok("it is set up".to_owned())
    }
}

/// The models of a registry, for people who look at them.
#[async_trait]
pub trait ModelDirectory: Send + Sync {
    /// Returns the first models in the order of their names.
    ///
    /// # Errors
    /// A sentence with the reason why they can't be read.
    async fn list(&self) -> Result<ModelList, String>;
}

/// The first models of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelList {
    /// The place of the registry, as a directory or URL.
    pub place: String,
    /// The models, in the order of their names.
    pub models: Vec<ModelEntry>,
    /// Whether there are more models.
    pub has_more: bool,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// The name.
    pub name: String,
    /// The number of versions.
    pub versions: usize,
    /// The highest version that is neither a pre-release nor withdrawn; `None` if there is none.
    pub latest: Option<String>,
    /// The pointers, one for each environment that has one.
    pub pointers: Vec<ModelPointer>,
}

/// The position of a model's pointer in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPointer {
    /// The environment.
    pub environment: String,
    /// The version that is current; `None` since it was cleared.
    pub version: Option<String>,
    /// The time of the last move.
    pub since: Timestamp,
    /// The person or program that made it, by its own account.
    pub by: String,
    /// The reason that was given; may be empty.
    pub why: String,
}

/// The brokers of topics for other tools.
pub trait OutgoingTopics {
    /// Returns a topic, without a call to a broker.
    ///
    /// # Errors
    /// A sentence with the reason why the topic can't be used.
    fn topic(&self, name: &str) -> Result<Box<dyn OutgoingTopic>, String>;
}

/// A topic that other tools read.
#[async_trait]
pub trait OutgoingTopic: Send + Sync {
    /// Writes the key, value and headers of `record`. The record's other fields are ignored.
    ///
    /// # Errors
    /// A sentence with the reason why no broker has acknowledged it. It may be written all the same.
    async fn write(&self, record: &EventRecord) -> Result<(), String>;

    /// Returns the number of the topic's partitions.
    ///
    /// # Errors
    /// A sentence with the reason, such as that the topic does not exist.
    async fn partitions(&self) -> Result<i32, String>;
}

/// The reason for which a notification was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// The sink is unavailable for now; a retry can succeed.
    #[error("{message}")]
    Later {
        /// The time to wait before a retry, if the sink gave one.
        after: Option<Span>,
        /// The sink's own error message.
        message: String,
    },
    /// The sink refuses the notification; a retry would be refused as well.
    #[error("{0}")]
    Refused(String),
}

/// The longest entry of a journal and the longest decision in bytes, key and value together.
pub const MAX_ENTRY_BYTES: usize = 4 << 20;

/// The content of one commit, which is written completely or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The first offset of the events topic that is not consumed yet; `None` leaves the committed one unchanged.
    pub next_offset: Option<i64>,
    /// The journal entries to write, by key; the value `None` removes an entry.
    pub puts: Vec<(String, Option<Vec<u8>>)>,
    /// The records for the decisions topic, each a key (the workload) and JSON.
    pub decisions: Vec<(String, Vec<u8>)>,
    /// The records for the dead-letter topic, each with its problem.
    pub dead: Vec<(EventRecord, String)>,
    /// The records that belong on other partitions, or on all of them.
    pub rekeyed: Vec<Rekeyed>,
}

/// A record that is produced again with the key and on the partition where it belongs.
#[derive(Debug, Clone)]
pub struct Rekeyed {
    /// The record as it was read.
    pub record: EventRecord,
    /// The key that it is produced with.
    pub key: String,
    /// The partition that it is produced to.
    pub partition: Partition,
}

impl Batch {
    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        let Self { next_offset, puts, decisions, dead, rekeyed } = self;
        next_offset.is_none() && puts.is_empty() && decisions.is_empty() && dead.is_empty() && rekeyed.is_empty()
    }
}

/// The durable log of one partition. Opening it fences the previous owner.
#[async_trait]
pub trait Journal: Send {
    /// Returns all committed entries by key, without the unfinished writes of an earlier owner. It must be the first call
    /// after opening.
    ///
    /// # Errors
    /// A [`JournalError`], which says how the daemon has to react.
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError>;
    /// Returns the reading of the partition's records that [`Journal::restore`] has begun.
    fn reading(&self) -> ReadingId {
        ReadingId::default()
    }
    /// Writes all of `batch`, or nothing. An empty batch is not sent to the journal's store, so that it can succeed even
    /// after another owner has taken over.
    ///
    /// # Errors
    /// A [`JournalError`], which says how the daemon has to react.
    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError>;
    /// Does the work of a journal that commits nothing at the moment, without blocking. Called at least once a minute between
    /// commits.
    fn rest(&mut self) {}
}

/// The journals of all partitions.
#[async_trait]
pub trait Journals: Send + Sync {
    /// Returns the number of partitions, over which a workload's key is hashed.
    fn partitions(&self) -> i32;
    /// Opens the journal of a partition for this process alone and fences the previous owner.
    ///
    /// # Errors
    /// A [`JournalError`], which says how the daemon has to react.
    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError>;
    /// Asks the source of a partition's records to pause, or to go on. Records that are under way may still come. A source whose
    /// senders wait for their receipts need not do anything.
    fn pace(&self, _partition: Partition, _is_paused: bool) {}
    /// Stops a partition of this process whose journal is broken, and sends [`Wake::Assigned`] for it after `delay`, if this process
    /// still owns it. Its records wait meanwhile.
    fn assign_again(&self, partition: Partition, delay: Duration);
}

/// The receiver of the journals of partitions that other processes own. The reader calls it on a thread of its own.
pub trait JournalFollower: Send {
    /// Notes that a partition is read from its beginning: the entries that were read before are void.
    fn begin(&mut self, partition: Partition);
    /// Takes the next committed entry of a partition; `None` removes the entry.
    fn entry(&mut self, partition: Partition, key: &str, value: Option<&[u8]>);
    /// Notes that every entry of a partition was read that was committed at `as_of`.
    fn read(&mut self, partition: Partition, as_of: Stopwatch);
}

/// The failure of a journal's operation, and with it the reaction that it calls for.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process owns the partition now: release it.
    #[error("another process has taken over: {0}")]
    Fenced(String),
    /// It is unknown whether the batch was written: release the partition and wait for [`Wake::Assigned`].
    #[error("{0}")]
    Unknown(String),
    /// This partition waits for a person; the message has the command. Release it and wait for [`Wake::Assigned`]. The
    /// others go on.
    #[error("{0}")]
    Asks(String),
    /// The journal of this partition has wrong settings or unreadable entries: the partition waits until a person has repaired it,
    /// and is tried again by [`Journals::assign_again`]. The others go on.
    #[error("{0}")]
    Broken(String),
}
