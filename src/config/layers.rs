//! The layers of the configuration, merged into one tree in which each value has its origin.
//!
//! figment merges the layers and remembers each value's layer. It knows no lines, so each file is kept with its text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::embedded::{DEFAULT, PRESETS};
use super::messages;
use super::places::{SourceFile, position};
use super::report::{ConfigProblem, ConfigReport, SourcePlace};
use super::sources::Sources;
use super::tree::nearest;

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
    pub(super) layer_problems: Vec<ConfigProblem>,
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
    pub(super) fn path_within_file(&self, path: &[String]) -> Vec<String> {
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
