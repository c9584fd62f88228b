//! `bellwether status`: the state of a rollout. With `--wait` the exit code tells the outcome, for pipelines.

use std::time::Duration;

use anyhow::{Context, bail};
use bellwether_core::engine::view::RolloutView;
use bellwether_core::time::Span;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::api::ApiClient;
use super::{Common, Output, print, tell, with_causes};
use crate::clock::Stopwatch;
use crate::exit;

/// The time between two requests to the daemon.
const POLL: Duration = Duration::from_secs(2);

/// The arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Workload, as `name` or `namespace/name`, or a rollout's id.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    workload: String,
    /// Wait for the rollout's end.
    #[arg(long)]
    wait: bool,
    /// End of the wait before the rollout's end.
    #[arg(long, value_enum, requires = "wait")]
    until: Option<Until>,
    /// Longest time to wait.
    #[arg(long, default_value = "1h", requires = "wait")]
    timeout: Span,
}

/// An earlier end of the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// The new version serves all of the traffic, and the guard begins.
    Promoted,
}

/// Prints the rollout's state, with `--wait` at its end, and returns the exit code of its outcome.
///
/// # Errors
/// The daemon does not answer, or has no such rollout.
pub async fn run(args: &StatusArgs, common: &Common) -> anyhow::Result<u8> {
    let api = ApiClient::of(common)?;
    let since = Stopwatch::start();
    let mut printed = String::new();
    loop {
        let last = since.elapsed() >= args.timeout.to_std() || !args.wait;
        let found = api.find(&args.workload).await;
        // A request that no rollout follows from, such as an expired one, has an answer only.
        if let Ok(None) = found
            && let Ok(Some(answer)) = api.answer(&[("rollout", &args.workload)]).await
            && !answer.is_taken()
        {
            print(&format!("{}: {}\n", answer.result, answer.reason));
            return Ok(exit::ERROR);
        }
        match found {
            Ok(Some(rollout)) => {
                let code = code(&rollout, args.until == Some(Until::Promoted));
                if code.is_some() || last {
                    show(&rollout, common.output)?;
                    return Ok(code.unwrap_or(if args.wait { exit::HELD } else { exit::OK }));
                }
                tell_once(&mut printed, format!("{}: {}\n", rollout.state(), rollout.reason));
            }
            // The daemon may not have read the event yet, or may restart during the wait.
            Ok(None) if last => bail!("there is no rollout of {:?}; `bellwether get` lists them", args.workload),
            Err(error) if last => return Err(error),
            Ok(None) => tell_once(&mut printed, format!("waiting for a rollout of {:?}\n", args.workload)),
            Err(error) => tell_once(&mut printed, format!("waiting for the daemon: {}\n", with_causes(&error))),
        }
        tokio::time::sleep(POLL.min(args.timeout.to_std())).await;
    }
}

/// Prints a line of progress, unless it is the one that was `printed` last.
fn tell_once(printed: &mut String, line: String) {
    if line != *printed {
        tell(&line);
        *printed = line;
    }
}

/// Returns the exit code of the rollout's outcome; `None` if the wait goes on. With `promoted_is_enough` a rollout under
/// guard counts as promoted.
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
        Output::Json => {
            print(&(serde_json::to_string_pretty(rollout).context("can't encode the rollout as JSON")? + "\n"))
        }
        Output::Table => print(&format!("{}: {}\n", rollout.state(), rollout.reason)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_follows_from_the_outcome() {
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
