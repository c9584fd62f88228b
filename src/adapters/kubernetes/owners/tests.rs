use serde_json::json;

use super::*;

#[test]
fn a_gitops_tool_that_owns_an_image_is_named() {
    let image =
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}}}}});
    let labels = json!({"f:spec": {"f:template": {"f:metadata": {"f:labels": {}}}}});
    for (manager, fields, owner) in [
        ("argocd-controller", &image, Some("argocd-controller")),
        ("kustomize-controller", &image, Some("kustomize-controller")),
        ("helm-controller", &image, Some("helm-controller")),
        ("argocd-controller", &labels, None),
        ("kubectl-client-side-apply", &image, None),
        ("helm", &image, None),
    ] {
        let metadata = managed(&[(manager, fields, "2026-01-01T00:00:00Z")]);
        assert_eq!(gitops_owner(&metadata, &["spec", "template"]), owner, "{manager}");
    }
}

#[test]
fn the_last_writer_of_a_field_is_named_and_is_never_bellwether() {
    let template = json!({"f:spec": {"f:template": {}}});
    let status = json!({"f:status": {}});
    let metadata = managed(&[
        ("helm", &template, "2026-01-01T00:00:00Z"),
        ("kubectl-edit", &template, "2026-01-02T00:00:00Z"),
        ("kube-controller-manager", &status, "2026-01-03T00:00:00Z"),
        (MANAGER, &template, "2026-01-04T00:00:00Z"),
    ]);
    assert_eq!(last_writer(&metadata, &["spec", "template"]), Some("kubectl-edit"));
}

#[test]
fn an_object_in_memory_keeps_the_writers_of_its_rules() {
    let rules = json!({"f:spec": {"f:rules": {}, "f:hostnames": {}}});
    let mut metadata = managed(&[
        ("argocd-controller", &rules, "2026-01-02T00:00:00Z"),
        ("traefik", &json!({"f:status": {}}), "2026-01-03T00:00:00Z"),
    ]);
    keep_writers(&mut metadata, &["spec", "rules"]);
    assert_eq!(last_writer(&metadata, &["spec", "rules"]), Some("argocd-controller"));
    assert_eq!(last_writer(&metadata, &["spec", "hostnames"]), None);
    assert_eq!(metadata.managed_fields.unwrap().len(), 1);
}

fn managed(entries: &[(&str, &Value, &str)]) -> ObjectMeta {
    let entries: Vec<Value> = entries
        .iter()
        .map(|(manager, fields, time)| json!({"manager": manager, "fieldsV1": fields, "time": time, "operation": "Apply"}))
        .collect();
    serde_json::from_value(json!({ "managedFields": entries })).unwrap()
}
