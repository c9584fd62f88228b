//! Tests of the server over a real socket.

mod api;
mod judge;

use std::num::NonZeroU32;

use bellwether_core::engine::view::{AnswerView, CheckView, DecisionView, RolloutView, StatusView};
use bellwether_core::ids::{Images, Scope, Weight, Workload};
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::access::{self, Access};
use crate::clock::{Clock as _, Stopwatch, SystemClock};
use crate::config::{self, Sources};
use crate::events::cdevents;
use crate::events::decode::DecodeOptions;
use crate::events::identity::StampKey;
use crate::events::mapping::Mapping;
use crate::ports::{Delivery, Receipt, Reviews, User};
use crate::show::course::Courses;
use crate::show::{FollowedViews, StatusBoard, ViewAges};

pub(super) struct Server {
    pub(super) base: String,
    pub(super) conditions: watch::Sender<Conditions>,
    pub(super) view: watch::Sender<StatusView>,
    /// Kept, so that the channels stay open.
    _senders: (watch::Sender<Stopwatch>, Option<Receiver<Delivery>>),
    /// Makes the server's metrics those of the page, in this thread.
    _recording: metrics::LocalRecorderGuard<'static>,
}

impl Server {
    /// Returns the number of requests that were refused for a reason.
    pub(super) async fn refused(&self, why: &str) -> usize {
        let page = get_text(&self.base, "/metrics").await.1;
        let name = format!("bellwether_http_refused_total{{why=\"{why}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
    }

    /// Sends these bytes and returns all that comes back until the server closes the connection.
    async fn answer_to(&self, request: &[u8]) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.base.trim_start_matches("http://")).await.unwrap();
        // The server may close the connection before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Starts a server that shows one rollout; returns it with the daemon's end of its intake.
async fn server(options: Options) -> (Server, Receiver<Delivery>) {
    server_with(options, None).await
}

/// Starts a server with a check of senders.
async fn server_with(options: Options, senders: Option<Arc<Senders>>) -> (Server, Receiver<Delivery>) {
    let rollout = rollout_view();
    let view = StatusView {
        rollouts: [(rollout.id.clone(), rollout.into())].into(),
        answers: [("digest".to_owned(), answer_view())].into(),
        reports: [(rollout_view().workload, [console::tests::report()].into())].into(),
        freezes: [(0, [console::tests::freeze("prod", None)].into())].into(),
        ..StatusView::default()
    };
    server_of(options, senders, view, ViewAges::default()).await
}

/// Starts a server that shows these views, without any course.
pub(super) async fn server_of(
    options: Options,
    senders: Option<Arc<Senders>>,
    view: StatusView,
    ages: ViewAges,
) -> (Server, Receiver<Delivery>) {
    server_that_shows(options, senders, view, ages, Courses::default(), None).await
}

/// Starts a server that shows these views and courses.
pub(super) async fn server_with_courses(
    options: Options,
    view: StatusView,
    courses: Courses,
    config: Option<ShownConfig>,
) -> Server {
    let (mut server, posted) = server_that_shows(options, None, view, ViewAges::default(), courses, config).await;
    server._senders.1 = Some(posted);
    server
}

/// Returns the policies of the shipped example, and that of the recipe for other tools.
fn policies() -> Vec<Policy> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/policies/canary.toml");
    let files = vec![file.into()];
    let config = config::load(&Sources { files, ..Sources::default() }).unwrap_or_else(|report| panic!("{report}"));
    config.policies.into_iter().chain([judge::policy()]).collect()
}

async fn server_that_shows(
    options: Options,
    senders: Option<Arc<Senders>>,
    view: StatusView,
    ages: ViewAges,
    courses: Courses,
    config: Option<ShownConfig>,
) -> (Server, Receiver<Delivery>) {
    let (view_to, view) = watch::channel(view);
    let (conditions_to, conditions) = watch::channel(vec![("kafka".to_owned(), Ok(()))]);
    let (heartbeat_to, heartbeat) = watch::channel(Stopwatch::start());
    let (intake, posted) = mpsc::channel(1);
    let recorder = Box::leak(Box::new(metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder()));
    let shown = Shown {
        cluster: "prod".into(),
        view,
        ages,
        courses,
        clock: Arc::new(SystemClock),
        config: watch::channel(config).1,
        policies: watch::channel(policies()).1,
        models: Some(Arc::new(console::tests::HostileModels)),
        dead_letters: Some(Arc::new(console::tests::HostileLetters)),
        arms: Some(Arc::new(judge::FakeArms)),
        conditions,
        heartbeat,
        metrics: recorder.handle(),
        intake,
        senders,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { serve(listener, &options, shown, CancellationToken::new()).await });
    let _recording = metrics::set_default_local_recorder(recorder);
    let server = Server { base, conditions: conditions_to, view: view_to, _senders: (heartbeat_to, None), _recording };
    (server, posted)
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
        from: Images::from_iter([("app".to_owned(), "acme/web:1".to_owned())]),
        to: Images::from_iter([("app".to_owned(), "acme/web:2".to_owned())]),
        requested: Some("acme/web:2".to_owned()),
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
        checks: vec![CheckView {
            name: "errors".to_owned(),
            verdict: "pass".to_owned(),
            canary: None,
            canary_between: None,
            stable: None,
            stable_between: None,
            limit: "≤ 1 %".to_owned(),
            n: 2418,
            window: Span::from_secs(300),
            sentence: "errors 0.4 % ≤ 1 %".to_owned(),
        }],
        history: vec![DecisionView {
            at,
            decision: "start".to_owned(),
            reason: "asked for".to_owned(),
            step: None,
            by: None,
        }],
        verbs: Vec::new(),
        age: None,
    }
}

pub(super) fn client() -> reqwest::Client {
    crate::telemetry::install_tls();
    reqwest::Client::new()
}

/// Returns the status and body of a GET request.
async fn get_text(base: &str, path: &str) -> (u16, String) {
    let response = client().get(format!("{base}{path}")).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Returns the status, the content type and the body of a GET request of a browser.
pub(super) async fn get_html(base: &str, path: &str) -> (u16, String, String) {
    let response = client().get(format!("{base}{path}")).header("accept", "text/html").send().await.unwrap();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    (response.status().as_u16(), kind.unwrap_or_default(), response.text().await.unwrap())
}

#[tokio::test]
async fn each_route_answers_as_documented() {
    let (server, _posted) = server(Options::default()).await;
    for (path, status, part) in [
        ("/livez", 200, "ok"),
        ("/readyz", 200, "ready"),
        ("/readyz?verbose", 200, "[+] kafka ok"),
        ("/metrics", 200, "bellwether_checks{verdict=\"pass\"} 1"),
        ("/metrics", 200, "bellwether_checks{verdict=\"blind\"} 0"),
        ("/version", 200, "bellwether"),
        ("/api/v1/rollouts", 200, "\"id\":\"web-1\""),
        ("/api/v1/rollouts?namespace=shop&workload=web&state=step", 200, "web-1"),
        ("/api/v1/rollouts?id=web-1", 200, "web-1"),
        ("/api/v1/rollouts?id=web-9", 200, "[]"),
        ("/api/v1/rollouts?namespace=other", 200, "[]"),
        ("/api/v1/rollouts?state=held", 200, "[]"),
        (
            "/api/v1/rollouts?colour=red",
            400,
            "{\"error\":\"Failed to deserialize query string: colour: unknown field `colour`",
        ),
        ("/api/v1/rollouts/web-1", 200, "\"weight\":\"10%\""),
        ("/api/v1/rollouts/none", 404, "there is no rollout"),
        ("/api/v1/answers", 200, "\"reason\":\"no policy covers it\""),
        ("/api/v1/answers?source=/ci&id=e%2F1&rollout=web-2", 200, "\"result\":\"refused\""),
        ("/api/v1/answers?rollout=web-1", 200, "[]"),
        ("/api/v1/answers?source=/cd", 200, "[]"),
        ("/api/v1/answers?color=red", 400, "color"),
        ("/api/v1/reports", 200, "\"suite\":\"behaviour\""),
        ("/api/v1/reports?suite=other", 200, "[]"),
        ("/api/v1/reports?color=red", 400, "color"),
        ("/api/v1/freezes", 200, "[{\"scope\":\"prod\",\"by\":\"/cli#user=ann\",\"why\":\"a sale\""),
        ("/api/v1/dead-letters", 200, "\"encoding\":\"hex\",\"bytes\":3000000,\"cut\":true"),
        ("/nothing", 404, ""),
    ] {
        let (code, body) = get_text(&server.base, path).await;
        assert!(code == status && body.contains(part), "{path}: {code} {body}");
    }
}

#[tokio::test]
async fn a_rollout_of_another_replica_is_answered_with_its_age_and_an_unread_partition_is_told() {
    let board = StatusBoard::of_partitions(2);
    let rollout = RolloutView { phase: "stepping".to_owned(), ..rollout_view() };
    let partition = crate::journal::partition_of(rollout.workload.as_bytes(), 2);
    let views = FollowedViews {
        is_all: true,
        workloads: [(rollout.workload.clone(), vec![rollout])].into(),
        ..Default::default()
    };
    board.follow(partition, views, Stopwatch::start());
    let view = board.watch().borrow().clone();
    let (server, _posted) = server_of(Options::default(), None, view, board.ages()).await;
    let get = |path: &str| client().get(format!("{}{path}", server.base)).send();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;

    let unread = format!("partition {} is not read yet", 1 - partition);
    for (path, status, part) in [
        ("/api/v1/rollouts", 200, "\"age\":\""),
        ("/api/v1/rollouts/web-1", 200, "\"age\":\""),
        ("/api/v1/rollouts/none", 503, unread.as_str()),
        ("/api/v1/answers", 200, "[]"),
        ("/", 200, "<span class=\"sub\">seen 0."),
        ("/", 200, &format!("<strong>Incomplete.</strong> {unread}")),
        ("/rollouts/web-1", 200, "ago, from another replica's journal"),
        ("/readyz", 200, &format!("[!] views {unread}\nready\n")),
        ("/metrics", 200, "bellwether_view_age_seconds "),
        ("/metrics", 200, "bellwether_rollouts{phase=\"stepping\"} 0"),
    ] {
        let answer = get(path).await.unwrap();
        if !["/metrics", "/readyz"].contains(&path) {
            let age: f64 = answer.headers()[VIEW_AGE].to_str().unwrap().parse().unwrap();
            assert!((0.2..30.0).contains(&age), "{path}: {age}");
            assert_eq!(answer.headers()[VIEW_PROBLEM], unread, "{path}");
        }
        let (code, body) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!(code == status && body.contains(part), "{path}: {code} {body}");
    }
    let page = get_text(&server.base, "/metrics").await.1;
    let age = page.lines().find_map(|line| line.strip_prefix("bellwether_view_age_seconds ")?.parse::<f64>().ok());
    assert!(age.is_some_and(|age| (0.2..30.0).contains(&age)), "{age:?}");
    board.follow(1 - partition, FollowedViews::default(), Stopwatch::start());
    let answer = get("/api/v1/rollouts/none").await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get(VIEW_PROBLEM)), (404, None));
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

/// Posts an event with these headers and returns the answer if the daemon gives `receipt`; `None`: it gives none in time.
async fn posted(receipt: Option<Receipt>, headers: &[(&str, &str)]) -> (u16, String) {
    let (server, mut posted) =
        server(Options { events: true, timeout: Span::from_millis(300), ..Options::default() }).await;
    let daemon = tokio::spawn(async move {
        let Some(Delivery { record, reply: Some(sender), .. }) = posted.recv().await else { return Vec::new() };
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
async fn a_body_that_is_too_large_is_refused_and_counted() {
    let (server, _posted) = server(Options { events: true, ..Options::default() }).await;
    for bytes in [BODY_LIMIT + 1, 100 << 20] {
        let response = client().post(format!("{}/api/v1/events", server.base)).body(vec![b'x'; bytes]).send().await;
        // The server may close the connection before the whole body is sent.
        assert!(response.is_err() || response.unwrap().status() == 413);
    }
    assert_eq!(server.refused("body").await, 2);
}

#[tokio::test]
async fn a_head_with_too_many_headers_or_bytes_is_refused_and_counted() {
    let (server, _posted) = server(Options::default()).await;
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "1".repeat(1 << 20));
    for headers in [many, long] {
        let answer = server.answer_to(format!("GET /livez HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(server.refused("head").await, 2);
}

/// Time passes at once while everything waits.
#[tokio::test(start_paused = true)]
async fn a_client_that_sends_its_headers_slowly_is_refused_and_counted() {
    let (server, _posted) = server(Options::default()).await;
    let answer = server.answer_to(b"GET /livez HTTP/1.1\r\nhost: a\r\nx-slow: ").await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.refused("slow-head").await, 1);
    // One that is idle after its answer is closed as well, and has done nothing wrong.
    let answer = server.answer_to(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.refused("slow-head").await, 1);
}

#[tokio::test]
async fn an_address_that_posts_too_fast_is_refused_and_counted() {
    let posts_per_second = std::num::NonZeroU32::MIN;
    let (server, posted) = server(Options { events: true, posts_per_second, ..Options::default() }).await;
    drop(posted);
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let response = client().post(format!("{}/api/v1/events", server.base)).body("{}").send().await.unwrap();
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses, [503, 429]);
    assert_eq!(server.refused("rate").await, 1);
}

#[tokio::test]
async fn with_a_certificate_the_server_speaks_tls_and_takes_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    let of_tests = concat!(env!("CARGO_MANIFEST_DIR"), "/testkit/tls/localhost");
    std::fs::copy(format!("{of_tests}.pem"), &cert).unwrap();
    std::fs::copy(format!("{of_tests}.key"), &key).unwrap();
    let options = Options { cert_file: Some(cert.clone()), key_file: Some(key), ..Options::default() };
    let (server, _posted) = server(options).await;
    let authority = reqwest::Certificate::from_pem(&std::fs::read(&cert).unwrap()).unwrap();
    crate::telemetry::install_tls();
    let client = || reqwest::Client::builder().tls_certs_only([authority.clone()]).build().unwrap();
    let url = format!("{}/livez", server.base.replace("http://127.0.0.1", "https://localhost"));
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    let plain = server.answer_to(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!plain.contains("200 OK"), "{plain}");
    // One that can't be read leaves the last one in use.
    std::fs::write(&cert, "nothing").unwrap();
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
}

#[test]
fn tokens_are_taken_over_tls_alone_but_on_this_machine() {
    let keys = |options: Options| options.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let everywhere = || Options { listen: "0.0.0.0:8080".parse().unwrap(), events: true, ..Options::default() };
    assert_eq!(keys(everywhere()), ["events"]);
    assert_eq!(keys(Options { authenticate: true, ..everywhere() }), ["authenticate"]);
    let cert_file = Some("tls.crt".into());
    assert_eq!(keys(Options { authenticate: true, cert_file: cert_file.clone(), ..everywhere() }), ["cert-file"]);
    let key_file = Some("tls.key".into());
    assert_eq!(keys(Options { authenticate: true, cert_file, key_file, ..everywhere() }), [""; 0]);
    assert_eq!(keys(Options { authenticate: true, events: true, ..Options::default() }), [""; 0]);
}

#[test]
fn readers_with_tokens_need_the_check_of_tokens_and_tls() {
    let problems = |options: Options| options.problems();
    let reading = || Options { read: ReadAccess::Token, ..Options::default() };
    assert_eq!(problems(reading())[0].0, "read");
    assert!(problems(Options { authenticate: true, ..reading() }).is_empty(), "on this machine");
    let everywhere = Options { authenticate: true, listen: "0.0.0.0:8080".parse().unwrap(), ..reading() };
    assert!(problems(everywhere.clone())[0].1.contains("without TLS"));
    let (cert_file, key_file) = (Some("tls.crt".into()), Some("tls.key".into()));
    assert!(problems(Options { cert_file, key_file, ..everywhere }).is_empty());
}

#[tokio::test]
async fn a_reader_needs_a_token_with_the_right_to_get_and_probes_need_none() {
    let posts_per_second = NonZeroU32::new(1000).unwrap();
    let options = Options { read: ReadAccess::Token, authenticate: true, posts_per_second, ..Options::default() };
    let (server, _posted) = server_with(options, Some(senders())).await;
    let get = async |path: &str, token: Option<&str>| {
        let request = client().get(format!("{}{path}", server.base));
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let read = [
        "/",
        "/health",
        "/rollouts/web-1",
        "/live",
        "/dead-letters",
        "/dead-letters/0-1",
        "/api/v1/rollouts",
        "/api/v1/rollouts/web-1",
        "/api/v1/answers",
        "/api/v1/dead-letters",
        "/api/v1/judge",
    ];
    for path in read {
        for token in [None, Some("of-mallory")] {
            let (code, text) = get(path, token).await;
            assert!(code == 401 && !text.contains("web"), "{path} {token:?}: {code} {text}");
        }
    }
    assert_eq!(server.refused("token").await, read.len());
    for path in ["/livez", "/readyz", "/metrics", "/version", "/style.css", "/sign-in"] {
        assert_eq!(get(path, None).await.0, 200, "{path}");
    }
    let (code, text) = get("/api/v1/rollouts", Some("of-bob")).await;
    assert!(code == 403 && text.contains("bob has no right to get rollouts.bellwether.dev"), "{code} {text}");
    assert_eq!(get("/api/v1/rollouts", Some("while-away")).await.0, 503);
    for path in ["/", "/health", "/api/v1/rollouts", "/api/v1/answers"] {
        assert_eq!(get(path, Some("of-jane")).await.0, 200, "{path}");
    }
    // The second request is within the time for which the first one's answer counts.
    assert_eq!([get("/", Some("once")).await.0, get("/", Some("once")).await.0], [200, 200]);
}

#[test]
fn a_proxys_header_needs_its_secret_and_a_check_of_senders() {
    let keys = |options: Options| options.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let named = |name: &str| Options { proxy_user_header: Some(name.to_owned()), ..Options::default() };
    let with_secret = |options| Options { proxy_secret_file: Some("secret".into()), ..options };
    let acting = |options| Options { events: true, authenticate: true, ..options };
    assert_eq!(keys(acting(named("X-User"))), ["proxy-user-header"]);
    assert_eq!(keys(acting(with_secret(Options::default()))), ["proxy-secret-file"]);
    assert_eq!(keys(acting(with_secret(named("X User")))), ["proxy-user-header"]);
    assert_eq!(keys(with_secret(named("X-User"))), ["proxy-user-header"]);
    assert_eq!(keys(acting(with_secret(named("X-User")))), [""; 0]);
}

#[tokio::test]
async fn a_daemon_that_takes_no_events_is_reported_as_busy() {
    let (server, posted) = server(Options { events: true, ..Options::default() }).await;
    drop(posted);
    let response = client().post(format!("{}/api/v1/events", server.base)).body("{}").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
}

/// The users of a pretended API server: `jane` has the token `of-jane` and the rights to `request`, `abort`,
/// `pause`, `unfreeze` and `get`, and to `freeze` the namespace `shop`. Her token
/// `once` is valid at the first review alone. `bob` has no right.
#[derive(Default)]
struct Pretended {
    reviews_of_once: std::sync::atomic::AtomicU32,
}

#[async_trait::async_trait]
impl Reviews for Pretended {
    async fn user(&self, token: &SecretString) -> Result<Option<User>, Failure> {
        let user = |name: &str| User { name: name.to_owned(), uid: None, groups: Vec::new(), extra: BTreeMap::new() };
        match token.expose_secret() {
            "of-jane" => Ok(Some(user("jane"))),
            "of-bob" => Ok(Some(user("bob"))),
            "once" => {
                let before = self.reviews_of_once.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Ok((before == 0).then(|| user("jane")))
            }
            "while-away" => Err(Failure { kind: FailureKind::Unavailable, message: "no answer".to_owned() }),
            _ => Ok(None),
        }
    }

    async fn may(&self, user: &User, verb: &str, scope: &Scope) -> Result<bool, Failure> {
        if verb == "get" {
            assert_eq!(scope.to_string(), "prod");
            return Ok(user.name == "jane");
        }
        if verb == "freeze" {
            return Ok((user.name.as_str(), scope.to_string().as_str()) == ("jane", "prod/shop"));
        }
        assert_eq!((user.name.as_str(), scope.to_string().as_str()), ("jane", "prod/shop/Deployment/web"));
        Ok(["request", "abort", "pause", "unfreeze"].contains(&verb))
    }
}

/// Returns the check of senders by the pretended API server.
fn senders() -> Arc<Senders> {
    senders_behind(None)
}

/// Returns the same check behind a proxy.
pub(super) fn senders_behind(proxy: Option<SignInProxy>) -> Arc<Senders> {
    let stamp = StampKey::of(&SecretString::from("s".repeat(32)));
    let access = Access::new(&access::Options::default(), stamp, Span::from_secs(86_400)).unwrap();
    let decoding = Arc::new(DecodeOptions::new("prod", Mapping::default()).with_access(access));
    Arc::new(Senders { reviews: Arc::new(Pretended::default()), decoding, clock: Arc::new(SystemClock), proxy })
}

/// Returns the body of a request for a rollout, or of a verb, in structured mode.
fn body_of(verb: &str, cluster: &str) -> String {
    let subject = format!("{cluster}/shop/Deployment/web");
    let (workload, now) = (subject.parse::<Workload>().unwrap(), SystemClock.now());
    let event = match verb {
        "request" => {
            let content = json!({ "workload": workload, "images": { "app": "r/web:2" } });
            cdevents::wrap(cdevents::REQUESTED, "/cli", "1", now, &subject, content)
        }
        verb => {
            let ty = format!("{}{verb}{}", cdevents::VERB, cdevents::VERB_VERSION);
            cdevents::wrap(&ty, "/cli", "1", now, &subject, json!({ "workload": workload }))
        }
    };
    event.to_structured().to_string()
}

#[tokio::test]
async fn a_posted_event_needs_a_token_with_the_right_to_its_verb() {
    let options = Options { events: true, authenticate: true, ..Options::default() };
    let (server, mut posted) = server_with(options, Some(senders())).await;
    tokio::spawn(async move {
        while let Some(Delivery { record, reply, .. }) = posted.recv().await {
            let identity = senders().decoding.access.open(&record).1;
            let told = Receipt::Decided(format!("{:?} from {:?}", identity.user, identity.from));
            let _ = reply.map(|reply| reply.send(told));
        }
    });
    for (token, body, status, part) in [
        (None, body_of("request", "prod"), 401, "Bearer TOKEN"),
        (Some("Bearer of-mallory"), body_of("request", "prod"), 401, "Bearer TOKEN"),
        (Some("Basic of-jane"), body_of("request", "prod"), 401, "Bearer TOKEN"),
        (Some("Bearer of-jane"), body_of("approve", "prod"), 403, "jane has no right to approve"),
        (Some("Bearer of-jane"), body_of("request", "test"), 202, "cluster test"),
        (Some("Bearer of-jane"), "{".to_owned(), 422, "JSON"),
        (Some("Bearer while-away"), body_of("request", "prod"), 503, "API server"),
        (Some("Bearer of-jane"), body_of("request", "prod"), 202, r#"Some(\"jane\") from Some(\"127.0.0.1\")"#),
    ] {
        let mut request = client().post(format!("{}/api/v1/events", server.base)).body(body);
        request = request.header("content-type", "application/cloudevents+json").header("host", "bellwether.example");
        // A stamp of the client's own counts for nothing.
        request = request.header("bellwether-user", "root").header("bellwether-stamp", "AAAA");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let response = request.send().await.unwrap();
        let (code, text) = (response.status().as_u16(), response.text().await.unwrap());
        assert!(code == status && text.contains(part), "{token:?}: {code} {text}");
    }
    assert_eq!((server.refused("token").await, server.refused("verb").await), (3, 1));
}
