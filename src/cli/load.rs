//! `bellwether load`: runs a load test for a pipeline and returns the verdict on its thresholds as the exit code.
//! [`bellwether_tools::load`] describes how it measures.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bellwether_core::time::Span;
use bellwether_tools::load::report::LoadReport;
use bellwether_tools::load::threshold::time_limits;
use bellwether_tools::load::{
    Arrivals, LoadOptions, LoadRequest, LoadVerdict, Rate, Schedule, Threshold, drive, verdict,
};
use bellwether_tools::secret;
use clap::Args;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use super::table::table;
use super::{Common, Output, print, tell};
use crate::exit;

/// The arguments of `bellwether load`.
#[derive(Debug, Args)]
#[command(after_help = "A threshold is kept or missed only if the requests show it with 95 % confidence.\n\n\
                  Exit codes: 0 every threshold is kept, 1 error, 2 usage, 3 a threshold is missed, 4 undecided: too \
                  few requests, or this machine was the bottleneck.")]
pub struct LoadArgs {
    /// The URL to send requests to.
    url: Url,
    /// The rate of requests, kept however slow the answers are: 50/s or 300/m.
    #[arg(long, value_name = "RATE")]
    rate: Rate,
    /// The time during which requests are counted.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    duration: Span,
    /// The time before that during which requests are sent at the same rate and not counted.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    warm_up: Span,
    /// Send requests at random times, in clusters and gaps as independent users do; a seed always gives the same times.
    #[arg(long, value_name = "SEED")]
    poisson: Option<u64>,
    /// The largest number of requests under way, each on its own HTTP/1.1 connection; a request that is due while all are
    /// busy is counted as not sent.
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// The longest time that a request may take.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Span,
    /// A limit, as in p95<=800ms, first-event-p95<=300ms, inter-token-p95<=80ms, errors<=1%, not-sent<=0%, rate>=45/s,
    /// goodput>=40/s or tokens>=500/s; may be repeated.
    #[arg(long, value_name = "LIMIT")]
    threshold: Vec<Threshold>,
    /// Expect a stream of server-sent events; an answer that is none, or has no content, is a failure.
    #[arg(long)]
    sse: bool,
    /// Also write the result as JSON into this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    request: RequestArgs,
}

/// The arguments that describe each request.
#[derive(Debug, Args)]
struct RequestArgs {
    /// The method (default: GET, or POST with a body).
    #[arg(long, value_name = "METHOD")]
    method: Option<Method>,
    /// A header, as in "x-tenant: shop"; may be repeated.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The file that holds a bearer token.
    #[arg(long, value_name = "FILE")]
    bearer_token_file: Option<PathBuf>,
    /// The body of each request.
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    body: Option<String>,
    /// A file of bodies, one JSON value per line, sent in turn and then again from the first.
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write a name and a value, as in \"x-tenant: shop\"")?;
    let name: HeaderName = name.trim().parse().map_err(|_| format!("{:?} is not a header's name", name.trim()))?;
    // Any header may hold a secret, so no value is ever printed.
    let mut value: HeaderValue =
        value.trim().parse().map_err(|_| format!("the value of {name} can't be a header's"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Runs the load test, prints its result and returns the exit code.
///
/// # Errors
/// If a file of the arguments can't be read, the schedule or the request is invalid, or a result can't be written.
pub async fn run(args: LoadArgs, common: &Common) -> anyhow::Result<u8> {
    let arrivals = args.poisson.map_or(Arrivals::Constant, |seed| Arrivals::Poisson { seed });
    let schedule = Schedule { rate: args.rate, arrivals, warm_up: args.warm_up, duration: args.duration };
    schedule.check()?;
    let request = request(args.url, args.request, args.sse)?;
    let url = without_credentials(&request.url);
    if common.output == Output::Table {
        tell(&format!(
            "sending to {url} for {} …\n",
            Span::from_millis(args.warm_up.as_millis() + args.duration.as_millis())
        ));
    }
    let options = LoadOptions {
        connections: usize::from(args.connections),
        timeout: args.timeout.to_std(),
        limits: time_limits(&args.threshold),
    };
    let tally = drive(&schedule, request, &options).await?;
    let report = LoadReport::new(url, &schedule, &tally, verdict::judge(&tally, &schedule, &args.threshold));
    let json = serde_json::to_string_pretty(&report).context("a result as JSON")? + "\n";
    if let Some(path) = &args.report {
        std::fs::write(path, &json).with_context(|| format!("can't write {}", path.display()))?;
    }
    match common.output {
        Output::Json => print(&json),
        Output::Table => print(&render(&report)),
    }
    Ok(match report.outcome().verdict {
        LoadVerdict::Pass | LoadVerdict::Measured => exit::OK,
        LoadVerdict::Missed => exit::FAILED,
        LoadVerdict::Insufficient | LoadVerdict::GeneratorLate => exit::INCONCLUSIVE,
    })
}

fn request(url: Url, args: RequestArgs, events: bool) -> anyhow::Result<LoadRequest> {
    if !matches!(url.scheme(), "http" | "https") {
        bail!("the URL begins with {}:, and not with http: or https:", url.scheme());
    }
    let bodies = match (args.body, args.body_file) {
        (Some(body), _) => vec![body],
        (None, Some(path)) => bodies(&path)?,
        (None, None) => Vec::new(),
    };
    let mut headers = HeaderMap::new();
    if !bodies.is_empty() {
        headers.insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    // A header of the arguments replaces the default; one that is given twice is sent twice.
    for (name, _) in &args.header {
        headers.remove(name);
    }
    for (name, value) in args.header {
        headers.append(name, value);
    }
    let method = args.method.unwrap_or(if bodies.is_empty() { Method::GET } else { Method::POST });
    let mut request = LoadRequest { method, url, headers, bodies, events };
    if let Some(path) = &args.bearer_token_file {
        request.bearer(&secret::read(path)?)?;
    }
    Ok(request)
}

/// Reads the bodies of a JSON Lines file; empty lines are skipped.
fn bodies(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let mut bodies = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        serde_json::from_str::<serde::de::IgnoredAny>(line)
            .with_context(|| format!("{}:{} is not JSON", path.display(), at + 1))?;
        bodies.push(line.to_owned());
    }
    if bodies.is_empty() {
        bail!("{} has no body in it", path.display());
    }
    Ok(bodies)
}

/// Returns the URL without user, password and query, which may hold secrets.
fn without_credentials(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that can't have credentials.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.to_string()
}

fn render(report: &LoadReport) -> String {
    let (headings, rows) = report.percentiles();
    let mut page = format!("{}\n{}", report.lines(), table(&headings, &rows));
    let outcome = report.outcome();
    if !outcome.findings.is_empty() {
        let rows: Vec<Vec<String>> = outcome
            .findings
            .iter()
            .map(|finding| {
                let why = finding.why.clone().unwrap_or_default();
                vec![finding.threshold.to_string(), finding.found.clone(), text(finding.verdict).to_owned(), why]
            })
            .collect();
        page += &format!("\n{}", table(&["THRESHOLD", "FOUND", "VERDICT", ""], &rows));
    }
    if let Some(generator) = &outcome.generator {
        page += &format!("\n{generator}\n");
    }
    page + &format!("\n{}\n", text(outcome.verdict))
}

fn text(verdict: LoadVerdict) -> &'static str {
    match verdict {
        LoadVerdict::Pass => "pass",
        LoadVerdict::Missed => "missed",
        LoadVerdict::Insufficient => "insufficient",
        LoadVerdict::GeneratorLate => "generator late",
        LoadVerdict::Measured => "measured; no threshold was given",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bellwether_tools::load::tally::{FailedRequest, StreamPace};
    use bellwether_tools::load::{GoodAnswer, LoadTally, RequestFailure, RequestTiming};
    use clap::Parser;
    use expect_test::expect;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parsed(line: &[&str]) -> anyhow::Result<LoadRequest> {
        let LoadArgs { url, request: args, sse, .. } = Cli::try_parse_from(line)?.load;
        request(url, args, sse)
    }

    const LINE: [&str; 4] = ["load", "http://me:hush@a/v1?key=hush", "--rate", "50/s"];

    #[test]
    fn a_body_makes_a_post_of_json_unless_method_and_header_differ() {
        let plain = parsed(&LINE).unwrap();
        assert_eq!((plain.method, plain.headers.len(), plain.bodies.len()), (Method::GET, 0, 0));
        let posted = parsed(&[&LINE[..], &["--body", "{}", "--header", "Content-Type: text/plain"]].concat()).unwrap();
        assert_eq!((posted.method, posted.headers.len()), (Method::POST, 1));
        assert_eq!(posted.headers["content-type"], "text/plain");
        assert_eq!(parsed(&[&LINE[..], &["--body", "x", "--method", "PUT"]].concat()).unwrap().method, Method::PUT);
        assert!(!format!("{:?}", posted.headers).contains("text/plain"));
    }

    #[test]
    fn bodies_are_lines_of_json_and_a_bad_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bodies.jsonl");
        std::fs::write(&path, "{\"a\": 1}\n\n{\"a\": 2}\n").unwrap();
        assert_eq!(bodies(&path).unwrap(), ["{\"a\": 1}", "{\"a\": 2}"]);
        std::fs::write(&path, "{\"a\": 1}\n{a}\n").unwrap();
        assert!(format!("{:#}", bodies(&path).unwrap_err()).contains("bodies.jsonl:2 is not JSON"));
        std::fs::write(&path, "\n").unwrap();
        assert!(format!("{:#}", bodies(&path).unwrap_err()).contains("no body"));
    }

    #[test]
    fn a_result_has_counts_percentiles_and_the_verdict_of_each_threshold() {
        let schedule = Schedule {
            rate: "50/s".parse().unwrap(),
            arrivals: Arrivals::Constant,
            warm_up: Span::ZERO,
            duration: Span::from_secs(2),
        };
        let thresholds: [Threshold; 4] =
            ["p95<=800ms", "p99<=10ms", "errors<=20%", "goodput>=40/s"].map(|text| text.parse().unwrap());
        let mut tally = LoadTally::new(time_limits(&thresholds));
        for (n, due) in schedule.instants().enumerate() {
            let (first, complete) = (due + Duration::from_millis(10), due + Duration::from_millis(20));
            let pace = Some(StreamPace { tokens: 11, between: Duration::from_millis(1) });
            let ended = match n < 96 {
                true => Ok(GoodAnswer { first, complete, pace }),
                false => Err(FailedRequest::new(RequestFailure::Timeout, "operation timed out")),
            };
            tally.add(&RequestTiming { due, sent: Some(due).filter(|_| n != 99), ended });
        }
        let url = without_credentials(&LINE[1].parse().unwrap());
        let report = LoadReport::new(url, &schedule, &tally, verdict::judge(&tally, &schedule, &thresholds));
        expect![[r#"
            http://a/v1: 50/s for 2s (constant), after 0s of warm-up
            100 due, 99 sent, 1 not sent; 96 good (48/s), 3 errors (3.03 %): 3 timeout
            528/s of tokens; 0/s good within all time limits
            timeout: operation timed out

                          p50    p90    p95    p99    p99.9  LONGEST
            latency       20 ms  20 ms  20 ms  never  never  20 ms
            first event   10 ms  10 ms  10 ms  never  never  –
            inter-token   1 ms   1 ms   1 ms   never  never  –
            sent late by  0 ms   0 ms   0 ms   0 ms   0 ms   –

            THRESHOLD      FOUND  VERDICT
            p95<=800ms     20 ms  insufficient  4 of 100 are bad (4 without a good answer); with 95 % confidence at most 8.92 %, and 5 % is allowed; 1415 requests with this share can show it
            p99<=10ms      never  missed        100 of 100 are bad (4 without a good answer); with 95 % confidence at least 97 %, and 1 % is allowed
            errors<=20%    4 %    pass
            goodput>=40/s  0/s    missed

            missed
        "#]]
        .assert_eq(&render(&report));
        let json: serde_json::Value = serde_json::to_value(&report).unwrap();
        assert_eq!(json["schema"], "bellwether.dev/load/1");
        assert_eq!(json["counts"]["not-sent"], 1);
        assert_eq!(json["errors"]["timeout"], 3);
        assert_eq!(json["latency-ms"]["p99"], serde_json::Value::Null);
        assert_eq!(json["verdict"], "missed");
        assert_eq!(json["findings"][1]["threshold"], "p99<=10ms");
    }
}
