use serde_json::json;

use super::*;

#[test]
fn the_parents_of_the_spec_decide_and_not_those_of_former_ones() {
    let spec = [json!({"name": "public", "sectionName": "https"})];
    let https = |at| entry(&json!({"name": "public", "sectionName": "https"}), "a", &accepted(at));
    let stale = entry(&json!({"name": "public", "sectionName": "old"}), "a", &refused_at(4, "NoMatchingParent"));
    assert_eq!(answer_to(&spec, &[https(7), stale.clone()]), Acceptance::Accepted);
    assert_eq!(answer_to(&spec, &[stale.clone(), https(7)]), Acceptance::Accepted);
    assert_eq!(answer_to(&spec, &[https(6), stale.clone()]), Acceptance::Unknown);
    assert_eq!(answer_to(&spec, &[stale]), Acceptance::Unknown);
}

#[test]
fn a_parent_is_told_by_namespace_section_and_port() {
    let spec = json!({"name": "public", "namespace": "edge", "sectionName": "https", "port": 443});
    for (key, other) in
        [("namespace", json!("demo")), ("sectionName", json!("http")), ("port", json!(80)), ("name", json!("internal"))]
    {
        let mut parent = spec.clone();
        parent[key] = other;
        let entries = [entry(&spec, "a", &accepted(7)), entry(&parent, "a", &refused_at(7, "NotAllowedByListeners"))];
        assert_eq!(answer_to(std::slice::from_ref(&spec), &entries), Acceptance::Accepted, "{key}");
        assert_eq!(answer_to(std::slice::from_ref(&spec), &entries[1..]), Acceptance::Unknown, "{key}");
    }
    // A controller writes the defaults out, or leaves them out.
    let full = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "demo", "name": "public"});
    assert_eq!(answer_to(&[json!({"name": "public"})], &[entry(&full, "a", &accepted(7))]), Acceptance::Accepted);
    assert_eq!(answer_to(&[full], &[entry(&json!({"name": "public"}), "a", &accepted(7))]), Acceptance::Accepted);
}

#[test]
fn of_two_controllers_at_one_parent_the_accepting_one_decides() {
    let spec = [json!({"name": "public"})];
    let mine = entry(&spec[0], "a", &accepted(7));
    let other = |conditions: &Value| entry(&spec[0], "b", conditions);
    for conditions in [refused_at(7, "NoMatchingParent"), accepted(3), json!([])] {
        assert_eq!(answer_to(&spec, &[mine.clone(), other(&conditions)]), Acceptance::Accepted, "{conditions}");
        assert_eq!(answer_to(&spec, &[other(&conditions), mine.clone()]), Acceptance::Accepted, "{conditions}");
    }
    let refusal = Acceptance::Refused("NoMatchingParent: no".to_owned());
    assert_eq!(
        answer_to(&spec, &[other(&accepted(3)), other(&refused_at(7, "NoMatchingParent"))]),
        refusal,
        "a controller that has not looked yet does not hide a refusal"
    );
}

#[test]
fn every_parent_with_a_status_has_to_accept() {
    let spec = [json!({"name": "public"}), json!({"name": "internal"}), json!({"name": "mesh", "kind": "Service"})];
    let public = entry(&spec[0], "a", &accepted(7));
    assert_eq!(answer_to(&spec, std::slice::from_ref(&public)), Acceptance::Accepted);
    let late = entry(&spec[1], "a", &accepted(6));
    assert_eq!(answer_to(&spec, &[public.clone(), late]), Acceptance::Unknown);
    let refused = entry(&spec[1], "a", &refused_at(7, "TooManyRules"));
    assert_eq!(answer_to(&spec, &[public, refused]), Acceptance::Refused("TooManyRules: no".to_owned()));
}

#[test]
fn a_missing_backend_of_another_rule_is_not_the_canarys() {
    let spec = [json!({"name": "public"})];
    let unresolved = |message: &str| {
        let conditions = json!([
            {"type": "Accepted", "status": "True", "observedGeneration": 7},
            {"type": "ResolvedRefs", "status": "False", "observedGeneration": 7, "reason": "BackendNotFound", "message": message},
        ]);
        answer_to(&spec, &[entry(&spec[0], "a", &conditions)])
    };
    assert_eq!(unresolved("Service demo/old-shop not found"), Acceptance::Accepted);
    let canary = "Service demo/web-canary not found";
    assert_eq!(unresolved(canary), Acceptance::Refused(format!("BackendNotFound: {canary}")));
}

fn answer_to(parents: &[Value], entries: &[Value]) -> Acceptance {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "demo", "generation": 7},
        "spec": {"parentRefs": parents}, "status": {"parents": entries},
    });
    of(&serde_json::from_value(route).unwrap(), "web-canary")
}

fn entry(parent: &Value, controller: &str, conditions: &Value) -> Value {
    json!({"parentRef": parent, "controllerName": format!("example.com/{controller}"), "conditions": conditions})
}

fn accepted(generation: i64) -> Value {
    json!([
        {"type": "Accepted", "status": "True", "observedGeneration": generation},
        {"type": "ResolvedRefs", "status": "True", "observedGeneration": generation},
    ])
}

fn refused_at(generation: i64, reason: &str) -> Value {
    json!([
        {"type": "Accepted", "status": "False", "observedGeneration": generation, "reason": reason, "message": "no"},
        {"type": "ResolvedRefs", "status": "True", "observedGeneration": generation},
    ])
}
