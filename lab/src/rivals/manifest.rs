//! Reading other projects' manifests, as JSON. What can't be read is named with its place, its value and a way out, and
//! what would change a decision and is not understood here is never passed over in silence.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;
use thiserror::Error;

use bellwether_core::time::Span;

/// Why a manifest can't be taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path}: {value}: {remedy}")]
pub struct ManifestProblem {
    /// Where: `spec.metrics[0].interval`.
    pub path: String,
    /// What stands there.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

/// A value and its place in the manifest.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    path: String,
    value: &'a Value,
}

const NULL: Value = Value::Null;

impl<'a> Place<'a> {
    pub fn root(value: &'a Value) -> Place<'a> {
        Place { path: String::new(), value }
    }

    /// The value of a key; null where there is none.
    pub fn at(&self, key: &str) -> Place<'a> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Place { path, value: self.value.get(key).unwrap_or(&NULL) }
    }

    pub fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    pub fn problem(&self, remedy: impl Display) -> ManifestProblem {
        let value = if self.is_absent() { "is missing".to_owned() } else { self.value.to_string() };
        let path = if self.path.is_empty() { "the manifest".to_owned() } else { self.path.clone() };
        ManifestProblem { path, value, remedy: remedy.to_string() }
    }

    /// Refuses a key that would change a decision and is not modelled.
    pub fn refuse(&self, key: &str, remedy: &str) -> Result<(), ManifestProblem> {
        let place = self.at(key);
        let says_nothing = match place.value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
        };
        if says_nothing { Ok(()) } else { Err(place.problem(format_args!("it is not modelled here; {remedy}"))) }
    }

    /// Refuses every key but these.
    pub fn only(&self, keys: &[&str]) -> Result<(), ManifestProblem> {
        let map = self.value.as_object().ok_or_else(|| self.problem("write a mapping"))?;
        match map.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => {
                Err(self.at(key).problem(format_args!("it is not known here; take it out, or use {}", keys.join(", "))))
            }
            None => Ok(()),
        }
    }

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

    pub fn text(&self) -> Result<&'a str, ManifestProblem> {
        self.value.as_str().ok_or_else(|| self.problem("write a text"))
    }

    /// Anything that is read from a text; `None` where there is nothing.
    pub fn parsed<T: FromStr<Err: Display>>(&self) -> Result<Option<T>, ManifestProblem> {
        if self.is_absent() {
            return Ok(None);
        }
        self.text()?.parse().map(Some).map_err(|error| self.problem(error))
    }

    /// A Go duration.
    pub fn span(&self) -> Result<Option<Span>, ManifestProblem> {
        self.parsed()
    }

    /// A whole number, which Kubernetes lets be written as a text as well.
    pub fn whole(&self) -> Result<Option<i64>, ManifestProblem> {
        let number = match self.value {
            Value::Null => return Ok(None),
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64(),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.map(Some).ok_or_else(|| self.problem("write a whole number, with arguments already put in"))
    }

    /// A whole number that is not negative.
    pub fn count(&self) -> Result<Option<u32>, ManifestProblem> {
        let read = |number: i64| u32::try_from(number).map_err(|_| self.problem("write a whole number from 0"));
        self.whole()?.map(read).transpose()
    }

    /// A finite number.
    pub fn number(&self) -> Result<Option<f64>, ManifestProblem> {
        if self.is_absent() {
            return Ok(None);
        }
        let number = self.value.as_f64().filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.problem("write a number"))
    }

    /// The manifest's `spec`, if it is of one of these kinds.
    pub fn spec(&self, kinds: &[&str]) -> Result<Place<'a>, ManifestProblem> {
        let kind = self.at("kind");
        if !kinds.iter().any(|known| kind.value == *known) {
            return Err(kind.problem(format_args!("give a manifest of kind {}", kinds.join(" or "))));
        }
        let spec = self.at("spec");
        if spec.value.is_object() { Ok(spec) } else { Err(spec.problem("give the whole manifest")) }
    }
}
