//! `bellwether smoke`: a few named requests, for pipelines: the exit code says whether each was answered as it should be.

use std::path::PathBuf;

use anyhow::Context;
use bellwether_tools::smoke::{Checked, ask_all, junit, read};
use clap::Args;
use reqwest::Url;
use serde::Serialize;

use super::{Common, Output, print};
use crate::exit;

/// What the JSON is; a new number if a field changes its meaning.
const SCHEMA: &str = "bellwether.dev/smoke/1";

/// What `smoke` takes.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 all is as expected, 1 error, 2 usage, 3 something is not.")]
pub struct SmokeArgs {
    /// The requests and what is expected of them (TOML).
    file: PathBuf,
    /// Where they are sent; without it to the file's own base.
    #[arg(long, value_name = "URL")]
    base: Option<Url>,
    /// JUnit's XML into a file, whatever is printed.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The result as JSON into a file, whatever is printed.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'static str,
    passed: bool,
    requests: &'a [Checked],
}

/// Asks, and says one sentence about each request.
///
/// # Errors
/// The file makes no sense, or a report can't be written.
pub async fn run(args: SmokeArgs, common: &Common) -> anyhow::Result<u8> {
    let plan = read(&args.file, args.base.as_ref())?;
    let people = common.output == Output::Table;
    let all = ask_all(&plan, |checked| {
        if people {
            let verdict = if checked.passed { "pass" } else { "FAIL" };
            print(&format!("{verdict}  {}: {}\n", checked.name, checked.sentence));
        }
    })
    .await?;
    let passed = all.iter().all(|checked| checked.passed);
    let report = Report { schema: SCHEMA, passed, requests: &all };
    let json = serde_json::to_string_pretty(&report).context("a result as JSON")? + "\n";
    let suite = args.file.file_name().map_or_else(|| "smoke".into(), |name| name.to_string_lossy());
    let files = [(&args.report, json.clone()), (&args.junit, junit::report(&suite, &all))];
    for (path, text) in files.into_iter().filter_map(|(path, text)| path.as_ref().map(|path| (path, text))) {
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    }
    if !people {
        print(&json);
    }
    Ok(if passed { exit::OK } else { exit::FAILED })
}
