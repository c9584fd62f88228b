//! A suite as it is written.

use std::collections::BTreeMap;

use bellwether_core::measure::metric::RawLimit;
use bellwether_core::time::Span;
use serde::Deserialize;

use super::words::{Api, ClassifierApi, ConfidenceFrom, Mode, OnInconclusive, Price, RuleKind, Sampling, Scorer};
use crate::metric::Kind;

/// The file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawSuite {
    /// Its name.
    pub name: String,
    /// The seed of what is resampled.
    #[serde(default)]
    pub seed: u64,
    /// How often a good version may fail.
    #[serde(default = "five_percent")]
    pub alpha: RawLimit,
    /// How often one that is not may pass.
    #[serde(default = "five_percent")]
    pub beta: RawLimit,
    /// What part may go without an answer.
    #[serde(default = "two_percent")]
    pub max_missing: RawLimit,
    /// Whether prompts and answers are written down.
    #[serde(default)]
    pub store_samples: bool,
    /// Who is asked.
    pub target: RawTarget,
    /// Who is asked the same.
    pub stable: Option<RawEndpoint>,
    /// Who scores by a rubric.
    pub judge: Option<RawJudge>,
    /// Who says what is harmful.
    pub classifier: Option<RawClassifier>,
    /// Who turns texts into vectors.
    pub embedder: Option<RawEndpoint>,
    /// How much may be spent.
    #[serde(default)]
    pub budget: RawBudget,
    /// What tokens cost.
    pub price: Option<Price>,
    /// The gates.
    #[serde(default, rename = "gate")]
    pub gates: Vec<RawGate>,
}

fn five_percent() -> RawLimit {
    RawLimit::Text("5%".to_owned())
}

fn two_percent() -> RawLimit {
    RawLimit::Text("2%".to_owned())
}

/// Somebody who speaks the API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawEndpoint {
    /// Up to and with `/v1`.
    pub url: String,
    /// Which model is asked for; of the stable, by default the target's.
    pub model: Option<String>,
    /// The environment variable that holds the key.
    pub key_env: Option<String>,
}

/// Who is asked, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawTarget {
    /// Up to and with `/v1`; `--target` may say it instead.
    #[serde(default)]
    pub url: String,
    /// Which model is asked for.
    #[serde(default)]
    pub model: String,
    /// The environment variable that holds the key.
    pub key_env: Option<String>,
    /// Which endpoint.
    #[serde(default)]
    pub api: Api,
    /// How long an answer may take.
    #[serde(default = "a_minute")]
    pub timeout: Span,
    /// Whether answers are streamed.
    #[serde(default = "yes")]
    pub stream: bool,
    /// How many are asked at once.
    #[serde(default = "eight")]
    pub concurrency: usize,
    /// How often a request is repeated.
    #[serde(default = "four")]
    pub retries: u32,
    /// As in production.
    #[serde(default)]
    pub sampling: Sampling,
}

fn a_minute() -> Span {
    Span::from_secs(60)
}

fn yes() -> bool {
    true
}

fn eight() -> usize {
    8
}

fn four() -> u32 {
    4
}

/// Who scores by a rubric.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawJudge {
    /// Up to and with `/v1`.
    pub url: String,
    /// Pinned: a judge that changes changes the scores.
    pub model: String,
    /// The environment variable that holds the key.
    pub key_env: Option<String>,
    /// What is asked of it.
    pub rubric: String,
    /// How often.
    #[serde(default = "three")]
    pub votes: u32,
    /// Labelled answers.
    pub self_test: Option<String>,
    /// How well it must agree with them.
    #[serde(default = "six_tenths")]
    pub min_kappa: f64,
}

fn three() -> u32 {
    3
}

fn six_tenths() -> f64 {
    0.6
}

/// Who says what is harmful.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawClassifier {
    /// Up to and with `/v1`.
    pub url: String,
    /// Which.
    pub model: String,
    /// The environment variable that holds the key.
    pub key_env: Option<String>,
    /// How it is asked.
    #[serde(default)]
    pub api: ClassifierApi,
    /// From this score on an answer is harmful.
    #[serde(default = "half")]
    pub threshold: f64,
}

fn half() -> f64 {
    0.5
}

/// How much may be spent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RawBudget {
    /// Time.
    pub time: Span,
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Money.
    pub money: Option<f64>,
}

impl Default for RawBudget {
    fn default() -> RawBudget {
        RawBudget { time: Span::from_secs(3600), requests: 20_000, tokens: None, money: None }
    }
}

/// One gate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawGate {
    /// By default the kind's name.
    pub name: Option<String>,
    /// What it looks at.
    pub kind: Kind,
    /// Whether it decides.
    #[serde(default)]
    pub mode: Mode,
    /// What an inconclusive gate means.
    #[serde(default)]
    pub on_inconclusive: OnInconclusive,
    /// The file of cases, beside the suite.
    pub dataset: String,
    /// Of the cases.
    #[serde(default)]
    pub version: String,
    /// What the file must hash to.
    pub sha256: Option<String>,
    /// How often each case is asked.
    pub repeats: Option<u32>,
    /// With fewer it never passes.
    pub min_cases: Option<usize>,
    /// At which temperature, where it is not the target's.
    pub temperature: Option<f64>,
    /// What is said before the case.
    pub system: Option<String>,
    /// Of quality: what it is made of.
    #[serde(default)]
    pub parts: BTreeMap<String, RawPart>,
    /// What makes an answer right.
    pub right: Option<Scorer>,
    /// Two answers mean the same from this cosine on.
    pub same_meaning: Option<f64>,
    /// Where confidence comes from.
    #[serde(default)]
    pub confidence: ConfidenceFrom,
    /// So many steps a task may take.
    pub max_steps: Option<u32>,
    /// By metric.
    #[serde(default)]
    pub limits: BTreeMap<String, RawLimits>,
}

/// A part of quality.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPart {
    /// Beside the others'.
    pub weight: f64,
    /// Who scores it.
    pub by: Scorer,
}

/// What a metric is held against.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawLimits {
    /// At most.
    pub max: Option<RawLimit>,
    /// At least.
    pub min: Option<RawLimit>,
    /// Not worse than the stable by more than this.
    pub margin: Option<RawLimit>,
    /// Not more than so many times the stable's.
    pub max_ratio: Option<f64>,
    /// By a bound, or by the plain number.
    #[serde(default)]
    pub rule: RuleKind,
    /// One is one too many.
    #[serde(default)]
    pub none: bool,
}
