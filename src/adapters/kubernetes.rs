//! Kubernetes, the traffic included: what is asked of it ([`Cluster`]), what is seen in it ([`Kubernetes::watch`]), and
//! whose pod is whose ([`PodDirectory`]).
//!
//! The adapter acts and reports; it decides nothing about rollouts. Its pure half (what a canary looks like, the
//! arithmetic of weights, what stands in the way, what an object says) asks no server and is tested without one: [`template`],
//! [`build`], [`route`], [`preflight`], [`facts`], [`objects`]. The other half reads, compares and writes, one attempt a call.
//!
//! Three rules hold for every write. It is fenced: an object that carries a higher `bellwether.dev/epoch` is not touched.
//! It is repeatable: what is so already is not written again. And it is conditional: what others own is changed by a
//! JSON Patch that tests what it was worked out from, what is ours by server-side apply with uid and resourceVersion.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bellwether_core::ids::Workload;
use bellwether_core::input::effect::{Act, Effect};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::input::status::Preflight;
use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ports::{Cluster, Epoch, PodDirectory, PodFacts, PodTemplate, StatusSource, Wake};

mod marks;
mod template;
mod patch;
mod owners;
mod build;
mod route;
mod facts;
mod preflight;
mod failure;
mod server;
mod look;
mod canary;
mod stable;
mod objects;
mod watch;
mod access;

pub use access::{ApiVerb, REQUIRED};
pub use watch::Readiness;

/// How to reach a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// A kubeconfig file; without one, the pod's service account, `KUBECONFIG` and `~/.kube/config` are tried in turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; without one, its current context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespaces that are watched; empty: all (which needs a ClusterRole).
    pub namespaces: Vec<String>,
    /// The deadline of each call.
    pub timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options { kubeconfig: None, context: None, namespaces: Vec::new(), timeout: Span::from_secs(10) }
    }
}

/// Why there is no client. An API server that does not answer is none of the reasons: that shows in
/// [`Kubernetes::readiness`].
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig can't be used.
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// There is neither a service account nor a kubeconfig that can be used.
    #[error("no service account, and no kubeconfig that can be used: {0}")]
    Nothing(#[source] kube::config::KubeconfigError),
    /// The credentials can't be used.
    #[error("the Kubernetes client can't be made: {0}")]
    Client(#[source] kube::Error),
}

/// One cluster. Cloning it is cheap: the clones share the connection and what has been seen.
#[derive(Clone)]
pub struct Kubernetes {
    cluster: Arc<str>,
    namespaces: Arc<[String]>,
    server: server::Server,
    seen: Arc<watch::ClusterCache>,
    clock: Arc<dyn Clock>,
}

impl Kubernetes {
    /// A client for the cluster that is called `cluster_name` in workloads. Asks the API server nothing yet.
    ///
    /// # Errors
    /// The configuration or the credentials can't be used.
    pub async fn connect(
        options: &Options,
        cluster_name: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Kubernetes, ConnectError> {
        let mut config = config(options).await?;
        // One attempt a call: whether and when there is another is decided by whoever committed the intent.
        config.default_retry = false;
        config.connect_timeout = Some(options.timeout.to_std());
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Kubernetes {
            cluster: Arc::from(cluster_name),
            namespaces: options.namespaces.clone().into(),
            server: server::Server {
                client,
                timeout: options.timeout.to_std(),
                cluster_wide: options.namespaces.is_empty(),
            },
            seen: Arc::default(),
            clock,
        })
    }

    /// Watches until `cancel` says so, or until nobody listens to `wakes` any more. Workloads that `wanted` turns down are
    /// not reported.
    pub async fn watch(
        &self,
        wanted: impl Fn(&Workload) -> bool + Send + Sync + 'static,
        wakes: mpsc::Sender<Wake>,
        cancel: CancellationToken,
    ) {
        let Self { cluster, namespaces, server, seen, clock } = self;
        let scope = watch::WatchScope { cluster, namespaces, wanted: Box::new(wanted) };
        watch::run(server, scope, seen, &**clock, &wakes, &cancel).await;
    }

    /// Whether the watches can be relied on.
    pub fn readiness(&self) -> Readiness {
        self.seen.readiness()
    }

    /// The workloads that the watches have seen, canaries apart.
    pub fn workloads(&self) -> Vec<Workload> {
        self.seen.with(|objects| objects.all_workloads(&self.cluster))
    }

    /// One fresh look at a workload, and at what stands in the way of a canary by this policy. Reads only.
    ///
    /// # Errors
    /// A read failed.
    pub async fn preflight(&self, workload: &Workload, policy: &Policy) -> Result<Preflight, Failure> {
        Ok(Box::pin(look::preflight(&self.server, workload, &policy.traffic, policy.fresh_baseline)).await?.0)
    }

    /// The verbs that our account lacks; `namespace: None` asks for all namespaces at once.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn missing_verbs(&self, namespace: Option<&str>) -> Result<Vec<ApiVerb>, Failure> {
        access::missing(&self.server, namespace).await
    }

    async fn act(
        &self,
        effect: &Effect,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> Result<(Outcome, Vec<PodTemplate>), Failure> {
        let server = &self.server;
        if effect.workload.cluster != *self.cluster {
            let message = format!("this is cluster {}, not {}", self.cluster, effect.workload.cluster);
            return Err(failure::new(FailureKind::Refused, message));
        }
        match &effect.act {
            Act::Preflight { traffic, baseline } => {
                let (preflight, templates) =
                    Box::pin(look::preflight(server, &effect.workload, traffic, *baseline)).await?;
                return Ok((Outcome::Preflight(Box::new(preflight)), templates));
            }
            Act::ApplyCanary { stable_uid, images, replicas, traffic, baseline } => {
                let wanted =
                    canary::CanarySpec { stable_uid, images, replicas: *replicas, traffic, baseline: *baseline };
                Box::pin(canary::apply(server, effect, epoch, &wanted)).await?;
            }
            Act::SetWeight { weight, traffic } => canary::set_weight(server, effect, epoch, *weight, traffic).await?,
            Act::RemoveCanary { traffic } => canary::remove(server, effect, epoch, traffic).await?,
            Act::Promote { stable_uid, from, images } => {
                stable::promote(server, effect, epoch, stable_uid, from, images).await?;
            }
            Act::Restore { stable_uid, template: hash } => {
                stable::restore(server, effect, epoch, stable_uid, hash, template).await?;
            }
            Act::Note { warning, reason, note } => {
                let what = stable::Note { warning: *warning, reason, note, at: self.clock.now() };
                stable::note(server, effect, &what).await?;
            }
            Act::Probe { .. } | Act::Model { .. } | Act::Notify { .. } => {
                let message = format!("{} is nothing that Kubernetes can do", effect.act.name());
                return Err(failure::new(FailureKind::Refused, message));
            }
        }
        Ok((Outcome::Done, Vec::new()))
    }
}

async fn config(options: &Options) -> Result<Config, ConnectError> {
    let chosen = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &options.kubeconfig {
        let failed = |source| ConnectError::Kubeconfig { path: path.clone(), source };
        let file = Kubeconfig::read_from(path).map_err(failed)?;
        return Config::from_custom_kubeconfig(file, &chosen).await.map_err(failed);
    }
    // A context is a kubeconfig's: whoever names one does not mean the pod's account.
    match Config::incluster() {
        Ok(config) if options.context.is_none() => Ok(config),
        _ => Config::from_kubeconfig(&chosen).await.map_err(ConnectError::Nothing),
    }
}

#[async_trait]
impl Cluster for Kubernetes {
    async fn perform(
        &self,
        effect: &Effect,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>) {
        self.act(effect, epoch, template).await.unwrap_or_else(|failure| (Outcome::Failed(failure), Vec::new()))
    }
}

impl PodDirectory for Kubernetes {
    fn locate(&self, namespace: &str, pod: &str) -> Option<PodFacts> {
        self.seen.with(|objects| objects.locate(namespace, pod))
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        self.seen.with(|objects| objects.service(workload))
    }
}

impl StatusSource for Kubernetes {
    fn resend(&self) {
        self.seen.ask(self.workloads());
    }
}

#[cfg(test)]
mod tests;
