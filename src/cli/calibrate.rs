//! `bellwether calibrate`: the number of false alarms that a policy's checks would have had on the workload's own past.
//!
//! The stable's pods run one version, so every regression between one of them and the others is a false alarm. Each pod in
//! turn is taken for a canary, in one stretch of the past after the other. The command only reads.

use anyhow::{Context, bail};
use bellwether_core::measure::block::Block;
use bellwether_core::measure::metric::Unit;
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, Timestamp};
use bellwether_lab::backtest::BacktestJudge;
use bellwether_lab::backtest::alarms::{FalseAlarms, false_alarms, one_pod_as_canary};
use bellwether_lab::backtest::blocks::most_pods;
use clap::Args;
use serde::Serialize;

use super::past::PastRequest;
use super::table::table;
use super::workload::WorkloadArg;
use super::{Common, Output, past, plan, print};
use crate::{config, exit};

/// The arguments of `calibrate`.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Workload whose past is read, as namespace/name.
    #[arg(long, value_name = "WORKLOAD")]
    workload: WorkloadArg,
    /// Policy to calibrate; without it, the one that selects the workload.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Length of the past.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    over: Span,
    /// End of that past, as in 2026-11-26T12:00:00Z; without it, now.
    #[arg(long, value_name = "INSTANT")]
    to: Option<Timestamp>,
    /// Length of a stretch that can have one false alarm; without it, the sum of the policy's steps.
    #[arg(long, value_name = "TIME")]
    stretch: Option<Span>,
}

/// The false alarms of one check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct CheckAlarms {
    check: String,
    /// The highest share of false alarms that the judge promises, from 0 to 1; `None` if it promises nothing.
    promised: Option<f64>,
    #[serde(flatten)]
    alarms: FalseAlarms,
}

/// Counts the false alarms of each check in the workload's past, and prints them.
///
/// # Errors
/// The configuration, Prometheus or the cluster can't be read, or the past has too few pods or is too short.
pub async fn run(args: &CalibrateArgs, common: &Common) -> anyhow::Result<u8> {
    let config = config::load(&common.sources()).map_err(|report| anyhow::anyhow!("{report}"))?;
    let workload = args.workload.within(&config.cluster);
    let policy = plan::policy(&config, args.policy.as_deref(), Some(&workload))?;
    let blocks =
        past::blocks(&config, policy, &workload, PastRequest { over: args.over, to: args.to, canary: false }).await?;
    let stretch = args.stretch.unwrap_or(policy.planned(false));
    let found = calibrate(policy, &blocks, stretch)?;
    match common.output {
        Output::Json => {
            print(&(serde_json::to_string_pretty(&found).context("can't encode the calibration as JSON")? + "\n"))
        }
        Output::Table => print(&render(policy, stretch, &found)),
    }
    Ok(exit::OK)
}

/// Counts the false alarms of each check alone, with each pod as the canary.
fn calibrate(policy: &Policy, blocks: &[Block], stretch: Span) -> anyhow::Result<Vec<CheckAlarms>> {
    let count = most_pods(blocks);
    match count {
        0 => bail!(
            "Prometheus has no counts of the workload's pods in this past; `bellwether check --online` names the query that finds \
             none, and --over and --to choose another past"
        ),
        1 => bail!(
            "the past has no time with two pods of the workload, so there is nothing to compare; read a longer past with --over, \
             or give the workload a second pod for a while"
        ),
        _ => {}
    }
    let mut names: Vec<&str> = policy.steps.iter().flat_map(|step| &step.checks).map(|check| &*check.name).collect();
    names.sort_unstable();
    names.dedup();
    let split: Vec<Vec<Block>> = (0..count).map(|pod| one_pod_as_canary(blocks, pod)).collect();
    let of = |name: &str| {
        let alone = alone(policy, name);
        let rule = alone.steps.iter().flat_map(|step| &step.checks).find_map(|check| check.judge.sequential());
        // Checks that can't be read from counters (availability) don't fit and are left out.
        let fit = |blocks: &[Block]| BacktestJudge::Ours(Box::new(alone.clone())).fit(blocks).ok();
        let histories: Vec<&[Block]> = split.iter().map(Vec::as_slice).filter(|blocks| fit(blocks).is_some()).collect();
        let alarms = false_alarms(&fit(histories.first()?)?, histories, stretch);
        let promised = rule.map(|rule| rule.level());
        Some(CheckAlarms { check: name.to_owned(), promised, alarms })
    };
    let found: Vec<CheckAlarms> = names.into_iter().filter_map(of).collect();
    if found.iter().all(|check| check.alarms.stretches == 0) {
        bail!("the past has no stretch of {stretch}; read a longer past with --over, or use a shorter --stretch");
    }
    Ok(found)
}

/// Returns the policy with one check only. The check keeps the level that it has among all of the policy's checks.
fn alone(policy: &Policy, name: &str) -> Policy {
    let mut alone = policy.clone();
    for step in &mut alone.steps {
        step.checks.retain(|check| check.name == name);
    }
    alone.steps.retain(|step| !step.checks.is_empty());
    alone
}

fn render(policy: &Policy, stretch: Span, found: &[CheckAlarms]) -> String {
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|CheckAlarms { check, promised, alarms }| {
            vec![
                check.clone(),
                format!("{} of {}", alarms.rolled_back, alarms.stretches),
                Unit::Percent.show(alarms.at_most),
                promised.map_or_else(|| "nothing".to_owned(), |part| Unit::Percent.show(part)),
                alarms.first.as_ref().map_or_else(|| "–".to_owned(), |first| format!("{}: {}", first.at, first.why)),
            ]
        })
        .collect();
    let table = table(&["CHECK", "FALSE ALARMS", "AT MOST (95 %)", "PROMISED", "FIRST FALSE ALARM"], &rows);
    format!(
        "policy {}: each of the stable's pods against the others, in stretches of {stretch}\n{table}\n\
         The bound assumes independent stretches. Stretches of the same time share pods and are not fully independent.\n",
        policy.name
    )
}

#[cfg(test)]
mod tests {
    use bellwether_core::measure::block::{Reading, SmallMap};
    use bellwether_core::time::Timestamp;

    use super::*;

    const POLICY: &str = r#"
        [metric.error-rate]
        kind = "ratio"
        series = "requests_total"
        hits = { label = "code", matches = "5.." }
        [[policy]]
        name = "shop"
        match = { namespaces = ["*"], workloads = ["*"], images = ["*"] }
        check = [
            { metric = "error-rate", max = "5%" },
            { name = "by-threshold", metric = "error-rate", judge = "threshold", max = "1%", every = "15s", window = "1m" },
        ]
        step = [{ weight = "10%", min-time = "10m" }]
    "#;

    fn policy() -> Policy {
        crate::config::of_text(POLICY).policies.remove(0)
    }

    /// Two hours of four pods; errors come ten at a time, to one pod after the other.
    fn past() -> Vec<Block> {
        let at = |n: usize| Timestamp::from_second(15 * n as i64).unwrap();
        let block = |n: usize| {
            let pods = (0..4).map(|pod| Reading::Ratio { hits: if n % 20 == 5 * pod { 10 } else { 0 }, total: 150 });
            let processes = SmallMap::from_iter([("error-rate".to_owned(), pods.collect())]);
            Block { processes, ..Block::new(at(n), at(n + 1), []) }
        };
        (0..480).map(block).collect()
    }

    #[test]
    fn the_sequential_judge_has_no_false_alarm_where_a_threshold_has_one_in_every_stretch() {
        let found = calibrate(&policy(), &past(), Span::from_secs(600)).unwrap();
        let [threshold, sequential] = &found[..] else { panic!("{found:#?}") };
        assert_eq!((threshold.check.as_str(), sequential.check.as_str()), ("by-threshold", "error-rate"));
        assert_eq!((sequential.alarms.rolled_back, sequential.alarms.stretches), (0, 48), "{sequential:#?}");
        assert_eq!(sequential.promised, Some(0.01));
        assert!(sequential.alarms.at_most > 0.05 && sequential.alarms.at_most < 0.07, "{sequential:#?}");
        assert_eq!(threshold.alarms.rolled_back, threshold.alarms.stretches, "{threshold:#?}");
        let text = render(&policy(), Span::from_secs(600), &found);
        assert!(text.contains("error-rate    0 of 48"), "{text}");
    }

    #[test]
    fn a_past_with_one_pod_or_too_short_is_an_error_with_the_remedy() {
        let error = |blocks: &[Block]| calibrate(&policy(), blocks, Span::from_secs(600)).unwrap_err().to_string();
        assert!(error(&[]).contains("--over"));
        assert!(error(&past()[..10]).contains("no stretch of 10m"));
    }
}
