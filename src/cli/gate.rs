//! `bellwether gate`: runs behavioural gates in CI, before the first traffic or against a serving canary, imports the
//! results of other tools and publishes reports.

mod attest;
mod init;
mod keep;
mod plan;
mod publish;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bellwether_gate::import::{ImportFormat as From, ImportSettings as Wanted, import};
use bellwether_gate::report::{GateReport as Report, GateSubject as Subject};
use bellwether_gate::rule::Verdict;
use bellwether_tools::gate::load::LoadedSuite;
use bellwether_tools::gate::probe::probe;
use bellwether_tools::gate::run::{RunOptions, run as run_suite};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::digests::{digest, of_file};
use super::table::counted;
use super::workload::WorkloadArg;
use super::{Common, Output, emit, print, tell};
use crate::clock::{Clock as _, SystemClock};
use crate::exit;

/// The arguments of `bellwether gate`.
#[derive(Debug, Args)]
pub struct GateArgs {
    #[command(subcommand)]
    command: GateCommand,
}

#[derive(Debug, Subcommand)]
enum GateCommand {
    /// Write a first suite with cases for an endpoint
    Init(init::GateInitArgs),
    /// Compute how many cases each limit needs, and the chances to pass
    Plan(plan::GatePlanArgs),
    /// Run a suite; an interrupted run continues where it stopped
    Run(RunArgs),
    /// Check a suite and its datasets, and count the requests of a run
    Check(CheckArgs),
    /// Show the recorded answers of a case
    Show(show::GateShowArgs),
    /// Make a report of the results of another tool
    Import(ImportArgs),
    /// Send a report as a CDEvent, so that a policy's requirement is met
    Publish(PublishArgs),
    /// Sign a report as an in-toto attestation
    Attest(attest::AttestArgs),
    /// Verify a signed report, and exit with the code of its verdict
    Verify(attest::VerifyArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The suite's TOML file
    suite: PathBuf,
    /// The URL of the target, instead of the suite's, as in http://canary:8000/v1
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// The URL of the stable version to compare with, instead of the suite's
    #[arg(long, value_name = "URL")]
    stable: Option<String>,
    /// The file that keeps the answers, so that a run can continue (default: a file of this run beside the suite)
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Keep the answers with the version in the model registry and continue from those that are there, so that the run can't
    /// be repeated until it passes; the target's address may change
    #[arg(long, requires = "subject")]
    keep: bool,
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    files: ReportFiles,
    #[command(flatten)]
    publishing: PublishOptions,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The suite's TOML file
    suite: PathBuf,
    /// Send the first case of each gate as well, and say what an endpoint refuses and what to set in the suite
    #[arg(long)]
    online: bool,
    /// The URL of the target, instead of the suite's
    #[arg(long, value_name = "URL", requires = "online")]
    target: Option<String>,
    /// The URL of the stable version, instead of the suite's
    #[arg(long, value_name = "URL", requires = "online")]
    stable: Option<String>,
}

/// The arguments that identify the tested version.
#[derive(Debug, Args)]
struct SubjectArgs {
    /// The tested version, as in support-agent@1.8.0 (default: the suite's model)
    #[arg(long, value_name = "MODEL@VERSION")]
    subject: Option<String>,
    /// The digest of the tested model's files, as in sha256:…; the model registry attaches the report by it
    #[arg(long, value_parser = digest, value_name = "DIGEST")]
    digest: Option<String>,
    /// A tested image, by digest if possible; may be repeated. A policy's requirement is matched by image, model, prompt and
    /// tools together
    #[arg(long = "image", value_name = "REF")]
    images: Vec<String>,
    /// The tested prompt, if it is not part of the images: its digest, or its file
    #[arg(long, value_parser = of_file, value_name = "DIGEST|FILE")]
    prompt: Option<String>,
    /// The definitions of the tested tools, if they are not part of the images: their digest, or their file
    #[arg(long, value_parser = of_file, value_name = "DIGEST|FILE")]
    tools: Option<String>,
}

/// The files that the report is written to.
#[derive(Debug, Args)]
struct ReportFiles {
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Append the report as Markdown to this file, such as $GITHUB_STEP_SUMMARY
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the report as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the report as one HTML page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The arguments that publish the result right after the run.
#[derive(Debug, Args)]
struct PublishOptions {
    /// Send the result as a CDEvent; see `gate publish`
    #[arg(long, requires = "workload")]
    publish: bool,
    #[command(flatten)]
    about: ResultArgs,
    #[command(flatten)]
    transport: emit::Common,
}

/// The arguments that relate the result to a workload.
#[derive(Debug, Args)]
struct ResultArgs {
    /// The workload that the result is for: namespace/name, or with another cluster cluster/namespace/Deployment/name
    #[arg(long)]
    workload: Option<WorkloadArg>,
    /// The environment of the test
    #[arg(long, default_value = "ci")]
    environment: String,
    /// The address of the full report
    #[arg(long, value_name = "URL")]
    link: Option<String>,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The tool that wrote the results
    #[arg(long, value_enum)]
    from: Tool,
    /// The file with the results
    file: PathBuf,
    /// The name of the suite, by which a policy requires it
    #[arg(long, default_value = "behaviour")]
    name: String,
    /// The share of cases that must pass
    #[arg(long, default_value = "95%", value_name = "PERCENT")]
    min_pass: String,
    /// Compare the plain share without a confidence bound; the verdict has no error rate then
    #[arg(long)]
    plain: bool,
    /// The provider (promptfoo) or the metric (lm-eval, as in exact_match,strict-match) to read, if there are several
    #[arg(long, value_name = "NAME")]
    select: Option<String>,
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    files: ReportFiles,
    #[command(flatten)]
    publishing: PublishOptions,
}

#[derive(Debug, Args)]
struct PublishArgs {
    /// The JSON file that `--report` wrote
    report: PathBuf,
    /// A tested image, if the report names none; may be repeated
    #[arg(long = "image", value_name = "REF")]
    images: Vec<String>,
    #[command(flatten)]
    about: ResultArgs,
    #[command(flatten)]
    transport: emit::Common,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tool {
    Promptfoo,
    Inspect,
    Deepeval,
    Junit,
    LmEval,
    Garak,
    Jsonl,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// If there is no verdict: a file can't be read or written, a suite is invalid, or an endpoint or event receiver can't
/// be used.
pub async fn run(args: GateArgs, common: &Common) -> anyhow::Result<u8> {
    match args.command {
        GateCommand::Init(args) => init::run(args, common).await,
        GateCommand::Plan(args) => plan::run(&args, common),
        GateCommand::Show(args) => show::run(&args, common),
        GateCommand::Run(args) => run_and_report(args, common).await,
        GateCommand::Check(args) => check(&args, common).await,
        GateCommand::Import(args) => import_results(args, common).await,
        GateCommand::Publish(args) => publish_report(args, common).await,
        GateCommand::Attest(args) => attest::write(&args),
        GateCommand::Verify(args) => {
            let report = attest::verify(&args, SystemClock.now())?;
            print(&if common.output == Output::Json { report.to_json()? } else { report.to_text() });
            Ok(exit_code(report.verdict))
        }
    }
}

async fn run_and_report(args: RunArgs, common: &Common) -> anyhow::Result<u8> {
    let mut loaded = LoadedSuite::read(&args.suite)?;
    let named = args.subject.subject.as_deref().map(|text| text.split_once('@').map_or(text, |(model, _)| model));
    loaded.override_endpoints(args.target.as_deref(), args.stable.as_deref(), named);
    let subject = subject(&args.subject, &loaded.suite.target.model);
    // Refused before the run and not after it.
    if args.publishing.publish && subject.images.is_empty() && subject.digest.is_empty() && subject.version.is_empty() {
        return Err(publish::Unpublishable::Unidentified.into());
    }
    let mut options = RunOptions {
        subject,
        ledger: args.ledger,
        progress: &|line| tell(&format!("{line}\n")),
        now: &|| SystemClock.now(),
    };
    let report = match args.keep {
        true => keep::run_kept(&mut loaded, &mut options, common).await?,
        false => run_suite(&loaded, &options).await?,
    };
    if let Some(case) = report.gates.iter().flat_map(|gate| &gate.claims).find_map(|claim| claim.failing.first()) {
        tell(&format!("the answers to a case: bellwether gate show {} {case}\n", args.suite.display()));
    }
    deliver(&report, &args.files, &args.publishing, common).await
}

async fn import_results(args: ImportArgs, common: &Common) -> anyhow::Result<u8> {
    let from = match args.from {
        Tool::Promptfoo => From::Promptfoo,
        Tool::Inspect => From::Inspect,
        Tool::Deepeval => From::Deepeval,
        Tool::Junit => From::Junit,
        Tool::LmEval => From::LmEval,
        Tool::Garak => From::Garak,
        Tool::Jsonl => From::Jsonl,
    };
    let wanted = Wanted {
        name: args.name,
        min_pass: args.min_pass,
        plain: args.plain,
        select: args.select,
        subject: subject(&args.subject, ""),
        at: SystemClock.now(),
    };
    let bytes = std::fs::read(&args.file).with_context(|| format!("can't read {}", args.file.display()))?;
    let report = import(from, &bytes, &wanted).with_context(|| args.file.display().to_string())?;
    deliver(&report, &args.files, &args.publishing, common).await
}

fn subject(args: &SubjectArgs, model: &str) -> Subject {
    let named = args.subject.as_deref().unwrap_or(model);
    let (model, version) = named.split_once('@').unwrap_or((named, ""));
    Subject {
        model: model.to_owned(),
        version: version.to_owned(),
        digest: args.digest.clone().unwrap_or_default(),
        images: args.images.clone(),
        prompt: args.prompt.clone().unwrap_or_default(),
        tools: args.tools.clone().unwrap_or_default(),
    }
}

/// Writes the report to its files, prints it, publishes it if requested and returns the exit code of its verdict.
async fn deliver(
    report: &Report,
    files: &ReportFiles,
    publishing: &PublishOptions,
    common: &Common,
) -> anyhow::Result<u8> {
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
    if publishing.publish {
        send(report, &[], &publishing.about, &publishing.transport, common).await?;
    }
    Ok(exit_code(report.verdict))
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        // A skipped suite has no gate that enforces; the report has a warning.
        Verdict::Pass | Verdict::Skipped => exit::OK,
        Verdict::Fail => exit::FAILED,
        Verdict::Inconclusive => exit::INCONCLUSIVE,
        Verdict::Error => exit::ERROR,
    }
}

async fn publish_report(args: PublishArgs, common: &Common) -> anyhow::Result<u8> {
    let report = attest::read_report(&args.report)?;
    send(&report, &args.images, &args.about, &args.transport, common).await?;
    Ok(exit::OK)
}

async fn send(
    report: &Report,
    images: &[String],
    about: &ResultArgs,
    transport: &emit::Common,
    common: &Common,
) -> anyhow::Result<()> {
    let Some(workload) = &about.workload else {
        bail!("a result is published for a workload; name it with --workload")
    };
    let workload = &workload.resolve(common)?;
    let about =
        publish::PublishTarget { workload, images, environment: &about.environment, link: about.link.as_deref() };
    let mut event = publish::event(report, &transport.source, &about, SystemClock.now())?;
    if let Some(id) = &transport.id {
        // The CloudEvents and the CDEvents envelope both hold the id.
        event.data["context"]["id"] = json!(id);
        event.id.clone_from(id);
    }
    event.expirytime = transport.expires;
    if transport.print {
        print(&format!("{}\n", serde_json::to_string_pretty(&event.to_structured())?));
        return Ok(());
    }
    emit::send(transport, common, &event).await
}

async fn check(args: &CheckArgs, common: &Common) -> anyhow::Result<u8> {
    let mut loaded = LoadedSuite::read(&args.suite)?;
    loaded.override_endpoints(args.target.as_deref(), args.stable.as_deref(), None);
    show_suite(&loaded, common)?;
    if !args.online {
        return Ok(exit::OK);
    }
    let probes = probe(&loaded, SystemClock.now()).await?;
    for probe in &probes {
        let found = probe.problem.as_deref().unwrap_or("its first case was answered and scored");
        tell(&format!("{}: {found}\n", probe.gate));
    }
    Ok(if probes.iter().any(|probe| probe.problem.is_some()) { exit::ERROR } else { exit::OK })
}

/// Prints the gates of a suite with the numbers of their cases and requests.
fn show_suite(loaded: &LoadedSuite, common: &Common) -> anyhow::Result<()> {
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
        let all = json!({ "suite": suite.name, "sha256": suite.sha256, "pin": loaded.pin(), "requests": requests, "gates": gates });
        print(&format!("{}\n", serde_json::to_string_pretty(&all)?));
        return Ok(());
    }
    let mut text = String::new();
    for (gate, dataset) in gates {
        let few = if dataset.cases.len() < gate.min_cases {
            format!("; it asks for {} cases, so it will not pass", gate.min_cases)
        } else {
            String::new()
        };
        let cases = counted(dataset.cases.len(), "case", "cases");
        let times = if gate.repeats == 1 { "once".to_owned() } else { format!("{} times", gate.repeats) };
        text += &format!("{}: {cases}, each {times}, {}{few}\n", gate.name, &dataset.sha256[..12]);
    }
    text += &format!(
        "{}: {requests} requests to the target and the stable; the budget is {}\npin: {}\n",
        suite.name,
        suite.budget.requests,
        loaded.pin()
    );
    print(&text);
    Ok(())
}
