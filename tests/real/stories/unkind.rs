//! A cluster that is not kind: parts that are away or silent for longer than every deadline, and other hands in the objects.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::behaviour::Behaviour;
use bellwether_testkit::plane::fixture::{history, policy};
use bellwether_testkit::plane::proxy::ProxyMode;
use bellwether_testkit::plane::webhook::{DigestWebhook, pinned};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, prometheus, wait};

use super::away::{address, is_held, is_judged, proxy};
use super::middle::{accounted_for, both_strategies};
use super::rollout::GUARD;
use super::{LONG, SOON, Story, V2, story};

/// The first port of webhooks: between those of Slack's stand-ins and of proxies.
const WEBHOOKS: u16 = 27_000;
/// The time for which a daemon is away: longer than all deadlines of [`hasty_policy`] together.
const ABSENCE: Duration = Duration::from_secs(40);
const LATE: &str = "registry.test/shop/web:v2-late";

pub fn stories() -> Vec<Story> {
    vec![
        story("unkind::with_a_frozen_status_a_good_canary_is_promoted", async |sandbox| {
            frozen_status(sandbox, V2, &[], "promoted").await
        }),
        story("unkind::with_a_frozen_status_a_bad_canary_is_rolled_back", async |sandbox| {
            frozen_status(sandbox, "registry.test/shop/web:v2-err20", &[], "rolled-back").await
        }),
        story("unkind::with_a_frozen_status_a_good_switch_is_promoted", async |sandbox| {
            frozen_status(sandbox, V2, &["--policy", "switch"], "promoted").await
        }),
        story("unkind::with_a_frozen_status_a_bad_switch_is_rolled_back", async |sandbox| {
            frozen_status(sandbox, "registry.test/shop/web:v2-err20", &["--policy", "switch"], "rolled-back").await
        }),
        story("unkind::a_daemon_killed_in_a_step_is_back_after_every_deadline", killed_in_a_step),
        story("unkind::a_version_that_turned_bad_in_the_daemons_absence_is_rolled_back", turned_bad_in_the_absence),
        story("unkind::a_daemon_killed_in_promoting_is_back_after_every_deadline", killed_in_promoting),
        story("unkind::without_prometheus_in_preparing_nothing_is_quarantined", without_prometheus),
        story("unkind::a_webhook_that_pins_digests_edits_nothing", digests),
        story("unkind::the_guard_restores_a_hotfix_by_other_hands", hotfix),
    ]
}

/// The gateway's status stays as it was before the rollout, while its data plane follows every weight.
async fn frozen_status(sandbox: &Sandbox, image: &str, more: &[&str], outcome: &str) -> Result<()> {
    let fixture = Fixture::start(sandbox, &both_strategies("50%")).await?;
    let before = sandbox.specs().await?;
    sandbox.freeze_route_status().await?;
    // The counts have to show that the canary gets all requests, to half a percent.
    let load = sandbox.load(200.0)?;
    let id = fixture.request(image, more).await?;
    let rollout = fixture.ended_as(&id, outcome, LONG).await?;
    println!("{image} {more:?}: {}", rollout["reason"]);
    accounted_for(sandbox, load).await?;
    let route = sandbox.routes().get("web").await?;
    let observed = route.data.pointer("/status/parents/0/conditions/0/observedGeneration");
    let observed = observed.and_then(|observed| observed.as_i64()).context("the route has no status")?;
    let generation = route.metadata.generation.unwrap_or_default();
    ensure!(observed < generation, "the status has followed to generation {observed} of {generation}");
    if outcome == "promoted" {
        fixture.cleaned_up_after_promotion(before.with_image("web", "app", image)).await?;
    } else {
        fixture.cleaned_up(before).await?;
    }
    fixture.replays().await
}

/// Returns a policy of which every deadline, patience and minimum time is over in [`ABSENCE`].
fn hasty_policy() -> String {
    policy("20% 50%", "").replace("within = \"60s\"", "within = \"10s\"")
}

async fn killed_in_a_step(sandbox: &Sandbox) -> Result<()> {
    let mut fixture = Fixture::start(sandbox, &hasty_policy()).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    fixture.daemon.kill().await?;
    tokio::time::sleep(ABSENCE).await;
    fixture.daemon.start().await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    accounted_for(sandbox, load).await?;
    fixture.promoted_once().await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

/// The step has passed on the counts from before the absence. The daemon looks first.
async fn turned_bad_in_the_absence(sandbox: &Sandbox) -> Result<()> {
    let mut fixture = Fixture::start(sandbox, &hasty_policy().replace("\"20% 50%\"", "\"50%\"")).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let passes = |rollout: &serde_json::Value| is_judged(rollout) && rollout["checks"][0]["verdict"] == "pass";
    fixture.until(&id, SOON, "in a step with a passing check", passes).await?;
    fixture.daemon.kill().await?;
    let pods = sandbox.plane.pods.of(&sandbox.namespace);
    for pod in pods.iter().filter(|pod| pod.name.starts_with("web-canary-")) {
        pod.set_node_faults(Behaviour::of("registry.test/shop/web:bad-err100")?);
    }
    tokio::time::sleep(ABSENCE).await;
    fixture.daemon.start().await?;
    let rollout = fixture.ended_as(&id, "rolled-back", LONG).await?;
    ensure!(history(&rollout).all(|(kind, _)| kind != "promote"), "{rollout:#}");
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up(before).await?;
    fixture.replays().await
}

/// The Deployment finishes by itself while the daemon is away.
async fn killed_in_promoting(sandbox: &Sandbox) -> Result<()> {
    let mut fixture = Fixture::start(sandbox, &hasty_policy()).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(LATE, &[]).await?;
    wait::until("the new image in the stable", LONG, async || {
        let images = sandbox.images("web").await?;
        ensure!(images["app"] == LATE, "{images:?}");
        Ok(())
    })
    .await?;
    let rollout = fixture.daemon.rollout(&id).await?.context("the daemon does not show it")?;
    ensure!(rollout["phase"] == "promoting", "{rollout:#}");
    fixture.daemon.kill().await?;
    sandbox.wait_available("web", 4).await?;
    tokio::time::sleep(ABSENCE).await;
    fixture.daemon.start().await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    accounted_for(sandbox, load).await?;
    fixture.promoted_once().await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", LATE)).await?;
    fixture.replays().await
}

/// Prometheus is away before the first traffic, for longer than `ready-within` and `max-hold`, and comes back in the second
/// attempt.
async fn without_prometheus(sandbox: &Sandbox) -> Result<()> {
    let proxy = proxy(sandbox, address(prometheus::URL)).await?;
    let prometheus = format!("http://{}", proxy.address);
    let options = FixtureOptions { policy: hasty_policy(), prometheus, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    proxy.set(ProxyMode::Refuse).await;
    let id = fixture.request(V2, &[]).await?;
    let held = fixture.until(&id, SOON, "held", is_held).await?;
    let reason = held["held"].as_str().context("held")?;
    ensure!(held["phase"] == "preparing" && reason.contains("probe fails"), "{held:#}");
    let rollout = fixture.ended_as(&id, "given-up", LONG).await?;
    println!("{reason}; {}", rollout["reason"]);
    fixture.cleaned_up(before.clone()).await?;
    ensure!(load.counts().of_version("v2").total == 0, "the canary had traffic without Prometheus");

    let again = fixture.request(V2, &[]).await?;
    fixture.until(&again, SOON, "held", is_held).await?;
    proxy.set(ProxyMode::Pass).await;
    fixture.ended_as(&again, "promoted", LONG).await?;
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

async fn digests(sandbox: &Sandbox) -> Result<()> {
    let _webhook = DigestWebhook::start(sandbox, WEBHOOKS + sandbox.plane.number()).await?;
    let fixture = Fixture::start(sandbox, &policy("20% 50%", "")).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    let canary = sandbox.images("web-canary").await?;
    ensure!(canary["app"] == pinned(V2), "{canary:?}");
    let rollout = fixture.ended_as(&id, "promoted", LONG).await?;
    let edited = |(_, why): (&str, &str)| why.contains("has changed") || why.contains("reverted");
    ensure!(!history(&rollout).any(edited), "{rollout:#}");
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", &pinned(V2))).await?;
    fixture.replays().await
}

/// Between two rollouts a person deploys a hotfix. The second version turns bad in its guard.
async fn hotfix(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("50%", &GUARD.replace("60s", "10s"))).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    fixture.cleaned_up_after_promotion(before.clone().with_image("web", "app", V2)).await?;

    sandbox.set_image("web", "app", "registry.test/shop/web:v3").await?;
    sandbox.wait_available("web", 4).await?;
    let id = fixture.request("registry.test/shop/web:v4", &[]).await?;
    fixture.until(&id, LONG, "guarded", |rollout| rollout["phase"] == "guarding").await?;
    let pods = sandbox.plane.pods.of(&sandbox.namespace);
    for pod in pods.iter().filter(|pod| pod.version() == "v4") {
        pod.set_node_faults(Behaviour::of("registry.test/shop/web:bad-err50")?);
    }
    let rollout = fixture.ended_as(&id, "rolled-back", LONG).await?;
    ensure!(history(&rollout).any(|(kind, _)| kind == "promote"), "it was never promoted: {rollout:#}");
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", "registry.test/shop/web:v3")).await?;
    fixture.replays().await
}
