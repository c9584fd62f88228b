//! Strict reading of other projects' manifests, given as JSON.
//!
//! An error names the path of the field, its value and a remedy. A field that would change a decision and is not
//! reproduced is refused, never ignored.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;
use thiserror::Error;

use bellwether_core::time::Span;

/// The reason for which a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path}: {value}: {remedy}")]
pub struct ManifestProblem {
    /// The path of the field, such as `spec.metrics[0].interval`.
    pub path: String,
    /// The field's value as JSON, or `is missing`.
    pub value: String,
    /// The remedy: a valid value, or another action.
    pub remedy: String,
}

/// A value of the manifest and its path. The methods that read it fail with a [`ManifestProblem`] at that path.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    /// The path from the root, empty for the root.
    path: String,
    /// The value; null if it is absent.
    value: &'a Value,
}

const NULL: Value = Value::Null;

impl<'a> Place<'a> {
    /// Returns the root of a manifest.
    pub fn root(value: &'a Value) -> Place<'a> {
        Place { path: String::new(), value }
    }

    /// Returns the place of a key, which is absent if there is no such key.
    pub fn at(&self, key: &str) -> Place<'a> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Place { path, value: self.value.get(key).unwrap_or(&NULL) }
    }

    /// Returns whether the value is absent or null.
    pub fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// Returns a problem at this place.
    pub fn problem(&self, remedy: impl Display) -> ManifestProblem {
        let value = if self.is_absent() { "is missing".to_owned() } else { self.value.to_string() };
        let path = if self.path.is_empty() { "the manifest".to_owned() } else { self.path.clone() };
        ManifestProblem { path, value, remedy: remedy.to_string() }
    }

    /// Refuses a key that would change a decision and is not reproduced, unless its value is empty or false.
    pub fn refuse(&self, key: &str, remedy: &str) -> Result<(), ManifestProblem> {
        let place = self.at(key);
        let has_no_effect = match place.value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
        };
        if has_no_effect { Ok(()) } else { Err(place.problem(format_args!("it is not modelled here; {remedy}"))) }
    }

    /// Refuses all keys except `keys`.
    pub fn only(&self, keys: &[&str]) -> Result<(), ManifestProblem> {
        let map = self.value.as_object().ok_or_else(|| self.problem("write a mapping"))?;
        match map.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => {
                Err(self.at(key).problem(format_args!("it is not known here; take it out, or use {}", keys.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// Reads a list; an absent value is an empty one.
    pub fn list(&self) -> Result<Vec<Place<'a>>, ManifestProblem> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(list) => Ok(list
                .iter()
                .enumerate()
                .map(|(index, value)| Place { path: format!("{}[{index}]", self.path), value })
                .collect()),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                Err(self.problem("write a list"))
            }
        }
    }

    /// Reads a text.
    pub fn text(&self) -> Result<&'a str, ManifestProblem> {
        self.value.as_str().ok_or_else(|| self.problem("write a text"))
    }

    /// Parses a text; returns `None` if it is absent.
    pub fn parsed<T: FromStr<Err: Display>>(&self) -> Result<Option<T>, ManifestProblem> {
        if self.is_absent() {
            return Ok(None);
        }
        self.text()?.parse().map(Some).map_err(|error| self.problem(error))
    }

    /// Reads a Go duration; returns `None` if it is absent.
    pub fn span(&self) -> Result<Option<Span>, ManifestProblem> {
        self.parsed()
    }

    /// Reads a whole number, which may be written as a text as in Kubernetes; returns `None` if it is absent.
    pub fn whole(&self) -> Result<Option<i64>, ManifestProblem> {
        let number = match self.value {
            Value::Null => return Ok(None),
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64(),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.map(Some).ok_or_else(|| self.problem("write a whole number, with arguments already replaced"))
    }

    /// Reads a whole number from 0; returns `None` if it is absent.
    pub fn count(&self) -> Result<Option<u32>, ManifestProblem> {
        let read = |number: i64| u32::try_from(number).map_err(|_| self.problem("write a whole number from 0"));
        self.whole()?.map(read).transpose()
    }

    /// Reads a finite number; returns `None` if it is absent.
    pub fn number(&self) -> Result<Option<f64>, ManifestProblem> {
        if self.is_absent() {
            return Ok(None);
        }
        let number = self.value.as_f64().filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.problem("write a number"))
    }

    /// Returns the manifest's `spec`, and refuses manifests whose `kind` is not one of `kinds`.
    pub fn spec(&self, kinds: &[&str]) -> Result<Place<'a>, ManifestProblem> {
        let kind = self.at("kind");
        if !kinds.iter().any(|known| kind.value == *known) {
            return Err(kind.problem(format_args!("give a manifest of kind {}", kinds.join(" or "))));
        }
        let spec = self.at("spec");
        if spec.value.is_object() { Ok(spec) } else { Err(spec.problem("give the whole manifest")) }
    }
}
