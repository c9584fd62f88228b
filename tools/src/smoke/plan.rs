//! The file of a smoke test: reads it, checks it and reports all its problems at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use bellwether_core::time::Span;
use regex::Regex;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::secret::{self, BadToken};

/// The file as it is written, before the checks.
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

/// A smoke test whose file passed all checks.
#[derive(Debug, Clone)]
pub struct SmokePlan {
    /// Time for all requests together; a service that is not up by then has failed.
    pub deadline: Span,
    /// Longest time for one attempt.
    pub timeout: Span,
    /// Pause between two attempts at a service that is not up yet.
    pub every: Span,
    /// Requests in the order in which they are sent.
    pub requests: Vec<SmokeRequest>,
}

/// One request with the expectation of its answer.
#[derive(Debug, Clone)]
pub struct SmokeRequest {
    /// Name of the request, unique in its plan.
    pub name: String,
    /// HTTP method of the request.
    pub method: Method,
    /// Address: the base and the path.
    pub url: Url,
    /// Headers, all marked as sensitive so that their values can't be printed; only the default content type is not.
    pub headers: HeaderMap,
    /// Body of the request, if any.
    pub body: Option<String>,
    /// Properties that the answer must have.
    pub expect: Expectation,
}

/// The properties that an answer must have. The default expects a status of 200 to 299 and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Expectation {
    /// Allowed status codes; empty for any of 200 to 299.
    pub status: Vec<u16>,
    /// Names of headers, each with a pattern for its whole value.
    pub headers: Vec<(String, Regex)>,
    /// Texts that the body must contain.
    pub contains: Vec<String>,
    /// Pattern that must match somewhere in the body.
    pub matches: Option<Regex>,
    /// JSON pointers into the body, each with the expected value.
    pub json: BTreeMap<String, Value>,
    /// Longest time for the answer.
    pub within: Option<Span>,
}

/// The reason why a file is not a valid smoke test.
#[derive(Debug, thiserror::Error)]
pub enum BadPlan {
    /// The file can't be read.
    #[error("can't read {path}: {source}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file is not TOML or has an unknown key.
    #[error("{path}: {source}")]
    Toml {
        /// Path of the file.
        path: PathBuf,
        /// Error with its line and column.
        source: Box<toml::de::Error>,
    },
    /// The file has invalid values.
    #[error("{path}: {problems}")]
    Problems {
        /// Path of the file.
        path: PathBuf,
        /// All problems that were found.
        problems: Problems,
    },
}

/// The problems of one file.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// Reads the smoke test at `path`. `base` replaces the base of the file.
///
/// # Errors
/// [`BadPlan`] if the file can't be read or is invalid; it names every problem.
pub fn read(path: &Path, base: Option<&Url>) -> Result<SmokePlan, BadPlan> {
    let text = std::fs::read_to_string(path).map_err(|source| BadPlan::Unreadable { path: path.to_owned(), source })?;
    let raw: RawPlan =
        toml::from_str(&text).map_err(|source| BadPlan::Toml { path: path.to_owned(), source: Box::new(source) })?;
    check(raw, base).map_err(|problems| BadPlan::Problems { path: path.to_owned(), problems: Problems(problems) })
}

impl SmokePlan {
    /// Adds a bearer token to the requests that have no `Authorization` header of their own.
    ///
    /// # Errors
    /// The token has characters that a header can't hold.
    pub fn bearer(&mut self, token: &SecretString) -> Result<(), BadToken> {
        let value = secret::bearer(token)?;
        for request in &mut self.requests {
            request.headers.entry(reqwest::header::AUTHORIZATION).or_insert_with(|| value.clone());
        }
        Ok(())
    }
}

fn check(raw: RawPlan, base: Option<&Url>) -> Result<SmokePlan, Vec<String>> {
    let mut problems = Vec::new();
    let base = match (base, &raw.base) {
        (Some(base), _) => Some(base.clone()),
        (None, Some(text)) => {
            text.parse::<Url>().map_err(|error| problems.push(format!("base {text:?}: {error}"))).ok()
        }
        (None, None) => {
            problems.push("there is no base; write base = \"http://…\", or give --base".to_owned());
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
        problems.push("there is no request; write [[request]]".to_owned());
    }
    let mut requests: Vec<SmokeRequest> = Vec::new();
    let mut names = BTreeSet::new();
    for request in raw.request {
        if !names.insert(request.name.clone()) {
            problems.push(format!("two requests are named {:?}", request.name));
        }
        let name = request.name.clone();
        let mut report = |problem: String| problems.push(format!("request {name:?}: {problem}"));
        requests.extend(request.check(base.as_ref(), &mut report));
    }
    let RawPlan { deadline, timeout, every, .. } = raw;
    if problems.is_empty() { Ok(SmokePlan { deadline, timeout, every, requests }) } else { Err(problems) }
}

impl RawRequest {
    fn check(self, base: Option<&Url>, report: &mut dyn FnMut(String)) -> Option<SmokeRequest> {
        if !self.path.starts_with('/') {
            report(format!("the path {:?} does not begin with /", self.path));
        }
        if self.body.is_some() && self.json.is_some() {
            report("it has both a body and json; write one of them".to_owned());
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
                _ => report(format!("{name:?} and its value are not a valid header")),
            }
        }
        if let Some(path) = &self.bearer_token_file {
            match bearer(path) {
                Ok(value) => _ = headers.insert(reqwest::header::AUTHORIZATION, value),
                Err(problem) => report(problem),
            }
        }
        let body = self.json.as_ref().map(Value::to_string).or(self.body);
        let default = if body.is_some() { Method::POST } else { Method::GET };
        let method = match self.method.map(|method| method.to_uppercase().parse::<Method>()) {
            None => default,
            Some(Ok(method)) => method,
            Some(Err(error)) => {
                report(error.to_string());
                default
            }
        };
        let expect = self.expect.check(report);
        // Appended and not joined by `Url::join`, which would drop the path of the base.
        let url = base.and_then(|base| format!("{}{}", base.as_str().trim_end_matches('/'), self.path).parse().ok())?;
        Some(SmokeRequest { name: self.name, method, url, headers, body, expect })
    }
}

fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let token = secret::read(path).map_err(|error| error.to_string())?;
    secret::bearer(&token).map_err(|error| format!("{}: {error}", path.display()))
}

impl RawExpect {
    fn check(self, report: &mut dyn FnMut(String)) -> Expectation {
        let mut regex = |name: &str, text: &str, whole: bool| {
            let text = if whole { format!("^(?:{text})$") } else { text.to_owned() };
            Regex::new(&text).map_err(|error| report(format!("{name} is not a regular expression: {error}"))).ok()
        };
        let headers = self.header.into_iter();
        let headers = headers.filter_map(|(name, text)| regex(&name, &text, true).map(|regex| (name, regex))).collect();
        let matches = self.matches.and_then(|text| regex("`matches`", &text, false));
        for pointer in self.json.keys().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            report(format!("{pointer:?} is not a JSON pointer; write it as in /choices/0/text"));
        }
        let status = match self.status {
            None => Vec::new(),
            Some(OneOrMany::One(status)) => vec![status],
            Some(OneOrMany::Many(all)) => all,
        };
        Expectation { status, headers, contains: self.contains, matches, json: self.json, within: self.within }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smoke.toml");
        std::fs::write(&path, text).unwrap();
        match read(&path, None) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_problem_of_a_file_is_reported_at_once() {
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
        let message = outcome(text);
        for part in [
            "ftp:",
            "does not begin with /",
            "/no/such/file",
            "a body and json",
            "not a valid header",
            "`matches`",
            "/choices/0",
            "two requests",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_line() {
        let message = outcome("base = \"http://a\"\n[[request]]\nname = \"x\"\npath = \"/\"\nexpekt = 1\n");
        assert!(message.contains("line 5") && message.contains("expekt"), "{message}");
        assert!(outcome("base = \"http://a\"\n").contains("there is no request"));
        assert!(outcome("[[request]]\nname = \"x\"\npath = \"/\"\n").contains("--base"));
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
