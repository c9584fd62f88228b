//! `apps/v1` Deployments: the pods of one template belong to a ReplicaSet, which belongs to the Deployment.

use bellwether_core::ids::WorkloadKind;
use bellwether_core::input::status::{DeploymentStatus, PodProblem};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::{KindProvider, LEAST_READY, WorkloadLayout, get};
use crate::adapters::kubernetes::api_kind::ApiKind;
use crate::adapters::kubernetes::facts::{PodState, RevisionFacts, WorkloadFacts, controller};
use crate::adapters::kubernetes::{marks, owners, template};
use crate::ports::PodTemplate;

const DEPLOYMENT: ApiKind = ApiKind { group: "apps", version: "v1", kind: "Deployment", plural: "deployments" };
const REPLICA_SET: ApiKind = ApiKind { group: "apps", version: "v1", kind: "ReplicaSet", plural: "replicasets" };
/// The label that the Deployment controller gives to a ReplicaSet and its pods.
const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// The annotation with the number of a ReplicaSet among those of its Deployment.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The default of `progressDeadlineSeconds`.
const PROGRESS_DEADLINE: u64 = 600;

const LAYOUT: WorkloadLayout = WorkloadLayout {
    template: &["spec", "template"],
    replicas: &["spec", "replicas"],
    selector: &["spec", "selector"],
};

/// The provider of Deployments.
#[derive(Debug)]
pub struct DeploymentKind;

impl KindProvider for DeploymentKind {
    fn kind(&self) -> WorkloadKind {
        WorkloadKind::Deployment
    }

    fn api_kind(&self) -> &'static ApiKind {
        &DEPLOYMENT
    }

    fn revision_kind(&self) -> &'static ApiKind {
        &REPLICA_SET
    }

    fn revision_label(&self) -> &'static str {
        POD_TEMPLATE_HASH
    }

    fn layout(&self) -> &'static WorkloadLayout {
        &LAYOUT
    }

    fn read(&self, object: &DynamicObject) -> Option<WorkloadFacts> {
        let metadata = &object.metadata;
        let pod_template = self.template(object)?;
        let name = metadata.name.clone()?;
        let hash = self.template_hash(pod_template);
        let count = |value: Option<&Value>, default: u64| {
            u32::try_from(value.and_then(Value::as_u64).unwrap_or(default)).unwrap_or(u32::MAX)
        };
        let status = |field: &str| get(&object.data, &["status", field]);
        let last_writer = |path| owners::last_writer(metadata, path).map(str::to_owned);
        let own_status = DeploymentStatus {
            uid: metadata.uid.clone()?,
            template: hash.clone(),
            pod_hash: None,
            images: template::images(pod_template),
            generation: metadata.generation.unwrap_or(0),
            observed_generation: status("observedGeneration").and_then(Value::as_i64).unwrap_or(0),
            replicas: count(get(&object.data, LAYOUT.replicas), 1),
            total: count(status("replicas"), 0),
            updated: count(status("updatedReplicas"), 0),
            ready: count(status("readyReplicas"), 0),
            available: count(status("availableReplicas"), 0),
            restarts: 0,
            pods_since: None,
            paused: self.is_paused(object),
            problem: deployment_problem(&name, &object.data),
            template_by: last_writer(LAYOUT.template),
            replicas_by: last_writer(LAYOUT.replicas),
        };
        Some(WorkloadFacts {
            uid: own_status.uid.clone(),
            ours: marks::is_ours(metadata),
            owners: metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect(),
            released: marks::release(metadata),
            has_own_service: marks::has_own_service(metadata),
            template: PodTemplate::new(hash, pod_template.to_string()),
            pod_labels: template::labels(pod_template),
            name,
            own_status: Box::new(own_status),
        })
    }

    fn read_revision(&self, object: &DynamicObject) -> Option<RevisionFacts> {
        let metadata = &object.metadata;
        let name = metadata.name.clone()?;
        Some(RevisionFacts {
            uid: metadata.uid.clone()?,
            workload: controller(metadata, DEPLOYMENT.kind)?,
            pod_hash: marks::label(metadata, POD_TEMPLATE_HASH)?.to_owned(),
            template: self.template_hash(get(&object.data, &["spec", "template"])?),
            number: marks::annotation(metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0),
            failure: condition(&object.data, "ReplicaFailure", "True").map(|(reason, message)| PodProblem {
                object: name.clone(),
                reason,
                message,
                pods: 1,
            }),
        })
    }

    fn read_pod(&self, pod: &Pod) -> Option<PodState> {
        let metadata = &pod.metadata;
        let revision = controller(metadata, REPLICA_SET.kind)?;
        PodState::read(pod, revision, marks::label(metadata, POD_TEMPLATE_HASH)?)
    }

    fn is_paused(&self, object: &DynamicObject) -> bool {
        get(&object.data, &["spec", "paused"]).and_then(Value::as_bool) == Some(true)
    }

    fn is_recreated(&self, object: &DynamicObject) -> bool {
        get(&object.data, &["spec", "strategy", "type"]).and_then(Value::as_str) == Some("Recreate")
    }

    fn adapt_copy(&self, spec: &mut Map<String, Value>) {
        spec.remove("paused");
        let seconds = |key, default| spec.get(key).and_then(Value::as_u64).unwrap_or(default);
        let ready = seconds("minReadySeconds", 0).max(LEAST_READY);
        // The API server refuses a Deployment whose pods can't be available before its deadline.
        if ready < seconds("progressDeadlineSeconds", PROGRESS_DEADLINE) {
            spec.insert("minReadySeconds".to_owned(), json!(ready));
        }
    }
}

/// Returns the failure that the Deployment itself reports: it can't create its ReplicaSet or its pods.
fn deployment_problem(name: &str, data: &Value) -> Option<PodProblem> {
    let refused = condition(data, "Progressing", "False").filter(|(reason, _)| reason == "ReplicaSetCreateError");
    let (reason, message) = refused.or_else(|| condition(data, "ReplicaFailure", "True"))?;
    Some(PodProblem { object: name.to_owned(), reason, message, pods: 1 })
}

/// Returns reason and message of the condition with this type and status.
fn condition(data: &Value, kind: &str, status: &str) -> Option<(String, String)> {
    let conditions = get(data, &["status", "conditions"]).and_then(Value::as_array)?;
    let text = |condition: &Value, key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    conditions
        .iter()
        .find(|condition| text(condition, "type") == kind && text(condition, "status") == status)
        .map(|condition| (text(condition, "reason"), text(condition, "message")))
}

#[cfg(test)]
mod tests;
