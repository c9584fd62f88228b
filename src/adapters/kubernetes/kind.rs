//! The kinds of workloads: one provider per [`WorkloadKind`].
//!
//! A provider says which API kinds a workload consists of, where template, size and selector lie in its object, and how
//! its objects, revisions and pods are read. Every other file of the adapter handles workloads of any kind. A further
//! kind is a file under `kind/`, two lines here, a variant of the core's [`WorkloadKind`], and the verbs in the roles
//! of `deploy/kustomize`.

use std::fmt::Debug;

use bellwether_core::ids::{TemplateHash, WorkloadKind};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use serde_json::{Map, Value};

use super::api_kind::ApiKind;
use super::facts::{PodState, RevisionFacts, WorkloadFacts};
use super::providers::providers;
use super::template;

mod deployment;

providers! {
    KINDS, WorkloadKind => KindProvider {
        Deployment: deployment::DeploymentKind,
    }
}

/// The seconds for which a pod of a canary or a baseline is ready before it counts as available, and so before it gets its share
/// of the traffic. A gateway learns of a ready pod a moment after Kubernetes does (Traefik takes up to 2 s), and until then it
/// answers the requests of the share itself, with 500 or 503.
pub const LEAST_READY: u64 = 3;

/// The path of a field in an object, from the outermost key.
pub type FieldPath = &'static [&'static str];

/// The places of the fields of a workload object that Bellwether reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct WorkloadLayout {
    /// The pod template.
    pub template: FieldPath,
    /// The number of replicas requested.
    pub replicas: FieldPath,
    /// The selector of its pods.
    pub selector: FieldPath,
}

/// A kind of workload.
pub trait KindProvider: Debug + Send + Sync {
    /// Returns the kind as workloads name it.
    fn kind(&self) -> WorkloadKind;

    /// Returns the API kind of the workload objects.
    fn api_kind(&self) -> &'static ApiKind;

    /// Returns the API kind of the revisions: the objects between a workload object and its pods, one per template.
    fn revision_kind(&self) -> &'static ApiKind;

    /// Returns the label by which the pods of one revision are told apart from the others of the workload.
    fn revision_label(&self) -> &'static str;

    /// Returns the places of the fields in a workload object.
    fn layout(&self) -> &'static WorkloadLayout;

    /// Returns the facts of a workload object; `None` if it has no name, uid or template.
    fn read(&self, object: &DynamicObject) -> Option<WorkloadFacts>;

    /// Returns the facts of a revision; `None` if no workload of this kind owns it.
    fn read_revision(&self, object: &DynamicObject) -> Option<RevisionFacts>;

    /// Returns the facts of a pod; `None` if no revision of this kind owns it.
    fn read_pod(&self, pod: &Pod) -> Option<PodState>;

    /// Returns whether the workload's controller is told not to roll out changes.
    fn is_paused(&self, object: &DynamicObject) -> bool;

    /// Returns whether the workload's controller removes all pods before it makes new ones.
    fn is_recreated(&self, object: &DynamicObject) -> bool;

    /// Makes a copied `spec` one of a canary or a baseline: it is not paused, and its pods are ready for [`LEAST_READY`] before they
    /// count as available.
    fn adapt_copy(&self, spec: &mut Map<String, Value>);

    /// Returns the pod template of a workload object.
    fn template<'a>(&self, object: &'a DynamicObject) -> Option<&'a Value> {
        get(&object.data, self.layout().template)
    }

    /// Returns the hash of a pod template of this kind.
    fn template_hash(&self, template: &Value) -> TemplateHash {
        template::hash(template, self.revision_label())
    }
}

/// Returns the value at `path`.
pub fn get<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Sets the value at `path`; the objects on the way are created.
pub fn set(object: &mut Value, path: &[&str], value: Value) {
    *path.iter().fold(object, |place, key| &mut place[*key]) = value;
}

#[cfg(test)]
mod tests;
