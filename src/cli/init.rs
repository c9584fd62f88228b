//! `bellwether init`: proposes a configuration for the workloads of a cluster, from its objects and its metrics. The command
//! only reads.
//!
//! The proposal goes to standard output or into a file, its doubts go to standard error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bellwether_core::ids::{Scope, Workload, WorkloadKind};
use clap::Args;
use reqwest::Url;

use self::facts::{InitFacts, MeasuredWorkload, PrometheusFacts};
use self::propose::{Doubt, InitProposal, propose};
use self::read::MetricReader;
use super::check::when_listed;
use super::run::sampling_options;
use super::{Common, proposal, tell};
use crate::adapters::kubernetes::{Kubernetes, Surveyed, WorkloadSurvey};
use crate::adapters::prometheus::{self, Prometheus};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::ports::Metrics as _;
use crate::{exit, telemetry};

mod checks;
mod facts;
mod find;
mod propose;
mod read;
pub(super) mod steps;

/// The maximum number of workloads in one proposal.
const MOST_WORKLOADS: usize = 20;

/// The arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Workload, as cluster/namespace/Deployment/name, or all of a namespace, as cluster/namespace.
    #[arg(value_name = "WORKLOAD")]
    scope: String,
    /// URL of Prometheus; without it, the one of the configuration, or a Service of the cluster that looks like one.
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// Kafka brokers, as host:port, separated by commas; without them, one process with an embedded journal.
    #[arg(long, value_name = "BROKERS")]
    brokers: Option<String>,
    /// File to write instead of standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long, requires = "to")]
    force: bool,
}

/// The workloads that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    One(Workload),
    All { cluster: String, namespace: String },
}

impl Target {
    /// Parses a workload or a namespace.
    fn parse(text: &str) -> anyhow::Result<Target> {
        if let [cluster, namespace, kind, name] = text.split('/').collect::<Vec<_>>().as_slice()
            && kind.parse::<WorkloadKind>().is_err()
        {
            bail!("{}", unsupported(kind, &format!("{cluster}/{namespace}/{name}")));
        }
        match text.parse::<Scope>() {
            Ok(Scope::Workload(workload)) => Ok(Target::One(workload)),
            Ok(Scope::Namespace { cluster, namespace }) => Ok(Target::All { cluster, namespace }),
            Ok(Scope::Cluster(_)) | Err(_) => {
                bail!(
                    "{text:?} is no workload; write cluster/namespace/Deployment/name, or cluster/namespace for all of them"
                )
            }
        }
    }

    fn namespace(&self) -> &str {
        match self {
            Target::One(workload) => &workload.namespace,
            Target::All { namespace, .. } => namespace,
        }
    }

    fn cluster(&self) -> &str {
        match self {
            Target::One(workload) => &workload.cluster,
            Target::All { cluster, .. } => cluster,
        }
    }
}

/// Returns the message about a kind of workload that no rollout changes.
fn unsupported(kind: &str, name: &str) -> String {
    format!("{name} is a {kind}, and Bellwether changes Deployments alone; name a Deployment")
}

/// Proposes a configuration.
///
/// # Errors
/// The cluster or Prometheus can't be read, the workload does not exist or is of an unsupported kind, or the file exists.
pub async fn run(args: &InitArgs, common: &Common) -> anyhow::Result<u8> {
    let target = Target::parse(&args.scope)?;
    proposal::check_target(args.to.as_deref(), args.force)?;
    let mut config = config::load(&common.sources()).map_err(|report| anyhow!("{report}"))?;
    target.cluster().clone_into(&mut config.cluster);
    config.kubernetes.namespaces = vec![target.namespace().to_owned()];
    telemetry::install_tls();
    let (facts, mut doubts) = facts(&mut config, &target, args).await?;
    let InitProposal { toml, doubts: of_proposal } = propose(&facts);
    doubts.extend(of_proposal);
    let checked = config::load_text(&args.to.as_deref().unwrap_or(Path::new("proposal")).display().to_string(), &toml);
    checked.map_err(|report| anyhow!("the proposal has a mistake; please report it with this text:\n{report}"))?;
    tell(&told(&doubts, args.to.as_deref()));
    proposal::put(&toml, args.to.as_deref(), args.force)?;
    Ok(exit::OK)
}

/// Returns the doubts and the next commands as text.
fn told(doubts: &[Doubt], file: Option<&Path>) -> String {
    let mut text = String::new();
    for Doubt { about, text: fact, remedy } in doubts {
        text += &format!("⚠ {about}: {fact}\n");
        text += &remedy.as_ref().map(|remedy| format!("  fix: {remedy}\n")).unwrap_or_default();
    }
    let name = file.map_or("bellwether.toml".to_owned(), |path| path.display().to_string());
    text + &format!("Next: `bellwether doctor --config {name}`, and `bellwether run --config {name}`.\n")
}

/// Reads the facts. The doubts are about the reading itself.
async fn facts(config: &mut Config, target: &Target, args: &InitArgs) -> anyhow::Result<(InitFacts, Vec<Doubt>)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock));
    let cluster = cluster.context("set kubernetes.kubeconfig, as in --set kubernetes.kubeconfig=FILE")?;
    let facts = async {
        let mut doubts = Vec::new();
        let surveys = surveys(&cluster, target, &mut doubts).await?;
        let (prometheus, mut found) = prometheus(config, &cluster, target, args, &mut doubts).await?;
        let options = sampling_options(config);
        let reader = MetricReader {
            metrics: Arc::new(prometheus),
            pods: Arc::new(cluster.clone()),
            clock,
            options,
            over: read::PAST,
        };
        let mut workloads = Vec::new();
        for survey in surveys {
            tell(&format!("reading the metrics of {}\n", propose::short(&survey.workload)));
            let families = reader.families(&survey).await;
            let interval = reader.scrape_interval(&survey, &families).await;
            found.scrape_interval = found.scrape_interval.max(interval);
            let unsplit_routes = cluster.unsplit_routes(&survey.workload, &survey.services).await;
            workloads.push(MeasuredWorkload { survey, unsplit_routes, families });
        }
        let path = config.kubernetes.kubeconfig.as_ref().map(|path| path.display().to_string());
        let facts = InitFacts {
            asked: args.scope.clone(),
            cluster: config.cluster.clone(),
            kubeconfig: [path, config.kubernetes.context.clone()],
            prometheus: found,
            brokers: args.brokers.clone(),
            workloads,
        };
        Ok((facts, doubts))
    };
    when_listed(&cluster, Box::pin(facts)).await.map_err(|finding| anyhow!(finding.text))?
}

/// Returns the facts about the workloads that were asked for, at least one.
async fn surveys(
    cluster: &Kubernetes,
    target: &Target,
    doubts: &mut Vec<Doubt>,
) -> anyhow::Result<Vec<WorkloadSurvey>> {
    let existing = cluster.workloads();
    let wanted = match target {
        Target::One(workload) => vec![workload.clone()],
        Target::All { .. } => existing.iter().take(MOST_WORKLOADS).cloned().collect(),
    };
    if wanted.is_empty() {
        bail!("there is no Deployment in namespace {}; see `kubectl get deployments -A`", target.namespace());
    }
    if wanted.len() < existing.len() && matches!(target, Target::All { .. }) {
        let text = format!("it has {} Deployments, and the proposal has the first {MOST_WORKLOADS}", existing.len());
        doubts.push(Doubt::new(target.namespace(), text, "run init for each of the others"));
    }
    let mut surveys = Vec::new();
    for workload in wanted {
        match cluster.survey(&workload).await.map_err(|failure| anyhow!(failure.message))? {
            Surveyed::Found(survey) => surveys.push(*survey),
            Surveyed::Unsupported(kind) => bail!("{}", unsupported(kind, &propose::short(&workload))),
            Surveyed::Absent => {
                let names: Vec<String> = existing.iter().take(MOST_WORKLOADS).map(|other| other.name.clone()).collect();
                bail!(
                    "there is no Deployment {}; the namespace has {}",
                    propose::short(&workload),
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                );
            }
        }
    }
    Ok(surveys)
}

/// Returns the Prometheus: by the flag, by the configuration, or a Service of the cluster that looks like one.
async fn prometheus(
    config: &mut Config,
    cluster: &Kubernetes,
    target: &Target,
    args: &InitArgs,
    doubts: &mut Vec<Doubt>,
) -> anyhow::Result<(Prometheus, PrometheusFacts)> {
    let mut service = None;
    let is_configured = config.prometheus.url != prometheus::Options::default().url;
    if let Some(url) = &args.prometheus {
        url.clone_into(&mut config.prometheus.url);
    } else if !is_configured {
        let services =
            cluster.metrics_services(target.namespace()).await.map_err(|failure| anyhow!(failure.message))?;
        let Some((url, name, others)) = find::choose(&services) else {
            bail!("no Service of the cluster looks like a Prometheus; give its URL with --prometheus");
        };
        tell(&format!("taking Service {name} for the Prometheus: {url}\n"));
        if !others.is_empty() {
            let text = format!("Service {name} was taken, and {} look like one too", others.join(", "));
            doubts.push(Doubt::new("prometheus", text, "give the URL of the right one with --prometheus"));
        }
        service = Some(name);
        config.prometheus.url = url;
    }
    let client = Prometheus::new(&config.prometheus)?;
    if let Err(error) = client.instant("vector(1)", SystemClock.now()).await {
        let remedy = match &service {
            Some(name) => {
                let (namespace, name) = name.split_once('/').unwrap_or_default();
                let port = Url::parse(&config.prometheus.url).ok().and_then(|url| url.port()).unwrap_or(9090);
                format!(
                    "from outside of the cluster, run `kubectl -n {namespace} port-forward service/{name} {port}` and give \
                     --prometheus http://127.0.0.1:{port}"
                )
            }
            None => "give its URL with --prometheus".to_owned(),
        };
        bail!("Prometheus can't be asked: {error}; {remedy}");
    }
    let (url, in_url) = without_credentials(&config.prometheus.url);
    let options = &config.prometheus;
    let has_credentials = in_url || options.bearer_token_file.is_some() || options.username.is_some();
    Ok((client, PrometheusFacts { url, service, has_credentials, scrape_interval: None }))
}

/// Returns a URL without user name and password, and whether it had one.
fn without_credentials(text: &str) -> (String, bool) {
    let Ok(mut url) = Url::parse(text) else { return (text.to_owned(), false) };
    if url.username().is_empty() && url.password().is_none() {
        return (text.to_owned(), false);
    }
    prometheus::remove_credentials(&mut url);
    (url.to_string().trim_end_matches('/').to_owned(), true)
}

#[cfg(test)]
mod tests;
