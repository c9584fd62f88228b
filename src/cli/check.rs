//! `bellwether check`: every problem of the configuration, and with `--online` of everything that it names. It writes
//! nothing anywhere, so it can be run beside a daemon.

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::{Common, Output, print, table};
use crate::config::{self, Config};
use crate::exit;

mod online;

pub(super) use online::{listed, watch};

/// What `check` takes.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Ask Kafka, Prometheus and Kubernetes too: every query once, every verb.
    #[arg(long)]
    online: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Warning,
    /// It won't work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    /// How bad it is.
    pub level: Level,
    /// What it is about: `config`, `kafka`, `rbac`, the workload `shop/web`, …
    pub area: String,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl CheckFinding {
    /// As it should be.
    pub fn fine(area: &str, text: impl Into<String>) -> CheckFinding {
        CheckFinding::said(Level::Fine, area, text)
    }

    /// Worth knowing.
    pub fn warning(area: &str, text: impl Into<String>, remedy: impl Into<String>) -> CheckFinding {
        CheckFinding::said(Level::Warning, area, text).with(remedy)
    }

    /// It won't work.
    pub fn problem(area: &str, text: impl Into<String>, remedy: impl Into<String>) -> CheckFinding {
        CheckFinding::said(Level::Problem, area, text).with(remedy)
    }

    /// A sentence that holds its own remedy.
    pub fn said(level: Level, area: &str, text: impl Into<String>) -> CheckFinding {
        CheckFinding { level, area: area.to_owned(), text: text.into(), remedy: None }
    }

    fn with(self, remedy: impl Into<String>) -> CheckFinding {
        CheckFinding { remedy: Some(remedy.into()), ..self }
    }
}

/// Checks.
///
/// # Errors
/// The findings can't be printed. What is wrong is no error: it is printed, and is in the exit code.
pub async fn run(args: &CheckArgs, common: &Common) -> anyhow::Result<u8> {
    let findings = match config::load(&common.sources()) {
        Ok(config) => {
            let mut findings = vec![of_config(&config)];
            if args.online {
                findings.extend(online::look(&config).await);
            }
            findings
        }
        Err(report) if common.output == Output::Json => of_report(&report),
        Err(report) => {
            print(&format!("{report}\n"));
            return Ok(exit::ERROR);
        }
    };
    match common.output {
        Output::Json => print(&(serde_json::to_string_pretty(&findings).context("findings as JSON")? + "\n")),
        Output::Table => print(&render(&findings, table::colours())),
    }
    Ok(code(&findings))
}

/// The report for programs: a finding for each problem, whose message holds its own remedy.
fn of_report(report: &config::ConfigReport) -> Vec<CheckFinding> {
    let text = |problem: &config::ConfigProblem| format!("{}: {}", problem.place, problem.message);
    report.problems.iter().map(|problem| CheckFinding::said(Level::Problem, "config", text(problem))).collect()
}

fn of_config(config: &Config) -> CheckFinding {
    let (policies, metrics) = (config.policies.len(), config.metrics.len());
    if policies == 0 {
        let remedy = "add a [[policy]]; config/policies/canary.toml is one to start from";
        return CheckFinding::warning("config", "there is no policy, so every event is ignored", remedy);
    }
    CheckFinding::fine(
        "config",
        format!("{}, {}", counted(policies, "policy", "policies"), counted(metrics, "metric", "metrics")),
    )
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A line for each finding, its remedy below it, and the sum.
pub fn render(findings: &[CheckFinding], colours: bool) -> String {
    let wide = findings.iter().map(|finding| finding.area.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for CheckFinding { level, area, text: found, remedy } in findings {
        let (mark, state) = match level {
            Level::Fine => ("✔", "pass"),
            Level::Warning => ("⚠", "held"),
            Level::Problem => ("✖", "regressed"),
        };
        text += &format!("{} {area:<wide$}  {found}\n", table::paint(state, mark, colours));
        if let Some(remedy) = remedy {
            text += &format!("  {:<wide$}  fix: {remedy}\n", "");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let sums = [(count(Level::Problem), "problem", "problems"), (count(Level::Warning), "warning", "warnings")];
    let said: Vec<String> = sums.iter().filter(|(n, ..)| *n > 0).map(|(n, one, many)| counted(*n, one, many)).collect();
    text + &(if said.is_empty() {
        "Nothing to complain about.\n".to_owned()
    } else {
        format!("{}.\n", said.join(", "))
    })
}

/// A problem is an error; a warning is not.
pub fn code(findings: &[CheckFinding]) -> u8 {
    if findings.iter().any(|finding| finding.level == Level::Problem) { exit::ERROR } else { exit::OK }
}
