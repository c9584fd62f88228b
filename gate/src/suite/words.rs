//! The words of a suite: what may stand where a choice is written. They mean the same in the checked form.

use serde::{Deserialize, Serialize};

/// Which of the API's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// `/chat/completions`.
    #[default]
    Chat,
    /// `/completions`.
    Completions,
}

/// How answers are sampled; what is not set is the server's business.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sampling {
    /// Temperature.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// An answer that is cut off here is not an answer.
    pub max_tokens: Option<u32>,
}

/// How a classifier is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassifierApi {
    /// `/moderations`, with a score for each category.
    #[default]
    Moderations,
    /// A guard model behind `/chat/completions` that answers `safe` or `unsafe`.
    Guard,
}

/// What a million tokens cost.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Price {
    /// Of the question.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
}

impl Price {
    /// What so many tokens cost.
    pub fn of(self, input: u64, output: u64) -> f64 {
        (self.input * input as f64 + self.output * output as f64) / 1e6
    }
}

/// How a number is held against its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// What can be said of it with confidence.
    #[default]
    Bound,
    /// The number as it is, which promises nothing.
    Threshold,
}

/// Whether a gate decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It doesn't, and what it finds is said aloud.
    Warn,
    /// It doesn't; it is tried out.
    Shadow,
}

/// What an inconclusive gate means for its suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnInconclusive {
    /// The suite is inconclusive, too.
    #[default]
    Hold,
    /// As if it had failed.
    Fail,
    /// As if it had passed.
    Pass,
}

/// How an answer is scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// One of the expected answers, in its normal form, and nothing else.
    Exact,
    /// The words of one of the expected answers stand in it.
    Contains,
    /// It matches this pattern.
    Regex(String),
    /// The words that it shares with the nearest of the expected answers, or with the reference.
    TokenF1,
    /// The longest common run of words with the reference.
    RougeL,
    /// The share of the topics that it speaks of.
    Topics,
    /// It does not say the same again and again.
    Fluency,
    /// The cosine of its vector with the reference's, or with the prompt's.
    Embedding,
    /// The judge's rubric.
    Rubric,
    /// That there is one.
    Answered,
}

/// Where confidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfidenceFrom {
    /// The answer states it.
    #[default]
    Stated,
    /// The probability of its tokens.
    Logprobs,
}
