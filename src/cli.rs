//! The command line: the arguments, the calls that carry them out, and the output. Data goes to standard output and
//! everything else to standard error, so that a pipe gets data alone.

pub mod api;
pub mod audit;
pub mod backtest;
pub mod calibrate;
pub mod check;
pub mod completion;
pub mod config;
pub mod demo;
pub mod digests;
pub mod doctor;
pub mod emit;
pub mod gate;
pub mod get;
pub mod import;
pub mod init;
pub mod journal;
pub mod load;
pub mod man;
pub mod model;
pub mod past;
pub mod plan;
pub mod proposal;
pub mod release;
pub mod replay;
pub mod run;
pub mod sinks;
pub mod smoke;
pub mod status;
pub mod table;
pub mod top;
pub mod why;
pub mod workload;

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::builder::{StyledStr, Styles};
use clap::{Args, Command, Parser, Subcommand, ValueEnum};

use crate::config::Sources;
use crate::exit;

/// Whether data for standard output could not be written, as on a full disk.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// Roll out new versions step by step, and judge them by their metrics.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    help_template = help_template(),
    after_help = "Exit codes: 0 promoted or done, 1 error, 2 usage, 3 rolled back or failed,\n4 held past the timeout, given \
                  up, aborted or inconclusive."
)]
pub struct Cli {
    /// The command with its own arguments.
    #[command(subcommand)]
    pub command: CliCommand,
    /// The arguments of every command.
    #[command(flatten)]
    pub common: Common,
}

/// The heading of [`Common`]'s arguments in the help of each command.
const GLOBAL: &str = "Global options";

/// The arguments of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Configuration file, or a directory of them; may be repeated, later ones win.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        env = "BELLWETHER_CONFIG",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub config: Vec<PathBuf>,
    /// Set one value of the configuration, as in kafka.group=canary; may be repeated.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// URL of the daemon's API.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        env = "BELLWETHER_API",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub api: String,
    /// File with the bearer token for `--api`, where http.read = "token".
    #[arg(long, global = true, help_heading = GLOBAL, env = "BELLWETHER_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// File with the CA certificates (PEM) that are trusted for `--api` instead of the system's.
    #[arg(long, global = true, help_heading = GLOBAL, env = "BELLWETHER_API_CA_FILE", value_name = "FILE")]
    pub api_ca_file: Option<PathBuf>,
    /// Format of the data on standard output.
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// The format of the data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text and tables for people.
    Table,
    /// JSON for programs.
    Json,
}

/// The commands, in the order of the groups of `--help` ([`GROUPS`]).
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Send an event: a request, a verb or the result of a suite.
    Emit(Box<emit::EmitArgs>),
    /// List the rollouts.
    Get(get::GetArgs),
    /// Show the rollouts live in the terminal.
    Top(top::TopArgs),
    /// Print a rollout's state, or wait for its end.
    Status(status::StatusArgs),
    /// Explain a rollout's state by its checks and decisions.
    Why(why::WhyArgs),
    /// List the acts of people and tools, with their proofs and results.
    Audit(audit::AuditArgs),
    /// Give a workload's traffic back to its stable, without a daemon.
    Release(release::ReleaseArgs),
    /// Propose a configuration for a workload of the cluster.
    Init(init::InitArgs),
    /// Convert objects of Argo Rollouts, Flagger or Kayenta.
    Import(import::ImportArgs),
    /// Check the configuration, and with --online all that it names.
    Check(check::CheckArgs),
    /// Examine everything, and print the fix of each finding.
    Doctor(doctor::DoctorArgs),
    /// Predict how soon a policy finds a bad version.
    Plan(plan::PlanArgs),
    /// Count a policy's false alarms on a workload's past.
    Calibrate(calibrate::CalibrateArgs),
    /// Compare a policy and the rules of other tools on recorded counts.
    Backtest(backtest::BacktestArgs),
    /// Decide recorded inputs again, and compare the decisions.
    Replay(replay::ReplayArgs),
    /// Register models, and set the version that an environment uses.
    Model(Box<model::ModelArgs>),
    /// Test a model or an agent by a suite of cases.
    Gate(Box<gate::GateArgs>),
    /// Send requests at a fixed rate, and measure the responses.
    Load(Box<load::LoadArgs>),
    /// Send a few named requests, and check each response.
    Smoke(smoke::SmokeArgs),
    /// Run the daemon.
    Run(run::RunArgs),
    /// Repair the journal: take over objects, forget a workload.
    Journal(journal::JournalArgs),
    /// Print the effective configuration, or the reference of all keys.
    Config(config::ConfigArgs),
    /// List the notification sinks, and send each a test.
    Sinks(sinks::SinksArgs),
    /// Run six simulated rollouts with nothing installed.
    Demo(demo::DemoArgs),
    /// Print the script by which a shell completes commands.
    Completion(completion::CompletionArgs),
    /// Write the manual pages.
    Man(man::ManArgs),
}

/// The groups of commands in `bellwether --help`: a heading, and the first command of the group.
const GROUPS: [(&str, &str); 4] =
    [("Rollouts", "emit"), ("Policies", "init"), ("Models and tests", "model"), ("Daemon", "run")];

/// Returns the template of `bellwether --help`. It lists the commands in [`GROUPS`], as clap has no groups of commands.
fn help_template() -> StyledStr {
    let styles = Styles::styled();
    let (heading, name) = (styles.get_header(), styles.get_literal());
    let mut text = String::from("{about}\n\n{usage-heading} {usage}\n");
    for command in CliCommand::augment_subcommands(Command::new("bellwether")).get_subcommands() {
        if let Some((group, _)) = GROUPS.iter().find(|(_, first)| *first == command.get_name()) {
            text += &format!("\n{heading}{group}:{heading:#}\n");
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        text += &format!("  {name}{:<10}{name:#} {about}\n", command.get_name());
    }
    text += &format!("\n{heading}Options:{heading:#}\n{{options}}{{after-help}}");
    StyledStr::from(text)
}

impl Common {
    /// Returns the layers of the configuration. Without `--config` the file is `/etc/bellwether/bellwether.toml`, if it
    /// exists.
    pub fn sources(&self) -> Sources {
        let default = PathBuf::from("/etc/bellwether/bellwether.toml");
        let files = if self.config.is_empty() && default.exists() { vec![default] } else { self.config.clone() };
        Sources::of_process(files, self.set.clone())
    }
}

/// Runs the command, and returns the exit code.
///
/// # Errors
/// The command failed; the error names the thing and the remedy.
pub async fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    let Cli { command, common } = cli;
    match command {
        CliCommand::Emit(args) => emit::run(*args, &common).await,
        CliCommand::Get(args) => get::run(&args, &common).await,
        CliCommand::Top(args) => top::run(&args, &common).await,
        CliCommand::Status(args) => status::run(&args, &common).await,
        CliCommand::Why(args) => why::run(&args, &common).await,
        CliCommand::Audit(args) => audit::run(&args, &common).await,
        CliCommand::Release(args) => release::run(&args, &common).await,
        CliCommand::Init(args) => init::run(&args, &common).await,
        CliCommand::Import(args) => import::run(&args, &common),
        CliCommand::Check(args) => check::run(&args, &common).await,
        CliCommand::Doctor(args) => doctor::run(&args, &common).await,
        CliCommand::Plan(args) => plan::run(&args, &common).await,
        CliCommand::Calibrate(args) => calibrate::run(&args, &common).await,
        CliCommand::Backtest(args) => backtest::run(&args, &common).await,
        CliCommand::Replay(args) => replay::run(args, &common).await,
        CliCommand::Model(args) => model::run(*args, &common).await,
        CliCommand::Gate(args) => gate::run(*args, &common).await,
        CliCommand::Load(args) => load::run(*args, &common).await,
        CliCommand::Smoke(args) => smoke::run(args, &common).await,
        CliCommand::Run(args) => run::run(args, &common).await,
        CliCommand::Journal(args) => journal::run(&args, &common).await,
        CliCommand::Config(args) => config::run(&args, &common),
        CliCommand::Sinks(args) => sinks::run(&args, &common).await,
        CliCommand::Demo(args) => demo::run(args, &common).await,
        CliCommand::Completion(args) => Ok(completion::run(&args)),
        CliCommand::Man(args) => man::run(&args),
    }
}

/// Prints data on standard output. A reader that closed the pipe, as in `| head`, is no error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        // The reader of a closed pipe has all that it wants; `print!` would panic.
        && error.kind() != std::io::ErrorKind::BrokenPipe
        && !OUTPUT_LOST.swap(true, Ordering::Relaxed)
    {
        tell(&format!("error: standard output can't be written: {error}\n"));
    }
}

/// Returns the exit code of a command that ended with `code`: an error if output was lost.
pub fn code_after_output(code: u8) -> u8 {
    if OUTPUT_LOST.load(Ordering::Relaxed) { exit::ERROR } else { code }
}

/// Prints an error with every cause on standard error.
pub fn complain(error: &anyhow::Error) {
    tell(&format!("error: {}\n", with_causes(error)));
}

/// Returns an error's text with its causes, without those that the text before them contains.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.is_empty() => cause,
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

/// Prints text that is not data on standard error.
pub fn tell(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
pub(crate) mod tests;
