//! The contract of a router with route objects, as a suite that runs in memory against any provider.
//!
//! A provider's tests call [`check`] with a [`Fixture`], which builds a route of its kind and reads the shares from it.

use std::collections::BTreeMap;

use bellwether_core::ids::{Weight, Workload, WorkloadKind};
use bellwether_core::input::event::FailureKind;
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::policy::{RouteName, Traffic};
use json_patch::Patch;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{RouteMark, TrafficRouter};
use crate::ports::Epoch;

/// The backends of a rule: the Service's name and its weight (`None`: the reference has no weight).
pub type RuleBackends<'a> = &'a [(&'a str, Option<u64>)];

/// A provider and the route objects that it is tested with.
pub struct Fixture {
    /// The provider.
    pub router: &'static dyn TrafficRouter,
    /// Builds a route named `shop` in the namespace `demo` with these rules. Every backend is a Service with port 80.
    pub route: fn(&[RuleBackends<'_>]) -> Value,
    /// Reads the share of a rule's requests that each Service gets, 0 to 1.
    pub shares: fn(&Value, usize) -> BTreeMap<String, f64>,
    /// The largest permitted difference between the requested and the actual share, as a part of the rule's requests.
    pub tolerance: f64,
    /// The path of the field with the rules.
    pub rules: &'static [&'static str],
}

/// Rules with the stable alone, and with another backend before or after it. Written weights have the sum 100.
const RULES: [RuleBackends<'static>; 4] = [
    &[("web", None)],
    &[("web", Some(100))],
    &[("web", Some(90)), ("other", Some(10))],
    &[("other", Some(60)), ("web", Some(40))],
];

/// Shares in hundredths of a percent, in the order in which they are set.
const SHARES: [u16; 11] = [1, 10, 50, 100, 333, 1000, 2500, 3333, 5000, 9999, 10_000];

/// Shares are equal if they differ by less than this, which allows for the rounding of floats alone.
const ROUNDING: f64 = 1e-9;

/// Checks the whole contract.
pub fn check(fixture: &Fixture) {
    preflight_finds_the_service_that_is_routed_to(fixture);
    joining_changes_no_share(fixture);
    a_weight_splits_the_stables_part_alone(fixture);
    leaving_restores_the_route(fixture);
    workloads_on_one_route_are_independent(fixture);
    a_lower_epoch_is_refused(fixture);
    a_removed_reference_is_a_conflict(fixture);
    a_patch_fails_on_another_version_of_the_route(fixture);
}

fn preflight_finds_the_service_that_is_routed_to(fixture: &Fixture) {
    let router = fixture.router;
    let routes = [object(&(fixture.route)(&[RULES[0]]))];
    let found = |services: &[&'static str], named: Option<&RouteName>| {
        router.preflight(&routes, &workload("web"), services, named)
    };
    let named = |name: &str, rule| RouteName { name: name.to_owned(), rule };
    assert_eq!(found(&["admin", "web"], None), Ok("web"));
    assert_eq!(found(&["web"], Some(&named("shop", Some(0)))), Ok("web"));
    let missing = |route: &str| Err(PreflightIssue::RouteMissing { route: route.to_owned() });
    assert_eq!(found(&["web"], Some(&named("shop", Some(1)))), missing("shop (rule 1)"));
    assert_eq!(found(&["web"], Some(&named("another", None))), missing("another"));
    assert_eq!(found(&["admin"], None), Err(PreflightIssue::NoRoute { service: "admin".to_owned() }));
    assert_eq!(router.port(&routes[0], "web"), Some(80));
    assert_eq!(router.port(&routes[0], "admin"), None);
    assert!(!router.holds(&routes[0], &workload("web")));
    assert_eq!(router.observe(&routes[0], &workload("web")), None);
}

fn joining_changes_no_share(fixture: &Fixture) {
    for rule in RULES {
        let before = (fixture.route)(&[rule]);
        let joined = join(fixture, &before, "web", 1);
        let mut shares = (fixture.shares)(&joined, 0);
        assert_eq!(shares.remove("web-canary"), Some(0.0), "{rule:?}");
        assert_same_shares(&shares, &(fixture.shares)(&before, 0));
        assert_eq!(observed(fixture, &joined, "web"), Weight::ZERO, "{rule:?}");
        assert!(fixture.router.holds(&object(&joined), &workload("web")));
        let again = fixture.router.join(&object(&joined), &workload("web"), "web", &Traffic::default(), &mark(2));
        assert_eq!(again.unwrap(), None, "joining twice: {rule:?}");
    }
}

fn a_weight_splits_the_stables_part_alone(fixture: &Fixture) {
    for rule in RULES {
        let before = (fixture.route)(&[rule]);
        let original = (fixture.shares)(&before, 0);
        let part = original["web"];
        let mut route = join(fixture, &before, "web", 1);
        for points in SHARES.into_iter().chain([0]).chain(SHARES.into_iter().rev()) {
            let share = Weight::basis_points(points);
            route = set_weight(fixture, &route, "web", share, 1);
            let mut shares = (fixture.shares)(&route, 0);
            let canary = shares.remove("web-canary").unwrap();
            let stable = shares.remove("web").unwrap();
            let wanted = part * share.as_share();
            assert!((canary - wanted).abs() <= fixture.tolerance + ROUNDING, "{rule:?} at {share}: {canary}");
            assert!((stable + canary - part).abs() <= ROUNDING, "{rule:?} at {share}: {stable} and {canary}");
            let mut others = original.clone();
            others.remove("web");
            assert_same_shares(&shares, &others);
            assert_eq!(observed(fixture, &route, "web"), share, "{rule:?}");
            let again = fixture.router.set_weight(&object(&route), &workload("web"), share, &mark(2)).unwrap();
            assert_eq!(again, None, "setting twice: {rule:?} at {share}");
        }
    }
}

fn leaving_restores_the_route(fixture: &Fixture) {
    for rule in RULES {
        for annotations in [None, Some(json!({"team": "shop"}))] {
            let mut before = (fixture.route)(&[rule]);
            if let Some(annotations) = annotations {
                before["metadata"]["annotations"] = annotations;
            }
            let joined = join(fixture, &before, "web", 1);
            for points in [0].into_iter().chain(SHARES) {
                let moved = set_weight(fixture, &joined, "web", Weight::basis_points(points), 2);
                let left = leave(fixture, &moved, "web");
                assert_eq!(left.to_string(), before.to_string(), "{rule:?} at {points}");
                assert!(!fixture.router.holds(&object(&left), &workload("web")));
                assert!(fixture.router.workloads(&object(&left)).is_empty());
                assert_eq!(fixture.router.leave(&object(&left), &workload("web")), None, "leaving twice");
            }
        }
    }
}

fn workloads_on_one_route_are_independent(fixture: &Fixture) {
    let before = (fixture.route)(&[&[("web", None)], &[("api", None)]]);
    // The epochs of two partitions are independent too: the later writer may have the lower one.
    let route = join(fixture, &before, "web", 9);
    let route = join(fixture, &route, "api", 2);
    let epochs = |route: &Value| ["web", "api"].map(|name| fixture.router.epoch(&object(route), &workload(name)));
    assert_eq!(epochs(&route), [Some(9), Some(2)]);
    let route = set_weight(fixture, &route, "web", Weight::percent(25), 9);
    assert_eq!(observed(fixture, &route, "web"), Weight::percent(25));
    assert_eq!(observed(fixture, &route, "api"), Weight::ZERO);
    let route = set_weight(fixture, &route, "api", Weight::percent(50), 3);
    assert_eq!(observed(fixture, &route, "web"), Weight::percent(25));
    assert_eq!(observed(fixture, &route, "api"), Weight::percent(50));
    assert_eq!(epochs(&route), [Some(9), Some(3)]);
    let route = leave(fixture, &route, "web");
    assert_eq!(observed(fixture, &route, "api"), Weight::percent(50));
    assert_same_shares(&(fixture.shares)(&route, 0), &(fixture.shares)(&before, 0));
    let route = leave(fixture, &route, "api");
    assert_eq!(route.to_string(), before.to_string());
}

fn a_lower_epoch_is_refused(fixture: &Fixture) {
    let joined = object(&join(fixture, &(fixture.route)(&[RULES[0]]), "web", 5));
    let fence = |epoch| fixture.router.fence(&joined, &workload("web"), Epoch(epoch)).map_err(|failure| failure.kind);
    assert_eq!(fence(4), Err(FailureKind::Fenced));
    assert_eq!(fence(5), Ok(()));
    assert_eq!(fence(6), Ok(()));
}

fn a_removed_reference_is_a_conflict(fixture: &Fixture) {
    let before = (fixture.route)(&[RULES[0]]);
    let mut removed = join(fixture, &before, "web", 1);
    removed["spec"] = before["spec"].clone();
    let fields = fixture.rules.iter().rev().fold(json!({}), |inner, key| json!({ format!("f:{key}"): inner }));
    removed["metadata"]["managedFields"] = json!([{"manager": "kubectl-edit", "fieldsV1": fields}]);
    let route = object(&removed);
    assert_eq!(fixture.router.last_writer(&route), Some("kubectl-edit"));
    let failure =
        fixture.router.set_weight(&route, &workload("web"), Weight::percent(10), &mark(1)).expect_err("a conflict");
    assert_eq!(failure.kind, FailureKind::Conflict);
    for name in ["kubectl-edit", "web-canary", "shop"] {
        assert!(failure.message.contains(name), "{name} is missing in: {}", failure.message);
    }
    let none = fixture.router.set_weight(&route, &workload("web"), Weight::ZERO, &mark(1));
    assert_eq!(none.unwrap(), None, "without the canary its share is 0");
    assert!(fixture.router.holds(&route, &workload("web")), "the record is still there");
}

fn a_patch_fails_on_another_version_of_the_route(fixture: &Fixture) {
    let before = (fixture.route)(&[RULES[0]]);
    let patch = fixture.router.join(&object(&before), &workload("web"), "web", &Traffic::default(), &mark(1));
    let patch = patch.unwrap().unwrap();
    for (field, value) in [("uid", json!("another")), ("generation", json!(99))] {
        let mut other = before.clone();
        other["metadata"][field] = value;
        assert!(json_patch::patch(&mut other, &patch).is_err(), "{field}");
    }
}

fn join(fixture: &Fixture, route: &Value, name: &str, epoch: u64) -> Value {
    let patch = fixture.router.join(&object(route), &workload(name), name, &Traffic::default(), &mark(epoch));
    apply(route, patch.unwrap())
}

fn set_weight(fixture: &Fixture, route: &Value, name: &str, share: Weight, epoch: u64) -> Value {
    let patch = fixture.router.set_weight(&object(route), &workload(name), share, &mark(epoch)).unwrap();
    if patch.is_none() { route.clone() } else { apply(route, patch) }
}

/// Removes the canary. An empty map of annotations counts as none, as to the API server.
fn leave(fixture: &Fixture, route: &Value, name: &str) -> Value {
    let mut left = apply(route, fixture.router.leave(&object(route), &workload(name)));
    if let Some(metadata) = left["metadata"].as_object_mut() {
        metadata.retain(|key, value| key != "annotations" || *value != json!({}));
    }
    left
}

fn observed(fixture: &Fixture, route: &Value, name: &str) -> Weight {
    assert!(fixture.router.workloads(&object(route)).contains(name), "the route does not name {name}");
    fixture.router.observe(&object(route), &workload(name)).expect("the canary is in the route").weight
}

fn assert_same_shares(found: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, share) in expected {
        assert!((found[name] - share).abs() <= ROUNDING, "{name}: {} instead of {share}", found[name]);
    }
}

fn apply(route: &Value, patch: Option<Patch>) -> Value {
    let mut changed = route.clone();
    json_patch::patch(&mut changed, &patch.expect("a patch")).unwrap();
    changed
}

fn object(route: &Value) -> DynamicObject {
    serde_json::from_value(route.clone()).unwrap()
}

fn mark(epoch: u64) -> RouteMark {
    RouteMark { effect: "web-1.1".to_owned(), epoch: Epoch(epoch) }
}

fn workload(name: &str) -> Workload {
    Workload { cluster: "test".into(), namespace: "demo".into(), kind: WorkloadKind::Deployment, name: name.into() }
}
