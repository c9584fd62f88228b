//! A fresh baseline on the real parts: a version that is as cold as its canary's pods, and no worse.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::evidence::by_evidence;
use super::rollout::{LONG, history};
use super::scene::{Scene, Setup};
use super::{Told, told};
use crate::plane::story::Story;

pub fn stories() -> Vec<Told> {
    vec![told("baseline::what_is_only_cold_is_told_from_what_is_bad", cold_is_not_bad)]
}

/// Every version fails 8 of 100 requests in its first half minute.
const STABLE: &str = "registry.test/shop/web:v1-until30-err8";
/// The stable's pods are warm after this.
const WARM: Duration = Duration::from_secs(35);
const SOON: Duration = Duration::from_secs(30);

async fn cold_is_not_bad(story: &Story) -> Result<()> {
    let setup = |fresh: bool| {
        let policy = by_evidence("10%").replace("insufficient = \"15s\"", "insufficient = \"60s\"");
        let traffic = format!("traffic = \"gateway\"\nfresh-baseline = {fresh}");
        let policy = policy.replace("traffic = \"gateway\"", &traffic);
        Setup { policy, containers: &[("app", STABLE)], ..Setup::default() }
    };
    let scene = Scene::begin_with(story, setup(false)).await?;
    let before = story.snapshot().await?;
    let load = story.load(200.0)?;
    tokio::time::sleep(WARM).await;

    scene.request("registry.test/shop/web:v2-until30-err8", &[]).await?;
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "rolled-back", "beside warm pods cold ones look bad: {rollout:#}");
    let worse = history(&rollout).find(|(_, why)| why.contains("times the stable's"));
    println!("without: {:?}", worse.context("not for the comparison")?);

    scene.configure(&setup(true))?;
    scene.bellwether.signal("HUP").await?;
    scene.bellwether.until_logged(&["policies reloaded"], SOON).await?;
    let good = "registry.test/shop/web:v3-until30-err8";
    scene.request(good, &[]).await?;
    let of_three = |rollout: &serde_json::Value| rollout["to"].to_string().contains(":v3");
    scene.until(LONG, "compared", |rollout| of_three(rollout) && rollout["phase"] == "stepping").await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let pods = story.plane.pods.of(&story.namespace);
    let served: Vec<u64> =
        pods.iter().filter(|pod| pod.name.starts_with("web-baseline-")).map(|pod| pod.served().total).collect();
    ensure!(served.len() == 2 && served.iter().all(|served| *served > 50), "the baseline has traffic: {served:?}");
    ensure!(story.images("web-baseline").await? == story.images("web").await?, "it runs what the stable runs");
    let rollout = scene.until(LONG, "over", |rollout| of_three(rollout) && rollout["outcome"].is_string()).await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    let passed = history(&rollout).find(|entry| entry.0 == "promote").context("no promotion")?;
    println!("with: {passed:?}");
    ensure!(load.stop().await?.lost == 0, "requests were lost");
    scene.left_marked(before.with_image("web", "app", good)).await?;
    scene.replays().await
}
