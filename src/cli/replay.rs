//! `bellwether replay`: recorded inputs through the ordinary engine, once more. With `--check` it fails unless every
//! decision comes out byte for byte as it was recorded.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use bellwether_core::engine::record::{AuditRecord, Replayer};
use bellwether_core::rollout::decision::Decision;
use clap::Args;

use super::{Common, Output, print};
use crate::adapters::kafka;
use crate::config;
use crate::exit;
use crate::journal::JournalKind;
use crate::journal::embedded;

/// What `replay` takes.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Fail unless the decisions are those that were recorded.
    #[arg(long)]
    check: bool,
    /// Read the records from this file, one JSON object a line, instead of from the decisions topic or the journal.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only this workload, as cluster/namespace/Deployment/name.
    #[arg(long)]
    workload: Option<String>,
}

/// Replays.
///
/// # Errors
/// The records can't be read.
pub async fn run(args: ReplayArgs, common: &Common) -> anyhow::Result<u8> {
    let mut replayer = Replayer::default();
    let mut different = 0;
    for json in records(args.file.as_deref(), common).await? {
        let record: AuditRecord =
            serde_json::from_slice(&json).context("a record can't be read; is it of this version?")?;
        if args.workload.as_ref().is_some_and(|wanted| *wanted != record.workload.to_string()) {
            continue;
        }
        match replayer.replay(&record) {
            Ok(decisions) => decisions.iter().try_for_each(|decision| show(decision, common.output))?,
            Err(difference) => {
                different += 1;
                print(&format!("✖ {difference}\n"));
            }
        }
    }
    let (same, skipped) = (replayer.same, replayer.skipped);
    let beginning =
        if skipped > 0 { format!("; {skipped} records before the first basis left out") } else { String::new() };
    super::tell(&format!("{same} decisions came out the same, {different} records differ{beginning}\n"));
    Ok(if args.check && different > 0 { exit::ERROR } else { exit::OK })
}

/// The lines of a file, or else all records of the decisions topic or of the embedded journal.
pub(super) async fn records(file: Option<&Path>, common: &Common) -> anyhow::Result<Vec<Vec<u8>>> {
    if let Some(file) = file {
        let text = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
        return Ok(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect());
    }
    let config = config::load(&common.sources()).map_err(|report| anyhow!("{report}"))?;
    match config.journal.kind {
        JournalKind::Embedded => {
            let decisions = embedded::read_decisions(&config.journal.path)?;
            Ok(decisions.into_iter().map(|(_, json)| json).collect())
        }
        JournalKind::Kafka => Ok(kafka::read_decisions(&config.kafka, |_, _| true).await?),
    }
}

fn show(decision: &Decision, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => print(&format!("{}\n", serde_json::to_string(decision)?)),
        Output::Table => print(&format!(
            "{}  {:<24} {:<9} {:<10} {}\n",
            decision.at, decision.rollout, decision.kind, decision.to, decision.why
        )),
    }
    Ok(())
}
