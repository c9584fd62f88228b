//! The console in a real Chromium, before a daemon that checks tokens by the real API server: `tests/browser/console.mjs` looks at the
//! pages, signs in as two people, and acts.

use anyhow::{Result, ensure};
use bellwether_testkit::plane::fixture::patient_policy;
use bellwether_testkit::plane::paths::cache;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox};
use serde_json::Value;
use tokio::process::Command;

use super::access::{account, acting};
use super::{LONG, Story, V2, story};

pub fn stories() -> Vec<Story> {
    vec![story("browser::people_look_sign_in_and_act_in_the_console", console)]
}

async fn console(sandbox: &Sandbox) -> Result<()> {
    let http = acting(sandbox).await?;
    let operator = account(sandbox, "operator", &["pause", "resume", "abort"]).await?;
    let reader = account(sandbox, "reader", &["approve"]).await?;
    // The step lasts until the last of the people aborts it.
    let policy = patient_policy("20%").replace("min-time = \"8s\"", "min-time = \"10m\"");
    let options = FixtureOptions { policy, http: &http, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let load = sandbox.load(50.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.until(&id, LONG, "in its step", |rollout: &Value| rollout["phase"] == "stepping").await?;

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/console.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(fixture.api()).arg(concat!(env!("CARGO_TARGET_TMPDIR"), "/console")).arg(&id.0);
    node.arg(std::fs::read_to_string(operator)?).arg(std::fs::read_to_string(reader)?);
    let output = node.env("BELLWETHER_CACHE", cache()?).output().await?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("browser: {text}");
    ensure!(output.status.success(), "{text}{errors}");

    let ended = fixture.ended_as(&id, "aborted", LONG).await?;
    load.stop().await?;
    let person = format!("system:serviceaccount:{}:operator", sandbox.namespace);
    let history = ended["history"].as_array().cloned().unwrap_or_default();
    // A pause is a hold in the history.
    for verb in ["hold", "resume", "abort"] {
        let is_theirs = |decision: &&Value| decision["by"].as_str().is_some_and(|by| by.ends_with(&person));
        let decided = history.iter().filter(is_theirs).any(|decision| decision["decision"] == verb);
        ensure!(decided, "no {verb} by {person}: {ended:#}");
    }
    fixture.replays().await
}
