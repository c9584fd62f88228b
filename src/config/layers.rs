//! The layers of the configuration, merged into one tree in which each value has its origin.
//!
//! figment merges the layers and remembers each value's layer. It knows no lines, and it stops at the first error. So
//! each file is kept with its text, for the lines; and after an error the value is removed from the tree and the tree is
//! read again, for the next error. An error that follows from a removed value is not reported a second time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::embedded::{DEFAULT, PRESETS};
use super::places::{SourceFile, position};
use super::report::{ConfigProblem, ConfigReport, SourcePlace};
use super::sources::Sources;
use super::{messages, secrets};

/// One layer: its values, and the name that problems show.
#[derive(Clone)]
struct Layer {
    metadata: Metadata,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// The merged layers.
pub(super) struct Layers {
    figment: Figment,
    /// The merged values.
    pub(super) tree: Value,
    files: Vec<SourceFile>,
    /// Problems of flags and presets. The other layers can be read nevertheless.
    layer_problems: Vec<ConfigProblem>,
}

impl Layers {
    /// Reads and merges the layers.
    ///
    /// # Errors
    /// If a file can't be read or is not TOML. Nothing else is checked then, because its values could change the rest.
    pub(super) fn read(sources: &Sources) -> Result<Layers, ConfigReport> {
        let (files, problems) = read_files(&sources.files);
        if problems.is_empty() { Layers::of(files, sources) } else { Err(ConfigReport::new(problems)) }
    }

    /// Layers these files, and the environment and the flags of `sources`.
    pub(super) fn of(files: Vec<SourceFile>, sources: &Sources) -> Result<Layers, ConfigReport> {
        let mut layer_problems = Vec::new();
        let mut upper: Vec<Layer> = Vec::new();
        upper.extend(sources.env.iter().filter_map(|(name, value)| from_env(name, value)));
        for flag in &sources.flags {
            match from_flag(flag) {
                Ok(layer) => upper.push(layer),
                Err(problem) => layer_problems.push(problem),
            }
        }
        let mut figment = Figment::new().merge(embedded_layer("default", DEFAULT)?);
        for file in &files {
            // The policies of several files are joined; any other value replaces that of an earlier layer.
            let (policies, rest): (Dict, Dict) = file.dict()?.into_iter().partition(|(key, _)| key == "policy");
            let metadata = Metadata::from("file", file.path.as_path());
            figment = figment
                .admerge(Layer { metadata: metadata.clone(), dict: policies })
                .merge(Layer { metadata, dict: rest });
        }
        for layer in upper {
            figment = figment.merge(layer);
        }
        let (figment, unknown_presets) = with_presets(figment)?;
        let tree = figment.find_value("").map_err(unexpected)?;
        let mut layers = Layers { figment, tree, files, layer_problems };
        for (index, message) in unknown_presets {
            let path = vec!["presets".to_owned(), index.to_string()];
            let place = layers.place(&path, false);
            layers.layer_problems.push(ConfigProblem { place, path, message });
        }
        Ok(layers)
    }

    /// Returns the tree as a `T`, without the values that can't be read, and the problems of those. `None` in place of
    /// the `T` if an error names no value that could be removed.
    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> (Option<T>, ProblemCollector<'_>) {
        let mut collector = ProblemCollector {
            layers: self,
            problems: self.layer_problems.clone(),
            removed: self.metrics_of_unknown_presets(),
            refused: BTreeSet::new(),
        };
        let mut tree = self.tree.clone();
        loop {
            match tree.deserialize::<T>() {
                Ok(value) => return (Some(value), collector),
                Err(error) => {
                    let path = collector.original_path(&error.path);
                    if !collector.was_removed_or_misspelt(&path, &error.kind) {
                        collector.problems.push(self.type_problem(&path, &error));
                    }
                    // Each round removes a value, so the loop ends.
                    if !remove(&mut tree, &error.path) {
                        return (None, collector);
                    }
                    collector.removed.insert(path);
                }
            }
        }
    }

    /// Returns one path of a metric for each unknown preset, to be treated as removed: a check that names a metric of
    /// such a preset is not at fault. The metric's name is a placeholder.
    fn metrics_of_unknown_presets(&self) -> BTreeSet<Vec<String>> {
        let presets =
            self.layer_problems.iter().filter(|problem| problem.path.first().is_some_and(|key| key == "presets"));
        presets.map(|problem| vec!["metric".to_owned(), problem.message.clone()]).collect()
    }

    fn type_problem(&self, path: &[String], error: &Error) -> ConfigProblem {
        let message = if secrets::is_secret(path) {
            "this is not a text".to_owned()
        } else {
            messages::explain(path, &error.kind)
        };
        ConfigProblem {
            place: self.place(path, messages::is_about_the_key(&error.kind)),
            path: self.path_within_file(path),
            message,
        }
    }

    /// Returns the place at which the value at `path` was written, or its key if `key`. If there is no such value, it is
    /// the place of the innermost table around it.
    pub(super) fn place(&self, path: &[String], key: bool) -> SourcePlace {
        let (value, _) = nearest(&self.tree, path);
        let Some(metadata) = self.figment.get_metadata(value.tag()) else {
            return SourcePlace::Named("default".to_owned());
        };
        let file = metadata.source.as_ref().and_then(|source| source.file_path());
        match file.and_then(|path| self.files.iter().find(|file| file.path == path)) {
            Some(file) => position(file, &self.path_within_file(path), key),
            None => SourcePlace::Named(metadata.name.to_string()),
        }
    }

    /// Returns `path` as it is within its file: policies are counted from 0 in each file.
    fn path_within_file(&self, path: &[String]) -> Vec<String> {
        let mut local = path.to_vec();
        if let [first, index, ..] = path
            && first == "policy"
            && let Some(policies) = self.tree.find_ref("policy").and_then(Value::as_array)
            && let Ok(index) = index.parse::<usize>()
            && let Some(policy) = policies.get(index)
        {
            let before = policies[..index].iter().filter(|other| other.tag() == policy.tag()).count();
            local[1] = before.to_string();
        }
        local
    }
}

/// The problems so far. A problem that follows from an earlier one is left out.
pub(super) struct ProblemCollector<'a> {
    layers: &'a Layers,
    problems: Vec<ConfigProblem>,
    /// Paths of the values that were removed from the tree because they could not be read.
    removed: BTreeSet<Vec<String>>,
    /// Paths of the values that could be read and were refused by a check.
    refused: BTreeSet<Vec<String>>,
}

impl ProblemCollector<'_> {
    /// Adds a problem of a value that could be read, unless it follows from an earlier problem.
    pub(super) fn add(&mut self, path: &[&str], message: impl Into<String>) {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        let path = self.original_path(&path);
        let is_consequence = self.is_consequence(&path);
        self.refused.insert(path.clone());
        if !is_consequence {
            let place = self.layers.place(&path, false);
            let path = self.layers.path_within_file(&path);
            self.problems.push(ConfigProblem { place, path, message: message.into() });
        }
    }

    /// Adds a problem for each secret that was written into a file or a flag.
    pub(super) fn add_misplaced_secrets(&mut self) {
        for path in secrets::ENVIRONMENT_ONLY.iter().flat_map(|pattern| matching(&self.layers.tree, pattern)) {
            let place = self.layers.place(&path, true);
            if !matches!(&place, SourcePlace::Named(name) if name.starts_with("environment variable")) {
                let key = path.last().map_or("", String::as_str);
                let message = format!(
                    "a secret does not belong here; write it to a file of its own and name that in `{key}-file`"
                );
                self.problems.push(ConfigProblem { place, path, message });
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn into_report(self) -> ConfigReport {
        ConfigReport::new(self.problems)
    }

    /// Returns whether the error is about a missing key that was removed, or that is there with a misspelt name.
    fn was_removed_or_misspelt(&self, path: &[String], kind: &Kind) -> bool {
        let Kind::MissingField(name) = kind else { return false };
        self.removed.iter().any(|removed| {
            removed.len() == path.len() + 1
                && removed.starts_with(path)
                && removed.last().is_some_and(|last| messages::is_similar(last, name))
        })
    }

    /// Returns whether a problem at `path` may follow from a value that was removed.
    fn is_consequence(&self, path: &[String]) -> bool {
        // A step that names a wrong check of its policy is not at fault.
        let is_check =
            |other: &Vec<String>| other.starts_with(&path[..2]) && other.get(2).is_some_and(|key| key == "check");
        if path.iter().any(|key| key == "checks") && self.removed.iter().chain(&self.refused).any(is_check) {
            return true;
        }
        self.removed.iter().any(|removed| {
            let around = &removed[..removed.len() - 1];
            let is_metric_or_policy = removed[0] == "policy" || removed[0] == "metric";
            let is_item = removed.last().is_some_and(|last| last.parse::<usize>().is_ok());
            path.starts_with(removed)
                // A table of a metric or policy may lack a key only because that was removed.
                || (is_metric_or_policy && path.len() == removed.len() && path.starts_with(around))
                // A list may be empty only because an item was removed.
                || (is_item && path == around)
                // A check may name a metric that was removed.
                || (removed[0] == "metric" && path.last().is_some_and(|key| key == "metric"))
        })
    }

    /// Returns a path in the tree without the removed values as the path in the original tree: removed items shift the
    /// indices of a list.
    fn original_path(&self, path: &[String]) -> Vec<String> {
        let mut original: Vec<String> = Vec::new();
        for key in path {
            let mut key = key.clone();
            if let Ok(mut index) = key.parse::<usize>() {
                let mut removed_indices: Vec<usize> = self
                    .removed
                    .iter()
                    .filter(|removed| removed.len() == original.len() + 1 && removed.starts_with(&original))
                    .filter_map(|removed| removed.last()?.parse().ok())
                    .collect();
                removed_indices.sort_unstable();
                index +=
                    removed_indices.into_iter().fold(0, |shift, removed| shift + usize::from(removed <= index + shift));
                key = index.to_string();
            }
            original.push(key);
        }
        original
    }
}

/// Returns the paths of the values that a pattern leads to, in which `*` stands for any key.
fn matching(tree: &Value, pattern: &[&str]) -> Vec<Vec<String>> {
    let Some((first, rest)) = pattern.split_first() else { return vec![Vec::new()] };
    let Value::Dict(_, dict) = tree else { return Vec::new() };
    let inner = dict.iter().filter(|(key, _)| *first == "*" || key == first);
    inner
        .flat_map(|(key, value)| matching(value, rest).into_iter().map(move |path| [vec![key.clone()], path].concat()))
        .collect()
}

/// Returns the value at `path`, or the innermost value around it, and the number of keys of `path` that are missing.
fn nearest<'v>(tree: &'v Value, path: &[String]) -> (&'v Value, usize) {
    let mut value = tree;
    for (depth, key) in path.iter().enumerate() {
        let inner = match value {
            Value::Dict(_, dict) => dict.get(key),
            Value::Array(_, items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => None,
        };
        match inner {
            Some(inner) => value = inner,
            None => return (value, path.len() - depth),
        }
    }
    (value, 0)
}

/// Removes the value at `path` from the tree; returns `false` if there is none.
fn remove(tree: &mut Value, path: &[String]) -> bool {
    match (tree, path) {
        (Value::Dict(_, dict), [last]) => dict.remove(last).is_some(),
        (Value::Array(_, items), [last]) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        (Value::Dict(_, dict), [key, rest @ ..]) => match dict.get_mut(key) {
            // A text or a number has no inner value to remove, so it is removed itself.
            Some(inner) => remove(inner, rest) || dict.remove(key).is_some(),
            None => false,
        },
        (Value::Array(_, items), [key, rest @ ..]) => {
            key.parse::<usize>().ok().and_then(|index| items.get_mut(index)).is_some_and(|inner| remove(inner, rest))
        }
        _ => false,
    }
}

/// Reads the files, and those of directories in the order of their names. Returns their contents, and the problems of
/// those that can't be read or are not TOML.
fn read_files(paths: &[PathBuf]) -> (Vec<SourceFile>, Vec<ConfigProblem>) {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match config_files(path) {
            Ok(paths) if paths.is_empty() => problems.push(ConfigProblem {
                place: SourcePlace::Named(path.display().to_string()),
                path: Vec::new(),
                message: "the directory has no *.toml file; check --config".to_owned(),
            }),
            Ok(paths) => {
                for path in paths {
                    match std::fs::read_to_string(&path) {
                        Ok(text) => files.push(SourceFile { path, text }),
                        Err(error) => problems.push(unreadable_file(&path, &error)),
                    }
                }
            }
            Err(error) => problems.push(unreadable_file(path, &error)),
        }
    }
    problems.extend(files.iter().flat_map(SourceFile::syntax_errors));
    (files, problems)
}

/// Returns `path` itself if it is a file, and the `*.toml` files in it if it is a directory.
pub fn config_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        // A mounted ConfigMap has links beside the files whose names begin with a dot.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn unreadable_file(path: &Path, error: &std::io::Error) -> ConfigProblem {
    let message = format!("the file can't be read: {error}; check --config");
    ConfigProblem { place: SourcePlace::Named(path.display().to_string()), path: Vec::new(), message }
}

/// Returns whether the variable `BELLWETHER_<name>` is not a setting: the variables of the command line's flags, and those
/// that Kubernetes sets in every pod beside a Service named `bellwether`.
fn is_not_a_setting(name: &str) -> bool {
    let nested = name.contains("__");
    ["API", "API_TOKEN_FILE", "API_CA_FILE", "URL"].contains(&name)
        || name == "BY"
        || name == "CONFIG"
        || (cfg!(feature = "failpoints") && ["FAILPOINT", "NEXT_FORMAT", "PANIC"].contains(&name))
        || (!nested && (name.starts_with("SERVICE_") || name == "PORT" || name.starts_with("PORT_")))
}

fn from_env(variable: &str, value: &str) -> Option<Layer> {
    let name = variable.strip_prefix("BELLWETHER_").filter(|name| !is_not_a_setting(name))?;
    let keys: Vec<String> = name.split("__").map(|key| key.to_lowercase().replace('_', "-")).collect();
    let metadata = Metadata::named(format!("environment variable {variable}"));
    Some(Layer { metadata, dict: nested(&keys, value) })
}

fn from_flag(flag: &str) -> Result<Layer, ConfigProblem> {
    let Some((key, value)) = flag.split_once('=') else {
        let message = "write --set section.key=value, as in --set kafka.group=canary".to_owned();
        return Err(ConfigProblem {
            place: SourcePlace::Named(format!("flag --set {flag}")),
            path: Vec::new(),
            message,
        });
    };
    let keys: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
    Ok(Layer { metadata: Metadata::named(format!("flag --set {}", key.trim())), dict: nested(&keys, value) })
}

/// Returns tables that lead along `keys` to `value`. A value that is not a list (`[a, b]`), number or boolean is a text.
fn nested(keys: &[String], value: &str) -> Dict {
    // The parse can't fail: figment takes any other value for a text.
    let value: Value = value.trim().parse().unwrap_or_else(|_| Value::from(value));
    let (first, rest) = match keys.split_first() {
        Some((first, rest)) => (first.clone(), rest),
        None => return Dict::new(),
    };
    let inner = rest.iter().rev().fold(value, |inner, key| Value::from(Dict::from([(key.clone(), inner)])));
    Dict::from([(first, inner)])
}

fn embedded_layer(name: &str, text: &str) -> Result<Layer, ConfigReport> {
    let source = SourceFile { path: PathBuf::from(name), text: text.to_owned() };
    Ok(Layer { metadata: Metadata::named(name.to_owned()), dict: source.dict()? })
}

/// Returns the figment with the presets that it names below the other layers, and a message for each name of an unknown
/// preset with its index in `presets`.
fn with_presets(mut figment: Figment) -> Result<(Figment, Vec<(usize, String)>), ConfigReport> {
    // A value that is not a list of texts is reported when the whole tree is read.
    let names: Vec<String> = figment.extract_inner("presets").unwrap_or_default();
    let (mut unknown, mut defined) = (Vec::new(), BTreeSet::new());
    for (index, name) in names.iter().enumerate() {
        match PRESETS.iter().find(|(known, _)| known == name) {
            Some((_, text)) => {
                let mut preset = embedded_layer(&format!("preset {name}"), text)?;
                // The first preset that has a metric defines it whole: a mixture of two would be a third metric.
                if let Some(Value::Dict(_, metrics)) = preset.dict.get_mut("metric") {
                    metrics.retain(|metric, _| defined.insert(metric.clone()));
                }
                figment = figment.join(preset);
            }
            None => unknown.push((
                index,
                messages::unknown("preset", name, &PRESETS.iter().map(|(name, _)| *name).collect::<Vec<_>>()),
            )),
        }
    }
    Ok((figment, unknown))
}

/// Returns the report of an error that figment gives only for a defect in the layers of this program.
#[expect(clippy::needless_pass_by_value, reason = "map_err passes the error by value")]
fn unexpected(error: Error) -> ConfigReport {
    ConfigReport::new(vec![ConfigProblem {
        place: SourcePlace::Named("configuration".to_owned()),
        path: error.path.clone(),
        message: error.kind.to_string(),
    }])
}
