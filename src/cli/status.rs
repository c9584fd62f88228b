//! `bellwether status`: how a rollout stands, for pipelines: with `--wait` the exit code is the outcome.

use std::time::Duration;

use anyhow::{Context, bail};
use bellwether_core::engine::view::RolloutView;
use bellwether_core::time::Span;
use clap::{Args, ValueEnum};

use super::api::Api;
use super::{Common, Output, get, print, tell};
use crate::clock::Stopwatch;
use crate::exit;

/// Often enough for a person, seldom enough for the daemon.
const POLL: Duration = Duration::from_secs(2);

/// What `status` takes.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The workload (`name` or `namespace/name`), or a rollout's id.
    workload: String,
    /// Wait until the rollout has ended.
    #[arg(long)]
    wait: bool,
    /// End before the guard does, as soon as the new version is promoted.
    #[arg(long, value_enum, requires = "wait")]
    until: Option<Until>,
    /// Wait no longer than this.
    #[arg(long, default_value = "1h", requires = "wait")]
    timeout: Span,
}

/// Where waiting ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// When the new version serves everybody.
    Promoted,
}

/// Says how it stands.
///
/// # Errors
/// If the daemon does not answer, or knows no such rollout.
pub async fn run(args: &StatusArgs, common: &Common) -> anyhow::Result<u8> {
    let api = Api::new(&common.api)?;
    let since = Stopwatch::start();
    let mut said = String::new();
    loop {
        let last = since.elapsed() >= args.timeout.to_std() || !args.wait;
        match api.find(&args.workload).await {
            Ok(Some(rollout)) => {
                let code = code(&rollout, args.until == Some(Until::Promoted));
                if code.is_some() || last {
                    show(&rollout, common.output)?;
                    return Ok(code.unwrap_or(if args.wait { exit::HELD } else { exit::OK }));
                }
                let now = format!("{}: {}\n", get::state(&rollout), rollout.reason);
                if now != said {
                    tell(&now);
                    said = now;
                }
            }
            // The event that was just sent may not be there yet, and a daemon may restart meanwhile.
            Ok(None) if last => bail!("there is no rollout of {:?}; `bellwether get` lists them", args.workload),
            Err(error) if last => return Err(error),
            Ok(None) | Err(_) => {}
        }
        tokio::time::sleep(POLL.min(args.timeout.to_std())).await;
    }
}

/// The exit code, if the rollout has ended (or is promoted, where that is enough).
fn code(rollout: &RolloutView, promoted_is_enough: bool) -> Option<u8> {
    match rollout.outcome.as_deref() {
        Some("promoted") => Some(exit::OK),
        Some("rolled-back") => Some(exit::ROLLED_BACK),
        Some("given-up" | "aborted") => Some(exit::HELD),
        Some(_) => Some(exit::ERROR),
        None if promoted_is_enough && rollout.phase == "guarding" => Some(exit::OK),
        None => None,
    }
}

fn show(rollout: &RolloutView, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => print(&(serde_json::to_string_pretty(rollout).context("a rollout as JSON")? + "\n")),
        Output::Table => print(&format!("{}: {}\n", get::state(rollout), rollout.reason)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_outcome() {
        let rows = [
            (Some("promoted"), "done", false, Some(0)),
            (Some("rolled-back"), "done", false, Some(3)),
            (Some("given-up"), "done", false, Some(4)),
            (Some("aborted"), "done", false, Some(4)),
            (Some("superseded"), "done", false, Some(1)),
            (Some("refused"), "done", false, Some(1)),
            (None, "guarding", true, Some(0)),
            (None, "guarding", false, None),
            (None, "step", true, None),
        ];
        for (outcome, phase, until_promoted, expected) in rows {
            let rollout = RolloutView {
                outcome: outcome.map(str::to_owned),
                phase: phase.to_owned(),
                ..crate::cli::tests::rollout()
            };
            assert_eq!(code(&rollout, until_promoted), expected, "{outcome:?} in {phase}");
        }
    }
}
