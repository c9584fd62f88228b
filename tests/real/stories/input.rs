//! Mistakes of users: each gets a clear answer, and nothing is lost or left behind.

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::RolloutId;
use bellwether_testkit::plane::daemon::CommandOutput;
use bellwether_testkit::plane::fixture::{STABLE, policy};
use bellwether_testkit::plane::specs::{STRUCTURED, request};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, http, wait};
use serde_json::{Value, json};

use super::{SOON, Story, V2, story};

pub fn stories() -> Vec<Story> {
    vec![
        story("input::check_online_passes_a_correct_setup", correct_setup),
        story("input::check_online_names_every_problem_of_a_setup", setup_with_problems),
        story("input::a_limit_between_bucket_edges_is_refused_before_any_traffic", limit_between_edges),
        story("input::an_invalid_configuration_ends_the_daemon_with_all_its_mistakes", invalid_configuration),
        story("input::a_missing_right_refuses_the_rollout_and_is_named", missing_right),
        story("input::invalid_requests_become_dead_letters", invalid_requests),
        story("input::an_image_that_fits_two_containers_is_refused", image_that_fits_two),
        story("input::a_service_without_a_route_is_refused", service_without_a_route),
    ]
}

/// Waits until the rollout is refused, and returns the reason.
async fn reason_of_refusal(fixture: &Fixture<'_>, id: &RolloutId) -> Result<String> {
    let rollout = fixture.ended_as(id, "refused", SOON).await?;
    Ok(rollout["reason"].as_str().context("reason")?.to_owned())
}

async fn correct_setup(sandbox: &Sandbox) -> Result<()> {
    let options = FixtureOptions { namespaced: Some(("", "")), ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    // The metrics exist from the first requests on.
    sandbox.send(50.0, 50).await?;
    wait::until("a check without problems", SOON, async || {
        let output = fixture.cli(&["check", "--online"]).await?;
        ensure!(output.code == Some(0) && output.stdout.ends_with("No problems.\n"), "{output:?}");
        for area in ["✔ config", "✔ kafka", "✔ prometheus", "✔ rbac", "✔ policy"] {
            ensure!(output.stdout.contains(area), "{output:?}");
        }
        Ok(())
    })
    .await
}

async fn setup_with_problems(sandbox: &Sandbox) -> Result<()> {
    let between_edges = policy("20%", "").replace("max = \"500ms\"", "max = \"333ms\"");
    let routes = r#"resources: ["httproutes"], verbs: ["list", "watch", "patch"]"#;
    let options = FixtureOptions {
        policy: between_edges,
        routed: false,
        namespaced: Some((routes, &routes.replace(", \"patch\"", ""))),
        ..FixtureOptions::default()
    };
    let fixture = Fixture::prepare(sandbox, options).await?;
    // Traffic needs a route, and there is none. The check needs the histogram only, which one request to a pod creates.
    for pod in sandbox.plane.pods.of(&sandbox.namespace) {
        http::client()?.get(format!("http://{}:8080/", pod.address)).send().await?;
    }
    wait::until("a check that names every problem", SOON, async || {
        let output = fixture.cli(&["check", "--online"]).await?;
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
    let output = fixture.cli(&["check", "--online", "--output", "json"]).await?;
    let findings: Vec<Value> = serde_json::from_str(&output.stdout).context("JSON")?;
    ensure!(findings.iter().any(|finding| finding["level"] == "problem"), "{findings:#?}");
    // The check has written nothing.
    let (events, writes) = (sandbox.records("events").await?, fixture.writes()?);
    let is_question = |write: &String| write.contains("selfsubjectaccessreviews");
    ensure!(events.is_empty() && writes.iter().all(is_question), "{events:?} {writes:?}");
    Ok(())
}

async fn limit_between_edges(sandbox: &Sandbox) -> Result<()> {
    let policy = policy("20%", "").replace("max = \"500ms\"", "max = \"333ms\"");
    let fixture = Fixture::start(sandbox, &policy).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(50.0)?;
    // The histogram exists from the first request on.
    let buckets = format!("http_server_request_duration_seconds_bucket{{namespace={:?}}}", sandbox.namespace);
    let prometheus = &sandbox.plane.prometheus;
    wait::until("buckets at the time that the probe reads", SOON, async || {
        let found = prometheus.query(&buckets, jiff::Timestamp::now() - std::time::Duration::from_secs(4)).await?;
        ensure!(!found.is_empty(), "there are none");
        Ok(())
    })
    .await?;
    let id = fixture.request(V2, &[]).await?;
    let reason = reason_of_refusal(&fixture, &id).await?;
    let counts = load.stop().await?;
    ensure!(reason.contains("333 ms is not an edge") && reason.contains("250 ms and 500 ms"), "{reason}");
    ensure!(counts.of_version("v2").total == 0, "the canary had traffic: {counts:?}");
    fixture.cleaned_up(before).await
}

async fn invalid_configuration(sandbox: &Sandbox) -> Result<()> {
    let policy = policy("20%", "").replace("max = \"2%\"", "max = \"2s\"").replace("traffic =", "trafic =");
    let options = FixtureOptions { policy, ..FixtureOptions::default() };
    let mut fixture = Fixture::prepare(sandbox, options).await?;
    fixture.daemon.spawn()?;
    let code = fixture.daemon.ended(SOON).await?;
    let log = fixture.daemon.log();
    ensure!(code == Some(1), "exit code {code:?}: {log}");
    for text in ["trafic", "did you mean `traffic`", "\"2s\" is not a percentage", "bellwether.toml:"] {
        ensure!(log.contains(text), "no {text:?} in {log}");
    }
    ensure!(sandbox.records("journal").await?.is_empty());
    Ok(())
}

async fn missing_right(sandbox: &Sandbox) -> Result<()> {
    let services = r#"resources: ["services"], verbs: ["get", "list", "watch", "create", "patch", "delete"]"#;
    let fewer = services.replace(", \"create\"", "").replace(", \"patch\"", "");
    let options = FixtureOptions { namespaced: Some((services, &fewer)), ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let id = fixture.request(V2, &[]).await?;
    let reason = reason_of_refusal(&fixture, &id).await?;
    let names_the_act = reason.contains("apply-canary was refused");
    ensure!(names_the_act && reason.contains("create") && reason.contains("services"), "{reason}");
    fixture.cleaned_up(before).await
}

/// Waits by `bellwether status --wait` until a rollout has ended.
async fn status(fixture: &Fixture<'_>, id: &str) -> Result<CommandOutput> {
    fixture.daemon.cli(&["status", id, "--wait", "--timeout", "30s", "--api", &fixture.api()]).await
}

async fn invalid_requests(sandbox: &Sandbox) -> Result<()> {
    let fixture = Fixture::start(sandbox, &policy("20%", "")).await?;
    let before = sandbox.specs().await?;
    let (web, key) = (sandbox.workload("web"), fixture.workload());
    let cases = [
        (
            "an image that the policy refuses",
            json!({ "workload": web, "image": "docker.io/evil/web:1" }),
            "does not allow image docker.io/evil/web:1",
        ),
        ("no image", json!({ "workload": web }), "names no image"),
        ("an unknown policy", json!({ "workload": web, "image": V2, "policy": "none" }), "no policy \"none\" covers"),
        ("an unknown field", json!({ "workload": web, "imgae": V2 }), "imgae"),
    ];
    // One timestamp for all, so that the same bytes can be found among the dead letters.
    let at = jiff::Timestamp::now();
    for (case, content, _) in &cases {
        sandbox.produce("events", Some(&key), &[STRUCTURED], &request(case, content, at)).await?;
    }
    sandbox.produce("events", Some("any"), &[STRUCTURED], b"{ not json").await?;
    let dead = wait::until("five dead letters", SOON, async || {
        let dead = sandbox.records("events.dlq").await?;
        ensure!(dead.len() == 5, "{dead:?}");
        Ok(dead)
    })
    .await?;
    for (case, content, problem) in &cases {
        let letter = dead.iter().find(|letter| letter.value.as_deref() == Some(&*request(case, content, at)));
        let letter = letter.with_context(|| format!("{case}: its bytes are not among the dead letters"))?;
        ensure!(letter.headers.values().any(|header| header.contains(problem)), "{case}: {:?}", letter.headers);
    }
    // A request for a missing workload is valid, and its rollout is refused.
    let missing = key.replace("/web", "/other");
    let output = fixture.cli(&["emit", "request", "--workload", &missing, "--image", V2]).await?;
    let status = status(&fixture, output.stdout.trim()).await?;
    ensure!(
        status.code == Some(1) && status.stdout.contains(&format!("workload {missing} does not exist")),
        "{status:?}"
    );
    // The daemon still reads the partition.
    let id = fixture.request(STABLE, &[]).await?;
    let status = self::status(&fixture, &id.0).await?;
    ensure!(status.stdout.contains("runs these images already"), "{status:?}");
    fixture.cleaned_up(before).await
}

async fn image_that_fits_two(sandbox: &Sandbox) -> Result<()> {
    let containers = [("app", STABLE), ("twin", "registry.test/shop/web:v0")];
    let options = FixtureOptions { containers: &containers, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let id = fixture.request(V2, &[]).await?;
    let reason = reason_of_refusal(&fixture, &id).await?;
    ensure!(reason.contains("containers app and twin run images of the repository"), "{reason}");
    fixture.cleaned_up(before).await
}

async fn service_without_a_route(sandbox: &Sandbox) -> Result<()> {
    let options = FixtureOptions { routed: false, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let id = fixture.request(V2, &[]).await?;
    let reason = reason_of_refusal(&fixture, &id).await?;
    ensure!(reason.contains("no HTTPRoute in the namespace sends traffic to Service web"), "{reason}");
    fixture.cleaned_up(before).await
}
