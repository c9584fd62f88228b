//! What is kept of an object, and the [`DeploymentStatus`] that it adds up to.
//!
//! The watches see every Deployment, ReplicaSet and pod of the cluster, so they keep these few facts of each and not the
//! object. A survey reads the same facts from fresh answers: there is one way from objects to an `DeploymentStatus`.

use std::collections::BTreeMap;

use bellwether_core::ids::TemplateHash;
use bellwether_core::input::status::{DeploymentStatus, PodProblem};
use bellwether_core::time::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::Value;

use super::marks::{self, POD_TEMPLATE_HASH};
use super::{owners, template};
use crate::ports::PodTemplate;

/// The states in which a container waits for a person.
const STUCK: [&str; 8] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// A Deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Made by us.
    pub ours: bool,
    /// The uids of its owners.
    pub owners: Vec<String>,
    /// Its pod template, which may hold secrets.
    pub template: PodTemplate,
    /// The labels of its pods.
    pub pod_labels: BTreeMap<String, String>,
    /// What the core is told, but for the parts that other objects know.
    arm: DeploymentStatus,
}

/// A ReplicaSet of a Deployment.
#[derive(Debug, Clone)]
pub struct ReplicaSet {
    /// Its uid.
    pub uid: String,
    /// The Deployment that it belongs to.
    pub deployment: Owner,
    /// Its pods' `pod-template-hash`.
    pub pod_hash: String,
    /// Its template's name.
    pub template: TemplateHash,
    /// Its `deployment.kubernetes.io/revision`.
    pub revision: u64,
    /// Why it can't make pods.
    pub failure: Option<PodProblem>,
}

/// A pod of a ReplicaSet.
#[derive(Debug, Clone)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// The ReplicaSet that it belongs to.
    pub replica_set: Owner,
    /// Its `pod-template-hash`.
    pub pod_hash: String,
    /// When it started; when it was made, as long as it has not.
    pub started: Timestamp,
    /// Restarts by container.
    pub restarts: BTreeMap<String, u32>,
    /// What keeps it from running.
    pub trouble: Option<PodProblem>,
}

/// The controller of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Deployment {
    /// The facts of a Deployment; `None` if it has no name, uid or template.
    pub fn read(object: &DynamicObject) -> Option<Deployment> {
        let metadata = &object.metadata;
        let pod_template = object.data.pointer("/spec/template")?;
        let name = metadata.name.clone()?;
        let hash = template::hash(pod_template);
        let count = |pointer: &str, default: u64| {
            let value = object.data.pointer(pointer).and_then(Value::as_u64).unwrap_or(default);
            u32::try_from(value).unwrap_or(u32::MAX)
        };
        let arm = DeploymentStatus {
            uid: metadata.uid.clone()?,
            template: hash.clone(),
            pod_hash: None,
            images: template::images(pod_template),
            generation: metadata.generation.unwrap_or(0),
            observed_generation: object.data.pointer("/status/observedGeneration").and_then(Value::as_i64).unwrap_or(0),
            replicas: count("/spec/replicas", 1),
            total: count("/status/replicas", 0),
            updated: count("/status/updatedReplicas", 0),
            ready: count("/status/readyReplicas", 0),
            available: count("/status/availableReplicas", 0),
            paused: object.data.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or(false),
            problem: deployment_trouble(&name, &object.data),
            template_by: owners::last_writer(metadata, &["f:spec", "f:template"]).map(str::to_owned),
            replicas_by: owners::last_writer(metadata, &["f:spec", "f:replicas"]).map(str::to_owned),
        };
        Some(Deployment {
            uid: arm.uid.clone(),
            ours: marks::is_ours(metadata),
            owners: metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect(),
            template: PodTemplate::new(hash, pod_template.to_string()),
            pod_labels: template::labels(pod_template),
            name,
            arm,
        })
    }

    /// The arm that this Deployment is, with what its ReplicaSets and pods say.
    pub fn arm<'a>(
        &self,
        replica_sets: impl IntoIterator<Item = &'a ReplicaSet>,
        pods: impl IntoIterator<Item = &'a PodState>,
    ) -> DeploymentStatus {
        let current = replica_sets
            .into_iter()
            .filter(|set| set.deployment.uid == self.uid && set.template == self.arm.template)
            .max_by_key(|set| set.revision);
        let Some(current) = current else { return self.arm.clone() };
        // The first by name, so that two stuck pods do not take turns in the sighting.
        let stuck = pods
            .into_iter()
            .filter(|pod| pod.replica_set.uid == current.uid)
            .filter_map(|pod| pod.trouble.as_ref())
            .min_by(|one, other| one.object.cmp(&other.object));
        DeploymentStatus {
            pod_hash: Some(current.pod_hash.clone()),
            problem: stuck.or(current.failure.as_ref()).or(self.arm.problem.as_ref()).cloned(),
            ..self.arm.clone()
        }
    }
}

impl ReplicaSet {
    /// The facts of a ReplicaSet; `None` if no Deployment owns it.
    pub fn read(object: &DynamicObject) -> Option<ReplicaSet> {
        let metadata = &object.metadata;
        let name = metadata.name.clone()?;
        Some(ReplicaSet {
            uid: metadata.uid.clone()?,
            deployment: controller(metadata, "Deployment")?,
            pod_hash: marks::label(metadata, POD_TEMPLATE_HASH)?.to_owned(),
            template: template::hash(object.data.pointer("/spec/template")?),
            revision: marks::annotation(metadata, "deployment.kubernetes.io/revision")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            failure: condition(&object.data, "ReplicaFailure", "True").map(|(reason, message)| PodProblem {
                object: name.clone(),
                reason,
                message,
            }),
        })
    }
}

impl PodState {
    /// The facts of a pod; `None` if no ReplicaSet owns it.
    pub fn read(pod: &Pod) -> Option<PodState> {
        let metadata = &pod.metadata;
        let status = pod.status.as_ref();
        let started = status.and_then(|status| status.start_time.as_ref()).or(metadata.creation_timestamp.as_ref());
        let going = metadata.deletion_timestamp.is_some();
        Some(PodState {
            name: metadata.name.clone()?,
            replica_set: controller(metadata, "ReplicaSet")?,
            pod_hash: marks::label(metadata, POD_TEMPLATE_HASH)?.to_owned(),
            started: started.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            restarts: containers(pod)
                .map(|status| (status.name.clone(), u32::try_from(status.restart_count).unwrap_or(0)))
                .collect(),
            trouble: if going { None } else { pod_trouble(pod) },
        })
    }
}

fn controller(metadata: &ObjectMeta, kind: &str) -> Option<Owner> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == kind && owner.controller == Some(true))
        .map(|owner| Owner { name: owner.name.clone(), uid: owner.uid.clone() })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

fn pod_trouble(pod: &Pod) -> Option<PodProblem> {
    let object = pod.metadata.name.clone()?;
    let stuck = containers(pod).find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| STUCK.contains(reason))?;
        Some((reason.to_owned(), container_message(status, waiting.message.as_deref().unwrap_or_default())))
    });
    let unschedulable = || {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions.iter().find(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        })?;
        Some(("Unschedulable".to_owned(), condition.message.clone().unwrap_or_default()))
    };
    let (reason, message) = stuck.or_else(unschedulable)?;
    Some(PodProblem { object, reason, message })
}

/// The kubelet's message, and how the container ended last: "back-off 10s restarting failed container" explains nothing.
fn container_message(status: &ContainerStatus, message: &str) -> String {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    match last {
        Some(last) => format!(
            "container {} exited with {}{}; {message}",
            status.name,
            last.exit_code,
            last.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
        ),
        None => format!("container {}: {message}", status.name),
    }
}

/// Failures of the Deployment itself. They count only if they are about its present generation.
fn deployment_trouble(name: &str, data: &Value) -> Option<PodProblem> {
    let refused = condition(data, "Progressing", "False").filter(|(reason, _)| reason == "ReplicaSetCreateError");
    let (reason, message) = refused.or_else(|| condition(data, "ReplicaFailure", "True"))?;
    Some(PodProblem { object: name.to_owned(), reason, message })
}

fn condition(data: &Value, kind: &str, status: &str) -> Option<(String, String)> {
    let conditions = data.pointer("/status/conditions").and_then(Value::as_array)?;
    let text = |condition: &Value, key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    conditions
        .iter()
        .find(|condition| text(condition, "type") == kind && text(condition, "status") == status)
        .map(|condition| (text(condition, "reason"), text(condition, "message")))
}

#[cfg(test)]
mod tests;
