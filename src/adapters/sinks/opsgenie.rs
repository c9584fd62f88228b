//! Opsgenie, by its Alert API: an alert for each rollout that needs a person or is rolled back, closed when the rollout goes on
//! or ends.
//!
//! The alias is the rollout, so a repeated request raises the count of the open alert, and so does a further hold of the
//! rollout. Opsgenie takes requests with 202 and processes them later.
//!
//! Limits (docs.opsgenie.com/docs/alert-api, "Create Alert" and "Close Alert"): the message has 130 characters, the alias and the
//! entity 512, the description 15 000, the details 8000 together, the source 100, a note 25 000. HTML is formatted, so it is
//! escaped.

use std::num::NonZeroU32;
use std::path::PathBuf;

use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{IncidentChange, Message, Notification, Subscription};
use bellwether_core::time::{Span, Timestamp};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::delivery::{HttpSink, Letter, Pace};
use super::text::{escaped, fitted, plain, utf16};
use super::{HttpSinkOptions, Inquiry, Provider, SinkError, below, incident_key, missing, required, url_problem};
use crate::secret::Secret;

/// The longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 130;
/// The longest alias, in bytes, and entity, in characters.
const MAX_ALIAS: usize = 512;
/// The longest part of the description, in characters; it has two of them and a command.
const MAX_PART_CHARS: usize = 4000;
/// The longest value of the details, in characters.
const MAX_DETAIL_CHARS: usize = 1000;
/// The name of this program in the field `source`.
const SOURCE: &str = "Bellwether";
/// The largest number of requests per second.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// The settings of an integration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The file with the key of an API integration, which is a secret.
    pub api_key_file: Option<PathBuf>,
    /// The key itself. Only the environment may set it; it overrides the file.
    pub api_key: Option<Secret>,
    /// The URL of the service, which differs between its regions.
    pub url: String,
    /// The priority of the alerts.
    pub priority: Priority,
    /// The time for Opsgenie to answer a request.
    pub timeout: Span,
}

/// The priority of an alert, from the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Priority {
    /// Critical.
    P1,
    /// High.
    P2,
    /// Moderate.
    #[default]
    P3,
    /// Low.
    P4,
    /// Informational.
    P5,
}

impl Default for Options {
    fn default() -> Options {
        let url = "https://api.opsgenie.com".to_owned();
        let timeout = Span::from_secs(10);
        Options { api_key_file: None, api_key: None, url, priority: Priority::default(), timeout }
    }
}

impl HttpSinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let secret = missing(self.api_key.as_ref(), self.api_key_file.as_ref(), "api-key-file");
        secret.into_iter().chain(url_problem("url", &self.url, "https://api.eu.opsgenie.com")).collect()
    }

    fn http_sink(&self, name: &str) -> Result<HttpSink, SinkError> {
        let key = required(self.api_key.as_ref(), self.api_key_file.as_deref(), "api-key-file")?;
        let mut authorization = HeaderValue::from_str(&format!("GenieKey {}", key.expose_secret())).map_err(|_| {
            SinkError::Unusable("the key of Opsgenie has characters that no header can hold".to_owned())
        })?;
        authorization.set_sensitive(true);
        let example = "https://api.opsgenie.com";
        let alerts = below(&SecretString::from(self.url.as_str()), &["v2", "alerts"]);
        let alerts = alerts.ok_or(SinkError::NotAUrl { service: "Opsgenie", example })?;
        let opsgenie = Opsgenie { alerts, key, authorization, priority: self.priority };
        HttpSink::new(name, opsgenie, Pace { timeout: self.timeout, per_second: PER_SECOND })
    }
}

/// An integration of Opsgenie.
struct Opsgenie {
    /// The URL of the alerts.
    alerts: SecretString,
    key: SecretString,
    authorization: HeaderValue,
    priority: Priority,
}

impl Provider for Opsgenie {
    fn subscription(&self) -> Subscription {
        Subscription::Incidents
    }

    fn letter(&self, effect: &Effect, notification: &Notification, _: Timestamp) -> Option<Letter> {
        let alias = incident_key(&notification.key, MAX_ALIAS);
        let mut letter = match (notification.incident?, &notification.message) {
            (IncidentChange::Open, Some(message)) => {
                Letter::json(&self.alerts, &alert(effect, &alias, message, self.priority))
            }
            (IncidentChange::Open, None) => return None,
            (IncidentChange::Resolve, message) => {
                let note = message.as_ref().map_or("the rollout goes on", |message| &message.why);
                let note = fitted(note, MAX_PART_CHARS, utf16, escaped);
                Letter::json(&closing_url(&self.alerts, &alias)?, &json!({ "source": SOURCE, "note": note }))
            }
        };
        letter.headers.insert(AUTHORIZATION, self.authorization.clone());
        Some(letter)
    }

    fn inquiry(&self) -> Inquiry {
        Inquiry::Reaches(self.alerts.clone())
    }

    fn secrets(&self) -> Vec<&SecretString> {
        vec![&self.key]
    }
}

/// Returns the URL that closes the alert with this alias.
fn closing_url(alerts: &SecretString, alias: &str) -> Option<SecretString> {
    let mut url = Url::parse(below(alerts, &[alias, "close"])?.expose_secret()).ok()?;
    url.query_pairs_mut().append_pair("identifierType", "alias");
    Some(SecretString::from(String::from(url)))
}

fn alert(effect: &Effect, alias: &str, message: &Message, priority: Priority) -> Value {
    let Message { kind: _, mood: _, title, why, now, command, footer } = message;
    let part = |text: &str| fitted(text, MAX_PART_CHARS, utf16, escaped);
    let detail = |text: &str| fitted(text, MAX_DETAIL_CHARS, utf16, plain);
    let next = command.as_deref().map(|command| format!("\n\n{}", part(command))).unwrap_or_default();
    json!({
        "message": fitted(title, MAX_MESSAGE_CHARS, utf16, escaped),
        "alias": alias,
        "description": format!("{}\n\n{}{next}", part(why), part(now)),
        "entity": fitted(&effect.workload.to_string(), MAX_ALIAS, utf16, plain),
        "source": SOURCE,
        "priority": format!("{priority:?}"),
        "tags": ["bellwether"],
        "details": {
            "cluster": detail(&effect.workload.cluster),
            "namespace": detail(&effect.workload.namespace),
            "about": detail(footer),
            "effect": detail(&effect.id.0),
        },
    })
}
