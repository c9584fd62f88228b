//! Rollouts from their event to their end, on the real parts: an event on Kafka, a canary in Kubernetes, traffic through
//! the gateway, counts from Prometheus. Bellwether runs under the service account that is shipped, and nothing else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::scene::{GOOD, Scene, Setup, policy};
use super::{Told, told};
use crate::plane::load::Counts;
use crate::plane::story::Story;

pub const V2: &str = "registry.test/shop/web:v2";
/// No story here should take as long.
pub const LONG: Duration = Duration::from_secs(180);

pub fn stories() -> Vec<Told> {
    vec![
        told("rollout::a_good_version_is_promoted_in_three_steps", a_good_version_is_promoted),
        told("rollout::five_percent_of_errors_are_rolled_back", errors_are_rolled_back),
        told("rollout::a_slow_p95_is_rolled_back", a_slow_p95_is_rolled_back),
        told("rollout::without_traffic_it_is_held_and_says_so", without_traffic_it_is_held),
        told("rollout::the_guard_brings_the_last_good_version_back", the_guard_brings_it_back),
        told("rollout::what_somebody_else_deployed_is_guarded", what_somebody_else_deployed_is_guarded),
        told("rollout::an_image_that_cannot_be_pulled_ends_it_at_once", an_image_that_cannot_be_pulled),
        told("rollout::of_two_containers_one_changes", of_two_containers_one_changes),
        told("rollout::a_duplicate_event_is_one_rollout", a_duplicate_event_is_one_rollout),
        told("rollout::observe_only_decides_and_writes_nothing", observe_only_writes_nothing),
        told("rollout::killed_once_in_each_phase_it_goes_on", killed_once_in_each_phase),
    ]
}

async fn a_good_version_is_promoted(story: &Story) -> Result<()> {
    let (rollout, counts) = promoted(story, &policy("10% 30% 50%", ""), 100.0).await?;
    ensure!(counts.of_version("v2").total > 0, "nothing reached v2: {counts:?}");
    let steps: Vec<&str> = history(&rollout).filter(|entry| entry.0 == "advance").map(|entry| entry.1).collect();
    // Ready, then twice from a step to the next and each time ready again.
    ensure!(steps.len() == 5, "{steps:#?}");
    Ok(())
}

/// A good version is promoted, nobody has noticed, and nothing of ours is left but our marks; the rollout, and the traffic.
pub async fn promoted(story: &Story, policy: &str, per_second: f64) -> Result<(Value, Counts)> {
    let scene = Scene::begin(story, policy).await?;
    let before = story.snapshot().await?;
    let load = story.load(per_second)?;
    scene.request(V2, &[]).await?;
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{} requests failed: {counts:?}", counts.failed());
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await?;
    Ok((rollout, counts))
}

async fn errors_are_rolled_back(story: &Story) -> Result<()> {
    let why = rolled_back(story, "registry.test/shop/web:v2-err5").await?;
    ensure!(why.starts_with("error-rate ") && why.contains("> 2 %") && why.contains("requests in 10s"), "{why}");
    Ok(())
}

async fn a_slow_p95_is_rolled_back(story: &Story) -> Result<()> {
    let why = rolled_back(story, "registry.test/shop/web:v2-slow10_800").await?;
    ensure!(why.starts_with("response-time p95 ") && why.contains("> 500 ms"), "{why}");
    Ok(())
}

/// Why a version was found wanting in its first step; whoever waits for it is told by the exit code.
async fn rolled_back(story: &Story, image: &str) -> Result<String> {
    let (scene, rollout) = returned(story, &policy("20%", ""), 150.0, image).await?;
    let status = scene
        .bellwether
        .cli(&["status", rollout["id"].as_str().context("id")?, "--wait", "--api", &scene.api()])
        .await?;
    ensure!(status.code == Some(3), "{status:?}");
    Ok(rollout["reason"].as_str().context("reason")?.to_owned())
}

/// A version that is found wanting leaves everything as it was.
pub async fn returned<'a>(story: &'a Story, policy: &str, per_second: f64, image: &str) -> Result<(Scene<'a>, Value)> {
    let scene = Scene::begin(story, policy).await?;
    let before = story.snapshot().await?;
    let load = story.load(per_second)?;
    scene.request(image, &[]).await?;
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "rolled-back", "{rollout:#}");
    load.stop().await?;
    scene.left_as_it_was(before).await?;
    scene.replays().await?;
    Ok((scene, rollout))
}

async fn without_traffic_it_is_held(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("10%", "")).await?;
    let before = story.snapshot().await?;
    scene.request(V2, &[]).await?;
    let held = scene.until(LONG, "held", |rollout| rollout["held"].is_string()).await?;
    let why = held["held"].as_str().context("held")?;
    ensure!(why.contains("0 requests in 10s, need at least 30 to judge it"), "{why}");
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "given-up", "{rollout:#}");
    let status = scene
        .bellwether
        .cli(&["status", rollout["id"].as_str().context("id")?, "--wait", "--api", &scene.api()])
        .await?;
    ensure!(status.code == Some(4), "{status:?}");
    scene.left_as_it_was(before).await
}

async fn the_guard_brings_it_back(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", GUARD)).await?;
    let before = story.snapshot().await?;
    let load = story.load(150.0)?;
    scene.request("registry.test/shop/web:v2-after40-err50", &[]).await?;
    let rollout = scene.ended(LONG).await?;
    load.stop().await?;
    ensure!(rollout["outcome"] == "rolled-back", "{rollout:#}");
    ensure!(history(&rollout).any(|entry| entry.0 == "promote"), "it was never promoted: {rollout:#}");
    scene.left_marked(before).await?;
    scene.replays().await
}

const GUARD: &str = r#"
[policy.guard]
for = "60s"
[[policy.guard.check]]
metric = "error-rate"
judge = "threshold"
max = "15%"
every = "2s"
window = "10s"
min-requests = 50
"#;

async fn what_somebody_else_deployed_is_guarded(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", GUARD)).await?;
    let before = story.snapshot().await?;
    scene.seen_healthy().await?;
    let load = story.load(150.0)?;
    story.set_image("web", "app", "registry.test/shop/web:v2-err30").await?;
    scene.deployed().await?;
    let rollout = scene.ended(LONG).await?;
    load.stop().await?;
    ensure!(rollout["outcome"] == "rolled-back", "{rollout:#}");
    scene.left_marked(before).await
}

async fn an_image_that_cannot_be_pulled(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", "")).await?;
    let before = story.snapshot().await?;
    scene.request("registry.test/shop/web:v2-nopull", &[]).await?;
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "rolled-back", "{rollout:#}");
    let why = rollout["reason"].as_str().context("reason")?;
    ensure!(why.starts_with("the canary can't run: pod web-canary-") && why.contains("ImagePullBackOff"), "{why}");
    scene.left_as_it_was(before).await
}

async fn of_two_containers_one_changes(story: &Story) -> Result<()> {
    let side = "registry.test/shop/side:v1";
    let containers = [("app", GOOD), ("side", side)];
    let scene = Scene::begin_with(story, Setup { containers: &containers, ..Setup::default() }).await?;
    let before = story.snapshot().await?;
    let load = story.load(150.0)?;
    scene.request(V2, &[]).await?;
    let rollout = scene.ended(LONG).await?;
    load.stop().await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    let images = story.images("web").await?;
    ensure!(images["app"] == V2 && images["side"] == side, "{images:?}");
    scene.left_marked(before.with_image("web", "app", V2)).await
}

async fn a_duplicate_event_is_one_rollout(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", "")).await?;
    let load = story.load(150.0)?;
    for _ in 0..3 {
        scene.request(V2, &["--id", "the-same"]).await?;
    }
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    scene.request(V2, &["--id", "the-same"]).await?;
    load.stop().await?;
    let starts = scene.decisions().await?.iter().filter(|decision| decision["kind"] == "start").count();
    ensure!(starts == 1, "{starts} rollouts were started");
    Ok(())
}

async fn observe_only_writes_nothing(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", "").replace("traffic =", "mode = \"observe\"\ntraffic =")).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    let rollout = scene.ended(LONG).await?;
    load.stop().await?;
    ensure!(rollout["mode"] == "observe", "{rollout:#}");
    ensure!(history(&rollout).count() >= 3, "{rollout:#}");
    let writes = scene.writes()?;
    ensure!(writes.is_empty(), "{writes:#?}");
    scene.left_as_it_was(before).await
}

async fn killed_once_in_each_phase(story: &Story) -> Result<()> {
    let mut scene = Scene::begin(story, &policy("10% 30%", GUARD)).await?;
    let before = story.snapshot().await?;
    let load = story.load(150.0)?;
    scene.request(V2, &[]).await?;
    for phase in ["preparing", "stepping", "growing", "promoting", "guarding"] {
        scene.until(LONG, phase, |rollout| rollout["phase"] == phase || rollout["outcome"].is_string()).await?;
        scene.bellwether.kill().await?;
        scene.bellwether.start().await?;
    }
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    scene.decided_once().await?;
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}

/// The decisions of a rollout as it is shown: what, and why.
pub fn history(rollout: &Value) -> impl Iterator<Item = (&str, &str)> {
    rollout["history"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| (entry["decision"].as_str().unwrap_or_default(), entry["reason"].as_str().unwrap_or_default()))
}
