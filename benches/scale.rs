//! Measures many rollouts that begin at once, on a real Kafka, API server and Prometheus: the times from the events until each
//! rollout is in its step and until its first counted block, and the load at rest and in analysis.
//!
//! The workloads have one pod each and split by replicas. Prometheus scrapes every 15 s, and the grid has 30 s. Each pod gets a
//! few requests, so that it has series. The times are those at which the daemon's API shows a rollout, which is asked twice a
//! second; queries are the daemon's own count, API requests those of the API server's audit log, and cores those of `/proc`.
//!
//! `tests/run bench` runs it. `BELLWETHER_WORKLOADS` is the number of workloads.
#![expect(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr, reason = "it measures and prints")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::fixture::STABLE;
use bellwether_testkit::plane::pods::PORT;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Plane, PlanePaths, Sandbox, http, namespace};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::Value;

const V2: &str = "registry.test/shop/web:v2";
const WORKLOADS: usize = 500;
const SCRAPE_INTERVAL: Duration = Duration::from_secs(15);
/// Values of `prometheus.interval`, `lag` and `scrape-interval`.
const READING: [&str; 3] = ["30s", "15s", "15s"];
/// The time between two requests to each pod.
const REQUESTS: Duration = Duration::from_secs(10);
/// The time over which the load is measured.
const MEASURED: Duration = Duration::from_secs(120);
/// The time after the start, and after the last first block, in which the load settles.
const SETTLED: Duration = Duration::from_secs(60);
/// Deadline for all rollouts to be judged.
const DEADLINE: Duration = Duration::from_secs(20 * 60);

const POLICY: &str = r#"
[[policy]]
name = "scale"
match = { namespaces = ["*"], workloads = ["*"], images = ["*"] }
traffic = "replicas"
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
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let workloads = std::env::var("BELLWETHER_WORKLOADS").ok().map_or(Ok(WORKLOADS), |text| text.parse())?;
    let paths =
        PlanePaths { program: env!("CARGO_BIN_EXE_bellwether").into(), scratch: env!("CARGO_TARGET_TMPDIR").into() };
    namespace::enter(&paths.data())?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let logs = paths.fresh_logs()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let plane = Arc::new(Plane::start_scraping(&paths, &logs, SCRAPE_INTERVAL).await?);
        let sandbox = Arc::new(Sandbox::create(plane, "scale").await?);
        let result = measure(&sandbox, workloads).await;
        if result.is_err() {
            eprintln!("{}", sandbox.describe().await);
        }
        result
    })
}

async fn measure(sandbox: &Arc<Sandbox>, workloads: usize) -> Result<()> {
    let names: Vec<String> = (0..workloads).map(|n| format!("w{n}")).collect();
    let created = stream::iter(&names).map(|name| sandbox.create_workload(name, 1, &[("app", STABLE)]));
    created.buffer_unordered(8).try_collect::<Vec<()>>().await?;
    println!("{workloads} workloads are created");
    let requests = tokio::spawn(ask_all_pods(Arc::clone(sandbox)));
    let policy = POLICY.to_owned();
    let options = FixtureOptions { policy, routed: false, reading: READING, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    // The past from which the calibrations learn.
    tokio::time::sleep(SETTLED).await;
    show_load("at rest", &load(&fixture, sandbox).await?);

    let sent = Instant::now();
    stream::iter(&names).map(|name| sandbox.request_rollout(name, V2)).buffered(8).try_collect::<Vec<_>>().await?;
    let times = times_until_judged(&fixture, workloads, sent).await?;
    println!("\n{:<26} {:>6} {:>9} {:>9} {:>9} {:>9}", "", "n", "p50", "p90", "p99", "max");
    show("events → step begun", times.begun);
    show("events → counted block", times.counted);
    tokio::time::sleep(SETTLED).await;
    show_load("in analysis", &load(&fixture, sandbox).await?);
    requests.abort();
    Ok(())
}

/// Sends a request to each pod at intervals.
async fn ask_all_pods(sandbox: Arc<Sandbox>) -> Result<()> {
    let http = http::client()?;
    loop {
        let round = Instant::now();
        let pods = sandbox.pods().list(&ListParams::default()).await?;
        let addresses = pods.items.into_iter().filter_map(|pod| pod.status?.pod_ip);
        // A pod that does not answer yet gets the next one.
        let asked = addresses.map(|address| http.get(format!("http://{address}:{PORT}/")).send());
        stream::iter(asked).buffer_unordered(16).map(drop).collect::<Vec<()>>().await;
        tokio::time::sleep(REQUESTS.saturating_sub(round.elapsed())).await;
    }
}

/// The seconds from the events, for each rollout.
struct Times {
    begun: Vec<f64>,
    counted: Vec<f64>,
}

async fn times_until_judged(fixture: &Fixture<'_>, workloads: usize, sent: Instant) -> Result<Times> {
    let (mut begun, mut counted): (BTreeMap<String, f64>, BTreeMap<String, f64>) = Default::default();
    while counted.len() < workloads {
        ensure!(
            sent.elapsed() < DEADLINE,
            "{} of {workloads} rollouts have begun their step, and {} have a counted block",
            begun.len(),
            counted.len()
        );
        let (_, text) = fixture.daemon.get("/api/v1/rollouts").await?;
        let rollouts: Vec<Value> = serde_json::from_str(&text)?;
        let now = sent.elapsed().as_secs_f64();
        for rollout in &rollouts {
            let id = || rollout["id"].as_str().unwrap_or_default().to_owned();
            if rollout["phase"] == "stepping" {
                begun.entry(id()).or_insert(now);
                if has_counts(rollout) {
                    counted.entry(id()).or_insert(now);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(Times { begun: begun.into_values().collect(), counted: counted.into_values().collect() })
}

/// Returns whether a check of the step has seen requests.
fn has_counts(rollout: &Value) -> bool {
    let checks = rollout["checks"].as_array();
    checks
        .into_iter()
        .flatten()
        .any(|check| matches!(check["verdict"].as_str(), Some("pass" | "regressed" | "insufficient")))
}

/// The daemon's load over [`MEASURED`].
struct Load {
    cores: f64,
    memory_mib: f64,
    queries: f64,
    requests: f64,
}

async fn load(fixture: &Fixture<'_>, sandbox: &Sandbox) -> Result<Load> {
    let pid = fixture.daemon.pid()?;
    let (began, from) = (Instant::now(), Timestamp::now());
    let (cpu, queries) = (cpu_seconds(pid)?, count(fixture, "bellwether_promql_duration_seconds_count").await?);
    tokio::time::sleep(MEASURED).await;
    let seconds = began.elapsed().as_secs_f64();
    let user = fixture.user.as_str();
    let requests = sandbox.plane.kubernetes.audit()?.into_iter().filter(|event| {
        let at = event["requestReceivedTimestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        event["user"]["username"] == user && event["stage"] == "ResponseComplete" && at.is_some_and(|at| at >= from)
    });
    Ok(Load {
        cores: (cpu_seconds(pid)? - cpu) / seconds,
        memory_mib: resident_mib(pid)?,
        queries: (count(fixture, "bellwether_promql_duration_seconds_count").await? - queries) / seconds,
        requests: requests.count() as f64 / seconds,
    })
}

/// Returns the value of a metric without labels in the daemon's `/metrics`; 0 if it has none yet.
async fn count(fixture: &Fixture<'_>, name: &str) -> Result<f64> {
    let (_, text) = fixture.daemon.get("/metrics").await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(Ok(0.0), |value| value.trim().parse().context("the value of a metric"))
}

/// Returns the CPU time of a process so far. A tick is a hundredth of a second on Linux.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may have spaces. The 14th and 15th fields are the times in user and system mode.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let field =
        |n: usize| fields.split_whitespace().nth(n).context("/proc/PID/stat")?.parse::<f64>().context("a number");
    Ok((field(11)? + field(12)?) / 100.0)
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn show_load(label: &str, Load { cores, memory_mib, queries, requests }: &Load) {
    println!(
        "{label:<12} {cores:.3} cores, {memory_mib:.0} MiB, {queries:.2} queries a second, {requests:.2} API requests a second"
    );
}

fn show(label: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1];
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
    println!("{label:<26} {:>6} {p50:>7.1} s {p90:>7.1} s {p99:>7.1} s {max:>7.1} s", values.len());
}
