//! Checks of the blocks in the documents, as users copy them: each TOML block is a valid configuration, and each YAML block a
//! Kubernetes manifest whose fields exist. A block that is marked as a part (`toml part`, `yaml part`) is read as TOML or YAML alone. The
//! fields, names and bucket edges of other projects are data with their source ([`facts`]).

mod facts;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bellwether::config;
use bellwether_core::ids::is_same_repository;
use bellwether_core::time::Span;
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

/// Returns the path and the fenced blocks of each document.
fn documents() -> Vec<(PathBuf, Vec<(String, String)>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = crate::site::pages_of("docs").into_iter().chain([PathBuf::from("README.md")]);
    pages.map(|page| (page.clone(), blocks(&std::fs::read_to_string(root.join(page)).unwrap()))).collect()
}

/// Returns the path and the fenced blocks of each recipe.
fn recipes() -> Vec<(PathBuf, Vec<(String, String)>)> {
    let recipes: Vec<_> =
        documents().into_iter().filter(|(page, _)| page.parent().unwrap().ends_with("recipes")).collect();
    assert!(recipes.len() >= 10);
    recipes
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bellwether.toml");
    let (mut configurations, mut policies) = (0, 0);
    for (page, blocks) in documents() {
        for (language, text) in blocks.iter().filter(|(language, _)| language.starts_with("toml")) {
            std::fs::write(&file, text).unwrap();
            match language.as_str() {
                "toml part" => {
                    toml::from_str::<toml::Table>(text).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
                }
                "toml smoke" => {
                    smoke::read(&file, None).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
                }
                "toml" => {
                    let sources = config::Sources { files: vec![file.clone()], ..config::Sources::default() };
                    let config = config::load(&sources).unwrap_or_else(|report| panic!("{}: {report}", page.display()));
                    configurations += 1;
                    policies += config.policies.len();
                }
                other => panic!("{}: a block is marked {other:?}", page.display()),
            }
        }
    }
    assert!(configurations >= 15 && policies >= 15, "only {configurations} configurations, {policies} policies");
}

#[test]
fn every_recipe_has_a_configuration() {
    for (page, blocks) in recipes() {
        assert!(blocks.iter().any(|(language, _)| language == "toml"), "{} has no configuration", page.display());
    }
}

#[test]
fn every_yaml_block_in_the_documents_is_a_manifest() {
    let mut manifests = 0;
    for (page, blocks) in documents() {
        for (language, text) in blocks.iter().filter(|(language, _)| language.starts_with("yaml")) {
            for document in text.split("\n---\n") {
                let value: Value =
                    serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
                if language == "yaml part" {
                    assert!(value.is_object() || value.is_array(), "{}: {value}", page.display());
                    continue;
                }
                assert_eq!(language, "yaml", "{}", page.display());
                manifests += 1;
                for key in ["apiVersion", "kind"] {
                    assert!(value[key].is_string(), "{}: {value}", page.display());
                }
                assert!(value["metadata"]["namespace"].is_string(), "{}: {value}", page.display());
                if value["kind"] == "Deployment" {
                    let spec = serde_json::from_value::<k8s_openapi::api::apps::v1::Deployment>(value).unwrap().spec;
                    assert!(spec.is_some(), "{}", page.display());
                }
            }
        }
    }
    assert!(manifests >= 15, "only {manifests} manifests");
}

#[test]
fn the_example_of_a_smoke_test_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/smoke.toml");
    let plan = smoke::read(&path, None).unwrap();
    assert_eq!(plan.requests.len(), 4);
}

/// Returns the manifests of all documents, each with the name of its page.
fn manifests() -> Vec<(String, Value)> {
    let mut manifests = Vec::new();
    for (path, blocks) in documents() {
        let page = path.file_name().unwrap().to_string_lossy().into_owned();
        for (_, text) in blocks.iter().filter(|(language, _)| language == "yaml") {
            let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap());
            manifests.extend(documents.map(|document| (page.clone(), document)));
        }
    }
    manifests
}

/// Collects the paths of all values below `value`, with `[]` for each element of a list.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    if let Some(fields) = value.as_object() {
        fields.iter().for_each(|(name, value)| paths(value, &format!("{at}.{name}"), found));
    } else if let Some(elements) = value.as_array() {
        elements.iter().for_each(|value| paths(value, &format!("{at}[]"), found));
    } else {
        found.insert(at.to_owned());
    }
}

#[test]
fn a_custom_resource_in_the_documents_has_only_fields_of_its_definition() {
    let mut kinds = BTreeSet::new();
    for (page, value) in manifests() {
        let kind = format!("{} {}", value["apiVersion"].as_str().unwrap(), value["kind"].as_str().unwrap());
        let Some(known) = facts::FIELDS.iter().find(|known| known.kind == kind) else {
            let plain = ["apps/v1 Deployment", "v1 Service", "rbac.authorization.k8s.io/v1 Role"];
            assert!(plain.contains(&kind.as_str()), "{page}: {kind}: add its fields");
            continue;
        };
        let mut found = BTreeSet::new();
        paths(&value["spec"], "spec", &mut found);
        for path in found {
            assert!(known.paths.contains(&path.as_str()), "{page}: {kind} has no field {path} ({})", known.source);
        }
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), facts::FIELDS.len(), "{kinds:?}");
}

#[test]
fn the_deployment_mode_of_kserve_is_one_that_it_knows() {
    let annotation = "serving.kserve.io/deploymentMode";
    let modes: Vec<String> = manifests()
        .into_iter()
        .filter(|(_, value)| value["kind"] == "InferenceService")
        .map(|(_, value)| value["metadata"]["annotations"][annotation].as_str().unwrap().to_owned())
        .collect();
    assert!(!modes.is_empty() && modes.iter().all(|mode| facts::KSERVE_MODES.contains(&mode.as_str())), "{modes:?}");
}

/// Stage 6 requests one image without naming containers: every container of its repository must run the same reference.
#[test]
fn one_image_reference_changes_all_containers_of_a_version() {
    let mut several = 0;
    for (page, value) in manifests().into_iter().filter(|(_, value)| value["kind"] == "Deployment") {
        let pod = &value["spec"]["template"]["spec"];
        let containers = [&pod["initContainers"], &pod["containers"]];
        let all: Vec<&Value> = containers.iter().filter_map(|list| list.as_array()).flatten().collect();
        let image = |container: &Value| container["image"].as_str().unwrap().to_owned();
        let main = image(&pod["containers"][0]);
        let fits: Vec<&&Value> = all.iter().filter(|container| is_same_repository(&image(container), &main)).collect();
        assert!(fits.iter().all(|container| image(container) == main), "{page}: {fits:?}");
        several += usize::from(fits.len() > 1);
        for container in all.iter().filter(|container| container.to_string().contains("bellwether model get")) {
            // The version's own image need not have the program, and the program needs the registry's URL.
            assert!(image(container).contains("/bellwether:"), "{page}: {container}");
            assert_eq!(container["env"][0]["name"], "BELLWETHER_REGISTRY__URL", "{page}");
        }
    }
    assert!(several >= 3, "only {several} recipes have several containers of one repository");
}

/// Returns the policies of a page as they are written.
fn policies(page: &str) -> Vec<Value> {
    let (_, blocks) = recipes().into_iter().find(|(path, _)| path.ends_with(page)).unwrap();
    let texts = blocks.into_iter().filter(|(language, _)| language == "toml");
    let tables = texts.map(|(_, text)| serde_json::to_value(toml::from_str::<toml::Table>(&text).unwrap()).unwrap());
    tables.flat_map(|table| table["policy"].as_array().cloned().unwrap_or_default()).collect()
}

#[test]
fn a_limit_of_a_recipe_is_an_edge_of_the_servers_histogram() {
    let mut checked = 0;
    for (page, preset) in [("vllm.md", "vllm"), ("agents.md", "otel-genai")] {
        for policy in policies(page) {
            let checks = [&policy["check"], &policy["guard"]["check"]].map(|list| list.as_array().cloned());
            for check in checks.into_iter().flatten().flatten() {
                let metric = check["metric"].as_str().unwrap();
                let Some(edges) = facts::EDGES.iter().find(|edges| edges.preset == preset && edges.metric == metric)
                else {
                    continue;
                };
                let limit = match check["max"].as_str() {
                    Some(text) => text.parse::<Span>().unwrap().as_secs_f64(),
                    None => check["max"].as_f64().unwrap(),
                };
                let is_edge = edges.edges.iter().any(|edge| (edge - limit).abs() < 1e-9);
                assert!(is_edge, "{page}: {metric} has no edge at {limit} ({})", edges.source);
                checked += 1;
            }
        }
    }
    assert!(checked >= 4, "only {checked} limits");
}

#[test]
fn the_presets_of_the_recipes_name_metrics_that_the_servers_export() {
    for (preset, names, source) in facts::METRICS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/presets/{preset}.toml"));
        let table: toml::Table = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let table = serde_json::to_value(table).unwrap();
        let mut series = 0;
        for (metric, definition) in table["metric"].as_object().unwrap() {
            for name in [&definition["series"], &definition["hits"]["series"]].into_iter().filter_map(Value::as_str) {
                assert!(names.contains(&name), "{preset}: {metric} reads {name}, which is not known ({source})");
                series += 1;
            }
        }
        assert!(series >= 8, "{preset}");
    }
}

/// A front end can answer 2xx although the engine has generated nothing: only the engine's own count shows it.
#[test]
fn the_recipe_for_vllm_demands_answers_before_and_after_the_promotion() {
    let [policy] = &policies("vllm.md")[..] else { panic!("one policy") };
    for checks in [&policy["check"], &policy["guard"]["check"]] {
        let has =
            checks.as_array().unwrap().iter().any(|check| check["metric"] == "answered" && check["min"].is_string());
        assert!(has, "{checks}");
    }
}
