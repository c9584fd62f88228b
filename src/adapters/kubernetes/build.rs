//! Builds the objects of a canary and of a fresh baseline from the stable's. Nothing here reads from a server.
//!
//! Two workload objects must never adopt each other's pods. Adoption follows the controller's owner reference, so the
//! stable's selector may match the canary's pods too when traffic is split by the number of pods (its Service has to).
//! The canary's own selector has one more label ([`TRACK`]) and matches no pod of the stable. A fresh baseline always
//! gets the stable's traffic, with every router: it is built like a canary without a changed label and without changed
//! images.

use std::collections::BTreeMap;

use bellwether_core::ids::{Images, Workload};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::kind::{self, KindProvider};
use super::marks::{CANARY, CHANGED_LABEL, MANAGED_BY, MANAGER, PREFIX, TRACK};
use super::{owners, template};

/// The longest value of a label, in bytes.
const MAX_LABEL: usize = 63;
/// The fields of the stable's Service that decide how its traffic reaches the pods, besides ports and selector.
const KEPT_IN_SERVICE: [&str; 5] =
    ["ipFamilies", "ipFamilyPolicy", "sessionAffinity", "sessionAffinityConfig", "trafficDistribution"];
const CANARY_SUFFIX: &str = "-canary";
/// The annotation by which Argo CD tracks its objects.
const ARGO_TRACKING_ID: &str = "argocd.argoproj.io/tracking-id";
/// The label by which Argo CD tracks its objects, unless it tracks by annotation. Helm charts set it too.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// Prefixes of the keys by which other tools find their objects, or note their writes on the stable.
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

/// The differences of a canary or a baseline from the stable.
#[derive(Debug, Clone)]
pub struct ObjectShape<'a> {
    /// The workload that it belongs to.
    pub workload: &'a Workload,
    /// The value of [`TRACK`] and the end of the objects' name: [`CANARY`] or [`BASELINE`](super::marks::BASELINE).
    pub track: &'static str,
    /// The images that differ from the stable's.
    pub images: &'a Images,
    /// The number of pods.
    pub replicas: u32,
    /// The label whose value differs on its pods, so that the stable's Service does not select them; `None` if the
    /// Service has to select them.
    pub changed_label: Option<&'a str>,
    /// The annotations of Bellwether, by key.
    pub annotations: &'a BTreeMap<String, String>,
}

impl ObjectShape<'_> {
    /// Returns the name of its objects.
    pub fn name(&self) -> String {
        format!("{}-{}", self.workload.name, self.track)
    }

    fn kind(&self) -> &'static dyn KindProvider {
        kind::provider(self.workload.kind)
    }
}

/// Returns the labels of the pods of a canary or a baseline, from those of the stable's pods.
pub fn pod_labels(
    kind: &dyn KindProvider,
    stable: &BTreeMap<String, String>,
    changed_label: Option<&str>,
    track: &str,
) -> BTreeMap<String, String> {
    let mut labels = stable.clone();
    labels.remove(kind.revision_label());
    if let Some(value) = changed_label.and_then(|key| labels.get_mut(key)) {
        *value = canary_value(value);
    }
    labels.insert(TRACK.to_owned(), track.to_owned());
    labels
}

/// Returns the changed value of a label: `web` becomes `web-canary`, cut to the longest value of a label.
pub fn canary_value(value: &str) -> String {
    match value.get(..value.len().min(MAX_LABEL - CANARY_SUFFIX.len())) {
        None | Some("") => CANARY.to_owned(),
        Some(beginning) => format!("{beginning}{CANARY_SUFFIX}"),
    }
}

/// Returns the workload object of a canary or a baseline, for server-side apply.
pub fn workload_object(stable: &DynamicObject, shape: &ObjectShape<'_>) -> Value {
    let kind = shape.kind();
    let layout = kind.layout();
    let stable_template = kind.template(stable).cloned().unwrap_or_default();
    let labels = pod_labels(kind, &template::labels(&stable_template), shape.changed_label, shape.track);
    let mut pods = template::with_images(&stable_template, shape.images);
    pods["metadata"]["labels"] = json!(labels);
    if let Some(metadata) = pods["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    let mut spec = stable.data.get("spec").cloned().unwrap_or_else(|| json!({}));
    if let Some(spec) = spec.as_object_mut() {
        kind.adapt_copy(spec);
    }
    let mut built = json!({ "spec": spec });
    let stable_selector = kind::get(&stable.data, layout.selector).unwrap_or(&Value::Null);
    kind::set(&mut built, layout.selector, selector(stable_selector, &labels, shape.changed_label));
    kind::set(&mut built, layout.replicas, json!(shape.replicas));
    kind::set(&mut built, layout.template, pods);
    let mut metadata = metadata(&stable.metadata, stable, shape);
    if let Some(key) = shape.changed_label {
        metadata["annotations"][CHANGED_LABEL] = json!(key);
        if let Some(Value::String(value)) = metadata["labels"].get_mut(key) {
            *value = canary_value(value);
        }
    }
    built["apiVersion"] = json!(kind.api_kind().api_version());
    built["kind"] = json!(kind.api_kind().kind);
    built["metadata"] = metadata;
    built
}

/// Returns the canary's Service, for server-side apply: the ports and the kept fields of the stable's Service, with a
/// selector of the canary's pods.
pub fn service(service: &Service, stable: &DynamicObject, shape: &ObjectShape<'_>) -> Value {
    let written = json!(service.spec);
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
    for field in KEPT_IN_SERVICE {
        if let Some(value) = written.get(field) {
            built[field] = value.clone();
        }
    }
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

/// Returns the stable's selector with the values of `labels`. It omits expressions on the changed label, which would
/// not match the changed value.
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

/// Returns the metadata of an object that is a copy of the one with the metadata `copied`. The stable owns it.
fn metadata(copied: &ObjectMeta, stable: &DynamicObject, shape: &ObjectShape<'_>) -> Value {
    let api_kind = shape.kind().api_kind();
    let labels = copied_labels(copied, shape.track);
    let mut annotations = copy(copied.annotations.as_ref());
    annotations.extend(shape.annotations.clone());
    json!({
        "name": shape.name(),
        "namespace": shape.workload.namespace,
        "labels": labels,
        "annotations": annotations,
        // The stable is not its controller: other tools take the pods of a controlled object for the controller's.
        "ownerReferences": [{
            "apiVersion": api_kind.api_version(),
            "kind": api_kind.kind,
            "name": stable.metadata.name,
            "uid": stable.metadata.uid,
            "controller": false,
            "blockOwnerDeletion": false,
        }],
    })
}

/// Returns the labels of a copy of the object with the metadata `copied`. A label by which Argo CD tracks the object is
/// left out.
pub fn copied_labels(copied: &ObjectMeta, track: &str) -> BTreeMap<String, String> {
    let tracked_by_label = owners::is_argo(copied) && !has(copied.annotations.as_ref(), ARGO_TRACKING_ID);
    let mut labels = copy(copied.labels.as_ref());
    if tracked_by_label {
        labels.remove(INSTANCE);
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(TRACK.to_owned(), track.to_owned());
    labels
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
