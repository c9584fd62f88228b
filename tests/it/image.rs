//! Checks that `deploy/Dockerfile` copies every file that its build reads. There may be no Docker engine here, so the tests
//! copy the same paths into a temporary folder and let cargo resolve the workspace there. Nothing is compiled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;

const DOCKERFILE: &str = "deploy/Dockerfile";

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(checkout().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The instructions of the Dockerfile's first stage, which builds: each with its arguments, continued lines joined.
fn build_stage() -> Vec<(String, Vec<String>)> {
    let text = read(DOCKERFILE).replace("\\\n", " ");
    let instructions = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut stage: Vec<(String, Vec<String>)> = Vec::new();
    for instruction in instructions {
        let mut words = instruction.split_whitespace().map(str::to_owned);
        let name = words.next().unwrap().to_uppercase();
        if name == "FROM" && !stage.is_empty() {
            break;
        }
        stage.push((name, words.collect()));
    }
    stage
}

/// The patterns of `.dockerignore`. A path is ignored if a pattern matches it or a folder that it lies in.
struct Ignored(Vec<Regex>);

impl Ignored {
    fn parse(text: &str) -> Ignored {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let patterns = lines.map(|line| {
            let supported = !line.contains(['!', '[', ']', '\\']);
            assert!(supported, ".dockerignore: {line}: this test reads no exceptions, classes or escapes");
            let escaped = regex::escape(line.trim_matches('/'));
            let expression = escaped
                .replace(r"\*\*/", "(?:.*/)?")
                .replace(r"\*\*", ".*")
                .replace(r"\*", "[^/]*")
                .replace(r"\?", "[^/]");
            Regex::new(&format!("^{expression}(?:/.*)?$")).unwrap()
        });
        Ignored(patterns.collect())
    }

    fn contains(&self, path: &Path) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(path.to_str().unwrap()))
    }
}

/// The build's working directory as the Dockerfile's `COPY` instructions make it, in a temporary folder.
fn build_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ignored = Ignored::parse(&read(".dockerignore"));
    for (name, arguments) in build_stage() {
        assert_ne!(name, "ADD", "{DOCKERFILE}: use COPY: this test does not read ADD");
        if name != "COPY" {
            continue;
        }
        let line = format!("{DOCKERFILE}: COPY {}", arguments.join(" "));
        let plain = !arguments.iter().any(|argument| argument.starts_with(['-', '[']) || argument.contains(['*', '?']));
        assert!(plain, "{line}: this test reads no flags, JSON or patterns");
        let (destination, sources) = arguments.split_last().unwrap();
        let into = destination.ends_with('/') || sources.len() > 1;
        for source in sources {
            let source = Path::new(source);
            let from = checkout().join(source);
            assert!(from.exists() && !ignored.contains(source), "{line}: {} is not in the context", source.display());
            // COPY copies the content of a folder, and a file under its own name if the destination is a folder.
            let to = match into && from.is_file() {
                true => folder.path().join(destination).join(source.file_name().unwrap()),
                false => folder.path().join(destination),
            };
            copy(source, &to, &ignored);
        }
    }
    folder
}

/// Copies `source`, a path in the checkout, to `to`, without the ignored files.
fn copy(source: &Path, to: &Path, ignored: &Ignored) {
    if ignored.contains(source) {
        return;
    }
    let from = checkout().join(source);
    if from.is_file() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&from, to).unwrap();
        return;
    }
    for entry in fs::read_dir(&from).unwrap() {
        let name = entry.unwrap().file_name();
        copy(&source.join(&name), &to.join(&name), ignored);
    }
}

/// Runs cargo in `folder`, offline and with the lock file as it is, and returns its standard output.
fn cargo(folder: &Path, arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output =
        Command::new(program).args(arguments).args(["--offline", "--locked"]).current_dir(folder).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {} on the paths that {DOCKERFILE} copies: {errors}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of the workspace in `folder`, as `cargo metadata` describes them.
fn packages(folder: &Path) -> Vec<Value> {
    let metadata = cargo(folder, &["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn names(packages: &[Value]) -> BTreeSet<&str> {
    packages.iter().map(|package| package["name"].as_str().unwrap()).collect()
}

#[test]
fn cargo_finds_every_member_among_the_files_that_the_dockerfile_copies() {
    let folder = build_folder();
    let ignored = Ignored::parse(&read(".dockerignore"));
    let members = packages(checkout());
    assert!(members.len() >= 6, "{:?}", names(&members));

    let mut missing = BTreeSet::new();
    for member in &members {
        let targets = member["targets"].as_array().unwrap().iter().filter(|target| {
            let kinds = target["kind"].as_array().unwrap();
            // The image is built without features, and so without the programs of the tests.
            target["required-features"].is_null()
                && !kinds.iter().any(|kind| ["test", "bench", "example"].contains(&kind.as_str().unwrap()))
        });
        let needed = targets.map(|target| &target["src_path"]).chain([&member["manifest_path"]]);
        for path in needed.map(|path| Path::new(path.as_str().unwrap()).strip_prefix(checkout()).unwrap()) {
            if !folder.path().join(path).is_file() {
                let top = path.iter().next().unwrap().display();
                let remedy = match ignored.contains(path) {
                    true => ".dockerignore leaves it out".to_owned(),
                    false => format!("add `COPY {top} {top}`"),
                };
                missing.insert(format!("{} of the member {}: {remedy}", path.display(), member["name"]));
            }
        }
    }
    let missing = Vec::from_iter(missing).join("\n  ");
    assert!(missing.is_empty(), "{DOCKERFILE} does not copy\n  {missing}");

    let copied = packages(folder.path());
    assert_eq!(names(&copied), names(&members));
    let root = copied.iter().find(|package| package["name"] == "bellwether").unwrap();
    let programs: Vec<&Value> =
        root["targets"].as_array().unwrap().iter().filter(|target| target["kind"][0] == "bin").collect();
    assert!(programs.iter().any(|target| target["name"] == "bellwether"), "{programs:?}");

    // Resolves the whole workspace, which fails if the lock file would have to change. Unlike `cargo metadata` without
    // `--no-deps`, it needs no package that other platforms alone depend on.
    cargo(folder.path(), &["update", "--workspace"]);
}

#[test]
fn the_dockerfile_copies_every_file_that_the_sources_include() {
    let folder = build_folder();
    let macros = Regex::new(r#"\binclude(?:_str|_bytes)?!\s*\(\s*(?:"([^"]*)")?"#).unwrap();
    let mut sources = Vec::new();
    rust_files(folder.path(), &mut sources);
    let (mut included, mut missing) = (0, Vec::new());
    for source in sources {
        let name = source.strip_prefix(folder.path()).unwrap().display().to_string();
        let text = fs::read_to_string(&source).unwrap();
        // Unit tests are not part of the build.
        let text = text.split("\nmod tests {").next().unwrap();
        for found in macros.captures_iter(text) {
            let path = found.get(1).unwrap_or_else(|| panic!("{name}: {}: give a literal path", &found[0])).as_str();
            included += 1;
            let place = normal(&source.parent().unwrap().join(path));
            if !place.is_file() {
                let place = place.strip_prefix(folder.path()).unwrap_or(&place);
                missing.push(format!("{}, which {name} includes", place.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{DOCKERFILE} does not copy\n  {}", missing.join("\n  "));
    assert!(included >= 10, "only {included} included files found: does this test still read the sources?");
}

/// Collects the Rust files under `folder`, but for those of unit tests (`tests.rs` and folders named `tests`).
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

/// Returns `path` with each `..` taken off together with the folder before it.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            assert!(normal.pop(), "{}", path.display());
        } else {
            normal.push(component);
        }
    }
    normal
}

#[test]
fn the_image_is_built_by_a_rust_that_the_manifest_allows() {
    let stage = build_stage();
    let image = &stage.iter().find(|(name, _)| name == "FROM").unwrap().1[0];
    let version = image.strip_prefix("rust:").unwrap_or_else(|| panic!("{DOCKERFILE}: {image} is no image of Rust"));
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let least = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    let numbers = |version: &str| -> Vec<u32> {
        let version = version.split('-').next().unwrap();
        version.split('.').map(|part| part.parse().unwrap()).collect()
    };
    assert!(numbers(version) >= numbers(least), "{DOCKERFILE} builds with {image}; rust-version is {least}");
}

#[test]
fn dockerignore_leaves_out_results_history_and_tests() {
    let ignored = Ignored::parse(&read(".dockerignore"));
    for path in [".git/HEAD", "target/debug/bellwether", "tests/it/main.rs", "core/tests/it/main.rs", "lab/benches"] {
        assert!(ignored.contains(Path::new(path)), ".dockerignore lets {path} in");
    }
}

#[test]
fn a_pattern_of_dockerignore_covers_folders_and_their_content() {
    let ignored = Ignored::parse("# a comment\n\n/target/\n*/tests\n**/*.md\n");
    for path in ["target", "target/debug/x", "core/tests", "core/tests/it/main.rs", "README.md", "docs/a/b.md"] {
        assert!(ignored.contains(Path::new(path)), "{path}");
    }
    for path in ["targets", "core/target", "tests", "a/core/tests", "a.md.rs", "core/src/tests.rs"] {
        assert!(!ignored.contains(Path::new(path)), "{path}");
    }
}
