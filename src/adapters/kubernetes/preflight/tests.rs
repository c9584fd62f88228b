use bellwether_core::ids::WorkloadKind;
use bellwether_core::policy::{RouteName, RouterKind};
use serde_json::json;

use super::*;

#[test]
fn an_ordinary_workload_has_no_issues() {
    assert_eq!(issues(&objects(), &gateway()), []);
    assert_eq!(issues(&objects(), &Traffic::by(RouterKind::Replicas)), []);
}

#[test]
fn everything_that_prevents_a_second_pod_is_an_issue() {
    let mut one = objects();
    one.stable.data["spec"]["template"]["spec"]["containers"][0]["ports"] =
        json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]);
    one.stable.data["spec"]["paused"] = json!(true);
    one.claims =
        vec![claim("data", &["ReadWriteOnce"]), claim("shared", &["ReadWriteMany"]), claim("ro", &["ReadOnlyMany"])];
    assert_eq!(
        issues(&one, &gateway()),
        [
            PreflightIssue::ReadWriteOnceVolume { claim: "data".into() },
            PreflightIssue::HostPort { port: 8080 },
            PreflightIssue::Paused,
        ]
    );
}

#[test]
fn the_claims_that_the_pods_mount_are_found() {
    let template = json!({"spec": {"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "emptyDir": {}}]}});
    assert_eq!(claims(&template), ["data"]);
}

#[test]
fn a_name_is_taken_unless_the_object_is_bellwethers() {
    let taken = |kind: &str| PreflightIssue::NameTaken { kind: kind.into(), name: "web-canary".into() };
    for (labels, expected) in [(json!({}), true), (json!({marks::MANAGED_BY: marks::MANAGER}), false)] {
        let mut one = objects();
        let metadata = json!({"metadata": {"name": "web-canary", "labels": labels}});
        one.canary = Some(from(metadata.clone()));
        one.canary_service = Some(from(metadata));
        let expected = if expected { vec![taken("Deployment"), taken("Service")] } else { vec![] };
        assert_eq!(issues(&one, &gateway()), expected);
    }
}

#[test]
fn a_fresh_baseline_needs_its_name_and_is_counted_by_an_autoscaler() {
    let mut one = objects();
    one.baseline = Some(from(json!({"metadata": {"name": "web-baseline"}})));
    one.autoscalers = vec![from(json!({
        "metadata": {"name": "web"}, "spec": {"maxReplicas": 9, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    }))];
    let name = |name: &str| name.to_owned();
    let taken = PreflightIssue::NameTaken { kind: name("Deployment"), name: name("web-baseline") };
    assert_eq!(
        one.issues(&web(), &gateway(), true),
        [taken, PreflightIssue::AutoscalerCountsBaseline { name: name("web") }]
    );
    assert_eq!(one.issues(&web(), &gateway(), false), [], "without a baseline neither is an issue");
    one.baseline =
        Some(from(json!({"metadata": {"name": "web-baseline", "labels": {marks::MANAGED_BY: marks::MANAGER}}})));
    assert_eq!(
        one.issues(&web(), &Traffic::by(RouterKind::Replicas), true),
        [
            PreflightIssue::AutoscalerCountsCanary { name: name("web") },
            PreflightIssue::AutoscalerCountsBaseline { name: name("web") }
        ]
    );
}

#[test]
fn by_replicas_the_canary_needs_no_service_of_its_own() {
    let mut one = objects();
    one.canary_service = Some(from(json!({"metadata": {"name": "web-canary"}})));
    assert_eq!(issues(&one, &Traffic::by(RouterKind::Replicas)), []);
}

#[test]
fn traffic_needs_a_service_and_a_route() {
    let mut no_service = objects();
    no_service.services = vec![service("other", &json!({"app": "other"})), service("none", &json!({}))];
    assert_eq!(issues(&no_service, &gateway()), [PreflightIssue::NoService]);
    assert_eq!(issues(&no_service, &Traffic::by(RouterKind::Replicas)), [PreflightIssue::NoService]);

    let mut no_route = objects();
    no_route.routes = vec![route("shop", "other")];
    assert_eq!(issues(&no_route, &gateway()), [PreflightIssue::NoRoute { service: "web".into() }]);
    assert_eq!(issues(&no_route, &Traffic::by(RouterKind::Replicas)), []);
}

#[test]
fn a_route_that_the_policy_names_must_be_there() {
    let named = |name: &str, rule| Traffic { route: Some(RouteName { name: name.into(), rule }), ..Traffic::default() };
    assert_eq!(issues(&objects(), &named("shop", Some(0))), []);
    assert_eq!(issues(&objects(), &named("nope", None)), [PreflightIssue::RouteMissing { route: "nope".into() }]);
    assert_eq!(
        issues(&objects(), &named("shop", Some(1))),
        [PreflightIssue::RouteMissing { route: "shop (rule 1)".into() }]
    );
}

#[test]
fn of_several_services_the_routed_one_is_split() {
    let mut one = objects();
    one.services.insert(0, service("a-metrics", &json!({"app": "web"})));
    assert_eq!(one.traffic_plan(&web(), &gateway()).unwrap().service, "web");
    assert_eq!(one.traffic_plan(&web(), &Traffic::by(RouterKind::Replicas)).unwrap().service, "a-metrics");
}

#[test]
fn the_applications_label_changes_unless_another_object_selects_on_it() {
    let key = |policies: &[Value]| {
        let mut one = objects();
        one.policies = policies.iter().cloned().map(from).collect();
        one.traffic_plan(&web(), &gateway()).unwrap().changed_label.unwrap()
    };
    let by_app = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}}}});
    let by_tier = json!({"metadata": {"name": "t"}, "spec": {"podSelector": {"matchLabels": {"tier": "front"}}}});
    assert_eq!(key(&[]), "app");
    assert_eq!(key(std::slice::from_ref(&by_app)), "tier");
    // Other objects select on every label: the first is taken, and those objects are reported.
    assert_eq!(key(&[by_app, by_tier]), "app");
}

#[test]
fn a_canary_that_exists_keeps_its_label() {
    let mut one = objects();
    one.canary = Some(from(json!({"metadata": {"name": "web-canary", "labels": {marks::MANAGED_BY: marks::MANAGER},
        "annotations": {marks::CHANGED_LABEL: "tier"}}})));
    assert_eq!(one.traffic_plan(&web(), &gateway()).unwrap().changed_label.as_deref(), Some("tier"));
}

#[test]
fn a_network_policy_that_would_miss_the_canary_is_named() {
    let mut one = single_label();
    let peer = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    for (spec, missed) in [
        (json!({"podSelector": {"matchLabels": {"app": "web"}}}), true),
        (json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}}), true),
        (json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [peer]}]}), true),
        (json!({"podSelector": {"matchLabels": {"app": "db"}}, "egress": [{"to": [peer]}]}), true),
        (json!({"podSelector": {}}), false),
        (json!({"podSelector": {"matchLabels": {"app": "other"}}}), false),
    ] {
        one.policies = vec![from(json!({"metadata": {"name": "p"}, "spec": spec}))];
        let expected = if missed { vec![PreflightIssue::NetworkPolicyMisses { name: "p".into() }] } else { vec![] };
        assert_eq!(issues(&one, &gateway()), expected, "{spec}");
        assert_eq!(issues(&one, &Traffic::by(RouterKind::Replicas)), [], "{spec}");
    }
}

#[test]
fn a_monitor_that_would_miss_the_canary_is_named() {
    let mut one = single_label();
    one.services[0].metadata.labels = Some(Labels::from([("app".into(), "web".into())]));
    one.services.push(from(
        json!({"metadata": {"name": "metrics", "labels": {"for": "metrics"}}, "spec": {"selector": {"app": "web"}}}),
    ));
    for (kind, namespace, spec, missed) in [
        ("PodMonitor", "demo", json!({"selector": {"matchLabels": {"app": "web"}}}), true),
        ("PodMonitor", "demo", json!({"selector": {}}), false),
        ("PodMonitor", "demo", json!({"selector": {"matchLabels": {"app": "other"}}}), false),
        ("PodMonitor", "monitoring", json!({"selector": {"matchLabels": {"app": "web"}}}), false),
        (
            "PodMonitor",
            "monitoring",
            json!({"selector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"any": true}}),
            true,
        ),
        (
            "PodMonitor",
            "monitoring",
            json!({"selector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"matchNames": ["demo"]}}),
            true,
        ),
        // The canary's Service is a copy of `web`, so a monitor of `web` selects it too.
        ("ServiceMonitor", "demo", json!({"selector": {"matchLabels": {"app": "web"}}}), false),
        // A Service without a copy leads to the stable's pods alone.
        ("ServiceMonitor", "demo", json!({"selector": {"matchLabels": {"for": "metrics"}}}), true),
        ("ServiceMonitor", "demo", json!({"selector": {"matchLabels": {"for": "nothing"}}}), false),
    ] {
        one.monitors = vec![from(json!({"apiVersion": "monitoring.coreos.com/v1", "kind": kind,
            "metadata": {"name": "m", "namespace": namespace}, "spec": spec}))];
        let expected = if missed { vec![PreflightIssue::MonitorMisses { name: format!("{kind} m") }] } else { vec![] };
        assert_eq!(issues(&one, &gateway()), expected, "{kind} {spec}");
    }
}

#[test]
fn a_template_that_a_gitops_tool_owns_is_an_issue() {
    let mut one = objects();
    one.stable.metadata.managed_fields = Some(vec![from(json!({"manager": "argocd-controller", "fieldsV1":
        {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{}": {"f:image": {}}}}}}}}))]);
    assert_eq!(issues(&one, &gateway()), [PreflightIssue::OwnedByGitOps { manager: "argocd-controller".into() }]);
}

#[test]
fn an_autoscaler_counts_the_canary_only_by_replicas() {
    let mut one = objects();
    let scaler = |name: &str, kind: &str| {
        from(json!({"metadata": {"name": "hpa"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": kind, "name": name}}}))
    };
    one.autoscalers = vec![scaler("web", "Deployment"), scaler("other", "Deployment"), scaler("web", "StatefulSet")];
    assert_eq!(issues(&one, &gateway()), []);
    assert_eq!(
        issues(&one, &Traffic::by(RouterKind::Replicas)),
        [PreflightIssue::AutoscalerCountsCanary { name: "hpa".into() }]
    );
}

fn issues(objects: &PreflightObjects, traffic: &Traffic) -> Vec<PreflightIssue> {
    objects.issues(&web(), traffic, false)
}

fn objects() -> PreflightObjects {
    PreflightObjects {
        stable: from(json!({
            "metadata": {"name": "web", "namespace": "demo", "uid": "uid"},
            "spec": {"template": {"metadata": {"labels": {"app": "web", "tier": "front", "zone": "a"}},
                "spec": {"containers": [{"name": "web", "image": "shop/web:1"}]}}},
        })),
        canary: None,
        baseline: None,
        canary_service: None,
        services: vec![
            service("web", &json!({"app": "web", "tier": "front"})),
            service("other", &json!({"app": "other"})),
        ],
        routes: vec![route("shop", "web")],
        policies: Vec::new(),
        monitors: Vec::new(),
        autoscalers: Vec::new(),
        claims: Vec::new(),
    }
}

/// The Service selects on one label, so there is no other to change.
fn single_label() -> PreflightObjects {
    PreflightObjects { services: vec![service("web", &json!({"app": "web"}))], ..objects() }
}

fn service(name: &str, selector: &Value) -> Service {
    from(
        json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {"selector": selector, "ports": [{"port": 80}]}}),
    )
}

fn route(name: &str, service: &str) -> DynamicObject {
    from(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "demo"}, "spec": {"rules": [{"backendRefs": [{"name": service, "port": 80}]}]}}))
}

fn claim(name: &str, modes: &[&str]) -> PersistentVolumeClaim {
    from(json!({"metadata": {"name": name}, "spec": {"accessModes": modes}}))
}

fn gateway() -> Traffic {
    Traffic::by(RouterKind::Gateway)
}

fn web() -> Workload {
    Workload { cluster: "test".into(), namespace: "demo".into(), kind: WorkloadKind::Deployment, name: "web".into() }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
