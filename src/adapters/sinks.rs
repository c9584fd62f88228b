//! The notification sinks, one file for each provider.
//!
//! A provider that is reached over HTTP words a notification as a request to its service ([`Provider`]); [`HttpSink`] sends it and
//! reads the answer, the same for all. E-mail and Kafka have protocols of their own. To add a provider, write its file and add it to the three
//! lists of this one: the modules, the fields of [`Options`], and [`Options::each`].

mod alertmanager;
mod cdevents;
mod channel;
mod delivery;
mod discord;
mod email;
mod headers;
mod http;
mod opsgenie;
mod otlp;
mod pagerduty;
pub mod slack;
mod slack_app;
mod teams;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bellwether_core::ids::{RolloutId, digest};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{Mood, Notification, Subscription};
use bellwether_core::time::Timestamp;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use self::delivery::Letter;
use crate::ports::{NotificationSink, OutgoingTopics};
use crate::secret::{self, Secret, SecretError};

pub use self::delivery::HttpSink;

/// The longest name of a sink. It is a part of its effects' ids.
const MAX_NAME_CHARS: usize = 40;
/// The names of the sinks outside of `[sink]`.
const TAKEN_NAMES: [&str; 2] = ["slack", "kubernetes-events"];

/// The section `[sink]`: the sinks of each provider, by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// Alertmanagers.
    pub alertmanager: BTreeMap<String, alertmanager::Options>,
    /// Topics of Kafka with events for other tools.
    pub cdevents: BTreeMap<String, cdevents::Options>,
    /// Webhooks of Discord.
    pub discord: BTreeMap<String, discord::Options>,
    /// Mail servers.
    pub email: BTreeMap<String, email::Options>,
    /// Webhooks of one's own.
    pub http: BTreeMap<String, http::Options>,
    /// Integrations of Opsgenie.
    pub opsgenie: BTreeMap<String, opsgenie::Options>,
    /// Collectors of OpenTelemetry.
    pub otlp: BTreeMap<String, otlp::Options>,
    /// Integrations of PagerDuty.
    pub pagerduty: BTreeMap<String, pagerduty::Options>,
    /// Webhooks of Slack, besides that of `[slack]`.
    pub slack: BTreeMap<String, slack::Options>,
    /// Apps of Slack, each in one channel.
    pub slack_app: BTreeMap<String, slack_app::Options>,
    /// Webhooks of Microsoft Teams.
    pub teams: BTreeMap<String, teams::Options>,
}

/// A configured sink.
pub struct SinkEntry<'a> {
    /// The name of the provider, as in `[sink.PROVIDER.NAME]`.
    pub provider: &'static str,
    /// The name of the sink.
    pub name: &'a str,
    /// The settings of the sink.
    pub options: &'a dyn SinkOptions,
}

/// The settings of one sink of a provider.
pub trait SinkOptions {
    /// Returns the problems of the settings that need neither a file nor the network, each with its key.
    fn problems(&self) -> Vec<(&'static str, String)>;

    /// Returns the sink, without a call to its service.
    ///
    /// # Errors
    /// A secret can't be read or used, or the client of the service can't be created.
    fn open(&self, name: &str, connections: &Connections<'_>) -> Result<Box<dyn NotificationSink>, SinkError>;
}

/// The connections of other sections that a sink may use.
#[derive(Clone, Copy)]
pub struct Connections<'a> {
    /// The topics on the brokers of `[kafka]`.
    pub topics: &'a dyn OutgoingTopics,
}

/// The settings of one sink of a provider that is reached over HTTP.
pub trait HttpSinkOptions {
    /// As [`SinkOptions::problems`].
    fn problems(&self) -> Vec<(&'static str, String)>;

    /// Returns the sink, without a call to its service.
    ///
    /// # Errors
    /// A secret can't be read or used, or the HTTP client can't be created.
    fn http_sink(&self, name: &str) -> Result<HttpSink, SinkError>;
}

impl<T: HttpSinkOptions> SinkOptions for T {
    fn problems(&self) -> Vec<(&'static str, String)> {
        HttpSinkOptions::problems(self)
    }

    fn open(&self, name: &str, _: &Connections<'_>) -> Result<Box<dyn NotificationSink>, SinkError> {
        Ok(Box::new(self.http_sink(name)?))
    }
}

impl Options {
    /// Returns every configured sink.
    pub fn each(&self) -> Vec<SinkEntry<'_>> {
        let mut all = Vec::new();
        entries("alertmanager", &self.alertmanager, &mut all);
        entries("cdevents", &self.cdevents, &mut all);
        entries("discord", &self.discord, &mut all);
        entries("email", &self.email, &mut all);
        entries("http", &self.http, &mut all);
        entries("opsgenie", &self.opsgenie, &mut all);
        entries("otlp", &self.otlp, &mut all);
        entries("pagerduty", &self.pagerduty, &mut all);
        entries("slack", &self.slack, &mut all);
        entries("slack-app", &self.slack_app, &mut all);
        entries("teams", &self.teams, &mut all);
        all
    }

    /// Returns the problems of all sinks, each with the path of its key below `sink`.
    pub fn problems(&self) -> Vec<(Vec<String>, String)> {
        let mut names = BTreeSet::new();
        let mut problems = Vec::new();
        for SinkEntry { provider, name, options } in self.each() {
            let path = |keys: &[&str]| -> Vec<String> {
                [provider, name].iter().chain(keys).map(|key| (*key).to_owned()).collect()
            };
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.chars().all(is_plain) {
                let message = format!(
                    "a sink's name has 1 to {MAX_NAME_CHARS} characters, of a to z, 0 to 9 and \"-\"; {name:?} is none"
                );
                problems.push((path(&[]), message));
            } else if TAKEN_NAMES.contains(&name) || !names.insert(name) {
                let message = format!("there are two sinks {name:?}; give this one another name");
                problems.push((path(&[]), message));
            }
            problems.extend(options.problems().into_iter().map(|(key, message)| (path(&[key]), message)));
        }
        problems
    }
}

fn entries<'a, T: SinkOptions>(provider: &'static str, sinks: &'a BTreeMap<String, T>, all: &mut Vec<SinkEntry<'a>>) {
    all.extend(sinks.iter().map(|(name, options)| SinkEntry { provider, name, options }));
}

/// The wording of notifications for one service.
trait Provider: Send + Sync {
    /// Returns the notifications that the sink receives.
    fn subscription(&self) -> Subscription;

    /// Returns the request for a notification at the time `now`; `None` if it says nothing that the service shows.
    fn letter(&self, effect: &Effect, notification: &Notification, now: Timestamp) -> Option<Letter>;

    /// Returns the request that checks the sink and sends nothing.
    fn inquiry(&self) -> Inquiry;

    /// Returns the secrets that an answer of the service could repeat. They are left out of error messages.
    fn secrets(&self) -> Vec<&SecretString>;
}

/// A request that checks a sink.
enum Inquiry {
    /// A GET that succeeds only if the settings are right, with its headers.
    Confirms(Letter),
    /// The URL of the service, of which only the host is asked. Any answer shows that the host can be reached.
    Reaches(SecretString),
}

/// The messages that a sink for people receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    /// Holds, warnings and ends.
    #[default]
    All,
    /// Holds, for which a person has to act.
    NeedsAPerson,
    /// Ends of rollouts.
    Final,
}

impl From<Audience> for Subscription {
    fn from(audience: Audience) -> Subscription {
        match audience {
            Audience::All => Subscription::Messages,
            Audience::NeedsAPerson => Subscription::NeedsAPerson,
            Audience::Final => Subscription::Final,
        }
    }
}

/// An error of setting up a sink. It never contains a secret, and the URL of a webhook is one.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file with the secret can't be read or is empty.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret is not configured.
    #[error("`{0}` is not set; name the file with the secret there")]
    Missing(&'static str),
    /// The URL is not an HTTP URL.
    #[error("the URL of {service} is not one; it should begin with {example}")]
    NotAUrl {
        /// The service.
        service: &'static str,
        /// The beginning of a good URL.
        example: &'static str,
    },
    /// A secret has a form that can't be used.
    #[error("{0}")]
    Unusable(String),
    /// The client could not be created.
    #[error("the client of the sink can't be created: {0}")]
    Client(String),
}

/// Returns a secret from its own value or else from its file; `None` if neither is configured.
fn secret_of(value: Option<&Secret>, file: Option<&Path>) -> Result<Option<SecretString>, SecretError> {
    match (value, file) {
        (Some(Secret(value)), _) => Ok(Some(value.clone())),
        (None, Some(path)) => secret::read(path).map(Some),
        (None, None) => Ok(None),
    }
}

/// Returns a secret that has to be configured, itself or by the file `key`.
fn required(value: Option<&Secret>, file: Option<&Path>, key: &'static str) -> Result<SecretString, SinkError> {
    secret_of(value, file)?.ok_or(SinkError::Missing(key))
}

/// Returns the problem of a sink that has neither the secret itself nor the file `key` with it.
fn missing(value: Option<&Secret>, file: Option<&PathBuf>, key: &'static str) -> Vec<(&'static str, String)> {
    let is_missing = value.is_none() && file.is_none();
    is_missing.then(|| (key, format!("the sink needs a secret; name its file in `{key}`"))).into_iter().collect()
}

fn is_http_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Returns `text` as it is if it is an HTTP URL.
fn http_url(text: SecretString, service: &'static str, example: &'static str) -> Result<SecretString, SinkError> {
    is_http_url(text.expose_secret()).then_some(text).ok_or(SinkError::NotAUrl { service, example })
}

/// Returns the problem of a URL in the configuration that is no HTTP URL.
fn url_problem(key: &'static str, url: &str, example: &str) -> Option<(&'static str, String)> {
    (!is_http_url(url)).then(|| (key, format!("{url:?} is not an HTTP URL such as {example:?}")))
}

/// Returns the URL with further segments at the end of its path.
fn below(base: &SecretString, segments: &[&str]) -> Option<SecretString> {
    let mut url = Url::parse(base.expose_secret()).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
    Some(SecretString::from(String::from(url)))
}

/// Returns the key of a rollout's incident with at most `max` bytes. The end of a longer id is replaced by a digest.
fn incident_key(rollout: &RolloutId, max: usize) -> String {
    if rollout.0.len() <= max {
        return rollout.0.clone();
    }
    let digest = &digest(&[&rollout.0])[..16];
    let fits = (0..=max - digest.len() - 1).rev().find(|at| rollout.0.is_char_boundary(*at)).unwrap_or(0);
    format!("{}-{digest}", &rollout.0[..fits])
}

/// Returns the symbol of a mood.
fn mark(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "🟢",
        Mood::Asking => "🟡",
        Mood::Bad => "🔴",
        Mood::Blind => "⚫",
        Mood::Underway => "🔵",
    }
}

#[cfg(test)]
mod tests;
