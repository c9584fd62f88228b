//! Kubernetes without containers: etcd, the API server, the controllers and the scheduler are real. KWOK simulates the
//! node, and gives each pod an address of the range of pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Request;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::process::Command;

use super::namespace::{NODE_ADDRESS, POD_ADDRESSES};
use super::program::Program;
use super::wait;

/// URL of the API server.
pub const SERVER: &str = "https://127.0.0.1:6443";

const ETCD: &str = "http://127.0.0.1:2379";
const START: Duration = Duration::from_secs(120);

/// The users of the plane. All have every right; their names distinguish them in the audit log.
const USERS: [&str; 6] =
    ["harness", "plane-controllers", "plane-scheduler", "plane-nodes", "plane-gateway", "plane-pods"];

/// The controllers that the objects of stories need.
const CONTROLLERS: [&str; 10] = [
    "deployment-controller",
    "replicaset-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "endpointslice-controller",
    "horizontal-pod-autoscaler-controller",
    "resourcequota-controller",
];

/// A running control plane.
pub struct ControlPlane {
    /// Client of the user `harness`, which has every right.
    pub client: Client,
    dir: PathBuf,
    _programs: Vec<Program>,
}

impl ControlPlane {
    /// Starts all programs, and waits until the node is ready and the Gateway API is served.
    ///
    /// # Errors
    /// A program does not start, or is not ready in time.
    pub async fn start(cache: &Path, data: &Path, logs: &Path) -> Result<Self> {
        let dir = data.join("kubernetes");
        fs::create_dir_all(&dir)?;
        let bin = cache.join("bin");
        let key = cache.join("keys/service-accounts.key");
        let mut etcd = etcd(&bin, &dir, logs)?;
        let mut server = api_server(&bin, &dir, &key, logs)?;
        etcd.ensure_running()?;

        // The server makes its certificate when it starts.
        let client = server.until_ready(START, async || connect(&dir, "harness").await).await?;
        server
            .until_ready(START, async || {
                client.request_text(Request::get("/readyz").body(Vec::new())?).await?;
                Ok(())
            })
            .await?;
        let mut programs = vec![etcd, server];
        programs.push(controllers(&bin, &dir, &key, logs)?);
        programs.push(scheduler(&bin, &dir, logs)?);
        programs.push(nodes(cache, &dir, logs)?);

        let plane = Self { client, dir, _programs: programs };
        plane.create_node().await?;
        plane.install_definitions(&cache.join("crds")).await?;
        Ok(plane)
    }

    /// Returns a client for the objects of a kind in one namespace. `None` is for kinds without namespaces.
    pub fn objects(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Creates an object in the namespace that it names.
    ///
    /// # Errors
    /// The object has no kind or `apiVersion`, or the API server refuses it.
    pub async fn create(&self, object: Value) -> Result<DynamicObject> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").context("an object without a kind")?.to_owned();
        let api_version = text("/apiVersion").context("an object without an apiVersion")?.to_owned();
        let namespace = text("/metadata/namespace").map(str::to_owned);
        let name = text("/metadata/name").unwrap_or_default().to_owned();
        let object: DynamicObject = serde_json::from_value(object)?;
        let api = self.objects(&api_version, &kind, namespace.as_deref());
        let created = api.create(&PostParams::default(), &object).await;
        created.with_context(|| format!("creating {kind} {name}"))
    }

    /// Applies a YAML file of manifests. `namespace` is for manifests that name none.
    ///
    /// # Errors
    /// A manifest has no name, kind or `apiVersion`, or the API server refuses it.
    pub async fn apply_yaml(&self, manifests: &str, namespace: Option<&str>) -> Result<()> {
        for manifest in manifests.split("\n---") {
            let Some(head) = ManifestHead::read(manifest)? else { continue };
            let namespace = head.namespace.as_deref().or(namespace).filter(|_| !is_cluster_wide(&head.kind));
            let api = self.objects(&head.api_version, &head.kind, namespace);
            let url = format!("{}/{}?fieldManager=harness&force=true", api.resource_url(), head.name);
            let request = Request::patch(url).header("content-type", "application/apply-patch+yaml");
            let applied = self.client.request_text(request.body(manifest.as_bytes().to_vec())?).await;
            applied.with_context(|| format!("applying {} {}", head.kind, head.name))?;
        }
        Ok(())
    }

    /// Applies an object. With `keeps` false the API server checks it as it would any other, and does not keep it. Unknown fields are
    /// refused.
    ///
    /// # Errors
    /// The object has no name, kind or `apiVersion`, or the API server refuses it.
    pub async fn apply(&self, object: &Value, keeps: bool) -> Result<()> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let (kind, name) = (
            text("/kind").context("an object without a kind")?,
            text("/metadata/name").context("an object without a name")?,
        );
        let api_version = text("/apiVersion").context("an object without an apiVersion")?;
        let api = self.objects(api_version, kind, text("/metadata/namespace"));
        let dry = if keeps { "" } else { "&dryRun=All" };
        let options = format!("fieldManager=harness&force=true&fieldValidation=Strict{dry}");
        let url = format!("{}/{name}?{options}", api.resource_url());
        let request = Request::patch(url).header("content-type", "application/apply-patch+yaml");
        let applied = self.client.request_text(request.body(object.to_string().into_bytes())?).await;
        applied.with_context(|| format!("applying {kind} {name}"))?;
        Ok(())
    }

    /// Writes a kubeconfig with a token of a service account, for the API server at `server`. Returns its path.
    ///
    /// # Errors
    /// The API server issues no token, or the file can't be written.
    pub async fn kubeconfig_of_account(&self, namespace: &str, account: &str, server: &str) -> Result<PathBuf> {
        let token = self.token_of_account(namespace, account).await?;
        let port = server.rsplit(':').next().unwrap_or_default();
        let file = self.dir.join(format!("{namespace}.{account}.{port}.kubeconfig"));
        write_kubeconfig(&self.dir, &file, &token, server)?;
        Ok(file)
    }

    /// Returns a token of a service account.
    ///
    /// # Errors
    /// The API server issues none.
    pub async fn token_of_account(&self, namespace: &str, account: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(6 * 3600), ..Default::default() };
        let request = TokenRequest { spec, ..Default::default() };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let answer = answer.with_context(|| format!("a token of the service account {namespace}/{account}"))?;
        Ok(answer.status.context("a token request without an answer")?.token)
    }

    /// Returns the path of the kubeconfig of the user `harness`, for a program that the tests run.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig(&self.dir, "harness")
    }

    /// Returns the path of the API server's certificate.
    pub fn certificate(&self) -> PathBuf {
        certificate(&self.dir)
    }

    /// Returns the token of a user of the plane.
    pub fn token(user: &str) -> String {
        format!("token-of-{user}")
    }

    /// Returns the path of the audit log, for a program that reads it by itself.
    pub fn audit_log(&self) -> PathBuf {
        audit_log(&self.dir)
    }

    /// Returns the audit log so far: all writes of the harness and of Bellwether, and Bellwether's reads. `audit.yaml`
    /// has the rules.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let log = fs::read_to_string(audit_log(&self.dir)).context("the audit log")?;
        // The last line may be incomplete.
        let complete = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
        complete.lines().map(|line| serde_json::from_str(line).context("the audit log")).collect()
    }

    async fn create_node(&self) -> Result<()> {
        self.create(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": "node",
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"kubernetes.io/hostname": "node", "kubernetes.io/os": "linux"},
            },
        }))
        .await?;
        let nodes = self.objects("v1", "Node", None);
        wait::until("the node to be ready", START, async || {
            let node = nodes.get("node").await?;
            let conditions = node.data.pointer("/status/conditions").and_then(Value::as_array);
            let ready = |condition: &&Value| condition["type"] == "Ready" && condition["status"] == "True";
            ensure!(conditions.into_iter().flatten().find(ready).is_some(), "conditions: {conditions:?}");
            Ok(())
        })
        .await
    }

    /// Installs the definitions of resources in a folder, and waits until the API server serves all that it has.
    ///
    /// # Errors
    /// The folder can't be read, or a definition is refused or not served in time.
    pub async fn install_definitions(&self, dir: &Path) -> Result<()> {
        for file in fs::read_dir(dir).with_context(|| format!("{}; run tests/provision", dir.display()))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let manifest = fs::read_to_string(&path)?;
                self.apply_yaml(&manifest, None).await.with_context(|| path.display().to_string())?;
            }
        }
        let definitions = self.objects("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        wait::until("the definitions to be served", START, async || {
            for definition in definitions.list(&Default::default()).await? {
                let conditions = definition.data.pointer("/status/conditions").and_then(Value::as_array);
                let served = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
                let name = definition.metadata.name.unwrap_or_default();
                ensure!(conditions.is_some_and(|all| all.iter().any(served)), "{name} is not established");
            }
            Ok(())
        })
        .await
    }
}

// ---- programs ----

fn etcd(bin: &Path, dir: &Path, logs: &Path) -> Result<Program> {
    let mut command = Command::new(bin.join("etcd"));
    command.arg("--data-dir").arg(dir.join("etcd"));
    command.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "warn", "--unsafe-no-fsync"]);
    Program::spawn("etcd", command, logs)
}

fn api_server(bin: &Path, dir: &Path, key: &Path, logs: &Path) -> Result<Program> {
    let tokens = dir.join("tokens.csv");
    let lines = USERS.map(|user| format!("{},{user},{user},\"system:masters\"\n", ControlPlane::token(user)));
    fs::write(&tokens, lines.concat())?;
    let policy = dir.join("audit.yaml");
    fs::write(&policy, include_str!("audit.yaml"))?;

    let mut command = Command::new(bin.join("kube-apiserver"));
    command.args(["--etcd-servers", ETCD, "--secure-port=6443", "--bind-address=127.0.0.1"]);
    command.arg(format!("--advertise-address={NODE_ADDRESS}"));
    command.arg("--cert-dir").arg(dir.join("certificates"));
    command.arg("--service-account-issuer=https://kubernetes.default.svc");
    command.arg("--service-account-key-file").arg(key).arg("--service-account-signing-key-file").arg(key);
    command.arg("--token-auth-file").arg(tokens).arg("--authorization-mode=RBAC");
    command.arg("--service-cluster-ip-range=10.0.0.0/20");
    // The plug-in taints new nodes until the node lifecycle controller removes the taint, and that does not run here.
    command.arg("--disable-admission-plugins=TaintNodesByCondition");
    command.arg("--audit-policy-file").arg(policy).arg("--audit-log-path").arg(audit_log(dir));
    // In megabytes. The log is one file: a rotated one would hide the writes before.
    command.arg("--audit-log-maxsize=2000");
    Program::spawn("kube-apiserver", command, logs)
}

fn controllers(bin: &Path, dir: &Path, key: &Path, logs: &Path) -> Result<Program> {
    let mut command = Command::new(bin.join("kube-controller-manager"));
    command.arg("--kubeconfig").arg(new_kubeconfig(dir, "plane-controllers")?).arg("--leader-elect=false");
    command.arg("--service-account-private-key-file").arg(key).arg("--root-ca-file").arg(certificate(dir));
    command.arg(format!("--controllers={}", CONTROLLERS.join(",")));
    // Stories run at the same time and should not wait for each other.
    command.args(["--kube-api-qps=500", "--kube-api-burst=1000"]);
    // Shorter than the default of 15 s, so that an autoscaler follows the load within a step.
    command.arg("--horizontal-pod-autoscaler-sync-period=2s");
    Program::spawn("kube-controller-manager", command, logs)
}

fn scheduler(bin: &Path, dir: &Path, logs: &Path) -> Result<Program> {
    let mut command = Command::new(bin.join("kube-scheduler"));
    command.arg("--kubeconfig").arg(new_kubeconfig(dir, "plane-scheduler")?).arg("--leader-elect=false");
    Program::spawn("kube-scheduler", command, logs)
}

fn nodes(cache: &Path, dir: &Path, logs: &Path) -> Result<Program> {
    let stages = dir.join("stages.yaml");
    let default = |name| fs::read_to_string(cache.join("kwok").join(name)).context("KWOK's stages");
    let all = [default("node.yaml")?, default("pod.yaml")?, include_str!("stages.yaml").to_owned()];
    fs::write(&stages, all.join("\n---\n"))?;
    let mut command = Command::new(cache.join("bin/kwok"));
    command.arg("--kubeconfig").arg(new_kubeconfig(dir, "plane-nodes")?).arg("-c").arg(stages);
    command.args(["--manage-all-nodes=true", "--cidr", POD_ADDRESSES, "--node-ip", NODE_ADDRESS]);
    Program::spawn("kwok", command, logs)
}

// ---- files ----

async fn connect(dir: &Path, user: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(new_kubeconfig(dir, user)?)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn certificate(dir: &Path) -> PathBuf {
    dir.join("certificates/apiserver.crt")
}

fn audit_log(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}

fn kubeconfig(dir: &Path, user: &str) -> PathBuf {
    dir.join(format!("{user}.kubeconfig"))
}

fn new_kubeconfig(dir: &Path, user: &str) -> Result<PathBuf> {
    let file = kubeconfig(dir, user);
    write_kubeconfig(dir, &file, &ControlPlane::token(user), SERVER)?;
    Ok(file)
}

fn write_kubeconfig(dir: &Path, file: &Path, token: &str, server: &str) -> Result<()> {
    // kubectl and the clients read YAML, and JSON is YAML.
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "plane", "cluster": {"server": server, "certificate-authority": certificate(dir)}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": "user"}}],
        "current-context": "plane",
    });
    fs::write(file, config.to_string()).with_context(|| file.display().to_string())
}

// ---- manifests ----

/// The fields of a manifest that its URL needs. The API server parses the YAML; this reads four lines of it.
struct ManifestHead {
    api_version: String,
    kind: String,
    name: String,
    namespace: Option<String>,
}

impl ManifestHead {
    /// Returns `None` for a document without an object.
    fn read(manifest: &str) -> Result<Option<Self>> {
        let mut section = "";
        let (mut api_version, mut kind, mut name, mut namespace) = (None, None, None, None);
        for line in manifest.lines() {
            let text = line.trim_start();
            let Some((key, value)) = text.split_once(':') else { continue };
            let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
            let slot = match (line.len() - text.len(), section, key) {
                (0, _, "apiVersion") => &mut api_version,
                (0, _, "kind") => &mut kind,
                (2, "metadata", "name") => &mut name,
                (2, "metadata", "namespace") => &mut namespace,
                (0, ..) if !text.starts_with('#') => {
                    section = key;
                    continue;
                }
                _ => continue,
            };
            *slot = Some(value.to_owned());
        }
        match (api_version, kind, name) {
            (Some(api_version), Some(kind), Some(name)) => Ok(Some(Self { api_version, kind, name, namespace })),
            (None, None, None) => Ok(None),
            _ => bail!("a manifest without apiVersion, kind or metadata.name:\n{manifest}"),
        }
    }
}

fn is_cluster_wide(kind: &str) -> bool {
    const KINDS: [&str; 5] =
        ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "GatewayClass", "Namespace"];
    KINDS.contains(&kind)
}
