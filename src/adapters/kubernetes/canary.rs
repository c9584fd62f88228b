//! Creates, resizes, weights and removes a canary, together with its fresh baseline.
//!
//! Every act reads first, compares, and writes only the differences. So it is safe to repeat after a lost answer, and a
//! process with an older epoch finds out that it is fenced before it writes.

use bellwether_core::ids::{Images, Weight, Workload};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::policy::Traffic;
use futures::{TryFutureExt, try_join};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::api_kind::ApiKind;
use super::build::{self, ObjectShape};
use super::failure;
use super::kind::{self, KindProvider};
use super::marks::{self, BASELINE, CANARY, EFFECT};
use super::preflight::{PreflightObjects, TrafficPlan};
use super::preflight_reads;
use super::router::{self, RouteMark};
use super::server::Server;
use super::{stable, template};
use crate::ports::Epoch;

/// The canary that [`apply`] creates.
#[derive(Debug)]
pub struct CanarySpec<'a> {
    /// The uid that the workload's own object must have.
    pub stable_uid: &'a str,
    /// The images that differ from the stable's, by container.
    pub images: &'a Images,
    /// The number of pods.
    pub replicas: u32,
    /// The split of the traffic.
    pub traffic: &'a Traffic,
    /// Whether it has a fresh baseline.
    pub baseline: bool,
}

/// Creates the canary, or gives an existing one this size and these images.
///
/// # Errors
/// A read or a write failed, an object of another owner has the canary's name, no traffic can be split, or a person has
/// released the rollout.
pub async fn apply(server: &Server, effect: &Effect, epoch: Epoch, wanted: &CanarySpec<'_>) -> Result<(), Failure> {
    let workload = &effect.workload;
    let objects = Box::pin(preflight_reads::read_objects(server, workload, wanted.traffic, wanted.baseline)).await?;
    let objects = objects.ok_or_else(|| stable::gone(workload))?;
    stable::check_uid(workload, &objects.stable.metadata, wanted.stable_uid)?;
    marks::fence(&objects.stable.metadata, epoch)?;
    check_writable(&objects, workload, epoch, wanted)?;
    if let Some(canary) = &objects.canary {
        marks::check_not_released(&canary.metadata, effect)?;
    }
    let plan = objects
        .traffic_plan(workload, wanted.traffic)
        .map_err(|issue| failure::new(FailureKind::Refused, issue.to_string()))?;
    let annotations = marks::annotations(effect, epoch);
    let shape = ObjectShape {
        workload,
        track: CANARY,
        images: wanted.images,
        replicas: wanted.replicas,
        changed_label: plan.changed_label.as_deref(),
        annotations: &annotations,
    };
    // Readiness gates of load balancers are added to pods whose Service a route already names.
    if wanted.traffic.splits_by_weight() {
        apply_service(server, &objects, &plan, &shape).await?;
    }
    let mark = RouteMark { effect: effect.id.to_string(), epoch };
    join_routes(server, &objects, workload, &plan.service, wanted.traffic, &mark).await?;
    if wanted.baseline {
        let shape = ObjectShape { track: BASELINE, images: &Images::new(), changed_label: None, ..shape.clone() };
        apply_workload_object(server, &objects, objects.baseline.as_ref(), &shape).await?;
    }
    apply_workload_object(server, &objects, objects.canary.as_ref(), &shape).await
}

/// Checks, before anything is written, that every object may be written.
fn check_writable(
    objects: &PreflightObjects,
    workload: &Workload,
    epoch: Epoch,
    wanted: &CanarySpec<'_>,
) -> Result<(), Failure> {
    let kind = kind::provider(workload.kind);
    let kind_name = kind.api_kind().kind;
    let canary = objects.canary.as_ref().map(|canary| &canary.metadata);
    check_ours(kind_name, canary, wanted.stable_uid, epoch)?;
    let baseline = objects.baseline.as_ref().filter(|_| wanted.baseline).map(|baseline| &baseline.metadata);
    check_ours(kind_name, baseline, wanted.stable_uid, epoch)?;
    if wanted.traffic.splits_by_weight() {
        let service = objects.canary_service.as_ref().map(|service| &service.metadata);
        check_ours("Service", service, wanted.stable_uid, epoch)?;
    }
    let template = kind.template(&objects.stable).cloned().unwrap_or_default();
    let unknown = template::unknown(&template, wanted.images);
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(failure::new(FailureKind::Refused, template::no_such_container(workload, &unknown)))
    }
}

/// Checks that an existing object belongs to this canary and may be written in this epoch.
fn check_ours(kind: &str, metadata: Option<&ObjectMeta>, stable_uid: &str, epoch: Epoch) -> Result<(), Failure> {
    let Some(metadata) = metadata else { return Ok(()) };
    let name = metadata.name.as_deref().unwrap_or_default();
    if !marks::is_ours(metadata) {
        return Err(failure::new(FailureKind::Refused, format!("{kind} {name} exists and is not Bellwether's")));
    }
    let is_owned = metadata.owner_references.iter().flatten().any(|owner| owner.uid == stable_uid);
    if !is_owned || metadata.deletion_timestamp.is_some() {
        // The garbage collector will remove it: its stable was created again since, or it is being deleted.
        return Err(failure::new(
            FailureKind::Conflict,
            format!("{kind} {name} of an earlier canary is still being removed"),
        ));
    }
    marks::fence(metadata, epoch)
}

async fn apply_workload_object(
    server: &Server,
    objects: &PreflightObjects,
    existing: Option<&DynamicObject>,
    shape: &ObjectShape<'_>,
) -> Result<(), Failure> {
    let kind = kind::provider(shape.workload.kind);
    let mut built = build::workload_object(&objects.stable, shape);
    if let Some(existing) = existing {
        if has_effect(&existing.metadata, shape) && is_same_workload_object(kind, &existing.data, &built) {
            return Ok(());
        }
        pin(&mut built, &existing.metadata);
        return server.apply(server.workloads(shape.workload), kind.api_kind().kind, &shape.name(), &built).await;
    }
    server.create(&server.workloads(shape.workload), kind.api_kind().kind, &built).await
}

async fn apply_service(
    server: &Server,
    objects: &PreflightObjects,
    plan: &TrafficPlan,
    shape: &ObjectShape<'_>,
) -> Result<(), Failure> {
    let stable = objects.services.iter().find(|service| service.metadata.name.as_deref() == Some(&plan.service));
    let Some(stable) = stable else { return Ok(()) };
    let api = server.of::<Service>(&shape.workload.namespace);
    let mut built = build::service(stable, &objects.stable, shape);
    if let Some(existing) = &objects.canary_service {
        if has_effect(&existing.metadata, shape) && is_same_service(existing, &built) {
            return Ok(());
        }
        pin(&mut built, &existing.metadata);
        return server.apply(api, "Service", &shape.name(), &built).await;
    }
    server.create(&api, "Service", &built).await
}

async fn join_routes(
    server: &Server,
    objects: &PreflightObjects,
    workload: &Workload,
    service: &str,
    traffic: &Traffic,
    mark: &RouteMark,
) -> Result<(), Failure> {
    let router = router::provider(traffic.router);
    let Some(resource) = router.resource() else { return Ok(()) };
    for route in &*objects.routes {
        router.fence(route, workload, mark.epoch)?;
        if let Some(patch) = router.join(route, workload, service, traffic, mark)? {
            patch_route(server, resource, workload, route, patch).await?;
        }
    }
    Ok(())
}

/// Gives the canary this share in every rule that has it. Without routes there is nothing to write, because the number
/// of pods is the share.
///
/// # Errors
/// A read or a write failed, no route has the canary and the share is not 0, or a person has released the rollout.
pub async fn set_weight(
    server: &Server,
    effect: &Effect,
    epoch: Epoch,
    weight: Weight,
    traffic: &Traffic,
) -> Result<(), Failure> {
    let router = router::provider(traffic.router);
    let Some(resource) = router.resource() else { return Ok(()) };
    let workload = &effect.workload;
    let mark = RouteMark { effect: effect.id.to_string(), epoch };
    let canary_name = workload.canary_name();
    let (canary, routes) = try_join!(
        server.workload_object(workload, &canary_name),
        server.list_if_known(resource, Some(&workload.namespace))
    )?;
    if let Some(canary) = &canary {
        marks::fence(&canary.metadata, epoch)?;
        if weight > Weight::ZERO {
            marks::check_not_released(&canary.metadata, effect)?;
        }
    }
    let held: Vec<&DynamicObject> = routes.iter().filter(|route| router.holds(route, workload)).collect();
    if held.is_empty() && weight > Weight::ZERO {
        let message = format!("no {} in {} sends traffic to Service {canary_name}", resource.kind, workload.namespace);
        return Err(failure::new(FailureKind::Conflict, message));
    }
    for route in held {
        router.fence(route, workload, epoch)?;
        if let Some(patch) = router.set_weight(route, workload, weight, &mark)? {
            patch_route(server, resource, workload, route, patch).await?;
        }
    }
    Ok(())
}

/// Removes the canary from the routes, then its Service and its workload objects, in this order, because a route must
/// never name a Service that does not exist. Objects that are missing or not Bellwether's are skipped.
///
/// # Errors
/// A read or a write failed.
pub async fn remove(server: &Server, effect: &Effect, epoch: Epoch, traffic: &Traffic) -> Result<(), Failure> {
    let workload = &effect.workload;
    let Workload { namespace, name, .. } = workload;
    let (canary_name, baseline_name) = (workload.canary_name(), workload.baseline_name());
    let (stable, canary, baseline, service) = try_join!(
        server.workload_object(workload, name),
        server.workload_object(workload, &canary_name),
        server.workload_object(workload, &baseline_name),
        server.service(namespace, &canary_name),
    )?;
    let stable_uid = stable.as_ref().and_then(|stable| stable.metadata.uid.as_deref());
    for object in stable.iter().chain(&canary).chain(&baseline) {
        marks::fence(&object.metadata, epoch)?;
    }
    leave_routes(server, workload, epoch, traffic).await?;
    if let Some(service) = service.filter(|service| is_removable(&service.metadata, stable_uid)) {
        marks::fence(&service.metadata, epoch)?;
        server.delete(server.of::<Service>(namespace), "Service", &canary_name, service.metadata.uid).await?;
    }
    let kind = kind::provider(workload.kind).api_kind().kind;
    for (name, object) in [(&canary_name, canary), (&baseline_name, baseline)] {
        if let Some(object) = object.filter(|object| is_removable(&object.metadata, stable_uid)) {
            server.delete(server.workloads(workload), kind, name, object.metadata.uid).await?;
        }
    }
    Ok(())
}

async fn leave_routes(server: &Server, workload: &Workload, epoch: Epoch, traffic: &Traffic) -> Result<(), Failure> {
    let router = router::provider(traffic.router);
    let Some(resource) = router.resource() else { return Ok(()) };
    for route in server.list_if_known(resource, Some(&workload.namespace)).await? {
        if !router.holds(&route, workload) {
            continue;
        }
        router.fence(&route, workload, epoch)?;
        if let Some(patch) = router.leave(&route, workload) {
            // A route that was deleted since it was read has no canary either.
            patch_route(server, resource, workload, &route, patch)
                .or_else(|failure| async move { if failure.kind == FailureKind::Gone { Ok(()) } else { Err(failure) } })
                .await?;
        }
    }
    Ok(())
}

/// Changes a route by a patch that was computed from it.
///
/// # Errors
/// The route has changed since, or the API server refused the patch.
pub async fn patch_route(
    server: &Server,
    resource: &ApiKind,
    workload: &Workload,
    route: &DynamicObject,
    patch: json_patch::Patch,
) -> Result<(), Failure> {
    let api = server.objects(resource, Some(&workload.namespace));
    server.patch(api, resource.kind, router::name(route), patch).await
}

/// Returns whether Bellwether created the object for this stable. Without a stable, the label alone counts.
fn is_removable(metadata: &ObjectMeta, stable_uid: Option<&str>) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    marks::is_ours(metadata) && stable_uid.is_none_or(|uid| owners.any(|owner| owner.uid == uid))
}

fn has_effect(metadata: &ObjectMeta, shape: &ObjectShape<'_>) -> bool {
    marks::annotation(metadata, EFFECT) == shape.annotations.get(EFFECT).map(String::as_str)
}

/// Makes the apply conditional on the object as it was read.
fn pin(built: &mut Value, existing: &ObjectMeta) {
    built["metadata"]["uid"] = json!(existing.uid);
    built["metadata"]["resourceVersion"] = json!(existing.resource_version);
}

fn is_same_workload_object(kind: &dyn KindProvider, existing: &Value, built: &Value) -> bool {
    let layout = kind.layout();
    let hash = |object: &Value| kind::get(object, layout.template).map(|template| kind.template_hash(template));
    kind::get(existing, layout.replicas) == kind::get(built, layout.replicas) && hash(existing) == hash(built)
}

fn is_same_service(existing: &Service, built: &Value) -> bool {
    let spec = json!(existing.spec);
    spec.get("selector") == built.pointer("/spec/selector") && spec.get("ports") == built.pointer("/spec/ports")
}

#[cfg(test)]
mod tests;
