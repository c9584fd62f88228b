//! The effective configuration as TOML, with the origin of each value: the output of `bellwether config show --origin`.
//! Values of keys whose names mark a secret are left out.

use figment::value::{Dict, Value};

use serde_json::{Value as Json, json};

use super::layers::Layers;
use super::report::{ConfigReport, SourcePlace};
use super::secrets;
use super::sources::Sources;

/// The text in place of a secret.
const NOT_SHOWN: &str = "(not shown)";

/// Returns the effective configuration as TOML; with `origin`, each line ends with a comment that names its layer.
///
/// # Errors
/// If the layers can't be read. Values are not checked, so that a wrong one can be shown with its origin.
pub fn show(sources: &Sources, origin: bool) -> Result<String, ConfigReport> {
    let layers = Layers::read(sources)?;
    let mut page = Page { layers: &layers, origin, text: String::new() };
    if let Value::Dict(_, dict) = &layers.tree {
        page.table(&mut Vec::new(), dict, &[]);
    }
    Ok(page.text)
}

/// Returns the effective configuration as JSON; with `origin`, each value is an object with its `value` and its `origin`.
///
/// # Errors
/// As [`show`].
pub fn show_json(sources: &Sources, origin: bool) -> Result<Json, ConfigReport> {
    let layers = Layers::read(sources)?;
    Ok(json_value(&layers, origin, &mut Vec::new(), &layers.tree))
}

fn json_value(layers: &Layers, origin: bool, path: &mut Vec<String>, value: &Value) -> Json {
    let mut below = |key: String, value: &Value| {
        path.push(key);
        let json = json_value(layers, origin, path, value);
        path.pop();
        json
    };
    let plain = match value {
        Value::Dict(_, dict) => {
            return dict.iter().map(|(key, value)| (key.clone(), below(key.clone(), value))).collect();
        }
        Value::Array(_, items) if is_table(value) => {
            return items.iter().enumerate().map(|(index, item)| below(index.to_string(), item)).collect();
        }
        _ if secrets::is_secret(path) => Json::from(NOT_SHOWN),
        Value::String(_, text) => Json::from(without_user(text)),
        // Numbers and lists of plain values are JSON as they are.
        Value::Array(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => {
            serde_json::to_value(value).unwrap_or_default()
        }
    };
    if origin { json!({ "value": plain, "origin": origin_of(layers, path) }) } else { plain }
}

/// Returns the file and line, or the name of the layer, that a value comes from.
fn origin_of(layers: &Layers, path: &[String]) -> String {
    match layers.place(path, true) {
        SourcePlace::File { path, line, .. } => format!("{}:{line}", path.display()),
        SourcePlace::Named(name) => name,
    }
}

struct Page<'a> {
    layers: &'a Layers,
    origin: bool,
    text: String,
}

impl Page<'_> {
    /// Writes a table. Its plain values come first, since in TOML a value after a header belongs to that header's table.
    /// `path` is the table's path with indices, and `name` the same without them, as in a header.
    fn table(&mut self, path: &mut Vec<String>, dict: &Dict, name: &[String]) {
        let (tables, plain): (Vec<_>, Vec<_>) = dict.iter().partition(|(_, value)| is_table(value));
        for (key, value) in plain {
            path.push(key.clone());
            self.line(path, key, value);
            path.pop();
        }
        for (key, value) in tables {
            path.push(key.clone());
            let name: Vec<String> = name.iter().cloned().chain([key.clone()]).collect();
            let header = name.iter().map(|key| toml_key(key)).collect::<Vec<_>>().join(".");
            match value {
                Value::Dict(_, inner) => {
                    if inner.values().any(|value| !is_table(value)) || inner.is_empty() {
                        self.text.push_str(&format!("\n[{header}]\n"));
                    }
                    self.table(path, inner, &name);
                }
                Value::Array(_, items) => {
                    for (index, item) in items.iter().enumerate() {
                        let Value::Dict(_, inner) = item else { continue };
                        self.text.push_str(&format!("\n[[{header}]]\n"));
                        path.push(index.to_string());
                        self.table(path, inner, &name);
                        path.pop();
                    }
                }
                Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => {}
            }
            path.pop();
        }
    }

    fn line(&mut self, path: &[String], key: &str, value: &Value) {
        let shown = if secrets::is_secret(path) { format!("{NOT_SHOWN:?}") } else { toml_value(value) };
        let line = format!("{} = {shown}", toml_key(key));
        if self.origin {
            self.text.push_str(&format!("{line:<48} # {}\n", origin_of(self.layers, path)));
        } else {
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Dict(..) => true,
        Value::Array(_, items) => items.first().is_some_and(|item| matches!(item, Value::Dict(..))),
        Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => false,
    }
}

/// Returns the key as TOML: quoted if it has to be.
fn toml_key(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain { key.to_owned() } else { toml::Value::from(key).to_string() }
}

/// Returns the value as TOML.
fn toml_value(value: &Value) -> String {
    match value {
        Value::String(_, text) => toml::Value::from(without_user(text)).to_string(),
        Value::Char(_, c) => toml::Value::from(c.to_string()).to_string(),
        Value::Bool(_, value) => value.to_string(),
        Value::Num(..) => value.to_i128().map_or_else(
            || {
                value
                    .to_num()
                    .and_then(|number| number.to_f64())
                    .map_or_else(String::new, |number| toml::Value::from(number).to_string())
            },
            |number| number.to_string(),
        ),
        Value::Empty(..) => "\"\"".to_owned(),
        Value::Array(_, items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        Value::Dict(_, dict) => {
            let inner: Vec<String> =
                dict.iter().map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
    }
}

/// Returns a URL without the user and password before its host; any other text as it is.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://(not shown)@{host}{path}"),
        None => text.to_owned(),
    }
}
