//! The daemon in a world in memory: the order of commits and effects, and the result after a failure.
//!
//! The journal is the real one in a file, behind a wrapper that records commits and can make one fail. The cluster is the
//! model of the demo, behind a wrapper that records effects.

use std::collections::{BTreeMap, VecDeque};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bellwether::clock::{Clock, FastClock, Stopwatch};
use bellwether::config::{self, Sources};
use bellwether::daemon::{self, Grid, Parts};
use bellwether::events::cdevents::{REQUESTED, wrap};
use bellwether::events::decode::DecodeOptions;
use bellwether::events::mapping::Mapping;
use bellwether::health::Health;
use bellwether::journal::embedded::{Embedded, read_decisions};
use bellwether::perform::Executor;
use bellwether::ports::{
    Batch, Cluster, Delivery, Epoch, EventRecord, Journal, JournalError, Journals, MAX_ENTRY_BYTES, Partition,
    PodTemplate, Receipt, Wake,
};
use bellwether::shard::Shared;
use bellwether::show::StatusBoard;
use bellwether::show::course::Courses;
use bellwether::telemetry;
use bellwether::world::MemoryWorld;
use bellwether_core::engine::Engine;
use bellwether_core::engine::view::StatusView;
use bellwether_core::ids::{Images, Workload};
use bellwether_core::input::effect::{ClusterAct, Effect};
use bellwether_core::input::event::{Event, Failure, FailureKind, Outcome, Request};
use bellwether_core::policy::Policy;
use bellwether_core::rollout::decision::Decision;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::time::Span;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod audit;
mod broken;
mod clock;
mod console;
mod crowded;
mod followed;
mod oversized;
mod resting;
mod stuck;
mod unreadable;
mod versions;

/// Seconds of the world per second of real time: a rollout by the policy below takes three real seconds.
const FACTOR: u32 = 100;
const LONG: Duration = Duration::from_secs(60);
/// The longest real time between two decisions of a working daemon. It is far less than the policy's deadlines. A daemon
/// without a decision for this time has released its partition.
const STILL: Duration = Duration::from_millis(1500);

/// A policy of two steps of a minute each, by limits. The seeded schedules use it as well.
pub(crate) const POLICY: &str = r#"
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

/// The failure of a commit: its answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The batch was written.
    Written,
    /// The batch was not written.
    Lost,
}

/// The journal entries that one commit writes, or removes.
type Puts = Vec<(String, Option<Vec<u8>>)>;

/// The records of the wrappers.
#[derive(Default)]
struct Records {
    /// The failures of the next attempts at a weight, in their order.
    failures: Mutex<VecDeque<Failure>>,
    /// Number of commits so far.
    commits: AtomicU64,
    /// Number of the commit that fails, from 0, and its failure.
    fault: Mutex<Option<(u64, Fault)>>,
    /// All values in the journal as text. A committed effect is named in a snapshot.
    committed: Mutex<String>,
    /// The journal entries of each commit, in their order.
    batches: Mutex<Vec<Puts>>,
    /// Effects that were performed before they were committed.
    uncommitted: Mutex<Vec<String>>,
    /// All effects that were performed.
    performed: Mutex<Vec<String>>,
}

/// A wrapper that records the calls of a port.
#[derive(Clone)]
struct Recorded<T> {
    inner: T,
    records: Arc<Records>,
}

#[async_trait]
impl Journals for Recorded<Embedded> {
    fn partitions(&self) -> i32 {
        self.inner.partitions()
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        let inner = self.inner.open(partition).await?;
        Ok(Box::new(Recorded { inner, records: Arc::clone(&self.records) }))
    }

    fn assign_again(&self, partition: Partition, delay: Duration) {
        self.inner.assign_again(partition, delay);
    }
}

#[async_trait]
impl Journal for Recorded<Box<dyn Journal>> {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        self.inner.restore().await
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        let n = self.records.commits.fetch_add(1, Ordering::SeqCst);
        let fault = self.records.fault.lock().unwrap().filter(|(at, _)| *at == n).map(|(_, fault)| fault);
        if fault == Some(Fault::Lost) {
            return Err(JournalError::Unknown("the answer is lost, as the test requires".to_owned()));
        }
        let bytes = |(key, value): &(String, Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
        if batch.puts.iter().map(bytes).any(|bytes| bytes > MAX_ENTRY_BYTES) {
            return Err(JournalError::Broken("an entry is too large, as for Kafka".to_owned()));
        }
        for value in batch.puts.iter().filter_map(|(_, value)| value.as_ref()) {
            self.records.committed.lock().unwrap().push_str(&String::from_utf8_lossy(value));
        }
        self.records.batches.lock().unwrap().push(batch.puts.clone());
        self.inner.commit(batch).await?;
        match fault {
            Some(_) => Err(JournalError::Unknown("the answer is lost, as the test requires".to_owned())),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Cluster for Recorded<MemoryWorld> {
    async fn perform(
        &self,
        effect: &Effect,
        act: &ClusterAct,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>) {
        let id = effect.id.to_string();
        if !self.records.committed.lock().unwrap().contains(&format!("{id:?}")) {
            self.records.uncommitted.lock().unwrap().push(id.clone());
        }
        self.records.performed.lock().unwrap().push(format!("{} {id}", effect.act.name()));
        if matches!(act, ClusterAct::SetWeight { .. })
            && let Some(failure) = self.records.failures.lock().unwrap().pop_front()
        {
            return (Outcome::Failed(failure), Vec::new());
        }
        self.inner.perform(effect, act, epoch, template).await
    }
}

/// A world and a journal, in which daemons run one after the other.
struct Setting {
    world: MemoryWorld,
    clock: Arc<dyn Clock>,
    folder: tempfile::TempDir,
    policies: Vec<Policy>,
    records: Arc<Records>,
    offset: i64,
    decoding: Arc<DecodeOptions>,
}

/// A running daemon. It has its own runtime, whose shutdown ends all its tasks at once.
struct RunningDaemon {
    runtime: Runtime,
    wakes: mpsc::Sender<Wake>,
    decisions: broadcast::Receiver<Decision>,
    view: watch::Receiver<StatusView>,
    courses: Courses,
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Setting {
    fn new() -> Setting {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, POLICY).unwrap();
        let config = config::load(&Sources { files: vec![file], ..Sources::default() });
        let policies = config.unwrap_or_else(|report| panic!("{report}")).policies;
        let clock: Arc<dyn Clock> = Arc::new(FastClock::new(FACTOR));
        let world = MemoryWorld::new(Arc::clone(&clock));
        world.deploy(&workload(), images("1"), 4, 100);
        let decoding = Arc::new(DecodeOptions::new("test", Mapping::default()));
        Setting { world, clock, folder, policies, records: Arc::default(), offset: 0, decoding }
    }

    async fn start(&self) -> RunningDaemon {
        let inner = self.journal().await;
        let daemon = self.start_with(Recorded { inner, records: Arc::clone(&self.records) });
        daemon.wakes.send(Wake::Assigned(0)).await.unwrap();
        daemon
    }

    /// Starts a daemon that owns no partition yet.
    fn start_with(&self, journals: impl Journals + 'static) -> RunningDaemon {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let cluster = Recorded { inner: self.world.clone(), records: Arc::clone(&self.records) };
        let (wakes, inbox) = mpsc::channel(64);
        let (shows, stop) = (StatusBoard::default(), CancellationToken::new());
        let (decisions, view, courses) = (shows.decisions(), shows.watch(), shows.courses());
        let port = || Arc::new(self.world.clone());
        let executor = Executor::new(Arc::new(cluster), port(), port(), vec![port()]);
        let health = Health::default();
        let sinks = executor.sinks();
        let engine = Engine::new("test".to_owned(), self.policies.clone(), Span::from_secs(86_400));
        let parts = Parts {
            shared: Shared {
                clock: Arc::clone(&self.clock),
                executor,
                journals: Arc::new(journals),
                decoding: Arc::clone(&self.decoding),
                board: shows,
                health: health.clone(),
                blank: engine.with_sinks(sinks),
            },
            wakes: inbox,
            counts: Box::new(self.world.clone()),
            grid: Grid { interval: Span::from_secs(15), lag: Span::ZERO },
            statuses: Arc::new(self.world.clone()),
            policies: watch::channel(Vec::new()).1,
            heartbeat: watch::Sender::new(Stopwatch::start()),
            stop: stop.clone(),
        };
        let task = runtime.spawn(daemon::run(parts));
        runtime.spawn(self.world.clone().watch(wakes.clone(), Arc::clone(&self.clock) as _));
        RunningDaemon { runtime, wakes, decisions, view, courses, health, stop, task }
    }

    /// Opens the journal's file, which is free when the last task of the previous daemon has ended.
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

    /// Returns a request with the event id `id` as a record from Kafka. A repeated record has the same offset.
    fn event(&self, id: &str, tag: &str, offset: i64) -> EventRecord {
        self.event_of(&workload(), id, tag, offset)
    }

    fn event_of(&self, workload: &Workload, id: &str, tag: &str, offset: i64) -> EventRecord {
        let request = Request {
            workload: workload.clone(),
            images: images(tag),
            image: None,
            expected_current: None,
            policy: None,
            model: None,
            prompt: None,
            tools: None,
            traceparent: None,
            reason: None,
        };
        let key = workload.to_string();
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        let event = wrap(REQUESTED, "/test", id, now, &key, serde_json::to_value(&request).unwrap());
        EventRecord { partition: 0, offset, ..event.to_record(&key) }
    }

    /// Returns the decisions in the journal, and checks that each is there once and in order.
    async fn decided(&self) -> Vec<String> {
        drop(self.journal().await);
        let records = read_decisions(&self.folder.path().join("journal.redb")).unwrap();
        let records =
            records.iter().filter_map(|(_, json)| bellwether_core::engine::record::AuditRecord::read(json).unwrap());
        let decisions: Vec<Decision> = records.flat_map(|record| record.decisions).collect();
        let numbers: Vec<u32> = decisions.iter().map(|decision| decision.n).collect();
        assert_eq!(numbers, (0..decisions.len() as u32).collect::<Vec<u32>>(), "{:?}", described(&decisions));
        described(&decisions)
    }

    /// Sends a new request to the daemon, and returns its receipt.
    async fn request(&mut self, daemon: &RunningDaemon, id: &str, tag: &str) -> Option<Receipt> {
        let record = self.event(id, tag, self.offset);
        self.offset += 1;
        daemon.send(record).await
    }
}

impl RunningDaemon {
    /// Sends a record and returns its receipt. `None`: the daemon has released the partition without one.
    async fn send(&self, record: EventRecord) -> Option<Receipt> {
        let (reply, receipt) = oneshot::channel();
        self.wakes.send(Wake::Record(Delivery { reply: Some(reply), ..record.into() })).await.unwrap();
        tokio::time::timeout(LONG, receipt).await.expect("no receipt in time").ok()
    }

    /// Returns the decisions up to the first one that `is_last`.
    async fn until(&mut self, is_last: impl Fn(&Decision) -> bool) -> Vec<Decision> {
        let mut all = Vec::new();
        tokio::time::timeout(LONG, async {
            loop {
                let decision = self.decisions.recv().await.expect("the daemon has ended");
                let found = is_last(&decision);
                all.push(decision);
                if found {
                    return;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("the decision was not made in time: {all:#?}"));
        all
    }

    /// Waits for the next decision. Returns `false` if the rollout has ended.
    async fn next_decision(&mut self) -> bool {
        let next = async {
            while !self.has_ended() {
                if tokio::time::timeout(Duration::from_millis(100), self.decisions.recv()).await.is_ok() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(LONG, next).await.expect("no decision in time")
    }

    fn has_ended(&self) -> bool {
        let view = self.view.borrow();
        !view.rollouts.is_empty() && view.rollouts.values().all(|rollout| rollout.ended.is_some())
    }

    /// Ends the daemon like a SIGKILL: all its tasks stop where they are.
    fn kill(self) {
        self.runtime.shutdown_background();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.runtime.shutdown_background();
    }
}

fn workload() -> Workload {
    "test/shop/Deployment/web".parse().unwrap()
}

fn images(tag: &str) -> Images {
    Images::from_iter([("app".to_owned(), format!("r/web:{tag}"))])
}

fn ended(decision: &Decision) -> bool {
    decision.ending.is_some()
}

/// Returns the kinds of decisions and the phases that they lead to.
fn described(decisions: &[Decision]) -> Vec<String> {
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
async fn every_effect_is_committed_before_it_is_performed() {
    let mut setting = Setting::new();
    let mut daemon = setting.start().await;
    let receipt = setting.request(&daemon, "a", "2").await;
    assert!(matches!(receipt, Some(Receipt::Decided(_))), "{receipt:?}");
    let decisions = daemon.until(ended).await;
    assert_eq!(described(&decisions), A_GOOD_ROLLOUT);
    assert_eq!(setting.world.images(&workload()), Some(images("2")));
    let receipt = setting.request(&daemon, "a", "2").await;
    assert!(matches!(&receipt, Some(Receipt::Ignored(why)) if why.contains("was processed before")), "{receipt:?}");
    let receipt = setting.request(&daemon, "b", "3-err20").await;
    assert!(matches!(receipt, Some(Receipt::Decided(_))), "{receipt:?}");
    let decisions = daemon.until(ended).await;
    assert_eq!(decisions.last().unwrap().ending, Some(Ending::RolledBack), "{decisions:#?}");
    daemon.stop().await;
    let performed = setting.records.performed.lock().unwrap().clone();
    assert!(performed.iter().any(|act| act.starts_with("promote ")), "{performed:?}");
    assert_eq!(
        *setting.records.uncommitted.lock().unwrap(),
        Vec::<String>::new(),
        "performed before they were committed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_after_each_decision_resumes_and_ends_the_same() {
    let mut setting = Setting::new();
    let mut daemon = setting.start().await;
    setting.request(&daemon, "a", "2").await;
    let mut starts = 1;
    // A decision that was committed just before the kill is not sent again, so the journal is compared.
    while daemon.next_decision().await {
        daemon.kill();
        starts += 1;
        daemon = setting.start().await;
    }
    daemon.stop().await;
    assert!(starts > 4, "the daemon was killed only {} times", starts - 1);
    assert_eq!(setting.decided().await, A_GOOD_ROLLOUT);
    assert_eq!(setting.world.images(&workload()), Some(images("2")));
    assert_eq!(
        *setting.records.uncommitted.lock().unwrap(),
        Vec::<String>::new(),
        "performed before they were committed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_commit_without_an_answer_the_partition_is_opened_again() {
    for fault in [Fault::Written, Fault::Lost] {
        // The first commit is that of the epoch, and the second or third that of the event.
        for at in [1, 2, 3, 5, 8] {
            let setting = Setting::new();
            *setting.records.fault.lock().unwrap() = Some((at, fault));
            let mut daemon = setting.start().await;
            let record = setting.event("a", "2", 0);
            let mut receipt = daemon.send(record.clone()).await;
            while !daemon.has_ended() {
                if tokio::time::timeout(STILL, daemon.decisions.recv()).await.is_err() {
                    // The partition is released. It is assigned again from its last committed offset, as Kafka does.
                    daemon.wakes.send(Wake::Assigned(0)).await.unwrap();
                    if receipt.is_none() {
                        receipt = daemon.send(record.clone()).await;
                    }
                }
            }
            daemon.stop().await;
            assert_eq!(setting.decided().await, A_GOOD_ROLLOUT, "{fault:?} at {at}");
            assert_eq!(*setting.records.uncommitted.lock().unwrap(), Vec::<String>::new(), "{fault:?} at {at}");
        }
    }
}

/// The environment variable by which a test process logs a rollout instead of comparing the log of another one.
const LOGS: &str = "BELLWETHER_TEST_LOGS";

/// The whole log of a rollout that a router refuses twice with one message and once with another, is promoted, and is asked
/// for again. The log belongs to a process, so the test runs itself in another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_rollout_has_its_ids_and_each_failure_once() {
    if std::env::var_os(LOGS).is_some() {
        return log_a_rollout().await;
    }
    let name = "daemon::the_log_of_a_rollout_has_its_ids_and_each_failure_once";
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(LOGS, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stderr).unwrap();
    let lines = log.lines().filter(|line| line.contains("Z  INFO ") || line.contains("Z  WARN "));
    let without_time = lines.filter_map(|line| line.split_once("Z "));
    let text: String = without_time.map(|(_, line)| without_measurements(line.trim_start()) + "\n").collect();
    expect_test::expect_file!["log.txt"].assert_eq(&text);
}

async fn log_a_rollout() {
    let _log = telemetry::Log::install(&telemetry::Options::default());
    let mut setting = Setting::new();
    for message in ["409 Conflict", "409 Conflict", "503 Service Unavailable"] {
        let failure = Failure { kind: FailureKind::Unavailable, message: message.to_owned() };
        setting.records.failures.lock().unwrap().push_back(failure);
    }
    let mut daemon = setting.start().await;
    setting.request(&daemon, "a", "2").await;
    daemon.until(ended).await;
    setting.request(&daemon, "a", "2").await;
    daemon.stop().await;
}

/// Replaces times and counts, which differ from run to run, by `#`; a time of two parts, as in `1m 5s`, is one.
fn without_measurements(line: &str) -> String {
    let mut text = String::new();
    for word in line.split(' ') {
        let is_measured = word.starts_with(|c: char| c.is_ascii_digit()) && !word.contains(':');
        if !is_measured || !text.ends_with("# ") {
            text += if is_measured { "#" } else { word };
            text.push(' ');
        }
    }
    text.trim_end().to_owned()
}
