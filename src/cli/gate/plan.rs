//! `bellwether gate plan`: how many cases each limit of a suite needs, and how often a good and a bad version pass.

use std::path::PathBuf;

use bellwether_core::measure::metric::{RawLimit, Unit};
use bellwether_gate::plan::{ClaimPlan, PlanSettings, SuitePlan, plan};
use bellwether_tools::gate::load::LoadedSuite;
use clap::Args;

use crate::cli::table::table;
use crate::cli::{Common, Output, print};
use crate::exit;

/// The arguments of `gate plan`.
#[derive(Debug, Args)]
pub(super) struct GatePlanArgs {
    /// The suite's TOML file
    suite: PathBuf,
    /// The share of right answers of a good version
    #[arg(long, default_value = "97%", value_name = "PERCENT", value_parser = share)]
    right: f64,
    /// The share of a good version's runs that the suite shall pass
    #[arg(long, default_value = "95%", value_name = "PERCENT", value_parser = share)]
    power: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let share = Unit::Percent.read(&RawLimit::Text(text.to_owned()))?;
    if share > 0.0 && share < 1.0 {
        return Ok(share);
    }
    Err(format!("{text} is not between 0 % and 100 %"))
}

/// Prints the plan of a suite and returns the exit code.
///
/// # Errors
/// If the suite or one of its files can't be read or is invalid.
pub(super) fn run(args: &GatePlanArgs, common: &Common) -> anyhow::Result<u8> {
    let loaded = LoadedSuite::read(&args.suite)?;
    let settings = PlanSettings { right: args.right, power: args.power };
    let plan = plan(&loaded.suite, &loaded.datasets, settings);
    match common.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&plan)?)),
        Output::Table => print(&text(&plan)),
    }
    Ok(exit::OK)
}

fn text(plan: &SuitePlan) -> String {
    let rows: Vec<Vec<String>> = plan.claims.iter().map(row).collect();
    let headings = ["gate", "metric", "limit", "cases", "needs", "good passes", "bad passes"];
    let share = |value: f64| Unit::Percent.show(value);
    let mut text = table(&headings, &rows);
    text += &format!(
        "\ngood: right in {} of its answers, with a tenth of the faults that a limit allows; against a stable version that is the same\n\
         bad: at the limit; it passes in at most {} of runs, unless the limit has rule = \"threshold\"\n\
         needs: cases (requests for durations and successes) with which a good version passes all limits in {} of runs\n",
        share(plan.settings.right),
        share(plan.beta),
        share(plan.settings.power),
    );
    if plan.claims.iter().any(|claim| claim.approximate) {
        text += "~: approximate, for tokens that vary as much as their mean\n";
    }
    text + &format!(
        "{}: a good version passes in at least {} of runs, and in at least {} against a stable version\n",
        plan.suite,
        share(plan.good_passes),
        share(plan.good_passes_against_stable)
    )
}

fn row(claim: &ClaimPlan) -> Vec<String> {
    let about = if claim.approximate { "~" } else { "" };
    let share = |value: f64| format!("{about}{}", Unit::Percent.show(value));
    let needs = claim.needs.map_or_else(|| "no number".to_owned(), |needs| format!("{about}{needs}"));
    let few = if claim.needs.is_none_or(|needs| needs > claim.cases) { " (too few)" } else { "" };
    vec![
        if claim.enforced { claim.gate.clone() } else { format!("{} (not enforced)", claim.gate) },
        claim.metric.clone(),
        claim.limit.clone(),
        format!("{}{few}", claim.cases),
        needs,
        share(claim.good_passes),
        share(claim.bad_passes),
    ]
}
