use bellwether_core::ids::WorkloadKind;
use serde_json::json;

use super::*;
use crate::adapters::kubernetes::marks::{BASELINE, EFFECT, EPOCH, ROLLOUT};

#[test]
fn by_weight_one_label_changes_and_neither_selector_matches_the_others_pods() {
    let built = canary(&stable(), Some("app"));
    let labels = template::labels(&built["spec"]["template"]);
    assert_eq!(labels["app"], "web-canary");
    assert_eq!(labels["tier"], "front");
    assert_eq!(labels[TRACK], CANARY);
    assert_eq!(
        built["spec"]["selector"]["matchLabels"],
        json!({"app": "web-canary", TRACK: "canary", "tier": "front"})
    );
    assert_eq!(built["metadata"]["annotations"][CHANGED_LABEL], "app");
}

#[test]
fn by_replicas_the_pods_keep_their_labels_and_the_selector_gets_one_more() {
    let built = canary(&stable(), None);
    assert_eq!(template::labels(&built["spec"]["template"])["app"], "web");
    assert_eq!(built["spec"]["selector"]["matchLabels"], json!({"app": "web", TRACK: "canary", "tier": "front"}));
    assert!(built["metadata"]["annotations"].get(CHANGED_LABEL).is_none());
}

/// It has to get the stable's traffic and to run the stable's template.
#[test]
fn a_baseline_is_a_copy_of_the_stable_with_a_selector_of_its_own() {
    let images = Images::new();
    let built = with_shape(None, |shape| {
        workload_object(&object(&stable()), &ObjectShape { track: BASELINE, images: &images, ..shape.clone() })
    });
    assert_eq!(built["metadata"]["name"], "web-baseline");
    assert_eq!(built["spec"]["selector"]["matchLabels"], json!({"app": "web", TRACK: "baseline", "tier": "front"}));
    let (theirs, ours) = (stable()["spec"]["template"].clone(), built["spec"]["template"].clone());
    assert_eq!(ours["spec"], theirs["spec"]);
    let labels = template::labels(&theirs);
    assert!(labels.iter().all(|(key, value)| template::labels(&ours).get(key) == Some(value)), "{ours:#}");
}

#[test]
fn a_changed_label_outside_the_stables_selector_is_added_to_the_canarys() {
    let mut one = stable();
    one["spec"]["selector"] = json!({"matchLabels": {"tier": "front"}});
    let built = canary(&one, Some("app"));
    assert_eq!(
        built["spec"]["selector"]["matchLabels"],
        json!({"app": "web-canary", TRACK: "canary", "tier": "front"})
    );
}

#[test]
fn expressions_are_kept_except_those_on_the_changed_label() {
    let mut one = stable();
    let about = |key: &str| json!({"key": key, "operator": "In", "values": ["web", "front"]});
    one["spec"]["selector"] = json!({"matchExpressions": [about("app"), about("tier")]});
    let built = canary(&one, Some("app"));
    assert_eq!(built["spec"]["selector"]["matchExpressions"], json!([about("tier")]));
    assert_eq!(built["spec"]["selector"]["matchLabels"], json!({"app": "web-canary", TRACK: "canary"}));
}

#[test]
fn of_two_containers_one_changes_and_everything_else_is_copied() {
    let built = canary(&stable(), Some("app"));
    assert_eq!(built["spec"]["template"]["spec"]["containers"][0]["image"], "shop/web:2");
    assert_eq!(
        built["spec"]["template"]["spec"]["containers"][1],
        stable()["spec"]["template"]["spec"]["containers"][1]
    );
    assert_eq!(built["spec"]["minReadySeconds"], 5);
    assert_eq!(built["spec"]["replicas"], 2);
    assert!(built["spec"].get("paused").is_none());
}

#[test]
fn a_pod_of_the_canary_is_ready_for_a_moment_before_it_counts_as_available() {
    let min_ready_of = |own: Value| {
        let mut one = stable();
        let spec = one["spec"].as_object_mut().unwrap();
        spec.remove("minReadySeconds");
        spec.extend(own.as_object().unwrap().clone());
        canary(&one, Some("app"))["spec"]["minReadySeconds"].clone()
    };
    assert_eq!(min_ready_of(json!({})), 3);
    assert_eq!(min_ready_of(json!({"minReadySeconds": 1})), 3);
    assert_eq!(min_ready_of(json!({"minReadySeconds": 30})), 30);
    assert_eq!(min_ready_of(json!({"progressDeadlineSeconds": 3})), json!(null), "the deadline has to be later");
}

#[test]
fn the_stable_owns_the_canary_without_controlling_it() {
    let owner = &canary(&stable(), None)["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["kind"]), (&json!("stable-uid"), &json!("Deployment")));
    assert_eq!((&owner["controller"], &owner["blockOwnerDeletion"]), (&json!(false), &json!(false)));
}

#[test]
fn marks_of_other_tools_are_not_copied() {
    let mut one = stable();
    one["metadata"]["annotations"] = json!({
        "argocd.argoproj.io/tracking-id": "x", "meta.helm.sh/release-name": "x", "deployment.kubernetes.io/revision": "7",
        "kubectl.kubernetes.io/last-applied-configuration": "{}", "bellwether.dev/epoch": "9", "team": "shop",
    });
    one["metadata"]["labels"] = json!({"app": "web", "helm.sh/chart": "x", "app.kubernetes.io/managed-by": "Helm", "argocd.argoproj.io/instance": "x"});
    let metadata = canary(&one, Some("app"))["metadata"].clone();
    assert_eq!(
        metadata["annotations"],
        json!({"team": "shop", EFFECT: "web-1.1", EPOCH: "3", ROLLOUT: "web-1", CHANGED_LABEL: "app"})
    );
    assert_eq!(metadata["labels"], json!({"app": "web-canary", MANAGED_BY: MANAGER, TRACK: "canary"}));
}

#[test]
fn the_instance_label_is_removed_only_where_argo_tracks_by_it() {
    let label = |annotations: Value, manager: &str| {
        let mut one = stable();
        one["metadata"]["labels"] = json!({INSTANCE: "shop"});
        one["metadata"]["annotations"] = annotations;
        one["metadata"]["managedFields"] = json!([{"manager": manager}]);
        canary(&one, None)["metadata"]["labels"].get(INSTANCE).is_some()
    };
    assert!(label(json!({}), "helm"));
    assert!(!label(json!({}), "argocd-controller"));
    assert!(label(json!({ARGO_TRACKING_ID: "x"}), "argocd-controller"));
}

#[test]
fn a_changed_value_is_a_valid_label_value() {
    for (value, expected) in [("web", "web-canary"), ("", "canary"), ("a", "a-canary")] {
        assert_eq!(canary_value(value), expected);
    }
    let long = canary_value(&"x".repeat(63));
    assert_eq!((long.len(), long.ends_with("-canary")), (63, true));
}

#[test]
fn the_canarys_service_has_the_stables_ports_and_the_canarys_pods() {
    let built = clone_of(&json!({
        "type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30_000, "appProtocol": "h2c"}],
    }));
    assert_eq!(
        built["spec"],
        json!({
            "type": "ClusterIP",
            "selector": {"app": "web-canary", TRACK: "canary"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "h2c"}],
        })
    );
    assert_eq!(built["metadata"]["name"], "web-canary");
    assert_eq!(built["metadata"]["ownerReferences"][0]["uid"], "stable-uid");
}

#[test]
fn the_canarys_service_keeps_the_way_of_the_traffic_to_the_pods() {
    let kept = json!({
        "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "trafficDistribution": "PreferClose",
    });
    let mut spec = kept.clone();
    spec["selector"] = json!({"app": "web"});
    spec["externalTrafficPolicy"] = json!("Local");
    let built = clone_of(&spec);
    for (field, value) in kept.as_object().unwrap() {
        assert_eq!(built["spec"][field], *value, "{field}");
    }
    assert_eq!(built["spec"].get("externalTrafficPolicy"), None);
}

#[test]
fn a_headless_service_is_cloned_headless() {
    assert_eq!(clone_of(&json!({"clusterIP": "None", "selector": {"app": "web"}}))["spec"]["clusterIP"], "None");
}

fn stable() -> Value {
    let labels = json!({"app": "web", "tier": "front"});
    json!({
        "metadata": {"name": "web", "namespace": "demo", "uid": "stable-uid", "labels": {"app": "web"}},
        "spec": {
            "replicas": 5, "minReadySeconds": 5, "paused": true,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "creationTimestamp": null},
                "spec": {"containers": [
                    {"name": "web", "image": "shop/web:1"},
                    {"name": "side", "image": "shop/side:1", "env": [{"name": "A", "value": "1"}]},
                ]},
            },
        },
    })
}

fn canary(stable: &Value, changed_label: Option<&str>) -> Value {
    with_shape(changed_label, |shape| workload_object(&object(stable), shape))
}

fn clone_of(spec: &Value) -> Value {
    let one: Service = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
    with_shape(Some("app"), |shape| service(&one, &object(&stable()), shape))
}

fn with_shape(changed_label: Option<&str>, build: impl FnOnce(&ObjectShape<'_>) -> Value) -> Value {
    let workload = Workload {
        cluster: "test".into(),
        namespace: "demo".into(),
        kind: WorkloadKind::Deployment,
        name: "web".into(),
    };
    let images = Images::from_iter([("web".to_owned(), "shop/web:2".to_owned())]);
    let annotations = [(EFFECT, "web-1.1"), (EPOCH, "3"), (ROLLOUT, "web-1")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let shape = ObjectShape {
        workload: &workload,
        track: CANARY,
        images: &images,
        replicas: 2,
        changed_label,
        annotations: &annotations,
    };
    build(&shape)
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}
