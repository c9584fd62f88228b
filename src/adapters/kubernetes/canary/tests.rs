//! The order and the kind of the writes, against an API server in memory that answers from a list of objects.

use bellwether_core::ids::{EffectId, RolloutId, WorkloadKind};
use bellwether_core::input::command::Author;
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::input::status::Release;
use bellwether_core::policy::RouterKind;

use super::*;
use crate::adapters::kubernetes::fake_api::{DEPLOYMENTS, FakeApi, ROUTES, SERVICES, route};

#[tokio::test]
async fn service_and_route_come_before_the_pods() {
    let (result, writes) = FakeApi::with_stable().run(apply_canary).await;
    assert_eq!(result, Ok(()));
    let route = format!("PATCH {ROUTES}/shop");
    assert_eq!(writes, [format!("POST {SERVICES}"), route, format!("POST {DEPLOYMENTS}")]);
}

/// An apply would overwrite it: it has no uid and resourceVersion to compare.
#[tokio::test]
async fn a_canary_that_another_process_has_created_meanwhile_is_not_overwritten() {
    let mut api = FakeApi::with_stable();
    api.taken.insert(format!("{DEPLOYMENTS}/web-canary"));
    let (result, writes) = api.run(apply_canary).await;
    assert_eq!(result.unwrap_err().kind, FailureKind::Conflict);
    assert_eq!(writes.iter().filter(|write| write.contains(DEPLOYMENTS)).count(), 1, "{writes:?}");
}

#[tokio::test]
async fn the_canary_of_a_deleted_workload_leaves_the_route_first() {
    let ours = |kind: &str| {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "web-canary", "namespace": "demo", "uid": "c",
            "labels": {marks::MANAGED_BY: marks::MANAGER}}, "spec": {}})
    };
    let mut api = FakeApi::with_stable();
    api.remove(&format!("{DEPLOYMENTS}/web"));
    let backends = [json!({"name": "web", "port": 80}), json!({"name": "web-canary", "port": 80, "weight": 100})];
    api.set(&format!("{ROUTES}/shop"), route(&backends));
    api.set(&format!("{DEPLOYMENTS}/web-canary"), ours("Deployment"));
    api.set(&format!("{SERVICES}/web-canary"), ours("Service"));
    let (result, writes) = api
        .run(async |server| {
            let act = ClusterAct::RemoveCanary { traffic: gateway() };
            Box::pin(remove(&server, &effect(act), Epoch(1), &gateway())).await
        })
        .await;
    assert_eq!(result, Ok(()));
    let removed = |kind: &str| format!("DELETE {kind}/web-canary");
    assert_eq!(writes, [format!("PATCH {ROUTES}/shop"), removed(SERVICES), removed(DEPLOYMENTS)]);
}

/// The rollout ends when its daemon sees the order; until then nothing may give the canary its traffic back.
#[tokio::test]
async fn a_released_rollout_gets_no_traffic_and_a_later_one_does() {
    for (rollout, released) in [("web-1", true), ("web-0", false)] {
        let author = Author { by: "anna".to_owned(), why: None };
        let release = Release { rollout: RolloutId(rollout.to_owned()), author };
        let mut api = FakeApi::with_stable();
        let metadata = json!({"name": "web-canary", "namespace": "demo", "uid": "c", "labels": {marks::MANAGED_BY: marks::MANAGER},
            "annotations": {marks::RELEASED: json!(release).to_string()}, "ownerReferences": [{"apiVersion": "apps/v1",
            "kind": "Deployment", "name": "web", "uid": "uid"}]});
        let canary = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {}});
        api.set(&format!("{DEPLOYMENTS}/web-canary"), canary);
        let backends = [json!({"name": "web", "port": 80}), json!({"name": "web-canary", "port": 80, "weight": 0})];
        api.set(&format!("{ROUTES}/shop"), route(&backends));
        let ((weighted, drained, applied), _) = api
            .run(async |server| {
                let act = ClusterAct::SetWeight { weight: Weight::ZERO, traffic: gateway() };
                let set = async |weight| set_weight(&server, &effect(act.clone()), Epoch(1), weight, &gateway()).await;
                (set(Weight::percent(10)).await, set(Weight::ZERO).await, apply_canary(server.clone()).await)
            })
            .await;
        assert_eq!(drained, Ok(()));
        for given in [weighted, applied] {
            match given {
                Err(failure) if released => {
                    assert_eq!(failure.kind, FailureKind::Conflict);
                    assert!(failure.message.contains("by anna"), "{}", failure.message);
                }
                given => assert!(!released && given.is_ok(), "{given:?}"),
            }
        }
    }
}

async fn apply_canary(server: Server) -> Result<(), Failure> {
    let images = Images::from_iter([("web".to_owned(), "shop/web:2".to_owned())]);
    let traffic = gateway();
    let wanted = CanarySpec { stable_uid: "uid", images: &images, replicas: 2, traffic: &traffic, baseline: false };
    let act = ClusterAct::SetWeight { weight: Weight::ZERO, traffic: traffic.clone() };
    Box::pin(apply(&server, &effect(act), Epoch(1), &wanted)).await
}

fn effect(act: ClusterAct) -> Effect {
    let workload = Workload {
        cluster: "test".into(),
        namespace: "demo".into(),
        kind: WorkloadKind::Deployment,
        name: "web".into(),
    };
    Effect { id: EffectId("web-1.1".into()), rollout: RolloutId("web-1".into()), workload, act: Act::Cluster(act) }
}

fn gateway() -> Traffic {
    Traffic::by(RouterKind::Gateway)
}
