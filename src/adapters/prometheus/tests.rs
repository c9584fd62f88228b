//! The adapter against a small server with fixed answers.
#![expect(clippy::disallowed_methods, reason = "the tests change the time of a file and measure durations")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap as Headers, StatusCode as Status, Uri};
use axum::routing::{get, post};
use bellwether_core::time::Span;
use tokio::net::TcpListener;

use super::*;
use crate::ports::{Bucket, Native};

const ONE: &str =
    r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1.5,"3"]}]}}"#;

#[tokio::test]
async fn a_query_is_a_form_with_its_instant_and_its_time_limit() {
    let server = Server::start(Status::OK, ONE).await;
    let at = Timestamp::from_millisecond(1_700_000_000_250).unwrap();
    let points = server.client(|_| {}).instant("up{a=\"b+c\"}", at).await.unwrap();
    assert_eq!(points, [SeriesPoint::number(BTreeMap::from([("pod".to_owned(), "a".to_owned())]), 3.0)]);
    let seen = server.seen();
    assert_eq!(seen.body, "query=up%7Ba%3D%22b%2Bc%22%7D&time=1700000000.250&timeout=4000ms");
    assert_eq!(seen.headers.get("content-type").unwrap(), "application/x-www-form-urlencoded");
    assert!(!seen.headers.contains_key("authorization"));
}

#[tokio::test]
async fn every_answer_is_points_or_the_right_error() {
    let vector = |value: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[1,"{value}"]}}]}}}}"#
        )
    };
    let refusal = r#"{"status":"error","errorType":"bad_data","error":"parse error at char 3"}"#;
    for (status, body, wanted) in [
        (200, vector("+Inf"), Ok("inf")),
        (200, vector("NaN"), Ok("NaN")),
        (200, vector("1e3"), Ok("1000")),
        (200, r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#.to_owned(), Ok("2")),
        (200, ONE.replace("\"data\"", r#""infos":["PromQL info: not a counter"],"data""#), Ok("3")),
        (
            200,
            ONE.replace("\"data\"", r#""warnings":["store a is down"],"data""#),
            Err("partial answer: store a is down"),
        ),
        (200, vector("x"), Err("\"x\" is not a sample's value at line 1 column")),
        (
            200,
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.to_owned(),
            Err("unreadable answer: the query gives a matrix, not an instant vector"),
        ),
        (
            200,
            ONE.replace(r#""value":[1.5,"3"]"#, r#""histogram":[1,{}]"#),
            Err("missing field `count` at line 1 column"),
        ),
        (
            200,
            ONE.replace(r#""value":[1.5,"3"]"#, r#""histogram":[1,{"count":"2","buckets":[[0,"1","x","2"]]}]"#),
            Err("\"x\" is not a sample's value at line 1 column"),
        ),
        (400, refusal.to_owned(), Err("400 bad_data: parse error at char 3")),
        (422, refusal.replace("bad_data", "execution"), Err("422 execution: parse error at char 3")),
        (401, "<html>\n  no\n</html>".to_owned(), Err("401 <html> no </html>")),
        (429, "slow down".to_owned(), Err("429 slow down")),
        (503, refusal.replace("bad_data", "timeout"), Err("503 timeout: parse error at char 3")),
    ] {
        let server = Server::start(Status::from_u16(status).unwrap(), &body).await;
        let answer = server.client(|_| {}).instant("up", Timestamp::UNIX_EPOCH).await;
        let refused = matches!(answer, Err(MetricsError::Refused(_)));
        assert_eq!(refused, (400..500).contains(&status) && status != 429, "{status} {body}");
        match (answer, wanted) {
            (Ok(points), wanted) => assert_eq!(Ok(points[0].value.to_string().as_str()), wanted, "{status} {body}"),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{status} {body}: {error}"),
            (Err(error), Ok(_)) => panic!("{status} {body}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_range_is_points_by_instant() {
    let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"pod":"a"},"values":[[1.25,"3"],[2.25,"4"]]},{"metric":{"pod":"b"},"values":[[2.25,"NaN"]]}]}}"#;
    let server = Server::start(Status::OK, body).await;
    let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
    let range = TimeRange { from: at(1250), to: at(2250), step: Span::from_millis(500) };
    let instants = server.client(|_| {}).range("up", range).await.unwrap();
    assert_eq!(server.seen().body, "query=up&start=1.250&end=2.250&step=0.500&timeout=4000ms");
    assert_eq!(instants.keys().copied().collect::<Vec<_>>(), [at(1250), at(2250)]);
    let pods: Vec<&str> = instants[&at(2250)].iter().map(|point| point.labels.get("pod").unwrap()).collect();
    assert_eq!(pods, ["a", "b"]);
    let [first, second] = [1250, 2250].map(|ms| &instants[&at(ms)][0].labels);
    assert_eq!(first.identity(), second.identity(), "the labels of a series are copied for each instant");

    for (body, words) in [
        (ONE, "the range query gives a vector, not a matrix"),
        (
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"histograms":[[1,{}]]}]}}"#,
            "missing field `count`",
        ),
        (r#"{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"x"]]}]}}"#, "not a sample"),
        (r#"{"status":"success"}"#, "no data"),
    ] {
        let server = Server::start(Status::OK, body).await;
        let error = server.client(|_| {}).range("up", range).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_native_histogram_is_read_with_its_buckets() {
    let histogram = r#"[1.25,{"count":"7","sum":"NaN","buckets":[[3,"-0.001","0.001","2"],[0,"0.5","1","3.5"]]}]"#;
    let empty = r#"[2.25,{"count":"0","sum":"0"}]"#;
    let wanted = Native {
        count: 7.0,
        buckets: vec![
            Bucket { rule: 3, lower: -0.001, upper: 0.001, count: 2.0 },
            Bucket { rule: 0, lower: 0.5, upper: 1.0, count: 3.5 },
        ],
    };
    let body = ONE.replace(r#""value":[1.5,"3"]"#, &format!(r#""histogram":{histogram}"#));
    let server = Server::start(Status::OK, &body).await;
    let points = server.client(|_| {}).instant("seconds", Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].native.as_deref(), points[0].value.is_nan()), (Some(&wanted), true));

    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[
            {{"metric":{{"pod":"a"}},"values":[[1.25,"3"]],"histograms":[{histogram},{empty}]}}]}}}}"#
    );
    let server = Server::start(Status::OK, &body).await;
    let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
    let range = TimeRange { from: at(1250), to: at(2250), step: Span::from_millis(1000) };
    let instants = server.client(|_| {}).range("seconds", range).await.unwrap();
    let natives = |at| instants[&at].iter().map(|point| point.native.as_deref()).collect::<Vec<_>>();
    assert_eq!(natives(at(1250)), [None, Some(&wanted)]);
    assert_eq!(natives(at(2250)), [Some(&Native::default())]);
}

#[tokio::test]
async fn the_type_of_a_series_comes_from_the_metadata() {
    let body = r#"{"status":"success","data":{"up":[{"type":"unknown","help":""},{"type":"gauge","help":""}]}}"#;
    let server = Server::start(Status::OK, body).await;
    let client = server.client(|_| {});
    assert_eq!(client.type_of("up").await.unwrap().as_deref(), Some("gauge"));
    assert_eq!(client.type_of("down").await.unwrap(), None);
}

#[tokio::test]
async fn a_partial_answer_is_used_if_the_options_accept_it() {
    let server = Server::start(Status::OK, &ONE.replace("\"data\"", r#""warnings":["w"],"data""#)).await;
    let points = server.client(|options| options.accept_partial = true).instant("up", Timestamp::UNIX_EPOCH).await;
    assert_eq!(points.unwrap().len(), 1);
}

#[test]
fn a_password_of_two_lines_is_refused_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "open\nsesame\n").unwrap();
    let options = Options { username: Some("a".to_owned()), password_file: Some(file.clone()), ..Options::default() };
    let error = Prometheus::new(&options).err().unwrap().to_string();
    assert!(error.contains(&file.display().to_string()) && error.contains("in one line"), "{error}");
}

#[tokio::test]
async fn a_token_is_read_again_when_its_file_changes() {
    let server = Server::start(Status::OK, ONE).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "first\n").unwrap();
    let client = server.client(|options| options.bearer_token_file = Some(path.clone()));
    client.instant("up", Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(server.seen().headers.get("authorization").unwrap(), "Bearer first");
    std::fs::write(&path, "second").unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(10);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    client.instant("up", Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(server.seen().headers.get("authorization").unwrap(), "Bearer second");
    std::fs::write(&path, "se\u{1}cret").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(later + Duration::from_secs(1)).unwrap();
    let error = client.instant("up", Timestamp::UNIX_EPOCH).await.unwrap_err().to_string();
    assert_eq!(error, format!("{}: the file has characters that a header can't contain", path.display()));
}

#[tokio::test]
async fn basic_authentication_and_headers_are_sent() {
    let server = Server::start(Status::OK, ONE).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, "open sesame\n").unwrap();
    let client = server.client(|options| {
        options.username = Some("aladdin".to_owned());
        options.password_file = Some(path);
        options.headers.insert("X-Scope-OrgID".to_owned(), "shop".to_owned());
    });
    client.instant("up", Timestamp::UNIX_EPOCH).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen.headers.get("authorization").unwrap(), "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(seen.headers.get("x-scope-orgid").unwrap(), "shop");

    let client = server.client(|options| options.url = options.url.replace("http://", "http://aladdin:open%20sesame@"));
    client.instant("up", Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(server.seen().headers.get("authorization").unwrap(), "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}

#[tokio::test]
async fn no_error_contains_a_credential() {
    let closed = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let options = Options { url: format!("http://me:s3cret@{closed}/prom"), ..Options::default() };
    let client = Prometheus::new(&options).unwrap();
    let error = client.instant("up", Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert!(matches!(error, MetricsError::Unavailable(_)));
    let version = client.server_version().await.unwrap_err();
    for text in [error.to_string(), format!("{error:?}"), version.to_string(), format!("{options:?}")] {
        assert!(text.contains(&format!("http://{closed}/prom")), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    for url in ["ftp://me:s3cret@host", "http://me:s3cret@", "me:s3cret@host", "http://me:s3cret@ho st/?token=s3cret"] {
        let error = Prometheus::new(&Options { url: url.to_owned(), ..Options::default() }).err().unwrap();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error} {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_unavailable() {
    let server = Server::slow(Duration::from_secs(30)).await;
    let client = server.client(|options| options.timeout = Span::from_millis(50));
    let error = client.instant("up", Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(
        error,
        MetricsError::Unavailable(format!("http://{}/: no answer in time: operation timed out", server.address))
    );
}

#[tokio::test]
async fn concurrency_limits_the_queries_in_flight() {
    let server = Server::slow(Duration::from_millis(100)).await;
    let client = server.client(|options| options.concurrency = 1);
    let started = std::time::Instant::now();
    let (a, b) = tokio::join!(client.instant("a", Timestamp::UNIX_EPOCH), client.instant("b", Timestamp::UNIX_EPOCH));
    a.unwrap();
    b.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn the_version_and_the_clock_of_the_server_are_known() {
    let server = Server::start(Status::OK, r#"{"status":"success","data":{"version":"3.5.0"}}"#).await;
    let client = server.client(|options| options.url.push_str("prefix/"));
    assert_eq!(client.server_version().await.unwrap(), "3.5.0");
    assert_eq!(server.seen().uri.path(), "/prefix/api/v1/status/buildinfo");
    assert!(client.clock_ahead_ms().abs() < MAX_SKEW_MS);
}

#[test]
fn options_that_contradict_each_other_are_refused_by_name() {
    let file = std::path::PathBuf::from("/does/not/exist");
    for (options, wanted) in [
        (Options { concurrency: 0, ..Options::default() }, "prometheus: concurrency must be at least 1"),
        (Options { queries_per_second: 0, ..Options::default() }, "prometheus: queries-per-second must be at least 1"),
        (Options { timeout: Span::ZERO, ..Options::default() }, "prometheus: timeout must be longer than 0 s"),
        (
            Options { username: Some("a".to_owned()), ..Options::default() },
            "prometheus: username and password-file belong together",
        ),
        (
            Options { bearer_token_file: Some(file.clone()), ..Options::default() },
            "prometheus: the secret in /does/not/exist can't be read: No such file or directory (os error 2)",
        ),
        (
            Options { ca_file: Some(file), ..Options::default() },
            "/does/not/exist: No such file or directory (os error 2)",
        ),
        (
            Options { headers: BTreeMap::from([("a b".to_owned(), "s3cret".to_owned())]), ..Options::default() },
            "prometheus.headers: \"a b\" is not a header that can be sent",
        ),
    ] {
        assert_eq!(Prometheus::new(&options).err().map(|error| error.to_string()).as_deref(), Some(wanted));
    }
}

/// A request that the server received.
#[derive(Clone, Default)]
struct ReceivedRequest {
    headers: Headers,
    body: String,
    uri: Uri,
}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<ReceivedRequest>>,
}

impl Server {
    async fn start(status: Status, body: &str) -> Server {
        Server::serve(status, body.to_owned(), Duration::ZERO).await
    }

    async fn slow(delay: Duration) -> Server {
        Server::serve(Status::OK, ONE.to_owned(), delay).await
    }

    async fn serve(status: Status, answer: String, delay: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<ReceivedRequest>> = Arc::default();
        let last = Arc::clone(&seen);
        let handler = move |uri: Uri, headers: Headers, body: Bytes| async move {
            *last.lock().unwrap() = ReceivedRequest { headers, body: String::from_utf8_lossy(&body).into_owned(), uri };
            tokio::time::sleep(delay).await;
            (status, answer)
        };
        let router = Router::new()
            .route("/api/v1/query", post(handler.clone()))
            .route("/api/v1/query_range", post(handler.clone()))
            .route("/api/v1/metadata", get(handler.clone()))
            .route("/prefix/api/v1/status/buildinfo", get(handler));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Server { address, seen }
    }

    /// Returns a client of this server, with the default options changed by `change`.
    fn client(&self, change: impl FnOnce(&mut Options)) -> Prometheus {
        let mut options = Options { url: format!("http://{}/", self.address), ..Options::default() };
        change(&mut options);
        Prometheus::new(&options).unwrap()
    }

    fn seen(&self) -> ReceivedRequest {
        self.seen.lock().unwrap().clone()
    }
}
