//! How fast the daemon reacts, on a real Kafka, API server and gateway that have nothing else to do.
//!
//! *Event to canary*: from just before the event is produced until the API server has answered the write that creates the
//! canary's Deployment. *Verdict to weight 0*: from the decision to roll back until the API server has answered the write
//! that takes the canary's weight away. The ends are the API server's own (its audit log, in microseconds), so nothing
//! that the daemon says about itself is in the figures but the instant of its decision. *Killed to judged*: from a SIGKILL in
//! the middle of a step until the journal has the rollout's next block.
//!
//! `tests/run bench` runs it; `BELLWETHER_SAMPLES` is how many rollouts are timed.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it measures and prints, as do the parts that it shares with the tests"
)]

#[path = "../tests/real"]
mod real {
    pub mod namespace;
    pub mod plane;
}
#[expect(dead_code, reason = "a kit for the stories, of which this uses a part")]
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

/// Often enough for a 99th percentile, seldom enough that hardly anything waits for the one before.
const SAMPLES: usize = 200;
const PAUSE: Duration = Duration::from_millis(3000);
/// Few, as the gateway reads all routes again at each change of one; they take turns, each time with a newer version.
const WORKLOADS: usize = 20;
const LONG: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);
/// So often a daemon is killed, with and without another one beside it.
const DEATHS: usize = 10;
/// A metric that is always 1.
const METRIC: &str = "[metric.always]\nkind = \"query\"\nquery = \"vector(1)\"\n";

/// A policy that holds the 1 against `max`, for a step that is longer than what is timed.
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
    // Every rollout of a `w` regresses at its first look, so that there is a decision to time; the others pass and go on.
    let policies = [policy("calm", r#"["alone*", "other*"]"#, 2.0), policy("bench", r#"["*"]"#, 0.5)];
    let policy = METRIC.to_owned() + &policies.concat();
    let scene = Scene::begin_with(story, Setup { policy, ..Setup::default() }).await?;
    let names: Vec<String> = (0..WORKLOADS).map(|n| format!("w{n}")).collect();
    stream::iter(&names)
        .map(|name| story.create_routed(name, GOOD))
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;
    println!("{WORKLOADS} workloads are there");

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

/// How long it takes after a SIGKILL until a rollout that was under way is judged again: by the daemon itself, started again
/// at once, and by another one, while the first stays away. What is waited for is the next thing that the journal takes in
/// about it, so the time holds the way back into the group, the restoring, and the reading of two ticks.
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

async fn died(story: &Story, daemons: &mut [Bellwether], name: &str, comes_back: bool) -> Result<f64> {
    story.create_routed(name, GOOD).await?;
    story.ask_for(name, V2).await?;
    let owner = story
        .wait_until("a rollout in its step", SOON, async || {
            for (n, daemon) in daemons.iter().enumerate() {
                let (_, body) = daemon.get("/api/v1/rollouts").await?;
                let rollouts: Vec<Value> = serde_json::from_str(&body)?;
                let ours = |rollout: &&Value| rollout["workload"].as_str().is_some_and(|key| key.ends_with(name));
                // It has been judged, so that there is something to go on with.
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

/// When the API server had answered our account's first write to an object after `since`.
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

fn show(what: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1];
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
    println!("{what:<26} {:>6} {p50:>6.1} ms {p90:>6.1} ms {p99:>6.1} ms {max:>6.1} ms", values.len());
}
