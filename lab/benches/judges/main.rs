//! The comparison of Bellwether's judge with the rules of other tools on the same simulated traffic, which makes the
//! tables and pictures of `docs/figures-judges.md`.
//!
//! ```sh
//! BELLWETHER_RUNS=20000 cargo bench -p bellwether-lab --bench judges -- --write
//! ```
//!
//! It prints the tables as Markdown, and with `--write` draws `docs/figures/*.svg`. With `--cost` it prints only the
//! cost of a block. The seeds are fixed, so the same command gives the same tables, except for the times per block.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't continue panics")]
#![expect(clippy::print_stdout, reason = "the tables are printed")]
#![expect(clippy::disallowed_methods, reason = "it reads its arguments and writes the pictures")]
#![expect(clippy::disallowed_types, reason = "it measures time")]

mod outage;
mod contest;
mod plot;
mod rivals;
mod timing;

use std::path::Path;

use bellwether_sim::polls::{Scenario, equal_arms, percent, runs, worse_canaries};
use contest::{Contest, JudgeScore, MAX_RIVAL_RUNS};
use outage::Outage;

fn main() {
    let has_flag = |flag: &str| std::env::args().any(|argument| argument == flag);
    if has_flag("--cost") {
        return timing::table();
    }
    let runs = runs(100);
    let contest = Contest::new();
    let shares = false_rollbacks(&contest, runs);
    let delays = time_to_rollback(&contest, runs.min(MAX_RIVAL_RUNS));
    outages(&contest, runs.min(MAX_RIVAL_RUNS));
    timing::table();
    if has_flag("--write") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/figures");
        std::fs::create_dir_all(&folder).unwrap();
        let names = contest.names();
        std::fs::write(folder.join("false-rollbacks.svg"), plot::bars(&names, &shares)).unwrap();
        std::fs::write(folder.join("time-to-rollback.svg"), plot::dots(&names, &delays)).unwrap();
    }
}

fn print_head(first: &str, names: &[&str]) {
    println!("| {first} | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
}

/// Prints the table of false rollbacks. Returns each scenario's name and each judge's share of rollbacks.
fn false_rollbacks(contest: &Contest, runs: usize) -> Vec<(String, Vec<f64>)> {
    println!("\n### False rollbacks: canary and stable are equal\n");
    println!("Share of the rollouts that are rolled back within the hour, with the one-sided 99 % bound.");
    println!("{runs} rollouts per row for Bellwether, {} for the others.\n", runs.min(MAX_RIVAL_RUNS));
    print_head("rollout", &contest.names());
    let row = |scenario: Scenario| {
        let scores = contest.simulate(&scenario, runs, None);
        let cell = |score: &JudgeScore| percent(score.rolled_back.seconds.len(), score.runs);
        println!("| {} | {} |", scenario.name, scores.iter().map(cell).collect::<Vec<_>>().join(" | "));
        (scenario.name.clone(), scores.iter().map(|score| score.rolled_back.share()).collect())
    };
    equal_arms().into_iter().map(row).collect()
}

/// Prints the table of times to the rollback. Returns each scenario's name and each judge's times.
fn time_to_rollback(contest: &Contest, runs: usize) -> Vec<(String, Vec<plot::Dot>)> {
    println!("\n### Time to rollback: the canary is worse\n");
    println!("Seconds from onset to rollback: median (90th percentile); share that is rolled back.");
    println!("{runs} rollouts per row.\n");
    print_head("rollout", &contest.names());
    let row = |scenario: Scenario| {
        let scores = contest.simulate(&scenario, runs, None);
        let cell = |score: &JudgeScore| {
            let undecided = score.rolled_back.runs - score.rolled_back.seconds.len() - score.promoted;
            let share = |count: usize| 100.0 * count as f64 / score.rolled_back.runs.max(1) as f64;
            let text = |end: &str, count: usize| {
                if count == 0 { String::new() } else { format!("; {end} {:.1} %", share(count)) }
            };
            format!("{}{}{}", score.rolled_back, text("promoted", score.promoted), text("neither", undecided))
        };
        println!("| {} | {} |", scenario.name, scores.iter().map(cell).collect::<Vec<_>>().join(" | "));
        let dot = |score: &JudgeScore| plot::Dot {
            median: score.rolled_back.quantile(0.5),
            p90: score.rolled_back.quantile(0.9),
            share: score.rolled_back.share(),
        };
        (scenario.name.clone(), scores.iter().map(dot).collect())
    };
    worse_canaries().into_iter().map(row).collect()
}

/// Prints the table of outages.
fn outages(contest: &Contest, runs: usize) {
    println!("\n### Prometheus outages: canary and stable are equal\n");
    println!("The outage begins after three minutes; 5/95 rps, 0.1 % errors; {runs} rollouts.\n");
    print_head("away for", &contest.names());
    for minutes in [1, 2, 10] {
        let scenario = equal_arms().into_iter().next().unwrap();
        let scores = contest.simulate(&scenario, runs, Some(Outage { from: 12, polls: 4 * minutes }));
        let share = |count: usize, score: &JudgeScore| 100.0 * count as f64 / score.runs as f64;
        let cell = |score: &JudgeScore| {
            let held =
                if score.held == 0 { String::new() } else { format!("; held {:.1} %", share(score.held, score)) };
            format!("rolled back {:.1} %{held}", share(score.rolled_back.seconds.len(), score))
        };
        println!("| {minutes} min | {} |", scores.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
}
