//! The client of one endpoint. A request that fails because the server is busy or unreachable is retried a limited
//! number of times, and never sooner than the server asks. The result is an answer or a typed reason why there is none.
//!
//! No error holds a key, a URL's password or text of the prompt: servers repeat parts of a request in their errors, so
//! only the code of an error is kept.

use std::time::Duration;

use bellwether_gate::observation::MissingAnswer;
use bellwether_gate::suite::Endpoint;
use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::budget::{BudgetExhausted, RunBudget, Usage};
use super::wire::{Reply, ReplyStream, StreamPart, parse_reply};
use crate::secret::{self, SecretError};

/// Pause before the first retry; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause before a retry, also if the server asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Largest size of an answer, in bytes; a larger one counts as malformed.
const MAX_ANSWER: usize = 16 << 20;

/// The client of one endpoint: a model, a judge, a classifier or an embedder.
pub struct EndpointClient {
    http: reqwest::Client,
    endpoint: Endpoint,
    key: Option<SecretString>,
    timeout: Duration,
    retries: u32,
}

/// The reason why an endpoint can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ClientSetupError {
    /// The URL is missing or is not an HTTP URL.
    #[error(
        "{0} has no URL that begins with http:// or https://; write url = \"http://…/v1\" (for the target also --target)"
    )]
    Url(&'static str),
    /// The API key can't be read.
    #[error("the key of {role}: {source}")]
    Key {
        /// Role of the endpoint, such as "the judge".
        role: &'static str,
        /// Reason why the key can't be read.
        source: SecretError,
    },
    /// The HTTP client can't be built.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// The reason why a request has no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Unanswered {
    /// The request was sent, or was impossible, and its answer is missing.
    Missing {
        /// Kind of failure.
        why: MissingAnswer,
        /// Description of the failure, without text of the prompt.
        detail: String,
        /// Milliseconds that the last attempt took.
        after_ms: f64,
    },
    /// The request was not sent, because the budget is used up.
    Exhausted(BudgetExhausted),
}

/// An answer with the times of its attempt. Earlier attempts that the server refused do not count, so that the times
/// are those of accepted requests.
#[derive(Debug, Clone)]
pub struct TimedReply {
    /// The parsed answer.
    pub reply: Reply,
    /// Milliseconds from the start of the attempt to the first content; `None` if the answer is no stream.
    pub ttft_ms: Option<f64>,
    /// Milliseconds from the start of the attempt to the end of the answer.
    pub total_ms: f64,
}

/// A failed attempt.
struct FailedAttempt {
    why: MissingAnswer,
    detail: String,
    /// Whether to retry: `None` for no, `Some(None)` after the usual pause, `Some(Some(pause))` after the server's
    /// pause.
    retry: Option<Option<Duration>>,
}

fn usage(body: &Value, input: Option<u64>, output: Option<u64>, text: &str) -> Usage {
    Usage { input, output, sent: body.to_string().len(), received: text.len() }
}

impl EndpointClient {
    /// Returns a client of `endpoint` with `timeout` for each attempt and at most `retries` retries of a request.
    /// `role` names the endpoint in errors, as in "the judge".
    ///
    /// # Errors
    /// [`ClientSetupError`] if the URL is no HTTP URL, the key can't be read or the HTTP client can't be built.
    pub fn new(
        role: &'static str,
        endpoint: &Endpoint,
        timeout: Duration,
        retries: u32,
    ) -> Result<EndpointClient, ClientSetupError> {
        let url = Url::parse(&endpoint.url).map_err(|_| ClientSetupError::Url(role))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ClientSetupError::Url(role));
        }
        let key = endpoint.key_env.as_deref().map(secret::from_environment).transpose();
        let key = key.map_err(|source| ClientSetupError::Key { role, source })?;
        crate::tls::install();
        let http = reqwest::Client::builder()
            // A redirect could carry the key and the prompt to another server.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ClientSetupError::Client(error.without_url().to_string()))?;
        Ok(EndpointClient { http, endpoint: endpoint.clone(), key, timeout, retries })
    }

    /// Returns the name of the model that requests ask for.
    pub fn model(&self) -> &str {
        &self.endpoint.model
    }

    /// Sends a request for a completion to `path` and returns the answer; `body` says whether it is streamed.
    ///
    /// # Errors
    /// [`Unanswered`] with the reason why there is no answer.
    pub async fn complete(&self, path: &str, body: &Value, budget: &RunBudget) -> Result<TimedReply, Unanswered> {
        let streams = body.get("stream").is_some();
        self.with_retries(budget, async || {
            let watch = Instant::now();
            let response = self.send(path, body).await?;
            let mut ttft_ms = None;
            let reply = if streams {
                read_stream(response, || ttft_ms = Some(millis(&watch))).await?
            } else {
                parse_reply(&read_json(response).await?).ok_or_else(|| malformed("the response has no choices[0]"))?
            };
            Ok(TimedReply { reply, ttft_ms, total_ms: millis(&watch) })
        })
        .await
        .inspect(|timed| {
            let reply = &timed.reply;
            budget.add_tokens(self.endpoint.price, usage(body, reply.input_tokens, reply.output_tokens, &reply.text));
        })
    }

    /// Sends any other request to `path`, such as one for an embedding, and returns the JSON of the answer.
    ///
    /// # Errors
    /// [`Unanswered`] with the reason why there is no answer.
    pub async fn post(&self, path: &str, body: &Value, budget: &RunBudget) -> Result<Value, Unanswered> {
        let value = self.with_retries(budget, async || read_json(self.send(path, body).await?).await).await?;
        let count = |key: &str| value.pointer(key).and_then(Value::as_u64);
        // Vectors and verdicts are no tokens.
        let output = count("/usage/completion_tokens").or(Some(0));
        budget.add_tokens(self.endpoint.price, usage(body, count("/usage/prompt_tokens"), output, ""));
        Ok(value)
    }

    /// Runs `attempt` until it succeeds, must not be retried, or has used up the retries or the budget.
    async fn with_retries<T>(
        &self,
        budget: &RunBudget,
        attempt: impl AsyncFn() -> Result<T, FailedAttempt>,
    ) -> Result<T, Unanswered> {
        let mut pause = FIRST_PAUSE;
        let mut left = self.retries;
        loop {
            budget.take_request().map_err(Unanswered::Exhausted)?;
            let watch = Instant::now();
            let attempted = tokio::time::timeout(self.timeout, attempt()).await;
            let failed = match attempted {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failed)) => failed,
                // Not retried: the server may still work on the request, and a slow answer is a result.
                Err(_) => {
                    let detail = format!("no answer within {:?}", self.timeout);
                    FailedAttempt { why: MissingAnswer::Timeout, detail, retry: None }
                }
            };
            let FailedAttempt { why, detail, retry } = failed;
            let Some(servers_pause) = retry.filter(|_| left > 0) else {
                return Err(Unanswered::Missing { why, detail, after_ms: millis(&watch) });
            };
            left -= 1;
            tokio::time::sleep(servers_pause.unwrap_or(pause).min(LONGEST_PAUSE)).await;
            pause *= 2;
        }
    }

    async fn send(&self, path: &str, body: &Value) -> Result<Response, FailedAttempt> {
        let mut request = self.http.post(format!("{}/{path}", self.endpoint.url)).json(body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().await.map_err(|error| FailedAttempt {
            why: MissingAnswer::Unreachable,
            detail: describe(error),
            retry: Some(None),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let pause = retry_after(response.headers());
        let code = read_json(response)
            .await
            .ok()
            .and_then(|body| error_code(&body))
            .map(|code| format!(" ({code})"))
            .unwrap_or_default();
        let detail = format!("HTTP {}{code}", status.as_u16());
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => {
                FailedAttempt { why: MissingAnswer::RateLimited, detail, retry: Some(pause) }
            }
            status if status.is_server_error() => {
                FailedAttempt { why: MissingAnswer::ServerError, detail, retry: Some(pause) }
            }
            _ => FailedAttempt { why: MissingAnswer::Refused, detail, retry: None },
        })
    }
}

fn millis(watch: &Instant) -> f64 {
    watch.elapsed().as_secs_f64() * 1000.0
}

fn malformed(detail: &str) -> FailedAttempt {
    FailedAttempt { why: MissingAnswer::Malformed, detail: detail.to_owned(), retry: None }
}

/// Returns the error and its cause as text, without the URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// Returns the pause that `Retry-After` asks for; `None` unless it is a number of seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Returns the code or type of an API error; `None` unless it is a plain identifier of at most 60 bytes.
fn error_code(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    let text = |key: &str| error.get(key).and_then(Value::as_str);
    let code = text("code").or_else(|| text("type"))?;
    let plain = code.len() <= 60 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    plain.then(|| code.to_owned())
}

async fn read_json(mut response: Response) -> Result<Value, FailedAttempt> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next_chunk(&mut response).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return Err(malformed("the response is longer than 16 MB"));
        }
    }
    serde_json::from_slice(&bytes).map_err(|_| malformed("the response is not JSON"))
}

async fn read_stream(mut response: Response, mut at_first_content: impl FnMut()) -> Result<Reply, FailedAttempt> {
    let (mut stream, mut seen, mut length) = (ReplyStream::default(), false, 0);
    while let Some(chunk) = next_chunk(&mut response).await? {
        length += chunk.len();
        match stream.push(&chunk) {
            StreamPart::Content if !seen => {
                seen = true;
                at_first_content();
            }
            StreamPart::Broken => return Err(malformed("the stream holds data that is not a chunk of an answer")),
            StreamPart::Content | StreamPart::Other => {}
        }
        if length > MAX_ANSWER {
            return Err(malformed("the stream is longer than 16 MB"));
        }
    }
    stream.finish().ok_or_else(|| malformed("the stream ended in the middle of the answer"))
}

async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>, FailedAttempt> {
    response.chunk().await.map_err(|error| FailedAttempt {
        why: MissingAnswer::Unreachable,
        detail: describe(error),
        retry: Some(None),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_servers_pause_is_taken_in_seconds_only() {
        let pause = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(pause("3"), Some(Duration::from_secs(3)));
        assert_eq!(pause("0.5"), Some(Duration::from_millis(500)));
        for text in ["-1", "NaN", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(pause(text), None, "{text}");
        }
    }

    #[test]
    fn only_an_identifier_of_an_error_is_kept() {
        assert_eq!(
            error_code(&json!({ "error": { "code": "rate_limited", "message": "x" } })).as_deref(),
            Some("rate_limited")
        );
        assert_eq!(error_code(&json!({ "error": { "type": "server_error" } })).as_deref(), Some("server_error"));
        for error in
            [json!({ "code": "you said: hello" }), json!({ "message": "hello" }), json!("hello"), json!({ "code": 7 })]
        {
            assert_eq!(error_code(&json!({ "error": error })), None);
        }
    }
}
