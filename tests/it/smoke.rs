//! Smoke tests against a server that is not up yet, and against one that gives an unexpected answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bellwether_tools::smoke::{CheckedRequest, ask_all, read};

use crate::load::serve;

/// Runs the smoke test of `text` against `base` and returns its results.
async fn smoke(base: &str, text: &str) -> Vec<CheckedRequest> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smoke.toml");
    std::fs::write(&path, text).unwrap();
    let plan = read(&path, Some(&base.parse().unwrap())).unwrap();
    let mut reported = Vec::new();
    let all = ask_all(&plan, |checked| reported.push(checked.clone())).await.unwrap();
    assert_eq!(reported, all);
    all
}

#[tokio::test]
async fn a_service_that_is_not_up_is_retried_and_an_error_is_not() {
    let count = Arc::new(AtomicUsize::new(0));
    async fn ready(State(count): State<Arc<AtomicUsize>>) -> Response {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => StatusCode::BAD_GATEWAY.into_response(),
            1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => "ready".into_response(),
        }
    }
    let broken = Arc::new(AtomicUsize::new(0));
    let counted = broken.clone();
    let router = Router::new().route("/ready", get(ready)).with_state(count).route(
        "/broken",
        post(async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            (StatusCode::INTERNAL_SERVER_ERROR, "no model")
        }),
    );
    let base = serve(router).await;
    let text = r#"
        every = "20ms"
        [[request]]
        name = "it is ready"
        path = "/ready"
        expect = { contains = ["ready"] }
        [[request]]
        name = "it has a model"
        path = "/broken"
        json = { model = "x" }
    "#;
    let [ready, model] = &smoke(&base, text).await[..] else { panic!() };
    assert!(ready.passed && ready.attempts == 3, "{ready:?}");
    assert!(ready.sentence.starts_with("GET /ready answers 200 in "), "{}", ready.sentence);
    assert!(!model.passed && model.attempts == 1, "{model:?}");
    assert_eq!(model.sentence, "POST /broken: it answers 500, not 200 to 299: \"no model\"");
    assert_eq!(broken.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_deadline_is_for_all_requests_and_a_late_answer_is_not_retried() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = r#"
        deadline = "300ms"
        every = "50ms"
        [[request]]
        name = "one"
        path = "/"
        [[request]]
        name = "two"
        path = "/"
    "#;
    let began = tokio::time::Instant::now();
    let all = smoke(&format!("http://{free}"), text).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(all.iter().all(|checked| !checked.passed && checked.sentence.contains("not up after 0.3s")), "{all:?}");
    assert!(all[0].attempts > 2 && all[1].attempts == 1, "{all:?}");

    let slow = Router::new().route("/", get(async || tokio::time::sleep(Duration::from_secs(60)).await));
    let all = smoke(&serve(slow).await, &format!("timeout = \"100ms\"\n{text}")).await;
    assert!(all.iter().all(|checked| checked.attempts == 1 && checked.sentence.contains("in time")), "{all:?}");
}
