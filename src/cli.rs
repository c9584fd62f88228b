//! The command line: what can be asked for, and nothing of how it is done. Data goes to standard output and everything
//! else to standard error, so that a pipe gets data alone.

pub mod api;
pub mod backtest;
pub mod calibrate;
pub mod check;
pub mod config;
pub mod demo;
pub mod emit;
pub mod gate;
pub mod get;
pub mod load;
pub mod model;
pub mod past;
pub mod plan;
pub mod replay;
pub mod run;
pub mod smoke;
pub mod status;
pub mod table;
pub mod why;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Sources;

/// Lets a new version lead a little traffic, and decides whether the rest follows.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 promoted or done, 1 error, 2 usage, 3 rolled back or failed, 4 held past the timeout, given up \
                  or inconclusive."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// A configuration file, or a directory of them; may be repeated, later ones win.
    #[arg(long, global = true, env = "BELLWETHER_CONFIG", value_name = "FILE", value_delimiter = ',')]
    pub config: Vec<PathBuf>,
    /// Set one value, as in kafka.group=canary; may be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where the daemon answers.
    #[arg(long, global = true, env = "BELLWETHER_API", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub api: String,
    /// How data is printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the daemon.
    Run(run::RunArgs),
    /// Watch six rollouts with nothing installed.
    Demo(demo::DemoArgs),
    /// Send an event.
    Emit(Box<emit::EmitArgs>),
    /// List rollouts.
    Get(get::GetArgs),
    /// Say why a rollout stands as it does.
    Why(why::WhyArgs),
    /// Ask a model or an agent what a suite asks, and say whether it may have traffic.
    Gate(Box<gate::GateArgs>),
    /// Say how a rollout stands, or wait until it has ended.
    Status(status::StatusArgs),
    /// Check the configuration, and with --online everything that it names.
    Check(check::CheckArgs),
    /// Say what a policy can find at present, and how soon.
    Plan(plan::PlanArgs),
    /// Count the false alarms that a policy would have had in a workload's past.
    Calibrate(calibrate::CalibrateArgs),
    /// Say what a policy, and the rules of others, would have decided on what was counted.
    Backtest(backtest::BacktestArgs),
    /// Register models, and say which version is current where.
    Model(Box<model::ModelArgs>),
    /// Send requests at a set rate, and say how they were answered.
    Load(Box<load::LoadArgs>),
    /// Send a few named requests, and say whether each was answered as it should be.
    Smoke(smoke::SmokeArgs),
    /// Show the configuration.
    Config(config::ConfigArgs),
    /// Decide recorded inputs again.
    Replay(replay::ReplayArgs),
}

impl Common {
    /// The layers of the configuration. Without `--config`, `/etc/bellwether/bellwether.toml` if it is there.
    pub fn sources(&self) -> Sources {
        let usual = PathBuf::from("/etc/bellwether/bellwether.toml");
        let files = if self.config.is_empty() && usual.exists() { vec![usual] } else { self.config.clone() };
        Sources::of_process(files, self.set.clone())
    }
}

/// Does what was asked for, and returns the exit code.
///
/// # Errors
/// If it could not be done.
pub async fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    let Cli { command, common } = cli;
    match command {
        CliCommand::Run(args) => run::run(args, &common).await,
        CliCommand::Demo(args) => demo::run(args, &common).await,
        CliCommand::Emit(args) => emit::run(*args, &common).await,
        CliCommand::Gate(args) => gate::run(*args, &common).await,
        CliCommand::Get(args) => get::run(&args, &common).await,
        CliCommand::Why(args) => why::run(&args, &common).await,
        CliCommand::Status(args) => status::run(&args, &common).await,
        CliCommand::Check(args) => check::run(&args, &common).await,
        CliCommand::Plan(args) => plan::run(&args, &common).await,
        CliCommand::Calibrate(args) => calibrate::run(&args, &common).await,
        CliCommand::Backtest(args) => backtest::run(&args, &common).await,
        CliCommand::Model(args) => model::run(*args, &common).await,
        CliCommand::Load(args) => load::run(*args, &common).await,
        CliCommand::Smoke(args) => smoke::run(args, &common).await,
        CliCommand::Config(args) => config::run(&args, &common),
        CliCommand::Replay(args) => replay::run(args, &common).await,
    }
}

/// Prints data. A reader that has gone away, as in `| head`, is no error.
pub fn print(text: &str) {
    // `print!` would panic on a closed pipe.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints what went wrong, with every cause.
pub fn complain(error: &anyhow::Error) {
    tell(&format!("error: {error:#}\n"));
}

/// Prints something that is not data.
pub fn tell(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
