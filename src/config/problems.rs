//! All problems of the merged tree at once.
//!
//! figment stops at the first error. So the value is mended and the tree is read again, for the next error: a name is replaced by the
//! similar one that the message proposes, any other value is removed, and a required one is then an example of the reference. A
//! problem that merely follows from a value that could not be read is not reported.

#![expect(clippy::wildcard_enum_match_arm, reason = "a value with any other error is removed")]

use std::collections::{BTreeMap, BTreeSet};

use figment::Error;
use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use super::layers::Layers;
use super::report::{ConfigProblem, ConfigReport, SourcePlace};
use super::tree::{matching, nearest, remove, rename, replace};
use super::{documented, messages, secrets};

/// Keys whose value decides which other keys of their table are used.
const SELECTORS: [&str; 9] =
    ["kind", "judge", "strategy", "traffic", "against", "protocol", "events", "authenticate", "read"];
/// Keys whose values are compared with those of the other items of a list.
const COMPARED: [&str; 2] = ["weight", "name"];

/// The problems so far, and the tree with the values that could be read.
///
/// Its paths are those of the tree as it should be: with the right names, and with the indices of the lists as written.
pub(super) struct ProblemCollector<'a> {
    layers: &'a Layers,
    /// The tree, mended.
    tree: Value,
    problems: Vec<ConfigProblem>,
    /// Paths of the values that could not be read or were missing.
    unread: BTreeSet<Vec<String>>,
    /// Paths of the values that are examples now.
    examples: BTreeSet<Vec<String>>,
    /// Names as written, by the path with the right name.
    misspelt: BTreeMap<Vec<String>, String>,
    /// Paths of the values that could be read and were refused by a check.
    refused: BTreeSet<Vec<String>>,
}

impl<'a> ProblemCollector<'a> {
    /// Reads the tree of these layers as a `T` and collects the errors. `None` in place of the `T` if the tree can't be mended.
    pub(super) fn read<T: DeserializeOwned>(layers: &'a Layers) -> (Option<T>, ProblemCollector<'a>) {
        let mut collector = ProblemCollector {
            layers,
            tree: layers.tree.clone(),
            problems: layers.layer_problems.clone(),
            unread: BTreeSet::new(),
            examples: BTreeSet::new(),
            misspelt: BTreeMap::new(),
            refused: BTreeSet::new(),
        };
        loop {
            match collector.tree.deserialize::<T>() {
                Ok(value) => return (Some(value), collector),
                Err(error) => {
                    collector.add_error(&error);
                    if !collector.mend(&error) {
                        return (None, collector);
                    }
                }
            }
        }
    }

    /// Adds the problem of an error, unless its value was mended before.
    fn add_error(&mut self, error: &Error) {
        let path = self.unshifted(&error.path);
        let subject = match &error.kind {
            Kind::MissingField(name) => below(&path, name),
            _ => path.clone(),
        };
        if self.examples.contains(&subject) || self.unread.iter().any(|unread| subject.starts_with(unread)) {
            return;
        }
        let written = self.as_written(&path);
        let message = if secrets::is_secret(&written) {
            "this is not a text".to_owned()
        } else {
            messages::explain(&written, &error.kind)
        };
        let place = self.layers.place(&written, messages::is_about_the_key(&error.kind));
        self.problems.push(ConfigProblem { place, path: self.layers.path_within_file(&written), message });
    }

    /// Mends the tree so that this error does not occur again. Returns `false` if it names no value.
    fn mend(&mut self, error: &Error) -> bool {
        let path = self.unshifted(&error.path);
        match &error.kind {
            Kind::UnknownField(name, known) => {
                let right = messages::similar(name, known).filter(|right| rename(&mut self.tree, &error.path, right));
                if let (Some(right), Some((_, table))) = (right, path.split_last()) {
                    self.misspelt.insert(below(table, right), name.clone());
                    return true;
                }
                // Nothing follows from a key that is not known.
                remove(&mut self.tree, &error.path)
            }
            Kind::UnknownVariant(name, known) => {
                let right = messages::similar(name, known).filter(|_| !self.examples.contains(&path));
                match right {
                    Some(right) if self.examples.insert(path.clone()) => {
                        replace(&mut self.tree, &error.path, Some(Value::from(right)));
                        true
                    }
                    _ => self.remove(&error.path, path),
                }
            }
            Kind::MissingField(name) => {
                let missing = below(&path, name);
                self.unread.insert(missing.clone());
                match example(&missing) {
                    Some(example) if self.examples.insert(missing) => {
                        replace(&mut self.tree, &below(&error.path, name), Some(example));
                        true
                    }
                    _ => self.remove(&error.path, path),
                }
            }
            _ => self.remove(&error.path, path),
        }
    }

    fn remove(&mut self, place: &[String], path: Vec<String>) -> bool {
        self.unread.insert(path);
        remove(&mut self.tree, place)
    }

    /// Adds a problem of a value that could be read, unless it follows from another problem.
    pub(super) fn add(&mut self, place: &[&str], message: impl Into<String>) {
        let place: Vec<String> = place.iter().map(|key| (*key).to_owned()).collect();
        let path = self.unshifted(&place);
        let is_consequence = self.is_consequence(&path, &place);
        if !is_consequence {
            let written = self.as_written(&path);
            let place = self.layers.place(&written, false);
            let path = self.layers.path_within_file(&written);
            self.problems.push(ConfigProblem { place, path, message: message.into() });
        }
        self.refused.insert(path);
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

    /// Returns whether a problem at `path`, which is at `place` in the mended tree, may follow from another one.
    fn is_consequence(&self, path: &[String], place: &[String]) -> bool {
        let is_absent = nearest(&self.tree, place).1 > 0;
        self.unread.iter().any(|unread| follows(path, is_absent, unread))
            || self.follows_from_a_check(path)
            || self.names_an_unread_value(place)
    }

    /// Returns whether a problem of a policy's steps, or of the list of its checks, may follow from one of a check.
    fn follows_from_a_check(&self, path: &[String]) -> bool {
        let [of, index, ..] = path else { return false };
        let is_of_checks = path.iter().any(|key| key == "checks") || path.last().is_some_and(|key| key == "check");
        let is_check =
            |other: &Vec<String>| matches!(&other[..], [a, b, c, ..] if (a, b) == (of, index) && c == "check");
        of == "policy" && is_of_checks && self.unread.iter().chain(&self.refused).any(is_check)
    }

    /// Returns whether the problem at `place` is of a table that names a metric or a sink which could not be read.
    fn names_an_unread_value(&self, place: &[String]) -> bool {
        if place.iter().any(|key| key == "notify") {
            let sink = nearest(&self.tree, place).0.as_str().unwrap_or_default();
            return self.unread.iter().any(|unread| is_sink(unread, sink));
        }
        let around = (1..place.len()).filter_map(|depth| nearest(&self.tree, &place[..depth]).0.as_dict());
        let mut metrics = around.filter_map(|table| named(table, "metric").or_else(|| named(table, "reward")));
        metrics.any(|name| {
            let is_defined = nearest(&self.tree, &["metric".to_owned(), name.to_owned()]).1 == 0;
            let is_unread = self.unread.iter().any(|unread| is_of_metric(unread, name));
            is_unread || (!is_defined && self.lacks_presets())
        })
    }

    /// Returns whether metrics may be missing because a preset is not known.
    fn lacks_presets(&self) -> bool {
        let unknown = self.layers.layer_problems.iter().map(|problem| &problem.path);
        unknown.chain(&self.unread).any(|path| path.first().is_some_and(|key| key == "presets"))
    }

    /// Returns a path in the mended tree with the indices as they were written: removed items shift those of a list.
    fn unshifted(&self, path: &[String]) -> Vec<String> {
        let mut original: Vec<String> = Vec::new();
        for key in path {
            let mut key = key.clone();
            if let Ok(mut index) = key.parse::<usize>() {
                let mut removed_indices: Vec<usize> = self
                    .unread
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

    /// Returns a path with the names as they were written.
    fn as_written(&self, path: &[String]) -> Vec<String> {
        let written = |(at, name): (usize, &String)| self.misspelt.get(&path[..=at]).unwrap_or(name).clone();
        path.iter().enumerate().map(written).collect()
    }
}

/// Returns whether a problem at `path` may follow from the value at `unread`. `is_absent` tells that the problem is about a key that
/// is not there.
fn follows(path: &[String], is_absent: bool, unread: &[String]) -> bool {
    let Some((key, table)) = unread.split_last() else { return true };
    let is_beside = path.len() == unread.len() && path.starts_with(table);
    let is_compared = COMPARED.contains(&key.as_str()) && is_item_of_same_list(path, unread);
    path.starts_with(unread)
        || is_compared
        || (is_beside && (is_absent || SELECTORS.contains(&key.as_str())))
        // A list may be empty only because an item was removed.
        || (key.parse::<usize>().is_ok() && path == table)
}

/// Returns whether two paths lead to the same key of two items of one list.
fn is_item_of_same_list(path: &[String], other: &[String]) -> bool {
    match (path, other) {
        ([list @ .., _, key], [other_list @ .., _, other_key]) => list == other_list && key == other_key,
        _ => false,
    }
}

/// Returns whether the value at `path` is a sink with this name, or a table of sinks.
fn is_sink(path: &[String], name: &str) -> bool {
    match path {
        [first] | [first, _] if first == "sink" => true,
        [first, _, sink] if first == "sink" => sink == name,
        [first, ..] => first == "slack" && name == "slack",
        [] => false,
    }
}

/// Returns whether the value at `path` is a part of the metric with this name, or the table of metrics.
fn is_of_metric(path: &[String], name: &str) -> bool {
    match path {
        [first, metric, ..] => first == "metric" && metric == name,
        [first] => first == "metric",
        [] => false,
    }
}

fn named<'v>(table: &'v Dict, key: &str) -> Option<&'v str> {
    table.get(key)?.as_str()
}

fn below(table: &[String], key: &str) -> Vec<String> {
    table.iter().cloned().chain([key.to_owned()]).collect()
}

/// Returns the value of a key in the reference of all keys; `None` if it has none.
fn example(path: &[String]) -> Option<Value> {
    let reference = Value::from(toml::from_str::<Dict>(&documented::uncommented()).ok()?);
    let (key, tables) = path.split_last()?;
    let mut value = &reference;
    for table in tables {
        value = match value {
            // The names of metrics and sinks are free; the reference has one of each.
            Value::Dict(_, inner) => inner.get(table).or_else(|| inner.values().next())?,
            Value::Array(_, items) => items.first()?,
            Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => return None,
        };
    }
    value.as_dict()?.get(key).cloned()
}
