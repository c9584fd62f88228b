//! The reads of a preflight: a workload and the objects around it, in two rounds of parallel reads, because the pods,
//! revisions and claims that matter follow from the workload's object.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

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
use kube::api::ListParams;
use kube::core::{DynamicObject, NamespaceResourceScope, Resource, Selector};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api_kind::ApiKind;
use super::facts::{PodState, RevisionFacts, WorkloadFacts};
use super::foreign::ForeignPolicy;
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
    let (stable, canary, baseline, canary_service, namespaced) = try_join!(
        server.workload_object(workload, name),
        server.workload_object(workload, &canary_name),
        server.workload_object(workload, &baseline_name),
        server.service(namespace, &canary_name),
        read_namespace(server, namespace, traffic, fresh_baseline),
    )?;
    let Some(stable) = stable else { return Ok(None) };
    let claims = claims(server, workload, &stable).await?;
    let ((services, routes, autoscalers), (namespace_labels, policies, foreign, monitors)) = namespaced;
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

/// All Services, routes and autoscalers of a namespace.
type OwnObjects = (Arc<Vec<Service>>, Arc<Vec<DynamicObject>>, Arc<Vec<HorizontalPodAutoscaler>>);
/// The labels of a namespace, and the NetworkPolicies, policies of other controllers and monitors that may concern it.
type OtherObjects =
    (Arc<BTreeMap<String, String>>, Arc<Vec<NetworkPolicy>>, Arc<Vec<ForeignPolicy>>, Arc<Vec<DynamicObject>>);

/// Reads the objects that all workloads of a namespace share. Acts that need them at the same time share the reads.
///
/// # Errors
/// A read failed.
async fn read_namespace(
    server: &Server,
    namespace: &str,
    traffic: &Traffic,
    fresh_baseline: bool,
) -> Result<(OwnObjects, OtherObjects), Failure> {
    let routes = async {
        let Some(resource) = router::provider(traffic.router).resource() else { return Ok(Arc::default()) };
        let read = async |server: Server, namespace: String| server.list_if_known(resource, Some(&namespace)).await;
        joint(server, resource.plural, namespace, read).await
    };
    // Autoscalers matter only if they count pods that the rollout adds.
    let autoscalers = async {
        if traffic.splits_by_weight() && !fresh_baseline {
            return Ok(Arc::default());
        }
        joint(server, "HorizontalPodAutoscalers", namespace, list::<HorizontalPodAutoscaler>).await
    };
    let own = async { try_join!(joint(server, "Services", namespace, list::<Service>), routes, autoscalers) };
    let others = async {
        try_join!(
            joint(server, "labels", namespace, async |server, of| server.namespace_labels(&of).await),
            joint(server, "NetworkPolicies", namespace, async |server, of| server.list_network_policies(&of).await),
            joint(server, "other policies", namespace, async |server, of| server.list_foreign(&of).await),
            joint(server, "monitors", namespace, async |server, of| server.list_monitors(&of).await),
        )
    };
    try_join!(own, others)
}

/// Reads objects of a namespace, together with the other acts that ask for them.
///
/// # Errors
/// The read failed.
async fn joint<T, F>(
    server: &Server,
    objects: &'static str,
    namespace: &str,
    read: impl FnOnce(Server, String) -> F + Send + 'static,
) -> Result<Arc<T>, Failure>
where
    T: Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let (own, of) = (server.clone(), namespace.to_owned());
    server.joint.read(format!("{objects} of {namespace}"), move || read(own, of)).await
}

/// Lists all objects of a kind in a namespace.
async fn list<K>(server: Server, namespace: String) -> Result<Vec<K>, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    server.list(&K::plural(&()), server.of::<K>(&namespace), &ListParams::default()).await
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

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::adapters::kubernetes::fake_api::{DEPLOYMENTS, FakeApi, ROUTES, SERVICES};

    #[tokio::test]
    async fn preflights_that_begin_together_share_the_reads_of_their_namespace() {
        const TOGETHER: usize = 32;
        let workload: Workload = "test/demo/Deployment/web".parse().unwrap();
        let (found, api) = FakeApi::with_stable()
            .serve(async |server| {
                let traffic = Traffic::default();
                let reads = (0..TOGETHER).map(|_| read_objects(&server, &workload, &traffic, false));
                join_all(reads).await
            })
            .await;
        for objects in found {
            let objects = objects.unwrap().unwrap();
            assert_eq!((objects.services.len(), objects.routes.len()), (1, 1));
        }
        assert_eq!(api.reads(&format!("{DEPLOYMENTS}/web")), TOGETHER, "each reads its own objects");
        for path in [SERVICES, ROUTES, "/apis"] {
            assert!(api.reads(path) <= 2, "{path} was read {} times", api.reads(path));
        }
    }
}
