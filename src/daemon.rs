//! The daemon: which partitions it has, and what goes to which of them.
//!
//! It decides nothing about rollouts. It opens a [`Shard`] for each partition that it is given, hands on what the adapters
//! tell it, and asks the sampler for counts at every tick of one grid that all rollouts share.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::measure::watch::Watch;
use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Stopwatch};
use crate::journal::partition_of;
use crate::ports::{BlockSource, Partition, StatusSource, Wake};
use crate::sampling::next_tick;
use crate::shard::{Shard, ShardEnd, ShardInput, Shared};

/// So much may wait for one shard. It is as much as a partition is likely to have of events, and small enough that
/// whoever fills it feels it soon.
const INBOX: usize = 1024;

/// What a daemon is made of.
pub struct Parts {
    /// What its shards share.
    pub shared: Shared,
    /// Whatever the adapters have to say.
    pub wakes: mpsc::Receiver<Wake>,
    /// What counts for it.
    pub counts: Box<dyn BlockSource>,
    /// When it is asked to.
    pub grid: Grid,
    /// Who is asked to look again when a partition has been taken over.
    pub sights: Arc<dyn StatusSource>,
    /// The policies, now and after a reload.
    pub policies: watch::Receiver<Vec<Policy>>,
    /// When the loop was last seen alive.
    pub heartbeat: watch::Sender<Stopwatch>,
    /// The partitions that are restored and owned.
    pub owned: watch::Sender<Vec<Partition>>,
    /// Stop, and change nothing because of it.
    pub stop: CancellationToken,
}

/// The instants at which counts are read: the same ones for every rollout, so that one question serves all of them.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// From one to the next.
    pub interval: Span,
    /// So far in the past the counters are read, because a scrape and its ingestion take time.
    pub lag: Span,
}

struct Open {
    inbox: mpsc::Sender<ShardInput>,
    task: JoinHandle<(Partition, ShardEnd)>,
}

/// Runs until it is stopped.
///
/// # Errors
/// A partition's journal is broken: the message says how. A person has to look.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let Parts { shared, mut wakes, counts, grid, sights, mut policies, heartbeat, owned, stop } = parts;
    let mut daemon = Daemon { shared, shards: BTreeMap::new(), sights, owned };
    let (tick_tx, mut ticks) = mpsc::channel(1);
    let (blocks_tx, mut blocks) = mpsc::channel::<ShardInput>(INBOX);
    let clock = daemon.shared.clock.clone();
    let sampling_task = tokio::spawn(sample(counts, grid, clock.clone(), tick_tx, blocks_tx));
    let result = loop {
        // Only a mark of life: nobody listening is no reason to die.
        let _ = heartbeat.send(Stopwatch::start());
        let beat = Span::from_secs(1).after(clock.now());
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            wake = wakes.recv() => match wake {
                Some(wake) => daemon.wake(wake).await,
                None => break Ok(()),
            },
            Ok(()) = policies.changed() => {
                let reloaded = policies.borrow_and_update().clone();
                daemon.reload(reloaded).await;
            }
            Some(answer) = ticks.recv() => daemon.watches(answer),
            Some(told) = blocks.recv() => daemon.tell(told).await,
            ended = daemon.ended() => if let Err(error) = daemon.close(ended) { break Err(error) },
            () = clock.sleep_until(beat) => {}
        }
    };
    sampling_task.abort();
    daemon.drain().await;
    result
}

struct Daemon {
    shared: Shared,
    shards: BTreeMap<Partition, Open>,
    sights: Arc<dyn StatusSource>,
    owned: watch::Sender<Vec<Partition>>,
}

impl Daemon {
    async fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Assigned(partition) => self.open(partition).await,
            Wake::Revoked { partition, done } => {
                self.let_go(partition).await;
                self.publish();
                drop(done);
            }
            Wake::Record(record) => {
                let partition = record.partition;
                self.send(partition, ShardInput::Record(record)).await;
            }
            Wake::Observed { workload, status, templates } => {
                self.tell(ShardInput::Observed { workload, status, templates }).await;
            }
        }
    }

    /// Assigned means: open and restore, also where the partition was held before. The earlier shard ends first.
    async fn open(&mut self, partition: Partition) {
        self.let_go(partition).await;
        let (inbox, receiver) = mpsc::channel(INBOX);
        let (shared, sights) = (self.shared.clone(), self.sights.clone());
        let task = tokio::spawn(async move {
            match Shard::open(partition, shared, receiver).await {
                Ok(shard) => {
                    sights.resend();
                    (partition, shard.run().await)
                }
                Err(end) => (partition, end),
            }
        });
        self.shards.insert(partition, Open { inbox, task });
        self.publish();
    }

    async fn reload(&mut self, policies: Vec<Policy>) {
        self.shared.blank.set_policies(policies.clone());
        for shard in self.shards.values() {
            // A shard that has ended opens again with the new ones.
            let _ = shard.inbox.send(ShardInput::Policies(policies.clone())).await;
        }
        self.sights.resend();
    }

    async fn let_go(&mut self, partition: Partition) {
        if let Some(Open { inbox, task }) = self.shards.remove(&partition) {
            drop(inbox);
            // What is under way is committed or not; either way nothing more is written.
            let _ = task.await;
            self.forget(partition);
        }
    }

    /// What was shown of a partition that is not ours any more would be stale from now on.
    fn forget(&self, partition: Partition) {
        let partitions = self.shared.journals.partitions();
        self.shared.shows.forget(|shown| partition_of(shown.workload.as_bytes(), partitions) == partition);
    }

    fn publish(&self) {
        let _ = self.owned.send(self.shards.keys().copied().collect());
    }

    async fn tell(&mut self, told: ShardInput) {
        let workload = match &told {
            ShardInput::Observed { workload, .. } | ShardInput::Measured { workload, .. } => workload,
            ShardInput::Performed(report) => &report.effect.workload,
            ShardInput::Record(_) | ShardInput::Policies(_) | ShardInput::Watches(_) => return,
        };
        let partition = partition_of(workload.to_string().as_bytes(), self.shared.journals.partitions());
        self.send(partition, told).await;
    }

    /// To the shard, if it is ours; what is not ours is somebody else's to see.
    async fn send(&self, partition: Partition, told: ShardInput) {
        if let Some(shard) = self.shards.get(&partition) {
            // A shard that has ended is cleared away by `close`.
            let _ = shard.inbox.send(told).await;
        }
    }

    /// Asks every shard, without waiting for one that is busy with its journal.
    fn watches(&self, answer: oneshot::Sender<Vec<Watch>>) {
        let inboxes: Vec<mpsc::Sender<ShardInput>> = self.shards.values().map(|shard| shard.inbox.clone()).collect();
        tokio::spawn(async move {
            let mut all = Vec::new();
            for inbox in inboxes {
                let (ask, answered) = oneshot::channel();
                if inbox.send(ShardInput::Watches(ask)).await.is_ok()
                    && let Ok(watches) = answered.await
                {
                    all.extend(watches);
                }
            }
            // The sampler has gone: the daemon is stopping.
            let _ = answer.send(all);
        });
    }

    /// The next shard that ends by itself.
    async fn ended(&mut self) -> Option<(Partition, ShardEnd)> {
        let tasks = self.shards.values_mut().map(|shard| &mut shard.task);
        let mut tasks: futures::stream::FuturesUnordered<_> = tasks.collect();
        use futures::StreamExt as _;
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
        self.forget(partition);
        self.publish();
        match end {
            ShardEnd::Closed => Ok(()),
            ShardEnd::Fenced(message) => {
                tracing::warn!(partition, %message, "let go of the partition: another process has taken it over");
                Ok(())
            }
            ShardEnd::Unknown(message) => {
                tracing::warn!(partition, %message, "let go of the partition until it is assigned again");
                Ok(())
            }
            ShardEnd::Broken(message) => anyhow::bail!("partition {partition}: {message}"),
        }
    }

    /// Lets every shard finish what it is writing. Nothing is decided because of it.
    async fn drain(&mut self) {
        for (_, Open { inbox, task }) in std::mem::take(&mut self.shards) {
            drop(inbox);
            let _ = task.await;
        }
        self.publish();
    }
}

/// Asks for watches at every tick of the grid, and hands on what was counted.
async fn sample(
    mut counts: Box<dyn BlockSource>,
    grid: Grid,
    clock: Arc<dyn Clock>,
    ask: mpsc::Sender<oneshot::Sender<Vec<Watch>>>,
    blocks: mpsc::Sender<ShardInput>,
) {
    loop {
        let tick = next_tick(clock.now(), grid.interval);
        clock.sleep_until(tick).await;
        let (send, watches) = oneshot::channel();
        if ask.send(send).await.is_err() {
            return;
        }
        let Ok(watches) = watches.await else { return };
        for (workload, block) in counts.tick(&watches, grid.lag.before(tick)).await {
            if blocks.send(ShardInput::Measured { workload, block }).await.is_err() {
                return;
            }
        }
    }
}
