//! Pod templates: their hash, their images, and the replacement of images.
//!
//! Templates are kept as JSON and never as `k8s-openapi`'s types: those drop unknown fields, and a rollback has to
//! restore fields that are newer than this program.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bellwether_core::ids::{Images, TemplateHash, Workload, digest, runs};
use serde_json::Value;

use super::marks::PREFIX;

const LISTS: [&str; 2] = ["initContainers", "containers"];
const HASH_DIGITS: usize = 16;

/// Returns the template's hash: the first 16 digits of the SHA-256 of its JSON with sorted keys. The hash leaves out
/// `revision_label`, which a controller adds to its copies of the template; Bellwether's labels and annotations; and
/// nulls, which the API server writes or omits.
pub fn hash(template: &Value, revision_label: &str) -> TemplateHash {
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        for part in ["labels", "annotations"] {
            if let Some(entries) = metadata.get_mut(part).and_then(Value::as_object_mut) {
                entries.retain(|key, _| key != revision_label && !key.starts_with(PREFIX));
                if entries.is_empty() {
                    metadata.remove(part);
                }
            }
        }
    }
    let mut text = String::new();
    write_canonical(&template, &mut text);
    TemplateHash(digest(&[&text])[..HASH_DIGITS].to_owned())
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(entries) => {
            let entries: BTreeMap<&String, &Value> = entries.iter().filter(|(_, value)| !value.is_null()).collect();
            out.push('{');
            for (key, value) in entries {
                // Writing to a String can't fail.
                let _ = write!(out, "{}:", Value::from(key.as_str()));
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            let _ = write!(out, "{plain}");
        }
    }
}

/// Returns the image of every container and init container.
pub fn images(template: &Value) -> Images {
    containers(template)
        .filter_map(|(_, _, container)| {
            Some((container.get("name")?.as_str()?.to_owned(), container.get("image")?.as_str()?.to_owned()))
        })
        .collect()
}

/// Returns every container with the name of its list and its index there.
pub fn containers(template: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    LISTS.into_iter().flat_map(move |list| {
        let items = template.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array);
        items.into_iter().flatten().enumerate().map(move |(index, container)| (list, index, container))
    })
}

/// Returns the containers that do not run their image of `images`: the name of the list, the index there, and the new image.
pub fn changes<'a>(template: &Value, images: &'a Images) -> Vec<(&'static str, usize, &'a str)> {
    containers(template)
        .filter_map(|(list, index, container)| {
            let wanted = images.get(container.get("name")?.as_str()?)?;
            let is_there = container.get("image")?.as_str().is_some_and(|image| runs(image, wanted));
            (!is_there).then_some((list, index, wanted.as_str()))
        })
        .collect()
}

/// Returns the names in `images` that no container of the template has.
pub fn unknown(template: &Value, images: &Images) -> Vec<String> {
    let present = self::images(template);
    images.keys().filter(|name| !present.contains_key(*name)).cloned().collect()
}

/// Returns the template with the images of `images` in it.
pub fn with_images(template: &Value, images: &Images) -> Value {
    let mut changed = template.clone();
    for (list, index, image) in changes(template, images) {
        if let Some(place) =
            changed.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(|all| all.get_mut(index))
        {
            place["image"] = Value::from(image);
        }
    }
    changed
}

/// Returns the labels of the template's pods.
pub fn labels(template: &Value) -> BTreeMap<String, String> {
    template
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Returns the message for images of containers that don't exist.
pub fn no_such_container(workload: &Workload, unknown: &[String]) -> String {
    let Workload { namespace, kind, name, .. } = workload;
    format!("{kind} {namespace}/{name} has no container {}", unknown.join(", "))
}

#[cfg(test)]
mod tests;
