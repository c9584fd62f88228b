use std::sync::Arc;

use bellwether_core::ids::WorkloadKind;
use bellwether_core::policy::{Cohort, RouteName, RouterKind};
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
    one.stable.data["spec"]["strategy"] = json!({"type": "Recreate"});
    one.claims =
        vec![claim("data", &["ReadWriteOnce"]), claim("shared", &["ReadWriteMany"]), claim("ro", &["ReadOnlyMany"])];
    assert_eq!(
        issues(&one, &gateway()),
        [
            PreflightIssue::ReadWriteOnceVolume { claim: "data".into() },
            PreflightIssue::HostPort { port: 8080 },
            PreflightIssue::Paused,
            PreflightIssue::Recreate,
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
    one.autoscalers = Arc::new(vec![from(json!({
        "metadata": {"name": "web"}, "spec": {"maxReplicas": 9, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    }))]);
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
    no_service.services = Arc::new(vec![service("other", &json!({"app": "other"})), service("none", &json!({}))]);
    assert_eq!(issues(&no_service, &gateway()), [PreflightIssue::NoService]);
    assert_eq!(issues(&no_service, &Traffic::by(RouterKind::Replicas)), [PreflightIssue::NoService]);

    let mut no_route = objects();
    no_route.routes = Arc::new(vec![route("shop", "other")]);
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
    Arc::make_mut(&mut one.services).insert(0, service("a-metrics", &json!({"app": "web"})));
    assert_eq!(one.traffic_plan(&web(), &gateway()).unwrap().service, "web");
    assert_eq!(one.traffic_plan(&web(), &Traffic::by(RouterKind::Replicas)).unwrap().service, "a-metrics");
}

#[test]
fn the_applications_label_changes_unless_another_object_selects_on_it() {
    let key = |policies: &[Value]| {
        let mut one = objects();
        one.policies = Arc::new(policies.iter().cloned().map(from).collect());
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
        one.policies = Arc::new(vec![from(json!({"metadata": {"name": "p"}, "spec": spec}))]);
        let expected = if missed { vec![PreflightIssue::NetworkPolicyMisses { name: "p".into() }] } else { vec![] };
        assert_eq!(issues(&one, &gateway()), expected, "{spec}");
        assert_eq!(issues(&one, &Traffic::by(RouterKind::Replicas)), [], "{spec}");
    }
}

#[test]
fn a_network_policy_of_another_namespace_that_would_miss_the_canary_is_named() {
    let mut one = single_label();
    let peer =
        |namespaces: Value| json!({"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": namespaces});
    for (namespaces, missed) in [
        (json!({"matchLabels": {"team": "shop"}}), true),
        (json!({}), true),
        (json!({"matchLabels": {"team": "billing"}}), false),
        // Without a selector of namespaces the peers are pods of the policy's own namespace.
        (Value::Null, false),
    ] {
        let spec =
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [peer(namespaces.clone())]}]});
        one.policies = Arc::new(vec![from(json!({"metadata": {"name": "p", "namespace": "db"}, "spec": spec}))]);
        let expected = if missed { vec![PreflightIssue::NetworkPolicyMisses { name: "db/p".into() }] } else { vec![] };
        assert_eq!(issues(&one, &gateway()), expected, "{namespaces}");
    }
}

#[test]
fn a_policy_of_another_controller_that_would_miss_the_canary_is_named() {
    let by_app = || json!({"matchLabels": {"app": "web"}});
    let cilium =
        |namespace: &str| json!({"matchLabels": {"k8s:app": "web", "k8s:io.kubernetes.pod.namespace": namespace}});
    for (kind, namespace, spec, title) in [
        ("AuthorizationPolicy", "demo", json!({"selector": by_app()}), Some("AuthorizationPolicy p")),
        ("AuthorizationPolicy", "demo", json!({"selector": {"matchLabels": {"app": "other"}}}), None),
        ("AuthorizationPolicy", "demo", json!({"rules": [{}]}), None),
        ("CiliumNetworkPolicy", "demo", json!({"endpointSelector": by_app()}), Some("CiliumNetworkPolicy p")),
        ("CiliumNetworkPolicy", "demo", json!({"endpointSelector": {}}), None),
        (
            "CiliumNetworkPolicy",
            "demo",
            json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [{"matchExpressions": [
                {"key": "any:app", "operator": "In", "values": ["web"]}]}]}]}),
            Some("CiliumNetworkPolicy p"),
        ),
        (
            "CiliumNetworkPolicy",
            "db",
            json!({"endpointSelector": by_app(), "ingress": [{"fromEndpoints": [cilium("demo")]}]}),
            Some("CiliumNetworkPolicy db/p"),
        ),
        ("CiliumNetworkPolicy", "db", json!({"ingress": [{"fromEndpoints": [cilium("db"), by_app()]}]}), None),
    ] {
        let mut one = single_label();
        one.foreign = Arc::new(vec![foreign(kind, namespace, "p", &spec)]);
        let expected: Vec<_> =
            title.map(|name| PreflightIssue::PolicyMisses { name: name.into() }).into_iter().collect();
        assert_eq!(issues(&one, &gateway()), expected, "{kind} {namespace} {spec}");
        assert_eq!(issues(&one, &Traffic::by(RouterKind::Replicas)), [], "{kind} {spec}");
        // Where another label can change, it does.
        assert_eq!(issues(&PreflightObjects { foreign: one.foreign, ..objects() }, &gateway()), [], "{kind} {spec}");
    }
}

#[test]
fn a_policy_on_the_stables_service_alone_is_named() {
    let target = |name: &str| json!({"group": "", "kind": "Service", "name": name});
    for (kind, spec, counterpart) in [
        ("HealthCheckPolicy", json!({"targetRef": target("web")}), json!({"targetRef": target("web-canary")})),
        (
            "BackendTLSPolicy",
            json!({"targetRefs": [target("other"), target("web")]}),
            json!({"targetRefs": [target("web-canary")]}),
        ),
        ("DestinationRule", json!({"host": "web"}), json!({"host": "web-canary.demo"})),
        ("DestinationRule", json!({"host": "web.demo.svc.cluster.local"}), json!({"host": "web-canary"})),
    ] {
        let mut one = objects();
        let name = format!("{kind} p");
        let expected = PreflightIssue::PolicyNotAttached { name, service: "web".into(), canary: "web-canary".into() };
        one.foreign = Arc::new(vec![foreign(kind, "demo", "p", &spec)]);
        assert_eq!(issues(&one, &gateway()), [expected], "{spec}");
        assert_eq!(issues(&one, &Traffic::by(RouterKind::Replicas)), [], "the stable's Service has both: {spec}");
        Arc::make_mut(&mut one.foreign).push(foreign(kind, "demo", "q", &counterpart));
        assert_eq!(issues(&one, &gateway()), [], "{spec} with {counterpart}");
    }
    for (kind, spec) in [
        ("BackendTLSPolicy", json!({"targetRefs": [target("other"), {"kind": "Gateway", "name": "web"}]})),
        ("DestinationRule", json!({"host": "web.other.svc.cluster.local"})),
        ("DestinationRule", json!({"host": "web-admin"})),
        ("DestinationRule", json!({"host": "*.demo.svc.cluster.local"})),
    ] {
        let one = PreflightObjects { foreign: Arc::new(vec![foreign(kind, "demo", "p", &spec)]), ..objects() };
        assert_eq!(issues(&one, &gateway()), [], "{spec}");
    }
}

#[test]
fn another_service_that_selects_the_canary_is_named_unless_another_label_can_change() {
    let mut one = objects();
    Arc::make_mut(&mut one.services).push(service("internal", &json!({"zone": "a"})));
    let issue =
        |name: &str, label: &str| PreflightIssue::ServiceSelectsCanary { name: name.into(), label: label.into() };
    assert_eq!(issues(&one, &gateway()), [issue("internal", "app")]);
    assert_eq!(issues(&one, &Traffic::by(RouterKind::Replicas)), []);
    let mut one = objects();
    Arc::make_mut(&mut one.services).push(service("internal", &json!({"tier": "front"})));
    assert_eq!(one.traffic_plan(&web(), &gateway()).unwrap().changed_label.as_deref(), Some("tier"));
    assert_eq!(issues(&one, &gateway()), []);
}

#[test]
fn a_monitor_by_a_label_that_the_copy_of_the_service_has_not_is_named() {
    let argo = json!([{"manager": "argocd-controller", "fieldsV1": {"f:metadata": {}}}]);
    for (key, managed, missed) in [
        ("app.kubernetes.io/instance", argo, true),
        ("app.kubernetes.io/instance", json!([]), false),
        (marks::MANAGED_BY, json!([]), true),
    ] {
        let mut one = single_label();
        Arc::make_mut(&mut one.services)[0].metadata.labels = Some(Labels::from([(key.into(), "shop".into())]));
        Arc::make_mut(&mut one.services)[0].metadata.managed_fields = Some(from(managed));
        one.monitors = Arc::new(vec![from(json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
            "metadata": {"name": "m", "namespace": "demo"}, "spec": {"selector": {"matchLabels": {key: "shop"}}}}))]);
        let expected =
            if missed { vec![PreflightIssue::MonitorMisses { name: "ServiceMonitor m".into() }] } else { vec![] };
        assert_eq!(issues(&one, &gateway()), expected, "{key}");
    }
}

#[test]
fn a_monitor_that_would_miss_the_canary_is_named() {
    let mut one = single_label();
    Arc::make_mut(&mut one.services)[0].metadata.labels = Some(Labels::from([("app".into(), "web".into())]));
    Arc::make_mut(&mut one.services).push(from(
        json!({"metadata": {"name": "metrics", "labels": {"for": "metrics"}}, "spec": {"selector": {"app": "web"}}}),
    ));
    for (kind, namespace, spec, missed) in [
        ("PodMonitor", "demo", json!({"selector": {"matchLabels": {"app": "web"}}}), true),
        ("PodMonitoring", "demo", json!({"selector": {"matchLabels": {"app": "web"}}}), true),
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
        one.monitors = Arc::new(vec![from(json!({"apiVersion": "monitoring.coreos.com/v1", "kind": kind,
            "metadata": {"name": "m", "namespace": namespace}, "spec": spec}))]);
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
fn a_route_that_a_gitops_tool_keeps_is_an_issue_that_a_policy_may_accept() {
    let rules = json!({"f:spec": {"f:rules": {}}});
    for (metadata, manager) in [
        (json!({"managedFields": [{"manager": "argocd-controller", "fieldsV1": rules}]}), "argocd-controller"),
        (json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:x"}}), "argocd-controller"),
        (json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}}), "kustomize-controller"),
        (json!({"labels": {"helm.toolkit.fluxcd.io/name": "shop"}}), "helm-controller"),
    ] {
        let mut one = objects();
        let mut value = json!(one.routes[0]);
        value["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        one.routes = Arc::new(vec![from(value), route("other", "other")]);
        let found = issues(&one, &gateway());
        let issue = PreflightIssue::RouteOwnedByGitOps { route: "shop".into(), manager: manager.into() };
        assert_eq!(found, [issue], "{metadata}");
        assert!(found[0].is_accepted(&[manager.to_owned()]) && !found[0].is_accepted(&["flux".to_owned()]));
        assert_eq!(issues(&one, &Traffic::by(RouterKind::Replicas)), [], "{metadata}");
    }
}

#[test]
fn a_deployment_of_another_controller_is_an_issue() {
    let mut one = objects();
    let owner = |controller: bool| {
        json!([{"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "name": "llm", "uid": "u", "controller": controller}])
    };
    one.stable.metadata.owner_references = Some(from(owner(false)));
    assert_eq!(issues(&one, &gateway()), []);
    one.stable.metadata.owner_references = Some(from(owner(true)));
    assert_eq!(issues(&one, &gateway()), [PreflightIssue::Controlled { owner: "InferenceService llm".into() }]);
}

#[test]
fn a_route_of_another_namespace_is_named_with_its_narrow_grant() {
    let edge: DynamicObject = from(json!({"metadata": {"name": "shop", "namespace": "edge"}, "spec": {"rules": [
        {"backendRefs": [{"name": "web", "namespace": "demo", "port": 80}]}]}}));
    let grant = |name: &str, to: Value| {
        from::<DynamicObject>(json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "edge"}], "to": [to]}}))
    };
    let (all, narrow) = (json!({"kind": "Service"}), json!({"kind": "Service", "name": "web"}));
    let both = json!({"kind": "Service", "name": "web-canary"});
    for (grants, named) in [
        (vec![grant("all", all.clone())], None),
        (vec![grant("web-only", narrow.clone())], Some("web-only")),
        (vec![grant("web-only", narrow.clone()), grant("canary", both)], None),
        (vec![grant("web-only", narrow), grant("all", all)], None),
    ] {
        let issue = |is_only| PreflightIssue::RouteElsewhere {
            route: "edge/shop".into(),
            service: "web".into(),
            grant: named.map(str::to_owned),
            is_only,
        };
        let mut one = PreflightObjects { elsewhere: vec![edge.clone()], grants, ..objects() };
        assert_eq!(issues(&one, &gateway()), [issue(false)]);
        assert!(!issue(false).refuses(), "the other route is split");
        Arc::make_mut(&mut one.routes).clear();
        assert_eq!(issues(&one, &gateway()), [issue(true)]);
        assert!(issue(true).refuses());
        assert_eq!(issues(&one, &Traffic::by(RouterKind::Replicas)), [], "by replicas every route reaches the canary");
    }
    let other = PreflightObjects {
        elsewhere: vec![edge],
        services: Arc::new(vec![service("web2", &json!({"app": "web"}))]),
        routes: Arc::new(vec![route("shop", "web2")]),
        ..objects()
    };
    assert_eq!(issues(&other, &gateway()), [], "it names another Service");
}

#[test]
fn a_cohort_that_has_no_room_in_the_route_is_named() {
    let cohort = Cohort { header: Some("x-bucket".into()), cookie: None, value: "b".into() };
    let traffic = Traffic { cohort: Some(cohort), ..gateway() };
    let with = |rules: usize, matches: usize| {
        let rule = json!({"matches": vec![json!({"path": {"value": "/"}}); matches], "backendRefs": [{"name": "web"}]});
        let mut one = objects();
        Arc::make_mut(&mut one.routes)[0].data["spec"]["rules"] = json!(vec![rule; rules]);
        one
    };
    let issue = |rules, matches| PreflightIssue::TooManyRules { route: "shop".into(), rules, matches };
    assert_eq!(issues(&with(8, 1), &traffic), []);
    assert_eq!(issues(&with(9, 1), &traffic), [issue(18, 18)]);
    assert_eq!(issues(&with(9, 0), &traffic), [issue(18, 18)], "a rule without matches counts as one match");
    assert_eq!(issues(&with(4, 16), &traffic), []);
    assert_eq!(issues(&with(5, 16), &traffic), [issue(10, 160)]);
    assert_eq!(issues(&with(9, 1), &gateway()), [], "a share needs no rules of its own");
    let named = Traffic { route: Some(RouteName { name: "shop".into(), rule: Some(0) }), ..traffic };
    assert_eq!(issues(&with(9, 1), &named), []);
}

#[test]
fn an_autoscaler_counts_the_canary_only_by_replicas() {
    let mut one = objects();
    let scaler = |name: &str, kind: &str| {
        from(json!({"metadata": {"name": "hpa"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": kind, "name": name}}}))
    };
    one.autoscalers =
        Arc::new(vec![scaler("web", "Deployment"), scaler("other", "Deployment"), scaler("web", "StatefulSet")]);
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
        services: Arc::new(vec![
            service("web", &json!({"app": "web", "tier": "front"})),
            service("other", &json!({"app": "other"})),
        ]),
        routes: Arc::new(vec![route("shop", "web")]),
        elsewhere: Vec::new(),
        grants: Vec::new(),
        namespace_labels: Arc::new(Labels::from([("team".to_owned(), "shop".to_owned())])),
        policies: Arc::default(),
        foreign: Arc::default(),
        monitors: Arc::default(),
        autoscalers: Arc::default(),
        claims: Vec::new(),
    }
}

/// The Service selects on one label, so there is no other to change.
fn single_label() -> PreflightObjects {
    PreflightObjects { services: Arc::new(vec![service("web", &json!({"app": "web"}))]), ..objects() }
}

fn service(name: &str, selector: &Value) -> Service {
    from(
        json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {"selector": selector, "ports": [{"port": 80}]}}),
    )
}

fn route(name: &str, service: &str) -> DynamicObject {
    let accepted = json!([{"type": "Accepted", "status": "True", "observedGeneration": 3},
        {"type": "ResolvedRefs", "status": "True", "observedGeneration": 3}]);
    from(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "demo", "generation": 3},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": service, "port": 80}]}]},
        "status": {"parents": [{"parentRef": {"name": "edge"}, "controllerName": "test", "conditions": accepted}]}}))
}

#[test]
fn a_route_that_no_gateway_has_accepted_is_named_beforehand() {
    let with_status = |status: Value| {
        let mut one = objects();
        Arc::make_mut(&mut one.routes)[0].data["status"] = status;
        issues(&one, &gateway())
    };
    let parents = |condition: Value| json!({"parents": [{"parentRef": {"name": "edge"}, "conditions": [condition]}]});
    let issue = |refusal: Option<&str>| {
        vec![PreflightIssue::RouteNotAccepted { route: "shop".into(), refusal: refusal.map(str::to_owned) }]
    };
    let refused = json!({"type": "Accepted", "status": "False", "reason": "NotAllowedByListeners", "message": "no",
        "observedGeneration": 3});
    let of_an_older_one = json!({"type": "Accepted", "status": "True", "observedGeneration": 2});
    for (status, expected) in [
        (Value::Null, issue(None)),
        (json!({"parents": []}), issue(None)),
        (parents(of_an_older_one), issue(None)),
        (parents(refused), issue(Some("NotAllowedByListeners: no"))),
    ] {
        assert_eq!(with_status(status.clone()), expected, "{status}");
        assert_eq!(expected[0].refuses(), expected != issue(None), "{status}");
    }
}

fn foreign(kind: &'static str, namespace: &str, name: &str, spec: &Value) -> ForeignPolicy {
    ForeignPolicy { kind, object: from(json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec})) }
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
