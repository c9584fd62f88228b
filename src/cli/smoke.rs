//! `bellwether smoke`: runs a smoke test for a pipeline and returns its result as the exit code.

use std::path::PathBuf;

use anyhow::Context;
use bellwether_tools::secret;
use bellwether_tools::smoke::{CheckedRequest, ask_all, junit, read};
use clap::Args;
use reqwest::Url;
use serde::Serialize;

use super::{Common, Output, print};
use crate::exit;

/// The version of the JSON. Fields may be added; a field that changes its meaning makes a new version.
const SCHEMA: &str = "bellwether.dev/smoke/1";

/// The arguments of `bellwether smoke`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 every answer is as expected, 1 error, 2 usage, 3 an answer is not as expected.")]
pub struct SmokeArgs {
    /// The TOML file with the requests and the expected answers.
    file: PathBuf,
    /// The base URL of the requests (default: the file's `base`).
    #[arg(long, value_name = "URL")]
    base: Option<Url>,
    /// The file that holds a bearer token, for the requests of the file that name no token of their own.
    #[arg(long, value_name = "FILE")]
    bearer_token_file: Option<PathBuf>,
    /// Also write the result as JUnit XML into this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also write the result as JSON into this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct SmokeReport<'a> {
    schema: &'static str,
    passed: bool,
    requests: &'a [CheckedRequest],
}

/// Runs the smoke test, prints one line per request and returns the exit code.
///
/// # Errors
/// If the file can't be read or is invalid, or a result can't be written.
pub async fn run(args: SmokeArgs, common: &Common) -> anyhow::Result<u8> {
    let mut plan = read(&args.file, args.base.as_ref())?;
    if let Some(path) = &args.bearer_token_file {
        plan.bearer(&secret::read(path)?)?;
    }
    let as_lines = common.output == Output::Table;
    let results = ask_all(&plan, |checked| {
        if as_lines {
            let verdict = if checked.passed { "pass" } else { "FAIL" };
            print(&format!("{verdict}  {}: {}\n", checked.name, checked.sentence));
        }
    })
    .await?;
    let passed = results.iter().all(|checked| checked.passed);
    let report = SmokeReport { schema: SCHEMA, passed, requests: &results };
    let json = serde_json::to_string_pretty(&report).context("a result as JSON")? + "\n";
    let suite = args.file.file_name().map_or_else(|| "smoke".into(), |name| name.to_string_lossy());
    let files = [(&args.report, json.clone()), (&args.junit, junit::report(&suite, &results))];
    for (path, text) in files.into_iter().filter_map(|(path, text)| path.as_ref().map(|path| (path, text))) {
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    }
    if !as_lines {
        print(&json);
    }
    Ok(if passed { exit::OK } else { exit::FAILED })
}
