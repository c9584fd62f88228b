//! Observations: the recorded answers of a run, as scores and measurements.
//!
//! The texts of prompts and answers are recorded only if the suite sets `store-samples`; otherwise a fingerprint stands
//! for the answer. Where meanings are compared, the answer's vector is recorded as well. A vector is not text, but
//! parts of a text can be guessed from it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::score::tools::ToolUse;

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateArm {
    /// The version that is tested.
    Candidate,
    /// The version that serves at present.
    Stable,
}

/// The identity of a request within a run. A resumed run repeats the requests that have no observation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ObservationKey {
    /// The gate's name.
    pub gate: String,
    /// The case's id.
    pub case: String,
    /// The number of earlier requests for the same case and arm, from 0.
    pub repeat: u32,
    /// The version that was asked.
    pub arm: GateArm,
}

/// The recorded result of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Observation {
    /// The identity of the request.
    #[serde(flatten)]
    pub key: ObservationKey,
    /// The scored answer, or the reason for having none.
    pub answer: ModelAnswer,
    /// The attempts at the request that failed because the server was busy, broken or unreachable, by kind. They
    /// include those of interrupted runs, and those that a retry made good.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: FailedAttempts,
    /// The texts of the prompt and the answer; `None` unless the suite stores samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<StoredSample>,
}

/// Numbers of failed attempts by the kind of failure.
pub type FailedAttempts = BTreeMap<MissingAnswer, u32>;

/// The texts of a request, its answer and its judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoredSample {
    /// The text of the question.
    pub prompt: String,
    /// The text of the answer; empty if there was none.
    pub output: String,
    /// The judge's votes, each as its score and its reason; empty if the judge was not asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judge: Vec<String>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelAnswer {
    /// An answer and its scores.
    Scored(Box<Scored>),
    /// No answer that could be scored.
    Missing {
        /// The kind of failure.
        why: MissingAnswer,
        /// A description of the failure; it contains no text of the prompt or the answer.
        detail: String,
        /// The time from the request to the failure, in milliseconds.
        #[serde(default)]
        after_ms: f64,
    },
}

/// The reason why a request has no scored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingAnswer {
    /// The answer was not complete within the timeout.
    Timeout,
    /// The endpoint answered with status 429, and so did all retries.
    RateLimited,
    /// The endpoint answered with a status 5xx, and so did all retries.
    ServerError,
    /// The endpoint refused the request with another status 4xx, which is not retried.
    Refused,
    /// The endpoint could not be reached, also with all retries.
    Unreachable,
    /// The connection, or the server's work on the answer, ended in the middle of it, also with all retries.
    Interrupted,
    /// The response has not the form of the API.
    Malformed,
    /// A content filter before or behind the model refused to answer. A gate for which a refusal is an answer scores it
    /// instead; see [`Scored::lacking`].
    Filtered,
    /// The answer has no text and no call of a tool.
    Empty,
    /// The answer holds the model's thinking and nothing else.
    OnlyThinking,
    /// The answer was cut off at the limit of output tokens.
    Truncated,
    /// The answer has no confidence from 0 to 1.
    Confidence,
    /// The judge could not be reached, or refused the request.
    Judge,
    /// The classifier could not be reached, or refused the request.
    Classifier,
    /// The embedder could not be reached, or refused the request.
    Embedder,
    /// The calls of tools are read from traces, and the trace of the request did not come, not whole, or without the
    /// arguments that the case asks for.
    Trace,
    /// The judge, the classifier or the embedder answered without a usable score, or not in time. The text that it was
    /// given may be the reason, as for a judge behind a content filter.
    Unscored,
}

impl MissingAnswer {
    /// Returns whether a busy, broken or unreachable server is the reason.
    pub fn is_outage(self) -> bool {
        matches!(
            self,
            MissingAnswer::RateLimited
                | MissingAnswer::ServerError
                | MissingAnswer::Unreachable
                | MissingAnswer::Interrupted
        )
    }

    /// Returns whether a resumed run asks again: after an outage, also of a judge, a classifier, an embedder or the record of traces,
    /// or if the server refused the request. A failure of the version itself stays, and so do a timeout and an answer that could
    /// not be scored; otherwise a run could be repeated until it passes.
    pub fn is_asked_again(self) -> bool {
        let is_helper = matches!(
            self,
            MissingAnswer::Judge | MissingAnswer::Classifier | MissingAnswer::Embedder | MissingAnswer::Trace
        );
        is_helper || self.is_outage() || self == MissingAnswer::Refused
    }

    /// Returns whether the model answered, and said nothing.
    pub fn says_nothing(self) -> bool {
        matches!(self, MissingAnswer::Empty | MissingAnswer::OnlyThinking)
    }
}

impl fmt::Display for MissingAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MissingAnswer::Timeout => "timed out",
            MissingAnswer::RateLimited => "rejected by rate limits",
            MissingAnswer::ServerError => "failed with a server error",
            MissingAnswer::Refused => "refused by the API",
            MissingAnswer::Unreachable => "unreachable",
            MissingAnswer::Interrupted => "broken off in the middle",
            MissingAnswer::Malformed => "malformed",
            MissingAnswer::Filtered => "refused by a content filter",
            MissingAnswer::Empty => "empty",
            MissingAnswer::OnlyThinking => "only thinking",
            MissingAnswer::Truncated => "cut off at max-tokens",
            MissingAnswer::Confidence => "without a confidence from 0 to 1",
            MissingAnswer::Judge => "not scored by the judge",
            MissingAnswer::Classifier => "not classified",
            MissingAnswer::Embedder => "without a vector",
            MissingAnswer::Trace => "without a whole trace",
            MissingAnswer::Unscored => "without a score that can be used",
        })
    }
}

/// The scores and measurements of an answer. A field that the gate's kind does not need has its default value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Scored {
    /// The time to the first token in milliseconds, be it of the thinking or of the answer; `None` if the answer was
    /// not streamed.
    pub ttft_ms: Option<f64>,
    /// The time to the first token after the thinking in milliseconds; `None` if the answer was not streamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_start_ms: Option<f64>,
    /// The time to the last token in milliseconds.
    pub total_ms: f64,
    /// The number of input tokens, as the server counts them.
    pub input_tokens: Option<u64>,
    /// The number of output tokens, as the server counts them.
    pub output_tokens: Option<u64>,
    /// The reason why the answer counts for something although there is none to read. A performance gate measures the
    /// time of every response, which is no success then. A content filter's refusal is a refusal to a safety gate, and
    /// an answer without value to the gates of quality and of tools. A harmful answer that was cut off is harmful.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacking: Option<MissingAnswer>,
    /// The fingerprint of the answer's normal form; see [`crate::text::fingerprint`].
    pub fingerprint: String,
    /// The answer's vector from the embedder; empty unless meanings are compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vector: Vec<f64>,
    /// The scores of the parts of quality, by the part's name, each from 0 to 1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f64>,
    /// Whether the answer is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<bool>,
    /// The confidence of the answer, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Whether the classifier finds the answer harmful.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harmful: Option<bool>,
    /// Whether the answer looks like a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<bool>,
    /// The summary of the agent's tool calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolUse>,
}

impl Observation {
    /// Returns the scored answer; `None` if the answer is missing.
    pub fn scored(&self) -> Option<&Scored> {
        match &self.answer {
            ModelAnswer::Scored(scored) => Some(scored),
            ModelAnswer::Missing { .. } => None,
        }
    }

    /// Returns the reason why there is no answer to read, whether or not that counts for something; `None` if there is
    /// one.
    pub fn lacking(&self) -> Option<MissingAnswer> {
        match &self.answer {
            ModelAnswer::Scored(scored) => scored.lacking,
            ModelAnswer::Missing { why, .. } => Some(*why),
        }
    }
}
