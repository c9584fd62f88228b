//! The cluster: the API server, its clock, the rights of the account, the API of the routes, and the workloads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::input::event::Failure;
use bellwether_core::policy::RouterKind;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CheckFinding, SYNCHRONIZE, clock_text, rights, workloads};
use crate::adapters::kubernetes::{Kubernetes, RouteApi};
use crate::adapters::prometheus::Prometheus;
use crate::cli::run;
use crate::clock::{Clock, MAX_SKEW_MS, Stopwatch, SystemClock};
use crate::config::Config;
use crate::sampling::probe::Prober;

/// Time that the API server may take to list all objects.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);
/// The consequence of an API server that can't be asked.
const WHY: &str = "without it nothing is known of the workloads, and no rollout begins or ends";

/// Returns the findings about the cluster and the selected workloads.
pub async fn findings(config: &Config, prometheus: Option<Arc<Prometheus>>) -> Vec<CheckFinding> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cluster = match Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock)) {
        Ok(cluster) => cluster,
        Err(error) => {
            let remedy =
                "name a kubeconfig that exists in kubernetes.kubeconfig and one of its contexts in kubernetes.context";
            return vec![CheckFinding::problem("kubernetes", error.to_string(), remedy).because(WHY)];
        }
    };
    let mut findings = match rights::findings(config, &cluster).await {
        Ok(findings) => findings,
        // The API server does not answer, so the remaining checks of the cluster are skipped.
        Err(failure) => return vec![unanswered(&failure, cluster.url())],
    };
    findings.extend(cluster.clock_ahead_ms().await.ok().flatten().and_then(clock_finding));
    findings.extend(route_apis(config, &cluster).await);
    let options = run::sampling_options(config);
    let prober = prometheus.map(|prometheus| Prober::new(prometheus, Arc::new(cluster.clone()), clock, options));
    match when_listed(&cluster, Box::pin(workloads::findings(config, &cluster, prober.as_ref()))).await {
        Ok(found) => findings.extend(found),
        Err(finding) => findings.push(finding),
    }
    findings
}

fn unanswered(failure: &Failure, url: &str) -> CheckFinding {
    let remedy = if failure.message.contains("401") || failure.message.contains("nauthorized") {
        "the token is not valid: renew it in the kubeconfig, or restart the pod to mount a new one"
    } else {
        "compare the server with `kubectl cluster-info`: kubernetes.kubeconfig, kubernetes.context, the network and its policies"
    };
    CheckFinding::problem("kubernetes", format!("{url}: {}", failure.message), remedy).because(WHY)
}

fn clock_finding(ahead_ms: i64) -> Option<CheckFinding> {
    if ahead_ms.abs() <= MAX_SKEW_MS {
        return None;
    }
    let text = format!("the API server answers, and {}", clock_text(ahead_ms));
    let why = "the ages of pods and of their restarts are counted from both clocks";
    Some(CheckFinding::warning("kubernetes", text, SYNCHRONIZE).because(why))
}

/// Returns a problem for each router of a policy whose routes the API server does not know.
async fn route_apis(config: &Config, cluster: &Kubernetes) -> Vec<CheckFinding> {
    let routers: BTreeSet<RouterKind> = config.policies.iter().map(|policy| policy.traffic.router).collect();
    let mut findings = Vec::new();
    for router in routers {
        if let Ok(Some(api)) = cluster.route_api(router).await {
            findings.extend(route_finding(&api));
        }
    }
    findings
}

fn route_finding(api: &RouteApi) -> Option<CheckFinding> {
    if api.is_served {
        return None;
    }
    let RouteApi { wanted, kind, versions, .. } = api;
    let has = if versions.is_empty() { "no version of it".to_owned() } else { versions.join(", ") };
    let text = format!("the API server does not have {kind} in {wanted}; it has {has}");
    let remedy = "install the Gateway API's CRDs: `kubectl apply -f \
                  https://github.com/kubernetes-sigs/gateway-api/releases/latest/download/standard-install.yaml`, or set traffic = \
                  \"replicas\" in the policy";
    Some(
        CheckFinding::problem("kubernetes", text, remedy)
            .because("no traffic can be split by routes that do not exist"),
    )
}

/// Watches the cluster as the daemon does while `work` runs, which begins when all objects have been listed once. The probe of the
/// queries needs the workload of each pod.
///
/// # Errors
/// The objects could not be listed in time; the finding says which.
pub(in crate::cli) async fn when_listed<T>(
    cluster: &Kubernetes,
    work: impl Future<Output = T>,
) -> Result<T, CheckFinding> {
    let stop = CancellationToken::new();
    let watcher = tokio::spawn(watch(cluster.clone(), stop.clone()));
    let done = match wait_until_listed(cluster).await {
        Ok(()) => Ok(work.await),
        Err(finding) => Err(finding),
    };
    stop.cancel();
    // The watcher was cancelled, so its result does not matter.
    let _ = watcher.await;
    done
}

async fn watch(cluster: Kubernetes, stop: CancellationToken) {
    let (wakes, _receiver) = mpsc::channel(1);
    cluster.watch(|_| false, wakes, stop).await;
}

/// Waits until all objects have been listed once. A timeout is a problem.
async fn wait_until_listed(cluster: &Kubernetes) -> Result<(), CheckFinding> {
    let stopwatch = Stopwatch::start();
    while !cluster.readiness().is_ready() {
        if stopwatch.elapsed() > LIST_TIMEOUT {
            let readiness = cluster.readiness();
            let why = readiness.error.into_iter().chain(readiness.waiting).collect::<Vec<_>>().join("; ");
            let text = format!("not all objects could be listed within {} s: {why}", LIST_TIMEOUT.as_secs());
            return Err(CheckFinding::problem("kubernetes", text, "see the findings above").because(WHY));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bellwether_core::input::event::FailureKind;

    use super::*;
    use crate::cli::check::Level;

    #[test]
    fn an_api_server_that_refuses_or_is_away_has_a_fix() {
        let finding = |message: &str| {
            let failure = Failure { kind: FailureKind::Unavailable, message: message.to_owned() };
            let finding = unanswered(&failure, "https://api.example:6443/");
            assert_eq!(finding.text, format!("https://api.example:6443/: {message}"));
            (finding.level, finding.remedy.unwrap_or_default())
        };
        let (level, remedy) = finding("asking for the allowed verbs: Unauthorized (401)");
        assert!(level == Level::Problem && remedy.contains("renew it"), "{remedy}");
        assert!(finding("Connection refused").1.contains("kubectl cluster-info"));
    }

    #[test]
    fn a_clock_that_is_off_is_a_warning() {
        assert_eq!(clock_finding(-4_000), None);
        assert_eq!(clock_finding(61_000).unwrap().text, "the API server answers, and its clock is 61 s ahead of ours");
    }

    #[test]
    fn a_missing_version_of_routes_is_a_problem() {
        let api = |is_served, versions: &[&str]| RouteApi {
            wanted: "gateway.networking.k8s.io/v1".to_owned(),
            kind: "HTTPRoute",
            is_served,
            versions: versions.iter().map(|version| (*version).to_owned()).collect(),
        };
        assert_eq!(route_finding(&api(true, &["v1"])), None);
        let finding = route_finding(&api(false, &["v1beta1"])).unwrap();
        assert!(finding.text.ends_with("it has v1beta1") && finding.remedy.unwrap_or_default().contains("CRDs"));
        assert!(route_finding(&api(false, &[])).unwrap().text.ends_with("it has no version of it"));
    }
}
