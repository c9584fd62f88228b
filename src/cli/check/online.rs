//! `check --online`: queries everything that the configuration names once, through the daemon's own adapters.
//!
//! For each workload that a policy selects it runs the preflight and the queries that a rollout runs in the phase
//! `preparing`, so it finds the problems that a rollout would be refused for. It only reads.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::ids::Workload;
use bellwether_core::input::event::Failure;
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::measure::watch::ArmKey;
use bellwether_core::policy::Policy;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CheckFinding, Level, counted};
use crate::adapters::kafka::Kafka;
use crate::adapters::kubernetes::{ApiVerb, Kubernetes};
use crate::adapters::prometheus::{MAX_SKEW_MS, Prometheus};
use crate::cli::sinks::{self, OpenedSink};
use crate::cli::{run, with_causes};
use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::config::Config;
use crate::journal::JournalKind;
use crate::ports::Metrics;
use crate::sampling::probe::{self, Prober};
use crate::telemetry;

/// Time that the API server may take to list all objects.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of workloads of one policy that are checked. Workloads of one policy tend to have the same problems.
const MOST_WORKLOADS: usize = 50;

/// Returns a finding for each part that the configuration names and for each selected workload.
pub async fn findings(config: &Config) -> Vec<CheckFinding> {
    telemetry::install_tls();
    let mut findings = vec![journal(config).await];
    let (prometheus, finding) = prometheus(config).await;
    findings.push(finding);
    findings.extend(notification_sinks(config).await);
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
            "none needed if the daemon may create topics; it creates them at its start",
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
        Err(_) => "it answers, but not with its version".to_owned(),
    };
    let ahead = prometheus.clock_ahead_ms();
    let finding = if ahead.abs() > MAX_SKEW_MS {
        let text = format!(
            "{version}; its clock is {} s {} ours",
            ahead.abs() / 1000,
            if ahead > 0 { "ahead of" } else { "behind" }
        );
        CheckFinding::warning("prometheus", text, "synchronize both machines with the same time server")
    } else {
        CheckFinding::fine("prometheus", version)
    };
    (Some(prometheus), finding)
}

async fn notification_sinks(config: &Config) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for OpenedSink { name, sink, .. } in sinks::opened(config) {
        let finding = match sink {
            Ok(sink) => match sink.check().await {
                Ok(text) => {
                    let text = format!("{name}: {text}; `bellwether sinks {name} --test` sends it a test");
                    CheckFinding::fine("notifications", text)
                }
                Err(error) => CheckFinding::problem("notifications", error.to_string(), sinks::REMEDY),
            },
            Err(error) => CheckFinding::problem("notifications", with_causes(&error), sinks::REMEDY),
        };
        findings.push(finding);
    }
    findings
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
        // The API server does not answer, so the remaining checks of the cluster are skipped.
        Err(finding) => return vec![finding],
    };
    let stop = CancellationToken::new();
    let watcher = tokio::spawn(watch(cluster.clone(), stop.clone()));
    match wait_until_listed(&cluster).await {
        Ok(()) => {
            let options = run::sampling_options(config);
            let prober =
                prometheus.map(|prometheus| Prober::new(prometheus, Arc::new(cluster.clone()), clock, options));
            findings.extend(workloads(config, &cluster, prober.as_ref()).await);
        }
        Err(finding) => findings.push(finding),
    }
    stop.cancel();
    // The watcher was cancelled, so its result does not matter.
    let _ = watcher.await;
    findings
}

async fn verbs(config: &Config, cluster: &Kubernetes) -> Result<Vec<CheckFinding>, CheckFinding> {
    let everywhere = [None];
    let named: Vec<Option<&str>> = config.kubernetes.namespaces.iter().map(|name| Some(name.as_str())).collect();
    let scopes = if named.is_empty() { &everywhere[..] } else { &named[..] };
    let mut findings = Vec::new();
    for scope in scopes {
        let place = scope.map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
        let missing = cluster.missing_verbs(*scope).await.map_err(unanswered)?;
        if missing.is_empty() {
            findings.push(CheckFinding::fine("rbac", format!("every verb is allowed in {place}")));
        }
        findings.extend(missing.into_iter().map(|verb| forbidden(verb, &place)));
    }
    if config.http.authenticate {
        let missing = cluster.missing_review_verbs().await.map_err(unanswered)?;
        findings.extend(missing.into_iter().map(|verb| forbidden(verb, "the whole cluster")));
    }
    Ok(findings)
}

fn unanswered(failure: Failure) -> CheckFinding {
    CheckFinding::problem("kubernetes", failure.message, "see [kubernetes] in the configuration")
}

fn forbidden((verb, group, resource): ApiVerb, place: &str) -> CheckFinding {
    let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let remedy = "grant it to the service account; deploy/kustomize has the roles";
    CheckFinding::problem("rbac", format!("may not {verb} {resource} in {place}"), remedy)
}

/// Watches the cluster as the daemon does, until it is stopped. The probe of the queries needs the workload of each pod.
pub(in crate::cli) async fn watch(cluster: Kubernetes, stop: CancellationToken) {
    let (wakes, _receiver) = mpsc::channel(1);
    cluster.watch(|_| false, wakes, stop).await;
}

/// Waits until all objects have been listed once. A timeout is a problem.
pub(in crate::cli) async fn wait_until_listed(cluster: &Kubernetes) -> Result<(), CheckFinding> {
    let stopwatch = Stopwatch::start();
    while !cluster.readiness().is_ready() {
        if stopwatch.elapsed() > LIST_TIMEOUT {
            let readiness = cluster.readiness();
            let why = readiness.error.into_iter().chain(readiness.waiting).collect::<Vec<_>>().join("; ");
            let text = format!("not all objects could be listed within {} s: {why}", LIST_TIMEOUT.as_secs());
            return Err(CheckFinding::problem("kubernetes", text, "see the findings above"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Checks each policy and the workloads that it selects and no earlier policy does.
async fn workloads(config: &Config, cluster: &Kubernetes, prober: Option<&Prober>) -> Vec<CheckFinding> {
    let mut left = cluster.workloads();
    let mut findings = Vec::new();
    for policy in &config.policies {
        let (covered, others): (Vec<Workload>, Vec<Workload>) =
            left.into_iter().partition(|workload| policy.covers(workload));
        left = others;
        findings.push(policy_finding(policy, &covered));
        for workload in covered.iter().take(MOST_WORKLOADS) {
            findings.extend(workload_findings(policy, workload, cluster, prober).await);
        }
    }
    findings
}

fn policy_finding(policy: &Policy, covered: &[Workload]) -> CheckFinding {
    let name = &policy.name;
    match covered.len() {
        0 => CheckFinding::warning(
            "policy",
            format!("{name} selects no existing workload, so its metrics were not queried"),
            "compare its match with `kubectl get deployments -A`",
        ),
        n if n > MOST_WORKLOADS => CheckFinding::warning(
            "policy",
            format!("{name} selects {n} workloads; the first {MOST_WORKLOADS} were checked"),
            "none needed; the others are likely to have the same problems",
        ),
        n => CheckFinding::fine("policy", format!("{name} selects {}", counted(n, "workload", "workloads"))),
    }
}

async fn workload_findings(
    policy: &Policy,
    workload: &Workload,
    cluster: &Kubernetes,
    prober: Option<&Prober>,
) -> Vec<CheckFinding> {
    let area = format!("{}/{}", workload.namespace, workload.name);
    let preflight = match cluster.preflight(workload, policy).await {
        Ok(preflight) => preflight,
        Err(failure) => return vec![CheckFinding::problem(&area, failure.message, "see the findings above")],
    };
    let Some(stable) = preflight.status.stable else {
        return vec![CheckFinding::warning(&area, "it was deleted during the check", "none needed")];
    };
    let open = preflight.issues.iter().filter(|issue| !issue.is_accepted(&policy.owned_by));
    let level = |issue: &PreflightIssue| if issue.refuses() { Level::Problem } else { Level::Warning };
    let mut findings: Vec<CheckFinding> =
        open.map(|it| CheckFinding::without_remedy(level(it), &area, it.to_string())).collect();
    if stable.replicas == 0 {
        let remedy = "none needed if that is intended; a rollout of it would be refused";
        findings.push(CheckFinding::warning(&area, "it is scaled to 0", remedy));
    }
    let probed = policy.probe_targets();
    let metrics = counted(probed.len(), "metric", "metrics");
    if let Some(prober) = prober {
        let key = ArmKey { deployment_uid: stable.uid, pod_hash: None, name: workload.name.clone() };
        let probe_findings = prober.findings(workload, &key, &probed).await;
        findings.extend(probe_findings.into_iter().map(|finding| match finding {
            probe::ProbeFinding::Problem(text) | probe::ProbeFinding::Unanswered(text) => {
                CheckFinding::without_remedy(Level::Problem, &area, text)
            }
            probe::ProbeFinding::Warning(text) => CheckFinding::without_remedy(Level::Warning, &area, text),
        }));
    }
    findings.extend(conclusion(&area, &metrics, prober.is_some() || probed.is_empty(), findings.is_empty()));
    findings
}

/// Returns the last finding about a workload whose policy has so many `metrics`: whether they were read, and whether nothing
/// else was found.
fn conclusion(area: &str, metrics: &str, were_read: bool, is_only: bool) -> Option<CheckFinding> {
    if !were_read {
        let text = format!("{metrics} of its policy could not be read, because Prometheus does not answer");
        return Some(CheckFinding::problem(area, text, "see prometheus above, and check again"));
    }
    is_only.then(|| CheckFinding::fine(area, format!("a rollout can start, and {metrics} can be read")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_that_were_not_read_are_said_to_be_neither_readable_nor_fine() {
        let unread = conclusion("shop/web", "2 metrics", false, true).unwrap();
        assert!(matches!(unread.level, Level::Problem), "{unread:?}");
        assert!(unread.text.contains("2 metrics of its policy could not be read"), "{unread:?}");
        assert!(conclusion("shop/web", "2 metrics", false, false).is_some());
        let read = conclusion("shop/web", "2 metrics", true, true).unwrap();
        assert!(read.text.contains("2 metrics can be read"), "{read:?}");
        assert!(conclusion("shop/web", "2 metrics", true, false).is_none(), "the other findings say it");
    }
}
