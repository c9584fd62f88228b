//! The table of the unkind world: `cargo bench -p bellwether-sim --bench unkind -- --runs 200 [--row NAME] [--seed S]`.
//!
//! With `--seed` it tells the story of that seed in the row, of a good version and of a bad one (or of one of them, with
//! `--version good` or `--version bad`).

use std::process::ExitCode;

use bellwether_sim::unkind::{Fault, Row, Summary, run, story};

/// The command line.
struct Arguments {
    runs: u64,
    row: Option<Row>,
    seed: Option<u64>,
    versions: Vec<bool>,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { runs: 200, row: None, seed: None, versions: vec![true, false] };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} needs a number, not {value:?}"));
        match word.as_str() {
            "--runs" => arguments.runs = number()?,
            "--seed" => arguments.seed = Some(number()?),
            "--row" => arguments.row = Some(Row::named(&value).ok_or_else(|| format!("there is no row {value:?}"))?),
            "--version" => arguments.versions = vec![value == "good"],
            _ => return Err(format!("{word} is not known; there are --runs, --row, --seed and --version")),
        }
    }
    Ok(arguments)
}

/// Returns the outcomes of the seeds from 0, in their order. All cores run a part of them.
fn summary(row: Row, good: bool, runs: u64) -> Summary {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let part = runs.div_ceil(cores).max(1);
    let mut summary = Summary::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..cores)
            .map(|core| core * part..runs.min((core + 1) * part))
            .map(|seeds| scope.spawn(move || seeds.map(|seed| run(row, good, seed)).collect::<Vec<_>>()))
            .collect();
        for part in parts {
            summary.outcomes.extend(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    summary
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the benchmark's result")]
fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let rows: Vec<Row> = arguments.row.map_or_else(|| Row::ALL.to_vec(), |row| vec![row]);
    if let Some(seed) = arguments.seed {
        for row in rows {
            for good in &arguments.versions {
                let (outcome, lines) = story(row, *good, seed);
                println!("{}\n{outcome:#?}\n", lines.join("\n"));
            }
        }
        return ExitCode::SUCCESS;
    }
    let mut reasons = Vec::new();
    let mut all = [Summary::default(), Summary::default()];
    println!("| row | the world |\n| --- | --- |");
    for row in &rows {
        println!("| {} | {} |", row.name(), row.description().trim());
    }
    println!("\n{}", Summary::header());
    for row in rows {
        for good in &arguments.versions {
            let summary = summary(row, *good, arguments.runs);
            println!("{}", summary.line(row.name(), *good));
            all[usize::from(*good)].outcomes.extend(summary.outcomes.iter().cloned());
            reasons.push((row, *good, summary.reasons()));
        }
    }
    for good in &arguments.versions {
        println!("{}", all[usize::from(*good)].line("all", *good));
    }
    let [bad, _] = all;
    println!("\nThe bad versions of all rows by their faults:\n\n{}", Summary::header());
    for fault in Fault::ALL {
        let of_fault = |outcome: &&bellwether_sim::unkind::Outcome| outcome.fault == Some(fault);
        let outcomes = bad.outcomes.iter().filter(of_fault).cloned().collect();
        println!("{}", Summary { outcomes }.line(fault.name(), false));
    }
    println!("\nReasons of the wrong outcomes, with one seed of each:\n");
    for (row, good, lines) in reasons {
        for line in lines.iter().take(6) {
            println!("- {} {}: {line}", row.name(), if good { "good" } else { "bad" });
        }
    }
    ExitCode::SUCCESS
}
