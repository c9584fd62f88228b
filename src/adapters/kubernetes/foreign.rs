//! The policies of other controllers around a workload: those that are attached to its Service by name, and those that
//! select its pods by their labels.
//!
//! The kinds are read only if the API server has their group, in the first version that knows them.

use bellwether_core::ids::Workload;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Map, Value};

/// The label that Cilium gives to every pod for its namespace.
const CILIUM_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The sources that Cilium writes before a label's key.
const CILIUM_SOURCES: [&str; 2] = ["k8s:", "any:"];

/// A kind of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignKind {
    /// The API group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The name in URLs and RBAC rules.
    pub plural: &'static str,
    /// Whether a policy of another namespace may name pods of this one.
    pub reaches_out: bool,
}

/// All kinds of policies that are read.
pub const KINDS: [ForeignKind; 6] = [
    kind("cilium.io", "CiliumNetworkPolicy", "ciliumnetworkpolicies", true),
    kind("gateway.networking.k8s.io", "BackendTLSPolicy", "backendtlspolicies", false),
    kind("networking.gke.io", "GCPBackendPolicy", "gcpbackendpolicies", false),
    kind("networking.gke.io", "HealthCheckPolicy", "healthcheckpolicies", false),
    kind("networking.istio.io", "DestinationRule", "destinationrules", false),
    kind("security.istio.io", "AuthorizationPolicy", "authorizationpolicies", false),
];

const fn kind(group: &'static str, kind: &'static str, plural: &'static str, reaches_out: bool) -> ForeignKind {
    ForeignKind { group, kind, plural, reaches_out }
}

impl ForeignKind {
    /// Returns the kind in this version for kube's untyped API.
    pub fn resource(&self, version: &str) -> ApiResource {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(self.group, version, self.kind), self.plural)
    }
}

/// A policy as it was read.
#[derive(Debug, Clone)]
pub struct ForeignPolicy {
    /// Its kind.
    pub kind: &'static str,
    /// The object.
    pub object: DynamicObject,
}

impl ForeignPolicy {
    /// Returns kind and name for messages; with the namespace if it is another one than the workload's.
    pub fn title(&self, workload: &Workload) -> String {
        let name = self.object.metadata.name.as_deref().unwrap_or_default();
        match self.namespace() {
            namespace if namespace == workload.namespace => format!("{} {name}", self.kind),
            namespace => format!("{} {namespace}/{name}", self.kind),
        }
    }

    /// Returns whether it is attached to the Service `service` in the workload's namespace: by a target reference, or by
    /// the host of an Istio DestinationRule.
    pub fn is_attached(&self, service: &str, workload: &Workload) -> bool {
        self.namespace() == workload.namespace
            && (self.targets().any(|target| is_service(target, service, workload))
                || self.spec().get("host").and_then(Value::as_str).is_some_and(|host| is_host(host, service, workload)))
    }

    /// Returns every selector of the policy for pods of the workload's namespace.
    pub fn selectors(&self, workload: &Workload) -> Vec<LabelSelector> {
        let mut found = Vec::new();
        collect_selectors(self.spec(), &mut found);
        let is_here = self.namespace() == workload.namespace;
        found.retain(|selector| is_here || names_namespace(selector));
        found
    }

    fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn spec(&self) -> &Value {
        self.object.data.get("spec").unwrap_or(&Value::Null)
    }

    fn targets(&self) -> impl Iterator<Item = &Value> {
        let list = self.spec().get("targetRefs").and_then(Value::as_array).into_iter().flatten();
        self.spec().get("targetRef").into_iter().chain(list)
    }
}

/// Returns the label that every pod of a namespace has for Cilium.
pub fn namespace_label(workload: &Workload) -> (String, String) {
    (CILIUM_NAMESPACE.to_owned(), workload.namespace.clone())
}

fn is_service(target: &Value, service: &str, workload: &Workload) -> bool {
    let text = |key| target.get(key).and_then(Value::as_str);
    text("kind") == Some("Service")
        && text("name") == Some(service)
        && text("namespace").is_none_or(|namespace| namespace == workload.namespace)
}

/// Returns whether a host is the Service's name: alone, or with the namespace and `svc`, and any domain after it.
fn is_host(host: &str, service: &str, workload: &Workload) -> bool {
    let rest = host.strip_prefix(service).map(|rest| rest.split('.').skip(1).take(2).collect::<Vec<_>>());
    let is_whole = host.get(service.len()..).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    is_whole
        && rest.is_some_and(|rest| match rest[..] {
            [] => true,
            [namespace] => namespace == workload.namespace,
            [namespace, svc, ..] => namespace == workload.namespace && svc == "svc",
        })
}

/// Adds every label selector in `value`, with the keys of labels as pods have them.
fn collect_selectors(value: &Value, found: &mut Vec<LabelSelector>) {
    match value {
        Value::Object(entries) if entries.contains_key("matchLabels") || entries.contains_key("matchExpressions") => {
            found.extend(serde_json::from_value(without_sources(entries)));
        }
        Value::Object(entries) => entries.values().for_each(|value| collect_selectors(value, found)),
        Value::Array(items) => items.iter().for_each(|value| collect_selectors(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

fn without_sources(selector: &Map<String, Value>) -> Value {
    let plain = |key: &str| CILIUM_SOURCES.iter().find_map(|source| key.strip_prefix(source)).unwrap_or(key).to_owned();
    let mut selector = selector.clone();
    if let Some(labels) = selector.get_mut("matchLabels").and_then(Value::as_object_mut) {
        *labels = labels.iter().map(|(key, value)| (plain(key), value.clone())).collect();
    }
    for part in selector.get_mut("matchExpressions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(key) = part.get("key").and_then(Value::as_str).map(plain) {
            part["key"] = Value::String(key);
        }
    }
    Value::Object(selector)
}

fn names_namespace(selector: &LabelSelector) -> bool {
    let by_label = selector.match_labels.as_ref().is_some_and(|labels| labels.contains_key(CILIUM_NAMESPACE));
    by_label || selector.match_expressions.iter().flatten().any(|part| part.key == CILIUM_NAMESPACE)
}
