//! A Slack that writes down what it is sent, and answers as it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub struct Slack {
    /// What stands in the file that the daemon reads.
    pub webhook: String,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// A request, and whether it was taken.
#[derive(Debug, Clone)]
pub struct Post {
    pub at: Instant,
    pub taken: bool,
    pub body: Value,
}

#[derive(Default)]
struct Seen {
    posts: Vec<Post>,
    /// So many requests are answered with 429 first.
    refusals: usize,
}

/// What a 429 asks for.
pub const RETRY_AFTER_SECONDS: u64 = 2;

impl Drop for Slack {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Slack {
    /// The first `refusals` requests are too many.
    pub async fn start(port: u16, refusals: usize) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let seen = Arc::new(Mutex::new(Seen { refusals, ..Seen::default() }));
        let router = Router::new().route("/hook", routing::post(take)).with_state(seen.clone());
        let listener = TcpListener::bind(address).await.context("Slack's listener")?;
        let task = tokio::spawn(async move {
            // It ends with the story.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { webhook: format!("http://{address}/hook"), seen, task })
    }

    pub fn posts(&self) -> Vec<Post> {
        lock(&self.seen).posts.clone()
    }

    /// What people saw.
    pub fn messages(&self) -> Vec<Value> {
        self.posts().into_iter().filter(|post| post.taken).map(|post| post.body).collect()
    }
}

async fn take(State(seen): State<Arc<Mutex<Seen>>>, Json(body): Json<Value>) -> Response {
    let mut seen = lock(&seen);
    let taken = seen.refusals == 0;
    seen.refusals = seen.refusals.saturating_sub(1);
    seen.posts.push(Post { at: Instant::now(), taken, body });
    match taken {
        true => "ok".into_response(),
        false => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", RETRY_AFTER_SECONDS.to_string())], "rate_limited")
            .into_response(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
