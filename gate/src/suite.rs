//! A suite: which gates there are, whom they ask, and what their verdicts promise.
//!
//! [`raw::RawSuite`] is what TOML holds; [`Suite::parse`] turns it into a [`Suite`] or into *all* of its problems, each with the
//! key that it is about. No key of an API is in it: only the name of the environment variable that holds one.

mod check;
pub mod raw;
pub mod words;

use std::collections::BTreeMap;

use bellwether_core::time::Span;
use serde::Serialize;

use crate::dataset::{Case, sha256};
use crate::metric::{Kind, Metric};
pub use words::{Api, ClassifierApi, ConfidenceFrom, Mode, OnInconclusive, Price, RuleKind, Sampling, Scorer};

/// A checked suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// The SHA-256 of its text: with the datasets' and the target it says what a run was of.
    pub sha256: String,
    /// The same without its budget: a run that has been given more is still that run.
    pub run_sha256: String,
    /// The seed of what is resampled.
    pub seed: u64,
    /// A good version fails in at most this part of all runs.
    pub alpha: f64,
    /// A version that is not good enough passes in at most this part.
    pub beta: f64,
    /// Of a gate's requests this part may go without an answer; with more the gate is an error.
    pub max_missing: f64,
    /// Whether prompts and answers are written down.
    pub store_samples: bool,
    /// Who is asked.
    pub target: Endpoint,
    /// How it is asked.
    pub ask: Ask,
    /// Who is asked the same, to compare.
    pub stable: Option<Endpoint>,
    /// Who scores by a rubric.
    pub judge: Option<Judge>,
    /// Who says whether an answer is harmful.
    pub classifier: Option<Classifier>,
    /// Who turns texts into vectors.
    pub embedder: Option<Endpoint>,
    /// How much may be spent.
    pub budget: Budget,
    /// What tokens cost.
    pub price: Option<Price>,
    /// In the order of the file.
    pub gates: Vec<Gate>,
}

/// Somebody who speaks the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Up to and with `/v1`.
    pub url: String,
    /// Which model is asked for.
    pub model: String,
    /// The environment variable that holds the key.
    pub key_env: Option<String>,
}

/// How the target is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Which of its endpoints.
    pub api: Api,
    /// How long an answer may take.
    pub timeout: Span,
    /// Whether it is streamed; without that there is no time to the first token.
    pub stream: bool,
    /// How many are asked at once.
    pub concurrency: usize,
    /// How often a request is repeated that found nobody, or somebody busy.
    pub retries: u32,
    /// As in production.
    pub sampling: Sampling,
}

/// Who scores by a rubric.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    /// Who.
    pub endpoint: Endpoint,
    /// What is asked of it; it is part of the suite's hash, so a report says which rubric it was.
    pub rubric: String,
    /// How often it is asked about one answer; the median counts.
    pub votes: u32,
    /// Answers that people have labelled.
    pub self_test: Option<String>,
    /// It must agree with them at least so well (Cohen's κ).
    pub min_kappa: f64,
}

/// Who says whether an answer is harmful.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// Who.
    pub endpoint: Endpoint,
    /// How it is asked.
    pub api: ClassifierApi,
    /// From this score on an answer is harmful, where it gives scores.
    pub threshold: f64,
}

/// How much may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Budget {
    /// Time.
    pub time: Span,
    /// Requests to the target, the stable, judges and classifiers together.
    pub requests: u64,
    /// Tokens of all of them.
    pub tokens: Option<u64>,
    /// Money, in the currency of the prices.
    pub money: Option<f64>,
}

/// One gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Its name, unique in the suite.
    pub name: String,
    /// What it looks at.
    pub kind: Kind,
    /// Whether it decides.
    pub mode: Mode,
    /// What an inconclusive gate means for the suite.
    pub on_inconclusive: OnInconclusive,
    /// The file of its cases, as the suite names it.
    pub dataset: String,
    /// The version of the cases.
    pub version: String,
    /// What the file must hash to.
    pub sha256: Option<String>,
    /// How often each case is asked.
    pub repeats: u32,
    /// With fewer cases it never passes.
    pub min_cases: usize,
    /// At which temperature, where it is not the target's.
    pub temperature: Option<f64>,
    /// What is said to the model before the case.
    pub system: Option<String>,
    /// Of quality: what it is made of.
    pub parts: BTreeMap<String, Part>,
    /// What makes an answer right.
    pub right: Scorer,
    /// Two answers mean the same from this cosine on.
    pub same_meaning: f64,
    /// Where confidence comes from.
    pub confidence: ConfidenceFrom,
    /// So many steps a task may take.
    pub max_steps: u32,
    /// What is held against what.
    pub limits: Vec<Limit>,
}

/// A part of quality.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Of all weights, which sum to 1.
    pub weight: f64,
    /// Who scores it.
    pub by: Scorer,
}

/// One claim that a gate makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Of what.
    pub metric: &'static Metric,
    /// What it is held against.
    pub against: Against,
    /// By a bound, or by the plain number.
    pub rule: RuleKind,
    /// One case is one too many, whatever the bound.
    pub none: bool,
}

/// What a metric is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Against {
    /// At most this.
    Max(f64),
    /// At least this.
    Min(f64),
    /// Not worse than the stable's by more than this.
    Margin(f64),
    /// Not more than so many times the stable's.
    MaxRatio(f64),
}

/// Everything that is wrong with a suite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the suite can't be used:\n{}", problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n"))]
pub struct SuiteError {
    /// Each with its key.
    pub problems: Vec<String>,
}

impl Suite {
    /// Reads and checks a suite.
    ///
    /// # Errors
    /// With all of its problems.
    pub fn parse(text: &str) -> Result<Suite, SuiteError> {
        let raw: raw::RawSuite =
            toml::from_str(text).map_err(|error| SuiteError { problems: vec![error.to_string().trim().to_owned()] })?;
        let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
        table.remove("budget");
        check::check(raw, (sha256(text), sha256(&table.to_string())))
    }
}

impl Gate {
    /// What the cases lack that the gate needs.
    pub fn missing_from(&self, cases: &[Case]) -> Vec<String> {
        check::cases(self, cases)
    }

    /// The scorers that each answer goes through.
    pub fn scorers(&self) -> impl Iterator<Item = &Scorer> {
        self.parts.values().map(|part| &part.by).chain([&self.right])
    }

    /// Whether any limit is about this metric.
    pub fn measures(&self, name: &str) -> bool {
        self.limits.iter().any(|limit| limit.metric.name == name)
    }
}
