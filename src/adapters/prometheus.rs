//! Prometheus, or whatever speaks its HTTP API, behind the port [`Metrics`].
//!
//! The client is used in its raw form, because its typed results drop the `warnings` that say that an answer is not
//! whole. Every query carries the instant it is about and the time it may take; none carries a `limit`, which cuts
//! answers short without an error. How many are under way and how many start in a second is bounded here, for all
//! rollouts together. No error has a credential in it: not the header's, and not the URL's.

mod answer;
mod credentials;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bellwether_core::time::{Span, TimeRange, Timestamp};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use prometheus_http_query::Client;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::{Clock as _, Stopwatch, SystemClock};
use crate::metrics;
use crate::ports::{Metrics, MetricsError, SeriesPoint};
use answer::{Answer, read_error, read_points, read_ranges};
use credentials::Credentials;

/// More than this between the server's clock and ours is worth a warning: instants are chosen by our clock.
pub const MAX_SKEW_MS: i64 = 5_000;

/// An answer longer than this is not read: no grouped query has one, and a mistaken query must not fill the memory.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// How to reach Prometheus, and how much to ask of it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// Where it is, with the path prefix if there is one. A user name and password in it are used, and never shown.
    pub url: String,
    /// How long an answer may take. Prometheus is told to give up then, too.
    pub timeout: Span,
    /// A file with a bearer token; read again when it changes.
    pub bearer_token_file: Option<PathBuf>,
    /// The user name for basic authentication.
    pub username: Option<String>,
    /// A file with the password for it; read again when it changes.
    pub password_file: Option<PathBuf>,
    /// PEM certificates of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Further headers, such as `X-Scope-OrgID`.
    pub headers: BTreeMap<String, String>,
    /// How many queries may be under way at once.
    pub concurrency: usize,
    /// How many queries may start in a second.
    pub queries_per_second: u32,
    /// The distance of the readings, on one grid for all rollouts.
    pub interval: Span,
    /// How far in the past counters are read: at least the scrape interval and the time that a sample takes to become
    /// visible (remote write, recording agents).
    pub lag: Span,
    /// How often the targets are scraped; a sample older than two and a half of these is stale.
    pub scrape_interval: Span,
    /// Whether an answer with warnings is taken for a whole one.
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

/// Headers may hold keys and the URL a password, so neither is printed.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("url", &bare(&self.url))
            .field("timeout", &self.timeout)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Why Prometheus can't be asked as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusSetupError {
    /// The URL is none.
    #[error("prometheus.url: {url:?} is not a URL that can be asked: {reason}")]
    Url {
        /// Without credentials.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A header can't be sent.
    #[error("prometheus.headers: {0:?} is not a header that can be sent")]
    Header(String),
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is in the file is not a credential or a certificate.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The options contradict each other.
    #[error("prometheus: {0}")]
    Options(&'static str),
    /// The HTTP client can't be made.
    #[error("prometheus: {0}")]
    Client(String),
}

/// One Prometheus.
pub struct Prometheus {
    client: Client,
    /// The URL without its credentials, for people.
    shown: String,
    credentials: Credentials,
    timeout: Span,
    accept_partial: bool,
    places: Semaphore,
    pace: DefaultDirectRateLimiter,
    skew_ms: AtomicI64,
}

impl Prometheus {
    /// A client for the Prometheus that `options` describe. Nothing is asked yet.
    ///
    /// # Errors
    /// What is wrong with the options or the files that they name.
    pub fn new(options: &Options) -> Result<Prometheus, PrometheusSetupError> {
        // Another part of the process may have installed it already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut url = parse(&options.url)?;
        let http = http_client(options)?;
        let credentials = Credentials::of(options, &url, &http)?;
        // Never fails on a URL that has a host.
        let _ = (url.set_username(""), url.set_password(None));
        let client = Client::from(http, url.as_str())
            .map_err(|error| PrometheusSetupError::Url { url: url.to_string(), reason: error.to_string() })?;
        let per_second = NonZeroU32::new(options.queries_per_second)
            .ok_or(PrometheusSetupError::Options("queries-per-second must be at least 1"))?;
        if options.concurrency == 0 {
            return Err(PrometheusSetupError::Options("concurrency must be at least 1"));
        }
        if options.timeout == Span::ZERO {
            return Err(PrometheusSetupError::Options("timeout must be longer than nothing"));
        }
        Ok(Prometheus {
            client,
            shown: url.to_string(),
            credentials,
            timeout: options.timeout,
            accept_partial: options.accept_partial,
            places: Semaphore::new(options.concurrency),
            pace: RateLimiter::direct(Quota::per_second(per_second)),
            skew_ms: AtomicI64::new(0),
        })
    }

    /// The server's version, from its build information.
    ///
    /// # Errors
    /// As [`Metrics::instant`]; a store that has no such page (an older Thanos, a proxy) gives `Refused`.
    pub async fn server_version(&self) -> Result<String, MetricsError> {
        let url = self.page("status/buildinfo");
        let request = self.client.inner().get(url).headers(self.authorization().await?);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let answer: Answer<BuildInformation> = self.read(response).await?;
        answer.data.map(|data| data.version).ok_or_else(|| MetricsError::Unreadable("no version in it".to_owned()))
    }

    /// How far the server's clock was ahead of ours at the last answer, in milliseconds, to a second's precision.
    pub fn clock_ahead_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    async fn authorization(&self) -> Result<HeaderMap, MetricsError> {
        let mut headers = HeaderMap::new();
        let value = self
            .credentials
            .header(self.client.inner())
            .await
            .map_err(|error| MetricsError::Unavailable(error.to_string()))?;
        headers.extend(value.map(|value| (AUTHORIZATION, value)));
        Ok(headers)
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> MetricsError {
        MetricsError::Unavailable(format!("{}: {}", self.shown, credentials::causes(error)))
    }

    /// The envelope of an answer, whatever its status.
    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        mut response: reqwest::Response,
    ) -> Result<Answer<T>, MetricsError> {
        self.look_at_the_clock(response.headers());
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error.without_url()))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(MetricsError::Unreadable(format!("{}: the answer is longer than 256 MiB", self.shown)));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let message = format!("{} {}", status.as_u16(), read_error(&body));
            let later = status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT;
            return Err(if later { MetricsError::Unavailable(message) } else { MetricsError::Refused(message) });
        }
        let answer: Answer<T> = serde_json::from_slice(&body)
            .map_err(|error| MetricsError::Unreadable(format!("{}: {error}", self.shown)))?;
        match answer.status.as_str() {
            "success" => Ok(answer),
            _ => Err(MetricsError::Refused(read_error(&body))),
        }
    }

    fn look_at_the_clock(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return };
        let ahead = theirs.timestamp().as_millisecond() - SystemClock.now().as_millisecond();
        let before = self.skew_ms.swap(ahead, Ordering::Relaxed);
        if ahead.abs() > MAX_SKEW_MS && before.abs() <= MAX_SKEW_MS {
            tracing::warn!(url = %self.shown, ahead_ms = ahead, "the clocks of Prometheus and of this machine differ");
        }
    }
}

#[derive(Deserialize)]
struct BuildInformation {
    version: String,
}

impl Prometheus {
    /// A place among those who ask at a time, at the pace at which they may.
    async fn place(&self) -> Result<SemaphorePermit<'_>, MetricsError> {
        // The semaphore is never closed, so there is always a place some time.
        let place = self.places.acquire().await.map_err(|error| MetricsError::Unavailable(error.to_string()))?;
        self.pace.until_ready().await;
        Ok(place)
    }

    fn page(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.shown.trim_end_matches('/'))
    }

    async fn ask(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        let _place = self.place().await?;
        let request = self
            .client
            .query(query)
            // To the millisecond, which `at()` does not take.
            .query("time", seconds(at))
            .timeout(i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX));
        let request = self.authorization().await?.into_iter().fold(request, |request, (name, value)| match name {
            Some(name) => request.header(name, value),
            None => request,
        });
        let response = request.post_raw().await.map_err(|error| self.unreachable(&error))?;
        read_points(self.whole(query, self.read(response).await?)?)
    }

    async fn ask_range(
        &self,
        query: &str,
        stretch: TimeRange,
    ) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
        let _place = self.place().await?;
        let form = [
            ("query", query.to_owned()),
            // To the millisecond, which the client's own range query does not take.
            ("start", seconds(stretch.from)),
            ("end", seconds(stretch.to)),
            ("step", format!("{:.3}", stretch.step.as_secs_f64())),
            ("timeout", format!("{}ms", self.timeout.as_millis())),
        ];
        let url = self.page("query_range");
        let request = self.client.inner().post(url).headers(self.authorization().await?).form(&form);
        let response = request.send().await.map_err(|error| self.unreachable(&error.without_url()))?;
        read_ranges(self.whole(query, self.read(response).await?)?)
    }

    /// The data of an answer from which nothing is missing, or only what may be.
    fn whole(&self, query: &str, answer: Answer<answer::Data>) -> Result<Option<answer::Data>, MetricsError> {
        for info in &answer.infos {
            tracing::debug!(query, info, "Prometheus remarks");
        }
        match answer.warnings.first() {
            Some(warning) if !self.accept_partial => Err(MetricsError::Partial(warning.clone())),
            warning => {
                if let Some(warning) = warning {
                    tracing::warn!(query, warning, "a partial answer is taken for a whole one, as configured");
                }
                Ok(answer.data)
            }
        }
    }

    async fn ask_type(&self, name: &str) -> Result<Option<String>, MetricsError> {
        let _place = self.place().await?;
        let url = self.page("metadata");
        let request = self.client.inner().get(url).headers(self.authorization().await?);
        let response = request.query(&[("metric", name)]).send().await;
        let response = response.map_err(|error| self.unreachable(&error.without_url()))?;
        let answer: Answer<BTreeMap<String, Vec<Description>>> = self.read(response).await?;
        let described = answer.data.and_then(|mut data| data.remove(name)).unwrap_or_default();
        Ok(described.into_iter().map(|description| description.kind).find(|kind| kind != "unknown"))
    }
}

#[derive(Deserialize)]
struct Description {
    #[serde(rename = "type")]
    kind: String,
}

fn seconds(at: Timestamp) -> String {
    format!("{:.3}", at.as_millisecond() as f64 / 1000.0)
}

/// Asks, and lets the metrics know how long that took and how it ended.
async fn timed<T>(asking: impl Future<Output = Result<T, MetricsError>>) -> Result<T, MetricsError> {
    let watch = Stopwatch::start();
    let answer = asking.await;
    metrics::promql(watch.elapsed(), answer.as_ref().err().map(MetricsError::kind));
    answer
}

#[async_trait]
impl Metrics for Prometheus {
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        timed(self.ask(query, at)).await
    }

    async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError> {
        timed(self.ask_type(name)).await
    }

    async fn range(
        &self,
        query: &str,
        stretch: TimeRange,
    ) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
        timed(self.ask_range(query, stretch)).await
    }
}

fn parse(url: &str) -> Result<Url, PrometheusSetupError> {
    let refused = |reason: &str| PrometheusSetupError::Url { url: bare(url), reason: reason.to_owned() };
    let parsed = Url::parse(url).map_err(|error| refused(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(refused("it needs http:// or https:// and a host"));
    }
    Ok(parsed)
}

/// A URL without what may be secret in it, even if it is none.
fn bare(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

fn http_client(options: &Options) -> Result<reqwest::Client, PrometheusSetupError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let bad = || PrometheusSetupError::Header(name.clone());
        let key = HeaderName::try_from(name).map_err(|_| bad())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    let mut builder = reqwest::Client::builder()
        .default_headers(headers)
        .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
        .timeout(options.timeout.to_std())
        // A redirect would turn the POST into a GET without its form, and carry the headers to somebody else.
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &options.ca_file {
        let pem = std::fs::read(path).map_err(|source| PrometheusSetupError::File { path: path.clone(), source })?;
        let bad = |error: reqwest::Error| PrometheusSetupError::Content {
            path: path.clone(),
            reason: credentials::causes(&error),
        };
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(bad)?;
        if certificates.is_empty() {
            return Err(PrometheusSetupError::Content {
                path: path.clone(),
                reason: "there is no certificate in it".to_owned(),
            });
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| PrometheusSetupError::Client(credentials::causes(&error)))
}

#[cfg(test)]
mod tests;
