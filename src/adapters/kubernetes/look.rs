//! A survey: one fresh look at a workload and at everything around it. Two rounds of parallel reads, because which pods,
//! ReplicaSets and claims matter is said by the Deployment.

use bellwether_core::ids::Workload;
use bellwether_core::input::event::Failure;
use bellwether_core::input::status::{DeploymentStatus, Preflight, WorkloadStatus};
use bellwether_core::policy::Traffic;
use futures::future::try_join_all;
use futures::try_join;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ListParams};
use kube::core::{DynamicObject, Selector};
use serde_json::Value;

use super::facts::{Deployment, PodState, ReplicaSet};
use super::preflight::{self, Surroundings};
use super::server::{Server, replica_set_type};
use super::{marks, route};
use crate::ports::PodTemplate;

/// Looks at the workload, and at all that may stand in a canary's way.
///
/// # Errors
/// A read failed.
pub async fn preflight(
    server: &Server,
    workload: &Workload,
    traffic: &Traffic,
    fresh_baseline: bool,
) -> Result<(Preflight, Vec<PodTemplate>), Failure> {
    let Some(surroundings) = Box::pin(surroundings(server, workload, traffic, fresh_baseline)).await? else {
        return Ok((Preflight { status: WorkloadStatus::ABSENT, issues: Vec::new() }, Vec::new()));
    };
    let (stable, canary, baseline) = try_join!(
        arm(server, workload, Some(&surroundings.deployment)),
        arm(server, workload, if_ours(surroundings.canary.as_ref())),
        arm(server, workload, if_ours(surroundings.baseline.as_ref())),
    )?;
    let templates = stable.iter().map(|(deployment, _)| deployment.template.clone()).collect();
    let status = WorkloadStatus {
        stable: stable.map(|(_, arm)| arm),
        canary: canary.map(|(_, arm)| arm),
        baseline: baseline.map(|(_, arm)| arm),
        route: route::routed(&surroundings.routes, workload),
        route_by: route::written_by(&surroundings.routes, workload),
    };
    Ok((Preflight { status, issues: surroundings.issues(workload, traffic, fresh_baseline) }, templates))
}

fn if_ours(found: Option<&DynamicObject>) -> Option<&DynamicObject> {
    found.filter(|found| marks::is_ours(&found.metadata))
}

/// Everything around a workload; `None`: there is no such Deployment.
///
/// # Errors
/// A read failed.
pub async fn surroundings(
    server: &Server,
    workload: &Workload,
    traffic: &Traffic,
    fresh_baseline: bool,
) -> Result<Option<Surroundings>, Failure> {
    let Workload { namespace, name, .. } = workload;
    let (canary_name, baseline_name) = (workload.canary_name(), workload.baseline_name());
    let all = ListParams::default();
    let by_replicas = *traffic == Traffic::Replicas;
    let (deployment, canary, baseline, canary_service, services, routes, policies, monitors, autoscalers) = try_join!(
        server.deployment(namespace, name),
        server.deployment(namespace, &canary_name),
        server.deployment(namespace, &baseline_name),
        server.service(namespace, &canary_name),
        server.list("Services", server.of::<Service>(namespace), &all),
        async { if by_replicas { Ok(Vec::new()) } else { server.list_routes(namespace).await } },
        server.list("NetworkPolicies", server.of::<NetworkPolicy>(namespace), &all),
        server.list_monitors(namespace),
        async {
            let scalers = server.of::<HorizontalPodAutoscaler>(namespace);
            let counted = by_replicas || fresh_baseline;
            if counted { server.list("HorizontalPodAutoscalers", scalers, &all).await } else { Ok(Vec::new()) }
        },
    )?;
    let Some(deployment) = deployment else { return Ok(None) };
    let claims = claims(server, namespace, &deployment).await?;
    Ok(Some(Surroundings {
        deployment,
        canary,
        baseline,
        canary_service,
        services,
        routes,
        policies,
        monitors,
        autoscalers,
        claims,
    }))
}

async fn claims(
    server: &Server,
    namespace: &str,
    deployment: &DynamicObject,
) -> Result<Vec<PersistentVolumeClaim>, Failure> {
    let names = deployment.data.pointer("/spec/template").map(preflight::claims).unwrap_or_default();
    let api = server.of::<PersistentVolumeClaim>(namespace);
    let reads = names.iter().map(|name| {
        let api = api.clone();
        async move { server.call(&format!("reading PersistentVolumeClaim {namespace}/{name}"), api.get_opt(name)).await }
    });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}

async fn arm(
    server: &Server,
    workload: &Workload,
    object: Option<&DynamicObject>,
) -> Result<Option<(Deployment, DeploymentStatus)>, Failure> {
    let Some((object, deployment)) = object.and_then(|object| Some((object, Deployment::read(object)?))) else {
        return Ok(None);
    };
    let selector = object.data.pointer("/spec/selector").cloned().unwrap_or(Value::Null);
    let selector: LabelSelector = serde_json::from_value(selector).unwrap_or_default();
    let params = ListParams::default().labels_from(&Selector::try_from(selector).unwrap_or_default());
    let sets = Api::namespaced_with(server.client.clone(), &workload.namespace, &replica_set_type());
    let (sets, pods) = try_join!(
        server.list::<DynamicObject>("ReplicaSets", sets, &params),
        server.list("pods", server.of::<Pod>(&workload.namespace), &params),
    )?;
    let sets: Vec<ReplicaSet> = sets.iter().filter_map(ReplicaSet::read).collect();
    let pods: Vec<PodState> = pods.iter().filter_map(PodState::read).collect();
    let arm = deployment.arm(&sets, &pods);
    Ok(Some((deployment, arm)))
}
