//! The section `[http]` of the configuration.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use axum::http::HeaderName;
use bellwether_core::time::Span;
use serde::Deserialize;

/// The clients that may read the API and the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadAccess {
    /// Every client.
    #[default]
    Anonymous,
    /// The holders of a token whose user has the right to it.
    Token,
}

/// The settings of the HTTP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The address and port that the server listens on.
    pub listen: SocketAddr,
    /// Whether events are accepted by `POST /api/v1/events`. Without `authenticate`, allowed on a loopback address only.
    pub events: bool,
    /// Whether posted events need a bearer token, whose user and rights the API server is asked for.
    pub authenticate: bool,
    /// The clients that may read.
    pub read: ReadAccess,
    /// The audiences of tokens; empty for that of the API server.
    pub audiences: Vec<String>,
    /// The events that an address may post per second.
    pub posts_per_second: NonZeroU32,
    /// The file with the server's certificate chain (PEM); `None` without TLS.
    pub cert_file: Option<PathBuf>,
    /// The file with the private key of the certificate (PEM).
    pub key_file: Option<PathBuf>,
    /// The file with the secret of the stamps by which all replicas know the users of posted events.
    pub stamp_key_file: Option<PathBuf>,
    /// The header in which a proxy in front of the console names the user whom it has signed in; `None` without such a proxy.
    pub proxy_user_header: Option<String>,
    /// The file with the secret by which that proxy is recognised.
    pub proxy_secret_file: Option<PathBuf>,
    /// The time after which a request is answered with 503.
    pub timeout: Span,
    /// The age of the last heartbeat after which `/livez` reports the event loop as dead.
    pub heartbeat: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            events: false,
            authenticate: false,
            read: ReadAccess::Anonymous,
            audiences: Vec::new(),
            posts_per_second: NonZeroU32::MIN.saturating_add(9),
            cert_file: None,
            key_file: None,
            stamp_key_file: None,
            proxy_user_header: None,
            proxy_secret_file: None,
            timeout: Span::from_secs(10),
            heartbeat: Span::from_secs(30),
        }
    }
}

impl Options {
    /// Returns the problems of the settings, each as the key and a message with the remedy.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.events && !self.listen.ip().is_loopback() {
            if !self.authenticate {
                let message = format!(
                    "any client that reaches {} could request rollouts; listen on 127.0.0.1, set `authenticate = true`, or use Kafka",
                    self.listen
                );
                problems.push(("events", message));
            } else if self.cert_file.is_none() {
                let message =
                    format!("tokens would be sent to {} without TLS; set `cert-file` and `key-file`", self.listen);
                problems.push(("authenticate", message));
            }
        }
        if self.read == ReadAccess::Token {
            problems.extend(self.read_problem().map(|message| ("read", message)));
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            let key = if self.cert_file.is_some() { "cert-file" } else { "key-file" };
            problems.push((key, "`cert-file` and `key-file` belong together; set both".to_owned()));
        }
        problems.extend(self.proxy_problem());
        problems
    }

    /// Returns the problem of readers with tokens.
    fn read_problem(&self) -> Option<String> {
        if !self.authenticate {
            return Some("the tokens of readers are checked as those of senders; set `authenticate = true`".to_owned());
        }
        let is_plain = !self.listen.ip().is_loopback() && self.cert_file.is_none();
        is_plain.then(|| format!("tokens would be sent to {} without TLS; set `cert-file` and `key-file`", self.listen))
    }

    /// Whether people can sign in to the console: to act, or to read.
    pub(super) fn has_sign_in(&self) -> bool {
        self.authenticate && (self.events || self.read == ReadAccess::Token)
    }

    /// Returns the name of the header in which a proxy names users; `None` if none is set, or if it is no name of a header.
    pub fn proxy_header(&self) -> Option<HeaderName> {
        self.proxy_user_header.as_deref().and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok())
    }

    fn proxy_problem(&self) -> Option<(&'static str, String)> {
        let name = self.proxy_user_header.as_ref();
        if name.is_some() != self.proxy_secret_file.is_some() {
            let key = if name.is_some() { "proxy-user-header" } else { "proxy-secret-file" };
            let message = "any client can send such a header, so it counts beside a secret alone; set both \
                           `proxy-user-header` and `proxy-secret-file`";
            return Some((key, message.to_owned()));
        }
        let name = name?;
        if self.proxy_header().is_none() {
            return Some((
                "proxy-user-header",
                format!("{name:?} is no name of a header, as \"X-Forwarded-User\" is one"),
            ));
        }
        let message = "a proxy signs people in to act or to read; set `authenticate = true`, and `events = true` or `read = \"token\"`, or \
                       remove it";
        (!self.has_sign_in()).then(|| ("proxy-user-header", message.to_owned()))
    }
}
