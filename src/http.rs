//! The HTTP server: health, metrics, a JSON API and the console.
//!
//! Most routes only read. They ask for no credentials, unless `http.read` says so ([`readers`]). The intake of events is off by
//! default. It is served on a loopback address only, unless each event needs a bearer token with the right to its verb. Then people
//! can also sign in to the console, whose forms send events by the same way.
//!
//! `/livez` checks only that the event loop still turns, because a restart cures nothing else. `/readyz` lists the
//! conditions that the daemon publishes, also while it waits for its journal ([`serve_starting`]). Prometheus is not among them: without it the daemon keeps its rollouts as they
//! are and reports that it is blind, and for that it has to stay reachable.

mod options;
mod state;
mod serve;
mod starting;
mod answer;
mod proxy;
mod senders;
mod sessions;
mod readers;
pub mod intake;
mod console;
mod rollouts;
mod dead_letters;
mod judge;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bellwether_core::engine::show;
use bellwether_core::judge::numbers::Verdict;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::answer::problem;
use self::dead_letters::Letters;
use self::readers::Readers;
use self::senders::Rates;
use self::serve::Certificate;
use self::sessions::Sessions;
use self::state::App;

pub use self::options::{Options, ReadAccess};
pub use self::proxy::{SHORTEST_PROXY_SECRET, SignInProxy};
pub use self::rollouts::{VIEW_AGE, VIEW_PROBLEM};
pub use self::senders::Senders;
pub use self::starting::{Starting, serve_starting};
pub use self::state::{Conditions, Shown, ShownConfig};

/// The largest body of a request, in bytes. An event has a few hundred.
const BODY_LIMIT: usize = 1 << 20;

/// An error of the HTTP server.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can't be bound.
    #[error("can't listen on {address}: {source}; is another Bellwether running? (http.listen)")]
    Listen {
        /// The address and port of `http.listen`.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The certificate or its key can't be used.
    #[error("{key} {}: {problem}; it should be PEM", file.display())]
    Certificate {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// The error of reading it.
        problem: String,
    },
}

/// Binds the address of `options`. The daemon does so first, so that it ends before it acts if the address is in use.
///
/// # Errors
/// [`HttpError::Listen`] if the address can't be bound.
pub async fn bind(options: &Options) -> Result<TcpListener, HttpError> {
    let address = options.listen;
    TcpListener::bind(address).await.map_err(|source| HttpError::Listen { address, source })
}

/// Serves requests until `stop`, and then finishes those in progress.
///
/// # Errors
/// [`HttpError::Certificate`] if the certificate can't be used.
pub async fn serve(
    listener: impl Into<Arc<TcpListener>>,
    options: &Options,
    shown: Shown,
    stop: CancellationToken,
) -> Result<(), HttpError> {
    let certificate = Certificate::read(options)?;
    serve::run(listener.into(), router(options, shown, stop.clone()), certificate, stop).await;
    Ok(())
}

/// Returns the router with all routes. The streams to live pages end at `stop`.
fn router(options: &Options, shown: Shown, stop: CancellationToken) -> Router {
    let takes_events = options.events && (options.listen.ip().is_loopback() || shown.senders.is_some());
    let (readers, sessions) = (Readers::default(), Sessions::default());
    let rates = Rates::new(options.posts_per_second);
    let streams = Arc::new(Semaphore::new(console::live::MOST_STREAMS));
    let watches = Arc::new(Semaphore::new(watch::MOST_WATCHES));
    let judges = Arc::new(Semaphore::new(judge::MOST_JUDGED));
    let letters = Letters::new(shown.dead_letters.clone());
    let app =
        App { options: options.clone(), shown, rates, readers, sessions, letters, streams, watches, judges, stop };
    let read = console::pages()
        .route("/api/v1/rollouts", get(rollouts::list))
        .route("/api/v1/rollouts/{id}", get(rollouts::one))
        .route("/api/v1/rollouts/{id}/watch", get(watch::watch))
        .route("/api/v1/answers", get(rollouts::answers))
        .route("/api/v1/reports", get(rollouts::reports))
        .route("/api/v1/freezes", get(rollouts::freezes))
        .route("/api/v1/dead-letters", get(dead_letters::list))
        .route("/api/v1/judge", get(judge::judge).post(judge::judge))
        .route("/api/v1/openapi.json", get(openapi))
        .route_layer(middleware::from_fn_with_state(app.clone(), readers::check));
    let mut router = read
        .merge(console::entrance())
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version));
    // `Options::problems` refuses the rest; this check keeps the intake closed also for unchecked options.
    let events = if takes_events { post(intake::take) } else { post(no_events) };
    router = router.route("/api/v1/events", events);
    router
        .fallback(console::missing)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(app.clone(), with_timeout))
        .layer(middleware::map_response(with_security_headers))
        .with_state(app)
}

async fn no_events() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "this process takes no events over HTTP; send them through Kafka, or set http.events",
    )
}

/// Answers with 503 if the request takes longer than `http.timeout`.
async fn with_timeout(State(app): State<App>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(app.options.timeout.to_std(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "no answer in time; an event may have been accepted: send the same one again",
        ),
    }
}

/// Adds headers that forbid browsers to run any script but the server's own, to embed the page, to load from other hosts and to
/// cache.
async fn with_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'self'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` a browser would not say from which origin it posts a form.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
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
    readiness(&app.shown.conditions.borrow(), app.shown.ages.problem(), &request)
}

/// Returns the answer of `/readyz`: the conditions that do not hold, and with `?verbose` the others as well. `views` is the problem
/// of the views of other replicas, without which a replica does its own work all the same.
fn readiness(conditions: &Conditions, views: Option<String>, request: &Request) -> Response {
    let ready = conditions.iter().all(|(_, state)| state.is_ok());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|key| key == "verbose" || key.starts_with("verbose=")));
    let mut text = String::new();
    for (name, state) in conditions {
        match state {
            Ok(()) if verbose => text.push_str(&format!("[+] {name} ok\n")),
            Err(reason) => text.push_str(&format!("[-] {name} {reason}\n")),
            Ok(()) => {}
        }
    }
    if let Some(problem) = views {
        text.push_str(&format!("[!] views {problem}\n"));
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    (status, text).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    let view = app.shown.view.borrow();
    // All phases are listed, so that the gauge of a phase without rollouts goes back to 0.
    let mut counts: BTreeMap<&str, usize> = show::phases().map(|name| (name, 0)).collect();
    for shown in view.rollouts.values().filter(|shown| shown.ended.is_none()) {
        *counts.entry(&shown.phase).or_default() += 1;
    }
    counts.into_iter().for_each(|(phase, count)| crate::metrics::rollouts(phase, count));
    let running = || view.rollouts.values().filter(|shown| shown.is_running());
    crate::metrics::held(running().filter(|shown| shown.held.is_some()).count());
    for verdict in Verdict::ALL.map(|verdict| verdict.to_string()) {
        let checks = running().flat_map(|shown| &shown.checks).filter(|check| check.verdict == verdict);
        crate::metrics::checks(&verdict, checks.count());
    }
    crate::metrics::view_age(app.shown.ages.oldest().unwrap_or_default().to_std());
    rendered(&app.shown.metrics, &app.shown.conditions.borrow())
}

/// Returns the metrics in the text format of Prometheus, with those of the conditions.
fn rendered(metrics: &PrometheusHandle, conditions: &Conditions) -> Response {
    conditions.iter().for_each(|(name, state)| crate::metrics::condition(name, state.is_ok()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

/// Returns the description of the API, with the version of this program.
fn description() -> String {
    include_str!("http/openapi.json").replacen("VERSION", env!("CARGO_PKG_VERSION"), 1)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], description()).into_response()
}

async fn version(State(app): State<App>) -> Response {
    program(&app.shown.cluster)
}

/// Returns the answer of `/version`: the program, and the cluster that it acts in.
fn program(cluster: &str) -> Response {
    Json(json!({ "name": "bellwether", "version": env!("CARGO_PKG_VERSION"), "cluster": cluster })).into_response()
}

#[cfg(test)]
mod tests;
