//! An A/B test on the real gateway: requests with a header reach the canary and all others the stable, until one has won.

use anyhow::{Result, ensure};
use bellwether_testkit::plane::fixture::history;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, wait};

use super::{LONG, SOON, Story, V2, story};

pub fn stories() -> Vec<Story> {
    vec![story("cohort::requests_with_the_header_reach_the_canary_until_it_wins", the_canary_wins)]
}

/// The version with fewer errors wins. The stable has one in ten.
const POLICY: &str = r#"
[[policy]]
name = "story"
strategy = "ab"
match = { namespaces = ["*"], workloads = ["*"], images = ["registry.test/shop/*"] }
ready-within = "60s"
promote-within = "60s"
drain = "4s"
warm-up = "0s"

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

async fn the_canary_wins(sandbox: &Sandbox) -> Result<()> {
    let containers = [("app", "registry.test/shop/web:v1-err10")];
    let options = FixtureOptions { policy: POLICY.to_owned(), containers: &containers, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let others = sandbox.load(60.0)?;
    let cohort = sandbox.load_with_header(60.0, ("x-bucket", "b"))?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, LONG, "in its test", |rollout| rollout["phase"] == "stepping").await?;
    wait::until("traffic of the cohort at the canary", SOON, async || {
        let requests = cohort.counts().of_version("v2").total;
        ensure!(requests > 100, "{requests} requests");
        Ok(())
    })
    .await?;
    let of_others = others.counts().of_version("v2").total;
    ensure!(of_others == 0, "{of_others} requests without the header reached the canary");
    let rollout = fixture.ended_as(&id, "promoted", LONG).await?;
    let won = history(&rollout).find(|(_, why)| why.starts_with("the canary has won: error-rate 0 % against"));
    ensure!(won.is_some(), "{rollout:#}");
    println!("{won:?}");
    let counts = cohort.stop().await?;
    ensure!(counts.lost == 0 && others.stop().await?.lost == 0, "{counts:?}");
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}
