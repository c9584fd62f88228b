//! The frame of a benchmark on the plane, and the figures that benchmarks print.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::namespace;
use super::parts::Plane;
use super::paths::PlanePaths;
use super::sandbox::Sandbox;

/// Starts a plane whose Prometheus scrapes at intervals, and runs a benchmark in a sandbox with this name. An error is printed
/// with the state of the sandbox.
pub fn run(
    paths: &PlanePaths,
    name: &str,
    scrape_interval: Duration,
    measure: impl AsyncFnOnce(&Arc<Sandbox>) -> Result<()>,
) -> ExitCode {
    match run_on_plane(paths, name, scrape_interval, measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_on_plane(
    paths: &PlanePaths,
    name: &str,
    scrape_interval: Duration,
    measure: impl AsyncFnOnce(&Arc<Sandbox>) -> Result<()>,
) -> Result<()> {
    namespace::enter(&paths.data())?;
    bellwether::telemetry::install_tls();
    let logs = paths.fresh_logs()?;
    println!("the logs of all programs are in {}", logs.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let plane = Arc::new(Plane::start_scraping(paths, &logs, scrape_interval).await?);
        let sandbox = Arc::new(Sandbox::create(plane, name).await?);
        let result = measure(&sandbox).await;
        if result.is_err() {
            eprintln!("{}", sandbox.describe().await);
        }
        result
    })
}

/// Returns the number in an environment variable, or `default` if it is not set.
///
/// # Errors
/// The variable has no number.
pub fn number(variable: &str, default: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} = {text:?}")),
        Err(_) => Ok(default),
    }
}

/// Prints the head of a table whose rows [`show`] prints.
pub fn show_head() {
    println!("\n{:<28} {:>6} {:>10} {:>10} {:>10} {:>10}", "", "n", "p50", "p90", "p99", "max");
}

/// Prints the number of values and their quantiles, with one decimal and the unit.
pub fn show(label: &str, unit: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1));
        values.get(rank - 1).copied().unwrap_or(f64::NAN)
    };
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|share| format!("{:.1} {unit}", at(share)));
    println!("{label:<28} {:>6} {p50:>10} {p90:>10} {p99:>10} {max:>10}", values.len());
}

/// Returns the CPU time of a process so far, in seconds.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may have spaces. The 14th and 15th fields are the times in user and system mode, in ticks, of
    // which Linux has a hundred a second.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let field =
        |n: usize| fields.split_whitespace().nth(n).context("/proc/PID/stat")?.parse::<f64>().context("a number");
    Ok((field(11)? + field(12)?) / 100.0)
}

/// Returns the CPU time of each thread of a process so far: its name and seconds, the longest first.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds_by_thread(pid: u32) -> Result<Vec<(String, f64)>> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread that has just ended is left out.
        let Ok(stat) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        let nanoseconds: f64 = stat.split_whitespace().next().context("schedstat")?.parse().context("schedstat")?;
        threads.push((name.trim().to_owned(), nanoseconds / 1e9));
    }
    threads.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(threads)
}

/// Returns the memory of a process in MiB: that of now (`VmRSS`), or its peak (`VmHWM`).
///
/// # Errors
/// There is no such process.
pub fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: f64 = line.context("/proc/PID/status")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
