//! The field managers of an object's fields, from `managedFields`, which the API server keeps for every writer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Value, json};

use super::marks::{self, MANAGER};

/// The field managers of tools that restore the fields that they own.
const GITOPS: [&str; 4] =
    ["argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller"];

/// Returns the GitOps tool that owns a container's image in the pod template at `template` (`["spec", "template"]`);
/// `None` if no tool does. A tool that owns only other fields of the template does not undo a promotion, which changes
/// images alone.
pub fn gitops_owner<'a>(metadata: &'a ObjectMeta, template: &[&str]) -> Option<&'a str> {
    entries(metadata)
        .filter(|entry| entry.manager.as_deref().is_some_and(|manager| GITOPS.contains(&manager)))
        .find(|entry| entry.fields_v1.as_ref().is_some_and(|fields| owns_an_image(&fields.0, template)))
        .and_then(|entry| entry.manager.as_deref())
}

/// The marks by which GitOps tools find their objects, each with the tool's field manager.
const TRACKED: [(&str, &str); 3] = [
    ("argocd.argoproj.io/tracking-id", "argocd-controller"),
    ("helm.toolkit.fluxcd.io/name", "helm-controller"),
    ("kustomize.toolkit.fluxcd.io/name", "kustomize-controller"),
];

/// Returns the GitOps tool that restores the field at `path`: it owns the field, or tracks the object. `None` if no tool
/// does.
pub fn gitops_keeper<'a>(metadata: &'a ObjectMeta, path: &[&str]) -> Option<&'a str> {
    let owner = entries(metadata)
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| at(&fields.0, path).is_some()))
        .filter_map(|entry| entry.manager.as_deref())
        .find(|manager| GITOPS.contains(manager));
    let is_marked = |key: &str| marks::label(metadata, key).is_some() || marks::annotation(metadata, key).is_some();
    owner.or_else(|| TRACKED.iter().find(|(mark, _)| is_marked(mark)).map(|(_, manager)| *manager))
}

/// Returns the object that controls this one, as kind and name; `None` if none does.
pub fn controller(metadata: &ObjectMeta) -> Option<String> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    Some(format!("{} {}", owner.kind, owner.name))
}

/// Removes all managed fields but those at `path`, so that an object that is kept in memory still has its
/// [`last_writer`].
pub fn keep_writers(metadata: &mut ObjectMeta, path: &[&str]) {
    let kept = path.iter().rev().fold(json!({}), |inner, key| json!({ format!("f:{key}"): inner }));
    let all = metadata.managed_fields.take().into_iter().flatten();
    let writers = all.filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| at(&fields.0, path).is_some()));
    metadata.managed_fields =
        Some(writers.map(|entry| ManagedFieldsEntry { fields_v1: Some(FieldsV1(kept.clone())), ..entry }).collect());
}

/// Returns whether Argo CD owns any field of the object.
pub fn is_argo(metadata: &ObjectMeta) -> bool {
    entries(metadata).any(|entry| entry.manager.as_deref().is_some_and(|manager| manager.starts_with("argocd")))
}

/// Returns the field manager that last wrote the field at `path` (`["spec", "template"]`), Bellwether excepted. Writes
/// through a subresource count, as by `kubectl scale` and autoscalers. `None` if there is none or its name is unknown.
pub fn last_writer<'a>(metadata: &'a ObjectMeta, path: &[&str]) -> Option<&'a str> {
    entries(metadata)
        .filter(|entry| entry.manager.as_deref() != Some(MANAGER))
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| at(&fields.0, path).is_some()))
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .and_then(|entry| entry.manager.as_deref())
        // The API server's name for a client without a field manager.
        .filter(|manager| *manager != "unknown")
}

fn entries(metadata: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    metadata.managed_fields.iter().flatten()
}

/// Returns the part of `fieldsV1` for the field at `path`; there the name of a field begins with `f:`.
fn at<'a>(fields: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(fields, |fields, key| fields.get(format!("f:{key}")))
}

fn owns_an_image(fields: &Value, template: &[&str]) -> bool {
    let Some(fields) = at(fields, template) else { return false };
    ["containers", "initContainers"].iter().any(|list| {
        at(fields, &["spec", list])
            .and_then(Value::as_object)
            .is_some_and(|containers| containers.values().any(|container| container.get("f:image").is_some()))
    })
}

#[cfg(test)]
mod tests;
