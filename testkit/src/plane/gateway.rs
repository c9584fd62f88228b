//! Traefik as the Gateway API's data plane. The only Gateway accepts routes of all namespaces; each story has its own host.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use super::kubernetes::{ControlPlane, SERVER};
use super::program::Program;
use super::{http, wait};

/// The address that takes the traffic.
pub const ADDRESS: &str = "127.0.0.1:8000";

/// The address of Traefik's health check and of `/metrics`, which Prometheus scrapes.
pub const ADMIN_ADDRESS: &str = "127.0.0.1:8081";

/// Namespace of the Gateway, for the `parentRefs` of routes.
pub const NAMESPACE: &str = "gateway";
/// Name of the Gateway, for the `parentRefs` of routes.
pub const NAME: &str = "gateway";

const START: Duration = Duration::from_secs(60);

/// A running Traefik.
pub struct Traefik {
    _program: Program,
}

impl Traefik {
    /// Creates the Gateway, starts Traefik and waits until it has accepted the Gateway.
    ///
    /// # Errors
    /// An object can't be created, or Traefik is not ready in time.
    pub async fn start(cache: &Path, logs: &Path, kubernetes: &ControlPlane) -> Result<Self> {
        for object in objects() {
            kubernetes.create(object).await?;
        }
        let mut command = Command::new(cache.join("bin/traefik"));
        command.args([
            format!("--entryPoints.web.address={ADDRESS}"),
            format!("--entryPoints.traefik.address={ADMIN_ADDRESS}"),
            format!("--providers.kubernetesgateway.endpoint={SERVER}"),
            format!("--providers.kubernetesgateway.token={}", ControlPlane::token("plane-gateway")),
            format!("--providers.kubernetesgateway.certauthfilepath={}", kubernetes.certificate().display()),
        ]);
        command.args([
            "--providers.kubernetesgateway=true",
            "--providers.kubernetesgateway.statusaddress.ip=127.0.0.1",
            // Shorter than the default of 2 s, so that a changed weight is soon visible in the traffic.
            "--providers.providersThrottleDuration=200ms",
            "--metrics.prometheus=true",
            "--metrics.prometheus.addServicesLabels=true",
            "--metrics.prometheus.buckets=0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10",
            "--ping=true",
            "--log.level=INFO",
            "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false",
        ]);
        let mut program = Program::spawn("traefik", command, logs)?;
        let http = http::client()?;
        program
            .until_ready(START, async || {
                http.get(format!("http://{ADMIN_ADDRESS}/ping")).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        let gateways = kubernetes.objects("gateway.networking.k8s.io/v1", "Gateway", Some(NAMESPACE));
        wait::until("Traefik to accept the Gateway", START, async || {
            let gateway = gateways.get(NAME).await?;
            let conditions = gateway.data.pointer("/status/conditions").and_then(Value::as_array);
            let programmed = |condition: &Value| condition["type"] == "Programmed" && condition["status"] == "True";
            ensure!(conditions.is_some_and(|all| all.iter().any(programmed)), "conditions: {conditions:?}");
            Ok(())
        })
        .await?;
        Ok(Self { _program: program })
    }
}

fn objects() -> [Value; 3] {
    let port: u16 = ADDRESS.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "traefik"},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "gatewayClassName": "traefik",
                // The port must be that of an entry point.
                "listeners": [{
                    "name": "web", "protocol": "HTTP", "port": port,
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }],
            },
        }),
    ]
}
