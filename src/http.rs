//! Health, metrics, a JSON API and a page: everything reads and nothing acts, so there is nothing to sign in for. The
//! one exception, the intake of events, is off by default and only ever on loopback.
//!
//! `/livez` asks one question, whether the event loop still turns, because a restart can cure nothing else. `/readyz`
//! tells the conditions that the daemon publishes; Prometheus is not among them, since a daemon that cannot see has to
//! stay where it is and say so.

mod intake;
mod page;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bellwether_core::engine::show;
use bellwether_core::engine::view::{RolloutView, StatusView};
use bellwether_core::time::Span;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Stopwatch;
use crate::ports::Wake;

/// An event is a few hundred bytes; what is larger than this is none.
const BODY_LIMIT: usize = 1 << 20;

/// How the server is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether events are taken.
    pub events: bool,
    /// How long a request may take.
    pub timeout: Span,
    /// The event loop counts as dead when it has not turned for so long.
    pub heartbeat: Span,
}

impl Default for Options {
    fn default() -> Options {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8080));
        Options { listen, events: false, timeout: Span::from_secs(10), heartbeat: Span::from_secs(30) }
    }
}

impl Options {
    /// What is wrong with them: the key, and what to do.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        if self.events && !self.listen.ip().is_loopback() {
            let message =
                format!("whoever reaches {} could ask for rollouts; listen on 127.0.0.1, or use Kafka", self.listen);
            return vec![("events", message)];
        }
        Vec::new()
    }
}

/// The conditions of `/readyz`, by name: fine, or why not.
pub type Conditions = Vec<(String, Result<(), String>)>;

/// What the server shows. The daemon holds the other ends.
#[derive(Clone)]
pub struct Shown {
    /// The rollouts.
    pub view: watch::Receiver<Arc<StatusView>>,
    /// What has to hold before this process is ready.
    pub conditions: watch::Receiver<Conditions>,
    /// Started anew at each turn of the event loop.
    pub heartbeat: watch::Receiver<Stopwatch>,
    /// The metrics.
    pub metrics: PrometheusHandle,
    /// Where events go.
    pub intake: mpsc::Sender<Wake>,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can't be had.
    #[error("can't listen on {address}: {source}; is another Bellwether running? (http.listen)")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// It broke.
    #[error("the HTTP server stopped: {0}")]
    Serve(#[source] std::io::Error),
}

/// Takes the address, so that a daemon that can't have it ends before it does anything.
///
/// # Errors
/// If somebody else has it.
pub async fn bind(options: &Options) -> Result<tokio::net::TcpListener, HttpError> {
    let address = options.listen;
    tokio::net::TcpListener::bind(address).await.map_err(|source| HttpError::Listen { address, source })
}

/// Serves until `stop`; requests that are being answered are finished.
///
/// # Errors
/// If the server breaks.
pub async fn serve(
    listener: tokio::net::TcpListener,
    options: &Options,
    shown: Shown,
    stop: CancellationToken,
) -> Result<(), HttpError> {
    let server = axum::serve(listener, router(options, shown)).with_graceful_shutdown(stop.cancelled_owned());
    server.await.map_err(HttpError::Serve)
}

#[derive(Clone)]
struct App {
    options: Options,
    shown: Shown,
}

/// All routes.
pub fn router(options: &Options, shown: Shown) -> Router {
    let mut router = Router::new()
        .route("/", get(index))
        .route("/style.css", get(style))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/api/v1/rollouts", get(rollouts))
        .route("/api/v1/rollouts/{id}", get(rollout));
    // Checked here too: the option alone must not open a port to the world.
    if options.events && options.listen.ip().is_loopback() {
        router = router.route("/api/v1/events", post(intake::take));
    }
    let app = App { options: options.clone(), shown };
    router
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(app.clone(), in_time))
        .layer(middleware::map_response(guarded))
        .with_state(app)
}

async fn in_time(State(app): State<App>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(app.options.timeout.to_std(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "no answer in time; an event may have been taken: send the same one again",
        ),
    }
}

/// What a browser must not do with our pages.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

async fn livez(State(app): State<App>) -> Response {
    let silent = app.shown.heartbeat.borrow().elapsed();
    if silent <= app.options.heartbeat.to_std() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("the event loop has not turned for {} s\n", silent.as_secs()))
        .into_response()
}

async fn readyz(State(app): State<App>, request: Request) -> Response {
    let conditions = app.shown.conditions.borrow().clone();
    let ready = conditions.iter().all(|(_, state)| state.is_ok());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|key| key == "verbose" || key.starts_with("verbose=")));
    let mut text = String::new();
    for (name, state) in &conditions {
        match state {
            Ok(()) if verbose => text.push_str(&format!("[+] {name} ok\n")),
            Err(why) => text.push_str(&format!("[-] {name} {why}\n")),
            Ok(()) => {}
        }
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    (status, text).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    let view = Arc::clone(&app.shown.view.borrow());
    // A phase that nothing is in any more goes back to 0.
    let mut counts: BTreeMap<&str, usize> = show::phases().map(|name| (name, 0)).collect();
    for shown in view.rollouts.values().filter(|shown| shown.ended.is_none()) {
        *counts.entry(&shown.phase).or_default() += 1;
    }
    counts.into_iter().for_each(|(phase, count)| crate::metrics::rollouts(phase, count));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.shown.metrics.render()).into_response()
}

async fn version() -> Response {
    Json(json!({ "name": "bellwether", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("http/style.css")).into_response()
}

async fn index(State(app): State<App>) -> Response {
    let view = Arc::clone(&app.shown.view.borrow());
    axum::response::Html(page::render(&view)).into_response()
}

/// Which rollouts are wanted; what is not named is not asked about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    namespace: Option<String>,
    workload: Option<String>,
    phase: Option<String>,
}

impl Wanted {
    fn includes(&self, rollout: &RolloutView) -> bool {
        let short = rollout.short_workload();
        let (namespace, name) = short.split_once('/').unwrap_or(("", &short));
        self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
            && self.phase.as_ref().is_none_or(|wanted| *wanted == rollout.phase)
            && self.workload.as_ref().is_none_or(|wanted| [name, &short, &rollout.workload].contains(&wanted.as_str()))
    }
}

async fn rollouts(State(app): State<App>, Query(wanted): Query<Wanted>) -> Response {
    let view = Arc::clone(&app.shown.view.borrow());
    let found: Vec<&RolloutView> = view.rollouts.values().filter(|rollout| wanted.includes(rollout)).collect();
    Json(found).into_response()
}

async fn rollout(State(app): State<App>, Path(id): Path<String>) -> Response {
    let view = Arc::clone(&app.shown.view.borrow());
    match view.rollouts.get(&id) {
        Some(rollout) => Json(rollout).into_response(),
        None => problem(StatusCode::NOT_FOUND, "there is no rollout by that id; GET /api/v1/rollouts lists them"),
    }
}

#[cfg(test)]
mod tests;
