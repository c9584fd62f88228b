//! The names that generated tables refer to: of tests, and of files.

use std::path::{Path, PathBuf};

/// The tables' own lists, which contain every name and define no test of that name.
const LISTS: [&str; 2] = ["tests/it/faults.rs", "tests/it/article.rs"];

/// Returns the names among `tests` that no test of the workspace has.
pub fn missing_tests<'a>(tests: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let folders = ["src".to_owned(), "tests".to_owned()].into_iter().chain(members());
    let sources: String = folders.map(|folder| read(&root().join(folder))).collect();
    // A test with a harness of its own is registered by a call that begins with its name.
    let exists = |name: &str| sources.contains(&format!("fn {name}(")) || sources.contains(&format!("(\"{name}\", "));
    tests.into_iter().filter(|name| !exists(name)).collect()
}

/// Returns the root of the workspace.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the folders of the workspace's members.
fn members() -> Vec<String> {
    let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

/// Returns the text of all Rust files in a folder, without the lists'.
fn read(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &read(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !LISTS.iter().any(|list| path.ends_with(list))
        {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}
