//! Discord, by a webhook: one message with one embed.
//!
//! A message is sent at least once, and a webhook can't recognise a repetition: the effect's id is in the footer.
//!
//! Limits (docs.discord.com/developers/resources/message, "Embed Limits", and .../resources/webhook, "Execute Webhook"): the
//! content has 2000 characters, an embed's description 4096, a field's value 1024, its footer 2048, and all texts of the embeds
//! together 6000. A 429 has `Retry-After` (docs.discord.com/developers/topics/rate-limits). Without `wait=true` Discord also
//! answers with success if it did not save the message; without a version in the path it speaks an old version, which counts
//! that time in milliseconds (discord-api-docs issue 4722).

use std::num::NonZeroU32;
use std::path::PathBuf;

use bellwether_core::ids::{EffectId, Workload};
use bellwether_core::input::notification::{Message, Mood};
use bellwether_core::time::Span;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::channel::Channel;
use super::delivery::{HttpSink, Pace};
use super::text::{fitted, quoted, utf16};
use super::{Audience, HttpSinkOptions, SinkError, http_url, mark, missing, required};
use crate::secret::Secret;

/// The service, as messages name it.
const SERVICE: &str = "Discord's webhook";
/// The beginning of a webhook's URL.
const EXAMPLE: &str = "https://discord.com/api/webhooks/";
/// The version of Discord's API.
const VERSION: &str = "v10";
/// The longest content, in UTF-16 units, of which a character has at least one.
const MAX_CONTENT: usize = 2000;
/// The longest description of an embed in UTF-16 units; it leaves room for the fields and the footer within 6000.
const MAX_DESCRIPTION: usize = 3000;
/// The longest value of a field in UTF-16 units.
const MAX_FIELD: usize = 1024;
/// The longest footer in UTF-16 units, without the effect's id.
const MAX_FOOTER: usize = 400;

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
    /// The time for Discord to answer a request.
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
        let webhook = http_url(webhook, SERVICE, EXAMPLE)?;
        let webhook = versioned(&webhook);
        let sends_to = waiting(&webhook).ok_or(SinkError::NotAUrl { service: SERVICE, example: EXAMPLE })?;
        // Discord describes the webhook to a GET of its URL ("Get Webhook with Token").
        let channel = Channel::new(webhook, self.receives, render).described(sends_to);
        HttpSink::new(name, channel, Pace { timeout: self.timeout, per_second: NonZeroU32::MIN })
    }
}

/// Returns a webhook's URL with the version of the API in its path. A URL of another form stays as it is.
fn versioned(webhook: &SecretString) -> SecretString {
    SecretString::from(webhook.expose_secret().replacen("/api/webhooks/", &format!("/api/{VERSION}/webhooks/"), 1))
}

/// Returns the URL whose answer comes after Discord has saved the message.
fn waiting(webhook: &SecretString) -> Option<SecretString> {
    let mut url = Url::parse(webhook.expose_secret()).ok()?;
    url.query_pairs_mut().append_pair("wait", "true");
    Some(SecretString::from(String::from(url)))
}

/// Returns the message. Mentions in it notify no one, because none is allowed.
fn render(effect: &EffectId, workload: &Workload, message: &Message) -> Value {
    let Message { kind: _, mood, title, why, now, command, footer } = message;
    let mut fields = vec![field("Now", fitted(now, MAX_FIELD, utf16, unformatted))];
    if let Some(command) = command {
        let command = fitted(command, MAX_FIELD - 8, utf16, quoted);
        fields.push(field("Next", format!("```\n{command}\n```")));
    }
    let footer = format!("{}/{} · {footer}", workload.cluster, workload.namespace);
    let footer = fitted(&footer, MAX_FOOTER, utf16, super::text::plain);
    json!({
        "content": fitted(&format!("{} {title}", mark(*mood)), MAX_CONTENT, utf16, unformatted),
        "allowed_mentions": { "parse": [] },
        "embeds": [{
            "description": fitted(why, MAX_DESCRIPTION, utf16, unformatted),
            "color": colour(*mood),
            "fields": fields,
            "footer": { "text": format!("{footer} · {effect}") },
        }],
    })
}

/// Returns a field. Discord refuses one without a value.
fn field(name: &str, value: String) -> Value {
    json!({ "name": name, "value": if value.trim().is_empty() { "–".to_owned() } else { value } })
}

/// Returns the colour of an embed's edge.
fn colour(mood: Mood) -> u32 {
    match mood {
        Mood::Good => 0x2e_a0_43,
        Mood::Asking => 0xd2_99_22,
        Mood::Bad => 0xda_36_33,
        Mood::Blind => 0x30_36_3d,
        Mood::Underway => 0x1f_6f_eb,
    }
}

/// Writes a character so that it formats, links and mentions nothing.
fn unformatted(c: char, into: &mut String) {
    if "\\*_~`|>#-[]()<@:".contains(c) {
        into.push('\\');
    }
    into.push(c);
}
