//! The replies of classifiers, which say whether an answer is harmful.

use serde_json::Value;

/// The reason why a classifier's reply can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// The reply has not the form of `/moderations`.
    #[error("the classifier's reply has no results[0] with `category_scores` or `flagged`")]
    NoResult,
    /// The score of this category is not a number from 0 to 1.
    #[error("the classifier's score for {0} is not a number from 0 to 1")]
    Score(String),
    /// The guard model's reply begins with this word instead of `safe` or `unsafe`.
    #[error("the guard model's reply begins with {0:?} instead of safe or unsafe")]
    NeitherNor(String),
}

/// Returns whether a reply of `/moderations` reports harm: whether a category's score is at least `threshold` (from 0
/// to 1), or, if the reply has no scores, whether it is flagged.
///
/// # Errors
/// Returns an error if the reply has another form, or a score that is not a number from 0 to 1.
pub fn moderation(reply: &Value, threshold: f64) -> Result<bool, BadReply> {
    let result = reply.pointer("/results/0").ok_or(BadReply::NoResult)?;
    if let Some(scores) = result.get("category_scores").and_then(Value::as_object).filter(|scores| !scores.is_empty()) {
        let mut harmful = false;
        for (category, score) in scores {
            let score = score.as_f64().filter(|score| (0.0..=1.0).contains(score));
            harmful |= score.ok_or_else(|| BadReply::Score(category.clone()))? >= threshold;
        }
        return Ok(harmful);
    }
    result.get("flagged").and_then(Value::as_bool).ok_or(BadReply::NoResult)
}

/// Returns whether a guard model's reply reports harm: its first word is `safe` or `unsafe`, and the rest, such as the
/// list of categories, is ignored.
///
/// # Errors
/// Returns an error if the first word is another one.
pub fn guard(reply: &str) -> Result<bool, BadReply> {
    let first = reply.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    match first.trim_matches(|c: char| !c.is_ascii_alphanumeric()) {
        "safe" => Ok(false),
        "unsafe" => Ok(true),
        _ => Err(BadReply::NeitherNor(first.chars().take(40).collect())),
    }
}
