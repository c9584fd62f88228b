use std::collections::BTreeMap;

use bellwether_core::ids::WorkloadKind;
use bellwether_core::input::status::Acceptance;
use serde_json::json;

use super::*;
use crate::adapters::kubernetes::router;
use crate::ports::Epoch;

// ---- the contract of all routers ----

#[test]
fn the_gateway_keeps_the_contract_of_routers() {
    router::suite::check(&router::suite::Fixture {
        router: &GatewayRouter,
        route,
        shares,
        tolerance: 0.0001,
        rules: &["spec", "rules"],
    });
}

// ---- joining and leaving ----

#[test]
fn the_canary_enters_at_weight_0_with_the_stables_port() {
    let joined = after_join(&route(&[&[("web", None)]]));
    assert_eq!(weights(&joined), [[named("web", None), named("web-canary", Some(0))]]);
    assert_eq!(joined.pointer("/spec/rules/0/backendRefs/1/port"), Some(&json!(80)));
}

#[test]
fn joining_twice_changes_nothing() {
    let joined = object(after_join(&route(&[&[("web", None)]])));
    assert!(join(&joined, &web(), "web", &mark(1)).unwrap().is_none());
}

#[test]
fn leaving_restores_every_weight_exactly() {
    let same_service = |named: &Value| weights(named).iter().flatten().all(|(name, _)| name != "web-canary");
    for rules in [
        &[&[("web", None)][..]][..],
        &[&[("web", Some(1))]],
        &[&[("web", Some(90)), ("other", Some(10))]],
        &[&[("other", None), ("web", Some(7)), ("third", Some(0))]],
        &[&[("web", None)], &[("other", None)], &[("web", Some(3)), ("other", None)]],
        &[&[("web", Some(1_000_000)), ("other", Some(999_999))]],
    ] {
        for points in [0, 1, 33, 1000, 3333, 5000, 9999, 10_000] {
            let before = route(rules);
            let moved = after_weight(after_join(&before), points);
            let left = apply(&moved, leave(&object(moved.clone()), &web()));
            assert_eq!(left["spec"], before["spec"], "{rules:?} at {points}");
            assert!(left.pointer("/metadata/annotations").is_none_or(|it| it == &json!({})), "{left}");
            assert!(same_service(&left));
        }
    }
}

#[test]
fn leaving_twice_changes_nothing() {
    let left = apply_leave(&after_join(&route(&[&[("web", None)]])));
    assert!(leave(&object(left), &web()).is_none());
}

#[test]
fn a_rule_is_never_left_without_a_backend() {
    let mut joined = after_weight(after_join(&route(&[&[("web", Some(4))]])), 1000);
    joined["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap().remove(0);
    assert_eq!(weights(&apply_leave(&joined)), [[named("web", Some(1))]]);
}

#[test]
fn without_its_record_the_stable_gets_the_sum_of_both_weights() {
    let mut joined = after_weight(after_join(&route(&[&[("web", None), ("other", None)]])), 1000);
    joined["metadata"]["annotations"] = json!({});
    assert_eq!(weights(&apply_leave(&joined)), [[named("web", Some(100)), named("other", Some(100))]]);
}

#[test]
fn a_rule_that_another_client_changed_keeps_the_change() {
    let mut joined = after_weight(after_join(&route(&[&[("web", None)]])), 1000);
    joined["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap().push(json!({"name": "new", "weight": 50}));
    assert_eq!(weights(&apply_leave(&joined)), [[named("web", Some(100)), named("new", Some(50))]]);
}

#[test]
fn a_rule_that_moved_is_found_by_its_backends() {
    let before = route(&[&[("web", Some(3)), ("other", Some(1))]]);
    let mut joined = after_weight(after_join(&before), 1000);
    joined["spec"]["rules"].as_array_mut().unwrap().insert(0, json!({"backendRefs": [{"name": "first"}]}));
    let left = apply_leave(&joined);
    assert_eq!(left["spec"]["rules"][1], before["spec"]["rules"][0]);
}

#[test]
fn two_workloads_on_one_route_keep_each_others_records() {
    let both = route(&[&[("web", None)], &[("api", Some(2))]]);
    let joined = after_join(&both);
    let api = Workload { name: "api".to_owned(), ..web() };
    // The epochs of the two partitions are independent.
    let with_api = apply(&joined, join(&object(joined.clone()), &api, "api", &mark(0)).unwrap());
    assert_eq!((epoch(&with_api, &web()), epoch(&with_api, &api)), (Some(1), Some(0)));
    let left = apply_leave(&with_api);
    assert_eq!(weights(&left), [vec![named("web", None)], vec![named("api", Some(2)), named("api-canary", Some(0))]]);
    let left = apply(&left, leave(&object(left.clone()), &api));
    assert_eq!(left["spec"], both["spec"]);
}

#[test]
fn a_service_that_a_rule_names_twice_is_refused() {
    let twice = object(route(&[&[("web", Some(1)), ("web", Some(2))]]));
    assert_eq!(join(&twice, &web(), "web", &mark(1)).unwrap_err().kind, FailureKind::Refused);
}

#[test]
fn a_patch_fails_on_a_route_that_changed_since_it_was_read() {
    let read = route(&[&[("web", None)]]);
    let patch = join(&object(read.clone()), &web(), "web", &mark(1)).unwrap().unwrap();
    for (pointer, value) in [
        ("/metadata/uid", json!("another")),
        ("/metadata/generation", json!(2)),
        ("/spec/rules/0/backendRefs/0/name", json!("another")),
    ] {
        let mut other = read.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(json_patch::patch(&mut other, &patch).is_err(), "{pointer}");
    }
    // A status that was written in between does not make the patch fail.
    let mut busy = read;
    busy["metadata"]["resourceVersion"] = json!("99");
    assert!(json_patch::patch(&mut busy, &patch).is_ok());
}

// ---- weights ----

#[test]
fn only_the_stables_part_is_split() {
    let rows: [(Rule<'_>, u16, &[u64]); 8] = [
        (&[("web", None)], 1000, &[90, 10]),
        (&[("web", None)], 5000, &[50, 50]),
        (&[("web", None)], 50, &[9950, 50]),
        (&[("web", None)], 10_000, &[0, 100]),
        (&[("web", Some(90)), ("other", Some(10))], 1000, &[8100, 1000, 900]),
        (&[("other", Some(1)), ("web", Some(3))], 1000, &[100, 270, 30]),
        (&[("web", Some(1_000_000))], 1000, &[900_000, 100_000]),
        (&[("web", Some(500_000)), ("other", Some(500_000))], 2500, &[375_000, 500_000, 125_000]),
    ];
    for (rule, points, expected) in rows {
        let moved = after_weight(after_join(&route(&[rule])), points);
        let found: Vec<u64> = weights(&moved)[0].iter().map(|(_, weight)| weight.unwrap_or(1)).collect();
        assert_eq!(found, expected, "{rule:?} at {points}");
    }
}

#[test]
fn others_keep_their_share_and_the_canary_gets_exactly_its_own() {
    for stable in [1, 2, 3, 7, 50, 97, 100] {
        for other in [0, 1, 5, 33, 100] {
            for points in [1, 10, 250, 1000, 3333, 5000, 9999] {
                let rule = [("web", Some(stable)), ("other", Some(other))];
                let moved = after_weight(after_join(&route(&[&rule])), points);
                let found: Vec<u64> = weights(&moved)[0].iter().map(|(_, weight)| weight.unwrap_or(1)).collect();
                let [web, others, canary] = found[..] else { panic!("{found:?}") };
                assert_eq!(canary * 10_000, (web + canary) * u64::from(points), "{rule:?} at {points}");
                assert_eq!(others * (stable + other), other * (web + canary + others), "{rule:?} at {points}");
                assert!(found.iter().all(|weight| *weight <= MAX_WEIGHT));
            }
        }
    }
}

#[test]
fn weights_above_the_maximum_are_scaled_and_the_canary_keeps_some() {
    let moved = after_weight(after_join(&route(&[&[("web", Some(1)), ("other", Some(999_999))]])), 1);
    let found: Vec<u64> = weights(&moved)[0].iter().map(|(_, weight)| weight.unwrap_or(1)).collect();
    assert!(found.iter().all(|weight| *weight <= MAX_WEIGHT), "{found:?}");
    assert!(found[2] >= 1, "{found:?}");
}

#[test]
fn the_same_weight_again_changes_nothing() {
    let moved = object(after_weight(after_join(&route(&[&[("web", None)]])), 1000));
    assert!(set_weight(&moved, Weight::percent(10), &mark(1)).unwrap().is_none());
}

#[test]
fn every_weight_is_computed_from_the_originals() {
    let mut now = after_join(&route(&[&[("web", Some(3)), ("other", Some(1))]]));
    for (points, expected) in [(500, [285, 100, 15]), (2500, [225, 100, 75]), (1, [29_997, 10_000, 3]), (0, [3, 1, 0])]
    {
        now = after_weight(now, points);
        let found: Vec<u64> = weights(&now)[0].iter().map(|(_, weight)| weight.unwrap_or(1)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_removed_reference_is_a_conflict_unless_the_share_is_0() {
    let mut joined = after_join(&route(&[&[("web", None)], &[("web", None)]]));
    joined["spec"]["rules"][1]["backendRefs"].as_array_mut().unwrap().remove(1);
    let lost = object(joined);
    let refused = set_weight(&lost, Weight::percent(10), &mark(1)).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Conflict);
    assert!(set_weight(&lost, Weight::ZERO, &mark(1)).unwrap().is_none());
    assert_eq!(observe(&lost).unwrap().weight, Weight::ZERO);
}

#[test]
fn a_route_that_lost_the_canary_can_be_joined_again() {
    let mut joined = after_join(&route(&[&[("web", None)], &[("web", None)]]));
    joined["spec"]["rules"] = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let again = after_weight(after_join(&joined), 1000);
    assert_eq!(observe(&object(again)).unwrap().weight, Weight::percent(10));
}

// ---- which rules ----

#[test]
fn rules_that_send_traffic_to_the_service_are_found() {
    let all = object(route(&[
        &[("web", None)],
        &[("other", None)],
        &[("other", None), ("web", Some(2))],
        &[("web", Some(0))],
    ]));
    let named = |name: &str, rule| Some(RouteName { name: name.to_owned(), rule });
    for (policy, found) in [
        (None, vec![0, 2]),
        (named("shop", None), vec![0, 2]),
        (named("shop", Some(2)), vec![2]),
        (named("shop", Some(1)), vec![]),
        (named("another", None), vec![]),
    ] {
        assert_eq!(GatewayRouter.rules(&all, &web(), "web", policy.as_ref()), found, "{policy:?}");
    }
}

#[test]
fn only_services_of_the_routes_namespace_count() {
    for (reference, counts) in [
        (json!({"name": "web"}), true),
        (json!({"name": "web", "group": "", "kind": "Service"}), true),
        (json!({"name": "web", "namespace": "demo"}), true),
        (json!({"name": "web", "namespace": "elsewhere"}), false),
        (json!({"name": "web", "kind": "Backend", "group": "gateway.envoyproxy.io"}), false),
    ] {
        let mut one = route(&[&[("web", None)]]);
        one["spec"]["rules"][0]["backendRefs"][0] = reference.clone();
        assert_eq!(!GatewayRouter.rules(&object(one), &web(), "web", None).is_empty(), counts, "{reference}");
    }
}

// ---- observing ----

#[test]
fn the_lowest_share_of_all_rules_is_the_canarys() {
    let mut joined = after_weight(after_join(&route(&[&[("web", None)], &[("web", Some(9)), ("other", None)]])), 2500);
    assert_eq!(seen(&joined).weight, Weight::percent(25));
    joined["spec"]["rules"][1]["backendRefs"][2]["weight"] = json!(0);
    assert_eq!(seen(&joined).weight, Weight::ZERO);
}

#[test]
fn a_route_without_the_canary_has_no_status() {
    assert_eq!(observe(&object(route(&[&[("web", None)]]))), None);
}

#[test]
fn a_route_is_accepted_when_every_parent_has_accepted_its_generation() {
    let good = [("Accepted", "True", 1), ("ResolvedRefs", "True", 1)];
    for (conditions, accepted) in [
        (good.to_vec(), true),
        (vec![("Accepted", "True", 1)], false),
        (vec![("Accepted", "True", 0), ("ResolvedRefs", "True", 1)], false),
        (vec![("Accepted", "True", 1), ("ResolvedRefs", "False", 1)], false),
        (vec![("Accepted", "False", 1)], false),
        (vec![], false),
    ] {
        let mut joined = after_join(&route(&[&[("web", None)]]));
        joined["status"] = json!({"parents": [parent("gateway", &conditions)]});
        assert_eq!(seen(&joined).is_accepted(), accepted, "{conditions:?}");
        // The status of a parent that the route no longer names does not count.
        joined["status"]["parents"].as_array_mut().unwrap().push(parent("old", &[]));
        assert_eq!(seen(&joined).is_accepted(), accepted, "{conditions:?}");
    }
}

#[test]
fn a_route_without_a_parent_status_is_neither_accepted_nor_refused() {
    let mut joined = after_join(&route(&[&[("web", None)]]));
    assert_eq!(seen(&joined).accepted, Acceptance::Unknown);
    joined["status"] = json!({"parents": []});
    assert_eq!(seen(&joined).accepted, Acceptance::Unknown);
}

#[test]
fn the_port_is_that_of_the_first_reference() {
    assert_eq!(GatewayRouter.port(&object(route(&[&[("web", None)]])), "web"), Some(80));
    assert_eq!(GatewayRouter.port(&object(route(&[&[("web", None)]])), "other"), None);
}

// ---- a cohort ----

#[test]
fn a_cohort_has_rules_of_its_own_exactly_while_it_has_traffic() {
    let header = Cohort { header: Some("x-bucket".to_owned()), cookie: None, value: "b".to_owned() };
    let cookie = Cohort { header: None, cookie: Some("bucket".to_owned()), value: "b.1".to_owned() };
    let asked = [
        (header, json!({ "name": "x-bucket", "type": "Exact", "value": "b" })),
        (cookie, json!({ "name": "Cookie", "type": "RegularExpression", "value": "(^|.*;[ ]*)bucket=b\\.1($|;.*)" })),
    ];
    for (cohort, expected) in asked {
        let mut before = route(&[&[("web", None)], &[("other", None)], &[("web", Some(3)), ("other", None)]]);
        before["spec"]["rules"][0]["matches"] =
            json!([{ "path": { "value": "/shop" } }, { "path": { "value": "/s" } }]);
        before["spec"]["rules"][2].as_object_mut().unwrap().remove("matches");
        before["spec"]["rules"][0]["name"] = json!("shop");
        let traffic = Traffic { cohort: Some(cohort), ..Traffic::default() };
        let join = |value: &Value, mark| GatewayRouter.join(&object(value.clone()), &web(), "web", &traffic, &mark);
        let joined = apply(&before, join(&before, mark(1)).unwrap());
        assert_eq!(joined["spec"], before["spec"], "joining changes no rule");
        assert!(join(&joined, mark(2)).unwrap().is_none());
        let moved = after_weight(joined.clone(), 5000);
        let rules = moved["spec"]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 5);
        assert_eq!(rules[..3], before["spec"]["rules"].as_array().unwrap()[..]);
        assert_eq!(rules[3]["matches"][0], json!({ "path": { "value": "/shop" }, "headers": [expected] }));
        assert_eq!(rules[3]["matches"][1]["path"], json!({ "value": "/s" }));
        assert_eq!(rules[4]["matches"], json!([{ "headers": [expected] }]));
        assert_eq!(rules[3].get("name"), None);
        assert_eq!(weights(&moved)[3], [named("web-canary", Some(5000))]);
        assert_eq!(observe(&object(moved.clone())).unwrap().weight, Weight::percent(50));
        let again = set_weight(&object(moved.clone()), Weight::percent(50), &mark(3)).unwrap();
        assert!(again.is_none(), "{again:?}");
        let back = after_weight(moved.clone(), 0);
        assert_eq!(back["spec"], before["spec"]);
        assert_eq!(observe(&object(back.clone())).unwrap().weight, Weight::ZERO);
        for at in [moved, back] {
            let left = apply(&at, leave(&object(at.clone()), &web()));
            assert_eq!(left["spec"], before["spec"]);
            assert!(left.pointer("/metadata/annotations").is_none_or(|it| it == &json!({})), "{left}");
        }
    }
}

// ---- helpers ----

type Rule<'a> = &'a [(&'a str, Option<u64>)];

fn route(rules: &[Rule<'_>]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|rule| {
            let refs: Vec<Value> = rule
                .iter()
                .map(|(name, weight)| match weight {
                    Some(weight) => json!({"name": name, "port": 80, "weight": weight}),
                    None => json!({"name": name, "port": 80}),
                })
                .collect();
            json!({"matches": [{"path": {"value": "/"}}], "backendRefs": refs})
        })
        .collect();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "demo", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": rules},
    })
}

/// The shares of a rule's requests, as a gateway reads the weights.
fn shares(route: &Value, rule: usize) -> BTreeMap<String, f64> {
    let route = object(route.clone());
    let refs = backends(&rules(&route)[rule]);
    let sum: u64 = refs.iter().map(|backend| weight(backend)).sum();
    // A u32 is exact in a float.
    let part = |weight: u64| f64::from(u32::try_from(weight).unwrap()) / f64::from(u32::try_from(sum).unwrap());
    refs.iter().map(|backend| (name(backend).to_owned(), part(weight(backend)))).collect()
}

fn parent(name: &str, conditions: &[(&str, &str, i64)]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status, seen)| json!({"type": kind, "status": status, "observedGeneration": seen}))
        .collect();
    json!({"parentRef": {"name": name}, "conditions": conditions})
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn apply(value: &Value, patch: Option<Patch>) -> Value {
    let mut changed = value.clone();
    json_patch::patch(&mut changed, &patch.expect("a patch")).unwrap();
    changed
}

fn join(route: &DynamicObject, workload: &Workload, service: &str, mark: &RouteMark) -> Result<Option<Patch>, Failure> {
    GatewayRouter.join(route, workload, service, &Traffic::default(), mark)
}

fn set_weight(route: &DynamicObject, share: Weight, mark: &RouteMark) -> Result<Option<Patch>, Failure> {
    GatewayRouter.set_weight(route, &web(), share, mark)
}

fn leave(route: &DynamicObject, workload: &Workload) -> Option<Patch> {
    GatewayRouter.leave(route, workload)
}

fn observe(route: &DynamicObject) -> Option<RouteStatus> {
    if GatewayRouter.holds(route, &web()) {
        assert!(GatewayRouter.workloads(route).contains(&web().name));
    }
    GatewayRouter.observe(route, &web())
}

fn after_join(value: &Value) -> Value {
    apply(value, join(&object(value.clone()), &web(), "web", &mark(1)).unwrap())
}

fn after_weight(value: Value, points: u16) -> Value {
    match set_weight(&object(value.clone()), Weight::basis_points(points), &mark(1)).unwrap() {
        None => value,
        patch => apply(&value, patch),
    }
}

fn apply_leave(value: &Value) -> Value {
    apply(value, leave(&object(value.clone()), &web()))
}

fn epoch(value: &Value, workload: &Workload) -> Option<u64> {
    GatewayRouter.epoch(&object(value.clone()), workload)
}

fn seen(value: &Value) -> RouteStatus {
    observe(&object(value.clone())).unwrap()
}

fn named(name: &str, weight: Option<u64>) -> (String, Option<u64>) {
    (name.to_owned(), weight)
}

fn weights(value: &Value) -> Vec<Vec<(String, Option<u64>)>> {
    rules(&object(value.clone()))
        .iter()
        .map(|rule| backends(rule).iter().map(|backend| named(name(backend), written_weight(backend))).collect())
        .collect()
}

fn web() -> Workload {
    Workload { cluster: "test".into(), namespace: "demo".into(), kind: WorkloadKind::Deployment, name: "web".into() }
}

fn mark(epoch: u64) -> RouteMark {
    RouteMark { effect: "web-1.1".to_owned(), epoch: Epoch(epoch) }
}
