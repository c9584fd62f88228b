//! What comes in the middle: a newer version, a person's word, somebody else's hand, a switch and a switch back. The load
//! goes on all the while, and what it counts is held against what the pods counted themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::scene::{GOOD, Scene, Setup, patient, policy};
use super::{Told, told};
use crate::plane::kafka::Record;
use crate::plane::load::Load;
use crate::plane::pods::Served;
use crate::plane::story::Story;

const V2: &str = "registry.test/shop/web:v2";
const V3: &str = "registry.test/shop/web:v3";
const BAD: &str = "registry.test/shop/web:v2-err20";
const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);
/// More than a story needs, and what the issue of all this asked for.
const REQUESTS: u64 = 50_000;

pub fn stories() -> Vec<Told> {
    vec![
        told("middle::fifty_thousand_requests_and_none_lost", fifty_thousand_requests),
        told("middle::a_person_pauses_resumes_and_promotes", a_person_decides),
        told("middle::a_frozen_namespace_waits_and_a_gate_is_opened", frozen_and_gated),
        told("middle::what_failed_is_not_tried_again_until_somebody_says_so", quarantined),
        told("middle::the_stable_image_again_is_the_shortest_way_back", the_stable_image_again),
        told("middle::somebody_elses_edit_is_named_and_left_alone", somebody_elses_edit),
        told("middle::a_deleted_workload_is_given_up_and_its_successor_left_alone", a_deleted_workload),
        told("middle::too_many_requests_and_conflicts_only_cost_time", too_many_and_conflicts),
    ]
}

/// The policies of the long story: a canary by steps, and a blue-green one for who asks for it by name.
fn both() -> String {
    policy("10% 30% 50%", "").replace("max-hold = \"10s\"", "max-hold = \"60s\"")
        + r#"
[[policy]]
name = "switch"
strategy = "blue-green"
match = { namespaces = ["*"], workloads = ["*"], images = ["registry.test/shop/*"] }
ready-within = "60s"
promote-within = "60s"
drain = "4s"
[policy.blue-green]
keep-stable = "10s"
[[policy.check]]
metric = "error-rate"
judge = "threshold"
max = "2%"
every = "2s"
window = "10s"
min-requests = 30
"#
}

async fn fifty_thousand_requests(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &both()).await?;
    let load = story.load(200.0)?;

    scene.request(V2, &[]).await?;
    comes_to(&scene, "promoted").await?;

    // Errors of the version itself count as its own, and only until it is found out.
    scene.request("registry.test/shop/web:v3-err20", &[]).await?;
    comes_to(&scene, "rolled-back").await?;

    // A newer one takes the place of one that is not decided.
    let first = scene.request("registry.test/shop/web:v4", &[]).await?;
    scene
        .until(SOON, "in its second step", |rollout| rollout["step"] == json!([2, 3]) && rollout["phase"] == "stepping")
        .await?;
    let before = story
        .wait_until("the second step's share in the route", SOON, async || {
            let weight = story.weights("web").await?.get("web-canary").copied().unwrap_or(0);
            ensure!(weight >= 30, "{weight}");
            Ok(weight)
        })
        .await?;
    let second = scene.request("registry.test/shop/web:v5", &[]).await?;
    never_unchecked(story, &scene, &second, before).await?;
    comes_to(&scene, "promoted").await?;
    let superseded = scene.bellwether.rollout(&first).await?;
    ensure!(superseded.is_none_or(|rollout| rollout["outcome"] == "superseded"), "the first one was not superseded");

    // Switched, watched, promoted; and switched, found out, switched back.
    scene.request("registry.test/shop/web:v6", &["--policy", "switch"]).await?;
    let switched = scene.until(SOON, "switched", |rollout| rollout["phase"] == "switched").await?;
    ensure!(switched["weight"] == "100%", "{switched:#}");
    story
        .wait_until("all of the traffic at the new version", SOON, async || {
            let weights = story.weights("web").await?;
            ensure!(weights["web"] == 0 && weights["web-canary"] > 0, "{weights:?}");
            Ok(())
        })
        .await?;
    comes_to(&scene, "promoted").await?;
    scene.request("registry.test/shop/web:v7-err20", &["--policy", "switch"]).await?;
    comes_to(&scene, "rolled-back").await?;
    ensure!(story.images("web").await?["app"] == "registry.test/shop/web:v6");

    story
        .wait_until("fifty thousand requests", Duration::from_secs(400), async || {
            let sent = load.counts().sent;
            ensure!(sent >= REQUESTS, "{sent}");
            Ok(())
        })
        .await?;
    accounted_for(story, load).await?;
    scene.replays().await
}

/// Every request has an answer, every failure is one that a backend counted itself, and every answer was given by a pod.
async fn accounted_for(story: &Story, load: Load) -> Result<()> {
    let counts = load.stop().await?;
    let Served { total: answers, errors } = story.plane.pods.served_to(&story.host);
    let seen: u64 = counts.by_version.values().map(|version| version.errors).sum();
    ensure!(counts.lost == 0, "{} requests had no answer", counts.lost);
    ensure!(
        counts.failed() == seen && seen == errors,
        "{} failed, {seen} by the backends' answers, {errors} by their own counts",
        counts.failed()
    );
    ensure!(
        counts.answered() == counts.sent && answers == counts.answered(),
        "{} sent, {} answered, {answers} served",
        counts.sent,
        counts.answered()
    );
    println!("{} requests, none lost; {errors} failed, all by the versions' own fault", counts.sent);
    Ok(())
}

/// From now until the newer rollout has its first step, its image never has the weight of the one before.
async fn never_unchecked(story: &Story, scene: &Scene<'_>, id: &str, before: i64) -> Result<()> {
    story
        .wait_until("the newer version in its first step", SOON, async || {
            let weight = story.weights("web").await?.get("web-canary").copied().unwrap_or(0);
            let canary = story.images("web-canary").await.ok().and_then(|images| images.get("app").cloned());
            let newer = canary.as_deref() == Some("registry.test/shop/web:v5");
            if newer && weight >= before {
                // Not "not yet": it must never be so.
                return Ok(false);
            }
            let rollout = scene.bellwether.rollout(id).await?.context("no rollout yet")?;
            ensure!(newer && weight > 0 && rollout["phase"] == "stepping", "{weight} for {canary:?}: {rollout:#}");
            Ok(true)
        })
        .await
        .and_then(|fine| {
            ensure!(fine, "the newer version had the older one's weight of {before}");
            Ok(())
        })
}

async fn comes_to(scene: &Scene<'_>, outcome: &str) -> Result<Value> {
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == outcome, "{rollout:#}");
    Ok(rollout)
}

fn is_stepping(rollout: &Value) -> bool {
    rollout["phase"] == "stepping"
}

/// A word to the workload, with why.
async fn say(scene: &Scene<'_>, verb: &str, more: &[&str]) -> Result<()> {
    let workload = scene.workload();
    let words = ["emit", verb, "--workload", &workload, "--reason", "the story says so", "--source", "/people/ann"];
    let output = scene.cli(&[&words, more].concat()).await?;
    ensure!(output.code == Some(0), "{output:?}");
    Ok(())
}

async fn a_person_decides(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &patient("10% 50%")).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "in a step", is_stepping).await?;
    say(&scene, "pause", &[]).await?;
    let held = scene.until(SOON, "paused", |rollout| rollout["held"].is_string()).await?;
    let why = held["held"].as_str().context("held")?;
    ensure!(why.contains("/people/ann") && why.contains("the story says so"), "{why}");
    say(&scene, "resume", &[]).await?;
    scene.until(SOON, "going on", |rollout| rollout["held"].is_null()).await?;
    say(&scene, "promote", &["--full"]).await?;
    let promoted = comes_to(&scene, "promoted").await?;
    let history = promoted["history"].to_string();
    ensure!(history.contains("skip") && history.contains("/people/ann"), "{history}");
    scene.left_marked(before.with_image("web", "app", V2)).await?;

    scene.request(V3, &[]).await?;
    scene.until(SOON, "in a step", is_stepping).await?;
    say(&scene, "abort", &[]).await?;
    let aborted = comes_to(&scene, "aborted").await?;
    ensure!(aborted["reason"].as_str().is_some_and(|why| why.contains("/people/ann")), "{aborted:#}");
    accounted_for(story, load).await?;
    // Nothing is said against it: it may be asked for again.
    scene.request(V3, &[]).await?;
    scene.until(SOON, "begun again", |rollout| rollout["outcome"].is_null()).await?;
    scene.replays().await
}

async fn frozen_and_gated(story: &Story) -> Result<()> {
    let gated = patient("20%") + "\n[[policy.approval]]\nname = \"release\"\nbefore = \"promotion\"\n";
    let scene = Scene::begin(story, &gated).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    let scope = format!("test/{}", story.namespace);
    let frozen =
        scene.cli(&["emit", "freeze", "--scope", &scope, "--reason", "a holiday", "--source", "/people/ann"]).await?;
    ensure!(frozen.code == Some(0), "{frozen:?}");
    // Told to one partition, it is kept for the workloads of all three.
    story
        .wait_until("the freeze in every partition", SOON, async || {
            let journal = story.records("journal").await?;
            let kept = |record: &&Record| record.key_text().starts_with("freeze/") && record.value.is_some();
            let partitions: BTreeSet<i32> = journal.iter().filter(kept).map(|record| record.partition).collect();
            ensure!(partitions.len() == 3, "{partitions:?}");
            Ok(())
        })
        .await?;
    let waiting = scene.request(V2, &[]).await?;
    story
        .wait_until("the request to wait", SOON, async || {
            let state = scene.state().await?;
            ensure!(state["queued"].is_object() && state["rollout"].is_null(), "{state:#}");
            Ok(())
        })
        .await?;
    ensure!(scene.bellwether.rollout(&waiting).await?.is_none(), "it began in spite of the freeze");
    let unfrozen = scene.cli(&["emit", "unfreeze", "--scope", &scope, "--source", "/people/ann"]).await?;
    ensure!(unfrozen.code == Some(0), "{unfrozen:?}");
    let held = scene
        .until(LONG, "at its approval", |rollout| rollout["held"].as_str().is_some_and(|why| why.contains("release")))
        .await?;
    ensure!(story.images("web").await?["app"] == GOOD, "{held:#}");
    say(&scene, "approve", &["--approval", "release"]).await?;
    comes_to(&scene, "promoted").await?;
    accounted_for(story, load).await?;
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}

async fn quarantined(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", "")).await?;
    let before = story.snapshot().await?;
    let load = story.load(150.0)?;
    scene.request(BAD, &[]).await?;
    comes_to(&scene, "rolled-back").await?;
    let again = scene.request(BAD, &[]).await?;
    let refused = scene
        .until(SOON, "refused", |rollout| rollout["id"] == again.as_str() && rollout["outcome"] == "refused")
        .await?;
    let why = refused["reason"].as_str().context("reason")?;
    ensure!(why.contains("quarantine") && why.contains("emit retry"), "{why}");
    say(&scene, "retry", &[]).await?;
    scene.until(SOON, "tried again", |rollout| rollout["phase"] == "stepping").await?;
    comes_to(&scene, "rolled-back").await?;
    accounted_for(story, load).await?;
    scene.left_as_it_was(before).await?;
    scene.replays().await
}

async fn the_stable_image_again(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("10% 50%", "")).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    let id = scene.request(V2, &[]).await?;
    scene.until(SOON, "in a step", is_stepping).await?;
    scene.request(GOOD, &[]).await?;
    let ended = story
        .wait_until("the first one to be over", SOON, async || {
            let rollout = scene.bellwether.rollout(&id).await?.context("no rollout")?;
            ensure!(rollout["outcome"].is_string(), "{rollout:#}");
            Ok(rollout)
        })
        .await?;
    ensure!(ended["outcome"] != "promoted" && ended["outcome"] != "rolled-back", "{ended:#}");
    accounted_for(story, load).await?;
    scene.left_as_it_was(before).await?;
    scene.replays().await
}

async fn somebody_elses_edit(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &patient("10% 50%")).await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "in a step", is_stepping).await?;
    let patch =
        Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": V3}]}}}}));
    let by = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    story.deployments().patch("web", &by, &patch).await?;
    let held = scene.until(SOON, "held", |rollout| rollout["held"].is_string()).await?;
    let why = held["held"].as_str().context("held")?;
    ensure!(why.contains("kubectl-edit"), "{why}");
    ensure!(story.images("web").await?["app"] == V3, "it fought");
    say(&scene, "abort", &[]).await?;
    comes_to(&scene, "aborted").await?;
    ensure!(story.images("web").await?["app"] == V3, "what somebody else wrote was taken back");
    accounted_for(story, load).await?;
    ensure!(story.leftovers().await?.is_empty(), "{:?}", story.leftovers().await?);
    scene.replays().await
}

async fn a_deleted_workload(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("10% 50%", "")).await?;
    let load = story.load(50.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "in a step", is_stepping).await?;
    story.deployments().delete("web", &DeleteParams::default()).await?;
    let rollout = scene.ended(SOON).await?;
    ensure!(rollout["outcome"] == "given-up", "{rollout:#}");
    let why = rollout["reason"].as_str().context("reason")?;
    ensure!(why.contains("deleted"), "{why}");
    load.stop().await?;
    story
        .wait_until("nothing of the canary left", SOON, async || {
            let leftovers = story.leftovers().await?;
            ensure!(leftovers.is_empty(), "{leftovers:?}");
            Ok(())
        })
        .await?;
    scene.replays().await
}

/// The API server says that there are too many requests (by its own means: a flow that may have none), and somebody writes
/// to the same objects all the time.
async fn too_many_and_conflicts(story: &Story) -> Result<()> {
    let scene =
        Scene::begin_with(story, Setup { policy: patient("10% 50%"), namespaced: Some(("", "")), ..Setup::default() })
            .await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "in a step", is_stepping).await?;
    let writing = story.writing_to_everything();
    let jail = story.jail(&scene.user).await?;
    let failing = |rollout: &Value| {
        rollout["reason"].as_str().is_some_and(|why| why.contains("fails, ") && why.contains("Too many requests"))
    };
    let seen = scene.until(SOON, "told that there are too many requests", failing).await;
    story.unjail(jail).await?;
    seen?;
    comes_to(&scene, "promoted").await?;
    drop(writing);
    accounted_for(story, load).await?;
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}
