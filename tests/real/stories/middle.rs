//! Events in the middle of a rollout: a newer version, a command, an external change, a freeze. Traffic runs all the time,
//! and its counts are compared with those of the pods.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::RolloutId;
use bellwether_testkit::plane::fixture::{STABLE, patient_policy, policy};
use bellwether_testkit::plane::kafka::KafkaRecord;
use bellwether_testkit::plane::load::TrafficLoad;
use bellwether_testkit::plane::pods::RequestCounts;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, specs, wait};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{LONG, SOON, Story, V2, story};

const V3: &str = "registry.test/shop/web:v3";
const BAD: &str = "registry.test/shop/web:v2-err20";
/// The author of commands.
const ANN: &str = "/people/ann";
const REQUESTS: u64 = 50_000;

pub fn stories() -> Vec<Story> {
    vec![
        story("middle::no_request_of_fifty_thousand_is_lost", fifty_thousand_requests),
        story("middle::pause_resume_promote_and_abort_are_obeyed", commands),
        story("middle::a_freeze_delays_the_start_and_an_approval_the_promotion", freeze_and_approval),
        story("middle::a_quarantined_version_is_refused_until_a_retry", quarantine),
        story("middle::a_request_for_the_stable_image_ends_the_rollout", stable_image_again),
        story("middle::an_external_edit_is_named_and_kept", external_edit),
        story("middle::a_deleted_workload_ends_its_rollout_and_its_successor_is_not_touched", deleted_workload),
        story("middle::too_many_requests_and_conflicts_only_delay_the_rollout", too_many_requests_and_conflicts),
    ]
}

/// Returns two policies: a canary in these steps, and a blue-green one that a request can name.
pub(super) fn both_strategies(weights: &str) -> String {
    policy(weights, "").replace("max-hold = \"10s\"", "max-hold = \"60s\"")
        + r#"
[[policy]]
name = "switch"
strategy = "blue-green"
match = { namespaces = ["*"], workloads = ["*"], images = ["registry.test/shop/*"] }
ready-within = "60s"
promote-within = "60s"
drain = "4s"
warm-up = "0s"
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

async fn fifty_thousand_requests(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &both_strategies("10% 30% 50%")).await?;
    let load = sandbox.load(200.0)?;

    let id = fixture.request(V2, &[]).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    let id = fixture.request("registry.test/shop/web:v3-err20", &[]).await?;
    fixture.ended_as(&id, "rolled-back", LONG).await?;

    // A newer version supersedes one that is in its second step.
    let older = fixture.request("registry.test/shop/web:v4", &[]).await?;
    let in_second_step = |rollout: &Value| rollout["step"] == json!([2, 3]) && rollout["phase"] == "stepping";
    fixture.until(&older, SOON, "in its second step", in_second_step).await?;
    let before = wait::until("the weight of the second step in the route", SOON, async || {
        let weight = sandbox.weights("web").await?.get("web-canary").copied().unwrap_or(0);
        ensure!(weight >= 30, "the weight is {weight}");
        Ok(weight)
    })
    .await?;
    let newer = fixture.request("registry.test/shop/web:v5", &[]).await?;
    starts_from_its_first_step(sandbox, &fixture, &newer, before).await?;
    fixture.ended_as(&newer, "promoted", LONG).await?;
    fixture.ended_as(&older, "superseded", SOON).await?;

    // Blue-green: one version is switched to and promoted, and one is switched to and rolled back.
    let id = fixture.request("registry.test/shop/web:v6", &["--policy", "switch"]).await?;
    let switched = fixture.until(&id, SOON, "switched", |rollout| rollout["phase"] == "switched").await?;
    ensure!(switched["weight"] == "100%", "{switched:#}");
    wait::until("all traffic at the new version", SOON, async || {
        let weights = sandbox.weights("web").await?;
        ensure!(weights["web"] == 0 && weights["web-canary"] > 0, "{weights:?}");
        Ok(())
    })
    .await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    let id = fixture.request("registry.test/shop/web:v7-err20", &["--policy", "switch"]).await?;
    fixture.ended_as(&id, "rolled-back", LONG).await?;
    ensure!(sandbox.images("web").await?["app"] == "registry.test/shop/web:v6");

    wait::until("fifty thousand requests", Duration::from_secs(400), async || {
        let sent = load.counts().sent;
        ensure!(sent >= REQUESTS, "{sent} are sent");
        Ok(())
    })
    .await?;
    accounted_for(sandbox, load).await?;
    fixture.replays().await
}

/// Checks that each request has an answer, and that the users and the pods have counted the same answers and failures.
pub(super) async fn accounted_for(sandbox: &Sandbox, load: TrafficLoad) -> Result<()> {
    let counts = load.stop().await?;
    let RequestCounts { total: answers, errors } = sandbox.plane.pods.counts_of_host(&sandbox.host);
    let of_versions: u64 = counts.by_version.values().map(|version| version.errors).sum();
    ensure!(counts.lost == 0, "{} requests have no answer: {}", counts.lost, counts.of_gateway);
    ensure!(
        counts.failed() == of_versions && of_versions == errors,
        "{} requests failed, {of_versions} by answers of pods; the pods counted {errors}; {}",
        counts.failed(),
        counts.of_gateway
    );
    ensure!(
        counts.answered() == counts.sent && answers == counts.answered(),
        "{} sent, {} answered; the pods counted {answers}",
        counts.sent,
        counts.answered()
    );
    println!("{} requests, none lost; {errors} failed, all by faults of the versions", counts.sent);
    Ok(())
}

/// Waits until the newer rollout is in its first step, and checks that its image never has the weight of the older one.
async fn starts_from_its_first_step(
    sandbox: &Sandbox,
    fixture: &Fixture<'_>,
    id: &RolloutId,
    older_weight: i64,
) -> Result<()> {
    let never_had_it = wait::until(&format!("rollout {id} to be in its first step"), SOON, async || {
        let weight = sandbox.weights("web").await?.get("web-canary").copied().unwrap_or(0);
        let canary = sandbox.images("web-canary").await.ok().and_then(|images| images.get("app").cloned());
        let is_newer = canary.as_deref() == Some("registry.test/shop/web:v5");
        if is_newer && weight >= older_weight {
            return Ok(false);
        }
        let rollout = fixture.daemon.rollout(id).await?.context("the daemon does not show it")?;
        let phase = &rollout["phase"];
        ensure!(is_newer && weight > 0 && phase == "stepping", "phase {phase}, weight {weight}: {rollout:#}");
        Ok(true)
    })
    .await?;
    ensure!(never_had_it, "the newer version had the older one's weight of {older_weight}");
    Ok(())
}

fn is_stepping(rollout: &Value) -> bool {
    rollout["phase"] == "stepping"
}

fn is_held(rollout: &Value) -> bool {
    rollout["held"].is_string()
}

/// Sends a command to the workload. Returns the id of its event.
async fn command(fixture: &Fixture<'_>, verb: &str, more: &[&str]) -> Result<String> {
    let workload = fixture.workload();
    let words = ["emit", verb, "--workload", &workload, "--reason", "the story says so", "--source", ANN];
    let output = fixture.cli(&[&words, more].concat()).await?;
    ensure!(output.code == Some(0), "{output:?}");
    Ok(output.stdout.trim().to_owned())
}

async fn commands(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &patient_policy("10% 50%")).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "in a step", is_stepping).await?;
    command(&fixture, "pause", &[]).await?;
    let held = fixture.until(&id, SOON, "paused", is_held).await?;
    let reason = held["held"].as_str().context("held")?;
    ensure!(reason.contains(ANN) && reason.contains("the story says so"), "{reason}");
    command(&fixture, "resume", &[]).await?;
    fixture.until(&id, SOON, "resumed", |rollout| rollout["held"].is_null()).await?;
    command(&fixture, "promote", &["--full"]).await?;
    let promoted = fixture.ended_as(&id, "promoted", LONG).await?;
    let history = promoted["history"].to_string();
    ensure!(history.contains("skip") && history.contains(ANN), "{history}");
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;

    let id = fixture.request(V3, &[]).await?;
    fixture.until(&id, SOON, "in a step", is_stepping).await?;
    command(&fixture, "abort", &[]).await?;
    let aborted = fixture.ended_as(&id, "aborted", LONG).await?;
    ensure!(aborted["reason"].as_str().is_some_and(|reason| reason.contains(ANN)), "{aborted:#}");
    accounted_for(sandbox, load).await?;
    // An aborted version is not quarantined, so it can be requested again.
    let again = fixture.request(V3, &[]).await?;
    fixture.until(&again, SOON, "running", |rollout| rollout["outcome"].is_null()).await?;
    fixture.replays().await
}

async fn freeze_and_approval(sandbox: &Sandbox) -> Result<()> {
    let policy = patient_policy("20%") + "\n[[policy.approval]]\nname = \"release\"\nbefore = \"promotion\"\n";
    let fixture = Fixture::start(sandbox, &policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let scope = format!("test/{}", sandbox.namespace);
    let frozen = fixture.cli(&["emit", "freeze", "--scope", &scope, "--reason", "a holiday", "--source", ANN]).await?;
    ensure!(frozen.code == Some(0), "{frozen:?}");
    // The event is on one partition, and the daemon forwards it to the workloads of all three.
    wait::until("the freeze in every partition", SOON, async || {
        let journal = sandbox.records("journal").await?;
        let is_freeze = |record: &&KafkaRecord| record.key_text().starts_with("freeze/") && record.value.is_some();
        let partitions: BTreeSet<i32> = journal.iter().filter(is_freeze).map(|record| record.partition).collect();
        ensure!(partitions.len() == 3, "{partitions:?}");
        Ok(())
    })
    .await?;
    let id = fixture.request(V2, &[]).await?;
    wait::until(&format!("request {id} to be queued"), SOON, async || {
        let state = fixture.state().await?;
        ensure!(state["queued"].is_object() && state["rollout"].is_null(), "{state:#}");
        Ok(())
    })
    .await?;
    let queued = |rollout: &Value| rollout["phase"] == "queued";
    let queued = fixture.until(&id, SOON, "shown as queued", queued).await?;
    ensure!(queued["reason"].as_str().is_some_and(|reason| reason.contains("frozen")), "{queued:#}");
    let unfrozen = fixture.cli(&["emit", "unfreeze", "--scope", &scope, "--source", ANN]).await?;
    ensure!(unfrozen.code == Some(0), "{unfrozen:?}");
    let waits = |rollout: &Value| rollout["held"].as_str().is_some_and(|reason| reason.contains("release"));
    let held = fixture.until(&id, LONG, "waiting for its approval", waits).await?;
    ensure!(sandbox.images("web").await?["app"] == STABLE, "{held:#}");
    command(&fixture, "approve", &["--approval", "release"]).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

async fn quarantine(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("20%", "")).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(150.0)?;
    let id = fixture.request(BAD, &[]).await?;
    fixture.ended_as(&id, "rolled-back", LONG).await?;
    let again = fixture.request(BAD, &[]).await?;
    let refused = fixture.ended_as(&again, "refused", SOON).await?;
    let reason = refused["reason"].as_str().context("reason")?;
    ensure!(reason.contains("quarantine") && reason.contains("emit retry"), "{reason}");
    let event = command(&fixture, "retry", &[]).await?;
    let retried = fixture.rollout_of_event(ANN, &event);
    fixture.until(&retried, SOON, "in a step", is_stepping).await?;
    fixture.ended_as(&retried, "rolled-back", LONG).await?;
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up(before).await?;
    fixture.replays().await
}

async fn stable_image_again(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("10% 50%", "")).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "in a step", is_stepping).await?;
    fixture.request(STABLE, &[]).await?;
    let ended = fixture.ended(&id, SOON).await?;
    ensure!(ended["outcome"] != "promoted" && ended["outcome"] != "rolled-back", "{ended:#}");
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up(before).await?;
    fixture.replays().await
}

async fn external_edit(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &patient_policy("10% 50%")).await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "in a step", is_stepping).await?;
    let containers = json!([{"name": "app", "image": V3}]);
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    let by = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    sandbox.deployments().patch("web", &by, &patch).await?;
    let held = fixture.until(&id, SOON, "held", is_held).await?;
    let reason = held["held"].as_str().context("held")?;
    ensure!(reason.contains("kubectl-edit"), "{reason}");
    ensure!(sandbox.images("web").await?["app"] == V3, "the edit was changed back while the rollout was held");
    command(&fixture, "abort", &[]).await?;
    fixture.ended_as(&id, "aborted", LONG).await?;
    ensure!(sandbox.images("web").await?["app"] == V3, "the edit was changed back by the abort");
    accounted_for(sandbox, load).await?;
    let leftovers = sandbox.leftovers().await?;
    ensure!(leftovers.is_empty(), "{leftovers:?}");
    fixture.replays().await
}

async fn deleted_workload(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("10% 50%", "")).await?;
    let load = sandbox.load(50.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "in a step", is_stepping).await?;
    sandbox.deployments().delete("web", &DeleteParams::default()).await?;
    let rollout = fixture.ended_as(&id, "given-up", SOON).await?;
    let reason = rollout["reason"].as_str().context("reason")?;
    ensure!(reason.contains("deleted"), "{reason}");
    load.stop().await?;
    wait::until("the canary's objects to be deleted", SOON, async || {
        let leftovers = sandbox.leftovers().await?;
        ensure!(leftovers.is_empty(), "{leftovers:?}");
        Ok(())
    })
    .await?;
    sandbox.create_object(specs::deployment("web", 1, &[("app", STABLE)])?).await?;
    sandbox.wait_available("web", 1).await?;
    let (images, leftovers) = (sandbox.images("web").await?, sandbox.leftovers().await?);
    ensure!(images["app"] == STABLE && leftovers.is_empty(), "{images:?} {leftovers:?}");
    fixture.replays().await
}

/// The API server answers the daemon with 429 for a while, and another client changes the same objects all the time.
async fn too_many_requests_and_conflicts(sandbox: &Sandbox) -> Result<()> {
    let options =
        FixtureOptions { policy: patient_policy("10% 50%"), namespaced: Some(("", "")), ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "in a step", is_stepping).await?;
    let writer = sandbox.write_in_background();
    let throttle = sandbox.throttle(&fixture.user).await?;
    let fails = |rollout: &Value| {
        rollout["reason"].as_str().is_some_and(|why| why.contains("fails, ") && why.contains("Too many requests"))
    };
    let failing = fixture.until(&id, SOON, "failing by too many requests", fails).await;
    sandbox.end_throttling(throttle).await?;
    failing?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    drop(writer);
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}
