//! A stand-in for Slack that records the requests to its webhook.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Value of `Retry-After` in an answer with 429, in seconds.
pub const RETRY_AFTER_SECONDS: u64 = 2;

/// A running endpoint.
pub struct SlackEndpoint {
    /// The URL of its webhook.
    pub webhook: String,
    state: Arc<Mutex<SlackState>>,
    task: JoinHandle<()>,
}

/// A request to the webhook.
#[derive(Debug, Clone)]
pub struct SlackPost {
    /// The time of its arrival.
    pub at: Instant,
    /// Whether it was answered with 200, so that people see the message.
    pub accepted: bool,
    /// Its body as JSON.
    pub body: Value,
}

#[derive(Default)]
struct SlackState {
    posts: Vec<SlackPost>,
    /// Number of next requests that are answered with 429.
    refusals: usize,
}

impl Drop for SlackEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SlackEndpoint {
    /// Starts an endpoint on `port` of loopback. It answers the first `refusals` requests with 429.
    ///
    /// # Errors
    /// The port is in use.
    pub async fn start(port: u16, refusals: usize) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let state = Arc::new(Mutex::new(SlackState { refusals, ..SlackState::default() }));
        let router = Router::new().route("/hook", routing::post(accept)).with_state(state.clone());
        let listener = TcpListener::bind(address).await.context("the listener of Slack's stand-in")?;
        let task = tokio::spawn(async move {
            // It serves until the task is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { webhook: format!("http://{address}/hook"), state, task })
    }

    /// Returns all requests so far.
    pub fn posts(&self) -> Vec<SlackPost> {
        lock(&self.state).posts.clone()
    }

    /// Returns the bodies of the accepted requests, which are the messages that people see.
    pub fn messages(&self) -> Vec<Value> {
        self.posts().into_iter().filter(|post| post.accepted).map(|post| post.body).collect()
    }
}

async fn accept(State(state): State<Arc<Mutex<SlackState>>>, Json(body): Json<Value>) -> Response {
    let mut state = lock(&state);
    let accepted = state.refusals == 0;
    state.refusals = state.refusals.saturating_sub(1);
    state.posts.push(SlackPost { at: Instant::now(), accepted, body });
    match accepted {
        true => "ok".into_response(),
        false => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", RETRY_AFTER_SECONDS.to_string())], "rate_limited")
            .into_response(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
