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
            match range(expected).filter(|_| is_number(actual)) {
                Some((least, most)) => format!("{} is not a whole number from {least} to {most}", show(actual)),
                None => format!("{} is not {}", show(actual), expectation(expected)),
            }
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
    match similar(name, known) {
        Some(similar) => format!("unknown {noun} `{name}`; did you mean `{similar}`?"),
        None if known.is_empty() => format!("unknown {noun} `{name}`"),
        None if known.len() == 1 => format!("unknown {noun} `{name}`; there is only `{}`", known[0]),
        None => format!("unknown {noun} `{name}`; there are {}", known.join(", ")),
    }
}

/// Returns the known name that `name` may be a misspelling of: at most a third of the letters differ.
pub(super) fn similar<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let is_similar = |known: &&&str| distance(known) <= known.len().max(name.len()).div_ceil(3);
    known.iter().filter(is_similar).min_by_key(distance).copied()
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
        Actual::Other(text) => long_integer(text).unwrap_or(text).to_owned(),
        other => other.to_string(),
    }
}

/// Returns the digits of an integer of more than 64 bits, which serde words as "integer `N` as i128".
fn long_integer(text: &str) -> Option<&str> {
    text.strip_prefix("integer `")?.split('`').next()
}

fn is_number(actual: &Actual) -> bool {
    match actual {
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => true,
        Actual::Other(text) => long_integer(text).is_some(),
        _ => false,
    }
}

/// Returns the least and the greatest number of a type of whole numbers; `None` for another type.
fn range(expected: &str) -> Option<(i64, u64)> {
    match expected {
        "u8" => Some((0, u8::MAX.into())),
        "u16" => Some((0, u16::MAX.into())),
        "u32" => Some((0, u32::MAX.into())),
        "nonzero u32" | "a nonzero u32" => Some((1, u32::MAX.into())),
        "u64" | "usize" => Some((0, u64::MAX)),
        "i32" => Some((i32::MIN.into(), i32::MAX as u64)),
        "i64" => Some((i64::MIN, i64::MAX as u64)),
        _ => None,
    }
}

fn expectation(expected: &str) -> String {
    match expected {
        "a string" | "string" | "str" | "path string" => "a text in quotation marks".to_owned(),
        "a boolean" | "bool" => "true or false".to_owned(),
        "a sequence" => "a list, as in [\"a\", \"b\"]".to_owned(),
        "a map" => "a table".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        "nonzero u32" | "a nonzero u32" => "a whole number above 0".to_owned(),
        "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "f64" => "a number".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}
