use serde_json::json;

use super::*;
use crate::adapters::kubernetes::fake_api::{DEPLOYMENTS, FakeApi, ROUTES, route};

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
    let wanted: Workload = "test/demo/Deployment/web".parse().unwrap();
    let ask = async |server: Server| {
        let services = ["web".to_owned()];
        (workload(&server, &wanted).await.unwrap(), unsplit_routes(&server, &wanted, &services).await)
    };
    let ((found, unsplit), _) = api.run(ask).await;
    assert!(matches!(found, Surveyed::Found(survey) if survey.routes.is_empty()));
    assert_eq!(unsplit, ["Ingress front"]);
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

#[tokio::test]
async fn the_pods_that_a_promotion_may_stop_are_read_as_they_are_written() {
    for (written, expected) in [(json!("100%"), Some("100%")), (json!(3), Some("3")), (json!(null), None)] {
        let mut api = FakeApi::with_stable();
        let mut stable = api.get(&format!("{DEPLOYMENTS}/web"));
        if !written.is_null() {
            stable["spec"]["strategy"] = json!({"rollingUpdate": {"maxUnavailable": written}});
        }
        api.set(&format!("{DEPLOYMENTS}/web"), stable);
        let wanted: Workload = "test/demo/Deployment/web".parse().unwrap();
        let (found, _) = api.run(async |server| max_unavailable(&server, &wanted).await.unwrap()).await;
        assert_eq!(found.as_deref(), expected);
    }
}
