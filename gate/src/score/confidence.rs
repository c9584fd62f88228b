//! The confidence of an answer: stated in its text, or computed from the probabilities of its tokens. A value that is
//! not a number from 0 to 1 is an error, and the observation counts as missing.

use serde_json::Value;

/// An answer that states its confidence.
#[derive(Debug, Clone, PartialEq)]
pub struct StatedAnswer {
    /// The answer without the stated confidence.
    pub answer: String,
    /// The stated probability that the answer is right, from 0 to 1.
    pub confidence: f64,
}

/// The reason why an answer has no confidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConfidence {
    /// The answer states no confidence.
    #[error(
        "the answer states no confidence; ask for {{\"answer\": …, \"confidence\": 0 to 1}} in the gate's `system`"
    )]
    None,
    /// The confidence is not a number from 0 to 1.
    #[error("the stated confidence {0} is not a number from 0 to 1")]
    NotAProbability(String),
    /// The response contains no probabilities of tokens.
    #[error("the response has no probabilities of its tokens; the server must support `logprobs`")]
    NoLogprobs,
}

/// Parses an answer that states its confidence: a JSON object with `answer` and `confidence`, possibly within other
/// text, or a line `confidence: 0.8` or `confidence: 80%`, of which the last one counts.
///
/// # Errors
/// Returns an error if the answer states no confidence, or one that is not a number from 0 to 1.
pub fn stated(text: &str) -> Result<StatedAnswer, BadConfidence> {
    let object = text.find('{').zip(text.rfind('}')).and_then(|(from, to)| text.get(from..=to));
    if let Some(Ok(object)) = object.map(serde_json::from_str::<Value>)
        && let Some(confidence) = object.get("confidence")
    {
        let answer = object.get("answer").map_or_else(String::new, plain);
        return Ok(StatedAnswer { answer, confidence: probability(&plain(confidence))? });
    }
    let states_confidence =
        |line: &str| line.split_once(':').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("confidence"));
    let line = text.lines().rev().find(|line| states_confidence(line)).ok_or(BadConfidence::None)?;
    let value = line.split_once(':').map_or("", |(_, value)| value);
    let answer = text.lines().filter(|line| !states_confidence(line)).collect::<Vec<_>>().join("\n");
    Ok(StatedAnswer { answer, confidence: probability(value)? })
}

/// Returns a JSON string without its quotes, and any other value as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn probability(text: &str) -> Result<f64, BadConfidence> {
    let text = text.trim();
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    // The range also excludes NaN.
    number
        .ok()
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| BadConfidence::NotAProbability(text.chars().take(40).collect()))
}

/// Computes the confidence of an answer from the natural logarithms of its tokens' probabilities: their geometric mean,
/// which does not depend on the length of the answer.
///
/// # Errors
/// Returns an error if there are no logarithms, or if their mean is not the logarithm of a probability.
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
