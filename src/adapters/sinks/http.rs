//! A webhook of one's own: a POST of JSON, signed as Standard Webhooks 1.0.0 describes it.
//!
//! The body, in which keys are only added and never change their meaning (docs/operations.md has an example):
//!
//! | key | value |
//! | --- | --- |
//! | `version` | 1 |
//! | `id` | the effect's id; a repeated notification has the same |
//! | `sink` | the name of the sink |
//! | `rollout`, `policy` | the rollout's id and its policy's name |
//! | `workload` | an object with `cluster`, `namespace`, `kind` and `name` |
//! | `at` | the time of the decision (RFC 3339) |
//! | `decision`, `ending` | such as `hold`, `promote`, `roll-back`; such as `promoted`, or null while the rollout goes on |
//! | `weight` | the canary's weight as `"25%"` |
//! | `incident` | `open`, `resolve` or null |
//! | `note` | the decision in one line with `warning`, `reason` and `text`, or null |
//! | `message` | the message to people with `kind`, `mood`, `title`, `why`, `now`, `command` and `footer`, or null |
//!
//! The headers are `webhook-id` (the `id`), `webhook-timestamp` (the seconds of the attempt) and, with a secret,
//! `webhook-signature`: `v1,` and the Base64 of the HMAC-SHA256 over `ID.TIMESTAMP.BODY`
//! (github.com/standard-webhooks/standard-webhooks, spec). The specification recommends bodies below 20 kB and secrets of 24 to
//! 64 bytes.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{Message, Note, Notification, Subscription};
use bellwether_core::time::{Span, Timestamp};
use reqwest::header::{HeaderMap, HeaderValue};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::delivery::{HttpSink, Letter, Pace};
use super::text::{fitted, json_bytes, plain};
use super::{HttpSinkOptions, Inquiry, Provider, SinkError, headers, http_url, secret_of, url_problem};
use crate::secret::{self, Secret};

/// The longest text of the body, in bytes of JSON.
const MAX_TEXT: usize = 2500;
/// The shortest secret, in bytes.
const MIN_SECRET_BYTES: usize = 24;
/// The beginning of a secret in the form of Standard Webhooks, which is followed by Base64.
const SECRET_PREFIX: &str = "whsec_";
/// The largest number of requests per second.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// The settings of a webhook.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The URL. One with a secret in it belongs into `url-file`.
    pub url: Option<String>,
    /// The file with the URL, for one that is a secret.
    pub url_file: Option<PathBuf>,
    /// The file with the secret of the signature; `None` for requests without one.
    pub secret_file: Option<PathBuf>,
    /// The secret itself. Only the environment may set it; it overrides the file.
    pub secret: Option<Secret>,
    /// Further headers, which are no secrets.
    pub headers: BTreeMap<String, String>,
    /// The files with the values of further headers, which are secrets, by the header's name.
    pub header_files: BTreeMap<String, PathBuf>,
    /// The notifications that the webhook receives.
    pub receives: Receives,
    /// The time for the receiver to answer a request.
    pub timeout: Span,
}

/// The notifications that a webhook receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receives {
    /// Messages to people: holds, warnings and ends.
    #[default]
    All,
    /// Messages about holds, for which a person has to act.
    NeedsAPerson,
    /// Messages about the ends of rollouts.
    Final,
    /// Incidents, opened and resolved.
    Incidents,
    /// Nearly every decision.
    Decisions,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            url: None,
            url_file: None,
            secret_file: None,
            secret: None,
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
            receives: Receives::default(),
            timeout: Span::from_secs(15),
        }
    }
}

impl HttpSinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        match (&self.url, &self.url_file) {
            (Some(url), None) => problems.extend(url_problem("url", url, "https://hooks.example.com/bellwether")),
            (None, Some(_)) => {}
            (Some(_), Some(_)) => problems.push(("url", "`url-file` is set too; remove one of the two".to_owned())),
            (None, None) => {
                problems.push(("url", "the webhook needs a URL; write it here or into `url-file`".to_owned()))
            }
        }
        problems.extend(headers::problems(&self.headers, &self.header_files));
        problems
    }

    fn http_sink(&self, name: &str) -> Result<HttpSink, SinkError> {
        let url = match (&self.url, &self.url_file) {
            (Some(url), _) => SecretString::from(url.as_str()),
            (None, Some(path)) => secret::read(path)?,
            (None, None) => return Err(SinkError::Missing("url")),
        };
        let url = http_url(url, "the webhook", "https://")?;
        let secret = secret_of(self.secret.as_ref(), self.secret_file.as_deref())?;
        let key = secret.as_ref().map(signing_key).transpose()?;
        let (headers, mut secrets) = headers::read(&self.headers, &self.header_files)?;
        secrets.insert(0, url.clone());
        let webhook = Webhook { sink: name.to_owned(), url, key, headers, secrets, receives: self.receives };
        HttpSink::new(name, webhook, Pace { timeout: self.timeout, per_second: PER_SECOND })
    }
}

/// Returns the key of a secret: the bytes after its prefix in Base64, or the secret's own.
pub(super) fn signing_key(secret: &SecretString) -> Result<hmac::Key, SinkError> {
    let secret = secret.expose_secret();
    let bytes = match secret.strip_prefix(SECRET_PREFIX) {
        Some(encoded) => STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).map_err(|_| {
            SinkError::Unusable(format!("the secret of the signature is not Base64 after {SECRET_PREFIX:?}"))
        })?,
        None => secret.as_bytes().to_vec(),
    };
    if bytes.len() < MIN_SECRET_BYTES {
        let length = bytes.len();
        return Err(SinkError::Unusable(format!(
            "the secret of the signature has {length} bytes, and it needs {MIN_SECRET_BYTES}; `openssl rand -base64 32` makes one"
        )));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// A webhook.
struct Webhook {
    sink: String,
    url: SecretString,
    /// The key of the signature; `None` for requests without one.
    key: Option<hmac::Key>,
    headers: HeaderMap,
    secrets: Vec<SecretString>,
    receives: Receives,
}

impl Provider for Webhook {
    fn subscription(&self) -> Subscription {
        match self.receives {
            Receives::All => Subscription::Messages,
            Receives::NeedsAPerson => Subscription::NeedsAPerson,
            Receives::Final => Subscription::Final,
            Receives::Incidents => Subscription::Incidents,
            Receives::Decisions => Subscription::Decisions,
        }
    }

    fn letter(&self, effect: &Effect, notification: &Notification, now: Timestamp) -> Option<Letter> {
        let mut letter = Letter::json(&self.url, &body(&self.sink, effect, notification));
        let seconds = now.as_second().to_string();
        letter.headers = self.headers.clone();
        let signature = self.key.as_ref().map(|key| signature(key, &effect.id.0, &seconds, &letter.body));
        for (name, value) in [
            ("webhook-id", Some(effect.id.0.clone())),
            ("webhook-timestamp", Some(seconds)),
            ("webhook-signature", signature),
        ] {
            if let Some(value) = value {
                letter.headers.insert(name, HeaderValue::from_str(&value).ok()?);
            }
        }
        Some(letter)
    }

    fn inquiry(&self) -> Inquiry {
        Inquiry::Reaches(self.url.clone())
    }

    fn secrets(&self) -> Vec<&SecretString> {
        self.secrets.iter().collect()
    }
}

/// Returns the value of the header `webhook-signature`.
pub(super) fn signature(key: &hmac::Key, id: &str, seconds: &str, body: &[u8]) -> String {
    let mut signed = format!("{id}.{seconds}.").into_bytes();
    signed.extend_from_slice(body);
    format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed)))
}

fn body(sink: &str, effect: &Effect, notification: &Notification) -> Value {
    let Notification { key, facts, incident, note, message, trace: _ } = notification;
    json!({
        "version": 1,
        "id": effect.id,
        "sink": sink,
        "rollout": key,
        "policy": facts.policy,
        "workload": {
            "cluster": effect.workload.cluster,
            "namespace": effect.workload.namespace,
            "kind": effect.workload.kind.to_string(),
            "name": effect.workload.name,
        },
        "at": facts.at.to_string(),
        "decision": facts.decision,
        "ending": facts.ending,
        "weight": facts.weight,
        "incident": incident,
        "note": note.as_ref().map(|Note { warning, reason, text }| {
            json!({ "warning": warning, "reason": reason, "text": fit(text) })
        }),
        "message": message.as_ref().map(|Message { kind, mood, title, why, now, command, footer }| {
            json!({
                "kind": kind,
                "mood": mood,
                "title": fit(title),
                "why": fit(why),
                "now": fit(now),
                "command": command.as_deref().map(fit),
                "footer": fit(footer),
            })
        }),
    })
}

fn fit(text: &str) -> String {
    fitted(text, MAX_TEXT, json_bytes, plain)
}
