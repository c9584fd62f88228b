//! Measures many rollouts that begin at once, on a real Kafka, API server and Prometheus: the times from the events until each
//! rollout is in its step and until its first counted block, and the load at rest and in analysis.
//!
//! The workloads have one pod each and split by replicas. Prometheus scrapes every 15 s, and the grid has 30 s. Each pod gets a
//! few requests, so that it has series. The times are those at which the daemon's API shows a rollout, which is asked twice a
//! second; queries are the daemon's own count, API requests those of the API server's audit log, and cores those of `/proc`.
//!
//! `tests/run bench` runs it. `BELLWETHER_WORKLOADS` is the number of workloads.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures and prints")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::fixture::STABLE;
use bellwether_testkit::plane::pods::PORT;
use bellwether_testkit::plane::{Fixture, FixtureOptions, PlanePaths, Sandbox, bench, http};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::Value;

const V2: &str = "registry.test/shop/web:v2";
const WORKLOADS: usize = 500;
/// The number of partitions of the events topic, which is the default of `kafka.partitions`.
const PARTITIONS: i32 = 12;
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
    let paths =
        PlanePaths { program: env!("CARGO_BIN_EXE_bellwether").into(), scratch: env!("CARGO_TARGET_TMPDIR").into() };
    bench::run(&paths, "scale", SCRAPE_INTERVAL, async |sandbox| {
        measure(sandbox, bench::number("BELLWETHER_WORKLOADS", WORKLOADS)?).await
    })
}

async fn measure(sandbox: &Arc<Sandbox>, workloads: usize) -> Result<()> {
    let names: Vec<String> = (0..workloads).map(|n| format!("w{n}")).collect();
    let created = stream::iter(&names).map(|name| sandbox.create_workload(name, 1, &[("app", STABLE)]));
    created.buffer_unordered(8).try_collect::<Vec<()>>().await?;
    println!("{workloads} workloads are created");
    let requests = tokio::spawn(ask_all_pods(Arc::clone(sandbox)));
    let policy = POLICY.to_owned();
    let options =
        FixtureOptions { policy, routed: false, partitions: PARTITIONS, reading: READING, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    // The past from which the calibrations learn.
    tokio::time::sleep(SETTLED).await;
    show_load("at rest", &load(&fixture, sandbox).await?);

    let sent = Instant::now();
    stream::iter(&names).map(|name| sandbox.request_rollout(name, V2)).buffered(8).try_collect::<Vec<_>>().await?;
    let times = times_until_judged(&fixture, workloads, sent).await?;
    bench::show_head();
    bench::show("events → step begun", "s", times.begun);
    bench::show("events → counted block", "s", times.counted);
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
    /// The bytes that the journal and the decisions topic have grown by, on the broker's disk, a second.
    stored: f64,
}

async fn load(fixture: &Fixture<'_>, sandbox: &Sandbox) -> Result<Load> {
    let pid = fixture.daemon.pid()?;
    let (began, from) = (Instant::now(), Timestamp::now());
    let (cpu, queries) = (bench::cpu_seconds(pid)?, count(fixture, "bellwether_promql_duration_seconds_count").await?);
    let stored = stored_bytes(sandbox)?;
    tokio::time::sleep(MEASURED).await;
    let seconds = began.elapsed().as_secs_f64();
    let user = fixture.user.as_str();
    let requests = sandbox.plane.kubernetes.audit()?.into_iter().filter(|event| {
        let at = event["requestReceivedTimestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        event["user"]["username"] == user && event["stage"] == "ResponseComplete" && at.is_some_and(|at| at >= from)
    });
    Ok(Load {
        cores: (bench::cpu_seconds(pid)? - cpu) / seconds,
        memory_mib: bench::memory_mib(pid, "VmRSS")?,
        queries: (count(fixture, "bellwether_promql_duration_seconds_count").await? - queries) / seconds,
        requests: requests.count() as f64 / seconds,
        stored: (stored_bytes(sandbox)? - stored) / seconds,
    })
}

/// Returns the size of the journal and of the decisions topic on the broker's disk.
fn stored_bytes(sandbox: &Sandbox) -> Result<f64> {
    let bytes = ["journal", "decisions"].map(|kind| sandbox.plane.kafka.stored_bytes(&sandbox.topic(kind)));
    bytes.into_iter().try_fold(0.0, |sum, bytes| Ok(sum + bytes? as f64))
}

/// Returns the value of a metric without labels in the daemon's `/metrics`; 0 if it has none yet.
async fn count(fixture: &Fixture<'_>, name: &str) -> Result<f64> {
    let (_, text) = fixture.daemon.get("/metrics").await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(Ok(0.0), |value| value.trim().parse().context("the value of a metric"))
}

fn show_load(label: &str, Load { cores, memory_mib, queries, requests, stored }: &Load) {
    println!(
        "{label:<12} {cores:.3} cores, {memory_mib:.0} MiB, {queries:.2} queries a second, {requests:.2} API requests a second, \
         {stored:.0} bytes a second to Kafka's disk"
    );
}
