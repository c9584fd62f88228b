//! Rollouts from their event to their end: an event on Kafka, a canary in Kubernetes, traffic through the gateway, counts
//! from Prometheus. Bellwether runs under the shipped service account.

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::RolloutId;
use bellwether_testkit::plane::fixture::{STABLE, history, policy};
use bellwether_testkit::plane::kafka::KafkaRecord;
use bellwether_testkit::plane::load::TrafficCounts;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, wait};
use serde_json::Value;

use super::{LONG, SOON, Story, V2, story};

pub fn stories() -> Vec<Story> {
    vec![
        story("rollout::a_good_version_is_promoted_in_three_steps", good_version),
        story("rollout::five_percent_errors_roll_a_version_back", errors),
        story("rollout::a_slow_p95_rolls_a_version_back", slow_p95),
        story("rollout::a_rollout_without_traffic_is_held_and_given_up", without_traffic),
        story("rollout::the_guard_restores_the_last_good_version", guard_restores),
        story("rollout::a_deployment_by_another_tool_is_guarded", external_deployment),
        story("rollout::an_image_that_cannot_be_pulled_is_rolled_back_at_once", image_that_cannot_be_pulled),
        story("rollout::a_request_changes_one_of_two_containers", one_of_two_containers),
        story("rollout::a_repeated_event_starts_one_rollout", repeated_event),
        story("rollout::a_promotion_and_a_rollback_are_events_for_other_tools", events_for_other_tools),
        story("rollout::an_observing_policy_decides_and_writes_nothing", observing_policy),
        story("rollout::a_daemon_killed_once_in_each_phase_finishes_the_rollout", killed_once_in_each_phase),
    ]
}

async fn good_version(sandbox: &Sandbox) -> Result<()> {
    let (rollout, counts) = promoted(sandbox, &policy("10% 30% 50%", ""), 100.0).await?;
    ensure!(counts.of_version("v2").total > 0, "no request reached v2: {counts:?}");
    let steps: Vec<&str> = history(&rollout).filter(|entry| entry.0 == "advance").map(|entry| entry.1).collect();
    // The canary is ready; and twice the step passes and the larger canary is ready.
    ensure!(steps.len() == 5, "{steps:#?}");
    Ok(())
}

/// Rolls out a good version, and checks that no request failed and that only the marks of a promotion are left. Returns
/// the rollout and the counts of the traffic.
pub async fn promoted(sandbox: &Sandbox, policy: &str, per_second: f64) -> Result<(Value, TrafficCounts)> {
    let fixture = Fixture::start(sandbox, policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(per_second)?;
    let id = fixture.request(V2, &[]).await?;
    let rollout = fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{} requests failed: {counts:?}", counts.failed());
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await?;
    Ok((rollout, counts))
}

async fn errors(sandbox: &Sandbox) -> Result<()> {
    let reason = reason_of_rollback(sandbox, "registry.test/shop/web:v2-err5").await?;
    let is_expected = reason.starts_with("error-rate ") && reason.contains("> 2 %");
    ensure!(is_expected && reason.contains("requests in 10s"), "{reason}");
    Ok(())
}

async fn slow_p95(sandbox: &Sandbox) -> Result<()> {
    let reason = reason_of_rollback(sandbox, "registry.test/shop/web:v2-slow10_800").await?;
    ensure!(reason.starts_with("response-time p95 ") && reason.contains("> 500 ms"), "{reason}");
    Ok(())
}

/// Returns the reason for which a version is rolled back in its first step, and checks the exit code of `status --wait`.
async fn reason_of_rollback(sandbox: &Sandbox, image: &str) -> Result<String> {
    let (fixture, id, rollout) = rolled_back(sandbox, &policy("20%", ""), 150.0, image).await?;
    let status = fixture.daemon.cli(&["status", &id.0, "--wait", "--api", &fixture.api()]).await?;
    ensure!(status.code == Some(3), "{status:?}");
    Ok(rollout["reason"].as_str().context("reason")?.to_owned())
}

/// Rolls out a bad version, and checks that it is rolled back and that all objects are as before.
pub async fn rolled_back<'a>(
    sandbox: &'a Sandbox,
    policy: &str,
    per_second: f64,
    image: &str,
) -> Result<(Fixture<'a>, RolloutId, Value)> {
    let fixture = Fixture::start(sandbox, policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(per_second)?;
    let id = fixture.request(image, &[]).await?;
    let rollout = fixture.ended_as(&id, "rolled-back", LONG).await?;
    load.stop().await?;
    fixture.cleaned_up(before).await?;
    fixture.replays().await?;
    Ok((fixture, id, rollout))
}

/// A promotion and a rollback, which `[sink.cdevents]` writes to a topic.
async fn events_for_other_tools(sandbox: &Sandbox) -> Result<()> {
    sandbox.create_topic("cdevents", 1, &[]).await?;
    let topic = sandbox.topic("cdevents");
    let sink = format!("\n[sink.cdevents.pipeline]\ntopic = \"{topic}\"\n");
    let fixture = Fixture::start(sandbox, &(policy("30%", "") + &sink)).await?;
    let load = sandbox.load(150.0)?;
    let promoted = fixture.request(V2, &[]).await?;
    fixture.ended_as(&promoted, "promoted", LONG).await?;
    let rolled_back = fixture.request("registry.test/shop/web:v3-err50", &[]).await?;
    fixture.ended_as(&rolled_back, "rolled-back", LONG).await?;
    load.stop().await?;
    let types = |records: &[KafkaRecord]| -> Vec<String> {
        records.iter().filter_map(|record| record.headers.get("ce_type").cloned()).collect()
    };
    let expected = [
        "dev.cdevents.service.upgraded.0.3.0",
        "dev.cdevents.incident.detected.0.3.0",
        "dev.cdevents.incident.resolved.0.3.0",
        "dev.cdevents.service.rolledback.0.3.0",
    ];
    let records = wait::until("the four events", SOON, async || {
        let records = sandbox.plane.kafka.records(&topic).await?;
        ensure!(types(&records) == expected, "{:?}", types(&records));
        Ok(records)
    });
    for record in records.await? {
        let artifact = record.json()?["subject"]["content"]["artifactId"].as_str().context("artifactId")?.to_owned();
        ensure!(artifact.starts_with("pkg:oci/web?repository_url=registry.test%2Fshop%2Fweb&tag=v"), "{artifact}");
    }
    Ok(())
}

async fn without_traffic(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("10%", "")).await?;
    let before = sandbox.specs().await?;
    let id = fixture.request(V2, &[]).await?;
    let held = fixture.until(&id, LONG, "held", |rollout| rollout["held"].is_string()).await?;
    let reason = held["held"].as_str().context("held")?;
    ensure!(reason.contains("0 requests in 10s, need at least 30 to judge it"), "{reason}");
    fixture.ended_as(&id, "given-up", LONG).await?;
    let status = fixture.daemon.cli(&["status", &id.0, "--wait", "--api", &fixture.api()]).await?;
    ensure!(status.code == Some(4), "{status:?}");
    fixture.cleaned_up(before).await
}

async fn guard_restores(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("20%", GUARD)).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(150.0)?;
    let id = fixture.request("registry.test/shop/web:v2-after40-err50", &[]).await?;
    let rollout = fixture.ended_as(&id, "rolled-back", LONG).await?;
    load.stop().await?;
    ensure!(history(&rollout).any(|entry| entry.0 == "promote"), "it was never promoted: {rollout:#}");
    fixture.cleaned_up_after_promotion(before).await?;
    fixture.replays().await
}

/// A guard of a minute.
pub const GUARD: &str = r#"
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

async fn external_deployment(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("20%", GUARD)).await?;
    let before = sandbox.specs().await?;
    fixture.until_last_good().await?;
    let load = sandbox.load(150.0)?;
    sandbox.set_image("web", "app", "registry.test/shop/web:v2-err30").await?;
    let id = fixture.report_deployment().await?;
    fixture.ended_as(&id, "rolled-back", LONG).await?;
    load.stop().await?;
    fixture.cleaned_up_after_promotion(before).await
}

async fn image_that_cannot_be_pulled(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("20%", "")).await?;
    let before = sandbox.specs().await?;
    let id = fixture.request("registry.test/shop/web:v2-nopull", &[]).await?;
    let rollout = fixture.ended_as(&id, "rolled-back", LONG).await?;
    let reason = rollout["reason"].as_str().context("reason")?;
    let names_the_pod = reason.starts_with("the canary can't run: pod web-canary-");
    ensure!(names_the_pod && reason.contains("ImagePullBackOff"), "{reason}");
    fixture.cleaned_up(before).await
}

async fn one_of_two_containers(sandbox: &Sandbox) -> Result<()> {
    let side = "registry.test/shop/side:v1";
    let containers = [("app", STABLE), ("side", side)];
    let options = FixtureOptions { containers: &containers, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(150.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    load.stop().await?;
    let images = sandbox.images("web").await?;
    ensure!(images["app"] == V2 && images["side"] == side, "{images:?}");
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await
}

async fn repeated_event(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("20%", "")).await?;
    let load = sandbox.load(150.0)?;
    let repeat = async || fixture.request(V2, &["--id", "repeated"]).await;
    let id = repeat().await?;
    for _ in 0..2 {
        ensure!(repeat().await? == id);
    }
    fixture.ended_as(&id, "promoted", LONG).await?;
    ensure!(repeat().await? == id);
    load.stop().await?;
    // A later event on the same partition is refused, which shows that the daemon has read the repeated ones.
    let later = fixture.request(V2, &[]).await?;
    fixture.until(&later, SOON, "refused or unchanged", |rollout| rollout["outcome"].is_string()).await?;
    let decisions = fixture.decisions().await?;
    let is_start = |decision: &&Value| decision["kind"] == "start" && decision["rollout"] != later.0.as_str();
    let starts = decisions.iter().filter(is_start).count();
    ensure!(starts == 1, "the repeated event started {starts} rollouts");
    Ok(())
}

async fn observing_policy(sandbox: &Sandbox) -> Result<()> {
    let policy = policy("20%", "").replace("traffic =", "mode = \"observe\"\ntraffic =");
    let fixture = Fixture::start(sandbox, &policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let rollout = fixture.ended(&id, LONG).await?;
    load.stop().await?;
    ensure!(rollout["mode"] == "observe", "{rollout:#}");
    ensure!(history(&rollout).count() >= 3, "{rollout:#}");
    let writes = fixture.writes()?;
    ensure!(writes.is_empty(), "{writes:#?}");
    fixture.cleaned_up(before).await
}

/// The pods of the version are late, so that the phases that wait for pods last long enough to be seen by a poll.
async fn killed_once_in_each_phase(sandbox: &Sandbox) -> Result<()> {
    let late = "registry.test/shop/web:v2-late";
    let mut fixture = Fixture::start(sandbox, &policy("10% 30%", GUARD)).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(150.0)?;
    let id = fixture.request(late, &[]).await?;
    for phase in ["preparing", "stepping", "growing", "promoting", "guarding"] {
        fixture.until(&id, LONG, phase, |rollout| rollout["phase"] == phase).await?;
        fixture.daemon.kill().await?;
        fixture.daemon.start().await?;
    }
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    fixture.promoted_once().await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", late)).await?;
    fixture.replays().await
}
