//! The texts of problems: serde's errors reworded for a person, with a remedy where there is one.

#![expect(clippy::wildcard_enum_match_arm, reason = "the other errors keep figment's own text")]

use figment::error::{Actual, Kind};

/// Returns `path` as text, as in `policy[0].step[1].weight`.
pub(super) fn key(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if part.parse::<usize>().is_ok() {
            text.push_str(&format!("[{part}]"));
        } else {
            let quoted = if part.contains('.') { format!("{part:?}") } else { part.clone() };
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(&quoted);
        }
    }
    text
}

/// Returns whether the error is about a key and not about its value.
pub(super) fn is_about_the_key(kind: &Kind) -> bool {
    matches!(kind, Kind::UnknownField(..))
}

/// Returns the text of an error at `path`: the problem and its remedy.
pub(super) fn explain(path: &[String], kind: &Kind) -> String {
    match kind {
        Kind::UnknownField(name, known) => unknown("key", name, known),
        Kind::UnknownVariant(name, known) => unknown("value", name, known),
        Kind::MissingField(name) => format!("`{name}` is missing here, and it has no default"),
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("{} is not {}", show(actual), expectation(expected))
        }
        Kind::Message(message) if message.contains("untagged enum RawLimit") => {
            "a limit is a number, or a text with its unit, as in \"5%\" or \"500ms\"".to_owned()
        }
        Kind::Message(message) => with_remedy(path, message),
        other => other.to_string(),
    }
}

fn with_remedy(path: &[String], message: &str) -> String {
    let listen = path.last().is_some_and(|key| key == "listen");
    if listen {
        format!("{message}; write an address and a port, as in \"127.0.0.1:8080\"")
    } else {
        message.to_owned()
    }
}

/// Returns the text for a name that is not one of `known`: the most similar known name, or all of them. `noun` is the
/// kind of the name, such as "key".
pub(super) fn unknown(noun: &str, name: &str, known: &[&str]) -> String {
    let similar = known
        .iter()
        .filter(|known| is_similar(name, known))
        .min_by_key(|known| strsim::damerau_levenshtein(name, known));
    match similar {
        Some(similar) => format!("unknown {noun} `{name}`; did you mean `{similar}`?"),
        None if known.is_empty() => format!("unknown {noun} `{name}`"),
        None if known.len() == 1 => format!("unknown {noun} `{name}`; there is only `{}`", known[0]),
        None => format!("unknown {noun} `{name}`; there are {}", known.join(", ")),
    }
}

/// Returns whether `name` may be a misspelling of `known`: at most a third of the letters differ.
pub(super) fn is_similar(name: &str, known: &str) -> bool {
    strsim::damerau_levenshtein(name, known) <= known.len().max(name.len()).div_ceil(3)
}

fn show(actual: &Actual) -> String {
    match actual {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn expectation(expected: &str) -> String {
    match expected {
        "a string" | "string" | "str" | "path string" => "a text in quotation marks".to_owned(),
        "a boolean" | "bool" => "true or false".to_owned(),
        "a sequence" => "a list, as in [\"a\", \"b\"]".to_owned(),
        "a map" => "a table".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "f64" => "a number".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}
