//! The split by cohort: beside each rule that sends traffic to the stable there is a copy of it for the requests with
//! the cohort's header or cookie, which sends all of them to the canary.
//!
//! The Gateway API prefers the match with more headers, so the copies may stand anywhere among the rules. They exist
//! exactly while the canary has traffic, because a rule whose only backend has weight 0 would answer 500. The weight of
//! a copy's only backend has no effect on the traffic; it notes the share that was requested.

use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::input::status::{MAX_MATCHES, MAX_RULES, PreflightIssue};
use bellwether_core::policy::Cohort;
use json_patch::Patch;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{HttpRouteRecord, backends, canary_place, is_service, list, name, rules, test_name, weight};
use crate::adapters::kubernetes::failure;
use crate::adapters::kubernetes::patch::PatchDraft;
use crate::adapters::kubernetes::router::{self, RouteMark, record};

/// Returns the indices of the copies.
fn copies(route: &DynamicObject, workload: &Workload) -> Vec<usize> {
    let is_copy = |rule: &Value| backends(rule).len() == 1 && canary_place(route, rule, workload).is_some();
    let all = rules(route).iter().enumerate();
    all.filter(|(_, rule)| is_copy(rule)).map(|(index, _)| index).collect()
}

/// Returns the issue of a route that has no room for copies of the rules `split`; `None` if it has.
pub(super) fn too_many(route: &DynamicObject, workload: &Workload, split: &[usize]) -> Option<PreflightIssue> {
    let copies = copies(route, workload);
    // A rule without matches gets one that fits every request.
    let matches = |index: usize| rules(route).get(index).map_or(0, |rule| list(rule, "/matches").len().max(1));
    let own = || (0..rules(route).len()).filter(|index| !copies.contains(index));
    let sources = || split.iter().copied().filter(|index| !copies.contains(index));
    let (rules, matches) = (own().count() + sources().count(), own().chain(sources()).map(matches).sum::<usize>());
    (rules > MAX_RULES || matches > MAX_MATCHES).then(|| PreflightIssue::TooManyRules {
        route: router::name(route).to_owned(),
        rules,
        matches,
    })
}

/// Returns the rules to copy: those of the record that still send traffic to the Service.
fn sources<'a>(route: &'a DynamicObject, record: &HttpRouteRecord) -> Vec<&'a Value> {
    let sends = |rule: &Value| backends(rule).iter().any(|backend| is_service(route, backend, &record.service));
    let found = record.rules.iter().filter_map(|record| rules(route).get(record.rule));
    found.filter(|rule| sends(rule)).collect()
}

/// Returns the share that the copies note; 0 unless every rule has its copy.
pub(super) fn share(route: &DynamicObject, workload: &Workload, record: &HttpRouteRecord) -> Weight {
    let copies = copies(route, workload);
    if copies.is_empty() || copies.len() != sources(route, record).len() {
        return Weight::ZERO;
    }
    let points = |index: &usize| backends(rules(route).get(*index)?).first().map(|backend| weight(backend));
    let least = copies.iter().filter_map(points).min().unwrap_or(0);
    Weight::basis_points(u16::try_from(least).unwrap_or(10_000))
}

/// Adds the copies, or removes them if the share is 0. `None` if the route is as requested.
///
/// # Errors
/// The stable was removed from a rule that is to be copied.
pub(super) fn set(
    route: &DynamicObject,
    workload: &Workload,
    record: &HttpRouteRecord,
    wanted: Weight,
    mark: &RouteMark,
) -> Result<Option<Patch>, Failure> {
    let (copies, sources) = (copies(route, workload), sources(route, record));
    if share(route, workload, record) == wanted && (wanted > Weight::ZERO || copies.is_empty()) {
        return Ok(None);
    }
    let mut draft = PatchDraft::of(&route.metadata);
    remove(&mut draft, route, &copies);
    if wanted > Weight::ZERO {
        if sources.len() < record.rules.len() {
            let message = format!("Service {} was removed from HTTPRoute {}", record.service, router::name(route));
            return Err(failure::new(FailureKind::Conflict, message));
        }
        for rule in sources {
            draft.add(&["spec", "rules", "-"], copy(route, rule, workload, record, wanted));
        }
    }
    let record = HttpRouteRecord { effect: mark.effect.clone(), epoch: mark.epoch.0, ..record.clone() };
    record::write(route, workload, Some(record), &mut draft);
    Ok(draft.finish())
}

/// Removes the copies and the record. `None` if the route has neither.
pub(super) fn leave(route: &DynamicObject, workload: &Workload) -> Option<Patch> {
    let mut draft = PatchDraft::of(&route.metadata);
    remove(&mut draft, route, &copies(route, workload));
    record::write(route, workload, None::<HttpRouteRecord>, &mut draft);
    draft.finish()
}

/// Removes the copies from the last to the first, so that no index changes before its removal.
fn remove(draft: &mut PatchDraft, route: &DynamicObject, copies: &[usize]) {
    for index in copies.iter().rev() {
        if let Some(rule) = rules(route).get(*index) {
            test_name(draft, *index, 0, &backends(rule));
            draft.remove(&["spec", "rules", &index.to_string()]);
        }
    }
}

fn copy(route: &DynamicObject, rule: &Value, workload: &Workload, record: &HttpRouteRecord, wanted: Weight) -> Value {
    let mut copy = rule.clone();
    let stable = backends(rule).into_iter().find(|backend| is_service(route, backend, &record.service));
    let mut canary = stable.cloned().unwrap_or_default();
    canary["name"] = json!(workload.canary_name());
    canary["weight"] = json!(wanted.as_basis_points());
    copy["backendRefs"] = json!([canary]);
    let header = record.cohort.as_ref().map(header).unwrap_or_default();
    let matches = rule.get("matches").and_then(Value::as_array).filter(|matches| !matches.is_empty());
    let mut matches = matches.cloned().unwrap_or_else(|| vec![json!({})]);
    for one in &mut matches {
        let mut headers = one.get("headers").and_then(Value::as_array).cloned().unwrap_or_default();
        headers.retain(|other| name(other) != name(&header));
        headers.push(header.clone());
        one["headers"] = Value::Array(headers);
    }
    copy["matches"] = Value::Array(matches);
    if let Some(rule) = copy.as_object_mut() {
        // Names of rules are unique.
        rule.remove("name");
    }
    copy
}

/// Returns the match of the cohort's header or cookie.
fn header(cohort: &Cohort) -> Value {
    let value = &cohort.value;
    let Some(cookie) = &cohort.cookie else {
        return json!({ "name": cohort.header, "type": "Exact", "value": value });
    };
    let literal = |text: &str| text.replace('.', "\\.");
    let pattern = format!("(^|.*;[ ]*){}={}($|;.*)", literal(cookie), literal(value));
    json!({ "name": "Cookie", "type": "RegularExpression", "value": pattern })
}
