//! Finds the objects that would treat the canary's pods otherwise than the stable's: because they select by the label
//! that changes, because they don't, or because they name the stable's Service.

use bellwether_core::ids::Workload;
use bellwether_core::input::status::PreflightIssue;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{DynamicObject, Selector, SelectorExt};
use serde_json::Value;

use super::{Labels, PreflightObjects, TrafficPlan, name, selects};
use crate::adapters::kubernetes::{build, foreign, kind, marks};

/// The kinds of monitors that select pods; the others select Services.
const POD_MONITORS: [&str; 2] = ["PodMonitor", "PodMonitoring"];

/// The labels of both arms' pods.
struct ArmLabels {
    stable: Labels,
    canary: Labels,
}

impl ArmLabels {
    /// Returns whether a selector matches the stable's pods and not the canary's.
    fn are_told_apart(&self, selector: &LabelSelector) -> bool {
        matches(selector, &self.stable) && !matches(selector, &self.canary)
    }
}

impl PreflightObjects {
    /// Returns the issues that arise if this label changes; none if no label does. `cloned` is the Service whose copy is
    /// the canary's.
    pub(super) fn missed(&self, changed_label: Option<&str>, cloned: &str, workload: &Workload) -> Vec<PreflightIssue> {
        let Some(changed_label) = changed_label else { return Vec::new() };
        let stable = self.stable_labels(workload);
        let kind = kind::provider(workload.kind);
        let canary = build::pod_labels(kind, &stable, Some(changed_label), marks::CANARY);
        let arms = ArmLabels { stable, canary };
        let mut found = self.policies_that_miss(&arms, workload);
        found.extend(self.foreign_that_miss(&arms, workload));
        found.extend(self.services_that_select(&arms, changed_label, cloned));
        let monitors = self.monitors.iter().filter(|monitor| self.monitor_misses(monitor, &arms, cloned, workload));
        found.extend(monitors.map(|monitor| {
            let kind = monitor.types.as_ref().map_or("monitor", |types| types.kind.as_str());
            PreflightIssue::MonitorMisses { name: format!("{kind} {}", name(&monitor.metadata)) }
        }));
        found
    }

    fn policies_that_miss(&self, arms: &ArmLabels, workload: &Workload) -> Vec<PreflightIssue> {
        let missing = self.policies.iter().filter(|policy| {
            self.selectors(policy, workload).into_iter().any(|selector| arms.are_told_apart(selector))
        });
        let name = |policy: &NetworkPolicy| match &policy.metadata.namespace {
            Some(namespace) if *namespace != workload.namespace => format!("{namespace}/{}", name(&policy.metadata)),
            _ => name(&policy.metadata),
        };
        missing.map(|policy| PreflightIssue::NetworkPolicyMisses { name: name(policy) }).collect()
    }

    fn foreign_that_miss(&self, arms: &ArmLabels, workload: &Workload) -> Vec<PreflightIssue> {
        let with_namespace = |labels: &Labels| {
            let mut labels = labels.clone();
            labels.extend([foreign::namespace_label(workload)]);
            labels
        };
        let arms = ArmLabels { stable: with_namespace(&arms.stable), canary: with_namespace(&arms.canary) };
        let missing = self
            .foreign
            .iter()
            .filter(|policy| policy.selectors(workload).iter().any(|selector| arms.are_told_apart(selector)));
        missing.map(|policy| PreflightIssue::PolicyMisses { name: policy.title(workload) }).collect()
    }

    /// Returns the other Services that select the pods of both arms.
    fn services_that_select(&self, arms: &ArmLabels, changed_label: &str, cloned: &str) -> Vec<PreflightIssue> {
        let others = self
            .services
            .iter()
            .filter(|service| !marks::is_ours(&service.metadata) && service.metadata.name.as_deref() != Some(cloned));
        let reached = others.filter(|service| selects(service, &arms.stable) && selects(service, &arms.canary));
        let issue = |service: &Service| PreflightIssue::ServiceSelectsCanary {
            name: name(&service.metadata),
            label: changed_label.to_owned(),
        };
        reached.map(issue).collect()
    }

    /// Returns the policies that are attached to the stable's Service and have no counterpart for the canary's.
    pub(super) fn not_attached(&self, plan: &TrafficPlan, workload: &Workload) -> Vec<PreflightIssue> {
        if plan.changed_label.is_none() {
            return Vec::new();
        }
        let canary = workload.canary_name();
        let attached = self.foreign.iter().filter(|policy| policy.is_attached(&plan.service, workload));
        let alone = attached.filter(|policy| {
            let mut others = self.foreign.iter().filter(|other| other.kind == policy.kind);
            !others.any(|other| other.is_attached(&canary, workload))
        });
        let issue = |policy: &foreign::ForeignPolicy| PreflightIssue::PolicyNotAttached {
            name: policy.title(workload),
            service: plan.service.clone(),
            canary: canary.clone(),
        };
        alone.map(issue).collect()
    }

    /// Returns whether a monitor scrapes the stable's pods and would not scrape the canary's. A ServiceMonitor finds
    /// pods through any Service that it selects; the canary's Service is a copy of `cloned`.
    fn monitor_misses(&self, monitor: &DynamicObject, arms: &ArmLabels, cloned: &str, workload: &Workload) -> bool {
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
        if monitor.types.as_ref().is_some_and(|types| POD_MONITORS.contains(&types.kind.as_str())) {
            return arms.are_told_apart(&selector);
        }
        let labels = |service: &Service| service.metadata.labels.clone().unwrap_or_default();
        let scraped: Vec<&Service> =
            self.services.iter().filter(|service| matches(&selector, &labels(service))).collect();
        let stable_scraped = scraped.iter().any(|service| selects(service, &arms.stable));
        let mut copied = self.services.iter().filter(|service| service.metadata.name.as_deref() == Some(cloned));
        let through_copy =
            copied.any(|service| matches(&selector, &build::copied_labels(&service.metadata, marks::CANARY)));
        stable_scraped && !through_copy && !scraped.iter().any(|service| selects(service, &arms.canary))
    }

    /// Returns every selector of a policy for pods of the workload's namespace: of the pods that it applies to, and of
    /// their peers. A policy of another namespace has only peers here.
    fn selectors<'a>(&self, policy: &'a NetworkPolicy, workload: &Workload) -> Vec<&'a LabelSelector> {
        let is_here = policy.metadata.namespace.as_ref().is_none_or(|namespace| *namespace == workload.namespace);
        let Some(spec) = &policy.spec else { return Vec::new() };
        let ingress = spec.ingress.iter().flatten().filter_map(|rule| rule.from.as_ref());
        let egress = spec.egress.iter().flatten().filter_map(|rule| rule.to.as_ref());
        let is_meant = |peer: &&NetworkPolicyPeer| {
            let selector = peer.namespace_selector.as_ref();
            is_here || selector.is_some_and(|selector| matches(selector, &self.namespace_labels))
        };
        let peers = ingress.chain(egress).flatten().filter(is_meant).filter_map(|peer| peer.pod_selector.as_ref());
        spec.pod_selector.iter().filter(|_| is_here).chain(peers).collect()
    }
}

/// Returns whether the selector matches. A selector that can't be read matches nothing: the API server has validated
/// it, so it has an operator that is newer than this program.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
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
