//! The consequence of each preflight issue, and the exact command or line that mends it.

use bellwether_core::ids::Workload;
use bellwether_core::input::status::PreflightIssue;

use super::{CheckFinding, Level};

/// Returns the finding about an issue of a workload.
pub fn finding(issue: &PreflightIssue, workload: &Workload) -> CheckFinding {
    let area = format!("{}/{}", workload.namespace, workload.name);
    let level = if issue.refuses() { Level::Problem } else { Level::Warning };
    let why = if issue.refuses() { "a rollout of it is refused" } else { consequence(issue) };
    let finding = CheckFinding::without_remedy(level, &area, issue.to_string()).because(why);
    match command(issue, workload) {
        Some(command) => CheckFinding { remedy: Some(command), ..finding },
        None => finding,
    }
}

/// Returns the consequence of an issue that only warns.
fn consequence(issue: &PreflightIssue) -> &'static str {
    if matches!(issue, PreflightIssue::AutoscalerCountsCanary { .. } | PreflightIssue::AutoscalerCountsBaseline { .. })
    {
        "the autoscaler changes the number of pods, and with it the canary's share, while it is judged"
    } else if matches!(issue, PreflightIssue::ServiceSelectsCanary { .. }) {
        "the canary gets requests beside its weight, also after its rollback has begun"
    } else {
        "the canary may get another share of the traffic than the step says"
    }
}

/// Returns the command or line that mends an issue; `None` if the issue's own sentence has the remedy.
fn command(issue: &PreflightIssue, workload: &Workload) -> Option<String> {
    let Workload { namespace, name: own, .. } = workload;
    Some(match issue {
        PreflightIssue::Paused => format!("kubectl -n {namespace} rollout resume deployment/{own}"),
        PreflightIssue::Recreate => format!(
            "kubectl -n {namespace} patch deployment {own} --type merge -p \
             '{{\"spec\":{{\"strategy\":{{\"type\":\"RollingUpdate\",\"rollingUpdate\":null}}}}}}'"
        ),
        PreflightIssue::NameTaken { kind, name } => {
            format!("kubectl -n {namespace} delete {} {name}, if nothing needs it", kind.to_lowercase())
        }
        PreflightIssue::NoService => format!("kubectl -n {namespace} expose deployment {own} --port PORT"),
        PreflightIssue::ServiceSelectsCanary { name, label } => format!(
            "kubectl -n {namespace} patch service {name} --type merge -p '{{\"spec\":{{\"selector\":{{\"{label}\":\"VALUE\"}}}}}}', with the \
             label's value on the pods of {own}"
        ),
        PreflightIssue::NoRoute { .. } => {
            "set traffic = \"replicas\" in the policy, or add an HTTPRoute to the Service".to_owned()
        }
        PreflightIssue::RouteMissing { .. } => "mend route = { name = … } in the policy, or leave it out".to_owned(),
        PreflightIssue::AutoscalerCountsCanary { name } => format!(
            "set traffic = \"gateway\" in the policy with an HTTPRoute, or keep the number of pods during rollouts: kubectl -n {namespace} \
             patch hpa {name} --type merge -p '{{\"spec\":{{\"minReplicas\":N,\"maxReplicas\":N}}}}'"
        ),
        PreflightIssue::AutoscalerCountsBaseline { .. } => "set fresh-baseline = false in the policy".to_owned(),
        PreflightIssue::OwnedByGitOps { manager } | PreflightIssue::RouteOwnedByGitOps { manager, .. } => {
            format!("set owned-by = [\"{manager}\"] in the policy, after the tool was told to ignore the field")
        }
        PreflightIssue::ReadWriteOnceVolume { .. }
        | PreflightIssue::HostPort { .. }
        | PreflightIssue::NetworkPolicyMisses { .. }
        | PreflightIssue::PolicyMisses { .. }
        | PreflightIssue::PolicyNotAttached { .. }
        | PreflightIssue::MonitorMisses { .. }
        | PreflightIssue::Controlled { .. }
        | PreflightIssue::TooManyRules { .. }
        | PreflightIssue::RouteElsewhere { .. }
        | PreflightIssue::RouteNotAccepted { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frequent_issue_has_a_command() {
        let workload: Workload = "prod/shop/Deployment/web".parse().unwrap();
        let hpa = PreflightIssue::AutoscalerCountsCanary { name: "web".to_owned() };
        let service = PreflightIssue::ServiceSelectsCanary { name: "all".to_owned(), label: "app".to_owned() };
        for (issue, level, fix) in [
            (PreflightIssue::Paused, Level::Problem, "kubectl -n shop rollout resume deployment/web"),
            (PreflightIssue::Recreate, Level::Problem, "\"RollingUpdate\""),
            (PreflightIssue::NoService, Level::Problem, "kubectl -n shop expose deployment web"),
            (hpa, Level::Warning, "kubectl -n shop patch hpa web"),
            (service, Level::Warning, "patch service all"),
        ] {
            let finding = finding(&issue, &workload);
            assert!(finding.level == level && finding.area == "shop/web" && finding.why.is_some(), "{finding:?}");
            assert!(finding.remedy.as_deref().unwrap_or_default().contains(fix), "{finding:?}");
        }
    }
}
