//! `bellwether plan`: the faults that a policy finds in the present traffic, and the time that it takes. The command only
//! reads.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, bail};
use bellwether_core::ids::Workload;
use bellwether_core::judge::check::Check;
use bellwether_core::measure::metric::{RawLimit, Unit};
use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use bellwether_lab::plan::{CheckPlan, CheckTraffic, RolloutForecast, RolloutPlan};
use clap::{ArgGroup, Args};

use super::past::PastRequest;
use super::table::table;
use super::workload::WorkloadArg;
use super::{Common, Output, past, print};
use crate::config::{self, Config};
use crate::exit;

/// The length of the past that counts as the present traffic.
const HOUR: Span = Span::from_secs(3600);

/// The arguments of `plan`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("traffic").required(true).args(["workload", "rps"]),
    after_help = "Examples:\n  bellwether plan --workload shop/checkout\n  bellwether plan --policy shop --rps 100 --share 0.1%"
)]
pub struct PlanArgs {
    /// Policy to plan with; without it, the one that selects the workload, or the only one.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Workload whose traffic of the last hour is read, as namespace/name.
    #[arg(long, value_name = "WORKLOAD")]
    workload: Option<WorkloadArg>,
    /// Requests per second, instead of measured traffic.
    #[arg(long, value_name = "N", requires = "share")]
    rps: Option<f64>,
    /// Present share of bad requests, as in 0.1%, or of one check, as in error-rate=0.1%; may be repeated.
    #[arg(long, value_name = "[CHECK=]SHARE", requires = "rps")]
    share: Vec<Share>,
}

/// A share of bad requests, of one check or of all checks.
#[derive(Debug, Clone, PartialEq)]
struct Share {
    check: Option<String>,
    share: f64,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let (check, share) = match text.rsplit_once('=') {
            Some((check, share)) => (Some(check.to_owned()), share),
            None => (None, text),
        };
        Ok(Share { check, share: Unit::Percent.read(&RawLimit::Text(share.to_owned()))? })
    }
}

/// Prints the forecast of a rollout with the policy.
///
/// # Errors
/// The configuration, Prometheus or the cluster can't be read, or the policy or the workload does not exist.
pub async fn run(args: &PlanArgs, common: &Common) -> anyhow::Result<u8> {
    let config = config::load(&common.sources()).map_err(|report| anyhow::anyhow!("{report}"))?;
    let workload = args.workload.as_ref().map(|workload| workload.within(&config.cluster));
    let policy = policy(&config, args.policy.as_deref(), workload.as_ref())?;
    let present = match &workload {
        Some(workload) => {
            let blocks =
                past::blocks(&config, policy, workload, PastRequest { over: HOUR, to: None, canary: false }).await?;
            let of = |check: &Check| Some((check.name.clone(), CheckTraffic::of(&blocks, check)?));
            checks(policy).filter_map(of).collect()
        }
        None => given_traffic(policy, args.rps.unwrap_or(0.0), &args.share)?,
    };
    let plan = RolloutForecast::new(policy, &present, config.prometheus.interval);
    match common.output {
        Output::Json => print(&(serde_json::to_string_pretty(&plan).context("can't encode the plan as JSON")? + "\n")),
        Output::Table => print(&render(&plan, config.prometheus.interval, config.prometheus.lag)),
    }
    Ok(exit::OK)
}

/// Returns the policy `name`; without a name the one that selects `workload`; without a workload the only one.
pub(super) fn policy<'a>(
    config: &'a Config,
    name: Option<&str>,
    workload: Option<&Workload>,
) -> anyhow::Result<&'a Policy> {
    let names = || config.policies.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, workload, config.policies.as_slice()) {
        (_, _, []) => bail!("there is no policy; add a [[policy]], or name its file with --config"),
        (Some(name), ..) => config
            .policies
            .iter()
            .find(|policy| policy.name == name)
            .with_context(|| format!("there is no policy {name:?}; there are {}", names())),
        (None, Some(workload), _) => {
            config.policies.iter().find(|policy| policy.covers(workload)).with_context(|| {
                format!("no policy selects {workload}; there are {}, choose one with --policy", names())
            })
        }
        (None, None, [policy]) => Ok(policy),
        (None, None, _) => bail!("there are the policies {}; choose one with --policy", names()),
    }
}

fn checks(policy: &Policy) -> impl Iterator<Item = &Check> {
    policy.steps.iter().flat_map(|step| &step.checks)
}

/// Returns the traffic of each check by the arguments. If several shares are for a check, the last one counts.
fn given_traffic(policy: &Policy, rps: f64, shares: &[Share]) -> anyhow::Result<BTreeMap<String, CheckTraffic>> {
    let known: Vec<&str> = checks(policy).map(|check| check.name.as_str()).collect();
    let mut named = shares.iter().filter_map(|share| share.check.as_deref());
    if let Some(name) = named.find(|name| !known.contains(name)) {
        bail!("--share {name}: policy {} has no check of this name; it has {}", policy.name, known.join(", "));
    }
    let mut present = BTreeMap::new();
    for name in known {
        let share = shares.iter().rev().find(|share| share.check.as_deref().is_none_or(|check| check == name));
        if let Some(share) = share {
            let numbers = CheckTraffic::new(rps, share.share, None);
            present.insert(name.to_owned(), numbers.with_context(|| format!("--rps {rps}"))?);
        }
    }
    Ok(present)
}

/// Returns, for each check, a line about its traffic, a row for each fault at each step, and rows for the whole rollout.
/// `block` is the time between two readings, `lag` the delay of the counters.
pub fn render(plan: &RolloutForecast, block: Span, lag: Span) -> String {
    let mut text =
        format!("policy {}: its steps take at least {}, with a look every {block}\n", plan.policy, plan.takes);
    for check in &plan.checks {
        text += &format!("\n{}", check_text(check));
    }
    text + &format!("\nTimes are medians from a step's first request; decisions follow {lag} later (prometheus.lag).\n")
}

fn check_text(check: &CheckPlan) -> String {
    let Some(present) = &check.present else { return format!("{}: {}\n", check.check, unsaid(&check.rollout)) };
    if let RolloutPlan::Unknown(_) = check.rollout {
        return format!("{}: {}\n", check.check, unsaid(&check.rollout));
    }
    let mut text = format!("{}: {present}\n", check.check);
    if check.broken_now {
        text += "The present version itself exceeds the limit, so the comparison with it alone decides.\n";
    }
    let step_rows = check.steps.iter().flat_map(|step| {
        step.faults.iter().map(move |(fault, found)| {
            let step = [step.step.to_string(), step.weight.to_string(), step.lasts.to_string()];
            step.into_iter().chain([fault.to_string(), found.to_string()]).collect()
        })
    });
    let rows: Vec<Vec<String>> = step_rows.chain(rollout_rows(&check.rollout)).collect();
    text += &table(&["STEP", "WEIGHT", "LASTS", "CANARY", "FOUND AFTER"], &rows);
    match &check.rollout {
        RolloutPlan::Evidence { proof: Some(proof), .. } => text + &format!("{}\n", sentence(&proof.to_string())),
        RolloutPlan::Looks { healthy, .. } => {
            text + &format!(
                "A version like the present one is rolled back in {} of the rollouts.\n",
                Unit::Percent.show(*healthy)
            )
        }
        RolloutPlan::Evidence { proof: None, .. } | RolloutPlan::Unknown(_) => text,
    }
}

fn unsaid(rollout: &RolloutPlan) -> &str {
    match rollout {
        RolloutPlan::Unknown(why) => why,
        RolloutPlan::Evidence { .. } | RolloutPlan::Looks { .. } => "",
    }
}

/// Returns the rows for the whole rollout: each fault, and the share of the rollouts that is rolled back.
fn rollout_rows(rollout: &RolloutPlan) -> Vec<Vec<String>> {
    let row = |fault: String, found: String| {
        let dash = || "–".to_owned();
        vec!["all".to_owned(), dash(), dash(), fault, found]
    };
    let share = |share: f64| match share {
        0.0 => "none rolled back".to_owned(),
        1.0 => "all rolled back".to_owned(),
        share => format!("{} rolled back", Unit::Percent.show(share)),
    };
    match rollout {
        RolloutPlan::Evidence { faults, .. } => {
            let found = |found: &f64, median: &Option<Span>| match median {
                Some(median) => format!("{}, half within {median}", share(*found)),
                None => share(*found),
            };
            faults.iter().map(|(fault, of, median)| row(fault.to_string(), found(of, median))).collect()
        }
        RolloutPlan::Looks { faults, .. } => {
            faults.iter().map(|(fault, of)| row(fault.to_string(), share(*of))).collect()
        }
        RolloutPlan::Unknown(_) => Vec::new(),
    }
}

/// Formats a phrase as a sentence, with a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect::<String>() + ".")
}
