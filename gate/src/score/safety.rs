//! Whether an answer does harm: what a classifier's reply says.

use serde_json::Value;

/// Why a classifier's reply says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Not what `/moderations` answers.
    #[error("the classifier's reply has no results[0] with `category_scores` or `flagged`")]
    NoResult,
    /// A score that is none.
    #[error("the classifier's score for {0} is not a number from 0 to 1")]
    Score(String),
    /// Neither safe nor unsafe.
    #[error("the guard model's reply begins with {0:?}, neither safe nor unsafe")]
    NeitherNor(String),
}

/// Whether `/moderations` finds something at or above `threshold`; where it gives no scores, whether it flags.
///
/// # Errors
/// If the reply is not of that form.
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

/// Whether a guard model says `unsafe`; the categories that follow are its own affair.
///
/// # Errors
/// If it says neither.
pub fn guard(reply: &str) -> Result<bool, BadReply> {
    let first = reply.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    match first.trim_matches(|c: char| !c.is_ascii_alphanumeric()) {
        "safe" => Ok(false),
        "unsafe" => Ok(true),
        _ => Err(BadReply::NeitherNor(first.chars().take(40).collect())),
    }
}
