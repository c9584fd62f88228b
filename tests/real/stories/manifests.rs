//! The shipped manifests on a real API server, which checks each object as `kubectl apply --dry-run=server` does.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::Sandbox;
use bellwether_testkit::plane::kubernetes::ControlPlane;
use bellwether_testkit::plane::paths::cache;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Story, exclusive_story, story};
use crate::chart;

/// Returns the stories of this file.
pub fn stories() -> Vec<Story> {
    vec![
        // Other stories are about a cluster without the Prometheus operator's definitions.
        exclusive_story("manifests::the_api_server_takes_every_object_and_the_restricted_standard_every_pod", objects),
        story("manifests::helm_installs_upgrades_and_removes_the_chart", release),
    ]
}

/// The definitions of the Prometheus operator, without the operator.
const DEFINITIONS: [&str; 2] = ["servicemonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com"];

async fn objects(sandbox: &Sandbox) -> Result<()> {
    let kubernetes = &sandbox.plane.kubernetes;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces = kubernetes.objects("v1", "Namespace", None);
    namespaces.patch(&sandbox.namespace, &PatchParams::default(), &Patch::Merge(label)).await?;

    let taken = taken(sandbox, kubernetes).await;
    let definitions = kubernetes.objects("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
    for name in DEFINITIONS {
        let _ = definitions.delete(name, &DeleteParams::default()).await;
    }
    taken
}

async fn taken(sandbox: &Sandbox, kubernetes: &ControlPlane) -> Result<()> {
    kubernetes.install_definitions(&cache()?.join("monitoring")).await?;
    let (mut count, mut pods) = (0, Vec::new());
    for (place, mut objects) in shipped()? {
        for object in &mut objects {
            if object["metadata"]["namespace"].is_string() {
                object["metadata"]["namespace"] = json!(sandbox.namespace);
            }
            // A pod is refused without its account, so that one is kept.
            let keeps = object["kind"] == "ServiceAccount";
            kubernetes.apply(object, keeps).await.with_context(|| place.clone())?;
        }
        for set in objects.iter().filter(|object| object["kind"] == "StatefulSet") {
            let pod = pod_of(set)?;
            kubernetes.apply(&pod, false).await.with_context(|| format!("{place}: a pod of the StatefulSet"))?;
            pods.push(pod);
        }
        count += objects.len();
    }
    ensure!(count > 60 && pods.len() >= 8, "only {count} objects and {} StatefulSets were tried", pods.len());

    // The checks can fail.
    let mut pod = pods.remove(0);
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = kubernetes.apply(&pod, false).await.err().context("a pod may gain privileges")?;
    ensure!(format!("{refused:#}").contains("violates PodSecurity"), "{refused:#}");
    let mut pod = pods.remove(0);
    pod["spec"]["enableServiceLink"] = json!(false);
    let refused = kubernetes.apply(&pod, false).await.err().context("an unknown field is taken")?;
    ensure!(format!("{refused:#}").contains("enableServiceLink"), "{refused:#}");
    Ok(())
}

async fn release(sandbox: &Sandbox) -> Result<()> {
    let kubernetes = &sandbox.plane.kubernetes;
    let roles = kubernetes.objects("rbac.authorization.k8s.io/v1", "ClusterRole", None);
    let sets = kubernetes.objects("apps/v1", "StatefulSet", Some(&sandbox.namespace));
    let helm = async |arguments: &[&str]| chart::helm(&kubernetes.kubeconfig(), &sandbox.namespace, arguments).await;

    let notes = helm(&["install", "bellwether", chart::CHART, "--set", "acting.enabled=true"]).await?;
    ensure!(notes.contains("helm test bellwether") && notes.contains("bellwether-stamp"), "{notes}");
    let role = format!("{}:bellwether", sandbox.namespace);
    roles.get(&role).await?;
    roles.get(&format!("{role}:reviews")).await?;

    let values = "namespaces={NAMESPACE},replicas=3".replace("NAMESPACE", &sandbox.namespace);
    let notes = helm(&["upgrade", "bellwether", chart::CHART, "--set", &values]).await?;
    ensure!(notes.contains(&format!("for {}.", sandbox.namespace)), "{notes}");
    ensure!(sets.get("bellwether").await?.data["spec"]["replicas"] == 3);
    ensure!(roles.get_opt(&role).await?.is_none(), "the ClusterRole {role} is left");

    helm(&["uninstall", "bellwether"]).await?;
    ensure!(sets.get_opt("bellwether").await?.is_none(), "the StatefulSet is left");
    Ok(())
}

/// Returns the objects of the chart with its defaults and with each example, and those of each kustomization.
fn shipped() -> Result<Vec<(String, Vec<Value>)>> {
    let mut shipped = vec![("the chart".to_owned(), chart::rendered("bellwether", &[])?)];
    for values in chart::examples()? {
        let values = values.to_str().context("the path is not UTF-8")?;
        shipped.push((values.to_owned(), chart::rendered("bellwether", &["--values", values])?));
    }
    let kustomizations = chart::kustomizations()?;
    for folder in ["base", "namespaced", "acting"] {
        let objects = chart::kustomized(&kustomizations.path().join(Path::new(folder)))?;
        shipped.push((format!("kustomize/{folder}"), objects));
    }
    Ok(shipped)
}

/// Returns a pod as the controller of the StatefulSet would make it.
fn pod_of(set: &Value) -> Result<Value> {
    let template = &set["spec"]["template"];
    let mut spec = template["spec"].clone();
    let volumes = spec["volumes"].as_array_mut().context("no volumes")?;
    for claim in set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let name = &claim["metadata"]["name"];
        volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "bellwether-0",
            "namespace": set["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
        },
        "spec": spec,
    }))
}
