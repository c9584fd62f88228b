//! Releases against an API server in memory.

use bellwether_core::ids::WorkloadKind;
use serde_json::Value;

use super::*;
use crate::adapters::kubernetes::fake_api::{DEPLOYMENTS, FakeApi, ROUTES, SERVICES, route};
use crate::adapters::kubernetes::marks::{CHANGED_LABEL, EPOCH, MANAGED_BY, MANAGER, ORIGINAL_WEIGHTS};

/// The epoch of the canary's and the route's last writer.
const LAST: u64 = 7;

#[tokio::test]
async fn a_release_gives_the_stable_everything_and_leaves_the_canary_in_place() {
    let (split, api) = split_by_weight()
        .serve(async |server| {
            let split = read_split(&server, &web()).await;
            release(&server, &web(), &anna()).await.unwrap();
            split
        })
        .await;
    let split = split.unwrap();
    assert_eq!(split.shares, [("HTTPRoute demo/shop".to_owned(), "30 %".to_owned())]);
    assert_eq!((split.available, split.replicas), (3, 4));
    assert_eq!(
        (split.images.get("web").unwrap().as_str(), split.canary.as_deref()),
        ("shop/web:1", Some("web-canary"))
    );
    assert_eq!(weights(&api), [("web".to_owned(), 1), ("web-canary".to_owned(), 0)]);
    let canary = api.get(&format!("{DEPLOYMENTS}/web-canary"));
    assert_eq!(canary["spec"]["replicas"], 2, "its pods may have requests under way");
    assert!(!api.get(&format!("{SERVICES}/web-canary")).is_null());
    let noted = marks::release(&metadata(&canary)).unwrap();
    assert_eq!(noted, Release { rollout: RolloutId("web-1".to_owned()), author: anna() });
}

/// The daemon that comes back has one epoch more than the last one, and must be able to write.
#[tokio::test]
async fn a_release_raises_no_epoch_and_is_not_repeated() {
    let ((), api) = split_by_weight()
        .serve(async |server| {
            release(&server, &web(), &anna()).await.unwrap();
            release(&server, &web(), &anna()).await.unwrap();
        })
        .await;
    let record = api.get(&format!("{ROUTES}/shop"))["metadata"]["annotations"][ORIGINAL_WEIGHTS].clone();
    let record: Value = serde_json::from_str(record.as_str().unwrap()).unwrap();
    assert_eq!(record["web"]["epoch"], LAST);
    assert_eq!(record["web"]["effect"], "released by anna");
    let canary = api.get(&format!("{DEPLOYMENTS}/web-canary"));
    assert_eq!(canary["metadata"]["annotations"][EPOCH], LAST.to_string());
    let patched = format!("PATCH {DEPLOYMENTS}/web-canary");
    assert_eq!(api.writes(), [patched, format!("PATCH {ROUTES}/shop")], "the order comes before the weight, once each");
}

#[tokio::test]
async fn the_canarys_pods_are_removed_where_their_number_is_its_share() {
    let mut api = FakeApi::with_stable();
    api.set(&format!("{DEPLOYMENTS}/web-canary"), canary(None));
    let (shares, api) = api
        .serve(async |server| {
            let split = read_split(&server, &web()).await.unwrap();
            release(&server, &web(), &anna()).await.unwrap();
            split.shares
        })
        .await;
    assert_eq!(shares, [("Deployment demo/web-canary".to_owned(), "2 pods".to_owned())]);
    let canary = api.get(&format!("{DEPLOYMENTS}/web-canary"));
    assert_eq!(canary["spec"]["replicas"], 0);
    assert!(marks::release(&metadata(&canary)).is_some());
}

#[tokio::test]
async fn a_route_that_another_client_changes_meanwhile_is_read_again() {
    let api = split_by_weight();
    api.contested.lock().unwrap().extend([format!("{ROUTES}/shop"), format!("{DEPLOYMENTS}/web-canary")]);
    let (released, api) = api.serve(async |server| release(&server, &web(), &anna()).await).await;
    assert_eq!(released, Ok(()));
    assert_eq!(weights(&api)[1].1, 0);
}

#[tokio::test]
async fn without_a_canary_nothing_is_written_and_without_the_workload_it_is_named() {
    let ((split, released), writes) = FakeApi::with_stable()
        .run(async |server| (read_split(&server, &web()).await, release(&server, &web(), &anna()).await))
        .await;
    let split = split.unwrap();
    assert_eq!((split.shares, split.canary, released, writes), (Vec::new(), None, Ok(()), Vec::new()));
    let (split, _) = FakeApi::default().run(async |server| read_split(&server, &web()).await).await;
    assert_eq!(split.unwrap_err().message, "Deployment demo/web does not exist");
}

/// Returns an API server whose route gives the canary 30 %.
fn split_by_weight() -> FakeApi {
    let mut api = FakeApi::with_stable();
    let mut stable = api.get(&format!("{DEPLOYMENTS}/web"));
    stable["spec"]["replicas"] = json!(4);
    stable["status"] = json!({"availableReplicas": 3});
    api.set(&format!("{DEPLOYMENTS}/web"), stable);
    api.set(&format!("{DEPLOYMENTS}/web-canary"), canary(Some("app")));
    api.set(&format!("{SERVICES}/web-canary"), json!({"metadata": {"name": "web-canary", "uid": "cs"}}));
    let mut split = route(&[
        json!({"name": "web", "port": 80, "weight": 70}),
        json!({"name": "web-canary", "port": 80, "weight": 30}),
    ]);
    let rules = json!([{"rule": 0, "backends": [["web", 1]]}]);
    let record = json!({"web": {"service": "web", "effect": "web-1.3", "epoch": LAST, "rules": rules}});
    split["metadata"]["annotations"] = json!({ ORIGINAL_WEIGHTS: record.to_string() });
    api.set(&format!("{ROUTES}/shop"), split);
    api
}

/// Returns the canary's Deployment of two pods; `changed_label` is the label by which its Service tells it apart.
fn canary(changed_label: Option<&str>) -> Value {
    let mut annotations = json!({ROLLOUT: "web-1", EPOCH: LAST.to_string()});
    if let Some(label) = changed_label {
        annotations[CHANGED_LABEL] = json!(label);
    }
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web-canary", "namespace": "demo", "uid": "c", "generation": 1,
            "labels": {MANAGED_BY: MANAGER}, "annotations": annotations},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "web", "image": "shop/web:2"}]}}},
        "status": {"replicas": 2}})
}

fn weights(api: &FakeApi) -> Vec<(String, u64)> {
    let route = api.get(&format!("{ROUTES}/shop"));
    let backends = route["spec"]["rules"][0]["backendRefs"].as_array().unwrap().clone();
    let weight = |backend: &Value| (backend["name"].as_str().unwrap().to_owned(), backend["weight"].as_u64().unwrap());
    backends.iter().map(weight).collect()
}

fn metadata(object: &Value) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    serde_json::from_value(object["metadata"].clone()).unwrap()
}

fn anna() -> Author {
    Author { by: "anna".to_owned(), why: Some("the daemon is gone".to_owned()) }
}

fn web() -> Workload {
    Workload { cluster: "test".into(), namespace: "demo".into(), kind: WorkloadKind::Deployment, name: "web".into() }
}
