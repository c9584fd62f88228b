//! The bill of materials: the fields that the schema of CycloneDX 1.6 requires, and the facts of the manifest.

use std::sync::Arc;

use bellwether_registry::Registry;
use object_store::memory::InMemory;
use serde_json::{Value, json};

use crate::suite::{draft, register, write_model};

/// Checks each component below `value` for the required fields, and returns the number of components.
fn check_components(value: &Value) -> usize {
    let types = ["application", "framework", "machine-learning-model", "file", "data"];
    let components = value["components"].as_array().into_iter().flatten();
    let ancestors = value["pedigree"]["ancestors"].as_array().into_iter().flatten();
    components
        .chain(ancestors)
        .map(|component| {
            assert!(types.contains(&component["type"].as_str().unwrap()), "{component}");
            assert!(!component["name"].as_str().unwrap().is_empty(), "{component}");
            for hash in component["hashes"].as_array().into_iter().flatten() {
                assert_eq!((hash["alg"].as_str(), hash["content"].as_str().unwrap().len()), (Some("SHA-256"), 64));
            }
            1 + check_components(component)
        })
        .sum()
}

#[tokio::test]
async fn a_bill_of_materials_has_the_required_fields_and_the_facts_of_the_manifest() {
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("config.txt", 17), ("weights.txt", 1234)]);
    let manifest = register(&registry, draft("org/Model-7B", "1.0.0"), &paths).await.unwrap();
    let bom = manifest.bom();
    assert_eq!(
        (&bom["bomFormat"], &bom["specVersion"], &bom["version"]),
        (&json!("CycloneDX"), &json!("1.6"), &json!(1))
    );
    let serial = bom["serialNumber"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    let groups: Vec<usize> = serial.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12]);
    assert!(serial.chars().all(|c| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c)), "{serial}");
    let model = &bom["metadata"]["component"];
    assert_eq!(model["type"], "machine-learning-model");
    assert_eq!(
        (&model["group"], &model["name"], &model["version"]),
        (&json!("org"), &json!("Model-7B"), &json!("1.0.0"))
    );
    assert_eq!(model["licenses"], json!([{ "expression": "Apache-2.0" }]));
    assert_eq!(model["pedigree"]["commits"], json!([{ "uid": "076b0e7" }]));
    let ancestor = json!([{ "type": "machine-learning-model", "name": "org/Base-7B", "version": "1.0.0" }]);
    assert_eq!(model["pedigree"]["ancestors"], ancestor);
    let card = &model["modelCard"];
    assert_eq!(card["modelParameters"]["datasets"], json!([{ "type": "dataset", "name": "org/texts" }]));
    let metrics = json!([{ "type": "rouge-l", "value": "0.30000000000000004" }]);
    assert_eq!(card["quantitativeAnalysis"]["performanceMetrics"], metrics);
    assert_eq!(check_components(model), 3, "two files and the model that it was made from");
    assert_eq!(check_components(&bom) + check_components(&bom["metadata"]["tools"]), 2, "the framework and the tool");
    assert_eq!(model["components"][1]["hashes"][0]["content"], json!(manifest.files[1].checksum.hex()));
    assert_eq!(manifest.bom(), bom, "it is the same whenever it is made");
}
