//! A canary for a cohort: beside each rule that sends traffic to the stable stands a copy of it, for the requests that have
//! the cohort's header or cookie, and all of those go to the canary.
//!
//! The Gateway API prefers the match that asks for more headers, so the copies need no place of their own among the rules.
//! They are there exactly while the canary has its step's traffic, since a rule without a backend that counts would answer with
//! 500; the weight of their one backend means nothing to a gateway, and says what was asked for.

use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::policy::Cohort;
use json_patch::Patch;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    PatchDraft, Record, RouteMark, backends, canary_of, is_service, name, rules, test_name, weight, write_record,
};

/// The copies, by their places.
fn copies(route: &DynamicObject, workload: &Workload) -> Vec<usize> {
    let is_copy = |rule: &Value| backends(rule).len() == 1 && canary_of(route, rule, workload).is_some();
    let all = rules(route).iter().enumerate();
    all.filter(|(_, rule)| is_copy(rule)).map(|(index, _)| index).collect()
}

/// The rules that are copied: those that were noted, where they still send traffic to the Service.
fn sources<'a>(route: &'a DynamicObject, noted: &Record) -> Vec<&'a Value> {
    let sends = |rule: &Value| backends(rule).iter().any(|backend| is_service(route, backend, &noted.service));
    let found = noted.rules.iter().filter_map(|noted| rules(route).get(noted.rule));
    found.filter(|rule| sends(rule)).collect()
}

/// The canary's share as the copies say it, if each rule has its own.
pub(super) fn share(route: &DynamicObject, workload: &Workload, noted: &Record) -> Weight {
    let copies = copies(route, workload);
    if copies.is_empty() || copies.len() != sources(route, noted).len() {
        return Weight::ZERO;
    }
    let points = |index: &usize| backends(rules(route).get(*index)?).first().map(|backend| weight(backend));
    let least = copies.iter().filter_map(points).min().unwrap_or(0);
    Weight::basis_points(u16::try_from(least).unwrap_or(10_000))
}

/// Puts the copies there, or takes them away for a share of nothing. `None`: so it is.
///
/// # Errors
/// Somebody has taken the stable's reference out of a rule.
pub(super) fn set(
    route: &DynamicObject,
    workload: &Workload,
    noted: &Record,
    wanted: Weight,
    mark: &RouteMark,
) -> Result<Option<Patch>, Failure> {
    let (copies, sources) = (copies(route, workload), sources(route, noted));
    if share(route, workload, noted) == wanted && (wanted > Weight::ZERO || copies.is_empty()) {
        return Ok(None);
    }
    let mut draft = PatchDraft::of(&route.metadata);
    remove(&mut draft, route, &copies);
    if wanted > Weight::ZERO {
        if sources.len() < noted.rules.len() {
            let route = route.metadata.name.as_deref().unwrap_or_default();
            let message = format!("somebody has taken Service {} out of HTTPRoute {route}", noted.service);
            return Err(Failure { kind: FailureKind::Conflict, message });
        }
        for rule in sources {
            draft.add(&["spec", "rules", "-"], copy(route, rule, workload, noted, wanted));
        }
    }
    let noted = Record { effect: mark.effect.clone(), epoch: mark.epoch.0, ..noted.clone() };
    write_record(route, workload, Some(noted), &mut draft);
    Ok(draft.finish())
}

/// Takes the copies away, and what was noted.
pub(super) fn leave(route: &DynamicObject, workload: &Workload) -> Option<Patch> {
    let mut draft = PatchDraft::of(&route.metadata);
    remove(&mut draft, route, &copies(route, workload));
    write_record(route, workload, None, &mut draft);
    draft.finish()
}

/// From the last to the first, so that no place moves before its turn.
fn remove(draft: &mut PatchDraft, route: &DynamicObject, copies: &[usize]) {
    for index in copies.iter().rev() {
        if let Some(rule) = rules(route).get(*index) {
            test_name(draft, *index, 0, &backends(rule));
            draft.remove(&["spec", "rules", &index.to_string()]);
        }
    }
}

fn copy(route: &DynamicObject, rule: &Value, workload: &Workload, noted: &Record, wanted: Weight) -> Value {
    let mut copy = rule.clone();
    let stable = backends(rule).into_iter().find(|backend| is_service(route, backend, &noted.service));
    let mut canary = stable.cloned().unwrap_or_default();
    canary["name"] = json!(workload.canary_name());
    canary["weight"] = json!(wanted.as_basis_points());
    copy["backendRefs"] = json!([canary]);
    let header = noted.cohort.as_ref().map(header).unwrap_or_default();
    let matches = rule.get("matches").and_then(Value::as_array).filter(|matches| !matches.is_empty());
    let mut matches = matches.cloned().unwrap_or_else(|| vec![json!({})]);
    for wanted in &mut matches {
        let mut headers = wanted.get("headers").and_then(Value::as_array).cloned().unwrap_or_default();
        headers.retain(|other| name(other) != name(&header));
        headers.push(header.clone());
        wanted["headers"] = Value::Array(headers);
    }
    copy["matches"] = Value::Array(matches);
    if let Some(rule) = copy.as_object_mut() {
        // Names of rules are unique.
        rule.remove("name");
    }
    copy
}

fn header(cohort: &Cohort) -> Value {
    let value = &cohort.value;
    let Some(cookie) = &cohort.cookie else {
        return json!({ "name": cohort.header, "type": "Exact", "value": value });
    };
    let literal = |text: &str| text.replace('.', "\\.");
    let pattern = format!("(^|.*;[ ]*){}={}($|;.*)", literal(cookie), literal(value));
    json!({ "name": "Cookie", "type": "RegularExpression", "value": pattern })
}
