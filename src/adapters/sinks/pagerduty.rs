//! PagerDuty, by its Events API version 2: an alert for each rollout that needs a person or is rolled back, resolved when the
//! rollout goes on or ends.
//!
//! The `dedup_key` is the rollout, so a repeated event changes nothing, and a further hold of the rollout is added to its alert.
//!
//! Limits (developer.pagerduty.com, "Send an Alert Event"): `dedup_key` has 255 characters, `summary` 1024, an event 512 KB. A 400
//! is not to be repeated; 429, 5xx and missing answers are (PagerDuty/api-schema, events-v2, "API Response Codes & Retry Logic").

use std::num::NonZeroU32;
use std::path::PathBuf;

use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{IncidentChange, Message, Mood, Notification, Subscription};
use bellwether_core::time::{Span, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::delivery::{HttpSink, Letter, Pace};
use super::text::{fitted, plain, utf16};
use super::{HttpSinkOptions, Inquiry, Provider, SinkError, below, incident_key, missing, required, url_problem};
use crate::secret::Secret;

/// The longest `dedup_key`, in characters.
const MAX_KEY_CHARS: usize = 255;
/// The longest summary, in characters.
const MAX_SUMMARY_CHARS: usize = 1024;
/// The longest detail, in characters. The details stay far below the 512 KB of an event.
const MAX_DETAIL_CHARS: usize = 4096;
/// The largest number of events per second.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// The settings of an integration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The file with the integration's routing key, which is a secret.
    pub routing_key_file: Option<PathBuf>,
    /// The routing key itself. Only the environment may set it; it overrides the file.
    pub routing_key: Option<Secret>,
    /// The URL of the service, which differs between its regions.
    pub url: String,
    /// The time for PagerDuty to answer a request.
    pub timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        let url = "https://events.pagerduty.com".to_owned();
        Options { routing_key_file: None, routing_key: None, url, timeout: Span::from_secs(10) }
    }
}

impl HttpSinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let secret = missing(self.routing_key.as_ref(), self.routing_key_file.as_ref(), "routing-key-file");
        secret.into_iter().chain(url_problem("url", &self.url, "https://events.eu.pagerduty.com")).collect()
    }

    fn http_sink(&self, name: &str) -> Result<HttpSink, SinkError> {
        let key = required(self.routing_key.as_ref(), self.routing_key_file.as_deref(), "routing-key-file")?;
        let example = "https://events.pagerduty.com";
        let url = below(&SecretString::from(self.url.as_str()), &["v2", "enqueue"]);
        let url = url.ok_or(SinkError::NotAUrl { service: "PagerDuty", example })?;
        HttpSink::new(name, PagerDuty { url, key }, Pace { timeout: self.timeout, per_second: PER_SECOND })
    }
}

/// An integration of PagerDuty.
struct PagerDuty {
    url: SecretString,
    key: SecretString,
}

impl Provider for PagerDuty {
    fn subscription(&self) -> Subscription {
        Subscription::Incidents
    }

    fn letter(&self, effect: &Effect, notification: &Notification, _: Timestamp) -> Option<Letter> {
        let mut event = json!({
            "routing_key": self.key.expose_secret(),
            "dedup_key": incident_key(&notification.key, MAX_KEY_CHARS),
        });
        match (notification.incident?, &notification.message) {
            (IncidentChange::Open, Some(message)) => {
                event["event_action"] = json!("trigger");
                event["client"] = json!("Bellwether");
                event["payload"] = payload(effect, notification, message);
            }
            (IncidentChange::Open, None) => return None,
            (IncidentChange::Resolve, _) => event["event_action"] = json!("resolve"),
        }
        Some(Letter::json(&self.url, &event))
    }

    fn inquiry(&self) -> Inquiry {
        Inquiry::Reaches(self.url.clone())
    }

    fn secrets(&self) -> Vec<&SecretString> {
        vec![&self.key]
    }
}

fn payload(effect: &Effect, notification: &Notification, message: &Message) -> Value {
    let Message { kind: _, mood, title, why, now, command, footer } = message;
    let detail = |text: &str| fitted(text, MAX_DETAIL_CHARS, utf16, plain);
    json!({
        "summary": fitted(title, MAX_SUMMARY_CHARS, utf16, plain),
        "source": effect.workload.to_string(),
        "severity": severity(*mood),
        "timestamp": notification.facts.at.to_string(),
        "component": effect.workload.name,
        "group": effect.workload.namespace,
        "custom_details": {
            "why": detail(why),
            "now": detail(now),
            "next": command.as_deref().map(detail),
            "about": detail(footer),
            "effect": effect.id,
        },
    })
}

fn severity(mood: Mood) -> &'static str {
    match mood {
        Mood::Good | Mood::Underway => "info",
        Mood::Asking | Mood::Blind => "warning",
        Mood::Bad => "error",
    }
}
