use serde_json::{Value, json};

use super::*;

#[test]
fn a_workload_is_seen_with_its_canary_and_its_weight() {
    let (status, templates) = cluster().status(&web()).unwrap();
    let (stable, canary) = (status.stable.unwrap(), status.canary.unwrap());
    assert_eq!((stable.uid.as_str(), stable.pod_hash.as_deref()), ("web-uid", Some("h1")));
    assert_eq!((canary.uid.as_str(), canary.pod_hash.as_deref()), ("web-canary-uid", Some("h2")));
    assert_eq!(status.route.unwrap().weight.to_string(), "10 %");
    assert_eq!(templates.len(), 1);
    assert_eq!(templates[0].hash, stable.template);
}

#[test]
fn a_canary_of_an_earlier_deployment_is_none_of_ours() {
    let mut objects = cluster();
    let mut recreated = deployment("web", "web:1");
    recreated["metadata"]["uid"] = json!("another-uid");
    set_deployment(&mut objects, recreated);
    assert_eq!(objects.status(&web()).unwrap().0.canary, None);
}

#[test]
fn a_canary_is_no_workload_of_its_own() {
    let objects = cluster();
    let canary = Workload { name: "web-canary".to_owned(), ..web() };
    assert!(objects.status(&canary).is_none());
    assert_eq!(objects.all_workloads("test"), [web()]);
}

#[test]
fn a_workload_that_is_gone_is_seen_to_be_gone() {
    let mut objects = cluster();
    objects.take(Update::Deployment(Change::Gone(key("web"))));
    assert_eq!(objects.status(&web()).unwrap().0.stable, None);
}

#[test]
fn each_change_names_the_workloads_that_it_may_concern() {
    let mut objects = cluster();
    let concerned = objects.take(Update::Pod(Change::Set(key("web-h1-a"), pod_state("web-h1-a", "web", "h1"))));
    assert_eq!(names(&objects, concerned), ["web"]);
    let concerned = objects.take(Update::Pod(Change::Gone(key("web-canary-h2-a"))));
    assert_eq!(names(&objects, concerned), ["web", "web-canary"]);
    let concerned = objects.take(Update::Route(Change::Gone(key("shop"))));
    assert_eq!(names(&objects, concerned), ["web"]);
    let concerned = objects.take(Update::Deployment(Change::Gone(key("web-canary"))));
    assert_eq!(names(&objects, concerned), ["web", "web-canary"]);
}

#[test]
fn half_a_list_is_not_half_a_cluster() {
    let mut objects = cluster();
    objects.take(Update::Deployment(Change::Begin));
    assert!(objects.status(&web()).unwrap().0.stable.is_some());
    let concerned = objects.take(Update::Deployment(Change::Whole));
    assert_eq!(concerned.len(), 2, "both that are missing from the new list");
    assert!(objects.status(&web()).unwrap().0.stable.is_none());
}

#[test]
fn a_pod_is_located_and_still_is_when_it_is_gone() {
    let mut objects = cluster();
    let facts = objects.locate("demo", "web-canary-h2-a").unwrap();
    assert_eq!((facts.deployment_uid.as_str(), facts.pod_hash.as_str()), ("web-canary-uid", "h2"));
    objects.take(Update::Pod(Change::Gone(key("web-canary-h2-a"))));
    assert_eq!(objects.locate("demo", "web-canary-h2-a"), Some(facts));
    assert_eq!(objects.locate("demo", "nobody"), None);
    assert_eq!(objects.locate("another", "web-h1-a"), None);
}

#[test]
fn a_pod_whose_replica_set_went_first_is_remembered_too() {
    let mut objects = cluster();
    let facts = objects.locate("demo", "web-h1-a").unwrap();
    objects.take(Update::ReplicaSet(Change::Gone(key("web-h1"))));
    assert_eq!(objects.locate("demo", "web-h1-a").as_ref(), Some(&facts));
    objects.take(Update::Pod(Change::Gone(key("web-h1-a"))));
    assert_eq!(objects.locate("demo", "web-h1-a"), Some(facts));
}

#[test]
fn memory_is_bounded_and_the_oldest_goes_first() {
    let mut memory = Memory::default();
    let facts = cluster().locate("demo", "web-h1-a").unwrap();
    for n in 0..=REMEMBERED {
        memory.keep(key(&format!("pod-{n}")), facts.clone());
    }
    assert_eq!(memory.pods.len(), REMEMBERED);
    assert!(!memory.pods.contains_key(&key("pod-0")));
    assert!(memory.pods.contains_key(&key("pod-1")));
}

#[test]
fn the_service_is_the_routed_one_else_the_first() {
    let mut objects = cluster();
    assert_eq!(objects.service(&web()), Some(("web".to_owned(), 80)));
    objects.take(Update::Route(Change::Gone(key("shop"))));
    assert_eq!(objects.service(&web()), Some(("admin".to_owned(), 9000)));
    assert_eq!(objects.service(&Workload { name: "nobody".to_owned(), ..web() }), None);
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
        let set = ReplicaSet::read(&from(replica_set(deployment, hash, image))).unwrap();
        objects.take(Update::ReplicaSet(Change::Set(key(&name), set)));
        let pod = format!("{name}-a");
        objects.take(Update::Pod(Change::Set(key(&pod), pod_state(&pod, deployment, hash))));
    }
    for (name, port) in [("web", 80), ("admin", 9000)] {
        let service = json!({"metadata": {"name": name, "namespace": "demo"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": port}]}});
        objects.take(Update::Service(Change::Set(key(name), Box::new(from(service)))));
    }
    let record =
        json!({"web": {"service": "web", "effect": "e", "epoch": 1, "rules": [{"rule": 0, "backends": [["web", 1]]}]}});
    let route = json!({"metadata": {"name": "shop", "namespace": "demo",
            "annotations": {"bellwether.dev/original-weights": record.to_string()}},
        "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": 90},
            {"name": "web-canary", "port": 80, "weight": 10}]}]}});
    objects.take(Update::Route(Change::Set(key("shop"), Box::new(from(route)))));
    objects
}

fn names(objects: &Objects, concerned: Vec<(String, Option<String>)>) -> Vec<String> {
    concerned.into_iter().flat_map(|it| objects.workloads("test", it)).map(|workload| workload.name).collect()
}

fn set_deployment(objects: &mut Objects, value: Value) {
    let deployment = Deployment::read(&from(value)).unwrap();
    objects.take(Update::Deployment(Change::Set(key(&deployment.name.clone()), deployment)));
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
    PodState::read(&from(json!({"metadata": {"name": name, "labels": {"pod-template-hash": hash},
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
