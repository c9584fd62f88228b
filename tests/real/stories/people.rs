//! Where people meet it: Slack, HTTP, a changed configuration, and the ways of splitting traffic that they choose.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::scene::{Scene, Setup, policy};
use super::{Told, told};
use crate::plane::slack::{RETRY_AFTER_SECONDS, Slack};
use crate::plane::story::Story;

const V2: &str = "registry.test/shop/web:v2";
const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);
/// Slack's ports: none of the daemons', and below those that the system gives to whoever connects.
const SLACKS: u16 = 25_000;

pub fn stories() -> Vec<Told> {
    vec![
        told("people::slack_is_told_once_however_busy_it_is", slack_is_told_once),
        told("people::slack_is_asked_on_a_hold_and_told_the_end", slack_is_asked),
        told("people::an_event_over_http_is_an_event", an_event_over_http),
        told("people::a_reload_is_for_the_next_rollout_and_a_bad_one_for_none", a_reload),
        told("people::by_replicas_the_pods_are_the_traffic", by_replicas),
        told("people::without_kafka_a_file_is_the_journal", without_kafka),
    ]
}

/// The section of a daemon that tells this Slack.
fn with_slack(slack: &Slack, story: &Story) -> Result<String> {
    let file = story.plane.data.join(format!("{}.slack", story.namespace));
    std::fs::write(&file, format!("{}\n", slack.webhook))?;
    Ok(format!("[slack]\nwebhook-file = {:?}\n", file.display().to_string()))
}

async fn slack_is_told_once(story: &Story) -> Result<()> {
    let slack = Slack::start(SLACKS + story.plane.number(), 1).await?;
    let more = with_slack(&slack, story)?;
    let scene = Scene::begin_with(story, Setup { more, ..Setup::default() }).await?;
    let load = story.load(150.0)?;
    let id = scene.request("registry.test/shop/web:v2-err5", &[]).await?;
    let rollout = scene.ended(LONG).await?;
    load.stop().await?;
    let messages = story
        .wait_until("a message", SOON, async || {
            let messages = slack.messages();
            ensure!(!messages.is_empty(), "none yet: {:?}", slack.posts());
            Ok(messages)
        })
        .await?;
    ensure!(messages.len() == 1, "it was said more than once: {messages:#?}");
    let (text, all) = (messages[0]["text"].as_str().context("text")?, messages[0].to_string());
    ensure!(text == "🔴 test: web rolled back v2-err5 → v1", "{text}");
    // What value, which limit, how many, over how long; and what to do to see more.
    for part in ["error-rate ", "&gt; 2 %", "requests in 10s", &format!("bellwether why {id}")] {
        ensure!(all.contains(part), "no {part:?} in {all}");
    }
    let posts = slack.posts();
    let waited = posts[1].at - posts[0].at;
    ensure!(!posts[0].taken && waited >= Duration::from_secs(RETRY_AFTER_SECONDS), "it did not wait: {posts:?}");
    ensure!(rollout["outcome"] == "rolled-back", "{rollout:#}");
    Ok(())
}

async fn slack_is_asked(story: &Story) -> Result<()> {
    let slack = Slack::start(SLACKS + story.plane.number(), 0).await?;
    let more = with_slack(&slack, story)?;
    let scene = Scene::begin_with(story, Setup { more, ..Setup::default() }).await?;
    scene.request(V2, &[]).await?;
    let rollout = scene.ended(LONG).await?;
    ensure!(rollout["outcome"] == "given-up", "{rollout:#}");
    story
        .wait_until("the last message", SOON, async || {
            let texts: Vec<String> =
                slack.messages().iter().filter_map(|message| message["text"].as_str().map(str::to_owned)).collect();
            ensure!(texts == ["🟡 test: web v1 → v2 held", "🟡 test: web v1 → v2 given up"], "{texts:?}");
            Ok(())
        })
        .await?;
    let between = slack.posts()[1].at - slack.posts()[0].at;
    ensure!(between >= Duration::from_secs(1), "Slack allows one a second: {between:?}");
    Ok(())
}

async fn an_event_over_http(story: &Story) -> Result<()> {
    let scene = Scene::begin_with(story, Setup { http: "events = true", ..Setup::default() }).await?;
    let (url, workload) = (scene.bellwether.url("/api/v1/events"), scene.workload());
    let http = crate::plane::http_client()?;
    for (headers, body, status, words) in [
        (vec![("content-type", "application/cloudevents+json")], "{", 422, "JSON"),
        (vec![("content-type", "application/json")], "{}", 422, "ce-specversion"),
        (vec![("content-type", "application/json"), ("origin", "https://evil.test")], "{}", 403, "web pages"),
    ] {
        let request =
            headers.iter().fold(http.post(&url).body(body), |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await?;
        let (code, text) = (answer.status().as_u16(), answer.text().await?);
        ensure!(code == status && text.contains(words), "{body} {headers:?}: {code} {text}");
    }
    let load = story.load(100.0)?;
    let base = scene.bellwether.url("");
    let emit = ["emit", "request", "--workload", &workload, "--image", V2, "--id", "posted", "--url", &base];
    let first = scene.bellwether.cli(&emit).await?;
    ensure!(first.code == Some(0), "{first:?}");
    let again = scene.bellwether.cli(&emit).await?;
    ensure!(again.code == Some(0) && again.stdout == first.stdout, "{again:?}");
    let rollout = scene.ended(LONG).await?;
    load.stop().await?;
    ensure!(rollout["outcome"] == "promoted" && rollout["id"] == first.stdout.trim(), "{rollout:#}");
    let starts = scene.decisions().await?.iter().filter(|decision| decision["kind"] == "start").count();
    ensure!(starts == 1, "{starts} rollouts were started");
    Ok(())
}

async fn a_reload(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", "")).await?;
    let setup = |policy: String| Setup { policy, ..Setup::default() };
    scene.configure(&setup(policy("20%", "").replace("max = \"2%\"", "max = \"2s\"")))?;
    scene.bellwether.signal("HUP").await?;
    scene.bellwether.until_logged(&["the new configuration is refused"], SOON).await?;
    // The CLI reads the same file.
    scene.configure(&setup(policy("20%", "")))?;
    let load = story.load(150.0)?;
    // With the old one 5 % are too many, with the new one they are not.
    scene.request("registry.test/shop/web:v2-err5", &[]).await?;
    scene.until(SOON, "on its way", |rollout| rollout["phase"] == "stepping").await?;
    scene.configure(&setup(policy("20%", "").replace("max = \"2%\"", "max = \"20%\"")))?;
    scene.bellwether.signal("HUP").await?;
    scene.bellwether.until_logged(&["policies reloaded"], SOON).await?;
    let old = scene.ended(LONG).await?;
    ensure!(old["outcome"] == "rolled-back", "a rollout did not keep its policy: {old:#}");
    scene.request("registry.test/shop/web:v3-err5", &[]).await?;
    let new = scene.until(LONG, "promoted", |rollout| rollout["outcome"] == "promoted").await?;
    load.stop().await?;
    ensure!(new["policy"] != old["policy"], "{new:#}");
    scene.replays().await
}

async fn by_replicas(story: &Story) -> Result<()> {
    let by_replicas = policy("20% 50%", "").replace("traffic = \"gateway\"", "traffic = \"replicas\"");
    let scene = Scene::begin(story, &by_replicas).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    scene.request(V2, &[]).await?;
    let stepping = scene.until(SOON, "on its way", |rollout| rollout["phase"] == "stepping").await?;
    ensure!(stepping["step"] == json!([1, 2]), "{stepping:#}");
    let canary = story.deployments().get("web-canary").await?;
    // 1 of 5 is 20 %.
    ensure!(canary.spec.and_then(|spec| spec.replicas) == Some(1));
    let rollout = scene.ended(LONG).await?;
    let counts = load.stop().await?;
    ensure!(rollout["outcome"] == "promoted", "{rollout:#}");
    ensure!(counts.failed() == 0 && counts.of_version("v2").total > 0, "{counts:?}");
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.replays().await
}

async fn without_kafka(story: &Story) -> Result<()> {
    let more = "[journal]\nkind = \"embedded\"\npath = \"journal.redb\"\n".to_owned();
    let setup = Setup { more, brokers: "127.0.0.1:9", http: "events = true", ..Setup::default() };
    let mut scene = Scene::begin_with(story, setup).await?;
    let before = story.snapshot().await?;
    let load = story.load(100.0)?;
    let (workload, base) = (scene.workload(), scene.bellwether.url(""));
    let emitted =
        scene.bellwether.cli(&["emit", "request", "--workload", &workload, "--image", V2, "--url", &base]).await?;
    ensure!(emitted.code == Some(0), "{emitted:?}");
    scene.until(SOON, "on its way", |rollout| rollout["phase"] == "stepping").await?;
    scene.bellwether.kill().await?;
    scene.bellwether.start().await?;
    let rollout = scene.ended(LONG).await?;
    load.stop().await?;
    ensure!(rollout["outcome"] == "promoted" && rollout["id"] == emitted.stdout.trim(), "{rollout:#}");
    scene.left_marked(before.with_image("web", "app", V2)).await?;
    scene.bellwether.terminate(SOON).await?;
    scene.replays().await
}
