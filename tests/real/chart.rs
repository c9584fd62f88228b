//! The Helm chart in `deploy/helm`: it is linted and rendered with each of its examples of values, refuses values by name, and
//! makes the same objects as the kustomizations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::lint::{files, program, root, succeeds, trial};

/// Returns the trials. They need helm and kustomize, and not the plane.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("chart::helm_passes_the_chart_with_each_example_of_values", linted),
        trial("chart::values_that_cannot_be_used_are_refused_with_their_name", refused),
        trial("chart::the_chart_makes_the_objects_of_the_kustomizations", same_objects),
        trial("chart::the_plain_manifest_has_the_objects_of_the_kustomization", plain_manifest),
        trial("chart::the_program_takes_the_configuration_and_the_variables_of_the_chart", taken_by_the_program),
        trial("chart::a_change_of_the_configuration_alone_restarts_the_pods", restarts),
        trial("chart::an_alert_links_to_the_runbook_of_the_values", runbook),
    ]
}

/// The chart, by its path in the checkout.
pub const CHART: &str = "deploy/helm/bellwether";

// ---- rendering ----

/// The chart's objects in a namespace, under the name `bellwether`, with further arguments of `helm template`.
///
/// # Errors
/// Helm refuses the chart or its values.
pub fn rendered(namespace: &str, arguments: &[&str]) -> Result<Vec<Value>> {
    documents(&helm_template(namespace, arguments)?)
}

/// The objects of a kustomization.
///
/// # Errors
/// Kustomize refuses it.
pub fn kustomized(folder: &Path) -> Result<Vec<Value>> {
    documents(&Command::new(program("kustomize")?).arg("build").arg(folder).output()?)
}

/// A copy of `deploy/kustomize`, with an overlay `acting` that adds the component to the base.
///
/// # Errors
/// The files can't be copied.
pub fn kustomizations() -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    let from = root().join("deploy/kustomize/.");
    succeeds(Command::new("cp").arg("-R").arg(from).arg(copy.path()))?;
    let overlay = copy.path().join("acting");
    fs::create_dir(&overlay)?;
    fs::write(overlay.join("kustomization.yaml"), "resources: [../base]\ncomponents: [../acting-over-http]\n")?;
    Ok(copy)
}

/// The examples of values, which the chart keeps for tests.
///
/// # Errors
/// The folder can't be read.
pub fn examples() -> Result<Vec<PathBuf>> {
    files(&format!("{CHART}/ci"))
}

fn chart() -> PathBuf {
    root().join(CHART)
}

fn helm_template(namespace: &str, arguments: &[&str]) -> Result<Output> {
    let mut helm = Command::new(program("helm")?);
    helm.args(["template", "bellwether"]).arg(chart()).args(["--namespace", namespace]).args(arguments);
    Ok(helm.output()?)
}

/// Runs a command of helm on a cluster. Returns its standard output.
///
/// # Errors
/// The command fails.
pub async fn helm(kubeconfig: &Path, namespace: &str, arguments: &[&str]) -> Result<String> {
    let mut helm = tokio::process::Command::new(program("helm")?);
    helm.args(arguments).arg("--kubeconfig").arg(kubeconfig).args(["--namespace", namespace]).current_dir(root());
    let output = helm.output().await?;
    ensure!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The objects that a program has written as YAML.
fn documents(output: &Output) -> Result<Vec<Value>> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parsed(output.stdout.clone())
}

/// The objects in YAML.
fn parsed(yaml: Vec<u8>) -> Result<Vec<Value>> {
    let text = format!("\n{}", String::from_utf8(yaml)?);
    let documents = text.split("\n---\n").filter(|document| !document.trim().is_empty());
    documents.map(|document| serde_saphyr::from_str(document).with_context(|| document.to_owned())).collect()
}

/// The first of the objects with this kind.
///
/// # Errors
/// There is none.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind).with_context(|| format!("there is no {kind}"))
}

// ---- trials ----

fn linted() -> Result<()> {
    for values in [None].into_iter().chain(examples()?.into_iter().map(Some)) {
        let mut helm = Command::new(program("helm")?);
        helm.args(["lint", "--strict"]).arg(chart());
        if let Some(values) = values {
            helm.arg("--values").arg(values);
        }
        succeeds(&mut helm)?;
    }
    Ok(())
}

fn refused() -> Result<()> {
    let file = "files.a.secret=s,files.a.key=k";
    for (set, part) in [
        ("replica=3", "'replica' not allowed"),
        ("replicas=two", "'/replicas': got string, want integer"),
        ("image.digest=latest", "'/image/digest'"),
        ("journal.kind=file", "'/journal/kind': value must be one of 'kafka', 'embedded'"),
        ("journal.accessModes={ReadWriteMany}", "'/journal/accessModes/0'"),
        ("namespaces={Shop}", "'/namespaces/0'"),
        ("files.a.secret=s", "'/files/a': missing property 'key'"),
        (&format!("{file},files.a.configMap=c"), "'/files/a': 'oneOf' failed"),
        (&format!("{file},files.a.setting=Kafka"), "'/files/a/setting'"),
        ("networkPolicy.from[0].pods=all", "'/networkPolicy/from/0'"),
        ("prometheusRule.runbook=docs", "'/prometheusRule/runbook'"),
        ("policies.bellwether=x", "policies.bellwether would be the file of `config`"),
        ("journal.kind=embedded", "replicas is 2, and an embedded journal belongs to one process: set replicas=1"),
        ("journal.kind=embedded,replicas=1", "acting.enabled is false: set acting.enabled=true"),
    ] {
        let output = helm_template("bellwether", &["--set", set])?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && message.contains(part), "--set {set}: {message}");
    }
    Ok(())
}

fn same_objects() -> Result<()> {
    let kustomizations = kustomizations()?;
    for (folder, namespace, set) in [
        ("base", "bellwether", "image.tag=latest"),
        ("namespaced", "shop", "image.tag=latest,namespaces={shop}"),
        ("acting", "bellwether", "image.tag=latest,acting.enabled=true"),
    ] {
        let of_chart = comparable(&rendered(namespace, &["--set", set])?)?;
        let of_folder = comparable(&kustomized(&kustomizations.path().join(folder))?)?;
        ensure!(of_folder.len() >= 9, "{folder} has only {:?}", of_folder.keys());
        let names: BTreeSet<&String> = of_chart.keys().chain(of_folder.keys()).collect();
        for name in names {
            let (ours, theirs) = (of_chart.get(name), of_folder.get(name));
            ensure!(
                ours == theirs,
                "{name} of the chart ({set}): {ours:#?}\n{name} of kustomize/{folder}: {theirs:#?}"
            );
        }
    }
    Ok(())
}

fn plain_manifest() -> Result<()> {
    let plain = fs::read(root().join("deploy/bellwether.yaml"))?;
    let build = Command::new(program("kustomize")?).arg("build").arg(root().join("deploy/kustomize/base")).output()?;
    let written = parsed(plain)?;
    let remedy = "write deploy/bellwether.yaml again; its head has the command";
    ensure!(written.len() >= 9 && written == documents(&build)?, "{remedy}");
    Ok(())
}

/// The objects by kind and name, without the differences that are meant: the namespace and `helm test`, labels and annotations, the
/// pull policy, and the names of objects without a namespace, which carry that of the release in the chart.
fn comparable(objects: &[Value]) -> Result<BTreeMap<String, Value>> {
    let mut comparable = BTreeMap::new();
    for object in objects.iter().filter(|object| object["kind"] != "Namespace" && object["kind"] != "Pod") {
        let text = object.to_string();
        let text = text.replace("bellwether:bellwether:", "bellwether-").replace("bellwether:bellwether", "bellwether");
        let mut object: Value = serde_json::from_str(&text)?;
        let metadata = object["metadata"].as_object_mut().context("an object without metadata")?;
        metadata.remove("labels");
        strip(&mut object, &["annotations", "imagePullPolicy", "app.kubernetes.io/instance"]);
        comparable.insert(format!("{} {}", object["kind"], object["metadata"]["name"]), object);
    }
    Ok(comparable)
}

/// Removes keys at any depth.
fn strip(value: &mut Value, keys: &[&str]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !keys.contains(&key.as_str()));
            fields.values_mut().for_each(|field| strip(field, keys));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn taken_by_the_program() -> Result<()> {
    for values in examples()? {
        let values = values.to_str().context("the path is not UTF-8")?;
        let objects = rendered("bellwether", &["--values", values])?;
        let folder = tempfile::tempdir()?;
        for (name, text) in of_kind(&objects, "ConfigMap")?["data"].as_object().context("no data")? {
            fs::write(folder.path().join(name), text.as_str().context("not a text")?)?;
        }
        let mut check = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        check.arg("check").arg("--config").arg(folder.path()).env_clear();
        let container = &of_kind(&objects, "StatefulSet")?["spec"]["template"]["spec"]["containers"][0];
        for variable in container["env"].as_array().context("no variables")? {
            // The name of the pod, which the kubelet gives.
            let value = variable["value"].as_str().unwrap_or("bellwether-0");
            check.env(variable["name"].as_str().context("a variable without a name")?, value);
        }
        succeeds(&mut check).context(values.to_owned())?;
    }
    Ok(())
}

fn restarts() -> Result<()> {
    let template = |set: &str| -> Result<Value> {
        let objects = rendered("bellwether", &["--set", set])?;
        Ok(of_kind(&objects, "StatefulSet")?["spec"]["template"].clone())
    };
    let before = template("replicas=2")?;
    ensure!(template("config=cluster=\"edge\"")? != before, "a new configuration does not restart the pods");
    ensure!(template("policies.shop=x")? == before, "a new policy restarts the pods, and a reload would do");
    Ok(())
}

fn runbook() -> Result<()> {
    for (runbook, begin) in
        [("", "docs/runbook.md#"), ("https://docs.example/runbook", "https://docs.example/runbook#")]
    {
        let set = format!("prometheusRule.enabled=true,prometheusRule.runbook={runbook}");
        let objects = rendered("bellwether", &["--set", &set])?;
        let rules = of_kind(&objects, "PrometheusRule")?["spec"]["groups"][0]["rules"].clone();
        let rules = rules.as_array().context("no rules")?;
        let links =
            |rule: &Value| rule["annotations"]["runbook_url"].as_str().is_some_and(|url| url.starts_with(begin));
        ensure!(rules.len() > 5 && rules.iter().all(links), "{rules:#?}");
    }
    Ok(())
}
