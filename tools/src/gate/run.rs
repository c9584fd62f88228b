//! One run of a suite: sends the requests that the ledger has no answer to, at the suite's concurrency and within its
//! budget.
//!
//! Cases are asked in an order that the suite's seed determines, and not in the order of the file. A run that its budget
//! ends early is inconclusive; the same run continues it with a larger budget.
//!
//! Gates run one after the other, so that a performance gate measures under its own load alone. The two arms take turns
//! case by case, so that a change over time affects both of them alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bellwether_core::time::Timestamp;
use bellwether_gate::dataset::{Case, Dataset};
use bellwether_gate::gates::{Recorded, evaluate};
use bellwether_gate::observation::{GateArm, MissingAnswer, ModelAnswer, Observation, ObservationKey};
use bellwether_gate::report::{GateReport, GateSubject, SCHEMA};
use bellwether_gate::score::rubric::{Labelled, kappa};
use bellwether_gate::suite::{Gate, Scorer, Suite};
use futures::StreamExt as _;

use super::ask::CaseRunner;
use super::budget::{BudgetExhausted, RunBudget};
use super::client::Unanswered;
use super::ledger::AnswerLedger;
use super::load::{LoadedSuite, RunError};

/// Number of progress messages per gate.
const PROGRESS_MESSAGES: usize = 10;

/// The circumstances of a run that are not part of the suite.
pub struct RunOptions<'a> {
    /// Model, version and digest that the run tests.
    pub subject: GateSubject,
    /// Path of the ledger; `None` for the default path beside the suite.
    pub ledger: Option<PathBuf>,
    /// Receives progress messages.
    pub progress: &'a (dyn Fn(&str) + Sync),
    /// Returns the present time.
    pub now: &'a (dyn Fn() -> Timestamp + Sync),
}

/// Sends the remaining requests of a run and returns the report on all its answers.
///
/// # Errors
/// [`RunError`] if an endpoint is not usable or the ledger can't be read or written. Failures of the target are in the
/// report.
pub async fn run(loaded: &LoadedSuite, options: &RunOptions<'_>) -> Result<GateReport, RunError> {
    let suite = &loaded.suite;
    let identity = loaded.identity(&options.subject);
    let path = options.ledger.clone().unwrap_or_else(|| loaded.default_ledger(&identity));
    let now = (options.now)();
    let (ledger, contents) = AnswerLedger::open(&path, &identity, now)?;
    if !contents.observations.is_empty() {
        (options.progress)(&format!(
            "{} answers are in {}; continuing from there",
            contents.observations.len(),
            path.display()
        ));
    }
    let runner = CaseRunner::new(suite, RunBudget::new(suite.budget, suite.price, contents.spent))?;
    let mut observations: BTreeMap<String, Vec<Observation>> = BTreeMap::new();
    for observation in contents.observations {
        observations.entry(observation.key.gate.clone()).or_default().push(observation);
    }
    let (mut refused, mut stopped, mut asked) = (BTreeMap::new(), String::new(), 0);
    for (gate, dataset) in suite.gates.iter().zip(&loaded.datasets) {
        let known = observations.entry(gate.name.clone()).or_default();
        let remaining = remaining(suite, gate, dataset, known);
        if remaining.is_empty() || !stopped.is_empty() {
            continue;
        }
        match judge_problem(&runner, gate, &loaded.labelled).await {
            Ok(None) => {}
            Ok(Some(why)) => {
                refused.insert(gate.name.clone(), why);
                continue;
            }
            Err(exhausted) => {
                stopped = exhausted.to_string();
                continue;
            }
        }
        let before = known.len();
        if let Some(exhausted) = ask_all(&runner, gate, remaining, &ledger, options.progress, known).await? {
            stopped = exhausted.to_string();
        }
        asked += known.len() - before;
    }
    ledger.close()?;
    Ok(make_report(
        loaded,
        options,
        (contents.started.unwrap_or(now), (options.now)()),
        &observations,
        &refused,
        (stopped, asked, &runner),
    ))
}

/// Sends the remaining requests of a gate, at the suite's concurrency, and adds the answers to `known`. Returns the
/// limit that stopped it, if the budget was used up.
async fn ask_all(
    runner: &CaseRunner<'_>,
    gate: &Gate,
    remaining: Vec<(&Case, ObservationKey)>,
    ledger: &AnswerLedger,
    progress: &(dyn Fn(&str) + Sync),
    known: &mut Vec<Observation>,
) -> Result<Option<BudgetExhausted>, RunError> {
    let all = remaining.len();
    let every = all.div_ceil(PROGRESS_MESSAGES);
    let mut answers = futures::stream::iter(remaining.into_iter().map(|(case, key)| runner.observe(gate, case, key)))
        .buffer_unordered(runner.suite.requests.concurrency);
    let (mut done, mut missing, mut stopped) = (0, 0, None);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(observation) => {
                ledger.append(&observation, runner.budget.spent())?;
                missing += usize::from(matches!(observation.answer, ModelAnswer::Missing { .. }));
                known.push(observation);
                done += 1;
                if done % every == 0 || done == all {
                    progress(&format!("{}: {done} of {all} answers, {missing} missing", gate.name));
                }
            }
            // The requests under way are awaited, because their cost is spent already.
            Err(exhausted) => stopped = Some(exhausted),
        }
    }
    Ok(stopped)
}

/// Returns the requests without an answer, and removes from `known` the answers that are asked for again: those that
/// are missing because a server was busy, unreachable or refused the request, or because a judge, a classifier or an
/// embedder failed. A failure of the version itself stays, and so does a timeout; otherwise a run could be repeated
/// until it passes.
fn remaining<'a>(
    suite: &Suite,
    gate: &Gate,
    dataset: &'a Dataset,
    known: &mut Vec<Observation>,
) -> Vec<(&'a Case, ObservationKey)> {
    known.retain(|observation| !matches!(&observation.answer, ModelAnswer::Missing { why, .. } if is_repeated(*why)));
    let arms: &[GateArm] =
        if suite.stable.is_some() { &[GateArm::Candidate, GateArm::Stable] } else { &[GateArm::Candidate] };
    let answered: BTreeSet<ObservationKey> = known.iter().map(|observation| observation.key.clone()).collect();
    let mut remaining = Vec::new();
    for case in dataset.shuffled(suite.seed) {
        for repeat in 0..gate.repeats {
            for arm in arms {
                let key = ObservationKey { gate: gate.name.clone(), case: case.id.clone(), repeat, arm: *arm };
                if !answered.contains(&key) {
                    remaining.push((case, key));
                }
            }
        }
    }
    remaining
}

fn is_repeated(why: MissingAnswer) -> bool {
    match why {
        MissingAnswer::RateLimited
        | MissingAnswer::ServerError
        | MissingAnswer::Refused
        | MissingAnswer::Unreachable
        | MissingAnswer::Judge
        | MissingAnswer::Classifier
        | MissingAnswer::Embedder => true,
        MissingAnswer::Timeout | MissingAnswer::Malformed | MissingAnswer::Truncated | MissingAnswer::Confidence => {
            false
        }
    }
}

/// Runs the judge's self-test and returns the reason why the gate can't use the judge; `None` if it can or uses none.
async fn judge_problem(
    runner: &CaseRunner<'_>,
    gate: &Gate,
    labelled: &[Labelled],
) -> Result<Option<String>, BudgetExhausted> {
    let Some(judge) = runner.suite.judge.as_ref().filter(|_| gate.scorers().any(|scorer| *scorer == Scorer::Rubric))
    else {
        return Ok(None);
    };
    if judge.self_test.is_none() {
        return Ok(None);
    }
    let mut pairs = Vec::new();
    for Labelled { prompt, answer, good } in labelled {
        match runner.judge_score(prompt, None, answer).await {
            Ok(score) => pairs.push((score, *good)),
            Err(Unanswered::Missing { detail, .. }) => return Ok(Some(format!("the judge's self-test: {detail}"))),
            Err(Unanswered::Exhausted(exhausted)) => return Err(exhausted),
        }
    }
    let min = judge.min_kappa;
    Ok(match kappa(&pairs) {
        None => Some(
            "the judge's self-test needs answers that people label as good, and answers that they label as bad"
                .to_owned(),
        ),
        Some(kappa) if kappa < min => Some(format!(
            "the judge agrees with people's labels by κ = {kappa:.2} over {} answers, and {min} is asked for; it can't be trusted with this rubric",
            pairs.len()
        )),
        Some(_) => None,
    })
}

fn make_report(
    loaded: &LoadedSuite,
    options: &RunOptions<'_>,
    (started, finished): (Timestamp, Timestamp),
    observations: &BTreeMap<String, Vec<Observation>>,
    refused: &BTreeMap<String, String>,
    (stopped, asked, runner): (String, usize, &CaseRunner<'_>),
) -> GateReport {
    let suite = &loaded.suite;
    let recorded: Vec<Recorded<'_>> = suite
        .gates
        .iter()
        .zip(&loaded.datasets)
        .map(|(gate, dataset)| Recorded {
            gate,
            dataset,
            observations: observations.get(&gate.name).map(Vec::as_slice).unwrap_or_default(),
            paired: suite.stable.is_some(),
            refused: refused.get(&gate.name).cloned(),
        })
        .collect();
    let gates = evaluate(suite, &recorded);
    GateReport {
        schema: SCHEMA.to_owned(),
        suite: suite.name.clone(),
        suite_sha256: suite.sha256.clone(),
        pin: loaded.pin(),
        replayed: observations.values().map(Vec::len).sum::<usize>().saturating_sub(asked) as u64,
        verdict: GateReport::suite_verdict(&gates),
        subject: options.subject.clone(),
        started,
        finished,
        alpha: suite.alpha,
        beta: suite.beta,
        seed: suite.seed,
        spent: runner.budget.spent(),
        stopped,
        imported_from: String::new(),
        gates,
    }
}
