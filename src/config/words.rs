//! serde's complaints in words that tell a person what to write instead.

#![expect(clippy::wildcard_enum_match_arm, reason = "figment's own words do for what we have no better ones for")]

use figment::error::{Actual, Kind};

/// The path as it is spoken of: `policy[0].step[1].weight`.
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

/// Whether the value there must not be repeated to anybody. The name decides, since a map's keys are the user's own.
pub(super) fn is_secret(path: &[String]) -> bool {
    !is_rule(path) && path.iter().any(|key| is_secret_name(key))
}

/// Policies and metrics hold no secrets, and a metric may well be about tokens.
fn is_rule(path: &[String]) -> bool {
    path.first().is_some_and(|first| first == "metric" || first == "policy")
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let telling = [
        "password",
        "passwd",
        "secret",
        "token",
        "authorization",
        "cookie",
        "api-key",
        "apikey",
        "webhook",
        "credential",
        "private",
        "key.pem",
        "oauthbearer.config",
    ];
    // The name of a file is not its content.
    !name.ends_with("-file") && !name.ends_with(".location") && telling.iter().any(|word| name.contains(word))
}

/// A line of a file, fit to be shown: what follows a secret's name is left out.
pub(super) fn masked(line: &str, path: &[String]) -> String {
    let names = line.split(|c: char| !(c.is_alphanumeric() || "._-".contains(c)));
    let user_info = line.contains("://") && line.contains('@');
    if !is_rule(path) && (user_info || names.into_iter().any(is_secret_name)) {
        let name: String = line.chars().take_while(|c| *c != '=').collect();
        return format!("{}= (not shown)", name.trim_end().to_owned() + " ");
    }
    line.to_owned()
}

/// Whether the key is at fault and not its value.
pub(super) fn is_about_the_key(kind: &Kind) -> bool {
    matches!(kind, Kind::UnknownField(..))
}

/// What is wrong and what to do.
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
        Kind::Message(message) => remedy(path, message),
        other => other.to_string(),
    }
}

fn remedy(path: &[String], message: &str) -> String {
    let listen = path.last().is_some_and(|key| key == "listen");
    if listen {
        format!("{message}; write an address and a port, as in \"127.0.0.1:8080\"")
    } else {
        message.to_owned()
    }
}

/// A name that is not among the known ones, and the one that was probably meant.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let near =
        known.iter().filter(|known| is_near(name, known)).min_by_key(|known| strsim::damerau_levenshtein(name, known));
    match near {
        Some(near) => format!("unknown {what} `{name}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("unknown {what} `{name}`"),
        None if known.len() == 1 => format!("unknown {what} `{name}`; there is only `{}`", known[0]),
        None => format!("unknown {what} `{name}`; there are {}", known.join(", ")),
    }
}

/// Whether one may have been meant by the other: at most a third of the letters differ.
pub(super) fn is_near(name: &str, known: &str) -> bool {
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
