//! A daemon that is killed again and again, in the worst moments: between reading and deciding, between producing and
//! committing, between committing and acting, between acting and knowing. What it did is read off the API server's audit
//! log and the raw topics, never off what it says of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bellwether::failpoints::Failpoint;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::scene::{GOOD, Scene, Setup, patient};
use super::{Told, told};
use crate::plane::story::Story;
use bellwether_sim::dice::Dice;

const V2: &str = "registry.test/shop/web:v2";
const KILLS: usize = 40;
const ROLLOUTS: usize = 40;
/// A life that passes its point too seldom ends by our hand.
const LONGEST_LIFE: Duration = Duration::from_millis(3500);
const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(240);

/// No traffic is needed to judge these: what is killed here is not the sampler but the order of things. Every third
/// version is a bad one.
const POLICY: &str = r#"
[metric.always]
kind = "query"
query = "vector(1)"

[[policy]]
name = "good"
match = { namespaces = ["*"], workloads = ["good*"], images = ["*"] }
patience = { blind = "60s", insufficient = "60s" }
[[policy.check]]
metric = "always"
judge = "threshold"
max = 2
every = "1s"
window = "3s"
[[policy.step]]
weight = "10%"
min-time = "15s"
[[policy.step]]
weight = "50%"
min-time = "15s"

[[policy]]
name = "bad"
match = { namespaces = ["*"], workloads = ["bad*"], images = ["*"] }
patience = { blind = "60s", insufficient = "60s" }
[[policy.check]]
metric = "always"
judge = "threshold"
max = 0.5
every = "1s"
window = "20s"
breaches = 12
[[policy.step]]
weight = "10%"
min-time = "60s"
"#;

pub fn stories() -> Vec<Told> {
    vec![
        told("kills::forty_kills_over_forty_rollouts_change_nothing", forty_kills),
        told("kills::who_wakes_up_too_late_writes_nothing", woken_too_late),
    ]
}

async fn forty_kills(story: &Story) -> Result<()> {
    let mut scene = Scene::set(story, Setup { policy: POLICY.to_owned(), ..Setup::default() }).await?;
    let names: Vec<String> =
        (0..ROLLOUTS).map(|n| if n % 3 == 2 { format!("bad{n}") } else { format!("good{n}") }).collect();
    let references = ["good-reference".to_owned(), "bad-reference".to_owned()];
    let all: Vec<&String> = references.iter().chain(&names).collect();
    stream::iter(&all).map(|name| story.create_routed(name, GOOD)).buffer_unordered(8).try_collect::<Vec<()>>().await?;

    // Undisturbed first: what each kind of rollout writes.
    scene.bellwether.start().await?;
    for name in &references {
        story.ask_for(name, V2).await?;
    }
    ended(story, &scene, &references).await?;
    scene.bellwether.kill().await?;

    for name in &names {
        story.ask_for(name, V2).await?;
    }
    let began = Instant::now();
    let seed = std::env::var("BELLWETHER_SEED").ok().map_or(Ok(1), |text| text.parse())?;
    let died = lives(&mut scene, seed).await.with_context(|| format!("seed {seed}"))?;
    scene.bellwether.dies_at(None);
    scene.bellwether.start().await?;
    ended(story, &scene, &names).await.with_context(|| format!("seed {seed}"))?;
    println!("seed {seed}: {KILLS} kills ({died:?} at their points) and {ROLLOUTS} rollouts in {:?}", began.elapsed());

    let writes = writes(story)?;
    for name in &names {
        let kind = if name.starts_with("good") { &references[0] } else { &references[1] };
        let (mine, reference) = (of(&writes, name), of(&writes, kind));
        ensure!(
            mine == reference,
            "seed {seed}: {name} was written otherwise than without kills:\n{mine:#?}\n{reference:#?}"
        );
    }
    nothing_twice(&scene).await.with_context(|| format!("seed {seed}"))?;
    scene.replays().await
}

/// Forty lives, each with a death of its own; how many met it at their point.
async fn lives(scene: &mut Scene<'_>, seed: u64) -> Result<BTreeMap<&'static str, usize>> {
    let mut dice = Dice(seed);
    let mut died = BTreeMap::new();
    for _ in 0..KILLS {
        let point = Failpoint::ALL[dice.below(Failpoint::ALL.len() as u64) as usize];
        // Records are read in the first moments of a life or never, and the rest happens all the time.
        let passes = if point == Failpoint::Polled { dice.below(8) } else { dice.below(60) };
        scene.bellwether.dies_at(Some((point, passes)));
        scene.bellwether.start_unready()?;
        if scene.bellwether.has_died(LONGEST_LIFE).await? {
            *died.entry(point.name()).or_insert(0) += 1;
        } else {
            scene.bellwether.kill().await?;
        }
    }
    Ok(died)
}

/// Waits until each of these has ended as it does without kills.
async fn ended(story: &Story, scene: &Scene<'_>, names: &[String]) -> Result<()> {
    story
        .wait_until("every rollout to end as it should", LONG, async || {
            let (status, body) = scene.bellwether.get("/api/v1/rollouts").await?;
            ensure!(status == 200, "{status}: {body}");
            let rollouts: Vec<Value> = serde_json::from_str(&body)?;
            for name in names {
                let wanted = if name.starts_with("good") { "promoted" } else { "rolled-back" };
                let rollout = rollouts
                    .iter()
                    .find(|rollout| rollout["workload"].as_str().is_some_and(|key| key.ends_with(&format!("/{name}"))))
                    .with_context(|| format!("no rollout of {name}"))?;
                ensure!(rollout["outcome"] == wanted, "{name}: {rollout:#}");
            }
            Ok(())
        })
        .await
}

/// A write of ours that changed something: which object, and what it was afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    object: String,
    after: String,
}

/// Our writes to the story's objects that changed something, in the order in which the API server answered.
fn writes(story: &Story) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut by_effect: BTreeMap<(String, String), String> = BTreeMap::new();
    for entry in story.plane.kubernetes.audit()? {
        let object = &entry["objectRef"];
        let ours = entry["user"]["username"] == "system:serviceaccount:bellwether:bellwether";
        let here = object["namespace"] == story.namespace.as_str();
        let done = entry["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
        let [verb, resource, name] =
            [&entry["verb"], &object["resource"], &object["name"]].map(|text| text.as_str().unwrap_or_default());
        let changes = ["create", "patch", "delete"].contains(&verb) && resource != "events";
        if !(ours && here && done && changes) {
            continue;
        }
        let object = format!("{resource}/{name}");
        let response = &entry["responseObject"];
        let after = if verb == "delete" { "gone".to_owned() } else { essence(resource, &response["spec"]) };
        // An effect says on the object which one it was; seen twice, it must have left the same.
        if let Some(effect) = response.pointer("/metadata/annotations/bellwether.dev~1effect").and_then(Value::as_str)
            && verb != "delete"
        {
            let before = by_effect.insert((object.clone(), effect.to_owned()), after.clone());
            ensure!(
                before.as_ref().is_none_or(|before| *before == after),
                "{effect} changed {object} twice: {before:?} {after}"
            );
        }
        if last.insert(object.clone(), after.clone()).as_ref() != Some(&after) {
            writes.push(Write { object, after });
        }
    }
    Ok(writes)
}

/// What a write of ours is about.
fn essence(resource: &str, spec: &Value) -> String {
    match resource {
        "deployments" => {
            let image = spec.pointer("/template/spec/containers/0/image");
            format!("{} of {}", spec["replicas"], image.unwrap_or(&Value::Null))
        }
        "httproutes" => spec.pointer("/rules/0/backendRefs").unwrap_or(&Value::Null).to_string(),
        _ => spec["selector"].to_string(),
    }
}

/// The writes to one workload's objects, with its name taken out.
fn of(writes: &[Write], name: &str) -> Vec<Write> {
    let mine = |object: &str| object.split('/').nth(1).is_some_and(|it| it == name || it == format!("{name}-canary"));
    writes
        .iter()
        .filter(|write| mine(&write.object))
        .map(|write| Write { object: write.object.replace(name, "*"), after: write.after.replace(name, "*") })
        .collect()
}

/// No decision is on the topic twice.
async fn nothing_twice(scene: &Scene<'_>) -> Result<()> {
    let decisions = scene.each_decision_once().await?;
    ensure!(decisions.len() > ROLLOUTS * 5, "only {} decisions", decisions.len());
    Ok(())
}

/// A daemon is stopped for longer than its session; another one takes over, and the first one wakes up in the belief that
/// nothing has happened.
async fn woken_too_late(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &patient("10% 30%")).await?;
    let mut twin = scene.bellwether.twin(story, "twin")?;
    twin.start().await?;
    twin.until_ready(SOON).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    let id = scene.request(V2, &[]).await?;
    let pair = [&scene.bellwether, &twin];
    let (sleeper, other) = story
        .wait_until("a rollout in its step", SOON, async || {
            for (n, daemon) in pair.into_iter().enumerate() {
                if daemon.rollout(&id).await?.is_some_and(|rollout| rollout["phase"] == "stepping") {
                    return Ok((daemon, pair[1 - n]));
                }
            }
            bail!("not yet")
        })
        .await?;
    sleeper.signal("STOP").await?;
    let ended = story
        .wait_until("the other one to bring it to its end", LONG, async || {
            let rollout = other.rollout(&id).await?.context("not taken over yet")?;
            ensure!(rollout["outcome"].is_string(), "{rollout:#}");
            Ok(rollout)
        })
        .await;
    sleeper.signal("CONT").await?;
    ensure!(ended?["outcome"] == "promoted");
    // It has understood when it shows nothing of it any more, and has its share of the partitions again.
    story
        .wait_until("the first one to have let go", SOON, async || {
            ensure!(sleeper.rollout(&id).await?.is_none(), "it still shows it");
            let (status, body) = sleeper.get("/readyz?verbose").await?;
            ensure!(status == 200, "{body}");
            Ok(())
        })
        .await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    epochs_only_rise(story)?;
    scene.decided_once().await?;
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}

/// On every object the epoch of whoever wrote last is the highest so far.
fn epochs_only_rise(story: &Story) -> Result<()> {
    let mut highest: BTreeMap<String, u64> = BTreeMap::new();
    for entry in story.plane.kubernetes.audit()? {
        let object = &entry["objectRef"];
        let epoch = entry["responseObject"].pointer("/metadata/annotations/bellwether.dev~1epoch");
        let Some(epoch) = epoch.and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok()) else { continue };
        if object["namespace"] == story.namespace.as_str() {
            let name = format!("{}/{}", object["resource"], object["name"]);
            let before = highest.insert(name.clone(), epoch).unwrap_or(0);
            ensure!(before <= epoch, "{name} was written in epoch {epoch} after epoch {before}");
        }
    }
    ensure!(!highest.is_empty(), "nothing was written");
    Ok(())
}
