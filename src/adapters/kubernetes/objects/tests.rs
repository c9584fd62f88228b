use serde_json::{Value, json};

use super::*;
use crate::adapters::kubernetes::kind;

const KIND: WorkloadKind = WorkloadKind::Deployment;

#[test]
fn a_status_has_the_canary_and_its_weight() {
    let (status, templates) = cluster().status(&web()).unwrap();
    let (stable, canary) = (status.stable.unwrap(), status.canary.unwrap());
    assert_eq!((stable.uid.as_str(), stable.pod_hash.as_deref()), ("web-uid", Some("h1")));
    assert_eq!((canary.uid.as_str(), canary.pod_hash.as_deref()), ("web-canary-uid", Some("h2")));
    assert_eq!(status.route.unwrap().weight.to_string(), "10 %");
    assert_eq!(templates.len(), 1);
    assert_eq!(templates[0].hash, stable.template);
}

#[test]
fn a_canary_of_an_earlier_deployment_is_ignored() {
    let mut objects = cluster();
    let mut recreated = deployment("web", "web:1");
    recreated["metadata"]["uid"] = json!("another-uid");
    set_deployment(&mut objects, recreated);
    assert_eq!(objects.status(&web()).unwrap().0.canary, None);
}

#[test]
fn a_canary_is_not_a_workload() {
    let objects = cluster();
    let canary = Workload { name: "web-canary".to_owned(), ..web() };
    assert!(objects.status(&canary).is_none());
    assert_eq!(objects.all_workloads("test"), [web()]);
}

#[test]
fn a_deleted_workload_has_no_stable() {
    let mut objects = cluster();
    objects.apply(Update::Workload(KIND, Change::Gone(key("web"))));
    assert_eq!(objects.status(&web()).unwrap().0.stable, None);
}

#[test]
fn each_change_returns_the_workloads_that_it_concerns() {
    let mut objects = cluster();
    let concerned = objects.apply(Update::Pod(KIND, Change::Set(key("web-h1-a"), pod_state("web-h1-a", "web", "h1"))));
    assert_eq!(names(concerned), ["web"]);
    let concerned = objects.apply(Update::Pod(KIND, Change::Gone(key("web-canary-h2-a"))));
    assert_eq!(names(concerned), ["web", "web-canary"]);
    let concerned = objects.apply(Update::Route(RouterKind::Gateway, Change::Gone(key("shop"))));
    assert_eq!(names(concerned), ["web"]);
    let concerned = objects.apply(Update::Workload(KIND, Change::Gone(key("web-canary"))));
    assert_eq!(names(concerned), ["web", "web-canary"]);
}

#[test]
fn a_list_takes_effect_when_it_is_complete() {
    let mut objects = cluster();
    objects.apply(Update::Workload(KIND, Change::Begin));
    assert!(objects.status(&web()).unwrap().0.stable.is_some());
    let concerned = objects.apply(Update::Workload(KIND, Change::Complete));
    assert_eq!(concerned.len(), 2, "both are missing from the new list");
    assert!(objects.status(&web()).unwrap().0.stable.is_none());
}

#[test]
fn a_deleted_pod_is_still_located() {
    let mut objects = cluster();
    let facts = objects.locate("demo", "web-canary-h2-a").unwrap();
    assert_eq!((facts.deployment_uid.as_str(), facts.pod_hash.as_str()), ("web-canary-uid", "h2"));
    objects.apply(Update::Pod(KIND, Change::Gone(key("web-canary-h2-a"))));
    assert_eq!(objects.locate("demo", "web-canary-h2-a"), Some(facts));
    assert_eq!(objects.locate("demo", "unknown"), None);
    assert_eq!(objects.locate("another", "web-h1-a"), None);
}

#[test]
fn a_pod_whose_replica_set_was_deleted_first_is_still_located() {
    let mut objects = cluster();
    let facts = objects.locate("demo", "web-h1-a").unwrap();
    objects.apply(Update::Revision(KIND, Change::Gone(key("web-h1"))));
    assert_eq!(objects.locate("demo", "web-h1-a").as_ref(), Some(&facts));
    objects.apply(Update::Pod(KIND, Change::Gone(key("web-h1-a"))));
    assert_eq!(objects.locate("demo", "web-h1-a"), Some(facts));
}

#[test]
fn the_oldest_deleted_pods_are_forgotten_first() {
    let mut deleted = DeletedPods::default();
    let facts = cluster().locate("demo", "web-h1-a").unwrap();
    for n in 0..=REMEMBERED {
        deleted.keep(key(&format!("pod-{n}")), facts.clone());
    }
    assert_eq!(deleted.pods.len(), REMEMBERED);
    assert!(!deleted.pods.contains_key(&key("pod-0")));
    assert!(deleted.pods.contains_key(&key("pod-1")));
}

#[test]
fn the_service_is_the_routed_one_or_else_the_first() {
    let mut objects = cluster();
    assert_eq!(objects.service(&web()), Some(("web".to_owned(), 80)));
    objects.apply(Update::Route(RouterKind::Gateway, Change::Gone(key("shop"))));
    assert_eq!(objects.service(&web()), Some(("admin".to_owned(), 9000)));
    assert_eq!(objects.service(&Workload { name: "unknown".to_owned(), ..web() }), None);
}

#[test]
fn a_workload_is_split_by_a_weight_or_by_pods_behind_the_stables_service() {
    let split = |objects: &Objects| objects.split_workloads("test").into_iter().collect::<Vec<_>>();
    // The canary of `cluster` has a weight, and no Service of its own and no pods.
    let mut objects = cluster();
    assert_eq!(split(&objects), [web()]);
    objects.apply(Update::Route(RouterKind::Gateway, Change::Gone(key("shop"))));
    assert_eq!(split(&objects), []);
    for (annotations, is_split) in [(json!({}), true), (json!({"bellwether.dev/changed-label": "app"}), false)] {
        let mut canary = deployment("web-canary", "web:2");
        canary["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "bellwether"});
        canary["metadata"]["annotations"] = annotations;
        canary["status"] = json!({"replicas": 1});
        set_deployment(&mut objects, canary);
        assert_eq!(split(&objects).contains(&web()), is_split);
    }
}

fn cluster() -> Objects {
    let mut objects = Objects::default();
    set_deployment(&mut objects, deployment("web", "web:1"));
    let mut canary = deployment("web-canary", "web:2");
    canary["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "bellwether"});
    canary["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web-uid"}]);
    set_deployment(&mut objects, canary);
    for (deployment, hash, image) in [("web", "h1", "web:1"), ("web-canary", "h2", "web:2")] {
        let name = format!("{deployment}-{hash}");
        let set = kind::provider(KIND).read_revision(&from(replica_set(deployment, hash, image))).unwrap();
        objects.apply(Update::Revision(KIND, Change::Set(key(&name), set)));
        let pod = format!("{name}-a");
        objects.apply(Update::Pod(KIND, Change::Set(key(&pod), pod_state(&pod, deployment, hash))));
    }
    for (name, port) in [("web", 80), ("admin", 9000)] {
        let service = json!({"metadata": {"name": name, "namespace": "demo"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": port}]}});
        objects.apply(Update::Service(Change::Set(key(name), Box::new(from(service)))));
    }
    let record =
        json!({"web": {"service": "web", "effect": "e", "epoch": 1, "rules": [{"rule": 0, "backends": [["web", 1]]}]}});
    let route = json!({"metadata": {"name": "shop", "namespace": "demo",
            "annotations": {"bellwether.dev/original-weights": record.to_string()}},
        "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": 90},
            {"name": "web-canary", "port": 80, "weight": 10}]}]}});
    objects.apply(Update::Route(RouterKind::Gateway, Change::Set(key("shop"), Box::new(from(route)))));
    objects
}

fn names(concerned: Vec<Concerned>) -> Vec<String> {
    concerned
        .into_iter()
        .flat_map(|concerned| Objects::workloads("test", concerned))
        .map(|workload| workload.name)
        .collect()
}

fn set_deployment(objects: &mut Objects, value: Value) {
    let deployment = kind::provider(KIND).read(&from(value)).unwrap();
    objects.apply(Update::Workload(KIND, Change::Set(key(&deployment.name.clone()), deployment)));
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}})
}

fn deployment(name: &str, image: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "demo", "uid": format!("{name}-uid")}, "spec": {"template": template(image)}})
}

fn replica_set(deployment: &str, hash: &str, image: &str) -> Value {
    json!({"metadata": {"name": format!("{deployment}-{hash}"), "uid": format!("{deployment}-{hash}-uid"),
            "labels": {"pod-template-hash": hash},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment,
                "uid": format!("{deployment}-uid"), "controller": true}]},
        "spec": {"template": template(image)}})
}

fn pod_state(name: &str, deployment: &str, hash: &str) -> PodState {
    kind::provider(KIND)
        .read_pod(&from(json!({"metadata": {"name": name, "labels": {"pod-template-hash": hash},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-{hash}"),
            "uid": format!("{deployment}-{hash}-uid"), "controller": true}]}})))
        .unwrap()
}

fn key(name: &str) -> ObjectKey {
    ("demo".to_owned(), name.to_owned())
}

fn web() -> Workload {
    Workload { cluster: "test".into(), namespace: "demo".into(), kind: WorkloadKind::Deployment, name: "web".into() }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
