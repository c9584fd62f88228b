//! Values of a suite's keys that are the same in the raw and in the checked form.

use serde::{Deserialize, Serialize};

/// The API of an endpoint to which cases are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointApi {
    /// `/chat/completions`, to which a case is sent as messages.
    #[default]
    Chat,
    /// `/completions`, to which a case is sent as plain text.
    Completions,
}

/// The sampling parameters of a request; a parameter that is `None` is left to the server.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sampling {
    /// The sampling temperature, from 0.
    pub temperature: Option<f64>,
    /// The probability mass of nucleus sampling, from 0 to 1.
    pub top_p: Option<f64>,
    /// The largest number of output tokens. An answer that is cut off there counts as missing, or, for a performance
    /// gate, as no success.
    pub max_tokens: Option<u32>,
}

/// The API of a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassifierApi {
    /// `/moderations`, with a score for each category.
    #[default]
    Moderations,
    /// A guard model behind `/chat/completions` that answers `safe` or `unsafe`, such as Llama Guard.
    Guard,
    /// Qwen3Guard-Gen behind `/chat/completions`.
    #[serde(rename = "qwen3-guard")]
    Qwen3Guard,
    /// Granite Guardian behind `/chat/completions`.
    GraniteGuardian,
    /// ShieldGemma behind `/chat/completions`; it needs a `policy`.
    ShieldGemma,
}

/// The price of a million tokens, in any currency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Price {
    /// The price of a million input tokens.
    pub input: f64,
    /// The price of a million output tokens.
    pub output: f64,
}

impl Price {
    /// Returns the price of `input` input tokens and `output` output tokens.
    pub fn of(self, input: u64, output: u64) -> f64 {
        (self.input * input as f64 + self.output * output as f64) / 1e6
    }
}

/// The value that is compared with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// The confidence bound, which keeps the suite's error rates.
    #[default]
    Bound,
    /// The plain estimate, for which no error rate is guaranteed.
    Threshold,
}

/// The effect of a gate's verdict on its suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateMode {
    /// The verdict counts for the suite.
    #[default]
    Enforce,
    /// The verdict does not count, and reports mark the gate as a warning.
    Warn,
    /// The verdict does not count; the gate is on trial.
    Shadow,
}

/// The effect of an inconclusive gate on its suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnInconclusive {
    /// The gate counts as inconclusive.
    #[default]
    Hold,
    /// The gate counts as failed.
    Fail,
    /// The gate counts as passed.
    Pass,
}

/// The method by which an answer is scored. Every score lies between 0 and 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// 1 if the answer's normal form is that of an expected answer.
    Exact,
    /// 1 if the answer contains the words of an expected answer.
    Contains,
    /// 1 if the answer matches this regular expression.
    Regex(String),
    /// The F1 score of the words that the answer shares with the nearest expected answer or with the reference.
    TokenF1,
    /// The ROUGE-L score of the answer with the reference.
    RougeL,
    /// The share of the case's topics that the answer mentions.
    Topics,
    /// The share of the answer's three-word sequences that are not repetitions.
    Fluency,
    /// The cosine of the answer's vector with that of the reference, or of the prompt if the case has no reference.
    Embedding,
    /// The median of the judge's votes.
    Rubric,
    /// 1 if the answer is not empty.
    Answered,
}

/// The source of an answer's confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfidenceFrom {
    /// The answer states its confidence.
    #[default]
    Stated,
    /// The confidence is computed from the probabilities of the answer's tokens.
    Logprobs,
}

/// The place that an agent's calls of tools are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallSource {
    /// The answers: the agent asks for calls in the form of the API, and gets the results of the case.
    #[default]
    Answer,
    /// The traces of the suite's `[traces]`: the agent calls its tools inside and answers with text.
    Traces,
}
