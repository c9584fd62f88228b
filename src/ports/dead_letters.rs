//! The records that could not be carried out, as their store has kept them.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bellwether_core::time::Timestamp;

use super::{EventRecord, Partition};

/// The most dead letters of a list.
pub const MOST_LETTERS: usize = 50;
/// The most bytes of a key, and of a value, in a list.
pub const LISTED_BYTES: usize = 1024;

/// The store of dead letters.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Returns the newest letters, at most [`MOST_LETTERS`], the newest first, with keys and values of at most [`LISTED_BYTES`].
    ///
    /// # Errors
    /// A sentence with the reason why they can't be read.
    async fn newest(&self) -> Result<DeadLetterList, String>;
    /// Returns one letter with all that was kept of it; `None` if the store does not have it.
    ///
    /// # Errors
    /// A sentence with the reason why it can't be read.
    async fn letter(&self, id: LetterId) -> Result<Option<DeadLetter>, String>;
}

/// The newest dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadLetterList {
    /// The letters, the newest first.
    pub letters: Vec<DeadLetter>,
    /// Whether the store may have older ones.
    pub may_have_more: bool,
    /// The reason why some of the newest may be missing; `None` if they are complete.
    pub problem: Option<String>,
}

impl DeadLetterList {
    /// Puts the letters in order, and leaves out the oldest if there are too many.
    pub fn sorted(mut self) -> DeadLetterList {
        self.letters.sort_by_key(|letter| Reverse((letter.at, letter.id)));
        self.may_have_more |= self.letters.len() > MOST_LETTERS;
        self.letters.truncate(MOST_LETTERS);
        self
    }
}

/// A record that could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The letter's place in its store.
    pub id: LetterId,
    /// The time at which it was kept; `None` if the store does not tell it.
    pub at: Option<Timestamp>,
    /// The place where the record was read; `None` if the letter does not tell it.
    pub origin: Option<LetterOrigin>,
    /// The reason why it was not carried out; empty if the letter has none.
    pub problem: String,
    /// The record's key; `None` if it had none.
    pub key: Option<KeptBytes>,
    /// The record's value; `None` for a tombstone.
    pub value: Option<KeptBytes>,
    /// The record's headers; none in a list.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl DeadLetter {
    /// Returns the letter as it is in a list.
    pub fn listed(self) -> DeadLetter {
        let cut = |kept: KeptBytes| kept.cut(LISTED_BYTES);
        DeadLetter { key: self.key.map(cut), value: self.value.map(cut), headers: Vec::new(), ..self }
    }

    /// Returns the record for which it stands, without a place; `None` if a part of its value was not kept.
    pub fn record(&self) -> Option<EventRecord> {
        let value = match &self.value {
            Some(value) if value.is_cut() => return None,
            value => value.as_ref().map(|value| value.bytes.clone()),
        };
        let key = self.key.as_ref().filter(|key| !key.is_cut()).map(|key| key.bytes.clone());
        Some(EventRecord { key, value, headers: self.headers.clone(), ..EventRecord::default() })
    }
}

/// The first bytes of a key or value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptBytes {
    /// The bytes that are known.
    pub bytes: Vec<u8>,
    /// The number of all bytes.
    pub all: usize,
}

impl KeptBytes {
    /// Returns whether there were more bytes.
    pub fn is_cut(&self) -> bool {
        self.bytes.len() < self.all
    }

    /// Returns at most the first `most` bytes.
    fn cut(mut self, most: usize) -> KeptBytes {
        self.bytes.truncate(most);
        self
    }
}

impl From<&[u8]> for KeptBytes {
    fn from(bytes: &[u8]) -> KeptBytes {
        KeptBytes { bytes: bytes.to_vec(), all: bytes.len() }
    }
}

/// The place where a record was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterOrigin {
    /// The topic; `None` for an event that was posted over HTTP to an embedded journal.
    pub topic: Option<String>,
    /// The partition.
    pub partition: Partition,
    /// The offset in the partition.
    pub offset: i64,
}

/// The place of a dead letter in its store, written `PARTITION-OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterId {
    /// The partition of the store; 0 in an embedded journal.
    pub partition: Partition,
    /// The offset in the partition, or the number in an embedded journal.
    pub offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<LetterId, String> {
        let number = |part: &str| (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(());
        let parsed = text.split_once('-').and_then(|(partition, offset)| {
            number(partition).zip(number(offset))?;
            Some(LetterId { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        parsed.ok_or_else(|| format!("{text:?} is no dead letter; write PARTITION-OFFSET, as in 0-17"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(second: i64, id: &str) -> DeadLetter {
        let at = Some(Timestamp::from_second(second).unwrap());
        let value = Some(KeptBytes::from(&b"v".repeat(LISTED_BYTES + 1)[..]));
        let headers = vec![("ce_id".to_owned(), b"1".to_vec())];
        DeadLetter { id: id.parse().unwrap(), at, origin: None, problem: String::new(), key: None, value, headers }
    }

    #[test]
    fn a_list_has_the_newest_letters_first_and_a_bound() {
        let letters = (0..=MOST_LETTERS as i64).map(|n| letter(n % 10, &format!("0-{n}"))).collect();
        let list = DeadLetterList { letters, ..DeadLetterList::default() }.sorted();
        assert_eq!((list.letters.len(), list.may_have_more), (MOST_LETTERS, true));
        assert_eq!((list.letters[0].id.to_string().as_str(), list.letters[1].id.offset), ("0-49", 39));
        assert!(list.letters.iter().all(|letter| letter.id.offset != 0), "the oldest one is left out");
    }

    #[test]
    fn a_listed_letter_is_cut_and_is_no_record_any_more() {
        let whole = letter(0, "0-17");
        assert_eq!(whole.record().unwrap().value.unwrap().len(), LISTED_BYTES + 1);
        let listed = whole.listed();
        let value = listed.value.as_ref().unwrap();
        assert_eq!((value.bytes.len(), value.all, listed.headers.len()), (LISTED_BYTES, LISTED_BYTES + 1, 0));
        assert_eq!(listed.record().map(|record| record.value), None);
    }

    #[test]
    fn a_text_that_is_no_place_is_refused() {
        assert_eq!("3-17".parse(), Ok(LetterId { partition: 3, offset: 17 }));
        for text in ["", "-", "3", "3-", "-3-4", "3--4", "3-+4", "a-1", "99999999999-1"] {
            assert!(text.parse::<LetterId>().is_err(), "{text}");
        }
    }
}
