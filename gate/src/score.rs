//! Scoring of a single answer, as a number from 0 to 1.
//!
//! [`by_rule`] computes the scores that need only the text. The scores that need another endpoint (an embedder, a judge
//! or a classifier) are split: the modules here build its request and parse its reply, and the caller sends the
//! request.

pub mod confidence;
pub mod conversation;
pub mod overlap;
pub mod refusal;
pub mod rubric;
pub mod safety;
pub mod tools;

use crate::dataset::Case;
use crate::suite::Scorer;
use crate::text::{has_words, normal, normal_words, words};
use overlap::{rouge_l, token_f1};

/// Scores `answer`; `None` if the scorer needs the embedder or the judge.
pub fn by_rule(scorer: &Scorer, case: &Case, answer: &str) -> Option<f64> {
    let one_if = |condition: bool| f64::from(u8::from(condition));
    Some(match scorer {
        Scorer::Exact => one_if(case.expected.iter().any(|expected| normal(expected) == normal(answer))),
        Scorer::Contains => {
            let answer = normal_words(answer);
            one_if(case.expected.iter().any(|expected| has_words(&answer, &normal_words(expected))))
        }
        // The suite's check has compiled the pattern before. A pattern that can't be compiled matches nothing.
        Scorer::Regex(pattern) => one_if(regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(answer))),
        Scorer::TokenF1 => {
            let good = case.expected.iter().chain(&case.reference);
            good.map(|good| token_f1(answer, good)).fold(0.0, f64::max)
        }
        Scorer::RougeL => rouge_l(answer, case.reference.as_deref().unwrap_or_default()),
        Scorer::Topics => topics(answer, &case.topics),
        Scorer::Fluency => fluency(answer),
        Scorer::Answered => one_if(!answer.trim().is_empty()),
        Scorer::Embedding | Scorer::Rubric => return None,
    })
}

/// Returns the share of the topics whose words occur in the answer. An answer that only lists the topics scores 1, so
/// this should be one part of quality among others.
fn topics(answer: &str, topics: &[String]) -> f64 {
    let answer = words(answer);
    let found = topics.iter().filter(|topic| has_words(&answer, &words(topic))).count();
    if topics.is_empty() { 0.0 } else { found as f64 / topics.len() as f64 }
}

/// Returns the share of distinct sequences of three words among all of them, which is low for a model that repeats
/// itself. An answer of one or two words scores 1, an empty one 0. The score says nothing about the answer's meaning.
pub fn fluency(answer: &str) -> f64 {
    let words = words(answer);
    if words.len() < 3 {
        return f64::from(u8::from(!words.is_empty()));
    }
    let sequences: Vec<&[String]> = words.windows(3).collect();
    let distinct: std::collections::BTreeSet<&[String]> = sequences.iter().copied().collect();
    distinct.len() as f64 / sequences.len() as f64
}

/// Returns the cosine of the angle between two vectors, with negative values raised to 0. `None` if the lengths differ,
/// if one vector is zero, or if a number is not finite.
pub fn cosine(one: &[f64], other: &[f64]) -> Option<f64> {
    if one.len() != other.len() {
        return None;
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = dot(one, other) / (dot(one, one) * dot(other, other)).sqrt();
    cosine.is_finite().then(|| cosine.clamp(0.0, 1.0))
}
