//! What the daemon does while something that it needs is away: it changes nothing, says so, and goes on by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::scene::{Scene, Setup, patient};
use super::{Told, told, told_alone};
use crate::plane::proxy::{Door, Proxy};
use crate::plane::story::Story;
use crate::plane::{kafka, kubernetes, prometheus};

const V2: &str = "registry.test/shop/web:v2";
const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);
/// The doors' ports; the daemons' own begin elsewhere.
const DOORS: u16 = 30_000;

pub fn stories() -> Vec<Told> {
    vec![
        told("away::prometheus_is_away_at_the_start_and_later", prometheus_is_away),
        told("away::a_prometheus_that_never_answers_is_blind", a_silent_prometheus),
        told("away::the_api_server_is_away_at_the_start_and_later", the_api_server_is_away),
        told("away::kafka_is_away_for_a_while", kafka_is_away),
        told("away::prometheus_is_away_for_two_minutes", async |story| prometheus_is_away_for(story, 120).await),
        told_alone("away::kafka_is_killed_and_comes_back", kafka_is_killed),
        told("away::told_to_stop_it_stops_and_decides_nothing", told_to_stop),
    ]
}

/// Long enough in each step that something can happen in it, patient with a hold, and soon blind.
fn soon_blind() -> String {
    patient("20% 40%").replace("blind = \"10s\"", "blind = \"4s\"")
}

/// In a step, with counts.
fn is_judged(rollout: &Value) -> bool {
    rollout["phase"] == "stepping" && rollout["checks"][0]["n"].as_u64().is_some_and(|n| n > 0)
}

async fn door(story: &Story, behind: &str) -> Result<Proxy> {
    Proxy::start(DOORS + story.plane.number(), behind).await
}

fn address(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

async fn prometheus_is_away(story: &Story) -> Result<()> {
    let door = door(story, address(prometheus::URL)).await?;
    door.set(Door::Closed).await;
    let prometheus = format!("http://{}", door.address);
    let scene = Scene::begin_with(story, Setup { policy: soon_blind(), prometheus, ..Setup::default() }).await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    let failing = |rollout: &Value| rollout["reason"].as_str().is_some_and(|why| why.starts_with("probe fails"));
    scene.until(SOON, "waiting for Prometheus", failing).await?;
    ensure!(load.counts().of_version("v2").total == 0, "it had traffic unseen");
    door.set(Door::Open).await;
    scene.until(SOON, "on its way", is_judged).await?;
    let promoted = held_blind_and_on(&scene, || door.set(Door::Closed), || door.set(Door::Open)).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    ensure!(promoted["outcome"] == "promoted", "{promoted:#}");
    scene.replays().await
}

async fn a_silent_prometheus(story: &Story) -> Result<()> {
    let door = door(story, address(prometheus::URL)).await?;
    let prometheus = format!("http://{}\"\ntimeout = \"1s", door.address);
    let scene = Scene::begin_with(story, Setup { policy: soon_blind(), prometheus, ..Setup::default() }).await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "on its way", is_judged).await?;
    let promoted = held_blind_and_on(&scene, || door.set(Door::Silent), || door.set(Door::Open)).await?;
    load.stop().await?;
    ensure!(promoted["outcome"] == "promoted", "{promoted:#}");
    scene.replays().await
}

/// Blind it is held, and nothing else; seeing again it goes on to its end.
async fn held_blind_and_on(scene: &Scene<'_>, away: impl AsyncFnOnce(), back: impl AsyncFnOnce()) -> Result<Value> {
    away().await;
    let held = scene.until(SOON, "held", |rollout| rollout["held"].is_string()).await?;
    let why = held["held"].as_str().context("held")?;
    ensure!(why.starts_with("blind since ") && why.contains("nothing was changed"), "{why}");
    let decided = scene.decisions().await?.len();
    let still = scene.until(SOON, "there", |_| true).await?;
    ensure!(still["step"] == held["step"] && still["phase"] == "stepping", "it went on: {still:#}");
    ensure!(scene.decisions().await?.len() == decided, "it decided something");
    back().await;
    scene.ended(LONG).await
}

async fn the_api_server_is_away(story: &Story) -> Result<()> {
    let behind = address(kubernetes::SERVER);
    let door = door(story, behind).await?;
    door.set(Door::Closed).await;
    let server = format!("https://{}", door.address);
    let mut scene = Scene::set(story, Setup { policy: soon_blind(), server, ..Setup::default() }).await?;
    scene.bellwether.start().await?;
    story
        .wait_until("a daemon that says what it waits for", SOON, async || {
            let (status, body) = scene.bellwether.get("/readyz?verbose").await?;
            ensure!(status == 503 && body.contains("kubernetes"), "{status}: {body}");
            Ok(())
        })
        .await?;
    door.set(Door::Open).await;
    scene.bellwether.until_ready(SOON).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "on its way", is_judged).await?;
    door.set(Door::Closed).await;
    // The step passes while nobody can be asked to go further; or the last weight was written just before, and nobody can
    // say whether the gateway has accepted it.
    let trying = |rollout: &Value| {
        rollout["reason"].as_str().is_some_and(|why| why.contains("fails, ") || why.contains("still waiting for"))
    };
    scene.until(LONG, "trying", trying).await?;
    door.set(Door::Open).await;
    let rollout = scene.ended(LONG).await?;
    let counts = load.stop().await?;
    ensure!(rollout["outcome"] == "promoted" && counts.failed() == 0, "{rollout:#} {counts:?}");
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}

async fn kafka_is_away(story: &Story) -> Result<()> {
    let door = Proxy::start(kafka::DOOR_PORT, kafka::BEHIND_THE_DOOR).await?;
    let brokers = door.address.to_string();
    let mut scene =
        Scene::begin_with(story, Setup { policy: soon_blind(), brokers: &brokers, ..Setup::default() }).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "on its way", is_judged).await?;
    door.set(Door::Closed).await;
    story
        // The shard that has a transaction open gives it up by its timeouts, of 20 and 30 s, and the next partition waits for it.
        .wait_until("a daemon that says that it has no journal", LONG, async || {
            let (status, body) = scene.bellwether.get("/readyz?verbose").await?;
            ensure!(status == 503 && body.contains("partitions"), "{status}: {body}");
            Ok(())
        })
        .await?;
    let weights = story.weights("web").await?;
    door.set(Door::Open).await;
    scene.bellwether.until_ready(LONG).await?;
    ensure!(weights["web-canary"] > 0, "it changed something without its journal: {weights:?}");
    let rollout = scene.ended(LONG).await?;
    let counts = load.stop().await?;
    ensure!(rollout["outcome"] == "promoted" && counts.failed() == 0, "{rollout:#} {counts:?}");
    scene.decided_once().await?;
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}

/// What is told by `tests/run soak`: too long for every day.
pub fn soaks() -> Vec<Told> {
    vec![told("soak::prometheus_is_away_for_ten_minutes", async |story| prometheus_is_away_for(story, 600).await)]
}

/// Blind is said within the patience that the policy sets and one tick; nothing is decided meanwhile, and it goes on by
/// itself afterwards.
async fn prometheus_is_away_for(story: &Story, seconds: u64) -> Result<()> {
    let patience = seconds.min(120) / 4;
    let policy = soon_blind()
        .replace("blind = \"4s\"", &format!("blind = \"{patience}s\""))
        .replace("max-hold = \"120s\"", "max-hold = \"1h\"");
    let door = door(story, address(prometheus::URL)).await?;
    let prometheus = format!("http://{}", door.address);
    let scene = Scene::begin_with(story, Setup { policy, prometheus, ..Setup::default() }).await?;
    let load = story.load(50.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "on its way", is_judged).await?;
    door.set(Door::Closed).await;
    let closed = Instant::now();
    // What was seen before may still be decided on.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = scene.decisions().await?.len();
    let held = scene.until(Duration::from_secs(patience) + SOON, "held", |rollout| rollout["held"].is_string()).await?;
    println!("{seconds} s without Prometheus: held after {:?}, with a patience of {patience} s", closed.elapsed());
    ensure!(held["held"].as_str().is_some_and(|why| why.starts_with("blind since ")), "{held:#}");
    tokio::time::sleep(Duration::from_secs(seconds).saturating_sub(closed.elapsed())).await;
    let decisions = scene.decisions().await?;
    let meanwhile: Vec<&Value> = decisions[before..].iter().map(|decision| &decision["kind"]).collect();
    ensure!(meanwhile == ["hold"], "it decided what it could not see: {meanwhile:?}");
    door.set(Door::Open).await;
    let rollout = scene.ended(LONG).await?;
    let counts = load.stop().await?;
    ensure!(rollout["outcome"] == "promoted" && counts.failed() == 0, "{rollout:#} {counts:?}");
    scene.replays().await
}

/// For all of the plane: the broker itself dies, in the middle of whatever it was doing.
async fn kafka_is_killed(story: &Story) -> Result<()> {
    let mut scene = Scene::begin(story, &soon_blind()).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "on its way", is_judged).await?;
    story.plane.kafka.restart(Duration::from_secs(5)).await?;
    scene.bellwether.until_ready(LONG).await?;
    let rollout = scene.ended(LONG).await?;
    let counts = load.stop().await?;
    ensure!(rollout["outcome"] == "promoted" && counts.failed() == 0, "{rollout:#} {counts:?}");
    scene.decided_once().await?;
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}

async fn told_to_stop(story: &Story) -> Result<()> {
    let mut scene = Scene::begin(story, &soon_blind()).await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    scene.until(SOON, "on its way", is_judged).await?;
    let before = scene.decisions().await?.len();
    let code = scene.bellwether.terminate(SOON).await?;
    ensure!(code == Some(0), "{code:?}: {}", scene.bellwether.log());
    let after = scene.decisions().await?;
    let moved = after[before.min(after.len())..]
        .iter()
        .any(|decision| decision["kind"] == "promote" || decision["kind"] == "roll-back");
    ensure!(!moved && story.weights("web").await?["web-canary"] > 0, "{after:#?}");
    scene.bellwether.start().await?;
    let rollout = scene.ended(LONG).await?;
    load.stop().await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    scene.replays().await
}
