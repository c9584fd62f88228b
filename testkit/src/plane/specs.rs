//! Manifests of a story's objects, and comparison of the objects before and after.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::pods::PORT;

/// The header of an event in structured mode.
pub const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");

/// The source of the events that [`request`] makes.
pub const REQUEST_SOURCE: &str = "/ci";

/// The specs of a user's objects in the API, by `Kind/name`.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectSpecs(pub BTreeMap<String, Value>);

impl ObjectSpecs {
    /// Returns the same specs with another image in one container, which is the change that a promotion makes.
    pub fn with_image(mut self, deployment: &str, container: &str, image: &str) -> Self {
        let spec = self.0.get_mut(&format!("Deployment/{deployment}"));
        let containers =
            spec.and_then(|spec| spec.pointer_mut("/template/spec/containers")).and_then(Value::as_array_mut);
        for found in containers.into_iter().flatten().filter(|found| found["name"] == container) {
            found["image"] = image.into();
        }
        self
    }

    /// Compares these specs with those of a later time.
    ///
    /// # Errors
    /// They differ. The error names each difference.
    pub fn ensure_same(&self, now: &Self) -> Result<()> {
        let mut differences = String::new();
        for name in self.0.keys().chain(now.0.keys().filter(|name| !self.0.contains_key(*name))) {
            match (self.0.get(name), now.0.get(name)) {
                (Some(_), None) => writeln!(differences, "{name} was deleted")?,
                (None, _) => writeln!(differences, "{name} is new")?,
                (Some(before), Some(now)) if before != now => {
                    writeln!(differences, "{name} was changed: {}", json_patch::diff(before, now))?;
                }
                _ => {}
            }
        }
        ensure!(differences.is_empty(), "the user's objects are not as expected:\n{differences}");
        Ok(())
    }
}

/// Returns a request for a rollout with this content, as a CloudEvent in structured mode.
pub fn request(id: &str, content: &Value, at: Timestamp) -> Vec<u8> {
    event("requested", REQUEST_SOURCE, id, content, at)
}

/// Returns an event of one of Bellwether's own types: `requested`, or a verb such as `approve`. It is a CloudEvent in
/// structured mode.
pub fn event(predicate: &str, source: &str, id: &str, content: &Value, at: Timestamp) -> Vec<u8> {
    let ty = format!("dev.cdeventsx.bellwether-rollout.{predicate}.0.1.0");
    let context = json!({"specversion": "0.5.1", "id": id, "source": source, "type": ty, "timestamp": at});
    let data = json!({"context": context, "subject": {"id": id, "source": source, "content": content}});
    let event = json!({
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": ty,
        "datacontenttype": "application/json",
        "data": data,
    });
    event.to_string().into_bytes()
}

/// Returns a Deployment as in a user's chart, with the port and the resource requests that a canary has to copy.
/// `containers` are names and images.
///
/// # Errors
/// The tag of an image is invalid: see [`Behaviour::of`].
pub fn deployment(name: &str, replicas: u32, containers: &[(&str, &str)]) -> Result<Value> {
    let mut list = Vec::new();
    for (index, (container, image)) in containers.iter().enumerate() {
        Behaviour::of(image)?;
        let mut fields = json!({
            "name": container,
            "image": image,
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        });
        if index == 0 {
            fields["ports"] = json!([{"name": "http", "containerPort": PORT}]);
        }
        list.push(fields);
    }
    Ok(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": list},
            },
        },
    }))
}
