//! A run: what is to be asked, minus what an earlier attempt has asked, at the suite's concurrency and within its budget.
//!
//! Gates run one after the other, so that the load that a performance gate measures under is its own. The two arms take
//! turns case by case: what changes with the hour changes for both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bellwether_core::time::Timestamp;
use bellwether_gate::dataset::{Case, Dataset};
use bellwether_gate::gates::{Recorded, evaluate};
use bellwether_gate::observation::{Answer, Arm, Key, Missing, Observation};
use bellwether_gate::report::{Report, SCHEMA, Subject};
use bellwether_gate::score::rubric::{Labelled, kappa};
use bellwether_gate::suite::{Gate, Scorer, Suite};
use futures::StreamExt as _;

use super::ask::Asker;
use super::budget::{Budget, Exhausted};
use super::client::Nothing;
use super::ledger::Ledger;
use super::load::{Loaded, RunError};

/// How often somebody who watches is told how far it is.
const TOLD: usize = 10;

/// What a run is told.
pub struct Orders<'a> {
    /// What is tested.
    pub subject: Subject,
    /// Where the ledger is; `None`: at the usual place.
    pub ledger: Option<PathBuf>,
    /// Who watches.
    pub told: &'a (dyn Fn(&str) + Sync),
    /// Returns the present time.
    pub now: &'a (dyn Fn() -> Timestamp + Sync),
}

/// Runs what is left to run, and reports on all of it.
///
/// # Errors
/// If the run can't begin, or its answers can't be kept. What goes wrong with the target is in the report.
pub async fn run(loaded: &Loaded, orders: &Orders<'_>) -> Result<Report, RunError> {
    let suite = &loaded.suite;
    let header = loaded.header(&orders.subject);
    let path = orders.ledger.clone().unwrap_or_else(|| loaded.usual_ledger(&header));
    let now = (orders.now)();
    let (ledger, found) = Ledger::open(&path, &header, now)?;
    if !found.observations.is_empty() {
        (orders.told)(&format!("{} answers are in {}; going on from there", found.observations.len(), path.display()));
    }
    let asker = Asker::new(suite, Budget::new(suite.budget, suite.price, found.spent))?;
    let mut observations: BTreeMap<String, Vec<Observation>> = BTreeMap::new();
    for observation in found.observations {
        observations.entry(observation.key.gate.clone()).or_default().push(observation);
    }
    let mut refused = BTreeMap::new();
    let mut stopped = String::new();
    for (gate, dataset) in suite.gates.iter().zip(&loaded.datasets) {
        let known = observations.entry(gate.name.clone()).or_default();
        let left = left(suite, gate, dataset, known);
        if left.is_empty() || !stopped.is_empty() {
            continue;
        }
        match fit(&asker, gate, &loaded.labelled).await {
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
        if let Some(exhausted) = ask_all(&asker, gate, left, &ledger, orders.told, known).await? {
            stopped = exhausted.to_string();
        }
    }
    ledger.close()?;
    Ok(report(
        loaded,
        orders,
        (found.started.unwrap_or(now), (orders.now)()),
        &observations,
        &refused,
        (stopped, &asker),
    ))
}

/// Asks for all that is left of a gate, so many at once.
async fn ask_all(
    asker: &Asker<'_>,
    gate: &Gate,
    left: Vec<(&Case, Key)>,
    ledger: &Ledger,
    told: &(dyn Fn(&str) + Sync),
    known: &mut Vec<Observation>,
) -> Result<Option<Exhausted>, RunError> {
    let all = left.len();
    let every = all.div_ceil(TOLD);
    let mut answers = futures::stream::iter(left.into_iter().map(|(case, key)| asker.observe(gate, case, key)))
        .buffer_unordered(asker.suite.ask.concurrency);
    let (mut done, mut missing, mut stopped) = (0, 0, None);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(observation) => {
                ledger.keep(&observation, asker.budget.spent())?;
                missing += usize::from(matches!(observation.answer, Answer::Missing { .. }));
                known.push(observation);
                done += 1;
                if done % every == 0 || done == all {
                    told(&format!("{}: {done} of {all} answers, {missing} missing", gate.name));
                }
            }
            // Those under way are waited for: they are paid for.
            Err(exhausted) => stopped = Some(exhausted),
        }
    }
    Ok(stopped)
}

/// What is to be asked and was not. Somebody's bad hour is no result: what is missing because a server, a judge or a classifier
/// was away or busy is asked again. What the version itself did stays, a timeout too, or a run could be repeated until it
/// passes.
fn left<'a>(suite: &Suite, gate: &Gate, dataset: &'a Dataset, known: &mut Vec<Observation>) -> Vec<(&'a Case, Key)> {
    known.retain(|observation| !matches!(&observation.answer, Answer::Missing { why, .. } if was_away(*why)));
    let arms: &[Arm] = if suite.stable.is_some() { &[Arm::Candidate, Arm::Stable] } else { &[Arm::Candidate] };
    let asked: BTreeSet<Key> = known.iter().map(|observation| observation.key.clone()).collect();
    let mut left = Vec::new();
    for case in &dataset.cases {
        for repeat in 0..gate.repeats {
            for arm in arms {
                let key = Key { gate: gate.name.clone(), case: case.id.clone(), repeat, arm: *arm };
                if !asked.contains(&key) {
                    left.push((case, key));
                }
            }
        }
    }
    left
}

fn was_away(why: Missing) -> bool {
    match why {
        Missing::RateLimited
        | Missing::ServerError
        | Missing::Refused
        | Missing::Unreachable
        | Missing::Judge
        | Missing::Classifier
        | Missing::Embedder => true,
        Missing::Timeout | Missing::Malformed | Missing::Truncated | Missing::Confidence => false,
    }
}

/// Why the gate can't be judged by this judge; `None`: it can.
async fn fit(asker: &Asker<'_>, gate: &Gate, labelled: &[Labelled]) -> Result<Option<String>, Exhausted> {
    let Some(judge) = asker.suite.judge.as_ref().filter(|_| gate.scorers().any(|scorer| *scorer == Scorer::Rubric))
    else {
        return Ok(None);
    };
    if judge.self_test.is_none() {
        return Ok(None);
    }
    let mut pairs = Vec::new();
    for Labelled { prompt, answer, good } in labelled {
        match asker.judged(prompt, None, answer).await {
            Ok(score) => pairs.push((score, *good)),
            Err(Nothing::Missing { detail, .. }) => return Ok(Some(format!("the judge's self-test: {detail}"))),
            Err(Nothing::Exhausted(exhausted)) => return Err(exhausted),
        }
    }
    let min = judge.min_kappa;
    Ok(match kappa(&pairs) {
        None => Some("the judge's self-test needs answers that people call good, and some that they don't".to_owned()),
        Some(kappa) if kappa < min => Some(format!(
            "the judge agrees with people's labels by κ = {kappa:.2} over {} answers, and {min} is asked for; it can't be trusted with this rubric",
            pairs.len()
        )),
        Some(_) => None,
    })
}

fn report(
    loaded: &Loaded,
    orders: &Orders<'_>,
    (started, finished): (Timestamp, Timestamp),
    observations: &BTreeMap<String, Vec<Observation>>,
    refused: &BTreeMap<String, String>,
    (stopped, asker): (String, &Asker<'_>),
) -> Report {
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
    Report {
        schema: SCHEMA.to_owned(),
        suite: suite.name.clone(),
        suite_sha256: suite.sha256.clone(),
        verdict: Report::settle(&gates),
        subject: orders.subject.clone(),
        started,
        finished,
        alpha: suite.alpha,
        beta: suite.beta,
        seed: suite.seed,
        spent: asker.budget.spent(),
        stopped,
        imported_from: String::new(),
        gates,
    }
}
