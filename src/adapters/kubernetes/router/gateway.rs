//! The router of the Gateway API: weights in the rules of HTTPRoutes.
//!
//! Three facts about the Gateway API determine the arithmetic:
//! - A weight is a proportion of its rule's sum and not a percentage. So the weights of other backends are multiplied,
//!   and only the stable's part is split.
//! - Some gateways send everything to a single backend even at weight 0. So a rule is never left with one backend at 0.
//! - `backendRefs` is one value to server-side apply. So a route is changed by JSON Patch at an index whose name is
//!   tested first.

use std::collections::BTreeSet;

use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::input::status::{Acceptance, PreflightIssue, RouteStatus};
use bellwether_core::policy::{Cohort, RouteName, RouterKind, Traffic};
use json_patch::Patch;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{RouteMark, TrafficRouter, record};
use crate::adapters::kubernetes::api_kind::ApiKind;
use crate::adapters::kubernetes::failure;
use crate::adapters::kubernetes::kind::FieldPath;
use crate::adapters::kubernetes::marks::CANARY;
use crate::adapters::kubernetes::owners;
use crate::adapters::kubernetes::patch::PatchDraft;

mod acceptance;
mod cohort;

const HTTP_ROUTE: ApiKind =
    ApiKind { group: "gateway.networking.k8s.io", version: "v1", kind: "HTTPRoute", plural: "httproutes" };
/// The highest weight in the Gateway API.
const MAX_WEIGHT: u64 = 1_000_000;
/// The weight of a backend without a `weight`.
const DEFAULT_WEIGHT: u64 = 1;

/// The provider of HTTPRoutes.
#[derive(Debug)]
pub struct GatewayRouter;

/// The record of one workload in a route's annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HttpRouteRecord {
    /// The stable's Service.
    service: String,
    /// The id of the last effect that changed the route.
    effect: String,
    /// The epoch of the process that performed it.
    epoch: u64,
    /// The rules that the canary joined.
    rules: Vec<RuleRecord>,
    /// The requests that the canary gets; `None`: a share of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cohort: Option<Cohort>,
}

/// A rule before the canary joined it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RuleRecord {
    /// The rule's index, counted from 0.
    rule: usize,
    /// The backends in their order: name and weight (`None`: it had none).
    backends: Vec<(String, Option<u64>)>,
}

impl TrafficRouter for GatewayRouter {
    fn kind(&self) -> RouterKind {
        RouterKind::Gateway
    }

    fn resource(&self) -> Option<&'static ApiKind> {
        Some(&HTTP_ROUTE)
    }

    /// A rule in which the Service has weight 0 sends it nothing, except where the canary has all of the stable's part.
    fn rules(
        &self,
        route: &DynamicObject,
        workload: &Workload,
        service: &str,
        named: Option<&RouteName>,
    ) -> Vec<usize> {
        if named.is_some_and(|named| named.name != super::name(route)) {
            return Vec::new();
        }
        rules(route)
            .iter()
            .enumerate()
            .filter(|(index, _)| named.and_then(|named| named.rule).is_none_or(|rule| rule == *index))
            .filter(|(_, rule)| {
                let has_canary = canary_place(route, rule, workload).is_some();
                backends(rule)
                    .iter()
                    .any(|backend| is_service(route, backend, service) && (has_canary || weight(backend) > 0))
            })
            .map(|(index, _)| index)
            .collect()
    }

    fn port(&self, route: &DynamicObject, service: &str) -> Option<u16> {
        rules(route)
            .iter()
            .flat_map(backends)
            .find(|backend| is_service(route, backend, service))
            .and_then(|backend| u16::try_from(backend.get("port")?.as_u64()?).ok())
    }

    fn epoch(&self, route: &DynamicObject, workload: &Workload) -> Option<u64> {
        read_record(route, workload).map(|record| record.epoch)
    }

    fn join(
        &self,
        route: &DynamicObject,
        workload: &Workload,
        service: &str,
        traffic: &Traffic,
        mark: &RouteMark,
    ) -> Result<Option<Patch>, Failure> {
        let cohort = traffic.cohort.as_ref();
        let mut draft = PatchDraft::of(&route.metadata);
        let record = read_record(route, workload);
        if cohort.is_some() && record.as_ref().is_some_and(|record| record.cohort.as_ref() == cohort) {
            return Ok(None);
        }
        let mut records = record.map(|record| record.rules).unwrap_or_default();
        // A rule without the canary was rewritten by another client since, so its record no longer describes it.
        records.retain(|record| {
            rules(route).get(record.rule).is_some_and(|rule| canary_place(route, rule, workload).is_some())
        });
        let mut joined = false;
        for index in self.rules(route, workload, service, traffic.route.as_ref()) {
            let Some(rule) = rules(route).get(index) else { continue };
            if canary_place(route, rule, workload).is_some() {
                continue;
            }
            let refs = backends(rule);
            let stable = only_place(route, index, &refs, service)?;
            test_name(&mut draft, index, stable, &refs);
            // A cohort gets rules of its own once it has traffic.
            if cohort.is_none() {
                let mut canary = refs[stable].clone();
                canary["name"] = json!(workload.canary_name());
                canary["weight"] = json!(0);
                draft.add(&["spec", "rules", &index.to_string(), "backendRefs", "-"], canary);
            }
            records.push(RuleRecord {
                rule: index,
                backends: refs.iter().map(|backend| (name(backend).to_owned(), written_weight(backend))).collect(),
            });
            joined = true;
        }
        if !joined {
            return Ok(None);
        }
        let record = HttpRouteRecord {
            service: service.to_owned(),
            effect: mark.effect.clone(),
            epoch: mark.epoch.0,
            rules: records,
            cohort: cohort.cloned(),
        };
        record::write(route, workload, Some(record), &mut draft);
        Ok(draft.finish())
    }

    fn set_weight(
        &self,
        route: &DynamicObject,
        workload: &Workload,
        share: Weight,
        mark: &RouteMark,
    ) -> Result<Option<Patch>, Failure> {
        let mut draft = PatchDraft::of(&route.metadata);
        let record = read_record(route, workload);
        if let Some(record) = record.as_ref().filter(|record| record.cohort.is_some()) {
            return cohort::set(route, workload, record, share, mark);
        }
        let service = stable_service(record.as_ref(), workload);
        let mut held = 0;
        let mut changed = false;
        for (index, rule) in rules(route).iter().enumerate() {
            let Some(canary) = canary_place(route, rule, workload) else { continue };
            held += 1;
            let refs = backends(rule);
            let stable = only_place(route, index, &refs, service)?;
            let originals: Vec<u64> = originals(route, workload, index, rule, record.as_ref())
                .into_iter()
                .map(|weight| weight.unwrap_or(DEFAULT_WEIGHT).min(MAX_WEIGHT))
                .collect();
            let wanted = split(&originals, stable, canary, share);
            for (place, (backend, wanted)) in refs.iter().zip(wanted).enumerate() {
                if weight(backend) != wanted {
                    test_name(&mut draft, index, place, &refs);
                    draft.add(&backend_path(index, place, "weight"), json!(wanted));
                    changed = true;
                }
            }
        }
        let lost = record.as_ref().is_some_and(|record| record.rules.len() > held);
        if share > Weight::ZERO && (held == 0 || lost) {
            return Err(failure::new(
                FailureKind::Conflict,
                format!(
                    "Service {} was removed from HTTPRoute {}{}",
                    workload.canary_name(),
                    super::name(route),
                    self.last_writer(route)
                        .map(|manager| format!("; its rules were last written by {manager}"))
                        .unwrap_or_default()
                ),
            ));
        }
        if !changed {
            return Ok(None);
        }
        if let Some(record) = record {
            let record = HttpRouteRecord { effect: mark.effect.clone(), epoch: mark.epoch.0, ..record };
            record::write(route, workload, Some(record), &mut draft);
        }
        Ok(draft.finish())
    }

    fn leave(&self, route: &DynamicObject, workload: &Workload) -> Option<Patch> {
        let mut draft = PatchDraft::of(&route.metadata);
        let record = read_record(route, workload);
        if record.as_ref().is_some_and(|record| record.cohort.is_some()) {
            return cohort::leave(route, workload);
        }
        for (index, rule) in rules(route).iter().enumerate() {
            let Some(canary) = canary_place(route, rule, workload) else { continue };
            let refs = backends(rule);
            let originals = originals(route, workload, index, rule, record.as_ref());
            if refs.len() == 1 {
                // Another client removed the stable's reference. Without a backend the rule would answer 500 to
                // everything.
                let service = stable_service(record.as_ref(), workload);
                test_name(&mut draft, index, canary, &refs);
                draft.replace(&backend_path(index, canary, "name"), json!(service));
                draft.add(&backend_path(index, canary, "weight"), json!(DEFAULT_WEIGHT));
                continue;
            }
            for (place, (backend, original)) in refs.iter().zip(originals).enumerate() {
                if place == canary || written_weight(backend) == original {
                    continue;
                }
                test_name(&mut draft, index, place, &refs);
                let path = backend_path(index, place, "weight");
                match original {
                    Some(original) => draft.add(&path, json!(original)),
                    None => draft.remove(&path),
                }
            }
            test_name(&mut draft, index, canary, &refs);
            draft.remove(&["spec", "rules", &index.to_string(), "backendRefs", &canary.to_string()]);
        }
        record::write(route, workload, None::<HttpRouteRecord>, &mut draft);
        draft.finish()
    }

    fn observe(&self, route: &DynamicObject, workload: &Workload) -> Option<RouteStatus> {
        let record = read_record(route, workload);
        if let Some(record) = record.as_ref().filter(|record| record.cohort.is_some()) {
            return Some(RouteStatus {
                weight: cohort::share(route, workload, record),
                accepted: acceptance::of(route, &workload.canary_name()),
            });
        }
        let service = record.as_ref().map(|record| record.service.as_str());
        let shares: Vec<Weight> = rules(route)
            .iter()
            .filter_map(|rule| {
                let canary = canary_place(route, rule, workload)?;
                let refs = backends(rule);
                let stable: u64 = refs
                    .iter()
                    .filter(|backend| service.is_some_and(|service| is_service(route, backend, service)))
                    .map(|backend| weight(backend))
                    .sum();
                Some(share(weight(refs[canary]), stable))
            })
            .collect();
        // A rule that the canary joined and that has it no more gives it no traffic.
        let lost = record.as_ref().is_some_and(|record| record.rules.len() > shares.len());
        let lowest = shares.into_iter().min()?;
        Some(RouteStatus {
            weight: if lost { Weight::ZERO } else { lowest },
            accepted: acceptance::of(route, &workload.canary_name()),
        })
    }

    fn workloads(&self, route: &DynamicObject) -> BTreeSet<String> {
        let backends = rules(route).iter().flat_map(backends);
        let canaries = backends.filter_map(|backend| name(backend).strip_suffix(CANARY)?.strip_suffix('-'));
        canaries.map(str::to_owned).chain(super::recorded(route)).collect()
    }

    fn rules_path(&self) -> FieldPath {
        &["spec", "rules"]
    }

    fn issues(
        &self,
        routes: &[DynamicObject],
        workload: &Workload,
        service: &str,
        traffic: &Traffic,
    ) -> Vec<PreflightIssue> {
        let mut found = Vec::new();
        for route in routes {
            let split = self.rules(route, workload, service, traffic.route.as_ref());
            if split.is_empty() {
                continue;
            }
            if traffic.cohort.is_some() {
                found.extend(cohort::too_many(route, workload, &split));
            }
            let route_name = super::name(route).to_owned();
            match acceptance::of(route, &workload.canary_name()) {
                Acceptance::Accepted => {}
                Acceptance::Refused(message) => {
                    found.push(PreflightIssue::RouteNotAccepted { route: route_name, refusal: Some(message) });
                }
                Acceptance::Unknown => {
                    found.push(PreflightIssue::RouteNotAccepted { route: route_name, refusal: None })
                }
            }
            found.extend(owners::gitops_keeper(&route.metadata, self.rules_path()).map(|manager| {
                PreflightIssue::RouteOwnedByGitOps { route: super::name(route).to_owned(), manager: manager.to_owned() }
            }));
        }
        found
    }

    fn reaches(&self, route: &DynamicObject, workload: &Workload, service: &str) -> bool {
        let is_meant = |backend: &Value| {
            is_a_service(backend, service)
                && backend.get("namespace").and_then(Value::as_str) == Some(&workload.namespace)
        };
        rules(route).iter().flat_map(backends).any(is_meant)
    }
}

fn read_record(route: &DynamicObject, workload: &Workload) -> Option<HttpRouteRecord> {
    record::read(route, workload)
}

/// Returns the stable's Service by the record. Without a record (another client removed the annotation) it is assumed
/// to have the workload's name.
fn stable_service<'a>(record: Option<&'a HttpRouteRecord>, workload: &'a Workload) -> &'a str {
    record.map_or(workload.name.as_str(), |record| record.service.as_str())
}

/// Returns `canary / (canary + stable)`, rounded to the nearest hundredth of a percent. Only a canary without weight
/// has share 0, and only a stable without weight leaves it everything.
fn share(canary: u64, stable: u64) -> Weight {
    let sum = canary + stable;
    let points = match (canary, stable) {
        (0, _) => 0,
        (_, 0) => 10_000,
        _ => ((canary * 20_000 + sum) / (sum * 2)).clamp(1, 9_999),
    };
    Weight::basis_points(u16::try_from(points).unwrap_or(10_000))
}

/// Returns the weights of a rule in which the canary has `share` of the stable's original part and the other backends
/// keep their proportions. Whole percents multiply by 100, so that the weights are readable.
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

/// Scales weights above the API's maximum down, rounded. A canary with a share keeps at least weight 1.
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

/// Returns the weights that the rule's backends had before the canary joined, in their present order; the canary has 0.
/// If the record does not describe the rule (another client has written it since), the stable has the sum of its own
/// and the canary's present weight.
fn originals(
    route: &DynamicObject,
    workload: &Workload,
    index: usize,
    rule: &Value,
    record: Option<&HttpRouteRecord>,
) -> Vec<Option<u64>> {
    let refs = backends(rule);
    let canary = canary_place(route, rule, workload);
    let others =
        || refs.iter().enumerate().filter(|(place, _)| Some(*place) != canary).map(|(_, backend)| name(backend));
    let fits = |record: &&RuleRecord| record.backends.iter().map(|(name, _)| name.as_str()).eq(others());
    let known = record.and_then(|record| {
        let at = record.rules.iter().find(|record| record.rule == index).filter(fits);
        at.or_else(|| record.rules.iter().find(fits))
    });
    let canary_weight = canary.map_or(0, |place| weight(refs[place]));
    let mut known = known.map(|known| known.backends.iter().map(|(_, weight)| *weight));
    refs.iter()
        .enumerate()
        .map(|(place, backend)| match &mut known {
            _ if Some(place) == canary => Some(0),
            Some(known) => known.next().flatten(),
            None if name(backend) == stable_service(record, workload) => Some(weight(backend) + canary_weight),
            None => Some(weight(backend)),
        })
        .collect()
}

/// Returns the place of the only reference to the Service among the rule's backends.
fn only_place(route: &DynamicObject, index: usize, refs: &[&Value], service: &str) -> Result<usize, Failure> {
    let mut places = refs.iter().enumerate().filter(|(_, backend)| is_service(route, backend, service));
    let route = super::name(route);
    match (places.next(), places.next()) {
        (Some((place, _)), None) => Ok(place),
        (None, _) => Err(failure::new(
            FailureKind::Conflict,
            format!("rule {index} of HTTPRoute {route} no longer names Service {service}"),
        )),
        (Some(_), Some(_)) => Err(failure::new(
            FailureKind::Refused,
            format!(
                "rule {index} of HTTPRoute {route} names Service {service} more than once, so its part can't be split; give it one backendRef"
            ),
        )),
    }
}

fn test_name(draft: &mut PatchDraft, rule: usize, place: usize, refs: &[&Value]) {
    draft.test(&backend_path(rule, place, "name"), json!(name(refs[place])));
}

fn backend_path(rule: usize, place: usize, field: &str) -> [String; 6] {
    ["spec".into(), "rules".into(), rule.to_string(), "backendRefs".into(), place.to_string(), field.into()]
}

fn canary_place(route: &DynamicObject, rule: &Value, workload: &Workload) -> Option<usize> {
    backends(rule).iter().position(|backend| is_service(route, backend, &workload.canary_name()))
}

/// Returns whether the reference names this Service of the route's namespace. Group, kind and namespace default to
/// those of such a Service.
fn is_service(route: &DynamicObject, backend: &Value, service: &str) -> bool {
    let namespace = backend.get("namespace").and_then(Value::as_str);
    is_a_service(backend, service)
        && namespace.is_none_or(|namespace| Some(namespace) == route.metadata.namespace.as_deref())
}

/// Returns whether the reference names a Service of this name, in any namespace.
fn is_a_service(backend: &Value, service: &str) -> bool {
    let text = |key| backend.get(key).and_then(Value::as_str);
    text("name") == Some(service)
        && text("group").is_none_or(str::is_empty)
        && text("kind").is_none_or(|kind| kind == "Service")
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
