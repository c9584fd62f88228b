//! Alertmanager, by its API version 2: an alert for each rollout that needs a person or is rolled back, resolved when the rollout
//! goes on or ends. Routing, silences and receivers are Alertmanager's own.
//!
//! The labels identify an alert, so a repeated request changes nothing (prometheus.io/docs/alerting/latest/alerts_api). They are
//! the same for all notifications of a rollout. Alertmanager expects that an active alert is sent again and again, unless its end
//! is known; therefore an alert is opened with an end in the future (`lasts`), and resolved by the same labels with an end that
//! has passed. Each Alertmanager of a cluster needs a sink of its own, because they do not share alerts.
//!
//! Limits: a label's name is an identifier, and a 400 is not to be repeated. Alertmanager documents no sizes; the annotations are
//! cut to 4096 characters.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{IncidentChange, Notification, Subscription};
use bellwether_core::time::{Span, Timestamp};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::delivery::{HttpSink, Letter, Pace};
use super::text::{fitted, plain, utf16};
use super::{HttpSinkOptions, Inquiry, Provider, SinkError, below, secret_of, url_problem};
use crate::secret::{self, Secret};

/// The longest annotation, in characters.
const MAX_ANNOTATION_CHARS: usize = 4096;
/// The labels that every alert has.
const OWN_LABELS: [&str; 6] = ["alertname", "cluster", "namespace", "kind", "workload", "rollout"];
/// The largest number of requests per second.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// The settings of an Alertmanager.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The URL, with the prefix of its path if it has one.
    pub url: String,
    /// The file with a bearer token; `None` for an Alertmanager without authentication.
    pub bearer_token_file: Option<PathBuf>,
    /// The token itself. Only the environment may set it; it overrides the file.
    pub bearer_token: Option<Secret>,
    /// Further labels of all alerts, for the routing.
    pub labels: BTreeMap<String, String>,
    /// The time after which an alert ends that nothing has resolved.
    pub lasts: Span,
    /// The time for Alertmanager to answer a request.
    pub timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            url: "http://alertmanager:9093".to_owned(),
            bearer_token_file: None,
            bearer_token: None,
            labels: BTreeMap::new(),
            lasts: Span::from_secs(7 * 86_400),
            timeout: Span::from_secs(10),
        }
    }
}

impl HttpSinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems: Vec<_> = url_problem("url", &self.url, "http://alertmanager:9093").into_iter().collect();
        for name in self.labels.keys() {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if OWN_LABELS.contains(&name.as_str()) {
                problems.push(("labels", format!("every alert has the label {name:?} already; leave it out")));
            } else if !name.chars().all(is_name) || name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
                problems.push(("labels", format!("{name:?} is not the name of a label, such as \"severity\"")));
            }
        }
        if self.lasts == Span::ZERO {
            problems.push(("lasts", "an alert that lasts no time tells no one; write \"7d\"".to_owned()));
        }
        problems
    }

    fn http_sink(&self, name: &str) -> Result<HttpSink, SinkError> {
        let url = SecretString::from(self.url.as_str());
        let not_a_url = || SinkError::NotAUrl { service: "Alertmanager", example: "http://" };
        let api = |path: &[&str]| below(&url, path).ok_or_else(not_a_url);
        let (alerts, status) = (api(&["api", "v2", "alerts"])?, api(&["api", "v2", "status"])?);
        let token = secret_of(self.bearer_token.as_ref(), self.bearer_token_file.as_deref())?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &token {
            let bearer = secret::bearer(token).map_err(|bad| SinkError::Unusable(bad.to_string()))?;
            headers.insert(AUTHORIZATION, bearer);
        }
        let alertmanager =
            Alertmanager { alerts, status, token, headers, labels: self.labels.clone(), lasts: self.lasts };
        HttpSink::new(name, alertmanager, Pace { timeout: self.timeout, per_second: PER_SECOND })
    }
}

/// An Alertmanager.
struct Alertmanager {
    /// The URL that takes alerts.
    alerts: SecretString,
    /// The URL of the Alertmanager's own status.
    status: SecretString,
    token: Option<SecretString>,
    /// The authorization, if there is one.
    headers: HeaderMap,
    labels: BTreeMap<String, String>,
    lasts: Span,
}

impl Provider for Alertmanager {
    fn subscription(&self) -> Subscription {
        Subscription::Incidents
    }

    fn letter(&self, effect: &Effect, notification: &Notification, _: Timestamp) -> Option<Letter> {
        let at = notification.facts.at;
        let mut alert = json!({
            "labels": self.labels_of(effect, notification),
            "annotations": annotations(effect, notification),
        });
        match notification.incident? {
            IncidentChange::Open => {
                alert["startsAt"] = json!(at.to_string());
                alert["endsAt"] = json!(self.lasts.after(at).to_string());
            }
            // Alertmanager keeps the earlier start.
            IncidentChange::Resolve => alert["endsAt"] = json!(at.to_string()),
        }
        let mut letter = Letter::json(&self.alerts, &json!([alert]));
        letter.headers = self.headers.clone();
        Some(letter)
    }

    fn inquiry(&self) -> Inquiry {
        let (url, headers) = (self.status.clone(), self.headers.clone());
        Inquiry::Confirms(Letter { url, headers, body: Vec::new() })
    }

    fn secrets(&self) -> Vec<&SecretString> {
        self.token.iter().collect()
    }
}

impl Alertmanager {
    /// Returns the labels of an alert, which depend on nothing but the rollout and the settings.
    fn labels_of(&self, effect: &Effect, notification: &Notification) -> BTreeMap<String, String> {
        let workload = &effect.workload;
        let values = [
            "BellwetherRollout",
            &workload.cluster,
            &workload.namespace,
            &workload.kind.to_string(),
            &workload.name,
            &notification.key.0,
        ];
        let own = OWN_LABELS.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.labels.clone().into_iter().chain(own).collect()
    }
}

fn annotations(effect: &Effect, notification: &Notification) -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::from([
        ("policy", notification.facts.policy.as_str()),
        ("decision", notification.facts.decision.as_str()),
        ("effect", effect.id.0.as_str()),
    ]);
    if let Some(note) = &notification.note {
        annotations.insert("summary", &note.text);
    }
    if let Some(message) = &notification.message {
        annotations.extend([("summary", &*message.title), ("description", &*message.why), ("now", &*message.now)]);
        annotations.extend(message.command.as_deref().map(|command| ("next", command)));
    }
    let fit = |text: &str| fitted(text, MAX_ANNOTATION_CHARS, utf16, plain);
    annotations.into_iter().map(|(name, text)| (name, fit(text))).collect()
}
