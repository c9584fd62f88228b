//! The one value that a run comes to. It is printed as JSON, as Markdown for a CI summary, as JUnit, and as one HTML file that
//! needs nothing else; all four are the same value, and none of them has a prompt or an answer in it.

mod html;
mod junit;
mod markdown;

use std::collections::BTreeMap;

use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::metric::Kind;
use crate::observation::Missing;
use crate::rule::Verdict;
use crate::suite::Mode;

/// The name of this form, in every report.
pub const SCHEMA: &str = "bellwether.dev/gate-report/v1";

/// What was tested.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Subject {
    /// The model, or the image.
    pub model: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Its digest, as in `sha256:…`: what a policy's requirement is matched by.
    #[serde(default)]
    pub digest: String,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The suite's name.
    pub suite: String,
    /// Of the suite's text.
    #[serde(default)]
    pub suite_sha256: String,
    /// What it all comes to.
    pub verdict: Verdict,
    /// What was tested.
    pub subject: Subject,
    /// When the run began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// A good version fails in at most this part of all runs.
    pub alpha: f64,
    /// Something that is not good enough passes in at most this part.
    pub beta: f64,
    /// Of what was resampled.
    pub seed: u64,
    /// What it took.
    #[serde(default)]
    pub spent: Spent,
    /// Why it ended before everything was asked; empty: it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stopped: String,
    /// Where the results come from, where others have made them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub imported_from: String,
    /// In the order of the suite.
    pub gates: Vec<GateReport>,
}

/// What a run took, over all of its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spent {
    /// Requests to anybody.
    pub requests: u64,
    /// Tokens, as far as servers count them.
    pub tokens: u64,
    /// Money, where prices are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<f64>,
}

/// What came of one gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GateReport {
    /// Its name.
    pub name: String,
    /// What it looks at.
    pub kind: Kind,
    /// Whether it decides.
    pub mode: Mode,
    /// What was found.
    pub verdict: Verdict,
    /// What that is to the suite.
    pub counts: Verdict,
    /// All of it in one sentence.
    pub sentence: String,
    /// What it holds against what.
    pub claims: Vec<Claim>,
    /// Of which cases.
    pub dataset: Kept,
    /// Requests that were made, of both arms.
    pub asked: usize,
    /// Cases that the run did not get to.
    pub not_asked: usize,
    /// What the target did not answer, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<Missing, usize>,
    /// By category; it explains and does not decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakdown: Vec<Row>,
    /// Of a calibration gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliability: Option<Reliability>,
}

/// How confidence and correctness go together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reliability {
    /// The mean distance of confidence and correctness over bins of equal size.
    pub ece: f64,
    /// The same without what chance gives a perfect model; not below 0.
    pub ece_corrected: f64,
    /// An interval for the plain one, by resampling; 5 % outside on each side.
    pub ece_interval: (f64, f64),
    /// The mean squared distance of confidence and correctness.
    pub brier: f64,
    /// How often a right answer is surer than a wrong one; `None`: there are not both.
    pub auroc: Option<f64>,
    /// By confidence.
    pub bins: Vec<Bin>,
}

/// Answers of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bin {
    /// How many.
    pub n: usize,
    /// How sure they are.
    pub confidence: f64,
    /// How many are right.
    pub accuracy: f64,
    /// Wilson's interval for that.
    pub low: f64,
    /// Its other end.
    pub high: f64,
}

/// What is kept of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kept {
    /// Its file.
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Of its bytes.
    #[serde(default)]
    pub sha256: String,
    /// How many cases it has.
    pub cases: usize,
}

impl Kept {
    /// Without the cases.
    pub fn of(dataset: &Dataset) -> Kept {
        Kept {
            name: dataset.name.clone(),
            version: dataset.version.clone(),
            sha256: dataset.sha256.clone(),
            cases: dataset.cases.len(),
        }
    }
}

/// One claim and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claim {
    /// Of what.
    pub metric: String,
    /// Against the stable; otherwise against a limit.
    pub paired: bool,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen; of a comparison, the difference or the quotient.
    pub estimate: Option<f64>,
    /// What can be said with confidence, on the side that the verdict was read from.
    pub bound: Option<f64>,
    /// That is from above, as in "at most"; otherwise from below. What refutes a claim is bounded on the other side.
    pub bound_from_above: bool,
    /// With how much; `None`: the plain number was taken.
    pub confidence: Option<f64>,
    /// The claim is "at most"; otherwise "at least".
    pub at_most: bool,
    /// So much.
    pub limit: f64,
    /// Cases, pairs or requests.
    pub n: usize,
    /// Of a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<usize>,
    /// The stable's own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// Of a paired share: McNemar's exact chance that so much would go against the candidate if both were alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// All of it in words.
    pub sentence: String,
}

/// One category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// Which.
    pub name: String,
    /// How often.
    pub hits: usize,
    /// Of how many.
    pub n: usize,
    /// The share is at most this.
    pub at_most: f64,
}

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not JSON of this form.
    #[error("this is no gate report: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Of another version.
    #[error("this is a report of form {0:?}, and {SCHEMA:?} is understood here")]
    OtherSchema(String),
}

impl Report {
    /// What the gates' verdicts come to for the suite: of those that decide. Where none does, nothing was shown.
    pub fn settle(gates: &[GateReport]) -> Verdict {
        match Verdict::of_all(gates.iter().map(|gate| gate.counts)) {
            Verdict::Skipped => Verdict::Inconclusive,
            verdict @ (Verdict::Pass | Verdict::Fail | Verdict::Inconclusive | Verdict::Error) => verdict,
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// If it is none, or of another form.
    pub fn parse(text: &str) -> Result<Report, ReportError> {
        let report: Report = serde_json::from_str(text)?;
        if report.schema == SCHEMA { Ok(report) } else { Err(ReportError::OtherSchema(report.schema)) }
    }

    /// As JSON.
    ///
    /// # Errors
    /// None that can happen: it is made of lists, numbers and text.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// As Markdown, for a CI's summary.
    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }

    /// As JUnit XML: a case for each claim.
    pub fn to_junit(&self) -> String {
        junit::render(self)
    }

    /// As one HTML file.
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// As lines for a terminal: a sentence for each gate.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for gate in &self.gates {
            text += &gate.sentence;
            if gate.mode != Mode::Enforce {
                text += if gate.mode == Mode::Warn { " (warns only)" } else { " (shadow)" };
            }
            text.push('\n');
        }
        if !self.stopped.is_empty() {
            text += &format!("stopped early: {}\n", self.stopped);
        }
        text + &format!("{}: {}\n", self.suite, self.verdict)
    }

    /// Why, for an event's `reason`: the sentences of what kept it from passing, or of all.
    pub fn reason(&self) -> String {
        let telling = |gate: &&GateReport| self.verdict == Verdict::Pass || gate.counts == self.verdict;
        self.gates.iter().filter(telling).map(|gate| gate.sentence.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// How a sign stands for a verdict where there is room for one only.
fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::Inconclusive => "❔",
        Verdict::Error => "⚠️",
        Verdict::Skipped => "➖",
    }
}
