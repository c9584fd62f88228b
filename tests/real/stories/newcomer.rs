//! The way of a new user: a proposed configuration, its examination, and two rollouts by the command line.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::daemon::CommandOutput;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, prometheus, wait};

use super::{LONG, SOON, Story, V2, story};

/// The time of requests before `init`, which counts them between readings of half a minute.
const PAST: Duration = Duration::from_secs(100);

pub fn stories() -> Vec<Story> {
    vec![story("newcomer::the_proposed_configuration_promotes_and_rolls_back", from_init_to_two_rollouts)]
}

async fn from_init_to_two_rollouts(sandbox: &Sandbox) -> Result<()> {
    let mut fixture = Fixture::prepare(sandbox, FixtureOptions::default()).await?;
    let load = sandbox.load(150.0)?;
    tokio::time::sleep(PAST).await;

    let proposed = fixture.daemon.dir.join("proposed.toml");
    let file = proposed.to_str().context("the path is not UTF-8")?;
    let workload = fixture.workload();
    let started = Instant::now();
    let init = fixture.daemon.cli(&["init", &workload, "--prometheus", prometheus::URL, "--to", file]).await?;
    ensure!(init.code == Some(0), "{init:?}");
    let toml = std::fs::read_to_string(&proposed)?;
    println!("init: {:.1} s\n{}\n{toml}", started.elapsed().as_secs_f64(), init.stderr);
    ensure!(
        toml.contains("requests a second") && !init.stderr.contains("guesses"),
        "the requests are not known: {init:?}"
    );
    for choice in
        ["presets = [\"otel-http\"]", "traffic = \"gateway\"", "metric = \"error-rate\"", "registry.test/shop/web"]
    {
        ensure!(toml.contains(choice), "no {choice} in {toml}");
    }
    let check = fixture.daemon.cli(&["check", "--config", file]).await?;
    ensure!(check.code == Some(0), "{check:?}");

    // No daemon runs yet, which is no fault of the configuration.
    fixture.daemon.configure(&hastened(&toml, fixture.daemon.port)?)?;
    let before = doctor(&fixture).await?;
    let asks_to_start = before.stdout.contains("no daemon answers") && before.stdout.contains("`bellwether run`");
    ensure!(before.code == Some(0) && asks_to_start, "{before:?}");
    fixture.daemon.start().await?;
    fixture.daemon.until_ready(SOON).await?;
    wait::until("nothing to mend", SOON, async || {
        let after = doctor(&fixture).await?;
        ensure!(after.code == Some(0) && !after.stdout.contains("no daemon answers"), "{after:?}");
        Ok(())
    })
    .await?;

    let api = fixture.api();
    let status = async |id: &str| fixture.daemon.cli(&["status", id, "--wait", "--api", &api]).await;
    let good = fixture.post_request(V2).await?;
    // The proof needs some thousand requests of each version.
    fixture.ended_as(&good, "promoted", 2 * LONG).await?;
    let promoted = status(&good.0).await?;
    ensure!(promoted.code == Some(0), "{promoted:?}");
    let bad = fixture.post_request("registry.test/shop/web:v3-err50").await?;
    fixture.ended_as(&bad, "rolled-back", LONG).await?;
    let rolled_back = status(&bad.0).await?;
    ensure!(rolled_back.code == Some(3), "{rolled_back:?}");
    let why = fixture.daemon.cli(&["why", &bad.0, "--api", &api]).await?;
    ensure!(why.code == Some(0) && why.stdout.contains("error-rate"), "{why:?}");
    load.stop().await?;
    Ok(())
}

async fn doctor(fixture: &Fixture<'_>) -> Result<CommandOutput> {
    fixture.cli(&["doctor", "--api", &fixture.api()]).await
}

/// Returns the proposal with the port of the daemon, with seconds in place of minutes, without a warm-up, and with a limit of the
/// time that a busy machine keeps.
fn hastened(toml: &str, port: u16) -> Result<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in toml.lines() {
        let key = line.split(" = ").next().unwrap_or_default();
        match key {
            "min-time" => lines.push("min-time = \"10s\"".to_owned()),
            "max" if lines.last().is_some_and(|line| line == "metric = \"response-time\"") => {
                lines.push("max = \"500ms\"".to_owned());
            }
            "for" => lines.push("for = \"10s\"".to_owned()),
            "interval" | "lag" | "scrape-interval" => {}
            _ => lines.push(line.to_owned()),
        }
        match line {
            "[http]" => lines.push(format!("listen = \"127.0.0.1:{port}\"")),
            "[prometheus]" => lines.push("interval = \"1s\"\nlag = \"3s\"\nscrape-interval = \"1s\"".to_owned()),
            "traffic = \"gateway\"" => lines.push("warm-up = \"0s\"".to_owned()),
            "kind = \"embedded\"" => lines.push("path = \"journal.redb\"".to_owned()),
            _ => {}
        }
    }
    let text = lines.join("\n");
    ensure!(text.contains("listen") && text.contains("journal.redb") && text.contains("min-time"), "{toml}");
    Ok(text)
}
