//! The answers of requests that fail.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::serve::Peer;
use crate::metrics;

/// Returns an answer with this status and the body `{"error": MESSAGE}`.
pub(super) fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// Returns an answer with the status 503 that asks the client to retry in a second.
pub(super) fn busy(message: &str) -> Response {
    again_in_a_second(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Returns an answer that asks the client to retry in a second.
pub(super) fn again_in_a_second(status: StatusCode, message: &str) -> Response {
    let mut response = problem(status, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The reason why a request is refused before the daemon is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpRefusal {
    /// There are as many connections as are allowed.
    Connections,
    /// The head of the request, or the TLS handshake, takes too long.
    SlowHead,
    /// The head has too many bytes or headers.
    Head,
    /// The body has too many bytes, or it can't be read.
    Body,
    /// The request may come from a web page.
    WebPage,
    /// The client sends more events than are allowed.
    Rate,
    /// There is no token, or the API server doesn't know it.
    Token,
    /// The user has no right to the verb.
    Verb,
}

impl HttpRefusal {
    fn label(self) -> &'static str {
        match self {
            HttpRefusal::Connections => "connections",
            HttpRefusal::SlowHead => "slow-head",
            HttpRefusal::Head => "head",
            HttpRefusal::Body => "body",
            HttpRefusal::WebPage => "web-page",
            HttpRefusal::Rate => "rate",
            HttpRefusal::Token => "token",
            HttpRefusal::Verb => "verb",
        }
    }
}

/// Counts and logs a refusal.
pub(super) fn refused(peer: Peer, why: HttpRefusal) {
    metrics::http_refused(why.label());
    tracing::warn!(target: "bellwether::audit", peer = %peer.0, why = why.label(), "HTTP request refused");
}
