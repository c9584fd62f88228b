//! What the sequential judge makes of real counts: it is the default, so these policies name no judge.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::rollout::{LONG, V2, history, promoted, returned};
use super::scene::{Scene, Setup, policy};
use super::{Told, told};
use crate::plane::behaviour::Behaviour;
use crate::plane::pods::Weather;
use crate::plane::story::Story;

pub fn stories() -> Vec<Told> {
    vec![
        told("evidence::what_is_worse_than_usual_is_found_on_a_grid_of_five_seconds", worse_than_usual),
        told("evidence::an_incident_in_both_arms_rolls_nothing_back", an_incident_in_both),
        told("evidence::it_rolls_errors_back", the_evidence_rolls_errors_back),
        told("evidence::it_rolls_a_slow_p95_back", the_evidence_rolls_slowness_back),
        told("evidence::a_bad_pod_is_told_from_a_bad_version", a_bad_pod),
        told("evidence::it_promotes", the_evidence_promotes),
    ]
}

/// The same checks by the sequential judge; a limit of 10 % would let twice as many errors through.
pub fn by_evidence(weights: &str) -> String {
    policy(weights, "")
        .replace("judge = \"threshold\"\n", "")
        .replace("every = \"2s\"\nwindow = \"10s\"\n", "")
        .replace("max = \"2%\"", "max = \"10%\"")
        .replace("min-time = \"8s\"", "min-time = \"20s\"")
}

async fn the_evidence_rolls_errors_back(story: &Story) -> Result<()> {
    let why = found_out(story, "registry.test/shop/web:v2-err5").await?;
    ensure!(why.starts_with("error-rate ") && why.contains("> 1.25 times the stable's 0 %"), "{why}");
    Ok(())
}

async fn the_evidence_rolls_slowness_back(story: &Story) -> Result<()> {
    let why = found_out(story, "registry.test/shop/web:v2-slow20_800").await?;
    ensure!(why.starts_with("response-time above 500 ms ") && why.contains("; evidence "), "{why}");
    Ok(())
}

/// One of the canary's two pods is on a node that is ill. Its users are served badly, so it is rolled back; but who reads why
/// knows which pod it was, and that the version may be good.
async fn a_bad_pod(story: &Story) -> Result<()> {
    let policy = by_evidence("20%").replace("min-time = \"20s\"", "min-time = \"90s\"");
    let scene = Scene::begin(story, &policy).await?;
    let load = story.load(200.0)?;
    scene.request(V2, &[]).await?;
    scene.until(LONG, "traffic", |rollout| rollout["phase"] == "stepping").await?;
    let pods: Vec<_> =
        story.plane.pods.of(&story.namespace).into_iter().filter(|pod| pod.name.starts_with("web-canary-")).collect();
    let [pod, _] = &pods[..] else { bail!("the canary has {} pods", pods.len()) };
    pod.fall_ill(Behaviour::of("registry.test/shop/node:ill-err20")?);
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "rolled-back", "{rollout:#}");
    load.stop().await?;
    let (_, why) = time_to_rollback(&scene, rollout["id"].as_str().context("id")?).await?;
    println!("{why}");
    ensure!(why.contains(&format!("; pod {} has ", pod.name)), "{}: {why}", pod.name);
    ensure!(why.ends_with("it or its node may be at fault, not the version"), "{why}");
    scene.replays().await
}

/// The sentence with which a bad version was rolled back while it had 10 % of 200 requests a second.
async fn found_out(story: &Story, image: &str) -> Result<String> {
    let policy = by_evidence("10%").replace("min-time = \"20s\"", "min-time = \"60s\"");
    let (scene, _) = returned(story, &policy, 200.0, image).await?;
    let decisions = scene.decisions().await?;
    let rollout = decisions.first().and_then(|decision| decision["rollout"].as_str()).context("no decision")?;
    let (took, why) = time_to_rollback(&scene, rollout).await?;
    println!("{image} was rolled back {took:?} after its first traffic");
    Ok(why)
}

/// How long a rollout had traffic before it was rolled back, and why it was.
async fn time_to_rollback(scene: &Scene<'_>, rollout: &str) -> Result<(jiff::SignedDuration, String)> {
    let decisions = scene.decisions().await?;
    let decided = |kind: &str| -> Result<&Value> {
        let found = decisions.iter().find(|decision| decision["rollout"] == rollout && decision["kind"] == kind);
        found.with_context(|| format!("no {kind}: {decisions:#?}"))
    };
    let at = |decision: &Value| -> Result<jiff::Timestamp> { Ok(decision["at"].as_str().context("at")?.parse()?) };
    let back = decided("roll-back")?;
    let took = at(back)?.duration_since(at(decided("advance")?)?);
    Ok((took, back["why"].as_str().context("why")?.to_owned()))
}

async fn the_evidence_promotes(story: &Story) -> Result<()> {
    let (rollout, _) = promoted(story, &by_evidence("10% 50%"), 200.0).await?;
    let steps: Vec<&str> = history(&rollout).filter(|entry| entry.0 != "start").map(|entry| entry.1).collect();
    ensure!(
        steps.iter().any(|why| why.contains("error-rate 0 % is not shown to be > 10 % or > 1.25 times the stable's (")),
        "{steps:#?}"
    );
    ensure!(steps.iter().any(|why| why.contains("error-rate 0 % is shown to be ≤ 10 %")), "{steps:#?}");
    Ok(())
}

/// So long the stable is seen before a version comes.
const HISTORY: Duration = Duration::from_secs(60);
/// A stable of which one request in 200 fails, and as many are slow.
const USUAL: &str = "registry.test/shop/web:v1-err0.5-slow0.5_800";

/// The stable has its usual errors, long enough that it is known how they come; then a version comes that has ten times as many.
async fn worse_than_usual(story: &Story) -> Result<()> {
    let five = Weather { scraped: Some("5s"), ..Weather::default() };
    story.plane.pods.set_weather(&story.namespace, five);
    let policy = by_evidence("10%").replace("min-time = \"20s\"", "min-time = \"90s\"");
    let setup = Setup { policy, containers: &[("app", USUAL)], reading: ["5s", "7s", "5s"], ..Setup::default() };
    let scene = Scene::begin_with(story, setup).await?;
    let load = story.load(200.0)?;
    tokio::time::sleep(HISTORY).await;
    for (image, check) in [
        ("registry.test/shop/web:v2-err5-slow0.5_800", "error-rate"),
        ("registry.test/shop/web:v3-err0.5-slow5_800", "response-time above 500 ms"),
    ] {
        scene.request(image, &[]).await?;
        let rollout = scene.ended(LONG).await?;
        ensure!(rollout["outcome"] == "rolled-back", "{rollout:#}");
        // In the past one canary is told from the next by the stable alone between them.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let (took, why) = time_to_rollback(&scene, rollout["id"].as_str().context("id")?).await?;
        println!("{image} was rolled back {took:?} after its first traffic: {why}");
        ensure!(why.starts_with(check) && why.contains("> 1.25 times the stable's"), "{why}");
        ensure!(!why.contains("not calibrated"), "a minute of the stable's errors says how they come: {why}");
    }
    the_past_says_the_same(&scene).await?;
    load.stop().await?;
    scene.replays().await
}

/// What people ask of the same Prometheus afterwards: what would have been decided, how often for nothing, and what can be found.
async fn the_past_says_the_same(scene: &Scene<'_>) -> Result<()> {
    let workload = scene.workload();
    let asked = async |command: &[&str]| -> Result<Value> {
        let arguments = [command, &["--workload", &workload, "--output", "json"]].concat();
        let output = scene.cli(&arguments).await?;
        ensure!(output.code == Some(0), "{arguments:?}: {output:?}");
        Ok(serde_json::from_str(&output.stdout)?)
    };
    let tested = asked(&["backtest", "--over", "10m"]).await?;
    let ours = |case: &Value| case["judged"][0].clone();
    let cases: Vec<Value> = tested.as_array().context("cases")?.iter().map(ours).collect();
    ensure!(cases.len() == 2, "both canaries are found, though their pods are gone: {tested:#}");
    for (judged, check) in cases.iter().zip(["error-rate", "response-time above 500 ms"]) {
        ensure!(judged["end"] == "rolled-back", "{judged:#}");
        ensure!(judged["why"].as_str().is_some_and(|why| why.starts_with(check)), "{judged:#}");
    }
    let found = asked(&["calibrate", "--over", "3m", "--stretch", "30s"]).await?;
    for check in found.as_array().context("checks")? {
        ensure!(check["stretches"].as_u64() >= Some(4) && check["rolled-back"] == 0, "{found:#}");
    }
    let plan = asked(&["plan"]).await?;
    let present = &plan["checks"][0]["present"];
    ensure!((0.002..0.01).contains(&present["share"].as_f64().context("share")?), "one in 200 fails: {plan:#}");
    ensure!((100.0..300.0).contains(&present["rps"].as_f64().context("rps")?), "200 a second: {plan:#}");
    println!("the past: {tested:#}\n{found:#}\n{plan:#}");
    Ok(())
}

/// While a version has traffic, one request in twenty begins to fail in both arms: that says nothing of the version.
async fn an_incident_in_both(story: &Story) -> Result<()> {
    let policy = by_evidence("10% 50%");
    let setup = Setup { policy, containers: &[("app", USUAL)], ..Setup::default() };
    let scene = Scene::begin_with(story, setup).await?;
    let load = story.load(200.0)?;
    tokio::time::sleep(HISTORY).await;
    scene.request("registry.test/shop/web:v2-err0.5-slow0.5_800", &[]).await?;
    scene.until(LONG, "stepping", |rollout| rollout["phase"] == "stepping").await?;
    let incident = Behaviour::of("registry.test/shop/dependency:ill-err5-slow3_800")?;
    story.plane.pods.set_weather(&story.namespace, Weather { incident, ..Weather::default() });
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    let counts = load.stop().await?;
    ensure!(counts.of_version("v2-err0.5-slow0.5_800").errors > 20, "the incident was there: {counts:?}");
    scene.replays().await
}
