//! `bellwether replay`: runs recorded inputs through the engine again. With `--check` it fails unless every decision is byte
//! for byte the recorded one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use bellwether_core::engine::record::{AuditRecord, Replayer};
use bellwether_core::rollout::decision::Decision;
use clap::Args;

use super::{Common, Output, print};
use crate::adapters::kafka;
use crate::config;
use crate::exit;
use crate::journal::JournalKind;
use crate::journal::embedded;

/// The arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Fail if a decision differs from the recorded one.
    #[arg(long)]
    check: bool,
    /// File with the records, one JSON object per line, instead of the decisions topic or the journal.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replay only this workload, as cluster/namespace/Deployment/name.
    #[arg(long)]
    workload: Option<String>,
}

/// Replays the records, and prints each decision and each difference.
///
/// # Errors
/// A record can't be read.
pub async fn run(args: ReplayArgs, common: &Common) -> anyhow::Result<u8> {
    let mut replayer = Replayer::default();
    let mut different = 0;
    for json in records(args.file.as_deref(), common).await? {
        let record = AuditRecord::read(&json).context("can't read a record of decisions")?;
        if args.workload.as_ref().is_some_and(|workload| *workload != record.workload.to_string()) {
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
    let skipped = if skipped > 0 {
        format!("; {skipped} records before the first one with a basis were skipped")
    } else {
        String::new()
    };
    if args.check && same == 0 && different == 0 {
        bail!("there is no decision to check{skipped}");
    }
    super::tell(&format!("{same} decisions are the same, {different} records differ{skipped}\n"));
    Ok(if args.check && different > 0 { exit::ERROR } else { exit::OK })
}

/// Returns the lines of the file; without a file, all records of the decisions topic or of the embedded journal.
///
/// # Errors
/// The file, the configuration or the journal can't be read.
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
