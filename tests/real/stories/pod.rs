//! The shipped image as a pod of the shipped chart: its root file system, user, arguments, variables, files and rights. A kubelet
//! would run it in the same way; the plane has none.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::daemon::PodCommand;
use bellwether_testkit::plane::kubernetes::SERVER;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox};
use kube::api::DeleteParams;
use serde_json::Value;

use super::{LONG, Story, V2, story};
use crate::{chart, image};

/// The folder that the kubelet mounts into every container, in its root file system.
const ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount";
/// The name of the pod.
const POD: &str = "bellwether-0";
/// The chart's objects that the daemon's rights and configuration consist of.
const KINDS: [&str; 4] = ["ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding"];

pub fn stories() -> Vec<Story> {
    vec![story("pod::the_image_promotes_and_rolls_back_as_a_pod_of_the_chart", rollouts)]
}

async fn rollouts(sandbox: &Sandbox) -> Result<()> {
    let mut fixture = Fixture::prepare(sandbox, FixtureOptions::default()).await?;
    let objects = chart_of(sandbox, &fixture)?;
    let applied: Vec<&Value> =
        objects.iter().filter(|object| KINDS.iter().any(|kind| object["kind"] == *kind)).collect();
    ensure!(applied.len() >= KINDS.len(), "{applied:#?}");
    for object in &applied {
        sandbox.plane.kubernetes.apply(object, true).await?;
    }
    let folder = tempfile::tempdir()?;
    let files = image::root_file_system(folder.path())?;
    mount(sandbox, &objects, &files).await?;
    image::set_writable(&files, false)?;
    fixture.daemon.run_as(command(&fixture, &objects, &files)?);
    fixture.user = format!("system:serviceaccount:{}:bellwether", sandbox.namespace);
    let judged = judge(sandbox, &mut fixture).await;
    image::set_writable(&files, true)?;
    for object in applied.into_iter().filter(|object| object["metadata"]["namespace"].is_null()) {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).context("no text");
        let all = sandbox.plane.kubernetes.objects(text("/apiVersion")?, text("/kind")?, None);
        all.delete(text("/metadata/name")?, &DeleteParams::default()).await?;
    }
    judged
}

/// Checks the process, and runs a rollout of a good and of a bad version.
async fn judge(sandbox: &Sandbox, fixture: &mut Fixture<'_>) -> Result<()> {
    fixture.run().await?;
    let status = fs::read_to_string(format!("/proc/{}/status", fixture.daemon.pid()?))?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| format!("{name} is missing"))
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        ensure!(u64::from_str_radix(value(set)?, 16)? == 0, "the daemon has capabilities: {status}");
    }
    ensure!(value("NoNewPrivs:")? == "1", "{status}");

    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.request(V2, &[]).await?;
    fixture.ended_as(&id, "promoted", LONG).await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    let bad = fixture.request("registry.test/shop/web:v3-err50", &[]).await?;
    let rollout = fixture.ended_as(&bad, "rolled-back", LONG).await?;
    load.stop().await?;
    ensure!(rollout["reason"].as_str().is_some_and(|why| why.starts_with("error-rate")), "{}", rollout["reason"]);
    fixture.replays().await
}

/// Returns the chart's objects with the fixture's configuration.
fn chart_of(sandbox: &Sandbox, fixture: &Fixture<'_>) -> Result<Vec<Value>> {
    let config = format!("config={}", fixture.daemon.config().display());
    chart::rendered(&sandbox.namespace, &["--set-file", &config])
}

/// Writes the files that a kubelet would mount: the ConfigMap, and those of the service account.
async fn mount(sandbox: &Sandbox, objects: &[Value], files: &Path) -> Result<()> {
    let (namespace, kubernetes) = (&sandbox.namespace, &sandbox.plane.kubernetes);
    let config = files.join("etc/bellwether");
    fs::create_dir_all(&config)?;
    for (name, text) in chart::of_kind(objects, "ConfigMap")?["data"].as_object().context("no data")? {
        fs::write(config.join(name), text.as_str().context("no text")?)?;
    }
    let account = files.join(ACCOUNT);
    fs::create_dir_all(&account)?;
    fs::write(account.join("token"), kubernetes.token_of_account(namespace, "bellwether").await?)?;
    fs::copy(kubernetes.certificate(), account.join("ca.crt"))?;
    fs::write(account.join("namespace"), namespace)?;
    Ok(())
}

/// Returns the command of the pod's container. Its port is the fixture's, because the pods of the plane share the addresses.
fn command(fixture: &Fixture<'_>, objects: &[Value], files: &Path) -> Result<PodCommand> {
    let container = &chart::of_kind(objects, "StatefulSet")?["spec"]["template"]["spec"]["containers"][0];
    let mut words = image::words(files);
    let arguments = container["args"].as_array().context("no arguments")?;
    words.extend(arguments.iter().filter_map(Value::as_str).map(Into::into));
    let address = SERVER.strip_prefix("https://").context("the server has another scheme")?;
    let (host, port) = address.rsplit_once(':').context("the server has no port")?;
    let mut variables = vec![
        ("KUBERNETES_SERVICE_HOST".to_owned(), host.to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_owned()),
    ];
    for variable in container["env"].as_array().context("no variables")? {
        let name = variable["name"].as_str().context("no name")?;
        let value = match (variable["value"].as_str(), variable["valueFrom"]["fieldRef"]["fieldPath"].as_str()) {
            (Some("0.0.0.0:8080"), _) => format!("0.0.0.0:{}", fixture.daemon.port),
            (Some(value), _) => value.to_owned(),
            (None, Some("metadata.name")) => POD.to_owned(),
            _ => anyhow::bail!("the value of {name} is not known here"),
        };
        variables.push((name.to_owned(), value));
    }
    Ok(PodCommand { words, variables })
}
