//! A fresh baseline: a version whose pods are bad only while they are cold is compared with pods that are as cold.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::fixture::history;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, wait};

use super::evidence::sequential_policy;
use super::{LONG, SOON, Story, story};

pub fn stories() -> Vec<Story> {
    vec![story("baseline::a_cold_version_is_rolled_back_beside_warm_pods_and_promoted_beside_cold_ones", cold_version)]
}

/// Every version fails 8 of 100 requests in the first half minute of a pod.
const STABLE: &str = "registry.test/shop/web:v1-until30-err8";
/// The age at which the stable's pods are warm.
const WARM: Duration = Duration::from_secs(35);

async fn cold_version(sandbox: &Sandbox) -> Result<()> {
    let options = |fresh: bool| {
        let policy = sequential_policy("10%").replace("insufficient = \"15s\"", "insufficient = \"3m\"");
        // The proof that a version is as good as a fresh baseline within 0.1 points takes more requests than a story has.
        let policy = if fresh { policy.replace("max = \"10%\"", "max = \"10%\"\nfloor = \"5%\"") } else { policy };
        let traffic = format!("traffic = \"gateway\"\nfresh-baseline = {fresh}");
        let policy = policy.replace("traffic = \"gateway\"", &traffic);
        FixtureOptions { policy, containers: &[("app", STABLE)], ..FixtureOptions::default() }
    };
    let fixture = Fixture::start_with(sandbox, options(false)).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(200.0)?;
    tokio::time::sleep(WARM).await;

    let id = fixture.request("registry.test/shop/web:v2-until30-err8", &[]).await?;
    let rollout = fixture.ended_as(&id, "rolled-back", LONG).await?;
    let worse = history(&rollout).find(|(_, reason)| reason.contains("times the stable's"));
    println!("without a baseline: {:?}", worse.context("it was not rolled back by the comparison")?);

    fixture.configure(&options(true))?;
    fixture.daemon.signal("HUP").await?;
    fixture.daemon.until_logged(&["policies reloaded"], SOON).await?;
    let good = "registry.test/shop/web:v3-until30-err8";
    let id = fixture.request(good, &[]).await?;
    fixture.until(&id, LONG, "in a step", |rollout| rollout["phase"] == "stepping").await?;
    wait::until("traffic to both pods of the baseline", SOON, async || {
        let pods = sandbox.plane.pods.of(&sandbox.namespace);
        let baseline = pods.iter().filter(|pod| pod.name.starts_with("web-baseline-"));
        let requests: Vec<u64> = baseline.map(|pod| pod.counts().total).collect();
        ensure!(requests.len() == 2 && requests.iter().all(|requests| *requests > 50), "requests: {requests:?}");
        Ok(())
    })
    .await?;
    ensure!(sandbox.images("web-baseline").await? == sandbox.images("web").await?, "the baseline's image differs");
    let rollout = fixture.ended_as(&id, "promoted", LONG).await?;
    let promotion = history(&rollout).find(|(decision, _)| *decision == "promote").context("no promotion")?;
    println!("with a baseline: {promotion:?}");
    ensure!(load.stop().await?.lost == 0, "requests were lost");
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", good)).await?;
    fixture.replays().await
}
