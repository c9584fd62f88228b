//! Measures how fast the daemon reacts, on a real Kafka, API server and gateway without other load.
//!
//! - *Event to canary*: from just before the event is written until the API server has answered the write that creates the
//!   canary's Deployment.
//! - *Verdict to weight 0*: from the decision to roll back until the API server has answered the write that removes the
//!   canary's weight.
//! - *Killed to judged*: from a SIGKILL in the middle of a step until the journal has the rollout's next block.
//!
//! The times of writes are from the API server's audit log, in microseconds. The only time that the daemon itself reports
//! is that of its decision.
//!
//! `tests/run bench` runs it. `BELLWETHER_SAMPLES` is the number of rollouts that are timed.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures and prints")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bellwether_testkit::plane::fixture::STABLE;
use bellwether_testkit::plane::parts::SCRAPE_INTERVAL;
use bellwether_testkit::plane::{Daemon, Fixture, FixtureOptions, PlanePaths, Sandbox, bench, wait};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;

const V2: &str = "registry.test/shop/web:v2";

/// Enough for a 99th percentile.
const SAMPLES: usize = 200;
/// Time between two rollouts, long enough that a rollout hardly ever waits for the one before.
const PAUSE: Duration = Duration::from_millis(3000);
/// Few, because the gateway reads all routes again when one changes. Each is rolled out several times in turn.
const WORKLOADS: usize = 20;
const LONG: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);
/// Number of kills without and with another replica.
const KILLS: usize = 10;
/// A metric that is always 1.
const METRIC: &str = "[metric.always]\nkind = \"query\"\nquery = \"vector(1)\"\n";

/// Returns a policy that compares the metric with `max`, in one step that is longer than the measurement.
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
    let paths =
        PlanePaths { program: env!("CARGO_BIN_EXE_bellwether").into(), scratch: env!("CARGO_TARGET_TMPDIR").into() };
    bench::run(&paths, "reaction", SCRAPE_INTERVAL, async |sandbox| {
        measure(sandbox, bench::number("BELLWETHER_SAMPLES", SAMPLES)?).await
    })
}

async fn measure(sandbox: &Sandbox, samples: usize) -> Result<()> {
    // Every rollout of a workload `w…` regresses at its first check, which is the decision to time. The others pass.
    let policies = [policy("calm", r#"["alone*", "other*"]"#, 2.0), policy("bench", r#"["*"]"#, 0.5)];
    let policy = METRIC.to_owned() + &policies.concat();
    let fixture = Fixture::start_with(sandbox, FixtureOptions { policy, ..FixtureOptions::default() }).await?;
    let names: Vec<String> = (0..WORKLOADS).map(|n| format!("w{n}")).collect();
    let created = stream::iter(&names).map(|name| sandbox.create_routed(name, 1, STABLE)).buffer_unordered(8);
    created.try_collect::<Vec<()>>().await?;
    println!("{WORKLOADS} workloads are created");

    let mut sent = Vec::new();
    for n in 0..samples {
        let name = &names[n % WORKLOADS];
        sent.push((name, Timestamp::now()));
        sandbox.request_rollout(name, &format!("registry.test/shop/web:v{}", 2 + n / WORKLOADS)).await?;
        tokio::time::sleep(PAUSE).await;
    }
    let decisions = wait::until("every rollout to be rolled back", LONG, async || {
        let decisions = fixture.decisions().await?;
        let ended = decisions.iter().filter(|decision| decision["ending"] == "rolled-back").count();
        ensure!(ended == samples, "{ended} of {samples}");
        Ok(decisions)
    })
    .await?;

    let audit = sandbox.plane.kubernetes.audit()?;
    let mut to_canary = Vec::new();
    for (name, sent) in &sent {
        to_canary.push(milliseconds(*sent, first_write(&audit, "deployments", &format!("{name}-canary"), *sent)?));
    }
    let mut to_zero = Vec::new();
    for decision in decisions.iter().filter(|decision| decision["kind"] == "roll-back") {
        let at: Timestamp = decision["at"].as_str().context("at")?.parse()?;
        let name = decision["workload"]["name"].as_str().context("workload")?;
        to_zero.push(milliseconds(at, first_write(&audit, "httproutes", name, at)?));
    }
    ensure!(to_zero.len() == samples, "{} decisions to roll back", to_zero.len());
    bench::show_head();
    bench::show("event → canary exists", "ms", to_canary);
    bench::show("verdict → weight 0", "ms", to_zero);
    take_over(sandbox, fixture).await
}

/// Measures the time from a SIGKILL until a running rollout is judged again: by the daemon itself, started again at once,
/// and by another replica while the first one is away. The time ends with the next record about the rollout in the
/// journal, so it includes the rebalance of the group, the restoring, and two ticks.
async fn take_over(sandbox: &Sandbox, fixture: Fixture<'_>) -> Result<()> {
    let mut daemons = [fixture.daemon.replica(sandbox, "a")?, fixture.daemon.replica(sandbox, "b")?];
    drop(fixture);
    daemons[0].start().await?;
    daemons[0].until_ready(SOON).await?;
    let mut alone = Vec::new();
    for n in 0..KILLS {
        alone.push(time_to_judgement(sandbox, &mut daemons[..1], &format!("alone{n}"), true).await?);
    }
    daemons[1].start().await?;
    daemons[1].until_ready(SOON).await?;
    let mut other = Vec::new();
    for n in 0..KILLS {
        other.push(time_to_judgement(sandbox, &mut daemons, &format!("other{n}"), false).await?);
    }
    bench::show("killed → judged by itself", "ms", alone);
    bench::show("killed → by the other one", "ms", other);
    Ok(())
}

/// Kills the daemon that judges a new rollout, and returns the time until it is judged again, in milliseconds. If the killed
/// daemon `restarts`, it does so at once.
async fn time_to_judgement(sandbox: &Sandbox, daemons: &mut [Daemon], name: &str, restarts: bool) -> Result<f64> {
    sandbox.create_routed(name, 1, STABLE).await?;
    let id = sandbox.request_rollout(name, V2).await?;
    let owner = wait::until(&format!("rollout {id} to be judged"), SOON, async || {
        for (n, daemon) in daemons.iter().enumerate() {
            if daemon.rollout(&id).await?.is_some_and(|rollout| rollout["checks"][0]["verdict"] == "pass") {
                return Ok(n);
            }
        }
        bail!("no daemon has judged it")
    })
    .await?;
    let killed = Timestamp::now();
    daemons[owner].kill().await?;
    if restarts {
        daemons[owner].spawn()?;
    }
    let about = format!("/{name}/");
    let judged = wait::until(&format!("rollout {id} to be judged again"), LONG, async || {
        let journal = sandbox.records("journal").await?;
        let ours = journal.iter().filter(|record| record.key_text().contains(&about));
        let times = ours.filter_map(|record| Timestamp::from_millisecond(record.timestamp_ms?).ok());
        times.filter(|at| *at > killed).min().context("the journal has no record of it after the kill")
    })
    .await?;
    if !restarts {
        daemons[owner].start().await?;
        daemons[owner].until_ready(SOON).await?;
    }
    Ok(milliseconds(killed, judged))
}

/// Returns the time at which the API server answered the daemon's first write to an object after `since`.
fn first_write(audit: &[Value], resource: &str, name: &str, since: Timestamp) -> Result<Timestamp> {
    let times = audit.iter().filter_map(|entry| {
        let object = &entry["objectRef"];
        let by_daemon = entry["user"]["username"] == "system:serviceaccount:bellwether:bellwether";
        let is_write = entry["stage"] == "ResponseComplete" && ["create", "patch"].contains(&entry["verb"].as_str()?);
        let accepted = entry["responseStatus"]["code"].as_u64()? < 300;
        let is_of_object = object["resource"] == resource && object["name"] == name;
        (by_daemon && is_write && accepted && is_of_object)
            .then(|| entry["stageTimestamp"].as_str()?.parse::<Timestamp>().ok())?
    });
    times.filter(|at| *at >= since).min().with_context(|| format!("no write to {resource} {name} after {since}"))
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_microsecond() - from.as_microsecond()) as f64 / 1000.0
}
