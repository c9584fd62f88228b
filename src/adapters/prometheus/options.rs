//! The `[prometheus]` section of the configuration, and the errors of a client that is set up with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bellwether_core::time::Span;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::secret::SecretError;

/// The connection to Prometheus, and the load that is put on it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// URL of the server, with its path prefix if there is one. A user name and password in it are used and never
    /// shown.
    pub url: String,
    /// Time limit of an answer, for the client and for the evaluation in Prometheus.
    pub timeout: Span,
    /// File with a bearer token. It is read again when it changes.
    pub bearer_token_file: Option<PathBuf>,
    /// User name of basic authentication.
    pub username: Option<String>,
    /// File with the password of basic authentication. It is read again when it changes.
    pub password_file: Option<PathBuf>,
    /// File with PEM certificates of the trusted authorities, which replace the system's.
    pub ca_file: Option<PathBuf>,
    /// Further headers of every request, such as `X-Scope-OrgID`.
    pub headers: BTreeMap<String, String>,
    /// Largest number of queries in flight; at least 1.
    pub concurrency: usize,
    /// Largest number of queries started per second; at least 1.
    pub queries_per_second: u32,
    /// Distance between two readings of the counters of a rollout.
    pub interval: Span,
    /// Age at which counters are read: at least the scrape interval plus the time until a sample is visible to queries
    /// (remote write, recording agents).
    pub lag: Span,
    /// Distance between two scrapes of a target. A sample older than 2.5 scrape intervals is stale.
    pub scrape_interval: Span,
    /// Whether an answer with warnings is used as if it were complete.
    pub accept_partial: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            url: "http://localhost:9090".to_owned(),
            timeout: Span::from_secs(4),
            bearer_token_file: None,
            username: None,
            password_file: None,
            ca_file: None,
            headers: BTreeMap::new(),
            concurrency: 4,
            queries_per_second: 20,
            interval: Span::from_secs(15),
            lag: Span::from_secs(15),
            scrape_interval: Span::from_secs(15),
            accept_partial: false,
        }
    }
}

/// Leaves out the values of headers, which may be keys, and the credentials in the URL.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("url", &without_secrets(&self.url))
            .field("timeout", &self.timeout)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The reason why no client can be made of the options.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusSetupError {
    /// The URL is not an HTTP URL.
    #[error("prometheus.url: {url:?} is not a usable URL: {reason}")]
    Url {
        /// The URL without its credentials.
        url: String,
        /// The fault of the URL.
        reason: String,
    },
    /// A header, given by its name, has a name or value with characters that can't be sent.
    #[error("prometheus.headers: {0:?} is not a header that can be sent")]
    Header(String),
    /// A file with a secret can't be read, or is not one secret.
    #[error("prometheus: {0}")]
    Secret(#[from] SecretError),
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The content of a file is not a credential or a certificate.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// The fault of the content, without the content.
        reason: String,
    },
    /// An option is out of range, or the options contradict each other.
    #[error("prometheus: {0}")]
    Options(&'static str),
    /// The HTTP client can't be made.
    #[error("prometheus: {0}")]
    Client(String),
}

/// Parses the URL of the server.
///
/// # Errors
/// [`PrometheusSetupError::Url`]: it is not an HTTP URL with a host.
pub fn parse_url(url: &str) -> Result<Url, PrometheusSetupError> {
    let refused = |reason: &str| PrometheusSetupError::Url { url: without_secrets(url), reason: reason.to_owned() };
    let parsed = Url::parse(url).map_err(|error| refused(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(refused("it needs http:// or https:// and a host"));
    }
    Ok(parsed)
}

/// Removes the user name and the password from a URL with a host.
pub fn remove_credentials(url: &mut Url) {
    // This never fails for a URL with a host.
    let _ = (url.set_username(""), url.set_password(None));
}

/// Returns a URL, valid or not, without its credentials, query and fragment.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}
