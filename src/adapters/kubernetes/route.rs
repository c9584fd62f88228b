//! The arithmetic of HTTPRoutes: how a canary gets into a rule, gets its share there, and leaves no trace.
//!
//! Three rules of the Gateway API shape it. A weight is a proportion of the rule's sum and not a percentage, so what
//! others have is multiplied and only the stable's own part is split. A single backend gets everything whatever its
//! weight says (in some gateways), so a rule is never left with one backend at 0. And `backendRefs` is one value to
//! server-side apply, so what others own is changed by JSON Patch at an index whose name is tested first.
//!
//! The weights that were there before are kept in an annotation on the route itself, by workload (two workloads may
//! share a route). The epoch and the effect are in the same record, not in annotations of their own, because the other
//! workload's belong to another partition, whose epochs have nothing to do with ours.

use std::collections::BTreeMap;

use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::input::status::RouteStatus;
use bellwether_core::policy::{Cohort, RouteName};
use json_patch::Patch;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::marks::{self, ORIGINAL_WEIGHTS};
use super::patch::PatchDraft;
use crate::ports::Epoch;

mod cohort;

/// The Gateway API allows no more.
const MAX_WEIGHT: u64 = 1_000_000;
/// The weight of a backend that has none.
const DEFAULT_WEIGHT: u64 = 1;

/// Who acts on a route, as it is written there.
#[derive(Debug, Clone)]
pub struct RouteMark {
    /// The effect's id.
    pub effect: String,
    /// The epoch of the process.
    pub epoch: Epoch,
}

/// What we know of a route that we have joined: the annotation, for one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    service: String,
    effect: String,
    epoch: u64,
    rules: Vec<RuleRecord>,
    /// Whose requests the canary gets; `None`: a share of everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cohort: Option<Cohort>,
}

/// One rule as it was: the backends' names in their order, and their weights (`null`: there was none).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RuleRecord {
    rule: usize,
    backends: Vec<(String, Option<u64>)>,
}

/// The rules of `route` that send traffic to `service`, or the named one of them. A rule in which the Service has weight 0
/// sends it nothing, unless it has so because the canary has all.
pub fn rules_to(route: &DynamicObject, workload: &Workload, service: &str, named: Option<&RouteName>) -> Vec<usize> {
    if named.is_some_and(|named| route.metadata.name.as_deref() != Some(named.name.as_str())) {
        return Vec::new();
    }
    rules(route)
        .iter()
        .enumerate()
        .filter(|(index, _)| named.and_then(|named| named.rule).is_none_or(|rule| rule == *index))
        .filter(|(_, rule)| {
            let refs = backends(rule);
            let canary = canary_of(route, rule, workload).is_some();
            refs.iter().any(|backend| is_service(route, backend, service) && (canary || weight(backend) > 0))
        })
        .map(|(index, _)| index)
        .collect()
}

/// The port by which the route sends traffic to `service`, in the first rule that does.
pub fn port_of(route: &DynamicObject, service: &str) -> Option<u16> {
    rules(route)
        .iter()
        .flat_map(backends)
        .find(|backend| is_service(route, backend, service))
        .and_then(|backend| u16::try_from(backend.get("port")?.as_u64()?).ok())
}

/// The epoch that is written on the route for this workload.
pub fn epoch(route: &DynamicObject, workload: &Workload) -> Option<u64> {
    record(route, workload).map(|record| record.epoch)
}

/// Whether the route holds anything of this workload's canary: a reference, or a record.
pub fn holds(route: &DynamicObject, workload: &Workload) -> bool {
    record(route, workload).is_some() || rules(route).iter().any(|rule| canary_of(route, rule, workload).is_some())
}

/// Puts the canary's Service into `rules` at weight 0 and notes the weights that were there. `None`: it is there already.
///
/// # Errors
/// A rule names the stable Service more than once, so that a second reference would have to follow it.
pub fn join(
    route: &DynamicObject,
    workload: &Workload,
    service: &str,
    rules_to_join: &[usize],
    cohort: Option<&Cohort>,
    mark: &RouteMark,
) -> Result<Option<Patch>, Failure> {
    let mut draft = PatchDraft::of(&route.metadata);
    let known = record(route, workload);
    if cohort.is_some() && known.as_ref().is_some_and(|known| known.cohort.as_ref() == cohort) {
        return Ok(None);
    }
    let mut noted = known.map(|record| record.rules).unwrap_or_default();
    // What was noted of rules that somebody has written anew since is about rules that are no more.
    noted.retain(|noted| rules(route).get(noted.rule).is_some_and(|rule| canary_of(route, rule, workload).is_some()));
    let mut joined = false;
    for &index in rules_to_join {
        let Some(rule) = rules(route).get(index) else { continue };
        if canary_of(route, rule, workload).is_some() {
            continue;
        }
        let refs = backends(rule);
        let stable = only_place(route, index, &refs, service)?;
        test_name(&mut draft, index, stable, &refs);
        // A cohort has rules of its own, once it has traffic.
        if cohort.is_none() {
            let mut ours = refs[stable].clone();
            ours["name"] = json!(workload.canary_name());
            ours["weight"] = json!(0);
            draft.add(&["spec", "rules", &index.to_string(), "backendRefs", "-"], ours);
        }
        noted.push(RuleRecord {
            rule: index,
            backends: refs.iter().map(|backend| (name(backend).to_owned(), written_weight(backend))).collect(),
        });
        joined = true;
    }
    if !joined {
        return Ok(None);
    }
    let (effect, epoch) = (mark.effect.clone(), mark.epoch.0);
    let record = Record { service: service.to_owned(), effect, epoch, rules: noted, cohort: cohort.cloned() };
    write_record(route, workload, Some(record), &mut draft);
    Ok(draft.finish())
}

/// Gives the canary `share` of what the stable and it have together, in every rule that holds it. `None`: so it is.
///
/// # Errors
/// Somebody has taken our reference out of a rule, and the share is not 0.
pub fn set_weight(
    route: &DynamicObject,
    workload: &Workload,
    share: Weight,
    mark: &RouteMark,
) -> Result<Option<Patch>, Failure> {
    let mut draft = PatchDraft::of(&route.metadata);
    let noted = record(route, workload);
    if let Some(noted) = noted.as_ref().filter(|noted| noted.cohort.is_some()) {
        return cohort::set(route, workload, noted, share, mark);
    }
    // Without a record (somebody has taken the annotation away) the likeliest name is the workload's own.
    let service = noted.as_ref().map_or(workload.name.as_str(), |noted| noted.service.as_str());
    let mut held = 0;
    let mut changed = false;
    for (index, rule) in rules(route).iter().enumerate() {
        let Some(canary) = canary_of(route, rule, workload) else { continue };
        held += 1;
        let refs = backends(rule);
        let stable = only_place(route, index, &refs, service)?;
        let originals: Vec<u64> = originals(route, workload, index, rule, noted.as_ref())
            .into_iter()
            .map(|weight| weight.unwrap_or(DEFAULT_WEIGHT).min(MAX_WEIGHT))
            .collect();
        let wanted = split(&originals, stable, canary, share);
        for (place, (backend, wanted)) in refs.iter().zip(wanted).enumerate() {
            if weight(backend) != wanted {
                test_name(&mut draft, index, place, &refs);
                draft.add(&backend_path(index, place, "weight").each_ref().map(String::as_str), json!(wanted));
                changed = true;
            }
        }
    }
    let lost = noted.as_ref().is_some_and(|noted| noted.rules.len() > held);
    if share > Weight::ZERO && (held == 0 || lost) {
        return Err(Failure {
            kind: FailureKind::Conflict,
            message: format!(
                "somebody has taken Service {} out of HTTPRoute {}{}",
                workload.canary_name(),
                route.metadata.name.as_deref().unwrap_or_default(),
                super::owners::last_writer(&route.metadata, &["f:spec", "f:rules"])
                    .map(|who| format!("; the last to write its rules was {who}"))
                    .unwrap_or_default()
            ),
        });
    }
    if !changed {
        return Ok(None);
    }
    if let Some(noted) = noted.clone() {
        let noted = Record { effect: mark.effect.clone(), epoch: mark.epoch.0, ..noted };
        write_record(route, workload, Some(noted), &mut draft);
    }
    Ok(draft.finish())
}

/// Takes the canary out and gives every rule the weights that it had, in one patch. `None`: there is nothing of ours.
pub fn leave(route: &DynamicObject, workload: &Workload) -> Option<Patch> {
    let mut draft = PatchDraft::of(&route.metadata);
    let noted = record(route, workload);
    if noted.as_ref().is_some_and(|noted| noted.cohort.is_some()) {
        return cohort::leave(route, workload);
    }
    for (index, rule) in rules(route).iter().enumerate() {
        let Some(canary) = canary_of(route, rule, workload) else { continue };
        let refs = backends(rule);
        let originals = originals(route, workload, index, rule, noted.as_ref());
        let service = noted.as_ref().map_or(workload.name.as_str(), |noted| noted.service.as_str());
        if refs.len() == 1 {
            // Somebody took the stable's reference out. Without ours the rule would answer with 500 only.
            test_name(&mut draft, index, canary, &refs);
            draft.replace(&backend_path(index, canary, "name").each_ref().map(String::as_str), json!(service));
            draft.add(&backend_path(index, canary, "weight").each_ref().map(String::as_str), json!(DEFAULT_WEIGHT));
            continue;
        }
        for (place, (backend, original)) in refs.iter().zip(originals).enumerate() {
            if place == canary || written_weight(backend) == original {
                continue;
            }
            test_name(&mut draft, index, place, &refs);
            let path = backend_path(index, place, "weight");
            match original {
                Some(original) => draft.add(&path.each_ref().map(String::as_str), json!(original)),
                None => draft.remove(&path.each_ref().map(String::as_str)),
            }
        }
        test_name(&mut draft, index, canary, &refs);
        draft.remove(&["spec", "rules", &index.to_string(), "backendRefs", &canary.to_string()]);
    }
    write_record(route, workload, None, &mut draft);
    draft.finish()
}

/// What the routes of a namespace say of the workload's canary; `None`: none of them holds it.
pub fn routed<'a>(routes: impl IntoIterator<Item = &'a DynamicObject>, workload: &Workload) -> Option<RouteStatus> {
    routes.into_iter().filter_map(|route| routed_by(route, workload)).reduce(|one, other| RouteStatus {
        weight: one.weight.min(other.weight),
        accepted: one.accepted && other.accepted,
    })
}

/// Whoever wrote the rules of a route that holds the workload's canary last, ourselves left out.
pub fn written_by<'a>(routes: impl IntoIterator<Item = &'a DynamicObject>, workload: &Workload) -> Option<String> {
    let mut held = routes.into_iter().filter(|route| holds(route, workload));
    held.find_map(|route| super::owners::last_writer(&route.metadata, &["f:spec", "f:rules"])).map(str::to_owned)
}

fn routed_by(route: &DynamicObject, workload: &Workload) -> Option<RouteStatus> {
    let noted = record(route, workload);
    if let Some(noted) = noted.as_ref().filter(|noted| noted.cohort.is_some()) {
        return Some(RouteStatus { weight: cohort::share(route, workload, noted), accepted: accepted(route) });
    }
    let service = noted.as_ref().map(|noted| noted.service.as_str());
    let shares: Vec<Weight> = rules(route)
        .iter()
        .filter_map(|rule| {
            let canary = canary_of(route, rule, workload)?;
            let refs = backends(rule);
            let stable: u64 = refs
                .iter()
                .filter(|backend| service.is_some_and(|service| is_service(route, backend, service)))
                .map(|backend| weight(backend))
                .sum();
            Some(share(weight(refs[canary]), stable))
        })
        .collect();
    // A rule that we joined and that holds us no more gives the canary nothing.
    let lost = noted.as_ref().is_some_and(|noted| noted.rules.len() > shares.len());
    let lowest = shares.into_iter().min()?;
    Some(RouteStatus { weight: if lost { Weight::ZERO } else { lowest }, accepted: accepted(route) })
}

/// `canary` of `canary + stable`, rounded to the nearest hundredth of a percent; but only none is 0, and only all is all.
fn share(canary: u64, stable: u64) -> Weight {
    let sum = canary + stable;
    let points = match (canary, stable) {
        (0, _) => 0,
        (_, 0) => 10_000,
        _ => ((canary * 20_000 + sum) / (sum * 2)).clamp(1, 9_999),
    };
    Weight::basis_points(u16::try_from(points).unwrap_or(10_000))
}

/// Every parent that the route names and that has a status has accepted this generation of it, and there is one.
fn accepted(route: &DynamicObject) -> bool {
    let named: Vec<&Value> = list(&route.data, "/spec/parentRefs").iter().collect();
    let parents: Vec<&Value> = list(&route.data, "/status/parents")
        .iter()
        .filter(|parent| named.iter().any(|named| named.get("name") == parent.pointer("/parentRef/name")))
        .collect();
    !parents.is_empty()
        && parents.iter().all(|parent| {
            ["Accepted", "ResolvedRefs"].iter().all(|kind| {
                list(parent, "/conditions").iter().any(|condition| {
                    condition.get("type").and_then(Value::as_str) == Some(kind)
                        && condition.get("status").and_then(Value::as_str) == Some("True")
                        && condition.get("observedGeneration").and_then(Value::as_i64) == route.metadata.generation
                })
            })
        })
}

/// The weights of a rule in which the canary has `share` of the stable's part and everybody else keeps their proportion.
/// Whole percents multiply by 100, so that people can read them.
fn split(originals: &[u64], stable: usize, canary: usize, share: Weight) -> Vec<u64> {
    let points = u64::from(share.as_basis_points());
    let fine = match points {
        0 => 1,
        points if points.is_multiple_of(100) => 100,
        _ => 10_000,
    };
    let part = originals[stable];
    let coarse = 10_000 / gcd(part * points, 10_000);
    let highest = originals.iter().copied().max().unwrap_or(0);
    let factor = if highest * fine <= MAX_WEIGHT { fine } else { coarse };
    let mut weights: Vec<u64> = originals.iter().map(|weight| weight * factor).collect();
    weights[canary] = part * factor * points / 10_000;
    weights[stable] = part * factor - weights[canary];
    fit(weights, canary, points)
}

/// Proportions that don't fit below the API's highest weight are rounded; a canary that has a share keeps one.
fn fit(weights: Vec<u64>, canary: usize, points: u64) -> Vec<u64> {
    let highest = weights.iter().copied().max().unwrap_or(0);
    if highest <= MAX_WEIGHT {
        return weights;
    }
    let mut weights: Vec<u64> =
        weights.into_iter().map(|weight| (weight * MAX_WEIGHT + highest / 2) / highest).collect();
    if points > 0 {
        weights[canary] = weights[canary].max(1);
    }
    weights
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// The weights that the rule's backends had before we came, in their present order; ours has 0. Where the record no
/// longer fits (somebody has written the rule since), the stable's is what it and the canary have together.
fn originals(
    route: &DynamicObject,
    workload: &Workload,
    index: usize,
    rule: &Value,
    noted: Option<&Record>,
) -> Vec<Option<u64>> {
    let refs = backends(rule);
    let canary = canary_of(route, rule, workload);
    let others =
        || refs.iter().enumerate().filter(|(place, _)| Some(*place) != canary).map(|(_, backend)| name(backend));
    let fits = |noted: &&RuleRecord| noted.backends.iter().map(|(name, _)| name.as_str()).eq(others());
    let known = noted.and_then(|noted| {
        let at = noted.rules.iter().find(|noted| noted.rule == index).filter(fits);
        at.or_else(|| noted.rules.iter().find(fits))
    });
    let ours = canary.map_or(0, |place| weight(refs[place]));
    let mut known = known.map(|known| known.backends.iter().map(|(_, weight)| *weight));
    refs.iter()
        .enumerate()
        .map(|(place, backend)| match (&mut known, noted) {
            _ if Some(place) == canary => Some(0),
            (Some(known), _) => known.next().flatten(),
            (None, noted) => {
                let service = noted.map_or(workload.name.as_str(), |noted| noted.service.as_str());
                Some(if name(backend) == service { weight(backend) + ours } else { weight(backend) })
            }
        })
        .collect()
}

fn record(route: &DynamicObject, workload: &Workload) -> Option<Record> {
    records(route).remove(&workload.name)
}

fn records(route: &DynamicObject) -> BTreeMap<String, Record> {
    marks::annotation(&route.metadata, ORIGINAL_WEIGHTS)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn write_record(route: &DynamicObject, workload: &Workload, record: Option<Record>, draft: &mut PatchDraft) {
    let mut all = records(route);
    match record {
        Some(record) => all.insert(workload.name.clone(), record),
        None => all.remove(&workload.name),
    };
    let there = marks::annotation(&route.metadata, ORIGINAL_WEIGHTS).is_some();
    match (all.is_empty(), there) {
        (true, true) => draft.remove(&["metadata", "annotations", ORIGINAL_WEIGHTS]),
        (true, false) => (),
        (false, _) => draft.annotate(ORIGINAL_WEIGHTS, json!(all).to_string()),
    }
}

fn only_place(route: &DynamicObject, index: usize, refs: &[&Value], service: &str) -> Result<usize, Failure> {
    let mut places = refs.iter().enumerate().filter(|(_, backend)| is_service(route, backend, service));
    let route = route.metadata.name.as_deref().unwrap_or_default();
    match (places.next(), places.next()) {
        (Some((place, _)), None) => Ok(place),
        (None, _) => Err(Failure {
            kind: FailureKind::Conflict,
            message: format!("rule {index} of HTTPRoute {route} no longer names Service {service}"),
        }),
        (Some(_), Some(_)) => Err(Failure {
            kind: FailureKind::Refused,
            message: format!(
                "rule {index} of HTTPRoute {route} names Service {service} more than once, so its part can't be split; give it one backendRef"
            ),
        }),
    }
}

fn test_name(draft: &mut PatchDraft, rule: usize, place: usize, refs: &[&Value]) {
    draft.test(&backend_path(rule, place, "name").each_ref().map(String::as_str), json!(name(refs[place])));
}

fn backend_path(rule: usize, place: usize, field: &str) -> [String; 6] {
    ["spec".into(), "rules".into(), rule.to_string(), "backendRefs".into(), place.to_string(), field.into()]
}

fn canary_of(route: &DynamicObject, rule: &Value, workload: &Workload) -> Option<usize> {
    backends(rule).iter().position(|backend| is_service(route, backend, &workload.canary_name()))
}

/// A reference names a Service of its own namespace unless it says otherwise.
fn is_service(route: &DynamicObject, backend: &Value, service: &str) -> bool {
    let text = |key| backend.get(key).and_then(Value::as_str);
    text("name") == Some(service)
        && text("group").is_none_or(str::is_empty)
        && text("kind").is_none_or(|kind| kind == "Service")
        && text("namespace").is_none_or(|namespace| Some(namespace) == route.metadata.namespace.as_deref())
}

fn rules(route: &DynamicObject) -> &[Value] {
    list(&route.data, "/spec/rules")
}

fn backends(rule: &Value) -> Vec<&Value> {
    list(rule, "/backendRefs").iter().collect()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn name(backend: &Value) -> &str {
    backend.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn written_weight(backend: &Value) -> Option<u64> {
    backend.get("weight").and_then(Value::as_u64)
}

fn weight(backend: &Value) -> u64 {
    written_weight(backend).unwrap_or(DEFAULT_WEIGHT)
}

#[cfg(test)]
mod tests;
