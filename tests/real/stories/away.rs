//! A part that the daemon needs is unavailable: the daemon changes nothing, reports it, and goes on without help.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::RolloutId;
use bellwether_testkit::plane::fixture::patient_policy;
use bellwether_testkit::plane::proxy::{ProxyMode, TcpProxy};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, kafka, kubernetes, prometheus, wait};
use serde_json::Value;

use super::{LONG, SOON, Story, V2, exclusive_story, story};

/// The first port of proxies. The ports of daemons and of Slack's stand-ins are below.
const PROXIES: u16 = 30_000;
/// The time for which a story watches that a held rollout does not go on. It is longer than the policies' `min-time`.
const OBSERVED: Duration = Duration::from_secs(10);

pub fn stories() -> Vec<Story> {
    vec![
        story("away::without_prometheus_a_rollout_waits_and_then_goes_on", without_prometheus),
        story("away::a_prometheus_that_never_answers_holds_the_rollout_as_blind", silent_prometheus),
        story("away::without_the_api_server_the_daemon_waits_and_then_goes_on", without_api_server),
        story("away::without_kafka_nothing_changes_until_it_is_back", without_kafka),
        story("away::two_minutes_without_prometheus_decide_nothing_but_a_hold", async |sandbox| {
            without_prometheus_for(sandbox, 120).await
        }),
        exclusive_story("away::a_killed_broker_loses_no_decision", killed_broker),
        story("away::a_terminated_daemon_ends_and_decides_nothing", terminated),
    ]
}

/// Returns the stories of `tests/run soak`, which take too long for every day.
pub fn soaks() -> Vec<Story> {
    vec![story("soak::ten_minutes_without_prometheus_decide_nothing_but_a_hold", async |sandbox| {
        without_prometheus_for(sandbox, 600).await
    })]
}

/// Returns a policy of two steps that holds for up to two minutes, and is blind after 4 s.
fn soon_blind() -> String {
    patient_policy("20% 40%").replace("blind = \"10s\"", "blind = \"4s\"")
}

/// Waits until `/readyz` names a condition that does not hold.
async fn not_ready(fixture: &Fixture<'_>, condition: &str) -> Result<()> {
    wait::until("a daemon that is not ready", SOON, async || {
        let (status, body) = fixture.daemon.get("/readyz?verbose").await?;
        ensure!(status == 503 && body.contains(condition), "{status}: {body}");
        Ok(())
    })
    .await
}

/// Whether the rollout is in a step and has counts of the canary.
pub(super) fn is_judged(rollout: &Value) -> bool {
    rollout["phase"] == "stepping" && rollout["checks"][0]["n"].as_u64().is_some_and(|n| n > 0)
}

pub(super) fn is_held(rollout: &Value) -> bool {
    rollout["held"].is_string()
}

pub(super) async fn proxy(sandbox: &Sandbox, target: &str) -> Result<TcpProxy> {
    TcpProxy::start(PROXIES + sandbox.plane.number(), target).await
}

/// Returns the address in a URL.
pub(super) fn address(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

async fn without_prometheus(sandbox: &Sandbox) -> Result<()> {
    let proxy = proxy(sandbox, address(prometheus::URL)).await?;
    proxy.set(ProxyMode::Refuse).await;
    let prometheus = format!("http://{}", proxy.address);
    let options = FixtureOptions { policy: soon_blind(), prometheus, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let fails = |rollout: &Value| rollout["reason"].as_str().is_some_and(|reason| reason.starts_with("probe fails"));
    fixture.until(&id, SOON, "waiting for Prometheus", fails).await?;
    ensure!(load.counts().of_version("v2").total == 0, "the canary had traffic before Prometheus answered");
    proxy.set(ProxyMode::Pass).await;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    held_blind_then_promoted(&fixture, &id, || proxy.set(ProxyMode::Refuse), || proxy.set(ProxyMode::Pass)).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    fixture.replays().await
}

async fn silent_prometheus(sandbox: &Sandbox) -> Result<()> {
    let proxy = proxy(sandbox, address(prometheus::URL)).await?;
    let prometheus = format!("http://{}\"\ntimeout = \"1s", proxy.address);
    let options = FixtureOptions { policy: soon_blind(), prometheus, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    held_blind_then_promoted(&fixture, &id, || proxy.set(ProxyMode::Hang), || proxy.set(ProxyMode::Pass)).await?;
    load.stop().await?;
    fixture.replays().await
}

/// Checks that a blind rollout is held and does nothing else, and that it is promoted when it is no longer blind.
async fn held_blind_then_promoted(
    fixture: &Fixture<'_>,
    id: &RolloutId,
    away: impl AsyncFnOnce(),
    back: impl AsyncFnOnce(),
) -> Result<()> {
    away().await;
    // On a busy machine it may be held for too few requests before.
    let is_blind = |rollout: &Value| rollout["held"].as_str().is_some_and(|reason| reason.starts_with("blind since "));
    let held = fixture.until(id, SOON, "held as blind", is_blind).await?;
    let reason = held["held"].as_str().context("held")?;
    ensure!(reason.contains("nothing is changed"), "{reason}");
    let decisions = fixture.decisions().await?.len();
    tokio::time::sleep(OBSERVED).await;
    let later = fixture.until(id, SOON, "still held", is_held).await?;
    ensure!(later["step"] == held["step"] && later["phase"] == "stepping", "it went on while blind: {later:#}");
    ensure!(fixture.decisions().await?.len() == decisions, "it decided something while blind");
    back().await;
    fixture.ended_as(id, "promoted", LONG).await?;
    Ok(())
}

async fn without_api_server(sandbox: &Sandbox) -> Result<()> {
    let proxy = proxy(sandbox, address(kubernetes::SERVER)).await?;
    proxy.set(ProxyMode::Refuse).await;
    let server = format!("https://{}", proxy.address);
    let options = FixtureOptions { policy: soon_blind(), server, ..FixtureOptions::default() };
    let mut fixture = Fixture::prepare(sandbox, options).await?;
    fixture.daemon.start().await?;
    wait::until("a daemon that waits for the API server", SOON, async || {
        let (status, body) = fixture.daemon.get("/readyz?verbose").await?;
        ensure!(status == 503 && body.contains("kubernetes"), "{status}: {body}");
        Ok(())
    })
    .await?;
    proxy.set(ProxyMode::Pass).await;
    fixture.daemon.until_ready(SOON).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    proxy.set(ProxyMode::Refuse).await;
    not_ready(&fixture, "[-] kubernetes the API server has not answered").await?;
    // Either the step passes and the next write fails; or the last weight was written just before, and the gateway's
    // status can't be read.
    let retries = |rollout: &Value| {
        rollout["reason"].as_str().is_some_and(|why| why.contains("fails, ") || why.contains("still waiting for"))
    };
    fixture.until(&id, LONG, "retrying", retries).await?;
    proxy.set(ProxyMode::Pass).await;
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

async fn without_kafka(sandbox: &Sandbox) -> Result<()> {
    let proxy = TcpProxy::start(kafka::PROXY_PORT, kafka::PROXIED_LISTENER).await?;
    let brokers = proxy.address.to_string();
    let options = FixtureOptions { policy: soon_blind(), brokers: &brokers, ..FixtureOptions::default() };
    let mut fixture = Fixture::prepare(sandbox, options).await?;
    start_without_kafka(&mut fixture, &proxy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    proxy.set(ProxyMode::Refuse).await;
    not_ready(&fixture, "[-] kafka no broker is connected").await?;
    // A shard with an open transaction gives it up after timeouts of 20 and 30 s, and the next partition waits for it.
    wait::until("a daemon that has no journal", LONG, async || {
        let (status, body) = fixture.daemon.get("/readyz?verbose").await?;
        ensure!(status == 503 && body.contains("partitions"), "{status}: {body}");
        Ok(())
    })
    .await?;
    let weights = sandbox.weights("web").await?;
    proxy.set(ProxyMode::Pass).await;
    fixture.daemon.until_ready(LONG).await?;
    ensure!(weights["web-canary"] > 0, "the route was changed without a journal: {weights:?}");
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    fixture.promoted_once().await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

/// Starts the daemon while no broker answers, twice, and lets it reach the broker in the end.
async fn start_without_kafka(fixture: &mut Fixture<'_>, proxy: &TcpProxy) -> Result<()> {
    proxy.set(ProxyMode::Refuse).await;
    let waits = format!("[-] kafka no broker of kafka.brokers = \"{}\" answers", proxy.address);
    fixture.daemon.start().await?;
    not_ready(fixture, &waits).await?;
    let code = fixture.daemon.terminate(SOON).await?;
    ensure!(code == Some(0), "stopped while it waits: exit code {code:?}: {}", fixture.daemon.log());
    fixture.daemon.start().await?;
    not_ready(fixture, &waits).await?;
    let (status, body) = fixture.daemon.get("/api/v1/rollouts").await?;
    ensure!(status == 503 && body.contains("starting"), "{status}: {body}");
    proxy.set(ProxyMode::Pass).await;
    fixture.daemon.until_ready(LONG).await?;
    let told = fixture.daemon.log().matches("the daemon waits for Kafka").count();
    ensure!(told == 1, "told {told} times: {}", fixture.daemon.log());
    Ok(())
}

/// Checks that a rollout is held as blind within the policy's patience, that nothing else is decided while Prometheus is
/// unavailable, and that the rollout is promoted afterwards.
async fn without_prometheus_for(sandbox: &Sandbox, seconds: u64) -> Result<()> {
    let patience = seconds.min(120) / 4;
    let policy = soon_blind()
        .replace("blind = \"4s\"", &format!("blind = \"{patience}s\""))
        .replace("max-hold = \"120s\"", "max-hold = \"1h\"");
    let proxy = proxy(sandbox, address(prometheus::URL)).await?;
    let prometheus = format!("http://{}", proxy.address);
    let options = FixtureOptions { policy, prometheus, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let load = sandbox.load(50.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    proxy.set(ProxyMode::Refuse).await;
    let refused = Instant::now();
    let before = fixture.decisions().await?.len();
    // Blocks that were read before may still lead to a decision, and the pods of the step after it then take some seconds.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let settled = fixture.decisions().await?.len();
    let held = fixture.until(&id, Duration::from_secs(patience) + SOON, "held", is_held).await?;
    println!("{seconds} s without Prometheus: held after {:?}, with a patience of {patience} s", refused.elapsed());
    ensure!(held["held"].as_str().is_some_and(|reason| reason.starts_with("blind since ")), "{held:#}");
    tokio::time::sleep(Duration::from_secs(seconds).saturating_sub(refused.elapsed())).await;
    let decisions = fixture.decisions().await?;
    let kinds: Vec<&Value> = decisions[before..].iter().map(|decision| &decision["kind"]).collect();
    let holds = kinds.iter().filter(|kind| **kind == "hold").count();
    let others_later = kinds[settled - before..].iter().any(|kind| **kind != "hold");
    ensure!(holds == 1 && !others_later, "these decisions were made without Prometheus: {kinds:?}");
    proxy.set(ProxyMode::Pass).await;
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    fixture.replays().await
}

async fn killed_broker(sandbox: &Sandbox) -> Result<()> {
    let mut fixture = Fixture::start(sandbox, &soon_blind()).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    sandbox.plane.kafka.restart(Duration::from_secs(5)).await?;
    fixture.daemon.until_ready(LONG).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    fixture.promoted_once().await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

async fn terminated(sandbox: &Sandbox) -> Result<()> {
    let mut fixture = Fixture::start(sandbox, &soon_blind()).await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    let before = fixture.decisions().await?.len();
    let code = fixture.daemon.terminate(SOON).await?;
    ensure!(code == Some(0), "exit code {code:?}: {}", fixture.daemon.log());
    let after = fixture.decisions().await?;
    let ends = after[before.min(after.len())..]
        .iter()
        .any(|decision| decision["kind"] == "promote" || decision["kind"] == "roll-back");
    ensure!(!ends && sandbox.weights("web").await?["web-canary"] > 0, "{after:#?}");
    fixture.daemon.start().await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    load.stop().await?;
    fixture.replays().await
}
