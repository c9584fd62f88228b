//! The server while the daemon is starting. Its journal is not connected, so there is nothing to show, and no event is taken.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answer::busy;
use super::options::Options;
use super::serve::{self, Certificate};
use super::state::Conditions;
use super::{HttpError, console, program, readiness, rendered, with_security_headers};

/// The values that a starting daemon serves.
#[derive(Clone)]
pub struct Starting {
    /// The name of the cluster that the daemon acts in.
    pub cluster: Arc<str>,
    /// The conditions of `/readyz`, of which one says what the daemon waits for.
    pub conditions: watch::Receiver<Conditions>,
    /// The exporter of this process's own metrics.
    pub metrics: PrometheusHandle,
}

/// Serves the health and the metrics of a starting daemon until `stop`. Every other request is answered with the status 503.
///
/// # Errors
/// [`HttpError::Certificate`] if the certificate can't be used.
pub async fn serve_starting(
    listener: Arc<TcpListener>,
    options: &Options,
    starting: Starting,
    stop: CancellationToken,
) -> Result<(), HttpError> {
    let certificate = Certificate::read(options)?;
    serve::run(listener, router(starting), certificate, stop).await;
    Ok(())
}

fn router(starting: Starting) -> Router {
    console::files()
        // The process can be helped by no restart: it waits.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .fallback(not_yet)
        .layer(middleware::map_response(with_security_headers))
        .with_state(starting)
}

async fn readyz(State(starting): State<Starting>, request: Request) -> Response {
    readiness(&starting.conditions.borrow(), None, &request)
}

async fn version(State(starting): State<Starting>) -> Response {
    program(&starting.cluster)
}

/// The page in place of all others.
#[derive(Template)]
#[template(path = "starting.html")]
struct StartingPage {
    /// The name of each condition that does not hold, and the reason.
    waiting: Vec<(String, String)>,
}

/// Answers every other request: with a page for a browser, and with JSON for a program.
async fn not_yet(State(starting): State<Starting>, request: Request) -> Response {
    if !console::wants_page(request.headers()) {
        return busy("the daemon is starting; /readyz says what it waits for");
    }
    let conditions = starting.conditions.borrow().clone();
    let waiting = conditions.into_iter().filter_map(|(name, state)| Some((name, state.err()?))).collect();
    console::render(StatusCode::SERVICE_UNAVAILABLE, &StartingPage { waiting })
}

async fn metrics(State(starting): State<Starting>) -> Response {
    rendered(&starting.metrics, &starting.conditions.borrow())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_starting_daemon_is_alive_not_ready_and_takes_nothing() {
        let waiting = vec![("kafka".to_owned(), Err("no broker answers".to_owned()))];
        let (_now, conditions) = watch::channel(waiting);
        let starting = Starting {
            cluster: "prod".into(),
            conditions,
            metrics: PrometheusBuilder::new().build_recorder().handle(),
        };
        let page = Request::builder().uri("/").header("accept", "text/html").body(Body::empty()).unwrap();
        let answer = router(starting.clone()).oneshot(page).await.unwrap();
        let (status, body) = (answer.status(), axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap());
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(String::from_utf8_lossy(&body).contains("<strong>kafka</strong>: no broker answers"), "{body:?}");
        for (method, path, status, text) in [
            ("GET", "/style.css", StatusCode::OK, "color"),
            ("GET", "/livez", StatusCode::OK, "ok"),
            ("GET", "/readyz", StatusCode::SERVICE_UNAVAILABLE, "[-] kafka no broker answers\nnot ready"),
            ("GET", "/metrics", StatusCode::OK, ""),
            ("GET", "/version", StatusCode::OK, "bellwether"),
            ("GET", "/", StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting"),
            ("GET", "/api/v1/rollouts", StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting"),
            ("POST", "/api/v1/events", StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting"),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = router(starting.clone()).oneshot(request).await.unwrap();
            let found = answer.status();
            assert!(answer.headers().contains_key("content-security-policy"), "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            let body = String::from_utf8_lossy(&body);
            assert!(found == status && body.contains(text), "{method} {path}: {found} {body}");
        }
    }
}
