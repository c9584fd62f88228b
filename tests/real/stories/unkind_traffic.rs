//! Traffic that is not kind: faults that no version is to blame for, and pods that are gone.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bellwether_testkit::plane::behaviour::Behaviour;
use bellwether_testkit::plane::fixture::{STABLE, history, policy};
use bellwether_testkit::plane::metrics_api::METRIC;
use bellwether_testkit::plane::pods::NamespaceConditions;
use bellwether_testkit::plane::{Fixture, Sandbox, specs, wait};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::away::is_judged;
use super::evidence::proving_policy;
use super::middle::accounted_for;
use super::unkind_pods::until_none_fails;
use super::{LONG, SOON, Story, V2, story};

/// The length of the outage that both arms share.
const OUTAGE: Duration = Duration::from_secs(30);
/// Requests of 200 a second that may fail when a workload with a canary is recreated. The cluster removes the canary's
/// objects together with the deleted workload, and the gateway fails the canary's half until the daemon has emptied the
/// route. If the route stayed, each minute would fail 6,000.
const MOST_FAILED: u64 = 400;

pub fn stories() -> Vec<Story> {
    vec![
        story("unkind::an_outage_of_both_arms_blames_no_version", shared_outage),
        story("unkind::a_cold_version_is_promoted", cold_version),
        story("unkind::a_hung_pod_of_two_blames_no_version", hung_pod),
        story("unkind::a_canary_that_answers_nothing_is_given_up_by_its_share_of_the_requests", silent_canary),
        story("unkind::a_recreated_workload_serves_as_soon_as_it_has_pods", recreated_workload),
        story("unkind::beside_an_autoscaler_a_good_version_is_promoted", autoscaler),
    ]
}

/// Returns the stories of `tests/run soak`.
pub fn soaks() -> Vec<Story> {
    vec![story("soak::a_canary_with_a_hung_pod_that_stays_ready_is_given_up", hung_pod_that_stays_ready)]
}

/// Half of all requests fail for half a minute in both arms, as if a dependency was away.
async fn shared_outage(sandbox: &Sandbox) -> Result<()> {
    let policy = proving_policy().replace("max-hold = \"10s\"", "max-hold = \"120s\"");
    let fixture = Fixture::start(sandbox, &policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(200.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, LONG, "judged", is_judged).await?;
    let incident = Behaviour::of("registry.test/shop/dependency:away-err50")?;
    let conditions = NamespaceConditions { incident, ..NamespaceConditions::default() };
    sandbox.plane.pods.set_conditions(&sandbox.namespace, conditions);
    tokio::time::sleep(OUTAGE).await;
    sandbox.plane.pods.set_conditions(&sandbox.namespace, NamespaceConditions::default());
    let rollout = fixture.ended_as(&id, "promoted", LONG).await?;
    let errors = ["v1", "v2"].map(|version| load.counts().of_version(version).errors);
    ensure!(errors.iter().all(|errors| *errors > 100), "the outage did not concern both arms: {errors:?}");
    println!("{errors:?} requests failed in the arms: {}", rollout["reason"]);
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

/// Each pod fails 30 of 100 requests in its first 10 s, and half of its requests are slow. The stable's pods are warm.
async fn cold_version(sandbox: &Sandbox) -> Result<()> {
    let cold = "registry.test/shop/web:v2-until10-err30-slow50_700";
    let policy = proving_policy()
        .replace("warm-up = \"0s\"", "warm-up = \"15s\"")
        .replace("max-hold = \"10s\"", "max-hold = \"120s\"");
    ensure!(policy.contains("15s"), "the policy has no warm-up: {policy}");
    let fixture = Fixture::start(sandbox, &policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(200.0)?;
    let id = fixture.request(cold, &[]).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    accounted_for(sandbox, load).await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", cold)).await?;
    fixture.replays().await
}

/// One of the canary's two pods takes requests and answers none. Its readiness fails a moment later, and it is replaced. No
/// version is to blame for that, and no request is lost that another pod took.
async fn hung_pod(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &proving_policy()).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(200.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, LONG, "judged", is_judged).await?;
    let pods = sandbox.plane.pods.of(&sandbox.namespace);
    let canary: Vec<_> = pods.into_iter().filter(|pod| pod.name.starts_with("web-canary-")).collect();
    let [pod, _] = &canary[..] else { bail!("the canary has {} pods", canary.len()) };
    pod.set_node_faults(Behaviour::of("registry.test/shop/node:hung-slow100_60000")?);
    let hung = || pod.received() - pod.counts().total;
    wait::until("twenty requests that hang", SOON, async || {
        ensure!(hung() >= 20, "{} hang", hung());
        Ok(())
    })
    .await?;
    sandbox.set_ready(&pod.name, false).await?;
    sandbox.pods().delete(&pod.name, &DeleteParams::default()).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    println!("{} requests hung in one pod, of {}", hung(), counts.sent);
    ensure!(counts.failed() == counts.lost && counts.lost == hung(), "{} hung: {counts:?}", hung());
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

/// One of the canary's two pods takes requests and answers none. It stays ready and is scraped, so it keeps half of the canary's
/// requests, and the counts of the other pod are flawless.
async fn hung_pod_that_stays_ready(sandbox: &Sandbox) -> Result<()> {
    let fixture =
        Fixture::start(sandbox, &proving_policy().replace("min-time = \"20s\"", "min-time = \"10m\"")).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(200.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, LONG, "judged", is_judged).await?;
    let pods = sandbox.plane.pods.of(&sandbox.namespace);
    let pod = pods.iter().find(|pod| pod.name.starts_with("web-canary-"));
    let Some(pod) = pod else { bail!("the canary has no pod") };
    pod.set_node_faults(Behaviour::of("registry.test/shop/node:hung-slow100_600000")?);
    // The pod has answered requests in the first window of two minutes, and none in the second one.
    let rollout = fixture.ended_as(&id, "given-up", Duration::from_secs(420)).await?;
    let reason = rollout["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("in 1 of the canary's 2 ready pods"), "{reason}");
    let counts = load.stop().await?;
    println!("{} of {} requests were lost: {reason}", counts.lost, counts.sent);
    fixture.cleaned_up(before).await?;
    fixture.replays().await
}

/// The canary takes each request and answers none, while it is ready and scraped. It exports no counter, since it has counted
/// nothing.
async fn silent_canary(sandbox: &Sandbox) -> Result<()> {
    let policy = proving_policy().replace("insufficient = \"15s\"", "insufficient = \"10m\"");
    let fixture = Fixture::start(sandbox, &policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(200.0)?;
    let id = fixture.request("registry.test/shop/web:v2-slow100_300000", &[]).await?;
    let rollout = fixture.ended_as(&id, "given-up", LONG).await?;
    let reason = rollout["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("counted requests instead of 10 %"), "{reason}");
    let counts = load.stop().await?;
    println!("{} of {} requests were lost: {reason}", counts.lost, counts.sent);
    ensure!(counts.of_version("v2").total == 0, "the canary has answered: {counts:?}");
    fixture.cleaned_up(before).await?;
    fixture.replays().await
}

/// The workload is deleted and created again, as `kubectl replace --force` does, while its canary has half of the traffic.
async fn recreated_workload(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("50%", "").replace("\"8s\"", "\"60s\"")).await?;
    let load = sandbox.load(200.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, SOON, "judged", is_judged).await?;
    ensure!(load.counts().failed() == 0, "{:?}", load.counts());
    sandbox.deployments().delete("web", &DeleteParams::background()).await?;
    sandbox.create_object(specs::deployment("web", 4, &[("app", STABLE)])?).await?;
    let rollout = fixture.ended_as(&id, "given-up", SOON).await?;
    ensure!(rollout["reason"].as_str().is_some_and(|reason| reason.contains("deleted")), "{rollout:#}");
    sandbox.wait_available("web", 4).await?;
    let failed = until_none_fails(&load).await?;
    let counts = load.stop().await?;
    println!(
        "{failed} of {} requests failed by the gateway, which had no ready pod: {:?}",
        counts.sent, counts.by_status
    );
    let leftovers = sandbox.leftovers().await?;
    ensure!(leftovers.is_empty(), "{leftovers:?}");
    ensure!(counts.failed() == failed && failed <= MOST_FAILED && counts.lost == 0, "{counts:?}");
    let weights = sandbox.weights("web").await?;
    ensure!(weights.len() == 1 && weights["web"] == 1, "{weights:?}");
    ensure!(counts.by_version.values().all(|version| version.errors == 0), "{counts:?}");
    fixture.replays().await
}

/// An autoscaler holds each pod of the stable at 25 requests a second: it shrinks the stable when the canary takes half of
/// them, and grows it when they return with more of them.
async fn autoscaler(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("50%", "").replace("\"8s\"", "\"20s\"")).await?;
    let load = sandbox.load(100.0)?;
    sandbox.create_object(autoscaler_of_web()).await?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, LONG, "judged", is_judged).await?;
    until_replicas(sandbox, "at most 3", |replicas| replicas <= 3).await?;
    let more = sandbox.load(60.0)?;
    let rollout = fixture.ended_as(&id, "promoted", LONG).await?;
    until_replicas(sandbox, "at least 6", |replicas| replicas >= 6).await?;
    let (counts, more) = (load.stop().await?, more.stop().await?);
    ensure!(counts.failed() + more.failed() == 0, "{counts:?} {more:?}");
    ensure!(!history(&rollout).any(|(_, why)| why.contains("has scaled")), "{rollout:#}");
    ensure!(sandbox.images("web").await?["app"] == V2);
    fixture.replays().await
}

fn autoscaler_of_web() -> Value {
    let target = json!({"type": "AverageValue", "averageValue": "25"});
    let at_once = json!({"stabilizationWindowSeconds": 0});
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2,
            "maxReplicas": 8,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": METRIC}, "target": target}}],
            "behavior": {"scaleUp": at_once, "scaleDown": at_once},
        },
    })
}

async fn until_replicas(sandbox: &Sandbox, condition: &str, holds: impl Fn(i32) -> bool) -> Result<()> {
    wait::until(&format!("{condition} replicas of the stable"), SOON, async || {
        let stable = sandbox.deployments().get("web").await?;
        let replicas = stable.spec.and_then(|spec| spec.replicas).unwrap_or_default();
        let available = stable.status.and_then(|status| status.available_replicas).unwrap_or_default();
        ensure!(holds(replicas) && available == replicas, "{replicas}, {available} of them available");
        Ok(())
    })
    .await
}
