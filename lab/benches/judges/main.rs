//! Bellwether's judge and the rules of others on the same simulated traffic: the tables and pictures of
//! `docs/figures-judges.md`.
//!
//! ```sh
//! BELLWETHER_RUNS=20000 cargo bench -p bellwether-lab --bench judges -- --write
//! ```
//!
//! prints the tables as Markdown, and with `--write` draws `docs/figures/*.svg`; with `--cost` it prints only what a block costs.
//! The seeds are fixed: the same command gives the same tables. (The times per block are the machine's.)
#![expect(clippy::unwrap_used, reason = "a measurement that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "the tables are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it asks how much to simulate, and writes the pictures")]
#![expect(clippy::disallowed_types, reason = "it measures time")]

mod contest;
mod plot;
mod rivals;
mod timing;

use std::path::Path;

use bellwether_sim::polls::{Scenario, equal_arms, percent, runs, worse_canaries};
use contest::{Contest, Outage};

fn main() {
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    if asked("--cost") {
        return timing::table();
    }
    let runs = runs(100);
    let contest = Contest::new();
    let alike = false_rollbacks(&contest, runs);
    let delays = time_to_rollback(&contest, runs.min(contest::MOST));
    outages(&contest, runs.min(contest::MOST));
    timing::table();
    if asked("--write") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/figures");
        std::fs::create_dir_all(&folder).unwrap();
        let names = contest.names();
        std::fs::write(folder.join("false-rollbacks.svg"), plot::bars(&names, &alike)).unwrap();
        std::fs::write(folder.join("time-to-rollback.svg"), plot::dots(&names, &delays)).unwrap();
    }
}

fn head(first: &str, names: &[&str]) {
    println!("| {first} | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
}

/// By row: its name, and each judge's share of false rollbacks.
fn false_rollbacks(contest: &Contest, runs: usize) -> Vec<(String, Vec<f64>)> {
    println!(
        "\n### Canary and stable are the same: rolled back within the hour ({runs} rollouts per row, 99 % bound)\n"
    );
    head("rollout", &contest.names());
    let row = |row: Scenario| {
        let all = contest.play(&row, runs, None);
        let cells: Vec<String> = all.iter().map(|score| percent(score.rolled_back.seconds.len(), score.runs)).collect();
        println!("| {} | {} |", row.name, cells.join(" | "));
        (row.name.clone(), all.iter().map(|score| score.rolled_back.share()).collect())
    };
    equal_arms().into_iter().map(row).collect()
}

/// By row: its name, and each judge's median, 90th percentile and share of rollbacks.
fn time_to_rollback(contest: &Contest, runs: usize) -> Vec<(String, Vec<plot::Dot>)> {
    println!("\n### The canary is worse: seconds from onset to rollback, median (90th percentile); rolled back");
    println!("\n{runs} rollouts per row.\n");
    head("rollout", &contest.names());
    let row = |row: Scenario| {
        let all = contest.play(&row, runs, None);
        let cell = |score: &contest::Score| {
            let never = score.rolled_back.runs - score.rolled_back.seconds.len() - score.promoted;
            let part = |count: usize| 100.0 * count as f64 / score.rolled_back.runs.max(1) as f64;
            let word = |what: &str, count: usize| {
                if count == 0 { String::new() } else { format!("; {what} {:.1} %", part(count)) }
            };
            format!("{}{}{}", score.rolled_back, word("promoted", score.promoted), word("neither", never))
        };
        println!("| {} | {} |", row.name, all.iter().map(cell).collect::<Vec<_>>().join(" | "));
        let dot = |score: &contest::Score| plot::Dot {
            median: score.rolled_back.quantile(0.5),
            p90: score.rolled_back.quantile(0.9),
            part: score.rolled_back.share(),
        };
        (row.name.clone(), all.iter().map(dot).collect())
    };
    worse_canaries().into_iter().map(row).collect()
}

fn outages(contest: &Contest, runs: usize) {
    println!(
        "\n### Prometheus is away after 3 minutes; canary and stable are the same, 5/95 rps, 0.1 % ({runs} rollouts)\n"
    );
    head("away for", &contest.names());
    for minutes in [1, 2, 10] {
        let row = equal_arms().into_iter().next().unwrap();
        let all = contest.play(&row, runs, Some(Outage { from: 12, polls: 4 * minutes }));
        let part = |count: usize, score: &contest::Score| 100.0 * count as f64 / score.runs as f64;
        let cell = |score: &contest::Score| {
            let held = if score.held == 0 { String::new() } else { format!("; held {:.1} %", part(score.held, score)) };
            format!("rolled back {:.1} %{held}", part(score.rolled_back.seconds.len(), score))
        };
        println!("| {minutes} min | {} |", all.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
}
