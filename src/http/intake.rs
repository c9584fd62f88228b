//! Events over HTTP: the CloudEvents HTTP binding turned into the record that Kafka would have brought, so that
//! everything after this line is the same for both.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{App, problem};
use crate::ports::{EventRecord, Receipt, Wake};

/// `POST /api/v1/events`.
pub(super) async fn take(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refused(&headers) {
        return problem(StatusCode::FORBIDDEN, refusal);
    }
    let (answer, taken) = oneshot::channel();
    let record = EventRecord {
        value: Some(body.to_vec()),
        headers: kafka_headers(&headers),
        answer: Some(Arc::new(Mutex::new(Some(answer)))),
        ..EventRecord::default()
    };
    match app.shown.intake.try_send(Wake::Record(record)) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => return busy("there is too much to do; send it again in a second"),
        Err(mpsc::error::TrySendError::Closed(_)) => {
            return busy("the daemon is stopping; send it again when it is back");
        }
    }
    match taken.await {
        Ok(Receipt::Decided(what)) => (StatusCode::ACCEPTED, Json(json!({ "decided": what }))).into_response(),
        Ok(Receipt::Ignored(why)) => (StatusCode::ACCEPTED, Json(json!({ "ignored": why }))).into_response(),
        Ok(Receipt::Dead(why)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Err(_) => busy("it is not known whether the event was taken; send the same one again"),
    }
}

fn busy(message: &str) -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}

/// Loopback keeps other machines out, but not the web pages that this machine's browser has open.
fn refused(headers: &HeaderMap) -> Option<&'static str> {
    if headers.contains_key(header::ORIGIN) {
        return Some("events are not taken from web pages");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.chars().all(|c| c.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let ours = name == "localhost" || address.is_ok_and(|address| address.is_loopback());
    (!ours).then_some("name this host as localhost or 127.0.0.1")
}

/// `ce-id` is `ce_id` in Kafka; the other headers are the connection's business.
fn kafka_headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut kept = Vec::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix("ce-") {
            kept.push((format!("ce_{attribute}"), decoded(value.as_bytes())));
        } else if name == header::CONTENT_TYPE {
            kept.push(("content-type".to_owned(), value.as_bytes().to_vec()));
        }
    }
    kept
}

/// Without the percent-encoding that the HTTP binding asks for and Kafka's does not know.
fn decoded(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match hex.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}
