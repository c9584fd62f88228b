//! The canary's life: made or resized, given its share, removed; and that of a fresh baseline, which comes and goes with it.
//!
//! Each act reads first and compares, and writes only what is not so yet. That makes it harmless to repeat after an
//! answer that got lost, and it is where a process with an older epoch finds out that it is one.

use bellwether_core::ids::{Images, Weight, Workload};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::policy::{Cohort, RouteName, Traffic};
use futures::{TryFutureExt, try_join};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::build::{self, ObjectShape};
use super::failure;
use super::look;
use super::marks::{self, BASELINE, CANARY, EFFECT};
use super::preflight::{Path, Surroundings};
use super::route::{self, RouteMark};
use super::server::Server;
use super::{stable, template};
use crate::ports::Epoch;

/// What is asked of [`apply`].
#[derive(Debug)]
pub struct CanarySpec<'a> {
    /// The uid that the stable Deployment must have.
    pub stable_uid: &'a str,
    /// The images that differ from the stable's.
    pub images: &'a Images,
    /// How many pods.
    pub replicas: u32,
    /// How traffic is split.
    pub traffic: &'a Traffic,
    /// Whether a fresh baseline stands beside it.
    pub baseline: bool,
}

/// Makes the canary, or brings the one that is there to this size and these images.
///
/// # Errors
/// A read or a write failed, something has our names, or no traffic can be split.
pub async fn apply(server: &Server, effect: &Effect, epoch: Epoch, wanted: &CanarySpec<'_>) -> Result<(), Failure> {
    let workload = &effect.workload;
    let around = Box::pin(look::surroundings(server, workload, wanted.traffic, wanted.baseline)).await?;
    let around = around.ok_or_else(|| stable::gone(workload))?;
    stable::same(workload, &around.deployment.metadata, wanted.stable_uid)?;
    marks::fence(&around.deployment.metadata, epoch)?;
    free_to_write(&around, workload, epoch, wanted)?;
    let path =
        around.path(workload, wanted.traffic).map_err(|issue| failure::new(FailureKind::Refused, issue.to_string()))?;
    let annotations = marks::annotations(effect, epoch);
    let shape = ObjectShape {
        workload,
        track: CANARY,
        images: wanted.images,
        replicas: wanted.replicas,
        changed_label: path.changed_label.as_deref(),
        annotations: &annotations,
    };
    apply_deployment(server, &around, around.canary.as_ref(), &shape).await?;
    if wanted.baseline {
        let shape = ObjectShape { track: BASELINE, images: &Images::new(), changed_label: None, ..shape.clone() };
        apply_deployment(server, &around, around.baseline.as_ref(), &shape).await?;
    }
    if wanted.traffic.splits_by_weight() {
        let Traffic { route, cohort, .. } = wanted.traffic;
        apply_service(server, &around, &path, &shape).await?;
        let mark = RouteMark { effect: effect.id.to_string(), epoch };
        join_routes(server, &around, workload, &path.service, (route.as_ref(), cohort.as_ref()), &mark).await?;
    }
    Ok(())
}

/// Everything that forbids writing, found before anything is written.
fn free_to_write(
    around: &Surroundings,
    workload: &Workload,
    epoch: Epoch,
    wanted: &CanarySpec<'_>,
) -> Result<(), Failure> {
    let canary = around.canary.as_ref().map(|canary| &canary.metadata);
    ours_to_write("Deployment", canary, wanted.stable_uid, epoch)?;
    let baseline = around.baseline.as_ref().filter(|_| wanted.baseline).map(|baseline| &baseline.metadata);
    ours_to_write("Deployment", baseline, wanted.stable_uid, epoch)?;
    if wanted.traffic.splits_by_weight() {
        let service = around.canary_service.as_ref().map(|service| &service.metadata);
        ours_to_write("Service", service, wanted.stable_uid, epoch)?;
    }
    let template = around.deployment.data.pointer("/spec/template").cloned().unwrap_or_default();
    let unknown = template::unknown(&template, wanted.images);
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(failure::new(FailureKind::Refused, template::no_such_container(workload, &unknown)))
    }
}

fn ours_to_write(kind: &str, metadata: Option<&ObjectMeta>, stable_uid: &str, epoch: Epoch) -> Result<(), Failure> {
    let Some(metadata) = metadata else { return Ok(()) };
    let name = metadata.name.as_deref().unwrap_or_default();
    if !marks::is_ours(metadata) {
        return Err(failure::new(FailureKind::Refused, format!("{kind} {name} exists and is not Bellwether's")));
    }
    let owned = metadata.owner_references.iter().flatten().any(|owner| owner.uid == stable_uid);
    if !owned || metadata.deletion_timestamp.is_some() {
        // Of a Deployment that was recreated since, or on its way out: the garbage collector is at it.
        return Err(failure::new(
            FailureKind::Conflict,
            format!("{kind} {name} of an earlier canary is still being removed"),
        ));
    }
    marks::fence(metadata, epoch)
}

async fn apply_deployment(
    server: &Server,
    around: &Surroundings,
    there: Option<&DynamicObject>,
    shape: &ObjectShape<'_>,
) -> Result<(), Failure> {
    let mut built = build::deployment(&around.deployment, shape);
    if let Some(there) = there {
        if has_effect(&there.metadata, shape) && same_deployment(&there.data, &built) {
            return Ok(());
        }
        pin(&mut built, &there.metadata);
    }
    let api = server.deployments(&shape.workload.namespace);
    server.apply(api, "Deployment", &shape.name(), &built).await
}

async fn apply_service(
    server: &Server,
    around: &Surroundings,
    path: &Path,
    shape: &ObjectShape<'_>,
) -> Result<(), Failure> {
    let stable = around.services.iter().find(|service| service.metadata.name.as_deref() == Some(&path.service));
    let Some(stable) = stable else { return Ok(()) };
    let mut built = build::service(stable, &around.deployment, shape);
    if let Some(there) = &around.canary_service {
        if has_effect(&there.metadata, shape) && same_service(there, &built) {
            return Ok(());
        }
        pin(&mut built, &there.metadata);
    }
    let api = server.of::<Service>(&shape.workload.namespace);
    server.apply(api, "Service", &shape.name(), &built).await
}

async fn join_routes(
    server: &Server,
    around: &Surroundings,
    workload: &Workload,
    service: &str,
    (named, cohort): (Option<&RouteName>, Option<&Cohort>),
    mark: &RouteMark,
) -> Result<(), Failure> {
    for there in &around.routes {
        fence_route(there, workload, mark.epoch)?;
        let rules = route::rules_to(there, workload, service, named);
        if let Some(patch) = route::join(there, workload, service, &rules, cohort, mark)? {
            server.patch(server.routes(&workload.namespace), "HTTPRoute", route_name(there), patch).await?;
        }
    }
    Ok(())
}

/// Gives the canary this share in every rule that holds it. By replica ratio there is nothing to write: the number of
/// pods is the share.
///
/// # Errors
/// A read or a write failed, or no route holds the canary.
pub async fn set_weight(
    server: &Server,
    effect: &Effect,
    epoch: Epoch,
    weight: Weight,
    traffic: &Traffic,
) -> Result<(), Failure> {
    if !traffic.splits_by_weight() {
        return Ok(());
    }
    let workload = &effect.workload;
    let mark = RouteMark { effect: effect.id.to_string(), epoch };
    let canary_name = workload.canary_name();
    let (deployment, routes) =
        try_join!(server.deployment(&workload.namespace, &canary_name), server.list_routes(&workload.namespace))?;
    if let Some(canary) = &deployment {
        marks::fence(&canary.metadata, epoch)?;
    }
    let held: Vec<&DynamicObject> = routes.iter().filter(|there| route::holds(there, workload)).collect();
    if held.is_empty() && weight > Weight::ZERO {
        let message =
            format!("no HTTPRoute in {} sends traffic to Service {}", workload.namespace, workload.canary_name());
        return Err(failure::new(FailureKind::Conflict, message));
    }
    for there in held {
        fence_route(there, workload, epoch)?;
        if let Some(patch) = route::set_weight(there, workload, weight, &mark)? {
            server.patch(server.routes(&workload.namespace), "HTTPRoute", route_name(there), patch).await?;
        }
    }
    Ok(())
}

/// Takes the canary out of the routes and removes its Service and its Deployment, in this order: a route must never name
/// a Service that is gone. What is not there is removed already, what is not ours stays.
///
/// # Errors
/// A read or a write failed.
pub async fn remove(server: &Server, effect: &Effect, epoch: Epoch, traffic: &Traffic) -> Result<(), Failure> {
    let Workload { namespace, name, .. } = &effect.workload;
    let (canary_name, baseline_name) = (effect.workload.canary_name(), effect.workload.baseline_name());
    let (stable, deployment, baseline, service) = try_join!(
        server.deployment(namespace, name),
        server.deployment(namespace, &canary_name),
        server.deployment(namespace, &baseline_name),
        server.service(namespace, &canary_name),
    )?;
    let stable_uid = stable.as_ref().and_then(|stable| stable.metadata.uid.as_deref());
    for there in stable.iter().chain(&deployment).chain(&baseline) {
        marks::fence(&there.metadata, epoch)?;
    }
    if traffic.splits_by_weight() {
        leave_routes(server, &effect.workload, epoch).await?;
    }
    if let Some(service) = service.filter(|service| removable(&service.metadata, stable_uid)) {
        marks::fence(&service.metadata, epoch)?;
        server.delete(server.of::<Service>(namespace), "Service", &canary_name, service.metadata.uid).await?;
    }
    for (name, there) in [(&canary_name, deployment), (&baseline_name, baseline)] {
        if let Some(there) = there.filter(|there| removable(&there.metadata, stable_uid)) {
            server.delete(server.deployments(namespace), "Deployment", name, there.metadata.uid).await?;
        }
    }
    Ok(())
}

async fn leave_routes(server: &Server, workload: &Workload, epoch: Epoch) -> Result<(), Failure> {
    for there in server.list_routes(&workload.namespace).await? {
        if !route::holds(&there, workload) {
            continue;
        }
        fence_route(&there, workload, epoch)?;
        if let Some(patch) = route::leave(&there, workload) {
            let api = server.routes(&workload.namespace);
            // A route that was removed meanwhile holds nothing any more.
            server
                .patch(api, "HTTPRoute", route_name(&there), patch)
                .or_else(|failure| async move { if failure.kind == FailureKind::Gone { Ok(()) } else { Err(failure) } })
                .await?;
        }
    }
    Ok(())
}

/// Ours by label, and of this stable as long as there is one.
fn removable(metadata: &ObjectMeta, stable_uid: Option<&str>) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    marks::is_ours(metadata) && stable_uid.is_none_or(|uid| owners.any(|owner| owner.uid == uid))
}

fn fence_route(there: &DynamicObject, workload: &Workload, epoch: Epoch) -> Result<(), Failure> {
    marks::fence_epoch(route::epoch(there, workload), epoch, &format!("HTTPRoute {}", route_name(there)))
}

fn route_name(there: &DynamicObject) -> &str {
    there.metadata.name.as_deref().unwrap_or_default()
}

fn has_effect(metadata: &ObjectMeta, shape: &ObjectShape<'_>) -> bool {
    marks::annotation(metadata, EFFECT) == shape.annotations.get(EFFECT).map(String::as_str)
}

/// Only if it is still the object that was looked at.
fn pin(built: &mut Value, there: &ObjectMeta) {
    built["metadata"]["uid"] = json!(there.uid);
    built["metadata"]["resourceVersion"] = json!(there.resource_version);
}

fn same_deployment(there: &Value, built: &Value) -> bool {
    let hash = |template: Option<&Value>| template.map(template::hash);
    there.pointer("/spec/replicas") == built.pointer("/spec/replicas")
        && hash(there.pointer("/spec/template")) == hash(built.pointer("/spec/template"))
}

fn same_service(there: &Service, built: &Value) -> bool {
    let spec = json!(there.spec);
    spec.get("selector") == built.pointer("/spec/selector") && spec.get("ports") == built.pointer("/spec/ports")
}
