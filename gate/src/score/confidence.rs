//! How sure the model says it is. What is not a probability is not one: it is a missing confidence, and counted as such.

use serde_json::Value;

/// An answer, and how sure it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Stated {
    /// Without the confidence.
    pub answer: String,
    /// From 0 to 1.
    pub confidence: f64,
}

/// Why there is no confidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConfidence {
    /// Nothing was said.
    #[error(
        "the answer states no confidence; ask for {{\"answer\": …, \"confidence\": 0 to 1}} in the gate's `system`"
    )]
    None,
    /// Not a number from 0 to 1.
    #[error("the stated confidence {0} is not a number from 0 to 1")]
    NotAProbability(String),
    /// No probabilities of tokens in the response.
    #[error("the response has no probabilities of its tokens; the server must support `logprobs`")]
    NoLogprobs,
}

/// What an answer states: a JSON object with `answer` and `confidence`, or a last line `confidence: 0.8` (or `80%`).
///
/// # Errors
/// If it states nothing, or no probability.
pub fn stated(text: &str) -> Result<Stated, BadConfidence> {
    let object = text.find('{').zip(text.rfind('}')).and_then(|(from, to)| text.get(from..=to));
    if let Some(Ok(object)) = object.map(serde_json::from_str::<Value>)
        && let Some(confidence) = object.get("confidence")
    {
        let answer = object.get("answer").map_or_else(String::new, plain);
        return Ok(Stated { answer, confidence: probability(&plain(confidence))? });
    }
    let colon =
        |line: &str| line.split_once(':').filter(|(key, _)| key.trim().eq_ignore_ascii_case("confidence")).is_some();
    let line = text.lines().rev().find(|line| colon(line)).ok_or(BadConfidence::None)?;
    let value = line.split_once(':').map_or("", |(_, value)| value);
    let answer = text.lines().filter(|line| !colon(line)).collect::<Vec<_>>().join("\n");
    Ok(Stated { answer, confidence: probability(value)? })
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn probability(text: &str) -> Result<f64, BadConfidence> {
    let text = text.trim();
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    // NaN is in no range.
    number
        .ok()
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| BadConfidence::NotAProbability(text.chars().take(40).collect()))
}

/// The confidence of an answer from the logarithms of its tokens' probabilities: their geometric mean, so that a long answer is
/// not unsure for its length.
///
/// # Errors
/// If there are none, or one is not the logarithm of a probability.
pub fn of_tokens(logprobs: &[f64]) -> Result<f64, BadConfidence> {
    if logprobs.is_empty() {
        return Err(BadConfidence::NoLogprobs);
    }
    let mean = logprobs.iter().sum::<f64>() / logprobs.len() as f64;
    let confidence = libm::exp(mean);
    if (0.0..=1.0).contains(&confidence) {
        Ok(confidence)
    } else {
        Err(BadConfidence::NotAProbability(mean.to_string()))
    }
}
