//! Sends every request at its due time and reads every answer to its end.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response, Url};
use secrecy::SecretString;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::schedule::Schedule;
use super::stream::EventReader;
use super::tally::{FailedRequest, GoodAnswer, LoadTally, RequestFailure, RequestTiming, TimeLimits};
use crate::secret::{self, BadToken};

/// The request that a load test repeats.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// HTTP method of every request.
    pub method: Method,
    /// Address, with its query.
    pub url: Url,
    /// Headers; the secret ones are marked as sensitive, so that they can't be printed.
    pub headers: HeaderMap,
    /// Bodies, used in turn and then again from the first; empty if the requests have no body.
    pub bodies: Vec<String>,
    /// Whether a good answer must be a stream of server-sent events. An answer of that content type is read as one in any
    /// case.
    pub events: bool,
}

/// The bounds of a run.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Largest number of requests under way, each on a connection of its own (HTTP/1.1).
    pub connections: usize,
    /// Longest time of one request.
    pub timeout: Duration,
    /// Limits that an answer must keep to count as goodput.
    pub limits: TimeLimits,
}

/// The reason why a load test can't start.
#[derive(Debug, thiserror::Error)]
pub enum LoadSetupError {
    /// The HTTP client can't be built.
    #[error("the HTTP client can't be made: {0}")]
    Client(#[source] reqwest::Error),
}

impl LoadRequest {
    /// Adds a bearer token to the headers and marks it as sensitive.
    ///
    /// # Errors
    /// [`BadToken`] if the token has characters that a header can't hold.
    pub fn bearer(&mut self, token: &SecretString) -> Result<(), BadToken> {
        self.headers.insert(reqwest::header::AUTHORIZATION, secret::bearer(token)?);
        Ok(())
    }
}

/// Runs the test and returns the counts of the requests that were due after the warm-up.
///
/// # Errors
/// [`LoadSetupError::Client`] if the HTTP client can't be built. A failed request is a result and not an error.
pub async fn drive(
    schedule: &Schedule,
    request: LoadRequest,
    options: &LoadOptions,
) -> Result<LoadTally, LoadSetupError> {
    let client = crate::http::client()
        .timeout(options.timeout)
        // One connection would carry all requests of HTTP/2, and `connections` would bound nothing.
        .http1_only()
        .pool_max_idle_per_host(options.connections)
        // Following a redirect would measure two requests as one.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(LoadSetupError::Client)?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let tally = LoadTally::new(options.limits.clone());
    // Every request holds a sender, so the counting ends after the last request.
    let sending = send(schedule, Arc::new(request), client, options.connections, sender);
    let ((), tally) = tokio::join!(sending, count(receiver, schedule.warm_up.to_std(), tally));
    Ok(tally)
}

async fn count(
    mut timings: mpsc::UnboundedReceiver<RequestTiming>,
    warm_up: Duration,
    mut tally: LoadTally,
) -> LoadTally {
    while let Some(timing) = timings.recv().await {
        if timing.due >= warm_up {
            tally.add(&timing);
        }
    }
    tally
}

async fn send(
    schedule: &Schedule,
    request: Arc<LoadRequest>,
    client: Client,
    connections: usize,
    timings: mpsc::UnboundedSender<RequestTiming>,
) {
    let slots = Arc::new(Semaphore::new(connections));
    let start = Instant::now();
    for (number, due) in schedule.instants().enumerate() {
        match due.checked_sub(start.elapsed()) {
            Some(early) => tokio::time::sleep(early).await,
            // Late already: send at once, but let the requests that were sent before make progress.
            None => tokio::task::yield_now().await,
        }
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            // Waiting for a free connection would let the server decide when requests are sent.
            let ended = Err(FailedRequest::new(RequestFailure::Timeout, ""));
            let _ = timings.send(RequestTiming { due, sent: None, ended });
            continue;
        };
        let (request, client, timings) = (request.clone(), client.clone(), timings.clone());
        tokio::spawn(async move {
            let sent = start.elapsed();
            let ended = exchange(&client, &request, number, start).await;
            drop(slot);
            let _ = timings.send(RequestTiming { due, sent: Some(sent), ended });
        });
    }
}

/// Sends the request with the body of `number` and reads the answer to its end.
async fn exchange(
    client: &Client,
    request: &LoadRequest,
    number: usize,
    start: Instant,
) -> Result<GoodAnswer, FailedRequest> {
    let mut builder = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
    if !request.bodies.is_empty() {
        builder = builder.body(request.bodies[number % request.bodies.len()].clone());
    }
    let response = builder.send().await.map_err(before_headers)?;
    let status = response.status();
    let is_stream = request.events || is_event_stream(response.headers());
    if status.is_success() && is_stream {
        return stream(response, start).await;
    }
    let answer = body(response, start).await?;
    if status.is_success() {
        return Ok(answer);
    }
    let class = status.as_u16() / 100;
    let why = if class == 3 { "a redirect is not followed; give the address it leads to" } else { "" };
    Err(FailedRequest::new(RequestFailure::Status(class), why))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// Reads an answer that is no stream.
async fn body(mut response: Response, start: Instant) -> Result<GoodAnswer, FailedRequest> {
    let mut first = None;
    while let Some(chunk) = response.chunk().await.map_err(after_headers)? {
        if !chunk.is_empty() {
            first.get_or_insert_with(|| start.elapsed());
        }
    }
    let complete = start.elapsed();
    Ok(GoodAnswer { first: first.unwrap_or(complete), complete, pace: None })
}

/// Reads a stream to the end that its protocol tells, or to that of the body. A connection that stays open after the
/// answer's end is not waited for.
async fn stream(mut response: Response, start: Instant) -> Result<GoodAnswer, FailedRequest> {
    let mut reader = EventReader::default();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if reader.read(&chunk, start.elapsed()) => break,
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) if reader.is_finished() => break,
            Err(error) => return Err(after_headers(error)),
        }
    }
    reader.end()
}

fn before_headers(error: reqwest::Error) -> FailedRequest {
    if let Some(why) = crate::tls::certificate_problem(&error) {
        return FailedRequest::new(RequestFailure::Certificate, why);
    }
    let kind = if error.is_timeout() {
        RequestFailure::Timeout
    } else if error.is_connect() {
        RequestFailure::Connect
    } else {
        RequestFailure::Broken
    };
    FailedRequest::new(kind, innermost(error))
}

fn after_headers(error: reqwest::Error) -> FailedRequest {
    let kind = if error.is_timeout() { RequestFailure::Timeout } else { RequestFailure::Truncated };
    FailedRequest::new(kind, innermost(error))
}

/// Returns the innermost cause, without the URL, which may hold credentials.
fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed_with_its_request() {
        let mut request = LoadRequest {
            method: Method::GET,
            url: "http://127.0.0.1:1".parse().unwrap(),
            headers: HeaderMap::new(),
            bodies: Vec::new(),
            events: false,
        };
        request.bearer(&SecretString::from("hush".to_owned())).unwrap();
        assert!(!format!("{request:?}").contains("hush"));
        assert!(matches!(request.bearer(&SecretString::from("a\nb".to_owned())), Err(BadToken)));
    }
}
