//! A daemon that is killed again and again at the worst moments: between reading and deciding, between producing and
//! committing, between committing and acting, and between acting and learning the outcome. The results are read from the
//! objects' history, the API server's audit log and the topics, and not from the daemon's own reports.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bellwether::failpoints::Failpoint;
use bellwether_core::ids::RolloutId;
use bellwether_sim::dice::Dice;
use bellwether_testkit::plane::daemon::FailpointRun;
use bellwether_testkit::plane::fixture::{STABLE, patient_policy};
use bellwether_testkit::plane::history::{ObjectHistory, StoredState};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, wait};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{SOON, Story, V2, story};

const KILLS: usize = 40;
const ROLLOUTS: usize = 40;
/// The time for which a daemon that owns a partition may run before it is killed without having reached its failpoint.
const LONGEST_RUN: Duration = Duration::from_millis(3500);
const LONG: Duration = Duration::from_secs(240);

/// The checks need no traffic, because this story is about the order of effects and not about counts. Every third version
/// is bad.
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

pub fn stories() -> Vec<Story> {
    vec![
        story("kills::forty_kills_over_forty_rollouts_change_nothing", forty_kills),
        story("kills::a_daemon_that_wakes_after_its_session_writes_nothing", woken_after_its_session),
    ]
}

async fn forty_kills(sandbox: &Sandbox) -> Result<()> {
    let options = FixtureOptions { policy: POLICY.to_owned(), ..FixtureOptions::default() };
    let mut fixture = Fixture::prepare(sandbox, options).await?;
    let names: Vec<String> =
        (0..ROLLOUTS).map(|n| if n % 3 == 2 { format!("bad{n}") } else { format!("good{n}") }).collect();
    let references = ["good-reference".to_owned(), "bad-reference".to_owned()];
    let all: Vec<&String> = references.iter().chain(&names).collect();
    let created = stream::iter(&all).map(|name| sandbox.create_routed(name, 1, STABLE)).buffer_unordered(8);
    created.try_collect::<Vec<()>>().await?;

    let history = ObjectHistory::start(sandbox).await?;
    // One rollout of each kind without kills, to compare the changes with.
    fixture.daemon.start().await?;
    ended(&fixture, &requested(sandbox, &references).await?).await?;
    fixture.daemon.kill().await?;

    let rollouts = requested(sandbox, &names).await?;
    let began = Instant::now();
    let seed = std::env::var("BELLWETHER_SEED").ok().map_or(Ok(1), |text| text.parse())?;
    println!("kills: seed {seed}");
    let kills = kills(&mut fixture, seed).await.with_context(|| format!("seed {seed}"))?;
    fixture.daemon.set_failpoint(None);
    fixture.daemon.start().await?;
    ended(&fixture, &rollouts).await.with_context(|| format!("seed {seed}"))?;
    println!("kills: {KILLS} kills ({kills:?} at failpoints) and {ROLLOUTS} rollouts in {:?}", began.elapsed());

    // The watches may be a moment behind. A wrong change stays in the history, so waiting hides none.
    wait::until("the changes of each workload to be those without kills", SOON, async || {
        let states = history.states()?;
        for name in &names {
            let reference = if name.starts_with("good") { &references[0] } else { &references[1] };
            let (found, expected) = (changes(&states, name), changes(&states, reference));
            // The canary is created, gets its weight, loses it and is deleted.
            ensure!(expected.len() >= 6, "{reference} has only these changes: {expected:#?}");
            ensure!(found == expected, "{name} has these changes:\n{found:#?}\n{reference} has:\n{expected:#?}");
        }
        Ok(())
    })
    .await
    .with_context(|| format!("seed {seed}"))?;
    effects_change_once(sandbox).with_context(|| format!("seed {seed}"))?;
    let decisions = fixture.distinct_decisions().await.with_context(|| format!("seed {seed}"))?;
    ensure!(decisions.len() > ROLLOUTS * 5, "seed {seed}: only {} decisions", decisions.len());
    fixture.replays().await
}

/// Requests a rollout of each of these workloads. Returns the names with the ids of the rollouts.
async fn requested(sandbox: &Sandbox, names: &[String]) -> Result<Vec<(String, RolloutId)>> {
    let mut rollouts = Vec::new();
    for name in names {
        rollouts.push((name.clone(), sandbox.request_rollout(name, V2).await?));
    }
    Ok(rollouts)
}

/// Kills forty daemons, each at another failpoint or after a time. Returns the number of kills by failpoint.
///
/// # Errors
/// A failpoint is not reached although there is work for it, so the story would not test it.
async fn kills(fixture: &mut Fixture<'_>, seed: u64) -> Result<BTreeMap<&'static str, usize>> {
    let mut dice = Dice(seed);
    let mut kills: BTreeMap<&'static str, usize> = BTreeMap::new();
    // Each failpoint once, and soon: records are read when a daemon starts, or not at all.
    for failpoint in Failpoint::ALL {
        let mut passes = if failpoint == Failpoint::Produced { 4 } else { dice.below(3) };
        // A machine under load takes long to reach it.
        let mut run = killed_at(fixture, failpoint, passes, SOON).await?;
        while run == FailpointRun::EndedWhileOpening {
            passes += 1;
            run = killed_at(fixture, failpoint, passes, SOON).await?;
        }
        ensure!(run == FailpointRun::Ended, "the failpoint `{}` ended no daemon within {SOON:?}", failpoint.name());
        kills.insert(failpoint.name(), 1);
    }
    for _ in Failpoint::ALL.len()..KILLS {
        let failpoint = *dice.pick(&Failpoint::ALL);
        let passes = dice.below(if failpoint == Failpoint::Polled { 8 } else { 30 });
        if killed_at(fixture, failpoint, passes, LONGEST_RUN).await? == FailpointRun::Ended {
            *kills.entry(failpoint.name()).or_insert(0) += 1;
        }
    }
    Ok(kills)
}

/// Starts a daemon and waits until it has passed `failpoint` this often and is ended there. One that has not reached it after
/// `longest` is killed wherever it is.
async fn killed_at(
    fixture: &mut Fixture<'_>,
    failpoint: Failpoint,
    passes: u64,
    longest: Duration,
) -> Result<FailpointRun> {
    fixture.daemon.set_failpoint(Some((failpoint, passes)));
    fixture.daemon.spawn()?;
    let run = fixture.daemon.until_failpoint(longest).await?;
    if run == FailpointRun::NotReached {
        fixture.daemon.kill().await?;
    }
    Ok(run)
}

/// Waits until each of these rollouts has ended with its outcome.
async fn ended(fixture: &Fixture<'_>, rollouts: &[(String, RolloutId)]) -> Result<()> {
    for (name, id) in rollouts {
        let outcome = if name.starts_with("good") { "promoted" } else { "rolled-back" };
        fixture.ended_as(id, outcome, LONG).await.with_context(|| name.clone())?;
    }
    Ok(())
}

/// Returns the changes of the objects of one workload, oldest first, as the object and the part that the daemon writes.
/// The workload's name is replaced by `*`.
fn changes(states: &[StoredState], name: &str) -> Vec<String> {
    let mut last: BTreeMap<(&str, &str), String> = BTreeMap::new();
    let mut changes = Vec::new();
    for StoredState { kind, name: found, spec, .. } in states {
        if *found != name && *found != format!("{name}-canary") {
            continue;
        }
        let after = spec.as_ref().map_or("deleted".to_owned(), |spec| written_part(kind, spec));
        if last.insert((kind, found), after.clone()).as_ref() != Some(&after) {
            changes.push(format!("{kind}/{found}: {after}").replace(name, "*"));
        }
    }
    changes
}

/// Returns the part of an object's spec that the daemon writes.
fn written_part(kind: &str, spec: &Value) -> String {
    match kind {
        "Deployment" => {
            let image = spec.pointer("/template/spec/containers/0/image");
            format!("{} replicas of {}", spec["replicas"], image.unwrap_or(&Value::Null))
        }
        "HTTPRoute" => spec.pointer("/rules/0/backendRefs").unwrap_or(&Value::Null).to_string(),
        _ => spec["selector"].to_string(),
    }
}

/// Checks that no effect has changed an object in two ways. An effect writes its id on the object, and may be repeated.
fn effects_change_once(sandbox: &Sandbox) -> Result<()> {
    let mut by_effect: BTreeMap<(String, String), String> = BTreeMap::new();
    for entry in sandbox.plane.kubernetes.audit()? {
        let object = &entry["objectRef"];
        let by_daemon = entry["user"]["username"] == "system:serviceaccount:bellwether:bellwether";
        let here = object["namespace"] == sandbox.namespace.as_str();
        let accepted = entry["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
        let is_write = entry["verb"] == "create" || entry["verb"] == "patch";
        if !(by_daemon && here && accepted && is_write) {
            continue;
        }
        let response = &entry["responseObject"];
        let effect = response.pointer("/metadata/annotations/bellwether.dev~1effect").and_then(Value::as_str);
        let (Some(effect), Some(kind)) = (effect, response["kind"].as_str()) else { continue };
        let name = format!("{kind}/{}", object["name"]);
        let after = written_part(kind, &response["spec"]);
        let before = by_effect.insert((name.clone(), effect.to_owned()), after.clone());
        ensure!(
            before.as_ref().is_none_or(|before| *before == after),
            "effect {effect} changed {name} in two ways: {before:?} and {after}"
        );
    }
    ensure!(by_effect.len() > ROLLOUTS, "only {} effects are named on objects", by_effect.len());
    Ok(())
}

/// A daemon is stopped for longer than its session, and another replica takes over. The first one wakes up and does not
/// know that.
async fn woken_after_its_session(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &patient_policy("10% 30%")).await?;
    let mut replica = fixture.daemon.replica(sandbox, "replica")?;
    replica.start().await?;
    replica.until_ready(SOON).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let pair = [&fixture.daemon, &replica];
    let (sleeper, other) = wait::until(&format!("rollout {id} to be in a step"), SOON, async || {
        for (n, daemon) in pair.into_iter().enumerate() {
            let is_in_step = |rollout: &Value| rollout["phase"] == "stepping" && rollout["age"].is_null();
            if daemon.rollout(&id).await?.as_ref().is_some_and(is_in_step) {
                return Ok((daemon, pair[1 - n]));
            }
        }
        bail!("no daemon shows it in a step as its own")
    })
    .await?;
    sleeper.signal("STOP").await?;
    let ended = wait::until(&format!("rollout {id} to be promoted by the other replica"), LONG, async || {
        let rollout = other.rollout(&id).await?.context("the other replica does not show it")?;
        ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
        Ok(())
    })
    .await;
    sleeper.signal("CONT").await?;
    ended?;
    // The group may give the partition back to it in the next rebalance. It shows the rollout as the journal has it in either case.
    wait::until("the woken replica to follow the journal", SOON, async || {
        let (woken, awake) = (sleeper.rollout(&id).await?, other.rollout(&id).await?);
        let shown: Vec<_> = woken.iter().chain(&awake).map(|rollout| &rollout["outcome"]).collect();
        ensure!(shown == ["promoted"; 2], "the replicas show these outcomes of the rollout: {shown:?}");
        let (status, body) = sleeper.get("/readyz?verbose").await?;
        ensure!(status == 200, "{body}");
        Ok(())
    })
    .await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0, "{counts:?}");
    epochs_only_rise(sandbox)?;
    fixture.promoted_once().await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

/// Checks that no object was written in a lower epoch than before, and that the takeover has raised the epoch of one.
fn epochs_only_rise(sandbox: &Sandbox) -> Result<()> {
    let mut highest: BTreeMap<String, u64> = BTreeMap::new();
    let mut raised = false;
    for entry in sandbox.plane.kubernetes.audit()? {
        let object = &entry["objectRef"];
        let epoch = entry["responseObject"].pointer("/metadata/annotations/bellwether.dev~1epoch");
        let Some(epoch) = epoch.and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok()) else { continue };
        if object["namespace"] == sandbox.namespace.as_str() {
            let name = format!("{}/{}", object["resource"], object["name"]);
            let before = highest.insert(name.clone(), epoch);
            ensure!(before.is_none_or(|before| before <= epoch), "{name}: epoch {epoch} after epoch {before:?}");
            raised |= before.is_some_and(|before| before < epoch);
        }
    }
    ensure!(raised, "no object was written in two epochs: {highest:?}");
    Ok(())
}
