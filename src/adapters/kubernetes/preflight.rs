//! What stands in the way of a canary, from the objects around the workload. Nothing here asks a server.
//!
//! With a router the canary's pods must not match the stable's Service, so one label that it selects on changes its
//! value. Any label would do for the Service; but a NetworkPolicy or a monitor may select on the same one and would then
//! miss the canary. So the keys are tried in order, and the first that nobody else depends on is taken.

use std::collections::BTreeMap;

use bellwether_core::ids::Workload;
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::policy::{RouteName, Traffic};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{DynamicObject, Selector, SelectorExt};
use serde_json::Value;

use super::{build, marks, owners, route, template};

/// Labels that name the application are tried first: people expect these to tell the canary apart.
const PREFERRED: [&str; 2] = ["app.kubernetes.io/name", "app"];

type Labels = BTreeMap<String, String>;

/// The objects around a workload, as they were read.
#[derive(Debug)]
pub struct Surroundings {
    /// The workload's Deployment.
    pub deployment: DynamicObject,
    /// The Deployment that has the canary's name.
    pub canary: Option<DynamicObject>,
    /// The Deployment that has the fresh baseline's name.
    pub baseline: Option<DynamicObject>,
    /// The Service that has the canary's name.
    pub canary_service: Option<Service>,
    /// All Services of the namespace.
    pub services: Vec<Service>,
    /// All HTTPRoutes of the namespace.
    pub routes: Vec<DynamicObject>,
    /// All NetworkPolicies of the namespace.
    pub policies: Vec<NetworkPolicy>,
    /// The ServiceMonitors and PodMonitors that may be about the namespace.
    pub monitors: Vec<DynamicObject>,
    /// All HorizontalPodAutoscalers of the namespace.
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
    /// The claims that the pods mount.
    pub claims: Vec<PersistentVolumeClaim>,
}

/// How traffic gets to the workload, and how a canary's pods are kept apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The Service that is split.
    pub service: String,
    /// The label whose value changes; `None` by replica ratio.
    pub changed_label: Option<String>,
}

impl Surroundings {
    /// The way of the traffic, or what is missing on it.
    ///
    /// # Errors
    /// No Service, or no route to it.
    pub fn path(&self, workload: &Workload, traffic: &Traffic) -> Result<Path, PreflightIssue> {
        let services = selecting(&self.services, &self.stable_labels(), workload);
        let first = services.first().ok_or(PreflightIssue::NoService)?;
        if !traffic.splits_by_weight() {
            return Ok(Path { service: name(&first.metadata), changed_label: None });
        }
        let service = self.routed_service(workload, &services, traffic.route.as_ref())?;
        let changed_label = self.changed_label(service, workload);
        Ok(Path { service: name(&service.metadata), changed_label })
    }

    /// All that stands in the way of a canary, and of a fresh baseline where there is to be one, or is worth saying aloud.
    pub fn issues(&self, workload: &Workload, traffic: &Traffic, fresh_baseline: bool) -> Vec<PreflightIssue> {
        let mut found = self.own_obstacles();
        found.extend(self.names_taken(workload, traffic, fresh_baseline));
        if let Some(manager) = owners::gitops_owner(&self.deployment.metadata) {
            found.push(PreflightIssue::OwnedByGitOps { manager: manager.to_owned() });
        }
        match self.path(workload, traffic) {
            Ok(path) => found.extend(self.missed(path.changed_label.as_deref(), &path.service, workload)),
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

    /// Whoever would not find the canary's pods if this label changed: NetworkPolicies and monitors. `cloned` is the
    /// Service that the canary gets a clone of.
    fn missed(&self, changed_label: Option<&str>, cloned: &str, workload: &Workload) -> Vec<PreflightIssue> {
        let stable = self.stable_labels();
        let canary = build::pod_labels(&stable, changed_label, marks::CANARY);
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

    /// A monitor that scrapes the stable's pods and would not scrape the canary's. A ServiceMonitor finds pods through
    /// any Service that it selects; the canary's Service has the labels of the stable's.
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

    /// The label whose value the canary's pods change.
    fn changed_label(&self, service: &Service, workload: &Workload) -> Option<String> {
        // A selector can't be changed, so a canary that is there keeps its label.
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

    /// Of the Services in front of the pods, the one that most rules send traffic to.
    fn routed_service<'a>(
        &self,
        workload: &Workload,
        services: &[&'a Service],
        named: Option<&RouteName>,
    ) -> Result<&'a Service, PreflightIssue> {
        let rules = |service: &Service| -> usize {
            let service = name(&service.metadata);
            self.routes.iter().map(|route| route::rules_to(route, workload, &service, named).len()).sum()
        };
        let mut best: Option<(&Service, usize)> = None;
        for service in services {
            let count = rules(service);
            if count > best.map_or(0, |(_, most)| most) {
                best = Some((service, count));
            }
        }
        best.map(|(service, _)| service).ok_or_else(|| match named {
            Some(named) => PreflightIssue::RouteMissing {
                route: match named.rule {
                    Some(rule) => format!("{} (rule {rule})", named.name),
                    None => named.name.clone(),
                },
            },
            None => PreflightIssue::NoRoute {
                service: services.iter().map(|service| name(&service.metadata)).collect::<Vec<_>>().join(", "),
            },
        })
    }

    fn own_obstacles(&self) -> Vec<PreflightIssue> {
        let spec = self.deployment.data.get("spec").cloned().unwrap_or_default();
        let mut found: Vec<PreflightIssue> = self
            .claims
            .iter()
            .filter(|claim| !can_be_shared(claim))
            .map(|claim| PreflightIssue::ReadWriteOnceVolume { claim: name(&claim.metadata) })
            .collect();
        let pods = spec.get("template").cloned().unwrap_or_default();
        found.extend(host_ports(&pods).into_iter().map(|port| PreflightIssue::HostPort { port }));
        if spec.get("paused").and_then(Value::as_bool) == Some(true) {
            found.push(PreflightIssue::Paused);
        }
        found
    }

    fn names_taken(&self, workload: &Workload, traffic: &Traffic, fresh_baseline: bool) -> Vec<PreflightIssue> {
        let deployment =
            |there: &Option<DynamicObject>| there.as_ref().is_some_and(|there| !marks::is_ours(&there.metadata));
        let service = self.canary_service.as_ref().is_some_and(|there| !marks::is_ours(&there.metadata));
        let taken = [
            ("Deployment", workload.canary_name(), deployment(&self.canary)),
            ("Service", workload.canary_name(), service && traffic.splits_by_weight()),
            ("Deployment", workload.baseline_name(), deployment(&self.baseline) && fresh_baseline),
        ];
        let taken = taken.into_iter().filter(|(.., taken)| *taken);
        taken.map(|(kind, name, _)| PreflightIssue::NameTaken { kind: kind.to_owned(), name }).collect()
    }

    fn stable_labels(&self) -> Labels {
        self.deployment.data.pointer("/spec/template").map(template::labels).unwrap_or_default()
    }
}

/// The claims that a pod template mounts.
pub fn claims(template: &Value) -> Vec<String> {
    template
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|volume| Some(volume.pointer("/persistentVolumeClaim/claimName")?.as_str()?.to_owned()))
        .collect()
}

/// The Services that select pods with these labels, by name; the canary's own is none of them.
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

/// Every selector by which a policy picks pods of its own namespace: those it is for, and those it lets in or out.
fn selectors(policy: &NetworkPolicy) -> impl Iterator<Item = &LabelSelector> {
    let spec = policy.spec.as_ref();
    let ingress =
        spec.and_then(|spec| spec.ingress.as_ref()).into_iter().flatten().filter_map(|rule| rule.from.as_ref());
    let egress = spec.and_then(|spec| spec.egress.as_ref()).into_iter().flatten().filter_map(|rule| rule.to.as_ref());
    let peers = ingress.chain(egress).flatten().filter_map(|peer: &NetworkPolicyPeer| peer.pod_selector.as_ref());
    spec.and_then(|spec| spec.pod_selector.as_ref()).into_iter().chain(peers)
}

/// A selector that can't be read matches nothing: the API server has let it in, so this is about a newer operator.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// The one label of a Service that its clone has otherwise.
fn relies_on_managed_by(selector: &LabelSelector) -> bool {
    let by_label = selector.match_labels.as_ref().is_some_and(|labels| labels.contains_key(marks::MANAGED_BY));
    let by_expression = selector.match_expressions.iter().flatten().any(|part| part.key == marks::MANAGED_BY);
    by_label || by_expression
}

fn watches_namespace(monitor: &DynamicObject, namespace: &str) -> bool {
    let selector = monitor.data.pointer("/spec/namespaceSelector");
    let any = selector.and_then(|selector| selector.get("any")).and_then(Value::as_bool) == Some(true);
    let names = selector.and_then(|selector| selector.get("matchNames")).and_then(Value::as_array);
    any || match names.filter(|names| !names.is_empty()) {
        Some(names) => names.iter().any(|name| name.as_str() == Some(namespace)),
        None => monitor.metadata.namespace.as_deref() == Some(namespace),
    }
}

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

fn targets(scaler: &HorizontalPodAutoscaler, workload: &Workload) -> bool {
    scaler.spec.as_ref().is_some_and(|spec| {
        let target = &spec.scale_target_ref;
        target.kind == "Deployment" && target.name == workload.name
    })
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests;
