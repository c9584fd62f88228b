//! The JSON Schema of a configuration file, for editors.
//!
//! Names, meanings and examples are those of `config/default.toml`. The types are asked of the program itself: a copy of the file in
//! which a value is replaced is read, and the error names the keys or the values that are taken. So the schema can't differ from
//! the program.

use std::collections::BTreeMap;

use figment::error::Kind;
use figment::value::{Dict, Value};
use serde_json::{Map, Value as Json, json};

use super::documented::{self, DocumentedKey};
use super::embedded::PRESETS;
use super::tree::replace;
use super::{Config, DEFAULT};

/// A key that no table has.
const UNKNOWN: &str = "?";

/// Returns the schema of a configuration file. Every key is optional at the top, because files are layers.
pub fn schema() -> Json {
    let Ok(tree) = toml::from_str::<Dict>(&documented::uncommented()) else { return json!({}) };
    let tables = documented::tables(DEFAULT);
    let mut about = BTreeMap::new();
    for table in &tables {
        let path: Vec<String> = table.path().into_iter().map(str::to_owned).collect();
        if !table.about.is_empty() && !path.is_empty() {
            let text = table.about.join(" ").split("  ").collect::<Vec<_>>().join("\n\n");
            about.insert(path.clone(), text.trim().to_owned());
        }
    }
    let key_of = |path: &[String]| {
        let (name, of) = path.split_last()?;
        let table = tables.iter().find(|table| table.path() == *of)?;
        table.keys.iter().find(|key| key.name == *name)
    };
    let probe = Probe { tree: Value::from(tree), about, key_of: &key_of };
    let mut schema = probe.table(&probe.tree.clone(), &mut Vec::new(), &mut Vec::new());
    if let Some(map) = schema.as_object_mut() {
        map.remove("required");
        map.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        map.insert("title".to_owned(), json!("Configuration of Bellwether"));
    }
    schema
}

/// A reader of changed copies of the configuration.
struct Probe<'a> {
    /// The file in which every key has a value.
    tree: Value,
    /// The comments of tables by their path.
    about: BTreeMap<Vec<String>, String>,
    /// The documented key at a path.
    key_of: &'a dyn Fn(&[String]) -> Option<&'a DocumentedKey>,
}

impl Probe<'_> {
    /// Returns the error of the file in which the value at `place` is replaced by `value`, or removed.
    fn error(&self, place: &[String], value: Option<Value>) -> Option<Kind> {
        let mut changed = self.tree.clone();
        replace(&mut changed, place, value);
        changed.deserialize::<Config>().err().map(|error| error.kind)
    }

    fn with(place: &[String], key: &str) -> Vec<String> {
        place.iter().cloned().chain([key.to_owned()]).collect()
    }

    /// Returns the schema of a table. `place` leads to it in the tree, and `path` is the same without the places in lists.
    fn table(&self, value: &Value, place: &mut Vec<String>, path: &mut Vec<String>) -> Json {
        let Value::Dict(_, dict) = value else { return json!({}) };
        let mut schema = Map::from_iter([("type".to_owned(), json!("object"))]);
        if let Some(text) = self.about.get(path.as_slice()) {
            schema.insert("description".to_owned(), json!(text));
        }
        let known = match self.error(&Probe::with(place, UNKNOWN), Some(Value::from(1))) {
            Some(Kind::UnknownField(_, known)) => known,
            // The table takes any key.
            _ => {
                let example = dict.iter().next();
                let of_value = example.map_or(json!({}), |(key, value)| self.below(value, key, place, path));
                schema.insert("additionalProperties".to_owned(), of_value);
                return Json::Object(schema);
            }
        };
        let mut properties = Map::new();
        for name in known {
            let of_value = match dict.get(*name) {
                Some(value) => self.below(value, name, place, path),
                None => self.unlisted(dict, name, place, path),
            };
            properties.insert((*name).to_owned(), of_value);
        }
        let is_required = |name: &&&str| {
            dict.contains_key(**name)
                && matches!(self.error(&Probe::with(place, name), None), Some(Kind::MissingField(_)))
        };
        let required: Vec<&&str> = known.iter().filter(is_required).collect();
        schema.insert("properties".to_owned(), Json::Object(properties));
        schema.insert("additionalProperties".to_owned(), json!(false));
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        Json::Object(schema)
    }

    /// Returns the schema of a key that the file does not list, because another one stands for it.
    fn unlisted(&self, dict: &Dict, name: &str, place: &mut Vec<String>, path: &mut Vec<String>) -> Json {
        // `min` and `not` are written as `max` and `matches`.
        let alike = [("min", "max"), ("not", "matches"), ("cookie", "header")];
        match alike.into_iter().find(|(unlisted, _)| *unlisted == name) {
            Some((_, like)) if dict.contains_key(like) => {
                let mut schema = self.below(&dict[like], like, place, path);
                if let Some(map) = schema.as_object_mut() {
                    map.remove("description");
                    map.insert("description".to_owned(), json!(format!("In place of `{like}`.")));
                }
                schema
            }
            // The checks of the guard are documented with those of the steps.
            _ => {
                let mut documented: Vec<String> = path.iter().filter(|key| *key != "guard").cloned().collect();
                documented.push(name.to_owned());
                let elsewhere = documented.len() <= path.len();
                if elsewhere && let Some(value) = find(&self.tree, &documented) {
                    let mut place: Vec<String> = documented_place(&self.tree, &documented);
                    place.pop();
                    documented.pop();
                    return self.below(value, name, &mut place, &mut documented);
                }
                json!({ "type": "string" })
            }
        }
    }

    fn below(&self, value: &Value, key: &str, place: &mut Vec<String>, path: &mut Vec<String>) -> Json {
        place.push(key.to_owned());
        path.push(key.to_owned());
        let mut schema = self.value(value, place, path);
        if let (Some(key), Some(map)) = ((self.key_of)(path), schema.as_object_mut()) {
            if !key.about.is_empty() {
                map.insert("description".to_owned(), json!(key.about));
            }
            if let Some(value) = as_json(&key.value) {
                let (name, value) = if key.is_default { ("default", value) } else { ("examples", json!([value])) };
                map.insert(name.to_owned(), value);
            }
        }
        place.pop();
        path.pop();
        schema
    }

    fn value(&self, value: &Value, place: &mut Vec<String>, path: &mut Vec<String>) -> Json {
        match value {
            Value::Dict(..) => self.table(value, place, path),
            Value::Array(_, items) => {
                place.push("0".to_owned());
                let of_item = match items.first() {
                    Some(item) => self.value(item, place, path),
                    None => self.item(place, path),
                };
                place.pop();
                json!({ "type": "array", "items": of_item })
            }
            Value::Bool(..) => json!({ "type": "boolean" }),
            Value::Num(..) => match self.error(place, Some(Value::from(1.5))) {
                None => json!({ "type": "number" }),
                Some(_) => json!({ "type": "integer" }),
            },
            Value::String(..) | Value::Char(..) | Value::Empty(..) => self.text(place),
        }
    }

    /// Returns the schema of a text: one of a few, or any; for some keys a number is taken as well.
    fn text(&self, place: &[String]) -> Json {
        if let Some(Kind::UnknownVariant(_, variants)) = self.error(place, Some(Value::from(UNKNOWN))) {
            let is_text = |variant: &&&str| self.error(place, Some(Value::from(**variant))).is_none();
            let (texts, tables): (Vec<&&str>, Vec<&&str>) = variants.iter().partition(is_text);
            if tables.is_empty() {
                return json!({ "enum": texts });
            }
            let tables: Map<String, Json> =
                tables.into_iter().map(|name| ((*name).to_owned(), json!({ "type": "object" }))).collect();
            let table = json!({ "type": "object", "properties": tables, "additionalProperties": false });
            return json!({ "anyOf": [{ "enum": texts }, table] });
        }
        match self.error(place, Some(Value::from(1.5))) {
            None => json!({ "type": ["string", "number"] }),
            Some(_) => json!({ "type": "string" }),
        }
    }

    /// Returns the schema of an item of a list without an example.
    fn item(&self, place: &[String], path: &[String]) -> Json {
        if path == ["presets"] {
            let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            return json!({ "enum": names });
        }
        let (_, list) = (place.last(), &place[..place.len().saturating_sub(1)]);
        let unknown = Value::from(Dict::from([(UNKNOWN.to_owned(), Value::from(1))]));
        match self.error(list, Some(Value::from(vec![unknown]))) {
            Some(Kind::UnknownField(_, known)) => {
                let properties: Map<String, Json> =
                    known.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
                json!({ "type": "object", "properties": properties, "additionalProperties": false })
            }
            _ => json!({ "type": "string" }),
        }
    }
}

/// Returns the value at a path without the places in lists: in each list the first item counts.
fn find<'v>(tree: &'v Value, path: &[String]) -> Option<&'v Value> {
    match (tree, path) {
        (Value::Array(_, items), _) => find(items.first()?, path),
        (value, []) => Some(value),
        (Value::Dict(_, dict), [key, rest @ ..]) => find(dict.get(key)?, rest),
        _ => None,
    }
}

/// Returns a path with the places in lists.
fn documented_place(tree: &Value, path: &[String]) -> Vec<String> {
    match (tree, path) {
        (Value::Array(_, items), [_, ..]) => {
            let below = items.first().map(|item| documented_place(item, path)).unwrap_or_default();
            [vec!["0".to_owned()], below].concat()
        }
        (Value::Dict(_, dict), [key, rest @ ..]) => {
            let below = dict.get(key).map(|value| documented_place(value, rest)).unwrap_or_default();
            [vec![key.clone()], below].concat()
        }
        _ => Vec::new(),
    }
}

/// Returns a value of TOML as JSON.
fn as_json(value: &str) -> Option<Json> {
    let table: toml::Table = toml::from_str(&format!("value = {value}")).ok()?;
    serde_json::to_value(table.get("value")?).ok()
}
