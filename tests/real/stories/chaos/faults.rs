//! The injection of each kind of fault, and its end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bellwether::failpoints::Failpoint;
use bellwether_testkit::plane::daemon::FailpointRun;
use bellwether_testkit::plane::proxy::{ProxyMode, TcpProxy};
use bellwether_testkit::plane::specs::STRUCTURED;
use bellwether_testkit::plane::{Daemon, wait};
use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::SOON;
use super::arena::{Arena, ChaosWorkload, GuardedDaemon};
use super::plan::{ChaosFault, PlannedFault};
use super::rollouts::Rollouts;

/// Time for which a daemon is stopped: longer than its session.
const PAUSED: Duration = Duration::from_secs(8);
/// Time for which a daemon may run before it is killed without having reached its failpoint.
const LONGEST_RUN: Duration = Duration::from_millis(3500);
/// The delay of a slow connection for each piece of data.
const SLOW: Duration = Duration::from_millis(400);
/// Deadline for a command of a person that must succeed, such as the end of a freeze.
const PERSON: Duration = Duration::from_secs(120);
/// The author of commands.
const ANN: &str = "/people/ann";

/// The phases in which a rollout has a canary with traffic.
const WITH_TRAFFIC: [&str; 2] = ["stepping", "growing"];
/// The phases of a running rollout.
const RUNNING: [&str; 7] = ["preparing", "stepping", "growing", "promoting", "returning", "draining", "restoring"];

/// Waits for the time of a fault, injects it, ends it, and notes it. A newer request is noted when it is made.
///
/// # Errors
/// There is no rollout that it could disturb, or a part that it goes through is away.
pub async fn inject(arena: &Arena<'_>, rollouts: &Rollouts<'_>, fault: &PlannedFault, began: Instant) -> Result<()> {
    tokio::time::sleep(fault.at.saturating_sub(began.elapsed())).await;
    let name = fault.kind.name();
    let from = Timestamp::now();
    let workload = Box::pin(disturb(arena, rollouts, fault)).await.with_context(|| name)?;
    if fault.kind != ChaosFault::NewerRequest {
        arena.note(fault.kind, &workload, from);
    }
    Ok(())
}

/// Injects a fault and ends it. Returns the name of the workload, empty if it concerned all.
async fn disturb(arena: &Arena<'_>, rollouts: &Rollouts<'_>, fault: &PlannedFault) -> Result<String> {
    let (lasts, guarded) = (fault.lasts, &arena.daemons[fault.daemon]);
    let everywhere = |result: Result<()>| result.map(|()| String::new());
    let pick = async |phases: &[&str]| self::pick(rollouts, phases, fault.lot, |_| true).await;
    match fault.kind {
        ChaosFault::DaemonKilled => everywhere(killed(guarded, lasts / 3).await),
        ChaosFault::DaemonKilledAtFailpoint => everywhere(killed_at_failpoint(guarded, fault.lot).await),
        ChaosFault::DaemonPaused => everywhere(paused(guarded).await),
        ChaosFault::DaemonTerminated => everywhere(terminated(guarded).await),
        ChaosFault::BrokerKilled => {
            let _alone = arena.one_at_a_time.lock().await;
            everywhere(arena.broker.restart(lasts / 2).await)
        }
        ChaosFault::ApiServerRefuses => everywhere(through(&guarded.api_server, ProxyMode::Refuse, lasts).await),
        ChaosFault::ApiServerHangs => everywhere(through(&guarded.api_server, ProxyMode::Hang, lasts).await),
        ChaosFault::ApiServerSlow => everywhere(through(&guarded.api_server, ProxyMode::Slow(SLOW), lasts).await),
        ChaosFault::PrometheusRefuses => everywhere(through(&guarded.prometheus, ProxyMode::Refuse, lasts).await),
        ChaosFault::PrometheusHangs => everywhere(through(&guarded.prometheus, ProxyMode::Hang, lasts).await),
        ChaosFault::PoisonRecord => everywhere(poison(arena, fault.lot).await),
        ChaosFault::DuplicateEvent => repeated(arena, rollouts, pick(&RUNNING).await?).await,
        ChaosFault::Freeze => everywhere(frozen(arena, lasts).await),
        ChaosFault::PersonPauses => paused_by_a_person(arena, pick(&WITH_TRAFFIC).await?, lasts).await,
        ChaosFault::NewerRequest => {
            let workload = pick(&RUNNING).await?;
            rollouts.supersede(&workload.name);
            Ok(String::new())
        }
        ChaosFault::PodDeleted | ChaosFault::PodEvicted | ChaosFault::PodsNotReady => {
            let workload = self::pick(rollouts, &RUNNING, fault.lot, |workload| workload.loses_pods).await?;
            pods_taken(arena, fault, workload).await
        }
        ChaosFault::AutoscalerScales => scaled(arena, pick(&RUNNING).await?, lasts).await,
        ChaosFault::ConflictingWriter => written_all_the_time(arena, pick(&RUNNING).await?, lasts).await,
        ChaosFault::RouteEdited => {
            let routed = |workload: &ChaosWorkload| workload.is_routed;
            edited(arena, self::pick(rollouts, &["stepping"], fault.lot, routed).await?, lasts).await
        }
        ChaosFault::StatusFrozen => {
            let _alone = arena.one_at_a_time.lock().await;
            arena.sandbox.freeze_route_status().await?;
            tokio::time::sleep(lasts).await;
            everywhere(arena.sandbox.thaw_route_status().await)
        }
    }
}

/// Waits for a workload whose rollout is in one of these phases and which fits, and returns one of them.
async fn pick<'a>(
    rollouts: &Rollouts<'a>,
    phases: &[&str],
    lot: u64,
    fits: impl Fn(&ChaosWorkload) -> bool,
) -> Result<&'a ChaosWorkload> {
    wait::until(&format!("a rollout in {phases:?}"), SOON / 2, async || {
        let found: Vec<_> = rollouts.in_phase(phases).into_iter().filter(|workload| fits(workload)).collect();
        Ok(found[(lot as usize).checked_rem(found.len()).context("none")?])
    })
    .await
}

// ---- the daemons ----

async fn killed(guarded: &GuardedDaemon, away: Duration) -> Result<()> {
    let mut daemon = guarded.daemon.lock().await;
    end(&mut daemon).await;
    tokio::time::sleep(away).await;
    daemon.spawn()
}

async fn killed_at_failpoint(guarded: &GuardedDaemon, lot: u64) -> Result<()> {
    let mut daemon = guarded.daemon.lock().await;
    end(&mut daemon).await;
    let failpoint = Failpoint::ALL[lot as usize % Failpoint::ALL.len()];
    daemon.set_failpoint(Some((failpoint, lot / 8 % 12)));
    daemon.spawn()?;
    // A replica beside another one may get no partition, and then passes no failpoint.
    let run = tokio::time::timeout(2 * LONGEST_RUN, daemon.until_failpoint(LONGEST_RUN)).await;
    if !matches!(run, Ok(Ok(FailpointRun::Ended | FailpointRun::EndedWhileOpening))) {
        end(&mut daemon).await;
    }
    daemon.set_failpoint(None);
    daemon.spawn()
}

/// Kills a daemon. One that has ended by itself a moment ago is as dead.
async fn end(daemon: &mut Daemon) {
    let _ = daemon.kill().await;
}

async fn paused(guarded: &GuardedDaemon) -> Result<()> {
    let daemon = guarded.daemon.lock().await;
    daemon.signal("STOP").await?;
    tokio::time::sleep(PAUSED).await;
    daemon.signal("CONT").await
}

async fn terminated(guarded: &GuardedDaemon) -> Result<()> {
    let mut daemon = guarded.daemon.lock().await;
    let code = daemon.terminate(SOON).await;
    if code.is_err() {
        // It has not ended in time, and is gone with its handle.
        daemon.spawn()?;
    }
    // A daemon that was started a moment ago has no handler for the signal yet.
    ensure!(matches!(code?, Some(0) | None), "a terminated daemon has not ended in order: {}", daemon.log());
    daemon.spawn()
}

/// Treats the connections through a proxy in this way for a while.
async fn through(proxy: &TcpProxy, mode: ProxyMode, lasts: Duration) -> Result<()> {
    proxy.set(mode).await;
    tokio::time::sleep(lasts).await;
    proxy.set(ProxyMode::Pass).await;
    Ok(())
}

// ---- events ----

async fn poison(arena: &Arena<'_>, lot: u64) -> Result<()> {
    let records: [&[u8]; 3] = [b"{ not json", &[0xff; 200], b"{\"specversion\": \"1.0\", "];
    let (record, key) = (records[lot as usize % records.len()], format!("poison{lot}"));
    arena.broker.produce(&arena.sandbox.topic("events"), Some(&key), &[STRUCTURED], record).await?;
    Ok(())
}

async fn repeated(arena: &Arena<'_>, rollouts: &Rollouts<'_>, workload: &ChaosWorkload) -> Result<String> {
    let (event, sandbox) = (rollouts.last_request(&workload.name)?, arena.sandbox);
    let key = sandbox.workload(&workload.name).to_string();
    arena.broker.produce(&sandbox.topic("events"), Some(&key), &[STRUCTURED], &event).await?;
    Ok(workload.name.clone())
}

/// Sends a command as a person who repeats it until it is accepted.
async fn said(arena: &Arena<'_>, words: &[&str]) -> Result<()> {
    wait::until(&format!("the command {words:?}"), PERSON, async || {
        let output = arena.cli(&[&["emit"], words, &["--source", ANN]].concat()).await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(())
    })
    .await
}

async fn frozen(arena: &Arena<'_>, lasts: Duration) -> Result<()> {
    let _alone = arena.one_at_a_time.lock().await;
    let scope = format!("test/{}", arena.sandbox.namespace);
    said(arena, &["freeze", "--scope", &scope, "--reason", "chaos"]).await?;
    tokio::time::sleep(lasts).await;
    said(arena, &["unfreeze", "--scope", &scope]).await
}

async fn paused_by_a_person(arena: &Arena<'_>, workload: &ChaosWorkload, lasts: Duration) -> Result<String> {
    let key = arena.sandbox.workload(&workload.name).to_string();
    said(arena, &["pause", "--workload", &key, "--reason", "chaos"]).await?;
    tokio::time::sleep(lasts).await;
    said(arena, &["resume", "--workload", &key, "--reason", "chaos"]).await?;
    Ok(workload.name.clone())
}

// ---- the cluster ----

async fn pods_taken(arena: &Arena<'_>, fault: &PlannedFault, workload: &ChaosWorkload) -> Result<String> {
    let (sandbox, pods) = (arena.sandbox, arena.sandbox.pods());
    if fault.kind == ChaosFault::PodsNotReady {
        let prefix = format!("{}-canary-", workload.name);
        ensure!(sandbox.set_ready(&prefix, false).await? > 0, "{} has no canary", workload.name);
        tokio::time::sleep(fault.lasts).await;
        sandbox.set_ready(&prefix, true).await?;
        return Ok(workload.name.clone());
    }
    let prefix = format!("{}-", workload.name);
    let all = pods.list(&ListParams::default()).await?.items;
    let names: Vec<_> = all.iter().map(ResourceExt::name_any).filter(|name| name.starts_with(&prefix)).collect();
    let name = &names[(fault.lot as usize / 64).checked_rem(names.len()).context("no pod")?];
    if fault.kind == ChaosFault::PodDeleted {
        pods.delete(name, &DeleteParams::default()).await?;
    } else {
        let why = "The node was low on resource: memory.";
        let patch = Patch::Merge(json!({"status": {"phase": "Failed", "reason": "Evicted", "message": why}}));
        pods.patch_status(name, &PatchParams::default(), &patch).await?;
    }
    Ok(workload.name.clone())
}

/// Scales the stable by one pod, as an autoscaler does, and back.
async fn scaled(arena: &Arena<'_>, workload: &ChaosWorkload, lasts: Duration) -> Result<String> {
    let deployments = arena.sandbox.deployments();
    let by = PatchParams { field_manager: Some("kube-controller-manager".to_owned()), ..PatchParams::default() };
    let scale = async |replicas: i32| {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch_scale(&workload.name, &by, &patch).await
    };
    let before = deployments.get_scale(&workload.name).await?.spec.and_then(|spec| spec.replicas);
    let before = before.context("a Deployment without replicas")?;
    scale(before + 1).await?;
    tokio::time::sleep(lasts).await;
    scale(before).await?;
    Ok(workload.name.clone())
}

async fn written_all_the_time(arena: &Arena<'_>, workload: &ChaosWorkload, lasts: Duration) -> Result<String> {
    let sandbox = arena.sandbox;
    let (deployments, routes) = (sandbox.objects("apps/v1", "Deployment"), sandbox.routes());
    let (by, began) = (PatchParams::default(), Instant::now());
    let canary = format!("{}-canary", workload.name);
    for n in 0.. {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"other.test/number": format!("{n}")}}}));
        // Objects that do not exist are left out, and conflicts are intended.
        let of_deployments = [&workload.name, &canary].map(|name| deployments.patch(name, &by, &patch));
        let (_, _) = futures::future::join(join_all(of_deployments), routes.patch(&workload.name, &by, &patch)).await;
        if began.elapsed() >= lasts {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(workload.name.clone())
}

/// Changes the weights of a workload's route as a person does, and sets them back unless the daemon has done so.
async fn edited(arena: &Arena<'_>, workload: &ChaosWorkload, lasts: Duration) -> Result<String> {
    let routes = arena.sandbox.routes();
    let route = routes.get(&workload.name).await?;
    let place = "/spec/rules/0/backendRefs";
    let before = route.data.pointer(place).context("backends")?.clone();
    let mut after = before.clone();
    let backends = after.as_array_mut().filter(|backends| backends.len() == 2).context("no canary in the route")?;
    for backend in backends {
        let weight = backend["weight"].as_i64().filter(|weight| *weight > 0).context("no canary with traffic")?;
        backend["weight"] = (weight + 1).into();
    }
    let by = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let replace = async |from: &Value, to: &Value| {
        let test = json!({"op": "test", "path": place, "value": from});
        let patch = json!([test, {"op": "replace", "path": place, "value": to}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch)?);
        anyhow::Ok(routes.patch(&workload.name, &by, &patch).await?)
    };
    replace(&before, &after).await?;
    tokio::time::sleep(lasts / 2).await;
    // The daemon may have set it back, or gone on to another weight.
    let _ = replace(&after, &before).await;
    Ok(workload.name.clone())
}
