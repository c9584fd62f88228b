//! The overlap of an answer with a good answer, by two standard measures: token F1 and ROUGE-L.

use std::collections::BTreeMap;

use crate::text::{normal_words, words};

/// Returns the harmonic mean of precision and recall over the [normal words](normal_words), with multiplicity, as in
/// SQuAD's evaluation script. From 0 to 1.
pub fn token_f1(answer: &str, good: &str) -> f64 {
    let (answer, good) = (normal_words(answer), normal_words(good));
    if answer.is_empty() || good.is_empty() {
        return f64::from(u8::from(answer == good));
    }
    let mut unmatched: BTreeMap<&str, usize> = BTreeMap::new();
    for word in &good {
        *unmatched.entry(word).or_default() += 1;
    }
    let mut shared = 0;
    for word in &answer {
        if let Some(count) = unmatched.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    f_measure(shared, answer.len(), good.len())
}

/// Returns ROUGE-L (Lin 2004) without stemming: the harmonic mean of precision and recall over the longest common
/// subsequence of the words. From 0 to 1.
pub fn rouge_l(answer: &str, good: &str) -> f64 {
    let (answer, good) = (words(answer), words(good));
    // The table of the dynamic program, of which only the current row is kept.
    let mut row = vec![0usize; good.len() + 1];
    for word in &answer {
        let mut diagonal = 0;
        for (column, other) in good.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if word == other { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    f_measure(row[good.len()], answer.len(), good.len())
}

/// Returns the harmonic mean of `shared / answer` and `shared / good`.
fn f_measure(shared: usize, answer: usize, good: usize) -> f64 {
    if shared == 0 { 0.0 } else { 2.0 * shared as f64 / (answer + good) as f64 }
}
