//! `bellwether load`: a load test, for pipelines: the exit code says whether its thresholds were kept. The argument for
//! how it measures is in [`bellwether_tools::load`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bellwether_core::time::Span;
use bellwether_tools::load::report::Report;
use bellwether_tools::load::{Arrivals, Rate, Request, Schedule, Threshold, Verdict, drive, verdict};
use bellwether_tools::secret;
use clap::Args;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use super::table::table;
use super::{Common, Output, print, tell};
use crate::exit;

/// What `load` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every threshold is kept, 1 error, 2 usage, 3 a threshold is missed, 4 nothing can be said: \
                  too few requests, or this machine was the bottleneck."
)]
pub struct LoadArgs {
    /// What is asked.
    url: Url,
    /// How many requests are sent, whatever becomes of them: 50/s or 300/m.
    #[arg(long, value_name = "RATE")]
    rate: Rate,
    /// For how long.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    duration: Span,
    /// Before that, for so long, at the same rate, nothing counts.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    warm_up: Span,
    /// Requests come as independent people do, in clusters and gaps, and not evenly; the same number gives the same test.
    #[arg(long, value_name = "SEED")]
    poisson: Option<u64>,
    /// How many requests may be under way at a time. What finds them all busy is not sent, and counted so.
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// How long a request may take.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Span,
    /// What has to be kept, as in p95<=800ms, first-byte-p95<=300ms, errors<=1%, not-sent<=0% or rate>=45/s; may be
    /// repeated.
    #[arg(long, value_name = "LIMIT")]
    threshold: Vec<Threshold>,
    /// The answer is a stream of server-sent events: one without any is no answer.
    #[arg(long)]
    sse: bool,
    /// The result as JSON into a file, whatever is printed.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// What each request is.
#[derive(Debug, Args)]
struct Asked {
    /// The method; without it GET, or POST with a body.
    #[arg(long, value_name = "METHOD")]
    method: Option<Method>,
    /// A header, as in "x-tenant: shop"; may be repeated.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The file that holds a bearer token.
    #[arg(long, value_name = "FILE")]
    bearer_token_file: Option<PathBuf>,
    /// The body.
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    body: Option<String>,
    /// Bodies, one JSON value on each line, sent one after the other and then again from the first.
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write a name and a value, as in \"x-tenant: shop\"")?;
    let name: HeaderName = name.trim().parse().map_err(|_| format!("{:?} is not a header's name", name.trim()))?;
    // Nobody knows which of them is a secret, so none is ever repeated.
    let mut value: HeaderValue =
        value.trim().parse().map_err(|_| format!("the value of {name} can't be a header's"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Runs the test and tells what was measured.
///
/// # Errors
/// The arguments name something that can't be read, or the result can't be written.
pub async fn run(args: LoadArgs, common: &Common) -> anyhow::Result<u8> {
    let arrivals = args.poisson.map_or(Arrivals::Constant, |seed| Arrivals::Poisson { seed });
    let schedule = Schedule { rate: args.rate, arrivals, warm_up: args.warm_up, duration: args.duration };
    schedule.check()?;
    let request = request(args.url, args.asked, args.sse)?;
    let url = without_credentials(&request.url);
    if common.output == Output::Table {
        tell(&format!(
            "sending to {url} for {} …\n",
            Span::from_millis(args.warm_up.as_millis() + args.duration.as_millis())
        ));
    }
    let timeout: Duration = args.timeout.to_std();
    let tally = drive(&schedule, request, usize::from(args.connections), timeout).await?;
    let report = Report::new(url, &schedule, &tally, verdict::judge(&tally, &schedule, &args.threshold));
    let json = serde_json::to_string_pretty(&report).context("a result as JSON")? + "\n";
    if let Some(path) = &args.report {
        std::fs::write(path, &json).with_context(|| format!("can't write {}", path.display()))?;
    }
    match common.output {
        Output::Json => print(&json),
        Output::Table => print(&render(&report)),
    }
    Ok(match report.outcome().verdict {
        Verdict::Pass | Verdict::Measured => exit::OK,
        Verdict::Missed => exit::FAILED,
        Verdict::Insufficient | Verdict::GeneratorLate => exit::INCONCLUSIVE,
    })
}

fn request(url: Url, asked: Asked, events: bool) -> anyhow::Result<Request> {
    if !matches!(url.scheme(), "http" | "https") {
        bail!("{} is not http or https", url.scheme());
    }
    let bodies = match (asked.body, asked.body_file) {
        (Some(body), _) => vec![body],
        (None, Some(path)) => bodies(&path)?,
        (None, None) => Vec::new(),
    };
    let mut headers = HeaderMap::new();
    if !bodies.is_empty() {
        headers.insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    // What is written replaces what is assumed; and what is written twice is sent twice.
    for (name, _) in &asked.header {
        headers.remove(name);
    }
    for (name, value) in asked.header {
        headers.append(name, value);
    }
    let method = asked.method.unwrap_or(if bodies.is_empty() { Method::GET } else { Method::POST });
    let mut request = Request { method, url, headers, bodies, events };
    if let Some(path) = &asked.bearer_token_file {
        request.bearer(&secret::read(path)?)?;
    }
    Ok(request)
}

/// The lines of a JSONL file that have something on them.
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

/// The URL as it may be shown.
fn without_credentials(url: &Url) -> String {
    let mut url = url.clone();
    // These fail for URLs that can have no credentials.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.to_string()
}

fn render(report: &Report) -> String {
    let (headings, rows) = report.percentiles();
    let mut text = format!("{}\n{}", report.lines(), table(&headings, &rows));
    let outcome = report.outcome();
    if !outcome.findings.is_empty() {
        let rows: Vec<Vec<String>> = outcome
            .findings
            .iter()
            .map(|finding| {
                let why = finding.why.clone().unwrap_or_default();
                vec![finding.threshold.to_string(), finding.found.clone(), said(finding.verdict).to_owned(), why]
            })
            .collect();
        text += &format!("\n{}", table(&["THRESHOLD", "FOUND", "VERDICT", ""], &rows));
    }
    if let Some(generator) = &outcome.generator {
        text += &format!("\n{generator}\n");
    }
    text + &format!("\n{}\n", said(outcome.verdict))
}

fn said(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Missed => "missed",
        Verdict::Insufficient => "insufficient",
        Verdict::GeneratorLate => "generator late",
        Verdict::Measured => "measured; no threshold was asked for",
    }
}

#[cfg(test)]
mod tests {
    use bellwether_tools::load::{Failure, Sample, Tally};
    use clap::Parser;
    use expect_test::expect;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn asked(line: &[&str]) -> anyhow::Result<Request> {
        let LoadArgs { url, asked, sse, .. } = Cli::try_parse_from(line)?.load;
        request(url, asked, sse)
    }

    const LINE: [&str; 4] = ["load", "http://me:hush@a/v1?key=hush", "--rate", "50/s"];

    #[test]
    fn a_body_makes_a_post_of_json_unless_something_else_is_said() {
        let plain = asked(&LINE).unwrap();
        assert_eq!((plain.method, plain.headers.len(), plain.bodies.len()), (Method::GET, 0, 0));
        let posted = asked(&[&LINE[..], &["--body", "{}", "--header", "Content-Type: text/plain"]].concat()).unwrap();
        assert_eq!((posted.method, posted.headers.len()), (Method::POST, 1));
        assert_eq!(posted.headers["content-type"], "text/plain");
        assert_eq!(asked(&[&LINE[..], &["--body", "x", "--method", "PUT"]].concat()).unwrap().method, Method::PUT);
        assert!(!format!("{:?}", posted.headers).contains("text/plain"));
    }

    #[test]
    fn bodies_are_lines_of_json_and_a_bad_one_is_named() {
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
    fn a_result_says_what_was_sent_what_came_of_it_and_what_that_is_worth() {
        let schedule = Schedule {
            rate: "50/s".parse().unwrap(),
            arrivals: Arrivals::Constant,
            warm_up: Span::ZERO,
            duration: Span::from_secs(2),
        };
        let mut tally = Tally::new();
        for (n, due) in schedule.instants().enumerate() {
            let ended = if n < 96 { Ok(due + Duration::from_millis(20)) } else { Err(Failure::Timeout) };
            let first_byte = Some(due + Duration::from_millis(10));
            tally.add(&Sample { due, sent: Some(due).filter(|_| n != 99), first_byte, ended });
        }
        let thresholds = ["p95<=800ms", "p99<=800ms", "errors<=5%"].map(|text| text.parse().unwrap());
        let url = without_credentials(&LINE[1].parse().unwrap());
        let report = Report::new(url, &schedule, &tally, verdict::judge(&tally, &schedule, &thresholds));
        expect![[r#"
            http://a/v1: 50/s for 2s (constant), after 0s of warm-up
            100 due, 99 sent, 1 not sent; 96 good (48/s), 3 errors (3.03 %): 3 timeout

                          p50    p90    p95    p99    p99.9  LONGEST
            latency       20 ms  20 ms  20 ms  never  never  20 ms
            first byte    10 ms  10 ms  10 ms  never  never  –
            sent late by  0 ms   0 ms   0 ms   0 ms   0 ms   –

            THRESHOLD   FOUND   VERDICT
            p95<=800ms  20 ms   pass
            p99<=800ms  never   missed   4 of 100 got no good answer, and stand behind all that did
            errors<=5%  3.03 %  pass

            missed
        "#]]
        .assert_eq(&render(&report));
        let json: serde_json::Value = serde_json::to_value(&report).unwrap();
        assert_eq!(json["schema"], "bellwether.dev/load/1");
        assert_eq!(json["counts"]["not-sent"], 1);
        assert_eq!(json["errors"]["timeout"], 3);
        assert_eq!(json["latency-ms"]["p99"], serde_json::Value::Null);
        assert_eq!(json["verdict"], "missed");
        assert_eq!(json["findings"][1]["threshold"], "p99<=800ms");
    }
}
