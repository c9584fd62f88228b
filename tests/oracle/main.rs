//! `chaos-oracle`: checks a finished run of rollouts under faults by the API server's audit log and the raw topics.
//!
//! It is a program of its own and shares no code with the daemon: it reads the wire formats itself. The story `chaos` starts it,
//! and it prints a table of its rules. Its exit code is 1 if a rule is broken, and 2 if its input can't be read.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program of the tests, and the table is its result"
)]

mod audit;
#[cfg(test)]
mod contract;
mod facts;
mod matrix;
mod rules;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::facts::{OracleInput, StoryFacts};
use crate::rules::RuleResult;

/// Violations of one rule that are printed.
const MOST_SHOWN: usize = 20;

#[derive(Debug, Parser)]
#[command(about = "Checks a finished chaos run by the audit log and the raw topics")]
struct OracleOptions {
    /// The API server's audit log.
    #[arg(long)]
    audit: PathBuf,
    /// The user name of the daemons in the API server.
    #[arg(long)]
    user: String,
    /// The namespace of the workloads.
    #[arg(long)]
    namespace: String,
    /// The brokers, as HOST:PORT.
    #[arg(long)]
    brokers: String,
    /// The prefix of the topics `PREFIX.events`, `PREFIX.events.dlq`, `PREFIX.journal` and `PREFIX.decisions`.
    #[arg(long)]
    topics: String,
    /// The facts that the story itself knows, as JSON: the faults, the traffic and the pods.
    #[arg(long)]
    facts: PathBuf,
}

fn main() -> ExitCode {
    let options = OracleOptions::parse();
    match read(&options) {
        Ok(input) => {
            let results = rules::check(&input);
            print(&input, &results);
            let sound = results.iter().all(|result| result.violations.is_empty());
            if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn read(options: &OracleOptions) -> Result<OracleInput> {
    let topic = |kind: &str| topics::read(&options.brokers, &format!("{}.{kind}", options.topics));
    let story = StoryFacts::read(&options.facts)?;
    let writes = audit::writes(&std::fs::read_to_string(&options.audit)?, &options.user, &options.namespace)?;
    OracleInput::new(story, writes, &topic("events")?, &topic("events.dlq")?, &topic("journal")?, &topic("decisions")?)
}

fn print(input: &OracleInput, results: &[RuleResult]) {
    println!("faults: {}", counts(input.story.faults.iter().map(|fault| fault.kind.as_str())));
    println!("endings: {}", counts(input.rollouts.values().map(|rollout| rollout.ending().unwrap_or("none"))));
    println!("{:<34} {:>8} {:>10}", "rule", "checked", "violations");
    for RuleResult { rule, checked, violations } in results {
        println!("{rule:<34} {checked:>8} {:>10}", violations.len());
    }
    for RuleResult { rule, violations, .. } in results {
        for violation in violations.iter().take(MOST_SHOWN) {
            println!("violation of {rule}: {violation}");
        }
        if violations.len() > MOST_SHOWN {
            println!("violation of {rule}: {} more", violations.len() - MOST_SHOWN);
        }
    }
}

/// Returns the number of each word, such as `3 kill, 2 pause`.
fn counts<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}
