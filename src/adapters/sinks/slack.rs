//! Slack, by an incoming webhook.
//!
//! A webhook answers only `ok`, so a message can't be edited or found later. Each message therefore has all that a person
//! needs to act, and messages are sent no faster than Slack accepts them.
//!
//! A message is sent at least once: if Slack's answer is lost, the effect is attempted again. The effect's id is in the
//! footer, so that a person can recognise a repeated message.
//!
//! Limits: a header block has 150 characters, the text of a section 3000 (docs.slack.dev/reference/block-kit/blocks); a webhook
//! takes one message per second, and more are answered by 429 with `Retry-After` (docs.slack.dev/apis/web-api/rate-limits).

use std::num::NonZeroU32;
use std::path::PathBuf;

use bellwether_core::ids::{EffectId, Workload};
use bellwether_core::input::notification::Message;
use bellwether_core::time::Span;
use serde::Deserialize;
use serde_json::{Value, json};

use super::channel::Channel;
use super::delivery::{HttpSink, Pace};
use super::text::{escaped, fitted, plain, utf16};
use super::{Audience, HttpSinkOptions, SinkError, http_url, mark, missing, required};
use crate::secret::Secret;

/// The longest text of a header in Slack's Block Kit, in characters.
const MAX_HEADER_CHARS: usize = 150;
/// The longest text of a section in Slack's Block Kit, in characters.
const MAX_SECTION_CHARS: usize = 3000;

/// The settings of a webhook.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The file with the webhook's URL, which is a secret.
    pub webhook_file: Option<PathBuf>,
    /// The webhook's URL itself. Only the environment may set it; it overrides the file.
    pub webhook: Option<Secret>,
    /// The messages that the channel receives.
    pub receives: Audience,
    /// The time for Slack to answer a request.
    pub timeout: Span,
    /// The largest number of messages per second.
    pub messages_per_second: NonZeroU32,
}

impl Default for Options {
    fn default() -> Options {
        let timeout = Span::from_secs(5);
        let receives = Audience::default();
        Options { webhook_file: None, webhook: None, receives, timeout, messages_per_second: NonZeroU32::MIN }
    }
}

impl Options {
    /// Returns whether the webhook is configured.
    pub fn is_set(&self) -> bool {
        self.webhook.is_some() || self.webhook_file.is_some()
    }
}

impl HttpSinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        missing(self.webhook.as_ref(), self.webhook_file.as_ref(), "webhook-file")
    }

    fn http_sink(&self, name: &str) -> Result<HttpSink, SinkError> {
        let webhook = required(self.webhook.as_ref(), self.webhook_file.as_deref(), "webhook-file")?;
        let webhook = http_url(webhook, "Slack's webhook", "https://hooks.slack.com/")?;
        let channel = Channel::new(webhook, self.receives, render);
        HttpSink::new(name, channel, Pace { timeout: self.timeout, per_second: self.messages_per_second })
    }
}

/// Returns the message in Block Kit. `text` is shown in phone notifications and by clients without blocks.
pub(super) fn render(effect: &EffectId, workload: &Workload, message: &Message) -> Value {
    let Message { kind: _, mood, title, why, now, command, footer } = message;
    let title = format!("{} {title}", mark(*mood));
    let header = fitted(&title, MAX_HEADER_CHARS, utf16, plain);
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": header, "emoji": true } }),
        section(&format!("*Why*  {}", part(why))),
        section(&format!("*Now*  {}", part(now))),
    ];
    if let Some(command) = command {
        blocks.push(section(&format!("`{}`", part(&command.replace('`', "'")))));
    }
    // The effect's id stays whole, as it tells a repeated message.
    let footer = part(&format!("{}/{} · {footer}", workload.cluster, workload.namespace));
    let footer = format!("{footer} · {effect}");
    blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": footer }] }));
    json!({ "text": part(&title), "blocks": blocks })
}

pub(super) fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

/// Returns a text for a section, with room for a label and an effect's id. The three characters that are markup in Slack are
/// escaped, so that an error message with `<!channel>` notifies no one.
pub(super) fn part(text: &str) -> String {
    fitted(text, MAX_SECTION_CHARS - 400, utf16, escaped)
}
