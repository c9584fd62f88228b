//! The interfaces for users: Slack, HTTP, a changed configuration, and the ways of splitting traffic and keeping a journal
//! that they can choose.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::RolloutId;
use bellwether_testkit::plane::fixture::{patient_policy, policy};
use bellwether_testkit::plane::slack::{RETRY_AFTER_SECONDS, SlackEndpoint};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, http, wait};
use serde_json::{Value, json};

use super::{LONG, SOON, Story, V2, story};

/// The first port of Slack's stand-ins: between those of daemons and those that the kernel gives to clients.
pub(super) const SLACKS: u16 = 25_000;
/// The time after which a message would have been sent a second time. It is longer than the delay of a repetition.
const REPEATED: Duration = Duration::from_secs(2 * RETRY_AFTER_SECONDS + 2);

pub fn stories() -> Vec<Story> {
    vec![
        story("people::a_refused_slack_message_is_sent_again_once", refused_slack_message),
        story("people::slack_gets_the_hold_and_the_end", hold_in_slack),
        story("people::an_event_over_http_starts_one_rollout", event_over_http),
        story("people::a_reload_applies_to_the_next_rollout_and_an_invalid_one_is_refused", reload),
        story("people::traffic_by_replicas_gives_the_canary_its_share_of_pods", traffic_by_replicas),
        story("people::without_a_daemon_a_release_gives_the_stable_everything", released_without_a_daemon),
        story("people::without_kafka_a_journal_in_a_file_survives_a_kill", journal_in_a_file),
    ]
}

/// Returns the section `[slack]` for a stand-in.
pub(super) fn slack_section(slack: &SlackEndpoint, sandbox: &Sandbox) -> Result<String> {
    let file = sandbox.plane.data.join(format!("{}.slack", sandbox.namespace));
    std::fs::write(&file, format!("{}\n", slack.webhook))?;
    Ok(format!("[slack]\nwebhook-file = {:?}\n", file.display().to_string()))
}

/// Returns the texts of the messages so far.
fn texts(slack: &SlackEndpoint) -> Vec<String> {
    slack.messages().iter().filter_map(|message| message["text"].as_str().map(str::to_owned)).collect()
}

/// Waits until Slack has these messages, and checks that no other follows.
async fn until_messages(slack: &SlackEndpoint, expected: &[&str]) -> Result<()> {
    wait::until(&format!("the messages {expected:?}"), SOON, async || {
        let texts = texts(slack);
        ensure!(texts == expected, "{texts:?}; all requests: {:?}", slack.posts());
        Ok(())
    })
    .await?;
    tokio::time::sleep(REPEATED).await;
    let texts = texts(slack);
    ensure!(texts == expected, "a message was sent again: {texts:?}");
    Ok(())
}

async fn refused_slack_message(sandbox: &Sandbox) -> Result<()> {
    let slack = SlackEndpoint::start(SLACKS + sandbox.plane.number(), 1).await?;
    let more = slack_section(&slack, sandbox)?;
    let fixture = Fixture::start_with(sandbox, FixtureOptions { more, ..FixtureOptions::default() }).await?;
    let load = sandbox.load(150.0)?;
    let id = fixture.request("registry.test/shop/web:v2-err5", &[]).await?;
    fixture.ended_as(&id, "rolled-back", LONG).await?;
    load.stop().await?;
    until_messages(&slack, &["🔴 test: web rolled back v2-err5 → v1"]).await?;
    let message = slack.messages()[0].to_string();
    // The value, the limit, the number of requests and the window; and the command that shows more.
    for part in ["error-rate ", "&gt; 2 %", "requests in 10s", &format!("bellwether why {id}")] {
        ensure!(message.contains(part), "no {part:?} in {message}");
    }
    let posts = slack.posts();
    let delay = posts[1].at - posts[0].at;
    let as_requested = !posts[0].accepted && delay >= Duration::from_secs(RETRY_AFTER_SECONDS);
    ensure!(as_requested, "it was sent again earlier than requested: {posts:?}");
    Ok(())
}

async fn hold_in_slack(sandbox: &Sandbox) -> Result<()> {
    let slack = SlackEndpoint::start(SLACKS + sandbox.plane.number(), 0).await?;
    let more = slack_section(&slack, sandbox)?;
    let fixture = Fixture::start_with(sandbox, FixtureOptions { more, ..FixtureOptions::default() }).await?;
    let id = fixture.request(V2, &[]).await?;
    fixture.ended_as(&id, "given-up", LONG).await?;
    until_messages(&slack, &["🟡 test: web v1 → v2 held", "🟡 test: web v1 → v2 given up"]).await?;
    let between = slack.posts()[1].at - slack.posts()[0].at;
    ensure!(between >= Duration::from_secs(1), "Slack allows one message per second: {between:?}");
    Ok(())
}

async fn event_over_http(sandbox: &Sandbox) -> Result<()> {
    let options = FixtureOptions { http: "events = true", ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let (url, workload) = (fixture.daemon.url("/api/v1/events"), fixture.workload());
    let http = http::client()?;
    for (headers, body, status, problem) in [
        (vec![("content-type", "application/cloudevents+json")], "{", 422, "JSON"),
        (vec![("content-type", "application/json")], "{}", 422, "ce-specversion"),
        (vec![("content-type", "application/json"), ("origin", "https://evil.test")], "{}", 403, "web pages"),
    ] {
        let request =
            headers.iter().fold(http.post(&url).body(body), |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await?;
        let (code, text) = (answer.status().as_u16(), answer.text().await?);
        ensure!(code == status && text.contains(problem), "{body} {headers:?}: {code} {text}");
    }
    let load = sandbox.load(100.0)?;
    let base = fixture.api();
    let emit = ["emit", "request", "--workload", &workload, "--image", V2, "--id", "posted", "--url", &base];
    let first = fixture.daemon.cli(&emit).await?;
    ensure!(first.code == Some(0), "{first:?}");
    let again = fixture.daemon.cli(&emit).await?;
    ensure!(again.code == Some(0) && again.stdout == first.stdout, "{again:?}");
    fixture.ended_as(&RolloutId(first.stdout.trim().to_owned()), "promoted", LONG).await?;
    load.stop().await?;
    let starts = fixture.decisions().await?.iter().filter(|decision| decision["kind"] == "start").count();
    ensure!(starts == 1, "{starts} rollouts were started");
    Ok(())
}

async fn reload(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("20%", "")).await?;
    let with = |policy: String| FixtureOptions { policy, ..FixtureOptions::default() };
    fixture.configure(&with(policy("20%", "").replace("max = \"2%\"", "max = \"2s\"")))?;
    fixture.daemon.signal("HUP").await?;
    fixture.daemon.until_logged(&["the new configuration is refused"], SOON).await?;
    // The CLI reads the same file, so it must be valid again.
    fixture.configure(&with(policy("20%", "")))?;
    let load = sandbox.load(150.0)?;
    // 5 % errors are too many for the old configuration, and not for the new one.
    let old = fixture.request("registry.test/shop/web:v2-err5", &[]).await?;
    fixture.until(&old, SOON, "in a step", |rollout| rollout["phase"] == "stepping").await?;
    fixture.configure(&with(policy("20%", "").replace("max = \"2%\"", "max = \"20%\"")))?;
    fixture.daemon.signal("HUP").await?;
    fixture.daemon.until_logged(&["policies reloaded"], SOON).await?;
    let old = fixture.ended_as(&old, "rolled-back", LONG).await.context("a running rollout keeps its policy")?;
    let new = fixture.request("registry.test/shop/web:v3-err5", &[]).await?;
    let new = fixture.ended_as(&new, "promoted", LONG).await?;
    load.stop().await?;
    ensure!(new["policy"] != old["policy"], "{new:#}");
    fixture.replays().await
}

async fn traffic_by_replicas(sandbox: &Sandbox) -> Result<()> {
    let by_replicas = policy("20% 50%", "").replace("traffic = \"gateway\"", "traffic = \"replicas\"");
    let fixture = Fixture::start(sandbox, &by_replicas).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let stepping = fixture.until(&id, SOON, "in a step", |rollout| rollout["phase"] == "stepping").await?;
    ensure!(stepping["step"] == json!([1, 2]), "{stepping:#}");
    let canary = sandbox.deployments().get("web-canary").await?;
    // 1 pod of 5 is 20 %.
    ensure!(canary.spec.and_then(|spec| spec.replicas) == Some(1));
    fixture.ended_as(&id, "promoted", LONG).await?;
    let counts = load.stop().await?;
    ensure!(counts.failed() == 0 && counts.of_version("v2").total > 0, "{counts:?}");
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.replays().await
}

/// The daemon is dead while the canary has 30 %. A person gives the traffic back, and the daemon that returns ends the
/// rollout in their name.
async fn released_without_a_daemon(sandbox: &Sandbox) -> Result<()> {
    let policy = patient_policy("30% 60%").replace("min-time = \"8s\"", "min-time = \"120s\"");
    let mut fixture = Fixture::start(sandbox, &policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    let counted = |rollout: &Value| rollout["checks"][0]["n"].as_u64().is_some_and(|n| n > 0);
    fixture.until(&id, SOON, "judged", |rollout| rollout["phase"] == "stepping" && counted(rollout)).await?;
    wait::until("the gauge of the split that the daemon owns", SOON, async || {
        let (_, page) = fixture.daemon.get("/metrics").await?;
        ensure!(page.contains("\nbellwether_split_workloads_owned{cluster=\"test\"} 1\n"), "{page}");
        Ok(())
    })
    .await?;
    fixture.daemon.kill().await?;
    let split = sandbox.weights("web").await?;
    ensure!(split["web-canary"] * 7 == split["web"] * 3, "{split:?}");

    let workload = fixture.workload();
    let release = ["release", &workload, "--source", "/anna", "--reason", "the daemon is gone"];
    let released = fixture.cli(&release).await?;
    ensure!(released.code == Some(0) && released.stdout.contains("goes to the stable"), "{released:?}");
    for part in ["gives the canary 30 %", "4 of 4 pods available"] {
        ensure!(released.stderr.contains(part), "no {part:?} in {released:?}");
    }
    ensure!(sandbox.weights("web").await?["web-canary"] == 0, "{:?}", sandbox.weights("web").await?);
    wait::until("requests that reach the stable alone", SOON, async || {
        let first = load.counts();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let second = load.counts();
        let more = |version: &str| second.of_version(version).total - first.of_version(version).total;
        ensure!(more("v1") > 100 && more("v2") == 0, "v1 has {} more, v2 {}", more("v1"), more("v2"));
        Ok(())
    })
    .await?;
    let of_canary = load.counts().of_version("v2").total;
    ensure!(sandbox.deployments().get_opt("web-canary").await?.is_some(), "the canary is removed");

    fixture.daemon.start().await?;
    let ended = fixture.ended_as(&id, "aborted", LONG).await?;
    let why = "released by /anna (the daemon is gone): all traffic was given to the stable without the daemon";
    ensure!(ended["reason"] == why, "{ended:#}");
    fixture.cleaned_up(before).await?;
    let counts = load.stop().await?;
    println!("released: {} requests, {of_canary} of the canary, {} failed", counts.sent, counts.failed());
    ensure!(counts.of_version("v2").total == of_canary, "the canary got traffic again: {counts:?}");
    ensure!(counts.failed() == 0, "{counts:?}");
    let quarantine = &fixture.state().await?["quarantine"];
    ensure!(quarantine.as_array().is_none_or(Vec::is_empty), "{quarantine:#}");
    fixture.replays().await
}

async fn journal_in_a_file(sandbox: &Sandbox) -> Result<()> {
    let more = "[journal]\nkind = \"embedded\"\npath = \"journal.redb\"\n".to_owned();
    let options = FixtureOptions { more, brokers: "127.0.0.1:9", http: "events = true", ..FixtureOptions::default() };
    let mut fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.post_request(V2).await?;
    fixture.until(&id, SOON, "in a step", |rollout| rollout["phase"] == "stepping").await?;
    fixture.daemon.kill().await?;
    fixture.daemon.start().await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    load.stop().await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    fixture.daemon.terminate(SOON).await?;
    fixture.replays().await
}
