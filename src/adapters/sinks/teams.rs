//! Microsoft Teams, by the webhook of a workflow ("When a Teams webhook request is received"): one Adaptive Card.
//!
//! The retired connectors of Microsoft 365 are not supported. A message is sent at least once, and a workflow can't recognise a
//! repetition: the effect's id is in the last line.
//!
//! Limits (learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook): a message has 28 KB,
//! and more than four requests in a second are throttled. A workflow answers with 202 before it posts, so a card that Teams
//! refuses shows in the workflow's run history alone; the card therefore stays far below the limit. Markdown is not supported in
//! a `TextRun` (learn.microsoft.com/adaptive-cards/schema-explorer/text-run), but Teams' own library says that a part of it is,
//! so links are broken up as well. A mention needs an entity, which the card has none of.

use std::num::NonZeroU32;
use std::path::PathBuf;

use bellwether_core::ids::{EffectId, Workload};
use bellwether_core::input::notification::{Message, Mood};
use bellwether_core::time::Span;
use serde::Deserialize;
use serde_json::{Value, json};

use super::channel::Channel;
use super::delivery::{HttpSink, Pace};
use super::text::{fitted, json_bytes};
use super::{Audience, HttpSinkOptions, SinkError, http_url, mark, missing, required};
use crate::secret::Secret;

/// The longest title, command and footer, in bytes of JSON.
const MAX_LINE: usize = 1500;
/// The longest reason and state, in bytes of JSON.
const MAX_PARAGRAPH: usize = 5000;

/// The settings of a workflow's webhook.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The file with the webhook's URL, which is a secret.
    pub webhook_file: Option<PathBuf>,
    /// The webhook's URL itself. Only the environment may set it; it overrides the file.
    pub webhook: Option<Secret>,
    /// The messages that the channel receives.
    pub receives: Audience,
    /// The time for the workflow to answer a request.
    pub timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options { webhook_file: None, webhook: None, receives: Audience::default(), timeout: Span::from_secs(10) }
    }
}

impl HttpSinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        missing(self.webhook.as_ref(), self.webhook_file.as_ref(), "webhook-file")
    }

    fn http_sink(&self, name: &str) -> Result<HttpSink, SinkError> {
        let webhook = required(self.webhook.as_ref(), self.webhook_file.as_deref(), "webhook-file")?;
        let webhook = http_url(webhook, "the workflow's webhook", "https://")?;
        let channel = Channel::new(webhook, self.receives, render);
        HttpSink::new(name, channel, Pace { timeout: self.timeout, per_second: NonZeroU32::MIN })
    }
}

/// Returns the message with its Adaptive Card.
fn render(effect: &EffectId, workload: &Workload, message: &Message) -> Value {
    let Message { kind: _, mood, title, why, now, command, footer } = message;
    let title = fitted(&format!("{} {title}", mark(*mood)), MAX_LINE, json_bytes, unlinked);
    let mut body = vec![
        json!({ "type": "RichTextBlock", "inlines": [
            { "type": "TextRun", "text": title, "weight": "Bolder", "size": "Medium", "color": colour(*mood) }
        ] }),
        paragraph("Why", why),
        paragraph("Now", now),
    ];
    if let Some(command) = command {
        let command = fitted(command, MAX_LINE, json_bytes, unlinked);
        body.push(json!({ "type": "RichTextBlock", "inlines": [
            { "type": "TextRun", "text": command, "fontType": "Monospace" }
        ] }));
    }
    let footer = format!("{}/{} · {footer}", workload.cluster, workload.namespace);
    let footer = fitted(&footer, MAX_LINE, json_bytes, unlinked);
    body.push(json!({ "type": "RichTextBlock", "inlines": [
        { "type": "TextRun", "text": format!("{footer} · {effect}"), "isSubtle": true, "size": "Small" }
    ] }));
    json!({ "type": "message", "attachments": [{
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": null,
        "content": {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "fallbackText": title,
            "body": body,
            "msteams": { "width": "Full" },
        },
    }] })
}

fn paragraph(label: &str, text: &str) -> Value {
    json!({ "type": "RichTextBlock", "inlines": [
        { "type": "TextRun", "text": format!("{label}  "), "weight": "Bolder" },
        { "type": "TextRun", "text": fitted(text, MAX_PARAGRAPH, json_bytes, unlinked) }
    ] })
}

/// Returns the colour of a title.
fn colour(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "Good",
        Mood::Asking => "Warning",
        Mood::Bad => "Attention",
        Mood::Blind | Mood::Underway => "Default",
    }
}

/// Writes a character so that no link of Markdown comes about: an invisible space follows each `]`.
fn unlinked(c: char, into: &mut String) {
    into.push(c);
    if c == ']' {
        into.push('\u{200b}');
    }
}
