//! `bellwether backtest`: the decisions that a policy and the rules of other tools would have made on recorded counts. It
//! only reads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use bellwether_core::ids::Workload;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::metric::Unit;
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, Timestamp};
use bellwether_lab::backtest::alarms::{FalseAlarms, false_alarms, one_pod_as_canary};
use bellwether_lab::backtest::canaries::{FoundCanary, canaries};
use bellwether_lab::backtest::rival::{Rival, only_ratio};
use bellwether_lab::backtest::{BacktestJudge, Judged, length};
use bellwether_lab::rivals::recording::{Form, RecordedQuery};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::recorded::{Case, cases};
use super::past::PastRequest;
use super::table::table;
use super::workload::WorkloadArg;
use super::{Common, Output, past, plan, print, replay};
use crate::config::{self, Config};
use crate::exit;

mod recorded;

/// The arguments of `backtest`.
#[derive(Debug, Args)]
pub struct BacktestArgs {
    /// File with blocks of counts or records of decisions, one JSON object per line; without it, the records that
    /// `replay` reads.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Policy to test; without it, the one that selects the workload, or the only one.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Test only this workload, as namespace/name.
    #[arg(long)]
    workload: Option<WorkloadArg>,
    /// Read this length of the workload's past from Prometheus instead of a recording, and test each canary in it.
    #[arg(long, value_name = "TIME", requires = "workload", conflicts_with = "file")]
    over: Option<Span>,
    /// End of that past, as in 2026-11-26T12:00:00Z; without it, now.
    #[arg(long, value_name = "INSTANT", requires = "over")]
    to: Option<Timestamp>,
    /// File with an AnalysisTemplate or a Canary (YAML or JSON) to compare with instead of the other tools' default
    /// settings; may be repeated.
    #[arg(long, value_name = "MANIFEST")]
    import: Vec<PathBuf>,
    /// Recorded metric that a manifest's metric NAME stands for; FORM is plain, success, success-percent or milliseconds,
    /// WINDOW as in 1m; may be repeated.
    #[arg(long, value_name = "NAME=METRIC[:FORM[:WINDOW]]")]
    query: Vec<MetricMapping>,
    /// Count false alarms between two arms of one version.
    #[arg(long, value_enum)]
    same: Option<Same>,
    /// Length of a stretch that can have one false alarm; without it, the sum of the policy's steps.
    #[arg(long, value_name = "TIME", requires = "same")]
    stretch: Option<Span>,
}

/// Two arms that ran the same version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Same {
    /// The recorded canary and stable, which ran the same version.
    Arms,
    /// One pod of the stable and its other pods.
    Pods,
}

/// The recorded query that a manifest's metric stands for.
#[derive(Debug, Clone)]
struct MetricMapping {
    /// The metric's name in the manifest.
    name: String,
    query: RecordedQuery,
}

impl FromStr for MetricMapping {
    type Err = String;

    fn from_str(text: &str) -> Result<MetricMapping, String> {
        let (name, rest) = text.split_once('=').ok_or("write NAME=METRIC, as in success-rate=error-rate:success:1m")?;
        let mut parts = rest.split(':');
        let metric = parts.next().unwrap_or_default().to_owned();
        let form = match parts.next().unwrap_or("plain") {
            "plain" => Form::Plain,
            "success" => Form::Success,
            "success-percent" => Form::SuccessPercent,
            "milliseconds" => Form::Milliseconds,
            other => {
                return Err(format!("{other:?} is not a form; write plain, success, success-percent or milliseconds"));
            }
        };
        let window = parts.next().unwrap_or("1m").parse::<Span>().map_err(|error| error.to_string())?;
        Ok(MetricMapping { name: name.to_owned(), query: RecordedQuery { metric, window, quantile: 0.95, form } })
    }
}

/// The result for one rollout, or for one recording of blocks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Tested {
    of: String,
    /// The recorded decision about the canary; `None` if the recording has none.
    recorded: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    judged: Vec<Judged>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    false_alarms: Vec<FalseAlarms>,
}

/// Tests the recorded or queried rollouts, and prints the decisions or the false alarms.
///
/// # Errors
/// The recording, the configuration or a manifest can't be read, or they do not fit together.
pub async fn run(args: &BacktestArgs, common: &Common) -> anyhow::Result<u8> {
    let config = config::load(&common.sources()).map_err(|report| anyhow::anyhow!("{report}"))?;
    let workload = args.workload.as_ref().map(|workload| workload.within(&config.cluster));
    let cases = match (args.over, &workload) {
        (Some(over), Some(workload)) => from_prometheus(args, over, workload, &config).await?,
        _ => {
            let records = replay::records(args.file.as_deref(), common).await?;
            let lines: Vec<Vec<u8>> = records.into_iter().map(|line| line.json).collect();
            let mut cases = cases(&lines)?;
            cases.retain(|case| workload.is_none() || case.workload == workload);
            cases
        }
    };
    if cases.is_empty() {
        let of_workload = workload.map_or(String::new(), |workload| format!(" of {workload}"));
        bail!(
            "the recording has no rollout{of_workload} with a block of counts; use a file of blocks, records of the decisions \
             topic, or a longer past with --over"
        );
    }
    let tested = cases.into_iter().map(|case| test(case, args, &config)).collect::<anyhow::Result<Vec<Tested>>>()?;
    match common.output {
        Output::Json => {
            print(&(serde_json::to_string_pretty(&tested).context("can't encode the backtest as JSON")? + "\n"))
        }
        Output::Table => print(&render(&tested)),
    }
    Ok(exit::OK)
}

/// Returns a case for each canary that the workload had in the past; with `--same pods` one case with all blocks, as a pod
/// of the stable stands in for the canary.
async fn from_prometheus(
    args: &BacktestArgs,
    over: Span,
    workload: &Workload,
    config: &Config,
) -> anyhow::Result<Vec<Case>> {
    let policy = plan::policy(config, args.policy.as_deref(), Some(workload))?;
    let canary = !matches!(args.same, Some(Same::Pods));
    let blocks = past::blocks(config, policy, workload, PastRequest { over, to: args.to, canary }).await?;
    let case = |found: FoundCanary| Case {
        name: match found.blocks.first() {
            Some(first) => format!("{workload} from {}", first.from),
            None => workload.to_string(),
        },
        workload: Some(workload.clone()),
        recorded: None,
        calibrations: BacktestJudge::Ours(Box::new(policy.clone())).learn(found.before),
        blocks: found.blocks.to_vec(),
    };
    let all_blocks = || FoundCanary { before: &[], blocks: &blocks };
    Ok(if canary { canaries(&blocks).into_iter().map(case).collect() } else { vec![case(all_blocks())] })
}

fn test(case: Case, args: &BacktestArgs, config: &Config) -> anyhow::Result<Tested> {
    let Case { name, workload, recorded, calibrations, blocks } = case;
    let policy = plan::policy(config, args.policy.as_deref(), workload.as_ref())?;
    let (blocks, lasts) = match args.same {
        None => (blocks, None),
        Some(Same::Arms) => (blocks, Some(args.stretch.unwrap_or(policy.planned(false)))),
        Some(Same::Pods) => (pods(&blocks)?, Some(args.stretch.unwrap_or(policy.planned(false)))),
    };
    let judges = judges(policy, args, &blocks, lasts.unwrap_or(length(&blocks)))?;
    let tested = Tested { of: name, recorded, judged: Vec::new(), false_alarms: Vec::new() };
    Ok(match lasts {
        None => {
            Tested { judged: judges.iter().filter_map(|judge| judge.judge(&blocks, &calibrations)).collect(), ..tested }
        }
        Some(lasts) => {
            let alarms = judges.iter().map(|judge| false_alarms(judge, [&*blocks], lasts));
            Tested { false_alarms: alarms.collect(), ..tested }
        }
    })
}

fn pods(blocks: &[Block]) -> anyhow::Result<Vec<Block>> {
    let split = one_pod_as_canary(blocks, 0);
    if split.is_empty() {
        bail!(
            "--same pods: no block has the counts of two single pods of the stable; they are recorded if a check has judge = \
             \"sequential\" and its metric is measured at the pods"
        );
    }
    Ok(split)
}

/// Returns the judges: our policy, then the other tools. A judge whose metrics were not recorded is an error.
fn judges(policy: &Policy, args: &BacktestArgs, blocks: &[Block], lasts: Span) -> anyhow::Result<Vec<BacktestJudge>> {
    let mut judges = vec![BacktestJudge::Ours(Box::new(policy.clone()))];
    if args.import.is_empty() {
        // The default settings judge one share of errors, so they need a recording with exactly one.
        let rivals = only_ratio(blocks).map(|errors| Rival::usual(&errors, lasts)).unwrap_or_default();
        judges.extend(rivals.into_iter().map(BacktestJudge::Theirs));
    }
    let queries: BTreeMap<String, RecordedQuery> =
        args.query.iter().map(|mapping| (mapping.name.clone(), mapping.query.clone())).collect();
    for path in &args.import {
        for manifest in manifests(path)? {
            let rival = Rival::from_manifest(&manifest, &queries, blocks, lasts);
            let rival = rival.with_context(|| format!("{}: see --query", path.display()))?;
            judges.push(BacktestJudge::Theirs(rival));
        }
    }
    Ok(judges.into_iter().map(|judge| judge.fit(blocks)).collect::<Result<_, _>>()?)
}

/// Reads the YAML documents of a file. JSON is YAML as well.
fn manifests(path: &std::path::Path) -> anyhow::Result<Vec<serde_json::Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    serde_saphyr::from_multiple(&text).with_context(|| format!("{} is not YAML", path.display()))
}

fn render(tested: &[Tested]) -> String {
    let mut text = String::new();
    for Tested { of, recorded, judged, false_alarms } in tested {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &match recorded {
            Some(recorded) => format!("{of}; recorded decision: {recorded}\n"),
            None => format!("{of}\n"),
        };
        let rows: Vec<Vec<String>> = judged.iter().map(decision).collect();
        if !rows.is_empty() {
            text += &table(&["JUDGE", "DECISION", "AFTER", "REASON"], &rows);
        }
        let rows: Vec<Vec<String>> = false_alarms.iter().map(alarms).collect();
        if !rows.is_empty() {
            text += &table(&["JUDGE", "ROLLED BACK", "AT MOST (95 %)", "UNDECIDED", "FIRST FALSE ALARM"], &rows);
        }
    }
    text
}

fn decision(judged: &Judged) -> Vec<String> {
    let end = judged.end.map_or_else(|| "undecided".to_owned(), |end| end.to_string());
    vec![judged.who.clone(), end, judged.after.to_string(), judged.why.clone()]
}

fn alarms(alarms: &FalseAlarms) -> Vec<String> {
    vec![
        alarms.who.clone(),
        format!("{} of {}", alarms.rolled_back, alarms.stretches),
        Unit::Percent.show(alarms.at_most),
        alarms.undecided.to_string(),
        alarms.first.as_ref().map_or_else(|| "–".to_owned(), |first| format!("{}: {}", first.at, first.why)),
    ]
}

#[cfg(test)]
mod tests;
