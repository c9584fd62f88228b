//! Tests of the server over a real socket.

use bellwether_core::engine::view::{DecisionView, StatusView};
use bellwether_core::ids::Weight;
use bellwether_core::time::Span;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::clock::Stopwatch;
use crate::ports::{Delivery, Receipt};

struct Server {
    base: String,
    conditions: watch::Sender<Conditions>,
    /// Kept, so that the channels stay open.
    _senders: (watch::Sender<Arc<StatusView>>, watch::Sender<Stopwatch>),
}

/// Starts a server that shows one rollout; returns it with the daemon's end of its intake.
async fn server(options: Options) -> (Server, Receiver<Delivery>) {
    let rollout = rollout_view();
    let (view_to, view) = watch::channel(Arc::new(StatusView {
        rollouts: [(rollout.id.clone(), rollout)].into(),
        answers: [("digest".to_owned(), answer_view())].into(),
    }));
    let (conditions_to, conditions) = watch::channel(vec![("kafka".to_owned(), Ok(()))]);
    let (heartbeat_to, heartbeat) = watch::channel(Stopwatch::start());
    let (intake, posted) = mpsc::channel(1);
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    let shown = Shown { view, conditions, heartbeat, metrics, intake };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { serve(listener, &options, shown, CancellationToken::new()).await });
    (Server { base, conditions: conditions_to, _senders: (view_to, heartbeat_to) }, posted)
}

fn answer_view() -> AnswerView {
    AnswerView {
        source: "/ci".to_owned(),
        id: "e/1".to_owned(),
        result: AnswerView::REFUSED.to_owned(),
        reason: "no policy covers it".to_owned(),
        rollout: Some("web-2".to_owned()),
        at: bellwether_core::time::Timestamp::UNIX_EPOCH,
    }
}

fn rollout_view() -> RolloutView {
    let at = bellwether_core::time::Timestamp::UNIX_EPOCH;
    RolloutView {
        id: "web-1".to_owned(),
        workload: "prod/shop/Deployment/web".to_owned(),
        from: [("app".to_owned(), "acme/web:1".to_owned())].into(),
        to: [("app".to_owned(), "acme/web:2".to_owned())].into(),
        policy: "web".to_owned(),
        mode: "enforce".to_owned(),
        phase: "step".to_owned(),
        step: Some((1, 3)),
        weight: Weight::percent(10),
        observed: Some(0.1),
        held: None,
        outcome: None,
        reason: "<script>alert(1)</script>".to_owned(),
        next: "looks again in 30s".to_owned(),
        since: at,
        started: at,
        ended: None,
        checks: Vec::new(),
        history: vec![DecisionView { at, decision: "start".to_owned(), reason: "asked for".to_owned(), step: None }],
    }
}

fn client() -> reqwest::Client {
    crate::telemetry::install_tls();
    reqwest::Client::new()
}

/// Returns the status and body of a GET request.
async fn get_text(base: &str, path: &str) -> (u16, String) {
    let response = client().get(format!("{base}{path}")).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn each_route_answers_as_documented() {
    let (server, _posted) = server(Options::default()).await;
    for (path, status, part) in [
        ("/livez", 200, "ok"),
        ("/readyz", 200, "ready"),
        ("/readyz?verbose", 200, "[+] kafka ok"),
        ("/metrics", 200, ""),
        ("/version", 200, "bellwether"),
        ("/api/v1/rollouts", 200, "\"id\":\"web-1\""),
        ("/api/v1/rollouts?namespace=shop&workload=web&phase=step", 200, "web-1"),
        ("/api/v1/rollouts?namespace=other", 200, "[]"),
        ("/api/v1/rollouts?colour=red", 400, "colour"),
        ("/api/v1/rollouts/web-1", 200, "\"weight\":\"10%\""),
        ("/api/v1/rollouts/none", 404, "there is no rollout"),
        ("/api/v1/answers", 200, "\"reason\":\"no policy covers it\""),
        ("/api/v1/answers?source=/ci&id=e%2F1&rollout=web-2", 200, "\"result\":\"refused\""),
        ("/api/v1/answers?rollout=web-1", 200, "[]"),
        ("/api/v1/answers?source=/cd", 200, "[]"),
        ("/api/v1/answers?color=red", 400, "color"),
        ("/nothing", 404, ""),
    ] {
        let (code, body) = get_text(&server.base, path).await;
        assert!(code == status && body.contains(part), "{path}: {code} {body}");
    }
}

#[tokio::test]
async fn readyz_reports_the_condition_that_does_not_hold() {
    let (server, _posted) = server(Options::default()).await;
    server.conditions.send_replace(vec![("kafka".to_owned(), Err("no partition assigned".to_owned()))]);
    assert_eq!(
        get_text(&server.base, "/readyz").await,
        (503, "[-] kafka no partition assigned\nnot ready\n".to_owned())
    );
    assert_eq!(get_text(&server.base, "/livez").await.0, 200, "a restart would not cure that");
}

#[tokio::test]
async fn livez_fails_when_the_event_loop_stands_still() {
    let (server, _posted) = server(Options { heartbeat: Span::ZERO, ..Options::default() }).await;
    assert_eq!(get_text(&server.base, "/livez").await.0, 503);
}

#[tokio::test]
async fn the_page_escapes_texts_and_loads_nothing_from_other_hosts() {
    let (server, _posted) = server(Options::default()).await;
    let response = client().get(&server.base).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let page = response.text().await.unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}

/// Posts an event with these headers and returns the answer if the daemon gives `receipt`; `None`: it gives none in time.
async fn posted(receipt: Option<Receipt>, headers: &[(&str, &str)]) -> (u16, String) {
    let (server, mut posted) =
        server(Options { events: true, timeout: Span::from_millis(300), ..Options::default() }).await;
    let daemon = tokio::spawn(async move {
        let Some(Delivery { record, reply: Some(sender) }) = posted.recv().await else { return Vec::new() };
        match receipt {
            Some(receipt) => drop(sender.send(receipt)),
            None => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
        }
        record.headers
    });
    let mut request = client().post(format!("{}/api/v1/events", server.base)).header("ce-id", "a%20b").body("{}");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let answer = (response.status().as_u16(), response.text().await.unwrap());
    if answer.0 == 202 {
        assert!(daemon.await.unwrap().contains(&("ce_id".to_owned(), b"a b".to_vec())));
    }
    answer
}

#[tokio::test]
async fn an_event_is_answered_with_its_receipt() {
    for (receipt, headers, status, part) in [
        (Some(Receipt::Decided("started web-1".to_owned())), vec![], 202, "started web-1"),
        (Some(Receipt::Ignored("no policy".to_owned())), vec![], 202, "no policy"),
        (Some(Receipt::Dead("no subject".to_owned())), vec![], 422, "no subject"),
        (None, vec![], 503, "send the same one again"),
        (None, vec![("origin", "http://evil.example")], 403, "web pages"),
        (None, vec![("host", "evil.example")], 403, "localhost"),
    ] {
        let (code, body) = posted(receipt, &headers).await;
        assert!(code == status && body.contains(part), "{code} {body}");
    }
}

#[tokio::test]
async fn without_the_option_a_posted_event_gets_404() {
    let (server, _posted) = server(Options::default()).await;
    let response = client().post(format!("{}/api/v1/events", server.base)).body("{}").send().await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let (server, _posted) = server(Options { events: true, ..Options::default() }).await;
    let response =
        client().post(format!("{}/api/v1/events", server.base)).body(vec![b'x'; BODY_LIMIT + 1]).send().await;
    // The server may close the connection before the whole body is sent.
    assert!(response.is_err() || response.unwrap().status() == 413);
}

#[tokio::test]
async fn a_daemon_that_takes_no_events_is_reported_as_busy() {
    let (server, posted) = server(Options { events: true, ..Options::default() }).await;
    drop(posted);
    let response = client().post(format!("{}/api/v1/events", server.base)).body("{}").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
}
