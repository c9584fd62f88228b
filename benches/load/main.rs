//! Measures the cost of many rollouts in analysis and its growth: the real engine, daemon, sampler, Prometheus client and
//! journal file, with a cluster in memory and a stand-in for Prometheus in a process of its own.
//!
//! Each workload has two pods of the stable and two of the canary, with a counter by status code and a histogram; its policy
//! compares an error rate and limits a response time. The stand-in evaluates the sampler's queries for exactly these series. The
//! interval is 30 s of real time.
//!
//! `tests/run bench` runs it. `BELLWETHER_WORKLOADS` is the largest number of workloads; a tenth and a hundredth of it are
//! measured before. Each number has a process of its own. `tests/instructions` calls single paths of it (`instructions.rs`).
#![expect(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr, reason = "it measures and prints")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use bellwether::adapters::prometheus::{self, Prometheus};
use bellwether::allocator;
use bellwether::clock::{Clock, Stopwatch, SystemClock};
use bellwether::config::{self, Sources};
use bellwether::daemon::{self, Grid, Parts};
use bellwether::events::cdevents::{REQUESTED, wrap};
use bellwether::events::decode::DecodeOptions;
use bellwether::events::mapping::Mapping;
use bellwether::health::Health;
use bellwether::journal::embedded::Embedded;
use bellwether::perform::Executor;
use bellwether::ports::{Batch, Journal, JournalError, Journals, Partition, PodDirectory, PodFacts, Wake};
use bellwether::sampling::{Options, Sampler};
use bellwether::shard::Shared;
use bellwether::show::StatusBoard;
use bellwether::telemetry;
use bellwether::world::MemoryWorld;
use bellwether_core::engine::Engine;
use bellwether_core::engine::view::RolloutView;
use bellwether_core::ids::{Images, Workload, WorkloadKind};
use bellwether_core::input::event::Request;
use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use bellwether_testkit::plane::bench;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

mod instructions;
mod stand_in;

const WORKLOADS: usize = 10_000;
const INTERVAL: Span = Span::from_secs(30);
/// The ticks over which the load is measured: each rollout has a snapshot after so many.
const TICKS: u32 = 16;
/// Deadline for all rollouts to have a counted block.
const DEADLINE: Duration = Duration::from_secs(1200);

const POLICY: &str = r#"
presets = ["otel-http"]

[[policy]]
name = "load"
match = { namespaces = ["*"], workloads = ["*"], images = ["*"] }
patience = { blind = "1h", insufficient = "1h" }

[[policy.check]]
metric = "error-rate"
max = "2%"

[[policy.check]]
metric = "response-time"
max = "500ms"

[[policy.step]]
weight = "50%"
min-time = "1h"
"#;

fn main() -> ExitCode {
    allocator::return_large_buffers();
    let result = match std::env::args().skip(1).find(|word| !word.starts_with("--")).as_deref() {
        Some("stand-in") => stand_in::serve(),
        Some("instructions") => instructions::call_as_told(),
        Some(workloads) => workloads.parse().context("the number of workloads").and_then(measure),
        None => measure_growth(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure_growth() -> anyhow::Result<()> {
    let most = bench::number("BELLWETHER_WORKLOADS", WORKLOADS)?;
    println!(
        "{:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>12} {:>12} {:>8}",
        "workloads",
        "at rest",
        "accepted",
        "counted",
        "analysis",
        "peak",
        "cores",
        "queries/s",
        "tick",
        "journal",
        "as lz4",
        "restored"
    );
    for workloads in [most / 100, most / 10, most] {
        let status = Command::new(std::env::current_exe()?).arg(workloads.max(1).to_string()).status()?;
        ensure!(status.success(), "{workloads} workloads: {status}");
    }
    Ok(())
}

/// The stand-in for Prometheus, which ends with this value.
struct StandIn {
    process: Child,
    url: String,
}

impl StandIn {
    fn start() -> anyhow::Result<StandIn> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg("stand-in").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("its output")?).read_line(&mut line)?;
        Ok(StandIn { process, url: line.trim().to_owned() })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The pods of the world by their names, as the stand-in has them.
struct Pods(MemoryWorld);

impl PodDirectory for Pods {
    fn locate(&self, _: &str, pod: &str) -> Option<Arc<PodFacts>> {
        let (name, is_canary) = stand_in::owner_of(pod)?;
        let status = self.0.status(&workload(name));
        let arm = if is_canary { status.canary } else { status.stable }?;
        let facts = PodFacts {
            deployment_uid: arm.uid,
            pod_hash: arm.pod_hash?,
            started: stand_in::started(),
            restarts: BTreeMap::from([("app".to_owned(), 0)]),
        };
        Some(facts.into())
    }

    fn service(&self, _: &Workload) -> Option<(String, u16)> {
        None
    }
}

fn workload(name: &str) -> Workload {
    Workload {
        cluster: "load".into(),
        namespace: stand_in::NAMESPACE.into(),
        kind: WorkloadKind::Deployment,
        name: name.into(),
    }
}

fn images(tag: &str) -> Images {
    Images::from_iter([("app".to_owned(), format!("registry.example/shop/web:{tag}"))])
}

fn measure(workloads: usize) -> anyhow::Result<()> {
    telemetry::install_tls();
    let recorder = bellwether::metrics::install()?;
    let stand_in = StandIn::start()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let world = MemoryWorld::new(Arc::clone(&clock));
    for n in 0..workloads {
        // Its traffic is read by the probe alone, which draws each request; the counts come from the stand-in.
        world.deploy(&workload(&stand_in::name(n)), images("1"), 2, 1);
    }
    // The world has a thread of its own, whose work is no cost of the daemon.
    let (wakes, inbox) = mpsc::channel(1024);
    let observed = world.clone().watch(wakes.clone(), Arc::clone(&clock));
    std::thread::Builder::new().name("world".to_owned()).spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(observed);
        std::io::Result::Ok(())
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let journal = Embedded::open(folder.path().join("journal.redb"))?;
        let shows = StatusBoard::default();
        let stop = CancellationToken::new();
        let written = Written::default();
        let counted = Counted { inner: journal.clone(), written: written.clone() };
        let parts = parts(&stand_in.url, &clock, folder.path(), counted, &world, &shows, inbox, &stop)?;
        let daemon = tokio::spawn(daemon::run(parts));
        let intake = journal.intake(wakes).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let at_rest = memory("VmRSS")?;

        let now = clock.now();
        let requests = (0..workloads).map(|n| {
            let request = request(n);
            let key = request.workload.to_string();
            let event = wrap(REQUESTED, "/load", &n.to_string(), now, &key, serde_json::json!(request));
            intake.submit(event.to_record(&key))
        });
        let asked = Instant::now();
        stream::iter(requests).buffered(64).try_collect::<Vec<_>>().await?;
        let submitted = asked.elapsed();
        until_counted(&shows, workloads).await?;
        let counted = asked.elapsed();
        // The tick in which the first blocks were counted is not measured.
        tokio::time::sleep(INTERVAL.to_std()).await;

        let (began, before) = (Instant::now(), Snapshot::take(&recorder.render(), &written)?);
        tokio::time::sleep(INTERVAL.to_std() * TICKS).await;
        let after = Snapshot::take(&recorder.render(), &written)?;
        let seconds = began.elapsed().as_secs_f64();
        let (now, most) = (memory("VmRSS")?, memory("VmHWM")?);
        stop.cancel();
        daemon.await??;
        let restored = restart(&stand_in.url, &clock, folder.path(), &journal, &world, workloads).await?;
        println!(
            "{workloads:>9} {at_rest:>5.0} MiB {:>7.1} s {:>7.1} s {:>5.0} MiB {:>4.0} MiB {:>8.3} {:>9.2} {:>7.2} s {:>10.0} B {:>10.0} B {:>6.2} s",
            submitted.as_secs_f64(),
            counted.as_secs_f64(),
            now,
            most,
            (after.cpu - before.cpu) / seconds,
            (after.queries - before.queries) / seconds,
            (after.tick - before.tick) / (after.ticks - before.ticks),
            (after.journal - before.journal) / f64::from(TICKS) / workloads as f64,
            (after.compressed - before.compressed) / f64::from(TICKS) / workloads as f64,
            restored.as_secs_f64(),
        );
        Ok(())
    })
}

/// Starts another daemon on the journal, and returns the time until it has restored and shown all rollouts.
async fn restart(
    prometheus: &str,
    clock: &Arc<dyn Clock>,
    folder: &Path,
    journal: &Embedded,
    world: &MemoryWorld,
    workloads: usize,
) -> anyhow::Result<Duration> {
    let (wakes, inbox) = mpsc::channel(1024);
    let (shows, stop) = (StatusBoard::default(), CancellationToken::new());
    let mut views = shows.watch();
    let counted = Counted { inner: journal.clone(), written: Written::default() };
    let parts = parts(prometheus, clock, folder, counted, world, &shows, inbox, &stop)?;
    let began = Instant::now();
    let daemon = tokio::spawn(daemon::run(parts));
    wakes.send(Wake::Assigned(0)).await?;
    views.wait_for(|view| view.rollouts.len() >= workloads).await?;
    let took = began.elapsed();
    stop.cancel();
    daemon.await??;
    Ok(took)
}

#[expect(clippy::too_many_arguments, reason = "every part of a daemon, with one caller")]
fn parts(
    prometheus: &str,
    clock: &Arc<dyn Clock>,
    folder: &Path,
    journal: Counted<Embedded>,
    world: &MemoryWorld,
    shows: &StatusBoard,
    wakes: mpsc::Receiver<Wake>,
    stop: &CancellationToken,
) -> anyhow::Result<Parts> {
    let policies = policies(folder)?;
    let options = prometheus::Options { url: prometheus.to_owned(), ..prometheus::Options::default() };
    let metrics = Arc::new(Prometheus::new(&options)?);
    let pods = Arc::new(Pods(world.clone()));
    let sampling = Options { interval: INTERVAL, ..Options::default() };
    let port = || Arc::new(world.clone());
    let executor = Executor::new(port(), port(), port(), Vec::new());
    let engine = Engine::new("load".to_owned(), policies, Span::from_secs(86_400));
    Ok(Parts {
        shared: Shared {
            clock: Arc::clone(clock),
            executor,
            journals: Arc::new(journal),
            decoding: Arc::new(DecodeOptions::new("load", Mapping::default())),
            board: shows.clone(),
            health: Health::default(),
            blank: engine,
        },
        wakes,
        counts: Box::new(Sampler::new(metrics, pods, sampling)),
        grid: Grid { interval: INTERVAL, lag: sampling.lag },
        statuses: Arc::new(world.clone()),
        policies: watch::channel(Vec::new()).1,
        heartbeat: watch::Sender::new(Stopwatch::start()),
        stop: stop.clone(),
    })
}

/// Returns the policies, by way of a file in a folder.
fn policies(folder: &Path) -> anyhow::Result<Vec<Policy>> {
    let file = folder.join("policy.toml");
    std::fs::write(&file, POLICY)?;
    let config = config::load(&Sources { files: vec![file], ..Sources::default() });
    Ok(config.map_err(|report| anyhow::anyhow!("{report}"))?.policies)
}

fn request(n: usize) -> Request {
    Request {
        workload: workload(&stand_in::name(n)),
        images: images("2"),
        image: None,
        expected_current: None,
        policy: None,
        model: None,
        prompt: None,
        tools: None,
        traceparent: None,
        reason: None,
    }
}

/// Waits until each rollout has a block with counts.
async fn until_counted(shows: &StatusBoard, workloads: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut views = shows.watch();
    loop {
        let counted = views.borrow_and_update().rollouts.values().filter(|rollout| has_counts(rollout)).count();
        if counted >= workloads {
            return Ok(());
        }
        ensure!(began.elapsed() < DEADLINE, "{counted} of {workloads} have a counted block");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Whether a check of the step has seen requests.
fn has_counts(rollout: &RolloutView) -> bool {
    rollout.checks.iter().any(|check| matches!(check.verdict.as_str(), "pass" | "regressed" | "insufficient"))
}

/// The bytes that were committed to a journal, with the decisions. Clones share the counts.
#[derive(Clone, Default)]
struct Written {
    bytes: Arc<AtomicU64>,
    /// The same with each batch compressed as Kafka's producer does it.
    compressed: Arc<AtomicU64>,
}

impl Written {
    fn add(&self, batch: &Batch) {
        let puts = batch.puts.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_deref().unwrap_or_default()]);
        let decisions = batch.decisions.iter().map(|(_, decision)| decision.as_slice());
        let bytes = puts.chain(decisions).collect::<Vec<_>>().concat();
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.compressed.fetch_add(lz4_flex::compress(&bytes).len() as u64, Ordering::Relaxed);
    }
}

/// The journal, with a count of the bytes that are committed.
struct Counted<T> {
    inner: T,
    written: Written,
}

#[async_trait]
impl Journals for Counted<Embedded> {
    fn partitions(&self) -> i32 {
        self.inner.partitions()
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        Ok(Box::new(Counted { inner: self.inner.open(partition).await?, written: self.written.clone() }))
    }

    fn assign_again(&self, partition: Partition, delay: Duration) {
        self.inner.assign_again(partition, delay);
    }
}

#[async_trait]
impl Journal for Counted<Box<dyn Journal>> {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        self.inner.restore().await
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        self.written.add(&batch);
        self.inner.commit(batch).await
    }
}

/// Values of the process that only grow.
struct Snapshot {
    /// CPU time of all threads but the world's, in seconds.
    cpu: f64,
    queries: f64,
    /// Time of all ticks of the sampler, in seconds; each reads the rollouts of one turn.
    tick: f64,
    /// Number of these ticks.
    ticks: f64,
    /// Bytes that were committed to the journal.
    journal: f64,
    /// The same, compressed.
    compressed: f64,
}

impl Snapshot {
    fn take(metrics: &str, written: &Written) -> anyhow::Result<Snapshot> {
        let value = |name: &str| {
            let text = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            text.map_or(Ok(0.0), |text| text.parse().context("the value of a metric"))
        };
        let threads = bench::cpu_seconds_by_thread(std::process::id())?;
        Ok(Snapshot {
            cpu: threads.iter().filter(|(name, _)| name != "world").map(|(_, seconds)| seconds).sum(),
            queries: value("bellwether_promql_duration_seconds_count")?,
            tick: value("bellwether_sampler_tick_duration_seconds_sum")?,
            ticks: value("bellwether_sampler_tick_duration_seconds_count")?,
            journal: written.bytes.load(Ordering::Relaxed) as f64,
            compressed: written.compressed.load(Ordering::Relaxed) as f64,
        })
    }
}

fn memory(field: &str) -> anyhow::Result<f64> {
    bench::memory_mib(std::process::id(), field)
}
