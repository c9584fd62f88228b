//! An API server in memory for the tests of the writes: it answers from a list of objects and applies JSON Patches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::joint_reads::JointReads;
use super::server::Server;

/// The path of the Deployments.
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";
/// The path of the Services.
pub const SERVICES: &str = "/api/v1/namespaces/demo/services";
/// The path of the HTTPRoutes.
pub const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/demo/httproutes";

/// The objects of the API server by their path, and the reads and writes that it was asked for.
#[derive(Default)]
pub struct FakeApi {
    objects: Mutex<BTreeMap<String, Value>>,
    writes: Mutex<Vec<String>>,
    /// The number of reads by path.
    reads: Mutex<BTreeMap<String, usize>>,
    /// The paths at which another process creates an object between a read and a write.
    pub taken: BTreeSet<String>,
    /// The paths of which the next patch finds that another process has changed the object.
    pub contested: Mutex<BTreeSet<String>>,
}

impl FakeApi {
    /// An API server with the stable's Deployment, its Service and its route.
    pub fn with_stable() -> FakeApi {
        let stable = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "demo", "uid": "uid"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "shop/web:1"}]}}}});
        let mut api = FakeApi::default();
        api.set(&format!("{DEPLOYMENTS}/web"), stable);
        api.set(&format!("{SERVICES}/web"), service());
        api.set(&format!("{ROUTES}/shop"), route(&[json!({"name": "web", "port": 80})]));
        api.set("/apis", json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}));
        api
    }

    /// Sets an object.
    pub fn set(&mut self, path: &str, object: Value) {
        self.objects.get_mut().unwrap().insert(path.to_owned(), object);
    }

    /// Removes an object.
    pub fn remove(&mut self, path: &str) {
        self.objects.get_mut().unwrap().remove(path);
    }

    /// Returns an object.
    pub fn get(&self, path: &str) -> Value {
        self.objects.lock().unwrap()[path].clone()
    }

    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap, body: &Bytes) -> Response {
        let mut objects = self.objects.lock().unwrap();
        if *method == Method::GET {
            *self.reads.lock().unwrap().entry(path.to_owned()).or_default() += 1;
            return match objects.get(path) {
                Some(object) => Json(object.clone()).into_response(),
                None if path.ends_with('s') => Json(list(&children(&objects, path))).into_response(),
                None => status(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        self.writes.lock().unwrap().push(format!("{method} {path}"));
        if *method == Method::DELETE {
            objects.remove(path);
            return Json(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
                .into_response();
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_patch = headers.get("content-type").is_some_and(|kind| kind == "application/json-patch+json");
        if is_patch {
            let mut object = objects[path].clone();
            let patch: json_patch::Patch = serde_json::from_value(body).unwrap();
            if self.contested.lock().unwrap().remove(path) || json_patch::patch(&mut object, &patch).is_err() {
                let message = "the server rejected our request due to an error in our request";
                return status(StatusCode::UNPROCESSABLE_ENTITY, message);
            }
            objects.insert(path.to_owned(), object.clone());
            return Json(object).into_response();
        }
        let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if self.taken.contains(&format!("{path}/{name}")) {
            return status(StatusCode::CONFLICT, "AlreadyExists");
        }
        Json(body).into_response()
    }

    /// Serves the objects, runs `act` and returns its result with the writes.
    pub async fn run<T>(self, act: impl AsyncFnOnce(Server) -> T) -> (T, Vec<String>) {
        let (result, api) = self.serve(act).await;
        (result, api.writes())
    }

    /// Returns the number of reads of a path.
    pub fn reads(&self, path: &str) -> usize {
        self.reads.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    /// Returns the writes so far, as method and path.
    pub fn writes(&self) -> Vec<String> {
        self.writes.lock().unwrap().clone()
    }

    /// Serves the objects, runs `act` and returns its result with the API server.
    pub async fn serve<T>(self, act: impl AsyncFnOnce(Server) -> T) -> (T, Arc<FakeApi>) {
        let api = Arc::new(self);
        let served = Arc::clone(&api);
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let api = Arc::clone(&served);
            async move { api.answer(&method, uri.path(), &headers, &body) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        let client = Client::try_from(Config::new(url)).unwrap();
        let result =
            act(Server { client, timeout: Duration::from_secs(5), cluster_wide: false, joint: JointReads::default() })
                .await;
        server.abort();
        (result, api)
    }
}

fn children(objects: &BTreeMap<String, Value>, path: &str) -> Vec<Value> {
    let is_child = |at: &str| at.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    objects.iter().filter(|(at, _)| is_child(at)).map(|(_, object)| object.clone()).collect()
}

fn service() -> Value {
    json!({"metadata": {"name": "web", "namespace": "demo", "uid": "s"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
}

/// Returns the route `shop` with one rule of these backends.
pub fn route(backends: &[Value]) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "demo", "uid": "r", "generation": 1},
        "spec": {"rules": [{"backendRefs": backends}]}})
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}

fn status(code: StatusCode, message: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": message, "code": code.as_u16()});
    (code, Json(body)).into_response()
}
