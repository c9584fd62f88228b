//! The ReferenceGrants that let routes of other namespaces name Services of this one.

use kube::core::DynamicObject;
use serde_json::Value;

/// Returns the grant that admits the route to the Service `service` by its name, if none admits it to `canary` too.
pub(super) fn narrow(grants: &[DynamicObject], route: &DynamicObject, service: &str, canary: &str) -> Option<String> {
    let namespace = route.metadata.namespace.as_deref();
    let of_route: Vec<&DynamicObject> = grants
        .iter()
        .filter(|grant| {
            entries(grant, "from")
                .any(|from| text(from, "kind") == Some("HTTPRoute") && text(from, "namespace") == namespace)
        })
        .collect();
    if of_route.iter().any(|grant| admits(grant, canary)) {
        return None;
    }
    of_route.into_iter().find(|grant| admits(grant, service)).and_then(|grant| grant.metadata.name.clone())
}

fn admits(grant: &DynamicObject, service: &str) -> bool {
    entries(grant, "to")
        .any(|to| text(to, "kind") == Some("Service") && text(to, "name").is_none_or(|name| name == service))
}

fn entries<'a>(grant: &'a DynamicObject, list: &str) -> impl Iterator<Item = &'a Value> {
    grant.data.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}
