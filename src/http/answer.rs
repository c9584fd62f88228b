//! The answers of requests that fail.

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::serve::Peer;
use crate::metrics;
use crate::ports::Receipt;

/// Returns an answer with this status and the body `{"error": MESSAGE}`.
pub(super) fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// Returns an answer with the status 503 that asks the client to retry in a second.
pub(super) fn busy(message: &str) -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The query of a request to the API. One that can't be read is answered as every other problem: with JSON.
pub(super) struct ApiQuery<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<ApiQuery<T>, Response> {
        let query = Query::try_from_uri(&parts.uri);
        query.map(|Query(query)| ApiQuery(query)).map_err(|error| problem(StatusCode::BAD_REQUEST, &error.body_text()))
    }
}

/// The answer to a posted event, for a program or for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PostAnswer {
    pub(super) status: StatusCode,
    /// The kind of the message, as the key of the JSON body: `decided`, `ignored` or `error`.
    kind: &'static str,
    pub(super) message: String,
    /// Whether the daemon has got the event, so that its answer is among the answers.
    pub(super) is_sent: bool,
}

impl PostAnswer {
    /// Returns the answer to an event that does not get to the daemon.
    pub(super) fn unsent(status: StatusCode, message: impl Into<String>) -> PostAnswer {
        PostAnswer { status, kind: "error", message: message.into(), is_sent: false }
    }

    /// Returns the answer to an event that may be sent again in a second.
    pub(super) fn busy(message: &str) -> PostAnswer {
        PostAnswer::unsent(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Returns the answer to an event that is not for this daemon.
    pub(super) fn ignored(reason: String) -> PostAnswer {
        PostAnswer { status: StatusCode::ACCEPTED, kind: "ignored", message: reason, is_sent: false }
    }
}

impl From<Receipt> for PostAnswer {
    fn from(receipt: Receipt) -> PostAnswer {
        let (status, kind, message) = match receipt {
            Receipt::Decided(reason) => (StatusCode::ACCEPTED, "decided", reason),
            Receipt::Ignored(reason) => (StatusCode::ACCEPTED, "ignored", reason),
            Receipt::Dead(reason) => (StatusCode::UNPROCESSABLE_ENTITY, "error", reason),
        };
        PostAnswer { status, kind, message, is_sent: true }
    }
}

impl IntoResponse for PostAnswer {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ self.kind: self.message }))).into_response();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
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
    /// The request may come from a web page of another origin, or from a form of another session.
    WebPage,
    /// The request names a user as a proxy does, and does not come from it.
    Proxy,
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
            HttpRefusal::Proxy => "proxy",
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
