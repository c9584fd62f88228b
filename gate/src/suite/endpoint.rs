//! The endpoints of a suite: where each one is, and the dialect of the OpenAI-compatible API that it speaks.
//!
//! Servers agree on the form of a chat request and differ in the details: the key of the token limit, the parameters
//! that they refuse, the place where a model's thinking is. Each endpoint says its own details, so that a target, a
//! stable version, a judge, a classifier and an embedder may be five different servers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::values::Price;

/// An endpoint with an OpenAI-compatible API.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// The base URL up to and including `/v1`, without a slash at its end.
    pub url: String,
    /// The name of the model in each request.
    pub model: String,
    /// The name of the environment variable that holds the API key; `None` sends no key.
    pub key_env: Option<String>,
    /// The price of a million tokens; `None` if it is the suite's.
    pub price: Option<Price>,
    /// The details in which the endpoint differs from other servers.
    pub dialect: Dialect,
    /// The certificates of the connection.
    pub tls: EndpointTls,
}

/// The details of an OpenAI-compatible API in which servers differ.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dialect {
    /// The key under which `max-tokens` is sent; `max_tokens` by default.
    pub token_limit: TokenLimitKey,
    /// Whether a temperature is sent; true by default.
    pub temperature: bool,
    /// Whether a stream is asked for its usage with `stream_options`; true by default. Without it most servers count no
    /// tokens of a stream.
    pub stream_options: bool,
    /// The place where the model's thinking is; a field of its own by default.
    pub thinking: Thinking,
    /// Whether the thinking of an earlier step is sent back in a tool loop, in the form in which it came; true by
    /// default.
    pub return_thinking: bool,
    /// Headers of each request.
    pub headers: BTreeMap<String, EnvText>,
    /// Parameters of each request's URL, such as Azure's `api-version`.
    pub query: BTreeMap<String, EnvText>,
    /// Further keys of each request's body.
    pub body: Map<String, Value>,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect {
            token_limit: TokenLimitKey::default(),
            temperature: true,
            stream_options: true,
            thinking: Thinking::default(),
            return_thinking: true,
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            body: Map::new(),
        }
    }
}

/// The key of a request's body under which the largest number of output tokens is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitKey {
    /// `max_tokens`, which most servers know.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's reasoning models demand.
    MaxCompletionTokens,
    /// No key: the server's own limit holds.
    None,
}

impl TokenLimitKey {
    /// Returns the key; `None` if no limit is sent.
    pub fn key(self) -> Option<&'static str> {
        match self {
            TokenLimitKey::MaxTokens => Some("max_tokens"),
            TokenLimitKey::MaxCompletionTokens => Some("max_completion_tokens"),
            TokenLimitKey::None => None,
        }
    }
}

/// The place where an endpoint puts its model's thinking. Thinking is never judged as the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "RawThinking")]
pub enum Thinking {
    /// The model does not think: the text is the answer as it is, and fields with thinking are ignored.
    None,
    /// A field of its own (`reasoning_content`, `reasoning` and similar ones) or a part of the content with the type
    /// `thinking`. The text is the answer as it is.
    #[default]
    Field,
    /// The text of the answer, between two tags; a field of its own is recognized as well.
    Tags {
        /// The tag before the thinking. It may be missing where a template has written it into the prompt.
        begin: String,
        /// The tag after the thinking.
        end: String,
    },
}

/// The value of `thinking` as the file has it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected \"field\", \"tags\", \"none\" or { begin = \"<think>\", end = \"</think>\" }")]
enum RawThinking {
    Word(String),
    Tags { begin: String, end: String },
}

impl TryFrom<RawThinking> for Thinking {
    type Error = String;

    fn try_from(raw: RawThinking) -> Result<Thinking, String> {
        match raw {
            RawThinking::Word(word) => match word.as_str() {
                "none" => Ok(Thinking::None),
                "field" => Ok(Thinking::Field),
                "tags" => Ok(Thinking::Tags { begin: "<think>".to_owned(), end: "</think>".to_owned() }),
                _ => Err(format!("{word:?} is no place of thinking; write \"field\", \"tags\" or \"none\"")),
            },
            RawThinking::Tags { begin, end } if begin.is_empty() || end.is_empty() => {
                Err("a tag of thinking is empty".to_owned())
            }
            RawThinking::Tags { begin, end } => Ok(Thinking::Tags { begin, end }),
        }
    }
}

/// A text of a suite, or the name of an environment variable that holds it. Secrets are only taken from the
/// environment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a text or { env = \"NAME\" }")]
pub enum EnvText {
    /// The text itself.
    Plain(String),
    /// The variable that holds the text.
    Environment {
        /// The name of the variable.
        env: String,
    },
}

/// The certificates of an endpoint's connections: paths of PEM files, relative to the suite.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct EndpointTls {
    /// The certificates of the authorities that are trusted instead of the system's.
    pub ca_file: Option<String>,
    /// The certificate by which the runner identifies itself, and its chain. Set together with `key-file`.
    pub cert_file: Option<String>,
    /// The private key of `cert-file`.
    pub key_file: Option<String>,
}

/// Keys of a request's body that the runner sets itself.
const OWN_KEYS: [&str; 9] = [
    "model",
    "messages",
    "prompt",
    "input",
    "stream",
    "tools",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
];

/// Headers whose values are secrets.
const SECRET_HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"];

impl Endpoint {
    /// Returns the problems of the endpoint, each with its key below the endpoint's section.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if self.url.contains('?') {
            problems.push(("url".to_owned(), "a URL has no query here; write it as `dialect.query`".to_owned()));
        }
        for key in self.dialect.body.keys().filter(|key| OWN_KEYS.contains(&key.as_str())) {
            let message = "the runner sets this key itself, by other keys of the suite; leave it out";
            problems.push((format!("dialect.body.{key}"), message.to_owned()));
        }
        for (name, text) in &self.dialect.headers {
            if matches!(text, EnvText::Plain(_)) && SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                let message = "a suite holds no secret; write { env = \"NAME\" } with the variable that holds it";
                problems.push((format!("dialect.headers.{name}"), message.to_owned()));
            }
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            let message = "a client certificate needs its key; write both `cert-file` and `key-file`";
            problems.push(("tls".to_owned(), message.to_owned()));
        }
        problems
    }
}
