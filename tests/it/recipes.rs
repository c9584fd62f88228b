//! Checks of the recipes, as users copy them: each TOML block is a valid configuration, and each YAML block a Kubernetes
//! manifest.

use std::path::{Path, PathBuf};

use bellwether::config;
use bellwether_tools::smoke;
use serde_json::Value;

/// Returns the fenced blocks of a page, each with its language and its text.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                open = true;
                blocks.push((language.trim().to_owned(), String::new()));
            }
            None if open => {
                let (_, text) = blocks.last_mut().unwrap();
                *text += line;
                *text += "\n";
            }
            None => {}
        }
    }
    assert!(!open, "a block is not closed");
    blocks
}

/// Returns the path and the fenced blocks of each recipe.
fn recipes() -> Vec<(PathBuf, Vec<(String, String)>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4);
    paths.into_iter().map(|path| (path.clone(), blocks(&std::fs::read_to_string(path).unwrap()))).collect()
}

#[test]
fn every_configuration_in_the_recipes_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("recipe.toml");
    for (path, blocks) in recipes() {
        let mut policies = 0;
        for (language, text) in blocks.iter().filter(|(language, _)| language.starts_with("toml")) {
            std::fs::write(&file, text).unwrap();
            if language == "toml smoke" {
                smoke::read(&file, None).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                continue;
            }
            let sources = config::Sources { files: vec![file.clone()], ..config::Sources::default() };
            let config = config::load(&sources).unwrap_or_else(|report| panic!("{}: {report}", path.display()));
            policies += config.policies.len();
        }
        assert!(policies > 0, "{} has no policy", path.display());
    }
}

#[test]
fn every_yaml_block_in_the_recipes_is_a_manifest() {
    for (path, blocks) in recipes() {
        for (_, text) in blocks.iter().filter(|(language, _)| language == "yaml") {
            for document in text.split("\n---\n") {
                let value: Value =
                    serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                for key in ["apiVersion", "kind"] {
                    assert!(value[key].is_string(), "{}: {value}", path.display());
                }
                assert!(value["metadata"]["namespace"].is_string(), "{}: {value}", path.display());
                if value["kind"] == "Deployment" {
                    let spec = serde_json::from_value::<k8s_openapi::api::apps::v1::Deployment>(value).unwrap().spec;
                    assert!(spec.is_some(), "{}", path.display());
                }
            }
        }
    }
}

#[test]
fn the_example_of_a_smoke_test_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/smoke.toml");
    let plan = smoke::read(&path, None).unwrap();
    assert_eq!(plan.requests.len(), 4);
}
