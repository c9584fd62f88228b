//! Reads the dead-letter topic for people: its end alone, by a client that is no member of the group and commits nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls on threads of their own; the engine does not see them"
)]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::connections::{self, ReadingClient};
use super::error::KafkaClientError;
use super::options::Options;
use super::{letter, reader, topics};
use crate::ports::{DeadLetter, DeadLetterList, DeadLetters, LetterId, MOST_LETTERS, Partition};

/// The offsets before the end of a partition that are read. A transaction with a letter takes two, one of them for its marker.
const REACH: i64 = 2 * MOST_LETTERS as i64;
/// The time for the brokers to tell the ends.
const ENDS_TIMEOUT: Duration = Duration::from_secs(3);
/// The time to read the letters.
const READ_TIMEOUT: Duration = Duration::from_secs(4);
/// The most bytes of keys and values that are read for a list.
const MOST_BYTES: usize = 64 << 20;
/// The time that one poll waits for a record.
const POLL: Duration = Duration::from_millis(100);

/// The records of the dead-letter topic.
pub struct KafkaDeadLetters {
    options: Arc<Options>,
}

impl KafkaDeadLetters {
    pub(super) fn new(options: Arc<Options>) -> KafkaDeadLetters {
        KafkaDeadLetters { options }
    }

    /// Calls `work` on a thread for blocking work, with a client that reads the topic and the number of its partitions.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadingClient, &str, Partition) -> Result<T, KafkaClientError> + Send + 'static,
    ) -> Result<T, String> {
        let options = Arc::clone(&self.options);
        let reading = tokio::task::spawn_blocking(move || {
            let (topic, consumer) = (options.dlq(), connections::connect(&options.reader()?)?);
            let partitions = topics::partitions_of(&consumer, &options, &topic)?.ok_or_else(|| {
                KafkaClientError::Read { topic: topic.clone(), problem: "it does not exist".to_owned() }
            })?;
            work(&consumer, &topic, partitions)
        });
        let read = reading.await.unwrap_or_else(|error| Err(KafkaClientError::Client(error.to_string())));
        read.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl DeadLetters for KafkaDeadLetters {
    async fn newest(&self) -> Result<DeadLetterList, String> {
        self.read(newest).await
    }

    async fn letter(&self, id: LetterId) -> Result<Option<DeadLetter>, String> {
        self.read(move |consumer, topic, partitions| {
            if id.partition >= partitions {
                return Ok(None);
            }
            let mut found = None;
            // From an offset that the topic has no longer, or not yet, it is read from its beginning.
            reader::read_from(consumer, topic, id.partition, Offset::Offset(id.offset), |message| {
                found = (message.offset() == id.offset).then(|| letter::read(message));
                ControlFlow::Break(())
            })?;
            Ok(found)
        })
        .await
    }
}

/// Reads the ends of all partitions. Blocks.
fn newest(consumer: &ReadingClient, topic: &str, partitions: Partition) -> Result<DeadLetterList, KafkaClientError> {
    let failed = |error: KafkaError| KafkaClientError::Read { topic: topic.to_owned(), problem: error.to_string() };
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::End).map_err(failed)?;
    }
    let ends = consumer.offsets_for_times(all, ENDS_TIMEOUT).map_err(failed)?;
    let (mut list, mut starts, mut unread) = (DeadLetterList::default(), TopicPartitionList::new(), BTreeSet::new());
    for element in ends.elements() {
        let partition = element.partition();
        let Offset::Offset(end) = element.offset() else {
            list.problem = Some(format!("partition {partition} of {topic} has no leader now"));
            continue;
        };
        let start = (end - REACH).max(0);
        list.may_have_more |= start > 0;
        if end > 0 {
            starts.add_partition_offset(topic, partition, Offset::Offset(start)).map_err(failed)?;
            unread.insert(partition);
        }
    }
    consumer.assign(&starts).map_err(failed)?;
    if let Some(problem) = read_ends(consumer, &mut unread, &mut list) {
        let partitions: Vec<String> = unread.iter().map(ToString::to_string).collect();
        list.problem =
            Some(format!("partitions {} of {topic} were not read to their ends: {problem}", partitions.join(", ")));
    }
    Ok(list.sorted())
}

/// Reads the assigned partitions to their ends, and removes those from `unread`. Returns the reason why some remain.
fn read_ends(consumer: &ReadingClient, unread: &mut BTreeSet<Partition>, list: &mut DeadLetterList) -> Option<String> {
    let (deadline, mut bytes) = (Instant::now() + READ_TIMEOUT, 0);
    while !unread.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(message)) if unread.contains(&message.partition()) => {
                bytes += message.key_len() + message.payload_len();
                list.letters.push(letter::read(&message).listed());
            }
            // Records after the end belong to the next reading.
            Some(Ok(_)) | None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(unread.remove(&partition)),
            // librdkafka retries by itself until the deadline of this loop.
            Some(Err(error)) => tracing::debug!(%error, "reading the dead letters failed; retrying"),
        }
        if bytes > MOST_BYTES {
            return Some(format!("they have more than {} MiB", MOST_BYTES >> 20));
        }
        if Instant::now() > deadline {
            return Some(format!("it took longer than {} s", READ_TIMEOUT.as_secs()));
        }
        // There may be many partitions.
        if list.letters.len() > 4 * MOST_LETTERS {
            *list = std::mem::take(list).sorted();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, Producer as _};

    use super::*;
    use crate::ports::EventRecord;

    /// Writes letters to partitions of the topic, each with its time in seconds, which is not 0.
    fn write(options: &Options, letters: impl Iterator<Item = (Partition, i64)>) {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
        let dlq = options.dlq();
        for (partition, second) in letters {
            let value = Some(vec![b'x'; 2000]);
            let record = EventRecord { partition: 7, offset: second, value, ..EventRecord::default() };
            let letter = letter::write(&dlq, options, &record, "it is no event").partition(partition);
            producer.send(letter.timestamp(second * 1000)).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    #[tokio::test]
    async fn the_newest_letters_of_all_partitions_are_listed_and_each_is_found_by_its_place() {
        let cluster = MockCluster::new(1).unwrap();
        let options = Options { brokers: cluster.bootstrap_servers(), ..Options::default() };
        cluster.create_topic(&options.dlq(), 3, 1).unwrap();
        let letters = KafkaDeadLetters::new(Arc::new(options.clone()));
        assert_eq!(letters.newest().await, Ok(DeadLetterList::default()));

        write(&options, (1..=150).map(|n| (1, n)).chain([(2, 1), (2, 150), (2, 200)]));
        let list = letters.newest().await.unwrap();
        assert_eq!((list.letters.len(), list.may_have_more, list.problem), (MOST_LETTERS, true, None));
        let places: Vec<String> = list.letters.iter().take(4).map(|letter| letter.id.to_string()).collect();
        assert_eq!(places, ["2-2", "2-1", "1-149", "1-148"]);
        let first = &list.letters[0];
        assert_eq!((first.problem.as_str(), first.origin.as_ref().unwrap().offset), ("it is no event", 200));
        assert!(first.record().is_none(), "a list has the first bytes alone");

        let whole = letters.letter(first.id).await.unwrap().unwrap();
        assert_eq!(whole.record().unwrap().value.unwrap().len(), 2000);
        for (partition, offset) in [(2, 3), (0, 0), (3, 0), (9, 1)] {
            assert_eq!(letters.letter(LetterId { partition, offset }).await, Ok(None), "{partition}-{offset}");
        }
    }
}
