//! Text normalization for scorers: answers are compared without case, punctuation, articles and white space.

use bellwether_core::ids::digest;

/// Returns the words of `text` in lower case; a word is a run of letters and digits.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns the words of `text` in the normal form of question answering, as in SQuAD's evaluation script: lower case,
/// without the articles, and without punctuation, also inside of words. `"The U.S."` becomes `["us"]`.
pub fn normal_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let bare: String = lower.chars().filter(|c| c.is_alphanumeric() || c.is_whitespace()).collect();
    bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).map(str::to_owned).collect()
}

/// Returns the normal form of an answer: its [`normal_words`], separated by single spaces.
pub fn normal(text: &str) -> String {
    normal_words(text).join(" ")
}

/// Returns 16 hexadecimal digits that stand for an answer whose text is not stored. Two answers with the same normal
/// form have the same fingerprint.
pub fn fingerprint(text: &str) -> String {
    digest(&[&normal(text)])[..16].to_owned()
}

/// Returns whether the words of `part` occur in `whole` one after the other; false if `part` is empty.
pub fn has_words(whole: &[String], part: &[String]) -> bool {
    !part.is_empty() && whole.windows(part.len()).any(|window| window == part)
}
