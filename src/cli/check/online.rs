//! The examinations of `check --online` and `doctor`: everything that the configuration names is asked once, through the daemon's
//! own adapters. One file for each part.
//!
//! For each workload that a policy selects it runs the preflight and the queries that a rollout runs in the phase
//! `preparing`, so it finds the problems that a rollout would be refused for. It only reads.

use super::{CheckFinding, Level};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::journal::JournalKind;
use crate::telemetry;

mod advice;
mod certificates;
mod cluster;
mod journal;
mod kafka;
mod notifications;
mod prometheus;
mod rights;
mod workloads;

pub(in crate::cli) use advice::finding as issue_finding;
pub(in crate::cli) use cluster::when_listed;

/// The remedy for two clocks that differ.
const SYNCHRONIZE: &str =
    "synchronize both machines with the same time server: `chronyc tracking` shows the difference";

/// Returns a finding for each part that the configuration names and for each selected workload.
pub(in crate::cli) async fn findings(config: &Config) -> Vec<CheckFinding> {
    telemetry::install_tls();
    let mut findings = match config.journal.kind {
        JournalKind::Embedded => vec![journal::finding(&config.journal.path)],
        JournalKind::Kafka => kafka::findings(&config.kafka).await,
    };
    findings.extend(certificates::findings(config, SystemClock.now()));
    let (prometheus, finding) = prometheus::connect(&config.prometheus).await;
    findings.push(finding);
    findings.extend(notifications::findings(config).await);
    findings.extend(cluster::findings(config, prometheus).await);
    findings
}

/// Returns the words for a clock that is so many milliseconds ahead of ours.
fn clock_text(ahead_ms: i64) -> String {
    format!("its clock is {} s {} ours", ahead_ms.abs() / 1000, if ahead_ms > 0 { "ahead of" } else { "behind" })
}
