//! A mutating admission webhook that pins images to digests, as the image policies of real clusters do.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::{Json, Router, routing};
use k8s_openapi::ByteString;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::sandbox::Sandbox;
use super::tls::TlsServer;
use super::{specs, wait};

const SOON: Duration = Duration::from_secs(60);

/// A running webhook for the Deployments and Pods of one sandbox.
pub struct DigestWebhook {
    _server: TlsServer,
}

impl DigestWebhook {
    /// Starts the webhook on `port` of loopback, and waits until the API server asks it.
    ///
    /// # Errors
    /// The port is in use, or the API server does not ask the webhook in time.
    pub async fn start(sandbox: &Sandbox, port: u16) -> Result<Self> {
        let kubernetes = &sandbox.plane.kubernetes;
        let server = TlsServer::start(kubernetes, port, Router::new().route("/", routing::post(admit))).await?;
        let authority = fs::read(kubernetes.certificate()).context("the API server's certificate")?;
        let client = json!({"url": format!("https://{}/", server.address), "caBundle": ByteString(authority)});
        kubernetes.create(registration(&sandbox.namespace, &client)).await?;
        wait::until("the webhook to be asked", SOON, async || {
            let deployment = serde_json::from_value(specs::deployment("asked", 0, &[("app", "registry.test/a:v1")])?)?;
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            let created = serde_json::to_string(&sandbox.deployments().create(&dry, &deployment).await?)?;
            ensure!(created.contains(&pinned("registry.test/a:v1")), "{created}");
            Ok(())
        })
        .await?;
        Ok(Self { _server: server })
    }
}

/// Returns the webhook's object in the API.
fn registration(namespace: &str, client: &Value) -> Value {
    let rules = [("apps", "deployments"), ("", "pods")].map(|(group, resource)| {
        json!({
            "apiGroups": [group],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": [resource],
        })
    });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [{
            "name": "digests.other.test",
            "clientConfig": client,
            "rules": rules,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    })
}

/// Answers a review: each image without a digest gets one.
async fn admit(Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let mut patch = Vec::new();
    for path in ["/spec/template/spec/containers", "/spec/containers"] {
        let containers = request["object"].pointer(path).and_then(Value::as_array).into_iter().flatten();
        for (index, container) in containers.enumerate() {
            let image = container["image"].as_str().unwrap_or_default();
            if !image.contains('@') {
                patch.push(json!({"op": "replace", "path": format!("{path}/{index}/image"), "value": pinned(image)}));
            }
        }
    }
    let patch = ByteString(Value::from(patch).to_string().into_bytes());
    let response = json!({"uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch});
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

/// Returns an image with its digest, which is the same at each call.
pub fn pinned(image: &str) -> String {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    format!("{image}@sha256:{}", format!("{:016x}", hasher.finish()).repeat(4))
}
