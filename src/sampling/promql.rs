//! Writing PromQL that means what it says, whatever the names in it look like. Namespaces and workloads come from
//! events and label values from people's TOML, so each is quoted for the place where it goes: a string is not a regular
//! expression, and outside of quotes nothing but a plain word may be put at all.
#![expect(clippy::wildcard_enum_match_arm, reason = "asks about one kind, and leaves all others alone")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A PromQL string: quoted, with everything escaped that could end it.
pub fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    escape_into(&mut quoted, text, '"');
    quoted.push('"');
    quoted
}

/// The regular expression that `text` and nothing else matches.
///
/// Not `regex::escape`, which also escapes hyphens: half of all Kubernetes names would be harder to read.
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
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// `name{matchers}`; a name that needs quotes (UTF-8 names of Prometheus 3) goes inside the braces.
pub fn selector(name: &str, matchers: &[String]) -> String {
    let plain = is_word(name);
    let quoted = (!plain).then(|| string(name));
    let inside: Vec<&str> = quoted.iter().map(String::as_str).chain(matchers.iter().map(String::as_str)).collect();
    format!("{}{{{}}}", if plain { name } else { "" }, inside.join(", "))
}

/// `label="a"` for one value, `label=~"a|b"` for several; alternatives of plain text are looked up, not matched.
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

/// `label=~"a-.*|b-.*"`.
pub fn begins_with(label: &str, prefixes: &BTreeSet<String>) -> String {
    let alternatives: Vec<String> = prefixes.iter().map(|prefix| format!("{}.*", literal(prefix))).collect();
    format!("{}=~{}", label_name(label), string(&alternatives.join("|")))
}

/// A label's name as it stands in a grouping or a matcher.
pub fn label_name(label: &str) -> String {
    if is_word(label) && !label.contains(':') { label.to_owned() } else { string(label) }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// `query` with each `{{name}}` replaced by its value, escaped for where it stands: in a string, in a string that is
/// matched as a regular expression, or bare.
///
/// # Errors
/// In words: a parameter that there is not or whose value is not known, or a value that can't stand where it is put.
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
                    return Err(format!("there is no {{{{{name}}}}}; there are {}", known.join(", ")));
                }
            };
            place.put(&mut out, name, value)?;
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

/// Where in a query a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Bare,
    Quoted { quote: char, regex: bool },
}

impl Place {
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

    fn put(self, out: &mut String, name: &str, value: &str) -> Result<(), String> {
        match self {
            Place::Bare if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                out.push_str(value)
            }
            Place::Bare => return Err(format!("{{{{{name}}}}} is {value:?}, which can only stand in quotes")),
            Place::Quoted { quote: '`', .. } if value.contains('`') => {
                return Err(format!("{{{{{name}}}}} is {value:?}, which can't stand in backticks"));
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
    fn a_parameter_is_escaped_for_the_place_where_it_stands() {
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
            ("{{workload}}", Err(r#"{{workload}} is "a.b\"} or up{x=\"", which can only stand in quotes"#)),
            ("up{x=\"{{pod-hash}}\"}", Err("{{pod-hash}} is not known here")),
            (
                "up{x=\"{{pod}}\"}",
                Err("there is no {{pod}}; there are {{namespace}}, {{pod-hash}}, {{window}}, {{workload}}"),
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
