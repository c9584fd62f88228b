//! A stand-in for Prometheus: it answers the sampler's queries with the series of the pods that their matchers name, as if each
//! pod had been scraped every 15 s since [`started`]. Series are computed, so it keeps none.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use axum::Router;
use axum::routing::post;
use bellwether_core::time::Timestamp;
use reqwest::Url;

/// The namespace of all pods.
pub const NAMESPACE: &str = "shop";
const SCRAPE_SECONDS: i64 = 15;
/// Requests per second of each pod.
const RATE: f64 = 12.5;
/// One request in this many fails.
const FAILS: u64 = 1000;
/// The upper bounds of the buckets of OpenTelemetry's conventions, and the share of the requests up to each.
const BUCKETS: [(&str, f64); 15] = [
    ("0.005", 0.1),
    ("0.01", 0.3),
    ("0.025", 0.5),
    ("0.05", 0.7),
    ("0.075", 0.8),
    ("0.1", 0.9),
    ("0.25", 0.96),
    ("0.5", 0.99),
    ("0.75", 0.995),
    ("1", 0.999),
    ("2.5", 1.0),
    ("5", 1.0),
    ("7.5", 1.0),
    ("10", 1.0),
    ("+Inf", 1.0),
];

/// Returns the name of the workload with a number.
pub fn name(n: usize) -> String {
    format!("w{n}")
}

/// Returns the workload of a pod by its name, and whether the pod is the canary's.
pub fn owner_of(pod: &str) -> Option<(&str, bool)> {
    let (name, rest) = pod.split_once('-')?;
    Some((name, rest.starts_with("canary-")))
}

/// Returns the time at which all processes started.
pub fn started() -> Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Serves until the process ends. Prints the server's URL first.
pub fn serve() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("http://{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let router = Router::new().route("/api/v1/query", post(answer));
        axum::serve(listener, router).await.context("the stand-in")
    })
}

/// Answers a form with a query and its time.
async fn answer(form: String) -> String {
    let Ok(url) = Url::parse(&format!("http://form/?{form}")) else { return String::new() };
    let value = |name: &str| url.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned());
    let time = value("time").and_then(|time| time.parse().ok()).unwrap_or_default();
    answer_to(&value("query").unwrap_or_default(), time)
}

/// Returns the answer to a query as of a time in seconds.
pub fn answer_to(query: &str, time: f64) -> String {
    let mut body = r#"{"status":"success","data":{"resultType":"vector","result":["#.to_owned();
    for term in query.split(" or ") {
        Term::read(term).append(&mut body, time);
    }
    if body.ends_with(',') {
        body.pop();
    }
    body + "]}}"
}

/// One aggregation of a query.
struct Term<'a> {
    /// The value of the label `bellwether_part`.
    part: Option<&'a str>,
    /// The labels that the series are grouped by.
    by: Vec<&'a str>,
    /// Whether it asks for the number of series and not for their sum.
    is_count: bool,
    /// Whether it asks for the time of the newest sample.
    is_timestamp: bool,
    text: &'a str,
    pods: Vec<String>,
}

impl<'a> Term<'a> {
    fn read(text: &'a str) -> Term<'a> {
        let between =
            |open: &str, close: &str| text.split_once(open).and_then(|(_, rest)| Some(rest.split_once(close)?.0));
        let prefixes = between("pod=~\"", "\"").unwrap_or_default();
        let of_pods = |prefix: &str| {
            let prefix = prefix.trim_end_matches(".*").replace('\\', "");
            ["x-a", "x-b", "canary-x-a", "canary-x-b"].map(|end| format!("{prefix}{end}"))
        };
        Term {
            part: between("\"bellwether_part\", \"", "\""),
            by: between(" by (", ")").unwrap_or_default().split(", ").collect(),
            is_count: text.contains("count by ("),
            is_timestamp: text.contains("timestamp("),
            text,
            pods: prefixes.split('|').flat_map(of_pods).collect(),
        }
    }

    fn append(&self, body: &mut String, time: f64) {
        let scraped = time as i64 / SCRAPE_SECONDS * SCRAPE_SECONDS;
        let count = ((scraped - started().as_second()) as f64 * RATE) as u64;
        for pod in &self.pods {
            let mut add = |class: (&str, &str), value: f64| {
                let value = if self.is_count { 1.0 } else { value };
                self.append_point(body, pod, class, if self.is_timestamp { scraped as f64 } else { value }, time);
            };
            if self.text.contains("process_start_time_seconds{") {
                add(("", ""), started().as_second() as f64);
            } else if self.text.contains("up{") {
                add(("", ""), 1.0);
            } else if self.text.contains("_bucket{") {
                for (bound, share) in BUCKETS {
                    add(("le", bound), (count as f64 * share).floor());
                }
            } else {
                add(("http_response_status_code", "200"), (count - count / FAILS) as f64);
                add(("http_response_status_code", "500"), (count / FAILS) as f64);
            }
        }
    }

    fn append_point(&self, body: &mut String, pod: &str, class: (&str, &str), value: f64, time: f64) {
        body.push_str(r#"{"metric":{"#);
        for label in &self.by {
            let text = match *label {
                "namespace" => NAMESPACE,
                "pod" => pod,
                "container" => "app",
                "job" => "web",
                own if own == class.0 => class.1,
                _ => continue,
            };
            // Writing to a String does not fail.
            let _ = write!(body, r#""{label}":"{text}","#);
        }
        if let Some(part) = self.part {
            let _ = write!(body, r#""bellwether_part":"{part}","#);
        }
        if body.ends_with(',') {
            body.pop();
        }
        let _ = write!(body, r#"}},"value":[{time},"{value}"]}},"#);
    }
}
