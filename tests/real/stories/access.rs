//! People and pipelines that act over HTTP with the tokens of the cluster.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::daemon::CommandOutput;
use bellwether_testkit::plane::fixture::{history, policy};
use bellwether_testkit::plane::kubernetes::SERVER;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, http, wait};
use serde_json::{Value, json};

use super::{LONG, SOON, Story, V2, story};

pub fn stories() -> Vec<Story> {
    vec![story("access::a_user_acts_by_the_rights_that_the_api_server_gives", rights_of_the_api_server)]
}

/// Creates a service account of the sandbox with verbs on rollouts. Returns the file of its token.
pub(super) async fn account(sandbox: &Sandbox, name: &str, verbs: &[&str]) -> Result<PathBuf> {
    let (kubernetes, namespace) = (&sandbox.plane.kubernetes, &sandbox.namespace);
    let metadata = json!({ "name": name, "namespace": namespace });
    kubernetes.create(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await?;
    let rules = json!([{ "apiGroups": ["bellwether.dev"], "resources": ["rollouts"], "verbs": verbs }]);
    let api = "rbac.authorization.k8s.io/v1";
    kubernetes.create(json!({ "apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules })).await?;
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
    let subjects = json!([{ "kind": "ServiceAccount", "name": name, "namespace": namespace }]);
    let binding = json!({ "apiVersion": api, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": subjects });
    kubernetes.create(binding).await?;
    let kubeconfig = kubernetes.kubeconfig_of_account(namespace, name, SERVER).await?;
    let kubeconfig: Value = serde_json::from_slice(&std::fs::read(&kubeconfig)?)?;
    let token = kubeconfig["users"][0]["user"]["token"].as_str().context("no token")?;
    write(sandbox, &format!("{name}.token"), token)
}

fn write(sandbox: &Sandbox, name: &str, text: &str) -> Result<PathBuf> {
    let file = sandbox.plane.data.join(format!("{}.{name}", sandbox.namespace));
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Lets people act over HTTP with tokens: the daemon's account may ask the API server for users and rights, by the shipped role. Returns
/// the lines of the section `[http]`.
pub(super) async fn acting(sandbox: &Sandbox) -> Result<String> {
    for file in ["cluster-role", "cluster-role-binding"] {
        let path = format!("{}/deploy/kustomize/acting-over-http/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        sandbox.plane.kubernetes.apply_yaml(&std::fs::read_to_string(path)?, None).await?;
    }
    let stamp = write(sandbox, "stamp", &"s".repeat(64))?;
    Ok(format!("events = true\nauthenticate = true\nstamp-key-file = {:?}", stamp.display().to_string()))
}

/// Posts an event with a token.
async fn emit(fixture: &Fixture<'_>, token: &std::path::Path, arguments: &[&str]) -> Result<CommandOutput> {
    let (workload, url, token) = (fixture.workload(), fixture.api(), token.display().to_string());
    let common = ["--workload", &workload, "--url", &url, "--token-file", &token];
    fixture.daemon.cli(&[&["emit"], arguments, &common].concat()).await
}

async fn rights_of_the_api_server(sandbox: &Sandbox) -> Result<()> {
    let http = acting(sandbox).await?;
    let pipeline = account(sandbox, "pipeline", &["request", "approve"]).await?;
    let approver = account(sandbox, "approver", &["approve"]).await?;
    let approval = "\n[[policy.approval]]\nname = \"release\"\nbefore = \"traffic\"\n";
    let policy = policy("20%", approval).replace("max-hold = \"10s\"", "max-hold = \"120s\"");
    let options = FixtureOptions { policy, http: &http, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let load = sandbox.load(150.0)?;

    let forged = write(sandbox, "forged", "eyJhbGciOiJub25lIn0.e30.")?;
    let refused = emit(&fixture, &forged, &["request", "--image", V2]).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("401"), "a wrong token: {refused:?}");
    let refused = emit(&fixture, &approver, &["request", "--image", V2]).await?;
    let names_it = refused.stderr.contains("403") && refused.stderr.contains("no right to request");
    ensure!(refused.code == Some(1) && names_it, "a token without the verb: {refused:?}");

    let asked = emit(&fixture, &pipeline, &["request", "--image", V2]).await?;
    ensure!(asked.code == Some(0), "{asked:?}");
    // The id is known to the sender, although the daemon has appended the user to the source.
    let id = bellwether_core::ids::RolloutId(asked.stdout.trim().to_owned());
    let waits = |rollout: &Value| rollout["held"].as_str().is_some_and(|reason| reason.contains("release"));
    fixture.until(&id, LONG, "waiting for its approval", waits).await?;

    let own = emit(&fixture, &pipeline, &["approve"]).await?;
    ensure!(own.code == Some(0), "it has the right to the verb: {own:?}");
    wait::until("the own approval to be a dead letter", SOON, async || {
        let dead = sandbox.records("events.dlq").await?;
        let texts: Vec<String> = dead.iter().map(|record| format!("{:?}", record.headers)).collect();
        ensure!(texts.iter().any(|text| text.contains("approves their own request")), "{texts:?}");
        Ok(())
    })
    .await?;
    let held = fixture.daemon.rollout(&id).await?.context("no rollout")?;
    ensure!(waits(&held), "the own approval was taken: {held:#}");

    let approved = emit(&fixture, &approver, &["approve", "--reason", "looks well"]).await?;
    ensure!(approved.code == Some(0), "{approved:?}");
    let ended = fixture.ended_as(&id, "promoted", LONG).await?;
    load.stop().await?;
    let by = format!("#user=system:serviceaccount:{}:approver", sandbox.namespace);
    ensure!(history(&ended).any(|(kind, reason)| kind == "approve" && reason.contains(&by)), "{ended:#}");
    let log = fixture.daemon.log();
    let audited = |line: &&str| {
        line.contains("event admitted") && line.contains(&by["#user=".len()..]) && line.contains("127.0.0.1")
    };
    ensure!(log.lines().any(|line| audited(&line)), "no line says who approved, and from where");
    let metrics = http::client()?.get(fixture.daemon.url("/metrics")).send().await?.text().await?;
    for why in ["token", "verb"] {
        let counted = format!("bellwether_http_refused_total{{why=\"{why}\"}} 1");
        ensure!(metrics.contains(&counted), "no {counted}");
    }
    fixture.replays().await
}
