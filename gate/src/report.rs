//! The report: the result of a run, as one value.
//!
//! It is written as JSON (described by `report.schema.json`), as Markdown for the summary of a CI job, as JUnit XML,
//! and as a self-contained HTML page. All of these show the same value, and none contains a prompt or an answer.

mod escape;
mod html;
mod junit;
mod markdown;

use std::collections::BTreeMap;

use bellwether_core::measure::metric::Unit;
use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::metric::{Aggregation, GateMetric, GateMetricKind};
use crate::observation::MissingAnswer;
use crate::rule::Verdict;
use crate::suite::GateMode;

/// The name and version of the report's JSON form, contained in every report.
pub const SCHEMA: &str = "bellwether.dev/gate-report/v1";

/// The largest number of failing cases of a limit that the text of a report names.
const MAX_NAMED_IN_TEXT: usize = 3;

/// The combination that was tested. A report opens traffic only for the same combination.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GateSubject {
    /// The name of the model or the image.
    pub model: String,
    /// The version of the model; may be empty.
    #[serde(default)]
    pub version: String,
    /// The digest of the model's files, as in `sha256:…`, by which the model registry recognizes them; may be empty.
    #[serde(default)]
    pub digest: String,
    /// The references of the images that served the tested requests, by digest if possible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The digest of the prompt, as in `sha256:…`; empty if it is part of the images.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// The digest of the definitions of the tools, as in `sha256:…`; empty if they are part of the images.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tools: String,
}

/// The result of a run of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GateReport {
    /// The name of the report's form: [`SCHEMA`].
    pub schema: String,
    /// The suite's name.
    pub suite: String,
    /// The SHA-256 of the suite's text in hexadecimal digits; empty for imported results.
    #[serde(default)]
    pub suite_sha256: String,
    /// The SHA-256 of the test: the suite without its budget, with `alpha` and `beta`, and the cases of its datasets. Reports
    /// with the same pin are of the same test. Empty for imported results.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pin: String,
    /// The verdict of the suite.
    pub verdict: Verdict,
    /// The version that was tested.
    pub subject: GateSubject,
    /// The start of the run's first attempt.
    pub started: Timestamp,
    /// The end of the run's last attempt.
    pub finished: Timestamp,
    /// The largest probability of failing a good version, from 0 to 0.5.
    pub alpha: f64,
    /// The largest probability of passing a version that is not good enough, from 0 to 0.5.
    pub beta: f64,
    /// The seed of all resampling.
    pub seed: u64,
    /// The requests, tokens and money that the run has used.
    #[serde(default)]
    pub spent: Spent,
    /// The number of answers that an earlier attempt at the run has recorded, and that were not asked for again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replayed: u64,
    /// The reason why the run ended before all cases were asked; empty if all were asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stopped: String,
    /// The name of the format that the results were imported from; empty if the run asked the cases itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub imported_from: String,
    /// The results of the gates in the order of the suite.
    pub gates: Vec<GateResult>,
}

/// The resources that a run has used, over all of its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spent {
    /// The number of requests to all endpoints.
    pub requests: u64,
    /// The number of tokens. Those that a server does not count are estimated from the size of the texts.
    pub tokens: u64,
    /// The number of answers whose tokens are estimated, in whole or in part.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimated: u64,
    /// The time that the attempts at the run took together, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ms: u64,
    /// The cost in the currency of the suite's price; `None` without a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<f64>,
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

impl Spent {
    /// Returns the use as a sentence's end, as in "600 requests, 12000 tokens (estimated for 5 answers), 0.25 in money".
    pub(crate) fn words(&self) -> String {
        let estimated = match self.estimated {
            0 => String::new(),
            1 => " (estimated for 1 answer)".to_owned(),
            n => format!(" (estimated for {n} answers)"),
        };
        let money = self.money.map_or_else(String::new, |money| format!(", {money:.2} in money"));
        format!("{} requests, {} tokens{estimated}{money}", self.requests, self.tokens)
    }
}

/// The result of one gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GateResult {
    /// The gate's name, unique in the suite.
    pub name: String,
    /// The kind of the gate.
    pub kind: GateMetricKind,
    /// Whether the gate's verdict decides the suite's.
    pub mode: GateMode,
    /// The gate's own verdict.
    pub verdict: Verdict,
    /// The verdict that the gate contributes to the suite's, after its mode and `on-inconclusive`.
    pub counts: Verdict,
    /// The result in one sentence.
    pub sentence: String,
    /// The result of each limit; empty if the verdict is `error`.
    pub claims: Vec<ReportedClaim>,
    /// The dataset of the gate's cases.
    pub dataset: DatasetSummary,
    /// The number of requests to both arms that have an observation.
    pub asked: usize,
    /// The number of cases that the run did not ask, or not as often as the gate requires.
    pub not_asked: usize,
    /// The number of the candidate's responses without an answer to read, by reason. Most count as missing; some count
    /// otherwise, such as the refusal of a content filter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<MissingAnswer, usize>,
    /// The number of attempts at the candidate that failed because its server was busy, broken or unreachable, by
    /// reason, also of requests that a retry answered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed_attempts: BTreeMap<MissingAnswer, usize>,
    /// The results of a safety gate by category; they have no influence on the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakdown: Vec<BreakdownRow>,
    /// The reliability of the stated confidence; only of a calibration gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliability: Option<Reliability>,
}

/// The relation of the answers' confidence to their correctness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reliability {
    /// The expected calibration error: the mean distance of confidence and accuracy over bins of about equal size, from 0
    /// to 1. Answers with the same confidence are in the same bin.
    pub ece: f64,
    /// The calibration error less the mean error that a perfectly calibrated model shows by chance; at least 0.
    pub ece_corrected: f64,
    /// A bootstrap interval for `ece`, with 5 % outside on each side.
    pub ece_interval: (f64, f64),
    /// The Brier score: the mean squared distance of confidence and correctness, from 0 to 1.
    pub brier: f64,
    /// The probability that a right answer has a higher confidence than a wrong one (the area under the ROC curve).
    /// `None` if there are no right or no wrong answers.
    pub auroc: Option<f64>,
    /// The bins in the order of their confidence.
    pub bins: Vec<Bin>,
}

/// A group of answers with similar confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bin {
    /// The number of answers.
    pub n: usize,
    /// The mean confidence, from 0 to 1.
    pub confidence: f64,
    /// The share of right answers, from 0 to 1.
    pub accuracy: f64,
    /// The lower end of Wilson's interval for the accuracy, with 5 % outside on each side.
    pub low: f64,
    /// The upper end of Wilson's interval for the accuracy.
    pub high: f64,
}

/// The identity of a dataset, without its cases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DatasetSummary {
    /// The file's name.
    pub name: String,
    /// The version that the suite states; may be empty.
    #[serde(default)]
    pub version: String,
    /// The SHA-256 of the file in hexadecimal digits.
    #[serde(default)]
    pub sha256: String,
    /// The number of cases.
    pub cases: usize,
}

impl DatasetSummary {
    /// Returns the summary of a dataset.
    pub fn of(dataset: &Dataset) -> DatasetSummary {
        DatasetSummary {
            name: dataset.name.clone(),
            version: dataset.version.clone(),
            sha256: dataset.sha256.clone(),
            cases: dataset.cases.len(),
        }
    }
}

/// The result of one limit of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReportedClaim {
    /// The metric's name.
    pub metric: String,
    /// Whether the candidate is compared with the stable version; otherwise it is compared with a fixed limit.
    pub paired: bool,
    /// The verdict of the claim.
    pub verdict: Verdict,
    /// The estimate in the metric's unit; of a comparison, the difference or the quotient. `None` if there are no
    /// values.
    pub estimate: Option<f64>,
    /// The confidence bound that the verdict was read from; `None` if the plain estimate was compared, or there is no
    /// bound.
    pub bound: Option<f64>,
    /// Whether `bound` is an upper bound; otherwise it is a lower bound. A failed claim has the bound that refutes it.
    pub bound_from_above: bool,
    /// The confidence of the bound, from 0 to 1; `None` if the plain estimate was compared.
    pub confidence: Option<f64>,
    /// Whether the limit is a maximum; otherwise it is a minimum.
    pub at_most: bool,
    /// The limit in the metric's unit; of a comparison, of the difference or the quotient.
    pub limit: f64,
    /// The number of cases, of pairs of cases, or of requests.
    pub n: usize,
    /// The number of hits; only of a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<usize>,
    /// The stable version's own estimate; `None` without a stable version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// The one-sided p-value of McNemar's exact test that both arms are alike; only of a share with a margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// The ids of at most 20 cases on the bad side of the limit, the worst first: cases with a fault or with less than half
    /// of a merit, and of a comparison those that are so much worse than with the stable version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<String>,
    /// The number of all cases on the bad side of the limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failing_count: usize,
    /// The result in one sentence.
    pub sentence: String,
}

/// The result of one category of a safety gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BreakdownRow {
    /// The category and the event that is counted, as in `privacy: succeeded`.
    pub name: String,
    /// The number of cases with the event.
    pub hits: usize,
    /// The number of cases.
    pub n: usize,
    /// The upper confidence bound for the share of cases with the event, from 0 to 1, at the suite's `beta`.
    pub at_most: f64,
}

/// The reason why a text can't be read as a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The text is not JSON, or not of the form of a report.
    #[error("this is not a gate report: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The report has another version of the form.
    #[error("the report has the schema {0:?}, but only {SCHEMA:?} is supported")]
    OtherSchema(String),
}

impl GateReport {
    /// Returns the verdict of a suite from the results of its gates. Only enforcing gates count. If all gates only warn or
    /// are shadows, the verdict is skipped: the suite decides nothing. Enforcing gates that were all skipped are
    /// inconclusive, because nothing was shown.
    pub fn suite_verdict(gates: &[GateResult]) -> Verdict {
        let decides_nothing = !gates.is_empty() && gates.iter().all(|gate| gate.mode != GateMode::Enforce);
        match Verdict::of_all(gates.iter().map(|gate| gate.counts)) {
            Verdict::Skipped if !decides_nothing => Verdict::Inconclusive,
            Verdict::Skipped => Verdict::Skipped,
            verdict @ (Verdict::Pass | Verdict::Fail | Verdict::Inconclusive | Verdict::Error) => verdict,
        }
    }

    /// Parses a report from JSON.
    ///
    /// # Errors
    /// Returns an error if the text is not a report, or one with another schema.
    pub fn parse(text: &str) -> Result<GateReport, ReportError> {
        let report: GateReport = serde_json::from_str(text)?;
        if report.schema == SCHEMA { Ok(report) } else { Err(ReportError::OtherSchema(report.schema)) }
    }

    /// Returns the report as JSON with a newline at its end.
    ///
    /// # Errors
    /// Never fails in practice: a report consists of lists, numbers and text, which JSON can represent.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Returns the report as lines for a terminal: a sentence for each gate, and the verdict of the suite.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for gate in &self.gates {
            text += &gate.sentence;
            if gate.mode != GateMode::Enforce {
                text += if gate.mode == GateMode::Warn { " (warns only)" } else { " (shadow)" };
            }
            text.push('\n');
            let failing = gate.claims.iter().filter(|claim| claim.verdict != Verdict::Pass);
            let failing = failing.filter_map(|claim| claim.failing_words(MAX_NAMED_IN_TEXT));
            text += &failing.chain(gate.notes()).map(|line| format!("  {line}\n")).collect::<String>();
        }
        if !self.stopped.is_empty() {
            text += &format!("stopped early: {}\n", self.stopped);
        }
        if let Some(replay) = self.replay() {
            text += &format!("{replay}\n");
        }
        if let Some(warning) = self.warning() {
            text += &format!("warning: {warning}\n");
        }
        if self.spent.requests > 0 {
            text += &format!("{}\n", self.spent.words());
        }
        text + &format!("{}: {}\n", self.suite, self.verdict)
    }

    /// Returns a sentence about the answers of earlier attempts; `None` if there are none.
    pub fn replay(&self) -> Option<String> {
        let all: usize = self.gates.iter().map(|gate| gate.asked).sum();
        match self.replayed {
            0 => None,
            n if n as usize >= all => {
                Some(format!("replayed: all {n} answers are of an earlier attempt at this run, and nothing was asked"))
            }
            n => Some(format!("replayed: {n} of {all} answers are of an earlier attempt at this run")),
        }
    }

    /// Returns the warning of a suite that decides nothing because no gate enforces; `None` for other suites.
    pub fn warning(&self) -> Option<String> {
        if self.verdict != Verdict::Skipped {
            return None;
        }
        let not_passed: Vec<&str> =
            self.gates.iter().filter(|gate| gate.verdict != Verdict::Pass).map(|gate| gate.name.as_str()).collect();
        let found =
            if not_passed.is_empty() { "all passed".to_owned() } else { not_passed.join(", ") + " did not pass" };
        Some(format!("no gate of this suite has mode = \"enforce\", so it stops nothing; {found}"))
    }

    /// Returns the reason for the verdict, as for an event's `reason`: the sentences of the gates that count with the
    /// suite's verdict, or of all gates if the suite passed.
    pub fn reason(&self) -> String {
        let explains = |gate: &&GateResult| self.verdict == Verdict::Pass || gate.counts == self.verdict;
        self.gates.iter().filter(explains).map(|gate| gate.sentence.as_str()).collect::<Vec<_>>().join("; ")
    }
}

impl GateResult {
    /// Returns sentences about the candidate's responses without an answer, and about its failed attempts; none if
    /// there are none.
    fn notes(&self) -> Vec<String> {
        let listed = |counts: &BTreeMap<MissingAnswer, usize>| {
            counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
        };
        let sum: usize = self.failed_attempts.values().sum();
        let noun = if sum == 1 { "attempt" } else { "attempts" };
        [
            (!self.missing.is_empty()).then(|| format!("responses without an answer: {}", listed(&self.missing))),
            (sum > 0).then(|| format!("{sum} {noun} failed: {}", listed(&self.failed_attempts))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl ReportedClaim {
    /// Returns an estimate, a bound or the limit with the unit of the claim's metric in a gate of this kind; a quotient of
    /// the two versions as a factor.
    fn show(&self, kind: GateMetricKind, value: f64) -> String {
        let is_quotient = |metric: &&GateMetric| {
            self.paired && matches!(metric.aggregation, Aggregation::Quantile(_) | Aggregation::Ratio)
        };
        match GateMetric::find(kind, &self.metric).filter(is_quotient) {
            Some(_) => format!("{}x", Unit::Number.show(value)),
            None => self.show_value(kind, value),
        }
    }

    /// Returns a value of one version with the unit of the claim's metric in a gate of this kind.
    fn show_value(&self, kind: GateMetricKind, value: f64) -> String {
        GateMetric::find(kind, &self.metric).map_or(Unit::Number, |metric| metric.unit).show(value)
    }

    /// Returns the ids of at most `most` failing cases as a list, with the number of those that are not named; `None` if
    /// there are none.
    fn failing_words(&self, most: usize) -> Option<String> {
        let named = &self.failing[..self.failing.len().min(most)];
        let more = self.failing_count.saturating_sub(named.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let noun = if self.failing_count == 1 { "case" } else { "cases" };
        let kind = if self.paired { format!("{noun} worse than with stable") } else { format!("failing {noun}") };
        (!named.is_empty())
            .then(|| format!("{}, {} {kind}: {}{more}", self.metric, self.failing_count, named.join(", ")))
    }
}
