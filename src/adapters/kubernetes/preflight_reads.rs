//! The reads of a preflight: a workload and the objects around it, in two rounds of parallel reads, because the pods,
//! revisions and claims that matter follow from the workload's object.

use bellwether_core::ids::Workload;
use bellwether_core::input::event::Failure;
use bellwether_core::input::status::{DeploymentStatus, Preflight, WorkloadStatus};
use bellwether_core::policy::Traffic;
use futures::future::try_join_all;
use futures::try_join;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::{DynamicObject, Selector};
use serde_json::Value;

use super::api_kind::ApiKind;
use super::facts::{PodState, RevisionFacts, WorkloadFacts};
use super::preflight::{self, PreflightObjects};
use super::server::Server;
use super::{kind, marks, router};
use crate::ports::PodTemplate;

/// The permission of a namespace for routes of other namespaces to name its Services.
const REFERENCE_GRANT: ApiKind = ApiKind {
    group: "gateway.networking.k8s.io",
    version: "v1beta1",
    kind: "ReferenceGrant",
    plural: "referencegrants",
};

/// Reads the workload's status and finds the issues of a canary. `elsewhere` are the routes of other namespaces that name
/// Services of this one. The second value is the stable's pod template.
///
/// # Errors
/// A read failed.
pub async fn preflight(
    server: &Server,
    workload: &Workload,
    traffic: &Traffic,
    fresh_baseline: bool,
    elsewhere: Vec<DynamicObject>,
) -> Result<(Preflight, Vec<PodTemplate>), Failure> {
    let Some(mut objects) = Box::pin(read_objects(server, workload, traffic, fresh_baseline)).await? else {
        return Ok((Preflight { status: WorkloadStatus::ABSENT, issues: Vec::new() }, Vec::new()));
    };
    if !elsewhere.is_empty() {
        objects.grants = server.list_if_known(&REFERENCE_GRANT, Some(&workload.namespace)).await?;
        objects.elsewhere = elsewhere;
    }
    let (stable, canary, baseline) = try_join!(
        arm(server, workload, Some(&objects.stable)),
        arm(server, workload, if_ours(objects.canary.as_ref())),
        arm(server, workload, if_ours(objects.baseline.as_ref())),
    )?;
    let templates = stable.iter().map(|(facts, _)| facts.template.clone()).collect();
    let router = router::provider(traffic.router);
    let routes = || objects.routes.iter().map(|route| (router, route));
    let status = WorkloadStatus {
        stable: stable.map(|(_, arm)| arm),
        released: canary.as_ref().and_then(|(facts, _)| facts.released.clone()),
        canary: canary.map(|(_, arm)| arm),
        baseline: baseline.map(|(_, arm)| arm),
        route: router::observe(routes(), workload),
        route_by: router::last_writer(routes(), workload).map(str::to_owned),
    };
    Ok((Preflight { status, issues: objects.issues(workload, traffic, fresh_baseline) }, templates))
}

fn if_ours(found: Option<&DynamicObject>) -> Option<&DynamicObject> {
    found.filter(|found| marks::is_ours(&found.metadata))
}

/// Reads everything around a workload; `None` if the workload does not exist.
///
/// # Errors
/// A read failed.
pub async fn read_objects(
    server: &Server,
    workload: &Workload,
    traffic: &Traffic,
    fresh_baseline: bool,
) -> Result<Option<PreflightObjects>, Failure> {
    let Workload { namespace, name, .. } = workload;
    let (canary_name, baseline_name) = (workload.canary_name(), workload.baseline_name());
    let all = ListParams::default();
    // Autoscalers matter only if they count pods that the rollout adds.
    let autoscalers_matter = !traffic.splits_by_weight() || fresh_baseline;
    let (stable, canary, baseline, canary_service, services, routes, around, monitors, autoscalers) = try_join!(
        server.workload_object(workload, name),
        server.workload_object(workload, &canary_name),
        server.workload_object(workload, &baseline_name),
        server.service(namespace, &canary_name),
        server.list("Services", server.of::<Service>(namespace), &all),
        async {
            match router::provider(traffic.router).resource() {
                Some(resource) => server.list_if_known(resource, Some(namespace)).await,
                None => Ok(Vec::new()),
            }
        },
        async {
            try_join!(
                server.namespace_labels(namespace),
                server.list_network_policies(namespace),
                server.list_foreign(namespace),
            )
        },
        server.list_monitors(namespace),
        async {
            let scalers = server.of::<HorizontalPodAutoscaler>(namespace);
            if autoscalers_matter {
                server.list("HorizontalPodAutoscalers", scalers, &all).await
            } else {
                Ok(Vec::new())
            }
        },
    )?;
    let Some(stable) = stable else { return Ok(None) };
    let claims = claims(server, workload, &stable).await?;
    let (namespace_labels, policies, foreign) = around;
    Ok(Some(PreflightObjects {
        stable,
        canary,
        baseline,
        canary_service,
        services,
        routes,
        elsewhere: Vec::new(),
        grants: Vec::new(),
        namespace_labels,
        policies,
        foreign,
        monitors,
        autoscalers,
        claims,
    }))
}

async fn claims(
    server: &Server,
    workload: &Workload,
    stable: &DynamicObject,
) -> Result<Vec<PersistentVolumeClaim>, Failure> {
    let namespace = &workload.namespace;
    let names = kind::provider(workload.kind).template(stable).map(preflight::claims).unwrap_or_default();
    let api = server.of::<PersistentVolumeClaim>(namespace);
    let reads = names.iter().map(|name| {
        let api = api.clone();
        async move { server.call(&format!("reading PersistentVolumeClaim {namespace}/{name}"), api.get_opt(name)).await }
    });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}

/// Reads the revisions and pods of an arm's object. Returns its facts and its status; `None` if there is no object.
async fn arm(
    server: &Server,
    workload: &Workload,
    object: Option<&DynamicObject>,
) -> Result<Option<(WorkloadFacts, DeploymentStatus)>, Failure> {
    let kind = kind::provider(workload.kind);
    let Some((object, facts)) = object.and_then(|object| Some((object, kind.read(object)?))) else {
        return Ok(None);
    };
    let selector = kind::get(&object.data, kind.layout().selector).cloned().unwrap_or(Value::Null);
    let selector: LabelSelector = serde_json::from_value(selector).unwrap_or_default();
    let params = ListParams::default().labels_from(&Selector::try_from(selector).unwrap_or_default());
    let revision_kind = kind.revision_kind();
    let (revision_names, revisions) =
        (revision_kind.objects(), server.objects(revision_kind, Some(&workload.namespace)));
    let (revisions, pods) = try_join!(
        server.list(&revision_names, revisions, &params),
        server.list("pods", server.of::<Pod>(&workload.namespace), &params),
    )?;
    let revisions: Vec<RevisionFacts> = revisions.iter().filter_map(|revision| kind.read_revision(revision)).collect();
    let pods: Vec<PodState> = pods.iter().filter_map(|pod| kind.read_pod(pod)).collect();
    let status = facts.status(&revisions, &pods);
    Ok(Some((facts, status)))
}
