//! The member of the consumer group: a thread that polls the consumer and passes records to the daemon.
//!
//! The group expels a consumer that is not polled, so a slow daemon must not delay the polling. Records go into a bounded
//! channel. When it is full they queue here in order, and when many are queued the partitions are paused until the daemon
//! has caught up. They are not paused earlier, because a pause discards the records that were fetched ahead.
//!
//! The thread waits for the daemon only when a partition is revoked, until the daemon has released it, and for five
//! seconds at most. Later writes of the daemon are refused by the broker.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on a thread of its own; the engine does not see them"
)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, Statistics, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::error::{self, KafkaClientError};
use super::options::Options;
use super::ownership::{Ownership, PollerCommand, StartFailure};
use crate::metrics;
use crate::ports::{Delivery, EventRecord, Partition, Wake};

/// The time for the daemon to release revoked partitions.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that one poll waits for a record while the queue is empty.
const IDLE_POLL: Duration = Duration::from_millis(50);
/// The time that one poll waits for a record while wakes are queued.
const BUSY_POLL: Duration = Duration::from_millis(5);
/// The number of queued wakes at which the partitions are paused. They are resumed below a quarter of it.
const PAUSE_AT_WAKES: usize = 256;
/// The bytes of queued records at which the partitions are paused. They are resumed below a quarter of it.
const PAUSE_AT_BYTES: usize = 8 << 20;
/// The time for the broker to answer a query for committed offsets or to seek.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);

/// A member of the consumer group, polled by a thread. Dropping it stops the thread.
pub struct KafkaIntake {
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    ended: oneshot::Receiver<Result<(), KafkaClientError>>,
}

impl KafkaIntake {
    /// Waits until the consumer has ended. A daemon has to end when its intake has ended.
    ///
    /// # Errors
    /// If the consumer ended for another reason than [`KafkaIntake::stop`] or the end of the daemon.
    pub async fn ended(&mut self) -> Result<(), KafkaClientError> {
        let ended = (&mut self.ended).await;
        ended.unwrap_or_else(|_| Err(KafkaClientError::Consumer("its thread panicked".to_owned())))
    }

    /// Leaves the group: all partitions are revoked, and the daemon gets a `Wake::Revoked` for each.
    ///
    /// # Errors
    /// Those of [`KafkaIntake::ended`].
    pub async fn stop(mut self) -> Result<(), KafkaClientError> {
        self.stop.store(true, Ordering::SeqCst);
        self.ended().await
    }

    /// Returns the time of the last poll, for the daemon's health check.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }
}

impl Drop for KafkaIntake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// The time of the consumer's last poll, and its connections.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    /// The milliseconds from `start` to the last poll.
    millis: AtomicU64,
    /// Whether the last statistics, which are at most five seconds old, have no connected broker.
    has_no_broker: AtomicBool,
}

impl Pulse {
    fn mark(&self) {
        self.millis.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the time since the last poll. The thread hangs if it is more than a few seconds.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.millis.load(Ordering::Relaxed)))
    }

    /// Returns whether the consumer is connected to no broker.
    pub fn has_no_broker(&self) -> bool {
        self.has_no_broker.load(Ordering::Relaxed)
    }
}

/// Joins the consumer group and starts the polling thread.
pub(super) fn start(
    options: &Options,
    ownership: Arc<Ownership>,
    wakes: mpsc::Sender<Wake>,
) -> Result<KafkaIntake, KafkaClientError> {
    ownership.join();
    let queue = Arc::new(WakeQueue { wakes, queued: Mutex::default() });
    let pulse =
        Arc::new(Pulse { start: Instant::now(), millis: AtomicU64::new(0), has_no_broker: AtomicBool::new(false) });
    let context =
        RebalanceContext { ownership: Arc::clone(&ownership), queue: Arc::clone(&queue), pulse: Arc::clone(&pulse) };
    let consumer = BaseConsumer::from_config_and_context(&options.group_consumer()?, context)
        .map_err(|error| error::client(&error))?;
    consumer.subscribe(&[&options.topic]).map_err(|error| error::client(&error))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (result_sender, ended) = oneshot::channel();
    let mut poller = Poller {
        topic: options.topic.clone(),
        cluster: options.cluster.clone(),
        group: options.group.clone(),
        consumer,
        ownership,
        queue,
        started: HashMap::new(),
        restarts: Vec::new(),
        paused: false,
        held: HashSet::new(),
        stop: Arc::clone(&stop),
        pulse: Arc::clone(&pulse),
    };
    std::thread::Builder::new()
        .name("kafka-intake".to_owned())
        .spawn(move || {
            let result = poller.run();
            poller.leave();
            drop(poller);
            // The receiver is gone if the intake was dropped.
            let _ = result_sender.send(result);
        })
        .map_err(|error| KafkaClientError::Consumer(format!("its thread can't be started: {error}")))?;
    Ok(KafkaIntake { stop, pulse, ended })
}

/// The daemon's channel, and the wakes that wait for room in it, in order.
struct WakeQueue {
    wakes: mpsc::Sender<Wake>,
    queued: Mutex<VecDeque<Wake>>,
}

impl WakeQueue {
    fn push(&self, wake: Wake) {
        self.queued().push_back(wake);
        self.flush();
    }

    /// Sends wakes until the channel is full or the queue is empty. Returns the fill level of the queue.
    fn flush(&self) -> FillLevel {
        let mut queued = self.queued();
        while let Some(wake) = queued.pop_front() {
            match self.wakes.try_send(wake) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(wake)) => {
                    queued.push_front(wake);
                    break;
                }
                // The daemon has ended.
                Err(mpsc::error::TrySendError::Closed(_)) => queued.clear(),
            }
        }
        FillLevel::of(&queued)
    }

    /// Drops the queued records of a partition. The partition's next owner reads them again.
    fn drop_records(&self, partition: Partition) {
        self.queued()
            .retain(|wake| !matches!(wake, Wake::Record(Delivery { record, .. }) if record.partition == partition));
    }

    /// Locks the queue. Poisoning is harmless: each statement leaves the queue consistent.
    fn queued(&self) -> MutexGuard<'_, VecDeque<Wake>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fill level of the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FillLevel {
    Empty,
    /// Below a quarter of both bounds: paused partitions are resumed.
    Low,
    /// Between a quarter of a bound and the bound: partitions stay paused or resumed as they are.
    Medium,
    /// At a bound: the partitions are paused.
    Full,
}

impl FillLevel {
    fn of(queued: &VecDeque<Wake>) -> FillLevel {
        let bytes: usize = queued
            .iter()
            .map(|wake| if let Wake::Record(Delivery { record, .. }) = wake { size(record) } else { 0 })
            .sum();
        match queued.len() {
            0 => FillLevel::Empty,
            wakes if wakes >= PAUSE_AT_WAKES || bytes >= PAUSE_AT_BYTES => FillLevel::Full,
            wakes if wakes >= PAUSE_AT_WAKES / 4 || bytes >= PAUSE_AT_BYTES / 4 => FillLevel::Medium,
            _ => FillLevel::Low,
        }
    }
}

/// Returns the bytes of a record: its key, value and headers.
fn size(record: &EventRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len) + headers
}

/// The callbacks of librdkafka for rebalances and statistics. They run on the polling thread, within `poll`.
struct RebalanceContext {
    ownership: Arc<Ownership>,
    queue: Arc<WakeQueue>,
    pulse: Arc<Pulse>,
}

impl ClientContext for RebalanceContext {
    fn stats(&self, statistics: Statistics) {
        let is_connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        self.pulse.has_no_broker.store(!is_connected, Ordering::Relaxed);
        let topics = statistics.topics.into_values();
        for (partition, state) in topics.flat_map(|topic| topic.partitions) {
            // A negative lag is unknown, and the partition -1 holds messages without a partition.
            if partition >= 0 {
                metrics::kafka_lag(partition, state.consumer_lag.max(0));
            }
        }
    }
}

impl ConsumerContext for RebalanceContext {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let partitions: Vec<Partition> = list.elements().iter().map(|element| element.partition()).collect();
            // A lost assignment may belong to another member already, so waiting for the release gains nothing.
            let timeout = if consumer.assignment_lost() { Duration::ZERO } else { RELEASE_TIMEOUT };
            self.revoke(&partitions, timeout);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.assign(consumer, list),
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::error!(%error, "rebalance of the consumer group failed"),
        }
    }
}

impl RebalanceContext {
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        // A partition is read only when its journal is open; see the parent module.
        if let Err(error) = consumer.pause(list) {
            tracing::error!(%error, "assigned partitions can't be paused until their journals are open");
        }
        let Some(membership) = consumer.group_metadata().map(Arc::new) else { return };
        for element in list.elements() {
            self.ownership.assigned(element.partition(), Arc::clone(&membership));
            self.queue.push(Wake::Assigned(element.partition()));
        }
    }

    /// Revokes partitions and waits until the daemon has released them, for `timeout` at most.
    fn revoke(&self, partitions: &[Partition], timeout: Duration) {
        let mut unreleased = Vec::new();
        for &partition in partitions {
            self.ownership.revoked(partition);
            self.queue.drop_records(partition);
            let (done, released) = oneshot::channel();
            self.queue.push(Wake::Revoked { partition, done });
            unreleased.push(released);
        }
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            self.queue.flush();
            unreleased.retain_mut(|released| matches!(released.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
            if unreleased.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        tracing::warn!(partitions = unreleased.len(), "revoked partitions given back before the daemon released them");
    }
}

/// The state of the polling thread.
struct Poller {
    /// The events topic.
    topic: String,
    /// The name of the cluster; empty if it is not known.
    cluster: String,
    group: String,
    consumer: BaseConsumer<RebalanceContext>,
    ownership: Arc<Ownership>,
    queue: Arc<WakeQueue>,
    /// The partitions whose journals are open, each with the next offset to pass to the daemon.
    started: HashMap<Partition, i64>,
    /// The partitions whose last write has an unknown outcome, each with the instant of its next assignment.
    restarts: Vec<(Partition, Instant)>,
    /// Whether all started partitions are paused because the queue was full.
    paused: bool,
    /// The partitions that the daemon has asked to pause.
    held: HashSet<Partition>,
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

impl Poller {
    fn run(&mut self) -> Result<(), KafkaClientError> {
        while !self.stop.load(Ordering::SeqCst) && !self.queue.wakes.is_closed() {
            self.pulse.mark();
            self.run_commands();
            let level = self.queue.flush();
            match level {
                FillLevel::Full => self.set_paused(true),
                FillLevel::Medium => {}
                FillLevel::Low | FillLevel::Empty => self.set_paused(false),
            }
            match self.consumer.poll(if level == FillLevel::Empty { IDLE_POLL } else { BUSY_POLL }) {
                Some(Ok(message)) => pass_on(&mut self.started, &self.ownership, &self.queue, &message),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(KafkaClientError::Consumer(format!("{code}; is kafka.instance-id used twice?")));
                }
                Some(Err(error)) => tracing::warn!(%error, "polling the consumer failed; it continues"),
                None => {}
            }
            self.started.retain(|partition, _| self.ownership.owns(*partition));
        }
        Ok(())
    }

    /// Leaves the group: revokes all partitions and waits until the daemon has released them.
    fn leave(&mut self) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + RELEASE_TIMEOUT + BROKER_TIMEOUT;
        while !self.ownership.partitions().is_empty() && Instant::now() < deadline {
            // The callback of the revocation runs within `poll`; after a fatal error it does not run.
            if matches!(self.consumer.poll(IDLE_POLL), Some(Err(KafkaError::MessageConsumptionFatal(_)))) {
                break;
            }
        }
        let remaining = self.ownership.partitions();
        if !remaining.is_empty() {
            self.consumer.context().revoke(&remaining, RELEASE_TIMEOUT);
        }
    }

    /// Carries out the commands of the journals, and assigns partitions again whose delay is over.
    fn run_commands(&mut self) {
        for command in self.ownership.take_commands() {
            match command {
                PollerCommand::Start { partition, rewind, done } => {
                    // The receiver is gone if opening the journal timed out.
                    let _ = done.send(self.start_partition(partition, rewind));
                }
                PollerCommand::Restart { partition, at } => self.stop_partition(partition, at),
                PollerCommand::Pace { partition, is_paused } => self.pace(partition, is_paused),
            }
        }
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.restarts).into_iter().partition(|(_, at)| *at <= now);
        self.restarts = later;
        for (partition, _) in due.into_iter().filter(|(partition, _)| self.ownership.owns(*partition)) {
            self.queue.push(Wake::Assigned(partition));
        }
    }

    /// Resumes a partition, from its committed offset if `rewind`.
    fn start_partition(&mut self, partition: Partition, rewind: bool) -> Result<(), StartFailure> {
        let unknown = |error: KafkaError| StartFailure::Unknown(error.to_string());
        // The journal is open, so the earlier transaction has ended and the committed offset is final. These calls block
        // the polling for at most two timeouts, which is less than the group tolerates.
        let committed = self.consumer.committed_offsets(self.list(partition), BROKER_TIMEOUT).map_err(unknown)?;
        let committed = committed.find_partition(&self.topic, partition);
        if let Some(other) = committed.as_ref().and_then(metadata).filter(|other| self.is_foreign(other)) {
            return Err(StartFailure::Foreign(format!(
                "group {} belongs to cluster {other}, and this daemon acts in cluster {}; give each cluster its own kafka.group",
                self.group, self.cluster
            )));
        }
        if rewind {
            let offset = committed.map_or(Offset::Invalid, |found| found.offset());
            self.rewind(partition, offset).map_err(unknown)?;
        }
        self.started.insert(partition, 0);
        self.held.remove(&partition);
        if self.paused { Ok(()) } else { self.consumer.resume(&self.list(partition)).map_err(unknown) }
    }

    /// Whether an offset was committed in another cluster. Both names are empty where they are not known.
    fn is_foreign(&self, cluster: &str) -> bool {
        !cluster.is_empty() && !self.cluster.is_empty() && cluster != self.cluster
    }

    /// Moves a partition back to its committed offset, or to its beginning if it has none.
    fn rewind(&self, partition: Partition, committed: Offset) -> Result<(), KafkaError> {
        let mut target = TopicPartitionList::new();
        let offset = if matches!(committed, Offset::Offset(_)) { committed } else { Offset::Beginning };
        target.add_partition_offset(&self.topic, partition, offset)?;
        for element in self.consumer.seek_partitions(target, BROKER_TIMEOUT)?.elements() {
            element.error()?;
        }
        Ok(())
    }

    /// Pauses a partition and schedules its next assignment for `restart_at`.
    fn stop_partition(&mut self, partition: Partition, restart_at: Instant) {
        self.started.remove(&partition);
        self.queue.drop_records(partition);
        if let Err(error) = self.consumer.pause(&self.list(partition)) {
            tracing::warn!(%error, partition, "a partition can't be paused");
        }
        self.restarts.retain(|(scheduled, _)| *scheduled != partition);
        self.restarts.push((partition, restart_at));
    }

    /// Pauses or resumes one partition, as the daemon asks.
    fn pace(&mut self, partition: Partition, is_paused: bool) {
        let list = self.list(partition);
        let result = if is_paused {
            self.held.insert(partition);
            self.consumer.pause(&list)
        } else if self.held.remove(&partition) && self.started.contains_key(&partition) && !self.paused {
            self.consumer.resume(&list)
        } else {
            Ok(())
        };
        if let Err(error) = result {
            tracing::warn!(%error, partition, is_paused, "a partition can't be paused or resumed");
        }
    }

    /// Pauses or resumes all started partitions, but those that the daemon has asked to pause.
    fn set_paused(&mut self, paused: bool) {
        if paused == self.paused {
            return;
        }
        let mut list = TopicPartitionList::new();
        for partition in self.started.keys().filter(|partition| !self.held.contains(partition)) {
            list.add_partition(&self.topic, *partition);
        }
        match if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) } {
            Ok(()) => self.paused = paused,
            Err(error) => tracing::warn!(%error, paused, "partitions can't be paused or resumed; retrying"),
        }
    }

    /// Returns a list with one partition of the events topic.
    fn list(&self, partition: Partition) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        list
    }
}

/// Returns the text that was committed with an offset: the name of the committer's cluster. rdkafka panics on one that is not
/// UTF-8, and such a text is not ours.
fn metadata(offset: &TopicPartitionListElem<'_>) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| offset.metadata().to_owned())).ok()
}

/// Passes a record to the daemon. Two kinds of records are dropped: those that were fetched before their partition was
/// stopped, which are read again later; and those that were passed before, because librdkafka was seen to fetch from its
/// first offset again after a pause on a busy broker.
fn pass_on(
    started: &mut HashMap<Partition, i64>,
    ownership: &Ownership,
    queue: &WakeQueue,
    message: &BorrowedMessage<'_>,
) {
    let (partition, offset) = (message.partition(), message.offset());
    match started.get_mut(&partition) {
        Some(next) if offset >= *next && ownership.owns(partition) => {
            *next = offset + 1;
            queue.push(Wake::Record(record(message).into()));
        }
        _ => {}
    }
}

fn record(message: &BorrowedMessage<'_>) -> EventRecord {
    EventRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers(message),
    }
}

/// Returns the headers of a message. rdkafka panics on a header name that is not UTF-8, and any producer can send one;
/// such a header gets the name U+FFFD and no value.
fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let read = |index| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
        match header {
            Ok(header) => header.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())),
            Err(_) => Some((char::REPLACEMENT_CHARACTER.to_string(), Vec::new())),
        }
    };
    (0..headers.count()).filter_map(read).collect()
}
