//! Finds the issues of a preflight in the objects around a workload. Nothing here reads from a server.
//!
//! Where traffic is split by weight, the stable's Service must not select the canary's pods, so one label of its
//! selector gets another value on them. For the Service any label would do; but a NetworkPolicy or a monitor that
//! selects on the same label would miss the canary. So the labels are tried in order, and the first on which no other
//! object depends is taken.

use std::collections::BTreeMap;

use bellwether_core::ids::Workload;
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::policy::Traffic;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{DynamicObject, Selector, SelectorExt};
use serde_json::Value;

use super::{build, kind, marks, owners, router, template};

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
    pub services: Vec<Service>,
    /// All routes of the policy's router in the namespace.
    pub routes: Vec<DynamicObject>,
    /// All NetworkPolicies of the namespace.
    pub policies: Vec<NetworkPolicy>,
    /// The ServiceMonitors and PodMonitors that may select objects of the namespace.
    pub monitors: Vec<DynamicObject>,
    /// All HorizontalPodAutoscalers of the namespace.
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
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
        let services = selecting(&self.services, &self.stable_labels(workload), workload);
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
        let kind = kind::provider(workload.kind);
        let mut found = self.stable_issues(workload);
        found.extend(self.names_taken(workload, traffic, fresh_baseline));
        if let Some(manager) = owners::gitops_owner(&self.stable.metadata, kind.layout().template) {
            found.push(PreflightIssue::OwnedByGitOps { manager: manager.to_owned() });
        }
        match self.traffic_plan(workload, traffic) {
            Ok(plan) => found.extend(self.missed(plan.changed_label.as_deref(), &plan.service, workload)),
            Err(issue) => found.push(issue),
        }
        for scaler in self.autoscalers.iter().filter(|scaler| targets(scaler, workload)) {
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

    /// Returns the NetworkPolicies and monitors that would not select the canary's pods if this label changed. `cloned`
    /// is the Service whose copy is the canary's.
    fn missed(&self, changed_label: Option<&str>, cloned: &str, workload: &Workload) -> Vec<PreflightIssue> {
        let stable = self.stable_labels(workload);
        let canary = build::pod_labels(kind::provider(workload.kind), &stable, changed_label, marks::CANARY);
        let policies = self.policies.iter().filter(|policy| {
            selectors(policy).any(|selector| matches(selector, &stable) && !matches(selector, &canary))
        });
        let monitors = self.monitors.iter().filter(|monitor| self.misses(monitor, &stable, &canary, cloned, workload));
        policies
            .map(|policy| PreflightIssue::NetworkPolicyMisses { name: name(&policy.metadata) })
            .chain(monitors.map(|monitor| PreflightIssue::MonitorMisses {
                name: format!(
                    "{} {}",
                    monitor.types.as_ref().map_or("monitor", |types| types.kind.as_str()),
                    name(&monitor.metadata)
                ),
            }))
            .collect()
    }

    /// Returns whether a monitor scrapes the stable's pods and would not scrape the canary's. A ServiceMonitor finds
    /// pods through any Service that it selects; the canary's Service has the labels of the stable's.
    fn misses(
        &self,
        monitor: &DynamicObject,
        stable: &Labels,
        canary: &Labels,
        cloned: &str,
        workload: &Workload,
    ) -> bool {
        if !watches_namespace(monitor, &workload.namespace) {
            return false;
        }
        let Some(selector) = monitor
            .data
            .pointer("/spec/selector")
            .and_then(|selector| serde_json::from_value::<LabelSelector>(selector.clone()).ok())
        else {
            return false;
        };
        if monitor.types.as_ref().is_some_and(|types| types.kind == "PodMonitor") {
            return matches(&selector, stable) && !matches(&selector, canary);
        }
        let scraped: Vec<&Service> = self
            .services
            .iter()
            .filter(|service| matches(&selector, service.metadata.labels.as_ref().unwrap_or(&Labels::new())))
            .collect();
        let stable_scraped = scraped.iter().any(|service| selects(service, stable));
        let through_clone = !relies_on_managed_by(&selector)
            && scraped.iter().any(|service| service.metadata.name.as_deref() == Some(cloned));
        stable_scraped && !through_clone && !scraped.iter().any(|service| selects(service, canary))
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
        found
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

/// Returns every selector of a policy for pods of its own namespace: of the pods that it applies to and of their peers.
fn selectors(policy: &NetworkPolicy) -> impl Iterator<Item = &LabelSelector> {
    let spec = policy.spec.as_ref();
    let ingress =
        spec.and_then(|spec| spec.ingress.as_ref()).into_iter().flatten().filter_map(|rule| rule.from.as_ref());
    let egress = spec.and_then(|spec| spec.egress.as_ref()).into_iter().flatten().filter_map(|rule| rule.to.as_ref());
    let peers = ingress.chain(egress).flatten().filter_map(|peer: &NetworkPolicyPeer| peer.pod_selector.as_ref());
    spec.and_then(|spec| spec.pod_selector.as_ref()).into_iter().chain(peers)
}

/// Returns whether the selector matches. A selector that can't be read matches nothing: the API server has validated
/// it, so it has an operator that is newer than this program.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// Returns whether the selector uses the one label whose value differs on a Service's copy.
fn relies_on_managed_by(selector: &LabelSelector) -> bool {
    let by_label = selector.match_labels.as_ref().is_some_and(|labels| labels.contains_key(marks::MANAGED_BY));
    let by_expression = selector.match_expressions.iter().flatten().any(|part| part.key == marks::MANAGED_BY);
    by_label || by_expression
}

/// Returns whether the monitor selects objects of the namespace.
fn watches_namespace(monitor: &DynamicObject, namespace: &str) -> bool {
    let selector = monitor.data.pointer("/spec/namespaceSelector");
    let any = selector.and_then(|selector| selector.get("any")).and_then(Value::as_bool) == Some(true);
    let names = selector.and_then(|selector| selector.get("matchNames")).and_then(Value::as_array);
    any || match names.filter(|names| !names.is_empty()) {
        Some(names) => names.iter().any(|name| name.as_str() == Some(namespace)),
        None => monitor.metadata.namespace.as_deref() == Some(namespace),
    }
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
fn targets(scaler: &HorizontalPodAutoscaler, workload: &Workload) -> bool {
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
