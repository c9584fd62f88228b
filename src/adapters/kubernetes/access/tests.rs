use std::collections::BTreeSet;

use super::*;

const CLUSTER_ROLE: &str = include_str!("../../../../deploy/kustomize/base/cluster-role.yaml");
const ROLE: &str = include_str!("../../../../deploy/kustomize/namespaced/role.yaml");

#[test]
fn the_shipped_roles_grant_exactly_the_required_verbs() {
    let required = required();
    let used: BTreeSet<(String, String, String)> = required
        .iter()
        .map(|(verb, group, resource)| ((*verb).to_owned(), (*group).to_owned(), (*resource).to_owned()))
        .collect();
    assert_eq!(used.len(), required.len(), "a verb is listed twice");
    for role in [CLUSTER_ROLE, ROLE] {
        assert_eq!(granted(role), used);
    }
}

#[test]
fn the_role_of_reviews_grants_exactly_their_verbs() {
    const REVIEWS: &str = include_str!("../../../../deploy/kustomize/acting-over-http/cluster-role.yaml");
    let used =
        super::super::review::REQUIRED.map(|(verb, group, resource)| (verb.into(), group.into(), resource.into()));
    assert_eq!(granted(REVIEWS), BTreeSet::from(used));
}

/// Returns the verbs of a role, which has one rule a line, as `- {apiGroups: […], resources: […], verbs: […]}`.
fn granted(role: &str) -> BTreeSet<(String, String, String)> {
    let mut granted = BTreeSet::new();
    for line in role.lines().map(str::trim).filter(|line| line.starts_with("- ")) {
        assert!(line.starts_with("- {") && line.ends_with('}'), "not a rule on one line: {line}");
        for group in values(line, "apiGroups") {
            for resource in values(line, "resources") {
                for verb in values(line, "verbs") {
                    granted.insert((verb, group.clone(), resource.clone()));
                }
            }
        }
    }
    granted
}

fn values(line: &str, key: &str) -> Vec<String> {
    let (_, rest) = line.split_once(&format!("{key}: ")).unwrap();
    let list = &rest[..=rest.find(']').unwrap()];
    serde_json::from_str(list).unwrap()
}
