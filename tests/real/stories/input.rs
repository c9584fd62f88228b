//! What people get wrong, on the real parts: each mistake has a clear answer, and nothing is lost or left behind by it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::scene::{GOOD, Scene, Setup, policy};
use super::{Told, told};
use crate::plane::story::{STRUCTURED, Story, request};

const V2: &str = "registry.test/shop/web:v2";
const SOON: Duration = Duration::from_secs(60);

pub fn stories() -> Vec<Told> {
    vec![
        told("input::check_online_has_nothing_to_complain_about", nothing_to_complain_about),
        told("input::check_online_finds_what_a_rollout_would_meet", check_online_finds_it),
        told("input::a_limit_at_no_edge_ends_it_before_any_traffic", a_limit_at_no_edge),
        told("input::a_wrong_configuration_ends_the_daemon_with_every_mistake", a_wrong_configuration),
        told("input::without_kafka_the_daemon_does_not_start", without_kafka_it_does_not_start),
        told("input::a_forbidden_verb_is_named", a_forbidden_verb_is_named),
        told("input::what_cannot_be_done_goes_to_the_dead_letters", what_cannot_be_done),
        told("input::an_image_that_fits_two_containers_is_refused", an_image_that_fits_two),
        told("input::a_service_without_a_route_is_refused", a_service_without_a_route),
    ]
}

async fn nothing_to_complain_about(story: &Story) -> Result<()> {
    let setup = Setup { namespaced: Some(("", "")), ..Setup::default() };
    let scene = Scene::begin_with(story, setup).await?;
    // Until somebody has called it, nobody can say that its metrics are there.
    story.send(50.0, 50).await?;
    story
        .wait_until("a check without complaints", SOON, async || {
            let output = scene.cli(&["check", "--online"]).await?;
            ensure!(output.code == Some(0) && output.stdout.ends_with("Nothing to complain about.\n"), "{output:?}");
            for area in ["✔ config", "✔ kafka", "✔ prometheus", "✔ rbac", "✔ policy"] {
                ensure!(output.stdout.contains(area), "{output:?}");
            }
            Ok(())
        })
        .await
}

async fn check_online_finds_it(story: &Story) -> Result<()> {
    let no_edge = policy("20%", "").replace("max = \"500ms\"", "max = \"333ms\"");
    let routes = r#"resources: ["httproutes"], verbs: ["list", "watch", "patch"]"#;
    let setup = Setup {
        policy: no_edge,
        routed: false,
        namespaced: Some((routes, &routes.replace(", \"patch\"", ""))),
        ..Setup::default()
    };
    let scene = Scene::set(story, setup).await?;
    // The load needs a route, the check none to what it does not ask about: scraped pods are enough for its buckets.
    for pod in story.plane.pods.of(&story.namespace) {
        crate::plane::http_client()?.get(format!("http://{}:8080/", pod.address)).send().await?;
    }
    story
        .wait_until("a check that finds everything", SOON, async || {
            let output = scene.cli(&["check", "--online"]).await?;
            ensure!(output.code == Some(1), "{output:?}");
            for text in [
                "may not patch httproutes.gateway.networking.k8s.io in namespace",
                "no HTTPRoute in the namespace sends traffic to Service web",
                "response-time: 333 ms is not an edge of http_server_request_duration_seconds; the nearest are 250 ms and 500 ms",
                "missing",
            ] {
                ensure!(output.stdout.contains(text), "no {text:?} in {output:?}");
            }
            Ok(())
        })
        .await?;
    let output = scene.cli(&["check", "--online", "--output", "json"]).await?;
    let findings: Vec<Value> = serde_json::from_str(&output.stdout).context("JSON")?;
    ensure!(findings.iter().any(|finding| finding["level"] == "problem"), "{findings:#?}");
    // It only looked.
    ensure!(
        story.records("events").await?.is_empty()
            && scene.writes()?.iter().all(|write| write.contains("selfsubjectaccessreviews")),
        "{:?}",
        scene.writes()?
    );
    Ok(())
}

async fn a_limit_at_no_edge(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", "").replace("max = \"500ms\"", "max = \"333ms\"")).await?;
    let before = story.snapshot().await?;
    let load = story.load(50.0)?;
    // Without a single request there are no buckets to look at.
    let buckets = format!("http_server_request_duration_seconds_bucket{{namespace={:?}}}", story.namespace);
    let prometheus = &story.plane.prometheus;
    story
        .wait_until("buckets, as old as the probe looks for", SOON, async || {
            let found = prometheus.query(&buckets, jiff::Timestamp::now() - Duration::from_secs(4)).await?;
            ensure!(!found.is_empty(), "none");
            Ok(())
        })
        .await?;
    let id = scene.request(V2, &[]).await?;
    let rollout = scene.ended(SOON).await?;
    let counts = load.stop().await?;
    ensure!(rollout["outcome"] == "refused" && rollout["id"] == id.as_str(), "{rollout:#}");
    let why = rollout["reason"].as_str().context("reason")?;
    ensure!(why.contains("333 ms is not an edge") && why.contains("250 ms and 500 ms"), "{why}");
    ensure!(counts.of_version("v2").total == 0, "it had traffic: {counts:?}");
    scene.left_as_it_was(before).await
}

async fn a_wrong_configuration(story: &Story) -> Result<()> {
    let wrong = policy("20%", "").replace("max = \"2%\"", "max = \"2s\"").replace("traffic =", "trafic =");
    let mut scene = Scene::set(story, Setup { policy: wrong, ..Setup::default() }).await?;
    scene.bellwether.start_unready()?;
    let code = scene.bellwether.ended(SOON).await?;
    let log = scene.bellwether.log();
    ensure!(code == Some(1), "{code:?}: {log}");
    for text in ["trafic", "did you mean `traffic`", "\"2s\" is not a percentage", "bellwether.toml:"] {
        ensure!(log.contains(text), "no {text:?} in {log}");
    }
    ensure!(story.records("journal").await?.is_empty());
    Ok(())
}

async fn without_kafka_it_does_not_start(story: &Story) -> Result<()> {
    let mut scene = Scene::set(story, Setup { brokers: "127.0.0.1:9", ..Setup::default() }).await?;
    scene.bellwether.start_unready()?;
    let code = scene.bellwether.ended(SOON).await?;
    let log = scene.bellwether.log();
    ensure!(code == Some(1), "{code:?}: {log}");
    ensure!(log.contains("no broker of kafka.brokers = \"127.0.0.1:9\" answers"), "{log}");
    Ok(())
}

async fn a_forbidden_verb_is_named(story: &Story) -> Result<()> {
    let services = r#"verbs: ["get", "list", "watch", "create", "patch", "delete"]"#;
    let all_of_services = format!("resources: [\"services\"], {services}");
    let less = all_of_services.replace(", \"create\"", "").replace(", \"patch\"", "");
    let setup = Setup { namespaced: Some((&all_of_services, &less)), ..Setup::default() };
    let scene = Scene::begin_with(story, setup).await?;
    let before = story.snapshot().await?;
    scene.request(V2, &[]).await?;
    let rollout = scene.ended(SOON).await?;
    ensure!(rollout["outcome"] == "refused", "{rollout:#}");
    let why = rollout["reason"].as_str().context("reason")?;
    ensure!(why.contains("apply-canary was refused") && why.contains("patch") && why.contains("services"), "{why}");
    scene.left_as_it_was(before).await
}

async fn what_cannot_be_done(story: &Story) -> Result<()> {
    let scene = Scene::begin(story, &policy("20%", "")).await?;
    let before = story.snapshot().await?;
    let workload = scene.workload();
    let other = workload.replace("/web", "/other");
    let cases = [
        (
            "an image that the policy does not let in",
            json!({ "workload": story.workload("web"), "image": "docker.io/evil/web:1" }),
            "does not allow image docker.io/evil/web:1",
        ),
        ("no image", json!({ "workload": story.workload("web") }), "names no image"),
        (
            "another policy",
            json!({ "workload": story.workload("web"), "image": V2, "policy": "none" }),
            "no policy \"none\" covers",
        ),
        ("a field that there is not", json!({ "workload": story.workload("web"), "imgae": V2 }), "imgae"),
    ];
    // The same bytes each time: they are looked for among the dead letters.
    let at = jiff::Timestamp::now();
    for (what, content, _) in &cases {
        story.produce("events", Some(&workload), &[STRUCTURED], &request(what, content, at)).await?;
    }
    story.produce("events", Some("any"), &[STRUCTURED], b"{ no json").await?;
    let dead = story
        .wait_until("five dead letters", SOON, async || {
            let dead = story.records("events.dlq").await?;
            ensure!(dead.len() == 5, "{dead:?}");
            Ok(dead)
        })
        .await?;
    for (what, content, why) in &cases {
        let letter = dead.iter().find(|letter| letter.value.as_deref() == Some(&*request(what, content, at)));
        let letter = letter.with_context(|| format!("{what}: its bytes are not among the dead letters"))?;
        ensure!(letter.headers.values().any(|header| header.contains(why)), "{what}: {:?}", letter.headers);
    }
    // A workload that is not there is no fault of the event's form: it is a rollout that is refused.
    let output = scene.cli(&["emit", "request", "--workload", &other, "--image", V2]).await?;
    let id = output.stdout.trim().to_owned();
    let api = scene.api();
    let status = scene.bellwether.cli(&["status", &id, "--wait", "--timeout", "30s", "--api", &api]).await?;
    ensure!(
        status.code == Some(1) && status.stdout.contains(&format!("workload {other} does not exist")),
        "{status:?}"
    );
    // The partition has gone on.
    let id = scene.request(GOOD, &[]).await?;
    let status = scene.bellwether.cli(&["status", &id, "--wait", "--timeout", "30s", "--api", &api]).await?;
    ensure!(status.stdout.contains("runs these images already"), "{status:?}");
    scene.left_as_it_was(before).await
}

async fn an_image_that_fits_two(story: &Story) -> Result<()> {
    let containers = [("app", GOOD), ("twin", "registry.test/shop/web:v1")];
    let scene = Scene::begin_with(story, Setup { containers: &containers, ..Setup::default() }).await?;
    let before = story.snapshot().await?;
    scene.request(V2, &[]).await?;
    let rollout = scene.ended(SOON).await?;
    let why = rollout["reason"].as_str().context("reason")?;
    ensure!(
        rollout["outcome"] == "refused" && why.contains("containers app and twin run images of the repository"),
        "{rollout:#}"
    );
    scene.left_as_it_was(before).await
}

async fn a_service_without_a_route(story: &Story) -> Result<()> {
    let scene = Scene::begin_with(story, Setup { routed: false, ..Setup::default() }).await?;
    let before = story.snapshot().await?;
    scene.request(V2, &[]).await?;
    let rollout = scene.ended(SOON).await?;
    let why = rollout["reason"].as_str().context("reason")?;
    ensure!(
        rollout["outcome"] == "refused" && why.contains("no HTTPRoute in the namespace sends traffic to Service web"),
        "{rollout:#}"
    );
    scene.left_as_it_was(before).await
}
