//! The position from which a partition of the events topic is read.
//!
//! It is an entry of the journal, [`CONSUMED_KEY`], written in the same transaction as the group's committed offset. The
//! journal's entry counts: a group's offsets expire while the group is away (`offsets.retention.minutes` of the broker), and
//! anyone who administers the group can move them. The committed offset is what tools show as the lag, and its transaction is
//! refused by the broker if the group has moved on.
//!
//! A position that the topic no longer has means that events were lost. Then the partition stops and a person decides.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::error::KafkaClientError;
use super::hanging::REPAIR_KEY;
use super::intake;
use super::options::Options;
use super::reader::{self, Readers, failure};
use crate::ports::Partition;

/// The journal's key of the first offset of the events topic that is not consumed, in decimal digits.
const CONSUMED_KEY: &str = "kafka/consumed";

/// The time for the broker to answer a query for committed offsets.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);

/// The facts about a partition of the events topic from which its position follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionFacts {
    /// The partition's number.
    pub partition: Partition,
    /// The position in the journal; `None` if it has none.
    pub consumed: Option<i64>,
    /// The group's committed offset; `None` if it has none.
    pub committed: Option<i64>,
    /// The name of the cluster that committed the offset; `None` if it is not known.
    pub cluster: Option<String>,
    /// Whether the journal has no entries.
    pub is_empty: bool,
    /// The offset of the topic's oldest record.
    pub low: i64,
    /// The offset after the topic's newest record.
    pub high: i64,
}

/// The reason for which no position follows from the facts. A person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionProblem {
    /// The group has read events, and the journal is empty.
    EmptyJournal {
        /// The group's committed offset.
        committed: i64,
    },
    /// The topic no longer has the records from the position on.
    Expired {
        /// The position.
        position: i64,
        /// The offset of the topic's oldest record.
        low: i64,
    },
    /// The topic ends before the position.
    BeyondEnd {
        /// The position.
        position: i64,
        /// The offset after the topic's newest record.
        high: i64,
    },
}

impl PositionFacts {
    /// Returns the offset from which the partition is read.
    ///
    /// # Errors
    /// The reason for which a person has to decide.
    pub fn position(&self) -> Result<i64, PositionProblem> {
        let Self { consumed, committed, is_empty, low, high, .. } = *self;
        if let (true, Some(committed)) = (is_empty, committed) {
            return Err(PositionProblem::EmptyJournal { committed });
        }
        match consumed.or(committed) {
            Some(position) if position < low => Err(PositionProblem::Expired { position, low }),
            Some(position) if position > high => Err(PositionProblem::BeyondEnd { position, high }),
            Some(position) => Ok(position),
            None => Ok(low),
        }
    }

    /// Checks that the group's offset was committed in this daemon's cluster. A name that is not known is no other cluster's.
    ///
    /// # Errors
    /// [`KafkaClientError::ForeignGroup`].
    pub(super) fn check_cluster(&self, options: &Options) -> Result<(), KafkaClientError> {
        match self.cluster.as_deref().filter(|other| is_other(other, &options.cluster)) {
            Some(other) => Err(foreign_group(options, other)),
            None => Ok(()),
        }
    }
}

/// Whether a cluster is another than `own`. A name that is not known is empty.
fn is_other(cluster: &str, own: &str) -> bool {
    !cluster.is_empty() && !own.is_empty() && cluster != own
}

fn foreign_group(options: &Options, other: &str) -> KafkaClientError {
    KafkaClientError::ForeignGroup {
        group: options.group.clone(),
        other: other.to_owned(),
        own: options.cluster.clone(),
    }
}

/// Returns the name of the cluster that has committed an offset; `None` if there is no offset, or it carries no text.
fn committer(element: &TopicPartitionListElem<'_>) -> Option<String> {
    let text = matches!(element.offset(), Offset::Offset(_)).then(|| intake::metadata(element)).flatten()?;
    Some(text.split_once('#').map_or(text.clone(), |(cluster, _)| cluster.to_owned()))
}

/// Returns whether the group has a committed offset in one of the first `partitions` partitions of the events topic. Blocks.
///
/// # Errors
/// A broker does not answer, or the group belongs to another cluster.
pub(super) fn has_read(options: &Options, partitions: i32) -> Result<bool, KafkaClientError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&options.topic, 0, partitions - 1);
    let failed =
        |error: KafkaError| KafkaClientError::Read { topic: options.topic.clone(), problem: error.to_string() };
    let committed = Readers::connect(options)?.all.committed_offsets(list, BROKER_TIMEOUT).map_err(failed)?;
    let elements = committed.elements();
    match elements.iter().filter_map(committer).find(|cluster| is_other(cluster, &options.cluster)) {
        Some(other) => Err(foreign_group(options, &other)),
        None => Ok(elements.iter().any(|element| matches!(element.offset(), Offset::Offset(_)))),
    }
}

impl PositionProblem {
    /// Returns the problem of a partition as a sentence with the command that answers it.
    pub fn sentence(&self, options: &Options, partition: Partition) -> String {
        let Options { topic, journal_topic, group, .. } = options;
        match self {
            PositionProblem::EmptyJournal { committed } => format!(
                "{journal_topic}[{partition}] is empty, and group {group} has read {topic}[{partition}] up to offset {committed}: the \
                 journal was emptied, deleted or renamed; restore it, set kafka.journal-topic to its name, or run `bellwether \
                 journal init` to begin with an empty one, which knows none of the rollouts"
            ),
            PositionProblem::Expired { position, low } => format!(
                "the events {position} to {} of {topic}[{partition}] were deleted before they were read, so requests and verbs may be \
                 lost: run `bellwether journal offsets --partition {partition} --accept` to go on at {low}, and raise the topic's \
                 retention.ms",
                low - 1
            ),
            PositionProblem::BeyondEnd { position, high } => format!(
                "{topic}[{partition}] was read up to offset {position} and ends at {high}: the topic was created anew, or has lost \
                 records; run `bellwether journal offsets --partition {partition} --accept` to read all that it has"
            ),
        }
    }
}

/// Reads the facts about a partition. Removes the entries of this adapter from the journal's `entries`. Blocks.
///
/// # Errors
/// A broker does not answer, or the journal's position is no number.
pub(super) fn read(
    options: &Options,
    partition: Partition,
    entries: &mut BTreeMap<String, Vec<u8>>,
) -> Result<PositionFacts, KafkaClientError> {
    let consumed = take_consumed(options, partition, entries)?;
    let readers = Readers::connect(options)?;
    // The predecessor is fenced and its transaction has ended, so no offset is about to be committed. A client that reads
    // committed data would wait for one whose markers are lost.
    let mut list = TopicPartitionList::new();
    list.add_partition(&options.topic, partition);
    let found = readers.all.committed_offsets(list, BROKER_TIMEOUT);
    let found = found.map_err(|error| failure(&options.topic, partition, error.to_string()))?;
    let element = found.find_partition(&options.topic, partition);
    let committed = match element.as_ref().map(TopicPartitionListElem::offset) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    };
    let cluster = element.as_ref().and_then(committer);
    let (low, high) = reader::watermarks(&readers.all, &options.topic, partition)?;
    let is_empty = consumed.is_none() && entries.is_empty();
    Ok(PositionFacts { partition, consumed, committed, cluster, is_empty, low, high })
}

/// Removes the entries of this adapter from `entries`, and returns the position; `None` if there is none.
pub(super) fn take_consumed(
    options: &Options,
    partition: Partition,
    entries: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Option<i64>, KafkaClientError> {
    entries.remove(REPAIR_KEY);
    let Some(value) = entries.remove(CONSUMED_KEY) else { return Ok(None) };
    let text = String::from_utf8_lossy(&value);
    let position = text.parse().map_err(|_| {
        let problem =
            format!("entry {CONSUMED_KEY} is {text:?} and no offset; stop the other program that writes to it");
        failure(&options.journal_topic, partition, problem)
    })?;
    Ok(Some(position))
}

/// Returns the journal entry of a position, by key.
pub fn entry(position: i64) -> (String, Option<Vec<u8>>) {
    (CONSUMED_KEY.to_owned(), Some(position.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::PositionProblem::{BeyondEnd, EmptyJournal, Expired};
    use super::*;

    #[test]
    fn a_position_that_the_topic_no_longer_has_is_a_question() {
        type Row = (Option<i64>, Option<i64>, bool, Result<i64, PositionProblem>);
        let rows: [Row; 11] = [
            // The first start: everything that waits is read.
            (None, None, true, Ok(100)),
            (None, None, false, Ok(100)),
            (Some(120), Some(120), false, Ok(120)),
            (Some(100), None, false, Ok(100)),
            (Some(900), None, false, Ok(900)),
            // The journal's position counts, also if the group's offset was moved.
            (Some(120), Some(40), false, Ok(120)),
            (Some(99), Some(500), false, Err(Expired { position: 99, low: 100 })),
            (None, Some(7), false, Err(Expired { position: 7, low: 100 })),
            (None, Some(150), false, Ok(150)),
            (Some(901), Some(901), false, Err(BeyondEnd { position: 901, high: 900 })),
            (None, Some(150), true, Err(EmptyJournal { committed: 150 })),
        ];
        for (consumed, committed, is_empty, expected) in rows {
            let facts =
                PositionFacts { partition: 3, consumed, committed, cluster: None, is_empty, low: 100, high: 900 };
            assert_eq!(facts.position(), expected, "{facts:?}");
        }
    }

    #[test]
    fn each_question_names_the_partition_and_the_command_that_answers() {
        let options = Options::default();
        let accept = "`bellwether journal offsets --partition 3 --accept`";
        let rows: [(PositionProblem, [&str; 3]); 3] = [
            (Expired { position: 40, low: 100 }, ["events 40 to 99 of bellwether.events[3]", "go on at 100", accept]),
            (BeyondEnd { position: 901, high: 900 }, ["bellwether.events[3] was read up to offset 901", "900", accept]),
            (EmptyJournal { committed: 7 }, ["journal[3] is empty", "offset 7", "`bellwether journal init`"]),
        ];
        for (problem, parts) in rows {
            let sentence = problem.sentence(&options, 3);
            assert!(parts.iter().all(|part| sentence.contains(part)), "{sentence}");
        }
    }
}
