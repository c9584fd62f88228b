//! What the sampler makes of counters that a real Prometheus scraped: exactly what was counted, or a gap that says why.
//!
//! Exporters whose counts are known go through what happens to exporters. Each scene has a namespace of its own and is read by
//! the product's sampler once a second; all are played side by side, at once.

use std::collections::BTreeMap;
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
use futures::future::try_join_all;
use serde_json::json;

use super::exposition::{self, Buckets, Page};
use super::{Told, told};
use crate::plane::prometheus::URL;
use crate::plane::story::Story;

/// So many times something is counted, so far apart.
const STEPS: u64 = 60;
const STEP: Duration = Duration::from_millis(400);
/// After this everything is scraped, and read.
const SETTLED: Duration = Duration::from_secs(7);

pub fn stories() -> Vec<Told> {
    vec![told("counting::known_counts_come_out_or_a_gap_says_why", known_counts)]
}

/// What a scene must come to.
#[derive(Clone, Copy, PartialEq)]
enum Comes {
    /// All was counted, and every block has counts once it has begun.
    Exactly,
    /// All was counted, in the end.
    ExactlyAfterGaps(&'static str),
    /// Not more than all, with a gap of these words where something is missing.
    LessWithGaps(&'static str),
}

type Play = fn(&mut Scene, u64);

async fn known_counts(story: &Story) -> Result<()> {
    let scenes: [(&str, &[&str], Play, Comes); 14] = [
        ("two replicas, scraped at different times", &["web-1", "web-2"], |_, _| {}, Comes::Exactly),
        ("a process that begins anew", &["web-1", "web-2"], begins_anew, Comes::Exactly),
        ("a series that comes late", &["web-1"], comes_late, Comes::Exactly),
        ("scrapes that fail for a while", &["web-1"], fails_for_a_while, Comes::ExactlyAfterGaps(" s old")),
        ("one of two that can't be scraped", &["web-1", "web-2"], fails_for_a_while, Comes::Exactly),
        ("a new version of all pods in the middle", &["web-1", "web-2"], is_upgraded, Comes::Exactly),
        // The engine no longer asks for one that is gone; here it is asked for to the end.
        ("a canary that comes and goes", &["web-1"], has_a_canary, Comes::ExactlyAfterGaps(" s old")),
        ("buckets spelled both ways", &["web-1", "web-2"], is_spelled_otherwise, Comes::Exactly),
        ("a counter that falls by itself", &["web-1"], falls, Comes::LessWithGaps("fell")),
        ("native: two replicas", &["web-1", "web-2"], |_, _| {}, Comes::Exactly),
        ("native: a process that begins anew, with other buckets", &["web-1", "web-2"], begins_coarser, Comes::Exactly),
        ("native: buckets that are merged", &["web-1"], is_coarsened, Comes::Exactly),
        ("a counter that is no number", &["web-1"], is_no_number, Comes::LessWithGaps("not a number")),
        ("a histogram without its last bucket", &["web-1"], loses_its_last_bucket, Comes::LessWithGaps("+Inf")),
    ];
    let mut tellings = Vec::new();
    for (n, (name, pods, play, comes)) in scenes.into_iter().enumerate() {
        let native = name.starts_with("native");
        let scene = Scene::begin(story, format!("{}-{n}", story.namespace), pods, native).await?;
        tellings.push(async move { scene.tell(play, comes).await.with_context(|| name.to_owned()) });
    }
    try_join_all(tellings).await.map(|_| ())
}

fn begins_anew(scene: &mut Scene, step: u64) {
    // Nothing is counted shortly before: what no scrape has seen is nobody's to count.
    scene.change("web-1", |pod| pod.idle = (20..30).contains(&step));
    if step == 28 {
        scene.change("web-1", |pod| (pod.ok, pod.bad, pod.started) = (0, 0, SystemClock.now()));
        scene.facts("web-1", |facts| *facts.restarts.entry("app".to_owned()).or_default() += 1);
    }
}

fn begins_coarser(scene: &mut Scene, step: u64) {
    begins_anew(scene, step);
    if step == 28 {
        scene.change("web-1", |pod| pod.schema = 1);
    }
}

/// Three times: once it makes no difference at the edges, and twice it does.
fn is_coarsened(scene: &mut Scene, step: u64) {
    for (at, schema) in [(15, 2), (30, 1), (45, 0)] {
        if step == at {
            scene.change("web-1", |pod| pod.schema = schema);
        }
    }
}

fn comes_late(scene: &mut Scene, step: u64) {
    scene.change("web-1", |pod| pod.only_good = step < 30);
}

fn fails_for_a_while(scene: &mut Scene, step: u64) {
    scene.change("web-1", |pod| pod.away = (20..36).contains(&step));
}

/// One after the other, as a Deployment does it: Prometheus takes up to six seconds to hear of the first one's successor.
fn is_upgraded(scene: &mut Scene, step: u64) {
    for (old, new, at) in [("web-1", "web-3", 18), ("web-2", "web-4", 38)] {
        if (at - 8..at).contains(&step) {
            scene.change(old, |pod| pod.idle = true);
        }
        if step == at {
            scene.remove(old);
            scene.add(new, "stable", "h2");
        }
    }
}

fn has_a_canary(scene: &mut Scene, step: u64) {
    match step {
        20 => scene.add("web-canary-1", "canary", "h2"),
        42..50 => scene.change("web-canary-1", |pod| pod.idle = true),
        50 => scene.remove("web-canary-1"),
        _ => {}
    }
}

fn is_spelled_otherwise(scene: &mut Scene, _: u64) {
    scene.change("web-2", |pod| pod.long_edges = true);
}

fn falls(scene: &mut Scene, step: u64) {
    if step == 30 {
        scene.change("web-1", |pod| (pod.ok, pod.bad) = (pod.ok / 2, pod.bad / 2));
    }
}

fn is_no_number(scene: &mut Scene, step: u64) {
    scene.change("web-1", |pod| pod.no_number = (20..30).contains(&step));
}

fn loses_its_last_bucket(scene: &mut Scene, step: u64) {
    scene.change("web-1", |pod| pod.endless = (20..30).contains(&step));
}

/// An exporter and what it has counted.
#[derive(Clone)]
struct Process {
    ok: u64,
    bad: u64,
    started: Timestamp,
    /// It counts nothing.
    idle: bool,
    /// It counts no bad ones yet, and has no series for them.
    only_good: bool,
    /// Its page is not to be had.
    away: bool,
    /// `le="1.0"` instead of `le="1"`.
    long_edges: bool,
    /// It has no `+Inf`.
    endless: bool,
    /// Its good ones are `NaN`.
    no_number: bool,
    /// Its histogram is a native one …
    native: bool,
    /// … of this schema.
    schema: i32,
    address: SocketAddr,
}

impl Process {
    fn page(&self) -> String {
        let Process { ok, bad, .. } = self;
        let good = if self.no_number { "NaN".to_owned() } else { ok.to_string() };
        let mut page = format!("process_start_time_seconds {:.3}\n", self.started.as_millisecond() as f64 / 1000.0);
        let _ = writeln!(page, "requests_total{{code=\"200\"}} {good}");
        if *bad > 0 {
            let _ = writeln!(page, "requests_total{{code=\"500\"}} {bad}");
        }
        let edges = if self.long_edges { ["0.5", "1.0"] } else { ["0.5", "1"] };
        for edge in edges {
            let _ = writeln!(page, "seconds_bucket{{le=\"{edge}\"}} {good}");
        }
        if !self.endless {
            let _ = writeln!(page, "seconds_bucket{{le=\"+Inf\"}} {}", ok + bad);
        }
        page
    }

    /// The same in protobuf, with a native histogram of two series: Prometheus merges them to the coarser one. The good ones
    /// are of 0.65, and the bad ones of two millions, which is above all edges.
    fn native_page(&self) -> Vec<u8> {
        let Process { ok, bad, schema, .. } = *self;
        let bucket = |eighths: i32, schema: i32| (eighths - 1).div_euclid(1 << (3 - schema)) + 1;
        let buckets =
            |schema, ok, bad| Buckets { schema, counts: vec![(bucket(-4, schema), ok), (bucket(168, schema), bad)] };
        let (fine, coarse) = (buckets(schema, ok - ok / 4, bad), buckets(schema.min(2), ok / 4, 0));
        let requests = [("200", ok), ("500", bad)];
        let requests: Vec<(&str, u64)> = requests.into_iter().filter(|(code, n)| *code == "200" || *n > 0).collect();
        Page::default()
            .gauge("process_start_time_seconds", self.started.as_millisecond() as f64 / 1000.0)
            .counters("requests_total", "code", &requests)
            .natives("seconds", "route", &[("a", fine), ("b", coarse)])
            .finish()
    }
}

/// By pod.
type Processes = Arc<Mutex<BTreeMap<String, Process>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn page(State((processes, pod)): State<(Processes, String)>) -> Response {
    let process = lock(&processes).get(&pod).filter(|process| !process.away).cloned();
    match process {
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(process) if process.native => {
            ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], process.native_page()).into_response()
        }
        Some(process) => process.page().into_response(),
    }
}

/// What the cluster knows of the pods; who is gone is remembered.
#[derive(Default)]
struct Roster(Mutex<BTreeMap<String, PodFacts>>);

impl PodDirectory for Roster {
    fn locate(&self, _: &str, pod: &str) -> Option<PodFacts> {
        lock(&self.0).get(pod).cloned()
    }

    fn service(&self, _: &Workload) -> Option<(String, u16)> {
        None
    }
}

struct Scene {
    namespace: String,
    processes: Processes,
    roster: Arc<Roster>,
    /// Where Prometheus is told of the exporters.
    targets: PathBuf,
    /// All that was ever counted, by arm.
    counted: BTreeMap<String, (u64, u64)>,
    /// Addresses of the pods that may still come: a listener each.
    free: Vec<(String, SocketAddr)>,
    /// Whether its histograms are native ones.
    native: bool,
}

impl Scene {
    async fn begin(story: &Story, namespace: String, pods: &[&str], native: bool) -> Result<Scene> {
        let folder = story.plane.prometheus.targets.parent().context("a folder")?;
        let mut scene = Scene {
            targets: folder.join(format!("extra-{namespace}.json")),
            namespace,
            processes: Processes::default(),
            roster: Arc::default(),
            counted: BTreeMap::new(),
            free: Vec::new(),
            native,
        };
        for pod in pods.iter().copied().chain(["web-3", "web-4", "web-canary-1"]) {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            scene.free.push((pod.to_owned(), listener.local_addr()?));
            let state = (scene.processes.clone(), pod.to_owned());
            let router = Router::new().route("/metrics", get(page)).with_state(state);
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        for pod in pods {
            scene.add(pod, "stable", "h1");
        }
        Ok(scene)
    }

    fn add(&mut self, name: &str, arm: &str, hash: &str) {
        let Some((_, address)) = self.free.iter().find(|(pod, _)| pod == name).cloned() else { return };
        let started = SystemClock.now();
        let process = Process {
            ok: 0,
            bad: 0,
            started,
            idle: false,
            only_good: false,
            away: false,
            long_edges: false,
            endless: false,
            no_number: false,
            native: self.native,
            schema: 3,
            address,
        };
        lock(&self.processes).insert(name.to_owned(), process);
        let (deployment_uid, pod_hash) = (arm.to_owned(), hash.to_owned());
        let facts = PodFacts { deployment_uid, pod_hash, started, restarts: BTreeMap::new() };
        lock(&self.roster.0).insert(name.to_owned(), facts);
        self.tell_prometheus();
    }

    fn remove(&mut self, name: &str) {
        lock(&self.processes).remove(name);
        self.tell_prometheus();
    }

    fn tell_prometheus(&self) {
        let processes = lock(&self.processes);
        let targets = processes.iter().map(|(pod, process)| {
            let labels = json!({ "namespace": self.namespace, "pod": pod, "container": "app" });
            json!({ "targets": [process.address.to_string()], "labels": labels })
        });
        let text = serde_json::Value::from_iter(targets).to_string();
        let fresh = self.targets.with_extension("new");
        if let Err(error) = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &self.targets)) {
            eprintln!("{}: {error}", self.targets.display());
        }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Process)) {
        if let Some(process) = lock(&self.processes).get_mut(name) {
            change(process);
        }
    }

    fn facts(&mut self, name: &str, change: impl FnOnce(&mut PodFacts)) {
        if let Some(facts) = lock(&self.roster.0).get_mut(name) {
            change(facts);
        }
    }

    fn count(&mut self, step: u64) {
        for (pod, process) in lock(&self.processes).iter_mut().filter(|(_, process)| !process.idle) {
            let (ok, bad) = (10 + step % 7, if process.only_good { 0 } else { step % 3 });
            process.ok += ok;
            process.bad += bad;
            let arm = if pod.contains("canary") { "canary" } else { "stable" };
            let sum = self.counted.entry(arm.to_owned()).or_default();
            *sum = (sum.0 + bad, sum.1 + ok + bad);
        }
    }

    async fn tell(mut self, play: Play, comes: Comes) -> Result<()> {
        let stop = tokio_util::sync::CancellationToken::new();
        let reading = tokio::spawn(read(self.namespace.clone(), self.native, self.roster.clone(), stop.clone()));
        // Until Prometheus knows the exporters and a first reading has been taken: nothing has been counted yet.
        tokio::time::sleep(SETTLED).await;
        for step in 0..STEPS {
            play(&mut self, step);
            self.count(step);
            tokio::time::sleep(STEP).await;
        }
        tokio::time::sleep(SETTLED).await;
        stop.cancel();
        let blocks = reading.await??;
        let _ = std::fs::remove_file(&self.targets);
        self.compare(&blocks, comes)
    }

    fn compare(&self, blocks: &[Block], comes: Comes) -> Result<()> {
        for metric in ["errors", "slow"] {
            let mut seen: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            let mut gaps = Vec::new();
            for block in blocks {
                match block.metrics.get(metric).context("the metric")? {
                    Sample::Arms { canary, stable } => {
                        let pods = block.pods.get(metric).into_iter().flatten().filter_map(|(_, pod)| counts(pod));
                        let of_pods = pods.fold((0, 0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
                        let of_canary = canary.as_ref().and_then(counts).unwrap_or_default();
                        ensure!(of_pods == of_canary, "{metric}: the canary {of_canary:?}, its pods {of_pods:?}");
                        for (arm, reading) in [("canary", canary), ("stable", stable)] {
                            let Some((bad, n)) = reading.as_ref().and_then(counts) else { continue };
                            let sum = seen.entry(arm.to_owned()).or_default();
                            *sum = (sum.0 + bad, sum.1 + n);
                        }
                    }
                    Sample::Gap(gap) => gaps.push(gap.to_string()),
                }
            }
            let told = |words: &str| gaps.iter().any(|gap| gap.contains(words));
            let all = &self.counted;
            let less =
                seen.iter().all(|(arm, sum)| all.get(arm).is_some_and(|known| sum.0 <= known.0 && sum.1 <= known.1));
            let fits = match comes {
                Comes::Exactly => seen == *all && gaps.is_empty(),
                Comes::ExactlyAfterGaps(words) => seen == *all && told(words),
                // The other metric is none of it.
                Comes::LessWithGaps(words) => less && (told(words) || seen == *all),
            };
            ensure!(fits, "{metric}: counted {all:?}, seen {seen:?}, gaps {gaps:#?}");
        }
        Ok(())
    }
}

/// The bad ones and all, of a ratio or of a histogram with everything bad above its last edge.
fn counts(reading: &Reading) -> Option<(u64, u64)> {
    match reading {
        Reading::Ratio { hits, total } => Some((*hits, *total)),
        Reading::Histogram { counts, .. } => Some((*counts.last()?, counts.iter().sum())),
        Reading::Count(_) | Reading::Value(_) => None,
    }
}

/// Reads once a second until it is stopped.
async fn read(
    namespace: String,
    native: bool,
    roster: Arc<Roster>,
    stop: tokio_util::sync::CancellationToken,
) -> Result<Vec<Block>> {
    let options =
        prometheus::Options { url: URL.to_owned(), queries_per_second: 200, ..prometheus::Options::default() };
    let second = Span::from_secs(1);
    let reading = Options { interval: second, lag: Span::from_secs(3), scrape_interval: second, window: second };
    let mut sampler = Sampler::new(Arc::new(Prometheus::new(&options)?), roster, reading);
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
        metrics,
        per_process: std::collections::BTreeSet::new(),
        canary: Some(arm("canary", "web-canary")),
        stable: arm("stable", "web"),
        since: SystemClock.now(),
        last: None,
    };
    let mut blocks = Vec::new();
    let mut ticks = tokio::time::interval(second.to_std());
    while !stop.is_cancelled() {
        ticks.tick().await;
        let (_, at) = grid(SystemClock.now(), reading.interval, reading.lag);
        for (_, block) in sampler.tick(std::slice::from_ref(&watch), at).await {
            watch.last = Some(block.to);
            blocks.push(block);
        }
    }
    Ok(blocks)
}
