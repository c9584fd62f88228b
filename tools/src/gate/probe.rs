//! The first requests of a gate, which are sent alone: if an endpoint refuses them, it is known after one request and
//! not after all.

use std::collections::BTreeSet;

use bellwether_core::time::Timestamp;
use bellwether_gate::observation::{GateArm, MissingAnswer, ModelAnswer};
use bellwether_gate::report::{GateSubject, Spent};

use super::ask::{CaseRunner, Observed};
use super::budget::RunBudget;
use super::load::{LoadedSuite, RunError};
use super::run::{Remaining, remaining};

/// Number of cases that must be refused or have no trace, without a reason that holds for all, before the gate is given up.
const MOST_REFUSED: usize = 3;

/// The warning about an answer with a tag of thinking in its text.
pub(super) const SHOWN_THINKING: &str = "an answer holds </think>, so the thinking before it is judged as the answer; write thinking = \"tags\" in [target.dialect]";

/// The first requests of a gate: one to each version, and further ones while an endpoint refuses them.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// The versions that have answered, or failed in another way than by a refusal or for want of a trace.
    heard: BTreeSet<GateArm>,
    /// The last refusals and missing traces in a row, each as the end of a sentence about the cases.
    refused: Vec<String>,
    /// The reason why an endpoint refuses every request.
    refusal: Option<String>,
    asked: usize,
    missing: usize,
}

impl Probe {
    /// Takes the next request that is to be sent alone; `None` if the others can be sent, or the gate is refused.
    pub(super) fn next<'a>(&self, remaining: &mut Vec<Remaining<'a>>) -> Option<Remaining<'a>> {
        if self.refused().is_some() {
            return None;
        }
        let at = remaining.iter().position(|request| !self.heard.contains(&request.key.arm))?;
        Some(remaining.remove(at))
    }

    /// Adds the answer to the last request.
    pub(super) fn add(&mut self, observed: &Observed) {
        self.asked += 1;
        self.refusal = observed.refusal.clone();
        if let ModelAnswer::Missing { why, detail, .. } = &observed.observation.answer {
            self.missing += 1;
            let problems =
                [(MissingAnswer::Refused, "are refused by the API"), (MissingAnswer::Trace, "have no whole trace")];
            if let Some((_, problem)) = problems.iter().find(|(kind, _)| kind == why) {
                self.refused.push(format!("{problem}: {detail}"));
                return;
            }
        }
        self.refused.clear();
        self.heard.insert(observed.observation.key.arm);
    }

    /// Returns the reason why the gate can't be run; `None` if it can.
    pub(super) fn refused(&self) -> Option<String> {
        let last = self.refused.last().filter(|_| self.refused.len() >= MOST_REFUSED);
        let all = |problem: &String| format!("the first {MOST_REFUSED} cases {problem}");
        self.refusal.clone().or_else(|| last.map(all))
    }

    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    pub(super) fn missing(&self) -> usize {
        self.missing
    }
}

/// The result of the first requests of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateProbe {
    /// The gate's name.
    pub gate: String,
    /// The reason why a request has no scored answer; `None` if all have one.
    pub problem: Option<String>,
}

/// Sends the first requests of each gate, and scores their answers, without a ledger. `now` is the present time.
///
/// # Errors
/// [`RunError`] if an endpoint is not usable as it is configured. Failures of the endpoints are in the result.
pub async fn probe(loaded: &LoadedSuite, now: Timestamp) -> Result<Vec<GateProbe>, RunError> {
    let suite = &loaded.suite;
    let traces = loaded.open_traces(&GateSubject::default(), now).await?;
    let runner = CaseRunner::new(suite, traces, RunBudget::new(suite.budget, suite.price, Spent::default()))?;
    let mut probes = Vec::new();
    for (gate, dataset) in suite.gates.iter().zip(&loaded.datasets) {
        let mut remaining = remaining(suite, gate, dataset, &mut Vec::new());
        let (mut first, mut problem) = (Probe::default(), None);
        while let Some(request) = first.next(&mut remaining) {
            match request.observe(&runner, gate).await {
                Ok(observed) => {
                    first.add(&observed);
                    if observed.shows_thinking {
                        problem = Some(SHOWN_THINKING.to_owned());
                    }
                    if let ModelAnswer::Missing { why, detail, .. } = observed.observation.answer {
                        problem = Some(format!("{why}: {detail}"));
                    }
                }
                Err(exhausted) => {
                    problem = Some(exhausted.to_string());
                    break;
                }
            }
        }
        probes.push(GateProbe { gate: gate.name.clone(), problem: first.refused().or(problem) });
    }
    Ok(probes)
}
