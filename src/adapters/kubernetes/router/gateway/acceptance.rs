//! The gateways' answer about an HTTPRoute, from its `status.parents`.
//!
//! An entry of the status names a parent (a Gateway or one of its listeners) and the controller that wrote it. Entries
//! outlive the parents that the spec names, and a controller that does not own a Gateway may write one too. So the
//! parents of the spec decide, and of several controllers at one parent the one that has accepted the route.

use bellwether_core::input::status::Acceptance;
use kube::core::DynamicObject;
use serde_json::Value;

use super::list;

/// Returns the answer of the parents that the route names. A parent without a status is left out. References that can't
/// be resolved matter only if the message names the Service `canary`: other rules may have been broken before.
pub(super) fn of(route: &DynamicObject, canary: &str) -> Acceptance {
    let entries = list(&route.data, "/status/parents");
    list(&route.data, "/spec/parentRefs")
        .iter()
        .filter_map(|parent| {
            entries
                .iter()
                .filter(|entry| entry.get("parentRef").is_some_and(|named| is_same_parent(route, parent, named)))
                .map(|entry| answer(entry, route.metadata.generation, canary))
                .reduce(preferred)
        })
        .reduce(Acceptance::and)
        .unwrap_or(Acceptance::Unknown)
}

/// Returns the answer of the controller that owns the parent: the one that has accepted the route, otherwise the one
/// that has refused it.
fn preferred(one: Acceptance, other: Acceptance) -> Acceptance {
    match (&one, &other) {
        (_, Acceptance::Accepted) | (Acceptance::Unknown, Acceptance::Refused(_)) => other,
        _ => one,
    }
}

/// Returns the answer of one controller about this generation of the route.
fn answer(entry: &Value, generation: Option<i64>, canary: &str) -> Acceptance {
    let condition = |kind: &str| {
        let mut found = list(entry, "/conditions").iter().filter(|condition| text(condition, "type") == kind);
        let is_present = |condition: &&Value| condition.get("observedGeneration").and_then(Value::as_i64) == generation;
        found.find(is_present).unwrap_or(&Value::Null)
    };
    let (accepted, resolved) = (condition("Accepted"), condition("ResolvedRefs"));
    let message = text(resolved, "message");
    let is_ours = message.is_empty() || message.contains(canary);
    match (text(accepted, "status"), text(resolved, "status")) {
        ("False", _) => refused(accepted),
        ("True", "False") if is_ours => refused(resolved),
        ("True", "True" | "False") => Acceptance::Accepted,
        _ => Acceptance::Unknown,
    }
}

fn refused(condition: &Value) -> Acceptance {
    Acceptance::Refused(format!("{}: {}", text(condition, "reason"), text(condition, "message")))
}

/// Returns whether both references name the same parent. Group, kind and namespace default to those of a Gateway beside
/// the route.
fn is_same_parent(route: &DynamicObject, one: &Value, other: &Value) -> bool {
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let defaults =
        [("group", "gateway.networking.k8s.io"), ("kind", "Gateway"), ("namespace", namespace), ("sectionName", "")];
    let is_same = |key: &str, default: &str| field(one, key, default) == field(other, key, default);
    text(one, "name") == text(other, "name")
        && one.get("port") == other.get("port")
        && defaults.iter().all(|(key, default)| is_same(key, default))
}

fn field<'a>(value: &'a Value, key: &str, default: &'a str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or(default)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    field(value, key, "")
}

#[cfg(test)]
mod tests;
