//! `bellwether replay`: runs recorded inputs through the engine again. With `--check` it fails unless every decision is byte
//! for byte the recorded one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use bellwether_core::engine::record::{AuditRecord, Replayer};
use bellwether_core::rollout::decision::Decision;
use clap::Args;

use super::table::counted;
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
    for line in records(args.file.as_deref(), common).await? {
        let Some(record) = AuditRecord::read(&line.json).map_err(|error| line.unreadable(&error))? else { continue };
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
    let skipped = if skipped == 0 {
        String::new()
    } else {
        let before = "before the first one with a basis";
        format!("; {} skipped", counted(skipped, &format!("record {before} was"), &format!("records {before} were")))
    };
    if same == 0 && different == 0 {
        let of = args.workload.map(|workload| format!(" of {workload}")).unwrap_or_default();
        if args.check {
            bail!("there is no decision{of} to check{skipped}");
        }
        super::tell(&format!("there is no decision{of} to replay{skipped}\n"));
        return Ok(exit::OK);
    }
    let (same, differ) =
        (counted(same, "decision is", "decisions are"), counted(different, "record differs", "records differ"));
    super::tell(&format!("{same} the same, {differ}{skipped}\n"));
    Ok(if args.check && different > 0 { exit::ERROR } else { exit::OK })
}

/// A record of decisions, not read yet.
pub(super) struct RecordLine {
    /// The place of the record, such as a file and a line.
    place: String,
    /// The record as JSON.
    pub(super) json: Vec<u8>,
}

impl RecordLine {
    /// Returns the error of a line that is no record.
    pub(super) fn unreadable(&self, why: &dyn std::fmt::Display) -> anyhow::Error {
        // The line of the JSON is not the line of the file.
        let why = why.to_string().replace("at line 1 column", "at character");
        anyhow!("{}: {why}; docs/audit.md shows how to get the records, one JSON object per line", self.place)
    }
}

/// Returns the lines of the file; without a file, all records of the decisions topic or of the embedded journal.
///
/// # Errors
/// The file, the configuration or the journal can't be read.
pub(super) async fn records(file: Option<&Path>, common: &Common) -> anyhow::Result<Vec<RecordLine>> {
    if let Some(file) = file {
        let text = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
        let lines = text.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
        let place = |number: usize| format!("{}, line {number}", file.display());
        return Ok(lines.map(|(line, number)| RecordLine { place: place(number), json: line.to_vec() }).collect());
    }
    let config = config::load(&common.sources()).map_err(|report| anyhow!("{report}"))?;
    let records: Vec<Vec<u8>> = match config.journal.kind {
        JournalKind::Embedded => {
            embedded::read_decisions(&config.journal.path)?.into_iter().map(|(_, json)| json).collect()
        }
        JournalKind::Kafka => kafka::read_decisions(&config.kafka, |_, _| true).await?,
    };
    let line = |(json, number): (Vec<u8>, usize)| RecordLine { place: format!("record {number}"), json };
    Ok(records.into_iter().zip(1..).map(line).collect())
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[tokio::test]
    async fn a_line_that_is_no_record_is_told_with_its_file_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records.jsonl");
        std::fs::write(&file, "{}\n\nhello\n").unwrap();
        let common = Cli::parse_from(["bellwether", "replay"]).common;
        let lines = records(Some(&file), &common).await.unwrap();
        let [first, second] = lines.as_slice() else { panic!("{} lines", lines.len()) };
        let told = |line: &RecordLine| line.unreadable(&AuditRecord::read(&line.json).unwrap_err()).to_string();
        assert!(
            told(first).contains("records.jsonl, line 1: it is not a record of decisions: missing field"),
            "{}",
            told(first)
        );
        let expected =
            "records.jsonl, line 3: it is not a record of decisions: expected value at character 1; docs/audit.md";
        assert!(told(second).contains(expected), "{}", told(second));
    }
}
