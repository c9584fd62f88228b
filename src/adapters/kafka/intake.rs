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

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, Statistics, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::error::{self, KafkaClientError};
use super::hanging;
use super::lag::{self, Blocked};
use super::options::Options;
use super::ownership::{Ownership, PollerCommand};
use super::queue::{FillLevel, WakeQueue};
use super::reader::Readers;
use super::secrets::SecretFiles;
use crate::ports::{Delivery, EventRecord, Partition, ReadingId, Wake};
use crate::{metrics, panics};

/// The time for the daemon to release revoked partitions.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that one poll waits for a record while the queue is empty.
const IDLE_POLL: Duration = Duration::from_millis(50);
/// The time that one poll waits for a record while wakes are queued.
const BUSY_POLL: Duration = Duration::from_millis(5);
/// The time for librdkafka's own threads to set the position of a partition.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);
/// The time to leave the group, beside that of the daemon.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

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
    let parts = Parts {
        options: options.clone(),
        ownership,
        queue: Arc::new(WakeQueue::new(wakes)),
        stop: Arc::default(),
        pulse: Arc::new(Pulse {
            start: Instant::now(),
            millis: AtomicU64::new(0),
            has_no_broker: AtomicBool::new(false),
        }),
    };
    let (stop, pulse) = (Arc::clone(&parts.stop), Arc::clone(&parts.pulse));
    let (result_sender, ended) = oneshot::channel();
    let first = Poller::join(&parts)?;
    std::thread::Builder::new()
        .name("kafka-intake".to_owned())
        .spawn(move || {
            let result = poll_to_the_end(&parts, first);
            // The receiver is gone if the intake was dropped.
            let _ = result_sender.send(result);
        })
        .map_err(|error| KafkaClientError::Consumer(format!("its thread can't be started: {error}")))?;
    Ok(KafkaIntake { stop, pulse, ended })
}

/// Polls until the daemon stops, with a new consumer after each change of the credentials. The partitions are then revoked
/// and assigned again, so the journals get new producers as well.
fn poll_to_the_end(parts: &Parts, mut poller: Poller) -> Result<(), KafkaClientError> {
    loop {
        let result = poller.run();
        poller.leave();
        drop(poller);
        match result? {
            PollEnd::Stopped => return Ok(()),
            PollEnd::NewSecrets => {
                tracing::info!("a file with Kafka credentials has changed; connecting anew");
                poller = Poller::join(parts)?;
            }
        }
    }
}

/// The parts that outlive a consumer.
struct Parts {
    options: Options,
    ownership: Arc<Ownership>,
    queue: Arc<WakeQueue>,
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

/// The callbacks of librdkafka for rebalances and statistics. They run on the polling thread, within `poll`.
struct RebalanceContext {
    options: Options,
    ownership: Arc<Ownership>,
    queue: Arc<WakeQueue>,
    /// The partitions that wait for the end of a transaction.
    blocked: Mutex<Blocked>,
    pulse: Arc<Pulse>,
}

impl ClientContext for RebalanceContext {
    fn stats(&self, statistics: Statistics) {
        let is_connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        self.pulse.has_no_broker.store(!is_connected, Ordering::Relaxed);
        let topics = statistics.topics.into_values();
        for (partition, state) in topics.flat_map(|topic| topic.partitions) {
            if !self.ownership.owns(partition) {
                continue;
            }
            if let Some(records) = lag::lag(&state, self.queue.records_of(partition)) {
                metrics::kafka_lag(partition, records);
            }
            let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(offset) = blocked.note(partition, &state, Instant::now()) {
                self.report(partition, offset);
            }
        }
    }
}

impl RebalanceContext {
    /// Logs a transaction that blocks a partition. A thread of its own looks for its owner, so that the polling goes on.
    fn report(&self, partition: Partition, offset: i64) {
        let options = self.options.clone();
        std::thread::spawn(move || {
            let problem = Readers::connect(&options).map_or_else(
                |error| error,
                |readers| hanging::describe(&options, &readers, &options.topic, partition, offset),
            );
            tracing::error!(partition, %problem, "no event of this partition is read");
        });
    }
}

impl ConsumerContext for RebalanceContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let changed = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, list)
        } else {
            if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS {
                let partitions: Vec<Partition> = list.elements().iter().map(|element| element.partition()).collect();
                // A lost assignment may belong to another member already, so waiting for the release gains nothing.
                let is_lost = consumer.assignment_lost();
                self.revoke(&partitions, is_lost, if is_lost { Duration::ZERO } else { RELEASE_TIMEOUT });
            } else {
                tracing::error!(error = %RDKafkaErrorCode::from(event), "rebalance of the consumer group failed");
            }
            consumer.unassign()
        };
        if let Err(error) = changed {
            tracing::error!(%error, "the assignment of the consumer group can't be followed");
        }
    }
}

impl RebalanceContext {
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        // The journal has the position, and its start sets it. Until then librdkafka has to have one that always exists:
        // it does not start a partition whose committed offset is missing or is not stable.
        list.set_all_offsets(Offset::Beginning)?;
        consumer.assign(list)?;
        // A partition is read only when its journal is restored; see the parent module.
        if let Err(error) = consumer.pause(list) {
            tracing::error!(%error, "assigned partitions can't be paused until their journals are open");
        }
        let Some(membership) = consumer.group_metadata().map(Arc::new) else { return Ok(()) };
        for element in list.elements() {
            self.ownership.assigned(element.partition(), Arc::clone(&membership));
            self.queue.push(Wake::Assigned(element.partition()));
        }
        Ok(())
    }

    /// Revokes partitions and waits until the daemon has released them, for `timeout` at most.
    fn revoke(&self, partitions: &[Partition], is_lost: bool, timeout: Duration) {
        let mut unreleased = Vec::new();
        for &partition in partitions {
            self.ownership.revoked(partition);
            self.queue.drop_records(partition);
            metrics::kafka_lag(partition, 0);
            let (done, released) = oneshot::channel();
            self.queue.push(Wake::Revoked { partition, is_lost, done });
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
    /// Whether this member has a name of its own in the group.
    is_static: bool,
    secrets: SecretFiles,
    consumer: BaseConsumer<RebalanceContext>,
    ownership: Arc<Ownership>,
    queue: Arc<WakeQueue>,
    /// The partitions whose journals are open.
    started: HashMap<Partition, StartedReading>,
    /// The starts that librdkafka was not ready for.
    starting: Vec<PollerCommand>,
    /// The partitions that can't be written for now, each with the instant of its next assignment.
    restarts: Vec<(Partition, Instant)>,
    /// Whether all started partitions are paused because the queue was full.
    paused: bool,
    /// The partitions that the daemon has asked to pause.
    held: HashSet<Partition>,
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

/// The reading of a partition whose journal is open.
struct StartedReading {
    id: ReadingId,
    /// The next offset to pass to the daemon.
    next: i64,
}

/// The reason why the polling of one consumer has ended.
enum PollEnd {
    /// The daemon stops.
    Stopped,
    /// A file with credentials has changed.
    NewSecrets,
}

impl Poller {
    /// Creates a consumer and lets it join the group.
    fn join(parts: &Parts) -> Result<Poller, KafkaClientError> {
        let Parts { options, ownership, queue, stop, pulse } = parts;
        let secrets = SecretFiles::new(options);
        ownership.join();
        let context = RebalanceContext {
            options: options.clone(),
            ownership: Arc::clone(ownership),
            queue: Arc::clone(queue),
            blocked: Mutex::default(),
            pulse: Arc::clone(pulse),
        };
        let consumer = BaseConsumer::from_config_and_context(&options.group_consumer()?, context)
            .map_err(|error| error::client(&error))?;
        consumer.subscribe(&[&options.topic]).map_err(|error| error::client(&error))?;
        Ok(Poller {
            topic: options.topic.clone(),
            is_static: options.instance_id.is_some(),
            secrets,
            consumer,
            ownership: Arc::clone(ownership),
            queue: Arc::clone(queue),
            started: HashMap::new(),
            starting: Vec::new(),
            restarts: Vec::new(),
            paused: false,
            held: HashSet::new(),
            stop: Arc::clone(stop),
            pulse: Arc::clone(pulse),
        })
    }

    fn run(&mut self) -> Result<PollEnd, KafkaClientError> {
        while !self.stop.load(Ordering::SeqCst) && !self.queue.wakes.is_closed() {
            self.pulse.mark();
            if self.secrets.have_changed() {
                match self.consumer.context().options.group_consumer() {
                    Ok(_) => return Ok(PollEnd::NewSecrets),
                    Err(error) => {
                        tracing::error!(%error, "the new Kafka credentials can't be used; the old ones stay in use")
                    }
                }
            }
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
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => self.rejoin()?,
                Some(Err(error)) => tracing::warn!(%error, "polling the consumer failed; it continues"),
                None => {}
            }
            self.started.retain(|partition, _| self.ownership.owns(*partition));
        }
        Ok(PollEnd::Stopped)
    }

    /// Leaves the group and joins it again. librdkafka has given a partition up, because the broker no longer has the next
    /// offset, and does not say which one. Each journal compares its position when it is opened again.
    fn rejoin(&self) -> Result<(), KafkaClientError> {
        tracing::error!("the broker no longer has the next event of a partition; opening all partitions again");
        self.consumer.unsubscribe();
        self.consumer.subscribe(&[&self.topic]).map_err(|error| KafkaClientError::Consumer(error.to_string()))
    }

    /// Revokes all partitions, waits until the daemon has released them, and leaves the group. A member with a name of its own
    /// stays in the group until its session times out: when it is back before, no partition moves. (librdkafka tells the
    /// broker of an `unsubscribe`, also of such a member, and of the end of the consumer only if it has no name.)
    fn leave(&mut self) {
        self.started.clear();
        if self.is_static {
            self.consumer.context().revoke(&self.ownership.partitions(), false, RELEASE_TIMEOUT);
            return;
        }
        self.consumer.unsubscribe();
        let deadline = Instant::now() + RELEASE_TIMEOUT + LEAVE_TIMEOUT;
        while !self.ownership.partitions().is_empty() && Instant::now() < deadline {
            // The callback of the revocation runs within `poll`; after a fatal error it does not run.
            if matches!(self.consumer.poll(IDLE_POLL), Some(Err(KafkaError::MessageConsumptionFatal(_)))) {
                break;
            }
        }
        let remaining = self.ownership.partitions();
        if !remaining.is_empty() {
            self.consumer.context().revoke(&remaining, false, RELEASE_TIMEOUT);
        }
    }

    /// Carries out the commands of the journals, and assigns partitions again whose delay is over.
    fn run_commands(&mut self) {
        let waiting = std::mem::take(&mut self.starting);
        for command in waiting.into_iter().chain(self.ownership.take_commands()) {
            match command {
                // The receiver is gone if opening the journal timed out.
                PollerCommand::Start { done, .. } if done.is_closed() => {}
                PollerCommand::Start { partition, position, reading, done } => {
                    match self.start_partition(partition, position, reading) {
                        // The partition was assigned a moment ago, and librdkafka can't move it yet.
                        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) => {
                            self.starting.push(PollerCommand::Start { partition, position, reading, done });
                        }
                        result => drop(done.send(result.map_err(|error| error.to_string()))),
                    }
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

    /// Resumes a partition from `position`. Its journal is restored, so its records can be handled.
    fn start_partition(&mut self, partition: Partition, position: i64, id: ReadingId) -> Result<(), KafkaError> {
        let mut target = TopicPartitionList::new();
        target.add_partition_offset(&self.topic, partition, Offset::Offset(position))?;
        // No broker is asked: the position is set in this process.
        for element in self.consumer.seek_partitions(target, SEEK_TIMEOUT)?.elements() {
            element.error()?;
        }
        self.started.insert(partition, StartedReading { id, next: position });
        self.held.remove(&partition);
        if self.paused { Ok(()) } else { self.consumer.resume(&self.list(partition)) }
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
pub(super) fn metadata(offset: &TopicPartitionListElem<'_>) -> Option<String> {
    panics::expected(|| offset.metadata().to_owned())
}

/// Passes a record to the daemon. Two kinds of records are dropped: those that were fetched before their partition was
/// stopped, which are read again later; and those that were passed before, because librdkafka was seen to fetch from its
/// first offset again after a pause on a busy broker.
fn pass_on(
    started: &mut HashMap<Partition, StartedReading>,
    ownership: &Ownership,
    queue: &WakeQueue,
    message: &BorrowedMessage<'_>,
) {
    let (partition, offset) = (message.partition(), message.offset());
    match started.get_mut(&partition) {
        Some(reading) if offset >= reading.next && ownership.owns(partition) => {
            reading.next = offset + 1;
            queue.push(Wake::Record(Delivery { reading: reading.id, ..record(message).into() }));
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
pub(super) fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let read = |index| match panics::expected(|| headers.try_get(index)) {
        Some(header) => header.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())),
        None => Some((char::REPLACEMENT_CHARACTER.to_string(), Vec::new())),
    };
    (0..headers.count()).filter_map(read).collect()
}
