//! A run: what is to be asked, minus what an earlier attempt has asked, at the suite's concurrency and within its budget.
//!
//! Gates run one after the other, so that the load that a performance gate measures under is its own. The two arms take
//! turns case by case: what changes with the hour changes for both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bellwether_core::time::Timestamp;
use bellwether_gate::dataset::{Case, Dataset, DatasetError, sha256};
use bellwether_gate::gates::{Recorded, evaluate};
use bellwether_gate::observation::{Answer, Arm, Key, Missing, Observation};
use bellwether_gate::report::{Report, SCHEMA, Subject};
use bellwether_gate::score::rubric::{Labelled, kappa};
use bellwether_gate::suite::{Endpoint, Gate, Scorer, Suite, SuiteError};
use futures::StreamExt as _;

use super::ask::Asker;
use super::budget::{Budget, Exhausted};
use super::client::{Nothing, SetupError};
use super::ledger::{Header, Ledger, LedgerError};
use crate::clock::Clock;

/// How often somebody who watches is told how far it is.
const TOLD: usize = 10;

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The suite makes no sense.
    #[error("{}: {source}", path.display())]
    Suite {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: SuiteError,
    },
    /// A dataset makes no sense.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A dataset is not what the suite says.
    #[error("dataset {path} has the SHA-256 {found}, and the suite pins {pinned}; pin the new one if the change is meant", path = path.display())]
    Pinned {
        /// Which.
        path: PathBuf,
        /// What it hashes to.
        found: String,
        /// What it should.
        pinned: String,
    },
    /// A gate and its cases do not fit.
    #[error("{}", .0.join("\n"))]
    Cases(Vec<String>),
    /// A line of the self-test can't be read.
    #[error("{}, line {line}: {problem}", path.display())]
    SelfTest {
        /// Its file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Somebody can't be asked.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A suite with everything that it refers to.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The rules.
    pub suite: Suite,
    /// For each gate, in the same order.
    pub datasets: Vec<Dataset>,
    /// The judge's labelled answers.
    pub labelled: Vec<Labelled>,
    path: PathBuf,
}

impl Loaded {
    /// Reads and checks all of it.
    ///
    /// # Errors
    /// If something is wrong with any of it.
    pub fn read(path: &Path) -> Result<Loaded, RunError> {
        let suite = Suite::parse(&text(path)?).map_err(|source| RunError::Suite { path: path.to_owned(), source })?;
        let beside = |name: &str| path.parent().unwrap_or(Path::new("")).join(name);
        let mut datasets = Vec::new();
        let mut problems = Vec::new();
        for gate in &suite.gates {
            let path = beside(&gate.dataset);
            let text = text(&path)?;
            let dataset = Dataset::parse(&gate.dataset, &gate.version, &text)?;
            if let Some(pinned) = gate.sha256.as_ref().filter(|pinned| **pinned != dataset.sha256) {
                return Err(RunError::Pinned { path, found: sha256(&text), pinned: pinned.clone() });
            }
            problems.extend(gate.missing_from(&dataset.cases));
            datasets.push(dataset);
        }
        if !problems.is_empty() {
            return Err(RunError::Cases(problems));
        }
        let labelled = suite.judge.as_ref().and_then(|judge| judge.self_test.as_ref());
        let labelled = labelled.map(|name| labels(&beside(name))).transpose()?.unwrap_or_default();
        Ok(Loaded { suite, datasets, labelled, path: path.to_owned() })
    }

    /// Requests to the target and the stable.
    pub fn requests(&self) -> usize {
        let arms = if self.suite.stable.is_some() { 2 } else { 1 };
        let of = |(gate, dataset): (&Gate, &Dataset)| dataset.cases.len() * gate.repeats as usize * arms;
        self.suite.gates.iter().zip(&self.datasets).map(of).sum()
    }

    /// Who is asked instead of whom the suite names.
    pub fn aim(&mut self, target: Option<&str>, stable: Option<&str>, model: Option<&str>) {
        let suite = &mut self.suite;
        if let Some(url) = target {
            url.trim_end_matches('/').clone_into(&mut suite.target.url);
        }
        if let Some(url) = stable {
            let url = url.trim_end_matches('/').to_owned();
            // Without a section of its own the stable is the same model elsewhere.
            let of_suite = suite.stable.take();
            let key_env =
                of_suite.as_ref().map_or_else(|| suite.target.key_env.clone(), |stable| stable.key_env.clone());
            let model = of_suite.map_or_else(|| suite.target.model.clone(), |stable| stable.model);
            suite.stable = Some(Endpoint { url, model, key_env });
        }
        if let Some(model) = model.filter(|_| suite.target.model.is_empty()) {
            model.clone_into(&mut suite.target.model);
        }
    }

    fn header(&self, subject: &Subject) -> Header {
        let of = |endpoint: &Endpoint| (endpoint.url.clone(), endpoint.model.clone());
        Header {
            suite: self.suite.run_sha256.clone(),
            datasets: self
                .suite
                .gates
                .iter()
                .zip(&self.datasets)
                .map(|(g, d)| (g.name.clone(), d.sha256.clone()))
                .collect(),
            target: of(&self.suite.target),
            stable: self.suite.stable.as_ref().map(of),
            subject: subject.clone(),
        }
    }

    /// Where the ledger of this run is, if nobody says otherwise: beside the suite, with a name that is this run's alone.
    fn usual_ledger(&self, header: &Header) -> PathBuf {
        let name: String = self
            .suite
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let directory = self.path.parent().unwrap_or(Path::new("")).join(".bellwether-gate");
        directory.join(format!("{name}-{}.jsonl", header.short()))
    }
}

fn text(path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path).map_err(|source| RunError::File { path: path.to_owned(), source })
}

fn labels(path: &Path) -> Result<Vec<Labelled>, RunError> {
    let text = text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let one = |(at, line): (usize, &str)| {
        let problem = |error: serde_json::Error| error.to_string();
        serde_json::from_str(line).map_err(problem).map_err(|problem| RunError::SelfTest {
            path: path.to_owned(),
            line: at + 1,
            problem,
        })
    };
    lines.map(one).collect()
}

/// What a run is told.
pub struct Orders<'a> {
    /// What is tested.
    pub subject: Subject,
    /// Where the ledger is; `None`: at the usual place.
    pub ledger: Option<PathBuf>,
    /// Who watches.
    pub told: &'a (dyn Fn(&str) + Sync),
    /// What time it is.
    pub clock: &'a dyn Clock,
}

/// Runs what is left to run, and reports on all of it.
///
/// # Errors
/// If the run can't begin, or its answers can't be kept. What goes wrong with the target is in the report.
pub async fn run(loaded: &Loaded, orders: &Orders<'_>) -> Result<Report, RunError> {
    let suite = &loaded.suite;
    let header = loaded.header(&orders.subject);
    let path = orders.ledger.clone().unwrap_or_else(|| loaded.usual_ledger(&header));
    let now = orders.clock.now();
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
        (found.started.unwrap_or(now), orders.clock.now()),
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
