//! Gives all traffic of a workload to its stable, on the order of a person and without a daemon.
//!
//! The canary's objects stay. The order is noted on the canary's workload object before the weights are written, so that
//! a daemon ends the rollout and does not revert the weights as an external change. No epoch is raised: the next owner of
//! the partition may write all objects as before.

use bellwether_core::ids::{Images, RolloutId, Weight, Workload};
use bellwether_core::input::command::Author;
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::input::status::Release;
use futures::future::try_join_all;
use futures::try_join;
use kube::core::DynamicObject;
use serde_json::json;

use super::api_kind::ApiKind;
use super::kind;
use super::marks::{self, RELEASED, ROLLOUT};
use super::patch::PatchDraft;
use super::router::{self, ROUTERS, RouteMark, TrafficRouter};
use super::server::Server;
use super::{canary, stable};
use crate::ports::Epoch;

/// The number of attempts at a release while other clients change the same objects.
const ATTEMPTS: u32 = 5;

/// The split of a workload's traffic, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Pods requested for the stable.
    pub replicas: u32,
    /// Pods of the stable that are available.
    pub available: u32,
    /// Images of the stable, by container.
    pub images: Images,
    /// The canary's shares: each an object with the share that it gives, such as a route and `30 %`.
    pub shares: Vec<(String, String)>,
    /// The name of the canary's workload object; `None` if there is none.
    pub canary: Option<String>,
}

/// A workload with its canary and the routes that have it.
struct SplitObjects {
    stable: DynamicObject,
    canary: Option<DynamicObject>,
    routes: Vec<(&'static dyn TrafficRouter, &'static ApiKind, DynamicObject)>,
}

/// Reads how a workload's traffic is split.
///
/// # Errors
/// A read failed, or the workload does not exist.
pub async fn read_split(server: &Server, workload: &Workload) -> Result<Split, Failure> {
    let kind = kind::provider(workload.kind);
    let SplitObjects { stable, canary, routes } = read(server, workload).await?;
    let stable = kind.read(&stable).ok_or_else(|| stable::gone(workload))?.own_status;
    let canary = canary.and_then(|canary| kind.read(&canary));
    let by_weight = routes.iter().filter_map(|(router, resource, route)| {
        let title = format!("{} {}/{}", resource.kind, workload.namespace, router::name(route));
        Some((title, router.observe(route, workload)?.weight.to_string()))
    });
    let by_pods = canary.iter().filter(|canary| !canary.has_own_service).map(|canary| {
        let title = format!("{} {}/{}", workload.kind, workload.namespace, canary.name);
        let pods = canary.own_status.total;
        (title, if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") })
    });
    Ok(Split {
        replicas: stable.replicas,
        available: stable.available,
        images: stable.images,
        shares: by_weight.chain(by_pods).collect(),
        canary: canary.as_ref().map(|canary| canary.name.clone()),
    })
}

/// Gives all traffic to the stable.
///
/// # Errors
/// A read or a write failed, or the workload does not exist.
pub async fn release(server: &Server, workload: &Workload, author: &Author) -> Result<(), Failure> {
    let mut attempts = 1;
    loop {
        match attempt(server, workload, author).await {
            Err(Failure { kind: FailureKind::Conflict, .. }) if attempts < ATTEMPTS => attempts += 1,
            result => return result,
        }
    }
}

async fn attempt(server: &Server, workload: &Workload, author: &Author) -> Result<(), Failure> {
    let SplitObjects { canary, routes, .. } = read(server, workload).await?;
    let noted = match &canary {
        Some(canary) => give_up(server, workload, canary, author).await,
        None => Ok(()),
    };
    for (router, resource, route) in &routes {
        let mark = RouteMark {
            effect: format!("released by {}", author.by),
            epoch: Epoch(router.epoch(route, workload).unwrap_or(0)),
        };
        if let Some(patch) = router.set_weight(route, workload, Weight::ZERO, &mark)? {
            canary::patch_route(server, resource, workload, route, patch).await?;
        }
    }
    noted.map_err(|Failure { kind, message }| Failure {
        kind,
        message: format!(
            "no route gives the canary traffic, but the order is not noted on {}: {message}; a daemon may give the \
             canary its traffic back",
            workload.canary_name()
        ),
    })
}

/// Notes the order on the canary's workload object. Removes its pods if the stable's Service selects them.
async fn give_up(server: &Server, workload: &Workload, canary: &DynamicObject, author: &Author) -> Result<(), Failure> {
    let kind = kind::provider(workload.kind);
    let metadata = &canary.metadata;
    let mut draft = PatchDraft::of(metadata);
    if let Some(rollout) = marks::annotation(metadata, ROLLOUT).map(|id| RolloutId(id.to_owned()))
        && marks::release(metadata).is_none_or(|noted| noted.rollout != rollout)
    {
        draft.annotate(RELEASED, json!(Release { rollout, author: author.clone() }).to_string());
    }
    let replicas = kind::get(&canary.data, kind.layout().replicas);
    if !marks::has_own_service(metadata) && replicas != Some(&json!(0)) {
        draft.add(kind.layout().replicas, json!(0));
    }
    let Some(patch) = draft.finish() else { return Ok(()) };
    server.patch(server.workloads(workload), kind.api_kind().kind, &workload.canary_name(), patch).await
}

/// Reads the workload, its canary and the routes that have it, of every router. A canary of another owner is left out.
async fn read(server: &Server, workload: &Workload) -> Result<SplitObjects, Failure> {
    let lists = ROUTERS.iter().filter_map(|router| Some((*router, router.resource()?)));
    let routes = lists.map(|(router, resource)| async move {
        let routes = server.list_if_known(resource, Some(&workload.namespace)).await?;
        let held = routes.into_iter().filter(|route| router.holds(route, workload));
        Ok(held.map(|route| (router, resource, route)).collect::<Vec<_>>())
    });
    let canary_name = workload.canary_name();
    let (stable, canary, routes) = try_join!(
        server.workload_object(workload, &workload.name),
        server.workload_object(workload, &canary_name),
        try_join_all(routes),
    )?;
    Ok(SplitObjects {
        stable: stable.ok_or_else(|| stable::gone(workload))?,
        canary: canary.filter(|canary| marks::is_ours(&canary.metadata)),
        routes: routes.concat(),
    })
}

#[cfg(test)]
mod tests;
