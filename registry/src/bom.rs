//! The bill of materials of a version, as CycloneDX 1.6 (ECMA-424), in the form for models (ML-BOM). It has what the manifest
//! states and nothing else, and is the same whenever it is made.
//!
//! The names of the fields are those of the schema: <https://cyclonedx.org/docs/1.6/json/>.

use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::manifest::{Manifest, ModelFile, Provenance};

/// Prefix of the names of our own properties.
const OWN: &str = "bellwether";

impl Manifest {
    /// Returns the bill of materials: the model with its files, origin, licence, data sets and measurements.
    pub fn bom(&self) -> Value {
        let framework = (!self.framework.is_empty()).then(|| {
            let mut framework = component("framework", &self.framework);
            framework.insert("bom-ref".to_owned(), json!("framework"));
            set(&mut framework, "version", &self.framework_version);
            Value::Object(framework)
        });
        let depends: Vec<&str> = framework.iter().map(|_| "framework").collect();
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": self.serial_number(),
            "version": 1,
            "metadata": {
                "timestamp": self.created_at.to_string(),
                "tools": { "components": [{
                    "type": "application", "name": "bellwether", "version": env!("CARGO_PKG_VERSION"),
                }] },
                "authors": [{ "name": self.created_by }],
                "component": self.bom_component(),
            },
            "components": framework.into_iter().collect::<Vec<_>>(),
            "dependencies": [{ "ref": "model", "dependsOn": depends }],
        })
    }

    /// Returns a UUID of version 8 (RFC 9562) that is derived from the version's name and files.
    fn serial_number(&self) -> String {
        let mut hex = Digest::of(format!("{} {} {}", self.name, self.version, self.checksum).as_bytes()).hex();
        hex.truncate(32);
        hex.replace_range(12..13, "8");
        hex.replace_range(16..17, "8");
        format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    fn bom_component(&self) -> Value {
        let full_name = self.name.to_string();
        let (group, name) = full_name.split_once('/').unwrap_or(("", &full_name));
        let mut model = component("machine-learning-model", name);
        model.insert("bom-ref".to_owned(), json!("model"));
        model.insert("version".to_owned(), json!(self.version));
        set(&mut model, "group", group);
        set(&mut model, "description", &self.description);
        if let [file] = &self.files[..] {
            model.insert("hashes".to_owned(), hashes(&file.checksum));
        }
        let Provenance { base, license, commit, .. } = &self.provenance;
        if !license.is_empty() {
            model.insert("licenses".to_owned(), json!([{ "expression": license }]));
        }
        if !self.tags.is_empty() {
            model.insert("tags".to_owned(), json!(self.tags));
        }
        let ancestors: Vec<Value> = base.iter().map(|base| ancestor(base)).collect();
        let commits: Vec<Value> =
            Some(commit).filter(|commit| !commit.is_empty()).map(|uid| json!({ "uid": uid })).into_iter().collect();
        model.insert("pedigree".to_owned(), json!({ "ancestors": ancestors, "commits": commits }));
        model.insert("modelCard".to_owned(), self.model_card());
        model.insert("components".to_owned(), self.files.iter().map(file).collect());
        let accepted = self.accepted.iter().map(|finding| property("accepted-risk", &finding.to_string()));
        let properties = [property("checksum", &self.checksum.to_string())].into_iter().chain(accepted);
        model.insert("properties".to_owned(), properties.collect());
        Value::Object(model)
    }

    fn model_card(&self) -> Value {
        let datasets = self.provenance.datasets.iter().map(|name| json!({ "type": "dataset", "name": name }));
        let metrics =
            self.performance_metrics.iter().map(|(name, value)| json!({ "type": name, "value": value.to_string() }));
        json!({
            "modelParameters": { "datasets": datasets.collect::<Vec<_>>() },
            "quantitativeAnalysis": { "performanceMetrics": metrics.collect::<Vec<_>>() },
        })
    }
}

fn component(kind: &str, name: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!(kind)), ("name".to_owned(), json!(name))])
}

/// Sets a field, unless the text is empty.
fn set(component: &mut Map<String, Value>, field: &str, text: &str) {
    if !text.is_empty() {
        component.insert(field.to_owned(), json!(text));
    }
}

fn hashes(digest: &Digest) -> Value {
    json!([{ "alg": "SHA-256", "content": digest.hex() }])
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": format!("{OWN}:{name}"), "value": value })
}

/// Returns a model that the version was made from, given as `NAME`, `NAME@VERSION` or a URL.
fn ancestor(base: &str) -> Value {
    let (name, version) = base.rsplit_once('@').filter(|_| !base.contains("://")).unwrap_or((base, ""));
    let mut ancestor = component("machine-learning-model", name);
    set(&mut ancestor, "version", version);
    Value::Object(ancestor)
}

fn file(ModelFile { path, size, checksum, .. }: &ModelFile) -> Value {
    let mut file = component("file", path.as_str());
    file.insert("hashes".to_owned(), hashes(checksum));
    file.insert("properties".to_owned(), json!([property("size", &size.to_string())]));
    Value::Object(file)
}
