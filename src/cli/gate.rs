//! `bellwether gate`: behavioural gates, in CI, before the first traffic, or against a canary while it serves.

mod publish;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bellwether_core::ids::Workload;
use bellwether_gate::import::{From, Wanted, import};
use bellwether_gate::report::{Report, Subject};
use bellwether_gate::rule::Verdict;
use bellwether_tools::gate::load::Loaded;
use bellwether_tools::gate::run::{Orders, run as run_suite};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{Common, Output, emit, print, tell};
use crate::clock::{Clock as _, SystemClock};
use crate::exit;

/// What `gate` takes.
#[derive(Debug, Args)]
pub struct GateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Ask what the suite asks; an interrupted run goes on where it was
    Run(RunArgs),
    /// Check a suite and its datasets, and say what a run would ask
    Check {
        /// The suite
        suite: PathBuf,
    },
    /// Make a report of what another tool has found
    Import(ImportArgs),
    /// Send a report as a CDEvent, so that a policy's requirement is met
    Publish(PublishArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The suite
    suite: PathBuf,
    /// Ask this URL instead of the suite's target, as in http://canary:8000/v1
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// Ask this one the same, to compare
    #[arg(long, value_name = "URL")]
    stable: Option<String>,
    /// Where answers are kept until the run has ended (default: beside the suite, by what is run)
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    of: SubjectArgs,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    sent: Sent,
}

/// What is tested.
#[derive(Debug, Args)]
struct SubjectArgs {
    /// What is tested, as in support-agent@1.8.0 (default: the suite's model)
    #[arg(long, value_name = "MODEL@VERSION")]
    subject: Option<String>,
    /// Its digest, as in sha256:…: what a policy's requirement is matched by
    #[arg(long, value_parser = digest, value_name = "DIGEST")]
    digest: Option<String>,
}

/// Where reports go.
#[derive(Debug, Args)]
struct Files {
    /// The report as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The report as Markdown, appended, as to $GITHUB_STEP_SUMMARY
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The report as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The report as one HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Whether and to whom it is sent.
#[derive(Debug, Args)]
struct Sent {
    /// Send the result as a CDEvent; see `gate publish`
    #[arg(long, requires = "workload")]
    publish: bool,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    how: emit::Common,
}

/// What the result is about.
#[derive(Debug, Args)]
struct About {
    /// For which workload: cluster/namespace/Deployment/name
    #[arg(long)]
    workload: Option<Workload>,
    /// An image that was tested, if the subject's digest is not its own; may be repeated
    #[arg(long = "image", value_name = "REF")]
    images: Vec<String>,
    /// The environment that it was tested in
    #[arg(long, default_value = "ci")]
    environment: String,
    /// Where the whole report can be read
    #[arg(long, value_name = "URL")]
    link: Option<String>,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// Whose results
    #[arg(long, value_enum)]
    from: Tool,
    /// The results
    file: PathBuf,
    /// What the suite is called: what a policy requires
    #[arg(long, default_value = "behaviour")]
    name: String,
    /// So many must pass
    #[arg(long, default_value = "95%", value_name = "PERCENT")]
    min_pass: String,
    /// Take the plain share, without a bound; it promises nothing
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    of: SubjectArgs,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    sent: Sent,
}

#[derive(Debug, Args)]
struct PublishArgs {
    /// The report, as `--report` writes it
    report: PathBuf,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    how: emit::Common,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tool {
    Promptfoo,
    Inspect,
    Deepeval,
    Junit,
    Jsonl,
}

fn digest(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not sha256: and 64 hexadecimal digits"))
}

/// Does it.
///
/// # Errors
/// If there is no verdict at all: a file that can't be read, a suite that makes no sense, somebody who can't be asked.
pub async fn run(args: GateArgs, common: &Common) -> anyhow::Result<u8> {
    match args.what {
        What::Run(args) => run_it(args, common).await,
        What::Check { suite } => check(&suite, common),
        What::Import(args) => import_it(args, common).await,
        What::Publish(args) => publish_it(args, common).await,
    }
}

async fn run_it(args: RunArgs, common: &Common) -> anyhow::Result<u8> {
    let mut loaded = Loaded::read(&args.suite)?;
    let named = args.of.subject.as_deref().map(|text| text.split_once('@').map_or(text, |(model, _)| model));
    loaded.aim(args.target.as_deref(), args.stable.as_deref(), named);
    let subject = subject(&args.of, &loaded.suite.target.model);
    // Not only when all has been asked.
    if args.sent.publish && args.sent.about.images.is_empty() && subject.digest.is_empty() && subject.version.is_empty()
    {
        return Err(publish::AboutNothing.into());
    }
    let orders =
        Orders { subject, ledger: args.ledger, told: &|line| tell(&format!("{line}\n")), now: &|| SystemClock.now() };
    let report = run_suite(&loaded, &orders).await?;
    settle(&report, &args.files, &args.sent, common).await
}

async fn import_it(args: ImportArgs, common: &Common) -> anyhow::Result<u8> {
    let from = match args.from {
        Tool::Promptfoo => From::Promptfoo,
        Tool::Inspect => From::Inspect,
        Tool::Deepeval => From::Deepeval,
        Tool::Junit => From::Junit,
        Tool::Jsonl => From::Jsonl,
    };
    let wanted = Wanted {
        name: args.name,
        min_pass: args.min_pass,
        plain: args.plain,
        subject: subject(&args.of, ""),
        at: SystemClock.now(),
    };
    let report = import(from, &read(&args.file)?, &wanted).with_context(|| args.file.display().to_string())?;
    settle(&report, &args.files, &args.sent, common).await
}

fn subject(args: &SubjectArgs, model: &str) -> Subject {
    let named = args.subject.as_deref().unwrap_or(model);
    let (model, version) = named.split_once('@').unwrap_or((named, ""));
    Subject { model: model.to_owned(), version: version.to_owned(), digest: args.digest.clone().unwrap_or_default() }
}

/// Writes the report wherever it is wanted, sends it, prints it, and says with the exit code what it comes to.
async fn settle(report: &Report, files: &Files, sent: &Sent, common: &Common) -> anyhow::Result<u8> {
    let json = report.to_json().context("a report as JSON")?;
    for (path, text) in
        [(&files.report, json.clone()), (&files.junit, report.to_junit()), (&files.html, report.to_html())]
    {
        if let Some(path) = path {
            std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
        }
    }
    if let Some(path) = &files.markdown {
        append(path, &report.to_markdown()).with_context(|| format!("can't write {}", path.display()))?;
    }
    match common.output {
        Output::Json => print(&json),
        Output::Table => print(&report.to_text()),
    }
    if sent.publish {
        send(report, &sent.about, &sent.how, common).await?;
    }
    Ok(code(report.verdict))
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => exit::OK,
        Verdict::Fail => exit::FAILED,
        Verdict::Inconclusive | Verdict::Skipped => exit::INCONCLUSIVE,
        Verdict::Error => exit::ERROR,
    }
}

async fn publish_it(args: PublishArgs, common: &Common) -> anyhow::Result<u8> {
    let report = Report::parse(&read(&args.report)?).with_context(|| args.report.display().to_string())?;
    send(&report, &args.about, &args.how, common).await?;
    Ok(exit::OK)
}

async fn send(report: &Report, about: &About, how: &emit::Common, common: &Common) -> anyhow::Result<()> {
    let Some(workload) = &about.workload else { bail!("a result is for a workload; name it with --workload") };
    let to =
        publish::To { workload, images: &about.images, environment: &about.environment, link: about.link.as_deref() };
    let mut event = publish::event(report, &how.source, &to, SystemClock.now())?;
    if let Some(id) = &how.id {
        // Both envelopes have it.
        event.data["context"]["id"] = json!(id);
        event.id.clone_from(id);
    }
    event.expirytime = how.expires;
    if how.print {
        print(&format!("{}\n", serde_json::to_string_pretty(&event.to_structured())?));
        return Ok(());
    }
    emit::send(how, common, &event).await
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

fn check(path: &Path, common: &Common) -> anyhow::Result<u8> {
    let loaded = Loaded::read(path)?;
    let requests = loaded.requests();
    let suite = &loaded.suite;
    let gates = suite.gates.iter().zip(&loaded.datasets);
    if common.output == Output::Json {
        let gates: Vec<_> = gates
            .map(|(gate, dataset)| {
                json!({ "name": gate.name, "cases": dataset.cases.len(), "repeats": gate.repeats, "min-cases": gate.min_cases,
                        "sha256": dataset.sha256 })
            })
            .collect();
        let all = json!({ "suite": suite.name, "sha256": suite.sha256, "requests": requests, "gates": gates });
        print(&format!("{}\n", serde_json::to_string_pretty(&all)?));
        return Ok(exit::OK);
    }
    let mut text = String::new();
    for (gate, dataset) in gates {
        let few = if dataset.cases.len() < gate.min_cases {
            format!("; it asks for {} cases, so it will not pass", gate.min_cases)
        } else {
            String::new()
        };
        let (cases, repeats) = (dataset.cases.len(), gate.repeats);
        text += &format!("{}: {cases} cases, each {repeats} times, {}{few}\n", gate.name, &dataset.sha256[..12]);
    }
    text += &format!(
        "{}: {requests} requests to the target and the stable; the budget is {}\n",
        suite.name, suite.budget.requests
    );
    print(&text);
    Ok(exit::OK)
}
