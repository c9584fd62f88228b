//! A load test against servers that misbehave: its figures must be those that independent users would have seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bellwether_core::time::Span;
use bellwether_tools::load::tally::Quantile;
use bellwether_tools::load::verdict::judge;
use bellwether_tools::load::{Arrivals, LoadRequest, LoadTally, LoadVerdict, RequestFailure, Schedule, drive};
use futures::stream;
use reqwest::Method;
use reqwest::header::HeaderMap;

/// Serves `router` on a free port in the caller's runtime and returns its base URL.
pub async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn schedule(rate: &str, millis: u64) -> Schedule {
    let duration = Span::from_millis(millis);
    Schedule { rate: rate.parse().unwrap(), arrivals: Arrivals::Constant, warm_up: Span::ZERO, duration }
}

fn get(url: &str) -> LoadRequest {
    LoadRequest {
        method: Method::GET,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        bodies: Vec::new(),
        events: false,
    }
}

async fn run(url: &str, schedule: &Schedule, connections: usize) -> LoadTally {
    drive(schedule, get(url), connections, Duration::from_secs(5)).await.unwrap()
}

fn seconds(quantile: Quantile) -> f64 {
    match quantile {
        Quantile::Within(time) => time.as_secs_f64(),
        Quantile::Never => f64::INFINITY,
    }
}

/// The server hangs from the fortieth request on for 800 ms, and so does every request that is due in that time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_of_the_server_delays_all_requests_that_are_due_meanwhile() {
    let gate = Arc::new((AtomicUsize::new(0), tokio::sync::RwLock::new(())));
    let router = Router::new().route("/", any(answer)).with_state(gate);
    async fn answer(State(gate): State<Arc<(AtomicUsize, tokio::sync::RwLock<()>)>>) -> StatusCode {
        if gate.0.fetch_add(1, Ordering::SeqCst) == 40 {
            let _closed = gate.1.write().await;
            tokio::time::sleep(Duration::from_millis(800)).await;
        }
        let _open = gate.1.read().await;
        StatusCode::OK
    }
    let url = serve(router).await;
    let tally = run(&url, &schedule("100/s", 2000), 256).await;
    assert_eq!((tally.due(), tally.good(), tally.not_sent), (200, 200, 0), "{:?}", tally.failures);
    // 80 of 200 requests were due during the stall. A generator that waits for answers would have one slow request.
    let (p75, p99) = (seconds(tally.latency(0.75)), seconds(tally.latency(0.99)));
    assert!(p75 > 0.2 && p99 > 0.7, "p75 {p75}, p99 {p99}");
    assert!(seconds(tally.latency(0.5)) < 0.2, "{:?}", tally.latency(0.5));
}

/// Generator and server share one thread: while the server blocks it, the generator can't send. Measured from the
/// sending, every request would be fast.
#[tokio::test(flavor = "current_thread")]
async fn a_stall_of_the_generator_is_in_the_percentiles_and_gives_generator_late() {
    let count = Arc::new(AtomicUsize::new(0));
    let router = Router::new().route("/", any(answer)).with_state(count);
    async fn answer(State(count): State<Arc<AtomicUsize>>) -> StatusCode {
        if count.fetch_add(1, Ordering::SeqCst) == 40 {
            std::thread::sleep(Duration::from_millis(800));
        }
        StatusCode::OK
    }
    let url = serve(router).await;
    let schedule = schedule("100/s", 2000);
    let tally = run(&url, &schedule, 256).await;
    assert_eq!((tally.due(), tally.good()), (200, 200), "{:?}", tally.failures);
    let (p75, p99) = (seconds(tally.latency(0.75)), seconds(tally.latency(0.99)));
    assert!(p75 > 0.2 && p99 > 0.7, "p75 {p75}, p99 {p99}");
    let outcome = judge(&tally, &schedule, &["p50<=1s".parse().unwrap()]);
    assert_eq!(outcome.verdict, LoadVerdict::GeneratorLate, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_find_every_connection_busy_are_not_sent_and_rank_last() {
    let router = Router::new().route(
        "/",
        any(async || {
            tokio::time::sleep(Duration::from_millis(400)).await;
            StatusCode::OK
        }),
    );
    let url = serve(router).await;
    let tally = run(&url, &schedule("50/s", 1000), 4).await;
    assert_eq!(tally.due(), 50);
    assert!(tally.not_sent >= 30 && tally.good() + tally.not_sent == 50, "{} not sent", tally.not_sent);
    assert_eq!(tally.latency(0.9), Quantile::Never);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_failure_is_counted_by_its_name() {
    let router = Router::new()
        .route("/slow", any(async || tokio::time::sleep(Duration::from_secs(60)).await))
        .route("/500", any(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/429", any(async || StatusCode::TOO_MANY_REQUESTS))
        .route("/cut", any(cut))
        .route("/302", any(async || (StatusCode::FOUND, [("location", "/500")])));
    async fn cut() -> Response {
        // Not at once: an error before the first flush would leave the client without headers.
        let parts = stream::unfold(false, async |begun| {
            if begun {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Some((if begun { Err(std::io::Error::other("gone")) } else { Ok("half of ") }, true))
        });
        Body::from_stream(Box::pin(parts)).into_response()
    }
    let base = serve(router).await;
    // The listener is dropped at once, so the port refuses connections.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rows = [
        (format!("{base}/slow"), Some(RequestFailure::Timeout)),
        (format!("{base}/500"), Some(RequestFailure::Status(5))),
        (format!("{base}/429"), Some(RequestFailure::Status(4))),
        (format!("{base}/cut"), Some(RequestFailure::Truncated)),
        (format!("{base}/302"), None),
        (format!("http://{free}/"), Some(RequestFailure::Connect)),
    ];
    for (url, wanted) in rows {
        let tally = drive(&schedule("100/s", 50), get(&url), 16, Duration::from_millis(300)).await.unwrap();
        let found: Vec<(RequestFailure, u64)> = tally.failures.iter().map(|(failure, n)| (*failure, *n)).collect();
        assert_eq!(found, wanted.map(|failure| (failure, 5)).into_iter().collect::<Vec<_>>(), "{url}");
        assert_eq!(tally.due(), 5, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_timed_to_its_first_byte_and_its_end_and_fails_without_events() {
    async fn events() -> Response {
        let parts = stream::unfold(0, async |at: u32| {
            tokio::time::sleep(Duration::from_millis(if at == 0 { 50 } else { 100 })).await;
            (at < 3).then(|| (Ok::<_, std::io::Error>(format!("data: {at}\n\n")), at + 1))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(Box::pin(parts))).into_response()
    }
    let url = serve(Router::new().route("/", any(events)).route("/none", any(async || "nothing"))).await;
    let run = async |url: String| {
        let request = LoadRequest { events: true, ..get(&url) };
        drive(&schedule("20/s", 500), request, 64, Duration::from_secs(5)).await.unwrap()
    };
    let tally = run(url.clone()).await;
    assert_eq!(tally.good(), 10, "{:?}", tally.failures);
    let (first, whole) = (seconds(tally.first_byte(0.5)), seconds(tally.latency(0.5)));
    assert!(first >= 0.05 && whole >= first + 0.2, "{first} and {whole}");
    assert_eq!(run(format!("{url}/none")).await.failures.get(&RequestFailure::Truncated), Some(&10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_sent_in_turn_and_the_warm_up_is_not_counted() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let state = seen.clone();
    let router = Router::new().route(
        "/",
        any(move |body: String| async move {
            state.lock().unwrap().push(body);
            StatusCode::OK
        }),
    );
    let url = serve(router).await;
    let schedule = Schedule { warm_up: Span::from_millis(500), ..schedule("20/s", 500) };
    let request = LoadRequest { method: Method::POST, bodies: vec!["1".into(), "2".into(), "3".into()], ..get(&url) };
    let tally = drive(&schedule, request, 16, Duration::from_secs(5)).await.unwrap();
    assert_eq!(tally.due(), 10);
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort();
    assert_eq!(seen.concat(), "1".repeat(7) + &"2".repeat(7) + &"3".repeat(6));
}
