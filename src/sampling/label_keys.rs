//! Numbers for the values of some labels, so that the points of an answer are sorted without comparing texts.
//!
//! The labels of an answer share its texts ([`Labels`]), and a combination of values comes back in many points: each process has a
//! point for each of its classes. So a combination is looked up by the places of its texts, and its texts are compared once for
//! each answer.

use std::collections::HashMap;

use crate::ports::Labels;

/// The most labels whose places are compared; with more the texts are.
const MOST_PLACES: usize = 8;

/// The address of an answer's texts, and the places of the values among them.
type Places = (usize, [u32; MOST_PLACES]);

/// The combinations of values of some labels, numbered from 0 in the order in which they were first seen. A label that a series does
/// not have counts as an empty one, as in Prometheus.
pub struct LabelKeys<'a> {
    names: Vec<&'a str>,
    by_places: HashMap<Places, usize>,
    by_texts: HashMap<Vec<&'a str>, usize>,
}

impl<'a> LabelKeys<'a> {
    /// Returns no combinations of the labels with these names.
    pub fn new(names: impl IntoIterator<Item = &'a str>) -> LabelKeys<'a> {
        LabelKeys { names: names.into_iter().collect(), by_places: HashMap::new(), by_texts: HashMap::new() }
    }

    /// Returns the number of the combination of some labels, and whether it is new.
    pub fn number(&mut self, labels: &'a Labels) -> (usize, bool) {
        let places = labels.places(&self.names);
        if let Some(number) = places.and_then(|places| self.by_places.get(&places)) {
            return (*number, false);
        }
        let texts = self.names.iter().map(|name| labels.get(name).unwrap_or_default()).collect();
        let next = self.by_texts.len();
        let number = *self.by_texts.entry(texts).or_insert(next);
        self.by_places.extend(places.map(|places| (places, number)));
        (number, number == next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect::<BTreeMap<_, _>>().into()
    }

    #[test]
    fn equal_values_have_one_number_in_all_answers_and_a_missing_label_is_an_empty_one() {
        let all = [
            labels(&[("le", "1"), ("pod", "a")]),
            labels(&[("le", "2"), ("pod", "a")]),
            labels(&[("le", "1"), ("pod", "b")]),
            labels(&[("le", "1")]),
            labels(&[("pod", "")]),
        ];
        let mut keys = LabelKeys::new(["pod"]);
        let numbers: Vec<(usize, bool)> = all.iter().map(|labels| keys.number(labels)).collect();
        assert_eq!(numbers, [(0, true), (0, false), (1, true), (2, true), (2, false)]);
    }

    #[test]
    fn more_labels_than_have_places_are_told_apart_by_their_texts() {
        let names: Vec<String> = (0..MOST_PLACES + 1).map(|n| format!("label-{n}")).collect();
        let first: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "x")).collect();
        let mut second = first.clone();
        second[MOST_PLACES].1 = "y";
        let (first, second) = (labels(&first), labels(&second));
        let mut keys = LabelKeys::new(names.iter().map(String::as_str));
        assert_eq!([&first, &second, &first].map(|labels| keys.number(labels).0), [0, 1, 0]);
    }
}
