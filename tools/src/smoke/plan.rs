//! What a smoke test's file says, and whether it makes sense. All that does not is said at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use bellwether_core::time::Span;
use regex::Regex;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::Value;

use crate::secret;

/// The file, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPlan {
    base: Option<String>,
    #[serde(default = "RawPlan::deadline")]
    deadline: Span,
    #[serde(default = "RawPlan::timeout")]
    timeout: Span,
    #[serde(default = "RawPlan::every")]
    every: Span,
    #[serde(default)]
    request: Vec<RawRequest>,
}

impl RawPlan {
    fn deadline() -> Span {
        Span::from_secs(60)
    }

    fn timeout() -> Span {
        Span::from_secs(10)
    }

    fn every() -> Span {
        Span::from_secs(1)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRequest {
    name: String,
    path: String,
    method: Option<String>,
    #[serde(default)]
    header: BTreeMap<String, String>,
    bearer_token_file: Option<PathBuf>,
    body: Option<String>,
    json: Option<Value>,
    #[serde(default)]
    expect: RawExpect,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawExpect {
    status: Option<OneOrMany>,
    #[serde(default)]
    header: BTreeMap<String, String>,
    #[serde(default)]
    contains: Vec<String>,
    matches: Option<String>,
    #[serde(default)]
    json: BTreeMap<String, Value>,
    within: Option<Span>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u16),
    Many(Vec<u16>),
}

/// The checked plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is not up by then is down.
    pub deadline: Span,
    /// How long one request may take.
    pub timeout: Span,
    /// How long after a vain attempt the next one comes.
    pub every: Span,
    /// What is asked, in this order.
    pub requests: Vec<Request>,
}

/// One request and what is expected of its answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// What people call it.
    pub name: String,
    /// With which method.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// With which headers; none of their values can be printed.
    pub headers: HeaderMap,
    /// With which body.
    pub body: Option<String>,
    /// What the answer has to be.
    pub expect: Expect,
}

/// What an answer has to be.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// One of these; none: any of 200 to 299.
    pub status: Vec<u16>,
    /// Headers, and what the whole of their values has to match.
    pub headers: Vec<(String, Regex)>,
    /// Texts that are in the body.
    pub contains: Vec<String>,
    /// What has to match somewhere in the body.
    pub matches: Option<Regex>,
    /// JSON pointers, and what is there.
    pub json: BTreeMap<String, Value>,
    /// How long it may take.
    pub within: Option<Span>,
}

/// A file that is no smoke test.
#[derive(Debug, thiserror::Error)]
pub enum BadPlan {
    /// The file can't be read.
    #[error("can't read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or has keys that there are not.
    #[error("{path}: {source}")]
    Toml {
        /// Which.
        path: PathBuf,
        /// What, with its line and column.
        source: Box<toml::de::Error>,
    },
    /// What it says makes no sense.
    #[error("{path}: {problems}")]
    Problems {
        /// Which.
        path: PathBuf,
        /// All that is wrong.
        problems: Problems,
    },
}

/// All that is wrong with a file.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// Reads `path`; `base` replaces the file's own.
///
/// # Errors
/// With all that is wrong with it.
pub fn read(path: &Path, base: Option<&Url>) -> Result<Plan, BadPlan> {
    let text = std::fs::read_to_string(path).map_err(|source| BadPlan::Unreadable { path: path.to_owned(), source })?;
    let raw: RawPlan =
        toml::from_str(&text).map_err(|source| BadPlan::Toml { path: path.to_owned(), source: Box::new(source) })?;
    check(raw, base).map_err(|problems| BadPlan::Problems { path: path.to_owned(), problems: Problems(problems) })
}

fn check(raw: RawPlan, base: Option<&Url>) -> Result<Plan, Vec<String>> {
    let mut problems = Vec::new();
    let base = match (base, &raw.base) {
        (Some(base), _) => Some(base.clone()),
        (None, Some(text)) => {
            text.parse::<Url>().map_err(|error| problems.push(format!("base {text:?}: {error}"))).ok()
        }
        (None, None) => {
            problems.push("it names no base; write one, or give it with --base".to_owned());
            None
        }
    };
    let base = base.filter(|base: &Url| {
        let good = matches!(base.scheme(), "http" | "https");
        if !good {
            problems.push(format!("the base begins with {}:, and not with http: or https:", base.scheme()));
        }
        good
    });
    if raw.request.is_empty() {
        problems.push("it asks nothing; write [[request]]".to_owned());
    }
    let mut requests: Vec<Request> = Vec::new();
    let mut names = BTreeSet::new();
    for request in raw.request {
        if !names.insert(request.name.clone()) {
            problems.push(format!("there are two requests {:?}", request.name));
        }
        let name = request.name.clone();
        let mut told = |problem: String| problems.push(format!("request {name:?}: {problem}"));
        requests.extend(request.check(base.as_ref(), &mut told));
    }
    let RawPlan { deadline, timeout, every, .. } = raw;
    if problems.is_empty() { Ok(Plan { deadline, timeout, every, requests }) } else { Err(problems) }
}

impl RawRequest {
    fn check(self, base: Option<&Url>, tell: &mut dyn FnMut(String)) -> Option<Request> {
        if !self.path.starts_with('/') {
            tell(format!("the path {:?} does not begin with /", self.path));
        }
        if self.body.is_some() && self.json.is_some() {
            tell("it has a body and json, which is its body too".to_owned());
        }
        let mut headers = HeaderMap::new();
        if self.json.is_some() {
            headers.insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &self.header {
            match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                _ => tell(format!("{name:?} and its value are no header")),
            }
        }
        if let Some(path) = &self.bearer_token_file {
            match bearer(path) {
                Ok(value) => _ = headers.insert(reqwest::header::AUTHORIZATION, value),
                Err(problem) => tell(problem),
            }
        }
        let body = self.json.as_ref().map(Value::to_string).or(self.body);
        let usual = if body.is_some() { Method::POST } else { Method::GET };
        let method = match self.method.map(|method| method.to_uppercase().parse::<Method>()) {
            None => usual,
            Some(Ok(method)) => method,
            Some(Err(error)) => {
                tell(error.to_string());
                usual
            }
        };
        let expect = self.expect.check(tell);
        // Appended, not joined: a base with a path keeps it.
        let url = base.and_then(|base| format!("{}{}", base.as_str().trim_end_matches('/'), self.path).parse().ok())?;
        Some(Request { name: self.name, method, url, headers, body, expect })
    }
}

fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let token = secret::read(path).map_err(|error| error.to_string())?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| format!("the token in {} can't be in a header", path.display()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl RawExpect {
    fn check(self, tell: &mut dyn FnMut(String)) -> Expect {
        let mut regex = |what: &str, text: &str, whole: bool| {
            let text = if whole { format!("^(?:{text})$") } else { text.to_owned() };
            Regex::new(&text).map_err(|error| tell(format!("{what} is no regular expression: {error}"))).ok()
        };
        let headers = self.header.into_iter();
        let headers = headers.filter_map(|(name, text)| regex(&name, &text, true).map(|regex| (name, regex))).collect();
        let matches = self.matches.and_then(|text| regex("`matches`", &text, false));
        for pointer in self.json.keys().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            tell(format!("{pointer:?} is no JSON pointer; write /choices/0/text"));
        }
        let status = match self.status {
            None => Vec::new(),
            Some(OneOrMany::One(status)) => vec![status],
            Some(OneOrMany::Many(all)) => all,
        };
        Expect { status, headers, contains: self.contains, matches, json: self.json, within: self.within }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smoke.toml");
        std::fs::write(&path, text).unwrap();
        match read(&path, None) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn all_that_makes_no_sense_is_said_at_once() {
        let text = r#"
            base = "ftp://a"
            [[request]]
            name = "one"
            path = "x"
            bearer-token-file = "/no/such/file"
            [[request]]
            name = "one"
            path = "/y"
            body = "a"
            json = { a = 1 }
            method = "no method"
            header = { "a b" = "c" }
            [request.expect]
            matches = "("
            json = { choices = 1 }
        "#;
        let said = said(text);
        for part in [
            "ftp:",
            "does not begin with /",
            "/no/such/file",
            "a body and json",
            "no header",
            "`matches`",
            "/choices/0",
            "two requests",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_line() {
        let said = said("base = \"http://a\"\n[[request]]\nname = \"x\"\npath = \"/\"\nexpekt = 1\n");
        assert!(said.contains("line 5") && said.contains("expekt"), "{said}");
        assert!(self::said("base = \"http://a\"\n").contains("asks nothing"));
        assert!(self::said("[[request]]\nname = \"x\"\npath = \"/\"\n").contains("--base"));
    }

    #[test]
    fn a_base_keeps_its_path_and_a_flag_wins_over_the_file() {
        let raw = r#"
            base = "http://a/v1/"
            [[request]]
            name = "x"
            path = "/models?limit=1"
        "#;
        let plan = |base: Option<&str>| {
            check(toml::from_str(raw).unwrap(), base.map(|base| base.parse().unwrap()).as_ref()).unwrap()
        };
        assert_eq!(plan(None).requests[0].url.as_str(), "http://a/v1/models?limit=1");
        assert_eq!(plan(Some("http://b:1")).requests[0].url.as_str(), "http://b:1/models?limit=1");
    }
}
