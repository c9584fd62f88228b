//! How much of a good answer is in this one: the two measures that everybody knows, as everybody computes them.

use std::collections::BTreeMap;

use crate::text::{normal_words, words};

/// The harmonic mean of precision and recall over words, as SQuAD counts it: normal form, each occurrence once.
pub fn token_f1(answer: &str, good: &str) -> f64 {
    let (answer, good) = (normal_words(answer), normal_words(good));
    if answer.is_empty() || good.is_empty() {
        return f64::from(u8::from(answer == good));
    }
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for word in &good {
        *left.entry(word).or_default() += 1;
    }
    let mut shared = 0;
    for word in &answer {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    f_measure(shared, answer.len(), good.len())
}

/// ROUGE-L (Lin 2004): the same over the longest common subsequence, without stemming.
pub fn rouge_l(answer: &str, good: &str) -> f64 {
    let (answer, good) = (words(answer), words(good));
    // One row of the table at a time.
    let mut row = vec![0usize; good.len() + 1];
    for word in &answer {
        let mut diagonal = 0;
        for (at, other) in good.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    f_measure(row[good.len()], answer.len(), good.len())
}

fn f_measure(shared: usize, answer: usize, good: usize) -> f64 {
    if shared == 0 { 0.0 } else { 2.0 * shared as f64 / (answer + good) as f64 }
}
