use serde_json::json;

use super::*;
use crate::adapters::kubernetes::fake_api::{FakeApi, ROUTES, route};

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/demo/ingresses";
const STATEFUL_SETS: &str = "/apis/apps/v1/namespaces/demo/statefulsets";
const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers";

async fn survey(api: FakeApi, name: &str) -> Surveyed {
    let wanted: Workload = format!("test/demo/Deployment/{name}").parse().unwrap();
    let (found, writes) = api.run(async |server| workload(&server, &wanted).await.unwrap()).await;
    assert_eq!(writes, [""; 0], "it only reads");
    found
}

async fn found(api: FakeApi) -> WorkloadSurvey {
    match survey(api, "web").await {
        Surveyed::Found(survey) => *survey,
        other @ (Surveyed::Unsupported(_) | Surveyed::Absent) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_workload_is_found_with_its_service_its_route_and_its_autoscaler() {
    let mut api = FakeApi::with_stable();
    let target = json!({"kind": "Deployment", "name": "web"});
    api.set(
        &format!("{AUTOSCALERS}/web"),
        json!({"metadata": {"name": "web", "namespace": "demo"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": target}}),
    );
    let survey = found(api).await;
    assert_eq!((survey.services, survey.autoscalers), (vec!["web".to_owned()], vec!["web".to_owned()]));
    assert_eq!(survey.routes, BTreeMap::from([(RouterKind::Gateway, vec!["shop".to_owned()])]));
    assert_eq!((survey.unsplit_routes, survey.max_unavailable), (vec![], "25%".to_owned()));
    assert!(matches!(survey.issues[&RouterKind::Replicas][..], [PreflightIssue::AutoscalerCountsCanary { .. }]));
}

#[tokio::test]
async fn a_route_that_no_router_splits_is_named() {
    let mut api = FakeApi::with_stable();
    api.set(&format!("{ROUTES}/shop"), route(&[json!({"name": "other", "port": 80})]));
    let backend =
        |name: &str| json!({"spec": {"rules": [{"http": {"paths": [{"backend": {"service": {"name": name}}}]}}]}});
    for (name, service) in [("front", "web"), ("back", "other")] {
        let mut ingress = backend(service);
        ingress["metadata"] = json!({"name": name, "namespace": "demo"});
        api.set(&format!("{INGRESSES}/{name}"), ingress);
    }
    let survey = found(api).await;
    assert_eq!((survey.routes, survey.unsplit_routes), (BTreeMap::new(), vec!["Ingress front".to_owned()]));
}

#[tokio::test]
async fn a_stateful_set_is_told_from_nothing() {
    let mut api = FakeApi::with_stable();
    api.set(
        &format!("{STATEFUL_SETS}/db"),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "demo"}}),
    );
    assert_eq!(survey(api, "db").await, Surveyed::Unsupported("StatefulSet"));
    assert_eq!(survey(FakeApi::with_stable(), "db").await, Surveyed::Absent);
}
