//! Sends what is due when it is due, and reads every answer to its end.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::schedule::Schedule;
use super::tally::{Failure, Sample, Tally};

/// What is asked, each time.
#[derive(Debug, Clone)]
pub struct Request {
    /// With which method.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// With which headers; the secret ones are marked, so that they can't be printed.
    pub headers: HeaderMap,
    /// The bodies, one after the other and then again from the first; none: no body.
    pub bodies: Vec<String>,
    /// The answer is a stream of events, which has at least one.
    pub events: bool,
}

/// Why no test can be made.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The client can't be made.
    #[error("the HTTP client can't be made: {0}")]
    Client(#[source] reqwest::Error),
    /// A secret that is no header.
    #[error("the token has characters that can't be in a header")]
    Token,
}

impl Request {
    /// Sends a bearer token along.
    ///
    /// # Errors
    /// If it has characters that a header can't have.
    pub fn bearer(&mut self, token: &SecretString) -> Result<(), Failed> {
        let text = format!("Bearer {}", token.expose_secret());
        let mut value = HeaderValue::from_str(&text).map_err(|_| Failed::Token)?;
        value.set_sensitive(true);
        self.headers.insert(reqwest::header::AUTHORIZATION, value);
        Ok(())
    }
}

/// Runs the test: at most `connections` requests are under way at a time, and each may take `timeout`.
///
/// # Errors
/// If there is no client to run it with. What becomes of the requests is no error, it is the result.
pub async fn drive(
    schedule: &Schedule,
    request: Request,
    connections: usize,
    timeout: Duration,
) -> Result<Tally, Failed> {
    crate::tls::install();
    let client = Client::builder()
        .timeout(timeout)
        .pool_max_idle_per_host(connections)
        // A redirect is an answer: to follow it would be to measure two requests as one.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(Failed::Client)?;
    let (told, samples) = mpsc::unbounded_channel();
    // The counting ends with the last request: each of them holds an end of the channel.
    let sending = send(schedule, Arc::new(request), client, connections, told);
    let ((), tally) = tokio::join!(sending, count(samples, schedule.warm_up.to_std()));
    Ok(tally)
}

async fn count(mut samples: mpsc::UnboundedReceiver<Sample>, warm_up: Duration) -> Tally {
    let mut tally = Tally::new();
    while let Some(sample) = samples.recv().await {
        if sample.due >= warm_up {
            tally.add(&sample);
        }
    }
    tally
}

async fn send(
    schedule: &Schedule,
    request: Arc<Request>,
    client: Client,
    connections: usize,
    told: mpsc::UnboundedSender<Sample>,
) {
    let slots = Arc::new(Semaphore::new(connections));
    let since = Instant::now();
    for (number, due) in schedule.instants().enumerate() {
        match due.checked_sub(since.elapsed()) {
            Some(early) => tokio::time::sleep(early).await,
            // Late already: send at once, but let those go that were sent before.
            None => tokio::task::yield_now().await,
        }
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            // To wait for a connection would be to let the server say when it is asked.
            let _ = told.send(Sample { due, sent: None, first_byte: None, ended: Err(Failure::Timeout) });
            continue;
        };
        let (request, client, told) = (request.clone(), client.clone(), told.clone());
        tokio::spawn(async move {
            let sent = since.elapsed();
            let mut first_byte = None;
            let answered = ask(&client, &request, number, || first_byte = Some(since.elapsed())).await;
            let ended = answered.map(|()| since.elapsed());
            drop(slot);
            let _ = told.send(Sample { due, sent: Some(sent), first_byte, ended });
        });
    }
}

/// Asks once, and reads the answer to its end.
async fn ask(
    client: &Client,
    request: &Request,
    number: usize,
    mut at_first_byte: impl FnMut(),
) -> Result<(), Failure> {
    let mut asked = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
    if !request.bodies.is_empty() {
        asked = asked.body(request.bodies[number % request.bodies.len()].clone());
    }
    let mut answer = asked.send().await.map_err(|error| before_headers(&error))?;
    let class = answer.status().as_u16() / 100;
    let (mut read, mut events) = (0, !request.events);
    let mut tail = Vec::new();
    loop {
        let chunk = answer.chunk().await.map_err(|error| after_headers(&error))?;
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
        4 | 5 => Err(Failure::Status(class)),
        _ if !events => Err(Failure::Truncated),
        _ => Ok(()),
    }
}

fn before_headers(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        Failure::Timeout
    } else if error.is_connect() {
        Failure::Connect
    } else {
        Failure::Broken
    }
}

fn after_headers(error: &reqwest::Error) -> Failure {
    if error.is_timeout() { Failure::Timeout } else { Failure::Truncated }
}

/// Whether a line that begins with `data:` has come by now, however the stream was cut into chunks.
fn has_event(tail: &mut Vec<u8>, chunk: &[u8]) -> bool {
    const MARK: &[u8] = b"data:";
    if tail.is_empty() {
        // The first line has none before it.
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
    fn a_token_can_not_be_printed() {
        let mut request = Request {
            method: Method::GET,
            url: "http://127.0.0.1:1".parse().unwrap(),
            headers: HeaderMap::new(),
            bodies: Vec::new(),
            events: false,
        };
        request.bearer(&SecretString::from("hush".to_owned())).unwrap();
        assert!(!format!("{request:?}").contains("hush"));
        assert!(matches!(request.bearer(&SecretString::from("a\nb".to_owned())), Err(Failed::Token)));
    }
}
