//! The meaning of a service's answers, and the requests as a server gets them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bellwether_core::time::Span;

use super::*;
use crate::clock::Stopwatch;
use crate::ports::{NotificationError, NotificationSink};

/// A request as the stand-in got it.
#[derive(Debug, Clone)]
struct Got {
    method: String,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// The answer of a stand-in.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// A status with `Retry-After`, unless that is empty. The body repeats the request.
    Status(u16, &'static str),
    /// None within a minute.
    Hangs,
}

/// A stand-in for a service, which answers all requests alike.
struct StandIn {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl StandIn {
    async fn start(answer: Answer) -> StandIn {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(serve).with_state((answer, Arc::clone(&got)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        StandIn { url, got }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn serve(State((answer, got)): State<(Answer, Arc<Mutex<Vec<Got>>>)>, request: Request) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap().to_vec();
    let echo = format!("{path} {headers:?} {}", String::from_utf8_lossy(&body));
    got.lock().unwrap().push(Got { method, path, headers, body });
    match answer {
        Answer::Hangs => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::OK.into_response()
        }
        Answer::Status(status, after) => {
            // Longer than any client should read.
            let mut response = (StatusCode::from_u16(status).unwrap(), echo + &"x".repeat(1 << 20)).into_response();
            if !after.is_empty() {
                response.headers_mut().insert("retry-after", after.parse().unwrap());
            }
            response
        }
    }
}

/// Sends the opening of an incident to a sink.
async fn send(sink: &HttpSink) -> Result<(), NotificationError> {
    let told = notification(IncidentChange::Open, "error-rate 5 % > 1 %");
    sink.send(&effect("prod/shop/Deployment/web", &told), &told, None).await.map(drop)
}

#[tokio::test]
async fn an_answer_decides_whether_a_notification_is_sent_again() {
    let later = |after| Some((true, after));
    let rows = [
        (Answer::Status(200, ""), None),
        (Answer::Status(202, ""), None),
        (Answer::Status(204, ""), None),
        (Answer::Status(302, ""), Some((false, None))),
        (Answer::Status(400, ""), Some((false, None))),
        (Answer::Status(401, ""), Some((false, None))),
        (Answer::Status(404, ""), Some((false, None))),
        (Answer::Status(413, ""), Some((false, None))),
        (Answer::Status(408, ""), later(None)),
        (Answer::Status(429, "30"), later(Some(Span::from_secs(30)))),
        (Answer::Status(429, "0.5"), later(Some(Span::from_millis(500)))),
        (Answer::Status(429, "nonsense"), later(None)),
        (Answer::Status(429, "-1"), later(None)),
        (Answer::Status(429, "Fri, 31 Dec 1999 23:59:59 GMT"), later(Some(Span::ZERO))),
        (Answer::Status(500, ""), later(None)),
        (Answer::Status(503, "7"), later(Some(Span::from_secs(7)))),
        (Answer::Hangs, later(None)),
    ];
    for (answer, expected) in rows {
        let stand_in = StandIn::start(answer).await;
        for (provider, sink) in sinks_at(&stand_in.url, "300ms") {
            let sent = send(&sink).await;
            let got = sent.clone().err().map(|error| match error {
                NotificationError::Later { after, .. } => (true, after),
                NotificationError::Refused(_) => (false, None),
            });
            assert_eq!(got, expected, "{provider} with {answer:?}: {sent:?}");
            let text = format!("{sent:?}");
            assert!(!text.contains(MARK) && text.len() < 600, "{provider} tells a secret or too much: {text}");
        }
        assert_eq!(stand_in.got().len(), PROVIDERS.len(), "{answer:?}: each sent once");
    }
}

#[tokio::test]
async fn no_error_of_an_unreachable_service_tells_a_secret() {
    for (provider, sink) in sinks_at("http://127.0.0.1:1", "300ms") {
        let sent = send(&sink).await;
        assert!(matches!(&sent, Err(NotificationError::Later { .. })), "{provider}: {sent:?}");
        assert!(!format!("{sent:?}").contains(MARK), "{provider}: {sent:?}");
        assert!(sink.check().await.is_err(), "{provider}");
    }
}

#[tokio::test]
async fn nothing_is_sent_before_the_time_that_a_service_has_asked_for() {
    let stand_in = StandIn::start(Answer::Status(429, "1")).await;
    for (provider, sink) in sinks_at(&stand_in.url, "5s") {
        assert!(send(&sink).await.is_err());
        let since = Stopwatch::start();
        assert!(send(&sink).await.is_err());
        let waited = since.elapsed();
        assert!(waited >= Duration::from_millis(950), "{provider} has waited {waited:?}");
    }
}

#[tokio::test]
async fn each_request_goes_to_its_address_with_its_key() {
    let stand_in = StandIn::start(Answer::Status(200, "")).await;
    let closed = notification(IncidentChange::Resolve, "it goes on");
    for (_, sink) in sinks_at(&stand_in.url, "5s") {
        send(&sink).await.unwrap();
        sink.send(&effect("prod/shop/Deployment/web", &closed), &closed, None).await.unwrap();
    }
    let got = stand_in.got();
    let paths: Vec<String> = got.iter().map(|got| format!("{} {}", got.method, got.path)).collect();
    let hook = format!("POST /api/webhooks/1/{MARK}");
    let discord = format!("POST /api/v10/webhooks/1/{MARK}?wait=true");
    let close = "POST /v2/alerts/web-0123456789/close?identifierType=alias".to_owned();
    let twice = |path: &str| [path.to_owned(), path.to_owned()];
    let expected = [
        twice("POST /prefix/api/v2/alerts"),
        twice(&discord),
        twice(&hook),
        ["POST /v2/alerts".to_owned(), close],
        twice("POST /v1/traces"),
        twice("POST /v2/enqueue"),
        twice(&hook),
        twice(&hook),
    ];
    assert_eq!(paths, expected.concat());
    let header = |at: usize, name: &str| got[at].headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header(0, "authorization"), Some(format!("Bearer {MARK}")));
    assert_eq!(header(6, "authorization"), Some(format!("GenieKey {MARK}")));
    assert_eq!(header(4, "x-team").as_deref(), Some("shop"));
    assert_eq!(header(4, "webhook-id").as_deref(), Some("web-0123456789.d7.x"));
    assert!(got.iter().all(|got| got.headers["content-type"] == "application/json"));
    // The receiver's own computation over the bytes that arrived.
    let key = super::super::http::signing_key(&SecretString::from(format!("{MARK}{MARK}"))).unwrap();
    let (id, seconds) = (header(4, "webhook-id").unwrap(), header(4, "webhook-timestamp").unwrap());
    let expected = super::super::http::signature(&key, &id, &seconds, &got[4].body);
    assert_eq!(header(4, "webhook-signature"), Some(expected));
    let keys: Vec<Value> = got[10..12].iter().map(|got| serde_json::from_slice::<Value>(&got.body).unwrap()).collect();
    assert_eq!(keys[0]["dedup_key"], keys[1]["dedup_key"], "one alert is opened and resolved");
}

#[tokio::test]
async fn a_check_sends_no_notification() {
    let stand_in = StandIn::start(Answer::Status(200, "")).await;
    for (_, sink) in sinks_at(&stand_in.url, "5s") {
        sink.check().await.unwrap();
    }
    let paths: Vec<String> = stand_in.got().iter().map(|got| format!("{} {}", got.method, got.path)).collect();
    let discord = format!("GET /api/v10/webhooks/1/{MARK}");
    assert_eq!(
        paths,
        ["GET /prefix/api/v2/status", &discord, "HEAD /", "HEAD /", "HEAD /", "HEAD /", "HEAD /", "HEAD /"]
    );
    let refusing = StandIn::start(Answer::Status(401, "")).await;
    for (provider, sink) in sinks_at(&refusing.url, "5s") {
        let confirms = ["alertmanager", "discord"].contains(&provider);
        assert_eq!(sink.check().await.is_err(), confirms, "{provider}");
    }
}

#[tokio::test]
async fn a_notification_without_a_message_is_no_request() {
    let stand_in = StandIn::start(Answer::Status(200, "")).await;
    let mut told = notification(IncidentChange::Open, "x");
    (told.message, told.incident, told.trace) = (None, None, None);
    for (provider, sink) in sinks_at(&stand_in.url, "5s") {
        if provider != "http" {
            sink.send(&effect("prod/shop/Deployment/web", &told), &told, None).await.unwrap();
        }
    }
    assert_eq!(stand_in.got().len(), 0);
}
