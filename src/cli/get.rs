//! `bellwether get`: the list of the rollouts.

use anyhow::Context;
use bellwether_core::engine::view::RolloutView;
use clap::Args;

use super::api::ApiClient;
use super::table::table;
use super::{Common, Output, print, tell};
use crate::exit;

/// The arguments of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// List only rollouts in this namespace.
    #[arg(long, short)]
    namespace: Option<String>,
    /// List only rollouts of this workload.
    workload: Option<String>,
    /// List only rollouts in this state, as the column STATE has it: held, a phase such as stepping, or an outcome such as
    /// promoted.
    #[arg(long)]
    state: Option<String>,
}

/// Prints the rollouts that match the arguments.
///
/// # Errors
/// The daemon does not answer.
pub async fn run(args: &GetArgs, common: &Common) -> anyhow::Result<u8> {
    let filter = [("namespace", &args.namespace), ("workload", &args.workload), ("state", &args.state)];
    let filter: Vec<(&str, &str)> = filter.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
    let rollouts = ApiClient::of(common)?.rollouts(&filter).await?;
    match common.output {
        Output::Json => {
            print(&(serde_json::to_string_pretty(&rollouts).context("can't encode the rollouts as JSON")? + "\n"))
        }
        Output::Table if rollouts.is_empty() && filter.is_empty() => {
            tell("no rollouts; send an event with `bellwether emit`\n");
        }
        Output::Table if rollouts.is_empty() => {
            let asked: Vec<String> = filter.iter().map(|(key, value)| format!("{key} {value:?}")).collect();
            tell(&format!("no rollout has {}; `bellwether get` lists all of them\n", asked.join(" and ")));
        }
        Output::Table => print(&list(&rollouts)),
    }
    Ok(exit::OK)
}

/// Returns a table with a row for each rollout.
pub fn list(rollouts: &[RolloutView]) -> String {
    let rows: Vec<Vec<String>> = rollouts
        .iter()
        .map(|rollout| {
            vec![
                rollout.short_workload(),
                rollout.versions(),
                rollout.state().to_owned(),
                rollout.step.map_or_else(|| "–".to_owned(), |(step, of)| format!("{step}/{of}")),
                weight(rollout),
                checks(rollout),
                rollout.next.clone(),
            ]
        })
        .collect();
    table(&["WORKLOAD", "FROM → TO", "STATE", "STEP", "WEIGHT (OBSERVED)", "CHECKS", "NEXT"], &rows)
}

/// Returns the requested weight, and the observed share of the traffic if it is known.
pub fn weight(rollout: &RolloutView) -> String {
    match rollout.observed {
        Some(share) => format!("{} ({:.1} %)", rollout.weight, share * 100.0),
        None => rollout.weight.to_string(),
    }
}

/// Returns the checks that do not pass with their verdicts, or the number of checks if all pass.
fn checks(rollout: &RolloutView) -> String {
    let not_passing: Vec<String> = rollout
        .checks
        .iter()
        .filter(|check| check.verdict != "pass")
        .map(|check| format!("{}: {}", check.name, check.verdict))
        .collect();
    match (not_passing.is_empty(), rollout.checks.len()) {
        (true, 0) => "–".to_owned(),
        (true, n) => format!("{n} pass"),
        (false, _) => not_passing.join(", "),
    }
}
