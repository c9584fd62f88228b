//! An A/B test on the real gateway: those who have the header get the canary, everybody else the stable, until one has won.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::rollout::{LONG, V2, history};
use super::scene::{Scene, Setup};
use super::{Told, told};
use crate::plane::story::Story;

pub fn stories() -> Vec<Told> {
    vec![told("cohort::those_who_have_the_header_get_the_canary_until_it_has_won", the_canary_wins)]
}

/// Fewer errors are what is wanted, and the stable has one in ten.
const POLICY: &str = r#"
[[policy]]
name = "story"
strategy = "ab"
match = { namespaces = ["*"], workloads = ["*"], images = ["registry.test/shop/*"] }
ready-within = "60s"
promote-within = "60s"
drain = "4s"

[policy.ab]
who = { header = "x-bucket", value = "b" }
reward = "error-rate"
less = true
shortest = "15s"
longest = "2m"

[[policy.check]]
metric = "response-time"
max = "500ms"
min-requests = 30
"#;

async fn the_canary_wins(story: &Story) -> Result<()> {
    let containers = [("app", "registry.test/shop/web:v1-err10")];
    let setup = Setup { policy: POLICY.to_owned(), containers: &containers, ..Setup::default() };
    let scene = Scene::begin_with(story, setup).await?;
    let before = story.snapshot().await?;
    let (everybody, cohort) = (story.load(60.0)?, story.load_of(60.0, ("x-bucket", "b"))?);
    scene.request(V2, &[]).await?;
    scene.until(LONG, "tested", |rollout| rollout["phase"] == "stepping").await?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (of_everybody, of_cohort) = (everybody.counts().of_version("v2").total, cohort.counts().of_version("v2").total);
    ensure!(of_everybody == 0 && of_cohort > 100, "{of_everybody} of everybody, {of_cohort} of the cohort");
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    let won = history(&rollout).find(|(_, why)| why.starts_with("the canary has won: error-rate 0 % against"));
    ensure!(won.is_some(), "{rollout:#}");
    println!("{won:?}");
    let counts = cohort.stop().await?;
    ensure!(counts.lost == 0 && everybody.stop().await?.lost == 0, "{counts:?}");
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}
