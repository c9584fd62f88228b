//! Whose hand was on a field: read from `managedFields`, which the API server keeps for every writer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use super::marks::MANAGER;

/// The field managers of tools that put back what they own.
const GITOPS: [&str; 4] =
    ["argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller"];

/// The GitOps tool that owns a container's image, if one does. Who owns only the rest of the template does not undo a
/// promotion, which changes images alone.
pub fn gitops_owner(metadata: &ObjectMeta) -> Option<&str> {
    entries(metadata)
        .filter(|entry| entry.manager.as_deref().is_some_and(|manager| GITOPS.contains(&manager)))
        .find(|entry| entry.fields_v1.as_ref().is_some_and(|fields| owns_an_image(&fields.0)))
        .and_then(|entry| entry.manager.as_deref())
}

/// Whether Argo CD writes this object at all.
pub fn is_argo(metadata: &ObjectMeta) -> bool {
    entries(metadata).any(|entry| entry.manager.as_deref().is_some_and(|manager| manager.starts_with("argocd")))
}

/// Whoever wrote last at `path` (`["f:spec", "f:template"]`), ourselves left out; also by a subresource, as `kubectl scale`
/// and autoscalers do.
pub fn last_writer<'a>(metadata: &'a ObjectMeta, path: &[&str]) -> Option<&'a str> {
    entries(metadata)
        .filter(|entry| entry.manager.as_deref() != Some(MANAGER))
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| at(&fields.0, path).is_some()))
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .and_then(|entry| entry.manager.as_deref())
        // The API server's word for a client that did not say who it is.
        .filter(|manager| *manager != "unknown")
}

fn entries(metadata: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    metadata.managed_fields.iter().flatten()
}

fn at<'a>(fields: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(fields, |fields, key| fields.get(key))
}

fn owns_an_image(fields: &Value) -> bool {
    ["f:containers", "f:initContainers"].iter().any(|list| {
        at(fields, &["f:spec", "f:template", "f:spec", list])
            .and_then(Value::as_object)
            .is_some_and(|containers| containers.values().any(|container| container.get("f:image").is_some()))
    })
}

#[cfg(test)]
mod tests;
