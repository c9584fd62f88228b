//! The objects that are read: documents of YAML or JSON, with the tool that each belongs to.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches some kinds and treats all others alike")]

use serde_json::Value;

use super::note::Field;

/// An object of another tool.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceObject {
    /// The file that it stands in.
    pub file: String,
    /// The object.
    pub value: Value,
}

/// The meaning of an object for the conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Argo Rollouts: a workload with its strategy.
    Rollout,
    /// Argo Rollouts: metrics with conditions, of a namespace or of the cluster.
    AnalysisTemplate,
    /// Flagger: an analysis beside a Deployment.
    Canary,
    /// Flagger: a query with parameters.
    MetricTemplate,
    /// Kayenta: a configuration of metrics and scores.
    CanaryConfig,
    /// Kubernetes: the images and replicas of a workload.
    Deployment,
    /// Any other object.
    Other,
}

impl SourceObject {
    /// Reads the objects of a file. Lists are taken apart.
    ///
    /// # Errors
    /// The text is neither YAML nor JSON.
    pub fn read(file: &str, text: &str) -> Result<Vec<SourceObject>, String> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
        let mut objects = Vec::new();
        for value in documents.into_iter().filter(|value| !value.is_null()) {
            match value {
                Value::Object(mut map) if map.get("items").is_some_and(Value::is_array) => {
                    if let Some(Value::Array(items)) = map.remove("items") {
                        objects.extend(items.into_iter().map(|value| SourceObject { file: file.to_owned(), value }));
                    }
                }
                Value::Array(items) => {
                    objects.extend(items.into_iter().map(|value| SourceObject { file: file.to_owned(), value }));
                }
                value => objects.push(SourceObject { file: file.to_owned(), value }),
            }
        }
        Ok(objects)
    }

    /// Returns the root of the object.
    pub fn root(&self) -> Field<'_> {
        Field::root(&self.value)
    }

    /// Returns the meaning of the object.
    pub fn kind(&self) -> SourceKind {
        let root = self.root();
        let group = root.at("apiVersion").text().and_then(|version| version.split('/').next()).unwrap_or_default();
        match (group, root.at("kind").text().unwrap_or_default()) {
            ("argoproj.io", "Rollout") => SourceKind::Rollout,
            ("argoproj.io", "AnalysisTemplate" | "ClusterAnalysisTemplate") => SourceKind::AnalysisTemplate,
            ("flagger.app", "Canary") => SourceKind::Canary,
            ("flagger.app", "MetricTemplate") => SourceKind::MetricTemplate,
            ("apps", "Deployment") => SourceKind::Deployment,
            ("", "") if root.at("metrics").value.is_array() && !root.at("classifier").is_absent() => {
                SourceKind::CanaryConfig
            }
            _ => SourceKind::Other,
        }
    }

    /// Returns the object's name; empty if it has none.
    pub fn name(&self) -> &str {
        let root = self.root();
        root.below(&["metadata", "name"]).text().or(root.at("name").text()).unwrap_or_default()
    }

    /// Returns the namespace; `None` if the object names none.
    pub fn namespace(&self) -> Option<&str> {
        self.root().below(&["metadata", "namespace"]).text()
    }

    /// Returns kind and name for people, such as `Rollout shop/checkout`.
    pub fn title(&self) -> String {
        let kind = match self.kind() {
            SourceKind::CanaryConfig => "canary configuration",
            _ => self.root().at("kind").text().unwrap_or("object"),
        };
        match self.namespace() {
            Some(namespace) => format!("{kind} {namespace}/{}", self.name()),
            None => format!("{kind} {}", self.name()).trim_end().to_owned(),
        }
    }

    /// Returns the repositories of the images of a pod template below `keys`.
    pub fn images(&self, keys: &[&str]) -> impl Iterator<Item = String> {
        let containers = self.root().below(keys).below(&["spec", "containers"]).list();
        let images = containers.into_iter().filter_map(|container| container.at("image").text());
        // A template of Helm has no repository yet.
        let images = images.filter(|image| !image.contains("{{"));
        images.map(|image| bellwether_core::ids::repository(image).to_owned()).collect::<Vec<_>>().into_iter()
    }

    /// Returns the number of pods that the object asks for.
    pub fn replicas(&self) -> Option<u32> {
        let replicas = self.root().below(&["spec", "replicas"]).value.as_u64()?;
        u32::try_from(replicas).ok()
    }
}

/// Returns a text that is a valid name of a metric or a check: lower case, digits and hyphens.
pub fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: String = text.chars().map(plain).collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "unnamed".to_owned() } else { words.join("-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web, namespace: shop}\n---\n\
                    kind: List\nitems:\n- {apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: api}}\n---\n";
        let objects = SourceObject::read("all.yaml", text).unwrap();
        let seen: Vec<(SourceKind, String)> = objects.iter().map(|object| (object.kind(), object.title())).collect();
        assert_eq!(
            seen,
            [(SourceKind::Rollout, "Rollout shop/web".to_owned()), (SourceKind::Canary, "Canary api".to_owned())]
        );
        let kayenta = SourceObject::read("a.json", r#"{"name": "a", "metrics": [], "classifier": {}}"#).unwrap();
        assert_eq!(kayenta[0].kind(), SourceKind::CanaryConfig);
        assert!(SourceObject::read("a.yaml", "a: [").is_err());
    }

    #[test]
    fn a_name_becomes_one_of_the_configuration() {
        assert_eq!(slug("Error Rate (5xx)"), "error-rate-5xx");
        assert_eq!((slug("success-rate").as_str(), slug("§").as_str()), ("success-rate", "unnamed"));
    }
}
