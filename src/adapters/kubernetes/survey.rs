//! The facts of a cluster from which a first configuration is proposed: the objects around one workload, and the Services that
//! may be a Prometheus. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::ids::{Images, Workload};
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::policy::{RouterKind, Traffic};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::api_kind::ApiKind;
use super::preflight::{PreflightObjects, autoscales, selecting};
use super::router::{self, ROUTERS};
use super::server::Server;
use super::{kind, preflight_reads, template};

/// The kinds of workloads that no rollout changes.
const UNSUPPORTED: [ApiKind; 3] = [
    ApiKind { group: "apps", version: "v1", kind: "StatefulSet", plural: "statefulsets" },
    ApiKind { group: "apps", version: "v1", kind: "DaemonSet", plural: "daemonsets" },
    ApiKind { group: "argoproj.io", version: "v1alpha1", kind: "Rollout", plural: "rollouts" },
];
/// The kinds of routes that no router splits, with the paths of the Services' names in them.
const UNSPLIT: [(ApiKind, &[&str]); 3] = [
    (ApiKind { group: "networking.k8s.io", version: "v1", kind: "Ingress", plural: "ingresses" }, &["service", "name"]),
    (
        ApiKind { group: "traefik.io", version: "v1alpha1", kind: "IngressRoute", plural: "ingressroutes" },
        &["services", "name"],
    ),
    (
        ApiKind { group: "networking.istio.io", version: "v1", kind: "VirtualService", plural: "virtualservices" },
        &["destination", "host"],
    ),
];

/// The facts around one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadSurvey {
    /// The workload.
    pub workload: Workload,
    /// The uid of its object.
    pub uid: String,
    /// The number of requested pods.
    pub replicas: u32,
    /// The images of the pod template, by container.
    pub images: Images,
    /// The names of the Services that select its pods.
    pub services: Vec<String>,
    /// The routes of its namespace that send traffic to one of the Services, by the router that splits them.
    pub routes: BTreeMap<RouterKind, Vec<String>>,
    /// The names of the HorizontalPodAutoscalers of the workload.
    pub autoscalers: Vec<String>,
    /// The issues of a rollout, by its router.
    pub issues: BTreeMap<RouterKind, Vec<PreflightIssue>>,
}

/// The result of looking for a workload.
#[derive(Debug, Clone, PartialEq)]
pub enum Surveyed {
    /// It exists.
    Found(Box<WorkloadSurvey>),
    /// It does not exist, and an object of an unsupported kind has its name: this kind.
    Unsupported(&'static str),
    /// It does not exist.
    Absent,
}

/// A Service of the cluster that may be a Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsService {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The value of its label `app.kubernetes.io/name`, or else of `app`; empty without one.
    pub app: String,
    /// The ports, each with its name if it has one.
    pub ports: Vec<(Option<String>, u16)>,
}

/// Reads the facts around a workload.
///
/// # Errors
/// A read failed.
pub async fn workload(server: &Server, workload: &Workload) -> Result<Surveyed, Failure> {
    let (mut routes, mut issues, mut autoscalers) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut last: Option<PreflightObjects> = None;
    for router in ROUTERS {
        let traffic = Traffic::by(router.kind());
        let Some(objects) = Box::pin(preflight_reads::read_objects(server, workload, &traffic, false)).await? else {
            return Ok(unsupported(server, workload).await);
        };
        let services = services(&objects, workload);
        let routed: Vec<String> = objects
            .routes
            .iter()
            .filter(|route| services.iter().any(|name| !router.rules(route, workload, name, None).is_empty()))
            .map(|route| router::name(route).to_owned())
            .collect();
        if !routed.is_empty() {
            routes.insert(router.kind(), routed);
        }
        issues.insert(router.kind(), objects.issues(workload, &traffic, false));
        // The autoscalers are read for the routers by which they count the canary's pods.
        let own = objects.autoscalers.iter().filter(|scaler| autoscales(scaler, workload));
        autoscalers.extend(own.filter_map(|scaler| scaler.metadata.name.clone()));
        last = Some(objects);
    }
    let provider = kind::provider(workload.kind);
    let Some((objects, facts)) = last.and_then(|objects| provider.read(&objects.stable).map(|facts| (objects, facts)))
    else {
        return Ok(Surveyed::Absent);
    };
    let services = services(&objects, workload);
    Ok(Surveyed::Found(Box::new(WorkloadSurvey {
        workload: workload.clone(),
        uid: facts.uid,
        replicas: facts.own_status.replicas,
        images: facts.own_status.images.clone(),
        services,
        routes,
        autoscalers: autoscalers.into_iter().collect(),
        issues,
    })))
}

fn services(objects: &PreflightObjects, workload: &Workload) -> Vec<String> {
    let labels = kind::provider(workload.kind).template(&objects.stable).map(template::labels).unwrap_or_default();
    let found = selecting(&*objects.services, &labels, workload);
    found.into_iter().filter_map(|service| service.metadata.name.clone()).collect()
}

/// Returns the strategy's `maxUnavailable`, as in `25%` or `1`; `None` without a rolling update.
///
/// # Errors
/// The read failed.
pub async fn max_unavailable(server: &Server, workload: &Workload) -> Result<Option<String>, Failure> {
    let object = server.workload_object(workload, &workload.name).await?;
    let value = object.as_ref().and_then(|object| object.data.pointer("/spec/strategy/rollingUpdate/maxUnavailable"));
    Ok(value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
}

/// Returns the unsupported kind of an object with the workload's name. A kind that can't be read is left out.
async fn unsupported(server: &Server, workload: &Workload) -> Surveyed {
    for kind in &UNSUPPORTED {
        let api = server.objects(kind, Some(&workload.namespace));
        let operation = format!("reading {} {}/{}", kind.kind, workload.namespace, workload.name);
        if let Ok(Some(_)) = server.call(&operation, api.get_opt(&workload.name)).await {
            return Surveyed::Unsupported(kind.kind);
        }
    }
    Surveyed::Absent
}

/// Returns kind and name of the routes that name one of the Services and that no router splits. A kind that can't be read is left
/// out.
pub async fn unsplit_routes(server: &Server, workload: &Workload, services: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, path) in &UNSPLIT {
        let Ok(routes) = server.list_if_known(kind, Some(&workload.namespace)).await else { continue };
        for route in routes {
            let mut named = BTreeSet::new();
            collect(&route.data, path, &mut named);
            let is_named = |service: &String| {
                named.iter().any(|name| name == service || name.split('.').next() == Some(service.as_str()))
            };
            if services.iter().any(is_named) {
                found.push(format!("{} {}", kind.kind, router::name(&route)));
            }
        }
    }
    found
}

/// Collects the texts at `path` in every object within `value`.
fn collect(value: &Value, path: &[&str], found: &mut BTreeSet<String>) {
    let [outer, inner] = path else { return };
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if key == outer {
                    let items = field.as_array().map_or(std::slice::from_ref(field), Vec::as_slice);
                    found.extend(items.iter().filter_map(|item| Some(item.get(inner)?.as_str()?.to_owned())));
                }
                collect(field, path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns the Services that may be a Prometheus: of all namespaces, or of `namespace` if the account may not list all.
///
/// # Errors
/// A read failed.
pub async fn metrics_services(server: &Server, namespace: &str) -> Result<Vec<MetricsService>, Failure> {
    let all = server.list("Services", Api::<Service>::all(server.client.clone()), &ListParams::default()).await;
    let services = match all {
        Err(failure) if failure.kind == FailureKind::Forbidden => {
            server.list("Services", server.of::<Service>(namespace), &ListParams::default()).await?
        }
        answer => answer?,
    };
    Ok(services.iter().filter_map(metrics_service).collect())
}

fn metrics_service(service: &Service) -> Option<MetricsService> {
    let labels = service.metadata.labels.as_ref();
    let app = ["app.kubernetes.io/name", "app"].iter().find_map(|key| labels?.get(*key));
    let ports = service.spec.as_ref()?.ports.iter().flatten();
    Some(MetricsService {
        namespace: service.metadata.namespace.clone()?,
        name: service.metadata.name.clone()?,
        app: app.cloned().unwrap_or_default(),
        ports: ports.filter_map(|port| Some((port.name.clone(), u16::try_from(port.port).ok()?))).collect(),
    })
}

#[cfg(test)]
mod tests;
