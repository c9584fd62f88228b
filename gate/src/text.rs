//! Texts as scorers compare them: without case, punctuation, articles and white space, which are no part of an answer.

use bellwether_core::ids::digest;

/// The words of `text`, in lower case: runs of letters and digits.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The same without the articles, and with punctuation gone from within words, as question answering is scored since SQuAD:
/// `"The U.S."` is `us`.
pub fn normal_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let bare: String = lower.chars().filter(|c| c.is_alphanumeric() || c.is_whitespace()).collect();
    bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).map(str::to_owned).collect()
}

/// The normal form of an answer.
pub fn normal(text: &str) -> String {
    normal_words(text).join(" ")
}

/// What stands for an answer where the answer itself is not kept: two answers have the same if their normal forms are the same.
pub fn fingerprint(text: &str) -> String {
    digest(&[&normal(text)])[..16].to_owned()
}

/// Whether the words of `part` stand in `whole`, one after the other.
pub fn has_words(whole: &[String], part: &[String]) -> bool {
    !part.is_empty() && whole.windows(part.len()).any(|window| window == part)
}
