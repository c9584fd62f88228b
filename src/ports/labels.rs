//! The labels of series. An answer has thousands of series whose labels have few different texts, so each text is kept once, and the
//! labels of a series are a few numbers.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// The labels of a series, in the order of their names. All labels of an answer share its texts, and clones share the labels.
#[derive(Clone, Default)]
pub struct Labels {
    answer: Arc<LabelTable>,
    place: LabelPlace,
}

/// The labels of all series of one answer.
#[derive(Debug, Default)]
pub struct LabelTable {
    texts: Vec<Arc<str>>,
    /// The name and the value of each label, as indices of `texts`.
    pairs: Vec<(u32, u32)>,
}

/// The place of the labels of one series in the table of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LabelPlace {
    first: u32,
    count: u32,
}

/// A table that labels are still added to.
#[derive(Debug, Default)]
pub struct LabelTableBuilder {
    table: LabelTable,
    indices: HashMap<Arc<str>, u32>,
}

impl Labels {
    /// Returns the labels at `place` in the table of an answer; none if the table has no such place.
    pub fn at(answer: &Arc<LabelTable>, place: LabelPlace) -> Labels {
        Labels { answer: Arc::clone(answer), place }
    }

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
        let (first, count) = (self.place.first as usize, self.place.count as usize);
        let pairs = self.answer.pairs.get(first..first + count).unwrap_or_default();
        let text = |index: u32| self.answer.texts.get(index as usize).map_or("", |text| &**text);
        pairs.iter().map(move |(name, value)| (text(*name), text(*value)))
    }

    /// Returns the address of the answer's texts, and the places of the values of the labels with these names among them; `None` if
    /// there are more names than places. A label that is missing has the place [`u32::MAX`].
    pub fn places<const N: usize>(&self, names: &[&str]) -> Option<(usize, [u32; N])> {
        let mut places = [u32::MAX; N];
        if names.len() > N {
            return None;
        }
        let (first, count) = (self.place.first as usize, self.place.count as usize);
        for (name, value) in self.answer.pairs.get(first..first + count).unwrap_or_default() {
            let text = self.answer.texts.get(*name as usize).map_or("", |text| &**text);
            for (place, _) in places.iter_mut().zip(names).filter(|(_, wanted)| **wanted == text) {
                *place = *value;
            }
        }
        Some((Arc::as_ptr(&self.answer).addr(), places))
    }

    /// Returns a value that the points of one series in an answer have in common, for as long as one of them lives.
    pub fn identity(&self) -> (*const (), LabelPlace) {
        (Arc::as_ptr(&self.answer).cast(), self.place)
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Labels {}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Labels {
        let mut table = LabelTableBuilder::default();
        let place = table.add(labels.iter().map(|(name, value)| (&**name, &**value)));
        Labels::at(&Arc::new(table.finish()), place)
    }
}

impl LabelTableBuilder {
    /// Adds the labels of a series, in the order of their names, and returns their place.
    pub fn add<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> LabelPlace {
        let first = self.table.pairs.len();
        for (name, value) in labels {
            let pair = (self.index(name), self.index(value));
            self.table.pairs.push(pair);
        }
        // An answer has at most 256 MiB, so its labels and texts can be counted in 32 bits.
        LabelPlace { first: first as u32, count: (self.table.pairs.len() - first) as u32 }
    }

    /// Returns the table, which is complete.
    pub fn finish(mut self) -> LabelTable {
        self.table.texts.shrink_to_fit();
        self.table.pairs.shrink_to_fit();
        self.table
    }

    /// Returns the index of a text, which is kept once.
    fn index(&mut self, text: &str) -> u32 {
        if let Some(index) = self.indices.get(text) {
            return *index;
        }
        let (index, text) = (self.table.texts.len() as u32, Arc::<str>::from(text));
        self.table.texts.push(Arc::clone(&text));
        self.indices.insert(text, index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_of_an_answer_are_kept_once() {
        let mut table = LabelTableBuilder::default();
        let places = [
            table.add([("le", "1"), ("pod", "a-1")].into_iter()),
            table.add([("le", "2"), ("pod", "a-1")].into_iter()),
            table.add([].into_iter()),
        ];
        let table = Arc::new(table.finish());
        let [first, second, none] = places.map(|place| Labels::at(&table, place));
        assert_eq!((first.get("le"), second.get("le"), second.get("job")), (Some("1"), Some("2"), None));
        assert_eq!((first.iter().count(), second.iter().count(), none.iter().count()), (2, 2, 0));
        assert_eq!(table.texts.len(), 5, "two names and three values");
    }

    #[test]
    fn labels_are_equal_if_their_texts_are_in_whichever_answer() {
        let one = Labels::from(BTreeMap::from([("pod".to_owned(), "a".to_owned())]));
        let mut table = LabelTableBuilder::default();
        table.add([("le", "1")].into_iter());
        let place = table.add([("pod", "a")].into_iter());
        assert_eq!(one, Labels::at(&Arc::new(table.finish()), place));
        assert_ne!(one, Labels::default());
    }
}
