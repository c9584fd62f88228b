//! The member of the consumer group: one thread that polls, and waits for nobody.
//!
//! A consumer that is not polled is thrown out of its group, so nothing the daemon does may hold up the polling. Records
//! go into a bounded channel; when it is full they wait here in order, and when enough of them wait the partitions are
//! paused until the daemon has caught up. Not sooner: a pause throws away what was fetched ahead. The one thing the thread does wait for is a daemon that has to let go of a revoked partition, and for
//! that it waits five seconds at most: the broker refuses late writes anyway.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls, on threads of their own; no decision sees them"
)]

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, Statistics, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::error::{self, KafkaClientError};
use super::options::Options;
use super::ownership::{Command, Ownership};
use crate::metrics;
use crate::ports::{EventRecord, Partition, Wake};

/// How long a daemon may take to let go of what is revoked.
const LET_GO: Duration = Duration::from_secs(5);
/// How long one poll waits for a record, when nothing waits for room in the channel …
const IDLE_POLL: Duration = Duration::from_millis(50);
/// … and when something does.
const BUSY_POLL: Duration = Duration::from_millis(5);
/// So many records may wait for room in the channel before the partitions are paused …
const MANY: usize = 256;
/// … or so many bytes; they flow again when a quarter of either is left.
const HEAVY: usize = 8 << 20;
/// How long a question to the broker about committed offsets may take.
const ASK: Duration = Duration::from_secs(5);

/// A running member of the group.
pub struct KafkaIntake {
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    ended: oneshot::Receiver<Result<(), KafkaClientError>>,
}

impl KafkaIntake {
    /// Waits until the consumer has ended: `Ok` after [`KafkaIntake::stop`], else the reason why it can't go on. A daemon
    /// whose intake has ended is to end as well.
    pub async fn ended(&mut self) -> Result<(), KafkaClientError> {
        let ended = (&mut self.ended).await;
        ended.unwrap_or_else(|_| Err(KafkaClientError::Consumer("its thread panicked".to_owned())))
    }

    /// Leaves the group: everything is revoked, and the daemon is told.
    pub async fn stop(mut self) -> Result<(), KafkaClientError> {
        self.stop.store(true, Ordering::SeqCst);
        self.ended().await
    }

    /// When the thread last polled, for whoever looks after the daemon's health.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }
}

impl Drop for KafkaIntake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// When the consumer was last polled.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    millis: AtomicU64,
}

impl Pulse {
    fn mark(&self) {
        self.millis.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long ago. More than a few seconds mean that the thread hangs.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.millis.load(Ordering::Relaxed)))
    }
}

/// Starts the thread.
pub(super) fn start(
    options: &Options,
    ownership: Arc<Ownership>,
    wakes: mpsc::Sender<Wake>,
) -> Result<KafkaIntake, KafkaClientError> {
    ownership.join();
    let gate = Arc::new(Gate { wakes, waiting: Mutex::default() });
    let context = Rebalances { ownership: Arc::clone(&ownership), gate: Arc::clone(&gate) };
    let consumer = BaseConsumer::from_config_and_context(&options.group_consumer()?, context)
        .map_err(|error| error::client(&error))?;
    consumer.subscribe(&[&options.topic]).map_err(|error| error::client(&error))?;
    let (stop, (told, ended)) = (Arc::new(AtomicBool::new(false)), oneshot::channel());
    let pulse = Arc::new(Pulse { start: Instant::now(), millis: AtomicU64::new(0) });
    let mut poller = Poller {
        topic: options.topic.clone(),
        consumer,
        ownership,
        gate,
        started: HashMap::new(),
        again: Vec::new(),
        choked: false,
        stop: Arc::clone(&stop),
        pulse: Arc::clone(&pulse),
    };
    std::thread::Builder::new()
        .name("kafka-intake".to_owned())
        .spawn(move || {
            let result = poller.run();
            poller.leave();
            drop(poller);
            // Nobody may be listening any more.
            let _ = told.send(result);
        })
        .map_err(|error| KafkaClientError::Consumer(format!("its thread can't be started: {error}")))?;
    Ok(KafkaIntake { stop, pulse, ended })
}

/// The way to the daemon: the channel, and what waits for room in it. Wakes are never reordered.
struct Gate {
    wakes: mpsc::Sender<Wake>,
    waiting: Mutex<VecDeque<Wake>>,
}

impl Gate {
    fn push(&self, wake: Wake) {
        self.waiting().push_back(wake);
        self.flush();
    }

    /// Sends what there is room for. What still waits, as a share of what may.
    fn flush(&self) -> Load {
        let mut waiting = self.waiting();
        while let Some(wake) = waiting.pop_front() {
            match self.wakes.try_send(wake) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(wake)) => {
                    waiting.push_front(wake);
                    break;
                }
                // The daemon is gone: nothing matters any more.
                Err(mpsc::error::TrySendError::Closed(_)) => waiting.clear(),
            }
        }
        Load::of(&waiting)
    }

    /// Drops the records of a partition that have not been sent: they will be read again, by whoever owns it then.
    fn forget(&self, partition: Partition) {
        self.waiting().retain(|wake| !matches!(wake, Wake::Record(record) if record.partition == partition));
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Wake>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much waits for room in the channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    None,
    Light,
    /// Between the two marks: what flows goes on, what is paused stays so.
    Middling,
    Full,
}

impl Load {
    fn of(waiting: &VecDeque<Wake>) -> Load {
        let bytes: usize =
            waiting.iter().map(|wake| if let Wake::Record(record) = wake { size(record) } else { 0 }).sum();
        match waiting.len() {
            0 => Load::None,
            many if many >= MANY || bytes >= HEAVY => Load::Full,
            some if some >= MANY / 4 || bytes >= HEAVY / 4 => Load::Middling,
            _ => Load::Light,
        }
    }
}

fn size(record: &EventRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len) + headers
}

/// Hears of rebalances, on the polling thread, inside `poll`.
struct Rebalances {
    ownership: Arc<Ownership>,
    gate: Arc<Gate>,
}

impl ClientContext for Rebalances {
    fn stats(&self, statistics: Statistics) {
        let topics = statistics.topics.into_values();
        for (partition, state) in topics.flat_map(|topic| topic.partitions) {
            // Negative: not known, or not ours any more. -1 is the partition of what has none.
            if partition >= 0 {
                metrics::kafka_lag(partition, state.consumer_lag.max(0));
            }
        }
    }
}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let partitions: Vec<Partition> = list.elements().iter().map(|element| element.partition()).collect();
            // What is lost already is somebody else's: the daemon is told, but there is nothing to wait for.
            let patience = if consumer.assignment_lost() { Duration::ZERO } else { LET_GO };
            self.revoke(&partitions, patience);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.assign(consumer, list),
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::error!(%error, "rebalancing failed"),
        }
    }
}

impl Rebalances {
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        // Nothing flows before the journal is open; see the module above this one.
        if let Err(error) = consumer.pause(list) {
            tracing::error!(%error, "assigned partitions can't be paused");
        }
        let Some(membership) = consumer.group_metadata().map(Arc::new) else { return };
        for element in list.elements() {
            self.ownership.assigned(element.partition(), Arc::clone(&membership));
            self.gate.push(Wake::Assigned(element.partition()));
        }
    }

    fn revoke(&self, partitions: &[Partition], patience: Duration) {
        let mut letting_go = Vec::new();
        for &partition in partitions {
            self.ownership.revoked(partition);
            self.gate.forget(partition);
            let (done, gone) = oneshot::channel();
            self.gate.push(Wake::Revoked { partition, done });
            letting_go.push(gone);
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            self.gate.flush();
            letting_go.retain_mut(|gone| matches!(gone.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
            if letting_go.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        tracing::warn!(partitions = letting_go.len(), "revoked partitions are given up before the daemon let go");
    }
}

/// The polling thread's own state.
struct Poller {
    topic: String,
    consumer: BaseConsumer<Rebalances>,
    ownership: Arc<Ownership>,
    gate: Arc<Gate>,
    /// Partitions whose journal is open, so that their records may flow, and the least offset that is still wanted.
    started: HashMap<Partition, i64>,
    /// Partitions in doubt, and when they are assigned again.
    again: Vec<(Partition, Instant)>,
    /// The daemon is behind: everything is paused.
    choked: bool,
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

impl Poller {
    fn run(&mut self) -> Result<(), KafkaClientError> {
        while !self.stop.load(Ordering::SeqCst) && !self.gate.wakes.is_closed() {
            self.pulse.mark();
            self.obey();
            let load = self.gate.flush();
            match load {
                Load::Full => self.choke(true),
                Load::Middling => {}
                Load::Light | Load::None => self.choke(false),
            }
            match self.consumer.poll(if load == Load::None { IDLE_POLL } else { BUSY_POLL }) {
                Some(Ok(message)) => hand_on(&mut self.started, &self.ownership, &self.gate, &message),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(KafkaClientError::Consumer(format!("{code}; is kafka.instance-id used twice?")));
                }
                Some(Err(error)) => tracing::warn!(%error, "the consumer goes on"),
                None => {}
            }
            self.started.retain(|partition, _| self.ownership.owns(*partition));
        }
        Ok(())
    }

    /// Gives everything back, and lets the daemon know.
    fn leave(&mut self) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LET_GO + ASK;
        while !self.ownership.partitions().is_empty() && Instant::now() < deadline {
            // The revocation comes through here. After a fatal error it does not come.
            if matches!(self.consumer.poll(IDLE_POLL), Some(Err(KafkaError::MessageConsumptionFatal(_)))) {
                break;
            }
        }
        let left = self.ownership.partitions();
        if !left.is_empty() {
            self.consumer.context().revoke(&left, LET_GO);
        }
    }

    /// What the journals have asked for.
    fn obey(&mut self) {
        for command in self.ownership.take_commands() {
            match command {
                Command::Start { partition, wind_back, done } => {
                    let result = self.start_flow(partition, wind_back);
                    // The daemon may have given up on opening.
                    let _ = done.send(result.map_err(|error| error.to_string()));
                }
                Command::Again { partition, at } => self.stop_flow(partition, at),
            }
        }
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.again).into_iter().partition(|(_, at)| *at <= now);
        self.again = later;
        for (partition, _) in due.into_iter().filter(|(partition, _)| self.ownership.owns(*partition)) {
            self.gate.push(Wake::Assigned(partition));
        }
    }

    fn start_flow(&mut self, partition: Partition, wind_back: bool) -> Result<(), KafkaError> {
        if wind_back {
            // The open transaction is over by now (the journal is open), so the committed offset is the last word.
            // Asking for it holds up the polling, though never for longer than the group tolerates.
            let committed = self.consumer.committed_offsets(self.list(partition), ASK)?;
            let offset =
                committed.find_partition(&self.topic, partition).map_or(Offset::Invalid, |found| found.offset());
            let mut target = TopicPartitionList::new();
            let offset = if matches!(offset, Offset::Offset(_)) { offset } else { Offset::Beginning };
            target.add_partition_offset(&self.topic, partition, offset)?;
            for element in self.consumer.seek_partitions(target, ASK)?.elements() {
                element.error()?;
            }
        }
        self.started.insert(partition, 0);
        if self.choked { Ok(()) } else { self.consumer.resume(&self.list(partition)) }
    }

    fn stop_flow(&mut self, partition: Partition, until: Instant) {
        self.started.remove(&partition);
        self.gate.forget(partition);
        if let Err(error) = self.consumer.pause(&self.list(partition)) {
            tracing::warn!(%error, partition, "a partition can't be paused");
        }
        self.again.retain(|(waiting, _)| *waiting != partition);
        self.again.push((partition, until));
    }

    /// Pauses everything when the daemon is behind, and lets it flow again when it has caught up.
    fn choke(&mut self, choked: bool) {
        if choked == self.choked {
            return;
        }
        let mut list = TopicPartitionList::new();
        for partition in self.started.keys() {
            list.add_partition(&self.topic, *partition);
        }
        match if choked { self.consumer.pause(&list) } else { self.consumer.resume(&list) } {
            Ok(()) => self.choked = choked,
            // Tried again with the next poll.
            Err(error) => tracing::warn!(%error, choked, "partitions can't be paused or resumed"),
        }
    }

    fn list(&self, partition: Partition) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        list
    }
}

/// Passes a record to the daemon, unless it was on its way when its partition was stopped (it is read again later), or
/// has been passed before: after a pause on a busy broker, the client was seen to fetch once more from where it had begun.
fn hand_on(started: &mut HashMap<Partition, i64>, ownership: &Ownership, gate: &Gate, message: &BorrowedMessage<'_>) {
    let (partition, offset) = (message.partition(), message.offset());
    match started.get_mut(&partition) {
        Some(next) if offset >= *next && ownership.owns(partition) => {
            *next = offset + 1;
            gate.push(Wake::Record(record(message)));
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
        answer: None,
    }
}

/// The headers. The client library panics on a name that is not UTF-8, and any producer can send one; such a header is
/// kept as one without a readable name.
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
