//! The workloads that the policies select: the preflight and the queries of a rollout of each.

use bellwether_core::ids::Workload;
use bellwether_core::measure::watch::ArmKey;
use bellwether_core::policy::Policy;

use super::{CheckFinding, Level, advice};
use crate::adapters::kubernetes::Kubernetes;
use crate::cli::table::counted;
use crate::config::Config;
use crate::sampling::probe::{self, Prober};

/// Maximum number of workloads of one policy that are checked. Workloads of one policy tend to have the same problems.
const MOST_WORKLOADS: usize = 50;

/// Checks each policy and the workloads that it selects and no earlier policy does.
pub async fn findings(config: &Config, cluster: &Kubernetes, prober: Option<&Prober>) -> Vec<CheckFinding> {
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
        0 => {
            let matches = &policy.matches;
            let (namespaces, workloads) = (matches.namespaces.join(", "), matches.workloads.join(", "));
            CheckFinding::warning(
                "policy",
                format!(
                    "{name} selects no existing workload (namespaces {namespaces}; workloads {workloads}), so its metrics were not queried"
                ),
                "compare its match with `kubectl get deployments -A`",
            )
            .because("requests for other workloads are refused")
        }
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
    let mut findings: Vec<CheckFinding> = open.map(|issue| advice::finding(issue, workload)).collect();
    // The preflight has read the same object, so another failure is told by the next check.
    let max_unavailable = cluster.max_unavailable(workload).await.ok().flatten();
    findings.extend(size_findings(policy, workload, stable.replicas, max_unavailable.as_deref()));
    let probed = policy.probe_targets();
    let metrics = counted(probed.len(), "metric", "metrics");
    if let Some(prober) = prober {
        let key = ArmKey { deployment_uid: stable.uid, pod_hash: None, name: workload.name.clone() };
        let found = prober.findings(workload, &key, &probed).await;
        findings.extend(found.into_iter().map(|finding| metric_finding(&area, finding)));
    }
    findings.extend(conclusion(&area, &metrics, prober.is_some() || probed.is_empty(), findings.is_empty()));
    findings
}

fn metric_finding(area: &str, finding: probe::ProbeFinding) -> CheckFinding {
    let (level, text, why) = match finding {
        probe::ProbeFinding::Problem(text) => (Level::Problem, text, "a rollout of it is refused"),
        probe::ProbeFinding::Unanswered(text) => (Level::Problem, text, "the check is blind, and a rollout is held"),
        probe::ProbeFinding::Warning(text) => {
            (Level::Warning, text, "its checks may be blind or `insufficient`, or see a failure late")
        }
    };
    CheckFinding::without_remedy(level, area, text).because(why)
}

/// Returns the findings about the number of pods, and about those that a promotion may stop at once.
fn size_findings(
    policy: &Policy,
    workload: &Workload,
    replicas: u32,
    max_unavailable: Option<&str>,
) -> Vec<CheckFinding> {
    let Workload { namespace, name, .. } = workload;
    let area = format!("{namespace}/{name}");
    let scale = |pods: &str| format!("kubectl -n {namespace} scale deployment {name} --replicas {pods}");
    let mut findings = Vec::new();
    match replicas {
        0 => {
            let remedy = format!("none needed if that is intended; else {}", scale("1"));
            let finding = CheckFinding::warning(&area, "it is scaled to 0", remedy);
            findings.push(finding.because("a rollout of it is refused"));
        }
        1 if !policy.traffic.splits_by_weight() => {
            let finding =
                CheckFinding::warning(&area, "it has one pod, and the number of pods is the split", scale("4"));
            findings.push(
                finding.because("the canary gets half of the traffic at the first step, whichever weight it has"),
            );
        }
        _ => {}
    }
    if let Some(unavailable) = max_unavailable.filter(|unavailable| stops_all(unavailable, replicas)) {
        let text = format!("maxUnavailable is {unavailable} of {}", counted(replicas as usize, "pod", "pods"));
        let remedy = format!(
            "kubectl -n {namespace} patch deployment {name} --type merge -p \
             '{{\"spec\":{{\"strategy\":{{\"rollingUpdate\":{{\"maxUnavailable\":0}}}}}}}}'"
        );
        let finding = CheckFinding::warning(&area, text, remedy);
        findings.push(finding.because("a promotion may stop every old pod before a new one is available"));
    }
    findings
}

/// Returns whether a rolling update may stop all of the pods. The API server rounds a percentage down.
fn stops_all(max_unavailable: &str, replicas: u32) -> bool {
    let stopped = match max_unavailable.strip_suffix('%') {
        Some(percent) => percent.parse::<u64>().map(|percent| u64::from(replicas) * percent / 100),
        None => max_unavailable.parse::<u64>(),
    };
    replicas > 0 && stopped.is_ok_and(|stopped| stopped >= u64::from(replicas))
}

/// Returns the last finding about a workload whose policy has so many `metrics`: whether they were read, and whether nothing
/// else was found.
fn conclusion(area: &str, metrics: &str, were_read: bool, is_only: bool) -> Option<CheckFinding> {
    if !were_read {
        let text = format!("{metrics} of its policy could not be read, because Prometheus does not answer");
        return Some(
            CheckFinding::problem(area, text, "see prometheus above, and check again")
                .because("a rollout of it would be held"),
        );
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

    fn policy(traffic: &str) -> Policy {
        let text = format!(
            "[metric.up]\nkind = \"availability\"\n[[policy]]\nname = \"shop\"\ntraffic = \"{traffic}\"\nmatch = {{ namespaces = \
             [\"shop\"], workloads = [\"web\"], images = [\"*\"] }}\n[[policy.check]]\nmetric = \"up\"\nmin = \"90%\"\n[[policy.step]]\n\
             weight = \"50%\"\nmin-time = \"5m\"\n"
        );
        crate::config::of_text(&text).policies.remove(0)
    }

    #[test]
    fn a_policy_without_a_workload_is_a_warning_with_its_patterns() {
        let finding = policy_finding(&policy("gateway"), &[]);
        assert!(
            finding.level == Level::Warning && finding.text.contains("namespaces shop; workloads web"),
            "{finding:?}"
        );
    }

    #[test]
    fn single_pods_and_promotions_that_stop_all_pods_are_warnings() {
        let workload: Workload = "prod/shop/Deployment/web".parse().unwrap();
        for (traffic, replicas, unavailable, parts) in [
            ("gateway", 3, "25%", &[][..]),
            ("gateway", 1, "25%", &[]),
            ("replicas", 1, "25%", &["one pod"]),
            ("gateway", 0, "1", &["scaled to 0"]),
            ("gateway", 3, "100%", &["maxUnavailable is 100% of 3 pods"]),
            ("gateway", 3, "3", &["maxUnavailable is 3 of 3 pods"]),
            ("gateway", 3, "2", &[]),
        ] {
            let findings = size_findings(&policy(traffic), &workload, replicas, Some(unavailable));
            assert_eq!(findings.len(), parts.len(), "{findings:?}");
            for (finding, part) in findings.iter().zip(parts) {
                assert!(
                    finding.text.contains(part) && finding.remedy.is_some() && finding.why.is_some(),
                    "{finding:?}"
                );
            }
        }
    }

    #[test]
    fn a_metric_without_series_is_told_with_its_consequence() {
        let finding = metric_finding("shop/web", probe::ProbeFinding::Warning("errors: there is no series".to_owned()));
        assert!(finding.level == Level::Warning && finding.why.is_some(), "{finding:?}");
        let finding = metric_finding("shop/web", probe::ProbeFinding::Problem("errors: did you mean x?".to_owned()));
        assert_eq!(finding.level, Level::Problem);
    }
}
