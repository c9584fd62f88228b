//! Slack, by the bot token of an app: one message per rollout, which follows it, and a thread with a line for each decision.
//!
//! | notification | message of the rollout | thread | channel |
//! | --- | --- | --- | --- |
//! | the first one | posted (`chat.postMessage`) | | that message |
//! | a later one | edited (`chat.update`) | a line | |
//! | one that needs a person, or is final | edited | a line | the same line, because an edit wakes nobody |
//!
//! The message is found again by its channel and its timestamp. They are the sink's receipt, which the engine journals and returns
//! with later notifications; until then this process remembers them. A message that a person has deleted is posted anew.
//!
//! A message is sent at least once: if Slack's answer is lost, the notification is attempted again, and the effect's id in the footer
//! tells a repetition. An edit is harmless to repeat, so it comes before the line.
//!
//! Limits, beside those of [`super::slack`]: one posted message per second and channel, and 50 edits per minute
//! (docs.slack.dev/apis/web-api/rate-limits). Slack answers a mistake with 200 and `"ok": false`.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bellwether_core::ids::RolloutId;
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{Message, MessageKind, Notification, Sink, Subscription};
use bellwether_core::time::{Span, Timestamp};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::delivery::{Connection, Letter, Pace, read};
use super::slack::{part, render, section};
use super::text::{fitted, plain, utf16};
use super::{Connections, SinkError, SinkOptions, below, http_url, mark, missing, required, url_problem};
use crate::ports::{NotificationError, NotificationSink};
use crate::secret::Secret;

/// The address of Slack's Web API.
const API: &str = "https://slack.com/api";
/// The longest answer that is read, in bytes. It repeats the message.
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// The longest name of an error that is shown, in characters.
const MAX_SHOWN_CHARS: usize = 80;
/// The threads that are remembered until the engine has journaled their receipts.
const MOST_REMEMBERED: usize = 256;
/// The errors after which Slack may take the same call later (docs.slack.dev, errors of `chat.postMessage`).
const PASSING: [&str; 7] = [
    "fatal_error",
    "internal_error",
    "rate_limited",
    "ratelimited",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];
/// The errors of `chat.update` for a message that can't be edited any more.
const NOT_EDITABLE: [&str; 3] = ["message_not_found", "cant_update_message", "edit_window_closed"];

/// The settings of an app in one channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The file with the bot token, which is a secret. It needs the scope `chat:write`.
    pub token_file: Option<PathBuf>,
    /// The bot token itself. Only the environment may set it; it overrides the file.
    pub token: Option<Secret>,
    /// The id of the channel, or its name. The app has to be a member.
    pub channel: String,
    /// The address of the Web API, for one of another region.
    pub url: String,
    /// The time for Slack to answer a request.
    pub timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        let timeout = Span::from_secs(5);
        Options { token_file: None, token: None, channel: String::new(), url: API.to_owned(), timeout }
    }
}

impl SinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = missing(self.token.as_ref(), self.token_file.as_ref(), "token-file");
        if self.channel.is_empty() {
            let problem = "the sink needs a channel; write its id, such as \"C0123456789\"".to_owned();
            problems.push(("channel", problem));
        }
        problems.extend(url_problem("url", &self.url, API));
        problems
    }

    fn open(&self, name: &str, _: &Connections<'_>) -> Result<Box<dyn NotificationSink>, SinkError> {
        Ok(Box::new(self.sink(name, NonZeroU32::MIN)?))
    }
}

impl Options {
    /// Returns the sink with this pace, in requests per second.
    fn sink(&self, name: &str, per_second: NonZeroU32) -> Result<SlackApp, SinkError> {
        let token = required(self.token.as_ref(), self.token_file.as_deref(), "token-file")?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        let mut bearer =
            bearer.map_err(|_| SinkError::Unusable("the bot token has characters that no token has".to_owned()))?;
        bearer.set_sensitive(true);
        let connection = Connection::new(name, Pace { timeout: self.timeout, per_second })?;
        let api = http_url(SecretString::from(self.url.as_str()), "Slack's Web API", API)?;
        Ok(SlackApp { connection, api, bearer, token, channel: self.channel.clone(), remembered: Mutex::default() })
    }
}

/// The message of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Thread {
    /// The id of the channel.
    channel: String,
    /// Slack's timestamp of the message, which identifies it within the channel.
    ts: String,
    /// The time of the newest decision that it shows.
    shows: Timestamp,
}

impl Thread {
    /// Returns the receipt by which it is found again.
    fn receipt(&self) -> String {
        format!("{}/{}/{}", self.channel, self.ts, self.shows.as_millisecond())
    }

    /// Returns the thread of a receipt; `None` if this sink has not written it.
    fn of(receipt: &str) -> Option<Thread> {
        let mut parts = receipt.split('/');
        let (channel, ts) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let shows = Timestamp::from_millisecond(parts.next()?.parse().ok()?).ok()?;
        (!channel.is_empty() && !ts.is_empty() && parts.next().is_none()).then_some(Thread { channel, ts, shows })
    }
}

/// An answer of the Web API.
#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    /// The id of the channel.
    #[serde(default)]
    channel: String,
    /// The timestamp of the message.
    #[serde(default)]
    ts: String,
}

/// A call that Slack has refused.
struct CallError {
    /// Slack's name of the error; empty if the call had no answer of the Web API.
    name: String,
    error: NotificationError,
}

/// An app of Slack in one channel.
struct SlackApp {
    connection: Connection,
    api: SecretString,
    bearer: HeaderValue,
    token: SecretString,
    channel: String,
    /// The newest threads, until the engine returns their receipts.
    remembered: Mutex<VecDeque<(RolloutId, Thread)>>,
}

impl SlackApp {
    /// Locks the threads. Poisoning is harmless: each change is one statement.
    fn remembered(&self) -> MutexGuard<'_, VecDeque<(RolloutId, Thread)>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the thread of a rollout: the newer one of that which this process remembers and that of the receipt.
    fn thread(&self, rollout: &RolloutId, receipt: Option<&str>) -> Option<Thread> {
        let remembered = self.remembered().iter().find(|(id, _)| id == rollout).map(|(_, thread)| thread.clone());
        let journaled = receipt.and_then(Thread::of);
        remembered.into_iter().chain(journaled).max_by_key(|thread| thread.shows)
    }

    fn remember(&self, rollout: &RolloutId, thread: Thread) {
        let mut remembered = self.remembered();
        remembered.retain(|(id, _)| id != rollout);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back((rollout.clone(), thread));
    }

    async fn call(&self, method: &str, body: &Value) -> Result<Answer, CallError> {
        let name = self.connection.name();
        let refused = |message| CallError { name: String::new(), error: NotificationError::Refused(message) };
        let url =
            below(&self.api, &[method]).ok_or_else(|| refused(format!("{name} has no address of the Web API")))?;
        let mut letter = Letter::json(&url, body);
        letter.headers = HeaderMap::from_iter([(AUTHORIZATION, self.bearer.clone())]);
        let answer = self.connection.post(letter, &[&self.token]).await;
        let answer = answer.map_err(|error| CallError { name: String::new(), error })?;
        let answer: Result<Answer, _> = serde_json::from_slice(&read(answer, MAX_ANSWER_BYTES).await);
        let answer = answer.map_err(|_| refused(format!("{name} gave no answer of Slack's Web API to {method}")))?;
        if answer.ok {
            return Ok(answer);
        }
        let error = fitted(&answer.error, MAX_SHOWN_CHARS, utf16, plain);
        let message = format!("{name} refused {method}: {error}{}", remedy(&answer.error));
        let error = if PASSING.contains(&answer.error.as_str()) {
            NotificationError::Later { after: None, message }
        } else {
            NotificationError::Refused(message)
        };
        Err(CallError { name: answer.error, error })
    }

    /// Posts the message of a rollout.
    async fn begin(&self, card: Value, at: Timestamp) -> Result<Thread, NotificationError> {
        let body = with(card, [("channel", json!(self.channel))]);
        let Answer { channel, ts, .. } = self.call("chat.postMessage", &body).await.map_err(|error| error.error)?;
        Ok(Thread { channel, ts, shows: at })
    }

    /// Edits the message of a rollout. Returns `false` if it can't be edited any more.
    async fn edit(&self, thread: &Thread, card: Value) -> Result<bool, NotificationError> {
        let body = with(card, [("channel", json!(thread.channel)), ("ts", json!(thread.ts))]);
        match self.call("chat.update", &body).await {
            Ok(_) => Ok(true),
            Err(CallError { name, .. }) if NOT_EDITABLE.contains(&name.as_str()) => Ok(false),
            Err(CallError { error, .. }) => Err(error),
        }
    }

    /// Adds the line of a notification to a thread.
    async fn add_line(&self, thread: &Thread, effect: &Effect, message: &Message) -> Result<(), NotificationError> {
        let wakes = matches!(message.kind, MessageKind::NeedsAPerson | MessageKind::Final);
        let place =
            [("channel", json!(thread.channel)), ("thread_ts", json!(thread.ts)), ("reply_broadcast", json!(wakes))];
        self.call("chat.postMessage", &with(line(effect, message), place)).await.map_err(|error| error.error)?;
        Ok(())
    }
}

/// Returns the end of an error's sentence that tells what to do; empty for an error that has no remedy here.
fn remedy(error: &str) -> &'static str {
    match error {
        "channel_not_found" => "; write the channel's id, and invite the app if the channel is private",
        "not_in_channel" => "; invite the app to the channel",
        "missing_scope" => "; give the app the scope chat:write, and install it again",
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive" => {
            "; put a bot token that is valid into the file of `token-file`"
        }
        _ => "",
    }
}

/// Returns the text and the blocks of a message.
fn card(effect: &Effect, message: &Message) -> Value {
    render(&effect.id, &effect.workload, message)
}

/// Returns the line of a thread: all that a person needs if it wakes one, and else the title and the reason.
fn line(effect: &Effect, message: &Message) -> Value {
    if matches!(message.kind, MessageKind::NeedsAPerson | MessageKind::Final) {
        return card(effect, message);
    }
    let title = part(&format!("{} {}", mark(message.mood), message.title));
    let footer = json!({ "type": "mrkdwn", "text": effect.id.to_string() });
    let blocks = json!([
        section(&format!("*{title}*")),
        section(&format!("*Why*  {}", part(&message.why))),
        { "type": "context", "elements": [footer] },
    ]);
    json!({ "text": title, "blocks": blocks })
}

/// Returns the text and the blocks with further fields of a call.
fn with<const N: usize>(mut card: Value, more: [(&str, Value); N]) -> Value {
    for (key, value) in more {
        card[key] = value;
    }
    card
}

#[async_trait]
impl NotificationSink for SlackApp {
    fn sink(&self) -> Sink {
        Sink { name: self.connection.name().to_owned(), subscription: Subscription::Thread }
    }

    async fn send(
        &self,
        effect: &Effect,
        notification: &Notification,
        receipt: Option<&str>,
    ) -> Result<Option<String>, NotificationError> {
        let Notification { key, facts, message, .. } = notification;
        let Some(message) = message else { return Ok(None) };
        let mut thread = match self.thread(key, receipt) {
            // A repeated attempt at an older notification does not take the message back.
            Some(thread) if thread.shows > facts.at => Some(thread),
            Some(thread) if self.edit(&thread, card(effect, message)).await? => Some(thread),
            Some(_) | None => None,
        };
        if let Some(thread) = &mut thread {
            thread.shows = thread.shows.max(facts.at);
            self.add_line(thread, effect, message).await?;
        }
        let thread = match thread {
            Some(thread) => thread,
            None => self.begin(card(effect, message), facts.at).await?,
        };
        let receipt = thread.receipt();
        self.remember(key, thread);
        Ok(Some(receipt))
    }

    async fn check(&self) -> Result<String, NotificationError> {
        self.call("auth.test", &json!({})).await.map_err(|error| error.error)?;
        Ok("Slack accepts its token".to_owned())
    }
}

#[cfg(test)]
mod tests;
