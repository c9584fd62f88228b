//! The order and the kind of the writes, against an API server in memory that answers from a list of objects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bellwether_core::ids::{EffectId, RolloutId, WorkloadKind};
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::policy::RouterKind;
use kube::{Client, Config};

use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";
const SERVICES: &str = "/api/v1/namespaces/demo/services";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/demo/httproutes";

/// The objects of the API server by their path, and the writes that it was asked for.
#[derive(Default)]
struct FakeApi {
    objects: BTreeMap<String, Value>,
    writes: Mutex<Vec<String>>,
}

impl FakeApi {
    /// An API server with the stable's Deployment, its Service and its route.
    fn with_stable() -> FakeApi {
        let stable = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "demo", "uid": "uid"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "shop/web:1"}]}}}});
        let objects = [
            (format!("{DEPLOYMENTS}/web"), stable),
            (SERVICES.to_owned(), list(&[service()])),
            (ROUTES.to_owned(), list(&[route(&[json!({"name": "web", "port": 80})])])),
            ("/apis".to_owned(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
        ];
        FakeApi { objects: objects.into(), writes: Mutex::default() }
    }

    fn answer(&self, method: &Method, path: &str, body: &Bytes) -> Response {
        if *method == Method::GET {
            return match self.objects.get(path) {
                Some(object) => Json(object.clone()).into_response(),
                None if path.ends_with('s') => Json(list(&[])).into_response(),
                None => status(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        self.writes.lock().unwrap().push(format!("{method} {path}"));
        if *method == Method::DELETE {
            return Json(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
                .into_response();
        }
        if *method == Method::PATCH {
            return Json(route(&[])).into_response();
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        match self.objects.get(&format!("taken:{path}/{name}")) {
            Some(_) => status(StatusCode::CONFLICT, "AlreadyExists"),
            None => Json(body).into_response(),
        }
    }

    /// Serves the objects, runs `act` and returns its result with the writes.
    async fn run<T>(self, act: impl AsyncFnOnce(Server) -> T) -> (T, Vec<String>) {
        let api = Arc::new(self);
        let served = Arc::clone(&api);
        let handler = move |method: Method, uri: Uri, body: Bytes| {
            let api = Arc::clone(&served);
            async move { api.answer(&method, uri.path(), &body) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        let client = Client::try_from(Config::new(url)).unwrap();
        let result = act(Server { client, timeout: Duration::from_secs(5), cluster_wide: false }).await;
        server.abort();
        let writes = api.writes.lock().unwrap().clone();
        (result, writes)
    }
}

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
    api.objects.insert(format!("taken:{DEPLOYMENTS}/web-canary"), Value::Null);
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
    api.objects.remove(&format!("{DEPLOYMENTS}/web"));
    let backends = [json!({"name": "web", "port": 80}), json!({"name": "web-canary", "port": 80, "weight": 100})];
    api.objects.insert(ROUTES.to_owned(), list(&[route(&backends)]));
    api.objects.insert(format!("{DEPLOYMENTS}/web-canary"), ours("Deployment"));
    api.objects.insert(format!("{SERVICES}/web-canary"), ours("Service"));
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

async fn apply_canary(server: Server) -> Result<(), Failure> {
    let images = Images::from([("web".to_owned(), "shop/web:2".to_owned())]);
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

fn service() -> Value {
    json!({"metadata": {"name": "web", "namespace": "demo", "uid": "s"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
}

fn route(backends: &[Value]) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "demo", "uid": "r", "generation": 1},
        "spec": {"rules": [{"backendRefs": backends}]}})
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code.as_u16()});
    (code, Json(body)).into_response()
}
