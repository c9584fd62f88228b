//! `bellwether calibrate`: how often a policy's checks would have alarmed without a reason, on the workload's own past.
//!
//! The stable's pods run one version, so whatever a check finds between one of them and the others is nothing. Each pod in turn
//! is taken for a canary, for one stretch of the past after the other, and every alarm is a false one. It writes nothing anywhere.

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
use super::{Common, Output, past, plan, print};
use crate::{config, exit};

/// What `calibrate` takes.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// The workload whose past is looked at, as namespace/Deployment/name.
    #[arg(long, value_name = "WORKLOAD")]
    workload: String,
    /// The policy; without it the one that is for the workload.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// How much of the past.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    over: Span,
    /// Where that ends, as in 2026-11-26T12:00:00Z; without it now.
    #[arg(long, value_name = "INSTANT")]
    to: Option<Timestamp>,
    /// How long a stretch is; without it as long as the policy's steps.
    #[arg(long, value_name = "TIME")]
    stretch: Option<Span>,
}

/// What was found of one check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Calibrated {
    check: String,
    /// The part that the policy allows it; `None`: its judge promises nothing.
    promised: Option<f64>,
    #[serde(flatten)]
    alarms: FalseAlarms,
}

/// Calibrates.
///
/// # Errors
/// The configuration, Prometheus or the cluster can't be read, or the past has too little to say anything.
pub async fn run(args: &CalibrateArgs, common: &Common) -> anyhow::Result<u8> {
    let config = config::load(&common.sources()).map_err(|report| anyhow::anyhow!("{report}"))?;
    let workload = plan::workload(&args.workload, &config.cluster)?;
    let policy = plan::policy(&config, args.policy.as_deref(), Some(&workload))?;
    let blocks =
        past::blocks(&config, policy, &workload, PastRequest { over: args.over, to: args.to, canary: false }).await?;
    let stretch = args.stretch.unwrap_or(policy.planned(false));
    let found = calibrate(policy, &blocks, stretch)?;
    match common.output {
        Output::Json => print(&(serde_json::to_string_pretty(&found).context("a calibration as JSON")? + "\n")),
        Output::Table => print(&render(policy, stretch, &found)),
    }
    Ok(exit::OK)
}

/// Each check by itself, with each pod as the canary.
fn calibrate(policy: &Policy, blocks: &[Block], stretch: Span) -> anyhow::Result<Vec<Calibrated>> {
    let count = most_pods(blocks);
    if count < 2 {
        bail!(
            "the past has no two pods of the workload side by side, so nothing in it can be compared; look further back with --over"
        );
    }
    let mut names: Vec<&str> = policy.steps.iter().flat_map(|step| &step.checks).map(|check| &*check.name).collect();
    names.sort_unstable();
    names.dedup();
    let split: Vec<Vec<Block>> = (0..count).map(|pod| one_pod_as_canary(blocks, pod)).collect();
    let of = |name: &str| {
        let alone = alone(policy, name);
        let rule = alone.steps.iter().flat_map(|step| &step.checks).find_map(|check| check.judge.sequential());
        // What only the cluster knows (availability) is not in the past of the counters.
        let fit = |blocks: &[Block]| BacktestJudge::Ours(Box::new(alone.clone())).fit(blocks).ok();
        let histories: Vec<&[Block]> = split.iter().map(Vec::as_slice).filter(|blocks| fit(blocks).is_some()).collect();
        let alarms = false_alarms(&fit(histories.first()?)?, histories, stretch);
        let promised = rule.map(|rule| rule.level());
        Some(Calibrated { check: name.to_owned(), promised, alarms })
    };
    let found: Vec<Calibrated> = names.into_iter().filter_map(of).collect();
    if found.iter().all(|check| check.alarms.stretches == 0) {
        bail!(
            "there is no stretch of {stretch} in the past that was looked at; ask for more with --over, or for a shorter --stretch"
        );
    }
    Ok(found)
}

/// The policy with this check and no other; it keeps the level that it has among the others.
fn alone(policy: &Policy, name: &str) -> Policy {
    let mut alone = policy.clone();
    for step in &mut alone.steps {
        step.checks.retain(|check| check.name == name);
    }
    alone.steps.retain(|step| !step.checks.is_empty());
    alone
}

fn render(policy: &Policy, stretch: Span, found: &[Calibrated]) -> String {
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|Calibrated { check, promised, alarms }| {
            vec![
                check.clone(),
                format!("{} of {}", alarms.rolled_back, alarms.stretches),
                Unit::Percent.show(alarms.at_most),
                promised.map_or_else(|| "nothing".to_owned(), |part| Unit::Percent.show(part)),
                alarms.first.as_ref().map_or_else(|| "–".to_owned(), |first| format!("{}: {}", first.at, first.why)),
            ]
        })
        .collect();
    let table = table(&["CHECK", "FALSE ALARMS", "AT MOST (95 %)", "PROMISED", "THE FIRST ONE"], &rows);
    format!(
        "policy {}: each of the stable's pods against the others, in stretches of {stretch}\n{table}\n\
         The bound takes the stretches for independent. Those of one time share the other pods and are not quite.\n",
        policy.name
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellwether_core::measure::block::Reading;
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
            let processes = BTreeMap::from([("error-rate".to_owned(), pods.collect())]);
            Block { processes, ..Block::new(at(n), at(n + 1), BTreeMap::new()) }
        };
        (0..480).map(block).collect()
    }

    #[test]
    fn the_evidence_keeps_its_promise_where_a_threshold_cries_wolf() {
        let found = calibrate(&policy(), &past(), Span::from_secs(600)).unwrap();
        let [threshold, evidence] = &found[..] else { panic!("{found:#?}") };
        assert_eq!((threshold.check.as_str(), evidence.check.as_str()), ("by-threshold", "error-rate"));
        assert_eq!((evidence.alarms.rolled_back, evidence.alarms.stretches), (0, 48), "{evidence:#?}");
        assert_eq!(evidence.promised, Some(0.01));
        assert!(evidence.alarms.at_most > 0.05 && evidence.alarms.at_most < 0.07, "{evidence:#?}");
        assert_eq!(threshold.alarms.rolled_back, threshold.alarms.stretches, "{threshold:#?}");
        let text = render(&policy(), Span::from_secs(600), &found);
        assert!(text.contains("error-rate    0 of 48"), "{text}");
    }

    #[test]
    fn one_pod_and_a_short_past_say_nothing_and_what_to_do() {
        let words = |blocks: &[Block]| calibrate(&policy(), blocks, Span::from_secs(600)).unwrap_err().to_string();
        assert!(words(&[]).contains("--over"));
        assert!(words(&past()[..10]).contains("no stretch of 10m"));
    }
}
