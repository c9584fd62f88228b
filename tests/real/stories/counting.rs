//! The sampler on counters that a real Prometheus has scraped: it reads exactly the counts that the exporters had, or
//! gives a gap with the reason.
//!
//! Each case has its own namespace and exporters with known counts, to which typical events happen. The product's sampler
//! reads them once a second. All cases run at the same time. A case waits for conditions and not for times: before an
//! event that loses unread counts, it waits until Prometheus has scraped and the sampler has read all counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bellwether::adapters::prometheus::{self, Prometheus};
use bellwether::clock::{Clock as _, SystemClock};
use bellwether::ports::{PodDirectory, PodFacts};
use bellwether::sampling::{Options, Sampler, grid};
use bellwether_core::ids::{Workload, WorkloadKind};
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::measure::metric::Metric;
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::{Span, Timestamp};
use bellwether_testkit::plane::prometheus::{QueriedSample, URL};
use bellwether_testkit::plane::{Plane, Sandbox, wait};
use futures::future::try_join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::exposition::{self, Buckets, Page};
use super::{SOON, Story, story};

/// Number of times that an exporter counts.
const STEPS: u64 = 60;
/// Time between two of them.
const STEP: Duration = Duration::from_millis(400);
/// Number of blocks that are read after the last count, in which nothing may be counted.
const SURPLUS_BLOCKS: usize = 3;
/// The scrape interval that the sampler is configured with. The real one is 1 s: on a machine under load a scrape may be
/// late, and these cases are not about late scrapes.
const CONFIGURED_SCRAPE_INTERVAL: Span = Span::from_secs(4);

pub fn stories() -> Vec<Story> {
    vec![story("counting::known_counts_are_read_exactly_or_give_a_gap", known_counts)]
}

/// The events of a case.
#[derive(Debug, Clone, Copy)]
enum Events {
    None,
    /// A process restarts.
    Restart,
    /// A process restarts, and its native histogram has fewer buckets.
    RestartWithFewerBuckets,
    /// A series appears late, with its first error.
    LateSeries,
    /// The scrapes of one pod fail for some steps.
    FailingScrapes,
    /// The pods are replaced one after the other, as a Deployment does it.
    NewVersion,
    /// A canary comes. In the end it stops, and is removed from the targets after a failed scrape.
    CanaryThatStops,
    /// A canary comes. In the end it is removed from the targets, and stops after its last scrape.
    CanaryThatIsRemoved,
    /// One of the exporters writes the bounds of buckets otherwise.
    OtherSpelling,
    /// A counter falls without a restart.
    FallingCounter,
    /// The buckets of a native histogram are merged three times: once without effect on the edges, and twice with one.
    MergedBuckets,
    /// A counter has no number for some steps.
    NotANumber,
    /// A histogram has no `+Inf` bucket for some steps.
    MissingLastBucket,
}

/// The expected blocks of a case.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// All counts, and no gap.
    Exact,
    /// All counts, and at least one gap with this text.
    ExactAfterGaps(&'static str),
    /// Not more than all counts; and a gap with this text in each metric that lacks some.
    LessWithGaps(&'static str),
}

async fn known_counts(sandbox: &Sandbox) -> Result<()> {
    let two: &[&str] = &["web-1", "web-2"];
    let one: &[&str] = &["web-1"];
    let cases = [
        ("two replicas, scraped at different times", two, Events::None, Expected::Exact),
        ("a process that restarts", two, Events::Restart, Expected::Exact),
        ("a series that comes late", one, Events::LateSeries, Expected::Exact),
        ("scrapes that fail for a while", one, Events::FailingScrapes, Expected::ExactAfterGaps(" s old")),
        ("failing scrapes of one of two", two, Events::FailingScrapes, Expected::Exact),
        ("a new version of all pods", two, Events::NewVersion, Expected::Exact),
        // The engine does not watch a canary that has ended. These cases watch it to the end.
        ("a canary that stops", one, Events::CanaryThatStops, Expected::ExactAfterGaps(" s old")),
        ("a canary that is removed", one, Events::CanaryThatIsRemoved, Expected::Exact),
        ("bounds of buckets spelled both ways", two, Events::OtherSpelling, Expected::Exact),
        ("a counter that falls", one, Events::FallingCounter, Expected::LessWithGaps("fell")),
        ("native: two replicas", two, Events::None, Expected::Exact),
        ("native: a restart with fewer buckets", two, Events::RestartWithFewerBuckets, Expected::Exact),
        ("native: buckets that are merged", one, Events::MergedBuckets, Expected::Exact),
        ("a counter that is not a number", one, Events::NotANumber, Expected::LessWithGaps("not a number")),
        ("a missing last bucket", one, Events::MissingLastBucket, Expected::LessWithGaps("+Inf")),
    ];
    let mut runs = Vec::new();
    for (n, (name, pods, events, expected)) in cases.into_iter().enumerate() {
        let native = name.starts_with("native");
        let case = Case::new(sandbox, format!("{}-{n}", sandbox.namespace), pods, native).await?;
        runs.push(async move { case.run(events, expected).await.with_context(|| name.to_owned()) });
    }
    try_join_all(runs).await.map(|_| ())
}

/// An exporter with its counts.
#[derive(Clone)]
struct Exporter {
    good: u64,
    bad: u64,
    /// Start of its process.
    started: Timestamp,
    /// Whether it counts nothing.
    idle: bool,
    /// Whether it counts no bad requests, and has no series for them.
    only_good: bool,
    /// Whether it answers scrapes with 503.
    away: bool,
    /// Whether it is in the file of targets.
    listed: bool,
    /// Whether it writes `le="1.0"` for `le="1"`.
    long_bounds: bool,
    /// Whether it has no `+Inf` bucket.
    without_last_bucket: bool,
    /// Whether its good requests are `NaN`.
    not_a_number: bool,
    /// Whether its histogram is a native one.
    native: bool,
    /// Schema of its native histogram.
    schema: i32,
    address: SocketAddr,
}

impl Exporter {
    /// Returns its page in the text format. Good requests are at most 0.5, and bad ones above all bounds.
    fn page(&self) -> String {
        let Exporter { good, bad, .. } = self;
        let shown = if self.not_a_number { "NaN".to_owned() } else { good.to_string() };
        let mut page = format!("process_start_time_seconds {:.3}\n", self.started.as_millisecond() as f64 / 1000.0);
        let _ = writeln!(page, "requests_total{{code=\"200\"}} {shown}");
        if *bad > 0 {
            let _ = writeln!(page, "requests_total{{code=\"500\"}} {bad}");
        }
        let bounds = if self.long_bounds { ["0.5", "1.0"] } else { ["0.5", "1"] };
        for bound in bounds {
            let _ = writeln!(page, "seconds_bucket{{le=\"{bound}\"}} {shown}");
        }
        if !self.without_last_bucket {
            let _ = writeln!(page, "seconds_bucket{{le=\"+Inf\"}} {}", good + bad);
        }
        page
    }

    /// Returns its page in protobuf, with a native histogram of two series, which Prometheus merges to the coarser schema.
    /// Good requests are 0.65, and bad ones two millions, which is above all edges.
    fn native_page(&self) -> Vec<u8> {
        let Exporter { good, bad, schema, .. } = *self;
        let bucket = |eighths: i32, schema: i32| (eighths - 1).div_euclid(1 << (3 - schema)) + 1;
        let buckets = |schema, good, bad| Buckets {
            schema,
            counts: vec![(bucket(-4, schema), good), (bucket(168, schema), bad)],
        };
        let (fine, coarse) = (buckets(schema, good - good / 4, bad), buckets(schema.min(2), good / 4, 0));
        let requests = [("200", good), ("500", bad)];
        let requests: Vec<(&str, u64)> = requests.into_iter().filter(|(code, n)| *code == "200" || *n > 0).collect();
        Page::default()
            .gauge("process_start_time_seconds", self.started.as_millisecond() as f64 / 1000.0)
            .counters("requests_total", "code", &requests)
            .native_histograms("seconds", "route", &[("a", fine), ("b", coarse)])
            .finish()
    }
}

/// The exporters of a case, by pod.
type Exporters = Arc<Mutex<BTreeMap<String, Exporter>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers a scrape.
async fn page(State((exporters, pod)): State<(Exporters, String)>) -> Response {
    let exporter = lock(&exporters).get(&pod).filter(|exporter| !exporter.away).cloned();
    match exporter {
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(exporter) if exporter.native => {
            ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], exporter.native_page()).into_response()
        }
        Some(exporter) => exporter.page().into_response(),
    }
}

/// The cluster's facts about the pods. Ended pods stay in it.
#[derive(Default)]
struct PodList(Mutex<BTreeMap<String, PodFacts>>);

impl PodDirectory for PodList {
    fn locate(&self, _: &str, pod: &str) -> Option<Arc<PodFacts>> {
        lock(&self.0).get(pod).cloned().map(Arc::new)
    }

    fn service(&self, _: &Workload) -> Option<(String, u16)> {
        None
    }
}

/// Bad requests and all requests.
type BadAndAll = (u64, u64);

/// A case with its exporters.
struct Case {
    plane: Arc<Plane>,
    namespace: String,
    exporters: Exporters,
    pods: Arc<PodList>,
    /// Prometheus' file of targets for this case.
    targets: PathBuf,
    /// All requests that were counted so far, by arm.
    counted: BTreeMap<String, BadAndAll>,
    /// The addresses of all pods. Each has a listener from the start.
    addresses: BTreeMap<String, SocketAddr>,
    /// Whether the histograms are native ones.
    native: bool,
    /// The blocks that the sampler has read so far.
    blocks: Arc<Mutex<Vec<Block>>>,
}

impl Case {
    async fn new(sandbox: &Sandbox, namespace: String, pods: &[&str], native: bool) -> Result<Case> {
        let folder = sandbox.plane.prometheus.targets.parent().context("the file of targets has no folder")?;
        let mut case = Case {
            plane: sandbox.plane.clone(),
            targets: folder.join(format!("extra-{namespace}.json")),
            namespace,
            exporters: Exporters::default(),
            pods: Arc::default(),
            counted: BTreeMap::new(),
            addresses: BTreeMap::new(),
            native,
            blocks: Arc::default(),
        };
        for pod in pods.iter().copied().chain(["web-3", "web-4", "web-canary-1"]) {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            case.addresses.insert(pod.to_owned(), listener.local_addr()?);
            let state = (case.exporters.clone(), pod.to_owned());
            let router = Router::new().route("/metrics", get(page)).with_state(state);
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        for pod in pods {
            case.add(pod, "stable", "h1")?;
        }
        Ok(case)
    }

    async fn run(mut self, events: Events, expected: Expected) -> Result<()> {
        let stop = CancellationToken::new();
        let sampler = read(self.namespace.clone(), self.native, self.pods.clone(), self.blocks.clone(), stop.clone());
        let sampler = tokio::spawn(sampler);
        let result = self.play(events, expected).await;
        stop.cancel();
        sampler.await?.context("the sampler")?;
        let _ = std::fs::remove_file(&self.targets);
        result
    }

    async fn play(&mut self, events: Events, expected: Expected) -> Result<()> {
        // A process is counted from its first reading on, so nothing is counted before.
        self.until_all_are_up().await?;
        for step in 0..STEPS {
            self.before(step, events).await?;
            self.count(step);
            tokio::time::sleep(STEP).await;
        }
        self.until_all_is_read().await?;
        let blocks = lock(&self.blocks).len();
        wait::until("further blocks", SOON, async || {
            let read = lock(&self.blocks).len();
            ensure!(read >= blocks + SURPLUS_BLOCKS, "{} of {SURPLUS_BLOCKS}", read - blocks);
            Ok(())
        })
        .await?;
        self.compare(expected)
    }

    /// Lets the events happen that come before a step.
    async fn before(&mut self, step: u64, events: Events) -> Result<()> {
        match events {
            Events::None => {}
            Events::Restart | Events::RestartWithFewerBuckets => {
                self.change("web-1", |exporter| exporter.idle = (20..30).contains(&step));
                if step == 28 {
                    self.until_all_is_read().await?;
                    let fewer = matches!(events, Events::RestartWithFewerBuckets);
                    self.change("web-1", |exporter| {
                        (exporter.good, exporter.bad, exporter.started) = (0, 0, SystemClock.now());
                        exporter.schema = if fewer { 1 } else { exporter.schema };
                    });
                    let mut pods = lock(&self.pods.0);
                    let facts = pods.get_mut("web-1").context("web-1")?;
                    *facts.restarts.entry("app".to_owned()).or_default() += 1;
                }
            }
            Events::LateSeries => {
                if step == 30 {
                    self.until_all_is_read().await?;
                }
                self.change("web-1", |exporter| exporter.only_good = step < 30);
            }
            Events::FailingScrapes => {
                if step == 36 {
                    self.until_a_scrape_failed("web-1").await?;
                }
                self.change("web-1", |exporter| exporter.away = (20..36).contains(&step));
            }
            Events::NewVersion => {
                for (old, new, at) in [("web-1", "web-3", 18), ("web-2", "web-4", 38)] {
                    if step == at - 8 {
                        self.change(old, |exporter| exporter.idle = true);
                    }
                    if step == at {
                        // The other pod has been scraped by now, so the arm always has a pod that is up.
                        self.until_all_is_read().await?;
                        self.remove(old)?;
                        self.add(new, "stable", "h2")?;
                    }
                }
            }
            Events::CanaryThatStops | Events::CanaryThatIsRemoved => match step {
                20 => self.add("web-canary-1", "canary", "h2")?,
                42 => self.change("web-canary-1", |exporter| exporter.idle = true),
                50 => {
                    self.until_all_is_read().await?;
                    if matches!(events, Events::CanaryThatStops) {
                        self.change("web-canary-1", |exporter| exporter.away = true);
                        self.until_a_scrape_failed("web-canary-1").await?;
                    } else {
                        self.change("web-canary-1", |exporter| exporter.listed = false);
                        self.write_targets()?;
                        self.until_dropped("web-canary-1").await?;
                    }
                    self.remove("web-canary-1")?;
                }
                _ => {}
            },
            Events::OtherSpelling => self.change("web-2", |exporter| exporter.long_bounds = true),
            Events::FallingCounter => {
                if step == 30 {
                    self.until_all_is_read().await?;
                    self.change("web-1", |exporter| {
                        (exporter.good, exporter.bad) = (exporter.good / 2, exporter.bad / 2);
                    });
                    self.until_gap("fell").await?;
                }
            }
            Events::MergedBuckets => {
                if let Some((_, schema)) = [(15, 2), (30, 1), (45, 0)].into_iter().find(|(at, _)| *at == step) {
                    self.until_all_is_read().await?;
                    self.change("web-1", |exporter| exporter.schema = schema);
                }
            }
            Events::NotANumber => {
                if step == 30 {
                    self.until_gap("not a number").await?;
                }
                self.change("web-1", |exporter| exporter.not_a_number = (20..30).contains(&step));
            }
            Events::MissingLastBucket => {
                if step == 30 {
                    self.until_gap("+Inf").await?;
                }
                self.change("web-1", |exporter| exporter.without_last_bucket = (20..30).contains(&step));
            }
        }
        Ok(())
    }

    // ---- exporters ----

    fn add(&mut self, pod: &str, arm: &str, hash: &str) -> Result<()> {
        let started = SystemClock.now();
        let exporter = Exporter {
            good: 0,
            bad: 0,
            started,
            idle: false,
            only_good: false,
            away: false,
            listed: true,
            long_bounds: false,
            without_last_bucket: false,
            not_a_number: false,
            native: self.native,
            schema: 3,
            address: *self.addresses.get(pod).with_context(|| format!("{pod} has no address"))?,
        };
        lock(&self.exporters).insert(pod.to_owned(), exporter);
        let (deployment_uid, pod_hash) = (arm.to_owned(), hash.to_owned());
        let facts = PodFacts { deployment_uid, pod_hash, started, restarts: BTreeMap::new() };
        lock(&self.pods.0).insert(pod.to_owned(), facts);
        self.write_targets()
    }

    fn remove(&mut self, pod: &str) -> Result<()> {
        lock(&self.exporters).remove(pod);
        self.write_targets()
    }

    fn change(&mut self, pod: &str, change: impl FnOnce(&mut Exporter)) {
        if let Some(exporter) = lock(&self.exporters).get_mut(pod) {
            change(exporter);
        }
    }

    /// Writes Prometheus' file of targets.
    fn write_targets(&self) -> Result<()> {
        let exporters = lock(&self.exporters);
        let targets = exporters.iter().filter(|(_, exporter)| exporter.listed).map(|(pod, exporter)| {
            let labels = json!({ "namespace": self.namespace, "pod": pod, "container": "app" });
            json!({ "targets": [exporter.address.to_string()], "labels": labels })
        });
        let text = serde_json::Value::from_iter(targets).to_string();
        let new = self.targets.with_extension("new");
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.targets));
        written.with_context(|| self.targets.display().to_string())
    }

    /// Lets every exporter that is not idle count once.
    fn count(&mut self, step: u64) {
        for (pod, exporter) in lock(&self.exporters).iter_mut().filter(|(_, exporter)| !exporter.idle) {
            let (good, bad) = (10 + step % 7, if exporter.only_good { 0 } else { step % 3 });
            exporter.good += good;
            exporter.bad += bad;
            let arm = if pod.contains("canary") { "canary" } else { "stable" };
            let sum = self.counted.entry(arm.to_owned()).or_default();
            *sum = (sum.0 + bad, sum.1 + good + bad);
        }
    }

    // ---- waits ----

    async fn query(&self, series: &str) -> Result<(Timestamp, Vec<QueriedSample>)> {
        let at = SystemClock.now();
        let query = series.replace("NAMESPACE", &format!("namespace={:?}", self.namespace));
        Ok((at, self.plane.prometheus.query(&query, at).await?))
    }

    /// Waits until the sampler has read a time at or after `at`.
    async fn until_read(&self, at: Timestamp) -> Result<()> {
        wait::until(&format!("a block up to {at}"), SOON, async || {
            let last = lock(&self.blocks).last().map(|block| block.to);
            ensure!(last.is_some_and(|last| last >= at), "the last block ends at {last:?}");
            Ok(())
        })
        .await
    }

    /// Waits until Prometheus scrapes all exporters and the sampler has read that.
    async fn until_all_are_up(&self) -> Result<()> {
        let exporters = lock(&self.exporters).len();
        let at = wait::until("all exporters to be scraped", SOON, async || {
            let (at, samples) = self.query("up{NAMESPACE} == 1").await?;
            ensure!(samples.len() == exporters, "{} of {exporters}", samples.len());
            Ok(at)
        })
        .await?;
        self.until_read(at).await
    }

    /// Waits until Prometheus has scraped all counts of the present exporters and the sampler has read that scrape.
    async fn until_all_is_read(&self) -> Result<()> {
        let at = wait::until("all counts to be scraped", SOON, async || {
            let (at, samples) = self.query("sum by (pod, code) (requests_total{NAMESPACE})").await?;
            for (pod, exporter) in lock(&self.exporters).iter() {
                let scraped = |code: &str| {
                    let found =
                        samples.iter().find(|sample| sample.labels["pod"] == *pod && sample.labels["code"] == code);
                    found.map(|sample| sample.value as u64)
                };
                let expected = (Some(exporter.good), Some(exporter.bad).filter(|bad| *bad > 0));
                let found = (scraped("200"), scraped("500"));
                ensure!(found == expected, "{pod} has good and bad {expected:?}, and {found:?} are scraped");
            }
            Ok(at)
        })
        .await?;
        self.until_read(at).await
    }

    /// Waits until a scrape of `pod` has failed and the sampler has read that.
    async fn until_a_scrape_failed(&self, pod: &str) -> Result<()> {
        let at = wait::until(&format!("a failed scrape of {pod}"), SOON, async || {
            let (at, samples) = self.query(&format!("up{{NAMESPACE, pod={pod:?}}} == 0")).await?;
            ensure!(!samples.is_empty(), "none has failed");
            Ok(at)
        })
        .await?;
        self.until_read(at).await
    }

    /// Waits until `pod` is no target of Prometheus any more and the sampler has read that.
    async fn until_dropped(&self, pod: &str) -> Result<()> {
        let at = wait::until(&format!("{pod} to be no target"), SOON, async || {
            let (at, samples) = self.query(&format!("up{{NAMESPACE, pod={pod:?}}}")).await?;
            ensure!(samples.is_empty(), "it is still a target");
            Ok(at)
        })
        .await?;
        self.until_read(at).await
    }

    /// Waits until a block of some metric has a gap with this text.
    async fn until_gap(&self, text: &str) -> Result<()> {
        wait::until(&format!("a gap with {text:?}"), SOON, async || {
            let gaps: BTreeSet<String> = lock(&self.blocks)
                .iter()
                .flat_map(|block| block.metrics.values())
                .filter_map(|sample| match sample {
                    Sample::Gap(gap) => Some(gap.to_string()),
                    Sample::Arms { .. } => None,
                })
                .collect();
            ensure!(gaps.iter().any(|gap| gap.contains(text)), "the gaps are {gaps:?}");
            Ok(())
        })
        .await
    }

    // ---- comparison ----

    fn compare(&self, expected: Expected) -> Result<()> {
        let counted = &self.counted;
        let mut has_gap_with_text = false;
        for metric in ["errors", "slow"] {
            let (read, gaps) = self.read_counts(metric)?;
            let details = format!("{metric}: counted {counted:?}, read {read:?}, gaps {gaps:#?}");
            let has_gap = |text: &str| gaps.iter().any(|gap| gap.contains(text));
            match expected {
                Expected::Exact => {
                    ensure!(read == *counted, "the read counts differ: {details}");
                    ensure!(gaps.is_empty(), "there is a gap: {details}");
                }
                Expected::ExactAfterGaps(text) => {
                    ensure!(read == *counted, "the read counts differ: {details}");
                    ensure!(has_gap(text), "there is no gap with {text:?}: {details}");
                }
                Expected::LessWithGaps(text) => {
                    let is_less = read.iter().all(|(arm, read)| {
                        counted.get(arm).is_some_and(|counted| read.0 <= counted.0 && read.1 <= counted.1)
                    });
                    ensure!(is_less, "more was read than counted: {details}");
                    let has_gap = has_gap(text);
                    ensure!(has_gap || read == *counted, "counts lack without a gap with {text:?}: {details}");
                    has_gap_with_text |= has_gap;
                }
            }
        }
        if let Expected::LessWithGaps(text) = expected {
            ensure!(has_gap_with_text, "no metric has a gap with {text:?}");
        }
        Ok(())
    }

    /// Returns the sums of the blocks by arm, and the gaps of a metric.
    fn read_counts(&self, metric: &str) -> Result<(BTreeMap<String, BadAndAll>, Vec<String>)> {
        let (mut read, mut gaps) = (BTreeMap::<String, BadAndAll>::new(), Vec::new());
        for block in lock(&self.blocks).iter() {
            match block.metrics.get(metric).with_context(|| format!("a block has no metric {metric}"))? {
                Sample::Arms { canary, stable } => {
                    let pods = block.pods.get(metric).into_iter().flatten().filter_map(|(_, pod)| counts(pod));
                    let of_pods = pods.fold((0, 0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
                    let of_canary = canary.as_ref().and_then(counts).unwrap_or_default();
                    ensure!(of_pods == of_canary, "{metric}: the canary has {of_canary:?}, its pods have {of_pods:?}");
                    for (arm, reading) in [("canary", canary), ("stable", stable)] {
                        let Some((bad, all)) = reading.as_ref().and_then(counts) else { continue };
                        let sum = read.entry(arm.to_owned()).or_default();
                        *sum = (sum.0 + bad, sum.1 + all);
                    }
                }
                Sample::Gap(gap) => gaps.push(gap.to_string()),
            }
        }
        Ok((read, gaps))
    }
}

/// Returns the counts of a ratio, or of a histogram whose bad requests are above its last edge.
fn counts(reading: &Reading) -> Option<BadAndAll> {
    match reading {
        Reading::Ratio { hits, total } => Some((*hits, *total)),
        Reading::Histogram { counts, .. } => Some((*counts.last()?, counts.iter().sum())),
        Reading::Count(_) | Reading::Value(_) => None,
    }
}

/// Reads a block once a second until it is stopped.
async fn read(
    namespace: String,
    native: bool,
    pods: Arc<PodList>,
    blocks: Arc<Mutex<Vec<Block>>>,
    stop: CancellationToken,
) -> Result<()> {
    let options =
        prometheus::Options { url: URL.to_owned(), queries_per_second: 200, ..prometheus::Options::default() };
    let second = Span::from_secs(1);
    let (lag, scrape_interval) = (Span::from_secs(3), CONFIGURED_SCRAPE_INTERVAL);
    let reading = Options { interval: second, lag, scrape_interval, window: second };
    let mut sampler = Sampler::new(Arc::new(Prometheus::new(&options)?), pods, reading);
    let arm = |uid: &str, name: &str| ArmKey { deployment_uid: uid.to_owned(), pod_hash: None, name: name.to_owned() };
    let metric = |text: &str| -> Result<Metric> { Ok(serde_json::from_str(text)?) };
    let metrics = BTreeMap::from([
        (
            "errors".to_owned(),
            metric(r#"{"kind":"ratio","series":"requests_total","hits":{"label":"code","matches":"5.."}}"#)?,
        ),
        ("slow".to_owned(), Metric { native, ..metric(r#"{"kind":"histogram","series":"seconds"}"#)? }),
    ]);
    let mut watch = Watch {
        workload: Workload { cluster: "test".into(), namespace, kind: WorkloadKind::Deployment, name: "web".into() },
        per_pod: metrics.keys().cloned().collect(),
        metrics: Arc::new(metrics),
        per_process: BTreeSet::new(),
        warm_up: Span::ZERO,
        canary: Some(arm("canary", "web-canary")),
        stable: arm("stable", "web"),
        since: SystemClock.now(),
        last: None,
    };
    let mut ticks = tokio::time::interval(second.to_std());
    while !stop.is_cancelled() {
        ticks.tick().await;
        let (_, at) = grid(SystemClock.now(), reading.interval, reading.lag);
        for (_, block) in sampler.tick(std::slice::from_ref(&watch), at).await {
            watch.last = Some(block.to);
            lock(&blocks).push(block);
        }
    }
    Ok(())
}
