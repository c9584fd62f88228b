//! A workload, its route, and a Bellwether that looks after it: where the rollout stories begin.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::plane::bellwether::{Bellwether, Output};
use crate::plane::story::{Objects, Story};
use crate::plane::{SCRAPE_INTERVAL, kafka, kubernetes, prometheus};

pub const GOOD: &str = "registry.test/shop/web:v1";
const SERVICE_ACCOUNT: &str = include_str!("../../../deploy/kustomize/base/service-account.yaml");
const ROLE: &str = include_str!("../../../deploy/kustomize/namespaced/role.yaml");
const ROLE_BINDING: &str = include_str!("../../../deploy/kustomize/namespaced/role-binding.yaml");
/// As it is shipped: the account, and what it may do.
const RBAC: &str = concat!(
    include_str!("../../../deploy/kustomize/base/namespace.yaml"),
    "\n---\n",
    include_str!("../../../deploy/kustomize/base/service-account.yaml"),
    "\n---\n",
    include_str!("../../../deploy/kustomize/base/cluster-role.yaml"),
    "\n---\n",
    include_str!("../../../deploy/kustomize/base/cluster-role-binding.yaml"),
);
const SOON: Duration = Duration::from_secs(60);
/// `prometheus.lag` below.
const LAG: Duration = Duration::from_secs(3);

/// The shipped account is put in once, for all stories.
static ACCOUNT: OnceCell<()> = OnceCell::const_new();

pub struct Scene<'a> {
    story: &'a Story,
    pub bellwether: Bellwether,
    /// Who it is to the API server.
    pub user: String,
}

/// A policy in which things go quickly: the weights of its steps, and whatever else it says.
pub fn policy(weights: &str, rest: &str) -> String {
    let mut text = String::from(
        r#"
[[policy]]
name = "story"
match = { namespaces = ["*"], workloads = ["*"], images = ["registry.test/shop/*"] }
traffic = "gateway"
ready-within = "60s"
promote-within = "60s"
drain = "4s"
max-hold = "10s"
patience = { blind = "10s", insufficient = "15s" }

[[policy.check]]
metric = "error-rate"
judge = "threshold"
max = "2%"
every = "2s"
window = "10s"
min-requests = 30

[[policy.check]]
metric = "response-time"
judge = "threshold"
max = "500ms"
every = "2s"
window = "10s"
min-requests = 30
"#,
    );
    for weight in weights.split(' ') {
        let _ = write!(text, "\n[[policy.step]]\nweight = {weight:?}\nmin-time = \"8s\"\n");
    }
    text + rest
}

/// The same, for stories in which a hold is not the end: it is given up after two minutes.
pub fn patient(weights: &str) -> String {
    policy(weights, "").replace("max-hold = \"10s\"", "max-hold = \"120s\"")
}

/// What a scene begins with. The default is what most stories want.
pub struct Setup<'a> {
    pub policy: String,
    /// Container and image.
    pub containers: &'a [(&'a str, &'a str)],
    /// Whether an HTTPRoute sends traffic to the workload.
    pub routed: bool,
    /// Further sections of the configuration.
    pub more: String,
    /// Further lines of its section `[http]`.
    pub http: &'a str,
    pub brokers: &'a str,
    pub prometheus: String,
    /// How often it is read, how far in the past, and how often the pods are scraped.
    pub reading: [&'a str; 3],
    /// The API server as the daemon is told.
    pub server: String,
    /// Run under the shipped Role of one namespace, with this text in it replaced: what it may not do.
    pub namespaced: Option<(&'a str, &'a str)>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            policy: policy("20%", ""),
            containers: &[("app", GOOD)],
            routed: true,
            more: String::new(),
            http: "",
            brokers: kafka::BROKERS,
            prometheus: prometheus::URL.to_owned(),
            reading: ["1s", "3s", "1s"],
            server: kubernetes::SERVER.to_owned(),
            namespaced: None,
        }
    }
}

impl<'a> Scene<'a> {
    pub async fn begin(story: &'a Story, policy: &str) -> Result<Scene<'a>> {
        Self::begin_with(story, Setup { policy: policy.to_owned(), ..Setup::default() }).await
    }

    pub async fn begin_with(story: &'a Story, setup: Setup<'_>) -> Result<Scene<'a>> {
        let mut scene = Self::set(story, setup).await?;
        scene.bellwether.start().await?;
        scene.bellwether.until_ready(SOON).await?;
        scene.scraped().await?;
        Ok(scene)
    }

    /// Waits until Prometheus has known the pods for as long as the daemon looks back. A workload that is rolled out in its
    /// first seconds is not what the stories are about: the stable's first requests would be missing from the counts.
    async fn scraped(&self) -> Result<()> {
        let up = format!("count(up{{namespace={:?}}} == 1)", self.story.namespace);
        let (prometheus, lag) = (&self.story.plane.prometheus, LAG + SCRAPE_INTERVAL);
        self.story
            .wait_until("Prometheus to know the pods", SOON, async || {
                let found = prometheus.query(&up, jiff::Timestamp::now() - lag).await?;
                ensure!(found.first().is_some_and(|sample| sample.value >= 4.0), "{found:?}");
                Ok(())
            })
            .await
    }

    /// Everything but the daemon's start.
    pub async fn set(story: &'a Story, setup: Setup<'_>) -> Result<Scene<'a>> {
        if setup.routed {
            story.create_web_of(4, setup.containers).await?;
        } else {
            story.create_workload("web", 4, setup.containers).await?;
        }
        let at = account(story, setup.namespaced).await?;
        let kubeconfig = story.plane.kubernetes.kubeconfig_of_account(&at, "bellwether", &setup.server).await?;
        let bellwether = Bellwether::new(story, "bellwether", kubeconfig)?;
        bellwether.configure(&config(story, bellwether.port, &setup))?;
        let user = format!("system:serviceaccount:{at}:bellwether");
        Ok(Scene { story, bellwether, user })
    }

    /// A configuration that differs in `setup`; counts from the next start or reload.
    pub fn configure(&self, setup: &Setup<'_>) -> Result<()> {
        self.bellwether.configure(&config(self.story, self.bellwether.port, setup))
    }

    /// A command of the CLI that reads the scene's configuration.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let config = self.bellwether.config();
        let config = ["--config", config.to_str().context("a path in UTF-8")?];
        self.bellwether.cli(&[arguments, &config].concat()).await
    }

    pub fn api(&self) -> String {
        self.bellwether.url("")
    }

    /// Of one pod that serves.
    pub async fn a_pods_address(&self) -> Result<String> {
        let pods = self.story.pods().list(&ListParams::default().labels("app=web")).await?;
        let address = pods.items.into_iter().find_map(|pod| pod.status?.pod_ip);
        address.context("no pod has an address")
    }

    pub fn workload(&self) -> String {
        format!("test/{}/Deployment/web", self.story.namespace)
    }

    /// Asks for an image, as a pipeline would; the rollout's id.
    pub async fn request(&self, image: &str, more: &[&str]) -> Result<String> {
        let workload = self.workload();
        let request = ["emit", "request", "--workload", &workload, "--image", image];
        let output = self.cli(&[&request, more].concat()).await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(output.stdout.trim().to_owned())
    }

    /// Says that somebody else has deployed.
    pub async fn deployed(&self) -> Result<()> {
        let subject = format!("service/{}", self.story.namespace);
        let artifact = "pkg:oci/web@sha256%3A2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let output = self
            .cli(&["emit", "deployed", "--environment", "test", "--subject", &subject, "--artifact", artifact])
            .await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(())
    }

    /// Waits until the daemon knows the workload as healthy, which is what the guard goes back to.
    pub async fn seen_healthy(&self) -> Result<()> {
        self.story
            .wait_until("the workload in the journal", SOON, async || {
                let state = self.state().await?;
                ensure!(state["last-good"].is_object(), "{state:#}");
                Ok(())
            })
            .await
    }

    /// What the journal has of the workload.
    pub async fn state(&self) -> Result<Value> {
        let journal = self.story.records("journal").await?;
        let key = format!("{}/snap", self.workload());
        let snap = journal.iter().rev().find(|record| record.key.as_deref() == Some(key.as_bytes()));
        let snap = snap.context("no snapshot yet")?.json()?;
        Ok(snap["state"].clone())
    }

    /// Waits until the newest rollout is as it should be.
    pub async fn until(&self, deadline: Duration, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        self.story
            .wait_until(&format!("a rollout that is {what}"), deadline, async || {
                let (status, body) = self.bellwether.get("/api/v1/rollouts").await?;
                ensure!(status == 200, "{status}: {body}");
                let rollouts: Vec<Value> = serde_json::from_str(&body)?;
                let started = |rollout: &Value| rollout["started"].as_str().map(str::to_owned);
                let rollout = rollouts.into_iter().max_by_key(started).context("no rollout yet")?;
                ensure!(is(&rollout), "{rollout:#}");
                Ok(rollout)
            })
            .await
    }

    pub async fn ended(&self, deadline: Duration) -> Result<Value> {
        self.until(deadline, "over", |rollout| rollout["outcome"].is_string()).await
    }

    /// All decisions on the topic, in order.
    pub async fn decisions(&self) -> Result<Vec<Value>> {
        let mut decisions = Vec::new();
        for record in self.story.records("decisions").await? {
            let record: Value = serde_json::from_slice(record.value.as_deref().context("a record without a value")?)?;
            decisions.extend(record["decisions"].as_array().into_iter().flatten().cloned());
        }
        Ok(decisions)
    }

    /// All decisions; each is on the topic once.
    pub async fn each_decision_once(&self) -> Result<Vec<Value>> {
        let decisions = self.decisions().await?;
        let mut seen = BTreeSet::new();
        for decision in &decisions {
            let id = (decision["rollout"].to_string(), decision["n"].as_u64().context("n")?);
            ensure!(seen.insert(id.clone()), "decision {id:?} is on the topic twice");
        }
        Ok(decisions)
    }

    /// The same where there is one promotion.
    pub async fn decided_once(&self) -> Result<()> {
        let decisions = self.each_decision_once().await?;
        let promotions = decisions.iter().filter(|decision| decision["kind"] == "promote").count();
        ensure!(promotions == 1, "{promotions} promotions");
        Ok(())
    }

    /// The recorded inputs give the recorded decisions.
    pub async fn replays(&self) -> Result<()> {
        let output = self.cli(&["replay", "--check"]).await?;
        ensure!(output.code == Some(0), "{output:?}");
        ensure!(!output.stdout.is_empty(), "nothing was replayed: {output:?}");
        Ok(())
    }

    /// The user's objects are as they should be, and nothing of ours is left behind.
    pub async fn left_as_it_was(&self, expected: Objects) -> Result<()> {
        self.left(&[], expected).await
    }

    /// The same where the Deployment's template was written: the two marks that the operations page names stay on it.
    pub async fn left_marked(&self, expected: Objects) -> Result<()> {
        self.left(&["Deployment/web [\"bellwether.dev/effect\", \"bellwether.dev/epoch\"]"], expected).await
    }

    async fn left(&self, marks: &[&str], expected: Objects) -> Result<()> {
        self.story
            .wait_until("nothing left behind", SOON, async || {
                let leftovers = self.story.leftovers().await?;
                ensure!(leftovers == marks, "left behind: {leftovers:?}");
                Ok(())
            })
            .await?;
        expected.ensure_same(&self.story.snapshot().await?)
    }

    /// What our account wrote to this story's namespace, by the API server's own account.
    pub fn writes(&self) -> Result<Vec<String>> {
        let mut writes = Vec::new();
        for event in self.story.plane.kubernetes.audit()? {
            let ours = event["user"]["username"] == self.user.as_str();
            let here = event["objectRef"]["namespace"] == self.story.namespace.as_str();
            let verb = event["verb"].as_str().unwrap_or_default();
            if ours && here && !["get", "list", "watch"].contains(&verb) {
                writes.push(format!("{verb} {}/{}", event["objectRef"]["resource"], event["objectRef"]["name"]));
            }
        }
        Ok(writes)
    }
}

/// The account that the daemon runs under; its namespace.
async fn account(story: &Story, namespaced: Option<(&str, &str)>) -> Result<String> {
    let kubernetes = &story.plane.kubernetes;
    let Some((may, may_not)) = namespaced else {
        ACCOUNT.get_or_try_init(|| kubernetes.apply_yaml(RBAC, Some("bellwether"))).await?;
        return Ok("bellwether".to_owned());
    };
    let role = ROLE.replace(may, may_not);
    ensure!(role != ROLE || may == may_not, "the shipped role has no {may:?}");
    // The last line is the account's name; kustomize would add the namespace.
    let binding = format!("{ROLE_BINDING}    namespace: {}\n", story.namespace);
    let account = SERVICE_ACCOUNT.replace("namespace: bellwether", &format!("namespace: {}", story.namespace));
    for manifest in [&account, &role, &binding] {
        kubernetes.apply_yaml(manifest, Some(&story.namespace)).await?;
    }
    Ok(story.namespace.clone())
}

fn config(story: &Story, port: u16, setup: &Setup<'_>) -> String {
    let (namespace, group) = (&story.namespace, story.group());
    let [events, journal, decisions] = ["events", "journal", "decisions"].map(|kind| story.topic(kind));
    let Setup { brokers, prometheus, reading: [interval, lag, scraped], policy, more, http, .. } = setup;
    format!(
        r#"
cluster = "test"
presets = ["otel-http"]

[kafka]
brokers = "{brokers}"
topic = "{events}"
journal-topic = "{journal}"
decisions-topic = "{decisions}"
group = "{group}"
instance-id = "{group}-0"
session-timeout = "6s"
partitions = 3
replication = 1

[prometheus]
url = "{prometheus}"
interval = "{interval}"
lag = "{lag}"
scrape-interval = "{scraped}"

[kubernetes]
namespaces = ["{namespace}"]

[http]
listen = "127.0.0.1:{port}"
{http}

[[events.mapping]]
environment = "test"
subject = "service/{namespace}"
namespace = "{namespace}"
name = "web"

{more}
{policy}
"#
    )
}
