//! Pods that do not run, or not as they should: without a node, without readiness, slow to start.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::fixture::policy;
use bellwether_testkit::plane::load::{TrafficCounts, TrafficLoad};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, wait};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::away::is_held;
use super::{LONG, SOON, Story, V2, story};

/// A version whose pods take 5 s to become ready.
const LATE: &str = "registry.test/shop/web:v2-late";
/// Requests that may fail while a canary without ready pods has half of 100 requests a second. The gateway drops the pods as
/// soon as their readiness is gone, and fails their share until the daemon, which is told at the same moment, has written
/// the weight 0. If the weight stayed, each minute would fail 3,000.
const MOST_FAILED: u64 = 250;

pub fn stories() -> Vec<Story> {
    vec![
        story("unkind::a_canary_without_ready_pods_loses_its_half_of_the_traffic", canary_without_ready_pods),
        story("unkind::a_canary_whose_pods_are_ready_again_is_promoted", canary_ready_again),
        story("unkind::a_canary_that_waits_for_a_node_is_held_and_then_promoted", canary_without_a_node),
        story("unkind::a_promotion_longer_than_its_deadline_goes_on_while_it_progresses", long_promotion),
    ]
}

/// Returns a policy with these steps and deadlines.
fn policy_with(weights: &str, within: &str) -> String {
    policy(weights, "")
        .replace("ready-within = \"60s\"", &format!("ready-within = {within:?}"))
        .replace("promote-within = \"60s\"", &format!("promote-within = {within:?}"))
}

async fn canary_without_ready_pods(sandbox: &Sandbox) -> Result<()> {
    let policy = policy_with("50%", "15s").replace("min-time = \"8s\"", "min-time = \"60s\"");
    let fixture = Fixture::start(sandbox, &policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let failed = until_taken_back(sandbox, &load).await?;
    let rollout = fixture.ended(&id, LONG).await?;
    ensure!(rollout["outcome"] == "rolled-back" || rollout["outcome"] == "given-up", "{rollout:#}");
    let counts = load.stop().await?;
    println!("{failed} of {} requests failed while the canary had no ready pod: {}", counts.sent, rollout["reason"]);
    none_failed_but(failed, &counts)?;
    fixture.cleaned_up(before).await?;
    fixture.replays().await
}

async fn canary_ready_again(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("50%", "").replace("\"8s\"", "\"20s\"")).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let failed = until_taken_back(sandbox, &load).await?;
    sandbox.set_ready("web-canary-", true).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    none_failed_but(failed, &load.stop().await?)?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

/// Makes all pods of the canary unready once it has traffic, and waits until the traffic is taken back. Returns the number
/// of requests that failed until then.
async fn until_taken_back(sandbox: &Sandbox, load: &TrafficLoad) -> Result<u64> {
    wait::until("traffic of the canary", SOON, async || {
        let requests = load.counts().of_version("v2").total;
        ensure!(requests > 100, "{requests} requests");
        Ok(())
    })
    .await?;
    ensure!(load.counts().failed() == 0, "{:?}", load.counts());
    let pods = sandbox.set_ready("web-canary-", false).await?;
    ensure!(pods > 1, "the canary has {pods} pods");
    until_weight_is_zero(sandbox, SOON).await?;
    // The gateway follows the route a moment later.
    until_none_fails(load).await
}

/// Checks that only these requests failed, by the gateway, which had no ready pod for them.
fn none_failed_but(failed: u64, counts: &TrafficCounts) -> Result<()> {
    ensure!(failed <= MOST_FAILED, "{failed} requests failed: {counts:?}");
    ensure!(counts.failed() == failed, "requests failed without traffic of an unready canary: {counts:?}");
    ensure!(counts.lost == 0 && counts.by_version.values().all(|version| version.errors == 0), "{counts:?}");
    Ok(())
}

/// The cluster's nodes are full, and another one comes after more than `ready-within`.
async fn canary_without_a_node(sandbox: &Sandbox) -> Result<()> {
    let policy = policy_with("20%", "8s").replace("max-hold = \"10s\"", "max-hold = \"120s\"");
    let mut fixture = Fixture::prepare(sandbox, FixtureOptions { policy, ..FixtureOptions::default() }).await?;
    sandbox.create_node("full", 4).await?;
    sandbox.move_to_own_nodes("web", 4).await?;
    fixture.run().await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let held = fixture.until(&id, SOON, "held", is_held).await?;
    let reason = held["held"].as_str().context("held")?;
    ensure!(held["phase"] == "preparing" && reason.contains("Unschedulable"), "{held:#}");
    println!("{reason}");
    sandbox.create_node("new", 100).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

/// The Deployment replaces one pod after the other, each in more than 5 s and less than `promote-within`.
async fn long_promotion(sandbox: &Sandbox) -> Result<()> {
    let policy = policy_with("20%", "12s");
    let mut fixture = Fixture::prepare(sandbox, FixtureOptions { policy, ..FixtureOptions::default() }).await?;
    let strategy = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let patch = Patch::Strategic(json!({"spec": {"strategy": strategy}}));
    sandbox.deployments().patch("web", &PatchParams::default(), &patch).await?;
    fixture.run().await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(LATE, &[]).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    let promotion = promotion(&fixture.decisions().await?)?;
    ensure!(promotion.as_secs() > 12, "the promotion was no longer than its deadline: {promotion:?}");
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", LATE)).await?;
    fixture.replays().await
}

/// Returns the time between the decision to promote and the next decision, which is that the stable is ready.
fn promotion(decisions: &[Value]) -> Result<Duration> {
    let at = |decision: &Value| -> Result<jiff::Timestamp> { Ok(decision["at"].as_str().context("at")?.parse()?) };
    let promote = decisions.iter().position(|decision| decision["kind"] == "promote").context("no promotion")?;
    let next = decisions.get(promote + 1).context("no decision after the promotion")?;
    Ok(at(next)?.duration_since(at(&decisions[promote])?).unsigned_abs())
}

/// Waits until the route gives the canary no traffic.
pub async fn until_weight_is_zero(sandbox: &Sandbox, deadline: Duration) -> Result<()> {
    wait::until("the canary's weight of 0", deadline, async || {
        let weights = sandbox.weights("web").await?;
        ensure!(weights.get("web-canary").is_none_or(|weight| *weight == 0), "{weights:?}");
        Ok(())
    })
    .await
}

/// Waits for a hundred requests of which none fails. Returns the number of those that failed before.
pub async fn until_none_fails(load: &TrafficLoad) -> Result<u64> {
    wait::until("a hundred requests of which none fails", SOON, async || {
        let first = load.counts();
        wait::until("a hundred requests", SOON, async || {
            let sent = load.counts().sent - first.sent;
            ensure!(sent >= 100, "{sent} are sent");
            Ok(())
        })
        .await?;
        let failed = load.counts().failed() - first.failed();
        ensure!(failed == 0, "{failed} failed");
        Ok(first.failed())
    })
    .await
}
