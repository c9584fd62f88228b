//! The Slack adapter: notifications by an incoming webhook.
//!
//! A webhook answers only `ok`, so a message can't be edited or found later. Each message therefore has all that a person
//! needs to act, and messages are sent no faster than Slack accepts them.
//!
//! A message is sent at least once: if Slack's answer is lost, the effect is attempted again. The effect's id is in the
//! footer, so that a person can recognise a repeated message.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bellwether_core::ids::{EffectId, Workload};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{Message, Mood, Notification, Sink, Subscription};
use bellwether_core::time::Span;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ports::{NotificationError, NotificationSink};
use crate::secret::{self, Secret, SecretError};

/// The longest text of a header in Slack's Block Kit, in characters.
const MAX_HEADER_CHARS: usize = 150;
/// The longest text of a section in Slack's Block Kit, in characters.
const MAX_SECTION_CHARS: usize = 3000;
/// The longest pause before the next message. Slack's `Retry-After` is usually a few seconds; a longer one is cut to this.
const MAX_PAUSE: Span = Span::from_secs(300);

/// The settings of the webhook.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The file with the webhook's URL, which is a secret.
    pub webhook_file: Option<PathBuf>,
    /// The webhook's URL itself. Only the environment may set it; it overrides the file.
    pub webhook: Option<Secret>,
    /// The time for Slack to answer a request.
    pub timeout: Span,
    /// The largest number of messages per second.
    pub messages_per_second: NonZeroU32,
}

impl Default for Options {
    fn default() -> Options {
        Options { webhook_file: None, webhook: None, timeout: Span::from_secs(5), messages_per_second: NonZeroU32::MIN }
    }
}

/// An error of setting up the webhook. It never contains the webhook's URL, because the URL alone permits posting.
#[derive(Debug, thiserror::Error)]
pub enum SlackError {
    /// The file with the URL can't be read or is empty.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret is not an HTTP URL.
    #[error("the Slack webhook is not a URL; it should begin with https://hooks.slack.com/")]
    NotAUrl,
    /// The HTTP client could not be created.
    #[error("the HTTP client for Slack can't be created: {0}")]
    Client(String),
}

/// A Slack webhook.
pub struct Slack {
    client: reqwest::Client,
    webhook: SecretString,
    limiter: DefaultDirectRateLimiter,
    /// The instant before which no message is sent, from Slack's last `Retry-After`. Earlier attempts would count against the
    /// rate limit.
    not_before: Mutex<Instant>,
}

impl Slack {
    /// Returns the webhook of the options; `None` if they name none.
    ///
    /// # Errors
    /// If the file can't be read, the URL is not an HTTP URL, or the HTTP client can't be created.
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
        let client = bellwether_tools::http::client()
            .timeout(options.timeout.to_std())
            // A redirect could send the message to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SlackError::Client(error.without_url().to_string()))?;
        // Without bursts, because Slack answers them with 429.
        let quota = Quota::per_second(options.messages_per_second).allow_burst(NonZeroU32::MIN);
        let limiter = RateLimiter::direct(quota);
        Ok(Some(Slack { client, webhook, limiter, not_before: Mutex::new(Instant::now()) }))
    }

    /// Locks the instant. Poisoning is harmless: the value is a plain `Instant`.
    fn not_before(&self) -> MutexGuard<'_, Instant> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn post(&self, body: &Value) -> Result<(), NotificationError> {
        let not_before = *self.not_before();
        tokio::time::sleep_until(not_before).await;
        self.limiter.until_ready().await;
        let request = self.client.post(self.webhook.expose_secret()).json(body);
        let response = request.send().await.map_err(|error| NotificationError::Later {
            after: None,
            message: format!("Slack did not answer: {}", root_cause(&error.without_url())),
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
            *self.not_before() = Instant::now() + after.min(MAX_PAUSE).to_std();
        }
        let body = response.text().await.unwrap_or_default();
        let message = format!("Slack answered {status}: {}", cut(body.trim(), 200));
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT || status.is_server_error()
        {
            return Err(NotificationError::Later { after, message });
        }
        Err(NotificationError::Refused(message))
    }
}

#[async_trait]
impl NotificationSink for Slack {
    fn sink(&self) -> Sink {
        Sink { name: "slack".to_owned(), subscription: Subscription::Messages }
    }

    async fn send(&self, effect: &Effect, notification: &Notification) -> Result<(), NotificationError> {
        match &notification.message {
            Some(message) => self.post(&render(&effect.id, &effect.workload, message)).await,
            None => Ok(()),
        }
    }
}

/// Returns the text of the innermost cause, such as "connection refused" instead of "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Returns the message in Block Kit. `text` is shown in phone notifications and by clients without blocks.
fn render(effect: &EffectId, workload: &Workload, message: &Message) -> Value {
    let Message { mood, title, why, now, command, footer } = message;
    let title = format!("{} {title}", mark(*mood));
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&title, MAX_HEADER_CHARS), "emoji": true } }),
        section(&format!("*Why*  {}", escape(why))),
        section(&format!("*Now*  {}", escape(now))),
    ];
    if let Some(command) = command {
        blocks.push(section(&format!("`{}`", escape(&command.replace('`', "'")))));
    }
    let footer = format!("{}/{} · {} · {effect}", workload.cluster, workload.namespace, escape(footer));
    blocks.push(
        json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": cut(&footer, MAX_SECTION_CHARS) }] }),
    );
    json!({ "text": cut(&escape(&title), MAX_SECTION_CHARS), "blocks": blocks })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(text, MAX_SECTION_CHARS) } })
}

/// Returns the symbol of a mood.
fn mark(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "🟢",
        Mood::Asking => "🟡",
        Mood::Bad => "🔴",
        Mood::Blind => "⚫",
    }
}

/// Escapes the three characters that are markup in Slack, so that an error message with `<!channel>` notifies no one.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns at most `max` characters of an escaped text; no escape is cut in the middle.
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
