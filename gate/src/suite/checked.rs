//! The checked form of a suite: every default is filled in, and every limit is a number in its metric's unit.

use std::collections::BTreeMap;

use bellwether_core::time::Span;
use serde::Serialize;

use super::endpoint::{Endpoint, TokenLimitKey};
use super::traces::Traces;
use super::values::{
    CallSource, ClassifierApi, ConfidenceFrom, EndpointApi, GateMode, OnInconclusive, Price, RuleKind, Sampling, Scorer,
};
use crate::metric::{GateMetric, GateMetricKind};

/// A checked suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// The suite's name, which a policy's requirement refers to.
    pub name: String,
    /// The SHA-256 of the suite's text in hexadecimal digits.
    pub sha256: String,
    /// The SHA-256 of the suite without its `[budget]`, which identifies a run: a run that is resumed with a larger
    /// budget is the same run.
    pub run_sha256: String,
    /// The seed of all resampling and of the order of the cases.
    pub seed: u64,
    /// The largest probability that the suite fails a good version, from 0 to 0.5, over all enforcing gates together.
    pub alpha: f64,
    /// The largest probability that the suite passes a version that is not good enough, from 0 to 0.5.
    pub beta: f64,
    /// The largest share of a gate's requests, from 0 to 1, that may have no answer; with more the gate's verdict is
    /// `error`.
    pub max_missing: f64,
    /// Whether prompts and answers are stored with the observations.
    pub store_samples: bool,
    /// The endpoint of the candidate version, which is tested.
    pub target: Endpoint,
    /// The settings of the requests to the candidate and to the stable version.
    pub requests: RequestSettings,
    /// The endpoint of the stable version, which is asked the same questions for comparison.
    pub stable: Option<Endpoint>,
    /// The model that scores answers by a rubric.
    pub judge: Option<JudgeModel>,
    /// The classifier that finds harmful answers.
    pub classifier: Option<Classifier>,
    /// The endpoint that turns texts into vectors.
    pub embedder: Option<Endpoint>,
    /// The source of traces, for gates whose calls are read from them.
    pub traces: Option<Traces>,
    /// The limits of a run: time, requests, tokens and money.
    pub budget: RunLimits,
    /// The price of the target's tokens, and of those of each endpoint without a price of its own.
    pub price: Option<Price>,
    /// The gates in the order of the file; at least one, each with a unique name.
    pub gates: Vec<Gate>,
}

/// The settings of the requests to the candidate and to the stable version.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestSettings {
    /// The API that requests use.
    pub api: EndpointApi,
    /// The time within which an answer must be complete.
    pub timeout: Span,
    /// Whether answers are streamed; without streaming no time to the first token is measured.
    pub stream: bool,
    /// The number of requests in flight at the same time; at least 1.
    pub concurrency: usize,
    /// The number of times that a request is repeated if the endpoint is unreachable or overloaded.
    pub retries: u32,
    /// The sampling parameters, which should be those of production.
    pub sampling: Sampling,
}

/// A model that scores answers by a rubric.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeModel {
    /// The endpoint of the judge.
    pub endpoint: Endpoint,
    /// The instructions for scoring. They are part of the suite's hash, so a report identifies the rubric.
    pub rubric: String,
    /// The number of votes on each answer, of which the median counts; odd.
    pub votes: u32,
    /// The file of answers that people have labelled, relative to the suite; `None` skips the self-test.
    pub self_test: Option<String>,
    /// The smallest agreement with the people's labels (Cohen's κ) with which the judge is used; at most 1.
    pub min_kappa: f64,
}

/// A classifier that finds harmful answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// The endpoint of the classifier.
    pub endpoint: Endpoint,
    /// The API that the classifier has.
    pub api: ClassifierApi,
    /// The smallest score, from 0 to 1, of a harmful answer, if the classifier returns scores.
    pub threshold: f64,
    /// The policy that a guard model judges by, which is sent to it as the system message: for ShieldGemma a guideline of
    /// its model card, for Granite Guardian the name of a risk. `None` leaves it to the model's template.
    pub policy: Option<String>,
}

/// The limits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunLimits {
    /// The longest time that the run may take, all of its attempts together.
    pub time: Span,
    /// The largest number of requests to all endpoints together.
    pub requests: u64,
    /// The largest number of input and output tokens of all endpoints together; `None` is no limit.
    pub tokens: Option<u64>,
    /// The largest cost in the currency of the suite's price; `None` is no limit.
    pub money: Option<f64>,
}

/// One gate of a suite: its cases, its settings and its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// The gate's name, unique in the suite.
    pub name: String,
    /// The kind of the gate, which determines its metrics.
    pub kind: GateMetricKind,
    /// Whether the gate's verdict decides the suite's.
    pub mode: GateMode,
    /// The effect of an inconclusive verdict on the suite.
    pub on_inconclusive: OnInconclusive,
    /// The file of the gate's cases, relative to the suite.
    pub dataset: String,
    /// The version of the dataset, as the suite states it; may be empty.
    pub version: String,
    /// The SHA-256 that the dataset must have, in hexadecimal digits; `None` accepts any.
    pub sha256: Option<String>,
    /// The number of times that each case is asked; at least 1, and at least 2 for consistency.
    pub repeats: u32,
    /// The number of cases below which the gate never passes.
    pub min_cases: usize,
    /// The sampling temperature; `None` uses the one of [`RequestSettings::sampling`].
    pub temperature: Option<f64>,
    /// The system message that precedes each case.
    pub system: Option<String>,
    /// The parts of a quality gate's score, by name; empty for other kinds.
    pub parts: BTreeMap<String, Part>,
    /// The scorer that decides whether an answer is right: it is if its score is at least 0.5.
    pub right: Scorer,
    /// The smallest cosine of two answers' vectors, up to 1, at which the answers mean the same.
    pub same_meaning: f64,
    /// The source of an answer's confidence, for a calibration gate.
    pub confidence: ConfidenceFrom,
    /// The place that a tools gate reads the agent's calls from.
    pub calls: CallSource,
    /// The largest number of steps that an agent may take for a turn of a task, if its calls are in its answers.
    pub max_steps: u32,
    /// The limits that the gate checks; at least one.
    pub limits: Vec<GateLimit>,
}

/// A part of a quality gate's score.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The part's weight, above 0; the weights of all parts sum to 1.
    pub weight: f64,
    /// The scorer of the part.
    pub by: Scorer,
}

/// A limit of a gate: a metric, and the value that it is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateLimit {
    /// The metric that the limit is about.
    pub metric: &'static GateMetric,
    /// The value that the metric is compared with.
    pub comparison: Comparison,
    /// Whether a confidence bound or the plain estimate is compared.
    pub rule: RuleKind,
    /// Whether a single hit violates the limit, regardless of the bound. Only with a maximum of a share.
    pub none: bool,
}

/// The value that a metric is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Comparison {
    /// A fixed maximum, in the metric's unit.
    Max(f64),
    /// A fixed minimum, in the metric's unit.
    Min(f64),
    /// The largest amount, above 0 and in the metric's unit, by which the candidate may be worse than the stable
    /// version.
    Margin(f64),
    /// The largest quotient, above 1, of the candidate's value and the stable version's.
    MaxRatio(f64),
}

/// The problems of a suite that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the suite can't be used:\n{}", problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n"))]
pub struct SuiteError {
    /// One sentence for each problem, beginning with the key that it is about.
    pub problems: Vec<String>,
}

impl Suite {
    /// Returns all endpoints of the suite.
    pub fn endpoints_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        let helpers = [
            self.stable.as_mut(),
            self.judge.as_mut().map(|judge| &mut judge.endpoint),
            self.classifier.as_mut().map(|classifier| &mut classifier.endpoint),
            self.embedder.as_mut(),
        ];
        [Some(&mut self.target)].into_iter().chain(helpers).flatten()
    }

    /// Returns the largest number of output tokens that an answer of either version can have; ∞ if the suite sets none, or
    /// does not send it.
    pub fn most_output_tokens(&self) -> f64 {
        let is_sent = |endpoint: &Endpoint| !matches!(endpoint.dialect.token_limit, TokenLimitKey::None);
        let versions = [Some(&self.target), self.stable.as_ref()];
        let limit = self.requests.sampling.max_tokens.filter(|_| versions.into_iter().flatten().all(is_sent));
        limit.map_or(f64::INFINITY, f64::from)
    }
}

impl Gate {
    /// Returns the scorers that each answer is given to.
    pub fn scorers(&self) -> impl Iterator<Item = &Scorer> {
        self.parts.values().map(|part| &part.by).chain([&self.right])
    }

    /// Returns whether a limit of the gate is about the metric of this name.
    pub fn measures(&self, name: &str) -> bool {
        self.limits.iter().any(|limit| limit.metric.name == name)
    }
}
