//! Two replicas in one consumer group: any of them answers, one takes over from the other, and they may be of two versions.
//!
//! The replica that owns a workload's partition is the one that shows its rollout without an age.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bellwether_core::ids::RolloutId;
use bellwether_testkit::plane::daemon::Daemon;
use bellwether_testkit::plane::fixture::{STABLE, patient_policy};
use bellwether_testkit::plane::slack::SlackEndpoint;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, http, wait};
use serde_json::Value;

use super::people::{SLACKS, slack_section};
use super::{LONG, SOON, Story, V2, story};

/// A version that is neither the stable one nor [`V2`].
const V3: &str = "registry.test/shop/web:v3";
/// The number of partitions in the configuration of a fixture.
const PARTITIONS: usize = 3;

/// The checks need no traffic, because the stories are about the owners of partitions and not about counts.
const POLICY: &str = r#"
[metric.always]
kind = "query"
query = "vector(1)"

[[policy]]
name = "any"
match = { namespaces = ["*"], workloads = ["*"], images = ["*"] }
warm-up = "0s"
patience = { blind = "120s", insufficient = "120s" }
[[policy.check]]
metric = "always"
judge = "threshold"
max = 2
every = "1s"
window = "3s"
[[policy.step]]
weight = "10%"
min-time = "40s"
"#;

pub fn stories() -> Vec<Story> {
    vec![
        story("replicas::any_replica_answers_and_a_killed_owner_is_replaced", killed_owner),
        story("replicas::an_orderly_restart_of_each_replica_loses_nothing", rolling_restart),
        story("replicas::two_versions_in_one_group_isolate_only_what_the_newer_one_wrote", two_versions),
    ]
}

/// Waits until one of two replicas owns the rollout's partition and the other one shows the same rollout with an age, and returns
/// the number of the owner.
async fn owner_of(pair: [&Daemon; 2], id: &RolloutId) -> Result<usize> {
    wait::until(&format!("both replicas to show {id}, and one of them as its own"), SOON, async || {
        let mut ages = Vec::new();
        for daemon in pair {
            ages.push(daemon.rollout(id).await?.context("a replica does not show it")?["age"].clone());
        }
        match ages.as_slice() {
            [Value::Null, Value::String(_)] => Ok(0),
            [Value::String(_), Value::Null] => Ok(1),
            other => bail!("the ages are {other:?}"),
        }
    })
    .await
}

/// Returns an answer with its header of this name; `None` if it has none.
async fn answer(daemon: &Daemon, path: &str, header: &str) -> Result<(Option<String>, String)> {
    let answer = http::client()?.get(daemon.url(path)).send().await?.error_for_status()?;
    let header = answer.headers().get(header).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok((header, answer.text().await?))
}

/// Checks that a replica answers every kind of question about a rollout that another one owns.
async fn answers_for_the_other(daemon: &Daemon, workload: &str, id: &RolloutId) -> Result<()> {
    for path in ["/api/v1/rollouts", "/"] {
        let (age, body) = answer(daemon, path, "bellwether-view-age").await?;
        let age: f64 = age.context("the answer has no age")?.parse()?;
        ensure!(age < 15.0, "{path} is {age} s old");
        ensure!(body.contains(if path == "/" { ">seen " } else { &id.0 }), "{path}: {body}");
        let (problem, _) = answer(daemon, path, "bellwether-view-problem").await?;
        ensure!(problem.is_none(), "{path}: {problem:?}");
    }
    let (_, answers) = answer(daemon, &format!("/api/v1/answers?rollout={id}"), "bellwether-view-age").await?;
    ensure!(answers.contains("\"result\":\"taken\""), "the answer to the request: {answers}");
    let why = daemon.cli(&["why", workload, "--api", &daemon.url("")]).await?;
    ensure!(why.code == Some(0) && why.stdout.contains("another replica's journal"), "{why:?}");
    ensure!(why.stderr.is_empty(), "{why:?}");
    let get = daemon.cli(&["get", workload, "--api", &daemon.url("")]).await?;
    ensure!(get.code == Some(0) && get.stdout.lines().count() == 2, "{get:?}");
    Ok(())
}

async fn killed_owner(sandbox: &Sandbox) -> Result<()> {
    let slack = SlackEndpoint::start(SLACKS + sandbox.plane.number(), 0).await?;
    let more = slack_section(&slack, sandbox)?;
    // Without traffic the rollout is held, which is the first message, and a person aborts it, which is the second.
    let options = FixtureOptions { policy: patient_policy("10% 30%"), more, ..FixtureOptions::default() };
    let mut fixture = Fixture::start_with(sandbox, options).await?;
    let workload = fixture.workload();
    let mut replica = fixture.daemon.replica(sandbox, "replica")?;
    replica.start().await?;
    replica.until_ready(SOON).await?;
    let id = fixture.request(V2, &[]).await?;
    let is_first = owner_of([&fixture.daemon, &replica], &id).await? == 0;
    let (owner, other) =
        if is_first { (&mut fixture.daemon, &mut replica) } else { (&mut replica, &mut fixture.daemon) };
    wait::until("the message about the hold", LONG, async || {
        ensure!(slack.messages().len() == 1, "{:?}", slack.messages());
        Ok(())
    })
    .await?;
    answers_for_the_other(other, &workload, &id).await?;

    let killed = Instant::now();
    owner.kill().await?;
    let (mut oldest, mut questions) = (0.0_f64, 0);
    wait::until("the other replica to own the rollout", SOON, async || {
        let (age, body) = answer(other, &format!("/api/v1/rollouts/{id}"), "bellwether-view-age").await?;
        let rollout: Value = serde_json::from_str(&body)?;
        oldest = oldest.max(age.context("no age")?.parse()?);
        questions += 1;
        ensure!(rollout["age"].is_null(), "its view is {} old", rollout["age"]);
        Ok(())
    })
    .await?;
    println!(
        "replicas: taken over {:.1} s after the kill (session 6 s); {questions} questions were answered meanwhile, from views of at \
         most {oldest:.1} s",
        killed.elapsed().as_secs_f64()
    );
    // A pipeline waits at the new owner.
    let (wait_id, wait_url) = (id.0.clone(), other.url(""));
    let waiting = ["status", &wait_id, "--wait", "--timeout", "60s", "--api", &wait_url];
    let abort = ["emit", "abort", "--workload", &workload, "--config"].map(str::to_owned);
    let abort: Vec<String> = abort.into_iter().chain([other.config().display().to_string()]).collect();
    let (status, aborted) = tokio::join!(other.cli(&waiting), other.cli(&abort));
    let (status, aborted) = (status?, aborted?);
    ensure!(aborted.code == Some(0), "{aborted:?}");
    ensure!(status.code == Some(4) && status.stdout.contains("aborted"), "{status:?}");

    wait::until("the message about the end", SOON, async || {
        ensure!(slack.messages().len() == 2, "{:?}", slack.messages());
        Ok(())
    })
    .await?;
    // Long enough for a message that is sent again.
    owner.start().await?;
    owner.until_ready(SOON).await?;
    let texts: Vec<Value> = slack.messages().iter().map(|message| message["text"].clone()).collect();
    ensure!(texts.len() == 2 && texts[0] != texts[1], "each message once: {texts:?}");
    // The answers of before the restart are known.
    let (_, answers) = answer(owner, &format!("/api/v1/answers?rollout={id}"), "bellwether-view-age").await?;
    ensure!(answers.contains("\"result\":\"taken\""), "the answer to the request: {answers}");
    fixture.distinct_decisions().await?;
    fixture.replays().await
}

/// Measures for how long fewer than all partitions have an owner that has restored them.
struct Ownership {
    task: tokio::task::JoinHandle<Duration>,
    stop: tokio_util::sync::CancellationToken,
}

impl Ownership {
    fn watch(pair: [&Daemon; 2]) -> Result<Ownership> {
        let (client, urls) = (http::client()?, pair.map(|daemon| daemon.url("/metrics")));
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut longest, mut since) = (Duration::ZERO, None);
            while !stopped.is_cancelled() {
                let mut open = 0;
                for url in &urls {
                    let Ok(page) = client.get(url).send().await else { continue };
                    open += open_partitions(&page.text().await.unwrap_or_default());
                }
                if open >= PARTITIONS {
                    since = None;
                } else {
                    longest = longest.max(since.get_or_insert_with(Instant::now).elapsed());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            longest
        });
        Ok(Ownership { task, stop })
    }

    async fn longest_gap(self) -> Result<Duration> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

fn open_partitions(metrics: &str) -> usize {
    let line = metrics.lines().find_map(|line| line.strip_prefix("bellwether_partitions{state=\"open\"} "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

async fn rolling_restart(sandbox: &Sandbox) -> Result<()> {
    let options = FixtureOptions { policy: POLICY.to_owned(), ..FixtureOptions::default() };
    let mut fixture = Fixture::start_with(sandbox, options).await?;
    let mut replica = fixture.daemon.replica(sandbox, "replica")?;
    replica.start().await?;
    replica.until_ready(SOON).await?;
    let id = fixture.request(V2, &[]).await?;
    owner_of([&fixture.daemon, &replica], &id).await?;
    for n in 0..2 {
        let watched = Ownership::watch([&fixture.daemon, &replica])?;
        let daemon = if n == 0 { &mut fixture.daemon } else { &mut replica };
        ensure!(daemon.terminate(SOON).await? == Some(0), "it does not end in an orderly way");
        daemon.start().await?;
        daemon.until_ready(SOON).await?;
        let gap = watched.longest_gap().await?;
        println!("replicas: an orderly restart left a partition without an owner for {:.1} s", gap.as_secs_f64());
        owner_of([&fixture.daemon, &replica], &id).await?;
    }
    let ended = fixture.ended_as(&id, "promoted", LONG).await?;
    ensure!(ended["outcome"] == "promoted", "{ended:#}");
    fixture.promoted_once().await?;
    fixture.replays().await
}

/// Waits until a replica shows the newest rollout of a workload in a phase as its own, and returns it.
async fn until_phase(daemon: &Daemon, workload: &str, phase: &str) -> Result<Value> {
    wait::until(&format!("{workload} to be {phase}"), LONG, async || {
        let (_, body) = daemon.get("/api/v1/rollouts").await?;
        let rollouts: Vec<Value> = serde_json::from_str(&body)?;
        let own = rollouts.iter().filter(|shown| shown["workload"] == workload && shown["age"].is_null());
        let newest = own.max_by_key(|shown| shown["started"].to_string());
        let found = newest.filter(|shown| shown["phase"] == phase || shown["outcome"] == phase);
        found.cloned().with_context(|| body.clone())
    })
    .await
}

/// An older and a newer program in one group: the older one's entries are read by the newer one, and the newer one's entries isolate
/// their workload at the older one, and no other.
async fn two_versions(sandbox: &Sandbox) -> Result<()> {
    let options = FixtureOptions { policy: POLICY.to_owned(), ..FixtureOptions::default() };
    let mut fixture = Fixture::prepare(sandbox, options).await?;
    for name in ["old", "new"] {
        sandbox.create_routed(name, 1, STABLE).await?;
    }
    let [old, new] = ["old", "new"].map(|name| sandbox.workload(name).to_string());
    fixture.daemon.set_next_format(new.clone());
    let mut older = fixture.daemon.replica(sandbox, "older")?;

    // The older one begins two rollouts, and the newer one ends them.
    older.start().await?;
    older.until_ready(SOON).await?;
    sandbox.request_rollout("old", V2).await?;
    sandbox.request_rollout("new", V2).await?;
    until_phase(&older, &old, "stepping").await?;
    until_phase(&older, &new, "stepping").await?;
    fixture.daemon.start().await?;
    fixture.daemon.until_ready(SOON).await?;
    older.kill().await?;
    until_phase(&fixture.daemon, &old, "promoted").await?;
    until_phase(&fixture.daemon, &new, "promoted").await?;

    // The newer one begins two, and the older one takes over from it in the middle.
    sandbox.request_rollout("old", V3).await?;
    sandbox.request_rollout("new", V3).await?;
    until_phase(&fixture.daemon, &old, "stepping").await?;
    until_phase(&fixture.daemon, &new, "stepping").await?;
    // A step begins before its weight is written.
    let weights = wait::until("the weight of the newer one's rollout", SOON, async || {
        let weights = sandbox.weights("new").await?;
        ensure!(weights.get("new-canary").is_some_and(|weight| *weight > 0), "{weights:?}");
        Ok(weights)
    })
    .await?;
    older.start().await?;
    wait::until("the older one to name the workload that it can't show", SOON, async || {
        let (_, body) = older.get("/api/v1/rollouts?state=unreadable").await?;
        let shown: Vec<Value> = serde_json::from_str(&body)?;
        let [shown] = shown.as_slice() else { bail!("{body}") };
        ensure!(shown["workload"] == new.as_str(), "{shown}");
        ensure!(shown["reason"].to_string().contains("it has format 2, and this version reads up to 1"), "{shown}");
        Ok(())
    })
    .await?;
    fixture.daemon.kill().await?;
    let isolated = until_phase(&older, &new, "unreadable").await?;
    ensure!(
        isolated["reason"].to_string().contains("start the version of Bellwether that wrote the entry"),
        "{isolated}"
    );
    until_phase(&older, &old, "promoted").await?;
    ensure!(sandbox.images("old").await?["app"] == V3, "the older one has promoted the other workload");
    let (_, body) = older.get("/api/v1/rollouts?state=unreadable").await?;
    let unreadable: Vec<Value> = serde_json::from_str(&body)?;
    ensure!(unreadable.len() == 1, "exactly the workload of the newer one: {body}");
    ensure!(sandbox.weights("new").await? == weights, "the isolated workload keeps its traffic");
    ensure!(sandbox.images("new").await?["app"] == V2);

    // The newer one is back, and goes on.
    fixture.daemon.start().await?;
    ensure!(older.terminate(SOON).await? == Some(0));
    until_phase(&fixture.daemon, &new, "promoted").await?;
    ensure!(sandbox.images("new").await?["app"] == V3);
    let decisions = fixture.distinct_decisions().await?;
    let promoted: BTreeSet<String> = decisions
        .iter()
        .filter(|decision| decision["kind"] == "promote")
        .map(|decision| decision["rollout"].to_string())
        .collect();
    ensure!(promoted.len() == 4, "each rollout is promoted once: {promoted:?}");
    Ok(())
}
