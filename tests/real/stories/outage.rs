//! Kafka is away for minutes while rollouts are in several phases. Events that others wrote meanwhile are carried out afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::RolloutId;
use bellwether_testkit::plane::fixture::STABLE;
use bellwether_testkit::plane::proxy::{ProxyMode, TcpProxy};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, bench, kafka, specs, wait};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{LONG, SOON, Story, V2, exclusive_story};

/// The seconds for which Kafka is away, without `BELLWETHER_OUTAGE`.
const OUTAGE: usize = 600;
/// The time after which the daemon has its partitions again.
const READY: Duration = Duration::from_secs(30);

/// Returns the stories of `tests/run soak`.
pub fn soaks() -> Vec<Story> {
    vec![exclusive_story("soak::minutes_without_kafka_lose_nothing_and_repeat_nothing", without_kafka)]
}

/// Returns a policy for one workload, which splits by replicas and is judged by a metric that is always 1.
fn policy(name: &str, min_time: &str, rest: &str) -> String {
    format!(
        r#"
[[policy]]
name = "{name}"
match = {{ namespaces = ["*"], workloads = ["{name}"], images = ["*"] }}
traffic = "replicas"
drain = "1s"

{rest}
[[policy.check]]
metric = "always"
judge = "threshold"
max = 2.0
every = "1s"
window = "5s"

[[policy.step]]
weight = "50%"
min-time = "{min_time}"
"#
    )
}

/// Returns the policies: of a long step, of an approval, of a long guard, and of a workload that is requested late.
fn policies() -> String {
    let approval = "[[policy.approval]]\nname = \"release\"\nbefore = \"traffic\"\n";
    let check = "[[policy.guard.check]]\nmetric = \"always\"\njudge = \"threshold\"\nmax = 2.0\nevery = \"1s\"\nwindow = \"5s\"\n";
    let guard = format!("[policy.guard]\nfor = \"30s\"\n{check}");
    "[metric.always]\nkind = \"query\"\nquery = \"vector(1)\"\n".to_owned()
        + &policy("web", "30s", "")
        + &policy("asking", "3s", approval)
        + &policy("guarded", "3s", &guard)
        + &policy("late", "3s", "")
}

async fn without_kafka(sandbox: &Sandbox) -> Result<()> {
    let outage = Duration::from_secs(bench::number("BELLWETHER_OUTAGE", OUTAGE)? as u64);
    let proxy = TcpProxy::start(kafka::PROXY_PORT, kafka::PROXIED_LISTENER).await?;
    let brokers = proxy.address.to_string();
    for name in ["asking", "guarded", "late"] {
        sandbox.create_workload(name, 1, &[("app", STABLE)]).await?;
    }
    let options = FixtureOptions { policy: policies(), routed: false, brokers: &brokers, ..FixtureOptions::default() };
    let mut fixture = Fixture::start_with(sandbox, options).await?;
    let guarded = sandbox.request_rollout("guarded", V2).await?;
    let asking = sandbox.request_rollout("asking", V2).await?;
    fixture.until(&guarded, LONG, "guarded", |rollout| rollout["phase"] == "guarding").await?;
    let held = |rollout: &Value| rollout["held"].as_str().is_some_and(|reason| reason.contains("release"));
    fixture.until(&asking, SOON, "waiting for its approval", held).await?;
    let stepping = sandbox.request_rollout("web", V2).await?;
    fixture.until(&stepping, SOON, "in its step", |rollout| rollout["phase"] == "stepping").await?;

    proxy.set(ProxyMode::Refuse).await;
    let away = Instant::now();
    // Others still reach the brokers: a request, the same once more, and an approval.
    let late = sandbox.request_rollout("late", V2).await?;
    sandbox.request_rollout("late", V2).await?;
    approve(sandbox, "asking", &asking).await?;
    wait::until("a daemon that is not ready", LONG, async || {
        let (status, body) = fixture.daemon.get("/readyz?verbose").await?;
        ensure!(status == 503 && body.contains("kafka"), "{status}: {body}");
        Ok(())
    })
    .await?;
    tokio::time::sleep(outage.saturating_sub(away.elapsed())).await;
    let images = images(sandbox).await?;
    ensure!(images == [STABLE, STABLE, V2, STABLE], "changed without a journal: {images:?}");

    proxy.set(ProxyMode::Pass).await;
    let back = Instant::now();
    fixture.daemon.until_ready(READY).await?;
    println!("Kafka was away for {outage:?}; ready {:?} after it was back", back.elapsed());
    for id in [&guarded, &asking, &stepping, &late] {
        fixture.ended_as(id, "promoted", LONG).await?;
    }
    let images = self::images(sandbox).await?;
    ensure!(images == [V2; 4], "{images:?}");
    let decisions = fixture.distinct_decisions().await?;
    let promotions = decisions.iter().filter(|decision| decision["kind"] == "promote").count();
    ensure!(promotions == 4, "{promotions} promotions");
    fixture.replays().await
}

/// Returns the images of the workloads `web`, `asking`, `guarded` and `late`.
async fn images(sandbox: &Sandbox) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in ["web", "asking", "guarded", "late"] {
        all.push(sandbox.images(name).await?.remove("app").context("no container app")?);
    }
    Ok(all)
}

/// Approves a rollout by writing the event to Kafka.
async fn approve(sandbox: &Sandbox, name: &str, rollout: &RolloutId) -> Result<()> {
    let workload = sandbox.workload(name);
    let content = json!({ "workload": workload, "rollout": rollout, "approval": "release" });
    let event = specs::event("approve", "/people/ann", "approval", &content, Timestamp::now());
    sandbox.produce("events", Some(&workload.to_string()), &[specs::STRUCTURED], &event).await?;
    Ok(())
}
