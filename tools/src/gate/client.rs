//! Asks one endpoint. Whoever is busy or away is asked again, so often and no more, and never sooner than they say; what comes
//! of a request is an answer or a typed nothing. No error has a key, a URL's password or a word of the prompt in it: servers
//! like to repeat what they were asked, so of an error's body only the code is kept.

use std::time::Duration;

use bellwether_gate::observation::Missing;
use bellwether_gate::suite::Endpoint;
use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::budget::{Budget, Exhausted};
use super::wire::{Piece, Pieces, Reply, whole};
use crate::secret::{self, SecretError};

/// The first pause before a repetition; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Whoever asks for more is not obeyed for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// An answer that is longer than this is none.
const MAX_ANSWER: usize = 16 << 20;

/// Somebody who can be asked.
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    key: Option<SecretString>,
    timeout: Duration,
    retries: u32,
}

/// Why somebody can't be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL is none.
    #[error("{0} has no URL that can be asked; write url = \"http://…/v1\" (of the target: or --target)")]
    Url(&'static str),
    /// The key is not there.
    #[error("the key of {who}: {source}")]
    Key {
        /// Whose.
        who: &'static str,
        /// Why.
        source: SecretError,
    },
    /// No client can be made.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Nothing {
    /// A typed nothing.
    Missing {
        /// Which.
        why: Missing,
        /// In words.
        detail: String,
        /// Milliseconds of the last attempt.
        after_ms: f64,
    },
    /// There is no more to spend.
    Exhausted(Exhausted),
}

/// An answer, and how long the attempt took that brought it: a server that turns requests away is judged by its answers to
/// those that it takes, and what it never takes is missing.
#[derive(Debug, Clone)]
pub struct Timed {
    /// What came.
    pub reply: Reply,
    /// Milliseconds to the first token, of a stream.
    pub ttft_ms: Option<f64>,
    /// Milliseconds to the last.
    pub total_ms: f64,
}

/// One attempt that failed.
struct Failed {
    why: Missing,
    detail: String,
    /// It may be tried again, after so long if they say so.
    again: Option<Option<Duration>>,
}

impl Client {
    /// Who `endpoint` is, for people `who`.
    ///
    /// # Errors
    /// If it can't be asked as it is configured.
    pub fn new(who: &'static str, endpoint: &Endpoint, timeout: Duration, retries: u32) -> Result<Client, SetupError> {
        let url = Url::parse(&endpoint.url).map_err(|_| SetupError::Url(who))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SetupError::Url(who));
        }
        let key = endpoint.key_env.as_deref().map(secret::from_environment).transpose();
        let key = key.map_err(|source| SetupError::Key { who, source })?;
        crate::tls::install();
        let http = reqwest::Client::builder()
            // A redirect would carry the key and the prompt to somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SetupError::Client(error.without_url().to_string()))?;
        Ok(Client { http, endpoint: endpoint.clone(), key, timeout, retries })
    }

    /// Which model is asked for.
    pub fn model(&self) -> &str {
        &self.endpoint.model
    }

    /// Asks for an answer, whole or in pieces as `body` says.
    ///
    /// # Errors
    /// With the reason why there is none.
    pub async fn ask(&self, path: &str, body: &Value, budget: &Budget) -> Result<Timed, Nothing> {
        let streams = body.get("stream").is_some();
        self.repeated(budget, async || {
            let watch = Instant::now();
            let response = self.send(path, body).await?;
            let mut ttft_ms = None;
            let reply = if streams {
                pieces(response, || ttft_ms = Some(millis(&watch))).await?
            } else {
                whole(&json(response).await?).ok_or_else(|| malformed("the response has no choices[0]"))?
            };
            Ok(Timed { reply, ttft_ms, total_ms: millis(&watch) })
        })
        .await
        .inspect(|timed| {
            budget.tokens(timed.reply.input_tokens.unwrap_or(0), timed.reply.output_tokens.unwrap_or(0));
        })
    }

    /// Asks for anything else: a vector, a classification.
    ///
    /// # Errors
    /// With the reason why there is none.
    pub async fn call(&self, path: &str, body: &Value, budget: &Budget) -> Result<Value, Nothing> {
        let value = self.repeated(budget, async || json(self.send(path, body).await?).await).await?;
        let count = |key: &str| value.pointer(key).and_then(Value::as_u64).unwrap_or(0);
        budget.tokens(count("/usage/prompt_tokens"), count("/usage/completion_tokens"));
        Ok(value)
    }

    async fn repeated<T>(&self, budget: &Budget, attempt: impl AsyncFn() -> Result<T, Failed>) -> Result<T, Nothing> {
        let mut pause = FIRST_PAUSE;
        let mut left = self.retries;
        loop {
            budget.request().map_err(Nothing::Exhausted)?;
            let watch = Instant::now();
            let attempted = tokio::time::timeout(self.timeout, attempt()).await;
            let failed = match attempted {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failed)) => failed,
                // Not again: it may still be at work, and so slow is slow.
                Err(_) => {
                    let detail = format!("no answer within {:?}", self.timeout);
                    Failed { why: Missing::Timeout, detail, again: None }
                }
            };
            let Failed { why, detail, again } = failed;
            let Some(told) = again.filter(|_| left > 0) else {
                return Err(Nothing::Missing { why, detail, after_ms: millis(&watch) });
            };
            left -= 1;
            tokio::time::sleep(told.unwrap_or(pause).min(LONGEST_PAUSE)).await;
            pause *= 2;
        }
    }

    async fn send(&self, path: &str, body: &Value) -> Result<Response, Failed> {
        let mut request = self.http.post(format!("{}/{path}", self.endpoint.url)).json(body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().await.map_err(|error| Failed {
            why: Missing::Unreachable,
            detail: plain(error),
            again: Some(None),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let told = told(response.headers());
        let code =
            json(response).await.ok().and_then(|body| code(&body)).map(|code| format!(" ({code})")).unwrap_or_default();
        let detail = format!("HTTP {}{code}", status.as_u16());
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => Failed { why: Missing::RateLimited, detail, again: Some(told) },
            status if status.is_server_error() => Failed { why: Missing::ServerError, detail, again: Some(told) },
            _ => Failed { why: Missing::Refused, detail, again: None },
        })
    }
}

fn millis(watch: &Instant) -> f64 {
    watch.elapsed().as_secs_f64() * 1000.0
}

fn malformed(detail: &str) -> Failed {
    Failed { why: Missing::Malformed, detail: detail.to_owned(), again: None }
}

/// An error's own words and those of its cause, without the URL.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// How long to wait, in the one form that servers of this kind use.
fn told(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The code of an error, if it is a word.
fn code(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    let word = |key: &str| error.get(key).and_then(Value::as_str);
    let code = word("code").or_else(|| word("type"))?;
    let plain = code.len() <= 60 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    plain.then(|| code.to_owned())
}

async fn json(mut response: Response) -> Result<Value, Failed> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next(&mut response).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return Err(malformed("the response is longer than 16 MB"));
        }
    }
    serde_json::from_slice(&bytes).map_err(|_| malformed("the response is not JSON"))
}

async fn pieces(mut response: Response, mut first: impl FnMut()) -> Result<Reply, Failed> {
    let (mut pieces, mut seen, mut length) = (Pieces::default(), false, 0);
    while let Some(chunk) = next(&mut response).await? {
        length += chunk.len();
        match pieces.take(&chunk) {
            Piece::Content if !seen => {
                seen = true;
                first();
            }
            Piece::Broken => return Err(malformed("the stream holds something that is no chunk of an answer")),
            Piece::Content | Piece::Other => {}
        }
        if length > MAX_ANSWER {
            return Err(malformed("the stream is longer than 16 MB"));
        }
    }
    pieces.end().ok_or_else(|| malformed("the stream ended in the middle of the answer"))
}

async fn next(response: &mut Response) -> Result<Option<Bytes>, Failed> {
    response.chunk().await.map_err(|error| Failed {
        why: Missing::Unreachable,
        detail: plain(error),
        again: Some(None),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_servers_pause_is_read_in_seconds_and_nothing_else() {
        let told_by = |text: &str| told(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(told_by("3"), Some(Duration::from_secs(3)));
        assert_eq!(told_by("0.5"), Some(Duration::from_millis(500)));
        for text in ["-1", "NaN", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(told_by(text), None, "{text}");
        }
    }

    #[test]
    fn of_an_error_only_a_word_is_kept() {
        assert_eq!(
            code(&json!({ "error": { "code": "rate_limited", "message": "x" } })).as_deref(),
            Some("rate_limited")
        );
        assert_eq!(code(&json!({ "error": { "type": "server_error" } })).as_deref(), Some("server_error"));
        for error in
            [json!({ "code": "you said: hello" }), json!({ "message": "hello" }), json!("hello"), json!({ "code": 7 })]
        {
            assert_eq!(code(&json!({ "error": error })), None);
        }
    }
}
