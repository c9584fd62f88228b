//! The raw form of a suite, as the TOML file has it: limits are texts with units, and defaults may be missing.
//!
//! The meaning of each key is described at the field of the same name in the checked form ([`super::Suite`]); the
//! comments here add the defaults.

use std::collections::BTreeMap;

use bellwether_core::measure::metric::RawLimit;
use bellwether_core::time::Span;
use serde::Deserialize;

use super::endpoint::{Dialect, EndpointTls};
use super::traces::RawTraces;
use super::values::{
    CallSource, ClassifierApi, ConfidenceFrom, EndpointApi, GateMode, OnInconclusive, Price, RuleKind, Sampling, Scorer,
};
use crate::metric::GateMetricKind;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawSuite {
    /// The suite's name.
    pub name: String,
    /// The seed of all resampling and of the order of the cases; 0 by default.
    #[serde(default)]
    pub seed: u64,
    /// The largest probability of failing a good version, as in `5%`, which is the default.
    #[serde(default = "five_percent")]
    pub alpha: RawLimit,
    /// The largest probability of passing a version that is not good enough, as in `5%`, which is the default.
    #[serde(default = "five_percent")]
    pub beta: RawLimit,
    /// The largest share of a gate's requests that may have no answer, as in `2%`, which is the default.
    #[serde(default = "two_percent")]
    pub max_missing: RawLimit,
    /// Whether prompts and answers are stored; false by default.
    #[serde(default)]
    pub store_samples: bool,
    /// The section `[target]`: the endpoint of the candidate version and the settings of requests.
    pub target: RawTarget,
    /// The section `[stable]`: the endpoint of the stable version.
    pub stable: Option<RawEndpoint>,
    /// The section `[judge]`: the model that scores by a rubric.
    pub judge: Option<RawJudge>,
    /// The section `[classifier]`: the classifier that finds harmful answers.
    pub classifier: Option<RawClassifier>,
    /// The section `[embedder]`: the endpoint that turns texts into vectors.
    pub embedder: Option<RawEndpoint>,
    /// The section `[traces]`: the source of traces, for gates whose calls are read from them.
    pub traces: Option<RawTraces>,
    /// The section `[budget]`: the limits of a run.
    #[serde(default)]
    pub budget: RawBudget,
    /// The section `[price]`: the price of the target's tokens, and of those of each endpoint without a price of its own.
    pub price: Option<Price>,
    /// The sections `[[gate]]` in the order of the file.
    #[serde(default, rename = "gate")]
    pub gates: Vec<RawGate>,
}

fn five_percent() -> RawLimit {
    RawLimit::Text("5%".to_owned())
}

fn two_percent() -> RawLimit {
    RawLimit::Text("2%".to_owned())
}

/// An endpoint with an OpenAI-compatible API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawEndpoint {
    /// The base URL up to and including `/v1`.
    pub url: String,
    /// The name of the model in each request; the target's model by default.
    pub model: Option<String>,
    /// The name of the environment variable that holds the API key.
    pub key_env: Option<String>,
    /// The section `[SECTION.dialect]`; of the stable version, the target's by default.
    pub dialect: Option<Dialect>,
    /// The section `[SECTION.tls]`; of the stable version, the target's by default.
    pub tls: Option<EndpointTls>,
    /// The price of a million tokens; that of `[price]` by default.
    pub price: Option<Price>,
}

/// The endpoint of the candidate version, and the settings of requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawTarget {
    /// The base URL up to and including `/v1`; empty if the command line gives it with `--target`.
    #[serde(default)]
    pub url: String,
    /// The name of the model in each request; empty if the command line gives it.
    #[serde(default)]
    pub model: String,
    /// The name of the environment variable that holds the API key.
    pub key_env: Option<String>,
    /// The section `[target.dialect]`; that of most servers by default.
    #[serde(default)]
    pub dialect: Dialect,
    /// The section `[target.tls]`; the system's certificates by default.
    #[serde(default)]
    pub tls: EndpointTls,
    /// The API that requests use; `chat` by default.
    #[serde(default)]
    pub api: EndpointApi,
    /// The time within which an answer must be complete; one minute by default.
    #[serde(default = "a_minute")]
    pub timeout: Span,
    /// Whether answers are streamed; true by default.
    #[serde(default = "yes")]
    pub stream: bool,
    /// The number of requests in flight at the same time; 8 by default.
    #[serde(default = "eight")]
    pub concurrency: usize,
    /// The number of times that a request is repeated if the endpoint is unreachable or overloaded; 4 by default.
    #[serde(default = "four")]
    pub retries: u32,
    /// The sampling parameters; the server's by default.
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

/// A model that scores answers by a rubric.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawJudge {
    /// The base URL up to and including `/v1`.
    pub url: String,
    /// The name of the model; it has no default because another judge gives other scores.
    pub model: String,
    /// The name of the environment variable that holds the API key.
    pub key_env: Option<String>,
    /// The section `[judge.dialect]`; that of most servers by default.
    #[serde(default)]
    pub dialect: Dialect,
    /// The section `[judge.tls]`; the system's certificates by default.
    #[serde(default)]
    pub tls: EndpointTls,
    /// The price of a million tokens; that of `[price]` by default.
    pub price: Option<Price>,
    /// The instructions for scoring.
    pub rubric: String,
    /// The number of votes on each answer; odd, 3 by default.
    #[serde(default = "three")]
    pub votes: u32,
    /// The file of labelled answers, relative to the suite; none by default.
    pub self_test: Option<String>,
    /// The smallest agreement with the labels (Cohen's κ); 0.6 by default.
    #[serde(default = "six_tenths")]
    pub min_kappa: f64,
}

fn three() -> u32 {
    3
}

fn six_tenths() -> f64 {
    0.6
}

/// A classifier that finds harmful answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawClassifier {
    /// The base URL up to and including `/v1`.
    pub url: String,
    /// The name of the model.
    pub model: String,
    /// The name of the environment variable that holds the API key.
    pub key_env: Option<String>,
    /// The section `[classifier.dialect]`; that of most servers by default.
    #[serde(default)]
    pub dialect: Dialect,
    /// The section `[classifier.tls]`; the system's certificates by default.
    #[serde(default)]
    pub tls: EndpointTls,
    /// The price of a million tokens; that of `[price]` by default.
    pub price: Option<Price>,
    /// The API that the classifier has; `moderations` by default.
    #[serde(default)]
    pub api: ClassifierApi,
    /// The smallest score of a harmful answer, from 0 to 1; 0.5 by default.
    #[serde(default = "half")]
    pub threshold: f64,
    /// The policy that a guard model judges by; the model's own by default.
    pub policy: Option<String>,
}

fn half() -> f64 {
    0.5
}

/// The limits of a run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RawBudget {
    /// The longest time that the run may take, all of its attempts together; one hour by default.
    pub time: Span,
    /// The largest number of requests to all endpoints together; 20,000 by default.
    pub requests: u64,
    /// The largest number of tokens of all endpoints together; no limit by default.
    pub tokens: Option<u64>,
    /// The largest cost in the currency of the price; no limit by default.
    pub money: Option<f64>,
}

impl Default for RawBudget {
    fn default() -> RawBudget {
        RawBudget { time: Span::from_secs(3600), requests: 20_000, tokens: None, money: None }
    }
}

/// One section `[[gate]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawGate {
    /// The gate's name; the name of its kind by default.
    pub name: Option<String>,
    /// The kind of the gate, which determines its metrics.
    pub kind: GateMetricKind,
    /// Whether the gate's verdict decides the suite's; `enforce` by default.
    #[serde(default)]
    pub mode: GateMode,
    /// The effect of an inconclusive verdict on the suite; `hold` by default.
    #[serde(default)]
    pub on_inconclusive: OnInconclusive,
    /// The file of cases, relative to the suite.
    pub dataset: String,
    /// The version of the dataset; empty by default.
    #[serde(default)]
    pub version: String,
    /// The SHA-256 that the dataset must have; any by default.
    pub sha256: Option<String>,
    /// The number of times that each case is asked; 5 for consistency and 1 for other kinds by default.
    pub repeats: Option<u32>,
    /// The number of cases below which the gate never passes; the default depends on the kind.
    pub min_cases: Option<usize>,
    /// The sampling temperature; the target's by default.
    pub temperature: Option<f64>,
    /// The system message that precedes each case; none by default.
    pub system: Option<String>,
    /// The parts of a quality gate's score, by name.
    #[serde(default)]
    pub parts: BTreeMap<String, RawPart>,
    /// The scorer that decides whether an answer is right; `answered` for performance and `contains` for other kinds by
    /// default.
    pub right: Option<Scorer>,
    /// The smallest cosine of two answers that mean the same; 0.85 by default.
    pub same_meaning: Option<f64>,
    /// The source of an answer's confidence; `stated` by default.
    #[serde(default)]
    pub confidence: ConfidenceFrom,
    /// The place that a tools gate reads the agent's calls from; `answer` by default.
    #[serde(default)]
    pub calls: CallSource,
    /// The largest number of steps of a turn of a task; 8 by default.
    pub max_steps: Option<u32>,
    /// The limits, by the name of the metric.
    #[serde(default)]
    pub limits: BTreeMap<String, RawLimits>,
}

/// A part of a quality gate's score.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPart {
    /// The part's weight, above 0, relative to the weights of the other parts.
    pub weight: f64,
    /// The scorer of the part.
    pub by: Scorer,
}

/// The limits of one metric. Each limit that is given is checked by itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawLimits {
    /// The largest value of the metric.
    pub max: Option<RawLimit>,
    /// The smallest value of the metric.
    pub min: Option<RawLimit>,
    /// The largest amount by which the candidate may be worse than the stable version.
    pub margin: Option<RawLimit>,
    /// The largest quotient of the candidate's value and the stable version's.
    pub max_ratio: Option<f64>,
    /// Whether a confidence bound or the plain estimate is compared; `bound` by default.
    #[serde(default)]
    pub rule: RuleKind,
    /// Whether a single hit violates `max`; false by default.
    #[serde(default)]
    pub none: bool,
}
