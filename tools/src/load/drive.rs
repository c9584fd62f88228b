//! Sends every request at its due time and reads every answer to its end.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::schedule::Schedule;
use super::tally::{LoadTally, RequestFailure, RequestTiming};

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
    /// Whether a good answer is a stream of server-sent events with at least one event.
    pub events: bool,
}

/// The reason why a load test can't start.
#[derive(Debug, thiserror::Error)]
pub enum LoadSetupError {
    /// The HTTP client can't be built.
    #[error("the HTTP client can't be made: {0}")]
    Client(#[source] reqwest::Error),
    /// The bearer token is not a valid header value.
    #[error("the token has characters that can't be in a header")]
    Token,
}

impl LoadRequest {
    /// Adds a bearer token to the headers and marks it as sensitive.
    ///
    /// # Errors
    /// [`LoadSetupError::Token`] if the token has characters that a header can't hold.
    pub fn bearer(&mut self, token: &SecretString) -> Result<(), LoadSetupError> {
        let text = format!("Bearer {}", token.expose_secret());
        let mut value = HeaderValue::from_str(&text).map_err(|_| LoadSetupError::Token)?;
        value.set_sensitive(true);
        self.headers.insert(reqwest::header::AUTHORIZATION, value);
        Ok(())
    }
}

/// Runs the test with at most `connections` requests under way at a time and `timeout` for each request. Returns the
/// counts of the requests that were due after the warm-up.
///
/// # Errors
/// [`LoadSetupError::Client`] if the HTTP client can't be built. A failed request is a result and not an error.
pub async fn drive(
    schedule: &Schedule,
    request: LoadRequest,
    connections: usize,
    timeout: Duration,
) -> Result<LoadTally, LoadSetupError> {
    crate::tls::install();
    let client = Client::builder()
        .timeout(timeout)
        .pool_max_idle_per_host(connections)
        // A redirect counts as an answer: following it would measure two requests as one.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(LoadSetupError::Client)?;
    let (sender, receiver) = mpsc::unbounded_channel();
    // Every request holds a sender, so the counting ends after the last request.
    let sending = send(schedule, Arc::new(request), client, connections, sender);
    let ((), tally) = tokio::join!(sending, count(receiver, schedule.warm_up.to_std()));
    Ok(tally)
}

async fn count(mut timings: mpsc::UnboundedReceiver<RequestTiming>, warm_up: Duration) -> LoadTally {
    let mut tally = LoadTally::new();
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
            let unsent = RequestTiming { due, sent: None, first_byte: None, ended: Err(RequestFailure::Timeout) };
            let _ = timings.send(unsent);
            continue;
        };
        let (request, client, timings) = (request.clone(), client.clone(), timings.clone());
        tokio::spawn(async move {
            let sent = start.elapsed();
            let mut first_byte = None;
            let result = exchange(&client, &request, number, || first_byte = Some(start.elapsed())).await;
            let ended = result.map(|()| start.elapsed());
            drop(slot);
            let _ = timings.send(RequestTiming { due, sent: Some(sent), first_byte, ended });
        });
    }
}

/// Sends the request with the body of `number` and reads the answer to its end.
async fn exchange(
    client: &Client,
    request: &LoadRequest,
    number: usize,
    mut at_first_byte: impl FnMut(),
) -> Result<(), RequestFailure> {
    let mut builder = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
    if !request.bodies.is_empty() {
        builder = builder.body(request.bodies[number % request.bodies.len()].clone());
    }
    let mut response = builder.send().await.map_err(|error| before_headers(&error))?;
    let class = response.status().as_u16() / 100;
    let (mut read, mut events) = (0, !request.events);
    let mut tail = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| after_headers(&error))?;
        let Some(chunk) = chunk else { break };
        if read == 0 && !chunk.is_empty() {
            at_first_byte();
        }
        read += chunk.len();
        if !events {
            events = has_event(&mut tail, &chunk);
        }
    }
    match class {
        4 | 5 => Err(RequestFailure::Status(class)),
        _ if !events => Err(RequestFailure::Truncated),
        _ => Ok(()),
    }
}

fn before_headers(error: &reqwest::Error) -> RequestFailure {
    if error.is_timeout() {
        RequestFailure::Timeout
    } else if error.is_connect() {
        RequestFailure::Connect
    } else {
        RequestFailure::Broken
    }
}

fn after_headers(error: &reqwest::Error) -> RequestFailure {
    if error.is_timeout() { RequestFailure::Timeout } else { RequestFailure::Truncated }
}

/// Returns whether a line that begins with `data:` ends up in `tail` and `chunk` together. `tail` keeps the bytes that
/// the next chunk may complete, so that the result does not depend on how the stream is cut.
fn has_event(tail: &mut Vec<u8>, chunk: &[u8]) -> bool {
    const MARK: &[u8] = b"data:";
    if tail.is_empty() {
        // The first line of the stream has no line break before it.
        tail.push(b'\n');
    }
    tail.extend_from_slice(chunk);
    let found = tail.windows(MARK.len() + 1).any(|window| window[0] == b'\n' && window[1..] == *MARK);
    let keep = tail.len().saturating_sub(MARK.len());
    tail.drain(..keep);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_found_wherever_the_stream_is_cut() {
        let found = |chunks: &[&str]| {
            let mut tail = Vec::new();
            chunks.iter().any(|chunk| has_event(&mut tail, chunk.as_bytes()))
        };
        assert!(found(&["data: x\n\n"]));
        assert!(found(&[": hello\n\nda", "t", "a: x\n\n"]));
        assert!(!found(&["event: x\n", "no data: here\n"]));
    }

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
        assert!(matches!(request.bearer(&SecretString::from("a\nb".to_owned())), Err(LoadSetupError::Token)));
    }
}
