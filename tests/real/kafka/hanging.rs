//! Transactions that the broker has ended without their markers, in each of the logs that a transaction writes to.

use std::time::{Duration, Instant};

use bellwether::adapters::kafka::{Kafka, Options, read_decisions};
use bellwether::events::decode::{DecodeOptions, Decoded, decode};
use bellwether::events::mapping::Mapping;
use bellwether::ports::{Batch, Journal, JournalError, Journals, Partition, Rekeyed};
use bellwether_testkit::journal_suite::{decided, puts};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::wire::WireProducer;
use super::{Daemon, PATIENCE, client, event, key_on, outside_the_group, read_all, text};

/// Returns a producer that has taken a partition over, and the name of its transaction.
fn owner(options: &Options, partition: Partition) -> (WireProducer, String) {
    let id = format!("{}-{partition}", options.group);
    (WireProducer::take_over(&options.brokers, &id), format!("{id}/17.4"))
}

/// Opens a partition as a process outside of the group, writes `k` = `old` and leaves.
async fn prepare(kafka: &Kafka, partition: Partition) {
    let mut journal = kafka.open(partition).await.unwrap();
    journal.restore().await.unwrap();
    journal.commit(puts(&[("k", Some("old"))])).await.unwrap();
}

async fn restored(kafka: &Kafka, partition: Partition) -> (Box<dyn Journal>, String) {
    let mut journal = kafka.open(partition).await.unwrap();
    let entries = journal.restore().await.unwrap();
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["k"]);
    (journal, String::from_utf8(entries["k"].clone()).unwrap())
}

/// A transaction over the journal and the decisions, with the markers of one of them or of both lost.
pub async fn ended_as_decided(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let (journal, decisions) = (options.journal_topic.as_str(), options.decisions_topic.as_str());
    // The logs that have the markers, the decision, and the value that counts.
    let rows: [(Partition, &[&str], bool, &str); 4] = [
        (0, &[decisions], true, "new"),
        (1, &[decisions], false, "old"),
        (2, &[journal], true, "new"),
        // Nothing tells: it may have been acted upon.
        (3, &[], false, "new"),
    ];
    for (partition, marked, commit, expected) in rows {
        prepare(&kafka, partition).await;
        let (mut wire, name) = owner(&options, partition);
        marked.iter().for_each(|topic| wire.add(topic, partition));
        wire.write(journal, partition, Some(&name), "k", Some(b"new"));
        wire.write(decisions, partition, Some(&name), "w", Some(format!("{{\"n\":{partition}}}").as_bytes()));
        if marked.is_empty() {
            // A transaction has at least one log. This one's topic is of no daemon.
            wire.add(&options.dlq(), partition);
        }
        wire.end(commit);
        let (mut journal, value) = restored(&kafka, partition).await;
        assert_eq!(value, expected, "partition {partition}, marked {marked:?}, committed {commit}");
        journal.commit(puts(&[("k", Some("later"))])).await.unwrap();
        drop(journal);
        assert_eq!(restored(&kafka, partition).await.1, "later");
    }
    let read = read_decisions(&options, |_, _| true).await.unwrap();
    let read: Vec<&str> = read.iter().map(|json| std::str::from_utf8(json).unwrap()).collect();
    assert_eq!(read, [r#"{"n":0}"#, r#"{"n":2}"#, r#"{"n":3}"#], "the decisions agree with the journal");
}

/// A copy for another partition and a dead letter without their markers.
pub async fn of_events(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    prepare(&kafka, 1).await;
    let (mut wire, name) = owner(&options, 1);
    wire.add(&options.journal_topic, 1);
    wire.write(&options.journal_topic, 1, Some(&name), "k", Some(b"new"));
    wire.write(&options.topic, 3, Some(&name), &key_on(3, 4), Some(b"copy"));
    wire.write(&options.dlq(), 0, Some(&name), "bad", Some(b"letter"));
    wire.end(true);
    kafka.emitter().unwrap().send(&event(&key_on(3, 4), "later")).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut third = daemon.open(3).await;
    daemon.no_wake(Duration::from_millis(600)).await;
    let _first = daemon.open(1).await;
    for expected in ["copy", "later"] {
        assert_eq!(text(&daemon.record().await), expected);
    }
    let without_meaning = daemon.record().await;
    let options_of_decoding = DecodeOptions::new("prod", Mapping::default());
    let decoded = decode(&without_meaning, &options_of_decoding, "2026-11-29T00:00:00Z".parse().unwrap());
    assert!(matches!(decoded, Decoded::Ignored(_)), "{decoded:?}");
    third.commit(Batch { next_offset: Some(without_meaning.offset + 1), ..Batch::default() }).await.unwrap();
    daemon.stop().await;
    let letters = read_all(&options, &options.dlq(), 2);
    let values: Vec<_> = letters.into_iter().map(|(letter, _)| letter.value).collect();
    assert_eq!(values, [Some(b"letter".to_vec()), None]);
}

/// A committed offset without its marker: the broker refuses to tell it, and the journal knows it.
pub async fn of_the_offset(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    for n in 0..4 {
        kafka.emitter().unwrap().send(&event(&key_on(2, 4), &n.to_string())).await.unwrap();
    }
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(2).await;
    journal.commit(Batch { next_offset: Some(1), ..puts(&[("k", Some("old"))]) }).await.unwrap();
    drop(journal);
    daemon.stop().await;
    let (mut wire, name) = owner(&options, 2);
    wire.add(&options.journal_topic, 2);
    wire.write(&options.journal_topic, 2, Some(&name), "k", Some(b"new"));
    wire.write(&options.journal_topic, 2, Some(&name), "kafka/consumed", Some(b"3"));
    wire.commit_offset(&options.group, &options.topic, 2, 3, &format!("#{name}"), false);
    wire.end(true);
    drop(wire);
    assert_eq!(committed(&options, 2, "read_committed"), None, "the offset has no marker");
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let (mut journal, value) = restored(&kafka, 2).await;
    assert_eq!((value.as_str(), text(&daemon.record().await).as_str()), ("new", "3"));
    journal.commit(puts(&[("k", Some("later"))])).await.unwrap();
    assert_eq!(committed(&options, 2, "read_committed"), Some(3));
    journal.commit(Batch { next_offset: Some(4), ..Batch::default() }).await.unwrap();
    assert_eq!(committed(&options, 2, "read_committed"), Some(4));
    daemon.stop().await;
}

/// Another program's transaction, which this one can't end.
pub async fn of_another_program(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    prepare(&kafka, 0).await;
    prepare(&kafka, 1).await;
    let other = Options { group: format!("{}.other", options.group), ..options.clone() };
    prepare(&Kafka::with_topics(Options { journal_topic: options.dlq(), ..other.clone() }, 4), 0).await;
    let (mut wire, _) = owner(&other, 0);
    wire.add(&options.dlq(), 0);
    wire.write(&options.journal_topic, 0, None, "k", Some(b"foreign"));
    wire.end(true);
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut blind = kafka.open(0).await.unwrap();
    let refused = blind.restore().await.unwrap_err();
    assert!(matches!(refused, JournalError::Asks(_)), "{refused:?}");
    let refused = refused.to_string();
    let command = format!(
        "abort --topic {} --partition 0 --start-offset {}",
        options.journal_topic,
        offset_of(&options, "read_committed")
    );
    assert!(refused.contains(&command) && refused.contains("another program"), "{refused}");
    let (mut healthy, value) = restored(&kafka, 1).await;
    assert_eq!(value, "old");
    let copy = Rekeyed { record: event("a", "b"), key: key_on(2, 4), partition: 2 };
    healthy.commit(Batch { rekeyed: vec![copy], ..decided(&[1]) }).await.unwrap();
    // The other program ends it; a person's command writes the same marker.
    let (mut wire, _) = owner(&other, 0);
    wire.add(&options.journal_topic, 0);
    wire.write(&options.journal_topic, 0, None, "ended", None);
    wire.end(false);
    daemon.held.remove(&0);
    daemon.until_assigned(&[0]).await;
    assert_eq!(restored(&outside_the_group(&options), 0).await.1, "old");
    daemon.stop().await;
}

/// Returns the committed offset of the group; `None` if the broker does not tell it.
fn committed(options: &Options, partition: Partition, isolation: &str) -> Option<i64> {
    let mut config = client(options);
    let consumer: BaseConsumer =
        config.set("group.id", &options.group).set("isolation.level", isolation).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(&options.topic, partition);
    let found = consumer.committed_offsets(list, Duration::from_secs(5)).ok()?;
    let offset = found.find_partition(&options.topic, partition).unwrap().offset();
    if let Offset::Offset(offset) = offset { Some(offset) } else { None }
}

/// Returns the end of the journal's partition 0.
fn offset_of(options: &Options, isolation: &str) -> i64 {
    let started = Instant::now();
    let mut config = client(options);
    let consumer: BaseConsumer = config.set("isolation.level", isolation).create().unwrap();
    let (_, end) = consumer.fetch_watermarks(&options.journal_topic, 0, PATIENCE).unwrap();
    assert!(started.elapsed() < PATIENCE);
    end
}
