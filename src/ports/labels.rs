//! The labels of series. An answer has thousands of series whose labels have few different texts, so each text is kept once.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// The labels of a series, in the order of their names. Clones share them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Returns the value of a label; `None` if the series does not have it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// Returns whether the series has a label.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns the labels and their values, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the address of the labels, which clones have in common for as long as one of them lives.
    pub fn address(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Labels {
        Labels(labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The texts of the labels of one answer.
#[derive(Debug, Default)]
pub struct LabelTexts(HashSet<Arc<str>>);

impl LabelTexts {
    /// Returns labels with these texts, of which each is kept once. `labels` are in the order of their names.
    pub fn labels<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
        Labels(labels.map(|(name, value)| (self.text(name), self.text(value))).collect())
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.0.get(text) {
            return Arc::clone(kept);
        }
        let kept: Arc<str> = text.into();
        self.0.insert(Arc::clone(&kept));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_of_an_answer_are_kept_once() {
        let mut texts = LabelTexts::default();
        let first = texts.labels([("le", "1"), ("pod", "a-1")].into_iter());
        let second = texts.labels([("le", "2"), ("pod", "a-1")].into_iter());
        assert_eq!((first.get("le"), second.get("le"), second.get("job")), (Some("1"), Some("2"), None));
        assert_eq!(texts.0.len(), 5, "two names and three values");
        assert!(Arc::ptr_eq(&first.0[1].1, &second.0[1].1));
    }
}
