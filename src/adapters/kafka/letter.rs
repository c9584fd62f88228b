//! The form of a dead letter in its topic: the record's key, value and headers, and headers with its place and its problem.

use bellwether_core::time::Timestamp;
use rdkafka::message::{Header, Headers as _, Message};

use super::options::Options;
use super::transaction::{OutgoingRecord, TRANSACTION_HEADER, headers, record_to};
use crate::ports::{DeadLetter, EventRecord, KeptBytes, LetterId, LetterOrigin};

/// The longest value in bytes that is copied into a dead letter. A longer value is left out; the letter names the position
/// of the original record.
const MAX_DEAD_BYTES: usize = 2 << 20;
/// The longest key in bytes that is copied into a dead letter.
const MAX_DEAD_KEY_BYTES: usize = 64 << 10;
/// The size of the headers in bytes, names included, that are copied into a dead letter. The broker compares the size before
/// compression, so a record that it accepted compressed can have headers that no record of ours may have.
const MAX_DEAD_HEADER_BYTES: usize = 256 << 10;
/// The longest description of the problem in a dead letter, in characters.
const MAX_ERROR_CHARS: usize = 1000;

/// The headers that a letter adds to those of its record.
const TOPIC: &str = "dlq-original-topic";
const PARTITION: &str = "dlq-original-partition";
const OFFSET: &str = "dlq-original-offset";
const ERROR: &str = "dlq-error";
const KEY_BYTES: &str = "dlq-key-left-behind-bytes";
const VALUE_BYTES: &str = "dlq-value-left-behind-bytes";
const HEADERS: &str = "dlq-headers-left-behind";
const ADDED: [&str; 8] = [TOPIC, PARTITION, OFFSET, ERROR, KEY_BYTES, VALUE_BYTES, HEADERS, TRANSACTION_HEADER];

/// Returns the dead letter of a record for the topic `dlq`.
pub(super) fn write<'a>(dlq: &'a str, options: &Options, record: &'a EventRecord, problem: &str) -> OutgoingRecord<'a> {
    let problem: String = problem.chars().take(MAX_ERROR_CHARS).collect();
    let mut added = vec![
        (TOPIC, options.topic.clone()),
        (PARTITION, record.partition.to_string()),
        (OFFSET, record.offset.to_string()),
        (ERROR, problem),
    ];
    let mut letter = record_to(dlq);
    letter.key = fitting(record.key.as_deref(), MAX_DEAD_KEY_BYTES, KEY_BYTES, &mut added);
    letter.payload = fitting(record.value.as_deref(), MAX_DEAD_BYTES, VALUE_BYTES, &mut added);
    let kept = fitting_headers(&record.headers);
    if kept.len() < record.headers.len() {
        added.push((HEADERS, (record.headers.len() - kept.len()).to_string()));
    }
    let headers = added
        .iter()
        .fold(headers(kept), |headers, (key, value)| headers.insert(Header { key, value: Some(value.as_bytes()) }));
    letter.headers(headers)
}

/// Returns the bytes if there are at most `max`; longer ones are left behind, and a header says how many.
fn fitting<'a>(
    bytes: Option<&'a [u8]>,
    max: usize,
    header: &'static str,
    added: &mut Vec<(&'static str, String)>,
) -> Option<&'a [u8]> {
    if let Some(bytes) = bytes.filter(|bytes| bytes.len() > max) {
        added.push((header, bytes.len().to_string()));
        return None;
    }
    bytes
}

/// Returns the first headers that together are small enough for a dead letter.
fn fitting_headers(headers: &[(String, Vec<u8>)]) -> &[(String, Vec<u8>)] {
    let sizes = headers.iter().scan(0usize, |sum, (name, value)| {
        *sum += name.len() + value.len();
        Some(*sum)
    });
    let kept = sizes.take_while(|sum| *sum <= MAX_DEAD_HEADER_BYTES).count();
    headers.get(..kept).unwrap_or_default()
}

/// Reads a dead letter. One of another program may lack each of the added headers.
pub(super) fn read(message: &impl Message) -> DeadLetter {
    let mut added: [Option<String>; ADDED.len()] = Default::default();
    let mut headers = Vec::new();
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        let value = header.value.unwrap_or_default();
        match ADDED.iter().position(|name| *name == header.key) {
            // The last one is the letter's own; an earlier one was a header of the record.
            Some(place) => added[place] = Some(String::from_utf8_lossy(value).into_owned()),
            None => headers.push((header.key.to_owned(), value.to_vec())),
        }
    }
    let [topic, partition, offset, problem, key_bytes, value_bytes, ..] = added;
    let parsed = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
    let origin = parsed(partition)
        .zip(parsed(offset))
        .and_then(|(partition, offset)| Some(LetterOrigin { topic, partition: partition.try_into().ok()?, offset }));
    DeadLetter {
        id: LetterId { partition: message.partition(), offset: message.offset() },
        at: message.timestamp().to_millis().and_then(|at| Timestamp::from_millisecond(at).ok()),
        origin,
        problem: problem.unwrap_or_default(),
        key: kept(message.key(), key_bytes),
        value: kept(message.payload(), value_bytes),
        headers,
    }
}

/// Returns the bytes that a letter has, or those that it has left behind by their number.
fn kept(bytes: Option<&[u8]>, left_behind: Option<String>) -> Option<KeptBytes> {
    let left = || left_behind?.parse().ok().map(|all| KeptBytes { bytes: Vec::new(), all });
    bytes.map(KeptBytes::from).or_else(left)
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{OwnedMessage, Timestamp as At};

    use super::*;

    /// Returns the letter of a record as it comes back from the topic.
    fn sent(record: &EventRecord, problem: &str) -> DeadLetter {
        let letter = write("dlq", &Options::default(), record, problem);
        let (key, value) = (letter.key.map(<[u8]>::to_vec), letter.payload.map(<[u8]>::to_vec));
        read(&OwnedMessage::new(value, key, "dlq".to_owned(), At::CreateTime(7_000), 2, 40, letter.headers))
    }

    fn named(name: &str, value: &[u8]) -> (String, Vec<u8>) {
        (name.to_owned(), value.to_vec())
    }

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        // A record can have headers of the names of a letter's.
        let headers = vec![named("ce_id", b"1"), named(ERROR, b"none at all"), named(TRANSACTION_HEADER, b"other")];
        let (key, value) = (Some(vec![0, 255]), Some(b"{".to_vec()));
        let record = EventRecord { partition: 3, offset: 17, key: key.clone(), value: value.clone(), headers };
        let letter = sent(&record, "it is no JSON");
        assert_eq!((letter.id.to_string().as_str(), letter.at), ("2-40", Timestamp::from_second(7).ok()));
        let origin = LetterOrigin { topic: Some(Options::default().topic), partition: 3, offset: 17 };
        assert_eq!((letter.origin.as_ref(), letter.problem.as_str()), (Some(&origin), "it is no JSON"));
        let again = letter.record().unwrap();
        assert_eq!((again.key, again.value, again.headers), (key, value, vec![named("ce_id", b"1")]));
    }

    #[test]
    fn a_value_that_was_left_behind_has_its_length_and_no_record() {
        let value = Some(vec![b'x'; MAX_DEAD_BYTES + 1]);
        let letter = sent(&EventRecord { value, ..EventRecord::default() }, "too long");
        assert_eq!(letter.value, Some(KeptBytes { bytes: Vec::new(), all: MAX_DEAD_BYTES + 1 }));
        assert!(letter.record().is_none());
    }

    #[test]
    fn a_record_of_another_program_is_a_letter_without_a_problem() {
        let letter = read(&OwnedMessage::new(None, None, "dlq".to_owned(), At::NotAvailable, 0, 1, None));
        assert_eq!((letter.at, letter.origin, letter.problem.as_str(), letter.value), (None, None, "", None));
    }
}
