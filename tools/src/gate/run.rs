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
use bellwether_gate::observation::{FailedAttempts, GateArm, MissingAnswer, ModelAnswer, Observation, ObservationKey};
use bellwether_gate::report::{GateReport, GateSubject, SCHEMA};
use bellwether_gate::score::rubric::{Labelled, kappa, median_score};
use bellwether_gate::suite::{Gate, Scorer, Suite};
use futures::StreamExt as _;

use super::ask::{CaseRunner, Observed};
use super::budget::{BudgetExhausted, RunBudget};
use super::client::Unanswered;
use super::ledger::AnswerLedger;
use super::load::{LoadedSuite, RunError};
use super::probe::{Probe, SHOWN_THINKING};
use super::traces::RunTraces;

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
    let (mut ledger, contents) = AnswerLedger::open(&path, &identity, now)?;
    if !contents.observations.is_empty() {
        (options.progress)(&format!(
            "{} answers are in {}; continuing from there",
            contents.observations.len(),
            path.display()
        ));
    }
    let traces = loaded.open_traces(&options.subject, now).await?;
    if let Some(address) = traces.as_ref().and_then(RunTraces::address) {
        (options.progress)(&format!("traces are received on http://{address}/v1/traces"));
    }
    let runner = CaseRunner::new(suite, traces, RunBudget::new(suite.budget, suite.price, contents.spent))?;
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
        match ask_all(&runner, gate, remaining, &mut ledger, options.progress, known).await? {
            Ended::Complete => {}
            Ended::Exhausted(exhausted) => stopped = exhausted.to_string(),
            Ended::Refused(why) => drop(refused.insert(gate.name.clone(), why)),
        }
        asked += known.len() - before;
    }
    unscore_late(&runner, &mut ledger, &mut observations)?;
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

/// Makes the answers missing whose traces went on with a call after they had been read.
fn unscore_late(
    runner: &CaseRunner<'_>,
    ledger: &mut AnswerLedger,
    observations: &mut BTreeMap<String, Vec<Observation>>,
) -> Result<(), RunError> {
    let late = runner.take_late();
    let scored = observations.values_mut().flatten().filter(|observation| observation.scored().is_some());
    for observation in scored.filter(|observation| late.contains(&observation.key)) {
        let detail = "a call came after its trace had been read; raise traces.quiet".to_owned();
        observation.answer = ModelAnswer::Missing { why: MissingAnswer::Trace, detail, after_ms: 0.0 };
        ledger.append(observation, runner.budget.spent())?;
    }
    Ok(())
}

/// A request that has no answer yet.
pub(super) struct Remaining<'a> {
    pub(super) case: &'a Case,
    pub(super) key: ObservationKey,
    /// The failed attempts of an interrupted run.
    pub(super) failed: FailedAttempts,
}

impl Remaining<'_> {
    /// Sends the request. The observation has the failed attempts of all runs.
    pub(super) async fn observe(self, runner: &CaseRunner<'_>, gate: &Gate) -> Result<Observed, BudgetExhausted> {
        let mut observed = runner.observe(gate, self.case, self.key).await?;
        for (why, count) in self.failed {
            *observed.observation.failed.entry(why).or_default() += count;
        }
        Ok(observed)
    }
}

/// The way in which the requests of a gate ended.
enum Ended {
    /// All were sent.
    Complete,
    /// The budget was used up.
    Exhausted(BudgetExhausted),
    /// An endpoint refuses every request, for this reason.
    Refused(String),
}

/// Sends the remaining requests of a gate, the first ones alone and the others at the suite's concurrency, and adds the
/// answers to `known`.
async fn ask_all(
    runner: &CaseRunner<'_>,
    gate: &Gate,
    mut remaining: Vec<Remaining<'_>>,
    ledger: &mut AnswerLedger,
    progress: &(dyn Fn(&str) + Sync),
    known: &mut Vec<Observation>,
) -> Result<Ended, RunError> {
    let all = remaining.len();
    let every = all.div_ceil(PROGRESS_MESSAGES);
    let mut first = Probe::default();
    while let Some(request) = first.next(&mut remaining) {
        match request.observe(runner, gate).await {
            Ok(observed) => {
                ledger.append(&observed.observation, runner.budget.spent())?;
                if observed.shows_thinking {
                    progress(&format!("{}: {SHOWN_THINKING}", gate.name));
                }
                first.add(&observed);
                known.push(observed.observation);
            }
            Err(exhausted) => return Ok(Ended::Exhausted(exhausted)),
        }
    }
    if let Some(why) = first.refused() {
        return Ok(Ended::Refused(why));
    }
    let mut answers = futures::stream::iter(remaining.into_iter().map(|request| request.observe(runner, gate)))
        .buffer_unordered(runner.suite.requests.concurrency);
    let (mut done, mut missing, mut stopped) = (first.asked(), first.missing(), None);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Observed { observation, .. }) => {
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
    Ok(stopped.map_or(Ended::Complete, Ended::Exhausted))
}

/// Returns the requests without an answer, and removes from `known` the answers that are asked for again; see
/// [`MissingAnswer::is_asked_again`](bellwether_gate::observation::MissingAnswer::is_asked_again). Their failed attempts
/// stay with the request, so that a later answer does not hide them.
pub(super) fn remaining<'a>(
    suite: &Suite,
    gate: &Gate,
    dataset: &'a Dataset,
    known: &mut Vec<Observation>,
) -> Vec<Remaining<'a>> {
    let is_asked_again = |observation: &mut Observation| match &observation.answer {
        ModelAnswer::Missing { why, .. } => why.is_asked_again(),
        ModelAnswer::Scored(_) => false,
    };
    let mut failed: BTreeMap<ObservationKey, FailedAttempts> =
        known.extract_if(.., is_asked_again).map(|observation| (observation.key, observation.failed)).collect();
    let arms: &[GateArm] =
        if suite.stable.is_some() { &[GateArm::Candidate, GateArm::Stable] } else { &[GateArm::Candidate] };
    let answered: BTreeSet<ObservationKey> = known.iter().map(|observation| observation.key.clone()).collect();
    let mut remaining = Vec::new();
    for case in dataset.shuffled(suite.seed) {
        for repeat in 0..gate.repeats {
            for arm in arms {
                let key = ObservationKey { gate: gate.name.clone(), case: case.id.clone(), repeat, arm: *arm };
                if !answered.contains(&key) {
                    let failed = failed.remove(&key).unwrap_or_default();
                    remaining.push(Remaining { case, key, failed });
                }
            }
        }
    }
    remaining
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
        match runner.judge_votes(&prompt.as_str().into(), None, answer).await {
            Ok(votes) => pairs.extend(median_score(&votes).map(|score| (score, *good))),
            Err(Unanswered::Missing { refusal: Some(refusal), .. }) => return Ok(Some(refusal)),
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
