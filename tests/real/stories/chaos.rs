//! Faults of all kinds at the same time, by a seeded plan, while rollouts of good and bad versions run one after another on many
//! workloads. A separate program, `chaos-oracle`, then checks the API server's audit log and the raw topics.
//!
//! `BELLWETHER_SEED` gives another plan, and `BELLWETHER_ROUNDS` another number of rounds of 72 faults. The story has its own broker, and the daemons reach the API server and Prometheus through
//! proxies, so that other stories can run at the same time.

mod arena;
mod faults;
mod plan;
mod rollouts;

use std::error::Error;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bellwether_sim::dice::Dice;
use bellwether_testkit::plane::{Sandbox, wait};
use futures::future::{join_all, try_join3};
use serde_json::json;
use tokio::process::Command;

use self::arena::Arena;
use self::faults::inject;
use self::plan::plan;
use self::rollouts::Rollouts;
use super::{Story, story, story_within};

/// Faults that a run needs for each round of the plan; some of those that are planned find no rollout to disturb.
const LEAST_FAULTS: usize = 60;
/// Rollouts that a run needs: so many, and so many more for each round of the plan.
const LEAST_ROLLOUTS: [usize; 2] = [20, 40];
/// Deadline for the end of all rollouts after the last fault.
const LONG: Duration = Duration::from_secs(240);

pub fn stories() -> Vec<Story> {
    vec![story("chaos::sixty_faults_over_sixty_rollouts_change_no_ending", async |sandbox| chaos(sandbox, 1).await)]
}

/// Returns the stories of `tests/run soak`.
pub fn soaks() -> Vec<Story> {
    let body = async |sandbox: &Sandbox| chaos(sandbox, 9).await;
    vec![story_within("soak::five_hundred_faults_change_no_ending", Duration::from_secs(45 * 60), body)]
}

/// Runs the plan this often with other dice, and then the oracle.
async fn chaos(sandbox: &Sandbox, rounds: usize) -> Result<()> {
    let seed: u64 = number("BELLWETHER_SEED", 1)?;
    let rounds: usize = number("BELLWETHER_ROUNDS", rounds)?;
    println!("chaos: seed {seed}, {rounds} rounds");
    let context = || format!("seed {seed}");
    let began = Instant::now();
    let arena = Box::pin(Arena::start(sandbox)).await.with_context(context)?;
    println!("chaos: the workloads and two daemons are ready after {:?}", began.elapsed());
    let result = Box::pin(run(&arena, seed, rounds)).await.with_context(context);
    println!("chaos: all is over after {:?}", began.elapsed());
    result
}

/// Returns the number in an environment variable, or the default.
fn number<T: FromStr<Err: Error + Send + Sync + 'static>>(variable: &str, default: T) -> Result<T> {
    let Ok(text) = std::env::var(variable) else { return Ok(default) };
    text.parse().with_context(|| format!("{variable}={text} is not a number"))
}

async fn run(arena: &Arena<'_>, seed: u64, rounds: usize) -> Result<()> {
    let loads = arena.loads()?;
    let rollouts = Rollouts::new(arena, seed).await?;
    let mut dice = Dice(seed);
    let plan: Vec<_> = (0..rounds).flat_map(|round| plan(&mut dice, round)).collect();
    let began = Instant::now();
    let disturb = async {
        let all = plan.iter().map(|fault| inject(arena, &rollouts, fault, began));
        let failed: Vec<_> = join_all(all).await.into_iter().filter_map(Result::err).collect();
        rollouts.request_no_more();
        println!("chaos: the last of {} faults is over after {:?}", arena.injected().len(), began.elapsed());
        // A fault is not injected if the daemon is away that it concerns, or the part that it goes through.
        failed.iter().for_each(|error| println!("chaos: not injected: {error:#}"));
        anyhow::Ok(())
    };
    try_join3(disturb, rollouts.run(LONG), arena.keep_running(|| rollouts.are_over())).await?;
    arena.cleaned_up().await?;
    let mut traffic = serde_json::Map::new();
    for (name, load) in loads {
        let counts = load.stop().await?;
        let of_versions: u64 = counts.by_version.values().map(|version| version.errors).sum();
        let gateway_errors = counts.failed() - counts.lost - of_versions;
        traffic.insert(name, json!({"sent": counts.sent, "lost": counts.lost, "gateway_errors": gateway_errors}));
    }
    arena.stop().await?;
    let replayed = arena.cli(&["replay", "--check"]).await?;
    ensure!(replayed.code == Some(0) && !replayed.stdout.is_empty(), "{replayed:?}");
    let facts = json!({
        "least_rollouts": LEAST_ROLLOUTS[0] + LEAST_ROLLOUTS[1] * rounds,
        "least_faults": LEAST_FAULTS * rounds,
        "faults": arena.injected(),
        "traffic": traffic,
        "pods": arena.pods(),
    });
    ask_oracle(arena, &facts).await
}

/// Runs the oracle and shows its table.
async fn ask_oracle(arena: &Arena<'_>, facts: &serde_json::Value) -> Result<()> {
    let sandbox = arena.sandbox;
    let file = sandbox.plane.logs.join(format!("{}.facts.json", sandbox.namespace));
    std::fs::write(&file, facts.to_string())?;
    // The audit log is written a moment after the answer.
    let oracle = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaos-oracle"));
        command.arg("--audit").arg(sandbox.plane.kubernetes.audit_log()).arg("--facts").arg(&file);
        command.args(["--user", arena.user(), "--namespace", &sandbox.namespace]);
        command.args(["--brokers", &arena.broker.address, "--topics", &sandbox.namespace]);
        let output = command.kill_on_drop(true).output().await.context("starting the oracle")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.code() != Some(2), "the oracle: {}", text(&output.stderr));
        Ok((output.status.success(), text(&output.stdout)))
    };
    let (sound, table) = wait::until("the oracle's table", LONG, oracle).await?;
    println!("{table}");
    ensure!(sound, "the oracle has found violations:\n{table}");
    Ok(())
}
