//! Writes names and values into PromQL safely.
//!
//! Namespaces and workloads come from events, and label values from configuration files. So each value is escaped for
//! the place where it is written: inside a string, inside a string that is a regular expression, or outside of quotes,
//! where only a plain word is allowed.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches one kind and treats all others alike")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Returns `text` as a PromQL string in double quotes.
pub fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    escape_into(&mut quoted, text, '"');
    quoted.push('"');
    quoted
}

/// Returns the regular expression that matches `text` alone.
///
/// `regex::escape` would escape hyphens as well and make most Kubernetes names hard to read.
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// Appends `text`, escaped for a string in the quotes `quote`.
fn escape_into(out: &mut String, text: &str, quote: char) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                // Writing to a `String` never fails.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// Returns `name{matchers}`. A name that needs quotes, as a UTF-8 name of Prometheus 3 does, is written inside the
/// braces.
pub fn selector(name: &str, matchers: &[String]) -> String {
    let plain = is_word(name);
    let quoted = (!plain).then(|| string(name));
    let inside: Vec<&str> = quoted.iter().map(String::as_str).chain(matchers.iter().map(String::as_str)).collect();
    format!("{}{{{}}}", if plain { name } else { "" }, inside.join(", "))
}

/// Returns the matcher `label="a"` for one value and `label=~"a|b"` for several. Prometheus looks up alternatives of
/// plain text instead of matching every value.
pub fn one_of(label: &str, values: &BTreeSet<String>) -> String {
    let label = label_name(label);
    match values.first() {
        Some(only) if values.len() == 1 => format!("{label}={}", string(only)),
        _ => {
            let alternatives: Vec<String> = values.iter().map(|value| literal(value)).collect();
            format!("{label}=~{}", string(&alternatives.join("|")))
        }
    }
}

/// Returns the matcher `label=~"a-.*|b-.*"` for the prefixes `a-` and `b-`.
pub fn begins_with(label: &str, prefixes: &BTreeSet<String>) -> String {
    let alternatives: Vec<String> = prefixes.iter().map(|prefix| format!("{}.*", literal(prefix))).collect();
    format!("{}=~{}", label_name(label), string(&alternatives.join("|")))
}

/// Returns a label's name as it is written in a grouping or a matcher, in quotes if it needs them.
pub fn label_name(label: &str) -> String {
    if is_word(label) && !label.contains(':') { label.to_owned() } else { string(label) }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// Returns `query` with each `{{name}}` replaced by its value, escaped for its place: in a string, in a string that is
/// a regular expression, or outside of quotes.
///
/// # Errors
/// A sentence about the parameter: it does not exist, has no value (`None`), or its value can't be written in its
/// place.
pub fn fill(query: &str, parameters: &BTreeMap<&str, Option<String>>) -> Result<String, String> {
    let mut out = String::with_capacity(query.len());
    let mut place = Place::Bare;
    let mut rest = query;
    while let Some(next) = rest.chars().next() {
        if let Some((name, after)) = rest.strip_prefix("{{").and_then(|tail| tail.split_once("}}")) {
            let name = name.trim();
            let value = match parameters.get(name) {
                Some(Some(value)) => value,
                Some(None) => return Err(format!("{{{{{name}}}}} is not known here")),
                None => {
                    let known: Vec<String> = parameters.keys().map(|known| format!("{{{{{known}}}}}")).collect();
                    return Err(format!(
                        "there is no parameter {{{{{name}}}}}; the parameters are {}",
                        known.join(", ")
                    ));
                }
            };
            place.append(&mut out, name, value)?;
            rest = after;
            continue;
        }
        let taken = match (place, next) {
            (Place::Quoted { quote, .. }, '\\') if quote != '`' => {
                1 + rest[1..].chars().next().map_or(0, char::len_utf8)
            }
            _ => next.len_utf8(),
        };
        place = place.after(next, taken, &out);
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Ok(out)
}

/// The place of a parameter in a query.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// Outside of quotes.
    Bare,
    /// Inside a string, which is a regular expression if it follows `=~` or `!~`.
    Quoted { quote: char, regex: bool },
}

impl Place {
    /// Returns the place behind the character `next`. It is `taken` bytes long with the character that it escapes, and
    /// `before` is the query in front of it.
    fn after(self, next: char, taken: usize, before: &str) -> Place {
        match self {
            Place::Bare if matches!(next, '"' | '\'' | '`') => {
                let operator = before.trim_end();
                Place::Quoted { quote: next, regex: operator.ends_with("=~") || operator.ends_with("!~") }
            }
            Place::Quoted { quote, .. } if next == quote && taken == 1 => Place::Bare,
            same => same,
        }
    }

    /// Appends the value of the parameter `name`, escaped for this place.
    fn append(self, out: &mut String, name: &str, value: &str) -> Result<(), String> {
        match self {
            Place::Bare if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                out.push_str(value)
            }
            Place::Bare => return Err(format!("{{{{{name}}}}} is {value:?}, which must be written in quotes")),
            Place::Quoted { quote: '`', .. } if value.contains('`') => {
                return Err(format!("{{{{{name}}}}} is {value:?}, which can't be written in backticks"));
            }
            Place::Quoted { quote, regex } => {
                let text = if regex { literal(value) } else { value.to_owned() };
                if quote == '`' { out.push_str(&text) } else { escape_into(out, &text, quote) }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_escaped_for_its_place() {
        let parameters = BTreeMap::from([
            ("namespace", Some("shop".to_owned())),
            ("workload", Some("a.b\"} or up{x=\"".to_owned())),
            ("window", Some("5m".to_owned())),
            ("pod-hash", None),
        ]);
        for (query, wanted) in [
            (r#"up{namespace="{{namespace}}"}[{{window}}]"#, Ok(r#"up{namespace="shop"}[5m]"#)),
            (r#"up{x="{{workload}}"}"#, Ok(r#"up{x="a.b\"} or up{x=\""}"#)),
            (r#"up{x='{{workload}}'}"#, Ok(r#"up{x='a.b"} or up{x="'}"#)),
            (r#"up{x=~"{{workload}}-.*"}"#, Ok(r#"up{x=~"a\\.b\"\\} or up\\{x=\"-.*"}"#)),
            (r#"up{x=~ `{{namespace}}`}"#, Ok("up{x=~ `shop`}")),
            (r#"up{y="\"{{namespace}}"}"#, Ok(r#"up{y="\"shop"}"#)),
            ("{{workload}}", Err(r#"{{workload}} is "a.b\"} or up{x=\"", which must be written in quotes"#)),
            ("up{x=\"{{pod-hash}}\"}", Err("{{pod-hash}} is not known here")),
            (
                "up{x=\"{{pod}}\"}",
                Err(
                    "there is no parameter {{pod}}; the parameters are {{namespace}}, {{pod-hash}}, {{window}}, {{workload}}",
                ),
            ),
        ] {
            assert_eq!(fill(query, &parameters), wanted.map(str::to_owned).map_err(str::to_owned), "{query}");
        }
    }

    #[test]
    fn a_hostile_name_stays_inside_its_quotes() {
        let values = BTreeSet::from(["a\"}\n or up".to_owned(), "b|c".to_owned()]);
        assert_eq!(one_of("namespace", &values), r#"namespace=~"a\"\\}\n or up|b\\|c""#);
        assert_eq!(one_of("x.y", &BTreeSet::from(["\u{7}\\".to_owned()])), r#""x.y"="\u0007\\""#);
        assert_eq!(selector("http.requests", &["a=\"b\"".to_owned()]), r#"{"http.requests", a="b"}"#);
    }
}
