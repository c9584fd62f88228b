use bellwether_core::ids::WorkloadKind;

use super::*;

#[test]
fn a_promotion_changes_the_named_images_and_nothing_else() {
    let before = deployment("shop/web:1");
    let after = apply(&before, promotion(&web(), &object(&before), &hash(&before), &images("shop/web:2")).unwrap());
    let mut expected = before;
    expected["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop/web:2");
    assert_eq!(after["spec"], expected["spec"]);
}

#[test]
fn images_that_the_stable_has_are_not_written_again() {
    let pinned = format!("shop/web:2@sha256:{}", "a".repeat(64));
    for there in ["shop/web:2", &pinned] {
        let there = object(&deployment(there));
        assert!(promotion(&web(), &there, &TemplateHash("another".into()), &images("shop/web:2")).unwrap().is_none());
    }
}

#[test]
fn a_template_that_another_client_changed_is_a_conflict_that_names_it() {
    let mut changed = deployment("shop/web:1");
    changed["metadata"]["managedFields"] =
        json!([{"manager": "kubectl-edit", "fieldsV1": {"f:spec": {"f:template": {}}}}]);
    let refused =
        promotion(&web(), &object(&changed), &TemplateHash("another".into()), &images("shop/web:2")).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Conflict);
    assert!(refused.message.starts_with("kubectl-edit has changed the pod template"), "{}", refused.message);
}

#[test]
fn an_image_of_an_unknown_container_is_refused() {
    let there = deployment("shop/web:1");
    let nope = Images::from_iter([("nope".to_owned(), "x".to_owned())]);
    let refused = promotion(&web(), &object(&there), &hash(&there), &nope).unwrap_err();
    assert_eq!(
        (refused.kind, refused.message.as_str()),
        (FailureKind::Refused, "Deployment demo/web has no container nope")
    );
}

#[test]
fn a_promotion_fails_on_a_deployment_that_changed_since_it_was_read() {
    let before = deployment("shop/web:1");
    for (pointer, value) in [
        ("/metadata/uid", json!("another")),
        ("/metadata/generation", json!(8)),
        ("/spec/template/spec/containers/0/name", json!("another")),
        ("/metadata/annotations/bellwether.dev~1epoch", json!("9")),
    ] {
        let draft = promotion(&web(), &object(&before), &hash(&before), &images("shop/web:2")).unwrap();
        let mut other = before.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(json_patch::patch(&mut other, &draft.unwrap().finish().unwrap()).is_err(), "{pointer}");
    }
}

#[test]
fn a_restoration_writes_the_whole_stored_template() {
    let mut good = deployment("shop/web:1");
    good["spec"]["template"]["spec"]["fieldOfTomorrow"] = json!({"a": 1});
    let bad = deployment("shop/web:2");
    let stored = PodTemplate::new(hash(&good), good["spec"]["template"].to_string());
    let after = apply(&bad, restoration(&web(), &object(&bad), &hash(&good), Some(&stored)).unwrap());
    assert_eq!(after["spec"], good["spec"]);
    assert!(restoration(&web(), &object(&after), &hash(&good), Some(&stored)).unwrap().is_none());
}

#[test]
fn a_stored_template_with_another_hash_is_not_restored() {
    let there = deployment("shop/web:2");
    let name = TemplateHash("wanted".into());
    for stored in [
        None,
        Some(PodTemplate::new(name.clone(), deployment("shop/web:1")["spec"]["template"].to_string())),
        Some(PodTemplate::new(name.clone(), "{".to_owned())),
    ] {
        assert_eq!(
            restoration(&web(), &object(&there), &name, stored.as_ref()).unwrap_err().kind,
            FailureKind::Refused
        );
    }
}

#[test]
fn a_deployment_with_another_uid_is_gone() {
    let metadata = object(&deployment("shop/web:1")).metadata;
    assert!(check_uid(&web(), &metadata, "uid").is_ok());
    assert_eq!(check_uid(&web(), &metadata, "another").unwrap_err().kind, FailureKind::Gone);
}

fn images(image: &str) -> Images {
    Images::from_iter([("web".to_owned(), image.to_owned())])
}

fn deployment(image: &str) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "demo", "uid": "uid", "generation": 7, "resourceVersion": "1",
            "annotations": {"bellwether.dev/epoch": "3"}},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "web", "image": image}, {"name": "side", "image": "shop/side:1"}]}}},
    })
}

fn hash(deployment: &Value) -> TemplateHash {
    kind::provider(WorkloadKind::Deployment).template_hash(&deployment["spec"]["template"])
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

fn apply(value: &Value, draft: Option<PatchDraft>) -> Value {
    let mut changed = value.clone();
    json_patch::patch(&mut changed, &draft.and_then(PatchDraft::finish).expect("a patch")).unwrap();
    changed
}

fn web() -> Workload {
    Workload { cluster: "test".into(), namespace: "demo".into(), kind: WorkloadKind::Deployment, name: "web".into() }
}
