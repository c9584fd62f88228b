//! Verdicts of the sequential judge on real counts. It is the default judge, so these policies name none.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bellwether_core::ids::RolloutId;
use bellwether_testkit::plane::behaviour::Behaviour;
use bellwether_testkit::plane::fixture::{history, policy};
use bellwether_testkit::plane::pods::NamespaceConditions;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox};
use serde_json::Value;

use super::rollout::{promoted, rolled_back};
use super::{LONG, Story, V2, story};

pub fn stories() -> Vec<Story> {
    vec![
        story("evidence::a_version_worse_than_its_stable_is_found_with_scrapes_every_5_s", worse_than_the_stable),
        story("evidence::an_incident_in_both_arms_rolls_nothing_back", incident_in_both_arms),
        story("evidence::a_version_with_errors_is_rolled_back", version_with_errors),
        story("evidence::a_slow_version_is_rolled_back", slow_version),
        story("evidence::a_rollback_names_the_pod_with_the_errors", one_bad_pod),
        story("evidence::a_good_version_is_promoted", good_version),
    ]
}

/// Returns the policy with the sequential judge, and with a maximum of 10 % errors so that only the comparison with the
/// stable finds 5 %.
pub fn sequential_policy(weights: &str) -> String {
    policy(weights, "")
        .replace("judge = \"threshold\"\n", "")
        .replace("every = \"2s\"\nwindow = \"10s\"\n", "")
        .replace("max = \"2%\"", "max = \"10%\"")
        .replace("min-time = \"8s\"", "min-time = \"20s\"")
}

/// Returns the sequential policy with two steps, of which the last one proves that the version is at most 5 points worse. A
/// smaller difference takes more requests than a story has.
pub fn proving_policy() -> String {
    sequential_policy("10% 50%")
        .replace("max = \"10%\"", "max = \"10%\"\nfloor = \"5%\"")
        .replace("max = \"500ms\"", "max = \"500ms\"\nfloor = \"5%\"")
}

async fn version_with_errors(sandbox: &Sandbox) -> Result<()> {
    let reason = reason_of_rollback(sandbox, "registry.test/shop/web:v2-err5").await?;
    ensure!(reason.starts_with("error-rate ") && reason.contains("> 1.25 times the stable's 0 %"), "{reason}");
    Ok(())
}

async fn slow_version(sandbox: &Sandbox) -> Result<()> {
    let reason = reason_of_rollback(sandbox, "registry.test/shop/web:v2-slow20_800").await?;
    ensure!(reason.starts_with("response-time above 500 ms ") && reason.contains("; evidence "), "{reason}");
    Ok(())
}

/// Returns the reason for which a bad version with 10 % of 200 requests per second is rolled back.
async fn reason_of_rollback(sandbox: &Sandbox, image: &str) -> Result<String> {
    let policy = sequential_policy("10%").replace("min-time = \"20s\"", "min-time = \"60s\"");
    let (fixture, id, _) = rolled_back(sandbox, &policy, 200.0, image).await?;
    let (time, reason) = rollback(&fixture, &id).await?;
    println!("{image} was rolled back {time:?} after its first traffic");
    Ok(reason)
}

/// One of the canary's two pods is on a faulty node. Its users get errors, so the version is rolled back, and the reason
/// names the pod because the version may be good.
async fn one_bad_pod(sandbox: &Sandbox) -> Result<()> {
    let policy = sequential_policy("20%").replace("min-time = \"20s\"", "min-time = \"90s\"");
    let fixture = Fixture::start(sandbox, &policy).await?;
    let load = sandbox.load(200.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, LONG, "in a step", |rollout| rollout["phase"] == "stepping").await?;
    let pods = sandbox.plane.pods.of(&sandbox.namespace);
    let canary: Vec<_> = pods.into_iter().filter(|pod| pod.name.starts_with("web-canary-")).collect();
    let [pod, _] = &canary[..] else { bail!("the canary has {} pods", canary.len()) };
    pod.set_node_faults(Behaviour::of("registry.test/shop/node:faulty-err20")?);
    fixture.ended_as(&id, "rolled-back", LONG).await?;
    load.stop().await?;
    let (_, reason) = rollback(&fixture, &id).await?;
    println!("{reason}");
    ensure!(reason.contains(&format!("; pod {} has ", pod.name)), "{}: {reason}", pod.name);
    ensure!(reason.ends_with("it or its node may be at fault, not the version"), "{reason}");
    fixture.replays().await
}

/// Returns the time between a rollout's first traffic and its rollback, and the reason of the rollback.
async fn rollback(fixture: &Fixture<'_>, id: &RolloutId) -> Result<(jiff::SignedDuration, String)> {
    let decisions = fixture.decisions().await?;
    let first = |kind: &str| -> Result<&Value> {
        let found = decisions.iter().find(|decision| decision["rollout"] == id.0.as_str() && decision["kind"] == kind);
        found.with_context(|| format!("rollout {id} has no decision {kind}: {decisions:#?}"))
    };
    let at = |decision: &Value| -> Result<jiff::Timestamp> { Ok(decision["at"].as_str().context("at")?.parse()?) };
    let end = first("roll-back")?;
    let time = at(end)?.duration_since(at(first("advance")?)?);
    Ok((time, end["why"].as_str().context("why")?.to_owned()))
}

async fn good_version(sandbox: &Sandbox) -> Result<()> {
    let (rollout, _) = promoted(sandbox, &proving_policy(), 200.0).await?;
    let reasons: Vec<&str> = history(&rollout).filter(|entry| entry.0 != "start").map(|entry| entry.1).collect();
    let not_worse = "error-rate 0 % is not shown to be > 10 % or > 1.25 times the stable's (";
    ensure!(reasons.iter().any(|reason| reason.contains(not_worse)), "{reasons:#?}");
    let below = "error-rate 0 % is shown to be ≤ 10 %";
    ensure!(reasons.iter().any(|reason| reason.contains(below)), "{reasons:#?}");
    Ok(())
}

/// The history of the stable before a version is requested.
const HISTORY: Duration = Duration::from_secs(60);
/// The time between two canaries, by which a backtest distinguishes them.
const BETWEEN: Duration = Duration::from_secs(20);
/// A stable of which one request in 200 fails, and one in 200 is slow.
const STABLE: &str = "registry.test/shop/web:v1-err0.5-slow0.5_800";

/// The stable has a history of errors, from which the dispersion is learned. Then two versions with ten times as many come.
async fn worse_than_the_stable(sandbox: &Sandbox) -> Result<()> {
    let conditions = NamespaceConditions { scrape_interval: Some("5s"), ..NamespaceConditions::default() };
    sandbox.plane.pods.set_conditions(&sandbox.namespace, conditions);
    // Counters are read every 5 s, 7 s in the past, and scraped every 5 s: the first counts of a step arrive after 15 to 25 s,
    // while other stories' policies give up after 25 s without counts.
    let policy = sequential_policy("10%")
        .replace("min-time = \"20s\"", "min-time = \"90s\"")
        .replace("max-hold = \"10s\"", "max-hold = \"60s\"")
        .replace("insufficient = \"15s\"", "insufficient = \"40s\"");
    let reading = ["5s", "7s", "5s"];
    let options = FixtureOptions { policy, containers: &[("app", STABLE)], reading, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let load = sandbox.load(200.0)?;
    tokio::time::sleep(HISTORY).await;
    for (image, check) in [
        ("registry.test/shop/web:v2-err5-slow0.5_800", "error-rate"),
        ("registry.test/shop/web:v3-err0.5-slow5_800", "response-time above 500 ms"),
    ] {
        let id = fixture.request(image, &[]).await?;
        fixture.ended_as(&id, "rolled-back", LONG).await?;
        tokio::time::sleep(BETWEEN).await;
        let (time, reason) = rollback(&fixture, &id).await?;
        println!("{image} was rolled back {time:?} after its first traffic: {reason}");
        ensure!(reason.starts_with(check) && reason.contains("> 1.25 times the stable's"), "{reason}");
        ensure!(!reason.contains("not calibrated"), "the stable's history was not used: {reason}");
    }
    backtest_agrees(&fixture).await?;
    load.stop().await?;
    fixture.replays().await
}

/// Checks the commands that read the past from Prometheus: `backtest`, `calibrate` and `plan`.
async fn backtest_agrees(fixture: &Fixture<'_>) -> Result<()> {
    let workload = fixture.workload();
    let run = async |command: &[&str]| -> Result<Value> {
        let arguments = [command, &["--workload", &workload, "--output", "json"]].concat();
        let output = fixture.cli(&arguments).await?;
        ensure!(output.code == Some(0), "{arguments:?}: {output:?}");
        Ok(serde_json::from_str(&output.stdout)?)
    };
    let backtest = run(&["backtest", "--over", "10m"]).await?;
    let judged = |case: &Value| case["judged"][0].clone();
    let cases: Vec<Value> = backtest.as_array().context("cases")?.iter().map(judged).collect();
    ensure!(cases.len() == 2, "not both canaries are found: {backtest:#}");
    for (judged, check) in cases.iter().zip(["error-rate", "response-time above 500 ms"]) {
        ensure!(judged["end"] == "rolled-back", "{judged:#}");
        ensure!(judged["why"].as_str().is_some_and(|why| why.starts_with(check)), "{judged:#}");
    }
    let calibration = run(&["calibrate", "--over", "3m", "--stretch", "30s"]).await?;
    let checks = calibration.as_array().context("checks")?;
    ensure!(!checks.is_empty(), "{calibration:#}");
    for check in checks {
        ensure!(check["stretches"].as_u64() >= Some(4) && check["rolled-back"] == 0, "{calibration:#}");
    }
    let plan = run(&["plan"]).await?;
    let present = &plan["checks"][0]["present"];
    ensure!((0.002..0.01).contains(&present["share"].as_f64().context("share")?), "one in 200 fails: {plan:#}");
    ensure!((100.0..300.0).contains(&present["rps"].as_f64().context("rps")?), "200 per second are sent: {plan:#}");
    println!("backtest: {backtest:#}\ncalibrate: {calibration:#}\nplan: {plan:#}");
    Ok(())
}

/// While a version has traffic, one request in twenty begins to fail in both arms, which says nothing about the version.
async fn incident_in_both_arms(sandbox: &Sandbox) -> Result<()> {
    let policy = proving_policy();
    let options = FixtureOptions { policy, containers: &[("app", STABLE)], ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let load = sandbox.load(200.0)?;
    tokio::time::sleep(HISTORY).await;
    let id = fixture.request("registry.test/shop/web:v2-err0.5-slow0.5_800", &[]).await?;
    fixture.until(&id, LONG, "in a step", |rollout| rollout["phase"] == "stepping").await?;
    let incident = Behaviour::of("registry.test/shop/dependency:faulty-err5-slow2_800")?;
    let conditions = NamespaceConditions { incident, ..NamespaceConditions::default() };
    sandbox.plane.pods.set_conditions(&sandbox.namespace, conditions);
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.of_version("v2-err0.5-slow0.5_800").errors > 20, "the canary had no incident: {counts:?}");
    fixture.replays().await
}
