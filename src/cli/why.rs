//! `bellwether why`: a rollout's reason, its checks with all numbers, and its decisions.

use anyhow::{Context, bail};
use bellwether_core::engine::view::RolloutView;
use clap::Args;

use super::api::ApiClient;
use super::get::weight;
use super::table::{colours, paint, table};
use super::{Common, Output, print};
use crate::exit;

/// The arguments of `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Workload, as `name` or `namespace/name`, or a rollout's id.
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    workload: String,
}

/// Prints the explanation of a rollout.
///
/// # Errors
/// The daemon does not answer, or has no such rollout.
pub async fn run(args: &WhyArgs, common: &Common) -> anyhow::Result<u8> {
    let api = ApiClient::of(common)?;
    let Some(rollout) = api.find(&args.workload).await? else {
        bail!("there is no rollout of {:?}; `bellwether get` lists them", args.workload);
    };
    match common.output {
        Output::Json => {
            print(&(serde_json::to_string_pretty(&rollout).context("can't encode the rollout as JSON")? + "\n"))
        }
        Output::Table => {
            let waiting = api.rollouts(&[("workload", &rollout.workload), ("state", RolloutView::QUEUED)]).await?;
            print(&(explain(&rollout, colours()) + &also_waiting(&rollout, &waiting)));
        }
    }
    Ok(exit::OK)
}

/// Returns a line for each rollout that waits for the end of this one.
fn also_waiting(rollout: &RolloutView, waiting: &[RolloutView]) -> String {
    let others = waiting.iter().filter(|other| other.id != rollout.id);
    others.map(|other| format!("Queued: {} ({}), {}\n", other.id, other.versions(), other.reason)).collect()
}

/// Returns the explanation of a rollout: its state, checks, decisions and next step.
pub fn explain(rollout: &RolloutView, colours: bool) -> String {
    let state = rollout.state();
    let step = rollout.step.map_or_else(String::new, |(step, of)| format!(", step {step} of {of}"));
    let mut text = format!(
        "{}  {}  {}{step} at {}, since {:.0}\n{}\n",
        rollout.short_workload(),
        rollout.versions(),
        paint(state, state, colours),
        weight(rollout),
        rollout.since,
        rollout.reason,
    );
    if !rollout.checks.is_empty() {
        let value = |value: &Option<String>, between: &Option<String>| match (value, between) {
            (Some(value), Some(between)) => format!("{value} ({between})"),
            (Some(value), None) => value.clone(),
            (None, _) => "–".to_owned(),
        };
        let rows: Vec<Vec<String>> = rollout
            .checks
            .iter()
            .map(|check| {
                let (n, window) = (check.n.to_string(), check.window.to_string());
                // The verdict is the last column, because colour codes would count as its width.
                let verdict = paint(&check.verdict, &check.verdict, colours);
                vec![
                    check.name.clone(),
                    value(&check.canary, &check.canary_between),
                    value(&check.stable, &check.stable_between),
                    check.limit.clone(),
                    n,
                    window,
                    verdict,
                ]
            })
            .collect();
        text += if rollout.ended.is_some() { "\nChecks when the end was decided:\n" } else { "\n" };
        text += &table(&["CHECK", "CANARY", "STABLE", "LIMIT", "N", "WINDOW", "VERDICT"], &rows);
    }
    if !rollout.history.is_empty() {
        let rows: Vec<Vec<String>> = rollout
            .history
            .iter()
            .map(|decision| vec![format!("{:.0}", decision.at), decision.decision.clone(), decision.reason.clone()])
            .collect();
        text += "\n";
        text += &table(&["TIME", "DECISION", "REASON"], &rows);
    }
    let age = rollout.age.map_or_else(String::new, |age| format!(" · as of {age} ago, from another replica's journal"));
    format!("{text}\nNext: {}\n{} · policy {} · {}{age}\n", rollout.next, rollout.id, rollout.policy, rollout.mode)
}
