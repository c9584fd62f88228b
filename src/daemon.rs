//! The daemon: the partitions that this process owns, and the routing of inputs to their shards.
//!
//! It decides nothing about rollouts. It opens a [`Shard`] for each assigned partition, passes on the inputs of the adapters, and asks
//! the sampler for counts at every turn of the rollouts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bellwether_core::ids::Workload;
use bellwether_core::input::event::Event;
use bellwether_core::measure::block::{Block, Sample};
use bellwether_core::measure::watch::Watch;
use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::clock::{Clock, Stopwatch};
use crate::journal::partition_of;
use crate::metrics;
use crate::ports::{BlockSource, Partition, StatusSource, Wake};
use crate::sampling::{Turn, Turns};
use crate::shard::{Shard, ShardEnd, ShardInput, Shared};
use crate::supervise::{self, Tasks};

/// The inputs that may wait for one shard: about as many as a partition is likely to have of events, and few enough that their senders
/// notice soon.
const INBOX: usize = 1024;

/// The inputs that wait beside the full inbox of a shard before its records are paused. They are resumed below a quarter of it.
const PAUSE_AT: usize = 512;

/// The bytes of records that wait for a shard before its records are paused. They are resumed below a quarter of it.
const PAUSE_AT_BYTES: usize = 8 << 20;

/// The inputs that may wait beside the full inbox of a shard whose source of records can't be paused. While more wait, no input
/// is read from the adapters.
const BACKLOG: usize = 4096;

/// The longest time of a turn of the event loop, which looks for room and for the end of shards.
const BEAT: Span = Span::from_secs(1);
/// The same while inputs wait for a shard or the source of its records is paused.
const PACED_BEAT: Span = Span::from_millis(100);

/// The time for the earlier shard of a partition to end before the next one is opened, and fences it.
const RELEASE_PATIENCE: Duration = Duration::from_secs(30);

/// The time for all shards to end their commits under way when the daemon stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// The delay before a partition with a broken journal is tried again.
const BROKEN_AGAIN: Duration = Duration::from_secs(15);

/// The time for a shard to say what it watches, so that one partition whose journal hangs leaves the others judged.
const WATCH_PATIENCE: Duration = Duration::from_secs(1);

/// The parts of a daemon.
pub struct Parts {
    /// The parts that its shards share.
    pub shared: Shared,
    /// The inputs of the adapters.
    pub wakes: mpsc::Receiver<Wake>,
    /// The source of blocks.
    pub counts: Box<dyn BlockSource>,
    /// The times at which blocks are asked for.
    pub grid: Grid,
    /// The source of statuses, which sends all of them again after a partition was taken over.
    pub statuses: Arc<dyn StatusSource>,
    /// The policies, now and after a reload.
    pub policies: watch::Receiver<Vec<Policy>>,
    /// The heartbeat of the event loop: a stopwatch that is started anew in each turn.
    pub heartbeat: watch::Sender<Stopwatch>,
    /// The token that stops the daemon. Nothing is decided because of it.
    pub stop: CancellationToken,
}

/// The times at which counters are read: the same for up to a thousand rollouts, so that one query serves all of them
/// ([`crate::sampling::turns`]).
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// The time between two readings of a rollout.
    pub interval: Span,
    /// The age at which counters are read, because a scrape and its ingestion take time.
    pub lag: Span,
}

struct OpenShard {
    inbox: mpsc::Sender<ShardInput>,
    /// The inputs that found the inbox full, in their order.
    backlog: VecDeque<ShardInput>,
    /// The bytes of the records that wait in the inbox and the backlog.
    waiting: Arc<AtomicUsize>,
    /// The newest status of each workload whose status found the inbox full: at most one of each workload of the cluster.
    statuses: BTreeMap<Workload, ShardInput>,
    /// Whether the source of the partition's records was asked to pause.
    is_paused: bool,
    task: JoinHandle<(Partition, ShardEnd)>,
}

impl OpenShard {
    /// Hands an input to the shard without waiting for it. A full inbox means that the shard has much to do, or that its journal
    /// hangs: inputs then wait in their order, and of a workload's statuses the newest one. The report that all statuses were sent
    /// is dropped; the next one replaces it.
    fn hand(&mut self, input: ShardInput) {
        self.waiting.fetch_add(input.record_bytes(), Ordering::Relaxed);
        let input = if self.is_waited_for() {
            input
        } else {
            match self.inbox.try_send(input) {
                Err(TrySendError::Full(input)) => input,
                // `close` removes a shard that has ended.
                Ok(()) | Err(TrySendError::Closed(_)) => return,
            }
        };
        match &input {
            // The events that a shard is handed are statuses.
            ShardInput::Event { event, .. } => {
                let workload = event.workload().cloned();
                self.statuses.extend(workload.map(|workload| (workload, input)));
            }
            ShardInput::Sighted(_) => {}
            ShardInput::Record(_)
            | ShardInput::Blocks(_)
            | ShardInput::Performed(_)
            | ShardInput::Policies(_)
            | ShardInput::Watches(..) => self.backlog.push_back(input),
        }
    }

    /// Whether inputs wait beside the full inbox.
    fn is_waited_for(&self) -> bool {
        !self.backlog.is_empty() || !self.statuses.is_empty()
    }

    /// Hands over the inputs that wait, as far as the inbox has room.
    fn flush(&mut self) {
        while let Ok(place) = self.inbox.try_reserve() {
            let status = || self.statuses.pop_first().map(|(_, status)| status);
            let Some(input) = self.backlog.pop_front().or_else(status) else { return };
            place.send(input);
        }
    }

    /// Returns whether the source of the partition's records has to pause or to go on; `None` if it stays as it is.
    fn changed_pace(&mut self) -> Option<bool> {
        let (inputs, bytes) = (self.backlog.len(), self.waiting.load(Ordering::Relaxed));
        let is_paused = if inputs >= PAUSE_AT || bytes >= PAUSE_AT_BYTES {
            true
        } else if inputs < PAUSE_AT / 4 && bytes < PAUSE_AT_BYTES / 4 {
            false
        } else {
            self.is_paused
        };
        (std::mem::replace(&mut self.is_paused, is_paused) != is_paused).then_some(is_paused)
    }
}

/// Runs the daemon until it is stopped.
///
/// # Errors
/// A shard or the sampler has panicked.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let Parts { shared, mut wakes, counts, grid, statuses, mut policies, heartbeat, stop } = parts;
    let mut daemon = Daemon { shared, shards: BTreeMap::new(), releasing: BTreeMap::new(), statuses };
    let (ask, mut asked) = mpsc::channel(1);
    // Unbounded, so that the sampler waits for no shard. It holds the blocks of one tick at most, since this loop answers the next one.
    let (measured, mut blocks) = mpsc::unbounded_channel();
    let clock = daemon.shared.clock.clone();
    let mut tasks = Tasks::default();
    let sampling = sample(counts, grid, clock.clone(), ask, measured);
    tasks.vital("sampler", sampling.map(Ok));
    let result = loop {
        // A missing listener is no reason to stop.
        let _ = heartbeat.send(Stopwatch::start());
        daemon.flush();
        let beat = daemon.beat().after(clock.now());
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            wake = wakes.recv(), if daemon.has_room() => match wake {
                Some(wake) => daemon.wake(wake),
                None => break Ok(()),
            },
            Ok(()) = policies.changed() => {
                let reloaded = policies.borrow_and_update().clone();
                daemon.reload(&reloaded);
            }
            Some((turn, reply)) = asked.recv() => daemon.watches(turn, reply),
            Some(counted) = blocks.recv() => daemon.measured(counted),
            ended = daemon.ended() => if let Err(error) = daemon.close(ended) { break Err(error) },
            ended = tasks.ended() => break Err(ended.into()),
            () = clock.sleep_until(beat) => {}
        }
    };
    drop(tasks);
    daemon.drain().await;
    result
}

struct Daemon {
    shared: Shared,
    shards: BTreeMap<Partition, OpenShard>,
    /// The revoked partitions whose shards may not have ended yet. A shard that is still opened would fence the next one.
    releasing: BTreeMap<Partition, JoinHandle<()>>,
    statuses: Arc<dyn StatusSource>,
}

impl Daemon {
    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Assigned(partition) => self.open(partition),
            Wake::Revoked { partition, is_lost, done } => {
                let ending = self.release(partition);
                self.shared.health.released(partition);
                let board = self.shared.board.clone();
                let releasing = tokio::spawn(async move {
                    ending.await;
                    board.release(partition, is_lost);
                    drop(done);
                });
                self.releasing.insert(partition, releasing);
            }
            Wake::Record(delivery) => {
                let partition = delivery.record.partition;
                self.send(partition, ShardInput::Record(delivery));
            }
            Wake::Observed { workload, status, templates } => {
                let partition = self.home_of(&workload);
                let event = Box::new(Event::Observed { workload, status });
                self.send(partition, ShardInput::Event { event, templates });
            }
            Wake::Sighted(at) => self.shards.values_mut().for_each(|shard| shard.hand(ShardInput::Sighted(at))),
        }
    }

    /// Opens a shard for an assigned partition. An earlier shard of the partition ends first.
    fn open(&mut self, partition: Partition) {
        let earlier = self.release(partition);
        self.shared.health.restoring(partition);
        let (inbox, receiver) = mpsc::channel(INBOX);
        let waiting: Arc<AtomicUsize> = Arc::default();
        let taken = Arc::clone(&waiting);
        let (shared, statuses, health) = (self.shared.clone(), self.statuses.clone(), self.shared.health.clone());
        let task = tokio::spawn(async move {
            earlier.await;
            shared.board.release(partition, true);
            match Shard::open(partition, shared, receiver, taken).await {
                Ok(shard) => {
                    health.restored(partition);
                    statuses.resend(shard.workloads());
                    (partition, shard.run().await)
                }
                Err(end) => (partition, end),
            }
        });
        let backlog = VecDeque::new();
        let shard = OpenShard { inbox, backlog, waiting, statuses: BTreeMap::new(), is_paused: false, task };
        self.shards.insert(partition, shard);
    }

    fn reload(&mut self, policies: &[Policy]) {
        self.shared.blank.set_policies(policies.to_vec());
        for shard in self.shards.values_mut() {
            // A shard that has ended opens again with the new policies.
            shard.hand(ShardInput::Policies(policies.to_vec()));
        }
        self.statuses.resend(Vec::new());
    }

    /// Closes the inbox of a partition's shard. The returned future ends with the shard: the batch under way is then committed
    /// or not, and the shard writes nothing more. The event loop doesn't wait for it, because its journal may hang. A shard that
    /// hangs for longer than [`RELEASE_PATIENCE`] is aborted; a write that it has under way is fenced by the next owner.
    fn release(&mut self, partition: Partition) -> impl Future<Output = ()> + Send + 'static {
        let task = self.shards.remove(&partition).map(|shard| shard.task);
        let releasing = self.releasing.remove(&partition);
        async move {
            if let Some(releasing) = releasing {
                // It has ended in any case, and a panic in it was logged.
                let _ = releasing.await;
            }
            let Some(mut task) = task else { return };
            if tokio::time::timeout(RELEASE_PATIENCE, &mut task).await.is_err() {
                tracing::warn!(partition, "the released partition hangs in its journal; its task is aborted");
                task.abort();
            }
        }
    }

    /// Hands over the inputs that found an inbox full, and paces the source of records of each shard.
    fn flush(&mut self) {
        for (partition, shard) in &mut self.shards {
            shard.flush();
            if let Some(is_paused) = shard.changed_pace() {
                tracing::info!(partition, is_paused, "the partition's records wait for its journal");
                self.shared.journals.pace(*partition, is_paused);
            }
        }
    }

    /// Returns the longest time of a turn of the event loop: short while inputs wait for room or a source to be resumed.
    fn beat(&self) -> Span {
        let is_short = self.shards.values().any(|shard| shard.is_paused || shard.is_waited_for());
        if is_short { PACED_BEAT } else { BEAT }
    }

    /// Whether further inputs may be read.
    fn has_room(&self) -> bool {
        self.shards.values().all(|shard| shard.backlog.len() < BACKLOG)
    }

    /// Hands blocks to the shards of their workloads.
    fn measured(&mut self, blocks: Vec<(Workload, Block)>) {
        let mut by_partition: BTreeMap<Partition, Vec<(Workload, Block)>> = BTreeMap::new();
        for (workload, block) in blocks {
            by_partition.entry(self.home_of(&workload)).or_default().push((workload, block));
        }
        for (partition, blocks) in by_partition {
            self.send(partition, ShardInput::Blocks(blocks));
        }
    }

    /// Returns the partition of a workload.
    fn home_of(&self, workload: &Workload) -> Partition {
        partition_of(workload.to_string().as_bytes(), self.shared.journals.partitions())
    }

    /// Hands an input to a shard. An input for a partition of another process is dropped.
    fn send(&mut self, partition: Partition, input: ShardInput) {
        if let Some(shard) = self.shards.get_mut(&partition) {
            shard.hand(input);
        }
    }

    /// Collects the watches of a turn from every shard, without waiting in the event loop. A shard that is busy with its journal for
    /// longer than [`WATCH_PATIENCE`] is left out of this tick; its next block covers the time since its last one.
    fn watches(&self, turn: Turn, reply: oneshot::Sender<Vec<Watch>>) {
        let answers: FuturesUnordered<_> = self
            .shards
            .iter()
            .map(|(partition, shard)| {
                let (partition, inbox) = (*partition, shard.inbox.clone());
                async move {
                    let watches = tokio::time::timeout(WATCH_PATIENCE, watches_of(&inbox, turn)).await;
                    if watches.is_err() {
                        tracing::warn!(
                            partition,
                            "the partition is busy with its journal and is not judged at this tick"
                        );
                    }
                    watches.ok().flatten().unwrap_or_default()
                }
            })
            .collect();
        tokio::spawn(async move {
            let all: Vec<Vec<Watch>> = answers.collect().await;
            // The sampler is gone if the daemon is stopping.
            let _ = reply.send(all.into_iter().flatten().collect());
        });
    }

    /// Waits for the next shard that ends by itself. `None`: it has panicked.
    async fn ended(&mut self) -> Option<(Partition, ShardEnd)> {
        let mut tasks: FuturesUnordered<_> = self.shards.values_mut().map(|shard| &mut shard.task).collect();
        match tasks.next().await {
            Some(Ok(ended)) => Some(ended),
            Some(Err(panic)) => {
                tracing::error!(%panic, "a shard has panicked");
                None
            }
            None => std::future::pending().await,
        }
    }

    fn close(&mut self, ended: Option<(Partition, ShardEnd)>) -> anyhow::Result<()> {
        let Some((partition, end)) = ended else { anyhow::bail!("a shard has panicked; its journal is whole") };
        self.shards.remove(&partition);
        self.shared.board.release(partition, true);
        self.shared.health.released(partition);
        match end {
            ShardEnd::Closed => Ok(()),
            ShardEnd::Fenced(message) => {
                tracing::warn!(partition, %message, "partition released: another process has taken it over");
                Ok(())
            }
            ShardEnd::Unknown(message) => {
                tracing::warn!(partition, %message, "partition released until it is assigned again");
                self.shared.health.failed(partition, message);
                Ok(())
            }
            ShardEnd::Asks(message) => {
                tracing::error!(partition, %message, "partition stopped until a person has answered");
                self.shared.health.stopped(partition, message);
                Ok(())
            }
            ShardEnd::Broken(message) => {
                tracing::error!(partition, %message, "partition stopped until a person has repaired its journal");
                self.shared.health.stopped(partition, message);
                self.shared.journals.assign_again(partition, BROKEN_AGAIN);
                Ok(())
            }
        }
    }

    /// Lets every shard finish its commit under way, within [`DRAIN_PATIENCE`]. Nothing is decided because of it.
    async fn drain(&mut self) {
        let shards = std::mem::take(&mut self.shards);
        let mut tasks: Vec<JoinHandle<_>> = shards.into_values().map(|shard| shard.task).collect();
        let all = futures::future::join_all(tasks.iter_mut());
        if tokio::time::timeout(DRAIN_PATIENCE, all).await.is_err() {
            let hanging = tasks.iter().filter(|task| !task.is_finished()).count();
            tracing::warn!(hanging, "partitions left whose journals hang; their next owners fence what they write");
            tasks.iter().for_each(JoinHandle::abort);
        }
    }
}

/// Returns the watches of a turn in a shard; `None` if it has ended.
async fn watches_of(inbox: &mpsc::Sender<ShardInput>, turn: Turn) -> Option<Vec<Watch>> {
    let (ask, answered) = oneshot::channel();
    inbox.send(ShardInput::Watches(turn, ask)).await.ok()?;
    answered.await.ok()
}

/// Asks for the watches of every turn, and passes on the blocks that were counted. A turn that lies in the future because the
/// clock was turned back meanwhile is left out, and so is one in which the source panics.
async fn sample(
    mut counts: Box<dyn BlockSource>,
    grid: Grid,
    clock: Arc<dyn Clock>,
    ask: mpsc::Sender<(Turn, oneshot::Sender<Vec<Watch>>)>,
    measured: mpsc::UnboundedSender<Vec<(Workload, Block)>>,
) {
    let mut turns = Turns::new(grid.interval);
    loop {
        let (tick, turn) = turns.next(clock.now());
        clock.sleep_until(tick).await;
        if clock.now() < tick {
            continue;
        }
        let (send, watches) = oneshot::channel();
        if ask.send((turn, send)).await.is_err() {
            return;
        }
        let Ok(watches) = watches.await else { continue };
        let at = grid.lag.before(tick);
        let span = tracing::debug_span!("tick", %at, watches = watches.len());
        metrics::watches(turns.note(turn, watches.len()));
        let mut hand = |blocks: Vec<(Workload, Block)>| {
            let is_counted = |block: &Block| block.metrics.values().any(|sample| !matches!(sample, Sample::Gap(_)));
            if blocks.iter().any(|(_, block)| is_counted(block)) {
                metrics::block(at);
            }
            // The daemon is gone if it is stopping.
            let _ = measured.send(blocks);
        };
        // A panic was logged, and the blocks before it were handed over.
        let _ = supervise::caught("tick", counts.tick(&watches, at, &mut hand).instrument(span)).await;
    }
}
