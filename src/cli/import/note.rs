//! The report of a conversion: for each object and field its result, and the decisions that would differ.

use std::collections::BTreeSet;
use std::fmt;

use bellwether_core::time::Span;
use serde::Serialize;
use serde_json::Value;

/// An object that was read, with the result of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImportedObject {
    /// The file that it stands in.
    pub file: String,
    /// Its kind and name, such as `Rollout shop/checkout`.
    pub object: String,
    /// The fields, in the order in which they were converted.
    pub fields: Vec<FieldNote>,
    /// The decisions that would differ, each as a sentence.
    pub decided_otherwise: Vec<String>,
}

/// The result of one field, and of the fields below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FieldNote {
    /// The path of the field, such as `spec.strategy.canary.steps[0].setWeight`.
    pub field: String,
    /// The result.
    pub result: FieldResult,
    /// The key that it became, or the reason, as a sentence.
    pub text: String,
    /// The nearest thing to do by hand; `None` if nothing is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

/// The result of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldResult {
    /// The configuration has it.
    Converted,
    /// The configuration has something near to it.
    Replaced,
    /// The configuration does not have it.
    NotConverted,
    /// It has no part in decisions, or Bellwether needs no such setting.
    NotNeeded,
}

impl fmt::Display for FieldResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldResult::Converted => "converted",
            FieldResult::Replaced => "replaced",
            FieldResult::NotConverted => "not converted",
            FieldResult::NotNeeded => "not needed",
        })
    }
}

/// The notes about one object.
#[derive(Debug, Default)]
pub struct Notes {
    /// The results of the fields.
    pub fields: Vec<FieldNote>,
    /// The decisions that would differ.
    pub otherwise: Vec<String>,
    /// The paths of fields that were read key by key, so that another key below them is not known.
    keyed: BTreeSet<String>,
    /// The paths of fields that were read with everything below them, as a part of another field.
    whole: BTreeSet<String>,
}

impl Notes {
    fn add(&mut self, at: &Field<'_>, result: FieldResult, text: impl Into<String>, nearest: Option<String>) {
        let note = FieldNote { field: at.path.clone(), result, text: text.into(), nearest };
        if !at.is_absent() && !self.fields.contains(&note) {
            self.fields.push(note);
        }
    }

    /// Tells that these keys of a field are read, and no other one.
    pub fn reads(&mut self, at: &Field<'_>, keys: &[&str]) {
        self.keyed.insert(at.path.clone());
        self.whole.extend(keys.iter().map(|key| at.at(key).path));
    }

    /// Tells that everything below a field is read, whatever keys it has.
    pub fn reads_all(&mut self, at: &Field<'_>) {
        self.whole.insert(at.path.clone());
    }

    /// Notes the key that a field became. Of a mapping or a list that is not [read whole](Notes::reads_all), the mappings below it need
    /// notes of their own.
    pub fn converted(&mut self, at: &Field<'_>, text: impl Into<String>) {
        self.add(at, FieldResult::Converted, text, None);
    }

    /// Notes the near thing that a field became, and the difference or the action that remains.
    pub fn replaced(&mut self, at: &Field<'_>, text: impl Into<String>, nearest: impl Into<String>) {
        self.add(at, FieldResult::Replaced, text, Some(nearest.into()));
    }

    /// Notes the reason for which a field was not converted, and the nearest thing.
    pub fn dropped(&mut self, at: &Field<'_>, text: impl Into<String>, nearest: impl Into<String>) {
        self.add(at, FieldResult::NotConverted, text, Some(nearest.into()));
    }

    /// Notes that a field has no part in decisions, or is not needed.
    pub fn not_needed(&mut self, at: &Field<'_>, text: impl Into<String>) {
        self.add(at, FieldResult::NotNeeded, text, None);
    }

    /// Notes a decision that would differ, once.
    pub fn otherwise(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.otherwise.contains(&text) {
            self.otherwise.push(text);
        }
    }

    /// Notes each field that has no note yet, because it is not known here.
    pub fn rest(&mut self, root: &Field<'_>) {
        let mut unknown = Vec::new();
        self.unknown(root, &mut unknown);
        for field in unknown {
            let text = "import does not know this field";
            self.fields.push(FieldNote {
                field,
                result: FieldResult::NotConverted,
                text: text.to_owned(),
                nearest: Some("see docs/coming-from.md, and `bellwether config default` for all keys".to_owned()),
            });
        }
    }

    fn unknown(&self, at: &Field<'_>, unknown: &mut Vec<String>) {
        let mut results = self.fields.iter().filter(|note| note.field == at.path).map(|note| note.result).peekable();
        let is_noted = results.peek().is_some();
        // A reason is about everything below, and so is the note of a single value.
        let is_reason = !self.keyed.contains(&at.path) && results.any(|result| result != FieldResult::Converted);
        if at.is_absent() || is_reason || self.whole.contains(&at.path) {
            return;
        }
        if !is_noted && !self.has_below(&at.path) {
            unknown.push(at.path.clone());
            return;
        }
        match at.value {
            Value::Object(map) => map.keys().for_each(|key| self.unknown(&at.at(key), unknown)),
            Value::Array(_) => {
                let items = at.list();
                let is_part = |item: &&Field<'_>| is_noted && !item.value.is_object();
                items.iter().filter(|item| !is_part(item)).for_each(|item| self.unknown(item, unknown));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Returns whether a field below `path` has a note or was read.
    fn has_below(&self, path: &str) -> bool {
        let noted = self.fields.iter().map(|note| &note.field);
        noted
            .chain(&self.whole)
            .any(|field| field.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.starts_with(['.', '['])))
    }
}

/// A value of an object, and its path.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    /// The path from the root, empty for the root.
    pub path: String,
    /// The value; null if it is absent.
    pub value: &'a Value,
}

impl<'a> Field<'a> {
    /// Returns the root of an object.
    pub fn root(value: &'a Value) -> Field<'a> {
        Field { path: String::new(), value }
    }

    /// Returns the field of a key, absent if there is none.
    pub fn at(&self, key: &str) -> Field<'a> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Field { path, value: self.value.get(key).unwrap_or(&Value::Null) }
    }

    /// Returns the field below several keys.
    pub fn below(&self, keys: &[&str]) -> Field<'a> {
        keys.iter().fold(self.clone(), |at, key| at.at(key))
    }

    /// Returns whether the value is absent or null.
    pub fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// Returns the items of a list; none if it is no list.
    pub fn list(&self) -> Vec<Field<'a>> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(|(index, value)| Field { path: format!("{}[{index}]", self.path), value }).collect()
    }

    /// Returns the fields of a mapping with their keys; none if it is no mapping.
    pub fn entries(&self) -> Vec<(&'a str, Field<'a>)> {
        self.value.as_object().into_iter().flatten().map(|(key, _)| (key.as_str(), self.at(key))).collect()
    }

    /// Returns a text; `None` if it is none.
    pub fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// Returns a truth value, false if it is none.
    pub fn is_true(&self) -> bool {
        self.value.as_bool().unwrap_or(false)
    }

    /// Returns a finite number, which may be written as a text.
    pub fn number(&self) -> Option<f64> {
        let number = match self.value {
            Value::String(text) => text.trim().trim_end_matches('%').parse().ok(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => self.value.as_f64(),
        };
        number.filter(|number| number.is_finite())
    }

    /// Returns a length of time: with a unit, or in seconds without one.
    pub fn span(&self) -> Option<Span> {
        match self.number() {
            Some(seconds) if (0.0..1e9).contains(&seconds) => Some(Span::from_millis((seconds * 1000.0) as u64)),
            Some(_) => None,
            None => self.text()?.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_without_a_note_is_reported_at_its_highest_place() {
        let object = json!({ "a": { "b": 1, "c": { "d": 1, "e": [1, { "f": 2 }] } }, "g": null, "h": 3 });
        let root = Field::root(&object);
        let mut notes = Notes::default();
        notes.converted(&root.below(&["a", "b"]), "b");
        notes.converted(&root.below(&["a", "c", "e"]).list()[1].at("f"), "f");
        notes.converted(&root.at("missing"), "an absent field has no note");
        notes.rest(&root);
        let reported: Vec<(&str, FieldResult)> =
            notes.fields.iter().map(|note| (note.field.as_str(), note.result)).collect();
        let (yes, no) = (FieldResult::Converted, FieldResult::NotConverted);
        assert_eq!(reported, [("a.b", yes), ("a.c.e[1].f", yes), ("a.c.d", no), ("a.c.e[0]", no), ("h", no)]);
    }

    #[test]
    fn an_unknown_key_below_a_converted_field_is_reported() {
        let object = json!({
            "pause": { "duration": "5m", "dration": 1 },
            "wait": { "dration": 1 },
            "template": { "spec": { "any": 1 } },
            "router": { "any": 1 },
            "list": ["a", { "name": "b", "nme": "c" }],
        });
        let root = Field::root(&object);
        let mut notes = Notes::default();
        for key in ["pause", "template", "list"] {
            notes.converted(&root.at(key), "a key of the policy");
        }
        for key in ["wait", "router"] {
            notes.replaced(&root.at(key), "something near", "nothing");
        }
        notes.reads(&root.at("pause"), &["duration"]);
        notes.reads(&root.at("wait"), &["duration"]);
        notes.reads(&root.at("list").list()[1], &["name"]);
        notes.reads_all(&root.at("template"));
        notes.rest(&root);
        let unknown = notes.fields.iter().filter(|note| note.text == "import does not know this field");
        let unknown: Vec<&str> = unknown.map(|note| note.field.as_str()).collect();
        assert_eq!(unknown, ["list[1].nme", "pause.dration", "wait.dration"]);
    }

    #[test]
    fn times_are_read_as_other_tools_write_them() {
        let object = json!({ "go": "1h30m", "number": 90, "text": "90", "bad": "soon", "negative": -1 });
        let span = |key: &str| Field::root(&object).at(key).span();
        assert_eq!(span("go"), Some(Span::from_secs(5400)));
        assert_eq!((span("number"), span("text")), (Some(Span::from_secs(90)), Some(Span::from_secs(90))));
        assert_eq!((span("bad"), span("negative"), span("absent")), (None, None, None));
    }
}
