//! A workload with its route, and a daemon that rolls out new versions of it: the starting point of most stories.
//!
//! Every wait for a rollout takes the rollout's id, because a workload has one rollout after another: a wait for the
//! newest one could be answered by the one before.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::{EventId, RolloutId};
use kube::api::ListParams;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::daemon::{CommandOutput, Daemon};
use super::parts::SCRAPE_INTERVAL;
use super::sandbox::Sandbox;
use super::specs::ObjectSpecs;
use super::{kafka, kubernetes, prometheus, wait};

/// The image that the workload runs at first.
pub const STABLE: &str = "registry.test/shop/web:v1";
/// The source of events that `bellwether emit` sends without `--source`.
pub const CLI_SOURCE: &str = "/bellwether-cli";

const SOON: Duration = Duration::from_secs(60);
/// The default of `prometheus.lag` in [`FixtureOptions::reading`].
const LAG: Duration = Duration::from_secs(3);
const REPLICAS: u32 = 4;

/// The shipped service account with its rights is created once for all stories.
static ACCOUNT: OnceCell<()> = OnceCell::const_new();

/// The workload `web` of a sandbox, and its daemon.
pub struct Fixture<'a> {
    sandbox: &'a Sandbox,
    /// The daemon under test.
    pub daemon: Daemon,
    /// The daemon's user name in the API server.
    pub user: String,
}

/// Returns a policy with short times. `weights` are the weights of its steps with spaces between them, and `rest` is
/// further TOML.
pub fn policy(weights: &str, rest: &str) -> String {
    let mut text = String::from(
        r#"
[[policy]]
name = "story"
match = { namespaces = ["*"], workloads = ["*"], images = ["registry.test/shop/*"] }
traffic = "gateway"
ready-within = "60s"
promote-within = "60s"
follows-within = "10s"
drain = "4s"
warm-up = "0s"
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

/// Returns the same policy with a maximum hold of two minutes, for stories in which a hold is not the end.
pub fn patient_policy(weights: &str) -> String {
    policy(weights, "").replace("max-hold = \"10s\"", "max-hold = \"120s\"")
}

/// The options of a fixture. The default suits most stories.
pub struct FixtureOptions<'a> {
    /// The policies and metrics, as TOML.
    pub policy: String,
    /// Names and images of the workload's containers.
    pub containers: &'a [(&'a str, &'a str)],
    /// Whether an HTTPRoute sends traffic to the workload.
    pub routed: bool,
    /// Further sections of the configuration.
    pub more: String,
    /// Further lines of its section `[http]`.
    pub http: &'a str,
    /// Value of `kafka.brokers`.
    pub brokers: &'a str,
    /// Value of `prometheus.url`.
    pub prometheus: String,
    /// Value of `kafka.partitions`.
    pub partitions: i32,
    /// Values of `prometheus.interval`, `lag` and `scrape-interval`.
    pub reading: [&'a str; 3],
    /// URL of the API server in the daemon's kubeconfig.
    pub server: String,
    /// Run with the shipped Role of one namespace in place of the ClusterRole. In the Role's YAML the first text is
    /// replaced by the second, to take a right away.
    pub namespaced: Option<(&'a str, &'a str)>,
}

impl Default for FixtureOptions<'_> {
    fn default() -> Self {
        Self {
            policy: policy("20%", ""),
            containers: &[("app", STABLE)],
            routed: true,
            more: String::new(),
            http: "",
            brokers: kafka::BROKERS,
            prometheus: prometheus::URL.to_owned(),
            partitions: 3,
            reading: ["1s", "3s", "1s"],
            server: kubernetes::SERVER.to_owned(),
            namespaced: None,
        }
    }
}

impl<'a> Fixture<'a> {
    /// Creates the workload and starts the daemon with a policy.
    ///
    /// # Errors
    /// See [`Fixture::start_with`].
    pub async fn start(sandbox: &'a Sandbox, policy: &str) -> Result<Fixture<'a>> {
        Self::start_with(sandbox, FixtureOptions { policy: policy.to_owned(), ..FixtureOptions::default() }).await
    }

    /// Creates the workload, starts the daemon, and waits until it is ready and Prometheus knows the pods.
    ///
    /// # Errors
    /// One of these does not happen in time.
    pub async fn start_with(sandbox: &'a Sandbox, options: FixtureOptions<'_>) -> Result<Fixture<'a>> {
        let mut fixture = Self::prepare(sandbox, options).await?;
        fixture.run().await?;
        Ok(fixture)
    }

    /// Starts the daemon of a prepared workload, and waits until it is ready and Prometheus knows the pods.
    ///
    /// # Errors
    /// One of these does not happen in time.
    pub async fn run(&mut self) -> Result<()> {
        self.daemon.start().await?;
        self.daemon.until_ready(SOON).await?;
        self.until_scraped().await
    }

    /// Waits until Prometheus has known the pods for as long as the daemon looks back. A workload that is rolled out in its
    /// first seconds is not the subject of the stories: the first requests of the stable would be missing from the counts.
    async fn until_scraped(&self) -> Result<()> {
        let up = format!("count(up{{namespace={:?}}} == 1)", self.sandbox.namespace);
        let (prometheus, lag) = (&self.sandbox.plane.prometheus, LAG + SCRAPE_INTERVAL);
        wait::until("Prometheus to know the pods", SOON, async || {
            let found = prometheus.query(&up, jiff::Timestamp::now() - lag).await?;
            ensure!(found.first().is_some_and(|sample| sample.value >= f64::from(REPLICAS)), "{found:?}");
            Ok(())
        })
        .await
    }

    /// Creates the workload and configures the daemon, without starting it.
    ///
    /// # Errors
    /// An object is refused, or the workload is not available in time.
    pub async fn prepare(sandbox: &'a Sandbox, options: FixtureOptions<'_>) -> Result<Fixture<'a>> {
        if options.routed {
            sandbox.create_web_of(REPLICAS, options.containers).await?;
        } else {
            sandbox.create_workload("web", REPLICAS, options.containers).await?;
        }
        let account = create_account(sandbox, options.namespaced).await?;
        let kubernetes = &sandbox.plane.kubernetes;
        let kubeconfig = kubernetes.kubeconfig_of_account(&account, "bellwether", &options.server).await?;
        let daemon = Daemon::new(sandbox, "bellwether", kubeconfig)?;
        daemon.configure(&config(sandbox, daemon.port, &options))?;
        let user = format!("system:serviceaccount:{account}:bellwether");
        Ok(Fixture { sandbox, daemon, user })
    }

    /// Writes another configuration, for the next start or reload.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn configure(&self, options: &FixtureOptions<'_>) -> Result<()> {
        self.daemon.configure(&config(self.sandbox, self.daemon.port, options))
    }

    /// Runs a command of the CLI with the daemon's configuration.
    ///
    /// # Errors
    /// The command can't be started, or does not end in time.
    pub async fn cli(&self, arguments: &[&str]) -> Result<CommandOutput> {
        let config = self.daemon.config();
        let config = ["--config", config.to_str().context("the path is not UTF-8")?];
        self.daemon.cli(&[arguments, &config].concat()).await
    }

    /// Returns the base URL of the daemon's HTTP server.
    pub fn api(&self) -> String {
        self.daemon.url("")
    }

    /// Returns the address of one pod of the workload.
    ///
    /// # Errors
    /// No pod has an address.
    pub async fn address_of_a_pod(&self) -> Result<String> {
        let pods = self.sandbox.pods().list(&ListParams::default().labels("app=web")).await?;
        let address = pods.items.into_iter().find_map(|pod| pod.status?.pod_ip);
        address.context("no pod has an address")
    }

    /// Returns the workload as `cluster/namespace/kind/name`.
    pub fn workload(&self) -> String {
        self.sandbox.workload("web").to_string()
    }

    // ---- events ----

    /// Requests a rollout of an image as a pipeline does, with further arguments of `emit request`. Returns the rollout's
    /// id, which the command prints.
    ///
    /// # Errors
    /// The command fails.
    pub async fn request(&self, image: &str, more: &[&str]) -> Result<RolloutId> {
        let workload = self.workload();
        let request = ["emit", "request", "--workload", &workload, "--image", image];
        let output = self.cli(&[&request, more].concat()).await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(RolloutId(output.stdout.trim().to_owned()))
    }

    /// Requests a rollout of an image over the daemon's HTTP server. Returns the rollout's id, which the command prints.
    ///
    /// # Errors
    /// The command fails.
    pub async fn post_request(&self, image: &str) -> Result<RolloutId> {
        let (workload, base) = (self.workload(), self.api());
        let request = ["emit", "request", "--workload", &workload, "--image", image, "--url", &base];
        let output = self.daemon.cli(&request).await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(RolloutId(output.stdout.trim().to_owned()))
    }

    /// Reports a deployment by another tool. Returns the id of the rollout that guards it.
    ///
    /// # Errors
    /// The command fails.
    pub async fn report_deployment(&self) -> Result<RolloutId> {
        let subject = format!("service/{}", self.sandbox.namespace);
        let artifact = "pkg:oci/web@sha256%3A2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let emit = ["emit", "deployed", "--environment", "test", "--subject", &subject, "--artifact", artifact];
        let output = self.cli(&emit).await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(self.rollout_of_event(CLI_SOURCE, output.stdout.trim()))
    }

    /// Returns the id of the rollout that the event `source`/`id` starts.
    pub fn rollout_of_event(&self, source: &str, id: &str) -> RolloutId {
        let event = EventId { source: source.to_owned(), id: id.to_owned() };
        RolloutId::of(&self.sandbox.workload("web"), &event)
    }

    // ---- waits ----

    /// Waits until the rollout `id` meets a condition, and returns it as the API shows it. `condition` completes the
    /// sentence "waited for rollout … to be".
    ///
    /// # Errors
    /// The rollout does not meet the condition in time, or ended without it. The error has the condition, and the id, the
    /// phase, the outcome and the reason of the rollout.
    pub async fn until(
        &self,
        id: &RolloutId,
        deadline: Duration,
        condition: &str,
        is_met: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let rollout = wait::until(&format!("rollout {id} to be {condition}"), deadline, async || {
            let rollout =
                self.daemon.rollout(id).await?.with_context(|| format!("the daemon shows no rollout {id}"))?;
            // An ended rollout does not change any more, so waiting longer is useless.
            ensure!(is_met(&rollout) || rollout["outcome"].is_string(), "{}", describe(&rollout));
            Ok(rollout)
        })
        .await?;
        ensure!(is_met(&rollout), "waited for rollout {id} to be {condition}, and it ended: {}", describe(&rollout));
        Ok(rollout)
    }

    /// Waits until the rollout `id` has ended, however it ended.
    ///
    /// # Errors
    /// See [`Fixture::until`].
    pub async fn ended(&self, id: &RolloutId, deadline: Duration) -> Result<Value> {
        self.until(id, deadline, "over", |rollout| rollout["outcome"].is_string()).await
    }

    /// Waits until the rollout `id` has ended with `outcome`.
    ///
    /// # Errors
    /// It ended otherwise, or did not end in time. See [`Fixture::until`].
    pub async fn ended_as(&self, id: &RolloutId, outcome: &str, deadline: Duration) -> Result<Value> {
        self.until(id, deadline, outcome, |rollout| rollout["outcome"] == outcome).await
    }

    /// Waits until the journal has the workload's last good template, which a guard restores.
    ///
    /// # Errors
    /// It has none in time.
    pub async fn until_last_good(&self) -> Result<()> {
        wait::until("a last good template in the journal", SOON, async || {
            let state = self.state().await?;
            ensure!(state["last-good"].is_object(), "{state:#}");
            Ok(())
        })
        .await
    }

    // ---- the topics ----

    /// Returns the workload's state in the journal.
    ///
    /// # Errors
    /// The journal has none.
    pub async fn state(&self) -> Result<Value> {
        let journal = self.sandbox.records("journal").await?;
        let key = format!("{}/snap", self.workload());
        let snapshot = journal.iter().rev().find(|record| record.key.as_deref() == Some(key.as_bytes()));
        let snapshot = snapshot.context("the journal has no snapshot of the workload")?.json()?;
        Ok(snapshot["state"].clone())
    }

    /// Returns all decisions on the decisions topic, those of one workload in their order.
    ///
    /// # Errors
    /// The topic can't be read.
    pub async fn decisions(&self) -> Result<Vec<Value>> {
        let mut decisions = Vec::new();
        for record in self.sandbox.records("decisions").await? {
            decisions.extend(record.json()?["decisions"].as_array().into_iter().flatten().cloned());
        }
        Ok(decisions)
    }

    /// Returns all decisions, of which each must be on the topic once.
    ///
    /// # Errors
    /// A decision is there twice.
    pub async fn distinct_decisions(&self) -> Result<Vec<Value>> {
        let decisions = self.decisions().await?;
        let mut seen = BTreeSet::new();
        for decision in &decisions {
            let id = (decision["rollout"].to_string(), decision["n"].as_u64().context("n")?);
            ensure!(seen.insert(id.clone()), "decision {id:?} is on the topic twice");
        }
        Ok(decisions)
    }

    /// Checks that each decision is on the topic once, and that one of them is a promotion.
    ///
    /// # Errors
    /// The check fails.
    pub async fn promoted_once(&self) -> Result<()> {
        let decisions = self.distinct_decisions().await?;
        let promotions = decisions.iter().filter(|decision| decision["kind"] == "promote").count();
        ensure!(promotions == 1, "{promotions} promotions");
        Ok(())
    }

    /// Checks that a replay of the recorded inputs gives the recorded decisions.
    ///
    /// # Errors
    /// The check fails, or nothing was recorded.
    pub async fn replays(&self) -> Result<()> {
        let output = self.cli(&["replay", "--check"]).await?;
        ensure!(output.code == Some(0), "{output:?}");
        ensure!(!output.stdout.is_empty(), "nothing was replayed: {output:?}");
        Ok(())
    }

    // ---- the cluster ----

    /// Checks that the user's objects are as `expected`, and waits until none of the daemon's objects is left.
    ///
    /// # Errors
    /// The check fails.
    pub async fn cleaned_up(&self, expected: ObjectSpecs) -> Result<()> {
        self.cleaned_up_except(&[], expected).await
    }

    /// Does the same as [`Fixture::cleaned_up`] after a promotion: the Deployment keeps two annotations, which
    /// docs/operations.md names.
    ///
    /// # Errors
    /// The check fails.
    pub async fn cleaned_up_after_promotion(&self, expected: ObjectSpecs) -> Result<()> {
        let annotated = "Deployment/web [\"bellwether.dev/effect\", \"bellwether.dev/epoch\"]";
        self.cleaned_up_except(&[annotated], expected).await
    }

    async fn cleaned_up_except(&self, remaining: &[&str], expected: ObjectSpecs) -> Result<()> {
        wait::until("the daemon's objects to be deleted", SOON, async || {
            let leftovers = self.sandbox.leftovers().await?;
            ensure!(leftovers == remaining, "these objects are left: {leftovers:?}");
            Ok(())
        })
        .await?;
        expected.ensure_same(&self.sandbox.specs().await?)
    }

    /// Returns the daemon's writes to the sandbox's namespace, from the API server's audit log.
    ///
    /// # Errors
    /// The log has no request of the daemon at all, so that it says nothing about its writes.
    pub fn writes(&self) -> Result<Vec<String>> {
        let (mut requests, mut writes) = (0, Vec::new());
        for event in self.sandbox.plane.kubernetes.audit()? {
            let by_daemon = event["user"]["username"] == self.user.as_str();
            let here = event["objectRef"]["namespace"] == self.sandbox.namespace.as_str();
            let verb = event["verb"].as_str().unwrap_or_default();
            if by_daemon && here {
                requests += 1;
                if !["get", "list", "watch"].contains(&verb) {
                    writes.push(format!("{verb} {}/{}", event["objectRef"]["resource"], event["objectRef"]["name"]));
                }
            }
        }
        ensure!(requests > 0, "the audit log has no request of {} in {}", self.user, self.sandbox.namespace);
        Ok(writes)
    }
}

/// Returns the decisions of a rollout, as the API shows it: kind and reason, oldest first.
pub fn history(rollout: &Value) -> impl Iterator<Item = (&str, &str)> {
    rollout["history"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| (entry["decision"].as_str().unwrap_or_default(), entry["reason"].as_str().unwrap_or_default()))
}

/// Describes a rollout for an error: its id, phase, outcome and reason, and then all of it.
fn describe(rollout: &Value) -> String {
    let text = |field: &str| rollout[field].as_str().unwrap_or("none").to_owned();
    let [id, phase, outcome, reason] = ["id", "phase", "outcome", "reason"].map(text);
    let mut text = format!("rollout {id} is in phase {phase}, outcome {outcome}, reason: {reason}\n");
    for decision in rollout["history"].as_array().into_iter().flatten() {
        let [at, kind, why] = ["at", "decision", "reason"].map(|field| decision[field].as_str().unwrap_or_default());
        text += &format!("  {at} {kind}: {why}\n");
    }
    text
}

/// Returns a file of the shipped manifests. It is read at run time, because the image's build does not have it.
fn manifest(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize").join(path);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Creates the service account of the daemon with its rights, and returns its namespace.
async fn create_account(sandbox: &Sandbox, namespaced: Option<(&str, &str)>) -> Result<String> {
    let kubernetes = &sandbox.plane.kubernetes;
    let Some((right, replacement)) = namespaced else {
        let create = async || {
            for file in ["namespace", "service-account", "cluster-role", "cluster-role-binding"] {
                kubernetes.apply_yaml(&manifest(&format!("base/{file}.yaml"))?, Some("bellwether")).await?;
            }
            anyhow::Ok(())
        };
        ACCOUNT.get_or_try_init(create).await?;
        return Ok("bellwether".to_owned());
    };
    let shipped = manifest("namespaced/role.yaml")?;
    let role = shipped.replace(right, replacement);
    ensure!(role != shipped || right == replacement, "the shipped Role has no {right:?}");
    // kustomize would add the namespace behind the last line, which is the account's name.
    let binding = format!("{}    namespace: {}\n", manifest("namespaced/role-binding.yaml")?, sandbox.namespace);
    let account = manifest("base/service-account.yaml")?
        .replace("namespace: bellwether", &format!("namespace: {}", sandbox.namespace));
    for manifest in [&account, &role, &binding] {
        kubernetes.apply_yaml(manifest, Some(&sandbox.namespace)).await?;
    }
    Ok(sandbox.namespace.clone())
}

fn config(sandbox: &Sandbox, port: u16, options: &FixtureOptions<'_>) -> String {
    let (namespace, group) = (&sandbox.namespace, sandbox.group());
    let [events, journal, decisions] = ["events", "journal", "decisions"].map(|kind| sandbox.topic(kind));
    let FixtureOptions {
        brokers, partitions, prometheus, reading: [interval, lag, scraped], policy, more, http, ..
    } = options;
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
partitions = {partitions}
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
