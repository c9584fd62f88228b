//! What is recorded of one answer: numbers, and what stands for the text. The text itself is here only if the suite asks for
//! it (`store-samples`). A vector is kept where meanings are compared; it is no text, but something of the text can be guessed
//! from it, and the documentation says so.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::score::tools::Used;

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The version that wants traffic.
    Candidate,
    /// The version that has it.
    Stable,
}

/// Which request of a run this is. A run that is resumed asks for those that it has no answer to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Key {
    /// The gate's name.
    pub gate: String,
    /// The case's id.
    pub case: String,
    /// Which time, from 0.
    pub repeat: u32,
    /// Who was asked.
    pub arm: Arm,
}

/// One recorded answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Observation {
    /// To which request.
    #[serde(flatten)]
    pub key: Key,
    /// What came.
    pub answer: Answer,
    /// The texts, if they are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// The texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sample {
    /// What was asked.
    pub prompt: String,
    /// What was answered.
    pub output: String,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// An answer, scored.
    Scored(Box<Scored>),
    /// None that could be scored.
    Missing {
        /// Which kind of nothing.
        why: Missing,
        /// In words, without a text in it.
        detail: String,
        /// How long it took to find out, in milliseconds.
        #[serde(default)]
        after_ms: f64,
    },
}

/// Why there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// No answer in time.
    Timeout,
    /// 429, until the retries were used up.
    RateLimited,
    /// 5xx, likewise.
    ServerError,
    /// 4xx: the request will never be taken.
    Refused,
    /// Nobody there.
    Unreachable,
    /// Not what the API answers.
    Malformed,
    /// Cut off at the limit of tokens.
    Truncated,
    /// No probability.
    Confidence,
    /// The judge gave no score.
    Judge,
    /// The classifier gave no verdict.
    Classifier,
    /// No vector.
    Embedder,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Missing::Timeout => "timed out",
            Missing::RateLimited => "turned away by rate limits",
            Missing::ServerError => "failed with a server error",
            Missing::Refused => "refused by the API",
            Missing::Unreachable => "found nobody",
            Missing::Malformed => "malformed",
            Missing::Truncated => "cut off at max-tokens",
            Missing::Confidence => "without a confidence from 0 to 1",
            Missing::Judge => "not scored by the judge",
            Missing::Classifier => "not classified",
            Missing::Embedder => "without a vector",
        })
    }
}

/// A scored answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Scored {
    /// Milliseconds until the first token, where the answer was streamed.
    pub ttft_ms: Option<f64>,
    /// Milliseconds until the last.
    pub total_ms: f64,
    /// Tokens of the question, by the server's count.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, likewise.
    pub output_tokens: Option<u64>,
    /// It was cut off, which only the performance gate lets pass for an answer (that is no success).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Stands for the answer's normal form.
    pub fingerprint: String,
    /// The answer's direction, where meanings are compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vector: Vec<f64>,
    /// The parts of quality.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f64>,
    /// Whether it is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<bool>,
    /// How sure it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Whether it does harm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harmful: Option<bool>,
    /// Whether it looks like a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<bool>,
    /// How its tools were used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Used>,
}

impl Observation {
    /// The answer, if there is one.
    pub fn scored(&self) -> Option<&Scored> {
        match &self.answer {
            Answer::Scored(scored) => Some(scored),
            Answer::Missing { .. } => None,
        }
    }
}
