//! `bellwether doctor`: everything that `check --online` examines, and the local daemon; for each finding the consequence and the
//! exact fix. The command only reads.

use anyhow::Context;
use clap::Args;

use super::check::{self, CheckFinding};
use super::{Common, Output, print, table};
use crate::{config, telemetry};

mod daemon;

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON; the same as --output json.
    #[arg(long)]
    json: bool,
}

/// Examines everything, and prints the findings. A problem is not an error: it is printed and sets the exit code.
///
/// # Errors
/// The findings can't be printed.
pub async fn run(args: &DoctorArgs, common: &Common) -> anyhow::Result<u8> {
    telemetry::install_tls();
    let mut cluster = None;
    let mut findings = match config::load(&common.sources()) {
        Ok(config) => {
            let mut findings = check::of_config(&config);
            findings.extend(check::online(&config).await);
            cluster = Some(config.cluster);
            findings
        }
        Err(report) => check::report_findings(&report),
    };
    findings.extend(daemon::findings(&common.api, cluster.as_deref()).await);
    if args.json || common.output == Output::Json {
        print(&(serde_json::to_string_pretty(&findings).context("can't encode the findings as JSON")? + "\n"));
    } else {
        print(&check::render_with_reasons(&findings, table::colours()));
    }
    Ok(check::code(&findings))
}
