//! Measures the daemon's reaction times with a real Kafka, API server and gateway that have no other load.
//!
//! - *Event to canary*: from just before the event is produced until the API server has answered the write that creates the
//!   canary's Deployment.
//! - *Verdict to weight 0*: from the decision to roll back until the API server has answered the write that sets the
//!   canary's weight to 0.
//! - *Killed to judged*: from a SIGKILL during a step until the journal has the rollout's next block.
//!
//! The times of the writes come from the API server's audit log (in microseconds); the daemon contributes only the time of
//! its decision.
//!
//! `tests/run bench` runs it; `BELLWETHER_SAMPLES` sets the number of measured rollouts.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it reads the clock and prints, as do the parts that it shares with the tests"
)]

#[path = "../tests/real"]
mod real {
    pub mod namespace;
    pub mod plane;
}
#[expect(dead_code, reason = "the benchmark uses a part of the stories' helpers")]
#[path = "../tests/real/stories/scene.rs"]
mod scene;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use real::{namespace, plane};
use serde_json::Value;

use crate::plane::Plane;
use crate::plane::bellwether::Bellwether;
use crate::plane::story::Story;
use crate::scene::{GOOD, Scene, Setup};

const V2: &str = "registry.test/shop/web:v2";

/// The number of rollouts, enough for a 99th percentile.
const SAMPLES: usize = 200;
/// The time between two rollouts, long enough that a rollout seldom waits for the previous one.
const PAUSE: Duration = Duration::from_millis(3000);
/// The number of workloads, which take turns with newer and newer versions. They are few, because the gateway reads all
/// routes again after each change of a route.
const WORKLOADS: usize = 20;
const LONG: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);
/// The number of kills of a daemon without, and then with, a second daemon.
const DEATHS: usize = 10;
/// A metric that is always 1.
const METRIC: &str = "[metric.always]\nkind = \"query\"\nquery = \"vector(1)\"\n";

/// Returns a policy whose check compares the metric with `max`, and whose step is longer than the measurement.
fn policy(name: &str, workloads: &str, max: f64) -> String {
    format!(
        r#"
[[policy]]
name = "{name}"
match = {{ namespaces = ["*"], workloads = {workloads}, images = ["*"] }}
drain = "1s"

[[policy.check]]
metric = "always"
judge = "threshold"
max = {max:?}
every = "1s"
window = "5s"

[[policy.step]]
weight = "10%"
min-time = "1h"
"#
    )
}

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
    let samples = std::env::var("BELLWETHER_SAMPLES").ok().map_or(Ok(SAMPLES), |text| text.parse())?;
    namespace::enter()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let logs = plane::fresh_logs()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let plane = Arc::new(Plane::start(&plane::cache()?, &namespace::data(), &logs).await?);
        let story = Story::begin(plane, "reaction").await?;
        let result = measure(&story, samples).await;
        if result.is_err() {
            eprintln!("{}", story.describe().await);
        }
        result
    })
}

async fn measure(story: &Story, samples: usize) -> Result<()> {
    // The check of the workloads `w…` regresses at its first verdict, which gives a decision to measure; the others pass.
    let policies = [policy("calm", r#"["alone*", "other*"]"#, 2.0), policy("bench", r#"["*"]"#, 0.5)];
    let policy = METRIC.to_owned() + &policies.concat();
    let scene = Scene::begin_with(story, Setup { policy, ..Setup::default() }).await?;
    let names: Vec<String> = (0..WORKLOADS).map(|n| format!("w{n}")).collect();
    stream::iter(&names)
        .map(|name| story.create_routed(name, GOOD))
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;
    println!("{WORKLOADS} workloads were created");

    let mut sent = Vec::new();
    for n in 0..samples {
        let name = &names[n % WORKLOADS];
        sent.push((name, Timestamp::now()));
        story.ask_for(name, &format!("registry.test/shop/web:v{}", 2 + n / WORKLOADS)).await?;
        tokio::time::sleep(PAUSE).await;
    }
    let decisions = story
        .wait_until("every rollout to be rolled back", LONG, async || {
            let decisions = scene.decisions().await?;
            let over = decisions.iter().filter(|decision| decision["ending"] == "rolled-back").count();
            ensure!(over == samples, "{over} of {samples}");
            Ok(decisions)
        })
        .await?;

    let audit = story.plane.kubernetes.audit()?;
    let mut to_canary = Vec::new();
    for (name, sent) in &sent {
        to_canary.push(milliseconds(*sent, written(&audit, "deployments", &format!("{name}-canary"), *sent)?));
    }
    let mut to_zero = Vec::new();
    for decision in decisions.iter().filter(|decision| decision["kind"] == "roll-back") {
        let at: Timestamp = decision["at"].as_str().context("at")?.parse()?;
        let name = decision["workload"]["name"].as_str().context("workload")?;
        to_zero.push(milliseconds(at, written(&audit, "httproutes", name, at)?));
    }
    ensure!(to_zero.len() == samples, "{} decisions to roll back", to_zero.len());
    println!("\n{:<26} {:>6} {:>9} {:>9} {:>9} {:>9}", "", "n", "p50", "p90", "p99", "max");
    show("event → canary exists", to_canary);
    show("verdict → weight 0", to_zero);
    take_over(story, scene).await
}

/// Measures the time from a SIGKILL until a running rollout is judged again: by the same daemon, restarted at once, and by a
/// second daemon while the first stays down. The end is the rollout's next journal entry, so the time contains the consumer
/// group's rebalance, the restore of the partition and two readings of the counters.
async fn take_over(story: &Story, scene: Scene<'_>) -> Result<()> {
    let mut daemons = [scene.bellwether.twin(story, "a")?, scene.bellwether.twin(story, "b")?];
    drop(scene);
    daemons[0].start().await?;
    daemons[0].until_ready(SOON).await?;
    let mut alone = Vec::new();
    for n in 0..DEATHS {
        alone.push(died(story, &mut daemons[..1], &format!("alone{n}"), true).await?);
    }
    daemons[1].start().await?;
    daemons[1].until_ready(SOON).await?;
    let mut other = Vec::new();
    for n in 0..DEATHS {
        other.push(died(story, &mut daemons, &format!("other{n}"), false).await?);
    }
    show("killed → judged by itself", alone);
    show("killed → by the other one", other);
    Ok(())
}

/// Kills the owner of a new rollout, and returns the time in milliseconds until the rollout is judged again.
async fn died(story: &Story, daemons: &mut [Bellwether], name: &str, comes_back: bool) -> Result<f64> {
    story.create_routed(name, GOOD).await?;
    story.ask_for(name, V2).await?;
    let owner = story
        .wait_until("a rollout in its step", SOON, async || {
            for (n, daemon) in daemons.iter().enumerate() {
                let (_, body) = daemon.get("/api/v1/rollouts").await?;
                let rollouts: Vec<Value> = serde_json::from_str(&body)?;
                let ours = |rollout: &&Value| rollout["workload"].as_str().is_some_and(|key| key.ends_with(name));
                // The rollout must have been judged once before the kill.
                if rollouts.iter().find(ours).is_some_and(|rollout| rollout["checks"][0]["verdict"] == "pass") {
                    return Ok(n);
                }
            }
            anyhow::bail!("not yet")
        })
        .await?;
    let killed = Timestamp::now();
    daemons[owner].kill().await?;
    if comes_back {
        daemons[owner].start_unready()?;
    }
    let about = format!("/{name}/");
    let judged = story
        .wait_until("the rollout to be judged again", LONG, async || {
            let journal = story.records("journal").await?;
            let ours = journal.iter().filter(|record| record.key_text().contains(&about));
            let times = ours.filter_map(|record| Timestamp::from_millisecond(record.timestamp_ms?).ok());
            times.filter(|at| *at > killed).min().context("not yet")
        })
        .await?;
    if !comes_back {
        daemons[owner].start().await?;
        daemons[owner].until_ready(SOON).await?;
    }
    Ok(milliseconds(killed, judged))
}

/// Returns the time at which the API server answered the daemon's first write to an object after `since`.
fn written(audit: &[Value], resource: &str, name: &str, since: Timestamp) -> Result<Timestamp> {
    let times = audit.iter().filter_map(|entry| {
        let object = &entry["objectRef"];
        let ours = entry["user"]["username"] == "system:serviceaccount:bellwether:bellwether";
        let write = entry["stage"] == "ResponseComplete" && ["create", "patch"].contains(&entry["verb"].as_str()?);
        let good = entry["responseStatus"]["code"].as_u64()? < 300;
        let it = object["resource"] == resource && object["name"] == name;
        (ours && write && good && it).then(|| entry["stageTimestamp"].as_str()?.parse::<Timestamp>().ok())?
    });
    times.filter(|at| *at >= since).min().with_context(|| format!("no write to {resource} {name} after {since}"))
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_microsecond() - from.as_microsecond()) as f64 / 1000.0
}

fn show(label: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1];
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
    println!("{label:<26} {:>6} {p50:>6.1} ms {p90:>6.1} ms {p99:>6.1} ms {max:>6.1} ms", values.len());
}
