//! Finds the issues of a preflight in the objects around a workload. Nothing here reads from a server.
//!
//! Where traffic is split by weight, the stable's Service must not select the canary's pods, so one label of its
//! selector gets another value on them. For the Service any label would do; but a NetworkPolicy or a monitor that
//! selects on the same label would miss the canary. So the labels are tried in order, and the first on which no other
//! object depends is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::ids::Workload;
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::policy::Traffic;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::Value;

use super::foreign::ForeignPolicy;
use super::{kind, marks, owners, router, template};

mod grants;
mod missed;

/// The labels that are tried first, because they name the application: people expect them to differ on a canary.
const PREFERRED: [&str; 2] = ["app.kubernetes.io/name", "app"];

type Labels = BTreeMap<String, String>;

/// The objects around a workload, as they were read.
#[derive(Debug)]
pub struct PreflightObjects {
    /// The workload's own object.
    pub stable: DynamicObject,
    /// The object of the workload's kind that has the canary's name.
    pub canary: Option<DynamicObject>,
    /// The object of the workload's kind that has the fresh baseline's name.
    pub baseline: Option<DynamicObject>,
    /// The Service that has the canary's name.
    pub canary_service: Option<Service>,
    /// All Services of the namespace.
    pub services: Arc<Vec<Service>>,
    /// All routes of the policy's router in the namespace.
    pub routes: Arc<Vec<DynamicObject>>,
    /// The labels of the namespace; empty if only objects of this namespace may be read.
    pub namespace_labels: Arc<Labels>,
    /// The routes of other namespaces that send traffic to Services of this one.
    pub elsewhere: Vec<DynamicObject>,
    /// The ReferenceGrants of the namespace; empty without routes elsewhere.
    pub grants: Vec<DynamicObject>,
    /// All NetworkPolicies that may be read, also of other namespaces.
    pub policies: Arc<Vec<NetworkPolicy>>,
    /// The policies of other controllers, also of other namespaces.
    pub foreign: Arc<Vec<ForeignPolicy>>,
    /// The ServiceMonitors and PodMonitors that may select objects of the namespace.
    pub monitors: Arc<Vec<DynamicObject>>,
    /// All HorizontalPodAutoscalers of the namespace.
    pub autoscalers: Arc<Vec<HorizontalPodAutoscaler>>,
    /// The PersistentVolumeClaims that the pods mount.
    pub claims: Vec<PersistentVolumeClaim>,
}

/// The separation of the stable's and the canary's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficPlan {
    /// The name of the Service whose traffic is split.
    pub service: String,
    /// The label whose value differs on the canary's pods; `None` if the Service selects them too.
    pub changed_label: Option<String>,
}

impl PreflightObjects {
    /// Returns the Service to split and the label to change.
    ///
    /// # Errors
    /// No Service selects the stable's pods, or no route sends traffic to one.
    pub fn traffic_plan(&self, workload: &Workload, traffic: &Traffic) -> Result<TrafficPlan, PreflightIssue> {
        let services = selecting(&*self.services, &self.stable_labels(workload), workload);
        if services.is_empty() {
            return Err(PreflightIssue::NoService);
        }
        let names: Vec<&str> = services.iter().filter_map(|service| service.metadata.name.as_deref()).collect();
        let router = router::provider(traffic.router);
        let chosen = router.preflight(&self.routes, workload, &names, traffic.route.as_ref())?;
        let service = services.iter().find(|service| service.metadata.name.as_deref() == Some(chosen));
        let changed_label =
            service.filter(|_| traffic.splits_by_weight()).and_then(|service| self.changed_label(service, workload));
        Ok(TrafficPlan { service: chosen.to_owned(), changed_label })
    }

    /// Returns the issues of a canary, and of a fresh baseline if there is to be one.
    pub fn issues(&self, workload: &Workload, traffic: &Traffic, fresh_baseline: bool) -> Vec<PreflightIssue> {
        let (kind, router) = (kind::provider(workload.kind), router::provider(traffic.router));
        let mut found = self.stable_issues(workload);
        found.extend(self.names_taken(workload, traffic, fresh_baseline));
        if let Some(manager) = owners::gitops_owner(&self.stable.metadata, kind.layout().template) {
            found.push(PreflightIssue::OwnedByGitOps { manager: manager.to_owned() });
        }
        match self.traffic_plan(workload, traffic) {
            Ok(plan) => {
                found.extend(self.missed(plan.changed_label.as_deref(), &plan.service, workload));
                found.extend(self.not_attached(&plan, workload));
                found.extend(router.issues(&self.routes, workload, &plan.service, traffic));
                found.extend(self.routed_elsewhere(workload, traffic, false));
            }
            Err(issue) => {
                let elsewhere = self.routed_elsewhere(workload, traffic, true);
                if elsewhere.is_empty() { found.push(issue) } else { found.extend(elsewhere) }
            }
        }
        for scaler in self.autoscalers.iter().filter(|scaler| autoscales(scaler, workload)) {
            let name = name(&scaler.metadata);
            if !traffic.splits_by_weight() {
                found.push(PreflightIssue::AutoscalerCountsCanary { name: name.clone() });
            }
            if fresh_baseline {
                found.push(PreflightIssue::AutoscalerCountsBaseline { name });
            }
        }
        found
    }

    /// Returns the label whose value differs on the canary's pods; `None` if the Service selects on none.
    fn changed_label(&self, service: &Service, workload: &Workload) -> Option<String> {
        // A selector is immutable, so a canary that exists keeps its label.
        let kept = self.canary.as_ref().filter(|canary| marks::is_ours(&canary.metadata));
        if let Some(key) = kept.and_then(|canary| marks::annotation(&canary.metadata, marks::CHANGED_LABEL)) {
            return Some(key.to_owned());
        }
        let selected = service.spec.as_ref().and_then(|spec| spec.selector.as_ref())?;
        let mut keys: Vec<&String> = selected.keys().collect();
        keys.sort_by_key(|key| {
            (PREFERRED.iter().position(|preferred| preferred == key).unwrap_or(PREFERRED.len()), *key)
        });
        let free = keys.iter().find(|key| self.missed(Some(key), &name(&service.metadata), workload).is_empty());
        free.or(keys.first()).map(|key| (*key).clone())
    }

    /// Returns the issues of the stable's own object and volumes.
    fn stable_issues(&self, workload: &Workload) -> Vec<PreflightIssue> {
        let kind = kind::provider(workload.kind);
        let mut found: Vec<PreflightIssue> = self
            .claims
            .iter()
            .filter(|claim| !can_be_shared(claim))
            .map(|claim| PreflightIssue::ReadWriteOnceVolume { claim: name(&claim.metadata) })
            .collect();
        let ports = kind.template(&self.stable).map(host_ports).unwrap_or_default();
        found.extend(ports.into_iter().map(|port| PreflightIssue::HostPort { port }));
        if kind.is_paused(&self.stable) {
            found.push(PreflightIssue::Paused);
        }
        if kind.is_recreated(&self.stable) {
            found.push(PreflightIssue::Recreate);
        }
        found.extend(owners::controller(&self.stable.metadata).map(|owner| PreflightIssue::Controlled { owner }));
        found
    }

    /// Returns an issue for each route of another namespace that sends traffic to a Service of the workload. `is_only`: no
    /// route of its own namespace does.
    fn routed_elsewhere(&self, workload: &Workload, traffic: &Traffic, is_only: bool) -> Vec<PreflightIssue> {
        let router = router::provider(traffic.router);
        let services = selecting(&*self.services, &self.stable_labels(workload), workload);
        let names: Vec<String> = services.iter().map(|service| name(&service.metadata)).collect();
        let reached = |route: &DynamicObject| {
            let service = names.iter().find(|service| router.reaches(route, workload, service))?;
            Some(PreflightIssue::RouteElsewhere {
                route: format!("{}/{}", route.metadata.namespace.as_deref().unwrap_or_default(), router::name(route)),
                service: service.clone(),
                grant: grants::narrow(&self.grants, route, service, &workload.canary_name()),
                is_only,
            })
        };
        self.elsewhere.iter().filter_map(reached).collect()
    }

    /// Returns the objects of other owners that have a name which the rollout needs.
    fn names_taken(&self, workload: &Workload, traffic: &Traffic, fresh_baseline: bool) -> Vec<PreflightIssue> {
        let foreign =
            |object: &Option<DynamicObject>| object.as_ref().is_some_and(|object| !marks::is_ours(&object.metadata));
        let service = self.canary_service.as_ref().is_some_and(|service| !marks::is_ours(&service.metadata));
        let kind = kind::provider(workload.kind).api_kind().kind;
        let taken = [
            (kind, workload.canary_name(), foreign(&self.canary)),
            ("Service", workload.canary_name(), service && traffic.splits_by_weight()),
            (kind, workload.baseline_name(), foreign(&self.baseline) && fresh_baseline),
        ];
        let taken = taken.into_iter().filter(|(.., taken)| *taken);
        taken.map(|(kind, name, _)| PreflightIssue::NameTaken { kind: kind.to_owned(), name }).collect()
    }

    fn stable_labels(&self, workload: &Workload) -> Labels {
        kind::provider(workload.kind).template(&self.stable).map(template::labels).unwrap_or_default()
    }
}

/// Returns the names of the PersistentVolumeClaims that a pod template mounts.
pub fn claims(template: &Value) -> Vec<String> {
    template
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|volume| Some(volume.pointer("/persistentVolumeClaim/claimName")?.as_str()?.to_owned()))
        .collect()
}

/// Returns the Services that select pods with these labels, ordered by name, without the canary's own.
pub fn selecting<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    labels: &Labels,
    workload: &Workload,
) -> Vec<&'a Service> {
    let mut found: Vec<&Service> = services
        .into_iter()
        .filter(|service| !marks::is_ours(&service.metadata) && name(&service.metadata) != workload.canary_name())
        .filter(|service| selects(service, labels))
        .collect();
    found.sort_by_key(|service| service.metadata.name.clone());
    found
}

fn selects(service: &Service, labels: &Labels) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    })
}

/// Returns whether pods on several nodes can mount the volume at the same time.
fn can_be_shared(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes.is_none_or(|modes| modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany"))
}

fn host_ports(template: &Value) -> Vec<u32> {
    template::containers(template)
        .flat_map(|(_, _, container)| container.get("ports").and_then(Value::as_array).into_iter().flatten())
        .filter_map(|port| u32::try_from(port.get("hostPort")?.as_u64()?).ok())
        .filter(|port| *port > 0)
        .collect()
}

/// Returns whether the autoscaler scales the workload.
pub fn autoscales(scaler: &HorizontalPodAutoscaler, workload: &Workload) -> bool {
    let kind = kind::provider(workload.kind).api_kind().kind;
    scaler.spec.as_ref().is_some_and(|spec| {
        let target = &spec.scale_target_ref;
        target.kind == kind && target.name == workload.name
    })
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests;
