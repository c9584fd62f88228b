//! Scoring one answer: numbers from 0 to 1.
//!
//! What a rule can say is said here, at once and for nothing. What needs somebody else (a vector, a judge, a classifier) is
//! prepared here and read here; the shell carries the question there and the answer back.

pub mod confidence;
pub mod overlap;
pub mod refusal;
pub mod rubric;
pub mod safety;
pub mod tools;

use crate::dataset::Case;
use crate::suite::Scorer;
use crate::text::{has_words, normal, normal_words, words};
use overlap::{rouge_l, token_f1};

/// What `scorer` makes of `answer`; `None`: it takes somebody else to say.
pub fn by_rule(scorer: &Scorer, case: &Case, answer: &str) -> Option<f64> {
    let yes = |is: bool| f64::from(u8::from(is));
    Some(match scorer {
        Scorer::Exact => yes(case.expected.iter().any(|expected| normal(expected) == normal(answer))),
        Scorer::Contains => {
            let answer = normal_words(answer);
            yes(case.expected.iter().any(|expected| has_words(&answer, &normal_words(expected))))
        }
        // The suite's check has compiled it already; what can't be is matched by nothing.
        Scorer::Regex(pattern) => yes(regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(answer))),
        Scorer::TokenF1 => {
            let good = case.expected.iter().chain(&case.reference);
            good.map(|good| token_f1(answer, good)).fold(0.0, f64::max)
        }
        Scorer::RougeL => rouge_l(answer, case.reference.as_deref().unwrap_or_default()),
        Scorer::Topics => topics(answer, &case.topics),
        Scorer::Fluency => fluency(answer),
        Scorer::Answered => yes(!answer.trim().is_empty()),
        Scorer::Embedding | Scorer::Rubric => return None,
    })
}

/// The share of the topics whose words stand in the answer. Naming them all in a list would do, so this is never more than a
/// part of quality.
fn topics(answer: &str, topics: &[String]) -> f64 {
    let answer = words(answer);
    let found = topics.iter().filter(|topic| has_words(&answer, &words(topic))).count();
    if topics.is_empty() { 0.0 } else { found as f64 / topics.len() as f64 }
}

/// The share of runs of three words that are not repetitions: a model that has lost the thread says the same again and
/// again. It says nothing about sense; a judge does.
pub fn fluency(answer: &str) -> f64 {
    let words = words(answer);
    if words.len() < 3 {
        return f64::from(u8::from(!words.is_empty()));
    }
    let runs: Vec<&[String]> = words.windows(3).collect();
    let distinct: std::collections::BTreeSet<&[String]> = runs.iter().copied().collect();
    distinct.len() as f64 / runs.len() as f64
}

/// The cosine of two vectors, and 0 where it points the other way; `None`: one of them is no direction.
pub fn cosine(one: &[f64], other: &[f64]) -> Option<f64> {
    if one.len() != other.len() {
        return None;
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = dot(one, other) / (dot(one, one) * dot(other, other)).sqrt();
    cosine.is_finite().then(|| cosine.clamp(0.0, 1.0))
}
