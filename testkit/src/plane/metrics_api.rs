//! The API `custom.metrics.k8s.io` for HorizontalPodAutoscalers, as an adapter for Prometheus gives it. Its only metric is
//! [`METRIC`] of each pod.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::extract::{Path, Query, State};
use axum::{Json, Router, routing};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::kubernetes::ControlPlane;
use super::pods::{PodServer, SimulatedPod};
use super::tls::TlsServer;

/// The name of the metric.
pub const METRIC: &str = "requests-per-second";

const PORT: u16 = 6444;
const GROUP: &str = "custom.metrics.k8s.io";
const VERSION: &str = "v1beta2";
/// The shortest time that a rate is measured over. It smooths the gateway's rounds.
const SHORTEST: Duration = Duration::from_millis(1500);

/// The running API.
pub struct MetricsApi {
    _server: TlsServer,
}

struct Rates {
    pods: Arc<PodServer>,
    /// The last measurement of each pod, by its namespace and name.
    last: Mutex<HashMap<String, Measurement>>,
}

struct Measurement {
    at: Instant,
    /// The requests until then.
    total: u64,
    /// The requests per second before it. `None`: it is the pod's first one.
    rate: Option<f64>,
}

impl MetricsApi {
    /// Starts the API and registers it with the API server, which finds it under a Service with an external name.
    ///
    /// # Errors
    /// The port is in use, or the API server refuses an object.
    pub async fn start(kubernetes: &ControlPlane, pods: Arc<PodServer>) -> Result<Self> {
        let group = format!("/apis/{GROUP}/{VERSION}");
        let router = Router::new()
            .route(&group, routing::get(resources))
            .route(&format!("{group}/namespaces/{{namespace}}/pods/{{name}}/{METRIC}"), routing::get(values))
            .with_state(Arc::new(Rates { pods, last: Mutex::default() }));
        let server = TlsServer::start(kubernetes, PORT, router).await?;
        let service = json!({"name": "metrics", "namespace": "default"});
        kubernetes
            .create(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": service,
                "spec": {"type": "ExternalName", "externalName": "localhost"},
            }))
            .await?;
        kubernetes
            .create(json!({
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": format!("{VERSION}.{GROUP}")},
                "spec": {
                    "group": GROUP,
                    "version": VERSION,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "insecureSkipTLSVerify": true,
                    "service": {"name": "metrics", "namespace": "default", "port": PORT},
                },
            }))
            .await?;
        Ok(Self { _server: server })
    }
}

async fn resources() -> Json<Value> {
    let metric = json!({
        "name": format!("pods/{METRIC}"),
        "singularName": "",
        "namespaced": true,
        "kind": "MetricValueList",
        "verbs": ["get"],
    });
    let version = format!("{GROUP}/{VERSION}");
    Json(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [metric]}))
}

/// Answers with the rates of a namespace's pods that have all labels of the selector, which is a list of `key=value`.
async fn values(
    State(rates): State<Arc<Rates>>,
    Path((namespace, _)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let selector = query.get("labelSelector").map(String::as_str).unwrap_or_default();
    let has = |pod: &SimulatedPod, pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pod.labels.get(key).is_some_and(|found| found == value)
    };
    let pods = rates.pods.running();
    let selected =
        pods.iter().filter(|pod| pod.namespace == namespace && selector.split(',').all(|pair| has(pod, pair)));
    let items: Vec<Value> = selected.filter_map(|pod| rates.value(pod)).collect();
    let version = format!("{GROUP}/{VERSION}");
    Json(json!({"kind": "MetricValueList", "apiVersion": version, "metadata": {}, "items": items}))
}

impl Rates {
    fn value(&self, pod: &SimulatedPod) -> Option<Value> {
        let rate = self.rate(pod)?;
        Some(json!({
            "describedObject": {"kind": "Pod", "apiVersion": "/v1", "namespace": pod.namespace, "name": pod.name},
            "metric": {"name": METRIC},
            "timestamp": Timestamp::now().to_string(),
            "value": format!("{}m", (rate * 1000.0).round()),
        }))
    }

    /// Returns the requests per second since the last measurement, or the last rate if that was a moment ago. `None`: the pod
    /// is measured for the first time.
    fn rate(&self, pod: &SimulatedPod) -> Option<f64> {
        let (at, total) = (Instant::now(), pod.counts().total);
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{}/{}", pod.namespace, pod.name);
        let last = all.entry(name).or_insert(Measurement { at, total, rate: None });
        let since = at - last.at;
        if since >= SHORTEST {
            let rate = Some((total - last.total) as f64 / since.as_secs_f64());
            *last = Measurement { at, total, rate };
        }
        last.rate
    }
}
