use serde_json::json;

use super::*;

const LABEL: &str = "pod-template-hash";

#[test]
fn the_order_of_keys_does_not_matter() {
    let one: Value = serde_json::from_str(r#"{"spec":{"a":1,"b":{"x":[1,2],"y":"z"}}}"#).unwrap();
    let other: Value = serde_json::from_str(r#"{"spec":{"b":{"y":"z","x":[1,2]},"a":1}}"#).unwrap();
    assert_eq!(hash(&one, LABEL), hash(&other, LABEL));
    assert_eq!(hash(&one, LABEL).0.len(), 16);
}

#[test]
fn labels_and_nulls_that_controllers_add_do_not_change_the_hash() {
    let plain = json!({"metadata": {"labels": {"app": "web"}}, "spec": {}});
    for same in [
        json!({"metadata": {"labels": {"app": "web", "pod-template-hash": "1"}}, "spec": {}}),
        json!({"metadata": {"labels": {"app": "web", "bellwether.dev/track": "canary"}}, "spec": {}}),
        json!({"metadata": {"labels": {"app": "web"}, "annotations": {"bellwether.dev/effect": "e"}}, "spec": {}}),
        json!({"metadata": {"labels": {"app": "web"}, "creationTimestamp": null}, "spec": {}}),
    ] {
        assert_eq!(hash(&same, LABEL), hash(&plain, LABEL), "{same}");
    }
}

#[test]
fn every_other_difference_changes_the_hash() {
    let plain =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "i:1"}]}});
    for other in [
        json!({"metadata": {"labels": {"app": "wob"}}, "spec": {"containers": [{"name": "a", "image": "i:1"}]}}),
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "i:2"}]}}),
        json!({"metadata": {"labels": {"app": "web"}, "annotations": {"kubectl.kubernetes.io/restartedAt": "t"}},
            "spec": {"containers": [{"name": "a", "image": "i:1"}]}}),
        json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "a", "image": "i:1"}], "fieldOfTomorrow": 1}}),
    ] {
        assert_ne!(hash(&other, LABEL), hash(&plain, LABEL), "{other}");
    }
}

#[test]
fn of_two_containers_only_the_named_one_changes() {
    let template = two();
    let images = Images::from_iter([("web".to_owned(), "shop/web:2".to_owned())]);
    assert_eq!(changes(&template, &images), [("containers", 0, "shop/web:2")]);
    let changed = with_images(&template, &images);
    assert_eq!(changed.pointer("/spec/containers/0/image"), Some(&json!("shop/web:2")));
    assert_eq!(changed.pointer("/spec/containers/1"), template.pointer("/spec/containers/1"));
    assert_eq!(changes(&changed, &images), []);
}

#[test]
fn init_containers_have_images_too() {
    let images = Images::from_iter([("migrate".to_owned(), "shop/migrate:2".to_owned())]);
    assert_eq!(changes(&two(), &images), [("initContainers", 0, "shop/migrate:2")]);
    assert_eq!(super::images(&two()).len(), 3);
}

#[test]
fn containers_that_do_not_exist_are_named() {
    let images = Images::from_iter([("web".to_owned(), "x".to_owned()), ("nope".to_owned(), "x".to_owned())]);
    assert_eq!(unknown(&two(), &images), ["nope"]);
}

fn two() -> Value {
    json!({"spec": {
        "initContainers": [{"name": "migrate", "image": "shop/migrate:1"}],
        "containers": [{"name": "web", "image": "shop/web:1"}, {"name": "side", "image": "shop/side:1"}],
    }})
}
