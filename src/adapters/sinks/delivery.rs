//! The delivery of requests to a service: the rate, the deadline, and the meaning of an answer.
//!
//! | answer | meaning |
//! | --- | --- |
//! | 2xx | the notification is sent |
//! | 408, 429, 5xx, none | it is attempted again; before it nothing is sent for the time in `Retry-After` |
//! | any other, redirects too | the notification is refused and dropped |

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{Notification, Sink};
use bellwether_core::time::{Span, Timestamp};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::{Inquiry, Provider, SinkError, text};
use crate::clock::{Clock, SystemClock};
use crate::ports::{NotificationError, NotificationSink};

/// The longest pause before the next request. A longer `Retry-After` is cut to this.
const MAX_PAUSE: Span = Span::from_secs(300);
/// The longest part of an answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 10;
/// The longest part of an answer that an error message shows, in characters.
const MAX_SHOWN_CHARS: usize = 200;
/// The shortest text that is looked for in an answer to leave it out, in bytes.
const MIN_SECRET_BYTES: usize = 6;

/// A request to a service: a POST of its body, or a GET for an inquiry. It holds secrets and can't be printed.
pub(super) struct Letter {
    /// The URL, which may be a secret.
    pub(super) url: SecretString,
    /// The headers besides the content type.
    pub(super) headers: HeaderMap,
    /// The body, which is JSON.
    pub(super) body: Vec<u8>,
}

impl Letter {
    /// Creates a request to `url` with this body.
    pub(super) fn json(url: &SecretString, body: &Value) -> Letter {
        Letter { url: url.clone(), headers: HeaderMap::new(), body: body.to_string().into_bytes() }
    }
}

/// The deadline and the rate of a sink's requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The time for the service to answer a request.
    pub(super) timeout: Span,
    /// The largest number of requests per second. There are no bursts.
    pub(super) per_second: NonZeroU32,
}

/// The requests to one service.
pub(super) struct Connection {
    name: String,
    client: reqwest::Client,
    limiter: DefaultDirectRateLimiter,
    clock: Arc<dyn Clock>,
    /// The instant before which no request is sent, from the last `Retry-After`. Earlier attempts would count against the
    /// service's limit.
    not_before: Mutex<Instant>,
}

impl Connection {
    /// Returns the connection of the sink `name`.
    ///
    /// # Errors
    /// [`SinkError::Client`] if the HTTP client can't be created.
    pub(super) fn new(name: &str, pace: Pace) -> Result<Connection, SinkError> {
        let client = bellwether_tools::http::client()
            .timeout(pace.timeout.to_std())
            .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
            // A redirect could send the message to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SinkError::Client(error.without_url().to_string()))?;
        let limiter = RateLimiter::direct(Quota::per_second(pace.per_second).allow_burst(NonZeroU32::MIN));
        let (name, not_before) = (name.to_owned(), Mutex::new(Instant::now()));
        Ok(Connection { name, client, limiter, clock: Arc::new(SystemClock), not_before })
    }

    /// Returns the name of the sink.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the service takes a further request.
    async fn until_ready(&self) {
        let not_before = *self.not_before();
        tokio::time::sleep_until(not_before).await;
        self.limiter.until_ready().await;
    }

    /// Sends a request when the service takes one, and returns its answer if it is a success. `secrets` are left out of the error.
    ///
    /// # Errors
    /// The error of the answer, or [`NotificationError::Later`] without one.
    pub(super) async fn post(&self, letter: Letter, secrets: &[&SecretString]) -> Result<Response, NotificationError> {
        self.until_ready().await;
        self.post_now(letter, secrets).await
    }

    async fn post_now(&self, letter: Letter, secrets: &[&SecretString]) -> Result<Response, NotificationError> {
        let Letter { url, headers, body } = letter;
        let request = self.client.post(url.expose_secret()).headers(headers);
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        self.success(self.answer(request).await?, secrets).await
    }

    /// Locks the instant. Poisoning is harmless: the value is a plain `Instant`.
    fn not_before(&self) -> MutexGuard<'_, Instant> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response, NotificationError> {
        request.send().await.map_err(|error| NotificationError::Later {
            after: None,
            message: format!("{} did not answer: {}", self.name, root_cause(&error.without_url())),
        })
    }

    /// Returns an answer that is a success.
    ///
    /// # Errors
    /// The meaning of another answer.
    async fn success(&self, answer: Response, secrets: &[&SecretString]) -> Result<Response, NotificationError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let after = retry_after(answer.headers(), self.clock.now());
        let message = format!("{} answered {status}: {}", self.name, shown(&beginning(answer).await, secrets));
        let is_later = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if !is_later && !status.is_server_error() {
            return Err(NotificationError::Refused(message));
        }
        if let Some(after) = after {
            *self.not_before() = Instant::now() + after.min(MAX_PAUSE).to_std();
        }
        Err(NotificationError::Later { after, message })
    }
}

/// Returns the beginning of an answer as an error message may show it: without the secrets, as the message goes into the log and the
/// journal.
fn shown(answer: &str, secrets: &[&SecretString]) -> String {
    let mut shown = answer.to_owned();
    for secret in secrets {
        let secret = secret.expose_secret();
        let path = Url::parse(secret).ok().map(|url| url.path().to_owned());
        for part in [Some(secret.to_owned()), path].into_iter().flatten() {
            if part.len() >= MIN_SECRET_BYTES {
                shown = shown.replace(&part, "(not shown)");
            }
        }
    }
    text::fitted(shown.trim(), MAX_SHOWN_CHARS, text::utf16, text::plain)
}

/// A notification sink that is reached over HTTP by one request for each notification.
pub struct HttpSink {
    connection: Connection,
    provider: Box<dyn Provider>,
}

impl HttpSink {
    /// Returns the sink of a provider.
    ///
    /// # Errors
    /// [`SinkError::Client`] if the HTTP client can't be created.
    pub(super) fn new(name: &str, provider: impl Provider + 'static, pace: Pace) -> Result<HttpSink, SinkError> {
        Ok(HttpSink { connection: Connection::new(name, pace)?, provider: Box::new(provider) })
    }

    /// Returns the request for a notification, for tests of its body.
    #[cfg(test)]
    pub(super) fn letter(&self, effect: &Effect, notification: &Notification, now: Timestamp) -> Option<Letter> {
        self.provider.letter(effect, notification, now)
    }
}

#[async_trait]
impl NotificationSink for HttpSink {
    fn sink(&self) -> Sink {
        Sink { name: self.connection.name.clone(), subscription: self.provider.subscription() }
    }

    async fn send(
        &self,
        effect: &Effect,
        notification: &Notification,
        _: Option<&str>,
    ) -> Result<Option<String>, NotificationError> {
        self.connection.until_ready().await;
        let letter = self.provider.letter(effect, notification, self.connection.clock.now());
        if let Some(letter) = letter {
            self.connection.post_now(letter, &self.provider.secrets()).await?;
        }
        Ok(None)
    }

    async fn check(&self) -> Result<String, NotificationError> {
        let Connection { client, .. } = &self.connection;
        match self.provider.inquiry() {
            Inquiry::Confirms(Letter { url, headers, .. }) => {
                let answer = self.connection.answer(client.get(url.expose_secret()).headers(headers)).await?;
                self.connection.success(answer, &self.provider.secrets()).await?;
                Ok("its service accepts the settings".to_owned())
            }
            Inquiry::Reaches(url) => {
                let host = Url::parse(url.expose_secret()).ok().map(|url| url.origin().ascii_serialization());
                let host = host.unwrap_or_default();
                self.connection.answer(client.head(&host)).await?;
                Ok(format!("{host} answers"))
            }
        }
    }
}

/// Reads an answer up to [`MAX_ANSWER_BYTES`].
async fn beginning(answer: Response) -> String {
    String::from_utf8_lossy(&read(answer, MAX_ANSWER_BYTES).await).into_owned()
}

/// Reads an answer up to `most` bytes.
pub(super) async fn read(mut answer: Response, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
    }
    bytes
}

/// Returns the time to wait from `Retry-After`, which has seconds or a date (RFC 9110, 10.2.3). Discord sends decimals.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Span> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        let is_time = seconds.is_finite() && seconds >= 0.0;
        // Such a large number is cut below to the longest pause.
        return is_time.then(|| Span::from_millis((seconds.min(1e9) * 1000.0).ceil() as u64));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Span::between(now, date))
}

/// Returns the text of the innermost cause, such as "connection refused" instead of "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
