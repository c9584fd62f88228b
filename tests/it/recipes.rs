//! The recipes are copied by people who trust them: each block of TOML in them goes through our own `check`, and each block
//! of YAML is a manifest.

use std::path::{Path, PathBuf};

use bellwether::config;
use bellwether_tools::smoke;
use serde_json::Value;

/// The fenced blocks of a page: what they are said to be, and what is in them.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(what) => {
                open = true;
                blocks.push((what.trim().to_owned(), String::new()));
            }
            None if open => {
                let (_, inside) = blocks.last_mut().unwrap();
                *inside += line;
                *inside += "\n";
            }
            None => {}
        }
    }
    assert!(!open, "a block is not closed");
    blocks
}

fn recipes() -> Vec<(PathBuf, Vec<(String, String)>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4);
    paths.into_iter().map(|path| (path.clone(), blocks(&std::fs::read_to_string(path).unwrap()))).collect()
}

#[test]
fn every_policy_of_the_recipes_is_good() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("recipe.toml");
    for (path, blocks) in recipes() {
        let mut policies = 0;
        for (what, text) in blocks.iter().filter(|(what, _)| what.starts_with("toml")) {
            std::fs::write(&file, text).unwrap();
            if what == "toml smoke" {
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
fn every_manifest_of_the_recipes_is_one() {
    for (path, blocks) in recipes() {
        for (_, text) in blocks.iter().filter(|(what, _)| what == "yaml") {
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
fn the_smoke_test_to_start_from_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/smoke.toml");
    let plan = smoke::read(&path, None).unwrap();
    assert_eq!(plan.requests.len(), 4);
}
