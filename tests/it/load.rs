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
use bellwether_tools::load::tally::{Quantile, TimeFigure, TimeLimits};
use bellwether_tools::load::verdict::judge;
use bellwether_tools::load::{
    Arrivals, LoadOptions, LoadRequest, LoadTally, LoadVerdict, RequestFailure, Schedule, drive,
};
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

/// Bounds of a run: the connections, and the seconds that a request may take.
fn bounds(connections: usize, timeout: f64) -> LoadOptions {
    LoadOptions { connections, timeout: Duration::from_secs_f64(timeout), limits: TimeLimits::new() }
}

async fn run(url: &str, schedule: &Schedule, connections: usize) -> LoadTally {
    drive(schedule, get(url), &bounds(connections, 5.0)).await.unwrap()
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
    let (p75, p99) = (seconds(tally.time(TimeFigure::Latency, 0.75)), seconds(tally.time(TimeFigure::Latency, 0.99)));
    assert!(p75 > 0.2 && p99 > 0.7, "p75 {p75}, p99 {p99}");
    assert!(seconds(tally.time(TimeFigure::Latency, 0.5)) < 0.2, "{:?}", tally.time(TimeFigure::Latency, 0.5));
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
    let (p75, p99) = (seconds(tally.time(TimeFigure::Latency, 0.75)), seconds(tally.time(TimeFigure::Latency, 0.99)));
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
    assert_eq!(tally.time(TimeFigure::Latency, 0.9), Quantile::Never);
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
        (format!("{base}/302"), Some(RequestFailure::Status(3))),
        (format!("http://{free}/"), Some(RequestFailure::Connect)),
    ];
    for (url, wanted) in rows {
        let tally = drive(&schedule("100/s", 50), get(&url), &bounds(16, 0.3)).await.unwrap();
        let found: Vec<(RequestFailure, u64)> = tally.failures.iter().map(|(failure, n)| (*failure, *n)).collect();
        assert_eq!(found, wanted.map(|failure| (failure, 5)).into_iter().collect::<Vec<_>>(), "{url}");
        assert_eq!(tally.due(), 5, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_timed_to_its_first_event_and_its_end_and_fails_without_events() {
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
        drive(&schedule("20/s", 500), request, &bounds(64, 5.0)).await.unwrap()
    };
    let tally = run(url.clone()).await;
    assert_eq!(tally.good(), 10, "{:?}", tally.failures);
    let (first, whole) = (seconds(tally.time(TimeFigure::First, 0.5)), seconds(tally.time(TimeFigure::Latency, 0.5)));
    assert!(first >= 0.05 && whole >= first + 0.2, "{first} and {whole}");
    assert_eq!(run(format!("{url}/none")).await.failures.get(&RequestFailure::Empty), Some(&10));
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
    let tally = drive(&schedule, request, &bounds(16, 5.0)).await.unwrap();
    assert_eq!(tally.due(), 10);
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort();
    assert_eq!(seen.concat(), "1".repeat(7) + &"2".repeat(7) + &"3".repeat(6));
}

/// Serves the pieces of a stream with pauses, and then leaves the connection open.
async fn open_stream(pieces: &'static [(u64, &'static str)]) -> String {
    let answer = move || async move {
        let parts = stream::unfold(0, move |at: usize| async move {
            let Some((pause, piece)) = pieces.get(at) else { return std::future::pending().await };
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            Some((Ok::<_, std::io::Error>(*piece), at + 1))
        });
        ([("content-type", "text/event-stream; charset=utf-8")], Body::from_stream(Box::pin(parts))).into_response()
    };
    serve(Router::new().route("/", any(answer))).await
}

const ROLE: &str =
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
const WORD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"you said x\",\"code\":503}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Comments and the role come at once, the first word late. The answer is over when its end is told, although the
/// connection stays open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_counts_from_its_first_content_to_its_last_although_it_stays_open() {
    let url =
        open_stream(&[(0, ": ping\n\n"), (0, ROLE), (200, WORD), (50, WORD), (50, WORD), (0, STOP), (0, DONE)]).await;
    let tally = run(&url, &schedule("20/s", 500), 64).await;
    assert_eq!(tally.good(), 10, "{:?} {:?}", tally.failures, tally.causes);
    let (first, between) = (tally.time(TimeFigure::First, 0.5), tally.time(TimeFigure::InterToken, 0.5));
    assert!(seconds(first) >= 0.2, "{first:?}");
    assert!(seconds(between) >= 0.04 && seconds(between) < seconds(first), "{between:?}");
    assert!(tally.tokens_per_second(Duration::ZERO, Duration::from_millis(500)) > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_inside_a_stream_is_counted_by_its_name() {
    let rows: [(&'static [(u64, &'static str)], RequestFailure); 4] = [
        (&[(0, WORD), (0, ERROR)], RequestFailure::InStream),
        (&[(0, ": ping\n\n"), (0, DONE)], RequestFailure::Empty),
        (&[(0, ROLE), (0, STOP), (0, DONE)], RequestFailure::Empty),
        // Content, and then nothing until the timeout.
        (&[(0, WORD)], RequestFailure::Timeout),
    ];
    for (pieces, wanted) in rows {
        let url = open_stream(pieces).await;
        let tally = drive(&schedule("100/s", 50), get(&url), &bounds(16, 0.5)).await.unwrap();
        let found: Vec<(RequestFailure, u64)> = tally.failures.iter().map(|(failure, n)| (*failure, *n)).collect();
        assert_eq!(found, [(wanted, 5)], "{pieces:?}");
        assert!(!tally.causes.values().any(|cause| cause.contains("you said")), "{:?}", tally.causes);
    }
}

/// A server with TLS on a free port that offers HTTP/2 and HTTP/1.1 and answers by the latter. Returns its port and the
/// number of its connections by the agreed protocol.
async fn serve_tls() -> (u16, Arc<std::sync::Mutex<Vec<Option<Vec<u8>>>>>) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../../testkit/tls/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../testkit/tls/localhost.key")).unwrap();
    let mut config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let agreed = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = agreed.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, log) = (acceptor.clone(), log.clone());
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                // A client that refuses the certificate ends the handshake.
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                log.lock().unwrap().push(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec));
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, agreed)
}

/// The program with the CA in `SSL_CERT_FILE`, as the message about the certificate says, and without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_each_request_has_its_connection_and_a_refused_certificate_is_explained() {
    let (port, agreed) = serve_tls().await;
    let run = async |host: &str, ca: Option<&str>| {
        let url = format!("https://{host}:{port}/");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.args(["load", &url, "--rate", "40/s", "--duration", "1s", "--threshold", "errors<=50%"]);
        let command =
            command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE").envs(ca.map(|ca| ("SSL_CERT_FILE", ca)));
        let output = command.output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/testkit/tls/localhost.pem");
    let (_, text) = run("localhost", Some(ca)).await;
    assert!(text.contains("40 good"), "{text}");
    let protocols = std::mem::take(&mut *agreed.lock().unwrap());
    // Forty requests a second that take 300 ms each are about a dozen at a time, and each has a connection.
    assert!(protocols.len() >= 6, "{} connections", protocols.len());
    assert!(protocols.iter().all(|protocol| protocol.as_deref() != Some(b"h2")), "{protocols:?}");
    let (code, text) = run("localhost", None).await;
    assert!(code == Some(3) && text.contains("set SSL_CERT_FILE"), "{text}");
    let (code, text) = run("127.0.0.1", Some(ca)).await;
    assert!(code == Some(3) && text.contains("use the name that it was issued for"), "{text}");
    // A smoke test does not wait for a server whose certificate is refused.
    let plan = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(plan.path(), "[[request]]\nname = \"up\"\npath = \"/\"\n").unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.args(["smoke", "--output", "json", "--base", &format!("https://localhost:{port}")]).arg(plan.path());
    let output = command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE").output().await.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let request = &report["requests"][0];
    assert_eq!((output.status.code(), &request["attempts"]), (Some(3), &serde_json::json!(1)), "{report}");
    assert!(request["sentence"].as_str().unwrap().contains("set SSL_CERT_FILE"), "{report}");
}
