//! `bellwether get`: one line for each rollout.

use anyhow::Context;
use bellwether_core::engine::view::RolloutView;
use clap::Args;

use super::api::Api;
use super::table::table;
use super::{Common, Output, print, tell};
use crate::exit;

/// What `get` takes.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Only in this namespace.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Only this workload.
    workload: Option<String>,
    /// Only in this phase.
    #[arg(long)]
    phase: Option<String>,
}

/// Lists rollouts.
///
/// # Errors
/// If the daemon does not answer.
pub async fn run(args: &GetArgs, common: &Common) -> anyhow::Result<u8> {
    let wanted = [("namespace", &args.namespace), ("workload", &args.workload), ("phase", &args.phase)];
    let filter: Vec<(&str, &str)> = wanted.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
    let rollouts = Api::new(&common.api)?.rollouts(&filter).await?;
    match common.output {
        Output::Json => print(&(serde_json::to_string_pretty(&rollouts).context("rollouts as JSON")? + "\n")),
        Output::Table if rollouts.is_empty() => tell("no rollouts; send an event with `bellwether emit`\n"),
        Output::Table => print(&list(&rollouts)),
    }
    Ok(exit::OK)
}

/// The rollouts in columns.
pub fn list(rollouts: &[RolloutView]) -> String {
    let rows: Vec<Vec<String>> = rollouts
        .iter()
        .map(|rollout| {
            vec![
                rollout.short_workload(),
                rollout.versions(),
                state(rollout).to_owned(),
                rollout.step.map_or_else(|| "–".to_owned(), |(step, of)| format!("{step}/{of}")),
                weight(rollout),
                checks(rollout),
                rollout.next.clone(),
            ]
        })
        .collect();
    table(&["WORKLOAD", "FROM → TO", "STATE", "STEP", "WEIGHT (SEEN)", "CHECKS", "NEXT"], &rows)
}

/// How it ended, else that it is held, else its phase.
pub fn state(rollout: &RolloutView) -> &str {
    rollout.outcome.as_deref().or(rollout.held.as_ref().map(|_| "held")).unwrap_or(&rollout.phase)
}

/// The weight that was asked for, and the one that was seen.
pub fn weight(rollout: &RolloutView) -> String {
    match rollout.observed {
        Some(share) => format!("{} ({:.1} %)", rollout.weight, share * 100.0),
        None => rollout.weight.to_string(),
    }
}

/// What is not well, else how many are.
fn checks(rollout: &RolloutView) -> String {
    let unwell: Vec<String> = rollout
        .checks
        .iter()
        .filter(|check| check.verdict != "pass")
        .map(|check| format!("{}: {}", check.name, check.verdict))
        .collect();
    match (unwell.is_empty(), rollout.checks.len()) {
        (true, 0) => "–".to_owned(),
        (true, n) => format!("{n} pass"),
        (false, _) => unwell.join(", "),
    }
}
