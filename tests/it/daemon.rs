//! The daemon itself, in a world in memory: in which order things happen, and what is left when some of them fail.
//!
//! The journal is the real one in a file, seen through a pane: it writes down what was committed, and fails when it is told
//! to. The cluster is the model that the demo has, seen likewise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bellwether::adapters::memory::MemoryWorld;
use bellwether::clock::{Clock, FastClock, Stopwatch};
use bellwether::config::{self, Sources};
use bellwether::daemon::{self, Grid, Parts};
use bellwether::events::cdevents::{REQUESTED, wrap};
use bellwether::events::decode::DecodeOptions;
use bellwether::events::mapping::Mapping;
use bellwether::journal::embedded::{Embedded, read_decisions};
use bellwether::perform::Executor;
use bellwether::ports::{
    Batch, Cluster, Epoch, EventRecord, Journal, JournalError, Journals, Partition, PodTemplate, Receipt, Wake,
};
use bellwether::shard::Shared;
use bellwether::show::StatusBoard;
use bellwether_core::engine::Engine;
use bellwether_core::engine::view::StatusView;
use bellwether_core::ids::{Images, Workload};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Outcome, Request};
use bellwether_core::policy::Policy;
use bellwether_core::rollout::decision::{Decision, Ending};
use bellwether_core::time::Span;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// So many of the world's seconds pass in one of ours: a rollout by the policy below takes three seconds.
const FACTOR: u32 = 100;
const LONG: Duration = Duration::from_secs(60);
/// Nothing that is decided takes longer than this, so a daemon that is so still has let go. Far less than any of the
/// policy's deadlines.
const STILL: Duration = Duration::from_millis(1500);

const POLICY: &str = r#"
cluster = "test"

[metric.errors]
kind = "ratio"
series = "requests_total"
hits = { label = "code", matches = "5.." }

[[policy]]
name = "shop"
match = { namespaces = ["shop"], workloads = ["*"], images = ["r/*"] }

[[policy.check]]
metric = "errors"
judge = "threshold"
max = "5%"
every = "15s"
window = "60s"

[[policy.step]]
weight = "10%"
min-time = "60s"

[[policy.step]]
weight = "50%"
min-time = "60s"
"#;

/// What a commit shall come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It was written, and the answer is lost.
    Written,
    /// It was not written, and the answer is lost.
    Lost,
}

#[derive(Default)]
struct Notes {
    commits: AtomicU64,
    /// The commit that fails, once, and how.
    fault: Mutex<Option<(u64, Fault)>>,
    /// Everything in the journal's texts: an effect that is committed is named in a snapshot.
    committed: Mutex<String>,
    /// Effects that were performed without being there.
    hasty: Mutex<Vec<String>>,
    performed: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Pane<T> {
    behind: T,
    notes: Arc<Notes>,
}

#[async_trait]
impl Journals for Pane<Embedded> {
    fn partitions(&self) -> i32 {
        self.behind.partitions()
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        let behind = self.behind.open(partition).await?;
        Ok(Box::new(Pane { behind, notes: Arc::clone(&self.notes) }))
    }
}

#[async_trait]
impl Journal for Pane<Box<dyn Journal>> {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        self.behind.restore().await
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        let n = self.notes.commits.fetch_add(1, Ordering::SeqCst);
        let fault = self.notes.fault.lock().unwrap().filter(|(at, _)| *at == n).map(|(_, fault)| fault);
        if fault == Some(Fault::Lost) {
            return Err(JournalError::Unknown("the test says so".to_owned()));
        }
        for value in batch.puts.iter().filter_map(|(_, value)| value.as_ref()) {
            self.notes.committed.lock().unwrap().push_str(&String::from_utf8_lossy(value));
        }
        self.behind.commit(batch).await?;
        match fault {
            Some(_) => Err(JournalError::Unknown("the test says so".to_owned())),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Cluster for Pane<MemoryWorld> {
    async fn perform(
        &self,
        effect: &Effect,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>) {
        let id = effect.id.to_string();
        if !self.notes.committed.lock().unwrap().contains(&format!("{id:?}")) {
            self.notes.hasty.lock().unwrap().push(id.clone());
        }
        self.notes.performed.lock().unwrap().push(format!("{} {id}", effect.act.name()));
        self.behind.perform(effect, epoch, template).await
    }
}

/// A world, a journal, and the daemons that come and go in them.
struct Stage {
    world: MemoryWorld,
    clock: Arc<dyn Clock>,
    folder: tempfile::TempDir,
    policies: Vec<Policy>,
    notes: Arc<Notes>,
    offset: i64,
}

/// One life of a daemon. It has a runtime of its own, which dies with it and takes with it all that it had begun.
struct Life {
    runtime: Runtime,
    wakes: mpsc::Sender<Wake>,
    decisions: broadcast::Receiver<Decision>,
    view: watch::Receiver<Arc<StatusView>>,
    stop: CancellationToken,
    daemon: JoinHandle<anyhow::Result<()>>,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, POLICY).unwrap();
        let config = config::load(&Sources { files: vec![file], ..Sources::default() });
        let policies = config.unwrap_or_else(|report| panic!("{report}")).policies;
        let clock: Arc<dyn Clock> = Arc::new(FastClock::new(FACTOR));
        let world = MemoryWorld::new(Arc::clone(&clock));
        world.deploy(&workload(), images("1"), 4, 100);
        Stage { world, clock, folder, policies, notes: Arc::default(), offset: 0 }
    }

    async fn live(&self) -> Life {
        let embedded = self.journal().await;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let journals = Pane { behind: embedded, notes: Arc::clone(&self.notes) };
        let cluster = Pane { behind: self.world.clone(), notes: Arc::clone(&self.notes) };
        let (wakes, inbox) = mpsc::channel(64);
        let (shows, stop) = (StatusBoard::default(), CancellationToken::new());
        let (decisions, view) = (shows.decisions(), shows.watch());
        let parts = Parts {
            shared: Shared {
                clock: Arc::clone(&self.clock),
                hands: Executor::new(
                    Arc::new(cluster),
                    Arc::new(self.world.clone()),
                    Arc::new(self.world.clone()),
                    Arc::new(self.world.clone()),
                ),
                journals: Arc::new(journals),
                decoding: Arc::new(DecodeOptions::new("test", Mapping::default())),
                shows,
                blank: Engine::new("test".to_owned(), self.policies.clone(), Span::from_secs(86_400)),
            },
            wakes: inbox,
            counts: Box::new(self.world.clone()),
            grid: Grid { interval: Span::from_secs(15), lag: Span::ZERO },
            sights: Arc::new(self.world.clone()),
            policies: watch::channel(Vec::new()).1,
            heartbeat: watch::Sender::new(Stopwatch::start()),
            owned: watch::Sender::default(),
            stop: stop.clone(),
        };
        let daemon = runtime.spawn(daemon::run(parts));
        runtime.spawn(self.world.clone().watch(wakes.clone()));
        wakes.send(Wake::Assigned(0)).await.unwrap();
        Life { runtime, wakes, decisions, view, stop, daemon }
    }

    /// The file is free once the last task of the life before is gone.
    async fn journal(&self) -> Embedded {
        let path = self.folder.path().join("journal.redb");
        for _ in 0..1000 {
            if let Ok(journal) = Embedded::open(&path) {
                return journal;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} stays in use", path.display())
    }

    /// The event `id`, as the record that Kafka would bring; the same one again has the same offset.
    fn event(&self, id: &str, tag: &str, offset: i64) -> EventRecord {
        let request = Request {
            workload: workload(),
            images: images(tag),
            image: None,
            expected_current: None,
            policy: None,
            model: None,
            reason: None,
        };
        let key = workload().to_string();
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        let event = wrap(REQUESTED, "/test", id, now, &key, serde_json::to_value(&request).unwrap());
        EventRecord { partition: 0, offset, ..event.to_record(&key) }
    }

    /// What the journal has of decisions: each once, in their order.
    async fn decided(&self) -> Vec<String> {
        drop(self.journal().await);
        let records = read_decisions(&self.folder.path().join("journal.redb")).unwrap();
        let records = records
            .iter()
            .map(|(_, json)| serde_json::from_slice::<bellwether_core::engine::record::AuditRecord>(json));
        let decisions: Vec<Decision> = records.flat_map(|record| record.unwrap().decisions).collect();
        let numbers: Vec<u32> = decisions.iter().map(|decision| decision.n).collect();
        assert_eq!(numbers, (0..decisions.len() as u32).collect::<Vec<u32>>(), "{:?}", told(&decisions));
        told(&decisions)
    }

    async fn ask(&mut self, life: &Life, id: &str, tag: &str) -> Option<Receipt> {
        let record = self.event(id, tag, self.offset);
        self.offset += 1;
        life.send(record).await
    }
}

impl Life {
    /// What the daemon made of a record; `None`: it let go of it.
    async fn send(&self, record: EventRecord) -> Option<Receipt> {
        let (answer, taken) = oneshot::channel();
        let answer = Some(Arc::new(tokio::sync::Mutex::new(Some(answer))));
        self.wakes.send(Wake::Record(EventRecord { answer, ..record })).await.unwrap();
        tokio::time::timeout(LONG, taken).await.expect("no answer").ok()
    }

    /// Decisions up to the first that `is` it.
    async fn until(&mut self, is: impl Fn(&Decision) -> bool) -> Vec<Decision> {
        let mut all = Vec::new();
        tokio::time::timeout(LONG, async {
            loop {
                let decision = self.decisions.recv().await.expect("the daemon has ended");
                let found = is(&decision);
                all.push(decision);
                if found {
                    return;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("in vain: {all:#?}"));
        all
    }

    /// Waits until something is decided; `false`: the rollout is over.
    async fn told_or_over(&mut self) -> bool {
        let told = async {
            while !self.over() {
                if tokio::time::timeout(Duration::from_millis(100), self.decisions.recv()).await.is_ok() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(LONG, told).await.expect("nothing is decided any more")
    }

    fn over(&self) -> bool {
        let view = self.view.borrow();
        !view.rollouts.is_empty() && view.rollouts.values().all(|rollout| rollout.ended.is_some())
    }

    /// As a SIGKILL would: nothing more is done, and nothing is said.
    fn kill(self) {
        self.runtime.shutdown_background();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.daemon.await.unwrap().unwrap();
        self.runtime.shutdown_background();
    }
}

fn workload() -> Workload {
    "test/shop/Deployment/web".parse().unwrap()
}

fn images(tag: &str) -> Images {
    Images::from([("app".to_owned(), format!("r/web:{tag}"))])
}

fn ended(decision: &Decision) -> bool {
    decision.ending.is_some()
}

/// What was decided, without times and numbers.
fn told(decisions: &[Decision]) -> Vec<String> {
    decisions.iter().map(|decision| format!("{} → {}", decision.kind.name(), decision.to)).collect()
}

const A_GOOD_ROLLOUT: [&str; 9] = [
    "start → preparing",
    "advance → stepping",
    "advance → growing",
    "advance → stepping",
    "promote → promoting",
    "proceed → returning",
    "proceed → cleaning",
    "proceed → guarding",
    "finish → ended",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_was_committed_before() {
    let mut stage = Stage::new();
    let mut life = stage.live().await;
    let taken = stage.ask(&life, "a", "2").await;
    assert!(matches!(taken, Some(Receipt::Decided(_))), "{taken:?}");
    let decisions = life.until(ended).await;
    assert_eq!(told(&decisions), A_GOOD_ROLLOUT);
    assert_eq!(stage.world.images(&workload()), Some(images("2")));
    let taken = stage.ask(&life, "a", "2").await;
    assert!(matches!(&taken, Some(Receipt::Ignored(why)) if why.contains("was processed before")), "{taken:?}");
    let taken = stage.ask(&life, "b", "3-err20").await;
    assert!(matches!(taken, Some(Receipt::Decided(_))), "{taken:?}");
    let decisions = life.until(ended).await;
    assert_eq!(decisions.last().unwrap().ending, Some(Ending::RolledBack), "{decisions:#?}");
    life.stop().await;
    let performed = stage.notes.performed.lock().unwrap().clone();
    assert!(performed.iter().any(|act| act.starts_with("promote ")), "{performed:?}");
    assert_eq!(*stage.notes.hasty.lock().unwrap(), Vec::<String>::new(), "done without being committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_each_decision_it_is_taken_up_and_ends_the_same() {
    let mut stage = Stage::new();
    let mut life = stage.live().await;
    stage.ask(&life, "a", "2").await;
    let mut lives = 1;
    // What was committed in the last moment of a life is not told in the next one, so the journal counts.
    while life.told_or_over().await {
        life.kill();
        lives += 1;
        life = stage.live().await;
    }
    life.stop().await;
    assert!(lives > 4, "it was hardly ever killed: {lives} lives");
    assert_eq!(stage.decided().await, A_GOOD_ROLLOUT);
    assert_eq!(stage.world.images(&workload()), Some(images("2")));
    assert_eq!(*stage.notes.hasty.lock().unwrap(), Vec::<String>::new(), "done without being committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_commit_that_nobody_knows_of_the_partition_begins_again() {
    for fault in [Fault::Written, Fault::Lost] {
        // The first commit is the epoch's; the third or so is the event's.
        for at in [1, 2, 3, 5, 8] {
            let stage = Stage::new();
            *stage.notes.fault.lock().unwrap() = Some((at, fault));
            let mut life = stage.live().await;
            let record = stage.event("a", "2", 0);
            let mut taken = life.send(record.clone()).await;
            while !life.over() {
                if tokio::time::timeout(STILL, life.decisions.recv()).await.is_err() {
                    // It has let go: the partition is assigned again from its last committed offset, as Kafka would.
                    life.wakes.send(Wake::Assigned(0)).await.unwrap();
                    if taken.is_none() {
                        taken = life.send(record.clone()).await;
                    }
                }
            }
            life.stop().await;
            assert_eq!(stage.decided().await, A_GOOD_ROLLOUT, "{fault:?} at {at}");
            assert_eq!(*stage.notes.hasty.lock().unwrap(), Vec::<String>::new(), "{fault:?} at {at}");
        }
    }
}
