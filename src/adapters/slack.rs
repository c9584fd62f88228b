//! Slack, by an incoming webhook. A webhook answers `ok` and nothing else: no message can be edited or found again, so
//! a message says all that a person needs at three in the morning, and is not sent more often than Slack takes it.
//!
//! Sending is "at least once": when the answer is lost the outbox sends again. The effect's id stands in the small print,
//! so that a person can tell a repetition from news.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bellwether_core::ids::{EffectId, Workload};
use bellwether_core::input::effect::{Message, Mood};
use bellwether_core::time::Span;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::metrics::{self, Attempt};
use crate::ports::{Notify, NotifyError};
use crate::secret::{self, Secret, SecretError};

/// Block Kit's own bounds, in characters.
const HEADER: usize = 150;
const SECTION: usize = 3000;
/// Slack asks for seconds. Whoever answers with a day is not obeyed for longer than this.
const LONGEST_PAUSE: Span = Span::from_secs(300);

/// How Slack is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The file that holds the webhook's URL.
    pub webhook_file: Option<PathBuf>,
    /// The URL itself, from the environment.
    pub webhook: Option<Secret>,
    /// How long a request may take.
    pub timeout: Span,
    /// Messages per second.
    pub messages_per_second: NonZeroU32,
}

impl Default for Options {
    fn default() -> Options {
        Options { webhook_file: None, webhook: None, timeout: Span::from_secs(5), messages_per_second: NonZeroU32::MIN }
    }
}

/// Why there can be no connection. Never with the webhook's URL in it: whoever has that can post.
#[derive(Debug, thiserror::Error)]
pub enum SlackError {
    /// The URL can't be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It is not a URL.
    #[error("the Slack webhook is not a URL; it should begin with https://hooks.slack.com/")]
    NotAUrl,
    /// The client could not be made.
    #[error("no HTTP client for Slack: {0}")]
    Client(String),
}

/// Nobody is told. For a daemon without a webhook.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNotify;

#[async_trait]
impl Notify for NoNotify {
    async fn send(&self, _effect: &EffectId, _workload: &Workload, _message: &Message) -> Result<(), NotifyError> {
        Ok(())
    }
}

/// One webhook.
pub struct Slack {
    client: reqwest::Client,
    webhook: SecretString,
    limiter: DefaultDirectRateLimiter,
    /// Nothing is sent before this instant: Slack has asked for it, and counts every try against us.
    not_before: Mutex<Instant>,
}

impl Slack {
    /// The webhook that the options name; `None`: they name none.
    ///
    /// # Errors
    /// If they name one that can't be used.
    pub fn open(options: &Options) -> Result<Option<Slack>, SlackError> {
        let webhook = match (&options.webhook, &options.webhook_file) {
            (Some(Secret(webhook)), _) => webhook.clone(),
            (None, Some(path)) => secret::read(path)?,
            (None, None) => return Ok(None),
        };
        let url = Url::parse(webhook.expose_secret()).map_err(|_| SlackError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SlackError::NotAUrl);
        }
        crate::telemetry::install_tls();
        let client = reqwest::Client::builder()
            .timeout(options.timeout.to_std())
            // A redirect would carry the message to somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SlackError::Client(error.without_url().to_string()))?;
        // One at a time: a burst is what Slack answers with 429.
        let quota = Quota::per_second(options.messages_per_second).allow_burst(NonZeroU32::MIN);
        let limiter = RateLimiter::direct(quota);
        Ok(Some(Slack { client, webhook, limiter, not_before: Mutex::new(Instant::now()) }))
    }

    /// Whoever panicked over it left it readable.
    fn pause(&self) -> MutexGuard<'_, Instant> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn post(&self, body: &Value) -> Result<(), NotifyError> {
        let not_before = *self.pause();
        tokio::time::sleep_until(not_before).await;
        self.limiter.until_ready().await;
        let request = self.client.post(self.webhook.expose_secret()).json(body);
        let response = request.send().await.map_err(|error| NotifyError::Later {
            after: None,
            message: format!("Slack did not answer: {}", cause(&error.without_url())),
        })?;
        let status = response.status();
        let after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Span::from_secs);
        if status.is_success() {
            return Ok(());
        }
        if let Some(after) = after {
            *self.pause() = Instant::now() + after.min(LONGEST_PAUSE).to_std();
        }
        let said = response.text().await.unwrap_or_default();
        let message = format!("Slack answered {status}: {}", cut(said.trim(), 200));
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT || status.is_server_error()
        {
            return Err(NotifyError::Later { after, message });
        }
        Err(NotifyError::Refused(message))
    }
}

#[async_trait]
impl Notify for Slack {
    async fn send(&self, effect: &EffectId, workload: &Workload, message: &Message) -> Result<(), NotifyError> {
        let sent = self.post(&render(effect, workload, message)).await;
        metrics::notification(match &sent {
            Ok(()) => Attempt::Done,
            Err(NotifyError::Later { .. }) => Attempt::Later,
            Err(NotifyError::Refused(_)) => Attempt::Failed,
        });
        sent
    }
}

/// The innermost reason: "connection refused" says more than "error sending request".
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The message in Block Kit. `text` is what the phone shows, and what is shown where blocks are not.
fn render(effect: &EffectId, workload: &Workload, message: &Message) -> Value {
    let Message { mood, title, why, now, command, footer } = message;
    let title = format!("{} {title}", mark(*mood));
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&title, HEADER), "emoji": true } }),
        section(&format!("*Why*  {}", escape(why))),
        section(&format!("*Now*  {}", escape(now))),
    ];
    if let Some(command) = command {
        blocks.push(section(&format!("`{}`", escape(&command.replace('`', "'")))));
    }
    let small = format!("{}/{} · {} · {effect}", workload.cluster, workload.namespace, escape(footer));
    blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": cut(&small, SECTION) }] }));
    json!({ "text": cut(&escape(&title), SECTION), "blocks": blocks })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(text, SECTION) } })
}

fn mark(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "🟢",
        Mood::Asking => "🟡",
        Mood::Bad => "🔴",
        Mood::Blind => "⚫",
    }
}

/// The three characters that mean something to Slack; with them somebody's error message could call `@channel`.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// At most `max` characters, and never half an escape.
fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max - 1).collect();
    if let Some(at) = short.rfind('&').filter(|at| !short[*at..].contains(';') && short.len() - at < 5) {
        short.truncate(at);
    }
    short + "…"
}

#[cfg(test)]
mod tests;
