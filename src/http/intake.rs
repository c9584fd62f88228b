//! The intake of events over HTTP. It turns an event of the CloudEvents HTTP binding into the record of the Kafka binding,
//! so that both are decoded in the same way.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{mpsc, oneshot};

use super::answer::{HttpRefusal, PostAnswer, refused};
use super::senders::{Credential, bearer};
use super::serve::Peer;
use super::state::App;
use crate::ports::{Delivery, EventRecord};

/// Handles `POST /api/v1/events`: checks the sender, passes the event to the daemon and answers with the receipt.
pub(super) async fn take(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let answer = match received(&app, peer, &headers, body) {
        Ok(record) => post(&app, peer, record, bearer(&headers).as_ref()).await,
        Err(answer) => answer,
    };
    answer.into_response()
}

/// Passes an event to the daemon and returns its answer. If senders are checked, that is done first, with the credential of the
/// sender. This is the only way of an event over HTTP.
pub(super) async fn post(app: &App, peer: Peer, record: EventRecord, by: Option<&Credential>) -> PostAnswer {
    let record = match &app.shown.senders {
        Some(senders) => match senders.admit(by, record, peer).await {
            Ok(record) => record,
            Err(answer) => return answer,
        },
        None => record,
    };
    let (reply, receipt) = oneshot::channel();
    match app.shown.intake.try_send(Delivery { reply: Some(reply), ..record.into() }) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => {
            return PostAnswer::busy("the daemon is busy; send the event again in a second");
        }
        Err(mpsc::error::TrySendError::Closed(_)) => {
            return PostAnswer::busy("the daemon is stopping; send the event again when it is back");
        }
    }
    match receipt.await {
        Ok(receipt) => receipt.into(),
        Err(_) => PostAnswer::busy("it is not known whether the event was accepted; send the same one again"),
    }
}

/// Returns the answer to an address that posts too fast; `None` if it does not.
pub(super) fn too_fast(app: &App, peer: Peer) -> Option<PostAnswer> {
    if app.rates.allow(peer) {
        return None;
    }
    refused(peer, HttpRefusal::Rate);
    let message = "this address has sent as many events as http.posts-per-second allows; send it again in a second";
    Some(PostAnswer::unsent(StatusCode::TOO_MANY_REQUESTS, message))
}

/// Returns the event of a request as a record.
///
/// # Errors
/// The answer to a request that is refused.
fn received(
    app: &App,
    peer: Peer,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<EventRecord, PostAnswer> {
    if let Some(answer) = too_fast(app, peer) {
        return Err(answer);
    }
    if let Some(message) = web_page(headers, app.shown.senders.is_some()) {
        refused(peer, HttpRefusal::WebPage);
        return Err(PostAnswer::unsent(StatusCode::FORBIDDEN, message));
    }
    let body = body.map_err(|rejection| {
        refused(peer, HttpRefusal::Body);
        PostAnswer::unsent(rejection.status(), rejection.body_text())
    })?;
    Ok(record_of(headers, &body))
}

/// Returns the record of a posted event, as in the Kafka binding.
pub fn record_of(headers: &HeaderMap, body: &[u8]) -> EventRecord {
    EventRecord { value: Some(body.to_vec()), headers: kafka_headers(headers), ..EventRecord::default() }
}

/// Returns the reason to refuse a request that may come from a web page; `None` if there is none. A loopback address
/// keeps other machines out, but not the pages in a browser on this machine, which can be told by `Origin` and `Host`. A page has
/// no token, so with tokens the host may have any name.
fn web_page(headers: &HeaderMap, has_token: bool) -> Option<&'static str> {
    if headers.contains_key(header::ORIGIN) {
        return Some("events are not taken from web pages");
    }
    if has_token {
        return None;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.chars().all(|c| c.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_loopback = name == "localhost" || address.is_ok_and(|address| address.is_loopback());
    (!is_loopback).then_some("the Host header names another host; send the request to localhost or 127.0.0.1")
}

/// Returns the headers as the Kafka binding has them: `ce-id` as `ce_id`, and the content type. All others are left out.
fn kafka_headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut kept = Vec::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix("ce-") {
            kept.push((format!("ce_{attribute}"), percent_decoded(value.as_bytes())));
        } else if name == header::CONTENT_TYPE {
            kept.push(("content-type".to_owned(), value.as_bytes().to_vec()));
        }
    }
    kept
}

/// Decodes the percent-encoding of the HTTP binding, which the Kafka binding does not have. A `%` without two hexadecimal
/// digits after it stays.
fn percent_decoded(value: &[u8]) -> Vec<u8> {
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
