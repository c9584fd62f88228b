//! `check --online`: everything that the configuration names is asked once, in the words of the daemon's own adapters.
//!
//! What is found here is what a rollout would meet: the same survey that comes before a canary, and the same queries that
//! are tried in `preparing`, for each workload that a policy is for. It only reads.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::ids::Workload;
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::measure::watch::ArmKey;
use bellwether_core::policy::Policy;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CheckFinding, Level, counted};
use crate::adapters::kafka::Kafka;
use crate::adapters::kubernetes::{ApiVerb, Kubernetes};
use crate::adapters::prometheus::{MAX_SKEW_MS, Prometheus};
use crate::adapters::slack::Slack;
use crate::cli::run;
use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::config::Config;
use crate::journal::JournalKind;
use crate::ports::Metrics;
use crate::sampling::probe::{self, Prober};
use crate::telemetry;

/// How long the API server may take to list what is there.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many workloads of a policy are looked at; what is wrong with fifty is wrong with the rest.
const MOST_WORKLOADS: usize = 50;

/// All that was found.
pub async fn look(config: &Config) -> Vec<CheckFinding> {
    telemetry::install_tls();
    let mut findings = vec![journal(config).await];
    let (prometheus, found) = prometheus(config).await;
    findings.push(found);
    findings.extend(slack(config));
    findings.extend(cluster(config, prometheus).await);
    findings
}

async fn journal(config: &Config) -> CheckFinding {
    if config.journal.kind == JournalKind::Embedded {
        return CheckFinding::fine("journal", format!("embedded, in {}", config.journal.path.display()));
    }
    let brokers = &config.kafka.brokers;
    match Kafka::inspect(&config.kafka).await {
        Ok(missing) if missing.is_empty() => {
            CheckFinding::fine("kafka", format!("{brokers}: all four topics are as they must be"))
        }
        Ok(missing) => CheckFinding::warning(
            "kafka",
            format!("{brokers}: missing {}", missing.join(", ")),
            "nothing, if the daemon may create topics; it does so when it starts",
        ),
        Err(error) => CheckFinding::problem("kafka", error.to_string(), "see [kafka] in the configuration"),
    }
}

async fn prometheus(config: &Config) -> (Option<Arc<Prometheus>>, CheckFinding) {
    let remedy = "see [prometheus] in the configuration";
    let prometheus = match Prometheus::new(&config.prometheus) {
        Ok(prometheus) => Arc::new(prometheus),
        Err(error) => return (None, CheckFinding::problem("prometheus", error.to_string(), remedy)),
    };
    if let Err(error) = prometheus.instant("vector(1)", SystemClock.now()).await {
        return (None, CheckFinding::problem("prometheus", error.to_string(), remedy));
    }
    let version = match prometheus.server_version().await {
        Ok(version) => format!("version {version}"),
        Err(_) => "answers; it does not tell its version".to_owned(),
    };
    let ahead = prometheus.clock_ahead_ms();
    let found = if ahead.abs() > MAX_SKEW_MS {
        let text = format!(
            "{version}; its clock is {} s {} ours",
            ahead.abs() / 1000,
            if ahead > 0 { "ahead of" } else { "behind" }
        );
        CheckFinding::warning("prometheus", text, "let both machines ask the same time server")
    } else {
        CheckFinding::fine("prometheus", version)
    };
    (Some(prometheus), found)
}

fn slack(config: &Config) -> Option<CheckFinding> {
    match Slack::open(&config.slack) {
        Ok(Some(_)) => Some(CheckFinding::fine("slack", "a webhook is set; nothing was sent to it")),
        Ok(None) => None,
        Err(error) => Some(CheckFinding::problem("slack", error.to_string(), "see [slack] in the configuration")),
    }
}

async fn cluster(config: &Config, prometheus: Option<Arc<Prometheus>>) -> Vec<CheckFinding> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cluster = match Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock)).await {
        Ok(cluster) => cluster,
        Err(error) => {
            return vec![CheckFinding::problem(
                "kubernetes",
                error.to_string(),
                "see [kubernetes] in the configuration",
            )];
        }
    };
    let mut findings = match verbs(config, &cluster).await {
        Ok(findings) => findings,
        // Without the API server there is nothing more to ask of it.
        Err(found) => return vec![found],
    };
    let stop = CancellationToken::new();
    let analysis = tokio::spawn(watch(cluster.clone(), stop.clone()));
    match listed(&cluster).await {
        Ok(()) => {
            let options = run::sampling_options(config);
            let prober =
                prometheus.map(|prometheus| Prober::new(prometheus, Arc::new(cluster.clone()), clock, options));
            findings.extend(workloads(config, &cluster, prober.as_ref()).await);
        }
        Err(found) => findings.push(found),
    }
    stop.cancel();
    // It ends because it was told to; what it could still say was not asked for.
    let _ = analysis.await;
    findings
}

async fn verbs(config: &Config, cluster: &Kubernetes) -> Result<Vec<CheckFinding>, CheckFinding> {
    let everywhere = [None];
    let named: Vec<Option<&str>> = config.kubernetes.namespaces.iter().map(|name| Some(name.as_str())).collect();
    let scopes = if named.is_empty() { &everywhere[..] } else { &named[..] };
    let mut findings = Vec::new();
    for scope in scopes {
        let place = scope.map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
        match cluster.missing_verbs(*scope).await {
            Ok(missing) if missing.is_empty() => {
                findings.push(CheckFinding::fine("rbac", format!("every verb is allowed in {place}")))
            }
            Ok(missing) => findings.extend(missing.into_iter().map(|verb| forbidden(verb, &place))),
            Err(failure) => {
                return Err(CheckFinding::problem(
                    "kubernetes",
                    failure.message,
                    "see [kubernetes] in the configuration",
                ));
            }
        }
    }
    Ok(findings)
}

fn forbidden((verb, group, resource): ApiVerb, place: &str) -> CheckFinding {
    let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let remedy = "grant it to the service account; deploy/kustomize has the roles";
    CheckFinding::problem("rbac", format!("may not {verb} {resource} in {place}"), remedy)
}

/// Watches, as the daemon does: the metrics' probe asks whose pod is whose.
pub(in crate::cli) async fn watch(cluster: Kubernetes, stop: CancellationToken) {
    let (wakes, _nobody) = mpsc::channel(1);
    cluster.watch(|_| false, wakes, stop).await;
}

/// Waits until everything has been listed once.
pub(in crate::cli) async fn listed(cluster: &Kubernetes) -> Result<(), CheckFinding> {
    let watch = Stopwatch::start();
    while !cluster.readiness().is_ready() {
        if watch.elapsed() > PATIENCE {
            let readiness = cluster.readiness();
            let why = readiness.error.into_iter().chain(readiness.waiting).collect::<Vec<_>>().join("; ");
            let text = format!("not everything could be listed within {} s: {why}", PATIENCE.as_secs());
            return Err(CheckFinding::problem("kubernetes", text, "see the lines above"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A policy's workloads are those that no policy before it is for.
async fn workloads(config: &Config, cluster: &Kubernetes, prober: Option<&Prober>) -> Vec<CheckFinding> {
    let mut left = cluster.workloads();
    let mut findings = Vec::new();
    for policy in &config.policies {
        let (covered, others): (Vec<Workload>, Vec<Workload>) =
            left.into_iter().partition(|workload| policy.covers(workload));
        left = others;
        findings.push(of_policy(policy, &covered));
        for workload in covered.iter().take(MOST_WORKLOADS) {
            findings.extend(of_workload(policy, workload, cluster, prober).await);
        }
    }
    findings
}

fn of_policy(policy: &Policy, covered: &[Workload]) -> CheckFinding {
    let name = &policy.name;
    match covered.len() {
        0 => CheckFinding::warning(
            "policy",
            format!("{name} is for no workload that there is, so its metrics were not tried"),
            "compare its match with `kubectl get deployments -A`",
        ),
        n if n > MOST_WORKLOADS => CheckFinding::warning(
            "policy",
            format!("{name} is for {n} workloads; the first {MOST_WORKLOADS} were looked at"),
            "nothing; what is wrong with one is likely to be wrong with others",
        ),
        n => CheckFinding::fine("policy", format!("{name} is for {}", counted(n, "workload", "workloads"))),
    }
}

async fn of_workload(
    policy: &Policy,
    workload: &Workload,
    cluster: &Kubernetes,
    prober: Option<&Prober>,
) -> Vec<CheckFinding> {
    let area = format!("{}/{}", workload.namespace, workload.name);
    let preflight = match cluster.preflight(workload, policy).await {
        Ok(preflight) => preflight,
        Err(failure) => return vec![CheckFinding::problem(&area, failure.message, "see the lines above")],
    };
    let Some(stable) = preflight.status.stable else {
        return vec![CheckFinding::warning(&area, "it has just been deleted", "nothing")];
    };
    let level = |issue: &PreflightIssue| if issue.refuses() { Level::Problem } else { Level::Warning };
    let mut findings: Vec<CheckFinding> =
        preflight.issues.iter().map(|found| CheckFinding::said(level(found), &area, found.to_string())).collect();
    if stable.replicas == 0 {
        let remedy = "nothing, if that is meant; a rollout of it would be refused";
        findings.push(CheckFinding::warning(&area, "it is scaled to 0", remedy));
    }
    let probed = policy.probe_targets();
    if let Some(prober) = prober {
        let key = ArmKey { deployment_uid: stable.uid, pod_hash: None, name: workload.name.clone() };
        let found = prober.findings(workload, &key, &probed).await;
        findings.extend(found.into_iter().map(|found| match found {
            probe::ProbeFinding::Problem(text) => CheckFinding::said(Level::Problem, &area, text),
            probe::ProbeFinding::Warning(text) => CheckFinding::said(Level::Warning, &area, text),
        }));
    }
    if findings.is_empty() {
        let metrics = counted(probed.len(), "metric", "metrics");
        findings.push(CheckFinding::fine(&area, format!("nothing stands in the way, and {metrics} can be read")));
    }
    findings
}
