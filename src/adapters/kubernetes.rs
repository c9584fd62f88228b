//! The Kubernetes adapter: it performs effects on workloads and their traffic ([`Cluster`]), watches the status of
//! workloads ([`Kubernetes::watch`]), and tells which arm a pod belongs to ([`PodDirectory`]).
//!
//! The adapter acts and reports; it decides nothing about rollouts. Its pure half needs no server and is tested without
//! one: `template`, `facts`, `kind`, `build`, `foreign`, `router`, `preflight`, `objects`. The other half reads, compares and
//! writes, with one attempt per call: `server`, `joint_reads`, `preflight_reads`, `canary`, `stable`, `release`, `watch`, `access`,
//! `survey`, `server_facts`.
//!
//! Two parts have providers: the kinds of workloads (`kind`) and the routers of the traffic (`router`).
//!
//! Three rules hold for every write:
//! - It is fenced: an object with a higher `bellwether.dev/epoch` is not changed.
//! - It is repeatable: an object that is as requested is not written again.
//! - It is conditional: an object of another owner is changed by a JSON Patch that tests the values which it was
//!   computed from. An object of Bellwether is created, or changed by server-side apply with uid and resourceVersion.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bellwether_core::ids::Workload;
use bellwether_core::input::command::Author;
use bellwether_core::input::effect::{ClusterAct, Effect};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::input::status::Preflight;
use bellwether_core::policy::{Policy, RouterKind, Traffic};
use bellwether_core::time::Span;
use kube::config::{Config, Kubeconfig};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ports::{Cluster, Epoch, PodDirectory, PodFacts, PodTemplate, StatusSource, Wake};
use crate::secret::SecretError;

mod providers;
mod kubeconfig;
mod token_file;
mod api_kind;
mod marks;
pub mod template;
mod patch;
mod owners;
mod failure;
mod facts;
mod kind;
mod build;
mod foreign;
mod router;
mod preflight;
mod joint_reads;
mod server;
mod preflight_reads;
mod stable;
mod events;
mod canary;
mod table;
mod objects;
mod watch;
mod access;
mod review;
mod epochs;
mod release;
mod survey;
mod server_facts;
#[cfg(test)]
mod fake_api;

pub use access::{ApiVerb, missing_rule};
pub use events::KubernetesEvents;
pub use release::Split;
pub use review::KubernetesReviews;
pub use server_facts::RouteApi;
pub use survey::{MetricsService, Surveyed, WorkloadSurvey};
pub use watch::Readiness;

/// The `[kubernetes]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The path of a kubeconfig. Without one, the pod's service account, `KUBECONFIG` and `~/.kube/config` are tried in
    /// turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Without one, its current context is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespaces that are watched; empty for all, which needs a ClusterRole.
    pub namespaces: Vec<String>,
    /// The deadline of each call.
    pub timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options { kubeconfig: None, context: None, namespaces: Vec::new(), timeout: Span::from_secs(10) }
    }
}

/// The reason why no client can be made. An API server that does not answer is not an error here; see
/// [`Kubernetes::readiness`].
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig can't be used.
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig {
        /// The path of the file.
        path: PathBuf,
        /// The error of the parser.
        source: kube::config::KubeconfigError,
    },
    /// There is neither a service account nor a usable kubeconfig.
    #[error("there is no service account and no usable kubeconfig: {0}")]
    NoCredentials(#[source] kube::config::KubeconfigError),
    /// The file with the account's token can't be read, or is not one token.
    #[error("the token of the Kubernetes client: {0}")]
    Token(#[source] SecretError),
    /// The credentials can't be used.
    #[error("the Kubernetes client can't be made: {0}")]
    Client(#[source] kube::Error),
}

/// The client of one cluster. Clones share the connection and the watched objects.
#[derive(Clone)]
pub struct Kubernetes {
    cluster: Arc<str>,
    /// The URL of the API server.
    url: Arc<str>,
    namespaces: Arc<[String]>,
    server: server::Server,
    cache: Arc<watch::ClusterCache>,
    clock: Arc<dyn Clock>,
}

impl Kubernetes {
    /// Makes a client for the cluster that workloads call `cluster_name`. Makes no call to the API server.
    ///
    /// # Errors
    /// The kubeconfig or the credentials can't be used.
    pub fn connect(options: &Options, cluster_name: &str, clock: Arc<dyn Clock>) -> Result<Kubernetes, ConnectError> {
        let mut config = config(options)?;
        // One attempt per call: the engine decides on further attempts.
        config.default_retry = false;
        config.connect_timeout = Some(options.timeout.to_std());
        let url = Arc::from(config.cluster_url.to_string());
        let client = token_file::client(config)?;
        Ok(Kubernetes {
            cluster: Arc::from(cluster_name),
            url,
            namespaces: options.namespaces.clone().into(),
            server: server::Server {
                client,
                timeout: options.timeout.to_std(),
                cluster_wide: options.namespaces.is_empty(),
                joint: joint_reads::JointReads::default(),
            },
            cache: Arc::default(),
            clock,
        })
    }

    /// Watches until `cancel` is cancelled or the receiver of `wakes` is dropped. Reports the workloads for which
    /// `wanted` returns `true`.
    pub async fn watch(
        &self,
        wanted: impl Fn(&Workload) -> bool + Send + Sync + 'static,
        wakes: mpsc::Sender<Wake>,
        cancel: CancellationToken,
    ) {
        let Self { cluster, namespaces, server, cache, clock, url: _ } = self;
        let scope = watch::WatchScope { cluster, namespaces, wanted: Box::new(wanted) };
        watch::run(server, scope, cache, &**clock, &wakes, &cancel).await;
    }

    /// Returns the URL of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the state of the watches.
    pub fn readiness(&self) -> Readiness {
        self.cache.readiness()
    }

    /// Returns the workloads that the watches have found. Objects that Bellwether created are no workloads.
    pub fn workloads(&self) -> Vec<Workload> {
        self.cache.with(|objects| objects.all_workloads(&self.cluster))
    }

    /// Reads a workload's status and finds the issues of a canary under this policy. Writes nothing.
    ///
    /// # Errors
    /// A read failed.
    pub async fn preflight(&self, workload: &Workload, policy: &Policy) -> Result<Preflight, Failure> {
        Ok(self.read_preflight(workload, &policy.traffic, policy.fresh_baseline).await?.0)
    }

    /// Returns the API verbs that the account lacks in a namespace; without a namespace, in all of them.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn missing_verbs(&self, namespace: Option<&str>) -> Result<Vec<ApiVerb>, Failure> {
        access::missing(&self.server, access::required(), namespace).await
    }

    /// Returns the API verbs that the account lacks for [`Kubernetes::reviews`].
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn missing_review_verbs(&self) -> Result<Vec<ApiVerb>, Failure> {
        access::missing(&self.server, review::REQUIRED.to_vec(), None).await
    }

    /// Reads the facts around a workload from which a first policy is proposed. Writes nothing.
    ///
    /// # Errors
    /// A read failed, or the workload belongs to another cluster.
    pub async fn survey(&self, workload: &Workload) -> Result<Surveyed, Failure> {
        self.check_cluster(workload)?;
        Box::pin(survey::workload(&self.server, workload)).await
    }

    /// Returns kind and name of the routes that send traffic to one of these Services of the workload's namespace and that no router
    /// splits. Kinds that can't be read are left out.
    pub async fn unsplit_routes(&self, workload: &Workload, services: &[String]) -> Vec<String> {
        survey::unsplit_routes(&self.server, workload, services).await
    }

    /// Returns the `maxUnavailable` of a workload's rolling updates, as in `25%` or `1`; `None` without one.
    ///
    /// # Errors
    /// The read failed.
    pub async fn max_unavailable(&self, workload: &Workload) -> Result<Option<String>, Failure> {
        survey::max_unavailable(&self.server, workload).await
    }

    /// Returns the Services that may be a Prometheus: of all namespaces, or of `namespace` if the account may not list all.
    ///
    /// # Errors
    /// A read failed.
    pub async fn metrics_services(&self, namespace: &str) -> Result<Vec<MetricsService>, Failure> {
        survey::metrics_services(&self.server, namespace).await
    }

    /// Returns the API server's clock minus this machine's, in milliseconds with the precision of a second; `None` if its answer has
    /// no time.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn clock_ahead_ms(&self) -> Result<Option<i64>, Failure> {
        server_facts::clock_ahead_ms(&self.server, &*self.clock).await
    }

    /// Returns the API of a router's routes that the API server should have, and whether it has it; `None` for a router without
    /// routes.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn route_api(&self, router: RouterKind) -> Result<Option<RouteApi>, Failure> {
        server_facts::route_api(&self.server, router).await
    }

    /// Returns every object with an epoch in the watched namespaces, and the epoch.
    ///
    /// # Errors
    /// A read failed.
    pub async fn epochs(&self) -> Result<Vec<(String, u64)>, Failure> {
        if self.namespaces.is_empty() {
            return epochs::carried(&self.server, None).await;
        }
        let lists = self.namespaces.iter().map(|namespace| epochs::carried(&self.server, Some(namespace)));
        Ok(futures::future::try_join_all(lists).await?.into_iter().flatten().collect())
    }

    /// Returns the workloads whose canary has traffic, as the watches have seen it.
    pub fn split_workloads(&self) -> BTreeSet<Workload> {
        self.cache.with(|objects| objects.split_workloads(&self.cluster))
    }

    /// Reads how a workload's traffic is split.
    ///
    /// # Errors
    /// A read failed, or the workload does not exist or belongs to another cluster.
    pub async fn split(&self, workload: &Workload) -> Result<Split, Failure> {
        self.check_cluster(workload)?;
        release::read_split(&self.server, workload).await
    }

    /// Gives all traffic of a workload to its stable, and notes the author on its canary. The canary's objects stay.
    ///
    /// # Errors
    /// A read or a write failed, or the workload does not exist or belongs to another cluster.
    pub async fn release(&self, workload: &Workload, author: &Author) -> Result<(), Failure> {
        self.check_cluster(workload)?;
        release::release(&self.server, workload, author).await
    }

    /// Returns the reviews of tokens for these audiences, and of their users' rights.
    pub fn reviews(&self, audiences: Vec<String>) -> KubernetesReviews {
        KubernetesReviews { server: self.server.clone(), audiences }
    }

    /// Returns the sink that puts Events on the workloads.
    pub fn events(&self) -> KubernetesEvents {
        KubernetesEvents(self.clone())
    }

    async fn read_preflight(
        &self,
        workload: &Workload,
        traffic: &Traffic,
        fresh_baseline: bool,
    ) -> Result<(Preflight, Vec<PodTemplate>), Failure> {
        // The routes of other namespaces are only named, so the watched ones are new enough.
        let elsewhere = self.cache.with(|objects| objects.routes_elsewhere(traffic.router, workload));
        Box::pin(preflight_reads::preflight(&self.server, workload, traffic, fresh_baseline, elsewhere)).await
    }

    /// Checks that a workload belongs to this cluster.
    fn check_cluster(&self, workload: &Workload) -> Result<(), Failure> {
        if workload.cluster == *self.cluster {
            return Ok(());
        }
        let message = format!("this is cluster {}, not {}", self.cluster, workload.cluster);
        Err(failure::new(FailureKind::Refused, message))
    }

    /// Performs an act. Returns its outcome and the pod templates of a preflight.
    async fn act(
        &self,
        effect: &Effect,
        act: &ClusterAct,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> Result<(Outcome, Vec<PodTemplate>), Failure> {
        let server = &self.server;
        self.check_cluster(&effect.workload)?;
        match act {
            ClusterAct::Preflight { traffic, baseline } => {
                let (preflight, templates) = self.read_preflight(&effect.workload, traffic, *baseline).await?;
                return Ok((Outcome::Preflight(Box::new(preflight)), templates));
            }
            ClusterAct::ApplyCanary { stable_uid, images, replicas, traffic, baseline } => {
                let wanted =
                    canary::CanarySpec { stable_uid, images, replicas: *replicas, traffic, baseline: *baseline };
                Box::pin(canary::apply(server, effect, epoch, &wanted)).await?;
            }
            ClusterAct::SetWeight { weight, traffic } => {
                canary::set_weight(server, effect, epoch, *weight, traffic).await?
            }
            ClusterAct::RemoveCanary { traffic } => canary::remove(server, effect, epoch, traffic).await?,
            ClusterAct::Promote { stable_uid, from, images } => {
                stable::promote(server, effect, epoch, stable_uid, from, images).await?;
            }
            ClusterAct::Restore { stable_uid, template: hash } => {
                stable::restore(server, effect, epoch, stable_uid, hash, template).await?;
            }
        }
        Ok((Outcome::Done, Vec::new()))
    }
}

fn config(options: &Options) -> Result<Config, ConnectError> {
    let context = options.context.clone();
    if let Some(path) = &options.kubeconfig {
        let failed = |source| ConnectError::Kubeconfig { path: path.clone(), source };
        let file = Kubeconfig::read_from(path).map_err(failed)?;
        return kubeconfig::config(file, context).map_err(failed);
    }
    // A context belongs to a kubeconfig, so a configured one excludes the pod's service account.
    match Config::incluster() {
        Ok(config) if context.is_none() => Ok(config),
        _ => {
            let file = Kubeconfig::read().map_err(ConnectError::NoCredentials)?;
            kubeconfig::config(file, context).map_err(ConnectError::NoCredentials)
        }
    }
}

#[async_trait]
impl Cluster for Kubernetes {
    async fn perform(
        &self,
        effect: &Effect,
        act: &ClusterAct,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>) {
        self.act(effect, act, epoch, template).await.unwrap_or_else(|failure| (Outcome::Failed(failure), Vec::new()))
    }
}

impl PodDirectory for Kubernetes {
    fn locate(&self, namespace: &str, pod: &str) -> Option<Arc<PodFacts>> {
        self.cache.with(|objects| objects.locate(namespace, pod)).map(Arc::new)
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        self.cache.with(|objects| objects.service(workload))
    }

    fn problem(&self) -> Option<String> {
        self.cache.readiness().problem()
    }
}

impl StatusSource for Kubernetes {
    fn resend(&self, known: Vec<Workload>) {
        self.cache.resend(self.workloads().into_iter().chain(known));
    }
}

#[cfg(test)]
mod tests;
