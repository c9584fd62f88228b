//! The canary's objects and the fresh baseline's, made from the stable's. Nothing here asks a server.
//!
//! Two Deployments must never touch each other's pods. Adoption follows the controller's owner reference, so it is safe
//! that by replica ratio the stable's selector matches the canary's pods too (its Service has to); the canary's own
//! selector has one label more ([`TRACK`]) and matches no pod of the stable in either mode. A fresh baseline is always in the
//! stable's traffic, whoever splits it: it is a canary by replica ratio that changes no image.

use std::collections::BTreeMap;

use bellwether_core::ids::{Images, Workload};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::marks::{CANARY, CHANGED_LABEL, MANAGED_BY, MANAGER, POD_TEMPLATE_HASH, PREFIX, TRACK};
use super::{owners, template};

const MAX_LABEL: usize = 63;
const CANARY_SUFFIX: &str = "-canary";
const ARGO_TRACKING_ID: &str = "argocd.argoproj.io/tracking-id";
/// Argo CD's label for what it tracks, unless it tracks by annotation. Helm charts set it too.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// Keys by which other tools find what is theirs, or remember what they did to the original.
const NOT_COPIED: [&str; 9] = [
    "argocd.argoproj.io/",
    "deployment.kubernetes.io/",
    "external-dns.alpha.kubernetes.io/",
    "helm.sh/",
    "helm.toolkit.fluxcd.io/",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kustomize.toolkit.fluxcd.io/",
    "meta.helm.sh/",
    PREFIX,
];

/// What a canary, or a baseline, is to be.
#[derive(Debug, Clone)]
pub struct ObjectShape<'a> {
    /// Of which workload.
    pub workload: &'a Workload,
    /// [`CANARY`] or [`BASELINE`](super::marks::BASELINE): the value of [`TRACK`], and the end of its name.
    pub track: &'static str,
    /// The images that differ from the stable's.
    pub images: &'a Images,
    /// How many pods.
    pub replicas: u32,
    /// The label whose value the canary's pods change, so that the stable's Service does not select them; `None`: by
    /// replica ratio it has to.
    pub changed_label: Option<&'a str>,
    /// Our marks.
    pub annotations: &'a BTreeMap<String, String>,
}

impl ObjectShape<'_> {
    /// The name of its objects.
    pub fn name(&self) -> String {
        format!("{}-{}", self.workload.name, self.track)
    }
}

/// The labels of its pods.
pub fn pod_labels(
    stable: &BTreeMap<String, String>,
    changed_label: Option<&str>,
    track: &str,
) -> BTreeMap<String, String> {
    let mut labels = stable.clone();
    labels.remove(POD_TEMPLATE_HASH);
    if let Some(value) = changed_label.and_then(|key| labels.get_mut(key)) {
        *value = canary_value(value);
    }
    labels.insert(TRACK.to_owned(), track.to_owned());
    labels
}

/// The changed value: `web` becomes `web-canary`, cut so that it stays a label's value.
pub fn canary_value(value: &str) -> String {
    match value.get(..value.len().min(MAX_LABEL - CANARY_SUFFIX.len())) {
        None | Some("") => CANARY.to_owned(),
        Some(beginning) => format!("{beginning}{CANARY_SUFFIX}"),
    }
}

/// Its Deployment, for server-side apply.
pub fn deployment(stable: &DynamicObject, shape: &ObjectShape<'_>) -> Value {
    let mut spec = stable.data.get("spec").cloned().unwrap_or_else(|| json!({}));
    let stable_template = spec.get("template").cloned().unwrap_or_default();
    let labels = pod_labels(&template::labels(&stable_template), shape.changed_label, shape.track);
    let mut pods = template::with_images(&stable_template, shape.images);
    pods["metadata"]["labels"] = json!(labels);
    if let Some(metadata) = pods["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    spec["selector"] = selector(&spec["selector"], &labels, shape.changed_label);
    spec["replicas"] = json!(shape.replicas);
    spec["template"] = pods;
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("paused");
    }
    let mut metadata = metadata(&stable.metadata, stable, shape);
    if let Some(key) = shape.changed_label {
        metadata["annotations"][CHANGED_LABEL] = json!(key);
        if let Some(Value::String(value)) = metadata["labels"].get_mut(key) {
            *value = canary_value(value);
        }
    }
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec })
}

/// The canary's Service, for server-side apply: the stable's ports, the canary's pods.
pub fn service(service: &Service, stable: &DynamicObject, shape: &ObjectShape<'_>) -> Value {
    let spec = service.spec.clone().unwrap_or_default();
    let mut wanted: BTreeMap<String, String> = spec.selector.unwrap_or_default();
    if let Some(value) = shape.changed_label.and_then(|key| wanted.get_mut(key)) {
        *value = canary_value(value);
    }
    wanted.insert(TRACK.to_owned(), shape.track.to_owned());
    let mut ports = json!(spec.ports.unwrap_or_default());
    for port in ports.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
    let mut built = json!({ "type": "ClusterIP", "selector": wanted, "ports": ports });
    if spec.cluster_ip.as_deref() == Some("None") {
        built["clusterIP"] = json!("None");
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(&service.metadata, stable, shape),
        "spec": built,
    })
}

/// The stable's selector with the canary's values. An expression about the changed label would contradict them.
fn selector(stable: &Value, labels: &BTreeMap<String, String>, changed_label: Option<&str>) -> Value {
    let mut wanted: Map<String, Value> = stable
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| Some((key.clone(), json!(labels.get(key)?))))
        .collect();
    for key in changed_label.into_iter().chain([TRACK]) {
        if let Some(value) = labels.get(key) {
            wanted.insert(key.to_owned(), json!(value));
        }
    }
    let mut built = json!({ "matchLabels": wanted });
    let expressions: Vec<&Value> = stable
        .get("matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|expression| expression.get("key").and_then(Value::as_str) != changed_label)
        .collect();
    if !expressions.is_empty() {
        built["matchExpressions"] = json!(expressions);
    }
    built
}

fn metadata(copied: &ObjectMeta, stable: &DynamicObject, shape: &ObjectShape<'_>) -> Value {
    let tracked_by_label = owners::is_argo(copied) && !has(copied.annotations.as_ref(), ARGO_TRACKING_ID);
    let mut labels = copy(copied.labels.as_ref());
    if tracked_by_label {
        labels.remove(INSTANCE);
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(TRACK.to_owned(), shape.track.to_owned());
    let mut annotations = copy(copied.annotations.as_ref());
    annotations.extend(shape.annotations.clone());
    json!({
        "name": shape.name(),
        "namespace": shape.workload.namespace,
        "labels": labels,
        "annotations": annotations,
        // Not the controller: the Deployment controller would take no notice, but others go by it.
        "ownerReferences": [{
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": stable.metadata.name,
            "uid": stable.metadata.uid,
            "controller": false,
            "blockOwnerDeletion": false,
        }],
    })
}

fn copy(entries: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .flatten()
        .filter(|(key, _)| !NOT_COPIED.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn has(entries: Option<&BTreeMap<String, String>>, key: &str) -> bool {
    entries.is_some_and(|entries| entries.contains_key(key))
}

#[cfg(test)]
mod tests;
