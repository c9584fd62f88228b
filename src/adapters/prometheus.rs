//! The adapter of the port [`Metrics`] for Prometheus and other servers with its HTTP API.
//!
//! The client library sends the requests, but its typed results are not used: they drop the `warnings` that say that an
//! answer is incomplete. Every query has an explicit instant and a time limit. No query has a `limit`, which truncates
//! answers without an error. The number of queries in flight and the number started per second are bounded here, for
//! all rollouts together. No error contains a credential, neither of a header nor of the URL.

mod options;
pub mod answer;
mod content;
mod credentials;
mod places;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bellwether_core::time::{Span, TimeRange, Timestamp};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use prometheus_http_query::Client;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::SemaphorePermit;

use crate::clock::{Clock as _, MAX_SKEW_MS, Stopwatch, SystemClock, server_ahead_ms};
use crate::metrics;
use crate::ports::{Metrics, MetricsError, SeriesPoint};
use answer::{ApiResponse, QueryData, read_error, read_points, read_ranges};
use credentials::Credentials;
use options::parse_url;
use places::{Places, Purpose};

pub use options::{Options, PrometheusSetupError, remove_credentials};

/// The longest answer in bytes. No grouped query has one that long, and a wrong query must not exhaust the memory.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// A [`Prometheus`] whose queries prepare rollouts, and wait while queries that judge traffic need the places.
pub struct PrometheusForPreparing(pub Arc<Prometheus>);

impl std::ops::Deref for PrometheusForPreparing {
    type Target = Prometheus;

    fn deref(&self) -> &Prometheus {
        &self.0
    }
}

/// A client of one Prometheus server.
pub struct Prometheus {
    client: Client,
    /// URL of the server without its credentials.
    display_url: String,
    credentials: Credentials,
    timeout: Span,
    accept_partial: bool,
    /// The places for queries in flight.
    places: Places,
    /// Limits the queries started per second.
    rate: DefaultDirectRateLimiter,
    /// The server's clock minus this machine's at the last answer, in milliseconds.
    skew_ms: AtomicI64,
}

impl Prometheus {
    /// Returns a client of the server that `options` describe. No request is sent.
    ///
    /// # Errors
    /// A fault of the options or of the files that they name.
    pub fn new(options: &Options) -> Result<Prometheus, PrometheusSetupError> {
        let mut url = parse_url(&options.url)?;
        let http = http_client(options)?;
        let credentials = Credentials::of(options, &url, &http)?;
        remove_credentials(&mut url);
        let client = Client::from(http, url.as_str())
            .map_err(|error| PrometheusSetupError::Url { url: url.to_string(), reason: error.to_string() })?;
        let per_second = NonZeroU32::new(options.queries_per_second)
            .ok_or(PrometheusSetupError::Options("queries-per-second must be at least 1"))?;
        if options.concurrency == 0 {
            return Err(PrometheusSetupError::Options("concurrency must be at least 1"));
        }
        if options.timeout == Span::ZERO {
            return Err(PrometheusSetupError::Options("timeout must be longer than 0 s"));
        }
        Ok(Prometheus {
            client,
            display_url: url.to_string(),
            credentials,
            timeout: options.timeout,
            accept_partial: options.accept_partial,
            places: Places::new(options.concurrency),
            rate: RateLimiter::direct(Quota::per_second(per_second)),
            skew_ms: AtomicI64::new(0),
        })
    }

    /// Returns the server's version, from its build information.
    ///
    /// # Errors
    /// As [`Metrics::instant`]. A server without this endpoint (an older Thanos, a proxy) gives `Refused`.
    pub async fn server_version(&self) -> Result<String, MetricsError> {
        let url = self.endpoint("status/buildinfo");
        let request = self.client.inner().get(url).headers(self.authorization()?);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let answer: ApiResponse<BuildInformation> = self.read(response).await?;
        let no_version = || MetricsError::Unreadable("the build information has no version".to_owned());
        answer.data.map(|data| data.version).ok_or_else(no_version)
    }

    /// Returns the server's clock minus this machine's at the last answer, in milliseconds with the precision of a
    /// second.
    pub fn clock_ahead_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    /// Returns the `Authorization` header of a request, if it has one.
    fn authorization(&self) -> Result<HeaderMap, MetricsError> {
        let mut headers = HeaderMap::new();
        let value = self
            .credentials
            .header(self.client.inner())
            .map_err(|error| MetricsError::Unavailable(error.to_string()))?;
        headers.extend(value.map(|value| (AUTHORIZATION, value)));
        Ok(headers)
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> MetricsError {
        MetricsError::Unavailable(format!("{}: {}", self.display_url, credentials::causes(error)))
    }

    /// Reads the JSON envelope of an answer with any status.
    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        mut response: reqwest::Response,
    ) -> Result<ApiResponse<T>, MetricsError> {
        self.record_clock_skew(response.headers());
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error.without_url()))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(MetricsError::Unreadable(format!(
                    "{}: the answer is longer than 256 MiB",
                    self.display_url
                )));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let message = format!("{} {}", status.as_u16(), read_error(&body));
            let is_temporary = status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT;
            return Err(if is_temporary { MetricsError::Unavailable(message) } else { MetricsError::Refused(message) });
        }
        let answer: ApiResponse<T> = serde_json::from_slice(&body)
            .map_err(|error| MetricsError::Unreadable(format!("{}: {error}", self.display_url)))?;
        match answer.status.as_str() {
            "success" => Ok(answer),
            _ => Err(MetricsError::Refused(read_error(&body))),
        }
    }

    fn record_clock_skew(&self, headers: &HeaderMap) {
        let Some(ahead) = server_ahead_ms(headers, SystemClock.now()) else { return };
        let before = self.skew_ms.swap(ahead, Ordering::Relaxed);
        if ahead.abs() > MAX_SKEW_MS && before.abs() <= MAX_SKEW_MS {
            tracing::warn!(url = %self.display_url, ahead_ms = ahead, "the clocks of Prometheus and of this machine differ");
        }
    }
}

#[derive(Deserialize)]
struct BuildInformation {
    version: String,
}

impl Prometheus {
    /// Waits until another query may start, and returns its place.
    async fn permit(&self, purpose: Purpose) -> Option<SemaphorePermit<'_>> {
        let place = self.places.take(purpose).await;
        self.rate.until_ready().await;
        place
    }

    fn endpoint(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.display_url.trim_end_matches('/'))
    }

    async fn query_instant(
        &self,
        query: &str,
        at: Timestamp,
        purpose: Purpose,
    ) -> Result<Vec<SeriesPoint>, MetricsError> {
        let _place = self.permit(purpose).await;
        let request = self
            .client
            .query(query)
            // The client's own `at()` takes whole seconds; this has milliseconds.
            .query("time", unix_seconds(at))
            .timeout(i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX));
        let request = self.authorization()?.into_iter().fold(request, |request, (name, value)| match name {
            Some(name) => request.header(name, value),
            None => request,
        });
        let response = request.post_raw().await.map_err(|error| self.unreachable(&error))?;
        read_points(self.complete_data(query, self.read(response).await?)?)
    }

    async fn query_range(
        &self,
        query: &str,
        range: TimeRange,
        purpose: Purpose,
    ) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
        let _place = self.permit(purpose).await;
        let form = [
            ("query", query.to_owned()),
            // The client's own range query takes whole seconds; this has milliseconds.
            ("start", unix_seconds(range.from)),
            ("end", unix_seconds(range.to)),
            ("step", format!("{:.3}", range.step.as_secs_f64())),
            ("timeout", format!("{}ms", self.timeout.as_millis())),
        ];
        let url = self.endpoint("query_range");
        let request = self.client.inner().post(url).headers(self.authorization()?).form(&form);
        let response = request.send().await.map_err(|error| self.unreachable(&error.without_url()))?;
        read_ranges(self.complete_data(query, self.read(response).await?)?)
    }

    /// Returns the data of a complete answer, or of any answer if the options accept partial ones.
    ///
    /// # Errors
    /// [`MetricsError::Partial`] with the answer's first warning.
    fn complete_data(&self, query: &str, answer: ApiResponse<QueryData>) -> Result<Option<QueryData>, MetricsError> {
        for info in &answer.infos {
            tracing::debug!(query, info, "Prometheus has a remark on the query");
        }
        match answer.warnings.first() {
            Some(warning) if !self.accept_partial => Err(MetricsError::Partial(warning.clone())),
            warning => {
                if let Some(warning) = warning {
                    tracing::warn!(query, warning, "using a partial answer, because `accept-partial` is set");
                }
                Ok(answer.data)
            }
        }
    }

    /// Returns the type of a series in the exporters' metadata. `None`: it is unknown, or not there.
    async fn query_type(&self, name: &str, purpose: Purpose) -> Result<Option<String>, MetricsError> {
        let _place = self.permit(purpose).await;
        let url = self.endpoint("metadata");
        let request = self.client.inner().get(url).headers(self.authorization()?);
        let response = request.query(&[("metric", name)]).send().await;
        let response = response.map_err(|error| self.unreachable(&error.without_url()))?;
        let answer: ApiResponse<BTreeMap<String, Vec<SeriesMetadata>>> = self.read(response).await?;
        let metadata = answer.data.and_then(|mut data| data.remove(name)).unwrap_or_default();
        Ok(metadata.into_iter().map(|metadata| metadata.kind).find(|kind| kind != "unknown"))
    }
}

#[derive(Deserialize)]
struct SeriesMetadata {
    #[serde(rename = "type")]
    kind: String,
}

/// Returns an instant in Unix seconds with three decimals, as the API takes it.
fn unix_seconds(at: Timestamp) -> String {
    format!("{:.3}", at.as_millisecond() as f64 / 1000.0)
}

/// Runs a query and records its duration and the kind of its error in the daemon's metrics.
async fn timed<T>(query: impl Future<Output = Result<T, MetricsError>>) -> Result<T, MetricsError> {
    let stopwatch = Stopwatch::start();
    let answer = query.await;
    metrics::promql(stopwatch.elapsed(), answer.as_ref().err().map(MetricsError::kind));
    answer
}

/// Declares the port for one purpose of queries.
macro_rules! metrics_for {
    ($client:ty, $purpose:expr) => {
        #[async_trait]
        impl Metrics for $client {
            async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
                timed(self.query_instant(query, at, $purpose)).await
            }

            async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError> {
                timed(self.query_type(name, $purpose)).await
            }

            async fn range(
                &self,
                query: &str,
                range: TimeRange,
            ) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
                timed(self.query_range(query, range, $purpose)).await
            }
        }
    };
}

metrics_for!(Prometheus, Purpose::Judging);
metrics_for!(PrometheusForPreparing, Purpose::Preparing);

fn http_client(options: &Options) -> Result<reqwest::Client, PrometheusSetupError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let unusable = || PrometheusSetupError::Header(name.clone());
        let key = HeaderName::try_from(name).map_err(|_| unusable())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| unusable())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    let mut builder = bellwether_tools::http::client()
        .default_headers(headers)
        .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
        .timeout(options.timeout.to_std())
        // A redirect would turn the POST into a GET without its form, and send the headers to another server.
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &options.ca_file {
        let pem = std::fs::read(path).map_err(|source| PrometheusSetupError::File { path: path.clone(), source })?;
        let unusable = |error: reqwest::Error| PrometheusSetupError::Content {
            path: path.clone(),
            reason: credentials::causes(&error),
        };
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(unusable)?;
        if certificates.is_empty() {
            return Err(PrometheusSetupError::Content {
                path: path.clone(),
                reason: "the file has no certificate".to_owned(),
            });
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| PrometheusSetupError::Client(credentials::causes(&error)))
}

#[cfg(test)]
mod tests;
