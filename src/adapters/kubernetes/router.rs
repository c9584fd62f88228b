//! The routers that split the traffic: one provider per [`RouterKind`].
//!
//! A provider knows one kind of route objects. Its functions are pure: they take a route as it was read and return the
//! patch that changes it. The callers list, fence and patch the routes of every provider in the same way. A further
//! router is a file under `router/`, two lines here, a variant with its capabilities in the core's `policy::traffic`,
//! and the verbs in the roles of `deploy/kustomize`.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::event::Failure;
use bellwether_core::input::status::{PreflightIssue, RouteStatus};
use bellwether_core::policy::{RouteName, RouterKind, Traffic};
use json_patch::Patch;
use kube::core::DynamicObject;

use super::api_kind::ApiKind;
use super::kind::FieldPath;
use super::providers::providers;
use super::{marks, owners};
use crate::ports::Epoch;

mod gateway;
mod record;
mod replicas;
#[cfg(test)]
mod suite;

providers! {
    ROUTERS, RouterKind => TrafficRouter {
        Gateway: gateway::GatewayRouter,
        Replicas: replicas::ReplicaRouter,
    }
}

/// The author of a change of a route, as the route's record names it.
#[derive(Debug, Clone)]
pub struct RouteMark {
    /// The id of the effect that is performed.
    pub effect: String,
    /// The epoch of the process that performs it.
    pub epoch: Epoch,
}

/// A way to split a workload's traffic between its stable and its canary.
///
/// A route belongs to its user, who may change it at any time. So a provider changes only the references that concern
/// the canary and the stable, notes the former weights in the route's record (see `record.rs`), and makes every patch
/// conditional on the values that it was computed from ([`PatchDraft`](super::patch::PatchDraft)). Several workloads
/// may share a route.
pub trait TrafficRouter: Debug + Send + Sync {
    /// Returns the router's name in policies.
    fn kind(&self) -> RouterKind;

    /// Returns the API kind of the routes; `None` if this router has no route objects. A kind that the API server does
    /// not know has no objects.
    fn resource(&self) -> Option<&'static ApiKind>;

    /// Returns the verbs that the adapter needs on the routes.
    fn verbs(&self) -> &'static [&'static str] {
        &["list", "watch", "patch"]
    }

    /// Returns the rules of `route` that send traffic to the Service `service`, by their index. If the policy names a
    /// route, only that route and that rule count.
    fn rules(&self, route: &DynamicObject, workload: &Workload, service: &str, named: Option<&RouteName>)
    -> Vec<usize>;

    /// Returns the Service whose traffic is split: of `services`, which select the stable's pods and are not empty, the
    /// one that most rules send traffic to.
    ///
    /// # Errors
    /// No rule sends traffic to any of them.
    fn preflight<'a>(
        &self,
        routes: &[DynamicObject],
        workload: &Workload,
        services: &[&'a str],
        named: Option<&RouteName>,
    ) -> Result<&'a str, PreflightIssue> {
        most_routed(services, |service| {
            routes.iter().map(|route| self.rules(route, workload, service, named).len()).sum()
        })
        .ok_or_else(|| match named {
            Some(named) => PreflightIssue::RouteMissing {
                route: match named.rule {
                    Some(rule) => format!("{} (rule {rule})", named.name),
                    None => named.name.clone(),
                },
            },
            None => PreflightIssue::NoRoute { service: services.join(", ") },
        })
    }

    /// Returns the port of the first reference to the Service `service` in the route.
    fn port(&self, route: &DynamicObject, service: &str) -> Option<u16>;

    /// Returns the epoch of the route's record for the workload; `None` if there is no record.
    fn epoch(&self, route: &DynamicObject, workload: &Workload) -> Option<u64>;

    /// Adds the canary with weight 0 to the rules that send traffic to `service`, and notes the weights that they had.
    /// `None` if every rule has it.
    ///
    /// # Errors
    /// A rule can't be split.
    fn join(
        &self,
        route: &DynamicObject,
        workload: &Workload,
        service: &str,
        traffic: &Traffic,
        mark: &RouteMark,
    ) -> Result<Option<Patch>, Failure>;

    /// Gives the canary the part `share` of the requests that the stable had alone, in every rule that has the canary.
    /// The parts of other backends stay the same. `None` if the weights are as requested.
    ///
    /// # Errors
    /// The canary was removed from a rule and the share is not 0; the message names the last writer of the rules.
    fn set_weight(
        &self,
        route: &DynamicObject,
        workload: &Workload,
        share: Weight,
        mark: &RouteMark,
    ) -> Result<Option<Patch>, Failure>;

    /// Removes the canary and the record, and restores the weights of every rule, in one patch. `None` if the route has
    /// neither.
    fn leave(&self, route: &DynamicObject, workload: &Workload) -> Option<Patch>;

    /// Returns the lowest share of the canary in the route's rules, and whether the route takes effect as written;
    /// `None` if no rule has the canary. While the route is as [`set_weight`](TrafficRouter::set_weight) wrote it, the
    /// share is exactly the requested one, even if the router rounds: any other share counts as an external change.
    fn observe(&self, route: &DynamicObject, workload: &Workload) -> Option<RouteStatus>;

    /// Returns the names of the workloads whose canary or record the route has, or may have. Others have no status in it.
    fn workloads(&self, route: &DynamicObject) -> BTreeSet<String>;

    /// Returns the place of the rules in a route.
    fn rules_path(&self) -> FieldPath;

    /// Returns the issues of the routes that send traffic to `service`.
    fn issues(
        &self,
        routes: &[DynamicObject],
        workload: &Workload,
        service: &str,
        traffic: &Traffic,
    ) -> Vec<PreflightIssue>;

    /// Returns whether a route of another namespace sends traffic to the workload's Service `service`.
    fn reaches(&self, route: &DynamicObject, workload: &Workload, service: &str) -> bool;

    /// Returns the field manager that last wrote the rules, Bellwether excepted.
    fn last_writer<'a>(&self, route: &'a DynamicObject) -> Option<&'a str> {
        owners::last_writer(&route.metadata, self.rules_path())
    }

    /// Returns whether the route has the workload's canary or its record.
    fn holds(&self, route: &DynamicObject, workload: &Workload) -> bool {
        self.epoch(route, workload).is_some() || self.observe(route, workload).is_some()
    }

    /// Checks that the route's record was not written in an epoch higher than `ours`.
    ///
    /// # Errors
    /// [`FailureKind::Fenced`](bellwether_core::input::event::FailureKind::Fenced) if it was.
    fn fence(&self, route: &DynamicObject, workload: &Workload, ours: Epoch) -> Result<(), Failure> {
        let kind = self.resource().map_or("route", |resource| resource.kind);
        marks::fence_epoch(self.epoch(route, workload), ours, &format!("{kind} {}", name(route)))
    }
}

/// A route with the router that it belongs to.
pub type Routed<'a> = (&'static dyn TrafficRouter, &'a DynamicObject);

/// Returns the status of the workload's canary in these routes: the lowest share, and the answers of all gateways together.
/// `None` if no route has the canary.
pub fn observe<'a>(routes: impl IntoIterator<Item = Routed<'a>>, workload: &Workload) -> Option<RouteStatus> {
    let found = routes.into_iter().filter_map(|(router, route)| router.observe(route, workload));
    found.reduce(|one, other| RouteStatus {
        weight: one.weight.min(other.weight),
        accepted: one.accepted.and(other.accepted),
    })
}

/// Returns the field manager that last wrote the rules of a route that has the workload's canary, Bellwether excepted.
pub fn last_writer<'a>(routes: impl IntoIterator<Item = Routed<'a>>, workload: &Workload) -> Option<&'a str> {
    let mut held = routes.into_iter().filter(|(router, route)| router.holds(route, workload));
    held.find_map(|(router, route)| router.last_writer(route))
}

/// Returns the epochs of a route's records, of all workloads.
pub fn epochs(route: &DynamicObject) -> Vec<u64> {
    record::epochs(route)
}

/// Returns the names of the workloads that the route has a record of.
pub fn recorded(route: &DynamicObject) -> Vec<String> {
    record::workloads(route)
}

/// Returns the route's name.
pub fn name(route: &DynamicObject) -> &str {
    route.metadata.name.as_deref().unwrap_or_default()
}

/// Returns the Service with the most rules, the first of equals; `None` if none has any.
fn most_routed<'a>(services: &[&'a str], rules: impl Fn(&str) -> usize) -> Option<&'a str> {
    let mut best: Option<(&str, usize)> = None;
    for service in services {
        let count = rules(service);
        if count > best.map_or(0, |(_, most)| most) {
            best = Some((service, count));
        }
    }
    best.map(|(service, _)| service)
}

#[cfg(test)]
mod tests;
