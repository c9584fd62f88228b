use kube::core::response::{StatusCause, StatusDetails};

use super::*;

#[test]
fn each_answer_has_the_kind_of_its_next_attempt() {
    let rbac = r#"deployments.apps "web" is forbidden: User "system:serviceaccount:a:b" cannot patch resource "deployments" in API group "apps" in the namespace "shop""#;
    for (code, message, kind) in [
        (403, rbac, FailureKind::Forbidden),
        (403, "pods \"x\" is forbidden: exceeded quota: q", FailureKind::Refused),
        (400, "admission webhook \"policy\" denied the request: no", FailureKind::Refused),
        (422, "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value", FailureKind::Refused),
        (422, PATCH_DID_NOT_APPLY, FailureKind::Conflict),
        (409, "the object has been modified", FailureKind::Conflict),
        (404, "deployments.apps \"web\" not found", FailureKind::Gone),
        (401, "Unauthorized", FailureKind::Unavailable),
        (429, "too many requests", FailureKind::Unavailable),
        (500, "failed calling webhook \"policy\": context deadline exceeded", FailureKind::Unavailable),
        (503, "apiserver not ready", FailureKind::Unavailable),
    ] {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        let failure = of_status("patching Deployment web", &status);
        assert_eq!(failure.kind, kind, "{code} {message}");
    }
}

#[test]
fn a_missing_verb_keeps_the_api_servers_message_and_names_the_rule_that_grants_it() {
    let of = |message: &str| {
        let status = Status { code: 403, message: message.to_owned(), ..Status::default() };
        of_status("patching", &status).message
    };
    let message = r#"User "u" cannot patch resource "deployments" in API group "apps" in the namespace "shop""#;
    let rule = r#"- {apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"]}"#;
    let in_shop = format!("add to the Role in namespace shop of the service account: {rule}");
    assert_eq!(of(message), format!("patching: {message}; {in_shop}"));
    let of_a_lost_role = format!("{message}: RBAC: clusterrole.rbac.authorization.k8s.io \"bellwether\" not found");
    assert_eq!(of(&of_a_lost_role), format!("patching: {of_a_lost_role}; {in_shop}"));
    let everywhere = of(r#"User "u" cannot list resource "pods" in API group "" at the cluster scope"#);
    let rule = r#"the ClusterRole of the service account: - {apiGroups: [""], resources: ["pods"], verbs: ["list"]}"#;
    assert!(everywhere.ends_with(rule), "{everywhere}");
    let other = r#"User "u" cannot use resource that has another name"#;
    assert_eq!(of(other), format!("patching: {other}"), "a form without a rule");
}

#[test]
fn a_namespace_that_is_being_deleted_is_gone() {
    let cause = StatusCause { reason: "NamespaceTerminating".to_owned(), message: String::new(), field: String::new() };
    let details = StatusDetails {
        causes: vec![cause],
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        retry_after_seconds: 0,
    };
    let status = Status { code: 403, details: Some(details), ..Status::default() };
    assert_eq!(of_status("creating", &status).kind, FailureKind::Gone);
}
