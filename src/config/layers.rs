//! The layers as one tree in which every value knows where it came from.
//!
//! figment merges and remembers; what it lacks are positions and more than one error at a time. So each file is kept
//! with its text, and a value that can't be read is noted and taken out of the tree before the next attempt. What is
//! said later of a key that was taken out, or of the table that misses it, would only repeat the first complaint.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::places::{Source, position};
use super::report::{ConfigProblem, ConfigReport, SourcePlace};
use super::{DEFAULT, PRESETS, Sources, words};

/// Keys that hold a secret themselves. They are taken from the environment and from nowhere else.
const SECRETS: &[&[&str]] = &[&["slack", "webhook"]];

/// One layer, with a name for people.
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

/// Everything that was read.
pub(super) struct Layers {
    figment: Figment,
    pub(super) tree: Value,
    files: Vec<Source>,
    /// Problems of the layers themselves, which leave the rest readable.
    early: Vec<ConfigProblem>,
}

impl Layers {
    /// Reads them. A file that can't be read or parsed ends it: what it would have said changes all the rest.
    pub(super) fn read(sources: &Sources) -> Result<Layers, ConfigReport> {
        let (files, problems) = read_files(&sources.files);
        if !problems.is_empty() {
            return Err(ConfigReport::new(problems));
        }
        let mut early = Vec::new();
        let mut upper: Vec<Layer> = Vec::new();
        upper.extend(sources.env.iter().filter_map(|(name, value)| from_env(name, value)));
        for flag in &sources.flags {
            match from_flag(flag) {
                Ok(layer) => upper.push(layer),
                Err(problem) => early.push(problem),
            }
        }
        let mut figment = Figment::new().merge(embedded("default", DEFAULT)?);
        for file in &files {
            // Policies add up over files; everything else replaces what was there.
            let (policies, rest): (Dict, Dict) = file.dict()?.into_iter().partition(|(key, _)| key == "policy");
            let metadata = Metadata::from("file", file.path.as_path());
            figment = figment
                .admerge(Layer { metadata: metadata.clone(), dict: policies })
                .merge(Layer { metadata, dict: rest });
        }
        for layer in upper {
            figment = figment.merge(layer);
        }
        let (figment, unknown) = with_presets(figment)?;
        let tree = figment.find_value("").map_err(unexpected)?;
        let mut layers = Layers { figment, tree, files, early };
        for (index, message) in unknown {
            let path = vec!["presets".to_owned(), index.to_string()];
            let place = layers.place(&path, false);
            layers.early.push(ConfigProblem { place, path, message });
        }
        Ok(layers)
    }

    /// The tree as a `T`, without whatever of it can't be read. `None`: nothing is left to go on with.
    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> (Option<T>, Found<'_>) {
        let mut found =
            Found { layers: self, problems: self.early.clone(), removed: self.lost_metrics(), blamed: BTreeSet::new() };
        let mut tree = self.tree.clone();
        loop {
            match tree.deserialize::<T>() {
                Ok(read) => return (Some(read), found),
                Err(error) => {
                    let path = found.original(&error.path);
                    if !found.explains(&path, &error.kind) {
                        found.problems.push(self.unreadable(&path, &error));
                    }
                    // Each round takes something away, so this ends.
                    if !remove(&mut tree, &error.path) {
                        return (None, found);
                    }
                    found.removed.insert(path);
                }
            }
        }
    }

    /// What a preset that is not there would have defined: who names it is not at fault.
    fn lost_metrics(&self) -> BTreeSet<Vec<String>> {
        let presets = self.early.iter().filter(|problem| problem.path.first().is_some_and(|key| key == "presets"));
        presets.map(|problem| vec!["metric".to_owned(), problem.message.clone()]).collect()
    }

    fn unreadable(&self, path: &[String], error: &Error) -> ConfigProblem {
        let message =
            if words::is_secret(path) { "this is not a text".to_owned() } else { words::explain(path, &error.kind) };
        ConfigProblem {
            place: self.place(path, words::is_about_the_key(&error.kind)),
            path: self.within_file(path),
            message,
        }
    }

    /// Where the value at `path`, or the nearest table around it, was written.
    pub(super) fn place(&self, path: &[String], key: bool) -> SourcePlace {
        let (value, _) = nearest(&self.tree, path);
        let Some(metadata) = self.figment.get_metadata(value.tag()) else {
            return SourcePlace::Named("default".to_owned());
        };
        let file = metadata.source.as_ref().and_then(|source| source.file_path());
        match file.and_then(|path| self.files.iter().find(|file| file.path == path)) {
            Some(file) => position(file, &self.within_file(path), key),
            None => SourcePlace::Named(metadata.name.to_string()),
        }
    }

    /// The path as the file has it: policies are counted from 0 in each file.
    fn within_file(&self, path: &[String]) -> Vec<String> {
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

/// What was found wrong so far, and what was taken out of the tree for it.
pub(super) struct Found<'a> {
    layers: &'a Layers,
    problems: Vec<ConfigProblem>,
    removed: BTreeSet<Vec<String>>,
    /// Where something was read and found wrong.
    blamed: BTreeSet<Vec<String>>,
}

impl Found<'_> {
    /// A problem of something that could be read. Said only if it is not the consequence of one said already.
    pub(super) fn add(&mut self, path: &[&str], message: impl Into<String>) {
        let read: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        let path = self.original(&read);
        let follows = self.follows(&path);
        self.blamed.insert(path.clone());
        if !follows {
            let place = self.layers.place(&path, false);
            self.problems.push(ConfigProblem { place, path: self.layers.within_file(&path), message: message.into() });
        }
    }

    /// Secrets that were written into a file or a flag.
    pub(super) fn extend_misplaced_secrets(&mut self) {
        for secret in SECRETS {
            let path: Vec<String> = secret.iter().map(|key| (*key).to_owned()).collect();
            if !matches!(nearest(&self.layers.tree, &path), (_, 0)) {
                continue;
            }
            let place = self.layers.place(&path, true);
            if !matches!(&place, SourcePlace::Named(name) if name.starts_with("environment variable")) {
                let message =
                    "a secret does not belong here; write it to a file of its own and name that in `webhook-file`"
                        .to_owned();
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

    /// Whether a key is only missing because it was taken out, or was misspelt.
    fn explains(&self, path: &[String], kind: &Kind) -> bool {
        let Kind::MissingField(name) = kind else { return false };
        self.removed.iter().any(|removed| {
            removed.len() == path.len() + 1
                && removed.starts_with(path)
                && removed.last().is_some_and(|last| words::is_near(last, name))
        })
    }

    /// Whether something at or around `path`, or a sibling that it may depend on, was taken out.
    fn follows(&self, path: &[String]) -> bool {
        // A check that is wrong is no check, and the steps that name it are not at fault.
        let is_check =
            |other: &Vec<String>| other.starts_with(&path[..2]) && other.get(2).is_some_and(|key| key == "check");
        if path.iter().any(|key| key == "checks") && self.removed.iter().chain(&self.blamed).any(is_check) {
            return true;
        }
        self.removed.iter().any(|removed| {
            let around = &removed[..removed.len() - 1];
            let is_rule = removed[0] == "policy" || removed[0] == "metric";
            let is_item = removed.last().is_some_and(|last| last.parse::<usize>().is_ok());
            path.starts_with(removed)
                // What a table still lacks may be what could not be read in it.
                || (is_rule && path.len() == removed.len() && path.starts_with(around))
                // A list that has lost an item may look empty, …
                || (is_item && path == around)
                // … and a metric that is gone is not missed by mistake.
                || (removed[0] == "metric" && path.last().is_some_and(|key| key == "metric"))
        })
    }

    /// A path in the tree that was read, as the path in the tree as it was written.
    fn original(&self, path: &[String]) -> Vec<String> {
        let mut original: Vec<String> = Vec::new();
        for key in path {
            let mut key = key.clone();
            if let Ok(mut index) = key.parse::<usize>() {
                let mut gone: Vec<usize> = self
                    .removed
                    .iter()
                    .filter(|removed| removed.len() == original.len() + 1 && removed.starts_with(&original))
                    .filter_map(|removed| removed.last()?.parse().ok())
                    .collect();
                gone.sort_unstable();
                index += gone.into_iter().fold(0, |shift, gone| shift + usize::from(gone <= index + shift));
                key = index.to_string();
            }
            original.push(key);
        }
        original
    }
}

/// The value at `path`, or the innermost one around it, and how many keys are missing.
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
            // What can't be taken out of a text or a number is taken out with it.
            Some(inner) => remove(inner, rest) || dict.remove(key).is_some(),
            None => false,
        },
        (Value::Array(_, items), [key, rest @ ..]) => {
            key.parse::<usize>().ok().and_then(|index| items.get_mut(index)).is_some_and(|inner| remove(inner, rest))
        }
        _ => false,
    }
}

/// The files' contents, directories in the order of their names, and why some can't be had.
fn read_files(paths: &[PathBuf]) -> (Vec<Source>, Vec<ConfigProblem>) {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match listed(path) {
            Ok(paths) => {
                for path in paths {
                    match std::fs::read_to_string(&path) {
                        Ok(text) => files.push(Source { path, text }),
                        Err(error) => problems.push(unreadable_file(&path, &error)),
                    }
                }
            }
            Err(error) => problems.push(unreadable_file(path, &error)),
        }
    }
    problems.extend(files.iter().flat_map(Source::syntax_errors));
    (files, problems)
}

fn listed(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        // A mounted ConfigMap keeps its own links beside the files, with names that begin with dots.
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

/// Variables that carry our prefix and are no settings: the CLI's own, and those that Kubernetes sets in every pod
/// beside a Service named `bellwether`.
fn is_not_a_setting(name: &str) -> bool {
    let nested = name.contains("__");
    name == "API"
        || name == "BY"
        || name == "CONFIG"
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

/// `value` below `keys`. A list is written `[a, b]`; what is neither list, number nor `true` is a text.
fn nested(keys: &[String], value: &str) -> Dict {
    // The parse can't fail: what is not understood is a text.
    let value: Value = value.trim().parse().unwrap_or_else(|_| Value::from(value));
    let (first, rest) = match keys.split_first() {
        Some((first, rest)) => (first.clone(), rest),
        None => return Dict::new(),
    };
    let inner = rest.iter().rev().fold(value, |inner, key| Value::from(Dict::from([(key.clone(), inner)])));
    Dict::from([(first, inner)])
}

fn embedded(name: &str, text: &str) -> Result<Layer, ConfigReport> {
    let source = Source { path: PathBuf::from(name), text: text.to_owned() };
    Ok(Layer { metadata: Metadata::named(name.to_owned()), dict: source.dict()? })
}

/// The figment with the presets that it asks for below everything that is written, and those that there are not.
fn with_presets(mut figment: Figment) -> Result<(Figment, Vec<(usize, String)>), ConfigReport> {
    // If it is not a list of texts, that is said when the whole is read.
    let names: Vec<String> = figment.extract_inner("presets").unwrap_or_default();
    let (mut unknown, mut defined) = (Vec::new(), BTreeSet::new());
    for (index, name) in names.iter().enumerate() {
        match PRESETS.iter().find(|(known, _)| known == name) {
            Some((_, text)) => {
                let mut preset = embedded(&format!("preset {name}"), text)?;
                // A metric of two presets is all the first one's: half of each would measure something else.
                if let Some(Value::Dict(_, metrics)) = preset.dict.get_mut("metric") {
                    metrics.retain(|metric, _| defined.insert(metric.clone()));
                }
                figment = figment.join(preset);
            }
            None => unknown.push((
                index,
                words::unknown("preset", name, &PRESETS.iter().map(|(name, _)| *name).collect::<Vec<_>>()),
            )),
        }
    }
    Ok((figment, unknown))
}

/// What figment can only say if our own layers are broken.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn unexpected(error: Error) -> ConfigReport {
    ConfigReport::new(vec![ConfigProblem {
        place: SourcePlace::Named("configuration".to_owned()),
        path: error.path.clone(),
        message: error.kind.to_string(),
    }])
}
