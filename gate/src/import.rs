//! The import of other test tools' results, as a report like that of any gate.
//!
//! Each tool has its own format and its own kind of repeats. All of them have cases that passed, failed, could not be
//! run or were skipped. They become a gate with one claim, the share of cases that passed, which is judged by the same
//! confidence bound as other shares. A case that was run several times has passed if every run passed, and counts once. A run
//! that was ended early, and one with skipped cases, is refused: the cases that it has may be the easy ones.

mod outcome;
mod deepeval;
mod garak;
mod inspect;
mod jsonl;
mod junit;
mod lm_eval;
mod promptfoo;

use std::collections::BTreeMap;

use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dataset::{CallOrder, Case, Dataset, sha256};
use crate::gates::{Recorded, evaluate};
use crate::observation::{GateArm, MissingAnswer, ModelAnswer, Observation, ObservationKey, Scored};
use crate::report::{GateReport, GateSubject, SCHEMA, Spent};
use crate::suite::{Suite, SuiteError};
pub use inspect::inspect_samples;
pub use outcome::{ImportError, ImportedOutcome};

/// The characters of a tool's error message that an observation keeps.
const MAX_ERROR_CHARS: usize = 200;

/// The format of the results, named after the tool that writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportFormat {
    /// The JSON output of promptfoo.
    Promptfoo,
    /// An eval log of Inspect, as JSON or as an `.eval` file.
    Inspect,
    /// A test run of DeepEval as JSON.
    Deepeval,
    /// JUnit XML of any tool.
    Junit,
    /// The results of lm-eval-harness as JSON, or its samples as JSONL.
    LmEval,
    /// The report of garak as JSONL.
    Garak,
    /// JSONL with a line for each case: `id`, and `passed`, `error` or `skipped`.
    Jsonl,
}

impl ImportFormat {
    /// Returns the format's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ImportFormat::Promptfoo => "promptfoo",
            ImportFormat::Inspect => "inspect",
            ImportFormat::Deepeval => "deepeval",
            ImportFormat::Junit => "junit",
            ImportFormat::LmEval => "lm-eval",
            ImportFormat::Garak => "garak",
            ImportFormat::Jsonl => "jsonl",
        }
    }
}

/// The settings of an import.
#[derive(Debug, Clone)]
pub struct ImportSettings {
    /// The name of the suite and its gate, which a policy's requirement refers to.
    pub name: String,
    /// The smallest share of cases that must pass, as in `95%`.
    pub min_pass: String,
    /// Whether the plain share is compared with `min_pass`; otherwise its confidence bound.
    pub plain: bool,
    /// The provider (promptfoo) or the metric (lm-eval) whose results are read; `None` if there is only one.
    pub select: Option<String>,
    /// The version that was tested.
    pub subject: GateSubject,
    /// The time of the import, which the report has as its start and end.
    pub at: Timestamp,
}

/// Reads the results of another tool and judges them.
///
/// # Errors
/// Returns an error if the bytes have not the form of the tool's results, if the run was ended early, if it contains no case,
/// skipped ones or those of several versions, or if the settings are invalid.
pub fn import(format: ImportFormat, bytes: &[u8], settings: &ImportSettings) -> Result<GateReport, ImportError> {
    let select = settings.select.as_deref();
    let text = || std::str::from_utf8(bytes).map_err(|_| ImportError::NotText);
    let outcomes = match format {
        ImportFormat::Promptfoo => promptfoo::read(&serde_json::from_slice(bytes)?, select)?,
        ImportFormat::Inspect => inspect::read(bytes)?,
        ImportFormat::Deepeval => deepeval::read(&serde_json::from_slice(bytes)?)?,
        ImportFormat::Junit => junit::read(text()?)?,
        ImportFormat::LmEval => lm_eval::read(text()?, select)?,
        ImportFormat::Garak => garak::read(text()?)?,
        ImportFormat::Jsonl => jsonl::read(text()?)?,
    };
    let skipped = outcomes.iter().filter(|(_, outcome)| *outcome == ImportedOutcome::Skipped).count();
    if skipped > 0 {
        return Err(ImportError::Skipped { skipped, cases: outcomes.len() });
    }
    let cases = by_case(outcomes);
    if cases.is_empty() {
        return Err(ImportError::Empty);
    }
    report(format, bytes, &cases, settings)
}

/// Combines the runs of each case: the worst outcome counts, from errored through failed to passed.
fn by_case(outcomes: Vec<(String, ImportedOutcome)>) -> BTreeMap<String, ImportedOutcome> {
    let severity = |outcome: &ImportedOutcome| match outcome {
        ImportedOutcome::Errored(_) => 2,
        ImportedOutcome::Failed => 1,
        ImportedOutcome::Passed | ImportedOutcome::Skipped => 0,
    };
    let mut cases: BTreeMap<String, ImportedOutcome> = BTreeMap::new();
    for (id, outcome) in outcomes {
        let known = cases.entry(id).or_insert(ImportedOutcome::Passed);
        if severity(&outcome) > severity(known) {
            *known = outcome;
        }
    }
    cases
}

fn report(
    format: ImportFormat,
    bytes: &[u8],
    cases: &BTreeMap<String, ImportedOutcome>,
    settings: &ImportSettings,
) -> Result<GateReport, ImportError> {
    let suite = suite(format, settings)?;
    let gate = &suite.gates[0];
    let observations: Vec<Observation> =
        cases.iter().map(|(case, outcome)| observation(&gate.name, case, outcome)).collect();
    let dataset = Dataset {
        name: format.name().to_owned(),
        version: String::new(),
        sha256: sha256(bytes),
        cases: cases.keys().map(|id| case(id)).collect(),
    };
    let recorded = Recorded { gate, dataset: &dataset, observations: &observations, paired: false, refused: None };
    let gates = evaluate(&suite, &[recorded]);
    Ok(GateReport {
        schema: SCHEMA.to_owned(),
        suite: settings.name.clone(),
        suite_sha256: String::new(),
        pin: String::new(),
        replayed: 0,
        verdict: GateReport::suite_verdict(&gates),
        subject: settings.subject.clone(),
        started: settings.at,
        finished: settings.at,
        alpha: suite.alpha,
        beta: suite.beta,
        seed: suite.seed,
        spent: Spent::default(),
        stopped: String::new(),
        imported_from: format.name().to_owned(),
        gates,
    })
}

/// Returns a suite with one gate for the results. It is parsed from TOML, so `min_pass` is checked like any other
/// limit.
fn suite(format: ImportFormat, settings: &ImportSettings) -> Result<Suite, SuiteError> {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let rule = if settings.plain { "threshold" } else { "bound" };
    Suite::parse(&format!(
        "name = {name}\n[target]\n[[gate]]\nkind = \"imported\"\nname = {name}\ndataset = {dataset}\nlimits.passed = {{ min = {min}, \
         rule = \"{rule}\" }}\n",
        name = quoted(&settings.name),
        dataset = quoted(format.name()),
        min = quoted(&settings.min_pass),
    ))
}

fn case(id: &str) -> Case {
    Case {
        id: id.to_owned(),
        prompt: None,
        messages: Vec::new(),
        category: None,
        intent: Default::default(),
        expected: Vec::new(),
        topics: Vec::new(),
        reference: None,
        tools: Vec::new(),
        tool_results: BTreeMap::new(),
        expect_tools: Vec::new(),
        forbid_tools: Vec::new(),
        tool_order: CallOrder::Any,
        max_calls: None,
        turns: Vec::new(),
        forbid_text: Vec::new(),
    }
}

fn observation(gate: &str, case: &str, outcome: &ImportedOutcome) -> Observation {
    let scored = |right| ModelAnswer::Scored(Box::new(Scored { right: Some(right), ..Scored::default() }));
    let answer = match outcome {
        ImportedOutcome::Passed | ImportedOutcome::Skipped => scored(true),
        ImportedOutcome::Failed => scored(false),
        ImportedOutcome::Errored(detail) => ModelAnswer::Missing {
            why: MissingAnswer::Malformed,
            detail: detail.chars().take(MAX_ERROR_CHARS).collect(),
            after_ms: 0.0,
        },
    };
    let key = ObservationKey { gate: gate.to_owned(), case: case.to_owned(), repeat: 0, arm: GateArm::Candidate };
    Observation { key, answer, failed: [].into(), sample: None }
}
