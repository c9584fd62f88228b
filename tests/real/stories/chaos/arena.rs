//! The place of the story: its broker, its workloads and its two daemons, each behind proxies of its own.

use std::fs;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::daemon::CommandOutput;
use bellwether_testkit::plane::fixture::{STABLE, policy};
use bellwether_testkit::plane::kafka::KafkaBroker;
use bellwether_testkit::plane::load::TrafficLoad;
use bellwether_testkit::plane::paths::cache;
use bellwether_testkit::plane::proxy::TcpProxy;
use bellwether_testkit::plane::{Daemon, Fixture, FixtureOptions, Sandbox, kubernetes, prometheus, wait};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;

use super::super::SOON;
use super::super::away::{address, proxy};
use super::plan::ChaosFault;

/// Workloads whose traffic the gateway splits. The first one is that of the fixture.
const ROUTED: usize = 6;
/// Workloads whose traffic is split by the number of pods.
const BY_PODS: usize = 26;
/// Routed workloads that may lose pods. The others must not have one failed request.
const ROUTED_THAT_LOSE_PODS: usize = 2;
/// Requests per second to each routed workload.
const REQUESTS: f64 = 10.0;
/// The pods of each workload, except the fixture's.
const REPLICAS: u32 = 2;
/// Pause between two looks at the daemons.
const PAUSE: Duration = Duration::from_millis(300);

/// The policies of workloads by pods need no traffic: their check reads a constant, which is too large for the policy `bad`.
const BY_PODS_POLICIES: &str = r#"
[metric.always]
kind = "query"
query = "vector(1)"

[[policy]]
name = "good"
match = { namespaces = ["*"], workloads = ["pods*"], images = ["*"] }
traffic = "replicas"
ready-within = "60s"
promote-within = "60s"
max-hold = "200s"
patience = { blind = "100s", insufficient = "100s" }
[[policy.check]]
metric = "always"
judge = "threshold"
max = 2
every = "1s"
window = "3s"
[[policy.step]]
weight = "33%"
min-time = "8s"
[[policy.step]]
weight = "50%"
min-time = "8s"

[[policy]]
name = "bad"
match = { namespaces = ["*"], workloads = ["pods*"], images = ["*"] }
traffic = "replicas"
ready-within = "60s"
promote-within = "60s"
max-hold = "200s"
patience = { blind = "100s", insufficient = "100s" }
[[policy.check]]
metric = "always"
judge = "threshold"
max = 0.5
every = "1s"
window = "10s"
breaches = 8
[[policy.step]]
weight = "50%"
min-time = "60s"
"#;

/// A workload of the story.
#[derive(Debug)]
pub struct ChaosWorkload {
    /// Its name.
    pub name: String,
    /// Whether the gateway splits its traffic.
    pub is_routed: bool,
    /// Whether faults may take its pods.
    pub loses_pods: bool,
}

impl ChaosWorkload {
    /// Returns the policy for a good or a bad version. The requests to a routed workload tell which it is.
    pub fn policy(&self, bad: bool) -> &'static str {
        match (self.is_routed, bad) {
            (true, _) => "story",
            (false, true) => "bad",
            (false, false) => "good",
        }
    }
}

/// A daemon with its proxies.
pub struct GuardedDaemon {
    /// The daemon; locked by a fault for as long as it lasts.
    pub daemon: AsyncMutex<Daemon>,
    /// The way to the API server.
    pub api_server: TcpProxy,
    /// The way to Prometheus.
    pub prometheus: TcpProxy,
}

/// All parts of the story.
pub struct Arena<'a> {
    /// The namespace and the plane.
    pub sandbox: &'a Sandbox,
    /// The story's own broker.
    pub broker: KafkaBroker,
    /// The workloads in a fixed order.
    pub workloads: Vec<ChaosWorkload>,
    /// The two replicas.
    pub daemons: [GuardedDaemon; 2],
    /// A lock for faults of which one can be at a time.
    pub one_at_a_time: AsyncMutex<()>,
    /// Its daemon never runs; its configuration is that of the commands.
    fixture: Fixture<'a>,
    injected: Mutex<Vec<Value>>,
    /// The ends of daemons that nothing but a fault from outside has caused.
    ends: Mutex<Vec<String>>,
}

impl<'a> Arena<'a> {
    /// Starts the broker, creates the workloads, and starts two daemons.
    ///
    /// # Errors
    /// One of these does not happen in time.
    pub async fn start(sandbox: &'a Sandbox) -> Result<Self> {
        let plane = &sandbox.plane;
        let name = format!("{}.kafka", sandbox.namespace);
        let broker = KafkaBroker::start_own(&name, &cache()?, &plane.data, &plane.logs).await?;
        let routed = policy("20% 50%", BY_PODS_POLICIES)
            .replacen("workloads = [\"*\"]", "workloads = [\"web\", \"routed*\"]", 1)
            .replace("max-hold = \"10s\"", "max-hold = \"200s\"")
            .replace("blind = \"10s\", insufficient = \"15s\"", "blind = \"100s\", insufficient = \"100s\"")
            .replace("min-requests = 30", "min-requests = 10")
            // A busy machine may delay single answers.
            .replace("max = \"500ms\"", "max = \"5s\"");
        let options = FixtureOptions { policy: routed, brokers: &broker.address, ..FixtureOptions::default() };
        let fixture = Fixture::prepare(sandbox, options).await?;
        let workloads = workloads();
        let created = stream::iter(workloads.iter().skip(1)).map(|workload| create(sandbox, workload));
        created.buffer_unordered(8).try_collect::<Vec<()>>().await?;
        let daemons = [daemon(&fixture, sandbox, "one").await?, daemon(&fixture, sandbox, "two").await?];
        let arena = Self {
            sandbox,
            broker,
            workloads,
            daemons,
            one_at_a_time: AsyncMutex::default(),
            fixture,
            injected: Mutex::default(),
            ends: Mutex::default(),
        };
        for GuardedDaemon { daemon, .. } in &arena.daemons {
            let mut daemon = daemon.lock().await;
            daemon.start().await?;
            daemon.until_ready(SOON).await?;
        }
        for workload in arena.workloads.iter().filter(|workload| workload.is_routed) {
            sandbox.until_routed(&arena.host(workload)).await?;
        }
        Ok(arena)
    }

    fn host(&self, workload: &ChaosWorkload) -> String {
        if workload.name == "web" { self.sandbox.host.clone() } else { self.sandbox.host_of(&workload.name) }
    }

    /// Starts the traffic of the routed workloads. Returns it by their names.
    ///
    /// # Errors
    /// The HTTP client can't be built.
    pub fn loads(&self) -> Result<Vec<(String, TrafficLoad)>> {
        let routed = self.workloads.iter().filter(|workload| workload.is_routed);
        let load = |workload| TrafficLoad::start(&self.host(workload), REQUESTS, None, None);
        routed.map(|workload| Ok((workload.name.clone(), load(workload)?))).collect()
    }

    /// Returns the user name of the daemons.
    pub fn user(&self) -> &str {
        &self.fixture.user
    }

    /// Runs a command with the configuration of the daemons.
    ///
    /// # Errors
    /// It can't be started, or does not end in time.
    pub async fn cli(&self, arguments: &[&str]) -> Result<CommandOutput> {
        self.fixture.cli(arguments).await
    }

    // ---- the facts for the oracle ----

    /// Notes a fault that began at `from` and is over. `workload` is empty if it concerned all.
    pub fn note(&self, kind: ChaosFault, workload: &str, from: Timestamp) {
        let fault = json!({"kind": kind.name(), "workload": workload, "from": from, "until": Timestamp::now()});
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Returns the faults so far.
    pub fn injected(&self) -> Vec<Value> {
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the pods of the canaries of routed workloads.
    pub fn pods(&self) -> Vec<Value> {
        let mut found = Vec::new();
        for pod in self.sandbox.plane.pods.of(&self.sandbox.namespace) {
            let of = |workload: &&ChaosWorkload| pod.name.starts_with(&format!("{}-canary-", workload.name));
            if let Some(workload) = self.workloads.iter().filter(|workload| workload.is_routed).find(of) {
                found.push(json!({"name": pod.name, "workload": workload.name, "late": pod.received_late()}));
            }
        }
        found
    }

    // ---- the end ----

    /// Starts each daemon again that has ended by itself, as Kubernetes does, until `is_over`.
    ///
    /// # Errors
    /// A daemon can't be started.
    pub async fn keep_running(&self, is_over: impl Fn() -> bool) -> Result<()> {
        while !is_over() {
            for GuardedDaemon { daemon, .. } in &self.daemons {
                let Ok(mut daemon) = daemon.try_lock() else { continue };
                if let Some(status) = daemon.ended_by_itself()? {
                    self.note_end(status, &daemon.log());
                    daemon.spawn()?;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn note_end(&self, status: ExitStatus, log: &str) {
        let last = log.lines().last().unwrap_or_default();
        println!("chaos: a daemon ended by itself with {status}: {last}");
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{status}: {last}"));
    }

    /// Waits until no canary is left.
    ///
    /// # Errors
    /// One is left after the deadline.
    pub async fn cleaned_up(&self) -> Result<()> {
        wait::until("the canaries to be removed", SOON, async || {
            let leftovers = self.sandbox.leftovers().await?;
            let left: Vec<_> = leftovers.iter().filter(|object| !object.starts_with("Deployment/")).collect();
            let canaries: Vec<_> = leftovers.iter().filter(|object| object.contains("-canary")).collect();
            ensure!(left.is_empty() && canaries.is_empty(), "{left:?} {canaries:?}");
            Ok(())
        })
        .await
    }

    /// Waits until both daemons are ready, and ends them in order, so that the topics do not change any more.
    ///
    /// # Errors
    /// One is not ready in time, does not end with the exit code 0, or has ended by itself before.
    pub async fn stop(&self) -> Result<()> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(ends.is_empty(), "daemons ended by themselves: {ends:?}");
        for GuardedDaemon { daemon, .. } in &self.daemons {
            daemon.lock().await.until_ready(SOON).await?;
        }
        for GuardedDaemon { daemon, .. } in &self.daemons {
            let mut daemon = daemon.lock().await;
            let code = daemon.terminate(SOON).await?;
            ensure!(code == Some(0), "exit code {code:?}: {}", daemon.log());
        }
        Ok(())
    }
}

fn workloads() -> Vec<ChaosWorkload> {
    let routed = (0..ROUTED).map(|n| ChaosWorkload {
        name: if n == 0 { "web".to_owned() } else { format!("routed{n}") },
        is_routed: true,
        loses_pods: n < ROUTED_THAT_LOSE_PODS,
    });
    let by_pods = (0..BY_PODS).map(|n| ChaosWorkload { name: format!("pods{n}"), is_routed: false, loses_pods: true });
    routed.chain(by_pods).collect()
}

async fn create(sandbox: &Sandbox, workload: &ChaosWorkload) -> Result<()> {
    if workload.is_routed {
        sandbox.create_routed(&workload.name, REPLICAS, STABLE).await
    } else {
        sandbox.create_workload(&workload.name, REPLICAS, &[("app", STABLE)]).await
    }
}

/// Returns a replica of the fixture's daemon that reaches the API server and Prometheus through proxies of its own.
async fn daemon(fixture: &Fixture<'_>, sandbox: &Sandbox, name: &str) -> Result<GuardedDaemon> {
    let api_server = proxy(sandbox, address(kubernetes::SERVER)).await?;
    let metrics = proxy(sandbox, address(prometheus::URL)).await?;
    let server = format!("https://{}", api_server.address);
    let kubeconfig = sandbox.plane.kubernetes.kubeconfig_of_account("bellwether", "bellwether", &server).await?;
    let daemon = Daemon::new(sandbox, name, kubeconfig)?;
    let config = fs::read_to_string(fixture.daemon.config()).context("the configuration file")?;
    let config = config
        .replace(&format!("127.0.0.1:{}", fixture.daemon.port), &format!("127.0.0.1:{}", daemon.port))
        .replace(&format!("{}-0\"", sandbox.group()), &format!("{}-{name}\"", sandbox.group()))
        .replace(prometheus::URL, &format!("http://{}", metrics.address));
    daemon.configure(&config)?;
    Ok(GuardedDaemon { daemon: AsyncMutex::new(daemon), api_server, prometheus: metrics })
}
