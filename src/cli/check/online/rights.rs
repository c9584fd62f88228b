//! The rights of the account: each verb of the role, asked by a SelfSubjectAccessReview, and the lines of the role that are missing.

use std::collections::BTreeMap;

use bellwether_core::input::event::Failure;

use super::CheckFinding;
use crate::adapters::kubernetes::{ApiVerb, Kubernetes, missing_rule};
use crate::config::Config;

/// Returns a finding for each resource with a missing verb.
///
/// # Errors
/// The API server did not answer.
pub async fn findings(config: &Config, cluster: &Kubernetes) -> Result<Vec<CheckFinding>, Failure> {
    let everywhere = [None];
    let named: Vec<Option<&str>> = config.kubernetes.namespaces.iter().map(|name| Some(name.as_str())).collect();
    let scopes = if named.is_empty() { &everywhere[..] } else { &named[..] };
    let mut findings = Vec::new();
    for scope in scopes {
        let missing = cluster.missing_verbs(*scope).await?;
        if missing.is_empty() {
            let place = scope.map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
            findings.push(CheckFinding::fine("rbac", format!("every verb is allowed in {place}")));
        }
        findings.extend(forbidden(&missing, *scope));
    }
    if config.http.authenticate {
        findings.extend(forbidden(&cluster.missing_review_verbs().await?, None));
    }
    Ok(findings)
}

/// Returns a problem for each resource, with the rule that a Role of the namespace, or a ClusterRole, needs for it.
fn forbidden(missing: &[ApiVerb], namespace: Option<&str>) -> Vec<CheckFinding> {
    let mut resources: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (verb, group, resource) in missing {
        resources.entry((group, resource)).or_default().push(verb);
    }
    let place = namespace.map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
    let finding = |((group, resource), verbs): ((&str, &str), Vec<&str>)| {
        let full = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let text = format!("may not {} {full} in {place}", verbs.join(", "));
        let rule = missing_rule(&verbs, group, resource, namespace);
        CheckFinding::problem("rbac", text, rule).because(consequence(&verbs))
    };
    resources.into_iter().map(finding).collect()
}

fn consequence(verbs: &[&str]) -> &'static str {
    if verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb)) {
        "changes of these objects are not seen, and nothing is decided that rests on them"
    } else {
        "a rollout can't make the change, and is held or refused"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Level;

    #[test]
    fn missing_verbs_are_told_with_the_rule_that_grants_them() {
        let missing = [("watch", "", "pods"), ("patch", "apps", "deployments"), ("list", "", "pods")];
        let findings = forbidden(&missing, Some("shop"));
        assert!(findings.iter().all(|finding| finding.level == Level::Problem));
        let texts: Vec<&str> = findings.iter().map(|finding| finding.text.as_str()).collect();
        assert_eq!(
            texts,
            ["may not watch, list pods in namespace shop", "may not patch deployments.apps in namespace shop"]
        );
        assert_eq!(
            findings[1].remedy.as_deref().unwrap_or_default(),
            "add to the Role in namespace shop of the service account: - {apiGroups: [\"apps\"], resources: [\"deployments\"], verbs: \
             [\"patch\"]}"
        );
        assert!(forbidden(&missing, None)[0].remedy.as_deref().unwrap_or_default().contains("the ClusterRole"));
    }
}
